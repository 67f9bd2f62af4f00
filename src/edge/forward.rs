//! Behind the cache: from a miss to what is stored.
//!
//! A [`Route`] is what the cache asks when it has no answer: the hooks around the origin, the origin or function, and
//! compression. It may be asked after its request is over, to revalidate what is stored: that is recorded under the id of the
//! request that found it stale.

use std::{
    error::Error,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use http::{
    Request, Response, request,
    uri::{Authority, Scheme},
};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt as _, Empty, LengthLimitError};
use pin_project_lite::pin_project;
use tracing::{Instrument as _, Span};

use super::{
    Arrival, Behaviour, Distribution, Edge, Failure, RequestBody, Source, cache,
    compress::{self, CompressError, Compressed},
    hooks::Hooks,
    origin::{OriginBody, OriginError, Viewer},
};
use crate::{
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
    /// The origin that a viewer-request hook chose.
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

    async fn send(
        &self,
        request: Request<Option<RequestBody>>,
    ) -> Result<Response<Forwarded>, Failure> {
        let behaviour = &self.distribution.behaviours[self.behaviour];
        // In a box: a request that the cache answers needs no room for it.
        let answered = Box::pin(
            self.answer(behaviour, request)
                .instrument(self.span.clone()),
        );
        match tokio::time::timeout(behaviour.config.timeout, answered).await {
            Ok(answered) => answered,
            Err(_elapsed) => Err(Failure::Timeout(match behaviour.config.target {
                Target::Function(_) if self.origin.is_none() => Outcome::Timeout,
                Target::Function(_) | Target::Origin(_) => Outcome::OriginTimeout,
            })),
        }
    }
}

impl Route {
    async fn answer(
        &self,
        behaviour: &Behaviour,
        request: Request<Option<RequestBody>>,
    ) -> Result<Response<Forwarded>, Failure> {
        let (mut head, body) = request.into_parts();
        let hooks = Hooks {
            invoke: &self.edge.invoke,
            arrival: &self.arrival,
            metrics: &self.distribution.metrics,
        };
        let config = &behaviour.config;
        let (decided, made) = hooks
            .request(
                &config.hooks.origin_request,
                Point::OriginRequest,
                &mut head,
            )
            .await?;
        let at = &config.hooks.origin_response;
        // A response hook is shown what the origin was asked.
        let asked = (!at.is_empty()).then(|| head.clone());
        let method = head.method.clone();
        let coding = compress::negotiate(&config.compress, &head.headers);
        let response = match made {
            Some(response) => response.map(|body| Answer::Made { bytes: Some(body) }),
            None => {
                let chosen = decided.origin.as_deref().or(self.origin.as_deref());
                self.ask(&config.target, chosen, head, body).await?
            }
        };
        let response = match asked {
            None => response,
            Some(asked) => {
                let (mut head, body) = response.into_parts();
                let request = RequestHead::from(&asked);
                let made = hooks
                    .response(at, Point::OriginResponse, request, &mut head)
                    .await?;
                let body = match made {
                    Some(made) => Answer::Made { bytes: Some(made) },
                    None => body,
                };
                Response::from_parts(head, body)
            }
        };
        Ok(compress::compress(
            &config.compress,
            coding,
            &method,
            response,
        ))
    }

    /// Asks an origin or a function.
    async fn ask(
        &self,
        target: &Target,
        chosen: Option<&str>,
        head: request::Parts,
        body: Option<RequestBody>,
    ) -> Result<Response<Answer>, Failure> {
        let origin = match (chosen, target) {
            (Some(chosen), _) => Some(chosen),
            (None, Target::Origin(name)) => Some(name.as_str()),
            (None, Target::Function(_)) => None,
        };
        let body = body.unwrap_or_else(empty);
        let request = Request::from_parts(head, body);
        match (origin, target) {
            (Some(name), _) => {
                let source = self
                    .distribution
                    .origins
                    .get(name)
                    .ok_or_else(|| Failure::NoOrigin(name.to_owned()))?;
                self.ask_origin(source, request).await
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
                    started: Instant::now(),
                    source_ip: self.arrival.client,
                    path_parameters: &[],
                    url: None,
                };
                let answered = self.edge.invoke.http(&function, request, arrival).await;
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
    ) -> Result<Response<Answer>, Failure> {
        trace::start(request.headers_mut(), self.arrival.request_id);
        let uri = request.uri();
        let viewer = Viewer {
            address: self.arrival.client,
            scheme: uri.scheme().cloned().unwrap_or(Scheme::HTTP),
            authority: uri
                .authority()
                .cloned()
                .unwrap_or_else(|| Authority::from_static("localhost")),
        };
        let observed = self.arrival.observed.as_deref();
        if let Some(observed) = observed {
            observed.asks_origin(&source.origin);
        }
        let started = Instant::now();
        let span = tracing::debug_span!("origin", name = source.origin.name());
        let answered = source.origin.send(request, &viewer).instrument(span).await;
        if let Some(observed) = observed {
            observed.origin_answered();
        }
        match answered {
            Ok(response) => {
                source.metrics.first_byte.observe(started.elapsed());
                let metrics = Arc::clone(&source.metrics);
                Ok(response.map(|body| Answer::Origin { body, metrics }))
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

/// Whether the request's body is longer than the behaviour allows.
fn is_too_long(error: &OriginError) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
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
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Made { bytes } => bytes.as_ref().is_none_or(Bytes::is_empty),
            Self::Origin { body, .. } => body.is_end_stream(),
            Self::Function { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Made { bytes } => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64)
            }
            Self::Origin { body, .. } => body.size_hint(),
            Self::Function { body } => body.size_hint(),
        }
    }
}
