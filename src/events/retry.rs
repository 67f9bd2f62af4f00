//! What becomes of an event after an attempt: a pure function, and the numbers it goes by.
//!
//! Lambda's rules (Developer Guide, "How Lambda handles errors and retries with asynchronous invocation"): a function that
//! fails is tried again a few times, with fixed pauses; an attempt that the function had no part in does not count, and is
//! repeated with growing pauses; an event that got too old is dropped, whatever the reason it is still there.

use std::time::Duration;

use crate::{
    model::{EventInvokeConfig, Outcome},
    telemetry::metrics::EventDropped,
};

/// When an event is tried again, and when no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The pauses after the function's first error, its second and so on; after one more it is not tried again.
    pub after_errors: Vec<Duration>,
    /// The pause after the first attempt that was refused. Each further one doubles it.
    pub first_back_off: Duration,
    /// The longest pause after a refusal.
    pub longest_back_off: Duration,
    /// How old an event gets.
    pub max_age: Duration,
}

impl Default for RetryPolicy {
    /// Lambda's: two retries after 1 and 2 minutes, back-off from 1 s to 5 minutes, 6 hours.
    fn default() -> Self {
        Self {
            after_errors: vec![Duration::from_secs(60), Duration::from_secs(120)],
            first_back_off: Duration::from_secs(1),
            longest_back_off: Duration::from_secs(300),
            max_age: Duration::from_secs(6 * 3600),
        }
    }
}

impl RetryPolicy {
    /// The limits of an event whose target is configured so; what is not said is this policy's.
    pub fn limits(&self, config: Option<&EventInvokeConfig>) -> Limits {
        let retries = config
            .and_then(|config| config.retries)
            .and_then(|retries| usize::try_from(retries).ok());
        let max_age = config.and_then(|config| config.max_age_seconds);
        let most = self.after_errors.len();
        Limits {
            retries: retries.unwrap_or(most).min(most),
            max_age: max_age.map_or(self.max_age, |age| Duration::from_secs(u64::from(age))),
        }
    }

    /// The pause after a refusal that `refusals` others in a row came before.
    pub fn back_off(&self, refusals: u32) -> Duration {
        let factor = 2_u32.saturating_pow(refusals);
        self.first_back_off
            .saturating_mul(factor)
            .min(self.longest_back_off)
    }
}

/// How far the attempts at an event go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How often the function is tried again after an error.
    pub retries: usize,
    /// How old the event gets.
    pub max_age: Duration,
}

/// The attempts at an event before this one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attempts {
    /// The function failed.
    pub errors: u32,
    /// The function had no part in it.
    pub refusals: u32,
}

/// What an outcome says about an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The function did it.
    Done,
    /// The function failed, or was stopped at a limit.
    Error,
    /// The function had no part in it: no room for it, or the node failed.
    Refusal,
}

impl From<Outcome> for Verdict {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Ok => Self::Done,
            Outcome::FunctionError
            | Outcome::Trap
            | Outcome::BadResponse
            | Outcome::ResponseTooLarge
            | Outcome::OutOfMemory
            | Outcome::OutOfFuel
            | Outcome::OutOfCpu
            | Outcome::Timeout => Self::Error,
            Outcome::Throttled
            | Outcome::Overloaded
            | Outcome::Internal
            // These end no event: should one come, another attempt does no harm.
            | Outcome::NoRoute
            | Outcome::BadRequest
            | Outcome::Forbidden
            | Outcome::Cancelled
            | Outcome::OriginUnreachable
            | Outcome::OriginTimeout
            | Outcome::OriginBadResponse => Self::Refusal,
        }
    }
}

/// What becomes of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It is done.
    Delete,
    /// It is tried again after a pause.
    Retry(Duration),
    /// It is given up.
    Drop(EventDropped),
}

/// Decides about an event of this age after an attempt that ended so. An event that would be too old for its next attempt
/// is dropped now.
pub fn next(
    policy: &RetryPolicy,
    limits: Limits,
    before: Attempts,
    age: Duration,
    outcome: Outcome,
) -> Decision {
    let pause = match Verdict::from(outcome) {
        Verdict::Done => return Decision::Delete,
        Verdict::Error => {
            let pause = usize::try_from(before.errors)
                .ok()
                .filter(|errors| *errors < limits.retries)
                .and_then(|errors| policy.after_errors.get(errors));
            match pause {
                Some(pause) => *pause,
                None => return Decision::Drop(EventDropped::Retries),
            }
        }
        Verdict::Refusal => policy.back_off(before.refusals),
    };
    if age.saturating_add(pause) > limits.max_age {
        return Decision::Drop(EventDropped::Age);
    }
    Decision::Retry(pause)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn an_event_goes_lambdas_way() {
        use Decision::{Delete, Drop, Retry};
        let (retries, old) = (Drop(EventDropped::Retries), Drop(EventDropped::Age));
        let cases = [
            // errors before, refusals before, age in seconds, outcome, decision
            (0, 0, 0, Outcome::Ok, Delete),
            (2, 9, 99_999, Outcome::Ok, Delete),
            (0, 0, 0, Outcome::FunctionError, Retry(seconds(60))),
            (1, 0, 60, Outcome::Timeout, Retry(seconds(120))),
            (2, 0, 180, Outcome::Trap, retries),
            (3, 0, 0, Outcome::OutOfMemory, retries),
            // Refusals before do not count as errors, nor errors as refusals.
            (0, 7, 0, Outcome::OutOfFuel, Retry(seconds(60))),
            (2, 0, 0, Outcome::Throttled, Retry(seconds(1))),
            (0, 1, 0, Outcome::Overloaded, Retry(seconds(2))),
            (0, 4, 0, Outcome::Internal, Retry(seconds(16))),
            (0, 9, 0, Outcome::Throttled, Retry(seconds(300))),
            (0, u32::MAX, 0, Outcome::Throttled, Retry(seconds(300))),
            // The next attempt would come after six hours.
            (0, 0, 6 * 3600 - 60, Outcome::Trap, Retry(seconds(60))),
            (0, 0, 6 * 3600 - 59, Outcome::Trap, old),
            (0, 9, 6 * 3600 - 299, Outcome::Throttled, old),
            (2, 0, 6 * 3600 + 1, Outcome::Trap, retries),
        ];
        for (errors, refusals, age, outcome, decision) in cases {
            let (policy, before) = (RetryPolicy::default(), Attempts { errors, refusals });
            let limits = policy.limits(None);
            assert_eq!(
                next(&policy, limits, before, seconds(age), outcome),
                decision,
                "{before:?} {age} {outcome}"
            );
        }
    }

    #[test]
    fn a_target_has_limits_of_its_own() {
        let policy = RetryPolicy::default();
        let config = |retries, max_age_seconds| EventInvokeConfig {
            function: "f".parse().unwrap(),
            qualifier: crate::model::Qualifier::default(),
            retries,
            max_age_seconds,
            on_success: None,
            on_failure: None,
            modified_ms: 0,
        };
        let limits = |retries, max_age| Limits {
            retries,
            max_age: seconds(max_age),
        };
        let own = |retries, age| policy.limits(Some(&config(retries, age)));
        assert_eq!(policy.limits(None), limits(2, 6 * 3600));
        assert_eq!(own(None, None), limits(2, 6 * 3600));
        assert_eq!(own(Some(0), Some(60)), limits(0, 60));
        assert_eq!(own(Some(1), None), limits(1, 6 * 3600));
        assert_eq!(own(Some(9), None), limits(2, 6 * 3600));

        let next = |limits, errors, age| {
            let before = Attempts {
                errors,
                refusals: 0,
            };
            next(&policy, limits, before, seconds(age), Outcome::Trap)
        };
        let none = Decision::Drop(EventDropped::Retries);
        assert_eq!(next(own(Some(0), None), 0, 0), none);
        let once = own(Some(1), None);
        assert_eq!(next(once, 0, 0), Decision::Retry(seconds(60)));
        assert_eq!(next(once, 1, 0), none);
        let old = Decision::Drop(EventDropped::Age);
        assert_eq!(next(own(None, Some(60)), 0, 1), old);
    }

    proptest! {
        #[test]
        fn every_event_comes_to_an_end(
            outcomes in prop::collection::vec(0..Outcome::ALL.len(), 1..20),
            retries in prop::collection::vec(0_u64..100, 0..4),
            (first, longest) in (1_u64..100, 1_u64..1000),
            max_age in 0_u64..10_000,
        ) {
            let policy = RetryPolicy {
                after_errors: retries.into_iter().map(seconds).collect(),
                first_back_off: seconds(first),
                longest_back_off: seconds(longest),
                max_age: seconds(max_age),
            };
            let (mut before, mut age) = (Attempts::default(), Duration::ZERO);
            let mut last = Duration::ZERO;
            for outcome in outcomes.into_iter().cycle().map(|place| Outcome::ALL[place]) {
                match next(&policy, policy.limits(None), before, age, outcome) {
                    Decision::Delete => {
                        prop_assert_eq!(outcome, Outcome::Ok);
                        break;
                    }
                    Decision::Drop(EventDropped::Retries) => {
                        prop_assert_eq!(before.errors as usize, policy.after_errors.len());
                        break;
                    }
                    Decision::Drop(reason) => {
                        prop_assert_eq!(reason, EventDropped::Age);
                        break;
                    }
                    Decision::Retry(pause) => {
                        age += pause;
                        prop_assert!(age <= policy.max_age);
                        match Verdict::from(outcome) {
                            Verdict::Done => prop_assert!(false, "what is done is not repeated"),
                            Verdict::Error => before.errors += 1,
                            Verdict::Refusal => {
                                prop_assert!(!pause.is_zero() && pause >= last);
                                prop_assert!(pause <= policy.longest_back_off);
                                last = pause;
                                before.refusals += 1;
                            }
                        }
                    }
                }
            }
        }
    }
}
