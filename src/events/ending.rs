//! What follows from an event that is done, or given up: the record for a destination, the event for a dead-letter target.
//!
//! Both are events for a function of this node, and go through the same queue. The formats are Lambda's (Developer Guide,
//! "Capturing records of Lambda asynchronous invocations"); what it puts into the attributes of a dead letter's message
//! stands in the client context, under `custom`.

use std::fmt;

use serde::Serialize;
use serde_json::{json, value::RawValue};

use super::Ran;
use crate::{
    invoke::MAX_ASYNC_EVENT,
    model::{AsyncEvent, EventTarget, Outcome, RequestId},
    telemetry::metrics::EventDropped,
};

/// How many follow-ups there may be in a chain before it counts as a loop (Lambda's recursion detection stops at about 16).
pub const MAX_HOPS: u8 = 16;

/// The most bytes of an error's message in a dead letter (Lambda: the first 1 KB).
const MAX_ERROR_MESSAGE: usize = 1024;

/// How an event ended, and what went where.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ending {
    /// Why it was given up, and how the last attempt ended; none if it is done.
    pub dropped: Option<(EventDropped, Option<Outcome>)>,
    /// Who was told.
    pub sent: Vec<Receiver>,
    /// Who should have been, and why not.
    pub failures: Vec<(Receiver, Undelivered)>,
}

/// Who hears of the end of an event. An ARN of a dead-letter target may be none of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receiver {
    /// A destination, which gets the invocation record.
    Destination(EventTarget),
    /// A dead-letter target, which gets the event: an ARN.
    DeadLetter(String),
}

impl fmt::Display for Receiver {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Destination(target) => write!(formatter, "the destination {target}"),
            Self::DeadLetter(arn) => write!(formatter, "the dead-letter target {arn}"),
        }
    }
}

/// Why a receiver was not told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Undelivered {
    /// It was removed.
    #[error("it is not there")]
    NotThere,
    /// It is no function of this node.
    #[error("it is no function of this node")]
    Foreign,
    /// The chain of follow-ups is too long.
    #[error("there were {MAX_HOPS} events before it in a chain, which looks like a loop")]
    Loop,
    /// The event would be larger than one may be.
    #[error("it would be {0} bytes, and {MAX_ASYNC_EVENT} is the most")]
    TooLarge(usize),
    /// The event or the answer is no JSON.
    #[error("it cannot be written")]
    Unwritable,
}

/// An event at its end.
pub(super) struct Ended<'a> {
    pub(super) event: AsyncEvent,
    pub(super) target: &'a EventTarget,
    pub(super) dropped: Option<EventDropped>,
    /// How often the function had it.
    pub(super) invocations: u32,
    pub(super) last: Option<&'a Ran>,
    pub(super) now_ms: u64,
    /// How the ARNs of the node begin.
    pub(super) node: &'a str,
}

/// An invocation record, version 1.0.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Record<'a> {
    version: &'static str,
    timestamp: String,
    request_context: RequestContext,
    request_payload: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_context: Option<ResponseContext>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_payload: Option<&'a RawValue>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RequestContext {
    request_id: RequestId,
    function_arn: String,
    condition: &'static str,
    approximate_invoke_count: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResponseContext {
    status_code: u16,
    executed_version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_error: Option<&'static str>,
}

impl Ended<'_> {
    /// How far a follow-up has come.
    pub(super) fn hops(&self) -> u8 {
        self.event.hops.saturating_add(1)
    }

    /// The event for a destination: the invocation record.
    pub(super) fn record(&self) -> Result<AsyncEvent, Undelivered> {
        let answer = self.last.and_then(|ran| ran.answer.as_deref());
        // Before it is copied.
        self.fits(self.event.event.len() + answer.map_or(0, str::len))?;
        let raw = |text: &str| -> Result<Box<RawValue>, Undelivered> {
            serde_json::from_str(text).map_err(|_| Undelivered::Unwritable)
        };
        let request = raw(&self.event.event)?;
        let response = answer.map(raw).transpose()?;
        let record = Record {
            version: "1.0",
            timestamp: self.timestamp(),
            request_context: RequestContext {
                request_id: self.event.request_id,
                function_arn: self.target.qualified_arn(self.node),
                condition: match self.dropped {
                    None => "Success",
                    Some(EventDropped::Age) => "EventAgeExceeded",
                    Some(EventDropped::Retries | EventDropped::Off | EventDropped::Gone) => {
                        "RetriesExhausted"
                    }
                },
                approximate_invoke_count: self.invocations,
            },
            request_payload: &request,
            response_context: self.last.and_then(response_context),
            response_payload: response.as_deref(),
        };
        let event = serde_json::to_string(&record).map_err(|_| Undelivered::Unwritable)?;
        self.fits(event.len())?;
        Ok(AsyncEvent {
            request_id: RequestId::generate(),
            event,
            client_context: None,
            hops: self.hops(),
        })
    }

    /// The event for a dead-letter target: the same event, and why it comes.
    pub(super) fn dead_letter(&self) -> Result<AsyncEvent, Undelivered> {
        let code = self.last.and_then(response_context);
        let said = self.last.and_then(|ran| ran.answer.as_deref());
        let message = said
            .and_then(|answer| serde_json::from_str::<serde_json::Value>(answer).ok())
            .and_then(|answer| Some(answer.get("errorMessage")?.as_str()?.to_owned()))
            .or_else(|| self.dropped.map(|reason| reason.to_string()))
            .unwrap_or_default();
        let mut end = message.len().min(MAX_ERROR_MESSAGE);
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        let context = json!({"custom": {
            "RequestID": self.event.request_id.to_string(),
            "ErrorCode": code.map_or_else(|| "0".to_owned(), |code| code.status_code.to_string()),
            "ErrorMessage": &message[..end],
        }});
        Ok(AsyncEvent {
            request_id: RequestId::generate(),
            event: self.event.event.clone(),
            client_context: Some(context.to_string().into()),
            hops: self.hops(),
        })
    }

    fn fits(&self, bytes: usize) -> Result<(), Undelivered> {
        match bytes > MAX_ASYNC_EVENT {
            true => Err(Undelivered::TooLarge(bytes)),
            false => Ok(()),
        }
    }

    fn timestamp(&self) -> String {
        let now_ms = i64::try_from(self.now_ms).unwrap_or(i64::MAX);
        let now = jiff::Timestamp::from_millisecond(now_ms).unwrap_or(jiff::Timestamp::MAX);
        format!("{now:.3}")
    }
}

/// What is said of an attempt, if the function had a part in it.
fn response_context(ran: &Ran) -> Option<ResponseContext> {
    use super::retry::Verdict;
    let function_error = match Verdict::from(ran.outcome) {
        Verdict::Done => None,
        Verdict::Error => Some("Unhandled"),
        Verdict::Refusal => return None,
    };
    Some(ResponseContext {
        status_code: 200,
        executed_version: ran.version.to_string(),
        function_error,
    })
}
