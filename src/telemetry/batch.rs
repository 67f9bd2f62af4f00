//! What many threads leave and one writes.
//!
//! The writer sleeps while there is nothing. When something comes it gathers for a moment and then takes all of it at once, so
//! that one system call serves many requests. Who leaves something waits for the others who do, and never for the writer's disk.

use std::{
    io, mem,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// How long the writer gathers.
const INTERVAL: Duration = Duration::from_millis(50);

/// How much a writer stands back behind the threads that serve requests. Its bursts, some thousand records at a time, held
/// requests up on a node that has all its cores busy: at 15 the p99 of a hello was a sixth lower. At 10 the kernel gives it a
/// tenth of what it gives each of them, and a node under load has it write for about a hundredth of its time.
const NICE: i32 = 10;

/// What waits for the writer: a `T` that grows.
#[derive(Debug, Default)]
pub(super) struct Batch<T> {
    state: Mutex<State<T>>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State<T> {
    waiting: T,
    /// Whether `waiting` was added to since it was taken.
    some: bool,
    /// Whether the writer is not left to gather to the end of its interval.
    urgent: bool,
    stop: bool,
}

impl<T> Batch<T> {
    /// Adds to what waits. `add` answers whether the writer should come at once.
    pub(super) fn add(&self, add: impl FnOnce(&mut T) -> bool) {
        let mut state = self.lock();
        let first = !mem::replace(&mut state.some, true);
        let urgent = add(&mut state.waiting) && !mem::replace(&mut state.urgent, true);
        drop(state);
        // While it gathers the writer needs no call: it looks again when that is over.
        if first || urgent {
            self.wake.notify_one();
        }
    }

    /// Takes what waits, and leaves `emptied` in its place.
    pub(super) fn take(&self, emptied: T) -> T {
        let mut state = self.lock();
        state.some = false;
        state.urgent = false;
        mem::replace(&mut state.waiting, emptied)
    }

    /// Sleeps until something waits and was gathered, or for `idle`. Answers whether that was the last time.
    pub(super) fn wait(&self, idle: Duration) -> bool {
        let mut state = self.lock();
        let until = Instant::now() + idle;
        while !state.some && !state.stop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.sleep(state, left);
        }
        let until = Instant::now() + INTERVAL;
        while !state.urgent && !state.stop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.sleep(state, left);
        }
        state.stop
    }

    /// Has the writer end when it has written what waits.
    pub(super) fn stop(&self) {
        self.lock().stop = true;
        self.wake.notify_one();
    }

    fn sleep<'a>(
        &'a self,
        state: MutexGuard<'a, State<T>>,
        time: Duration,
    ) -> MutexGuard<'a, State<T>> {
        let woken = self.wake.wait_timeout(state, time);
        woken.unwrap_or_else(PoisonError::into_inner).0
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // What waits is whole between two additions.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts a writer's thread.
pub(super) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        // On Linux the priority is the thread's alone. Without it there is written as well.
        let thread = rustix::thread::gettid();
        if let Err(error) = rustix::process::setpriority_process(Some(thread), NICE) {
            tracing::debug!(%error, "a writer keeps its priority");
        }
        run();
    })
}
