//! What the edge has to tell of a request when it has ended, beside the answer: for its line in the access log.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use super::{cache::Handled, origin::Origin};
use crate::model::{CacheResult, FunctionName};

/// Filled in along the way, each place by whoever comes to know it first.
#[derive(Debug, Default)]
pub struct Observed {
    behaviour: OnceLock<usize>,
    handled: OnceLock<Handled>,
    asked: OnceLock<Asked>,
}

/// What was asked for an answer.
#[derive(Debug)]
enum Asked {
    Origin {
        origin: Arc<Origin>,
        at: Instant,
        took: OnceLock<Duration>,
    },
    Function(FunctionName),
}

impl Observed {
    /// The place of the behaviour that the request got.
    pub fn behaviour(&self) -> Option<usize> {
        self.behaviour.get().copied()
    }

    /// What the cache had to do with it.
    pub fn cache(&self) -> Option<CacheResult> {
        self.handled.get().map(|handled| handled.result)
    }

    /// The origin that it waited for, and how long if that had an end.
    pub fn origin(&self) -> Option<(&str, Option<Duration>)> {
        match self.asked()? {
            Asked::Origin { origin, took, .. } => Some((origin.name(), took.get().copied())),
            Asked::Function(_) => None,
        }
    }

    /// The function that it waited for.
    pub fn function(&self) -> Option<&str> {
        match self.asked()? {
            Asked::Function(name) => Some(name.as_str()),
            Asked::Origin { .. } => None,
        }
    }

    /// What is fetched again in the background is not what the request waited for.
    fn asked(&self) -> Option<&Asked> {
        let waited = |handled: &Handled| handled.forwarded;
        self.asked
            .get()
            .filter(|_| self.handled.get().is_none_or(waited))
    }

    pub(super) fn got_behaviour(&self, index: usize) {
        let _ = self.behaviour.set(index);
    }

    pub(super) fn was_handled(&self, handled: Handled) {
        let _ = self.handled.set(handled);
    }

    pub(super) fn asks_origin(&self, origin: &Arc<Origin>) {
        let _ = self.asked.set(Asked::Origin {
            origin: Arc::clone(origin),
            at: Instant::now(),
            took: OnceLock::new(),
        });
    }

    pub(super) fn origin_answered(&self) {
        if let Some(Asked::Origin { at, took, .. }) = self.asked.get() {
            let _ = took.set(at.elapsed());
        }
    }

    pub(super) fn asks_function(&self, name: &FunctionName) {
        let _ = self.asked.set(Asked::Function(name.clone()));
    }
}
