//! Behind the cache: from a miss to what is stored.
//!
//! A [`Route`] is what the cache asks when it has no answer: the hooks around the origin, the origin or function, and
//! compression. It may be asked after its request is over, to revalidate what is stored: that is recorded under the id of the
//! request that found it stale.

use std::{
    borrow::Cow,
    error::Error,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{
    Method, Request, Response, StatusCode, header,
    uri::{Authority, Scheme},
};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::{BodyExt as _, Empty, Full, LengthLimitError};
use pin_project_lite::pin_project;
use tokio::time::{Instant, timeout_at};
use tracing::{Instrument as _, Span};

use super::{
    Arrival, Behaviour, BoxError, Distribution, Edge, Failure, RequestBody, Source,
    ahead::Ahead,
    cache,
    compress::{self, CompressError, Compressed},
    hooks::{Hooks, Passed, Passing},
    origin::{OriginBody, OriginError, Tunnel, Upgrade, Viewer},
    transform,
};
use crate::{
    boxed,
    invoke::{self, ResponseBody},
    model::{
        Outcome,
        distribution::Target,
        hook::{Point, RequestHead},
        trace,
    },
    runtime::IncompleteBody,
    telemetry::metrics::OriginMetrics,
};

/// The way to what answers a behaviour's requests.
#[derive(Clone)]
pub(super) struct Route {
    pub(super) edge: Arc<Edge>,
    pub(super) distribution: Arc<Distribution>,
    pub(super) behaviour: usize,
    /// The origin that a hook chose.
    pub(super) origin: Option<Arc<str>>,
    pub(super) arrival: Arc<Arrival>,
    /// Of the cache: what it asks for runs in tasks of their own.
    pub(super) span: Span,
}

/// The body of an answer on its way to the cache.
pub(super) type Forwarded = Compressed<Answer>;

impl cache::Forward for Route {
    type RequestBody = RequestBody;
    type Body = Forwarded;
    type Error = Failure;

    fn is_of_one(failure: &Failure) -> bool {
        matches!(failure, Failure::Spent)
    }

    async fn send(
        &self,
        request: Request<Option<RequestBody>>,
    ) -> Result<Response<Forwarded>, Failure> {
        let behaviour = self.behaviour();
        // In a box: a request that the cache answers needs no room for it.
        let until = Instant::now() + behaviour.config.timeout;
        let answered = boxed::pin(|| self.answer(behaviour, request, until));
        let answered = answered.instrument(self.span.clone());
        match timeout_at(until, answered).await {
            Ok(answered) => answered,
            Err(_elapsed) => Err(Failure::Timeout(match behaviour.config.target {
                Target::Function(_) if self.origin.is_none() => Outcome::Timeout,
                Target::Function(_) | Target::Origin(_) => Outcome::OriginTimeout,
            })),
        }
    }
}

impl Route {
    pub(super) fn behaviour(&self) -> &Behaviour {
        &self.distribution.behaviours[self.behaviour]
    }

    async fn answer(
        &self,
        behaviour: &Behaviour,
        request: Request<Option<RequestBody>>,
        until: Instant,
    ) -> Result<Response<Forwarded>, Failure> {
        let (mut head, body) = request.into_parts();
        let hooks = Hooks {
            invoke: &self.edge.invoke,
            arrival: &self.arrival,
            metrics: &self.distribution.metrics,
        };
        let config = &behaviour.config;
        let share = &self.distribution.room;
        let room = self.edge.room.share(share, self.arrival.client);
        // What is stored is stored for what the cache was asked, whatever a hook makes of that.
        let coding = compress::negotiate(&config.compress, &head.headers);
        // Not of what the cache asks for itself, which is a GET without a body: it knows the origin's tags.
        let is_viewers = body.is_some() || head.method == Method::HEAD;
        let known = match coding {
            Some(_) if is_viewers => compress::known(&head.headers),
            Some(_) | None => Vec::new(),
        };
        if config.hooks.want_whole() {
            head.headers.remove(header::RANGE);
            head.headers.remove(header::IF_RANGE);
        }
        let is_there = body.as_ref().is_some_and(|body| !body.is_end_stream());
        let body = body.unwrap_or_else(empty);
        let mut passing = Passing::new(body, is_there, room, broken_request);
        let at = &config.hooks.origin_request;
        let (decided, made) = match at.is_empty() {
            true => Default::default(),
            // In a box, as further below: most requests need no room for it.
            false => {
                boxed::pin(|| hooks.request(at, Point::OriginRequest, &mut head, &mut passing))
                    .await?
            }
        };
        let body = match passing.passed() {
            Passed::Made(made) => whole(made),
            Passed::Untouched(body) => body,
            Passed::Ahead(body) => body.boxed_unsync(),
        };
        let at = &config.hooks.origin_response;
        // A response hook is shown what the origin was asked.
        let asked = (!at.is_empty()).then(|| head.clone());
        let method = head.method.clone();
        let response = match made {
            Some(response) => response.map(|body| Answer::Made { bytes: Some(body) }),
            None => {
                let route = match decided.origin {
                    Some(origin) => Cow::Owned(Self {
                        origin: Some(Arc::from(origin)),
                        ..self.clone()
                    }),
                    None => Cow::Borrowed(self),
                };
                transform::pass(&route, 0, Request::from_parts(head, body), until).await?
            }
        };
        let response = match asked {
            Some(asked) if response.status() != StatusCode::SWITCHING_PROTOCOLS => {
                let (mut head, body) = response.into_parts();
                let request = RequestHead::from(&asked);
                let is_there = has_body(&method, head.status);
                let mut passing = Passing::new(body, is_there, room, broken_answer);
                let point = Point::OriginResponse;
                boxed::pin(|| hooks.response(at, point, request, &mut head, &mut passing)).await?;
                let body = passing.passed();
                let is_made = matches!(body, Passed::Made(_));
                if method == Method::HEAD && config.hooks.want_whole() && !is_made {
                    // A hook would have seen a body, and said another length.
                    head.headers.remove(header::CONTENT_LENGTH);
                }
                let body = match body {
                    Passed::Made(made) => Answer::Made { bytes: Some(made) },
                    Passed::Untouched(body) => body,
                    Passed::Ahead(body) => Answer::Ahead { body },
                };
                Response::from_parts(head, body)
            }
            Some(_) | None => response,
        };
        Ok(compress::compress(
            &config.compress,
            coding,
            &known,
            &method,
            response,
        ))
    }

    /// Asks an origin or a function. `until` then there is an answer waited for.
    pub(super) async fn ask(
        &self,
        request: Request<RequestBody>,
        until: Instant,
    ) -> Result<Response<Answer>, Failure> {
        let target = &self.behaviour().config.target;
        let origin = match (self.origin.as_deref(), target) {
            (Some(chosen), _) => Some(chosen),
            (None, Target::Origin(name)) => Some(name.as_str()),
            (None, Target::Function(_)) => None,
        };
        match (origin, target) {
            (Some(name), _) => {
                let source = self
                    .distribution
                    .origins
                    .get(name)
                    .ok_or_else(|| Failure::NoOrigin(name.to_owned()))?;
                self.ask_origin(source, request, until).await
            }
            (None, Target::Function(name)) => {
                let function = self.edge.invoke.find(name.as_str());
                let function = function.ok_or(Failure::Outcome(Outcome::NoRoute))?;
                if let Some(observed) = &self.arrival.observed {
                    observed.asks_function(name);
                }
                let arrival = invoke::Arrival {
                    request_id: self.arrival.request_id,
                    // The function's time begins when it is asked, and not when hooks and cache were.
                    started: std::time::Instant::now(),
                    source_ip: self.arrival.client,
                    path_parameters: &[],
                    url: None,
                };
                let answered = boxed::pin(|| self.edge.invoke.http(&function, request, arrival));
                let answered = answered.await;
                let response = answered.map_err(Failure::Outcome)?;
                Ok(response.map(|body| Answer::Function { body }))
            }
            (None, Target::Origin(_)) => Err(Failure::Outcome(Outcome::Internal)),
        }
    }

    async fn ask_origin(
        &self,
        source: &Source,
        mut request: Request<RequestBody>,
        until: Instant,
    ) -> Result<Response<Answer>, Failure> {
        trace::start(request.headers_mut(), self.arrival.request_id);
        // Whatever a viewer or a hook took before is not the server's.
        let is_fair = until - Instant::now() > self.behaviour().config.timeout / 2;
        let uri = request.uri();
        let viewer = Viewer {
            address: self.arrival.client,
            scheme: uri.scheme().cloned().unwrap_or(Scheme::HTTP),
            authority: uri
                .authority()
                .cloned()
                .unwrap_or_else(|| Authority::from_static("localhost")),
            until: is_fair.then_some(until),
        };
        let observed = self.arrival.observed.as_deref();
        if let Some(observed) = observed {
            observed.asks_origin(&source.origin);
        }
        let started = Instant::now();
        let span = tracing::debug_span!("origin", name = source.origin.name());
        let asked = async {
            if self.arrival.websocket {
                let (head, _) = request.into_parts();
                let request = Request::from_parts(head, ());
                boxed::pin(|| source.origin.upgrade(request, &viewer)).await
            } else {
                // In a box: else every future around it had its size, and would be copied into the next.
                let answered = boxed::pin(|| source.origin.send(request, &viewer)).await;
                answered.map(Upgrade::Declined)
            }
        };
        let answered = asked.instrument(span).await;
        if let Some(observed) = observed {
            observed.origin_answered();
        }
        match answered {
            Ok(answered) => {
                source.metrics.first_byte.observe(started.elapsed());
                Ok(match answered {
                    Upgrade::Switched(response, tunnel) => response.map(|()| Answer::Tunnel {
                        tunnel: Box::new(tunnel),
                    }),
                    Upgrade::Declined(response) => {
                        let metrics = Arc::clone(&source.metrics);
                        response.map(|body| Answer::Origin { body, metrics })
                    }
                })
            }
            Err(error) if is_too_long(&error) => Err(Failure::TooLarge),
            Err(error) => {
                count(&source.metrics, &error);
                // That a server is out is said once, where it is taken out.
                tracing::debug!(
                    distribution = %self.distribution.config.name,
                    request_id = %self.arrival.request_id,
                    error = &error as &dyn Error,
                    "an origin gave no answer"
                );
                Err(error.into())
            }
        }
    }
}

/// No body. It takes no memory.
pub(super) fn empty() -> RequestBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

fn count(metrics: &OriginMetrics, error: &OriginError) {
    if let Some(failure) = error.failure() {
        metrics.failed(failure);
    }
}

/// A body that is there.
pub(super) fn whole(bytes: Bytes) -> RequestBody {
    Full::new(bytes)
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// The request's body failed before anybody was asked.
fn broken_request(error: BoxError) -> Failure {
    match OriginError::RequestBody(error) {
        error if is_too_long(&error) => Failure::TooLarge,
        error => error.into(),
    }
}

/// The answer broke off before anything of it was sent.
fn broken_answer(error: AnswerError) -> Failure {
    match error {
        AnswerError::Origin(error) => error.into(),
        AnswerError::Function(IncompleteBody(outcome)) => Failure::Outcome(outcome),
    }
}

/// Whether an answer has content (RFC 9110 sections 9.3.2, 15.3.5 and 15.4.5).
fn has_body(method: &Method, status: StatusCode) -> bool {
    method != Method::HEAD && !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Whether the request's body is longer than the behaviour allows.
pub(super) fn is_too_long(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<LengthLimitError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

pin_project! {
    /// The body of what a behaviour's target answered.
    #[project = AnswerProjection]
    pub(super) enum Answer {
        /// A hook made it.
        Made { bytes: Option<Bytes> },
        /// An origin sends it.
        Origin { #[pin] body: OriginBody, metrics: Arc<OriginMetrics> },
        /// A function writes it.
        Function { #[pin] body: ResponseBody },
        /// There is none: the connection becomes a WebSocket.
        Tunnel { tunnel: Box<Tunnel> },
        /// A hook was given the beginning of it.
        Ahead { body: Box<Ahead<Answer>> },
    }
}

impl Answer {
    /// The origin's end of a WebSocket.
    pub(super) fn into_tunnel(self) -> Option<Tunnel> {
        match self {
            Self::Tunnel { tunnel } => Some(*tunnel),
            Self::Made { .. }
            | Self::Origin { .. }
            | Self::Function { .. }
            | Self::Ahead { .. } => None,
        }
    }
}

/// How a request ended whose answer broke off with this error of a [`Forwarded`].
pub(super) fn outcome(error: &(dyn Error + 'static)) -> Outcome {
    match error.downcast_ref::<CompressError<AnswerError>>() {
        Some(CompressError::Body(AnswerError::Origin(error))) => error.outcome(),
        Some(CompressError::Body(AnswerError::Function(IncompleteBody(outcome)))) => *outcome,
        Some(CompressError::Encoder(_)) | None => Outcome::Internal,
    }
}

/// Why an answer breaks off.
#[derive(Debug, thiserror::Error)]
pub(super) enum AnswerError {
    #[error(transparent)]
    Origin(OriginError),
    #[error(transparent)]
    Function(IncompleteBody),
}

impl AnswerError {
    pub(super) const fn outcome(&self) -> Outcome {
        match self {
            Self::Origin(error) => error.outcome(),
            Self::Function(IncompleteBody(outcome)) => *outcome,
        }
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        match self.project() {
            AnswerProjection::Made { bytes } => {
                Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes))))
            }
            AnswerProjection::Origin { body, metrics } => {
                let frame = ready!(body.poll_frame(context));
                match &frame {
                    Some(Ok(frame)) => {
                        let bytes = frame.data_ref().map_or(0, Bytes::len);
                        metrics.bytes.add(bytes as u64);
                    }
                    Some(Err(error)) => count(metrics, error),
                    None => {}
                }
                Poll::Ready(frame.map(|frame| frame.map_err(AnswerError::Origin)))
            }
            AnswerProjection::Function { body } => {
                body.poll_frame(context).map_err(AnswerError::Function)
            }
            AnswerProjection::Tunnel { .. } => Poll::Ready(None),
            AnswerProjection::Ahead { body } => Pin::new(body.as_mut()).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Made { bytes } => bytes.as_ref().is_none_or(Bytes::is_empty),
            Self::Origin { body, .. } => body.is_end_stream(),
            Self::Function { body } => body.is_end_stream(),
            Self::Tunnel { .. } => true,
            Self::Ahead { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Made { bytes } => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64)
            }
            Self::Origin { body, .. } => body.size_hint(),
            Self::Function { body } => body.size_hint(),
            Self::Tunnel { .. } => SizeHint::with_exact(0),
            Self::Ahead { body } => body.size_hint(),
        }
    }
}
