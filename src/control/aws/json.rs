//! The protocol `json` 1.1: an operation is named in `X-Amz-Target`, its members are the body.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Map, Value};

use super::{Error, model::Model};

const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/x-amz-json-1.1");

/// The members of a request.
pub(super) fn input(body: &Bytes) -> Result<Map<String, Value>, Error> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err(Error::serialization("The body is no JSON object.")),
        Err(error) => Err(Error::serialization(format!(
            "The body is not JSON: {error}"
        ))),
    }
}

/// An answer, written.
pub(super) fn output(output: &Value) -> (StatusCode, HeaderMap, Bytes) {
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, CONTENT_TYPE)]);
    let body = match output {
        Value::Null => Bytes::new(),
        value => value.to_string().into_bytes().into(),
    };
    (StatusCode::OK, headers, body)
}

/// An error, written.
pub(super) fn error(model: &'static Model, error: &Error) -> (StatusCode, HeaderMap, Bytes) {
    let (code, status, message) = model.error(&error.name);
    let mut document = error.members.clone();
    document.insert("__type".to_owned(), code.into());
    document.insert(message.to_owned(), error.message.clone().into());
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, CONTENT_TYPE)]);
    (
        status,
        headers,
        Value::Object(document).to_string().into_bytes().into(),
    )
}
