//! What is said of an invocation that failed: the documents that Lambda's runtimes answer with.

use std::time::Duration;

use serde::Serialize;

use super::EventAnswer;
use crate::{model::Outcome, runtime::FunctionError};

/// The document of an error that a function answered with.
pub fn error_document(error: &FunctionError) -> String {
    let document = ErrorDocument {
        error_type: &error.error_type,
        error_message: &error.message,
        trace: Some(&error.trace),
    };
    document.to_json()
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

/// What Lambda says of a function that it stopped.
pub fn stopped_document(outcome: Outcome, answer: &EventAnswer, timeout: Duration) -> String {
    let id = answer.request_id;
    let (error_type, message) = match outcome {
        Outcome::Timeout => (
            "Sandbox.Timedout",
            format!(
                "RequestId: {id} Error: Task timed out after {:.2} seconds",
                timeout.as_secs_f64()
            ),
        ),
        Outcome::OutOfMemory => (
            "Runtime.OutOfMemory",
            format!("RequestId: {id} Error: out of memory"),
        ),
        Outcome::OutOfFuel => (
            "Runtime.OutOfFuel",
            format!("RequestId: {id} Error: out of fuel"),
        ),
        Outcome::OutOfCpu => (
            "Runtime.OutOfCpu",
            format!("RequestId: {id} Error: out of processor time"),
        ),
        Outcome::ResponseTooLarge => (
            "Function.ResponseSizeTooLarge",
            "Response payload size exceeded maximum allowed payload size (6291556 bytes)."
                .to_owned(),
        ),
        Outcome::BadResponse => (
            "Runtime.BadResponse",
            format!("RequestId: {id} Error: the answer is not JSON"),
        ),
        _ => (
            "Runtime.ExitError",
            format!("RequestId: {id} Error: Runtime exited with error: {outcome}"),
        ),
    };
    let document = ErrorDocument {
        error_type,
        error_message: &message,
        trace: None,
    };
    document.to_json()
}
