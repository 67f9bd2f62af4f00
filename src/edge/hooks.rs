//! The hooks of a behaviour: what runs at each point, and what becomes of a request when one of them fails.

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, header, request, response};
use http_body::Body;
use tracing::{Instrument as _, Span};

use super::{
    Arrival, Failure,
    ahead::{Ahead, AheadError, Share},
};
use crate::{
    boxed,
    invoke::Invoke,
    model::{
        ByteSize, Outcome,
        distribution::{Hook, OnFailure},
        hook::{
            Client, HookResponse, Point, Replace, RequestAction, RequestHead, ResponseAction,
            ResponseHead, Seen, SeenBody,
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

/// The body of what passes the hooks of a point.
pub(super) trait Content {
    /// What a hook is shown of it that is given so much.
    fn seen(
        &mut self,
        most: Option<ByteSize>,
    ) -> impl Future<Output = Result<Option<SeenBody<'_>>, Failure>> + Send;

    /// Puts what a hook made in its place.
    fn replace(&mut self, made: Bytes);
}

/// Nothing that a hook could see: what one of them made, or nothing.
impl Content for Option<Bytes> {
    async fn seen(&mut self, _: Option<ByteSize>) -> Result<Option<SeenBody<'_>>, Failure> {
        Ok(None)
    }

    fn replace(&mut self, made: Bytes) {
        *self = Some(made);
    }
}

/// A body that hooks may be given.
pub(super) struct Passing<'a, B: Body> {
    original: Ahead<B>,
    made: Option<Bytes>,
    /// Whether there is anything of it, as there is not in an answer to HEAD.
    is_there: bool,
    room: Share<'a>,
    /// What it means when it breaks off.
    broken: fn(B::Error) -> Failure,
}

impl<'a, B: Body> Passing<'a, B> {
    pub(super) fn new(
        body: B,
        is_there: bool,
        room: Share<'a>,
        broken: fn(B::Error) -> Failure,
    ) -> Self {
        Self {
            original: Ahead::new(body),
            made: None,
            is_there,
            room,
            broken,
        }
    }

    /// What goes on.
    pub(super) fn passed(self) -> Passed<B> {
        match self.made {
            Some(made) => Passed::Made(made),
            None => match self.original.untouched() {
                Ok(body) => Passed::Untouched(body),
                Err(ahead) => Passed::Ahead(ahead),
            },
        }
    }
}

/// A body that passed the hooks of a point.
pub(super) enum Passed<B> {
    /// One that a hook made in its place.
    Made(Bytes),
    /// As it came.
    Untouched(B),
    /// A hook was given the beginning of it.
    Ahead(Box<Ahead<B>>),
}

impl<B> Content for Passing<'_, B>
where
    B: Body<Data = Bytes, Error: Send> + Unpin + Send,
{
    async fn seen(&mut self, most: Option<ByteSize>) -> Result<Option<SeenBody<'_>>, Failure> {
        let Some(most) = most.map(ByteSize::as_usize) else {
            return Ok(None);
        };
        if let Some(made) = &self.made {
            return Ok(Some(SeenBody {
                data: &made[..made.len().min(most)],
                truncated: made.len() > most,
            }));
        }
        if !self.is_there {
            return Ok(None);
        }
        match self.original.read(most, self.room).await {
            Ok(seen) => Ok(Some(seen)),
            Err(AheadError::Body(error)) => Err((self.broken)(error)),
            Err(AheadError::Spent) => Err(Failure::Spent),
            Err(AheadError::Full) => Err(Failure::Outcome(Outcome::Overloaded)),
        }
    }

    fn replace(&mut self, made: Bytes) {
        self.made = Some(made);
    }
}

impl Hooks<'_> {
    /// Runs the hooks of a point on a request, each on what the one before made of it. An answer is one of theirs: the client
    /// gets it, and nothing further is asked.
    ///
    /// # Errors
    ///
    /// A hook failed that must not, or the body did that one of them is given.
    pub(super) async fn request(
        &self,
        hooks: &[Hook],
        point: Point,
        head: &mut request::Parts,
        content: &mut impl Content,
    ) -> Result<(Decided, Option<Response<Bytes>>), Failure> {
        let mut decided = Decided::default();
        for hook in hooks {
            let id = self.arrival.request_id;
            let action = match self.invoke.find(hook.function.as_str()) {
                Some(function) => {
                    let seen = Seen {
                        body: content.seen(hook.body).await?,
                        request: RequestHead::from(&*head),
                        client: self.client(),
                    };
                    boxed::pin(|| self.invoke.hook_request(&function, point, id, seen))
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
                    forward.headers.apply(&mut head.headers);
                    decided.origin = forward.origin.or(decided.origin);
                    decided.cache_key = forward.cache_key.or(decided.cache_key);
                    if let Some(made) = forward.body {
                        content.replace(made);
                    }
                }
                Ok(RequestAction::Respond(response)) => {
                    return Ok((decided, Some(made(*response))));
                }
                Err(outcome) => failed(hook, point, outcome)?,
            }
        }
        Ok((decided, None))
    }

    /// Runs the hooks of a point on a response, each on what the one before made of it.
    ///
    /// # Errors
    ///
    /// As of [`request`](Self::request).
    pub(super) async fn response(
        &self,
        hooks: &[Hook],
        point: Point,
        request: RequestHead<'_>,
        head: &mut response::Parts,
        content: &mut impl Content,
    ) -> Result<(), Failure> {
        for hook in hooks {
            let id = self.arrival.request_id;
            let mut knows_coding = false;
            let action = match self.invoke.find(hook.function.as_str()) {
                Some(function) => {
                    let body = content.seen(hook.body).await?;
                    knows_coding = body.is_some();
                    let client = self.client();
                    let seen = Seen {
                        request,
                        client,
                        body,
                    };
                    let response = ResponseHead::from(&*head);
                    boxed::pin(|| {
                        self.invoke
                            .hook_response(&function, point, id, seen, response)
                    })
                    .instrument(span(hook, point))
                    .await
                }
                None => Err(Outcome::Internal),
            };
            self.count(hook, point, action.is_ok());
            match action {
                Ok(ResponseAction::Next) => {}
                Ok(ResponseAction::Replace(response)) => {
                    let Replace {
                        status,
                        headers,
                        body,
                    } = *response;
                    let says_coding = knows_coding || headers.give(&header::CONTENT_ENCODING);
                    head.status = status;
                    headers.apply(&mut head.headers);
                    if let Some(made) = body {
                        // What was said of the body that it replaces.
                        head.headers.remove(header::CONTENT_RANGE);
                        if !says_coding {
                            head.headers.remove(header::CONTENT_ENCODING);
                        }
                        content.replace(made);
                    }
                }
                Err(outcome) => failed(hook, point, outcome)?,
            }
        }
        Ok(())
    }

    fn client(&self) -> Client<'_> {
        let country = self.arrival.country.as_ref();
        Client {
            address: self.arrival.client,
            tls_version: self.arrival.tls_version,
            country: country.map(|country| country.as_str()),
        }
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
    made
}
