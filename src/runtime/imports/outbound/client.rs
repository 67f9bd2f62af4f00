//! Connections to other hosts, kept and shared.

use std::{pin::pin, sync::Arc, time::Duration};

use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{self, connect::capture_connection},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer};
use wasmtime_wasi_http::{Error, RequestOptions};

use super::{
    body::RequestBody,
    connect::{Connector, Dialer, Grants},
    error,
};
use crate::{
    dial::{Refused, Resolve, SystemResolver},
    model::{OutboundGrant, Reach},
};

/// The longest that a guest may let the node wait. A guest's request options can only shorten these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OutboundTimeouts {
    /// For a connection, TLS included; 10 s by default.
    pub(crate) connect: Duration,
    /// From the connection to the head of the response; 300 s by default.
    pub(crate) first_byte: Duration,
    /// For each next piece of a response's body; 300 s by default.
    pub(crate) between_bytes: Duration,
}

impl Default for OutboundTimeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            first_byte: Duration::from_secs(300),
            between_bytes: Duration::from_secs(300),
        }
    }
}

impl OutboundTimeouts {
    /// What holds for one request.
    fn with(self, options: Option<RequestOptions>) -> Self {
        let options = options.unwrap_or_default();
        let shorter = |own: Option<Duration>, most: Duration| own.unwrap_or(most).min(most);
        Self {
            connect: shorter(options.connect_timeout, self.connect),
            first_byte: shorter(options.first_byte_timeout, self.first_byte),
            between_bytes: shorter(options.between_bytes_timeout, self.between_bytes),
        }
    }
}

/// What outbound requests go through: one a node.
pub(crate) struct OutboundClient {
    timeouts: OutboundTimeouts,
    tls: Arc<ClientConfig>,
    resolver: Arc<dyn Resolve>,
    public: OutboundPool,
}

impl OutboundClient {
    /// A client that trusts Mozilla's root certificates and `extra_roots`.
    ///
    /// Fails if one of these is no certificate.
    pub(crate) fn new(
        timeouts: OutboundTimeouts,
        extra_roots: &[CertificateDer<'_>],
    ) -> Result<Self, rustls::Error> {
        Self::with_resolver(timeouts, extra_roots, Arc::new(SystemResolver::default()))
    }

    pub(super) fn with_resolver(
        timeouts: OutboundTimeouts,
        extra_roots: &[CertificateDer<'_>],
        resolver: Arc<dyn Resolve>,
    ) -> Result<Self, rustls::Error> {
        let mut roots = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        for certificate in extra_roots {
            roots.add(certificate.clone().into_owned())?;
        }
        // Named, since a process has no default provider once two are linked into it.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let tls = Arc::new(tls);
        let public = OutboundPool::new(timeouts, &tls, &resolver, Grants::default());
        Ok(Self {
            timeouts,
            tls,
            resolver,
            public,
        })
    }

    /// The connections for functions with these grants, and this reach into the node's VPC; to be made once a function and
    /// kept with it.
    ///
    /// Functions without grants share one pool. Each other gets its own: a kept connection would hand the grant it was
    /// made under to whoever asks for the same host next.
    pub(crate) fn pool(&self, grants: &[OutboundGrant], reach: Reach) -> OutboundPool {
        if grants.is_empty() && reach.is_empty() {
            self.public.clone()
        } else {
            let grants = Grants::new(grants, reach);
            OutboundPool::new(self.timeouts, &self.tls, &self.resolver, grants)
        }
    }

    /// The connections for a function that calls nothing but what it was granted.
    pub(crate) fn pool_of_granted(&self, grants: &[OutboundGrant]) -> OutboundPool {
        OutboundPool {
            only: Some(Grants::new(grants, Reach::default())),
            ..self.pool(grants, Reach::default())
        }
    }
}

/// Connections, kept while idle for a minute and a half. A clone is the same pool.
#[derive(Clone)]
pub(crate) struct OutboundPool {
    timeouts: OutboundTimeouts,
    client: legacy::Client<Connector, RequestBody>,
    /// Nothing else may be called, be it public or not.
    only: Option<Grants>,
}

/// Why a request got no response.
pub(super) enum Failure {
    /// It may not be made.
    Refused(Refused),
    /// It failed.
    Failed(Error),
}

impl OutboundPool {
    fn new(
        timeouts: OutboundTimeouts,
        tls: &Arc<ClientConfig>,
        resolver: &Arc<dyn Resolve>,
        grants: Grants,
    ) -> Self {
        let dialer = Dialer::new(grants, resolver);
        let client = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(90))
            .pool_max_idle_per_host(32)
            .http1_max_buf_size(128 << 10)
            .http2_max_header_list_size(64 << 10)
            .build(Connector::new(dialer, Arc::clone(tls), timeouts.connect));
        Self {
            timeouts,
            client,
            only: None,
        }
    }

    /// Whether a request there is worth making.
    pub(super) fn reaches(&self, uri: &Uri) -> bool {
        self.only.as_ref().is_none_or(|grants| grants.contain(uri))
    }

    /// Sends a request. The response comes with how long its body may pause.
    pub(super) async fn send(
        &self,
        mut request: Request<RequestBody>,
        options: Option<RequestOptions>,
    ) -> Result<(Response<Incoming>, Duration), Failure> {
        let timeouts = self.timeouts.with(options);
        let mut connection = capture_connection(&mut request);
        let mut response = pin!(self.client.request(request));
        let connected = async {
            let _ = connection.wait_for_connection_metadata().await;
        };
        let response = tokio::select! {
            biased;
            // Without a connection it can only have failed, or been quick.
            response = &mut response => response,
            connected = tokio::time::timeout(timeouts.connect, connected) => {
                connected.map_err(|_| Failure::Failed(Error::ConnectionTimeout))?;
                tokio::time::timeout(timeouts.first_byte, response)
                    .await
                    .map_err(|_| Failure::Failed(Error::ConnectionReadTimeout))?
            }
        };
        match response {
            Ok(response) => Ok((response, timeouts.between_bytes)),
            Err(failure) => Err(match error::refused(&failure) {
                Some(refused) => Failure::Refused(refused.clone()),
                None => {
                    tracing::debug!(
                        error = &failure as &dyn std::error::Error,
                        "outbound request failed"
                    );
                    Failure::Failed(error::classify(&failure))
                }
            }),
        }
    }
}
