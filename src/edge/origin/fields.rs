//! What of a message's fields goes on to the next hop, and what this node adds.
//!
//! Pure. After [`request`] no field is for this hop only (RFC 9110 §7.6.1), none frames the body and none names a host: framing and
//! host are written anew when the server is known. `CDN-Loop` and `Via` name this node. After [`response`] the same holds for
//! hop-by-hop fields, and there is at most one `Content-Length`, which is a number and was not contradicted.
//!
//! That values hold neither CR, LF nor NUL is for `http`: there is no other way to make a `HeaderValue`, nor a `PathAndQuery` with a
//! space or a control character.

use std::net::IpAddr;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request, response,
    uri::{Authority, Scheme},
};
use tokio::time::Instant;

use super::{
    OriginError,
    signature::{CDN_LOOP, Signature, is_loop},
};
use crate::model::hop;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// For whom a request is made.
#[derive(Debug, Clone)]
pub struct Viewer {
    /// The viewer's address.
    pub address: IpAddr,
    /// What the viewer used: http or https.
    pub scheme: Scheme,
    /// The authority that the viewer asked for.
    pub authority: Authority,
    /// Until when there is an answer waited for, where that is a fair time for a server: one that needs longer has failed.
    pub until: Option<Instant>,
}

/// What one pass over the names finds, so that a usual message costs no look-ups.
#[derive(Default)]
struct Present {
    hop_by_hop: bool,
    content_length: bool,
    host: bool,
    cdn_loop: bool,
    alt_svc: bool,
    forwarded: [bool; 4],
}

impl Present {
    fn of(headers: &HeaderMap) -> Self {
        let mut present = Self::default();
        for name in headers.keys() {
            match name.as_str() {
                "content-length" => present.content_length = true,
                "host" => present.host = true,
                "cdn-loop" => present.cdn_loop = true,
                "alt-svc" => present.alt_svc = true,
                "x-forwarded-for" => present.forwarded[0] = true,
                "x-forwarded-proto" => present.forwarded[1] = true,
                "x-forwarded-host" => present.forwarded[2] = true,
                "forwarded" => present.forwarded[3] = true,
                name if hop::is_for_one(name) => present.hop_by_hop = true,
                _ => {}
            }
        }
        present
    }
}

/// Fields that are written by this node and by nobody else.
pub(super) fn is_reserved(name: &HeaderName) -> bool {
    hop::is_for_one(name.as_str())
        || [header::CONTENT_LENGTH, header::HOST, header::VIA, CDN_LOOP].contains(name)
}

/// Makes a request's fields those of the next hop.
pub(super) fn request(
    head: &mut request::Parts,
    viewer: &Viewer,
    signature: &Signature,
) -> Result<(), OriginError> {
    let headers = &mut head.headers;
    let present = Present::of(headers);
    if present.cdn_loop && is_loop(headers, signature.id()) {
        return Err(OriginError::Loop);
    }
    if present.hop_by_hop {
        let trailers = hop::accepts_trailers(headers);
        hop::strip(headers);
        if trailers {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
    }
    if present.content_length {
        headers.remove(header::CONTENT_LENGTH);
    }
    if present.host {
        headers.remove(header::HOST);
    }
    if present.forwarded.contains(&false) {
        introduce(headers, viewer, present.forwarded);
    }
    headers.append(header::VIA, signature.via(head.version));
    headers.append(CDN_LOOP, signature.cdn_loop());
    Ok(())
}

/// Says for whom the request is, where nobody has yet. What is there was written by who let the request in, after dropping what a
/// client made up, and may name several hops.
fn introduce(headers: &mut HeaderMap, viewer: &Viewer, present: [bool; 4]) {
    let [address, proto, host, forwarded] = present;
    let from = viewer.address.to_canonical();
    let scheme = if viewer.scheme == Scheme::HTTPS {
        "https"
    } else {
        "http"
    };
    let authority = viewer.authority.as_str();
    let value = |text: String| HeaderValue::from_maybe_shared(Bytes::from(text)).ok();
    if !address && let Some(value) = value(from.to_string()) {
        headers.insert(FORWARDED_FOR, value);
    }
    if !proto {
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static(scheme));
    }
    if !host && let Ok(value) = HeaderValue::from_str(authority) {
        headers.insert(FORWARDED_HOST, value);
    }
    if !forwarded {
        // RFC 7239 §6: IPv6 in brackets, and what has brackets or colons is quoted.
        let node = match from {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("\"[{address}]\""),
        };
        let element = format!("for={node};proto={scheme};host=\"{authority}\"");
        if let Some(value) = value(element) {
            headers.insert(header::FORWARDED, value);
        }
    }
}

/// Makes an answer's fields those of the next hop, or says why it is none.
///
/// hyper has read the body by the same fields. What it lets pass and another reader might take otherwise is refused here
/// (RFC 9112 §6.1, §6.3).
pub(super) fn response(head: &mut response::Parts) -> Result<(), OriginError> {
    if head.status.is_informational() {
        return Err(OriginError::InvalidResponse(
            "an upgrade that nobody asked for",
        ));
    }
    let headers = &mut head.headers;
    let present = Present::of(headers);
    if present.hop_by_hop {
        check_codings(headers, present.content_length)?;
        hop::strip(headers);
    }
    if present.alt_svc {
        // RFC 7838 section 3: other ways to the origin, past this node, and not to who was asked for.
        headers.remove(header::ALT_SVC);
    }
    if present.content_length {
        one_length(headers)?;
        // RFC 9110 §8.6.
        if head.status == StatusCode::NO_CONTENT {
            headers.remove(header::CONTENT_LENGTH);
        }
    }
    Ok(())
}

fn check_codings(headers: &HeaderMap, content_length: bool) -> Result<(), OriginError> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else {
        return Ok(());
    };
    if content_length {
        return Err(OriginError::InvalidResponse(
            "both Transfer-Encoding and Content-Length",
        ));
    }
    // hyper takes off only this one, and the next hop is not told of any other.
    if codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Err(OriginError::InvalidResponse(
            "a transfer coding other than chunked",
        ));
    }
    Ok(())
}

/// Leaves one `Content-Length`. Several that are equal count as one (RFC 9110 §8.6).
fn one_length(headers: &mut HeaderMap) -> Result<(), OriginError> {
    let invalid = OriginError::InvalidResponse("its Content-Length is not one number");
    let mut values = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(first) = values.next() else {
        return Ok(());
    };
    let digits = first.as_bytes();
    let is_number =
        !digits.is_empty() && digits.len() <= 19 && digits.iter().all(u8::is_ascii_digit);
    let mut several = false;
    let agree = values.all(|value| {
        several = true;
        value == first
    });
    if !(is_number && agree) {
        return Err(invalid);
    }
    if several {
        let first = first.clone();
        headers.insert(header::CONTENT_LENGTH, first);
    }
    Ok(())
}

/// Whether a request may be sent again when it is unknown whether it was served (RFC 9110 §9.2.2).
pub(super) fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    )
}

/// Whether a request goes to backup servers after another server had it, as in CloudFront's origin groups.
pub(super) fn fails_over(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

#[cfg(test)]
mod tests {
    use http::{Request, Response, Version};
    use proptest::prelude::*;

    use super::*;

    fn viewer() -> Viewer {
        Viewer {
            address: "192.0.2.7".parse().unwrap(),
            scheme: Scheme::HTTPS,
            authority: Authority::from_static("www.test:8443"),
            until: None,
        }
    }

    fn sent(fields: &[(&str, &str)], version: Version) -> Result<HeaderMap, OriginError> {
        let mut builder = Request::builder().version(version);
        for (name, value) in fields {
            builder = builder.header(*name, *value);
        }
        let (mut head, ()) = builder.body(()).unwrap().into_parts();
        let signature = Signature::new("node-7").unwrap();
        request(&mut head, &viewer(), &signature).map(|()| head.headers)
    }

    /// RFC 8586 §2, RFC 9110 §7.6.3.
    #[test]
    fn a_request_says_that_it_came_through_here() {
        let earlier = [("via", "1.1 first"), ("cdn-loop", "first")];
        let headers = sent(&earlier, Version::HTTP_2).unwrap();
        let vias: Vec<_> = headers.get_all("via").iter().collect();
        assert_eq!(vias, ["1.1 first", "2.0 node-7"]);
        let loops: Vec<_> = headers.get_all("cdn-loop").iter().collect();
        assert_eq!(loops, ["first", "node-7"]);
        assert_eq!(sent(&[], Version::HTTP_10).unwrap()["via"], "1.0 node-7");
    }

    /// RFC 7239.
    #[test]
    fn the_origin_learns_for_whom_the_request_is() {
        let headers = sent(&[], Version::HTTP_11).unwrap();
        assert_eq!(headers["x-forwarded-for"], "192.0.2.7");
        assert_eq!(headers["x-forwarded-proto"], "https");
        assert_eq!(headers["x-forwarded-host"], "www.test:8443");
        assert_eq!(
            headers["forwarded"],
            "for=192.0.2.7;proto=https;host=\"www.test:8443\""
        );
        let chain = [("x-forwarded-for", "198.51.100.1, 192.0.2.9")];
        let headers = sent(&chain, Version::HTTP_11).unwrap();
        assert_eq!(headers["x-forwarded-for"], chain[0].1);
        assert_eq!(headers["x-forwarded-proto"], "https");
    }

    /// RFC 9110 §7.6.1, RFC 9112 §6.
    #[test]
    fn framing_host_and_expectations_are_not_copied() {
        let headers = sent(
            &[
                ("content-length", "5"),
                ("transfer-encoding", "chunked"),
                ("host", "spoofed"),
                ("expect", "100-continue"),
                ("connection", "close, x-own, content-length"),
                ("x-own", "1"),
                ("te", "gzip;q=1, Trailers"),
                ("trailer", "x-sum"),
                ("x-kept", "1"),
            ],
            Version::HTTP_11,
        )
        .unwrap();
        for name in [
            "content-length",
            "transfer-encoding",
            "host",
            "expect",
            "x-own",
            "connection",
        ] {
            assert!(!headers.contains_key(name), "{name}");
        }
        assert_eq!(headers["te"], "trailers");
        assert_eq!(headers["trailer"], "x-sum");
        assert_eq!(headers["x-kept"], "1");
    }

    /// RFC 9112 §6.1, §6.3.
    #[test]
    fn an_answer_whose_length_can_be_read_in_two_ways_is_refused() {
        for (fields, good) in [
            (&[("content-length", "5")][..], true),
            (&[("content-length", "5"), ("content-length", "5")], true),
            (&[("content-length", "5"), ("content-length", "6")], false),
            (&[("content-length", "5, 5")], false),
            (&[("content-length", "+5")], false),
            (&[("content-length", "")], false),
            (&[("content-length", "99999999999999999999")], false),
            (&[("transfer-encoding", "Chunked")], true),
            (&[("transfer-encoding", "gzip, chunked")], false),
            (&[("transfer-encoding", "gzip")], false),
            (
                &[
                    ("transfer-encoding", "chunked"),
                    ("transfer-encoding", "chunked"),
                ],
                false,
            ),
            (
                &[("transfer-encoding", "chunked"), ("content-length", "5")],
                false,
            ),
        ] {
            let mut builder = Response::builder();
            for (name, value) in fields {
                builder = builder.header(*name, *value);
            }
            let (mut head, ()) = builder.body(()).unwrap().into_parts();
            assert_eq!(response(&mut head).is_ok(), good, "{fields:?}");
            if good {
                assert!(!head.headers.contains_key("transfer-encoding"));
                assert!(head.headers.get_all("content-length").iter().count() <= 1);
            }
        }
    }

    const NAMES: [&str; 14] = [
        "connection",
        "keep-alive",
        "te",
        "upgrade",
        "proxy-connection",
        "proxy-authorization",
        "expect",
        "http2-settings",
        "x-a",
        "x-b",
        "accept",
        "cookie",
        "content-length",
        "trailer",
    ];

    proptest! {
        /// The slow version asks of each field in turn whether anything speaks against it.
        #[test]
        fn a_field_goes_on_unless_it_is_for_this_hop(
            fields in proptest::collection::vec(
                (prop::sample::select(&NAMES[..]), prop::sample::select(&[
                    "x-a", "X-B , close", "accept,,cookie", "trailers", "x-a;q=1", "content-length",
                ][..])), 0..12),
        ) {
            let mut headers = HeaderMap::new();
            for (name, value) in &fields {
                headers.append(*name, HeaderValue::from_static(value));
            }
            hop::strip(&mut headers);

            let is_named = |name: &str| fields.iter().any(|(field, value)| {
                *field == "connection"
                    && value.split(',').any(|part| part.trim().eq_ignore_ascii_case(name))
            });
            let mut expected: Vec<(&str, &str)> = fields
                .iter()
                .filter(|(name, _)| NAMES.iter().position(|known| known == name).unwrap() >= 8)
                .filter(|(name, _)| *name == "content-length" || !is_named(name))
                .copied()
                .collect();
            let mut left: Vec<(&str, &str)> = headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
                .collect();
            expected.sort_unstable();
            left.sort_unstable();
            prop_assert_eq!(left, expected);
        }
    }
}
