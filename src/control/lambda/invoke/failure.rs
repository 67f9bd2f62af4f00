//! How an invocation that gave no answer is told.

use std::time::Duration;

use serde::Serialize;
use serde_json::json;

use super::Error;
use crate::{
    model::{Outcome, RequestId},
    runtime::FunctionError,
};

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
        | Outcome::Trap
        | Outcome::BadResponse
        | Outcome::ResponseTooLarge
        | Outcome::OutOfMemory
        | Outcome::OutOfFuel
        | Outcome::OutOfCpu
        | Outcome::Timeout
        | Outcome::Cancelled
        | Outcome::OriginUnreachable
        | Outcome::OriginTimeout => None,
    }
}

/// An error as Lambda's runtimes write it, in their order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ErrorDocument<'a> {
    error_type: &'a str,
    error_message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<&'a [String]>,
}

impl ErrorDocument<'_> {
    fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts are JSON")
    }
}

pub(super) fn error_document(error: &FunctionError) -> String {
    let document = ErrorDocument {
        error_type: &error.error_type,
        error_message: &error.message,
        trace: Some(&error.trace),
    };
    document.to_json()
}

/// What Lambda says of a function that it stopped.
pub(super) fn stopped_document(
    outcome: Outcome,
    request_id: RequestId,
    timeout: Duration,
) -> String {
    let (error_type, what) = match outcome {
        Outcome::Timeout => (
            "Sandbox.Timedout",
            format!("Task timed out after {:.2} seconds", timeout.as_secs_f64()),
        ),
        Outcome::OutOfMemory => (
            "Runtime.OutOfMemory",
            "Runtime exited with error: out of memory".to_owned(),
        ),
        Outcome::OutOfFuel => ("Runtime.OutOfFuel", "out of fuel".to_owned()),
        Outcome::OutOfCpu => ("Runtime.OutOfCpu", "out of processor time".to_owned()),
        Outcome::ResponseTooLarge => {
            let message =
                "Response payload size exceeded maximum allowed payload size (6291556 bytes).";
            let document = json!({
                "errorType": "Function.ResponseSizeTooLarge",
                "errorMessage": message,
            });
            return document.to_string();
        }
        Outcome::BadResponse => (
            "Runtime.BadResponse",
            "the function gave no valid answer".to_owned(),
        ),
        Outcome::Ok
        | Outcome::FunctionError
        | Outcome::NoRoute
        | Outcome::BadRequest
        | Outcome::Throttled
        | Outcome::Overloaded
        | Outcome::Trap
        | Outcome::Cancelled
        | Outcome::OriginUnreachable
        | Outcome::OriginTimeout
        | Outcome::Internal => (
            "Runtime.ExitError",
            format!("Runtime exited with error: {outcome}"),
        ),
    };
    let document = ErrorDocument {
        error_type,
        error_message: &format!("RequestId: {request_id} Error: {what}"),
        trace: None,
    };
    document.to_json()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_that_was_stopped_is_told_as_lambda_tells_it() {
        let id = RequestId::generate();
        assert_eq!(
            stopped_document(Outcome::Timeout, id, Duration::from_secs(3)),
            format!(
                r#"{{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: {id} Error: Task timed out after 3.00 seconds"}}"#
            )
        );
        assert_eq!(
            stopped_document(Outcome::Trap, id, Duration::from_secs(3)),
            format!(
                r#"{{"errorType":"Runtime.ExitError","errorMessage":"RequestId: {id} Error: Runtime exited with error: trap"}}"#
            )
        );
    }
}
