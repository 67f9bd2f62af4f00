//! Making connections, to where they may be made.
//!
//! Where that is, is said here; that it is kept to when a name is resolved is [`dial`](crate::dial)'s.

use std::{
    collections::HashSet,
    future::Future,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use http::Uri;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use tokio::net::TcpStream;
use tower_service::Service;

use super::error::ConnectTimeout;
use crate::{
    dial::{Open, Resolve, Resolver},
    model::{OutboundGrant, Reach},
};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What a function may call beside public addresses: hosts and ports that it was granted, and what it reaches in its VPC.
#[derive(Debug, Clone, Default)]
pub(super) struct Grants {
    hosts: Arc<HashSet<(Host, u16)>>,
    reach: Arc<Reach>,
}

/// A host as it is compared: an address is one however it is written, and names have no case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Host {
    Address(IpAddr),
    Name(String),
}

impl Host {
    fn of(text: &str) -> Self {
        let bare = text
            .strip_prefix('[')
            .and_then(|text| text.strip_suffix(']'))
            .unwrap_or(text);
        match bare.parse() {
            Ok(address) => Self::Address(address),
            Err(_) => Self::Name(text.to_ascii_lowercase()),
        }
    }
}

impl Grants {
    pub(super) fn new(grants: &[OutboundGrant], reach: Reach) -> Self {
        let hosts = grants
            .iter()
            .map(|grant| (Host::of(&grant.host), grant.port));
        Self {
            hosts: Arc::new(hosts.collect()),
            reach: Arc::new(reach),
        }
    }

    /// What may be called at a host and port.
    fn open(&self, host: Host, port: u16) -> Open {
        match self.hosts.contains(&(host, port)) {
            true => Open::All,
            false if self.reach.is_empty() => Open::Public,
            false => Open::Within(self.reach.clone(), port),
        }
    }

    /// Whether the place that a URL names is one of them.
    pub(super) fn contain(&self, uri: &Uri) -> bool {
        self.hosts.contains(&place(uri))
    }
}

/// The host and port that a URL names.
fn place(uri: &Uri) -> (Host, u16) {
    let host = Host::of(uri.host().unwrap_or_default());
    let port = uri.port_u16().unwrap_or(match uri.scheme_str() {
        Some("https") => 443,
        _ => 80,
    });
    (host, port)
}

/// Dials TCP: freely to what was granted, and to public addresses.
#[derive(Clone)]
pub(super) struct Dialer {
    grants: Grants,
    resolver: Arc<dyn Resolve>,
}

impl Dialer {
    pub(super) fn new(grants: Grants, resolver: &Arc<dyn Resolve>) -> Self {
        Self {
            grants,
            resolver: Arc::clone(resolver),
        }
    }

    /// What dials where `open` says: made for each connection, of which there are few.
    fn connector(&self, open: Open) -> HttpConnector<Resolver> {
        let resolver = Resolver::new(Arc::clone(&self.resolver), open);
        let mut connector = HttpConnector::new_with_resolver(resolver);
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_keepalive(Some(Duration::from_secs(60)));
        connector
    }
}

impl Service<Uri> for Dialer {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        // The connectors and their resolvers are always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (host, port) = place(&uri);
        let literal = match &host {
            Host::Address(address) => Some(*address),
            Host::Name(_) => None,
        };
        let open = self.grants.open(host, port);
        // An address in the URL never reaches the resolver.
        if let Some(Err(refused)) = literal.map(|address| open.judge(address)) {
            return Box::pin(async { Err(refused.into()) });
        }
        let dialled = self.connector(open).call(uri);
        Box::pin(async { Ok(dialled.await?) })
    }
}

/// Dials, and shakes hands for TLS, in bounded time.
///
/// The bound is the node's. A connection is made for whoever is first to need it, so a guest's own, shorter patience is
/// looked after where it waits.
#[derive(Clone)]
pub(super) struct Connector {
    https: HttpsConnector<Dialer>,
    timeout: Duration,
}

impl Connector {
    pub(super) fn new(dialer: Dialer, tls: Arc<rustls::ClientConfig>, timeout: Duration) -> Self {
        Self {
            https: HttpsConnector::from((dialer, tls)),
            timeout,
        }
    }
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.https.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connected = tokio::time::timeout(self.timeout, self.https.call(uri));
        Box::pin(async { connected.await.map_err(|_| ConnectTimeout)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_is_for_one_host_and_port_however_they_are_written() {
        let grant = |host: &str, port| OutboundGrant {
            host: host.to_owned(),
            port,
        };
        let grants = [grant("DB.internal", 5432), grant("::1", 80)];
        let grants = Grants::new(&grants, Reach::default());
        let granted = |host: &str, port| matches!(grants.open(Host::of(host), port), Open::All);
        assert!(granted("db.Internal", 5432));
        assert!(granted("[::1]", 80));
        assert!(granted("[0:0::1]", 80));
        for (host, port) in [
            ("db.internal", 80),
            ("x.db.internal", 5432),
            ("db.internal.", 5432),
            ("127.0.0.1", 80),
            ("", 80),
        ] {
            assert!(!granted(host, port), "{host}:{port}");
        }
    }
}
