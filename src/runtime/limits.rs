//! What an invocation may use, and what happens when it wants more.
//!
//! Four limits hold from four places. Fuel is counted by the compiled code. Memory is counted by [`MemoryLimiter`], which
//! wasmtime asks before any memory or table grows. Processor time and wall-clock time are counted by [`Bounded`] from
//! outside the store, so that they hold in host calls too, and however little a guest cooperates.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};
use wasmtime::{PoolConcurrencyLimitError, ResourceLimiter, Trap, component::ResourceTableError};

use crate::model::Outcome;

/// Units of fuel after which a busy guest lets others run, and its limits are looked at: about a tenth of a millisecond of
/// compiled code.
///
/// Only compiled code burns fuel: a guest that does little but call the host burns next to none, and its thread is its own
/// until it has burnt an interval. With ten times the interval, one call after another kept it far past the deadline.
pub(super) const YIELD_INTERVAL: u64 = 200_000;

/// Random bytes that a guest may ask for in one call. It costs the guest no fuel, and the host time.
pub(super) const RANDOM_BYTES: u64 = 64 << 10;

/// Bytes that a guest may hand to the host in one call: a body chunk, a key-value entry, a log line.
pub(super) const HOSTCALL_BYTES: usize = 32 << 20;

/// The same of a hook, whose answer is the largest thing it has to say. What is a little too large is still read, and told
/// from what is not.
pub(super) const HOOK_BYTES: usize = 4 << 20;

/// Host resources that a guest may hold at one moment: streams, bodies, fields, pollables.
pub(super) const HOST_RESOURCES: usize = 1024;

/// Bytes of one set of header fields in the host's memory. With as many of them as a guest may hold, that is what it can have
/// the host keep beside its own memory: 64 MB.
pub(super) const FIELD_BYTES: usize = 64 << 10;

/// The bytes of all linear memories and tables of an instance together.
///
/// wasmtime's own `StoreLimits` holds each memory to its limit alone, so that a component with eight memories could use
/// eight times what it may.
#[derive(Debug)]
pub(crate) struct MemoryLimiter {
    limit: usize,
    used: usize,
    peak: usize,
    pending: usize,
    refused: bool,
}

impl MemoryLimiter {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            used: 0,
            peak: 0,
            pending: 0,
            refused: false,
        }
    }

    /// The most bytes there were at one moment.
    pub(super) fn peak(&self) -> usize {
        self.peak
    }

    /// Whether growth was ever refused. An instance to which this happened is not used again.
    pub(super) fn refused(&self) -> bool {
        self.refused
    }

    fn grow(&mut self, bytes: usize) -> bool {
        match self.used.checked_add(bytes) {
            Some(used) if used <= self.limit => {
                self.used = used;
                self.peak = self.peak.max(used);
                self.pending = bytes;
                true
            }
            _ => {
                self.refused = true;
                false
            }
        }
    }

    fn shrink(&mut self) {
        self.used -= std::mem::take(&mut self.pending);
    }
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.grow(desired.saturating_sub(current)))
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.shrink();
        self.refused = true;
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // An element is a pointer.
        Ok(self.grow(
            desired
                .saturating_sub(current)
                .saturating_mul(size_of::<usize>()),
        ))
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.shrink();
        self.refused = true;
        Ok(())
    }
}

/// Why an instance stopped before its time, in one word.
///
/// A refused growth followed by a trap is out of memory: most guests answer a refused `memory.grow` by aborting.
pub(super) fn classify(error: &wasmtime::Error, memory: &MemoryLimiter) -> Outcome {
    if let Some(trap) = error.downcast_ref::<Trap>() {
        return match trap {
            Trap::OutOfFuel => Outcome::OutOfFuel,
            _ if memory.refused() => Outcome::OutOfMemory,
            _ => Outcome::Trap,
        };
    }
    if error.is::<PoolConcurrencyLimitError>() {
        return Outcome::Overloaded;
    }
    if memory.refused() || matches!(error.downcast_ref(), Some(ResourceTableError::Full)) {
        return Outcome::OutOfMemory;
    }
    Outcome::Trap
}

/// Processor time of the calling thread.
fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let nanoseconds = time
        .tv_sec
        .saturating_mul(1_000_000_000)
        .saturating_add(time.tv_nsec);
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(0))
}

/// A guest's future, held to its processor time and its deadline from outside the store.
///
/// Processor time is that of the thread while the future is polled: the guest, and what host calls do for it, but no
/// waiting. It is looked at whenever the guest yields. Asking the kernel for a thread's time takes 0.4 µs, twice a turn,
/// which is a twentieth of a short invocation; so the first turn counts as long as it took by the clock, which is its
/// processor time unless the kernel let another thread run, and is held to no limit before the guest goes on.
///
/// The deadline's timer is only set once the guest waits for something: a short invocation never touches the timer wheel.
pub(super) struct Bounded<F> {
    future: F,
    first: bool,
    cpu: Duration,
    cpu_limit: Duration,
    deadline: Instant,
    timer: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl<F: Future + Unpin> Bounded<F> {
    pub(super) fn new(future: F, cpu_limit: Duration, deadline: Instant) -> Self {
        Self {
            future,
            first: true,
            cpu: Duration::ZERO,
            cpu_limit,
            deadline,
            timer: None,
        }
    }

    /// Processor time so far.
    pub(super) fn cpu(&self) -> Duration {
        self.cpu
    }
}

impl<F: Future + Unpin> Future for Bounded<F> {
    /// What the guest gave, or which limit it met.
    type Output = Result<F::Output, Outcome>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let first = std::mem::replace(&mut self.first, false);
        let polled = if first {
            let started = Instant::now();
            let polled = Pin::new(&mut self.future).poll(context);
            self.cpu += started.elapsed();
            polled
        } else {
            let started = thread_cpu();
            let polled = Pin::new(&mut self.future).poll(context);
            self.cpu += thread_cpu().saturating_sub(started);
            polled
        };
        if let Poll::Ready(output) = polled {
            return Poll::Ready(Ok(output));
        }
        if self.cpu > self.cpu_limit && !first {
            return Poll::Ready(Err(Outcome::OutOfCpu));
        }
        let deadline = self.deadline;
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline.into())));
        match timer.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(Outcome::Timeout)),
            Poll::Pending => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_and_tables_are_counted_together() {
        let mut memory = MemoryLimiter::new(10 << 16);
        assert!(memory.memory_growing(0, 6 << 16, None).unwrap());
        assert!(memory.memory_growing(0, 3 << 16, None).unwrap());
        assert!(
            !memory.memory_growing(6 << 16, 8 << 16, None).unwrap(),
            "two pages are more than is left"
        );
        assert!(memory.refused());
        assert!(
            memory.table_growing(0, 8192, None).unwrap(),
            "the last 64 KiB"
        );
        assert!(!memory.table_growing(8192, 8193, None).unwrap());
        assert_eq!(memory.peak(), 10 << 16);
    }

    #[test]
    fn growth_that_failed_is_not_held_against_the_instance() {
        let mut memory = MemoryLimiter::new(4 << 16);
        assert!(memory.memory_growing(0, 4 << 16, None).unwrap());
        memory
            .memory_grow_failed(wasmtime::format_err!("no memory"))
            .unwrap();
        assert!(memory.memory_growing(0, 4 << 16, None).unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_future_that_waits_is_stopped_at_its_deadline() {
        let deadline = tokio::time::Instant::now().into_std() + Duration::from_secs(3);
        let bounded = Bounded::new(
            Box::pin(std::future::pending::<()>()),
            Duration::from_secs(60),
            deadline,
        );
        assert_eq!(bounded.await, Err(Outcome::Timeout));
    }

    #[tokio::test]
    async fn a_future_that_burns_is_stopped_when_it_yields() {
        let burn = Box::pin(async {
            loop {
                let started = thread_cpu();
                while thread_cpu() - started < Duration::from_millis(1) {}
                tokio::task::yield_now().await;
            }
        });
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut bounded = Bounded::<Pin<Box<dyn Future<Output = ()>>>>::new(
            burn,
            Duration::from_millis(20),
            deadline,
        );
        assert_eq!((&mut bounded).await, Err(Outcome::OutOfCpu));
        assert!(bounded.cpu() >= Duration::from_millis(20));
    }
}
