//! A deadline that moves later for nothing.
//!
//! A kept connection takes its timer along from request to request. A request sets a deadline with one reading of the clock;
//! the timer wheel hears of it only when it fires too early, which is once in a timeout and not once in a request.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::time::{Instant, Sleep, sleep_until};

/// A deadline, and the timer that is used for it and for those after it.
#[derive(Debug)]
pub(super) struct Timer {
    deadline: Instant,
    /// Made when the deadline is first waited for.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    pub(super) fn new(deadline: Instant) -> Self {
        Self {
            deadline,
            sleep: None,
        }
    }

    pub(super) fn set(&mut self, deadline: Instant) {
        self.deadline = deadline;
    }

    /// The timer, to be used elsewhere. Another is made where it is missed.
    pub(super) fn take(&mut self) -> Self {
        Self {
            deadline: self.deadline,
            sleep: self.sleep.take(),
        }
    }

    /// Ready when the deadline has passed.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let deadline = self.deadline;
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        loop {
            ready!(sleep.as_mut().poll(context));
            if sleep.deadline() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_may_move_both_ways() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut timer = Timer::new(start + 5 * second);
        let early = tokio::time::timeout(second, poll_fn(|context| timer.poll(context))).await;
        assert!(early.is_err());

        timer.set(start + 9 * second);
        poll_fn(|context| timer.poll(context)).await;
        assert_eq!(start.elapsed().as_secs(), 9);

        timer.set(start + 60 * second);
        let early = tokio::time::timeout(second, poll_fn(|context| timer.poll(context))).await;
        assert!(early.is_err(), "it starts anew after it fired");
        timer.set(start + 20 * second);
        poll_fn(|context| timer.poll(context)).await;
        assert_eq!(start.elapsed().as_secs(), 20);
    }
}
