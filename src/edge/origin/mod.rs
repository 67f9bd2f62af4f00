//! Origins: the servers that a distribution stands before, and how requests get to them.
//!
//! ```text
//! Origin::send: fields ── choose a server ── acquire a connection ── exchange ── answer, or another attempt
//! ```
//!
//! What is always true here:
//! * a server that is slow, lies or breaks off harms the requests that it is asked, and is asked less;
//! * every wait for a server has a deadline ([`OriginTimeouts`]), everything that it sends has a limit, and its connections are
//!   counted;
//! * a body ends as if complete only if it is;
//! * a request of which something was sent is sent again only if it may be served twice (RFC 9110 §9.2.2) and had no body;
//! * a private address is dialled only for an origin that may have one;
//! * a request costs no task and, on a kept connection, no timer.
//!
//! Not here: following redirects, which are the viewer's; caching; a switch to leave out verification; HTTP/3; WebSocket over
//! HTTP/2 (RFC 8441); `Expect: 100-continue` towards a server.

mod balance;
mod body;
mod check;
mod choose;
mod circuit;
mod config;
mod connect;
mod error;
mod fields;
mod health;
mod lease;
mod message;
mod server;
mod signature;
#[cfg(test)]
mod tests;
mod timer;
mod upgrade;

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, Version, request};
use http_body::Body;
use hyper::body::Incoming;
use rustls::RootCertStore;
use tokio::time::Instant;
use tracing::Instrument as _;

use self::{
    balance::Turns,
    body::RequestBody,
    choose::Tried,
    config::ServerKey,
    error::BoxError,
    lease::Lease,
    message::{Host, Message, Target},
    server::Server,
    signature::Signature,
};
pub use self::{
    body::OriginBody,
    error::{OriginConfigError, OriginError},
    fields::Viewer,
    health::ServerState,
    server::ServerStatistics,
    signature::is_loop,
    upgrade::{Traffic, Tunnel, TunnelError, Upgrade},
};
use crate::{
    dial::{Resolve, SystemResolver},
    model::distribution::OriginTimeouts,
};

/// What all origins of a node have in common; it outlives their configurations.
pub struct Origins {
    roots: Arc<RootCertStore>,
    resolver: Arc<dyn Resolve>,
    signature: Arc<Signature>,
    servers: Mutex<HashMap<ServerKey, Weak<Server>>>,
}

impl Origins {
    /// With the system's resolver. `node` names this node in `Via` and `CDN-Loop`: no other node that requests pass through may
    /// have the same name. It is a token, or a host that may have a port.
    pub fn new(node: &str) -> Result<Self, OriginConfigError> {
        Self::with_resolver(node, Arc::new(SystemResolver::default()))
    }

    /// With another resolver.
    pub fn with_resolver(
        node: &str,
        resolver: Arc<dyn Resolve>,
    ) -> Result<Self, OriginConfigError> {
        let signature = Signature::new(node)
            .ok_or_else(|| OriginConfigError::new("node", "it is neither a token nor a host"))?;
        Ok(Self {
            roots: Arc::new(RootCertStore::from_iter(
                webpki_roots::TLS_SERVER_ROOTS.iter().cloned(),
            )),
            resolver,
            signature: Arc::new(signature),
            servers: Mutex::default(),
        })
    }

    /// The server that is known by this key, or a new one.
    fn server(
        &self,
        key: ServerKey,
        new: impl FnOnce() -> Result<Arc<Server>, OriginConfigError>,
    ) -> Result<Arc<Server>, OriginConfigError> {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = servers.get(&key).and_then(Weak::upgrade) {
            return Ok(server);
        }
        servers.retain(|_, server| server.strong_count() > 0);
        let server = new()?;
        servers.insert(key, Arc::downgrade(&server));
        Ok(server)
    }
}

impl fmt::Debug for Origins {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Origins")
            .field("node", &self.signature.id())
            .finish_non_exhaustive()
    }
}

/// An origin as requests are sent to it.
pub struct Origin {
    name: Arc<str>,
    members: Vec<Member>,
    primaries: Turns,
    backups: Turns,
    has_backups: bool,
    timeouts: OriginTimeouts,
    retries: u32,
    failover: Box<[u16]>,
    headers: Box<[(HeaderName, HeaderValue)]>,
    forward_host: bool,
    signature: Arc<Signature>,
    retried: AtomicU64,
    failed_over: AtomicU64,
}

/// A server, as one origin asks it.
struct Member {
    server: Arc<Server>,
    target: Target,
    backup: bool,
}

/// What an origin did since it was configured, and its servers since they are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statistics {
    /// The servers, in the order of the configuration.
    pub servers: Vec<ServerStatistics>,
    /// Further attempts after failures.
    pub retries: u64,
    /// Requests that went on to a backup server because of a status.
    pub failovers: u64,
}

/// An attempt without an answer.
struct Unanswered {
    error: OriginError,
    /// The message, if nothing of it was sent.
    message: Option<Message>,
    /// Whether the connection may just have been kept for too long.
    stale: bool,
}

impl Origin {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sends a request and gives the answer, whose body ends with an error if it is not complete.
    ///
    /// Of the request's target only path and query count. Its hop-by-hop fields and framing are not sent.
    pub async fn send<B>(
        &self,
        request: Request<B>,
        viewer: &Viewer,
    ) -> Result<Response<OriginBody>, OriginError>
    where
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let (mut head, body) = request.into_parts();
        self.prepare(&mut head, viewer)?;
        let method = head.method.clone();
        let mut message = Message::new(head, RequestBody::new(body))?;
        let repeatable = message.body.is_empty() && fields::is_idempotent(&method);
        let host = self.forwarded_host(viewer);
        let host = host.as_ref();

        let mut attempts = 0_u32;
        let mut left = self.retries;
        let mut tried = Tried::default();
        let mut fresh = false;
        // A primary's answer that a backup may do better than.
        let mut second_best = None;
        let mut index = self.first().ok_or(OriginError::CircuitOpen)?;
        loop {
            let spare = repeatable.then(|| message.spare());
            tried.insert(index);
            let member = &self.members[index];
            attempts += 1;
            let span =
                tracing::debug_span!("attempt", server = member.server.url(), number = attempts);
            // What is left of the time for a second server is no measure of it: where that runs out, nobody is to blame.
            let is_first = left == self.retries && second_best.is_none();
            let until = viewer.until.filter(|_| is_first);
            let attempt = self.attempt(member, message, host, fresh, until);
            let attempt = attempt.instrument(span);
            let unanswered = match attempt.await {
                Ok(answer) => match (spare, self.backup_for(&answer, &method, index, tried)) {
                    (Some(spare), Some(backup)) => {
                        self.failed_over.fetch_add(1, Relaxed);
                        second_best = Some(answer);
                        (message, index, fresh) = (spare, backup, false);
                        continue;
                    }
                    (_, _) => return Ok(answer),
                },
                Err(unanswered) => unanswered,
            };
            let nothing_sent = unanswered.message.is_some();
            let Some(again) = unanswered.message.or(spare) else {
                return second_best.ok_or(unanswered.error);
            };
            message = again;
            // RFC 9112 §9.3.1: a kept connection may be closed at any time, which says nothing of the server.
            if unanswered.stale && !fresh {
                fresh = true;
                continue;
            }
            let may_fail_over = nothing_sent || fields::fails_over(&method);
            let next = match left {
                0 => None,
                _ => self.next(index, tried, may_fail_over, &unanswered.error),
            };
            let Some(next) = next else {
                return second_best.ok_or(unanswered.error);
            };
            self.retried.fetch_add(1, Relaxed);
            left -= 1;
            (index, fresh) = (next, false);
        }
    }

    /// The numbers so far.
    pub fn statistics(&self) -> Statistics {
        Statistics {
            servers: self
                .members
                .iter()
                .map(|member| member.server.statistics())
                .collect(),
            retries: self.retried.load(Relaxed),
            failovers: self.failed_over.load(Relaxed),
        }
    }

    /// What a request gets whatever server it goes to.
    fn prepare(&self, head: &mut request::Parts, viewer: &Viewer) -> Result<(), OriginError> {
        fields::request(head, viewer, &self.signature)?;
        for (name, value) in &self.headers {
            head.headers.insert(name.clone(), value.clone());
        }
        Ok(())
    }

    fn forwarded_host(&self, viewer: &Viewer) -> Option<Host> {
        match self.forward_host {
            true => Host::new(viewer.authority.clone()),
            false => None,
        }
    }

    async fn attempt(
        &self,
        member: &Member,
        message: Message,
        host: Option<&Host>,
        fresh: bool,
        until: Option<Instant>,
    ) -> Result<Response<OriginBody>, Unanswered> {
        let mut lease = match member.server.acquire(fresh, until).await {
            Ok(lease) => lease,
            Err(error) => {
                return Err(Unanswered {
                    error,
                    message: Some(message),
                    stale: false,
                });
            }
        };
        let path = message.path.clone();
        let sent = Unanswered::sent;
        let request = member
            .target
            .address(message, host, lease.is_http2())
            .map_err(sent)?;
        match lease.exchange(request, self.timeouts, until).await {
            Ok(response) => self.answer(response, lease).map_err(sent),
            Err(lost) => Err(Unanswered {
                error: lost.error,
                message: lost.message.map(|request| {
                    let (head, body) = request.into_parts();
                    Message {
                        method: head.method,
                        path,
                        headers: head.headers,
                        body,
                    }
                }),
                stale: lost.stale,
            }),
        }
    }

    /// The answer as it goes on.
    fn answer(
        &self,
        response: Response<Incoming>,
        lease: Lease,
    ) -> Result<Response<OriginBody>, OriginError> {
        let (mut head, incoming) = response.into_parts();
        if let Err(error) = fields::response(&mut head) {
            lease.fail(&error);
            return Err(error);
        }
        // The next hop has a version of its own (RFC 9110 §2.5).
        head.version = Version::HTTP_11;
        let body = OriginBody::new(incoming, self.timeouts.idle, lease);
        Ok(Response::from_parts(head, body))
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Origin")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Unanswered {
    /// Something may have been sent.
    fn sent(error: OriginError) -> Self {
        Self {
            error,
            message: None,
            stale: false,
        }
    }
}
