//! The heads of requests and responses of any bytes. The first line is the request's method and target, the second the
//! response's status, the third a network; each line that follows is a header field of both, `name: value`.

#![no_main]

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header,
};
use libfuzzer_sys::fuzz_target;
use wharf::{
    ingress::{ConnectionInfo, sanitize},
    invoke::answer,
    model::{Network, trace},
};

/// Fields that are for one hop; `te` may say `trailers` to the function.
const HOP_BY_HOP: [&str; 7] = [
    "connection",
    "transfer-encoding",
    "upgrade",
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "http2-settings",
];

fuzz_target!(|input: &[u8]| {
    let mut lines = input.split(|byte| *byte == b'\n');
    let (Some(start), Some(status), Some(network)) = (lines.next(), lines.next(), lines.next())
    else {
        return;
    };
    let mut headers = HeaderMap::new();
    for line in lines.take(200) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    let peer = "203.0.113.7:4711".parse().expect("an address");
    let local = "192.0.2.1:80".parse().expect("an address");
    let connection = ConnectionInfo::clear_text(peer, local);
    request(start, headers.clone(), &connection);
    response(status, headers);
    if let Ok(network) = std::str::from_utf8(network)
        && let Ok(network) = network.parse::<Network>()
    {
        let _ = network.contains(peer.ip());
    }
});

fn request(start: &[u8], headers: HeaderMap, connection: &ConnectionInfo) {
    let mut words = start.splitn(2, |byte| *byte == b' ');
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return;
    };
    let (Ok(method), Ok(uri)) = (Method::from_bytes(method), Uri::try_from(target)) else {
        return;
    };
    let (mut head, ()) = Request::new(()).into_parts();
    (head.method, head.uri, head.headers) = (method, uri, headers);
    let path = head.uri.path().to_owned();
    if sanitize::request(&mut head, connection).is_err() {
        return;
    }
    // The URI is absolute and says alone which host is meant.
    assert!(matches!(head.uri.scheme_str(), Some("http" | "https")));
    let authority = head.uri.authority().expect("an authority").as_str();
    assert_eq!(authority, authority.to_ascii_lowercase());
    assert!(!authority.is_empty() && !authority.contains('@'));
    assert!(!head.headers.contains_key(header::HOST));
    // The path is the one that was sent.
    assert!(head.uri.path() == path || path.is_empty() || path == "*");
    for name in HOP_BY_HOP {
        assert!(!head.headers.contains_key(name), "{name}");
    }
    assert!(
        head.headers
            .get_all(header::TE)
            .iter()
            .all(|te| te == "trailers")
    );
    assert!(head.headers.get_all(header::COOKIE).iter().count() <= 1);
    // Nobody's word is taken for who sent the request.
    let mut told = head.headers.get_all("x-forwarded-for").iter();
    assert_eq!(
        told.next().map(HeaderValue::as_bytes),
        Some(&b"203.0.113.7"[..])
    );
    assert!(told.next().is_none());
    let valid = trace::propagate(&mut head.headers);
    assert_eq!(valid, head.headers.contains_key("traceparent"));
    assert!(valid || !head.headers.contains_key("tracestate"));
}

fn response(status: &[u8], headers: HeaderMap) {
    let Ok(status) = StatusCode::from_bytes(status) else {
        return;
    };
    let (mut head, ()) = Response::new(()).into_parts();
    (head.status, head.headers) = (status, headers);
    if answer::check(&mut head).is_err() {
        return;
    }
    assert!(!head.status.is_informational());
    for name in HOP_BY_HOP {
        assert!(!head.headers.contains_key(name), "{name}");
    }
    let mut lengths = head.headers.get_all(header::CONTENT_LENGTH).iter();
    if let Some(length) = lengths.next() {
        assert!(!length.is_empty() && length.as_bytes().iter().all(u8::is_ascii_digit));
        assert!(lengths.next().is_none());
    }
}
