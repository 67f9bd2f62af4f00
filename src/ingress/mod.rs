//! HTTP in, HTTP out.
//!
//! ```text
//! Server::bind → run: accept ─┬─ connection: handshake, HTTP/1.1 or HTTP/2 ── Handler::handle(request) → response
//!                             └─ connection …
//!                (UDP) accept ── http3: handshake ─── a task a request ────── Handler::handle(request) → response
//! ```
//!
//! What is always true here:
//! * nothing a client does ends the listener, and a client harms at most its own connection;
//! * every wait for a client has a deadline and everything a client sends has a limit ([`Limits`]);
//! * bodies stream both ways, and who reads slowly slows the writer down, not the node;
//! * a connection serves HTTP/1.1 requests in its own task, without a task, a timer or a box for each.
//!
//! What a request means is for its [`Handler`]; it begins with [`sanitize::request()`] and every failure ends in [`error`].
//! An HTTP/1.1 connection may become a WebSocket to a distribution's origin. Any other `Upgrade` is ignored, as RFC 9110 §7.8
//! allows. HTTP/3 is off unless a listener with TLS asks for it. Not here: CONNECT (WebSockets on HTTP/2 and HTTP/3 neither,
//! RFC 8441 and RFC 9220).

mod body;
mod connection;
pub mod error;
mod framing;
mod http3;
mod listener;
mod progress;
mod request;
pub mod sanitize;
mod socket;
mod stats;
mod tls;
mod url;
mod visit;

use std::{
    collections::HashMap,
    error::Error,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::{
    body::{BodyError, RequestBody},
    connection::ConnectionInfo,
    progress::Protocol,
    request::{DataPlane, Target},
    stats::{Counter, ListenerStats},
    tls::{
        CertificateSource, Certificates, HostCertificate, TlsConfig, TlsError, TlsInfo, TlsVersion,
    },
    url::{Authorize, UrlDenied, UrlTarget},
};
use self::{
    connection::Shared,
    listener::Listener,
    progress::{Progress, Stage},
    tls::Acceptor,
    visit::Visit,
};
use crate::{
    edge::Tunnel,
    model::{ByteSize, Network},
};

/// What a connection hands each request to.
pub trait Handler: Send + Sync + 'static {
    /// The body of a response.
    type Body: http_body::Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>>
        + Send
        + 'static;

    /// Answers a request. Failures are answers too ([`error::respond`]).
    ///
    /// The future is dropped when the client goes away before it is done, the body when the client goes away later: so what a
    /// request holds belongs into the one and then the other. An error of the body breaks the answer off.
    fn handle(
        &self,
        request: Request<RequestBody>,
        connection: &Arc<ConnectionInfo>,
    ) -> impl Future<Output = Response<Self::Body>> + Send;

    /// What the connection is joined with after an answer of status 101, which is all of this body.
    fn switch(body: Self::Body) -> Option<Switched> {
        drop(body);
        None
    }
}

/// What a connection becomes after an answer of status 101.
#[derive(Debug)]
pub struct Switched {
    /// The other end, which it is joined with.
    tunnel: Tunnel,
    visit: Visit,
}

/// A listener's configuration.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Where to listen. Port 0 takes any free port.
    pub address: SocketAddr,
    /// TLS; clear text without it.
    pub tls: Option<TlsConfig>,
    /// Proxies that may say for whom they speak (`X-Forwarded-For`, `X-Forwarded-Proto`, and what else is of that kind). What others
    /// say is dropped. None by default.
    pub trusted_proxies: Arc<[Network]>,
    /// What clients may use.
    pub limits: Limits,
    /// How long requests in flight may go on after the shutdown; 30 s by default.
    pub grace: Duration,
}

impl ServerConfig {
    /// Clear text at `address` with the defaults.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            tls: None,
            trusted_proxies: Arc::default(),
            limits: Limits::default(),
            grace: Duration::from_secs(30),
        }
    }
}

/// What clients may use of a listener.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at one moment; 16,384 by default. More wait in the kernel's backlog.
    pub connections: usize,
    /// Header fields of a request; 100 by default. More are answered 431. Another value than 100 costs an allocation a request.
    pub fields: usize,
    /// Bytes of a request's head, of its trailers, and of a decoded HTTP/2 or HTTP/3 field section; 64 KB by default, 8 KB at least. More
    /// are answered 431.
    pub head: ByteSize,
    /// Bytes of a request target; 16 KB by default. More are answered 414.
    pub target: usize,
    /// HTTP/2 or HTTP/3 streams of a connection at one moment; 128 by default.
    pub streams: u32,
    /// Streams of a connection that were reset before they were served; 64 by default. More close the connection. With HTTP/2
    /// those that wait to be looked at, with HTTP/3 those whose requests were not answered, each answered one making up for one.
    pub reset_streams: usize,
    /// How long clients may take.
    pub deadlines: Deadlines,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16_384,
            fields: 100,
            head: ByteSize::kb(64),
            target: 16 * 1024,
            streams: 128,
            reset_streams: 64,
            deadlines: Deadlines::default(),
        }
    }
}

/// How long clients may take. All but `handshake`, `head` and `linger` are about progress, and begin anew with each byte or piece.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// For a TLS or QUIC handshake; 10 s by default.
    pub handshake: Duration,
    /// For the head of a request, from the connection's start or the head's first byte to its end; 10 s by default.
    pub head: Duration,
    /// Between two requests; 75 s by default.
    pub idle: Duration,
    /// Between two pieces of a request's body that is waited for; 30 s by default.
    pub body: Duration,
    /// For a client to take something of an answer that waits; 30 s by default.
    pub write: Duration,
    /// For a client to hang up after its connection was ended, because it was idle or because its request was answered before it
    /// was read; 5 s by default.
    pub linger: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            body: Duration::from_secs(30),
            write: Duration::from_secs(30),
            linger: Duration::from_secs(5),
        }
    }
}

/// Why a server cannot be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address cannot be listened at.
    #[error("listen at {0}")]
    Listen(SocketAddr, #[source] io::Error),
    /// The port of UDP that HTTP/3 is to be served at, the one of TCP, cannot be listened at.
    #[error("listen at {0} of UDP, for HTTP/3")]
    Datagrams(SocketAddr, #[source] io::Error),
    /// The certificates cannot be used.
    #[error("load certificates")]
    Tls(#[source] TlsError),
}

/// A listener that is bound and not yet serving: connections wait in the kernel until [`run`](Self::run).
#[derive(Debug)]
pub struct Server {
    listener: Listener,
    local: SocketAddr,
    config: ServerConfig,
    certificates: Option<Arc<Certificates>>,
    tls: Option<Acceptor>,
    http3: Option<http3::Endpoint>,
    stats: Arc<ListenerStats>,
}

/// How many ports are tried where any will do and HTTP/3 wants it in UDP too.
const PORTS: usize = 16;

impl Server {
    /// Binds the address and loads the certificates. Whatever is wrong with the configuration comes out here. To be called in a
    /// tokio runtime.
    pub fn bind(config: ServerConfig) -> Result<Self, BindError> {
        let stats = Arc::<ListenerStats>::default();
        let (certificates, tls) = match &config.tls {
            None => (None, None),
            Some(tls) => {
                let certificates = Certificates::load(tls.files.clone()).map_err(BindError::Tls)?;
                let acceptor =
                    Acceptor::new(Arc::clone(&certificates), Arc::clone(&tls.challenges))
                        .map_err(BindError::Tls)?;
                (Some(certificates), Some(acceptor))
            }
        };
        let unbound = |error| BindError::Listen(config.address, error);
        let limits = &config.limits;
        let certificates_of_http3 = match &config.tls {
            Some(tls) if tls.http3 => certificates.as_ref(),
            Some(_) | None => None,
        };
        let mut ports = 1..PORTS;
        let (listener, local, http3) = loop {
            let listener = Listener::bind(config.address, limits.connections, Arc::clone(&stats))
                .map_err(unbound)?;
            let local = listener.local_addr().map_err(unbound)?;
            let bound = certificates_of_http3.map(|certificates| {
                http3::Endpoint::bind(local, certificates, limits, listener.permits())
            });
            match bound.transpose() {
                // Another may be free for both.
                Err(error)
                    if config.address.port() == 0
                        && http3::is_taken(&error)
                        && ports.next().is_some() => {}
                bound => break (listener, local, bound?),
            }
        };
        Ok(Self {
            listener,
            local,
            config,
            certificates,
            tls,
            http3,
            stats,
        })
    }

    /// The address that is listened at, with the port that was found.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The certificates that it presents, if it has TLS.
    pub fn certificates(&self) -> Option<&Arc<Certificates>> {
        self.certificates.as_ref()
    }

    /// The counters, for telemetry.
    pub fn stats(&self) -> Arc<ListenerStats> {
        Arc::clone(&self.stats)
    }

    /// Serves until `shutdown`; then takes no more connections and requests, lets those in flight end within the grace period,
    /// and stops what is left.
    pub async fn run<H: Handler>(self, handler: Arc<H>, shutdown: CancellationToken) {
        let grace = self.config.grace;
        let reloading = self
            .certificates
            .zip(self.config.tls.as_ref().map(|tls| tls.poll));
        let http3 = self.http3;
        let shared = Arc::new(Shared {
            alternative: http3.as_ref().map(http3::Endpoint::alternative),
            handler,
            http1: connection::http1_builder(&self.config.limits),
            config: self.config,
            tls: self.tls,
            stats: self.stats,
        });
        let live = Live::default();
        let accepting = async {
            loop {
                let (stream, peer, permit) = self.listener.accept().await;
                let shared = Arc::clone(&shared);
                let entry = live.enter();
                live.tasks.spawn(async move {
                    connection::serve(&shared, stream, peer, &entry.progress).await;
                    drop(permit);
                });
            }
        };
        let accepting_http3 = async {
            match &http3 {
                Some(endpoint) => endpoint.serve(&shared, &live).await,
                None => std::future::pending().await,
            }
        };
        let reloading = async {
            match reloading {
                Some((certificates, poll)) => certificates.watch(poll).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = accepting => {}
            () = accepting_http3 => {}
            () = reloading => {}
        }
        // Those who come now are refused by the kernel.
        drop(self.listener);
        if let Some(endpoint) = &http3 {
            endpoint.refuse();
        }
        live.drain(grace).await;
        if let Some(endpoint) = http3 {
            endpoint.close().await;
        }
    }
}

/// The connections that are open, each with its progress, so that each can be told to end.
///
/// They are told one by one, once: a token that every connection polls is a lock that every request takes.
#[derive(Debug, Default)]
struct Live {
    tasks: TaskTracker,
    connections: Arc<Mutex<Connections>>,
}

#[derive(Debug, Default)]
struct Connections {
    next: u64,
    open: HashMap<u64, Arc<Progress>>,
}

/// A connection's entry among the live ones, to its end.
#[derive(Debug)]
struct Entry {
    number: u64,
    progress: Arc<Progress>,
    connections: Arc<Mutex<Connections>>,
}

impl Live {
    fn enter(&self) -> Entry {
        let progress = Arc::new(Progress::new());
        let mut connections = lock(&self.connections);
        let number = connections.next;
        connections.next += 1;
        connections.open.insert(number, Arc::clone(&progress));
        Entry {
            number,
            progress,
            connections: Arc::clone(&self.connections),
        }
    }

    /// Ends all connections: in peace within `grace`, then at once.
    async fn drain(self, grace: Duration) {
        self.tasks.close();
        self.advance(Stage::Draining);
        if timeout(grace, self.tasks.wait()).await.is_ok() {
            return;
        }
        tracing::warn!(
            connections = lock(&self.connections).open.len(),
            "grace period is over, connections are cut"
        );
        self.advance(Stage::Stopped);
        self.tasks.wait().await;
    }

    fn advance(&self, stage: Stage) {
        for progress in lock(&self.connections).open.values() {
            progress.advance(stage);
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        lock(&self.connections).open.remove(&self.number);
    }
}

fn lock(connections: &Mutex<Connections>) -> MutexGuard<'_, Connections> {
    // A panic between two of its lines leaves no entry half made.
    connections.lock().unwrap_or_else(PoisonError::into_inner)
}
