//! The bodies of outbound requests and their responses.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, Sleep},
};
use wasmtime_wasi_http::{Error, WasiBody};

use super::error;

/// A request body as a guest writes it.
///
/// When the invocation is over, the guest's end of the body is dropped, whether it had finished the body or was stopped
/// in the midst of it, and the bytes just end. An origin must not take the half for the whole: an end that is seen after
/// the invocation's is an error, which closes the connection.
pub(in crate::runtime::imports) struct RequestBody {
    pub(in crate::runtime::imports) inner: WasiBody,
    pub(in crate::runtime::imports) over: Arc<AtomicBool>,
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        if frame.is_none() && self.over.load(Ordering::Acquire) {
            return Poll::Ready(Some(Err(Error::ConnectionTerminated)));
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

/// A response body on its way to a guest. The request counts as one in flight until the last byte.
pub(super) struct ResponseBody {
    incoming: Incoming,
    between_bytes: Duration,
    /// Runs only while the guest waits, so that a guest that reads slowly is not taken for a slow origin.
    timer: Option<Pin<Box<Sleep>>>,
    in_flight: Option<OwnedSemaphorePermit>,
}

impl ResponseBody {
    pub(super) fn new(
        incoming: Incoming,
        between_bytes: Duration,
        in_flight: OwnedSemaphorePermit,
    ) -> Self {
        let in_flight = (!incoming.is_end_stream()).then_some(in_flight);
        Self {
            incoming,
            between_bytes,
            timer: None,
            in_flight,
        }
    }

    fn wait(&mut self, context: &mut Context<'_>) -> Poll<Error> {
        let between_bytes = self.between_bytes;
        let timer = self.timer.get_or_insert_with(|| {
            Box::pin(tokio::time::sleep_until(Instant::now() + between_bytes))
        });
        ready!(timer.as_mut().poll(context));
        Poll::Ready(Error::ConnectionReadTimeout)
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match Pin::new(&mut self.incoming).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                self.timer = None;
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(cause))) => {
                self.in_flight = None;
                Poll::Ready(Some(Err(error::classify(&cause))))
            }
            Poll::Ready(None) => {
                self.in_flight = None;
                Poll::Ready(None)
            }
            Poll::Pending => {
                let error = ready!(self.wait(context));
                self.in_flight = None;
                Poll::Ready(Some(Err(error)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
