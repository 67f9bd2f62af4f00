//! HTTP ⇄ event JSON, both ways: a function that takes events also answers HTTP, and one that speaks HTTP also takes events.
//!
//! | | a function that takes events | a function that speaks HTTP |
//! | --- | --- | --- |
//! | given a request | [`event()`]: request → event | the request as it is |
//! | it answers | [`response`]: answer → response | the response as it is |
//! | given an event | the event as it is | [`request()`]: event → request |
//! | it answers | the answer as it is | [`document()`]: response → answer |
//!
//! The formats are those of API Gateway: 2.0, which function URLs send too, and for events also 1.0, which REST APIs and load
//! balancers send. What stands in an event was written by somebody who may invoke the function, and nothing more is known of
//! it: it is read as strictly as the listener reads a request, so that the function never sees what HTTP could not bring it.

mod answer;
mod document;
mod event;
mod request;
mod value;

#[cfg(test)]
mod round_trip;

use http::{HeaderMap, HeaderValue, header};

pub(super) use answer::response;
pub(super) use document::{document, prelude};
pub(super) use event::{Origin, event};
pub(super) use request::{HttpEvent, request};

/// Whether a body goes into the event as text: what API Gateway takes for text.
fn is_text(headers: &HeaderMap) -> bool {
    if headers.contains_key(header::CONTENT_ENCODING) {
        return false;
    }
    let media = text(headers.get(header::CONTENT_TYPE)).to_ascii_lowercase();
    let media = media.split(';').next().unwrap_or_default().trim();
    media.starts_with("text/")
        || media.ends_with("+json")
        || media.ends_with("+xml")
        || matches!(
            media,
            "application/json"
                | "application/xml"
                | "application/javascript"
                | "application/x-www-form-urlencoded"
        )
}

fn text(value: Option<&HeaderValue>) -> &str {
    value
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}
