//! What is said of an invocation that failed: the documents that Lambda's runtimes answer with.

use std::time::Duration;

use serde::Serialize;
use serde_json::json;

use crate::{
    model::{Outcome, RequestId},
    runtime::FunctionError,
};

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

/// The document of an error that a function answered with.
pub fn error_document(error: &FunctionError) -> String {
    let document = ErrorDocument {
        error_type: &error.error_type,
        error_message: &error.message,
        trace: Some(&error.trace),
    };
    document.to_json()
}

/// What Lambda says of a function that it stopped.
pub fn stopped_document(outcome: Outcome, request_id: RequestId, timeout: Duration) -> String {
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
        | Outcome::Forbidden
        | Outcome::Throttled
        | Outcome::Overloaded
        | Outcome::Trap
        | Outcome::Cancelled
        | Outcome::OriginUnreachable
        | Outcome::OriginTimeout
        | Outcome::OriginBadResponse
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
