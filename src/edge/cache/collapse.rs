//! Going forward for a whole response: once for all who wait for it.
//!
//! The first request leads, and its client gets what comes of it in any case. The others are answered with the same
//! response if it may be used for them; if not, each goes forward itself, and whoever comes in the next seconds does not
//! wait.

use std::{any::Any, sync::Arc};

use http::{
    HeaderMap, StatusCode,
    header::{AUTHORIZATION, RANGE},
    request::Parts,
};
use tokio::sync::oneshot;

use super::{
    Cache, Forward, Scope,
    body::Source,
    fetch::{Answer, Fetch},
    fill::{Fill, FillReader},
    flight::{Flight, Joined, Lead, Outcome},
    forward::forwarded,
    freshness::Reuse,
    range,
    reply::{Representation, reply},
    serve::{Answered, Exchange, Found, Sought, is_ahead, is_far},
    statistics::Counters,
    status::{Handling, Why},
    storable::Refusal,
    stored::Stored,
    validator,
    vary::Vary,
};
use crate::boxed;

/// How often a request waits for others: for the resource, and for its variant.
const MOST_WAITS: usize = 2;

impl Cache {
    /// Gets a response from the origin, or from who gets it already.
    pub(super) async fn get<F: Forward>(
        &self,
        exchange: &Exchange<'_>,
        mut found: Found,
        parts: Parts,
        body: F::RequestBody,
        forward: F,
    ) -> Answered<F> {
        let mut lead = None;
        let mut waits = 0;
        while self.may_wait(exchange, &found, &parts) && waits < MOST_WAITS {
            let label = exchange.label(&self.0, &parts);
            let flights = &self.0.flights;
            match flights.join(&found.key, &label, found.asked, &self.0.log) {
                Joined::Lead(leads) => {
                    lead = Some(leads);
                    break;
                }
                Joined::Wait(flight) => {
                    waits += 1;
                    if let Some(answer) = self.wait::<F>(exchange, &found, &parts, &flight).await {
                        return answer;
                    }
                    if found.part.is_none() && is_far(&parts.headers) {
                        return self
                            .pass(exchange, parts, Some(body), forward, Why::Partial)
                            .await;
                    }
                    let key = found.key;
                    let sought = Sought::new(&self.0, found.base);
                    found = self.find(exchange, sought, found.part, &parts).await;
                    // Only another variant is worth another wait.
                    if found.key == key {
                        break;
                    }
                }
            }
        }
        let (why, part) = (found.why, found.part);
        let parts = Arc::new(parts);
        let fetch = self.fetch(exchange, found, Arc::clone(&parts), lead.as_ref());
        let counters = Arc::clone(&fetch.counters);
        let answer = match lead {
            None => {
                let forward = forward.clone();
                // In a box: else it would be copied into this future, twice.
                Some(boxed::pin(|| fetch.run_alone(forward)).await)
            }
            Some(lead) => {
                let (client, answer) = oneshot::channel();
                let fetched = fetch.run(forward.clone(), Some(lead), Some(client));
                self.0.fetches.spawn(fetched);
                answer.await.ok()
            }
        };
        let Some(answer) = answer else {
            // The task panicked in the origin's code: this request gets its own answer, or its own panic.
            let parts = Arc::unwrap_or_clone(parts);
            return self.pass(exchange, parts, Some(body), forward, why).await;
        };
        match answer {
            // The whole is not stored: then the part is enough.
            Answer::Unshared(response, _)
                if part.is_none()
                    && response.status() == StatusCode::OK
                    && parts.headers.contains_key(RANGE) =>
            {
                drop(response);
                let parts = Arc::unwrap_or_clone(parts);
                self.pass(exchange, parts, Some(body), forward, Why::Partial)
                    .await
            }
            answer => self.lead(exchange, &counters, why, &parts, answer),
        }
    }

    /// Whether a request may be answered with the response to another.
    fn may_wait(&self, exchange: &Exchange<'_>, found: &Found, parts: &Parts) -> bool {
        let validates = |stored: &Arc<Stored>| stored.head.freshness.validate;
        !exchange.demands.no_cache
            && !exchange.demands.no_store
            && !parts.headers.contains_key(AUTHORIZATION)
            && !found.stored.as_ref().is_some_and(validates)
            && !found.is_passing(exchange.now)
    }

    pub(super) fn fetch(
        &self,
        exchange: &Exchange<'_>,
        found: Found,
        request: Arc<Parts>,
        lead: Option<&Lead>,
    ) -> Fetch {
        let Scope {
            distribution,
            policy,
            asked,
            ..
        } = exchange.scope;
        let (distribution, counters) = self.0.registry.of(distribution);
        Fetch {
            shared: Arc::clone(&self.0),
            distribution,
            viewed: asked.cloned(),
            request,
            demands: exchange.demands,
            base: found.base,
            key: found.key,
            part: found.part,
            policy: Arc::clone(policy),
            stale: found.stored,
            passes: found.passes,
            asked: lead.map_or(found.asked, Lead::asked),
            counters,
        }
    }

    /// Asks the origin in the background whether what is stored is still good, if nobody does already.
    pub(super) fn revalidate<F: Forward>(
        &self,
        exchange: &Exchange<'_>,
        found: Found,
        parts: &Parts,
        forward: F,
    ) {
        if self.0.flights.has(&found.key) {
            return;
        }
        let label = exchange.label(&self.0, parts);
        let flights = &self.0.flights;
        if let Joined::Lead(lead) = flights.join(&found.key, &label, found.asked, &self.0.log) {
            let fetch = self.fetch(exchange, found, Arc::new(parts.clone()), Some(&lead));
            self.0.fetches.spawn(fetch.run(forward, Some(lead), None));
        }
    }

    /// The answer for the client that a fetch was begun for.
    fn lead<F: Forward>(
        &self,
        exchange: &Exchange<'_>,
        counters: &Counters,
        why: Why,
        parts: &Parts,
        answer: Answer<F>,
    ) -> Answered<F> {
        let mut handling = Handling::forward(why);
        let (method, request) = (&parts.method, &parts.headers);
        Ok(match answer {
            Answer::Filling {
                fill,
                reader,
                headers,
            } => {
                handling.forward_status = Some(fill.head.status);
                handling.stored = true;
                counters.count(&handling);
                let representation = Representation {
                    status: fill.head.status,
                    headers,
                    age: None,
                    length: fill.length,
                    source: || Source::Fill(reader),
                };
                reply(method, request, representation, &handling)
            }
            Answer::Revalidated {
                stored,
                is_kept,
                refusal,
            } => {
                handling.forward_status = Some(StatusCode::NOT_MODIFIED);
                handling.revalidated = true;
                handling.stored = is_kept;
                handling.detail = refusal.map(Refusal::as_str);
                counters.count(&handling);
                self.0
                    .stored(exchange, (method, request), &stored, handling)
            }
            Answer::Stale(stored, status) => {
                handling.forward_status = status;
                handling = handling.on_error();
                counters.count(&handling);
                self.0
                    .stored(exchange, (method, request), &stored, handling)
            }
            Answer::Unshared(response, refusal) => {
                handling.forward_status = Some(response.status());
                handling.detail = Some(refusal.as_str());
                counters.count(&handling);
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
                let reader = FillReader::join(&fill, first_read(&fill, request))?;
                handling.forward_status = Some(fill.head.status);
                let representation = Representation {
                    status: fill.head.status,
                    headers: fill.head.headers.clone(),
                    age: Some(fill.head.freshness.age(now).as_secs()),
                    length: fill.length,
                    source: || Source::Fill(reader),
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
            Outcome::Stale(stored, status)
                if is_ours(&stored) && stored.on_error(now, &exchange.demands) =>
            {
                handling.forward_status = status;
                handling = handling.on_error();
                self.0
                    .stored(exchange, (method, request), &stored, handling)
            }
            Outcome::Revalidated(_) | Outcome::Stale(..) | Outcome::Unshared => return None,
            Outcome::Failed(error) => {
                let error: Arc<dyn Any + Send + Sync> = error;
                return error.downcast::<F::Error>().ok().map(Err);
            }
        };
        counters.count(&handling);
        Some(Ok(response))
    }
}

/// The place in a response on its way where a request begins to read.
fn first_read(fill: &Fill, request: &HeaderMap) -> u64 {
    if fill.head.status != StatusCode::OK {
        return 0;
    }
    match (fill.length, request.get(RANGE)) {
        (Some(_), Some(field)) if validator::range_applies(request, &fill.head.headers) => {
            range::first_byte(field).unwrap_or(0)
        }
        _ => 0,
    }
}

/// Whether the variant that is on its way is the one that a request gets.
fn is_variant(fill: &Fill, found: &Found, request: &HeaderMap) -> bool {
    Vary::of_response(&fill.head.headers)
        .is_some_and(|vary| found.base.variant(&vary, request) == fill.head.key)
}
