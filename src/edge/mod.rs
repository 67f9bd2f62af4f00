//! A distribution's way: this node as an edge of a content delivery network.
//!
//! ```text
//! behaviour → gate → viewer-request hooks → cache ─(miss)→ origin-request hooks → middleware → origin or function
//!                                             │                                       │
//!              viewer-response hooks ← answer ┴── stored ← compression ← origin-response hooks
//! ```
//!
//! [`Edge::serve`] is the way of one request, `forward` what lies behind the cache. A [`Distribution`] is an immutable
//! snapshot: a request keeps the one it started with.
//!
//! What is always true here:
//! * what is decided about who may ask (`gate`) is decided before anything is looked up or run;
//! * the behaviour is chosen by the path that the viewer asked for; a hook that rewrites it changes the cache key and what the
//!   origin is asked, and not the rules;
//! * everything that runs a hook or a function goes through [`Invoke`].
//!
//! Not here: which distribution has a host, which is the router's; sockets, which are the listener's.

mod ahead;
pub mod cache;
mod compress;
mod country;
mod forward;
mod gate;
mod hooks;
pub mod origin;
mod rate;
mod transform;

use std::{
    borrow::Cow,
    collections::HashMap,
    fmt,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header, request};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt as _, Limited, combinators::UnsyncBoxBody};

pub use self::country::{Countries, CountriesError};
use self::{
    ahead::Room,
    cache::{Cache, Scope},
    forward::{Forwarded, Route},
    gate::Stopped,
    hooks::Hooks,
    origin::{Origin, OriginConfigError, OriginError, Origins, is_loop},
};
use crate::{
    invoke::Invoke,
    model::{
        CachePolicy, Country, HostPattern, Outcome, RequestId, distribution,
        hook::{Point, RequestHead},
        hop,
    },
};

/// An error of any kind.
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a request on its way to an origin or a function.
type RequestBody = UnsyncBoxBody<Bytes, BoxError>;

/// Serves distributions. One a node.
pub struct Edge {
    invoke: Arc<Invoke>,
    cache: Cache,
    origins: Origins,
    /// This node's name in `CDN-Loop`.
    node: String,
    countries: Option<Countries>,
    room: Room,
}

/// A distribution as requests meet it.
pub struct Distribution {
    config: distribution::Distribution,
    /// In the order of the configuration, and the default.
    behaviours: Vec<Behaviour>,
    origins: HashMap<String, Arc<Origin>>,
}

impl Distribution {
    /// The hosts whose requests it gets.
    pub fn hosts(&self) -> impl Iterator<Item = &HostPattern> {
        self.config.hosts.iter()
    }
}

/// A behaviour, and what is kept of it between requests.
struct Behaviour {
    config: distribution::Behaviour,
    cache: Arc<CachePolicy>,
    clients: Option<rate::Clients>,
}

/// Why a distribution cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("origin `{origin}`")]
pub struct DistributionError {
    origin: String,
    #[source]
    error: OriginConfigError,
}

/// What the door knows of a request beside the request.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// The request's id.
    pub request_id: RequestId,
    /// When it came.
    pub started: Instant,
    /// Who sent it.
    pub client: IpAddr,
    /// The TLS version, such as `TLSv1.3`; none on clear text.
    pub tls_version: Option<&'static str>,
    /// The country of the client, once it was looked up.
    country: Option<Country>,
}

impl Arrival {
    /// A request that came now.
    pub fn new(
        request_id: RequestId,
        started: Instant,
        client: IpAddr,
        tls_version: Option<&'static str>,
    ) -> Self {
        Self {
            request_id,
            started,
            client: client.to_canonical(),
            tls_version,
            country: None,
        }
    }
}

/// Why a request has no answer but the node's own.
#[derive(Debug)]
pub enum Failure {
    /// It was refused, or failed in the node or in a function, in this way.
    Outcome(Outcome),
    /// The behaviour does not take the method.
    Method,
    /// The body is larger than the behaviour takes.
    TooLarge,
    /// It has come through this node before (RFC 8586).
    Loop,
    /// A hook failed that must not.
    Hook(Outcome),
    /// A hook asked for an origin that the distribution does not have.
    NoOrigin(String),
    /// The origin gave no answer.
    Origin(OriginError),
    /// The behaviour's time was up.
    Timeout,
}

impl Failure {
    /// How the request ended.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Outcome(outcome) => *outcome,
            Self::Method => Outcome::NoRoute,
            Self::TooLarge | Self::Loop => Outcome::BadRequest,
            // Whatever it was: the client learns that a function on its way failed.
            Self::Hook(Outcome::Throttled | Outcome::Overloaded) => Outcome::Overloaded,
            Self::Hook(outcome) if outcome.status().is_server_error() => *outcome,
            Self::Hook(_) => Outcome::Trap,
            Self::NoOrigin(_) => Outcome::BadResponse,
            Self::Origin(error) => error.outcome(),
            Self::Timeout => Outcome::OriginTimeout,
        }
    }

    /// The status, which may say more than the outcome's.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Loop => StatusCode::LOOP_DETECTED,
            Self::Origin(error) => error.status(),
            Self::Outcome(_) | Self::Hook(_) | Self::NoOrigin(_) | Self::Timeout => {
                self.outcome().status()
            }
        }
    }
}

impl From<OriginError> for Failure {
    fn from(error: OriginError) -> Self {
        Self::Origin(error)
    }
}

/// A failure, and what the node's answer has of the behaviour's header fields.
#[derive(Debug)]
pub struct Refused {
    /// What happened.
    pub failure: Arc<Failure>,
    /// Fields for the answer.
    pub headers: HeaderMap,
}

impl Edge {
    /// An edge without distributions. `node` names this node in `Via` and `CDN-Loop`.
    ///
    /// # Errors
    ///
    /// The name is neither a token nor a host.
    pub fn new(
        invoke: Arc<Invoke>,
        cache: Cache,
        node: &str,
        countries: Option<Countries>,
    ) -> Result<Arc<Self>, OriginConfigError> {
        Ok(Arc::new(Self {
            invoke,
            cache,
            origins: Origins::new(node)?,
            node: node.to_owned(),
            countries,
            room: Room::new(),
        }))
    }

    /// The cache of all distributions.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// A distribution, ready to be served. Connections and health of origins that another one had are kept.
    ///
    /// # Errors
    ///
    /// An origin cannot be asked as it is configured.
    pub fn distribution(
        &self,
        config: distribution::Distribution,
    ) -> Result<Arc<Distribution>, DistributionError> {
        let origins = config
            .origins
            .iter()
            .map(|(name, origin)| {
                let built = Origin::new(name, origin, &self.origins);
                let built = built.map_err(|error| DistributionError {
                    origin: name.clone(),
                    error,
                })?;
                Ok((name.clone(), Arc::new(built)))
            })
            .collect::<Result<_, _>>()?;
        let behaviours = config
            .behaviours
            .iter()
            .chain([&config.default])
            .map(|behaviour| Behaviour {
                config: behaviour.clone(),
                cache: Arc::new(behaviour.cache.clone()),
                clients: behaviour.rate_limit.and_then(rate::Clients::new),
            })
            .collect();
        Ok(Arc::new(Distribution {
            config,
            behaviours,
            origins,
        }))
    }

    /// Answers a request to a distribution. Its target is absolute and its fields are this node's to trust (see the listener).
    ///
    /// # Errors
    ///
    /// The node has to answer itself.
    pub async fn serve<B>(
        self: &Arc<Self>,
        distribution: &Arc<Distribution>,
        request: Request<B>,
        mut arrival: Arrival,
    ) -> Result<Response<Body>, Refused>
    where
        B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let (mut head, body) = request.into_parts();
        let (index, _) = distribution.config.behaviour(head.uri.path());
        let behaviour = &distribution.behaviours[index];
        let secure = arrival.tls_version.is_some();
        let page = head.headers.get(header::ORIGIN).cloned();
        let polish = |headers: &mut HeaderMap| {
            let policy = &behaviour.config.response_headers;
            policy.apply(headers, secure);
            if let Some(cors) = &policy.cors {
                // Two values of `Access-Control-Allow-Origin` are none to a browser: what the origin says does not count.
                hop::remove_named(headers, |name| name.starts_with("access-control-"));
                if let Some(page) = &page {
                    cors.share(page, headers);
                }
            }
        };
        let refused = |failure: Arc<Failure>, mut headers| {
            polish(&mut headers);
            Refused { failure, headers }
        };
        let countries = self.countries.as_ref();
        if let Err(stopped) = gate::pass(behaviour, &head, arrival.client, countries) {
            let (status, mut headers) = match *stopped {
                Stopped::Refused(failure, headers) => {
                    return Err(refused(failure.into(), headers));
                }
                Stopped::Answered(status, headers) => (status, headers),
            };
            behaviour
                .config
                .response_headers
                .apply(&mut headers, secure);
            let mut response = Response::new(Body::made(Bytes::new()));
            *response.status_mut() = status;
            *response.headers_mut() = headers;
            return Ok(response);
        }
        if is_loop(&head.headers, &self.node) {
            return Err(refused(Failure::Loop.into(), HeaderMap::new()));
        }
        if behaviour.config.hooks != distribution::Hooks::default()
            && let Some(countries) = &self.countries
        {
            arrival.country = countries.find(arrival.client);
        }
        let passage = Passage {
            edge: self,
            distribution,
            index,
            behaviour,
            arrival: Arc::new(arrival),
        };
        match passage.answer(&mut head, body).await {
            Ok(mut response) => {
                polish(response.headers_mut());
                Ok(response)
            }
            Err(failure) => Err(refused(failure, HeaderMap::new())),
        }
    }
}

/// One request on its way through a behaviour.
struct Passage<'a> {
    edge: &'a Arc<Edge>,
    distribution: &'a Arc<Distribution>,
    index: usize,
    behaviour: &'a Behaviour,
    arrival: Arc<Arrival>,
}

impl Passage<'_> {
    /// From the viewer-request hooks to the viewer-response hooks.
    async fn answer<B>(
        &self,
        head: &mut request::Parts,
        body: B,
    ) -> Result<Response<Body>, Arc<Failure>>
    where
        B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let config = &self.behaviour.config;
        let hooks = Hooks {
            invoke: &self.edge.invoke,
            arrival: &self.arrival,
        };
        let mut made_body = None;
        let at = &config.hooks.viewer_request;
        let (decided, made) = hooks
            .request(at, Point::ViewerRequest, head, &mut made_body)
            .await?;
        if let Some(response) = made {
            let response = response.map(Body::made);
            return Ok(self.respond(&hooks, head, response).await?);
        }
        self.prefer(&mut head.headers);
        let route = Route {
            edge: Arc::clone(self.edge),
            distribution: Arc::clone(self.distribution),
            behaviour: self.index,
            origin: decided.origin.map(Arc::from),
            arrival: Arc::clone(&self.arrival),
        };
        // A hook may rewrite a request to what is another behaviour's, with other rules and another origin.
        let path = config.path.as_ref().map_or("", |path| path.as_str());
        let source = match &route.origin {
            Some(origin) => Cow::from(format!("{path}\n{origin}")),
            None => Cow::from(path),
        };
        let scope = Scope {
            distribution: self.distribution.config.name.as_str(),
            source: &source,
            policy: &self.behaviour.cache,
            key: decided.cache_key.as_deref(),
        };
        let asked = asked(head, config.hooks.viewer_response.is_empty());
        let limit = config.request_body.as_usize();
        let body = match made_body {
            Some(made) => forward::whole(made),
            None if body.is_end_stream() => forward::empty(),
            None => Limited::new(body.map_err(Into::into), limit).boxed_unsync(),
        };
        let request = Request::from_parts(std::mem::replace(head, asked), body);
        let response = self.edge.cache.serve(scope, request, route).await?;
        Ok(self
            .respond(&hooks, head, response.map(Body::cached))
            .await?)
    }

    /// Says to cache and origin which coding the viewer gets, so that there is one stored answer for each coding and not for each
    /// way to write what a viewer takes. Where nothing is compressed here, the origin decides.
    fn prefer(&self, headers: &mut HeaderMap) {
        let compression = &self.behaviour.config.compress;
        if compression.codings.is_empty() {
            return;
        }
        match compress::negotiate(compression, headers) {
            Some(coding) => {
                let coding = HeaderValue::from_static(coding.as_str());
                headers.insert(header::ACCEPT_ENCODING, coding);
            }
            None => {
                headers.remove(header::ACCEPT_ENCODING);
            }
        }
    }

    /// Runs the viewer-response hooks.
    async fn respond(
        &self,
        hooks: &Hooks<'_>,
        request: &request::Parts,
        response: Response<Body>,
    ) -> Result<Response<Body>, Failure> {
        let at = &self.behaviour.config.hooks.viewer_response;
        if at.is_empty() {
            return Ok(response);
        }
        let (mut head, body) = response.into_parts();
        let request = RequestHead::from(request);
        let mut made = None;
        hooks
            .response(at, Point::ViewerResponse, request, &mut head, &mut made)
            .await?;
        Ok(Response::from_parts(head, made.map_or(body, Body::made)))
    }
}

/// The head that response hooks are shown of the request; nothing of it where there are none.
fn asked(head: &request::Parts, nobody_looks: bool) -> request::Parts {
    if nobody_looks {
        let (parts, ()) = Request::new(()).into_parts();
        return parts;
    }
    head.clone()
}

/// The body of a distribution's answer.
pub struct Body(Inner);

impl fmt::Debug for Body {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self.0 {
            Inner::Made(_) => "Made",
            Inner::Cached(_) => "Cached",
        })
    }
}

enum Inner {
    /// Of a hook, or of the gate.
    Made(Option<Bytes>),
    /// Of the cache, or through it. In a box: the answer to a request is moved around a lot.
    Cached(Box<cache::Body<Forwarded>>),
}

/// Why a body breaks off.
#[derive(Debug, thiserror::Error)]
#[error("send the answer")]
pub struct BodyError(#[source] BoxError);

impl Body {
    fn made(bytes: Bytes) -> Self {
        Self(Inner::Made(Some(bytes)))
    }

    fn cached(body: cache::Body<Forwarded>) -> Self {
        Self(Inner::Cached(Box::new(body)))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            Inner::Made(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Inner::Cached(body) => Pin::new(body)
                .poll_frame(context)
                .map_err(|error| BodyError(error.into())),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Made(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Inner::Cached(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Made(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Inner::Cached(body) => body.size_hint(),
        }
    }
}
