//! One request: the table of contents of the data plane.
//!
//! [`DataPlane::serve`] is what happens to a request, [`DataPlane::handle`] what every request gets whatever happens: an
//! id, the answer to a failure, one line in the node's log. The routes are an immutable snapshot that the node swaps; a
//! request keeps the function it was routed to.

use std::{
    error::Error,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use tracing::Instrument as _;

use super::{
    Authorize, ConnectionInfo, Handler, RequestBody, Switched, UrlDenied, UrlTarget, error,
    sanitize,
    visit::{Visit, Visited},
};
use crate::{
    boxed,
    edge::{self, Distribution, Edge},
    invoke::{Arrival, Function, Invoke, ResponseBody},
    model::{Kind, Outcome, RedirectStatus, RedirectTarget, RequestId, trace},
    router::{Miss, Router},
    telemetry::{access::AccessLog, metrics::NodeMetrics},
    tls::Challenges,
};

/// What serves requests: functions, and the answers that routes give themselves.
pub struct DataPlane {
    routes: ArcSwap<Router<Target>>,
    pub(super) invoke: Arc<Invoke>,
    edge: Arc<Edge>,
    metrics: Arc<NodeMetrics>,
    challenges: Arc<Challenges>,
    access_log: Option<Arc<AccessLog>>,
    pub(super) authorize: Arc<dyn Authorize>,
}

/// What a route leads to.
#[derive(Clone)]
pub enum Target {
    /// A function.
    Function(Arc<Function>),
    /// A function URL that has a configuration.
    Url(Arc<UrlTarget>),
    /// A distribution.
    Distribution(Arc<Distribution>),
    /// A response that is always the same.
    Respond {
        /// Its status.
        status: StatusCode,
        /// Its header fields.
        headers: HeaderMap,
        /// Its body.
        body: Bytes,
    },
    /// Another place.
    Redirect {
        /// Where to.
        to: RedirectTarget,
        /// How.
        status: RedirectStatus,
    },
}

/// Why a request was not answered by what it asked for.
pub(super) enum Failure {
    /// It was refused at the door.
    Refused(sanitize::Refusal),
    /// No route takes it with this method.
    Method(Vec<Method>),
    /// A function URL is not for who asks.
    Denied(UrlDenied),
    /// A distribution has no answer for it.
    Distribution(edge::Refused),
    /// Anything else.
    Outcome(Outcome),
}

impl From<sanitize::Refusal> for Failure {
    fn from(refusal: sanitize::Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<UrlDenied> for Failure {
    fn from(denied: UrlDenied) -> Self {
        Self::Denied(denied)
    }
}

impl From<edge::Refused> for Failure {
    fn from(refused: edge::Refused) -> Self {
        Self::Distribution(refused)
    }
}

impl From<Outcome> for Failure {
    fn from(outcome: Outcome) -> Self {
        Self::Outcome(outcome)
    }
}

impl From<Miss> for Failure {
    fn from(miss: Miss) -> Self {
        match miss {
            Miss::Route => Self::Outcome(Outcome::NoRoute),
            Miss::Method(allowed) => Self::Method(allowed),
            Miss::DotSegment => Self::Outcome(Outcome::BadRequest),
        }
    }
}

impl Failure {
    /// How the request ended.
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Refused(refusal) => refusal.outcome(),
            Self::Method(_) => Outcome::NoRoute,
            Self::Denied(denied) => denied.outcome(),
            Self::Distribution(refused) => refused.failure.outcome(),
            Self::Outcome(outcome) => *outcome,
        }
    }
}

impl DataPlane {
    /// Serves what `invoke` runs, function URLs to whom `authorize` lets in, and `challenges` to who asks for one. Until
    /// [`route`](Self::route) is called nothing has a route. Requests are told to `access_log`, if there is one.
    pub fn new(
        routes: Router<Target>,
        invoke: Arc<Invoke>,
        edge: Arc<Edge>,
        metrics: Arc<NodeMetrics>,
        challenges: Arc<Challenges>,
        access_log: Option<Arc<AccessLog>>,
        authorize: Arc<dyn Authorize>,
    ) -> Self {
        Self {
            routes: ArcSwap::from_pointee(routes),
            invoke,
            edge,
            metrics,
            challenges,
            access_log,
            authorize,
        }
    }

    /// Makes `routes` the ones in force, for requests from now on.
    pub fn route(&self, routes: Router<Target>) {
        self.routes.store(Arc::new(routes));
    }

    async fn serve(
        &self,
        request: Request<RequestBody>,
        connection: &ConnectionInfo,
        id: RequestId,
        started: Instant,
        visit: &mut Visit,
    ) -> Result<Response<AnswerBody>, Failure> {
        let (mut head, body) = request.into_parts();
        let websocket = sanitize::is_websocket(&head) && body.is_end_stream();
        sanitize::request(&mut head, connection)?;
        if let Some(answer) = self.challenges.to_path(head.uri.path()) {
            let response = respond(StatusCode::OK, HeaderMap::new(), answer.into());
            return Ok(response.map(AnswerBody::Function));
        }
        trace::propagate(&mut head.headers);
        let client = connection.client(&head.headers);
        visit.came_from(client);
        let target = {
            let routes = self.routes.load();
            let authority = head
                .uri
                .authority()
                .map_or("", |authority| authority.as_str());
            let found = routes.find(authority, &head.method, head.uri.path())?;
            match found.target {
                Target::Function(function) => Found::Function(
                    function.clone(),
                    match function.deployment().kind {
                        // Only an event carries them; a component that speaks HTTP reads its path itself.
                        Kind::HttpP2 | Kind::HttpP3 | Kind::Middleware | Kind::Hook(_) => {
                            Vec::new()
                        }
                        Kind::Event | Kind::CommandP2 | Kind::CommandP3 => found
                            .parameters
                            .iter()
                            .map(|(name, value)| (name.to_owned(), value.to_owned()))
                            .collect(),
                    },
                ),
                Target::Url(url) => Found::Url(url.clone()),
                Target::Distribution(distribution) => Found::Distribution(distribution.clone()),
                Target::Respond {
                    status,
                    headers,
                    body,
                } => Found::Response(respond(*status, headers.clone(), body.clone())),
                Target::Redirect { to, status } => {
                    let location = to.location(&found.parameters, head.uri.query());
                    let headers = HeaderMap::from_iter([(header::LOCATION, location)]);
                    Found::Response(respond(status.code(), headers, Bytes::new()))
                }
            }
        };
        match target {
            Found::Function(function, path_parameters) => {
                visit.leads_to(&function);
                let arrival = Arrival {
                    request_id: id,
                    started,
                    source_ip: client,
                    path_parameters: &path_parameters,
                    url: None,
                };
                let request = Request::from_parts(head, body);
                let response = self.invoke.http(&function, request, arrival).await?;
                Ok(response.map(AnswerBody::Function))
            }
            Found::Url(url) => {
                let arrival = Arrival {
                    request_id: id,
                    started,
                    source_ip: client,
                    path_parameters: &[],
                    url: None,
                };
                // In a box: other requests need no room for it.
                let response =
                    boxed::pin(|| self.serve_url(&url, head, body, arrival, visit)).await;
                Ok(response.map(AnswerBody::Function))
            }
            Found::Distribution(distribution) => {
                let tls = connection.tls.as_ref();
                let mut arrival =
                    edge::Arrival::new(id, started, client, tls.map(|tls| tls.version.name()));
                arrival.websocket = websocket;
                arrival.observed = visit.observe(&distribution);
                let request = Request::from_parts(head, body);
                let served = boxed::pin(|| self.edge.serve(&distribution, request, arrival));
                Ok(served.await?.map(AnswerBody::Distribution))
            }
            Found::Response(response) => Ok(response.map(AnswerBody::Function)),
        }
    }

    pub(super) fn fail(&self, failure: Failure, id: RequestId) -> Response<Bytes> {
        match failure {
            Failure::Refused(refusal) => {
                self.metrics.unrouted(refusal.outcome());
                error::refuse(&refusal, id)
            }
            Failure::Method(allowed) => {
                self.metrics.unrouted(Outcome::NoRoute);
                let mut response = error::respond(Outcome::NoRoute, id);
                *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
                let allowed: Vec<&str> = allowed.iter().map(Method::as_str).collect();
                if let Ok(allowed) = HeaderValue::from_str(&allowed.join(", ")) {
                    response.headers_mut().insert(header::ALLOW, allowed);
                }
                response
            }
            Failure::Denied(denied) => {
                self.metrics.unrouted(denied.outcome());
                denied.respond()
            }
            Failure::Distribution(edge::Refused { failure, headers }) => {
                let outcome = failure.outcome();
                let mut response = error::respond_with(failure.status(), outcome, id);
                response.headers_mut().extend(headers);
                response
            }
            Failure::Outcome(outcome) => {
                if matches!(outcome, Outcome::NoRoute | Outcome::BadRequest) {
                    self.metrics.unrouted(outcome);
                }
                error::respond(outcome, id)
            }
        }
    }
}

/// What a request was routed to, without a hold on the routes.
enum Found {
    Function(Arc<Function>, Vec<(String, String)>),
    Url(Arc<UrlTarget>),
    Distribution(Arc<Distribution>),
    Response(Response<ResponseBody>),
}

fn respond(status: StatusCode, headers: HeaderMap, body: Bytes) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::Complete(Some(body)));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

impl Handler for DataPlane {
    type Body = Visited<AnswerBody>;

    async fn handle(
        &self,
        request: Request<RequestBody>,
        connection: &Arc<ConnectionInfo>,
    ) -> Response<Visited<AnswerBody>> {
        let started = Instant::now();
        let id = RequestId::generate();
        let mut visit = Visit::begin(self.access_log.as_ref(), &request, connection, id, started);
        let span = tracing::debug_span!(
            "request",
            request_id = %id,
            method = %request.method(),
            target = %request.uri(),
        );
        let served = self.serve(request, connection, id, started, &mut visit);
        let mut response = match served.instrument(span).await {
            Ok(response) => response,
            Err(failure) => {
                visit.failed(failure.outcome());
                self.fail(failure, id)
                    .map(|body| AnswerBody::Function(ResponseBody::Complete(Some(body))))
            }
        };
        response
            .headers_mut()
            .insert(error::REQUEST_ID, error::id_value(id));
        tracing::debug!(
            request_id = %id,
            status = response.status().as_u16(),
            elapsed_us = started.elapsed().as_micros(),
            "request"
        );
        visit.ride(response)
    }

    fn switch(body: Visited<AnswerBody>) -> Option<Switched> {
        match body.into_parts() {
            (AnswerBody::Distribution(body), visit) => {
                let tunnel = body.into_tunnel()?;
                Some(Switched { tunnel, visit })
            }
            (AnswerBody::Function(_), _) => None,
        }
    }
}

/// The body of an answer.
#[derive(Debug)]
pub enum AnswerBody {
    /// Of a function, or of a route.
    Function(ResponseBody),
    /// Of a distribution.
    Distribution(edge::Body),
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Function(body) => Pin::new(body).poll_frame(context).map_err(Into::into),
            Self::Distribution(body) => Pin::new(body).poll_frame(context).map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Function(body) => body.is_end_stream(),
            Self::Distribution(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Function(body) => body.size_hint(),
            Self::Distribution(body) => body.size_hint(),
        }
    }
}
