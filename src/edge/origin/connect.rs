//! Making connections to one server: name, TCP, TLS, protocol.
//!
//! The server's certificate is always verified, against the
//! web's roots and the origin's own, for the name that the configuration or the URL says.

use std::{pin::Pin, sync::Arc, time::Duration};

use http::Uri;
use hyper::client::conn::{http1, http2};
use hyper_util::{
    client::legacy::connect::HttpConnector,
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{IpAddr as TlsAddress, ServerName},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_rustls::TlsConnector;
use tower_service::Service as _;

use super::{
    OriginError,
    body::RequestBody,
    error::BoxError,
    lease::{Connection, Http1, Http2, STREAMS, drive},
};
use crate::{dial::Resolver, model::distribution::OriginProtocol};

/// The most bytes of a head, or of trailers.
const MAX_HEAD: usize = 64 << 10;

/// What hyper buffers of a connection at most.
const BUFFER: usize = 128 << 10;

/// What an HTTP/2 stream may have under way. The connection's window holds it for every stream: one that nobody reads must not
/// take up what the others need.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * STREAMS;

/// An HTTP/2 connection on which a request waits is asked for a sign of life this often, and given this long.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

const H2: &[u8] = b"h2";
const HTTP11: &[u8] = b"http/1.1";

/// Dials one server.
pub(super) struct Dialer {
    /// Scheme, host and port.
    server: Uri,
    resolver: Resolver,
    tcp: HttpConnector<Resolver>,
    tls: Option<Tls>,
    protocol: OriginProtocol,
    timeout: Duration,
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
}

struct Tls {
    name: ServerName<'static>,
    connector: TlsConnector,
    /// The same for HTTP/1.1 alone, which upgrades need.
    http1: TlsConnector,
}

impl Dialer {
    /// `tls` is the name to verify and what to trust, for a server that is asked by https.
    pub(super) fn new(
        server: Uri,
        resolver: Resolver,
        tls: Option<(ServerName<'static>, Arc<RootCertStore>)>,
        protocol: OriginProtocol,
        timeout: Duration,
    ) -> Result<Self, rustls::Error> {
        let tls = match tls {
            Some((name, roots)) => Some(Tls {
                name,
                connector: connector(&roots, protocol)?,
                http1: connector(&roots, OriginProtocol::Http1)?,
            }),
            None => None,
        };
        let mut tcp = HttpConnector::new_with_resolver(resolver.clone());
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(Duration::from_secs(60)));
        let mut http1 = http1::Builder::new();
        http1.max_header_size(MAX_HEAD).max_buf_size(BUFFER);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX))
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT);
        Ok(Self {
            server,
            resolver,
            tcp,
            tls,
            protocol,
            timeout,
            http1,
            http2,
        })
    }

    /// Whether it takes a connection to know which protocol is spoken.
    pub(super) fn may_speak_http2(&self) -> bool {
        match self.protocol {
            OriginProtocol::Auto => self.tls.is_some(),
            OriginProtocol::Http1 => false,
            OriginProtocol::Http2 => true,
        }
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Makes a connection within the time that it may take, and `until` then at most.
    pub(super) async fn dial(&self, until: Option<Instant>) -> Result<Connection, OriginError> {
        let dialled = Box::pin(async {
            let tcp = self.dial_tcp().await?;
            match &self.tls {
                None => {
                    let http2 = self.protocol == OriginProtocol::Http2;
                    self.shake_hands(tcp, http2).await
                }
                Some(tls) => {
                    let stream = tls.connector.connect(tls.name.clone(), tcp).await?;
                    let http2 = stream.get_ref().1.alpn_protocol() == Some(H2);
                    if !http2 && self.protocol == OriginProtocol::Http2 {
                        return Err("the server does not speak HTTP/2".into());
                    }
                    self.shake_hands(stream, http2).await
                }
            }
        });
        self.in_time(dialled, until).await
    }

    /// Makes an HTTP/1.1 connection that can become another protocol's.
    pub(super) async fn dial_upgradable(
        &self,
        until: Option<Instant>,
    ) -> Result<Connection, OriginError> {
        let dialled = Box::pin(async {
            let tcp = self.dial_tcp().await?;
            match &self.tls {
                None => self.shake_hands_for_upgrade(tcp).await,
                Some(tls) => {
                    let stream = tls.http1.connect(tls.name.clone(), tcp).await?;
                    self.shake_hands_for_upgrade(stream).await
                }
            }
        });
        self.in_time(dialled, until).await
    }

    /// What dials is boxed: a handshake takes tens of kilobytes, which requests on kept connections need not carry along.
    async fn in_time(
        &self,
        dialled: Pin<Box<impl Future<Output = Result<Connection, BoxError>>>>,
        until: Option<Instant>,
    ) -> Result<Connection, OriginError> {
        let time = match until {
            None => self.timeout,
            Some(until) => self.timeout.min(until - Instant::now()),
        };
        match timeout(time, dialled).await {
            Ok(connection) => connection.map_err(OriginError::Unreachable),
            Err(_) => Err(OriginError::ConnectTimeout(time)),
        }
    }

    async fn dial_tcp(&self) -> Result<TcpStream, BoxError> {
        // An address in the URL never reaches the resolver.
        let host = self.server.host().unwrap_or_default();
        if let Ok(address) = bare(host).parse() {
            self.resolver.judge(address)?;
        }
        Ok(self
            .tcp
            .clone()
            .call(self.server.clone())
            .await?
            .into_inner())
    }

    async fn shake_hands<T>(&self, stream: T, http2: bool) -> Result<Connection, BoxError>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let stream = TokioIo::new(stream);
        if http2 {
            let (sender, connection) = self.http2.handshake::<_, RequestBody>(stream).await?;
            tokio::spawn(drive(connection));
            return Ok(Connection::Http2(Http2::new(sender)));
        }
        let (sender, connection) = self.http1.handshake(stream).await?;
        Ok(Connection::Http1(Http1::new(sender, connection)))
    }

    async fn shake_hands_for_upgrade<T>(&self, stream: T) -> Result<Connection, BoxError>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = self.http1.handshake(TokioIo::new(stream)).await?;
        let mut http1 = Http1::new(sender, connection.with_upgrades());
        http1.detach();
        Ok(Connection::Http1(http1))
    }
}

fn connector(
    roots: &Arc<RootCertStore>,
    protocol: OriginProtocol,
) -> Result<TlsConnector, rustls::Error> {
    // Named, since a process has no default provider once two are linked into it.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(Arc::clone(roots))
        .with_no_client_auth();
    config.alpn_protocols = match protocol {
        OriginProtocol::Auto => vec![H2.to_vec(), HTTP11.to_vec()],
        OriginProtocol::Http1 => vec![HTTP11.to_vec()],
        OriginProtocol::Http2 => vec![H2.to_vec()],
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

/// A host without the brackets of an IPv6 address.
fn bare(host: &str) -> &str {
    host.strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host)
}

/// The name that a certificate must have for this host.
pub(super) fn server_name(host: &str) -> Option<ServerName<'static>> {
    let host = bare(host);
    match host.parse::<std::net::IpAddr>() {
        Ok(address) => Some(ServerName::IpAddress(TlsAddress::from(address))),
        Err(_) => ServerName::try_from(host.to_owned()).ok(),
    }
}
