//! The one place where an outcome becomes a response.
//!
//! The client sees the word, a sentence and the request id; the cause is in the log. The word is the same in the body, in the
//! header `x-wharf-error`, in the span and in the metric.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use serde::Serialize;

use super::sanitize::Refusal;
use crate::model::{Outcome, RequestId};

/// The header with the word of an outcome that is not `ok`.
pub const ERROR: HeaderName = HeaderName::from_static("x-wharf-error");

/// The header with the id of a request.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// How long a client that was turned away for want of capacity should wait. Concurrency is freed within a request's duration,
/// and a second is the least that `Retry-After` can say.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// The response for `outcome`.
pub fn respond(outcome: Outcome, id: RequestId) -> Response<Bytes> {
    respond_with(outcome.status(), outcome, id)
}

/// The response for `outcome`, with a status that says more.
pub fn respond_with(status: StatusCode, outcome: Outcome, id: RequestId) -> Response<Bytes> {
    document(status, outcome.code(), message(outcome), id)
}

/// The response for a request that was refused before anything was done for it.
pub fn refuse(refusal: &Refusal, id: RequestId) -> Response<Bytes> {
    let code = Outcome::BadRequest.code();
    let mut response = document(refusal.status(), code, &refusal.to_string(), id);
    if *refusal == Refusal::TransferCoding {
        // Where the body ends is what the client and this node may not agree on (RFC 9112 section 6.1): nothing that follows it on
        // the connection is a request.
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
}

/// An id as the value of a header.
pub fn id_value(id: RequestId) -> HeaderValue {
    HeaderValue::from_str(id.encode(&mut [0; 36]))
        .expect("hexadecimal digits and hyphens are a value")
}

fn document(
    status: StatusCode,
    code: &'static str,
    message: &str,
    id: RequestId,
) -> Response<Bytes> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Document<'a> {
        error: &'a str,
        message: &'a str,
        request_id: RequestId,
    }
    let body = serde_json::to_vec(&Document {
        error: code,
        message,
        request_id: id,
    })
    .expect("three strings are JSON");

    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(ERROR, HeaderValue::from_static(code));
    headers.insert(REQUEST_ID, id_value(id));
    // An error is about this request at this moment.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
    ) {
        headers.insert(header::RETRY_AFTER, RETRY_AFTER);
    }
    response
}

/// What a client is told. It names whose fault it is and no cause.
const fn message(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Ok => "the function answered",
        Outcome::FunctionError => "the function answered with an error",
        Outcome::NoRoute => "nothing is served at this host and path",
        Outcome::BadRequest => "the request is malformed",
        Outcome::Forbidden => "this is not for who asks",
        Outcome::Throttled => "there are too many requests at the moment, try again later",
        Outcome::Overloaded => "this node is at its capacity, try again later",
        Outcome::Trap => "the function failed",
        Outcome::BadResponse => "the function gave no valid answer",
        Outcome::ResponseTooLarge => "the function's answer is too large",
        Outcome::OutOfMemory => "the function wanted more memory than it may have",
        Outcome::OutOfFuel => "the function executed more instructions than it may",
        Outcome::OutOfCpu => "the function used more processor time than it may",
        Outcome::Timeout => "the function did not answer in time",
        Outcome::Cancelled => "the request was cancelled",
        Outcome::OriginUnreachable => "the origin could not be reached",
        Outcome::OriginTimeout => "the origin did not answer in time",
        Outcome::OriginBadResponse => "the origin gave no valid answer",
        Outcome::Internal => "this node failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_is_told_by_the_same_word_in_header_and_body() {
        for outcome in Outcome::ALL {
            let id = RequestId::generate();
            let response = respond(outcome, id);
            assert_eq!(response.status(), outcome.status());
            assert_eq!(response.headers()[ERROR], outcome.code());
            assert_eq!(response.headers()[REQUEST_ID], id.to_string());
            let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
            assert_eq!(body["error"], outcome.code());
            assert_eq!(body["requestId"], id.to_string());
        }
    }

    #[test]
    fn a_client_turned_away_for_capacity_is_told_when_to_come_back() {
        for (outcome, told) in [
            (Outcome::Throttled, true),
            (Outcome::Overloaded, true),
            (Outcome::Trap, false),
        ] {
            let response = respond(outcome, RequestId::generate());
            assert_eq!(response.headers().contains_key(header::RETRY_AFTER), told);
        }
    }
}
