//! The account of one invocation: what it used, kept where the call, the instance and the response body all reach it.
//!
//! Whoever lets go of it last closes it: then, and only then, the [`Observer`] gets the record. So every invocation is
//! recorded once, whether it answered, trapped, was stopped, or its client went away in the middle of a stream.

use std::{
    fmt::Display,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use super::{function::Code, imports::outbound::OutboundLog};
use crate::{
    model::{InvocationRecord, Outcome, RequestId, Start},
    telemetry::{logs::Level, metrics::Outbound},
};

/// Who is told that an invocation has ended.
pub trait Observer: Send + Sync {
    /// Called once an invocation, with its receipt. Runs on the request path: it must neither block nor fail.
    fn ended(&self, record: &InvocationRecord);
}

/// What one invocation uses, counted while it runs.
pub(super) struct Account {
    pub(super) request_id: RequestId,
    code: Arc<Code>,
    observer: Arc<dyn Observer>,
    started: Instant,
    cold: AtomicBool,
    /// Nanoseconds of making the instance, on a cold start.
    init: AtomicU64,
    /// Nanoseconds from the start until the guest ended.
    duration: AtomicU64,
    cpu: AtomicU64,
    fuel: AtomicU64,
    peak_memory: AtomicU64,
    host_calls: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    outcome: AtomicU8,
}

impl Account {
    pub(super) fn open(
        request_id: RequestId,
        code: Arc<Code>,
        observer: Arc<dyn Observer>,
        started: Instant,
    ) -> Arc<Self> {
        Arc::new(Self {
            request_id,
            code,
            observer,
            started,
            cold: AtomicBool::new(false),
            init: AtomicU64::new(0),
            duration: AtomicU64::new(0),
            cpu: AtomicU64::new(0),
            fuel: AtomicU64::new(0),
            peak_memory: AtomicU64::new(0),
            host_calls: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            outcome: AtomicU8::new(0),
        })
    }

    /// Notes that the invocation failed. The first reason stands: what follows is its consequence.
    pub(super) fn fail(&self, outcome: Outcome) {
        let word = Outcome::ALL
            .iter()
            .position(|each| *each == outcome)
            .and_then(|position| u8::try_from(position).ok())
            .unwrap_or(0);
        let _ = self.outcome.compare_exchange(0, word, Relaxed, Relaxed);
    }

    /// Notes that the guest was stopped at a limit, and tells its function's log.
    pub(super) fn stop(&self, limit: Outcome) {
        let limits = self.code.limits;
        let message = match limit {
            Outcome::Timeout => {
                let seconds = limits.timeout.as_secs_f64();
                format!("Task timed out after {seconds:.2} seconds")
            }
            Outcome::OutOfCpu => {
                format!("{limit}: more than {:?} of processor time", limits.cpu)
            }
            limit => limit.to_string(),
        };
        self.say(Level::Error, &message);
        self.fail(limit);
    }

    /// Notes that what the guest answered is no answer, and tells its function's log why. Gives how the invocation went:
    /// what failed before stands.
    pub(super) fn refuse(&self, why: &dyn Display) -> Outcome {
        self.refuse_as(Outcome::BadResponse, why)
    }

    /// The same, with another word for it.
    pub(super) fn refuse_as(&self, outcome: Outcome, why: &dyn Display) -> Outcome {
        if self.outcome() == Outcome::Ok {
            self.say(Level::Error, &format!("{outcome}: {why}"));
            self.fail(outcome);
        }
        self.outcome()
    }

    /// How it went so far.
    pub(super) fn outcome(&self) -> Outcome {
        Outcome::ALL[usize::from(self.outcome.load(Relaxed))]
    }

    /// Notes that no instance was ready, and how long one took to make.
    pub(super) fn cold_start(&self, init: Duration) {
        self.cold.store(true, Relaxed);
        self.init.store(nanoseconds(init), Relaxed);
    }

    /// Notes that the guest has ended, and what it used.
    pub(super) fn guest_ended(&self, fuel: u64, peak_memory: usize, host_calls: u64) {
        self.host_calls.store(host_calls, Relaxed);
        self.duration
            .store(nanoseconds(self.started.elapsed()), Relaxed);
        self.fuel.store(fuel, Relaxed);
        self.peak_memory.store(peak_memory as u64, Relaxed);
    }

    pub(super) fn set_cpu(&self, cpu: Duration) {
        self.cpu.store(nanoseconds(cpu), Relaxed);
    }

    pub(super) fn count_in(&self, bytes: usize) {
        self.bytes_in.fetch_add(bytes as u64, Relaxed);
    }

    pub(super) fn count_out(&self, bytes: usize) {
        self.bytes_out.fetch_add(bytes as u64, Relaxed);
    }

    /// Whether anything of the answer's body was sent on.
    pub(super) fn has_sent(&self) -> bool {
        self.bytes_out.load(Relaxed) > 0
    }

    /// Says something about the invocation in its function's log.
    pub(super) fn say(&self, level: Level, message: &str) {
        let version = self.code.deployment.version;
        self.code
            .log
            .platform(self.request_id, version, level, message);
    }

    /// The receipt as it stands now.
    pub(super) fn record(&self) -> InvocationRecord {
        let duration = match self.duration.load(Relaxed) {
            0 => self.started.elapsed(),
            nanoseconds => Duration::from_nanos(nanoseconds),
        };
        let cold = self.cold.load(Relaxed);
        InvocationRecord {
            request_id: self.request_id,
            outcome: self.outcome(),
            duration,
            init: cold.then(|| Duration::from_nanos(self.init.load(Relaxed))),
            cpu: Duration::from_nanos(self.cpu.load(Relaxed)),
            fuel: self.fuel.load(Relaxed),
            peak_memory: self.peak_memory.load(Relaxed),
            start: if cold { Start::Cold } else { Start::Warm },
            host_calls: self.host_calls.load(Relaxed),
            bytes_in: self.bytes_in.load(Relaxed),
            bytes_out: self.bytes_out.load(Relaxed),
        }
    }
}

/// Notes that an invocation was cancelled if the future that runs it is dropped before [`Running::done`].
pub(super) struct Running(Option<Arc<Account>>);

impl Running {
    pub(super) fn new(account: &Arc<Account>) -> Self {
        Self(Some(account.clone()))
    }

    pub(super) fn done(mut self) {
        self.0 = None;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(account) = &self.0 {
            account.fail(Outcome::Cancelled);
        }
    }
}

impl OutboundLog for Account {
    fn sent(&self) {
        self.code.services.metrics.outbound(Outbound::Allowed);
    }

    fn refused(&self, why: Outbound, message: &str) {
        self.code.services.metrics.outbound(why);
        self.say(Level::Warn, message);
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.observer.ended(&self.record());
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
