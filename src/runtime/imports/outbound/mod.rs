//! Outbound HTTP: the requests that guests make, of `wasi:http` 0.2 and 0.3 alike.
//!
//! A function calls public addresses and what it was granted, so often and so many at a time as its configuration says.
//! [`dial`](crate::dial) says what is public, [`connect`] what else, [`client`] keeps the connections.
//!
//! Redirects are not followed: the guest gets them, and what it makes of them is judged anew. That requests come back
//! round to this node is not noticed here.

mod body;
mod client;
mod connect;
mod error;

use std::{
    future::Future,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::FutureExt as _;
use http::{HeaderName, Method, Request, Response, Uri, header};
use http_body_util::BodyExt as _;
use tokio::sync::Semaphore;
use wasmtime_wasi_http::{Error, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpHooks};

pub(super) use self::body::RequestBody;
pub(crate) use self::client::{OutboundClient, OutboundPool, OutboundTimeouts};
use self::{body::ResponseBody, client::Failure};
pub(crate) use crate::telemetry::metrics::Outbound as Refusal;

/// The headers that are the connection's, and so the node's: RFC 9110, section 7.6.1, and what proxies made of it. `Host`
/// is the request's authority. A guest can neither set them nor see them.
static FORBIDDEN: [HeaderName; 9] = [
    header::CONNECTION,
    header::HOST,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
];

/// [`is_forbidden`] as wasmtime wants it for its tasks: made once, since it is asked for with every body.
pub(super) static FORBIDDEN_FILTER: LazyLock<ForbiddenHeaderFilter> =
    LazyLock::new(|| Arc::new(is_forbidden));

pub(super) fn is_forbidden(name: &HeaderName) -> bool {
    FORBIDDEN.contains(name)
}

/// Where a function learns why its requests were refused.
pub(crate) trait OutboundLog: Send + Sync {
    /// A request was sent, and answered.
    fn sent(&self);

    /// A request was refused. The message is a line without its end.
    fn refused(&self, why: Refusal, message: &str);
}

/// The outbound side of an instance: what `wasi:http` asks of its host.
///
/// In a store's state it stands before the resource table, so that it is dropped first: see [`RequestBody`].
pub(crate) struct Outbound {
    pool: OutboundPool,
    /// None before the first invocation: an instance that is made ahead calls nobody.
    invocation: Option<Invocation>,
    calls: u64,
}

/// What one invocation may still do.
struct Invocation {
    left: u32,
    concurrency: u32,
    log: Arc<dyn OutboundLog>,
    /// Made with the first request: most invocations make none.
    in_flight: Option<InFlight>,
}

/// What the requests of one invocation share.
struct InFlight {
    slots: Arc<Semaphore>,
    over: Arc<AtomicBool>,
}

impl InFlight {
    fn new(concurrency: u32) -> Self {
        let slots = usize::try_from(concurrency).unwrap_or(usize::MAX);
        Self {
            slots: Arc::new(Semaphore::new(slots.min(Semaphore::MAX_PERMITS))),
            over: Arc::default(),
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
    }
}

impl Outbound {
    /// The outbound side of a new instance. It makes no requests before [`begin`](Self::begin).
    pub(crate) fn new(pool: OutboundPool) -> Self {
        Self {
            pool,
            invocation: None,
            calls: 0,
        }
    }

    /// Begins an invocation, which may make so many requests, so many of them at one moment. It ends the one before.
    pub(crate) fn begin(&mut self, requests: u32, concurrency: u32, log: Arc<dyn OutboundLog>) {
        self.calls = 0;
        self.invocation = Some(Invocation {
            left: requests,
            concurrency,
            log,
            in_flight: None,
        });
    }

    /// Ends the invocation: no more requests, and those whose bodies are not sent to the end fail.
    pub(crate) fn end(&mut self) {
        self.invocation = None;
    }

    /// How many requests the invocation made, refused ones included.
    pub(crate) fn calls(&self) -> u64 {
        self.calls
    }

    /// Takes one of the requests that are left.
    fn take(&mut self, uri: &Uri) -> Result<(&InFlight, &Arc<dyn OutboundLog>), Error> {
        self.calls += 1;
        let Some(invocation) = &mut self.invocation else {
            return Err(Error::HttpRequestDenied);
        };
        let Some(left) = invocation.left.checked_sub(1) else {
            refuse(
                &*invocation.log,
                Refusal::Count,
                uri,
                "the invocation's outbound requests are used up",
            );
            return Err(Error::HttpRequestDenied);
        };
        invocation.left = left;
        if !self.pool.reaches(uri) {
            refuse(
                &*invocation.log,
                Refusal::NotGranted,
                uri,
                "a request hook calls only what it was granted",
            );
            return Err(Error::HttpRequestDenied);
        }
        let concurrency = invocation.concurrency;
        let in_flight = invocation
            .in_flight
            .get_or_insert_with(|| InFlight::new(concurrency));
        Ok((in_flight, &invocation.log))
    }
}

type BoxFuture<T> = Box<dyn Future<Output = T> + Send>;
type Io = BoxFuture<Result<(), Error>>;

impl WasiHttpHooks for Outbound {
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        is_forbidden(name)
    }

    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::clone(&FORBIDDEN_FILTER)
    }

    /// Hyper does, where the protocol has one.
    fn set_host_header(&mut self) -> bool {
        false
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Io,
    ) -> BoxFuture<Result<(Response<WasiBody>, Io), Error>> {
        let checked = check(&request).and_then(|()| self.take(request.uri()));
        let (slots, over, log) = match checked {
            Ok((in_flight, log)) => (
                Arc::clone(&in_flight.slots),
                Arc::clone(&in_flight.over),
                Arc::clone(log),
            ),
            Err(error) => return Box::new(async { Err(error) }),
        };
        let pool = self.pool.clone();
        // It stands in the line from here on, and not only when its task is run: a guest that reads the answers in the order in
        // which it asked would wait for ever if later ones had all the places.
        let mut permit = Box::pin(slots.acquire_owned());
        let at_once = permit.as_mut().now_or_never();
        Box::new(async move {
            let permit = match at_once {
                Some(permit) => permit,
                None => permit.await,
            };
            let permit = permit.map_err(|_| Error::HttpRequestDenied)?;
            let uri = request.uri().clone();
            let request = request.map(|inner| RequestBody { inner, over });
            match pool.send(request, options).await {
                Ok((response, between_bytes)) => {
                    log.sent();
                    let response = response
                        .map(|body| ResponseBody::new(body, between_bytes, permit).boxed_unsync());
                    // The connection is driven by a task of its own.
                    Ok((response, Box::new(async { Ok(()) }) as Io))
                }
                Err(Failure::Refused(refused)) => {
                    refuse(&*log, Refusal::Private, &uri, &refused.to_string());
                    Err(Error::DestinationIpProhibited)
                }
                Err(Failure::Failed(error)) => Err(error),
            }
        })
    }
}

/// What no pool of connections can carry.
fn check(request: &Request<WasiBody>) -> Result<(), Error> {
    // A tunnel would be out of sight of everything here.
    if request.method() == Method::CONNECT {
        return Err(Error::HttpRequestMethodInvalid);
    }
    match request.uri().authority() {
        Some(authority) if !authority.host().is_empty() && !authority.as_str().contains('@') => {
            Ok(())
        }
        _ => Err(Error::HttpRequestUriInvalid),
    }
}

/// Says why, to who runs the node and to who wrote the function. Path and query may hold secrets and stay out.
fn refuse(log: &dyn OutboundLog, why: Refusal, uri: &Uri, reason: &str) {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    tracing::warn!(authority, reason, "outbound request refused");
    log.refused(
        why,
        &format!("outbound request to {authority} refused: {reason}"),
    );
}

#[cfg(test)]
mod tests;
