//! The bodies of a connection's requests and responses: the protocol's and the handler's, each with what the connection wants to know.

use std::{
    error::Error,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};

use super::{
    ListenerStats, http3,
    progress::{InFlight, Progress, StreamProgress},
};

/// The body of a request. It fails when the client sends none of it for the listener's body deadline while it is waited for.
#[derive(Debug)]
pub struct RequestBody {
    source: Source,
    allowed: Duration,
    /// Made when the body is first waited for: the bodies that come with their heads need none.
    timer: Option<Pin<Box<Sleep>>>,
    /// Whether the timer is about the wait that goes on.
    waiting: bool,
    stats: Arc<ListenerStats>,
    progress: Arc<Progress>,
}

/// Where a body comes from.
#[derive(Debug)]
pub(super) enum Source {
    /// HTTP/1 or HTTP/2.
    Hyper(Incoming),
    /// HTTP/3. Apart, so that the others are small.
    Http3(Box<http3::Body>),
}

impl Source {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self {
            Self::Hyper(incoming) => Pin::new(incoming).poll_frame(cx).map_err(Into::into),
            Self::Http3(body) => body.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Hyper(incoming) => incoming.is_end_stream(),
            Self::Http3(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Hyper(incoming) => incoming.size_hint(),
            Self::Http3(body) => body.size_hint(),
        }
    }
}

/// Why a request's body did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The client sent nothing for this long.
    #[error("the request's body made no progress for {0:?}")]
    Stalled(Duration),
    /// The connection failed, or the body's framing is wrong.
    #[error("read the request's body")]
    Connection(#[source] BoxError),
}

impl RequestBody {
    pub(super) fn new(
        source: Source,
        allowed: Duration,
        stats: &Arc<ListenerStats>,
        progress: &Arc<Progress>,
    ) -> Self {
        if source.is_end_stream() {
            progress.read_whole_request();
        }
        Self {
            source,
            allowed,
            timer: None,
            waiting: false,
            stats: Arc::clone(stats),
            progress: Arc::clone(progress),
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = this.source.poll_frame(cx) {
            this.waiting = false;
            let ended = match &frame {
                // Who knows the length does not ask for more.
                Some(Ok(frame)) => frame.is_trailers() || this.source.is_end_stream(),
                Some(Err(_)) => false,
                None => true,
            };
            if ended {
                this.progress.read_whole_request();
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Connection)));
        }
        let timer = match &mut this.timer {
            Some(timer) => {
                if !this.waiting {
                    timer.as_mut().reset(Instant::now() + this.allowed);
                }
                timer
            }
            timer @ None => timer.insert(Box::pin(tokio::time::sleep(this.allowed))),
        };
        this.waiting = true;
        if timer.as_mut().poll(cx).is_ready() {
            this.waiting = false;
            this.stats.body_timeouts.increment();
            return Poll::Ready(Some(Err(BodyError::Stalled(this.allowed))));
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.source.size_hint()
    }
}

/// The most bytes of a body given to an HTTP/2 or HTTP/3 stream at once, as large as a frame. So a client that takes a large answer slowly
/// shows progress piece by piece.
const STREAM_PIECE: usize = 16 * 1024;

pub(super) type BoxError = Box<dyn Error + Send + Sync>;

pin_project! {
    /// The body of a response: keeps its request in flight until it is dropped.
    pub(super) struct ResponseBody<B> {
        // Nothing when the answer has no body whatever the handler gave.
        #[pin]
        inner: Option<B>,
        rest: Bytes,
        stream: Option<Arc<StreamProgress>>,
        in_flight: InFlight,
    }
}

impl<B: Body<Data = Bytes>> ResponseBody<B> {
    /// A body on HTTP/1, where writing is watched at the socket.
    pub(super) fn on_connection(inner: Option<B>, in_flight: InFlight) -> Self {
        Self {
            inner,
            rest: Bytes::new(),
            stream: None,
            in_flight,
        }
    }

    /// A body on an HTTP/2 or HTTP/3 stream.
    pub(super) fn on_stream(
        inner: Option<B>,
        stream: Arc<StreamProgress>,
        in_flight: InFlight,
    ) -> Self {
        Self {
            inner,
            rest: Bytes::new(),
            stream: Some(stream),
            in_flight,
        }
    }

    /// Whether the answer has no body whatever the handler gave.
    pub(super) fn is_withheld(&self) -> bool {
        self.inner.is_none()
    }
}

impl<B: Body<Data = Bytes>> Body for ResponseBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        let Some(stream) = this.stream else {
            return match this.inner.as_pin_mut() {
                Some(inner) => inner.poll_frame(cx),
                None => Poll::Ready(None),
            };
        };
        stream.asked();
        if this.rest.is_empty() {
            let Some(inner) = this.inner.as_pin_mut() else {
                return Poll::Ready(None);
            };
            match ready!(inner.poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => *this.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end => return Poll::Ready(end),
            }
        }
        let piece = this.rest.split_to(this.rest.len().min(STREAM_PIECE));
        stream.given();
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        match &self.inner {
            Some(inner) => with_rest(inner.size_hint(), rest),
            None => SizeHint::with_exact(rest),
        }
    }
}

/// The size of a body of which so many bytes more were taken and not handed on.
pub(super) fn with_rest(mut hint: SizeHint, rest: u64) -> SizeHint {
    if rest > 0 {
        // The upper bound first: a lower bound may not pass it.
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint.set_lower(hint.lower().saturating_add(rest));
    }
    hint
}
