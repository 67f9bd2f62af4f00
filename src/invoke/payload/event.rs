//! An HTTP request → the event of a function that takes events.

use std::{borrow::Cow, collections::BTreeMap};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, header, request::Parts};
use serde::Serialize;

use super::{is_text, text};
use crate::model::{RequestId, UrlCaller};

/// What the event says of a request beside its head and body.
#[derive(Debug, Clone)]
pub(in crate::invoke) struct Origin<'a> {
    pub(in crate::invoke) request_id: RequestId,
    /// The function's name, or the id of its URL.
    pub(in crate::invoke) api_id: &'a str,
    pub(in crate::invoke) source_ip: &'a str,
    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub(in crate::invoke) time_ms: i64,
    /// What the route's pattern took from the path.
    pub(in crate::invoke) path_parameters: &'a [(String, String)],
    /// Who signed it.
    pub(in crate::invoke) caller: Option<&'a UrlCaller>,
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
    account_id: &'a str,
    api_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    authorizer: Option<Authorizer<'a>>,
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
struct Authorizer<'a> {
    iam: Iam<'a>,
}

/// What Lambda writes of who signed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Iam<'a> {
    #[serde(flatten)]
    caller: &'a UrlCaller,
    cognito_identity: Option<&'a str>,
    principal_org_id: Option<&'a str>,
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
pub(in crate::invoke) fn event(head: &Parts, body: &Bytes, origin: &Origin<'_>) -> String {
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
    let mut headers = joined(&head.headers);
    // The listener has it in the URI alone.
    if !authority.is_empty() {
        headers
            .entry(header::HOST.as_str())
            .or_insert_with(|| authority.to_owned());
    }
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
        headers,
        query_string_parameters: query_parameters(query),
        path_parameters: origin
            .path_parameters
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect(),
        request_context: Context {
            account_id: origin
                .caller
                .map_or("anonymous", |caller| &caller.account_id),
            api_id: origin.api_id,
            authorizer: origin.caller.map(|caller| Authorizer {
                iam: Iam {
                    caller,
                    cognito_identity: None,
                    principal_org_id: None,
                },
            }),
            domain_name: authority,
            domain_prefix: authority.split('.').next().unwrap_or_default(),
            http: ContextHttp {
                method: head.method.as_str(),
                path: head.uri.path(),
                protocol: match head.version {
                    http::Version::HTTP_3 => "HTTP/3.0",
                    http::Version::HTTP_2 => "HTTP/2.0",
                    _ => "HTTP/1.1",
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

/// `12/Mar/2020:19:03:58 +0000`, the form of API Gateway.
fn time(milliseconds: i64) -> String {
    jiff::Timestamp::from_millisecond(milliseconds)
        .unwrap_or_default()
        .strftime("%d/%b/%Y:%H:%M:%S +0000")
        .to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(request: http::Request<&'static [u8]>) -> Value {
        let (head, body) = request.into_parts();
        let origin = Origin {
            request_id: RequestId::generate(),
            api_id: "order",
            source_ip: "192.0.2.1",
            time_ms: 1_583_348_638_390,
            path_parameters: &[("id".to_owned(), "7".to_owned())],
            caller: None,
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
        assert_eq!(event["headers"]["host"], "order.localhost");
        assert_eq!(context.get("authorizer"), None);
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
}
