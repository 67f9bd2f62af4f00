//! Event streams: how an AWS service answers with one message after another (`application/vnd.amazon.eventstream`).
//!
//! A message is its lengths, header fields, a payload, and two checksums (Smithy specification, "Amazon Event Stream
//! Specification"). The bytes are written by AWS's own crate; here is which fields a service's messages have.

use aws_smithy_eventstream::frame::write_message_to;
use aws_smithy_types::event_stream::{Header, HeaderValue, Message};
use bytes::Bytes;

/// The content type of an answer that is an event stream.
pub(in crate::control) const CONTENT_TYPE: &str = "application/vnd.amazon.eventstream";

/// An event of a stream. `event_type` is the name of a member of the operation's event stream in the service model, or
/// `initial-response` for what the operation answers beside it.
pub(in crate::control) fn message(
    event_type: &'static str,
    content_type: &'static str,
    payload: Bytes,
) -> Bytes {
    written(
        [
            (":event-type", event_type),
            (":content-type", content_type),
            (":message-type", "event"),
        ],
        payload,
    )
}

/// An error that ends a stream. `kind` is the name of an exception of the operation's event stream.
pub(in crate::control) fn exception(kind: &'static str, document: &serde_json::Value) -> Bytes {
    written(
        [
            (":exception-type", kind),
            (":content-type", "application/json"),
            (":message-type", "exception"),
        ],
        Bytes::from(document.to_string()),
    )
}

fn written(fields: [(&'static str, &'static str); 3], payload: Bytes) -> Bytes {
    let size = payload.len() + 160;
    let message = fields
        .into_iter()
        .fold(Message::new(payload), |message, (name, value)| {
            message.add_header(Header::new(name, HeaderValue::String(value.into())))
        });
    let mut bytes = Vec::with_capacity(size);
    write_message_to(&message, &mut bytes)
        .expect("names and values are short, and payloads below 4 GB");
    Bytes::from(bytes)
}

#[cfg(test)]
mod tests {
    use aws_smithy_eventstream::frame::read_message_from;
    use serde_json::json;

    use super::*;

    fn read(bytes: Bytes) -> (Vec<(String, String)>, Bytes) {
        let message = read_message_from(bytes).unwrap();
        let fields = message.headers().iter().map(|header| {
            let value = header.value().as_string().unwrap();
            (header.name().as_str().to_owned(), value.as_str().to_owned())
        });
        (fields.collect(), message.payload().clone())
    }

    #[test]
    fn an_event_says_its_type_and_carries_its_payload() {
        let (fields, payload) = read(message(
            "PayloadChunk",
            "application/octet-stream",
            Bytes::from_static(b"\0\xff"),
        ));
        let wanted = [
            (":event-type", "PayloadChunk"),
            (":content-type", "application/octet-stream"),
            (":message-type", "event"),
        ];
        assert_eq!(
            fields,
            wanted.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
        assert_eq!(payload, b"\0\xff".as_slice());
    }

    #[test]
    fn an_exception_says_its_name() {
        let (fields, payload) = read(exception(
            "SessionTimeoutException",
            &json!({"message": "over"}),
        ));
        assert!(fields.contains(&(
            ":exception-type".to_owned(),
            "SessionTimeoutException".to_owned()
        )));
        assert!(fields.contains(&(":message-type".to_owned(), "exception".to_owned())));
        assert_eq!(payload, b"{\"message\":\"over\"}".as_slice());
    }

    #[test]
    fn a_message_is_the_bytes_that_the_specification_says() {
        // 16 bytes of lengths and checksums, three fields of a byte, a name, a type, two bytes and a value.
        let bytes = message("A", "b", Bytes::from_static(b"payload"));
        let fields = (1 + 11 + 3 + 1) + (1 + 13 + 3 + 1) + (1 + 13 + 3 + 5);
        assert_eq!(bytes.len(), 16 + fields + 7);
        assert_eq!(
            bytes[..4],
            u32::try_from(bytes.len()).unwrap().to_be_bytes()
        );
        assert_eq!(bytes[4..8], u32::try_from(fields).unwrap().to_be_bytes());
    }
}
