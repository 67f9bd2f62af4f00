//! The answer of a function that takes events → an HTTP response.

use std::collections::BTreeMap;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use serde::Deserialize;

use super::value::Scalar;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    status_code: u16,
    #[serde(default)]
    headers: BTreeMap<String, Scalar>,
    #[serde(default)]
    multi_value_headers: BTreeMap<String, Vec<Scalar>>,
    #[serde(default)]
    cookies: Vec<String>,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    is_base64_encoded: bool,
}

/// Why an answer is no response.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::invoke) enum InvalidAnswer {
    #[error("the answer is not JSON")]
    Json,
    #[error("`statusCode` {0} is not between 200 and 599")]
    Status(u16),
    #[error("`{0}` is not a header field")]
    Header(String),
    #[error("`body` is not base64 although `isBase64Encoded` is true")]
    Base64,
}

/// The response that a function's answer stands for.
pub(in crate::invoke) fn response(answer: String) -> Result<Response<Bytes>, InvalidAnswer> {
    let value: serde_json::Value =
        serde_json::from_str(&answer).map_err(|_| InvalidAnswer::Json)?;
    if value.get("statusCode").is_none() {
        // Any other JSON is the body itself; a string stands for its text, as in Lambda.
        let body = match value {
            serde_json::Value::String(text) => text,
            _ => answer,
        };
        let mut response = Response::new(Bytes::from(body));
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        return Ok(response);
    }
    let answer: Answer = serde_json::from_value(value).map_err(|_| InvalidAnswer::Json)?;
    let status = StatusCode::from_u16(answer.status_code)
        .ok()
        .filter(|_| (200..=599).contains(&answer.status_code))
        .ok_or(InvalidAnswer::Status(answer.status_code))?;
    let body = match (answer.body, answer.is_base64_encoded) {
        (None, _) => Bytes::new(),
        (Some(body), false) => Bytes::from(body),
        (Some(body), true) => Bytes::from(
            BASE64_STANDARD
                .decode(body)
                .map_err(|_| InvalidAnswer::Base64)?,
        ),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let single = answer
        .headers
        .into_iter()
        .map(|(name, value)| (name, vec![value]));
    for (name, values) in single.chain(answer.multi_value_headers) {
        let field: HeaderName = name
            .parse()
            .map_err(|_| InvalidAnswer::Header(name.clone()))?;
        for value in values {
            let value =
                HeaderValue::from_str(&value.0).map_err(|_| InvalidAnswer::Header(name.clone()))?;
            headers.append(&field, value);
        }
    }
    for cookie in answer.cookies {
        let value = HeaderValue::from_str(&cookie)
            .map_err(|_| InvalidAnswer::Header("set-cookie".to_owned()))?;
        headers.append(header::SET_COOKIE, value);
    }
    if !headers.contains_key(header::CONTENT_TYPE) {
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_with_a_status_code_is_a_response() {
        let response = response(
            json!({
                "statusCode": 201,
                "headers": {"X-One": "1", "x-number": 5},
                "cookies": ["a=b"],
                "body": "aGk=",
                "isBase64Encoded": true,
            })
            .to_string(),
        )
        .unwrap();
        assert_eq!(response.status(), 201);
        assert_eq!(response.headers()["x-one"], "1");
        assert_eq!(response.headers()["x-number"], "5");
        assert_eq!(response.headers()["set-cookie"], "a=b");
        assert_eq!(response.body(), "hi");
    }

    #[test]
    fn any_other_json_is_the_body_of_a_200() {
        let object = response(json!({"total": 3}).to_string()).unwrap();
        assert_eq!(
            (object.status().as_u16(), &object.body()[..]),
            (200, &b"{\"total\":3}"[..])
        );
        assert_eq!(object.headers()["content-type"], "application/json");
        assert_eq!(response("\"hello\"".to_owned()).unwrap().body(), "hello");
    }

    #[test]
    fn an_answer_that_is_no_response_is_refused() {
        for (answer, problem) in [
            ("not json", InvalidAnswer::Json),
            ("{\"statusCode\":\"200\"}", InvalidAnswer::Json),
            ("{\"statusCode\":99}", InvalidAnswer::Status(99)),
            ("{\"statusCode\":101}", InvalidAnswer::Status(101)),
            (
                "{\"statusCode\":200,\"headers\":{\"a b\":\"\"}}",
                InvalidAnswer::Header("a b".to_owned()),
            ),
            (
                "{\"statusCode\":200,\"headers\":{\"a\":\"x\\r\\ny: z\"}}",
                InvalidAnswer::Header("a".to_owned()),
            ),
            (
                "{\"statusCode\":200,\"body\":\"%\",\"isBase64Encoded\":true}",
                InvalidAnswer::Base64,
            ),
        ] {
            assert_eq!(
                response(answer.to_owned()).unwrap_err(),
                problem,
                "{answer}"
            );
        }
    }
}
