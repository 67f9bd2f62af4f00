//! A request that was made an event and then a request again is the same, within what the format can carry.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::executor::block_on;
use http::{HeaderMap, HeaderValue, Request, header};
use http_body_util::BodyExt as _;
use proptest::prelude::*;

use super::{Origin, event, request};
use crate::model::{RequestId, hop};

fn token() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9-]{0,12}".prop_filter("a field of its own", |name| {
        !hop::is_framing(name) && !matches!(name.as_str(), "host" | "cookie")
    })
}

fn value() -> impl Strategy<Value = String> {
    "[!-~]([ -~äß]{0,20}[!-~])?"
}

/// As the listener hands it on: an absolute URI, no `Host`, and who sent it in `X-Forwarded-For`.
fn a_request() -> impl Strategy<Value = (Request<()>, Bytes)> {
    let target = (
        "/[a-zA-Z0-9/._~!$&'()*+,;=:@%|^{}\\\\-]{0,30}",
        proptest::option::of("[a-zA-Z0-9/?._~!$&'()*+,;=:@%|^`-]{1,30}"),
    );
    let headers = proptest::collection::vec((token(), value()), 0..8);
    let cookies = proptest::collection::vec("[a-z]{1,5}=[a-z0-9]{0,5}", 0..3);
    let body = proptest::collection::vec(any::<u8>(), 0..64);
    (
        "[A-Z]{1,10}".prop_filter("no tunnel", |method| method != "CONNECT"),
        "[a-z0-9][a-z0-9.-]{0,20}(:[1-9][0-9]{0,3})?",
        prop_oneof!["http", "https"],
        target,
        headers,
        cookies,
        prop_oneof![
            Just(None),
            Just(Some("text/plain")),
            Just(Some("image/png"))
        ],
        body,
    )
        .prop_map(
            |(method, host, scheme, (path, query), headers, cookies, media, body)| {
                let query = query.map(|query| format!("?{query}")).unwrap_or_default();
                let mut request = Request::builder()
                    .method(method.as_str())
                    .uri(format!("{scheme}://{host}{path}{query}"))
                    .header("x-forwarded-proto", scheme)
                    .header("x-forwarded-for", "192.0.2.1");
                for (name, value) in headers {
                    request =
                        request.header(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
                }
                for cookie in cookies {
                    request = request.header("cookie", cookie);
                }
                if let Some(media) = media {
                    request = request.header("content-type", media);
                }
                (request.body(()).unwrap(), Bytes::from(body))
            },
        )
}

/// Repeated fields are one in an event: their values parted by commas, those of cookies by semicolons.
fn fields(headers: &HeaderMap) -> BTreeMap<String, Vec<u8>> {
    let mut fields: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for (name, value) in headers {
        let between: &[u8] = if name == header::COOKIE { b"; " } else { b"," };
        fields
            .entry(name.to_string())
            .and_modify(|before| {
                before.extend_from_slice(between);
                before.extend_from_slice(value.as_bytes());
            })
            .or_insert_with(|| value.as_bytes().to_vec());
    }
    fields
}

proptest! {
    #[test]
    fn a_request_survives_being_an_event((before, body) in a_request()) {
        let (head, ()) = before.into_parts();
        let origin = Origin {
            request_id: RequestId::generate(),
            api_id: "probe",
            source_ip: "192.0.2.1",
            time_ms: 0,
            path_parameters: &[],
            caller: None,
        };
        let after = request(&event(&head, &body, &origin), "nowhere").unwrap().request;
        let (again, body_again) = after.into_parts();
        prop_assert_eq!(again.method, head.method);
        prop_assert_eq!(again.uri, head.uri);
        prop_assert_eq!(fields(&again.headers), fields(&head.headers));
        prop_assert_eq!(block_on(body_again.collect()).unwrap().to_bytes(), body);
    }

    #[test]
    fn no_text_is_more_than_an_error(text in ".{0,200}") {
        let event = serde_json::json!({
            "httpMethod": "GET",
            "path": format!("/{text}"),
            "headers": {"x": text, text.as_str(): "y"},
        });
        let _ = request(&event.to_string(), &text);
        let _ = request(&text, "a");
    }
}
