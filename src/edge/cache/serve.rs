//! A request's way through the cache.

use std::sync::Arc;

use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{CONTENT_LENGTH, IF_MODIFIED_SINCE, IF_NONE_MATCH, RANGE},
    request::Parts,
};

use super::{
    Body, Cache, Forward, Scope, Shared,
    body::{Source, StoredFile},
    clock::Moment,
    directives::Demands,
    fill::Fill,
    freshness::Reuse,
    index::Label,
    key::Key,
    memory::Slot,
    purge::Generation,
    range::{self, Part},
    reply::{Representation, reply, respond},
    statistics::Counters,
    status::{Handling, Why},
    stored::{Content, Stored},
    validator,
};
use crate::boxed;

/// How far into a response a range may begin for which all of it is fetched.
pub(super) const RANGE_REACH: u64 = 1 << 20;

/// A request, and what is looked at of it.
pub(super) struct Exchange<'a> {
    pub(super) scope: Scope<'a>,
    pub(super) demands: Demands,
    pub(super) now: Moment,
}

/// What is stored for a request.
pub(super) struct Found {
    /// Of the resource, or of the part.
    pub(super) base: Key,
    /// The part, if it is not looked for in the whole.
    pub(super) part: Option<Part>,
    /// Of the variant, if it is known.
    pub(super) key: Key,
    pub(super) stored: Option<Arc<Stored>>,
    /// When it was looked for.
    pub(super) asked: Generation,
    /// Why it would go forward.
    pub(super) why: Why,
    /// Until when requests for the key do not wait for each other; not asked where what is stored is fresh.
    pub(super) passes: Option<Moment>,
}

impl Found {
    /// Whether requests for the key do not wait for each other now.
    pub(super) fn is_passing(&self, now: Moment) -> bool {
        self.passes.is_some_and(|until| now < until)
    }
}

/// What is looked for.
pub(super) struct Sought {
    key: Key,
    /// When it was looked for.
    asked: Generation,
    /// What memory has under it.
    slot: Option<Slot>,
}

impl Sought {
    pub(super) fn new(shared: &Shared, key: Key) -> Self {
        // Before it is looked for: what is purged from now on is not made fresh again.
        let asked = shared.log.generation();
        let slot = shared.memory.get(&key);
        Self { key, asked, slot }
    }
}

pub(super) type Answered<F> =
    Result<Response<Body<<F as Forward>::Body>>, Arc<<F as Forward>::Error>>;

impl Cache {
    /// Answers a request: from what is stored, with the response that somebody else waits for, or from the origin.
    ///
    /// The request's URI is absolute, or has its authority in `Host`. `forward` is made where it is needed, which for a hit it
    /// is not. The error is the origin's; it is shared by all who waited for the same response.
    pub async fn serve<F: Forward>(
        &self,
        scope: Scope<'_>,
        request: Request<F::RequestBody>,
        forward: impl FnOnce() -> F,
    ) -> Answered<F> {
        let exchange = self.exchange(scope, request.headers());
        let key = exchange.key(&request);
        let sought = key.map(|key| Sought::new(&self.0, key));
        if let Some(sought) = &sought
            && let Some(response) = self.at_once(&exchange, sought, &request)
        {
            return Ok(response);
        }
        // In a box: a hit needs no room for it.
        boxed::pin(|| self.answer(exchange, sought, request, forward())).await
    }

    /// Answers a request from memory, or not at all. It never waits.
    fn at_once<R, B>(
        &self,
        exchange: &Exchange<'_>,
        sought: &Sought,
        request: &Request<R>,
    ) -> Option<Response<Body<B>>> {
        let headers = request.headers();
        let variant;
        let stored = match sought.slot.as_ref()? {
            Slot::Response(stored) => stored,
            Slot::Varying(varying) => {
                let key = sought.key.variant(&varying.vary, headers);
                variant = self.0.memory.get(&key)?;
                match &variant {
                    Slot::Response(stored) => stored,
                    Slot::Varying(_) => return None,
                }
            }
        };
        (stored.reuse(exchange.now, &exchange.demands) == Reuse::Yes)
            .then(|| self.0.hit(exchange, request.method(), headers, stored))
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
        exchange: Exchange<'_>,
        sought: Option<Sought>,
        request: Request<F::RequestBody>,
        forward: F,
    ) -> Answered<F> {
        let (parts, body) = request.into_parts();
        let Some(sought) = sought else {
            let is_read = matches!(parts.method, Method::GET | Method::HEAD);
            let why = if is_read || !exchange.scope.policy.enabled {
                Why::Bypass
            } else {
                Why::Method
            };
            return self.pass(&exchange, parts, Some(body), forward, why).await;
        };
        let mut found = self.find(&exchange, sought, None, &parts).await;
        if found.stored.is_none()
            && parts.method == Method::GET
            && self.0.is_far(&found.key, &parts.headers)
            && let Some(part) = range::part(&parts.headers)
        {
            let sought = Sought::new(&self.0, found.base.part(part));
            found = self.find(&exchange, sought, Some(part), &parts).await;
        }
        if let Some(stored) = &found.stored {
            let hit = || self.0.hit(&exchange, &parts.method, &parts.headers, stored);
            match stored.reuse(exchange.now, &exchange.demands) {
                Reuse::Yes => return Ok(hit()),
                Reuse::WhileRevalidating => {
                    let response = hit();
                    self.revalidate(&exchange, found, &parts, forward);
                    return Ok(response);
                }
                Reuse::No => {}
            }
        }
        if exchange.demands.only_if_cached {
            return Ok(gateway_timeout());
        }
        if parts.method == Method::HEAD {
            return self.head(&exchange, found, parts, forward).await;
        }
        if found.stored.is_none()
            && ((found.part.is_none() && self.0.is_far(&found.key, &parts.headers))
                || (found.is_passing(exchange.now) && is_for_less(&parts.headers)))
        {
            return self
                .pass(&exchange, parts, Some(body), forward, Why::Partial)
                .await;
        }
        self.get(&exchange, found, parts, body, forward).await
    }

    /// What is stored for a request, in memory or on disk.
    pub(super) async fn find(
        &self,
        exchange: &Exchange<'_>,
        sought: Sought,
        part: Option<Part>,
        parts: &Parts,
    ) -> Found {
        let Sought {
            key: base,
            asked,
            slot,
        } = sought;
        let (mut key, mut why) = (base.clone(), Why::UriMiss);
        let mut slot = match slot {
            Some(slot) => Some(slot),
            None => self.0.load(&key).await,
        };
        if let Some(Slot::Varying(varying)) = &slot {
            key = base.variant(&varying.vary, &parts.headers);
            why = Why::VaryMiss;
            slot = self.0.slot(&key).await;
        }
        let stored = match slot {
            Some(Slot::Response(stored)) => Some(stored),
            Some(Slot::Varying(_)) | None => None,
        };
        let is_fresh =
            |stored: &Arc<Stored>| stored.reuse(exchange.now, &Demands::default()) == Reuse::Yes;
        let is_fresh = stored.as_ref().is_some_and(is_fresh);
        let is_unwanted = exchange.demands.no_cache || exchange.demands.max_age.is_some();
        why = match &stored {
            Some(_) if is_fresh && is_unwanted => Why::Request,
            Some(_) => Why::Stale,
            None if part.is_some() => Why::Partial,
            None => why,
        };
        let passes = match is_fresh {
            true => None,
            false => self.0.passes.get(&key.digest),
        };
        Found {
            base,
            part,
            key,
            stored,
            asked,
            why,
            passes,
        }
    }
}

impl Exchange<'_> {
    /// The key of the resource; none if the cache has nothing to do with the request.
    fn key<B: http_body::Body>(&self, request: &Request<B>) -> Option<Key> {
        let Scope {
            distribution,
            source,
            policy,
            key,
            asked: _,
        } = self.scope;
        let (uri, headers) = (request.uri(), request.headers());
        // What the content of a GET means is for the origin to say (RFC 9110 section 9.3.1).
        let is_for_the_cache = policy.enabled
            && matches!(*request.method(), Method::GET | Method::HEAD)
            && request.body().is_end_stream()
            && !validator::is_for_the_origin(headers);
        is_for_the_cache
            .then(|| Key::of_request(distribution, source, &policy.key, key, uri, headers))
    }

    pub(super) fn label(&self, shared: &Shared, parts: &Parts) -> Label {
        let (distribution, _) = shared.registry.of(self.scope.distribution);
        let urls = (&parts.uri, self.scope.asked);
        Label::of_request(distribution, &self.scope.policy.key, urls, &parts.headers)
    }

    pub(super) fn counters(&self, shared: &Shared) -> Arc<Counters> {
        shared.registry.of(self.scope.distribution).1
    }
}

impl Shared {
    /// Whether a request wants a part that the whole is not fetched for, and that is not on its way already.
    fn is_far(&self, key: &Key, request: &HeaderMap) -> bool {
        let comes = |fill: Arc<Fill>| !is_ahead(&fill, request);
        is_far(request) && !self.flights.filling(key).is_some_and(comes)
    }

    /// Answers from what is stored, without having asked the origin.
    fn hit<B>(
        self: &Arc<Self>,
        exchange: &Exchange<'_>,
        method: &Method,
        request: &HeaderMap,
        stored: &Arc<Stored>,
    ) -> Response<Body<B>> {
        let handling = Handling::hit(stored.ttl(exchange.now));
        stored.head.counters.count(&handling);
        self.stored(exchange, (method, request), stored, handling)
    }

    pub(super) fn stored<B>(
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

/// Whether a request wants a part that the whole is not fetched for.
pub(super) fn is_far(request: &HeaderMap) -> bool {
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
pub(super) fn is_ahead(fill: &Fill, request: &HeaderMap) -> bool {
    if fill.head.status != StatusCode::OK {
        return false;
    }
    let first = request
        .get(RANGE)
        .map(|field| range::first_byte(field).unwrap_or(u64::MAX));
    first.is_some_and(|first| first > fill.received().saturating_add(RANGE_REACH))
}

/// RFC 9111 section 5.2.1.7. It was neither stored nor came from an origin, and nothing went forward: `Cache-Status` is not of such
/// responses (RFC 9211 section 2).
fn gateway_timeout<B>() -> Response<Body<B>> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
    respond(StatusCode::GATEWAY_TIMEOUT, headers, Body::empty())
}
