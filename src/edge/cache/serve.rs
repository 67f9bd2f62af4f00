//! A request's way through the cache.

use std::{any::Any, sync::Arc};

use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri,
    header::{
        AUTHORIZATION, CONTENT_LENGTH, IF_MODIFIED_SINCE, IF_NONE_MATCH, RANGE, TRANSFER_ENCODING,
    },
    request::Parts,
};
use tokio::sync::oneshot;

use super::{
    Body, Cache, Forward, Scope, Shared,
    body::{Source, StoredFile},
    clock::Moment,
    directives::Demands,
    fetch::{Answer, Fetch},
    fill::{Fill, FillReader},
    flight::{Flight, Joined, Lead, Outcome},
    forward::forwarded,
    freshness::Reuse,
    index::Label,
    key::{self, Key},
    memory::Slot,
    range,
    reply::{Representation, reply, respond},
    statistics::{Counters, count},
    status::{Handling, Why},
    stored::{Content, Stored},
    validator,
};

/// How far into a response a range may begin for which all of it is fetched.
pub(super) const RANGE_REACH: u64 = 1 << 20;

/// How often a request waits for others: for the resource, and for its variant.
const MOST_WAITS: usize = 2;

/// A request, and what is looked at of it.
pub(super) struct Exchange<'a> {
    pub(super) scope: Scope<'a>,
    pub(super) demands: Demands,
    pub(super) now: Moment,
}

/// What is stored for a request.
pub(super) struct Found {
    /// Of the resource.
    pub(super) base: Key,
    /// Of the variant, if it is known.
    pub(super) key: Key,
    pub(super) stored: Option<Arc<Stored>>,
    /// Why it would go forward.
    pub(super) why: Why,
}

pub(super) type Answered<F> =
    Result<Response<Body<<F as Forward>::Body>>, Arc<<F as Forward>::Error>>;

impl Cache {
    /// Answers a request from memory, or not at all. It never waits.
    pub fn lookup<R, B>(
        &self,
        scope: Scope<'_>,
        request: &Request<R>,
    ) -> Option<Response<Body<B>>> {
        let (method, headers) = (request.method(), request.headers());
        if !is_for_the_cache(scope, method, headers) {
            return None;
        }
        let exchange = self.exchange(scope, headers);
        let mut key = exchange.key(request.uri(), headers);
        let mut slot = self.0.memory.get(&key)?;
        if let Slot::Varying(varying) = &slot {
            key = key.variant(&varying.vary, headers);
            slot = self.0.memory.get(&key)?;
        }
        let Slot::Response(stored) = slot else {
            return None;
        };
        (stored.reuse(exchange.now, &exchange.demands) == Reuse::Yes)
            .then(|| self.0.hit(&exchange, method, headers, &stored))
    }

    /// Answers a request: from what is stored, with the response that somebody else waits for, or from the origin.
    ///
    /// The request's URI is absolute, or has its authority in `Host`. The error is the origin's; it is shared by all who
    /// waited for the same response.
    pub async fn serve<F: Forward>(
        &self,
        scope: Scope<'_>,
        request: Request<F::RequestBody>,
        forward: F,
    ) -> Answered<F> {
        if let Some(response) = self.lookup(scope, &request) {
            return Ok(response);
        }
        Box::pin(self.answer(scope, request, forward)).await
    }

    fn exchange<'a>(&self, scope: Scope<'a>, headers: &HeaderMap) -> Exchange<'a> {
        Exchange {
            scope,
            demands: if scope.policy.ignore_client {
                Demands::default()
            } else {
                Demands::of_request(headers)
            },
            now: self.0.clock.now(),
        }
    }

    async fn answer<F: Forward>(
        &self,
        scope: Scope<'_>,
        request: Request<F::RequestBody>,
        forward: F,
    ) -> Answered<F> {
        let (parts, body) = request.into_parts();
        let exchange = self.exchange(scope, &parts.headers);
        let is_read = matches!(parts.method, Method::GET | Method::HEAD);
        if !is_for_the_cache(scope, &parts.method, &parts.headers) {
            let why = if is_read || !scope.policy.enabled {
                Why::Bypass
            } else {
                Why::Method
            };
            return self.pass(&exchange, parts, Some(body), forward, why).await;
        }
        let found = self.find(&exchange, &parts).await;
        if let Some(stored) = &found.stored {
            match stored.reuse(exchange.now, &exchange.demands) {
                Reuse::Yes => {
                    return Ok(self.0.hit(&exchange, &parts.method, &parts.headers, stored));
                }
                Reuse::WhileRevalidating => {
                    self.revalidate(&exchange, &found, &parts, forward);
                    return Ok(self.0.hit(&exchange, &parts.method, &parts.headers, stored));
                }
                Reuse::No => {}
            }
        }
        if exchange.demands.only_if_cached {
            return Ok(gateway_timeout());
        }
        if parts.method == Method::HEAD {
            return self.head(&exchange, &found, parts, forward).await;
        }
        let is_passing = self.0.passes(&found.key, exchange.now);
        if found.stored.is_none()
            && (is_far(&parts.headers) || (is_passing && is_for_less(&parts.headers)))
        {
            return self
                .pass(&exchange, parts, Some(body), forward, Why::Partial)
                .await;
        }
        self.get(&exchange, found, parts, body, forward).await
    }

    /// What is stored for a request, in memory or on disk.
    async fn find(&self, exchange: &Exchange<'_>, parts: &Parts) -> Found {
        let base = exchange.key(&parts.uri, &parts.headers);
        let (mut key, mut why) = (base.clone(), Why::UriMiss);
        let mut slot = self.0.slot(&key).await;
        if let Some(Slot::Varying(varying)) = &slot {
            key = base.variant(&varying.vary, &parts.headers);
            why = Why::VaryMiss;
            slot = self.0.slot(&key).await;
        }
        let stored = match slot {
            Some(Slot::Response(stored)) => {
                let is_unwanted = exchange.demands.no_cache || exchange.demands.max_age.is_some();
                let is_fresh = stored.reuse(exchange.now, &Demands::default()) == Reuse::Yes;
                why = if is_unwanted && is_fresh {
                    Why::Request
                } else {
                    Why::Stale
                };
                Some(stored)
            }
            Some(Slot::Varying(_)) | None => None,
        };
        Found {
            base,
            key,
            stored,
            why,
        }
    }

    /// Gets a response from the origin, or from who gets it already.
    async fn get<F: Forward>(
        &self,
        exchange: &Exchange<'_>,
        mut found: Found,
        parts: Parts,
        body: F::RequestBody,
        forward: F,
    ) -> Answered<F> {
        let label = exchange.label(&self.0, &parts);
        let mut lead = None;
        let mut waits = 0;
        while self.may_wait(exchange, &found, &parts) && waits < MOST_WAITS {
            match self.0.flights.join(&found.key, &label, &self.0.log) {
                Joined::Lead(leads) => {
                    lead = Some(leads);
                    break;
                }
                Joined::Wait(flight) => {
                    waits += 1;
                    if let Some(answer) = self.wait::<F>(exchange, &found, &parts, &flight).await {
                        return answer;
                    }
                    let key = found.key;
                    found = self.find(exchange, &parts).await;
                    // Only another variant is worth another wait.
                    if found.key == key {
                        break;
                    }
                }
            }
        }
        let original = parts.headers.contains_key(RANGE).then(|| parts.clone());
        let (client, answer) = oneshot::channel();
        let fetch = self.fetch(exchange, &found, &parts, label, lead.as_ref());
        tokio::spawn(fetch.run(forward.clone(), lead, Some(client)));
        let Ok(answer) = answer.await else {
            // The task panicked in the origin's code: this request gets its own answer, or its own panic.
            return self
                .pass(exchange, parts, Some(body), forward, found.why)
                .await;
        };
        match (answer, original) {
            // The whole is not stored: then the part is enough.
            (Answer::Unshared(response, _), Some(parts)) if response.status() == StatusCode::OK => {
                drop(response);
                self.pass(exchange, parts, Some(body), forward, Why::Partial)
                    .await
            }
            (answer, _) => self.lead(exchange, &found, &parts, answer),
        }
    }

    /// Whether a request may be answered with the response to another.
    fn may_wait(&self, exchange: &Exchange<'_>, found: &Found, parts: &Parts) -> bool {
        let validates = |stored: &Arc<Stored>| stored.head.freshness.validate;
        !exchange.demands.no_cache
            && !exchange.demands.no_store
            && !parts.headers.contains_key(AUTHORIZATION)
            && !found.stored.as_ref().is_some_and(validates)
            && !self.0.passes(&found.key, exchange.now)
    }

    pub(super) fn fetch(
        &self,
        exchange: &Exchange<'_>,
        found: &Found,
        parts: &Parts,
        label: Label,
        lead: Option<&Lead>,
    ) -> Fetch {
        let shared = &self.0;
        Fetch {
            shared: Arc::clone(shared),
            request: parts.clone(),
            demands: exchange.demands,
            base: found.base.clone(),
            key: found.key.clone(),
            label,
            policy: Arc::clone(exchange.scope.policy),
            stale: found.stored.clone(),
            asked: lead.map_or_else(|| shared.log.generation(), Lead::asked),
            counters: shared.registry.of(exchange.scope.distribution).1,
        }
    }

    /// Asks the origin in the background whether what is stored is still good, if nobody does already.
    fn revalidate<F: Forward>(
        &self,
        exchange: &Exchange<'_>,
        found: &Found,
        parts: &Parts,
        forward: F,
    ) {
        if self.0.flights.has(&found.key) {
            return;
        }
        let label = exchange.label(&self.0, parts);
        if let Joined::Lead(lead) = self.0.flights.join(&found.key, &label, &self.0.log) {
            let fetch = self.fetch(exchange, found, parts, label, Some(&lead));
            tokio::spawn(fetch.run(forward, Some(lead), None));
        }
    }

    /// The answer for the client that a fetch was begun for.
    fn lead<F: Forward>(
        &self,
        exchange: &Exchange<'_>,
        found: &Found,
        parts: &Parts,
        answer: Answer<F>,
    ) -> Answered<F> {
        let counters = exchange.counters(&self.0);
        let mut handling = Handling::forward(found.why);
        let (method, request) = (&parts.method, &parts.headers);
        Ok(match answer {
            Answer::Filling {
                fill,
                reader,
                headers,
            } => {
                count(&counters.misses);
                handling.forward_status = Some(fill.head.status);
                handling.stored = true;
                let representation = Representation {
                    status: fill.head.status,
                    headers,
                    age: None,
                    length: fill.length,
                    source: || Source::Fill(reader),
                };
                reply(method, request, representation, &handling)
            }
            Answer::Revalidated(stored) => {
                count(&counters.hits);
                handling.forward_status = Some(StatusCode::NOT_MODIFIED);
                handling.stored = true;
                self.0
                    .stored(exchange, (method, request), &stored, handling)
            }
            Answer::Stale(stored, status) => {
                count(&counters.stale);
                handling.forward_status = status;
                handling.detail = Some("stale-if-error");
                self.0
                    .stored(exchange, (method, request), &stored, handling)
            }
            Answer::Unshared(response, refusal) => {
                count(&counters.misses);
                handling.forward_status = Some(response.status());
                handling.detail = Some(refusal.as_str());
                forwarded(exchange, response, &handling)
            }
            Answer::Failed(error) => return Err(error),
        })
    }

    /// The answer for a request that waited for another, or none if it must go forward itself.
    async fn wait<F: Forward>(
        &self,
        exchange: &Exchange<'_>,
        found: &Found,
        parts: &Parts,
        flight: &Flight,
    ) -> Option<Answered<F>> {
        let outcome = flight.outcome().await;
        let now = self.0.clock.now();
        let (method, request) = (&parts.method, &parts.headers);
        let counters = exchange.counters(&self.0);
        let mut handling = Handling::forward(found.why);
        handling.collapsed = true;
        let is_ours = |stored: &Stored| stored.head.key == found.key;
        let response = match outcome {
            Outcome::Filling(fill) => {
                let reuse = fill.head.freshness.reuse(now, &exchange.demands, None);
                if reuse == Reuse::No
                    || !is_variant(&fill, found, request)
                    || is_ahead(&fill, request)
                {
                    return None;
                }
                handling.forward_status = Some(fill.head.status);
                let representation = Representation {
                    status: fill.head.status,
                    headers: fill.head.headers.clone(),
                    age: Some(fill.head.freshness.age(now).as_secs()),
                    length: fill.length,
                    source: || Source::Fill(FillReader::new(&fill)),
                };
                reply(method, request, representation, &handling)
            }
            Outcome::Revalidated(stored)
                if is_ours(&stored) && stored.reuse(now, &exchange.demands) != Reuse::No =>
            {
                handling.forward_status = Some(StatusCode::NOT_MODIFIED);
                self.0
                    .stored(exchange, (method, request), &stored, handling)
            }
            Outcome::Stale(stored, status) if is_ours(&stored) && stored.on_error(now) => {
                count(&counters.stale);
                handling.forward_status = status;
                handling.detail = Some("stale-if-error");
                self.0
                    .stored(exchange, (method, request), &stored, handling)
            }
            Outcome::Revalidated(_) | Outcome::Stale(..) | Outcome::Unshared => return None,
            Outcome::Failed(error) => {
                let error: Arc<dyn Any + Send + Sync> = error;
                return error.downcast::<F::Error>().ok().map(Err);
            }
        };
        count(&counters.collapsed);
        Some(Ok(response))
    }
}

impl Exchange<'_> {
    fn key(&self, uri: &Uri, headers: &HeaderMap) -> Key {
        let Scope {
            distribution,
            policy,
            key,
        } = self.scope;
        Key::of_request(distribution, &policy.key, key, uri, headers)
    }

    pub(super) fn label(&self, shared: &Shared, parts: &Parts) -> Label {
        Label {
            distribution: shared.registry.of(self.scope.distribution).0,
            url: key::url(&self.scope.policy.key, &parts.uri, &parts.headers).into(),
            tags: [].into(),
        }
    }

    pub(super) fn counters(&self, shared: &Shared) -> Arc<Counters> {
        shared.registry.of(self.scope.distribution).1
    }
}

impl Shared {
    /// Whether requests for a key do not wait for each other now.
    fn passes(&self, key: &Key, now: Moment) -> bool {
        let until = self.passes.get(&key.digest);
        until.is_some_and(|until| now < until)
    }

    /// Answers from what is stored, without having asked the origin.
    fn hit<B>(
        self: &Arc<Self>,
        exchange: &Exchange<'_>,
        method: &Method,
        request: &HeaderMap,
        stored: &Arc<Stored>,
    ) -> Response<Body<B>> {
        let ttl = stored.head.freshness.ttl(exchange.now);
        let is_stale = ttl <= 0 || stored.marked().is_some();
        let counters = &stored.head.counters;
        count(if is_stale {
            &counters.stale
        } else {
            &counters.hits
        });
        self.stored(exchange, (method, request), stored, Handling::hit(ttl))
    }

    fn stored<B>(
        self: &Arc<Self>,
        exchange: &Exchange<'_>,
        (method, request): (&Method, &HeaderMap),
        stored: &Arc<Stored>,
        handling: Handling,
    ) -> Response<Body<B>> {
        let source = || match &stored.content {
            Content::Memory(bytes) => Source::Memory(bytes.clone()),
            Content::File(file, disk) => Source::File(StoredFile {
                file: Arc::clone(file),
                disk: Arc::clone(disk),
                digest: stored.head.key.digest,
                version: stored.head.version,
            }),
        };
        let now = exchange.now.max(stored.head.freshness.received);
        let representation = Representation {
            status: stored.head.status,
            headers: stored.head.headers.clone(),
            age: Some(stored.head.freshness.age(now).as_secs()),
            length: Some(stored.length),
            source,
        };
        reply(method, request, representation, &handling)
    }
}

/// Whether the cache has anything to do with a request.
fn is_for_the_cache(scope: Scope<'_>, method: &Method, headers: &HeaderMap) -> bool {
    scope.policy.enabled
        && matches!(*method, Method::GET | Method::HEAD)
        && !validator::is_for_the_origin(headers)
        && !headers.contains_key(TRANSFER_ENCODING)
        && headers
            .get(CONTENT_LENGTH)
            .is_none_or(|length| length == "0")
}

/// Whether a request wants a part that the whole is not fetched for.
fn is_far(request: &HeaderMap) -> bool {
    let far =
        |field: &HeaderValue| range::first_byte(field).is_none_or(|first| first >= RANGE_REACH);
    request.get(RANGE).is_some_and(far)
}

/// Whether a request may be answered with less than the whole: worth more than the chance that the whole is stored.
fn is_for_less(request: &HeaderMap) -> bool {
    [RANGE, IF_NONE_MATCH, IF_MODIFIED_SINCE]
        .iter()
        .any(|name| request.contains_key(name))
}

/// Whether a request wants a part of a response that will not come soon.
fn is_ahead(fill: &Fill, request: &HeaderMap) -> bool {
    let first = request
        .get(RANGE)
        .map(|field| range::first_byte(field).unwrap_or(u64::MAX));
    first.is_some_and(|first| first > fill.received().saturating_add(RANGE_REACH))
}

/// Whether the variant that is on its way is the one that a request gets.
fn is_variant(fill: &Fill, found: &Found, request: &HeaderMap) -> bool {
    super::vary::Vary::of_response(&fill.head.headers)
        .is_some_and(|vary| found.base.variant(&vary, request) == fill.head.key)
}

/// RFC 9111 section 5.2.1.7.
fn gateway_timeout<B>() -> Response<Body<B>> {
    let mut headers = HeaderMap::new();
    let handling = Handling {
        detail: Some("only-if-cached"),
        ..Handling::forward(Why::Miss)
    };
    headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
    handling.write(&mut headers);
    respond(StatusCode::GATEWAY_TIMEOUT, headers, Body::empty())
}
