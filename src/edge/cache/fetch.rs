//! Getting a response from the origin, and storing it as it comes.
//!
//! A fetch that others may wait for is a task of its own: it goes on when the client that it was begun for goes away. One that
//! nobody can wait for stays in its request's task until a response turns out to be stored. A response that is not stored
//! goes to that client as it comes, and ends with it.

use std::{sync::Arc, time::Duration};

use http::{
    HeaderMap, Method, Request, Response, StatusCode, Uri,
    header::{DATE, RANGE},
    request::Parts,
};
use tokio::sync::oneshot;

use super::{
    Comes, Forward, Shared,
    clock::Moment,
    directives::{Demands, Directives},
    download::Download,
    fill::{Fill, FillReader},
    flight::{Lead, Outcome},
    freshness::{Freshness, Reuse},
    index::Label,
    key::Key,
    memory::Slot,
    purge::Generation,
    range::Part,
    recoded::Recoded,
    statistics::Counters,
    storable::{self, Refusal, Storable},
    stored::{self, Head, Stored, Varying},
    validator,
    vary::Vary,
};
use crate::model::CachePolicy;

/// The longest URL under which something is stored, in bytes. Clients choose it, and the index holds it in memory for what is on disk too.
const MOST_URL: usize = 8 << 10;

/// How long requests for a key do not wait for each other after a response that could not be shared.
const PASS: Duration = Duration::from_secs(10);

/// A request that goes forward.
pub(super) struct Fetch {
    pub(super) shared: Arc<Shared>,
    /// The client's, without its body.
    pub(super) request: Arc<Parts>,
    pub(super) demands: Demands,
    /// Of the resource.
    pub(super) base: Key,
    /// What it waits under.
    pub(super) key: Key,
    /// What it asks for, if not for the whole.
    pub(super) part: Option<Part>,
    /// Whose it is.
    pub(super) distribution: Arc<str>,
    /// What the viewer asked for, if a hook made another URL of it.
    pub(super) viewed: Option<Uri>,
    pub(super) policy: Arc<CachePolicy>,
    pub(super) stale: Option<Arc<Stored>>,
    /// Until when requests for the key did not wait for each other when it was begun.
    pub(super) passes: Option<Moment>,
    pub(super) asked: Generation,
    pub(super) counters: Arc<Counters>,
}

/// What comes of it for the client that it was begun for.
pub(super) enum Answer<F: Forward> {
    /// A response that is stored as it comes, and its fields as they came.
    Filling {
        fill: Arc<Fill>,
        reader: FillReader,
        headers: HeaderMap,
    },
    /// The origin says that what is stored is still good.
    Revalidated {
        /// With what the origin says of it now.
        stored: Arc<Stored>,
        /// Whether it is stored so.
        is_kept: bool,
        /// Why not, if it was refused.
        refusal: Option<Refusal>,
    },
    /// The origin failed; what is stored may be served nevertheless.
    Stale(Arc<Stored>, Option<StatusCode>),
    /// A response that is not stored.
    Unshared(Response<F::Body>, Refusal),
    Failed(Arc<F::Error>),
}

/// What an update makes of a stored response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It may be stored with the fields of the update.
    Updated,
    /// It has another list of fields that choose, and would need another key: the next miss brings it.
    Moved,
    /// It may not be stored with the fields of the update.
    Refused(Refusal),
}

impl Fate {
    /// Whether it is lost for everybody. What only this request is to blame for leaves it as it was: RFC 9111 section 5.2.1.5 says
    /// so of `no-store`, and section 3.5 is about what is stored anew.
    const fn is_loss(self) -> bool {
        match self {
            Self::Updated => false,
            Self::Moved => true,
            Self::Refused(refusal) => refusal.is_lasting(),
        }
    }

    const fn refusal(self) -> Option<Refusal> {
        match self {
            Self::Updated | Self::Moved => None,
            Self::Refused(refusal) => Some(refusal),
        }
    }
}

/// What comes of a fetch: for who waits, for the client, and to be gone on with.
struct Begun<F: Forward> {
    outcome: Outcome,
    answer: Answer<F>,
    filling: Option<Filling<F>>,
}

impl<F: Forward> Begun<F> {
    /// Nothing is stored as it comes.
    fn ended(outcome: Outcome, answer: Answer<F>) -> Self {
        Self {
            outcome,
            answer,
            filling: None,
        }
    }

    fn stale(stale: Arc<Stored>, status: Option<StatusCode>) -> Self {
        let outcome = Outcome::Stale(Arc::clone(&stale), status);
        Self::ended(outcome, Answer::Stale(stale, status))
    }
}

/// A response that is stored as it comes.
struct Filling<F: Forward> {
    download: Download,
    body: F::Body,
}

impl<F: Forward> Filling<F> {
    async fn run(self) {
        self.download.run::<F>(self.body).await;
    }
}

impl Fetch {
    /// Goes forward, and says what comes of it: to who waits through `lead`, then to the client through `client`. One that went away
    /// does not hear it.
    pub(super) async fn run<F: Forward>(
        mut self,
        forward: F,
        mut lead: Option<Lead>,
        client: Option<oneshot::Sender<Answer<F>>>,
    ) {
        let begun = self.begin(forward).await;
        if let Some(lead) = &mut lead {
            lead.tell(begun.outcome);
        }
        if let Some(client) = client {
            let _ = client.send(begun.answer);
        }
        if let Some(filling) = begun.filling {
            filling.run().await;
        }
    }

    /// Goes forward for a client that nobody waits with. Going to another thread and back would cost more than all else here.
    pub(super) async fn run_alone<F: Forward>(mut self, forward: F) -> Answer<F> {
        let begun = self.begin(forward).await;
        if let Some(filling) = begun.filling {
            self.shared.fetches.spawn(filling.run());
        }
        begun.answer
    }

    /// Goes as far as the head of what comes.
    async fn begin<F: Forward>(&mut self, forward: F) -> Begun<F> {
        let mut requested = self.shared.clock.now();
        let mut result = forward.send(self.outgoing(self.stale.as_deref())).await;
        let update = result.as_ref().ok().and_then(not_modified);
        if let (Some(update), Some(stale)) = (update, &self.stale) {
            if validator::is_about(&update, &stale.head.validators()) {
                return self.revalidated(stale, update, requested).await;
            }
            // It is about something that is not here (RFC 9111 section 4.3.4).
            self.stale = None;
            requested = self.shared.clock.now();
            result = forward.send(self.outgoing(None)).await;
        }
        let received = self.shared.clock.now();
        let on_error = |stale: &Arc<Stored>| stale.on_error(received, &self.demands);
        let stale = self.stale.clone().filter(on_error);
        let response = match (result, stale) {
            (Err(error), Some(stale)) if F::is_of_one(&error) => {
                return Begun::ended(Outcome::Unshared, Answer::Stale(stale, None));
            }
            (Err(_), Some(stale)) => return Begun::stale(stale, None),
            (Ok(response), Some(stale)) if is_failure(response.status()) => {
                return Begun::stale(stale, Some(response.status()));
            }
            (Err(error), None) => {
                let error = Arc::new(error);
                let outcome = match F::is_of_one(&error) {
                    true => Outcome::Unshared,
                    false => Outcome::Failed(Arc::clone(&error) as _),
                };
                return Begun::ended(outcome, Answer::Failed(error));
            }
            (Ok(response), _) => response,
        };
        match self.judge(response.status(), response.headers(), requested, received) {
            Ok(storable) => self.fill(response, storable, received),
            Err(refusal) => self.unshared(response, refusal).await,
        }
    }

    /// What it is stored under for purges, without tags. Made where something is stored, which for most that goes this way is not.
    fn label(&self) -> Label {
        let Parts { uri, headers, .. } = &*self.request;
        let urls = (uri, self.viewed.as_ref());
        Label::of_request(
            Arc::clone(&self.distribution),
            &self.policy.key,
            urls,
            headers,
        )
    }

    /// The request that asks for the whole response, or its part, or whether what is stored is still good.
    fn outgoing<R>(&self, stale: Option<&Stored>) -> Request<Option<R>> {
        let mut parts = Parts::clone(&self.request);
        parts.method = Method::GET;
        let validators = stale.map(|stale| stale.head.validators());
        validator::condition(&mut parts.headers, validators.as_ref());
        if let (Some(_), Some(range)) = (self.part, self.request.headers.get(RANGE)) {
            parts.headers.insert(RANGE, range.clone());
        }
        Request::from_parts(parts, None)
    }

    fn judge(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        requested: Moment,
        received: Moment,
    ) -> Result<Storable, Refusal> {
        // A part that is what was asked for is stored as the whole would be (RFC 9111 section 3.3). Nothing else is, where a part was
        // asked for: it is not what is stored under that key.
        let status = match self.part {
            None => status,
            Some(part) if status == StatusCode::PARTIAL_CONTENT && part.is_all_of(headers) => {
                StatusCode::OK
            }
            Some(_) => return Err(Refusal::Status),
        };
        let storable = storable::judge(
            &self.request.headers,
            &self.demands,
            (status, headers),
            &self.policy,
            (requested, received),
        )?;
        let label = self.label();
        let urls = label.urls().map(|url| url.len());
        if urls.sum::<usize>() > MOST_URL || stored::has_too_many_tags(headers) {
            return Err(Refusal::TooLarge);
        }
        let most = self.shared.disk.as_ref().map_or(0, |disk| disk.most());
        let most = most.max(self.shared.memory_object);
        match storable::length(headers) {
            Some(length) if length > most => Err(Refusal::TooLarge),
            _ => Ok(storable),
        }
    }

    /// The client gets the response as it comes. Who waits goes forward himself, and who comes soon does not wait.
    async fn unshared<F: Forward>(
        &self,
        response: Response<F::Body>,
        refusal: Refusal,
    ) -> Begun<F> {
        if refusal.is_lasting() {
            match &self.stale {
                None => self.pass(),
                Some(stale) if is_of_the_resource(response.status()) => {
                    self.shared.discard(stale).await;
                    self.pass();
                }
                // It is of this one request: what is stored is no worse for the others.
                Some(_) => {}
            }
        }
        Begun::ended(Outcome::Unshared, Answer::Unshared(response, refusal))
    }

    fn pass(&self) {
        let now = self.shared.clock.now();
        // Written for every response it would cost more than all that the cache does with one that it does not keep.
        if self.passes.is_none_or(|until| until < now.plus(PASS / 2)) {
            let until = now.plus(PASS);
            self.shared.passes.insert(self.key.digest, until);
        }
    }

    /// RFC 9111 section 4.3.4.
    async fn revalidated<F: Forward>(
        &self,
        stale: &Arc<Stored>,
        update: HeaderMap,
        requested: Moment,
    ) -> Begun<F> {
        let received = self.shared.clock.now();
        let (fresh, fate) = self.refreshed(stale, &update, requested, received);
        let slot = Slot::Response(Arc::clone(&fresh));
        let is_kept =
            fate == Fate::Updated && self.shared.keep(&slot, self.asked, Comes::FromOrigin);
        let outcome = if is_kept {
            self.shared.write(slot, self.asked);
            if fresh.reuse(received, &Demands::default()) == Reuse::No {
                self.pass();
            }
            Outcome::Revalidated(Arc::clone(&fresh))
        } else {
            if fate.is_loss() {
                self.shared.discard(stale).await;
            }
            Outcome::Unshared
        };
        let answer = Answer::Revalidated {
            stored: fresh,
            is_kept,
            refusal: fate.refusal(),
        };
        Begun::ended(outcome, answer)
    }

    /// What a response to HEAD says about a stored response: RFC 9111 section 4.3.5. One that it does not match is stale.
    pub(super) async fn update(
        &self,
        stale: &Stored,
        (status, headers): (StatusCode, HeaderMap),
        requested: Moment,
    ) {
        let received = self.shared.clock.now();
        let length = storable::length(&headers);
        let is_same = stale.head.status == status
            && length.is_none_or(|length| length == stale.length)
            && validator::has_validator(&headers)
            && validator::is_about(&headers, &stale.head.validators());
        if !is_same {
            return self.shared.mark(stale, received).await;
        }
        let (fresh, fate) = self.refreshed(stale, &headers, requested, received);
        let slot = Slot::Response(fresh);
        if fate == Fate::Updated && self.shared.keep(&slot, self.asked, Comes::FromOrigin) {
            self.shared.write(slot, self.asked);
        } else if fate.is_loss() {
            self.shared.discard(stale).await;
        }
    }

    /// A stored response with the fields of an update, and what that makes of the one that is stored.
    fn refreshed(
        &self,
        stale: &Stored,
        update: &HeaderMap,
        requested: Moment,
        received: Moment,
    ) -> (Arc<Stored>, Fate) {
        let mut fields = stale.head.headers.clone();
        fields.extend(stale.head.hidden.clone());
        if !update.contains_key(DATE) {
            // Otherwise it would be as old as what it updates.
            fields.insert(DATE, received.to_http_date());
        }
        let mut fields = validator::updated(&fields, update);
        if let Some(recoded) = &stale.head.recoded {
            recoded.redo(&stale.head.headers, &mut fields);
        }
        let judged = self.judge(stale.head.status, &fields, requested, received);
        let mut head = stale.head.clone();
        head.label.tags = stored::tags(&fields);
        head.version = stored::version();
        let varies = Vary::of_response(&stale.head.headers);
        let fate = match judged {
            Ok(storable) => {
                head.freshness = storable.freshness;
                let expose = self.policy.expose_tags;
                (head.headers, head.hidden) =
                    stored::storable_fields(&fields, &storable, received, expose);
                if varies.as_ref() == Some(&storable.vary) {
                    Fate::Updated
                } else {
                    Fate::Moved
                }
            }
            Err(refusal) => {
                // It is as old as the update says, stored or not.
                head.freshness = Freshness::new(
                    head.status,
                    &fields,
                    &Directives::of_response(&fields),
                    &self.policy,
                    requested,
                    received,
                );
                head.headers = fields;
                stored::strip_for_client(&mut head.headers, self.policy.expose_tags);
                Fate::Refused(refusal)
            }
        };
        let fresh = Stored::new(head, stale.content.clone(), stale.length, None);
        (Arc::new(fresh), fate)
    }

    /// Gives a response to everybody as it comes.
    fn fill<F: Forward>(
        &self,
        response: Response<F::Body>,
        storable: Storable,
        received: Moment,
    ) -> Begun<F> {
        let recoded = Recoded::of(&response);
        let (parts, body) = response.into_parts();
        let key = self.base.variant(&storable.vary, &self.request.headers);
        let label = self.label();
        let expose = self.policy.expose_tags;
        let (headers, hidden) =
            stored::storable_fields(&parts.headers, &storable, received, expose);
        let freshness = storable.freshness;
        let head = Head {
            key,
            label: Label {
                tags: stored::tags(&parts.headers),
                ..label.clone()
            },
            status: parts.status,
            headers,
            hidden,
            recoded,
            freshness,
            version: stored::version(),
            counters: Arc::clone(&self.counters),
        };
        if !storable.vary.is_empty() {
            let varying = Slot::Varying(Arc::new(Varying {
                key: self.base.clone(),
                label,
                vary: storable.vary,
                version: stored::version(),
                received,
            }));
            if self.shared.keep(&varying, self.asked, Comes::FromOrigin) {
                self.shared.write(varying, self.asked);
            }
        }
        if freshness.reuse(received, &Demands::default(), None) == Reuse::No {
            self.pass();
        } else {
            self.shared.passes.invalidate(&self.key.digest);
        }
        let fill = Arc::new(Fill::new(head, storable::length(&parts.headers)));
        let mut headers = parts.headers;
        stored::strip_for_client(&mut headers, expose);
        let answer = Answer::Filling {
            fill: Arc::clone(&fill),
            reader: FillReader::join(&fill, 0).expect("nothing of it came yet"),
            headers,
        };
        let outcome = Outcome::Filling(Arc::clone(&fill));
        let most = self.policy.max_object.as_u64();
        let download = Download::new(Arc::clone(&self.shared), fill, self.asked, most);
        Begun {
            outcome,
            answer,
            filling: Some(Filling { download, body }),
        }
    }
}

/// The fields of a 304.
fn not_modified<B>(response: &Response<B>) -> Option<HeaderMap> {
    (response.status() == StatusCode::NOT_MODIFIED).then(|| response.headers().clone())
}

/// Whether a status says what the origin has now, or that it has nothing any more (RFC 9110 section 15). Others say that a
/// request was wrong, came too often, or met a failure: RFC 9111 section 4.3.3 takes none of these for a new response.
fn is_of_the_resource(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200..=299 | 300..=303 | 305..=399 | 404 | 410)
}

/// RFC 5861 section 4.
pub(super) fn is_failure(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}
