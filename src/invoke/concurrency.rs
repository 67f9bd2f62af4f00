//! How many invocations run at one moment: of a function, and of the node.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::model::Outcome;

/// A count that may not pass a limit.
#[derive(Debug)]
pub(super) struct Gate {
    limit: AtomicU32,
    inside: AtomicU32,
}

impl Gate {
    pub(super) fn new(limit: u32) -> Self {
        Self {
            limit: AtomicU32::new(limit),
            inside: AtomicU32::new(0),
        }
    }

    /// Changes the limit. Who is inside stays.
    pub(super) fn set_limit(&self, limit: u32) {
        self.limit.store(limit, Relaxed);
    }

    pub(super) fn limit(&self) -> u32 {
        self.limit.load(Relaxed)
    }

    /// Goes in, if there is room. Whoever goes in must [`leave`](Self::leave) once.
    fn enter(&self) -> bool {
        let before = self.inside.fetch_add(1, Relaxed);
        if before >= self.limit.load(Relaxed) {
            self.inside.fetch_sub(1, Relaxed);
            return false;
        }
        true
    }

    pub(super) fn leave(&self) {
        self.inside.fetch_sub(1, Relaxed);
    }

    /// How many are inside.
    pub(super) fn inside(&self) -> u32 {
        self.inside.load(Relaxed)
    }
}

/// Admits an invocation to its function and to the node, or to neither.
pub(super) fn admit(function: &Gate, node: &Gate) -> Result<(), Outcome> {
    if !function.enter() {
        return Err(Outcome::Throttled);
    }
    if !node.enter() {
        function.leave();
        return Err(Outcome::Overloaded);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_the_limit_get_in_and_room_is_used_again() {
        let (function, node) = (Gate::new(2), Gate::new(3));
        assert_eq!(admit(&function, &node), Ok(()));
        assert_eq!(admit(&function, &node), Ok(()));
        assert_eq!(admit(&function, &node), Err(Outcome::Throttled));
        let other = Gate::new(5);
        assert_eq!(admit(&other, &node), Ok(()));
        assert_eq!(admit(&other, &node), Err(Outcome::Overloaded));
        assert_eq!(
            other.inside(),
            1,
            "who is refused by the node has not stayed in the function"
        );
        function.leave();
        node.leave();
        assert_eq!(admit(&function, &node), Ok(()));
    }

    #[test]
    fn a_limit_of_zero_switches_a_function_off() {
        assert_eq!(admit(&Gate::new(0), &Gate::new(1)), Err(Outcome::Throttled));
    }
}
