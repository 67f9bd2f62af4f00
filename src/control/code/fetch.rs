//! Getting bytes from other hosts, within bounds.
//!
//! How much comes and how long it takes is bounded whatever the other side does. An address that a caller of the API names
//! is held to be one that anybody could reach, unless the node's operator named it: an API that fetches for its callers must
//! not show them the node's own network.

use std::{net::IpAddr, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Body as _;
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use url::{Host, Url};

use crate::dial::{Open, Refused, Resolver, SystemResolver};

/// How long a connection may take, TLS included.
const CONNECT: Duration = Duration::from_secs(10);

/// How long the other side may be silent.
const SILENCE: Duration = Duration::from_secs(30);

/// How long one answer may take in all.
const WHOLE: Duration = Duration::from_secs(180);

/// The most redirects that are followed.
const REDIRECTS: usize = 5;

/// Why nothing was fetched. The message has no query: it may be a signature.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// There was no connection, or it broke.
    #[error("cannot reach {host}: {problem}")]
    Unreachable {
        /// The host.
        host: String,
        /// What went wrong.
        problem: String,
    },
    /// It took too long.
    #[error("{0} did not answer in time")]
    Timeout(String),
    /// There is more than was asked for.
    #[error("{host} sends more than {limit} bytes")]
    TooLarge {
        /// The host.
        host: String,
        /// How much was asked for.
        limit: u64,
    },
    /// It leads where nothing is fetched from.
    #[error("{0}")]
    Refused(String),
}

/// What an address may lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Anywhere, also in clear text: the operator named it.
    Named,
    /// Public addresses, and only with TLS.
    Public,
}

impl Reach {
    /// The addresses that may be dialled.
    fn open(self) -> Open {
        match self {
            Self::Named => Open::All,
            Self::Public => Open::Public,
        }
    }
}

/// What came.
pub(super) struct Fetched {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// A client. Cheap to clone.
#[derive(Clone)]
pub(super) struct Fetch {
    named: Client<HttpsConnector<HttpConnector<Resolver>>, Empty<Bytes>>,
    public: Client<HttpsConnector<HttpConnector<Resolver>>, Empty<Bytes>>,
}

impl Fetch {
    /// A client that trusts Mozilla's root certificates.
    pub(super) fn new() -> Result<Self, rustls::Error> {
        Ok(Self {
            named: client(Reach::Named)?,
            public: client(Reach::Public)?,
        })
    }

    /// Gets up to `limit` bytes. Redirects are followed; elsewhere `headers` lack the `Authorization`. `reach` judges each
    /// address.
    pub(super) async fn get(
        &self,
        url: Url,
        headers: HeaderMap,
        reach: &(dyn Fn(&Url) -> Reach + Sync),
        limit: u64,
    ) -> Result<Fetched, FetchError> {
        let host = host(&url);
        let got = Box::pin(self.follow(url, headers, reach, limit));
        match tokio::time::timeout(WHOLE, got).await {
            Ok(got) => got,
            Err(_) => Err(FetchError::Timeout(host)),
        }
    }

    async fn follow(
        &self,
        mut url: Url,
        mut headers: HeaderMap,
        reach: &(dyn Fn(&Url) -> Reach + Sync),
        limit: u64,
    ) -> Result<Fetched, FetchError> {
        for _ in 0..=REDIRECTS {
            let fetched = self.once(&url, headers.clone(), reach(&url), limit).await?;
            let location = match fetched.status {
                StatusCode::MOVED_PERMANENTLY
                | StatusCode::FOUND
                | StatusCode::TEMPORARY_REDIRECT
                | StatusCode::PERMANENT_REDIRECT => fetched.headers.get(header::LOCATION),
                _ => None,
            };
            let Some(location) = location.and_then(|location| location.to_str().ok()) else {
                return Ok(fetched);
            };
            let next = url
                .join(location)
                .map_err(|_| FetchError::Refused(format!("{} redirects to nowhere", host(&url))))?;
            if next.origin() != url.origin() {
                headers.remove(header::AUTHORIZATION);
            }
            url = next;
        }
        Err(FetchError::Refused(format!(
            "{} redirects too often",
            host(&url)
        )))
    }

    async fn once(
        &self,
        url: &Url,
        headers: HeaderMap,
        reach: Reach,
        limit: u64,
    ) -> Result<Fetched, FetchError> {
        check(url, reach)?;
        let host = host(url);
        let unreachable = |problem: String| FetchError::Unreachable {
            host: host.clone(),
            problem,
        };
        let mut request = Request::builder()
            .method(Method::GET)
            .uri(url.as_str())
            .body(Empty::new())
            .map_err(|error| unreachable(error.to_string()))?;
        *request.headers_mut() = headers;
        let client = match reach {
            Reach::Named => &self.named,
            Reach::Public => &self.public,
        };
        let silent = |_| FetchError::Timeout(host.clone());
        let response = tokio::time::timeout(CONNECT + SILENCE, client.request(request))
            .await
            .map_err(silent)?
            .map_err(|error| unreachable(innermost(&error)))?;
        let (head, mut body) = response.into_parts();
        let too_large = || FetchError::TooLarge {
            host: host.clone(),
            limit,
        };
        if body.size_hint().lower() > limit {
            return Err(too_large());
        }
        let mut bytes = BytesMut::new();
        while let Some(frame) = tokio::time::timeout(SILENCE, body.frame())
            .await
            .map_err(silent)?
        {
            let frame = frame.map_err(|error| unreachable(innermost(&error)))?;
            let data = frame.into_data().unwrap_or_default();
            if (bytes.len() + data.len()) as u64 > limit {
                return Err(too_large());
            }
            bytes.extend_from_slice(&data);
        }
        Ok(Fetched {
            status: head.status,
            headers: head.headers,
            body: bytes.freeze(),
        })
    }
}

fn client(
    reach: Reach,
) -> Result<Client<HttpsConnector<HttpConnector<Resolver>>, Empty<Bytes>>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_webpki_roots()
        .with_no_client_auth();
    let resolver = Resolver::new(Arc::new(SystemResolver::default()), reach.open());
    let mut http = HttpConnector::new_with_resolver(resolver);
    http.enforce_http(false);
    http.set_connect_timeout(Some(CONNECT));
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls);
    let connector = match reach {
        Reach::Named => connector.https_or_http(),
        Reach::Public => connector.https_only(),
    };
    let connector = connector.enable_http1().wrap_connector(http);
    Ok(Client::builder(TokioExecutor::new())
        .pool_idle_timeout(SILENCE)
        .build(connector))
}

/// Whether an address may be called, as far as it can be told before its name is resolved.
fn check(url: &Url, reach: Reach) -> Result<(), FetchError> {
    let refused = |why: String| Err(FetchError::Refused(format!("{}: {why}", host(url))));
    if !url.username().is_empty() || url.password().is_some() {
        return refused("an address has no user".to_owned());
    }
    match (url.scheme(), reach) {
        ("https", _) | ("http", Reach::Named) => {}
        ("http", Reach::Public) => {
            return refused(
                "it would be called in clear text, and the node's operator did not allow that"
                    .to_owned(),
            );
        }
        (scheme, _) => return refused(format!("`{scheme}` is not HTTP")),
    }
    let address = match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::from(address),
        Some(Host::Ipv6(address)) => IpAddr::from(address),
        Some(Host::Domain(_)) => return Ok(()),
        None => return refused("there is no host".to_owned()),
    };
    match reach.open().judge(address) {
        Ok(()) => Ok(()),
        Err(refusal) => refused(not_public(&refusal)),
    }
}

fn not_public(Refused { address, reason }: &Refused) -> String {
    format!("{address} is not public ({reason}), and the node's operator did not allow it")
}

/// A host and its port, for messages.
pub(super) fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// What an error comes from: the rest says that something failed.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    if let Some(refused) = cause.downcast_ref() {
        return not_public(refused);
    }
    cause.to_string()
}
