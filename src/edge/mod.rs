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
//! A request for a WebSocket, where a behaviour has them, goes past the cache. If the origin agrees, the answer is a 101 whose body is a [`Tunnel`], and the
//! door joins it with the viewer's connection; response hooks do not see it, as there is nothing in it to change.
//!
//! Not here: which distribution has a host, which is the router's; sockets, which are the listener's.

mod ahead;
mod body;
pub mod cache;
mod compress;
mod country;
mod forward;
mod gate;
mod hooks;
mod observed;
pub mod origin;
mod rate;
mod transform;

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    pin::pin,
    sync::{Arc, PoisonError, RwLock, Weak},
    time::Instant,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header, request, uri::Scheme};
use http_body_util::{BodyExt as _, Limited, combinators::UnsyncBoxBody};
use tracing::{Instrument as _, field::Empty};

use self::{
    ahead::{Part, Room},
    cache::{Cache, Counts, Forward as _, Scope, TierCounts},
    forward::Route,
    gate::Stopped,
    hooks::Hooks,
    origin::{
        Origin, OriginConfigError, OriginError, Origins, ServerState, ServerStatistics, is_loop,
    },
};
pub use self::{
    body::{Body, BodyError},
    country::{Countries, CountriesError},
    observed::Observed,
    origin::{Traffic, Tunnel},
};
use crate::{
    boxed,
    invoke::Invoke,
    model::{
        CachePolicy, Country, HostPattern, Outcome, RequestId, distribution,
        hook::{Point, RequestHead},
        hop,
    },
    telemetry::metrics::{DistributionMetrics, Levels, Metrics, OriginMetrics, ServerLevel},
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
    metrics: Arc<Metrics>,
    /// Those that were made, by name: for whoever asks how they do.
    made: RwLock<HashMap<String, Weak<Distribution>>>,
    room: Room,
}

/// A distribution as requests meet it.
pub struct Distribution {
    config: distribution::Distribution,
    /// In the order of the configuration, and the default.
    behaviours: Vec<Behaviour>,
    origins: HashMap<String, Source>,
    metrics: Arc<DistributionMetrics>,
    /// For bodies that are read ahead.
    room: Part,
}

/// An origin, and its numbers in this distribution.
struct Source {
    origin: Arc<Origin>,
    metrics: Arc<OriginMetrics>,
}

impl Distribution {
    /// The hosts whose requests it gets.
    pub fn hosts(&self) -> impl Iterator<Item = &HostPattern> {
        self.config.hosts.iter()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.config.name.as_str()
    }

    /// Its numbers.
    pub fn metrics(&self) -> &DistributionMetrics {
        &self.metrics
    }

    /// Its origins by name, and what they did.
    pub fn origins(&self) -> BTreeMap<&str, origin::Statistics> {
        let origins = self.origins.iter();
        origins
            .map(|(name, source)| (name.as_str(), source.origin.statistics()))
            .collect()
    }

    /// What is counted elsewhere: by the servers of its origins, and by the cache.
    fn levels(&self, cached: &Counts) -> Levels {
        let mut levels = Levels::default();
        for (name, origin) in self.origins() {
            let server = |server: ServerStatistics| ServerLevel {
                origin: name.to_owned(),
                url: server.url,
                is_up: server.state == ServerState::Healthy,
            };
            levels
                .servers
                .extend(origin.servers.into_iter().map(server));
            levels
                .attempts
                .push((name.to_owned(), origin.retries, origin.failovers));
        }
        let tier = |tier: &TierCounts| {
            [
                tier.stored_objects,
                tier.stored_bytes,
                tier.evicted_objects,
                tier.evicted_bytes,
            ]
        };
        levels.tiers = vec![
            ("memory", tier(&cached.memory)),
            ("disk", tier(&cached.disk)),
        ];
        levels
    }

    /// The path of the behaviour at a place; `default` is the one without.
    pub fn path(&self, behaviour: usize) -> &str {
        let behaviour = self.config.behaviours.get(behaviour);
        let path = behaviour.and_then(|behaviour| behaviour.path.as_ref());
        path.map_or("default", |path| path.as_str())
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
    /// Whether it asks for a WebSocket, and its connection can become one. Such a request is a GET without content.
    pub websocket: bool,
    /// Where it is told what becomes of the request, if somebody wants to know.
    pub observed: Option<Arc<Observed>>,
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
            websocket: false,
            observed: None,
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
    /// The client holds all the room that it may for bodies that hooks are given.
    Spent,
    /// A hook asked for an origin that the distribution does not have.
    NoOrigin(String),
    /// The origin gave no answer.
    Origin(OriginError),
    /// The behaviour's time was up, and what was asked is to blame in this way.
    Timeout(Outcome),
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
            Self::Spent => Outcome::Overloaded,
            Self::NoOrigin(_) => Outcome::BadResponse,
            Self::Origin(error) => error.outcome(),
            Self::Timeout(outcome) => *outcome,
        }
    }

    /// The status, which may say more than the outcome's.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Loop => StatusCode::LOOP_DETECTED,
            Self::Origin(error) => error.status(),
            // However it failed, also by being slow; that there was no room for it is not its fault.
            Self::Hook(_) if self.outcome() != Outcome::Overloaded => StatusCode::BAD_GATEWAY,
            Self::Outcome(_)
            | Self::Hook(_)
            | Self::Spent
            | Self::NoOrigin(_)
            | Self::Timeout(_) => self.outcome().status(),
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
        metrics: Arc<Metrics>,
    ) -> Result<Arc<Self>, OriginConfigError> {
        Ok(Arc::new(Self {
            invoke,
            cache,
            origins: Origins::new(node)?,
            node: node.to_owned(),
            countries,
            metrics,
            made: RwLock::default(),
            room: Room::new(),
        }))
    }

    /// The cache of all distributions.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// What of a distribution does not work on this node as it is meant, if anything, in a sentence.
    pub fn warning(&self, config: &distribution::Distribution) -> Option<String> {
        let mut behaviours = config.behaviours.iter().chain([&config.default]);
        let asks = |behaviour: &distribution::Behaviour| {
            behaviour.access.countries != distribution::Countries::All
        };
        if self.countries.is_some() || !behaviours.any(asks) {
            return None;
        }
        Some(format!(
            "distribution `{}` lets viewers in by country, and this node knows none (--countries): a list lets nobody in, and \
             one of exceptions everybody",
            config.name
        ))
    }

    /// The distribution of that name that was made last, if it is served.
    pub fn find(&self, name: &str) -> Option<Arc<Distribution>> {
        let made = self.made.read().unwrap_or_else(PoisonError::into_inner);
        made.get(name)?.upgrade()
    }

    /// Forgets the numbers of a distribution that is gone.
    pub fn forget(&self, distribution: &str) {
        let made = self.made.write();
        made.unwrap_or_else(PoisonError::into_inner)
            .remove(distribution);
        self.metrics.remove_distribution(distribution);
        self.cache.forget(distribution);
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
            .collect::<Result<HashMap<_, _>, _>>()?;
        let metrics = self.metrics.distribution(config.name.as_str());
        let mut numbers = metrics.origins(origins.keys().map(String::as_str));
        let origins = origins
            .into_iter()
            .map(|(name, origin)| {
                let metrics = numbers.remove(&name).unwrap_or_default();
                (name, Source { origin, metrics })
            })
            .collect();
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
        let distribution = Arc::new(Distribution {
            config,
            behaviours,
            origins,
            metrics,
            room: Part::new(),
        });
        let (read, cache) = (Arc::downgrade(&distribution), self.cache.clone());
        distribution.metrics.read_with(Box::new(move || {
            let distribution = read.upgrade()?;
            Some(distribution.levels(&cache.counts(distribution.name())))
        }));
        let made = self.made.write();
        made.unwrap_or_else(PoisonError::into_inner).insert(
            distribution.name().to_owned(),
            Arc::downgrade(&distribution),
        );
        Ok(distribution)
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
        arrival: Arrival,
    ) -> Result<Response<Body>, Refused>
    where
        B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let answered = self.answer(distribution, request, arrival).await;
        let metrics = &distribution.metrics;
        match &answered {
            Ok(response) => metrics.answered(response.status(), response.body().cache()),
            Err(Refused { failure, .. }) => {
                metrics.answered(failure.status(), None);
                metrics.failed(failure.outcome());
            }
        }
        answered
    }

    async fn answer<B>(
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
        if let Some(observed) = &arrival.observed {
            observed.got_behaviour(index);
        }
        // As the viewer came: a proxy before this node may have ended TLS.
        let secure = head.uri.scheme() == Some(&Scheme::HTTPS);
        let page = head.headers.get(header::ORIGIN).cloned();
        let polish = |headers: &mut HeaderMap| {
            let policy = &behaviour.config.response_headers;
            policy.apply(headers, secure);
            if let Some(cors) = &policy.cors {
                // Two values of `Access-Control-Allow-Origin` are none to a browser: what the origin says does not count.
                hop::remove_named(headers, |name| name.starts_with("access-control-"));
                cors.share(page.as_ref(), headers);
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
            let mut response = Response::new(Body::made(Bytes::new(), &distribution.metrics));
            *response.status_mut() = status;
            *response.headers_mut() = headers;
            return Ok(response);
        }
        if is_loop(&head.headers, &self.node) {
            return Err(refused(Failure::Loop.into(), HeaderMap::new()));
        }
        gate::unmask(behaviour, &mut head);
        arrival.websocket &= behaviour.config.websockets;
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
            arrival,
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
    arrival: Arrival,
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
        let metrics = &self.distribution.metrics;
        let hooks = Hooks {
            invoke: &self.edge.invoke,
            arrival: &self.arrival,
            metrics,
        };
        let mut made_body = None;
        let at = &config.hooks.viewer_request;
        let asked_for = (!at.is_empty()).then(|| head.uri.clone());
        let (decided, made) = match at.is_empty() {
            true => Default::default(),
            // In a box, as those after the cache: most requests need no room for it.
            false => {
                boxed::pin(|| hooks.request(at, Point::ViewerRequest, head, &mut made_body)).await?
            }
        };
        if let Some(response) = made {
            let response = response.map(|bytes| Body::made(bytes, metrics));
            return Ok(self.respond(&hooks, head, response).await?);
        }
        self.prefer(&mut head.headers);
        // It may end in a task of its own, where its line is not told what it is part of.
        let id = self.arrival.request_id;
        let span = tracing::debug_span!("cache", request_id = %id, result = Empty);
        let route = || Route {
            edge: Arc::clone(self.edge),
            distribution: Arc::clone(self.distribution),
            behaviour: self.index,
            origin: decided.origin.as_deref().map(Arc::from),
            arrival: Arc::new(self.arrival.clone()),
            span: span.clone(),
        };
        if self.arrival.websocket {
            let request = Request::from_parts(head.clone(), None);
            let response = Box::pin(route().send(request)).await?;
            let mut response = response.map(|body| Body::forwarded(body, metrics));
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                return Ok(response);
            }
            cache::strip_for_client(response.headers_mut(), self.behaviour.cache.expose_tags);
            return Ok(self.respond(&hooks, head, response).await?);
        }
        // A hook may rewrite a request to what is another behaviour's, with other rules and another origin.
        let path = config.path.as_ref().map_or("", |path| path.as_str());
        let source = match &decided.origin {
            Some(origin) => Cow::from(format!("{path}\n{origin}")),
            None => Cow::from(path),
        };
        let scope = Scope {
            distribution: self.distribution.config.name.as_str(),
            source: &source,
            policy: &self.behaviour.cache,
            key: decided.cache_key.as_deref(),
            asked: asked_for.as_ref().filter(|asked| **asked != head.uri),
        };
        let asked = asked(head, config.hooks.viewer_response.is_empty());
        let limit = config.request_body.as_usize();
        let body = match made_body {
            Some(made) => forward::whole(made),
            None if body.is_end_stream() => forward::empty(),
            None => Limited::new(body.map_err(Into::into), limit).boxed_unsync(),
        };
        let request = Request::from_parts(std::mem::replace(head, asked), body);
        // Pinned here: in the span's future it would be copied there.
        let served = pin!(self.edge.cache.serve(scope, request, route));
        let response = served.instrument(span.clone()).await?;
        if let Some(handled) = response.body().handled() {
            span.record("result", handled.result.code());
            if let Some(observed) = &self.arrival.observed {
                observed.was_handled(handled);
            }
        }
        let response = response.map(|body| Body::cached(body, metrics));
        Ok(self.respond(&hooks, head, response).await?)
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
        let (mut head, mut body) = response.into_parts();
        let request = RequestHead::from(request);
        let mut made = None;
        let point = Point::ViewerResponse;
        boxed::pin(|| hooks.response(at, point, request, &mut head, &mut made)).await?;
        if let Some(made) = made {
            body.replace(made);
        }
        Ok(Response::from_parts(head, body))
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
