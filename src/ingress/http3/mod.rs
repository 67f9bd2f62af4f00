//! HTTP/3, where it is turned on: beside a listener with TLS, at the same port of UDP (RFC 9114, RFC 9000).
//!
//! ```text
//! Endpoint::bind → serve: Incoming ── connection: handshake ─┬─ request: h3 ← frames ← quinn ── Handler::handle → answer
//!                                                            └─ request …
//! ```
//!
//! quinn is the transport, h3 the protocol. What is always true of a listener holds here too: the same limits and deadlines, the
//! same permits, the same drain. What is different:
//! * a client for which there is no permit is refused, rather than left to wait: it has HTTP/2 to fall back on;
//! * a client must show that it is where it says it is before more than some are half open ([`HALF_OPEN`]);
//! * a client keeps the address that it began with.
//!
//! There is no early data (0-RTT), as with TCP. Not here: server push, datagrams, WebTransport, CONNECT, WebSockets (RFC 9220),
//! priorities (RFC 9218), QPACK's dynamic table. Client validation by ACME (tls-alpn-01) is for TCP.

mod body;
mod connection;
mod frames;
mod quic;

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use http::HeaderValue;
use quinn::{EndpointConfig, IdleTimeout, TokioRuntime, TransportConfig, VarInt};
use tokio::{sync::Semaphore, time::timeout};

pub(super) use self::body::Body;
use super::{BindError, Handler, Limits, Live, connection::Shared, tls::Certificates};

/// Connections that may be half open before a client has to show its address. Each costs a permit and some KB for the length of
/// a handshake, and whoever makes addresses up can begin as many as it likes.
const HALF_OPEN: usize = 64;

/// A client that is silent for so long is gone. Less than the idle deadline, which is for clients that are there and ask nothing.
const SILENCE: Duration = Duration::from_secs(30);

/// How often a silent client is asked whether it is there: some middleboxes forget UDP flows after 30 s.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// How long the last packets may take at the end.
const FAREWELL: Duration = Duration::from_secs(1);

/// How long clients may remember that there is HTTP/3: a day, as by default (RFC 7838 section 3.1).
const REMEMBERED: u32 = 24 * 60 * 60;

/// A bound socket of UDP, whose connections have the permits of the listener beside it.
#[derive(Debug)]
pub(super) struct Endpoint {
    endpoint: quinn::Endpoint,
    local: SocketAddr,
    permits: Arc<Semaphore>,
    half_open: Arc<AtomicUsize>,
}

/// One of the connections that are half open, until it is dropped.
struct HalfOpen(Arc<AtomicUsize>);

impl Drop for HalfOpen {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Endpoint {
    /// Binds `address`, which has a port. To be called in a tokio runtime.
    pub(super) fn bind(
        address: SocketAddr,
        certificates: &Arc<Certificates>,
        limits: &Limits,
        permits: Arc<Semaphore>,
    ) -> Result<Self, BindError> {
        let crypto = certificates.for_quic().map_err(BindError::Tls)?;
        let mut config = quinn::ServerConfig::with_crypto(crypto);
        config
            .transport_config(Arc::new(transport(limits)))
            // What is logged and what access rules look at is the address that a connection began with.
            .migration(false);
        let bound = UdpSocket::bind(address).and_then(|socket| {
            quinn::Endpoint::new(
                EndpointConfig::default(),
                Some(config),
                socket,
                Arc::new(TokioRuntime),
            )
        });
        Ok(Self {
            endpoint: bound.map_err(|error| BindError::Datagrams(address, error))?,
            local: address,
            permits,
            half_open: Arc::default(),
        })
    }

    /// What answers of the other versions say: that there is HTTP/3 at this port (RFC 7838, RFC 9114 section 3.1.1).
    pub(super) fn alternative(&self) -> HeaderValue {
        let port = self.local.port();
        HeaderValue::from_str(&format!("h3=\":{port}\"; ma={REMEMBERED}"))
            .expect("letters and digits are a value")
    }

    /// Serves connections; never ends.
    pub(super) async fn serve<H: Handler>(&self, shared: &Arc<Shared<H>>, live: &Live) {
        while let Some(incoming) = self.endpoint.accept().await {
            let half_open = self.half_open.load(Relaxed);
            if half_open >= HALF_OPEN && !incoming.remote_address_validated() {
                if let Err(error) = incoming.retry() {
                    tracing::debug!(%error, "retry not sent");
                }
                continue;
            }
            let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
                incoming.refuse();
                continue;
            };
            shared.stats.accepted.increment();
            self.half_open.fetch_add(1, Relaxed);
            let half_open = HalfOpen(Arc::clone(&self.half_open));
            let local = match incoming.local_ip() {
                Some(ip) => SocketAddr::new(ip, self.local.port()),
                None => self.local,
            };
            let shared = Arc::clone(shared);
            let entry = live.enter();
            live.tasks.spawn(async move {
                connection::serve(&shared, incoming, half_open, local, &entry.progress).await;
                drop(permit);
            });
        }
        // Not before the endpoint is closed, which is when nobody waits here any more.
        std::future::pending().await
    }

    /// Takes no more connections.
    pub(super) fn refuse(&self) {
        self.endpoint.set_server_config(None);
    }

    /// Ends when the clients were told that their connections are closed.
    pub(super) async fn close(self) {
        self.endpoint.close(VarInt::from_u32(0), b"");
        let _ = timeout(FAREWELL, self.endpoint.wait_idle()).await;
    }
}

/// What a client may use of a connection: as much as with HTTP/2.
fn transport(limits: &Limits) -> TransportConfig {
    const STREAM: u32 = 256 * 1024;
    const CONNECTION: u32 = 1024 * 1024;
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(limits.streams.into())
        // Three for control and QPACK, and a few that mean nothing.
        .max_concurrent_uni_streams(VarInt::from_u32(8))
        // What a client may send us unasked, and what we hold for one that does not read.
        .stream_receive_window(VarInt::from_u32(STREAM))
        .receive_window(VarInt::from_u32(CONNECTION))
        .send_window(CONNECTION.into())
        .max_idle_timeout(IdleTimeout::try_from(SILENCE).ok())
        .keep_alive_interval(Some(KEEP_ALIVE))
        .datagram_receive_buffer_size(None);
    config
}

/// Whether a port of TCP was found that is taken in UDP.
pub(super) fn is_taken(error: &BindError) -> bool {
    matches!(error, BindError::Datagrams(_, error) if error.kind() == io::ErrorKind::AddrInUse)
}
