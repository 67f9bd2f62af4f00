//! Whether a server is well: what its requests say (ejection) and what its checks say.
//!
//! So many failures in a row eject a server for a time. After that time, one request at a time may try it: a success brings it
//! back, a failure ejects it for twice as long. Any success ends the count. Which servers are asked all the same, because there is
//! no other, is not decided here.

use std::{
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use tokio::time::Instant;

use crate::model::distribution::Ejection;

/// What is known of a server.
#[derive(Debug)]
pub(super) struct Health {
    ejection: Ejection,
    start: Instant,
    /// Failures since the last success.
    failures: AtomicU32,
    /// Until when it is out: microseconds after the start; 0 if it is not.
    until: AtomicU64,
    /// Ejections since the last success.
    ejections: AtomicU32,
    /// Whether somebody tries it after an ejection.
    on_trial: AtomicBool,
    /// Whether its checks fail.
    unhealthy: AtomicBool,
}

/// How a server stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerState {
    /// It gets its share.
    Healthy,
    /// Its checks fail.
    Unhealthy,
    /// Its requests failed; it gets none while there is another server.
    Ejected,
    /// No connection can be made; one attempt at a time goes on.
    CircuitOpen,
}

impl ServerState {
    /// The word.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::Ejected => "ejected",
            Self::CircuitOpen => "circuit_open",
        }
    }
}

impl Health {
    pub(super) fn new(ejection: Ejection) -> Self {
        Self {
            ejection,
            start: Instant::now(),
            failures: AtomicU32::new(0),
            until: AtomicU64::new(0),
            ejections: AtomicU32::new(0),
            on_trial: AtomicBool::new(false),
            unhealthy: AtomicBool::new(false),
        }
    }

    /// Whether a request may go to it, or may ask to be the one that tries it.
    pub(super) fn admits(&self) -> bool {
        if self.unhealthy.load(Relaxed) {
            return false;
        }
        let until = self.until.load(Relaxed);
        until == 0 || self.now() >= until
    }

    /// Takes the turn of a request to a server that [admits](Self::admits) it. After an ejection one gets it, which is the trial.
    pub(super) fn claim(&self) -> bool {
        let until = self.until.load(Relaxed);
        if until == 0 {
            return true;
        }
        let now = self.now();
        if now < until {
            return false;
        }
        // The next trial begins when this one has told how it ended, or at the latest after the time of an ejection.
        let next = now.saturating_add(micros(self.ejection.duration).max(1));
        let is_first = self
            .until
            .compare_exchange(until, next, Relaxed, Relaxed)
            .is_ok();
        if is_first {
            self.on_trial.store(true, Relaxed);
        }
        is_first
    }

    pub(super) fn succeeded(&self) {
        // Loads first: they are shared by all cores, a store is not.
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
        }
        if self.until.load(Relaxed) != 0 {
            self.until.store(0, Relaxed);
            self.ejections.store(0, Relaxed);
            self.on_trial.store(false, Relaxed);
        }
    }

    /// Counts a failure. True if it ejects the server.
    pub(super) fn failed(&self) -> bool {
        let failures = self.failures.fetch_add(1, Relaxed).saturating_add(1);
        if self.ejection.failures == 0 || failures < self.ejection.failures {
            return false;
        }
        let out = self.until.load(Relaxed) != 0;
        // While it is out, failures of requests that began before say nothing new.
        if out && !self.on_trial.swap(false, Relaxed) {
            return false;
        }
        let ejections = self.ejections.fetch_add(1, Relaxed);
        let factor = 1_u32.checked_shl(ejections).unwrap_or(u32::MAX).max(1);
        let duration = self
            .ejection
            .duration
            .saturating_mul(factor)
            .min(self.ejection.maximum);
        let until = self.now().saturating_add(micros(duration).max(1));
        self.until.store(until, Relaxed);
        true
    }

    /// What the checks say.
    pub(super) fn checked(&self, healthy: bool) {
        self.unhealthy.store(!healthy, Relaxed);
    }

    pub(super) fn is_unhealthy(&self) -> bool {
        self.unhealthy.load(Relaxed)
    }

    pub(super) fn is_ejected(&self) -> bool {
        self.until.load(Relaxed) != 0
    }

    fn now(&self) -> u64 {
        micros(self.start.elapsed())
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn health() -> Health {
        Health::new(Ejection {
            failures: 3,
            duration: 10 * SECOND,
            maximum: 35 * SECOND,
        })
    }

    fn eject(health: &Health) {
        for _ in 0..2 {
            assert!(!health.failed());
        }
        assert!(health.failed());
    }

    #[tokio::test(start_paused = true)]
    async fn failures_in_a_row_eject_and_one_trial_at_a_time_brings_back() {
        let health = health();
        for _ in 0..5 {
            health.failed();
            health.failed();
            health.succeeded();
        }
        assert!(health.admits(), "a success ends the row");
        eject(&health);
        assert!(!health.admits());
        advance(9 * SECOND).await;
        assert!(!health.admits());
        advance(2 * SECOND).await;
        assert!(health.admits() && health.claim(), "the trial");
        assert!(!health.admits() && !health.claim(), "nobody else meanwhile");
        health.succeeded();
        assert!(health.admits() && health.admits());
    }

    #[tokio::test(start_paused = true)]
    async fn an_ejection_is_twice_as_long_each_time_up_to_its_maximum() {
        let health = health();
        eject(&health);
        for seconds in [10, 20, 35, 35] {
            assert!(!health.failed(), "what began before says nothing new");
            advance(seconds * SECOND - SECOND / 10).await;
            assert!(!health.admits(), "{seconds}");
            advance(SECOND / 5).await;
            assert!(health.admits() && health.claim(), "{seconds}");
            assert!(health.failed(), "the trial failed");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_trial_that_nobody_hears_of_again_does_not_shut_the_server_out() {
        let health = health();
        eject(&health);
        for _ in 0..2 {
            advance(11 * SECOND).await;
            assert!(health.admits() && health.claim());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_without_ejection_stays() {
        let health = Health::new(Ejection {
            failures: 0,
            ..Ejection::default()
        });
        for _ in 0..100 {
            assert!(!health.failed());
        }
        assert!(health.admits());
        health.checked(false);
        assert!(!health.admits());
        health.checked(true);
        assert!(health.admits());
    }
}
