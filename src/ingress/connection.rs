//! The life of a connection: handshake, protocol, requests, end.
//!
//! One task a connection. HTTP/1.1 runs its handler in that task too; HTTP/2 has a task a stream, which hyper asks for. Every wait
//! has a deadline, except for the handler's: what it calls has its own. How HTTP/3 is different is in [`http3`](super::http3).

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, response, uri::Scheme,
};
use http_body::Body as _;
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, timeout},
};

use super::{
    Handler, Limits, ListenerStats, Protocol, RequestBody, ServerConfig, Switched, TlsInfo,
    body::{BoxError, ResponseBody, Source},
    progress::{InFlight, Missed, Progress, Stage, StreamProgress, Watchdog},
    socket::{Socket, detect},
    tls::Acceptor,
};
use crate::{edge::Traffic, model::Network};

/// hyper's own maximum, whose storage is on the stack: any other allocates for every request.
const HYPER_MAX_FIELDS: usize = 100;

/// The most that is read of what a client still sends after its answer: more than is under way on a fast and long line
/// (10 Gbit/s, 50 ms).
const LINGER_BYTES: u64 = 64 << 20;

/// What is known of a connection when a request comes on it.
#[derive(Debug)]
pub struct ConnectionInfo {
    /// The client, or the proxy that speaks for it.
    pub peer: SocketAddr,
    /// The address that it connected to.
    pub local: SocketAddr,
    /// HTTP/1, HTTP/2 or HTTP/3.
    pub protocol: Protocol,
    /// What was agreed in the TLS handshake; nothing on clear text.
    pub tls: Option<TlsInfo>,
    /// The proxies that may say for whom they speak, if the peer is one of them; else none.
    pub(super) proxies: Arc<[Network]>,
    pub(super) max_fields: usize,
    pub(super) max_target: usize,
    /// The peer's address as the value of `X-Forwarded-For`.
    pub(super) forwarded_for: HeaderValue,
    /// The peer's element of `Forwarded`, up to `host=`.
    pub(super) forwarded: String,
}

fn is_among(networks: &[Network], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(address))
}

/// An address of a list; some proxies write the port to it.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let address = text.parse().ok();
    let address = address.or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

impl ConnectionInfo {
    /// A connection on clear text with the limits of [`Limits::default`] from a peer that is not trusted. For tests, and for
    /// requests that come by another way than a socket.
    pub fn clear_text(peer: SocketAddr, local: SocketAddr) -> Self {
        let limits = Limits::default();
        Self::new(peer, local, Protocol::Http1, None, Arc::default(), &limits)
    }

    fn new(
        peer: SocketAddr,
        local: SocketAddr,
        protocol: Protocol,
        tls: Option<TlsInfo>,
        proxies: Arc<[Network]>,
        limits: &Limits,
    ) -> Self {
        let address = peer.ip().to_canonical();
        let proto = if tls.is_some() { "https" } else { "http" };
        // RFC 7239 §6: IPv6 in brackets, therefore quoted.
        let node = if address.is_ipv6() {
            format!("\"[{address}]\"")
        } else {
            address.to_string()
        };
        Self {
            peer,
            local,
            protocol,
            tls,
            proxies,
            max_fields: limits.fields,
            max_target: limits.target,
            forwarded_for: HeaderValue::from_str(&address.to_string())
                .expect("an address is made of visible characters"),
            forwarded: format!("for={node};proto={proto};host="),
        }
    }

    /// Whether the peer may say for whom it speaks.
    pub(super) fn is_trusted(&self) -> bool {
        !self.proxies.is_empty()
    }

    /// Who sent a request with these fields, which were made unambiguous: the peer, or the last in `X-Forwarded-For` that is no
    /// trusted proxy. What stands before that one may be made up.
    pub(super) fn client(&self, headers: &HeaderMap) -> IpAddr {
        let mut client = self.peer.ip().to_canonical();
        if !self.is_trusted() {
            return client;
        }
        let told = headers.get(super::sanitize::FORWARDED_FOR);
        let told = told.map(HeaderValue::as_bytes).unwrap_or_default();
        // The last is the peer. Each is read by itself: what a client wrote before it, whatever bytes these are, hides nobody.
        let told = told.rsplit(|byte| *byte == b',').skip(1);
        for address in told.map_while(address) {
            client = address;
            if !is_among(&self.proxies, client) {
                break;
            }
        }
        client
    }

    /// The scheme of the connection. Behind a trusted proxy, the request's URI knows better.
    pub fn scheme(&self) -> Scheme {
        match self.tls {
            Some(_) => Scheme::HTTPS,
            None => Scheme::HTTP,
        }
    }

    pub(super) fn scheme_str(&self) -> &'static str {
        match self.tls {
            Some(_) => "https",
            None => "http",
        }
    }
}

/// Everything that the connections of one listener have in common.
pub(super) struct Shared<H> {
    pub(super) handler: Arc<H>,
    pub(super) config: ServerConfig,
    pub(super) tls: Option<Acceptor>,
    pub(super) http1: http1::Builder,
    /// What answers on TCP say of HTTP/3, where it is served.
    pub(super) alternative: Option<HeaderValue>,
    pub(super) stats: Arc<ListenerStats>,
}

/// hyper's HTTP/1, with our limits and without its header timer: see [`progress`](super::progress).
///
/// Not with `pipeline_flush`: it makes hyper 1.12 buffer a body without end, whatever the client reads (`Buffered::can_buffer`).
pub(super) fn http1_builder(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .header_read_timeout(None)
        .max_buf_size(limits.head.as_usize().max(8 * 1024));
    if limits.fields != HYPER_MAX_FIELDS {
        builder.max_headers(limits.fields);
    }
    builder
}

fn http2_builder(limits: &Limits, executor: StreamExecutor) -> http2::Builder<StreamExecutor> {
    let mut builder = http2::Builder::new(executor);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(u32::try_from(limits.head.as_u64()).unwrap_or(u32::MAX))
        // Streams that were opened and reset before we looked at them, and those we had to reset (CVE-2023-44487 and its kin).
        // One above closes the connection.
        .max_pending_accept_reset_streams(limits.reset_streams)
        .max_local_error_reset_streams(limits.reset_streams)
        // What a client may send us unasked, and what we hold for one that does not read.
        .initial_stream_window_size(256 * 1024)
        .initial_connection_window_size(1024 * 1024)
        .max_send_buf_size(64 * 1024)
        .keep_alive_interval(limits.deadlines.idle / 3)
        .keep_alive_timeout(limits.deadlines.write);
    builder
}

/// Serves one connection to its end.
pub(super) async fn serve<H: Handler>(
    shared: &Arc<Shared<H>>,
    stream: TcpStream,
    peer: SocketAddr,
    progress: &Arc<Progress>,
) {
    let _active = shared.stats.active.hold();
    // Answers are written whole: waiting for more of them only delays.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "connection lost at once");
        return;
    }
    let Ok(local) = stream.local_addr() else {
        return;
    };
    let connection = Connection {
        shared,
        peer,
        local,
        progress,
    };
    match &shared.tls {
        Some(acceptor) => connection.serve_tls(stream, acceptor).await,
        None => connection.serve_clear_text(stream).await,
    }
}

/// One connection and whose it is.
pub(super) struct Connection<'a, H> {
    pub(super) shared: &'a Arc<Shared<H>>,
    pub(super) peer: SocketAddr,
    pub(super) local: SocketAddr,
    pub(super) progress: &'a Arc<Progress>,
}

impl<H: Handler> Connection<'_, H> {
    async fn serve_tls(self, stream: TcpStream, acceptor: &Acceptor) {
        let stats = &self.shared.stats;
        let deadline = self.shared.config.limits.deadlines.handshake;
        let handshake = tokio::select! {
            handshake = timeout(deadline, acceptor.accept(stream)) => handshake,
            () = self.progress.reached(Stage::Draining) => return,
        };
        let stream = match handshake {
            Ok(Ok(Some(stream))) => stream,
            Ok(Ok(None)) => return,
            Ok(Err(error)) => {
                stats.handshake_failures.increment();
                tracing::debug!(peer = %self.peer, %error, "handshake failed");
                return;
            }
            Err(_elapsed) => {
                stats.handshake_timeouts.increment();
                tracing::debug!(peer = %self.peer, "handshake timed out");
                return;
            }
        };
        let session = stream.get_ref().1;
        let protocol = match session.alpn_protocol() {
            Some(b"h2") => Protocol::Http2,
            Some(_) | None => Protocol::Http1,
        };
        let tls = TlsInfo::of(session);
        self.serve_requests(stream, Bytes::new(), protocol, Some(tls))
            .await;
    }

    async fn serve_clear_text(self, mut stream: TcpStream) {
        let deadline = self.shared.config.limits.deadlines.head;
        let detected = tokio::select! {
            detected = timeout(deadline, detect(&mut stream)) => detected,
            () = self.progress.reached(Stage::Draining) => return,
        };
        match detected {
            Ok(Ok((protocol, read))) => self.serve_requests(stream, read, protocol, None).await,
            Ok(Err(error)) => tracing::debug!(peer = %self.peer, %error, "connection lost"),
            Err(_elapsed) => self.shared.stats.head_timeouts.increment(),
        }
    }

    /// What each request on the connection is told of it.
    pub(super) fn info(&self, protocol: Protocol, tls: Option<TlsInfo>) -> Arc<ConnectionInfo> {
        let config = &self.shared.config;
        let proxies = &config.trusted_proxies;
        let proxies = match is_among(proxies, self.peer.ip()) {
            true => Arc::clone(proxies),
            false => Arc::default(),
        };
        Arc::new(ConnectionInfo::new(
            self.peer,
            self.local,
            protocol,
            tls,
            proxies,
            &config.limits,
        ))
    }

    async fn serve_requests<S>(
        self,
        stream: S,
        read_before: Bytes,
        protocol: Protocol,
        tls: Option<TlsInfo>,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let config = &self.shared.config;
        let info = self.info(protocol, tls);
        let socket = TokioIo::new(Socket::new(stream, read_before, protocol, self.progress));
        match protocol {
            Protocol::Http1 => {
                let service = service_fn(|request| self.on_connection(&info, request));
                let mut connection = self.shared.http1.serve_connection(socket, service);
                let ended = self.run(Pin::new(&mut connection), protocol).await;
                let parts = connection.into_parts();
                let mut socket = parts.io.into_inner();
                // Where the 101 was not sent whole, nothing follows it.
                match self.progress.switched().filter(|_| ended) {
                    Some(switched) => {
                        socket.switch(parts.read_buf);
                        self.tunnel(socket, switched).await;
                    }
                    None => self.linger(socket, ended).await,
                }
            }
            // What comes on TCP is never HTTP/3.
            Protocol::Http2 | Protocol::Http3 => {
                let streams = StreamExecutor::new(&config.limits, &self.shared.stats);
                let service = service_fn(|request| self.on_stream(&info, &streams, request));
                let connection = http2_builder(&config.limits, streams.clone())
                    .serve_connection(socket, service);
                self.run(pin!(connection), protocol).await;
            }
        }
    }

    /// A request on HTTP/1: runs in the connection's task.
    fn on_connection(
        &self,
        info: &Arc<ConnectionInfo>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<ResponseBody<H::Body>>, Infallible>> + use<H> {
        let in_flight = InFlight::begin(self.progress);
        let progress = Arc::clone(self.progress);
        let shared = Arc::clone(self.shared);
        let info = Arc::clone(info);
        async move {
            let request = shared.wrap(request, &progress);
            let response = shared.handler.handle(request, &info).await;
            let (mut head, body) = response.into_parts();
            shared.advertise(&mut head);
            let body = if head.status == StatusCode::SWITCHING_PROTOCOLS {
                progress.switch(H::switch(body));
                None
            } else {
                Some(body)
            };
            let body = ResponseBody::on_connection(body, in_flight);
            Ok(Response::from_parts(head, body))
        }
    }

    /// A request on an HTTP/2 stream: runs in a task that `streams` is asked for when this returns.
    fn on_stream(
        &self,
        info: &Arc<ConnectionInfo>,
        streams: &StreamExecutor,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<ResponseBody<H::Body>>, Infallible>> + use<H> {
        let in_flight = InFlight::begin(self.progress);
        let progress = Arc::clone(self.progress);
        let stream = streams.announce();
        let shared = Arc::clone(self.shared);
        let info = Arc::clone(info);
        async move {
            let request = shared.wrap(request, &progress);
            let (mut head, body) = shared.answer_on_stream(request, &info).await;
            shared.advertise(&mut head);
            let body = ResponseBody::on_stream(body, stream, in_flight);
            Ok(Response::from_parts(head, body))
        }
    }

    /// Drives a connection to its end, or until it misses a deadline. Whether it ended in peace is the answer.
    pub(super) async fn run<C, E>(&self, mut connection: Pin<&mut C>, protocol: Protocol) -> bool
    where
        C: Graceful + Future<Output = Result<(), E>>,
        E: std::error::Error + 'static,
    {
        let stats = &self.shared.stats;
        let deadlines = self.shared.config.limits.deadlines;
        let mut watchdog = Watchdog::new(deadlines, protocol);
        let mut timer = pin!(tokio::time::sleep(deadlines.head));
        let mut leaving = false;
        let mut lingering = false;
        std::future::poll_fn(|cx| {
            let stage = self.progress.stage(cx);
            if stage == Stage::Stopped {
                return Poll::Ready(false);
            }
            if stage == Stage::Draining && !leaving {
                leaving = true;
                connection.as_mut().leave();
            }
            loop {
                if let Poll::Ready(end) = connection.as_mut().poll(cx) {
                    if let Err(error) = &end {
                        stats.protocol_errors.increment();
                        tracing::debug!(
                            peer = %self.peer,
                            error = error as &dyn std::error::Error,
                            "connection ended"
                        );
                    }
                    return Poll::Ready(end.is_ok());
                }
                if lingering {
                    if timer.as_mut().poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                    if !self.progress.is_serving() {
                        return Poll::Ready(false);
                    }
                    // A request that crossed our good-bye on its way is still answered.
                    timer.as_mut().reset(Instant::now() + deadlines.linger);
                    continue;
                }
                let Poll::Ready(missed) = watchdog.poll(self.progress, timer.as_mut(), cx) else {
                    return Poll::Pending;
                };
                match missed {
                    Missed::Head => stats.head_timeouts.increment(),
                    Missed::Write => stats.write_timeouts.increment(),
                    Missed::Idle => {
                        // Said politely: GOAWAY, close_notify. A client that does not listen is left after a moment.
                        stats.idle_closes.increment();
                        connection.as_mut().leave();
                        lingering = true;
                        timer.as_mut().reset(Instant::now() + deadlines.linger);
                        continue;
                    }
                }
                tracing::debug!(peer = %self.peer, ?missed, "connection closed at its deadline");
                return Poll::Ready(false);
            }
        })
        .await
    }

    /// Joins a connection that has become a WebSocket with the other end. It lasts until both are done, one fails or nothing moves
    /// for the origin's idle time; at the end of the server, as long as its grace.
    async fn tunnel<S>(&self, socket: Socket<S>, switched: Switched)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let _open = self.shared.stats.tunnels.hold();
        let Switched { tunnel, mut visit } = switched;
        let traffic = Traffic::default();
        let joined = tokio::select! {
            joined = tunnel.join(socket, &traffic) => joined,
            () = self.progress.reached(Stage::Stopped) => Ok(()),
        };
        let (received, sent) = (traffic.from_viewer(), traffic.from_origin());
        visit.sent(sent);
        match joined {
            Ok(()) => tracing::debug!(peer = %self.peer, received, sent, "tunnel closed"),
            Err(error) => {
                visit.failed(error.outcome());
                tracing::debug!(
                    peer = %self.peer,
                    error = &error as &dyn std::error::Error,
                    received,
                    sent,
                    "tunnel broke off"
                );
            }
        }
    }

    /// Discards what the client still sends although it was answered, until it hangs up. To close a connection with something
    /// unread is to reset it, and a client that writes before it reads would never see its answer (RFC 9112 §9.6).
    async fn linger<S>(&self, mut socket: Socket<S>, ended: bool)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let linger = self.shared.config.limits.deadlines.linger;
        if ended && !socket.is_shut_down() {
            // hyper leaves this to us when the client had asked for an upgrade and not got it.
            let _ = timeout(linger, socket.shutdown()).await;
        }
        // One that was cut in the middle of something owes its client nothing.
        if !socket.is_shut_down() || !self.progress.is_unread() {
            return;
        }
        socket.look_away();
        let mut unread = socket.take(LINGER_BYTES);
        let mut nowhere = tokio::io::sink();
        let discarded = tokio::io::copy(&mut unread, &mut nowhere);
        tokio::select! {
            _ = timeout(linger, discarded) => {}
            () = self.progress.reached(Stage::Stopped) => {}
        }
    }
}

impl<H: Handler> Shared<H> {
    /// Answers a request on a stream of HTTP/2 or HTTP/3. Where there is no body, nothing of it may be sent.
    pub(super) async fn answer_on_stream(
        &self,
        request: Request<RequestBody>,
        info: &Arc<ConnectionInfo>,
    ) -> (response::Parts, Option<H::Body>) {
        let is_head = request.method() == Method::HEAD;
        let response = self.handler.handle(request, info).await;
        let (mut head, body) = response.into_parts();
        // On HTTP/1 hyper withholds the body of such an answer; on a stream that is left to us.
        let bodiless = is_head
            || matches!(
                head.status,
                StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
            );
        if is_head
            && !head.headers.contains_key(header::CONTENT_LENGTH)
            && let Some(length) = body.size_hint().exact()
        {
            head.headers.insert(header::CONTENT_LENGTH, length.into());
        }
        if head.status == StatusCode::NO_CONTENT {
            // RFC 9110 section 8.6. A client of HTTP/2 takes such an answer for malformed.
            head.headers.remove(header::CONTENT_LENGTH);
        }
        (head, (!bodiless).then_some(body))
    }
}

impl<H> Shared<H> {
    /// Says that there is HTTP/3, on every answer: each may be the only one for its host that a client gets here, and a client that
    /// shares the connection between hosts takes the word for the one host. An answer that says something about it itself keeps that.
    fn advertise(&self, head: &mut response::Parts) {
        if let Some(alternative) = &self.alternative
            && head.status != StatusCode::SWITCHING_PROTOCOLS
            && !head.headers.contains_key(header::ALT_SVC)
        {
            head.headers.insert(header::ALT_SVC, alternative.clone());
        }
    }

    fn wrap(&self, request: Request<Incoming>, progress: &Arc<Progress>) -> Request<RequestBody> {
        let allowed = self.config.limits.deadlines.body;
        request.map(|body| RequestBody::new(Source::Hyper(body), allowed, &self.stats, progress))
    }
}

/// A connection that can be told to end.
pub(super) trait Graceful {
    /// Ends after the requests in flight.
    fn leave(self: Pin<&mut Self>);
}

impl<I, S, B> Graceful for http1::Connection<I, S>
where
    S: hyper::service::HttpService<Incoming, ResBody = B>,
    S::Error: Into<BoxError>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    B: http_body::Body<Error: Into<BoxError>> + 'static,
{
    fn leave(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, S, B, E> Graceful for http2::Connection<I, S, E>
where
    S: hyper::service::HttpService<Incoming, ResBody = B>,
    S::Error: Into<BoxError>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    B: http_body::Body<Error: Into<BoxError>> + 'static,
    E: hyper::rt::bounds::Http2ServerConnExec<S::Future, B>,
{
    fn leave(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// Spawns the streams of one HTTP/2 connection, each with a deadline for a client that does not read.
///
/// hyper calls the service with a request and then, in the same turn, the executor with that request's stream: so the first
/// tells the second here which progress to watch.
#[derive(Clone)]
struct StreamExecutor {
    announced: Arc<Mutex<Option<Arc<StreamProgress>>>>,
    allowed: std::time::Duration,
    stats: Arc<ListenerStats>,
}

impl StreamExecutor {
    fn new(limits: &Limits, stats: &Arc<ListenerStats>) -> Self {
        Self {
            announced: Arc::default(),
            allowed: limits.deadlines.write,
            stats: Arc::clone(stats),
        }
    }

    fn announce(&self) -> Arc<StreamProgress> {
        let progress = Arc::<StreamProgress>::default();
        *self.slot() = Some(Arc::clone(&progress));
        progress
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Arc<StreamProgress>>> {
        self.announced
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F> hyper::rt::Executor<F> for StreamExecutor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let progress = self.slot().take().unwrap_or_default();
        let allowed = self.allowed;
        let stats = Arc::clone(&self.stats);
        tokio::spawn(async move {
            if !progress.watch(allowed, stream).await {
                stats.write_timeouts.increment();
                tracing::debug!("stream reset: its client does not read");
            }
        });
    }
}
