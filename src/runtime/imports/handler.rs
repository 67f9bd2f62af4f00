//! `wasi:http/handler`, imported: what stands behind a middleware in its distribution.
//!
//! A middleware gets a request, asks what is behind it, and streams the answer on. Here its request is given to [`Next`], which
//! its invocation came with. What is made of a message that broke off is not to look complete, whatever the guest makes of
//! the end that it was told: a request ends with an error then, and the invocation has failed.

use std::{
    fmt::Display,
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderName, Method, Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, combinators::UnsyncBoxBody};
use tokio::task::JoinHandle;
use wasmtime::component::{Accessor, Linker, Resource};
use wasmtime_wasi_http::{
    Error, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttp, WasiHttpCtxView,
    WasiHttpHooks,
    p3::{
        Request as RequestP3, Response as ResponseP3,
        bindings::http::{client::HostWithStore, types::ErrorCode},
    },
};

use super::outbound::{FORBIDDEN_FILTER, RequestBody, is_forbidden};
use crate::{
    model::{Outcome, has_dot_segment},
    runtime::account::Account,
};

/// Requests that one invocation may send on: one, and some more where it tries again.
const MAX_REQUESTS: u32 = 10;

/// The body of a request that goes on.
pub type NextRequestBody = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// The body of an answer from behind. Where it breaks off, the outcome says how.
pub type NextResponseBody = UnsyncBoxBody<Bytes, Outcome>;

/// An answer from behind a middleware, or how the request ended.
pub type NextAnswer = Result<Response<NextResponseBody>, Outcome>;

/// What stands behind a middleware.
pub trait Next: Send + Sync {
    /// Sends a request on.
    fn handle(
        &self,
        request: Request<NextRequestBody>,
    ) -> Pin<Box<dyn Future<Output = NextAnswer> + Send>>;
}

/// The side of an instance that stands before others.
///
/// In a store's state it stands before the resource table, as [`Outbound`](super::outbound::Outbound) does and why.
#[derive(Default)]
pub(crate) struct Chain(Option<Place>);

/// Where the invocation's middleware stands.
struct Place {
    next: Arc<dyn Next>,
    account: Arc<Account>,
    left: u32,
    /// What it sends on from now on is not complete.
    over: Arc<AtomicBool>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
    }
}

impl Chain {
    /// Begins an invocation. Once `over` is set, a body that it sends on ends with an error.
    pub(crate) fn begin(
        &mut self,
        next: Arc<dyn Next>,
        over: Arc<AtomicBool>,
        account: Arc<Account>,
    ) {
        self.0 = Some(Place {
            next,
            account,
            left: MAX_REQUESTS,
            over,
        });
    }

    /// Ends the invocation: nothing more is sent on.
    pub(crate) fn end(&mut self) {
        self.0 = None;
    }

    /// Takes one of the requests that are left.
    fn take(&mut self, request: &Request<WasiBody>) -> Result<&Place, Error> {
        if request.method() == Method::CONNECT {
            return Err(Error::HttpRequestMethodInvalid);
        }
        let uri = request.uri();
        if uri.authority().is_none() || has_dot_segment(uri.path()) {
            return Err(Error::HttpRequestUriInvalid);
        }
        let place = self.0.as_mut().ok_or(Error::HttpRequestDenied)?;
        place.left = place.left.checked_sub(1).ok_or(Error::HttpRequestDenied)?;
        Ok(place)
    }
}

/// Links the import. The rest of `wasi:http` is wasmtime's; of that it takes the way to send a request, under other hooks.
pub(in crate::runtime) fn add_to_linker<T: 'static>(
    linker: &mut Linker<T>,
    view: fn(&mut T) -> WasiHttpCtxView<'_>,
) -> wasmtime::Result<()> {
    type Answer = Result<Resource<ResponseP3>, ErrorCode>;
    let mut instance = linker.instance("wasi:http/handler@0.3.0")?;
    instance.func_wrap_concurrent(
        "handle",
        move |accessor: &Accessor<T>, (request,): (Resource<RequestP3>,)| {
            Box::pin(async move {
                let accessor = accessor.with_getter::<WasiHttp>(view);
                let answer: Answer = match WasiHttp::send(&accessor, request).await {
                    Ok(response) => Ok(response),
                    Err(error) => Err(error.downcast()?),
                };
                Ok((answer,))
            })
        },
    )
}

type BoxFuture<T> = Box<dyn Future<Output = T> + Send>;
type Io = BoxFuture<Result<(), Error>>;

impl WasiHttpHooks for Chain {
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        is_forbidden(name)
    }

    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::clone(&FORBIDDEN_FILTER)
    }

    fn set_host_header(&mut self) -> bool {
        false
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        _: Option<RequestOptions>,
        _: Io,
    ) -> BoxFuture<Result<(Response<WasiBody>, Io), Error>> {
        let place = match self.take(&request) {
            Ok(place) => place,
            Err(error) => return Box::new(async { Err(error) }),
        };
        let over = Arc::clone(&place.over);
        let account = Arc::downgrade(&place.account);
        let request = request.map(|inner| {
            RequestBody { inner, over }
                .map_err(Into::into)
                .boxed_unsync()
        });
        // In a task of its own: what is behind takes none of this one's processor time, and its timers do not wait for it.
        let mut behind = Behind(tokio::spawn(place.next.handle(request)));
        Box::new(async move {
            let answer = (&mut behind.0).await;
            match answer.unwrap_or(Err(Outcome::Internal)) {
                Ok(response) => {
                    let response =
                        response.map(|inner| FromBehind { inner, account }.boxed_unsync());
                    Ok((response, Box::new(async { Ok(()) }) as Io))
                }
                Err(outcome) => Err(told(outcome)),
            }
        })
    }
}

/// The task that asks what is behind. Who does not wait for it any more ends it.
struct Behind(JoinHandle<NextAnswer>);

impl Drop for Behind {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What a middleware is told about a request that got no answer.
fn told(outcome: Outcome) -> Error {
    match outcome {
        Outcome::OriginTimeout | Outcome::Timeout => Error::HttpResponseTimeout,
        Outcome::OriginUnreachable => Error::DestinationUnavailable,
        Outcome::BadRequest => Error::HttpRequestDenied,
        outcome => Error::InternalError(Some(outcome.to_string())),
    }
}

/// The body of an answer from behind, on its way into the guest.
struct FromBehind {
    inner: NextResponseBody,
    account: Weak<Account>,
}

impl Body for FromBehind {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        Poll::Ready(frame.map(|frame| {
            frame.map_err(|outcome| {
                if let Some(account) = self.account.upgrade() {
                    account.refuse_as(outcome, &"the answer that it streams on broke off");
                }
                Error::ConnectionTerminated
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A request's body on its way into a middleware. If it breaks off, so does what is made of it.
pub(in crate::runtime) struct Guarded<B> {
    pub(in crate::runtime) inner: B,
    pub(in crate::runtime) over: Arc<AtomicBool>,
}

impl<B> Body for Guarded<B>
where
    B: Body<Data = Bytes, Error: Display> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        if let Some(Err(_)) = &frame {
            self.over.store(true, Ordering::Release);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
