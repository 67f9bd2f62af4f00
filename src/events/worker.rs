//! The worker: takes due events from the queue and sees each to its end.
//!
//! One loop leases and waits; each event has a task of its own. While nothing is due the loop sleeps until something is,
//! or arrives.
//!
//! No function keeps others out. A function gets one more event at a time only while it has fewer running than there is
//! room left (a dynamic threshold, as in switches with a shared buffer): alone it gets half of the room, two get a third
//! each, and there is always some for a newcomer. A function that was refused is left alone for a while that grows with
//! each refusal in a row, so that a long queue of a throttled function is not read through in vain again and again.
//!
//! All of this is by function, not by target: the versions and aliases of a function share its concurrency. What becomes of
//! an event after its attempt is the business of [`attempt`](super::attempt).
//!
//! A lease outlives the attempt: it lasts for the function's timeout and [`MARGIN`]. So an event is with two attempts at
//! once only if the node hangs for that long.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures::future::join_all;
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    Bounds, Clock, Functions,
    attempt::{Attempt, Shared},
    retry::RetryPolicy,
};
use crate::store::{Due, Error, Lease, Queue};

/// How long a lease lasts beyond the function's timeout.
const MARGIN: Duration = Duration::from_secs(10);

/// The longest sleep: a clock that was set is noticed after it.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// The pause after the queue failed.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// How a worker works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Events that run at one moment; at least 1.
    pub concurrency: usize,
    /// When an event is tried again.
    pub retry: RetryPolicy,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            concurrency: 100,
            retry: RetryPolicy::default(),
        }
    }
}

/// Runs the events of a queue.
pub struct Worker<F> {
    shared: Arc<Shared<F>>,
    concurrency: usize,
    lanes: HashMap<String, Lane>,
    running: JoinSet<Attempt>,
    /// For whom each task is: one that panics cannot tell.
    functions: HashMap<Id, String>,
}

/// A function that has events running, or was refused.
#[derive(Debug, Default)]
struct Lane {
    running: usize,
    /// In a row.
    refusals: u32,
    paused_until_ms: u64,
}

/// How many events a function is given when it has so many `running` and there is room for so many more.
fn share(running: usize, room: usize, concurrency: Option<u32>) -> usize {
    let fair = room.saturating_sub(running).div_ceil(2);
    let Some(own) = concurrency.and_then(|own| usize::try_from(own).ok()) else {
        return fair;
    };
    // One that is switched off is asked now and then, so that its events get too old and do not stay.
    fair.min(own.max(1).saturating_sub(running))
}

impl<F: Functions> Worker<F> {
    /// A worker that has not begun.
    pub fn new(queue: Arc<dyn Queue>, functions: F, settings: Settings, clock: Clock) -> Self {
        Self {
            shared: Arc::new(Shared {
                queue,
                functions,
                retry: settings.retry,
                clock,
                stop: CancellationToken::new(),
            }),
            concurrency: settings.concurrency.max(1),
            lanes: HashMap::new(),
            running: JoinSet::new(),
            functions: HashMap::new(),
        }
    }

    /// Works until `shutdown`. Then no event is begun; those that are running after `grace` are stopped and given back,
    /// due at once.
    pub async fn run(mut self, shutdown: CancellationToken, grace: Duration) {
        let mut arrivals = self.shared.queue.arrivals();
        while !shutdown.is_cancelled() {
            arrivals.mark_unchanged();
            let sleep = match self.begin().await {
                Ok(None) => continue,
                Ok(Some(sleep)) => sleep,
                Err(error) => {
                    tracing::error!(%error, "cannot read the queue");
                    AFTER_FAILURE
                }
            };
            let has_room = self.running.len() < self.concurrency;
            tokio::select! {
                () = shutdown.cancelled() => {}
                Some(ended) = self.running.join_next_with_id() => self.ended(ended),
                // The sender lives as long as the queue, which is here.
                Ok(()) = arrivals.changed(), if has_room => {}
                () = tokio::time::sleep(sleep) => {}
            }
            while let Some(ended) = self.running.try_join_next_with_id() {
                self.ended(ended);
            }
        }
        self.drain(grace).await;
    }

    async fn drain(&mut self, grace: Duration) {
        let running = &mut self.running;
        let drained = async { while running.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, drained).await.is_err() {
            self.shared.stop.cancel();
            while self.running.join_next().await.is_some() {}
        }
    }

    /// Begins what is due and has room. Gives how long there is nothing to do, or none if there may be more.
    async fn begin(&mut self) -> Result<Option<Duration>, Error> {
        let mut due = self.shared.queue.due().await?;
        due.sort_by_key(|due| due.due_ms);
        let now_ms = (self.shared.clock)();
        let mut sleep = LONGEST_SLEEP;
        let mut room = self.concurrency - self.running.len();
        let mut plan = Vec::new();
        if !self.lanes.is_empty() {
            let waiting: HashSet<&str> = due.iter().map(|due| function_of(&due.target)).collect();
            self.lanes.retain(|function, lane| {
                lane.running > 0 || (lane.refusals > 0 && waiting.contains(function.as_str()))
            });
        }
        let mut planned: HashMap<String, usize> = HashMap::new();
        for Due { target, due_ms } in due {
            let function = function_of(&target);
            let lane = self.lanes.get(function);
            let running = lane.map_or(0, |lane| lane.running);
            let running = running + planned.get(function).copied().unwrap_or_default();
            let due_ms = lane.map_or(due_ms, |lane| due_ms.max(lane.paused_until_ms));
            if due_ms > now_ms {
                sleep = sleep.min(Duration::from_millis(due_ms - now_ms));
                continue;
            }
            let bounds = self.shared.functions.bounds(function);
            let count = share(running, room, bounds.and_then(|bounds| bounds.concurrency));
            // Without a share there are events running, and the end of one brings us back.
            if count > 0 {
                room -= count;
                *planned.entry(function.to_owned()).or_default() += count;
                let lasts = MARGIN + bounds.map_or(Duration::ZERO, |bounds: Bounds| bounds.timeout);
                plan.push((target, count, now_ms.saturating_add(milliseconds(lasts))));
            }
        }
        if plan.is_empty() {
            return Ok(Some(sleep));
        }
        // At once, so that they share a transaction.
        let queue = &self.shared.queue;
        let leases = plan
            .iter()
            .map(|(target, count, until_ms)| queue.lease(target, now_ms, *until_ms, *count));
        for leases in join_all(leases).await {
            for lease in leases? {
                self.spawn(lease);
            }
        }
        Ok(None)
    }

    fn spawn(&mut self, lease: Lease) {
        let function = function_of(&lease.target).to_owned();
        self.lanes.entry(function.clone()).or_default().running += 1;
        let shared = self.shared.clone();
        let task = self
            .running
            .spawn(Box::pin(async move { shared.attempt(lease).await }));
        self.functions.insert(task.id(), function);
    }

    /// Notes that a task has ended.
    fn ended(&mut self, ended: Result<(Id, Attempt), JoinError>) {
        let (id, attempt) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                tracing::error!(%error, "an event's task failed, its lease will run out");
                (error.id(), Attempt::Refused)
            }
        };
        let lane = self.functions.remove(&id);
        let Some(lane) = lane.and_then(|function| self.lanes.get_mut(&function)) else {
            return;
        };
        lane.running -= 1;
        match attempt {
            Attempt::Made => {
                lane.refusals = 0;
                lane.paused_until_ms = 0;
            }
            Attempt::Refused => {
                let now_ms = (self.shared.clock)();
                // Those that were refused together count once.
                if lane.paused_until_ms <= now_ms {
                    let pause = self.shared.retry.back_off(lane.refusals);
                    lane.paused_until_ms = now_ms.saturating_add(milliseconds(pause));
                    lane.refusals = lane.refusals.saturating_add(1);
                }
            }
        }
    }
}

/// The function of a target: its versions and aliases share what it may have at one moment.
fn function_of(target: &str) -> &str {
    target.split_once(':').map_or(target, |(name, _)| name)
}

pub(super) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_a_newcomer_however_many_want_all() {
        let mut room = 100;
        let mut shares = Vec::new();
        for _ in 0..6 {
            let count = share(0, room, None);
            room -= count;
            shares.push(count);
        }
        assert_eq!(shares, [50, 25, 13, 6, 3, 2]);
        assert_eq!(share(50, 1, None), 0);
        assert_eq!(share(0, 1, None), 1);
        assert_eq!(share(0, 0, None), 0);
    }

    #[test]
    fn a_function_gets_no_more_than_its_own_concurrency() {
        assert_eq!(share(0, 100, Some(10)), 10);
        assert_eq!(share(7, 100, Some(10)), 3);
        assert_eq!(share(10, 100, Some(10)), 0);
        assert_eq!(
            share(0, 100, Some(0)),
            1,
            "so that what it has gets too old"
        );
        assert_eq!(share(0, 4, Some(10)), 2);
    }
}
