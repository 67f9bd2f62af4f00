//! Events taken over for asynchronous invocation.

use tokio::sync::watch;

use super::Error;

/// Events taken over for asynchronous invocation.
///
/// An event that [`enqueue`](Self::enqueue) acknowledged is delivered at least once: it stays until a worker that holds
/// its lease finishes it, and a lease that runs out, or whose node has ended, makes it due again. Times are milliseconds since
/// 1970-01-01T00:00:00Z, and the caller's: the queue has no clock.
#[async_trait::async_trait]
pub trait Queue: Send + Sync {
    /// Takes over an event. When this returns, it is on disk.
    async fn enqueue(&self, event: NewEvent) -> Result<EventId, Error>;

    /// The targets that have events, in their order, and when the first event of each is due or its lease runs out.
    async fn due(&self) -> Result<Vec<Due>, Error>;

    /// Leases up to `limit` events of a target that are due at `now_ms`, the longest due first. Until `until_ms` nobody
    /// else gets them.
    async fn lease(
        &self,
        target: &str,
        now_ms: u64,
        until_ms: u64,
        limit: usize,
    ) -> Result<Vec<Lease>, Error>;

    /// Deletes an event and takes over those that follow from it, all or nothing: no event is lost between the two, and none
    /// follows twice. False, and none taken over, if the lease ran out and somebody else has the event, or had.
    async fn finish(&self, lease: &Lease, follow_ups: Vec<NewEvent>) -> Result<bool, Error>;

    /// Gives an event back, due at `due_ms`, with the number of errors to remember. False if the lease ran out and
    /// somebody else has the event, or had.
    async fn retry_at(&self, lease: &Lease, due_ms: u64, errors: u32) -> Result<bool, Error>;

    /// How many events there are at `now_ms`.
    async fn counts(&self, now_ms: u64) -> Result<Counts, Error>;

    /// Changes whenever events arrive, or come back for a retry, so that a worker need not ask again and again.
    fn arrivals(&self) -> watch::Receiver<u64>;
}

/// The number of an event: later ones have higher numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(pub(super) i64);

impl From<i64> for EventId {
    fn from(number: i64) -> Self {
        Self(number)
    }
}

/// An event to be taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// For whom it is: the function, with its qualifier.
    pub target: String,
    /// The event, and whatever else a worker has to know about it.
    pub body: Vec<u8>,
    /// When it came.
    pub enqueued_ms: u64,
    /// When it is due, not before.
    pub due_ms: u64,
}

/// A target that has events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The target.
    pub target: String,
    /// When its first event is due, or the lease of it runs out.
    pub due_ms: u64,
}

/// An event that a worker holds for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Its number.
    pub id: EventId,
    /// For whom it is.
    pub target: String,
    /// The event.
    pub body: Vec<u8>,
    /// When it came.
    pub enqueued_ms: u64,
    /// How often it was leased, this time included: 1 on the first delivery.
    pub attempt: u32,
    /// How many attempts the function itself failed, as it was given back.
    pub errors: u32,
}

/// How many events there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Due, and nobody has them.
    pub due: u64,
    /// Due later.
    pub delayed: u64,
    /// With a worker, its lease not run out.
    pub leased: u64,
}
