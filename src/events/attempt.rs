//! One attempt at an event, and what becomes of the event then.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{
    Clock, Functions, Ran,
    ending::{Ended, Ending, Receiver, Undelivered},
    retry::{self, Attempts, Decision, RetryPolicy, Verdict},
    worker::milliseconds,
};
use crate::{
    model::{AsyncEvent, EventInvokeConfig, EventTarget, Outcome, RequestId},
    store::{Lease, NewEvent, Queue},
    telemetry::metrics::EventDropped,
};

/// What a task needs.
pub(super) struct Shared<F> {
    pub(super) queue: Arc<dyn Queue>,
    pub(super) functions: F,
    pub(super) retry: RetryPolicy,
    pub(super) clock: Clock,
    /// Ends what is running: the grace period is over.
    pub(super) stop: CancellationToken,
}

/// How an attempt went, as far as it concerns the next event of the function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attempt {
    /// The function had it, or would never have.
    Made,
    /// There was no room, or the node failed.
    Refused,
}

impl From<Verdict> for Attempt {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Done | Verdict::Error => Self::Made,
            Verdict::Refusal => Self::Refused,
        }
    }
}

impl<F: Functions> Shared<F> {
    /// One attempt at an event.
    pub(super) async fn attempt(&self, lease: Lease) -> Attempt {
        let Some((target, event)) = read(&lease) else {
            self.finish(&lease, Vec::new()).await;
            return Attempt::Made;
        };
        let config = self.functions.config(&target);
        let config = config.as_deref();
        let limits = self.retry.limits(config);
        let end = End {
            lease: &lease,
            target: &target,
            config,
            request_id: event.request_id,
        };
        let age = self.age(&lease);
        if age > limits.max_age {
            self.end(end, Some(EventDropped::Age), None).await;
            return Attempt::Made;
        }
        let ran = tokio::select! {
            ran = self.functions.run(&target, event, age) => ran,
            () = self.stop.cancelled() => {
                self.give_back(&lease, Duration::ZERO, lease.errors).await;
                return Attempt::Refused;
            }
        };
        let Some(ran) = ran else {
            self.end(end, Some(EventDropped::Gone), None).await;
            return Attempt::Made;
        };
        let verdict = Verdict::from(ran.outcome);
        let before = Attempts {
            errors: lease.errors,
            refusals: lease.attempt.saturating_sub(1).saturating_sub(lease.errors),
        };
        if ran.outcome == Outcome::Throttled && self.is_off(end, &ran) {
            self.end(end, Some(EventDropped::Off), Some(&ran)).await;
            return Attempt::Made;
        }
        match retry::next(&self.retry, limits, before, self.age(&lease), ran.outcome) {
            Decision::Delete => self.end(end, None, Some(&ran)).await,
            Decision::Retry(pause) => {
                let errors = lease.errors + u32::from(verdict == Verdict::Error);
                self.give_back(&lease, pause, errors).await;
            }
            Decision::Drop(reason) => self.end(end, Some(reason), Some(&ran)).await,
        }
        verdict.into()
    }

    /// Whether the function is switched off and somebody takes its events instead: then they go there at once, as with
    /// Lambda. Without such a one they wait for the function to be switched on again.
    fn is_off(&self, end: End<'_>, ran: &Ran) -> bool {
        let bounds = self.functions.bounds(end.target.function.as_str());
        let takes = || {
            end.config.is_some_and(|config| config.on_failure.is_some())
                || self
                    .functions
                    .dead_letter(end.target, Some(ran.version))
                    .is_some()
        };
        bounds.is_some_and(|bounds| bounds.concurrency == Some(0)) && takes()
    }

    /// Finishes an event that is done, or was dropped, and enqueues what follows from it.
    async fn end(&self, end: End<'_>, dropped: Option<EventDropped>, last: Option<&Ran>) {
        let mut ending = Ending {
            dropped: dropped.map(|reason| (reason, last.map(|ran| ran.outcome))),
            ..Ending::default()
        };
        let mut follow_ups = Vec::new();
        let receivers = self.receivers(end, dropped, last);
        // Most events have none, and are not read once more.
        if !receivers.is_empty()
            && let Some((_, event)) = read(end.lease)
        {
            let had = last.is_some_and(|ran| Verdict::from(ran.outcome) != Verdict::Refusal);
            let ended = Ended {
                event,
                target: end.target,
                dropped,
                invocations: end.lease.errors + u32::from(had),
                last,
                now_ms: (self.clock)(),
                node: self.functions.arn_prefix(),
            };
            for receiver in receivers {
                match self.follow_up(&ended, &receiver).await {
                    Ok(follow_up) => {
                        follow_ups.push(follow_up);
                        ending.sent.push(receiver);
                    }
                    Err(error) => ending.failures.push((receiver, error)),
                }
            }
        }
        if self.finish(end.lease, follow_ups).await {
            self.functions.ended(end.target, end.request_id, &ending);
        }
    }

    /// Who hears of it.
    fn receivers(
        &self,
        end: End<'_>,
        dropped: Option<EventDropped>,
        last: Option<&Ran>,
    ) -> Vec<Receiver> {
        let Some(_) = dropped else {
            let on_success = end.config.and_then(|config| config.on_success.clone());
            return on_success.map(Receiver::Destination).into_iter().collect();
        };
        let on_failure = end.config.and_then(|config| config.on_failure.clone());
        let version = last.map(|ran| ran.version);
        let dead_letter = self.functions.dead_letter(end.target, version);
        let on_failure = on_failure.map(Receiver::Destination);
        on_failure
            .into_iter()
            .chain(dead_letter.map(Receiver::DeadLetter))
            .collect()
    }

    async fn follow_up(
        &self,
        ended: &Ended<'_>,
        receiver: &Receiver,
    ) -> Result<NewEvent, Undelivered> {
        let target = match receiver {
            Receiver::Destination(target) => target.clone(),
            Receiver::DeadLetter(arn) => {
                EventTarget::from_arn(ended.node, arn).ok_or(Undelivered::Foreign)?
            }
        };
        self.functions.reach(&target, ended.hops()).await?;
        let event = match receiver {
            Receiver::Destination(_) => ended.record()?,
            Receiver::DeadLetter(_) => ended.dead_letter()?,
        };
        Ok(NewEvent {
            target: target.to_string(),
            body: serde_json::to_vec(&event).map_err(|_| Undelivered::Unwritable)?,
            enqueued_ms: ended.now_ms,
            due_ms: ended.now_ms,
        })
    }

    /// False if the event stays: then its lease runs out, and it is run once more.
    async fn finish(&self, lease: &Lease, follow_ups: Vec<NewEvent>) -> bool {
        let finished = self.queue.finish(lease, follow_ups).await;
        finished.unwrap_or_else(|error| {
            tracing::error!(function = lease.target, %error, "cannot finish an event");
            false
        })
    }

    async fn give_back(&self, lease: &Lease, pause: Duration, errors: u32) {
        let due_ms = (self.clock)().saturating_add(milliseconds(pause));
        if let Err(error) = self.queue.retry_at(lease, due_ms, errors).await {
            tracing::error!(function = lease.target, %error, "cannot give an event back");
        }
    }

    fn age(&self, lease: &Lease) -> Duration {
        Duration::from_millis((self.clock)().saturating_sub(lease.enqueued_ms))
    }
}

/// The event that comes to its end.
#[derive(Clone, Copy)]
struct End<'a> {
    lease: &'a Lease,
    target: &'a EventTarget,
    config: Option<&'a EventInvokeConfig>,
    request_id: RequestId,
}

/// What a lease is for. None if it cannot be read, which the node's log says.
fn read(lease: &Lease) -> Option<(EventTarget, AsyncEvent)> {
    let target = match lease.target.parse() {
        Ok(target) => target,
        Err(error) => {
            tracing::error!(%error, "an event in the queue is for nobody and is dropped");
            return None;
        }
    };
    match serde_json::from_slice(&lease.body) {
        Ok(event) => Some((target, event)),
        Err(error) => {
            tracing::error!(function = lease.target, %error, "an event in the queue cannot be read and is dropped");
            None
        }
    }
}
