//! An event for asynchronous invocation, as it waits in the queue.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{FunctionName, Qualifier, RequestId};

/// What the queue holds of an event: who took it over writes it, the worker reads it. An unknown field is let pass, so
/// that a node that was set back to an older release still delivers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AsyncEvent {
    /// The id that the caller was given. Every attempt runs under it.
    pub request_id: RequestId,
    /// The event: JSON.
    pub event: String,
    /// The client context (Lambda API, Invoke, `X-Amz-Client-Context`), decoded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_context: Option<Box<str>>,
    /// How many destinations and dead-letter targets there were on its way: 0 for one that a caller handed over.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub hops: u8,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(hops: &u8) -> bool {
    *hops == 0
}

/// For whom an event is: a function, and which of its versions. Without a qualifier that is `$LATEST`.
///
/// It is written `NAME` or `NAME:QUALIFIER`. An alias is not looked up before an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EventTarget {
    /// The function.
    pub function: FunctionName,
    /// The version, or the alias of one.
    pub qualifier: Option<Qualifier>,
}

/// A text that names no function and version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no function and version")]
pub struct InvalidTarget(String);

impl EventTarget {
    /// The target that an ARN names, if it is one of the node whose ARNs begin so: `arn:aws:lambda:us-east-1:000000000000`.
    pub fn from_arn(node: &str, arn: &str) -> Option<Self> {
        let rest = arn.strip_prefix(node)?.strip_prefix(":function:")?;
        rest.parse().ok()
    }

    /// The ARN of this target on that node.
    pub fn arn(&self, node: &str) -> String {
        format!("{node}:function:{self}")
    }

    /// The ARN with a qualifier, be it only `$LATEST`.
    pub fn qualified_arn(&self, node: &str) -> String {
        let qualifier = self.qualifier.clone().unwrap_or_default();
        format!("{node}:function:{}:{qualifier}", self.function)
    }
}

impl From<FunctionName> for EventTarget {
    fn from(function: FunctionName) -> Self {
        Self {
            function,
            qualifier: None,
        }
    }
}

impl FromStr for EventTarget {
    type Err = InvalidTarget;

    fn from_str(text: &str) -> Result<Self, InvalidTarget> {
        let invalid = || InvalidTarget(text.chars().take(200).collect());
        let (name, qualifier) = match text.split_once(':') {
            Some((name, qualifier)) => (name, Some(qualifier)),
            None => (text, None),
        };
        let qualifier = qualifier.map(str::parse).transpose();
        Ok(Self {
            function: name.parse().map_err(|_| invalid())?,
            qualifier: qualifier.map_err(|_| invalid())?,
        })
    }
}

impl TryFrom<String> for EventTarget {
    type Error = InvalidTarget;

    fn try_from(text: String) -> Result<Self, InvalidTarget> {
        text.parse()
    }
}

impl From<EventTarget> for String {
    fn from(target: EventTarget) -> Self {
        target.to_string()
    }
}

impl fmt::Display for EventTarget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.qualifier {
            Some(qualifier) => write!(formatter, "{}:{qualifier}", self.function),
            None => write!(formatter, "{}", self.function),
        }
    }
}

/// What becomes of a function's events, as it was configured for a version or an alias (Lambda API,
/// `PutFunctionEventInvokeConfig`). What is not said is as for functions without a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventInvokeConfig {
    /// The function.
    pub function: FunctionName,
    /// Which invocations it is for: those with this qualifier.
    pub qualifier: Qualifier,
    /// How often the function is tried again after an error: 0 to 2.
    #[serde(default)]
    pub retries: Option<u32>,
    /// How old an event gets: 60 to 21,600 seconds.
    #[serde(default)]
    pub max_age_seconds: Option<u32>,
    /// Who hears of an event that is done.
    #[serde(default)]
    pub on_success: Option<EventTarget>,
    /// Who hears of one that was given up.
    #[serde(default)]
    pub on_failure: Option<EventTarget>,
    /// When it was set: milliseconds since 1970-01-01T00:00:00Z.
    pub modified_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read_as_it_was_written() {
        let event = AsyncEvent {
            request_id: RequestId::generate(),
            event: "{\"a\": \"\\u00e9\"}".to_owned(),
            client_context: None,
            hops: 3,
        };
        let written = serde_json::to_vec(&event).unwrap();
        let read: AsyncEvent = serde_json::from_slice(&written).unwrap();
        assert_eq!(read, event);
        assert!(
            serde_json::from_str::<AsyncEvent>("{\"request_id\": \"x\", \"event\": \"\"}").is_err()
        );
    }

    #[test]
    fn a_target_is_a_function_and_which_of_its_versions() {
        const NODE: &str = "arn:aws:lambda:us-east-1:000000000000";
        for text in ["order", "order:$LATEST", "order:7", "order:live"] {
            let target: EventTarget = text.parse().unwrap();
            assert_eq!(target.to_string(), text);
            assert_eq!(EventTarget::from_arn(NODE, &target.arn(NODE)), Some(target));
        }
        for text in ["", ":1", "order:", "order:0", "a:b:c", "not a name"] {
            assert!(text.parse::<EventTarget>().is_err(), "{text}");
        }
        let bare: EventTarget = "order".parse().unwrap();
        assert_eq!(
            bare.qualified_arn(NODE),
            format!("{NODE}:function:order:$LATEST")
        );
        for arn in [
            "arn:aws:lambda:us-east-1:000000000001:function:order",
            "arn:aws:sqs:us-east-1:000000000000:function:order",
            "arn:aws:lambda:us-east-1:000000000000:layer:order",
        ] {
            assert_eq!(EventTarget::from_arn(NODE, arn), None, "{arn}");
        }
    }
}
