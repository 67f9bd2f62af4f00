//! Whether a server can be connected to.
//!
//! After so many dials in a row that failed the circuit is open: one request at a time dials, the others are told at once that it is
//! in vain. A dial that succeeds closes it. That is another question than whether a server is well: the last server of an origin
//! is asked even if it is not, but nobody waits for a connection that nobody gets.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

/// Lets one dial at a time through after so many failed in a row.
#[derive(Debug)]
pub(super) struct Circuit {
    opens_after: u32,
    failures: AtomicU32,
    on_trial: AtomicBool,
}

/// A dial that goes on; dropped without an end if nobody waits for it any more.
pub(super) struct Attempt<'a> {
    circuit: &'a Circuit,
    is_trial: bool,
}

impl Circuit {
    pub(super) fn new(opens_after: u32) -> Self {
        Self {
            opens_after,
            failures: AtomicU32::new(0),
            on_trial: AtomicBool::new(false),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.opens_after > 0 && self.failures.load(Relaxed) >= self.opens_after
    }

    pub(super) fn is_on_trial(&self) -> bool {
        self.is_open() && self.on_trial.load(Relaxed)
    }

    pub(super) fn begin(&self) -> Option<Attempt<'_>> {
        let is_trial = self.is_open();
        let admitted = !is_trial || !self.on_trial.swap(true, Relaxed);
        admitted.then_some(Attempt {
            circuit: self,
            is_trial,
        })
    }
}

impl Attempt<'_> {
    pub(super) fn end(self, connected: bool) {
        if connected {
            self.circuit.failures.store(0, Relaxed);
        } else {
            self.circuit.failures.fetch_add(1, Relaxed);
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.is_trial {
            self.circuit.on_trial.store(false, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dial(circuit: &Circuit, connects: bool) {
        circuit.begin().unwrap().end(connects);
    }

    #[test]
    fn one_at_a_time_tries_until_one_succeeds() {
        let circuit = Circuit::new(2);
        dial(&circuit, false);
        dial(&circuit, true);
        dial(&circuit, false);
        assert!(!circuit.is_open(), "a success ends the row");
        dial(&circuit, false);
        assert!(circuit.is_open());
        let trial = circuit.begin().unwrap();
        assert!(circuit.is_on_trial() && circuit.begin().is_none());
        drop(trial);
        assert!(!circuit.is_on_trial(), "it was given up");
        dial(&circuit, false);
        dial(&circuit, true);
        assert!(!circuit.is_open());
        let _several = [circuit.begin().unwrap(), circuit.begin().unwrap()];
    }

    #[test]
    fn zero_never_opens() {
        let circuit = Circuit::new(0);
        for _ in 0..100 {
            dial(&circuit, false);
        }
        assert!(circuit.begin().is_some() && !circuit.is_open());
    }
}
