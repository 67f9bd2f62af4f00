//! Which of an origin's servers a request goes to.
//!
//! First one that is well, in turn; the backups when no other is. When nobody is well, one that is not: the last server is never
//! shut out. Another attempt goes to a server that was not tried, and to a backup only if the request may go there.

use http::{Method, Response};

use super::{Origin, OriginBody, OriginError, balance::Turns, fields};

impl Origin {
    /// The server to begin with: one that is well; failing that, one that is not.
    pub(super) fn first(&self) -> Option<usize> {
        let tried = Tried::default();
        self.well(&self.primaries, tried)
            .or_else(|| self.well(&self.backups, tried))
            .or_else(|| self.primaries.next(|_| true))
    }

    /// The server for another attempt: one that was not tried; failing that, the same, unless it has no connection to give.
    pub(super) fn next(
        &self,
        index: usize,
        tried: Tried,
        may_fail_over: bool,
        error: &OriginError,
    ) -> Option<usize> {
        let backup = || match may_fail_over {
            true => self.well(&self.backups, tried),
            false => None,
        };
        let again = match error {
            OriginError::Overloaded | OriginError::CircuitOpen => None,
            _ => Some(index),
        };
        self.well(&self.primaries, tried)
            .or_else(backup)
            .or_else(|| self.primaries.next(|index| !tried.contains(index)))
            .or(again)
    }

    /// The backup that a request goes on to because of the status that it got.
    pub(super) fn backup_for(
        &self,
        answer: &Response<OriginBody>,
        method: &Method,
        index: usize,
        tried: Tried,
    ) -> Option<usize> {
        let goes_on = self.has_backups
            && !self.members[index].backup
            && self.failover.contains(&answer.status().as_u16())
            && fields::fails_over(method);
        match goes_on {
            true => self.well(&self.backups, tried),
            false => None,
        }
    }

    /// The next server in turn that is well and was not tried.
    fn well(&self, turns: &Turns, mut tried: Tried) -> Option<usize> {
        loop {
            let health = |index: usize| &self.members[index].server.health;
            let index = turns.next(|index| !tried.contains(index) && health(index).admits())?;
            if health(index).claim() {
                return Some(index);
            }
            // Somebody else tries it.
            tried.insert(index);
        }
    }
}

/// The servers that a request was sent to, or that are left out, by their index.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tried(u64);

impl Tried {
    pub(super) fn insert(&mut self, index: usize) {
        self.0 |= 1 << index;
    }

    pub(super) fn contains(self, index: usize) -> bool {
        self.0 >> index & 1 == 1
    }
}
