//! Requests that wait for the same response: collapsed forwarding.
//!
//! The first request for a key leads: it goes forward, and the others wait for what comes of it. A flight ends when its
//! response is stored, or when it turns out that it cannot be shared; nobody joins one that began before a purge of what
//! it fetches.

use std::{
    any::Any,
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use http::StatusCode;
use tokio::sync::watch;

use super::{
    fill::Fill,
    index::Label,
    key::{Digest, Key},
    purge::{Generation, Log},
    stored::Stored,
};

/// What came of a flight.
#[derive(Debug, Clone)]
pub(super) enum Outcome {
    /// A response that is stored as it comes.
    Filling(Arc<Fill>),
    /// A stored response that the origin says is still good.
    Revalidated(Arc<Stored>),
    /// The origin failed; what is stored may be served nevertheless.
    Stale(Arc<Stored>, Option<StatusCode>),
    /// The response is for the leader only.
    Unshared,
    /// There is no response; this is the error.
    Failed(Arc<dyn Any + Send + Sync>),
}

/// A request that is under way.
#[derive(Debug)]
pub(super) struct Flight {
    key: Key,
    asked: Generation,
    outcome: watch::Sender<Option<Outcome>>,
}

impl Flight {
    /// What comes of it.
    pub(super) async fn outcome(&self) -> Outcome {
        let mut outcome = self.outcome.subscribe();
        let come = outcome.wait_for(Option::is_some).await;
        // The sender is in `self`.
        come.ok()
            .and_then(|come| come.clone())
            .unwrap_or(Outcome::Unshared)
    }
}

/// Requests that are under way, by the digest of their keys.
#[derive(Debug, Default)]
pub(super) struct Flights(Mutex<HashMap<Digest, Arc<Flight>>>);

/// Whether a request goes forward, or waits for one that did.
#[derive(Debug)]
pub(super) enum Joined {
    Lead(Lead),
    Wait(Arc<Flight>),
}

impl Flights {
    /// Joins the flight for a key, or begins one, which does not bring what was purged since `asked`.
    pub(super) fn join(
        self: &Arc<Self>,
        key: &Key,
        label: &Label,
        asked: Generation,
        log: &Log,
    ) -> Joined {
        let mut flights = self.lock();
        if let Some(flight) = flights.get(&key.digest)
            && flight.key.bytes == key.bytes
            && (flight.asked == asked || !is_purged(flight, label, log))
        {
            return Joined::Wait(Arc::clone(flight));
        }
        let flight = Arc::new(Flight {
            key: key.clone(),
            asked,
            outcome: watch::Sender::new(None),
        });
        flights.insert(key.digest, Arc::clone(&flight));
        Joined::Lead(Lead {
            flights: Arc::clone(self),
            others: Vec::new(),
            flight,
        })
    }

    /// The response that is on its way for a key.
    pub(super) fn filling(&self, key: &Key) -> Option<Arc<Fill>> {
        let flight = self.lock().get(&key.digest).map(Arc::clone)?;
        match &*flight.outcome.borrow() {
            Some(Outcome::Filling(fill)) => Some(Arc::clone(fill)),
            _ => None,
        }
    }

    /// Whether somebody fetches that already.
    pub(super) fn has(&self, key: &Key) -> bool {
        self.lock().contains_key(&key.digest)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, Arc<Flight>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_purged(flight: &Flight, label: &Label, log: &Log) -> bool {
    let held = log.hold();
    held.was_purged(flight.asked, &label.distribution, label.urls(), None)
}

/// The duty to say what came of a flight. Dropping it ends the flight: who still waits goes forward himself.
#[derive(Debug)]
pub(super) struct Lead {
    flights: Arc<Flights>,
    flight: Arc<Flight>,
    /// The same flight, for those who know which variant they want.
    others: Vec<Arc<Flight>>,
}

impl Lead {
    /// When the request went forward.
    pub(super) fn asked(&self) -> Generation {
        self.flight.asked
    }

    /// Says what came of it. From then on requests may join that know which variant they want.
    pub(super) fn tell(&mut self, outcome: Outcome) {
        let variant = match &outcome {
            Outcome::Filling(fill) => Some(Arc::clone(fill)),
            _ => None,
        };
        self.flight.outcome.send_replace(Some(outcome));
        if let Some(fill) = variant {
            self.also(&fill.head.key);
        }
    }

    fn also(&mut self, key: &Key) {
        if self.flight.key.digest == key.digest {
            return;
        }
        let flight = Arc::new(Flight {
            key: key.clone(),
            asked: self.flight.asked,
            outcome: watch::Sender::new(self.flight.outcome.borrow().clone()),
        });
        self.flights.lock().insert(key.digest, Arc::clone(&flight));
        self.others.push(flight);
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        let mut flights = self.flights.lock();
        for flight in self.others.iter().chain([&self.flight]) {
            let digest = &flight.key.digest;
            if flights
                .get(digest)
                .is_some_and(|other| Arc::ptr_eq(other, flight))
            {
                flights.remove(digest);
            }
        }
        drop(flights);
        self.flight.outcome.send_if_modified(|outcome| {
            let silent = outcome.is_none();
            if silent {
                *outcome = Some(Outcome::Unshared);
            }
            silent
        });
    }
}
