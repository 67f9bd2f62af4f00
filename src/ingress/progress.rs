//! What a connection is doing, seen from outside of hyper, and for how long it may.
//!
//! hyper's own header timeout allocates, arms and disarms a timer for every request of a connection. Here a connection has one
//! timer: the socket and the requests leave marks in [`Progress`], and the [`Watchdog`] looks at them when the connection has
//! nothing more to do. A deadline that moves later is only noted; the timer finds out when it fires. So a request on a kept-alive
//! connection costs one reading of the clock and no timer.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::task::AtomicWaker;
use tokio::time::{Instant, Sleep};

use super::{Deadlines, Switched};

/// How far the server has come to its end, told to every connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Stage {
    /// Requests are taken.
    Serving,
    /// Requests in flight are finished, no other is taken.
    Draining,
    /// Everything stops now.
    Stopped,
}

/// The marks of one connection. Written by its socket and its requests, read by its [`Watchdog`].
///
/// Everything is relaxed: a mark is written in the task that reads it, or before that task is woken, and waking orders them.
#[derive(Debug)]
pub(super) struct Progress {
    stage: AtomicU8,
    task: AtomicWaker,
    /// Requests taken and not answered to the last byte of their bodies.
    in_flight: AtomicU32,
    /// Requests taken so far; wraps.
    taken: AtomicU32,
    /// Bytes arrived that are not known to belong to a request that was taken.
    head_begun: AtomicBool,
    /// Bytes arrived that are not known to belong to a request that was read to its end. Kept for HTTP/1 only.
    unread: AtomicBool,
    /// The last write could not go on.
    write_blocked: AtomicBool,
    /// How often a write went on after it could not; wraps.
    write_resumed: AtomicU32,
    /// What the connection becomes when its last answer, a 101, is sent.
    switched: Mutex<Option<Switched>>,
}

impl Progress {
    /// A connection that has just been accepted: its client owes the head of a request.
    pub(super) fn new() -> Self {
        Self {
            stage: AtomicU8::new(Stage::Serving as u8),
            task: AtomicWaker::new(),
            in_flight: AtomicU32::new(0),
            taken: AtomicU32::new(0),
            head_begun: AtomicBool::new(true),
            unread: AtomicBool::new(false),
            write_blocked: AtomicBool::new(false),
            write_resumed: AtomicU32::new(0),
            switched: Mutex::new(None),
        }
    }

    /// The connection becomes another after the answer.
    pub(super) fn switch(&self, switched: Option<Switched>) {
        *self.switched.lock().unwrap_or_else(PoisonError::into_inner) = switched;
    }

    /// Whether the connection becomes another after the answer.
    pub(super) fn is_switching(&self) -> bool {
        let switched = self.switched.lock().unwrap_or_else(PoisonError::into_inner);
        switched.is_some()
    }

    /// What the connection has become.
    pub(super) fn switched(&self) -> Option<Switched> {
        let mut switched = self.switched.lock().unwrap_or_else(PoisonError::into_inner);
        switched.take()
    }

    /// Tells the connection that the server has come to `stage`.
    pub(super) fn advance(&self, stage: Stage) {
        self.stage.fetch_max(stage as u8, Relaxed);
        self.task.wake();
    }

    /// How far the server has come; the task is woken when that changes.
    pub(super) fn stage(&self, cx: &Context<'_>) -> Stage {
        self.task.register(cx.waker());
        match self.stage.load(Relaxed) {
            stage if stage == Stage::Serving as u8 => Stage::Serving,
            stage if stage == Stage::Draining as u8 => Stage::Draining,
            _ => Stage::Stopped,
        }
    }

    /// Ready when the server has come to `stage`, or further.
    pub(super) async fn reached(&self, stage: Stage) {
        std::future::poll_fn(|cx| {
            if self.stage(cx) < stage {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        })
        .await;
    }

    /// Whether a request is in flight.
    pub(super) fn is_serving(&self) -> bool {
        self.in_flight.load(Relaxed) > 0
    }

    pub(super) fn read(&self) {
        self.head_begun.store(true, Relaxed);
        self.unread.store(true, Relaxed);
    }

    /// A request was read to the end of its body.
    pub(super) fn read_whole_request(&self) {
        self.unread.store(false, Relaxed);
    }

    /// Whether the client may still be sending something that nobody will read.
    pub(super) fn is_unread(&self) -> bool {
        self.unread.load(Relaxed)
    }

    pub(super) fn write_is_blocked(&self) {
        self.write_blocked.store(true, Relaxed);
    }

    pub(super) fn wrote(&self) {
        if self.write_blocked.load(Relaxed) {
            self.write_blocked.store(false, Relaxed);
            self.write_resumed.fetch_add(1, Relaxed);
        }
    }

    fn activity(&self, protocol: Protocol) -> Activity {
        if self.write_blocked.load(Relaxed) {
            Activity::Writing {
                resumed: self.write_resumed.load(Relaxed),
            }
        } else if self.is_serving() {
            Activity::Serving
        } else {
            let taken = self.taken.load(Relaxed);
            // Between requests a client of the other versions also sends window updates, pings and acknowledgements.
            let head_is_owed = match protocol {
                Protocol::Http1 => self.head_begun.load(Relaxed),
                Protocol::Http2 | Protocol::Http3 => taken == 0,
            };
            if head_is_owed {
                Activity::ReadingHead
            } else {
                Activity::Idle { taken }
            }
        }
    }
}

/// Counts a request as in flight, from its head to the last byte of its answer.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Progress>);

impl InFlight {
    pub(super) fn begin(progress: &Arc<Progress>) -> Self {
        progress.in_flight.fetch_add(1, Relaxed);
        progress.taken.fetch_add(1, Relaxed);
        progress.head_begun.store(false, Relaxed);
        Self(Arc::clone(progress))
    }

    /// The same request, which is in flight until both are dropped.
    pub(super) fn again(&self) -> Self {
        self.0.in_flight.fetch_add(1, Relaxed);
        Self(Arc::clone(&self.0))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        // What arrived meanwhile was the request's body, or the beginning of a pipelined request: that one gets the idle
        // deadline until more of it comes.
        self.0.head_begun.store(false, Relaxed);
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

/// The protocol of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 or HTTP/1.0: one request after another.
    Http1,
    /// HTTP/2: many requests at one moment.
    Http2,
    /// HTTP/3: the same on QUIC.
    Http3,
}

/// What a connection waits for. Two values differ when there was progress between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Activity {
    ReadingHead,
    Serving,
    Writing { resumed: u32 },
    Idle { taken: u32 },
}

/// Which deadline a connection missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missed {
    /// The head of a request did not come in time.
    Head,
    /// No request came for long.
    Idle,
    /// The client reads nothing.
    Write,
}

/// Keeps the deadlines of one connection; see the [module](self).
#[derive(Debug)]
pub(super) struct Watchdog {
    deadlines: Deadlines,
    protocol: Protocol,
    activity: Activity,
    since: Instant,
    /// When the timer fires; never later than the deadline of `activity`.
    armed: Option<Instant>,
}

impl Watchdog {
    pub(super) fn new(deadlines: Deadlines, protocol: Protocol) -> Self {
        Self {
            deadlines,
            protocol,
            activity: Activity::ReadingHead,
            since: Instant::now(),
            armed: None,
        }
    }

    /// Ready with the deadline that was missed. To be called when the connection has done all that it can.
    pub(super) fn poll(
        &mut self,
        progress: &Progress,
        mut timer: Pin<&mut Sleep>,
        cx: &mut Context<'_>,
    ) -> Poll<Missed> {
        let activity = progress.activity(self.protocol);
        let (allowed, missed) = match activity {
            Activity::ReadingHead => (self.deadlines.head, Missed::Head),
            Activity::Idle { .. } => (self.deadlines.idle, Missed::Idle),
            Activity::Writing { .. } => (self.deadlines.write, Missed::Write),
            Activity::Serving => {
                self.activity = activity;
                return Poll::Pending;
            }
        };
        if activity != self.activity {
            self.activity = activity;
            self.since = Instant::now();
        }
        let deadline = self.since + allowed;
        if self.armed.is_none_or(|armed| armed > deadline) {
            timer.as_mut().reset(deadline);
            self.armed = Some(deadline);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if self.armed.is_some_and(|armed| armed >= deadline) {
                return Poll::Ready(missed);
            }
            timer.as_mut().reset(deadline);
            self.armed = Some(deadline);
        }
    }
}

/// Whether the client takes the answer on one HTTP/2 or HTTP/3 stream. hyper asks for the next piece of a body when the client has
/// made room, so a stream stalls when a piece was given and no other is asked for.
#[derive(Debug, Default)]
pub(super) struct StreamProgress {
    piece_given: AtomicBool,
    pieces: AtomicU32,
}

impl StreamProgress {
    pub(super) fn asked(&self) {
        self.piece_given.store(false, Relaxed);
    }

    pub(super) fn given(&self) {
        self.piece_given.store(true, Relaxed);
        self.pieces.fetch_add(1, Relaxed);
    }

    /// Runs `stream` to its end, or drops it when its client takes nothing for `allowed`: hyper then resets the stream.
    /// The answer is false if it was dropped.
    pub(super) async fn watch(&self, allowed: Duration, stream: impl Future<Output = ()>) -> bool {
        let mut stream = std::pin::pin!(stream);
        let mut timer: Option<Pin<Box<Sleep>>> = None;
        let mut seen = self.pieces.load(Relaxed);
        std::future::poll_fn(move |cx| {
            if stream.as_mut().poll(cx).is_ready() {
                return Poll::Ready(true);
            }
            if !self.piece_given.load(Relaxed) {
                return Poll::Pending;
            }
            let pieces = self.pieces.load(Relaxed);
            let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(allowed)));
            if pieces != seen {
                seen = pieces;
                timer.as_mut().reset(Instant::now() + allowed);
            }
            timer.as_mut().poll(cx).map(|()| false)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINES: Deadlines = Deadlines {
        handshake: Duration::from_millis(10),
        head: Duration::from_millis(20),
        idle: Duration::from_millis(80),
        body: Duration::from_millis(20),
        write: Duration::from_millis(40),
        linger: Duration::from_millis(10),
    };

    async fn missed(progress: &Progress, protocol: Protocol) -> (Missed, Duration) {
        let start = Instant::now();
        let mut watchdog = Watchdog::new(DEADLINES, protocol);
        let mut timer = std::pin::pin!(tokio::time::sleep(Duration::ZERO));
        let missed = std::future::poll_fn(|cx| watchdog.poll(progress, timer.as_mut(), cx)).await;
        (missed, start.elapsed())
    }

    #[tokio::test]
    async fn a_new_connection_owes_a_head_and_an_old_one_may_idle() {
        for protocol in [Protocol::Http1, Protocol::Http2, Protocol::Http3] {
            let progress = Arc::new(Progress::new());
            let (what, after) = missed(&progress, protocol).await;
            assert_eq!(what, Missed::Head);
            assert!(after >= DEADLINES.head && after < DEADLINES.idle);

            drop(InFlight::begin(&progress));
            let (what, after) = missed(&progress, protocol).await;
            assert_eq!(what, Missed::Idle);
            assert!(after >= DEADLINES.idle);
        }
    }

    #[tokio::test]
    async fn a_write_that_goes_on_starts_its_deadline_anew() {
        let progress = Arc::new(Progress::new());
        let _in_flight = InFlight::begin(&progress);
        progress.write_is_blocked();
        let start = Instant::now();
        let mut watchdog = Watchdog::new(DEADLINES, Protocol::Http1);
        let mut timer = std::pin::pin!(tokio::time::sleep(Duration::ZERO));
        let half = DEADLINES.write / 2;
        let mut tick = tokio::time::interval_at(start + half, half);
        let mut resumes = 3;
        let missed = std::future::poll_fn(|cx| {
            while resumes > 0 && tick.poll_tick(cx).is_ready() {
                resumes -= 1;
                progress.wrote();
                progress.write_is_blocked();
            }
            watchdog.poll(&progress, timer.as_mut(), cx)
        })
        .await;
        assert_eq!(missed, Missed::Write);
        assert!(start.elapsed() >= half * 3 + DEADLINES.write);
    }

    #[tokio::test]
    async fn a_request_in_flight_has_no_deadline_here() {
        let progress = Arc::new(Progress::new());
        let _in_flight = InFlight::begin(&progress);
        let waited = tokio::time::timeout(DEADLINES.idle * 2, missed(&progress, Protocol::Http1));
        assert!(waited.await.is_err());
    }
}
