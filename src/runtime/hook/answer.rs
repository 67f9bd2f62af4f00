//! What a hook answered, made into what may be sent on, or the field that is wrong.
//!
//! The body's framing and what is for one hop are not a hook's to say. Fields that are for one hop are left out, as they are of
//! what a function answers; a `Content-Length` stays what it was, because the body does. Everything else that is wrong is
//! refused, so that a hook's author learns of it.
//!
//! Pure: tested here without a guest.

use std::net::Ipv6Addr;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header,
    uri::{Authority, PathAndQuery, Scheme},
};

use super::super::bindings::hook::wit;
use crate::model::{
    has_dot_segment,
    hook::{
        Forward, HookResponse, MAX_BODY, Point, RequestAction, RequestHead, ResponseAction,
        ResponseHead,
    },
    hop,
};

/// The most header fields of a head.
pub(super) const MAX_FIELDS: usize = 256;

/// The most bytes of their names and values together.
pub(super) const MAX_FIELD_BYTES: usize = 64 << 10;

/// The most bytes of path and query together, as of a request that comes in.
const MAX_TARGET: usize = 16 << 10;

/// The most bytes of an origin's name and of a cache key, each.
const MAX_NAME: usize = 2048;

/// Why an answer is none: which field, and what is wrong with it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidAnswer {
    #[error("status {0} is not from 200 to 599")]
    Status(u16),
    #[error("a response with status {0} has no body")]
    BodyOfStatus(StatusCode),
    #[error("the body is {0} bytes, and {MAX_BODY} is the most")]
    Body(usize),
    #[error("method `{0}` is not a method of a request")]
    Method(String),
    #[error("scheme `{0}` is not http or https")]
    Scheme(String),
    #[error("authority `{0}` is not a host with an optional port")]
    Authority(String),
    #[error(
        "path `{0}` is not one: it begins with `/`, and spaces, `?` and `#` are percent-encoded"
    )]
    Path(String),
    #[error("path `{0}` has a segment that is `.` or `..`")]
    DotSegment(String),
    #[error("query `{0}` is not one: spaces and `#` are percent-encoded")]
    Query(String),
    #[error("path and query `{0}` have characters that are to be percent-encoded")]
    Encoding(String),
    #[error("path and query are {0} bytes, and {MAX_TARGET} is the most")]
    Target(usize),
    #[error("header field `{0}` has no valid name")]
    FieldName(String),
    #[error("header field `{0}` has a value that no header field may have")]
    FieldValue(String),
    #[error("header field `host`: the authority says which host")]
    Host,
    #[error("{0} header fields are more than {MAX_FIELDS}")]
    Fields(usize),
    #[error("the header fields have more than {MAX_FIELD_BYTES} bytes")]
    FieldBytes,
    #[error("the origin's name is not 1 to {MAX_NAME} bytes of text")]
    Origin,
    #[error("the cache key is not 1 to {MAX_NAME} bytes of text")]
    CacheKey,
    #[error(
        "a cache key at {0}: the cache was asked already, so viewer-request is where it is set"
    )]
    LateCacheKey(Point),
}

/// What a hook at `point` answered to `request`.
pub(super) fn request_action(
    answer: wit::RequestAction,
    point: Point,
    request: RequestHead<'_>,
) -> Result<RequestAction, InvalidAnswer> {
    Ok(match answer {
        wit::RequestAction::Next => RequestAction::Next,
        wit::RequestAction::Forward(forwarded) => {
            if point == Point::OriginRequest && forwarded.cache_key.is_some() {
                return Err(InvalidAnswer::LateCacheKey(point));
            }
            RequestAction::Forward(Box::new(forward(forwarded, request)?))
        }
        wit::RequestAction::Respond(response) => {
            RequestAction::Respond(Box::new(made(response, None)?))
        }
    })
}

/// What a hook answered to `response`.
pub(super) fn response_action(
    answer: wit::ResponseAction,
    response: ResponseHead<'_>,
) -> Result<ResponseAction, InvalidAnswer> {
    Ok(match answer {
        wit::ResponseAction::Next => ResponseAction::Next,
        wit::ResponseAction::Replace(replacement) => {
            ResponseAction::Replace(Box::new(made(replacement, Some(response))?))
        }
    })
}

fn forward(
    forwarded: wit::ForwardedRequest,
    before: RequestHead<'_>,
) -> Result<Forward, InvalidAnswer> {
    let wit::RequestResult {
        method,
        scheme,
        authority,
        path,
        query,
        headers,
    } = forwarded.request;
    let method = match Method::from_bytes(method.as_bytes()) {
        Ok(known) if known != Method::CONNECT && method.len() <= 32 => known,
        _ => return Err(InvalidAnswer::Method(shown(&method))),
    };
    let scheme = match scheme.as_str() {
        "http" => Scheme::HTTP,
        "https" => Scheme::HTTPS,
        _ => return Err(InvalidAnswer::Scheme(shown(&scheme))),
    };
    let authority = match before.uri.authority() {
        Some(same) if same.as_str() == authority => same.clone(),
        _ => self::authority(&authority)
            .ok_or_else(|| InvalidAnswer::Authority(shown(&authority)))?,
    };
    let target = target(path, query, &method)?;
    let uri = Uri::builder()
        .scheme(scheme)
        .authority(authority)
        .path_and_query(target)
        .build()
        .map_err(|error| InvalidAnswer::Encoding(error.to_string()))?;
    let mut headers = fields(headers)?;
    if headers.contains_key(header::HOST) {
        return Err(InvalidAnswer::Host);
    }
    let body = forwarded.body.map(body).transpose()?;
    keep_framing(&mut headers, body.is_none().then_some(before.headers));
    if let Some(body) = &body {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    }
    let is_name = |name: &String| {
        (1..=MAX_NAME).contains(&name.len()) && !name.contains(|c: char| c.is_control())
    };
    if !forwarded.origin.as_ref().is_none_or(is_name) {
        return Err(InvalidAnswer::Origin);
    }
    if !forwarded.cache_key.as_ref().is_none_or(is_name) {
        return Err(InvalidAnswer::CacheKey);
    }
    Ok(Forward {
        method,
        uri,
        headers,
        body,
        origin: forwarded.origin,
        cache_key: forwarded.cache_key,
    })
}

fn made(
    response: wit::ResponseResult,
    before: Option<ResponseHead<'_>>,
) -> Result<HookResponse, InvalidAnswer> {
    let status = match StatusCode::from_u16(response.status) {
        Ok(status) if (200..=599).contains(&response.status) => status,
        _ => return Err(InvalidAnswer::Status(response.status)),
    };
    let body = response.body.map(body).transpose()?;
    let bodiless = [
        StatusCode::NO_CONTENT,
        StatusCode::RESET_CONTENT,
        StatusCode::NOT_MODIFIED,
    ];
    match &body {
        Some(body) if !body.is_empty() && bodiless.contains(&status) => {
            return Err(InvalidAnswer::BodyOfStatus(status));
        }
        Some(_) | None => {}
    }
    let mut headers = fields(response.headers)?;
    let kept = before.filter(|_| body.is_none());
    keep_framing(&mut headers, kept.map(|before| before.headers));
    Ok(HookResponse {
        status,
        headers,
        body,
    })
}

fn body(bytes: Vec<u8>) -> Result<Bytes, InvalidAnswer> {
    match bytes.len() {
        ..=MAX_BODY => Ok(Bytes::from(bytes)),
        length => Err(InvalidAnswer::Body(length)),
    }
}

fn fields(fields: Vec<(String, Vec<u8>)>) -> Result<HeaderMap, InvalidAnswer> {
    if fields.len() > MAX_FIELDS {
        return Err(InvalidAnswer::Fields(fields.len()));
    }
    let bytes: usize = fields
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if bytes > MAX_FIELD_BYTES {
        return Err(InvalidAnswer::FieldBytes);
    }
    let mut headers = HeaderMap::with_capacity(fields.len());
    for (name, value) in fields {
        let Ok(known) = HeaderName::from_bytes(name.as_bytes()) else {
            return Err(InvalidAnswer::FieldName(shown(&name)));
        };
        let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(value)) else {
            return Err(InvalidAnswer::FieldValue(shown(&name)));
        };
        if !hop::is_framing(known.as_str()) {
            headers.append(known, value);
        }
    }
    Ok(headers)
}

/// A body that stays is framed as it was, with its trailers; one that a hook makes is measured by who sends it.
fn keep_framing(headers: &mut HeaderMap, before: Option<&HeaderMap>) {
    headers.remove(header::CONTENT_LENGTH);
    let Some(before) = before else { return };
    for name in [header::CONTENT_LENGTH, header::TRAILER, header::TE] {
        if let Some(value) = before.get(&name) {
            headers.insert(name, value.clone());
        }
    }
}

fn target(
    path: String,
    query: Option<String>,
    method: &Method,
) -> Result<PathAndQuery, InvalidAnswer> {
    let bytes = path.len() + query.as_ref().map_or(0, String::len);
    if bytes > MAX_TARGET {
        return Err(InvalidAnswer::Target(bytes));
    }
    // What http takes for the end of a path is looked for here: it would cut the rest off.
    let is_asterisk = path == "*" && *method == Method::OPTIONS;
    if !is_asterisk && !path.starts_with('/') || path.bytes().any(ends_path) {
        return Err(InvalidAnswer::Path(shown(&path)));
    }
    if has_dot_segment(&path) {
        return Err(InvalidAnswer::DotSegment(shown(&path)));
    }
    let text = match query {
        None => path,
        Some(query) if query.bytes().any(|byte| byte == b'#' || is_control(byte)) => {
            return Err(InvalidAnswer::Query(shown(&query)));
        }
        Some(query) => {
            let mut text = path;
            text.reserve_exact(1 + query.len());
            text.push('?');
            text.push_str(&query);
            text
        }
    };
    let text = Bytes::from(text);
    PathAndQuery::from_maybe_shared(text.clone())
        .map_err(|_| InvalidAnswer::Encoding(shown(&String::from_utf8_lossy(&text))))
}

fn ends_path(byte: u8) -> bool {
    matches!(byte, b'?' | b'#') || is_control(byte)
}

fn is_control(byte: u8) -> bool {
    byte <= b' ' || byte == 0x7f
}

/// A host in lower case, such as a request may come in for: a name or an IPv6 address in brackets, and
/// perhaps a port.
fn authority(text: &str) -> Option<Authority> {
    let (host, port) = match text.rfind([':', ']']) {
        Some(at) if text.as_bytes()[at] == b':' => (&text[..at], Some(&text[at + 1..])),
        Some(_) | None => (text, None),
    };
    let host_is_valid = match host.strip_prefix('[') {
        Some(address) => address.strip_suffix(']')?.parse::<Ipv6Addr>().is_ok(),
        None => {
            (1..=253).contains(&host.len())
                && host
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
        }
    };
    let port_is_valid = port.is_none_or(|port| {
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
    });
    if !(host_is_valid && port_is_valid) {
        return None;
    }
    Authority::from_maybe_shared(Bytes::from(text.to_ascii_lowercase())).ok()
}

/// What of a text from a guest goes into a line of the log.
fn shown(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn answered(change: impl FnOnce(&mut wit::RequestResult)) -> Result<Forward, InvalidAnswer> {
        let before = Request::get("https://example.com/a?b");
        let (before, ()) = before.body(()).unwrap().into_parts();
        let mut request = wit::RequestResult {
            method: "GET".to_owned(),
            scheme: "https".to_owned(),
            authority: "example.com".to_owned(),
            path: "/a".to_owned(),
            query: Some("b".to_owned()),
            headers: Vec::new(),
        };
        change(&mut request);
        let forwarded = wit::ForwardedRequest {
            request,
            body: None,
            origin: None,
            cache_key: None,
        };
        forward(forwarded, RequestHead::from(&before))
    }

    #[test]
    fn an_authority_is_a_host_with_an_optional_port() {
        for (text, kept) in [
            ("example.com", Some("example.com")),
            ("Example.COM:8080", Some("example.com:8080")),
            ("[::1]:80", Some("[::1]:80")),
            ("127.0.0.1", Some("127.0.0.1")),
            ("", None),
            (":80", None),
            ("a:", None),
            ("a:99999", None),
            ("a b", None),
            ("a@b", None),
            ("a/b", None),
            ("[a]", None),
            ("a\r\nb", None),
        ] {
            let forward = answered(|request| text.clone_into(&mut request.authority));
            let authority = forward.map(|forward| forward.uri.authority().unwrap().to_string());
            assert_eq!(authority.ok().as_deref(), kept, "{text:?}");
        }
    }

    #[test]
    fn the_asterisk_is_a_path_of_options_alone() {
        let star = |method: &str| {
            answered(|request| {
                "*".clone_into(&mut request.path);
                request.query = None;
                method.clone_into(&mut request.method);
            })
        };
        assert_eq!(star("OPTIONS").unwrap().uri.path(), "*");
        star("GET").unwrap_err();
    }

    #[test]
    fn names_of_origins_and_cache_keys_are_short_texts() {
        let named = |origin: &str, cache_key: &str| {
            let before = Request::new(()).into_parts().0;
            let forwarded = wit::ForwardedRequest {
                request: wit::RequestResult {
                    method: "GET".to_owned(),
                    scheme: "http".to_owned(),
                    authority: "a".to_owned(),
                    path: "/".to_owned(),
                    query: None,
                    headers: Vec::new(),
                },
                body: None,
                origin: Some(origin.to_owned()),
                cache_key: Some(cache_key.to_owned()),
            };
            forward(forwarded, RequestHead::from(&before)).map(drop)
        };
        assert_eq!(named("main", "key of a page"), Ok(()));
        assert_eq!(named("", "key"), Err(InvalidAnswer::Origin));
        assert_eq!(named("main", "a\nb"), Err(InvalidAnswer::CacheKey));
        let long = "k".repeat(MAX_NAME + 1);
        assert_eq!(named("main", &long), Err(InvalidAnswer::CacheKey));
    }
}
