//! The connection to the directory: hyper, with the node's own rules for TLS, time and size.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use instant_acme::{BodyWrapper, BytesResponse, HttpClient};
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;

use super::{LONGEST, later};
use crate::{
    dial::{Open, Resolver, SystemResolver},
    tls,
};

/// How long an answer may take, and how large it may be. An authority may look at a host before it answers, for half a minute.
const WHOLE: Duration = Duration::from_secs(60);
/// How long a connection to it may take.
const CONNECT: Duration = Duration::from_secs(30);
const LIMIT: usize = 1 << 20;

/// A client of the directory. Cheap to clone.
#[derive(Clone)]
pub(super) struct Http {
    client: Client<HttpsConnector<HttpConnector<Resolver>>, BodyWrapper<Bytes>>,
    /// When the directory will be asked again, as it said itself: seconds since 1970.
    retry_after: Arc<AtomicI64>,
    closed_until: Arc<AtomicI64>,
}

impl Http {
    /// A client that trusts Mozilla's root certificates, and these. It dials what the operator named.
    pub(super) fn new(ca: &[CertificateDer<'static>]) -> Result<Self, rustls::Error> {
        let mut roots = rustls::RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.to_vec());
        for certificate in ca {
            roots.add(certificate.clone())?;
        }
        let config = rustls::ClientConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let resolver = Resolver::new(Arc::new(SystemResolver::default()), Open::All);
        let mut http = HttpConnector::new_with_resolver(resolver);
        http.enforce_http(false);
        http.set_connect_timeout(Some(CONNECT));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_only()
            .enable_http1()
            .wrap_connector(http);
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            retry_after: Arc::default(),
            closed_until: Arc::default(),
        })
    }

    /// Forgets what was said of an order.
    pub(super) fn begin(&self) {
        self.retry_after.store(0, Relaxed);
    }

    /// Before when the directory does not want to be asked for the same again.
    pub(super) fn retry_after(&self) -> Timestamp {
        Timestamp::from_second(self.retry_after.load(Relaxed)).unwrap_or_default()
    }

    /// Before when the directory does not want to be asked for anything.
    pub(super) fn closed_until(&self) -> Timestamp {
        Timestamp::from_second(self.closed_until.load(Relaxed)).unwrap_or_default()
    }
}

impl HttpClient for Http {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let client = self.clone();
        Box::pin(async move {
            let whole = async {
                let response = client.client.request(request).await?;
                let (mut head, body) = response.into_parts();
                if is_for_ever(&head.headers) {
                    // instant-acme adds it to the time of day, which it does not fit into.
                    head.headers.remove(header::RETRY_AFTER);
                }
                // Else it is how an order is polled, and instant-acme heeds it.
                if head.status.is_client_error() || head.status.is_server_error() {
                    let again = retry_after(&head.headers, Timestamp::now());
                    client.retry_after.fetch_max(again, Relaxed);
                    if head.status == StatusCode::SERVICE_UNAVAILABLE {
                        client.closed_until.fetch_max(again, Relaxed);
                    }
                }
                let body = Limited::new(body, LIMIT).collect().await?.to_bytes();
                let response = Response::from_parts(head, Full::new(body));
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(BytesResponse::from(response))
            };
            match tokio::time::timeout(WHOLE, whole).await {
                Ok(answered) => answered.map_err(instant_acme::Error::Other),
                Err(elapsed) => Err(instant_acme::Error::Other(elapsed.into())),
            }
        })
    }
}

/// When the answer says that one may ask again (RFC 9110, section 10.2.3), in seconds since 1970, a day from now at most; 0 if it
/// does not say.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> i64 {
    let said = headers.get(header::RETRY_AFTER);
    let Some(said) = said.and_then(|value| value.to_str().ok()) else {
        return 0;
    };
    let at = match said.parse::<u32>() {
        Ok(seconds) => now.as_second() + i64::from(seconds),
        Err(_) => match httpdate::parse_http_date(said).map(Timestamp::try_from) {
            Ok(Ok(at)) => at.as_second(),
            _ => 0,
        },
    };
    at.min(later(now, LONGEST).as_second())
}

/// Whether an answer asks to wait for longer than anybody will, in seconds.
fn is_for_ever(headers: &HeaderMap) -> bool {
    let said = headers.get(header::RETRY_AFTER);
    let seconds = said.and_then(|said| said.to_str().ok()?.parse::<u64>().ok());
    seconds.is_some_and(|seconds| seconds > u64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_wait_is_longer_than_the_time_of_day_can_tell() {
        for (said, expected) in [
            ("60", false),
            ("4294967295", false),
            ("4294967296", true),
            ("18446744073709551615", true),
            ("Fri, 31 Dec 9999 23:59:59 GMT", false),
        ] {
            let value = said.parse().unwrap();
            let headers = HeaderMap::from_iter([(header::RETRY_AFTER, value)]);
            assert_eq!(is_for_ever(&headers), expected, "{said}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = Timestamp::from_second(1_000).unwrap();
        let said = |value: &str| {
            let headers = HeaderMap::from_iter([(header::RETRY_AFTER, value.parse().unwrap())]);
            retry_after(&headers, now)
        };
        assert_eq!(said("120"), 1_120);
        assert_eq!(said("Thu, 01 Jan 1970 01:00:00 GMT"), 3_600);
        assert_eq!(said("soon"), 0);
        // Whatever it says, it is asked again the next day.
        assert_eq!(said("4294967295"), 87_400);
        assert_eq!(retry_after(&HeaderMap::new(), now), 0);
    }
}
