//! The hooks of a behaviour: what runs at each point, and what becomes of a request when one of them fails.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Response, header, request, response};
use tracing::{Instrument as _, Span};

use super::{Arrival, Failure};
use crate::{
    invoke::Invoke,
    model::{
        Outcome,
        distribution::{Hook, OnFailure},
        hook::{
            Client, HookResponse, Point, RequestAction, RequestHead, ResponseAction, ResponseHead,
        },
    },
    telemetry::metrics::{DistributionMetrics, HookResult},
};

/// What hooks are given beside heads.
pub(super) struct Hooks<'a> {
    pub(super) invoke: &'a Arc<Invoke>,
    pub(super) arrival: &'a Arrival,
    pub(super) metrics: &'a DistributionMetrics,
}

/// What request hooks decided.
#[derive(Debug, Default)]
pub(super) struct Decided {
    /// The origin to use, by a name that may not be one.
    pub(super) origin: Option<String>,
    /// The cache key to use.
    pub(super) cache_key: Option<String>,
}

impl Hooks<'_> {
    /// Runs the hooks of a point on a request's head, each on what the one before made of it. An answer is one of theirs: the
    /// client gets it, and nothing further is asked.
    pub(super) async fn request(
        &self,
        hooks: &[Hook],
        point: Point,
        head: &mut request::Parts,
    ) -> Result<(Decided, Option<Response<Bytes>>), Failure> {
        let mut decided = Decided::default();
        for hook in hooks {
            let client = Client {
                address: self.arrival.client,
                tls_version: self.arrival.tls_version,
                country: self
                    .arrival
                    .country
                    .as_ref()
                    .map(|country| country.as_str()),
            };
            let id = self.arrival.request_id;
            let action = match self.invoke.find(hook.function.as_str()) {
                Some(function) => {
                    self.invoke
                        .hook_request(&function, point, id, RequestHead::from(&*head), client)
                        .instrument(span(hook, point))
                        .await
                }
                None => Err(Outcome::Internal),
            };
            self.count(hook, point, action.is_ok());
            match action {
                Ok(RequestAction::Next) => {}
                Ok(RequestAction::Forward(forward)) => {
                    let forward = *forward;
                    head.method = forward.method;
                    head.uri = forward.uri;
                    head.headers = forward.headers;
                    decided.origin = forward.origin.or(decided.origin);
                    decided.cache_key = forward.cache_key.or(decided.cache_key);
                }
                Ok(RequestAction::Respond(response)) => {
                    return Ok((decided, Some(made(*response))));
                }
                Err(outcome) => failed(hook, point, outcome)?,
            }
        }
        Ok((decided, None))
    }

    /// Runs the hooks of a point on a response's head. A body is one that the last of them that made one made.
    pub(super) async fn response(
        &self,
        hooks: &[Hook],
        point: Point,
        request: RequestHead<'_>,
        head: &mut response::Parts,
    ) -> Result<Option<Bytes>, Failure> {
        let mut body = None;
        let coded = head.headers.get(header::CONTENT_ENCODING).cloned();
        for hook in hooks {
            let id = self.arrival.request_id;
            let action = match self.invoke.find(hook.function.as_str()) {
                Some(function) => {
                    let response = ResponseHead::from(&*head);
                    self.invoke
                        .hook_response(&function, point, id, request, response)
                        .instrument(span(hook, point))
                        .await
                }
                None => Err(Outcome::Internal),
            };
            self.count(hook, point, action.is_ok());
            match action {
                Ok(ResponseAction::Next) => {}
                Ok(ResponseAction::Replace(response)) => {
                    let response = *response;
                    head.status = response.status;
                    head.headers = response.headers;
                    if let Some(made) = response.body {
                        head.headers.remove(header::CONTENT_LENGTH);
                        // A hook that hands the fields on does not mean those of the body that it replaces.
                        head.headers.remove(header::CONTENT_RANGE);
                        if head.headers.get(header::CONTENT_ENCODING) == coded.as_ref() {
                            head.headers.remove(header::CONTENT_ENCODING);
                        }
                        body = Some(made);
                    }
                }
                Err(outcome) => failed(hook, point, outcome)?,
            }
        }
        Ok(body)
    }

    fn count(&self, hook: &Hook, point: Point, is_ok: bool) {
        let result = match hook.on_failure {
            _ if is_ok => HookResult::Ok,
            OnFailure::Fail => HookResult::Failed,
            OnFailure::Bypass => HookResult::Bypassed,
        };
        self.metrics.hook(point, result);
    }
}

fn span(hook: &Hook, point: Point) -> Span {
    tracing::debug_span!("hook", %point, function = %hook.function)
}

/// What becomes of a request whose hook failed.
fn failed(hook: &Hook, point: Point, outcome: Outcome) -> Result<(), Failure> {
    tracing::debug!(hook = %hook.function, %point, %outcome, "a hook failed");
    match hook.on_failure {
        OnFailure::Fail => Err(Failure::Hook(outcome)),
        OnFailure::Bypass => Ok(()),
    }
}

/// A response that a hook made.
fn made(response: HookResponse) -> Response<Bytes> {
    let mut made = Response::new(response.body.unwrap_or_default());
    *made.status_mut() = response.status;
    *made.headers_mut() = response.headers;
    let headers: &mut HeaderMap = made.headers_mut();
    headers.remove(header::CONTENT_LENGTH);
    made
}
