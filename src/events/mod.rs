//! Asynchronous invocation: events that were taken over are run, later and at least once.
//!
//! The control plane commits an event to [`store::Queue`](crate::store::Queue) and answers 202; the [`Worker`] leases what
//! is due, has [`Invoke`](crate::invoke::Invoke) run it, and finishes it, gives it back for a [`retry`], or drops it.
//!
//! What is always true: an event that was acknowledged is run at least once, unless it gets too old before there is room
//! for it, or its function is removed. It is run again when the node ends before the event was deleted, so a function that
//! is invoked so must bear to see an event twice. Every attempt has the request id that the caller was given. Events of one
//! function are begun in the order in which they are due, and run beside one another.
//!
//! An event that is done or given up may be followed by others: the invocation record for a destination, the event itself
//! for a dead-letter target ([`ending`]). They are committed with the deletion of the event, in one transaction. How often
//! and how long an event is tried, and who hears of its end, is configured for each qualifier of a function, and read from
//! the snapshot that is served.
//!
//! What is dropped leaves a line in its function's log and counts in `wharf_async_events_dropped_total`.

mod attempt;
pub mod ending;
pub mod retry;
mod served;
mod worker;

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ending::{Ending, Undelivered};
use futures::future::BoxFuture;

use crate::model::{AsyncEvent, EventInvokeConfig, EventTarget, Outcome, RequestId, Version};

pub use served::Served;
pub use worker::{Settings, Worker};

/// Where the time comes from: milliseconds since 1970-01-01T00:00:00Z.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The machine's clock.
pub fn wall_clock() -> Clock {
    Arc::new(|| {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
    })
}

/// What the worker has to know of a function before it takes events for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// How long an attempt takes at most, whatever the version.
    pub timeout: Duration,
    /// The most invocations at one moment, if the function has a limit of its own.
    pub concurrency: Option<u32>,
}

/// An attempt at an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// How it ended.
    pub outcome: Outcome,
    /// The version that had it, or would have.
    pub version: Version,
    /// JSON: what it answered, or the document of its error. None if it had no part in it.
    pub answer: Option<String>,
}

/// What events are for.
///
/// Without `async_trait`, under whose bounds rustc proves `Send` of each future anew: for a whole invocation, that takes seconds.
pub trait Functions: Send + Sync + 'static {
    /// The bounds of a function, if it is served.
    fn bounds(&self, function: &str) -> Option<Bounds>;

    /// What becomes of events for a target, as far as somebody said.
    fn config(&self, target: &EventTarget) -> Option<Arc<EventInvokeConfig>>;

    /// The dead-letter target of a version, or of the one that the target stands for: an ARN.
    fn dead_letter(&self, target: &EventTarget, version: Option<Version>) -> Option<String>;

    /// How the ARNs of the node begin.
    fn arn_prefix(&self) -> &str;

    /// Runs an event that is so old. None if the function was removed, or what the qualifier stood for.
    fn run<'a>(
        &'a self,
        target: &'a EventTarget,
        event: AsyncEvent,
        age: Duration,
    ) -> BoxFuture<'a, Option<Ran>>;

    /// Whether a follow-up that came so far may be enqueued for a function.
    fn reach<'a>(
        &'a self,
        target: &'a EventTarget,
        hops: u8,
    ) -> BoxFuture<'a, Result<(), Undelivered>>;

    /// Notes that an event came to its end, and that it is not in the queue any more.
    fn ended(&self, target: &EventTarget, request_id: RequestId, ending: &Ending);
}

#[cfg(test)]
mod tests;
