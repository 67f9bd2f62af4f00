//! Behind the cache: from a miss to what is stored.
//!
//! A [`Route`] is what the cache asks when it has no answer: the hooks around the origin, the origin or function, and
//! compression. It may be asked after its request is over, to revalidate what is stored: that is recorded under the id of the
//! request that found it stale.

use std::{
    error::Error,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use http::{
    Request, Response, StatusCode, request,
    uri::{Authority, Scheme},
};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt as _, Empty, LengthLimitError};
use pin_project_lite::pin_project;

use super::{
    Arrival, Behaviour, Distribution, Edge, Failure, RequestBody, cache,
    compress::{self, Compressed},
    hooks::Hooks,
    origin::{Origin, OriginBody, OriginError, Tunnel, Upgrade, Viewer},
};
use crate::{
    invoke::{self, ResponseBody},
    model::{
        Outcome,
        distribution::Target,
        hook::{Point, RequestHead},
    },
    runtime::IncompleteBody,
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
        let answered = Box::pin(self.answer(behaviour, request));
        match tokio::time::timeout(behaviour.config.timeout, answered).await {
            Ok(answered) => answered,
            Err(_elapsed) => Err(Failure::Timeout),
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
            Some(asked) if response.status() != StatusCode::SWITCHING_PROTOCOLS => {
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
            Some(_) | None => response,
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
                let origin = self
                    .distribution
                    .origins
                    .get(name)
                    .ok_or_else(|| Failure::NoOrigin(name.to_owned()))?;
                self.ask_origin(origin, request).await
            }
            (None, Target::Function(name)) => {
                let function = self.edge.invoke.find(name.as_str());
                let function = function.ok_or(Failure::Outcome(Outcome::NoRoute))?;
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
        origin: &Origin,
        request: Request<RequestBody>,
    ) -> Result<Response<Answer>, Failure> {
        let uri = request.uri();
        let viewer = Viewer {
            address: self.arrival.client,
            scheme: uri.scheme().cloned().unwrap_or(Scheme::HTTP),
            authority: uri
                .authority()
                .cloned()
                .unwrap_or_else(|| Authority::from_static("localhost")),
        };
        let answered = if self.arrival.websocket {
            let (head, _) = request.into_parts();
            origin
                .upgrade(Request::from_parts(head, ()), &viewer)
                .await
                .map(|upgrade| match upgrade {
                    Upgrade::Switched(response, tunnel) => response.map(|()| Answer::Tunnel {
                        tunnel: Box::new(tunnel),
                    }),
                    Upgrade::Declined(response) => response.map(|body| Answer::Origin { body }),
                })
        } else {
            let answered = origin.send(request, &viewer).await;
            answered.map(|response| response.map(|body| Answer::Origin { body }))
        };
        match answered {
            Ok(response) => Ok(response),
            Err(error) if is_too_long(&error) => Err(Failure::TooLarge),
            Err(error) => {
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
        Origin { #[pin] body: OriginBody },
        /// A function writes it.
        Function { #[pin] body: ResponseBody },
        /// There is none: the connection becomes a WebSocket.
        Tunnel { tunnel: Box<Tunnel> },
    }
}

impl Answer {
    /// The origin's end of a WebSocket.
    pub(super) fn into_tunnel(self) -> Option<Tunnel> {
        match self {
            Self::Tunnel { tunnel } => Some(*tunnel),
            Self::Made { .. } | Self::Origin { .. } | Self::Function { .. } => None,
        }
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
            AnswerProjection::Origin { body } => {
                body.poll_frame(context).map_err(AnswerError::Origin)
            }
            AnswerProjection::Function { body } => {
                body.poll_frame(context).map_err(AnswerError::Function)
            }
            AnswerProjection::Tunnel { .. } => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Made { bytes } => bytes.as_ref().is_none_or(Bytes::is_empty),
            Self::Origin { body } => body.is_end_stream(),
            Self::Function { body } => body.is_end_stream(),
            Self::Tunnel { .. } => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Made { bytes } => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64)
            }
            Self::Origin { body } => body.size_hint(),
            Self::Function { body } => body.size_hint(),
            Self::Tunnel { .. } => SizeHint::with_exact(0),
        }
    }
}
