//! What a hook answered, made into what may be sent on, or the field that is wrong.
//!
//! The body's framing and what is for one hop are not a hook's to say. Fields that are for one hop are left out, as they are of
//! what a function answers; a `Content-Length` stays what it was, because the body does; and a request keeps what says whom it has
//! passed. Everything else that is wrong is refused, so that a hook's author learns of it.
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
        Forward, HeaderChange, HeaderChanges, HookResponse, MAX_BODY, Point, Replace,
        RequestAction, RequestHead, ResponseAction, ResponseHead,
    },
    hop,
};

/// The most header fields of a head.
pub(super) const MAX_FIELDS: usize = 256;

/// The most bytes of their names and values together.
pub(super) const MAX_FIELD_BYTES: usize = 64 << 10;

/// The most changes to header fields: each of a head is removed, and as many are new.
const MAX_CHANGES: usize = 2 * MAX_FIELDS;

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
    #[error("{0} changes to header fields are more than {MAX_CHANGES}")]
    Changes(usize),
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
            RequestAction::Respond(Box::new(respond(response)?))
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
        wit::ResponseAction::Replace(replaced) => {
            ResponseAction::Replace(Box::new(replace(replaced, response)?))
        }
    })
}

fn forward(
    forwarded: wit::ForwardedRequest,
    before: RequestHead<'_>,
) -> Result<Forward, InvalidAnswer> {
    let wit::ForwardedRequest {
        method,
        scheme,
        authority,
        path,
        query,
        headers,
        body,
        origin,
        cache_key,
    } = forwarded;
    let method = match Method::from_bytes(method.as_bytes()) {
        Ok(known) if known != Method::CONNECT && method.len() <= 32 => known,
        _ => return Err(InvalidAnswer::Method(shown(&method))),
    };
    let uri = uri(scheme, &authority, path, query, &method, before.uri)?;
    let mut headers = changes(headers, before.headers, |name| {
        is_framing(name) || hop::is_of_the_way(name)
    })?;
    if headers.give(&header::HOST) {
        return Err(InvalidAnswer::Host);
    }
    let body = body.map(self::body).transpose()?;
    if let Some(body) = &body {
        reframe(&mut headers, Some(body.len()));
    }
    let is_name = |name: &String| {
        (1..=MAX_NAME).contains(&name.len()) && !name.contains(|c: char| c.is_control())
    };
    if !origin.as_ref().is_none_or(is_name) {
        return Err(InvalidAnswer::Origin);
    }
    if !cache_key.as_ref().is_none_or(is_name) {
        return Err(InvalidAnswer::CacheKey);
    }
    Ok(Forward {
        method,
        uri,
        headers,
        body,
        origin,
        cache_key,
    })
}

/// The URI that a hook made of the one there was `before`.
fn uri(
    scheme: wit::Scheme,
    authority: &str,
    path: String,
    query: Option<String>,
    method: &Method,
    before: &Uri,
) -> Result<Uri, InvalidAnswer> {
    let scheme = match scheme {
        wit::Scheme::Http => Scheme::HTTP,
        wit::Scheme::Https => Scheme::HTTPS,
    };
    let same_authority = before.authority().filter(|same| same.as_str() == authority);
    // Whether `*` is a path is the method's to say.
    if same_authority.is_some()
        && before.scheme() == Some(&scheme)
        && before.path() == path
        && path != "*"
        && before.query() == query.as_deref()
    {
        return Ok(before.clone());
    }
    let authority = match same_authority {
        Some(same) => same.clone(),
        None => {
            self::authority(authority).ok_or_else(|| InvalidAnswer::Authority(shown(authority)))?
        }
    };
    Uri::builder()
        .scheme(scheme)
        .authority(authority)
        .path_and_query(target(path, query, method)?)
        .build()
        .map_err(|error| InvalidAnswer::Encoding(error.to_string()))
}

fn respond(response: wit::NewResponse) -> Result<HookResponse, InvalidAnswer> {
    let (status, body) = status_and_body(response.status, response.body)?;
    Ok(HookResponse {
        status,
        headers: fields(response.headers)?,
        body,
    })
}

fn replace(
    replaced: wit::ReplacedResponse,
    before: ResponseHead<'_>,
) -> Result<Replace, InvalidAnswer> {
    let (status, body) = status_and_body(replaced.status, replaced.body)?;
    let mut headers = changes(replaced.headers, before.headers, is_framing)?;
    if let Some(body) = &body {
        // Without bytes it may be an answer that has no body, and no length.
        reframe(&mut headers, Some(body.len()).filter(|length| *length > 0));
    }
    Ok(Replace {
        status,
        headers,
        body,
    })
}

/// The status of a response and the body that a hook made for it.
fn status_and_body(
    status: u16,
    body: Option<Vec<u8>>,
) -> Result<(StatusCode, Option<Bytes>), InvalidAnswer> {
    let status = match StatusCode::from_u16(status) {
        Ok(known) if (200..=599).contains(&status) => known,
        _ => return Err(InvalidAnswer::Status(status)),
    };
    let body = body.map(self::body).transpose()?;
    let bodiless = [
        StatusCode::NO_CONTENT,
        StatusCode::RESET_CONTENT,
        StatusCode::NOT_MODIFIED,
    ];
    match &body {
        Some(body) if !body.is_empty() && bodiless.contains(&status) => {
            Err(InvalidAnswer::BodyOfStatus(status))
        }
        Some(_) | None => Ok((status, body)),
    }
}

fn body(bytes: Vec<u8>) -> Result<Bytes, InvalidAnswer> {
    match bytes.len() {
        ..=MAX_BODY => Ok(Bytes::from(bytes)),
        length => Err(InvalidAnswer::Body(length)),
    }
}

/// The fields of a response that a hook made, but for those that are not its to say.
fn fields(fields: Vec<wit::Header>) -> Result<HeaderMap, InvalidAnswer> {
    let mut size = Size {
        fields: fields.len(),
        bytes: 0,
    };
    size.check()?;
    let mut headers = HeaderMap::with_capacity(fields.len());
    for (name, value) in fields {
        let (name, value) = field(&name, value)?;
        size.bytes += name.as_str().len() + value.len();
        if !is_framing(name.as_str()) {
            headers.append(name, value);
        }
    }
    size.check()?;
    Ok(headers)
}

/// What a hook changes of the fields that there were `before`, but for those that are not its to change.
fn changes(
    said: Vec<wit::HeaderChange>,
    before: &HeaderMap,
    is_kept: impl Fn(&str) -> bool,
) -> Result<HeaderChanges, InvalidAnswer> {
    if said.len() > MAX_CHANGES {
        return Err(InvalidAnswer::Changes(said.len()));
    }
    let mut changes = Vec::with_capacity(said.len());
    let mut clears = false;
    for change in said {
        let change = match change {
            wit::HeaderChange::Clear => {
                // Whatever was changed until here is gone with it.
                clears = true;
                changes.clear();
                continue;
            }
            wit::HeaderChange::Remove(name) => HeaderChange::Remove(field_name(&name)?),
            wit::HeaderChange::Set((name, value)) => {
                let (name, value) = field(&name, value)?;
                HeaderChange::Set(name, value)
            }
            wit::HeaderChange::Append((name, value)) => {
                let (name, value) = field(&name, value)?;
                HeaderChange::Append(name, value)
            }
        };
        if !is_kept(change.name().as_str()) {
            changes.push(change);
        }
    }
    if clears {
        let removed = before.keys().filter(|name| !is_kept(name.as_str()));
        let removed = removed.cloned().map(HeaderChange::Remove);
        changes.splice(..0, removed);
    }
    let changes = HeaderChanges(changes);
    // A head that stays as it came may be larger.
    if !changes.0.is_empty() && Size::at_most(before, &changes).check().is_err() {
        let mut after = before.clone();
        changes.clone().apply(&mut after);
        Size::of(&after).check()?;
    }
    Ok(changes)
}

/// Whether a field, its name in lower case, is for one hop or frames the body.
fn is_framing(name: &str) -> bool {
    hop::is_framing(name) || name == "content-length"
}

fn field(name: &str, value: String) -> Result<(HeaderName, HeaderValue), InvalidAnswer> {
    let known = field_name(name)?;
    match bytes(value).map(HeaderValue::from_maybe_shared) {
        Some(Ok(value)) => Ok((known, value)),
        Some(Err(_)) | None => Err(InvalidAnswer::FieldValue(shown(name))),
    }
}

/// The bytes of a value, of which each is a character.
fn bytes(value: String) -> Option<Bytes> {
    if value.is_ascii() {
        return Some(Bytes::from(value));
    }
    let byte = |character| u8::try_from(character).ok();
    value
        .chars()
        .map(byte)
        .collect::<Option<Vec<_>>>()
        .map(Bytes::from)
}

fn field_name(name: &str) -> Result<HeaderName, InvalidAnswer> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| InvalidAnswer::FieldName(shown(name)))
}

/// How much the fields of a head are.
#[derive(Default)]
struct Size {
    fields: usize,
    /// Of names and values.
    bytes: usize,
}

impl Size {
    fn of(headers: &HeaderMap) -> Self {
        let mut size = Self::default();
        for (name, value) in headers {
            size.add(name.as_str().len() + value.len());
        }
        size
    }

    /// What it can be at most after changes: as if nothing were removed.
    fn at_most(before: &HeaderMap, changes: &HeaderChanges) -> Self {
        let mut size = Self::of(before);
        for change in &changes.0 {
            if let HeaderChange::Set(name, value) | HeaderChange::Append(name, value) = change {
                size.add(name.as_str().len() + value.len());
            }
        }
        size
    }

    fn add(&mut self, field: usize) {
        self.fields += 1;
        self.bytes += field;
    }

    fn check(&self) -> Result<(), InvalidAnswer> {
        if self.fields > MAX_FIELDS {
            return Err(InvalidAnswer::Fields(self.fields));
        }
        if self.bytes > MAX_FIELD_BYTES {
            return Err(InvalidAnswer::FieldBytes);
        }
        Ok(())
    }
}

/// Frames a body that takes the place of the one there was. Who sends it does so without a length, too.
fn reframe(headers: &mut HeaderChanges, length: Option<usize>) {
    let length = match length {
        Some(length) => HeaderChange::Set(header::CONTENT_LENGTH, length.into()),
        None => HeaderChange::Remove(header::CONTENT_LENGTH),
    };
    let trailers = [header::TRAILER, header::TE].map(HeaderChange::Remove);
    headers.0.extend(trailers);
    headers.0.push(length);
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
    use std::iter;

    use http::Request;

    use super::*;

    fn answered(change: impl FnOnce(&mut wit::ForwardedRequest)) -> Result<Forward, InvalidAnswer> {
        let before = Request::get("https://example.com/a?b");
        let (before, ()) = before.body(()).unwrap().into_parts();
        let mut request = wit::ForwardedRequest {
            method: "GET".to_owned(),
            scheme: wit::Scheme::Https,
            authority: "example.com".to_owned(),
            path: "/a".to_owned(),
            query: Some("b".to_owned()),
            headers: Vec::new(),
            body: None,
            origin: None,
            cache_key: None,
        };
        change(&mut request);
        forward(request, RequestHead::from(&before))
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
    fn a_head_is_as_large_as_it_is_after_all_changes() {
        let mut before = HeaderMap::new();
        for n in 0..200 {
            let name = HeaderName::try_from(format!("x-{n}")).unwrap();
            before.insert(name, HeaderValue::from_static("1"));
        }
        let append = |n: usize| wit::HeaderChange::Append((format!("y-{n}"), "1".repeat(300)));
        let kept = |said: Vec<_>| {
            let mut after = before.clone();
            changes(said, &before, is_framing)?.apply(&mut after);
            Ok::<_, InvalidAnswer>(after.len())
        };
        assert_eq!(kept((0..56).map(append).collect()), Ok(256));
        let one_more = kept((0..57).map(append).collect());
        assert_eq!(one_more, Err(InvalidAnswer::Fields(257)));
        let new = |count| (0..count).map(append);
        let cleared = |count| {
            kept(
                iter::once(wit::HeaderChange::Clear)
                    .chain(new(count))
                    .collect(),
            )
        };
        assert_eq!(cleared(200), Ok(200));
        assert_eq!(cleared(256), Err(InvalidAnswer::FieldBytes));
        let set = |_| wit::HeaderChange::Set(("x-1".to_owned(), "2".to_owned()));
        assert_eq!(kept((0..512).map(set).collect()), Ok(200));
        assert_eq!(
            kept((0..513).map(set).collect()),
            Err(InvalidAnswer::Changes(513))
        );
    }

    #[test]
    fn a_character_of_a_value_is_a_byte() {
        let value = |text: &str| {
            let (_, value) = field("a", text.to_owned()).ok()?;
            Some(value.as_bytes().to_vec())
        };
        assert_eq!(value("b c"), Some(b"b c".to_vec()));
        assert_eq!(value("\u{e9}\u{ff}\u{80}"), Some(b"\xe9\xff\x80".to_vec()));
        assert_eq!(value("\u{100}"), None);
        assert_eq!(value("a\nb"), None);
    }

    #[test]
    fn a_head_that_came_too_large_may_stay() {
        let mut before = HeaderMap::new();
        for n in 0..=MAX_FIELDS {
            let name = HeaderName::try_from(format!("x-{n}")).unwrap();
            before.insert(name, HeaderValue::from_static("1"));
        }
        let kept = |said| changes(said, &before, is_framing).map(drop);
        assert_eq!(kept(Vec::new()), Ok(()));
        let remove = |name: &str| wit::HeaderChange::Remove(name.to_owned());
        assert_eq!(kept(vec![remove("x-1")]), Ok(()));
        let fields = MAX_FIELDS + 1;
        assert_eq!(kept(vec![remove("y")]), Err(InvalidAnswer::Fields(fields)));
    }

    #[test]
    fn what_stays_as_it_was_is_not_looked_at_again() {
        let star = Request::options("*").body(()).unwrap().into_parts().0.uri;
        let same = |path: &str, method, before: &Uri| {
            let authority = before
                .authority()
                .map_or("a", |authority| authority.as_str());
            let scheme = wit::Scheme::Http;
            uri(scheme, authority, path.to_owned(), None, &method, before)
        };
        // A segment that a hook may not make may be there already.
        let before = Uri::from_static("http://a/b/../c");
        assert_eq!(same("/b/../c", Method::GET, &before), Ok(before.clone()));
        let made = same("/b/../d", Method::GET, &before);
        assert_eq!(made, Err(InvalidAnswer::DotSegment("/b/../d".to_owned())));
        same("*", Method::OPTIONS, &star).unwrap();
        assert_eq!(
            same("*", Method::GET, &star),
            Err(InvalidAnswer::Path("*".to_owned()))
        );
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
            let forward = answered(|request| {
                request.origin = Some(origin.to_owned());
                request.cache_key = Some(cache_key.to_owned());
            });
            forward.map(drop)
        };
        assert_eq!(named("main", "key of a page"), Ok(()));
        assert_eq!(named("", "key"), Err(InvalidAnswer::Origin));
        assert_eq!(named("main", "a\nb"), Err(InvalidAnswer::CacheKey));
        let long = "k".repeat(MAX_NAME + 1);
        assert_eq!(named("main", &long), Err(InvalidAnswer::CacheKey));
    }
}
