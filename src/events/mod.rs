//! Asynchronous invocation: events that were taken over are run, later and at least once.
//!
//! The control plane commits an event to [`store::Queue`](crate::store::Queue) and answers 202; the [`Worker`] leases what
//! is due, has [`Invoke`] run it, and deletes it, gives it back for a [`retry`], or drops it.
//!
//! What is always true: an event that was acknowledged is run at least once, unless it gets too old before there is room
//! for it, or its function is removed. It is run again when the node ends before the event was deleted, so a function that
//! is invoked so must bear to see an event twice. Every attempt has the request id that the caller was given. Events of one
//! function are begun in the order in which they are due, and run beside one another.
//!
//! What is dropped leaves a line in its function's log and counts in `wharf_async_events_dropped_total`. Destinations and
//! dead-letter targets are not here: they come with the control plane that speaks Lambda's API, which configures them.

pub mod retry;
mod worker;

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{
    invoke::Invoke,
    model::{AsyncEvent, FunctionName, Outcome, RequestId, Version},
    store::Catalog,
    telemetry::{logs::Level, metrics::EventDropped},
};

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
    /// How long an attempt takes at most.
    pub timeout: Duration,
    /// The most invocations at one moment, if the function has a limit of its own.
    pub concurrency: Option<u32>,
}

/// What events are for.
#[async_trait::async_trait]
pub trait Functions: Send + Sync + 'static {
    /// The bounds of a function, if it is served.
    fn bounds(&self, target: &str) -> Option<Bounds>;

    /// Runs an event. None if the function was removed.
    async fn run(&self, target: &str, event: AsyncEvent) -> Option<Outcome>;

    /// Notes that an event was given up.
    fn dropped(
        &self,
        target: &str,
        request_id: RequestId,
        reason: EventDropped,
        last: Option<Outcome>,
    );
}

/// The functions that a node serves.
pub struct Served {
    /// What runs them.
    pub invoke: Arc<Invoke>,
    /// What is deployed, be it served or not.
    pub catalog: Arc<dyn Catalog>,
}

impl Served {
    /// What an event gets whose function is not served: it may be removed, or deployed and short of a secret.
    async fn absent(&self, target: &str) -> Option<Outcome> {
        let name: FunctionName = target.parse().ok()?;
        match self.catalog.deployment(&name, Version::Latest).await {
            Ok(None) => None,
            Ok(Some(_)) => Some(Outcome::Internal),
            Err(error) => {
                tracing::error!(%error, "cannot read the catalog");
                Some(Outcome::Internal)
            }
        }
    }
}

#[async_trait::async_trait]
impl Functions for Served {
    fn bounds(&self, target: &str) -> Option<Bounds> {
        let function = self.invoke.find(target)?;
        let configuration = &function.deployment().configuration;
        Some(Bounds {
            timeout: configuration.timeout,
            concurrency: configuration.concurrency,
        })
    }

    async fn run(&self, target: &str, event: AsyncEvent) -> Option<Outcome> {
        let Some(function) = self.invoke.find(target) else {
            return self.absent(target).await;
        };
        let AsyncEvent {
            request_id,
            event,
            client_context,
        } = event;
        let answer = self
            .invoke
            .event(&function, request_id, event, client_context)
            .await;
        Some(match answer.result {
            Ok(Ok(_)) => Outcome::Ok,
            Ok(Err(error)) => {
                // There is no caller who could be told.
                let message: String = format!("{}: {}", error.error_type, error.message)
                    .chars()
                    .take(1000)
                    .collect();
                self.invoke
                    .say(&function, request_id, Level::Error, &message);
                Outcome::FunctionError
            }
            Err(outcome) => outcome,
        })
    }

    fn dropped(
        &self,
        target: &str,
        request_id: RequestId,
        reason: EventDropped,
        last: Option<Outcome>,
    ) {
        let Some(function) = self.invoke.find(target) else {
            tracing::warn!(function = target, %request_id, %reason, "an event was dropped");
            return;
        };
        let message = match last {
            Some(outcome) => {
                format!("the event was dropped: {reason}, the last attempt: {outcome}")
            }
            None => format!("the event was dropped: {reason}"),
        };
        self.invoke
            .say(&function, request_id, Level::Error, &message);
        function.event_dropped(reason);
    }
}

#[cfg(test)]
mod tests;
