//! An event for asynchronous invocation, as it waits in the queue.

use serde::{Deserialize, Serialize};

use super::RequestId;

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
        };
        let written = serde_json::to_vec(&event).unwrap();
        let read: AsyncEvent = serde_json::from_slice(&written).unwrap();
        assert_eq!(read, event);
        assert!(
            serde_json::from_str::<AsyncEvent>("{\"request_id\": \"x\", \"event\": \"\"}").is_err()
        );
    }
}
