//! How an invocation that was not run is told.

use super::Error;
use crate::model::Outcome;

/// What is no answer of the function and no failure of it: it was not run.
pub(super) fn refusal(outcome: Outcome) -> Option<Error> {
    let throttled = |reason: &str| {
        Error::new("TooManyRequestsException", "Rate Exceeded.")
            .with("Reason", reason)
            .with("Type", "User")
            .with("retryAfterSeconds", "1")
    };
    match outcome {
        Outcome::Throttled => Some(throttled(
            "ReservedFunctionConcurrentInvocationLimitExceeded",
        )),
        Outcome::Overloaded => Some(throttled("ConcurrentInvocationLimitExceeded")),
        Outcome::Internal => Some(
            Error::new(
                "ServiceException",
                "The node failed; its log has the cause.",
            )
            .with("Type", "Service"),
        ),
        Outcome::Ok
        | Outcome::FunctionError
        | Outcome::NoRoute
        | Outcome::BadRequest
        | Outcome::Forbidden
        | Outcome::Trap
        | Outcome::BadResponse
        | Outcome::ResponseTooLarge
        | Outcome::OutOfMemory
        | Outcome::OutOfFuel
        | Outcome::OutOfCpu
        | Outcome::Timeout
        | Outcome::Cancelled
        | Outcome::OriginUnreachable
        | Outcome::OriginTimeout
        | Outcome::OriginBadResponse => None,
    }
}
