//! The bodies of requests to an origin and of its answers.
//!
//! An answer's body ends as if complete only when it is: hyper fails it when the connection ends before its length, its last
//! chunk or, under TLS, the `close_notify` of a body that ends with the connection. The connection rides along and goes back to the
//! pool at the last byte; a body that is dropped before it closes the connection.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::{OriginError, error::BoxError, lease::Lease};

/// The body of a request. Without one, which is usual, it costs nothing.
pub(super) enum RequestBody {
    Empty,
    Stream {
        inner: UnsyncBoxBody<Bytes, BoxError>,
        upload: Sending,
    },
}

impl RequestBody {
    pub(super) fn new<B>(body: B) -> Self
    where
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        if body.is_end_stream() {
            return Self::Empty;
        }
        Self::Stream {
            inner: body.map_err(Into::into).boxed_unsync(),
            upload: Sending(Arc::new(Upload::new())),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    pub(super) fn upload(&self) -> Option<&Arc<Upload>> {
        match self {
            Self::Empty => None,
            Self::Stream { upload, .. } => Some(&upload.0),
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Self::Stream { inner, upload } = self.get_mut() else {
            return Poll::Ready(None);
        };
        let frame = Pin::new(&mut *inner).poll_frame(context);
        upload.0.mark(match &frame {
            Poll::Pending => Stage::ViewerWrites,
            Poll::Ready(Some(Ok(frame))) if frame.is_data() && !inner.is_end_stream() => {
                Stage::OriginReads
            }
            Poll::Ready(Some(Ok(_)) | None) => Stage::Done,
            Poll::Ready(Some(Err(_))) => Stage::Failed,
        });
        frame
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Stream { inner, .. } => inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Stream { inner, .. } => inner.size_hint(),
        }
    }
}

/// The end of an upload at which it is read.
pub(super) struct Sending(Arc<Upload>);

impl Drop for Sending {
    fn drop(&mut self) {
        if self.0.is(Stage::OriginReads) {
            self.0.mark(Stage::LeftOff);
        } else if self.0.is(Stage::ViewerWrites) {
            self.0.mark(Stage::LeftViewer);
        }
    }
}

/// How far a request's body has come. Written where it is read, for whoever waits for the answer.
#[derive(Debug)]
pub(super) struct Upload {
    start: Instant,
    stage: AtomicU8,
    /// When the stage was entered or a piece was taken: microseconds after the start.
    at: AtomicU64,
}

/// Whose move it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Stage {
    /// The origin's, which has not taken the last piece. Also before the first.
    OriginReads,
    /// The viewer's, and whoever reads from it has a deadline of its own.
    ViewerWrites,
    /// The origin's, to answer.
    Done,
    /// Nobody's.
    Failed,
    /// The origin's, which wants no more of it.
    LeftOff,
    /// The same, but the viewer was waited for when it was left off.
    LeftViewer,
}

impl Upload {
    fn new() -> Self {
        Self {
            start: Instant::now(),
            stage: AtomicU8::new(Stage::OriginReads as u8),
            at: AtomicU64::new(0),
        }
    }

    /// From now on it is the origin's move.
    pub(super) fn begin(&self) {
        self.mark(Stage::OriginReads);
    }

    fn mark(&self, stage: Stage) {
        let at = self.start.elapsed().as_micros();
        self.at
            .store(u64::try_from(at).unwrap_or(u64::MAX), Relaxed);
        self.stage.store(stage as u8, Relaxed);
    }

    fn is(&self, stage: Stage) -> bool {
        self.stage.load(Relaxed) == stage as u8
    }

    pub(super) fn is_done(&self) -> bool {
        self.is(Stage::Done)
    }

    pub(super) fn has_failed(&self) -> bool {
        self.is(Stage::Failed)
    }

    /// Whether there is more of it to be sent.
    pub(super) fn is_going(&self) -> bool {
        self.is(Stage::OriginReads) || self.is(Stage::ViewerWrites)
    }

    /// Whether the viewer is waited for, or was until it was left off: a connection that ends may drop what it sends before anybody
    /// hears that it has ended.
    pub(super) fn waits_for_viewer(&self) -> bool {
        self.is(Stage::ViewerWrites) || self.is(Stage::LeftViewer)
    }

    /// Until when the origin may take, and whether it is the answer that is waited for.
    pub(super) fn deadline(&self, first_byte: Duration, idle: Duration) -> (Instant, bool) {
        let since = self.start + Duration::from_micros(self.at.load(Relaxed));
        if self.is(Stage::Done) {
            (since + first_byte, true)
        } else if self.is(Stage::ViewerWrites) {
            (Instant::now() + idle, false)
        } else {
            (since + idle, false)
        }
    }
}

/// The body of an answer. Dropping it early closes the connection, or resets the HTTP/2 stream.
///
/// In a box: it is handed on through a dozen layers before anybody reads of it.
pub struct OriginBody(Box<Answering>);

impl OriginBody {
    pub(super) fn new(incoming: Incoming, idle: Duration, lease: Lease) -> Self {
        let mut body = Box::new(Answering {
            incoming,
            idle,
            waiting: false,
            given: None,
            paused: Duration::ZERO,
            lease: Some(lease),
        });
        if body.incoming.is_end_stream() {
            body.complete();
        }
        Self(body)
    }
}

impl Body for OriginBody {
    type Data = Bytes;
    type Error = OriginError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, OriginError>>> {
        self.get_mut().0.poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.0.lease.is_none() && self.0.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.incoming.size_hint()
    }
}

/// An answer whose body is on its way.
struct Answering {
    incoming: Incoming,
    idle: Duration,
    /// Whether the origin is waited for, and the deadline is about that.
    waiting: bool,
    /// When the last frame was handed out, until more is asked for.
    given: Option<Instant>,
    /// How long nobody asked for more, all together.
    paused: Duration,
    /// Gone when the body has ended one way or the other.
    lease: Option<Lease>,
}

impl Answering {
    /// What comes next, and what moves the connection to that.
    fn poll_incoming(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let mut incoming = Pin::new(&mut self.incoming);
        let lease = self.lease.as_mut().filter(|lease| lease.is_driven_here());
        let Some(lease) = lease else {
            return incoming.poll_frame(context);
        };
        // What drives the connection sees at once what comes of it, and need not be woken.
        let unwoken = &mut Context::from_waker(Waker::noop());
        let there = incoming.as_mut().poll_frame(unwoken);
        if there.is_ready() {
            return there;
        }
        lease.drive(context);
        incoming.poll_frame(unwoken)
    }

    fn complete(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.complete();
        }
    }

    fn fail(&mut self, error: OriginError) -> OriginError {
        if let Some(lease) = self.lease.take() {
            lease.fail(&error);
        }
        error
    }

    /// The server ended it too early.
    fn break_off(&mut self, error: OriginError) -> OriginError {
        match self.lease.take() {
            // Servers close on who does not read for long. Who kept whom waiting is not known here.
            Some(lease) if self.paused > self.idle => lease.leave(),
            Some(lease) => lease.fail(&error),
            None => {}
        }
        error
    }

    /// hyper takes a reset with NO_ERROR for the end, whether or not it came after one (RFC 9113 §8.1).
    fn was_cut(&self) -> bool {
        self.lease.as_ref().is_some_and(Lease::is_http2) && !self.incoming.is_end_stream()
    }

    fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, OriginError>>> {
        if let Some(given) = self.given.take() {
            self.paused += given.elapsed();
        }
        if let Poll::Ready(frame) = self.poll_incoming(context) {
            self.waiting = false;
            return Poll::Ready(match frame {
                Some(Ok(frame)) => {
                    // Who knows the length does not ask for more.
                    if frame.is_trailers() || self.incoming.is_end_stream() {
                        self.complete();
                    } else {
                        self.given = Some(Instant::now());
                    }
                    Some(Ok(frame))
                }
                Some(Err(error)) => {
                    let upload = self.lease.as_ref().and_then(Lease::upload);
                    let error = OriginError::of_exchange(error, upload);
                    Some(Err(self.break_off(error)))
                }
                None if self.was_cut() => {
                    let error = OriginError::InvalidResponse("its stream was given up");
                    Some(Err(self.break_off(error)))
                }
                None => {
                    self.complete();
                    None
                }
            });
        }
        // A viewer that reads slowly is not a slow origin: the time counts only while it is waited for.
        let idle = self.idle;
        let Some(lease) = &mut self.lease else {
            return Poll::Pending;
        };
        if !self.waiting {
            self.waiting = true;
            lease.timer.set(Instant::now() + idle);
        }
        loop {
            ready!(lease.timer.poll(context));
            // While a request is still being sent, what the server took of it is a sign of life too.
            let sending = lease.upload().filter(|upload| upload.is_going());
            let until = sending.map(|upload| upload.deadline(idle, idle).0);
            match until.filter(|until| *until > Instant::now()) {
                Some(until) => lease.timer.set(until),
                None => break,
            }
        }
        Poll::Ready(Some(Err(self.fail(OriginError::IdleTimeout(idle)))))
    }
}

impl fmt::Debug for OriginBody {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("OriginBody")
            .field("incoming", &self.0.incoming)
            .finish_non_exhaustive()
    }
}
