//! HTTP ⇄ event JSON, so that a function that takes events also answers HTTP.
//!
//! The event is the API Gateway HTTP API payload, format version 2.0, which Lambda function URLs send too. The answer is
//! read as theirs is: a JSON object with a `statusCode` is a response, any other JSON is the body of a 200.

use std::{borrow::Cow, collections::BTreeMap};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header, request::Parts};
use serde::{Deserialize, Serialize};

use crate::model::RequestId;

/// What the event says of a request beside its head and body.
#[derive(Debug, Clone)]
pub(super) struct Origin<'a> {
    pub(super) request_id: RequestId,
    pub(super) function: &'a str,
    pub(super) source_ip: &'a str,
    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub(super) time_ms: i64,
    /// What the route's pattern took from the path.
    pub(super) path_parameters: &'a [(String, String)],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    version: &'static str,
    route_key: &'static str,
    raw_path: &'a str,
    raw_query_string: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cookies: Vec<&'a str>,
    headers: BTreeMap<&'a str, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    query_string_parameters: BTreeMap<Cow<'a, str>, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    path_parameters: BTreeMap<&'a str, &'a str>,
    request_context: Context<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Cow<'a, str>>,
    is_base64_encoded: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Context<'a> {
    account_id: &'static str,
    api_id: &'a str,
    domain_name: &'a str,
    domain_prefix: &'a str,
    http: ContextHttp<'a>,
    request_id: RequestId,
    route_key: &'static str,
    stage: &'static str,
    time: String,
    time_epoch: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ContextHttp<'a> {
    method: &'a str,
    path: &'a str,
    protocol: &'static str,
    source_ip: &'a str,
    user_agent: &'a str,
}

/// The event of a request.
pub(super) fn event(head: &Parts, body: &Bytes, origin: &Origin<'_>) -> String {
    let authority = head.uri.authority().map_or_else(
        || text(head.headers.get(header::HOST)),
        |authority| authority.as_str(),
    );
    let query = head.uri.query().unwrap_or_default();
    let (body, is_base64_encoded) = if body.is_empty() {
        (None, false)
    } else {
        match std::str::from_utf8(body) {
            Ok(body) if is_text(&head.headers) => (Some(Cow::Borrowed(body)), false),
            _ => (Some(Cow::Owned(BASE64_STANDARD.encode(body))), true),
        }
    };
    let event = Event {
        version: "2.0",
        route_key: "$default",
        raw_path: head.uri.path(),
        raw_query_string: query,
        cookies: head
            .headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split("; "))
            .collect(),
        headers: joined(&head.headers),
        query_string_parameters: query_parameters(query),
        path_parameters: origin
            .path_parameters
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect(),
        request_context: Context {
            account_id: "anonymous",
            api_id: origin.function,
            domain_name: authority,
            domain_prefix: authority.split('.').next().unwrap_or_default(),
            http: ContextHttp {
                method: head.method.as_str(),
                path: head.uri.path(),
                protocol: if head.version == http::Version::HTTP_2 {
                    "HTTP/2.0"
                } else {
                    "HTTP/1.1"
                },
                source_ip: origin.source_ip,
                user_agent: text(head.headers.get(header::USER_AGENT)),
            },
            request_id: origin.request_id,
            route_key: "$default",
            stage: "$default",
            time: time(origin.time_ms),
            time_epoch: origin.time_ms,
        },
        body,
        is_base64_encoded,
    };
    serde_json::to_string(&event).expect("strings, numbers and maps of them are JSON")
}

fn text(value: Option<&HeaderValue>) -> &str {
    value
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

/// Fields by name; repeated ones joined with commas. Cookies stand in `cookies`.
fn joined(headers: &HeaderMap) -> BTreeMap<&str, String> {
    let mut joined: BTreeMap<&str, String> = BTreeMap::new();
    for (name, value) in headers {
        if name == header::COOKIE {
            continue;
        }
        let value = String::from_utf8_lossy(value.as_bytes());
        joined
            .entry(name.as_str())
            .and_modify(|before| {
                before.push(',');
                before.push_str(&value);
            })
            .or_insert_with(|| value.into_owned());
    }
    joined
}

/// Decoded parameters by name; repeated ones joined with commas.
fn query_parameters(query: &str) -> BTreeMap<Cow<'_, str>, String> {
    let mut parameters: BTreeMap<Cow<'_, str>, String> = BTreeMap::new();
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        parameters
            .entry(name)
            .and_modify(|before| {
                before.push(',');
                before.push_str(&value);
            })
            .or_insert_with(|| value.into_owned());
    }
    parameters
}

/// Whether the body goes into the event as text: what API Gateway takes for text.
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

/// `12/Mar/2020:19:03:58 +0000`, the form of API Gateway.
fn time(milliseconds: i64) -> String {
    jiff::Timestamp::from_millisecond(milliseconds)
        .unwrap_or_default()
        .strftime("%d/%b/%Y:%H:%M:%S +0000")
        .to_string()
}

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

/// A header's value as functions write it: `"5"`, `5` or `true`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar {
    Text(String),
    Number(serde_json::Number),
    Flag(bool),
}

impl std::fmt::Display for Scalar {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => text.fmt(formatter),
            Self::Number(number) => number.fmt(formatter),
            Self::Flag(flag) => flag.fmt(formatter),
        }
    }
}

/// Why an answer is no response.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidAnswer {
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
pub(super) fn response(answer: String) -> Result<Response<Bytes>, InvalidAnswer> {
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
            let value = HeaderValue::from_str(&value.to_string())
                .map_err(|_| InvalidAnswer::Header(name.clone()))?;
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
    use serde_json::{Value, json};

    use super::*;

    fn of(request: http::Request<&'static [u8]>) -> Value {
        let (head, body) = request.into_parts();
        let origin = Origin {
            request_id: RequestId::generate(),
            function: "order",
            source_ip: "192.0.2.1",
            time_ms: 1_583_348_638_390,
            path_parameters: &[("id".to_owned(), "7".to_owned())],
        };
        serde_json::from_str(&event(&head, &Bytes::from_static(body), &origin)).unwrap()
    }

    #[test]
    fn a_request_becomes_the_payload_that_api_gateway_sends() {
        let event = of(
            http::Request::post("http://order.localhost/orders/7?a=1&a=2&b=x%20y")
                .header("cookie", "one=1; two=2")
                .header("content-type", "application/json")
                .header("x-tag", "a")
                .header("x-tag", "b")
                .header("user-agent", "curl")
                .body(b"{\"x\":1}".as_slice())
                .unwrap(),
        );
        assert_eq!(event["version"], "2.0");
        assert_eq!(event["rawPath"], "/orders/7");
        assert_eq!(event["rawQueryString"], "a=1&a=2&b=x%20y");
        assert_eq!(
            event["queryStringParameters"],
            json!({"a": "1,2", "b": "x y"})
        );
        assert_eq!(event["pathParameters"], json!({"id": "7"}));
        assert_eq!(event["cookies"], json!(["one=1", "two=2"]));
        assert_eq!(event["headers"]["x-tag"], "a,b");
        assert_eq!(event["headers"].get("cookie"), None);
        assert_eq!(event["body"], "{\"x\":1}");
        assert_eq!(event["isBase64Encoded"], false);
        let context = &event["requestContext"];
        assert_eq!(context["http"]["method"], "POST");
        assert_eq!(context["http"]["sourceIp"], "192.0.2.1");
        assert_eq!(context["domainName"], "order.localhost");
        assert_eq!(context["time"], "04/Mar/2020:19:03:58 +0000");
        assert_eq!(context["timeEpoch"], 1_583_348_638_390_i64);
    }

    #[test]
    fn a_body_that_is_not_text_is_base64() {
        let event = of(http::Request::post("/")
            .body([0xff, 0x00].as_slice())
            .unwrap());
        assert_eq!(event["body"], "/wA=");
        assert_eq!(event["isBase64Encoded"], true);
        assert_eq!(
            of(http::Request::get("/").body([].as_slice()).unwrap()).get("body"),
            None
        );
    }

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
