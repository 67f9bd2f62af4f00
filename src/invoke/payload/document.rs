//! The HTTP response of a function that speaks HTTP → the answer to an event.

use std::{borrow::Cow, collections::BTreeMap};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header, response::Parts};
use serde::Serialize;

use super::{is_text, request::Form};
use crate::model::hop;

/// Between the prelude of a streamed answer and its body (`application/vnd.awslambda.http-integration-response`).
const DELIMITER: [u8; 8] = [0; 8];

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    status_code: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<BTreeMap<&'a str, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    multi_value_headers: Option<BTreeMap<&'a str, Vec<Cow<'a, str>>>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cookies: Vec<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_base64_encoded: Option<bool>,
}

/// Why a response is none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an informational status is no answer")]
pub(in crate::invoke) struct Informational;

/// The answer that a response is, in the form of the event.
pub(in crate::invoke) fn document(
    head: &Parts,
    body: &Bytes,
    form: Form,
) -> Result<String, Informational> {
    let as_text = match head.headers.contains_key(header::CONTENT_TYPE) {
        true => is_text(&head.headers),
        false => !head.headers.contains_key(header::CONTENT_ENCODING),
    };
    let (body, is_base64_encoded) = match std::str::from_utf8(body) {
        Ok(text) if as_text || text.is_empty() => (Cow::Borrowed(text), false),
        _ => (Cow::Owned(BASE64_STANDARD.encode(body)), true),
    };
    let mut document = described(head, form)?;
    document.body = Some(body);
    document.is_base64_encoded = Some(is_base64_encoded);
    Ok(serde_json::to_string(&document).expect("strings, numbers and maps of them are JSON"))
}

/// What goes before the body of a response that is streamed.
pub(in crate::invoke) fn prelude(head: &Parts) -> Result<Bytes, Informational> {
    let document = described(head, Form::V2)?;
    let json = serde_json::to_vec(&document).expect("strings, numbers and maps of them are JSON");
    let mut prelude = BytesMut::from(&json[..]);
    prelude.extend_from_slice(&DELIMITER);
    Ok(prelude.freeze())
}

fn described(head: &Parts, form: Form) -> Result<Document<'_>, Informational> {
    if head.status.is_informational() {
        return Err(Informational);
    }
    let (headers, multi_value_headers, cookies) = match form {
        Form::V2 => {
            let cookies = head.headers.get_all(header::SET_COOKIE).iter();
            let cookies = cookies.map(|cookie| String::from_utf8_lossy(cookie.as_bytes()));
            (Some(joined(&head.headers, false)), None, cookies.collect())
        }
        Form::V1 { multiple: true, .. } => (None, Some(listed(&head.headers)), Vec::new()),
        Form::V1 { .. } => (Some(joined(&head.headers, true)), None, Vec::new()),
    };
    let balancer = matches!(form, Form::V1 { balancer: true, .. });
    Ok(Document {
        status_code: head.status.as_u16(),
        status_description: balancer.then(|| head.status.to_string()),
        headers,
        multi_value_headers,
        cookies,
        body: None,
        is_base64_encoded: None,
    })
}

/// The fields that an answer has: whoever sends it on frames it.
fn fields(headers: &HeaderMap) -> impl Iterator<Item = (&str, Cow<'_, str>)> {
    headers
        .iter()
        .filter(|(name, _)| **name != header::CONTENT_LENGTH && !hop::is_framing(name.as_str()))
        .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes())))
}

/// Fields by name; repeated ones joined with commas, but for cookies, which cannot be: they are left out, or the last is taken.
fn joined(headers: &HeaderMap, with_cookie: bool) -> BTreeMap<&str, String> {
    let mut joined: BTreeMap<&str, String> = BTreeMap::new();
    for (name, value) in fields(headers) {
        if *name == *header::SET_COOKIE.as_str() {
            if with_cookie {
                joined.insert(name, value.into_owned());
            }
            continue;
        }
        joined
            .entry(name)
            .and_modify(|before| {
                before.push(',');
                before.push_str(&value);
            })
            .or_insert_with(|| value.into_owned());
    }
    joined
}

fn listed(headers: &HeaderMap) -> BTreeMap<&str, Vec<Cow<'_, str>>> {
    let mut listed: BTreeMap<&str, Vec<Cow<'_, str>>> = BTreeMap::new();
    for (name, value) in fields(headers) {
        listed.entry(name).or_default().push(value);
    }
    listed
}

#[cfg(test)]
mod tests {
    use http::Response;
    use serde_json::{Value, json};

    use super::*;

    const V1: Form = Form::V1 {
        multiple: true,
        balancer: false,
    };

    fn of(response: http::response::Builder, body: &'static [u8], form: Form) -> Value {
        let (head, ()) = response.body(()).unwrap().into_parts();
        serde_json::from_str(&document(&head, &Bytes::from_static(body), form).unwrap()).unwrap()
    }

    fn response() -> http::response::Builder {
        Response::builder()
            .status(201)
            .header("content-type", "application/json")
            .header("content-length", "2")
            .header("connection", "close")
            .header("x-tag", "a")
            .header("x-tag", "b")
            .header("set-cookie", "one=1")
            .header("set-cookie", "two=2")
    }

    #[test]
    fn a_response_is_a_document_in_the_form_of_the_event() {
        assert_eq!(
            of(response(), b"{}", Form::V2),
            json!({
                "statusCode": 201,
                "headers": {"content-type": "application/json", "x-tag": "a,b"},
                "cookies": ["one=1", "two=2"],
                "body": "{}",
                "isBase64Encoded": false,
            })
        );
        let multiple = json!({
            "content-type": ["application/json"],
            "x-tag": ["a", "b"],
            "set-cookie": ["one=1", "two=2"],
        });
        assert_eq!(
            of(response(), b"{}", V1),
            json!({
                "statusCode": 201,
                "multiValueHeaders": multiple,
                "body": "{}",
                "isBase64Encoded": false,
            })
        );
        let balancer = Form::V1 {
            multiple: false,
            balancer: true,
        };
        assert_eq!(
            of(response(), b"{}", balancer),
            json!({
                "statusCode": 201,
                "statusDescription": "201 Created",
                "headers": {"content-type": "application/json", "x-tag": "a,b", "set-cookie": "two=2"},
                "body": "{}",
                "isBase64Encoded": false,
            })
        );
    }

    #[test]
    fn a_body_that_is_not_text_is_base64() {
        let plain = Response::builder;
        let image = || plain().header("content-type", "image/png");
        for (response, body, document) in [
            (plain(), b"hi".as_slice(), json!(["hi", false])),
            (plain(), b"", json!(["", false])),
            (plain(), b"\xff", json!(["/w==", true])),
            (image(), b"hi", json!(["aGk=", true])),
            (image(), b"", json!(["", false])),
            (
                plain().header("content-encoding", "gzip"),
                b"hi",
                json!(["aGk=", true]),
            ),
        ] {
            let made = of(response, body, Form::V2);
            assert_eq!(json!([made["body"], made["isBase64Encoded"]]), document);
        }
    }

    #[test]
    fn a_prelude_has_no_body_and_ends_with_eight_zeros() {
        let (head, ()) = response().body(()).unwrap().into_parts();
        let prelude = prelude(&head).unwrap();
        let (json, delimiter) = prelude.split_at(prelude.len() - 8);
        assert_eq!(delimiter, [0; 8]);
        assert_eq!(
            serde_json::from_slice::<Value>(json).unwrap(),
            json!({
                "statusCode": 201,
                "headers": {"content-type": "application/json", "x-tag": "a,b"},
                "cookies": ["one=1", "two=2"],
            })
        );
    }

    #[test]
    fn an_informational_status_is_no_answer() {
        let (head, ()) = Response::builder()
            .status(103)
            .body(())
            .unwrap()
            .into_parts();
        assert_eq!(document(&head, &Bytes::new(), Form::V2), Err(Informational));
        assert_eq!(super::prelude(&head), Err(Informational));
    }
}
