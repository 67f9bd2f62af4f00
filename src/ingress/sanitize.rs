//! What of a request is for this hop only, and what a client may not say.
//!
//! hyper decides the framing (RFC 9112 §6); this decides the meaning. After [`request()`]
//! * the URI is absolute: scheme, authority, path and query; there is no `Host` beside it that could say something else;
//! * the authority is a lower-case host, perhaps with a port, and nothing else;
//! * there is one `Cookie` at most;
//! * fields that are for this hop only are gone (RFC 9110 §7.6.1), those named by `Connection` too;
//! * `Forwarded` and `X-Forwarded-*` tell what this node saw, after what a trusted proxy told it, and never what a client made up.
//!
//! Pure: neither sockets nor clocks.

use std::net::Ipv6Addr;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version, header, request,
    uri::{Authority, PathAndQuery, Scheme},
};

use super::ConnectionInfo;
use crate::model::{Outcome, hop};

pub(super) const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Why a request is refused. Its outcome is always [`Outcome::BadRequest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// HTTP/1.1 without `Host`, HTTP/2 without `:authority`.
    #[error("the request names no host")]
    NoHost,
    /// More than one `Host`.
    #[error("the request names its host more than once")]
    RepeatedHost,
    /// The request target and `Host` differ.
    #[error("the request target and the Host field name different hosts")]
    HostMismatch,
    /// User information, bad characters, or a port that is none.
    #[error("the request's host is not a name or address with an optional port")]
    InvalidHost,
    /// A tunnel, which this server does not make.
    #[error("CONNECT is not served")]
    Connect,
    /// Neither a path nor an absolute http or https URI.
    #[error("the request target is not a path or an http URI")]
    InvalidTarget,
    /// The target is longer than the listener allows.
    #[error("the request target is too long")]
    TargetTooLong,
    /// More header fields than the listener allows.
    #[error("the request has too many header fields")]
    TooManyFields,
    /// A transfer coding below `chunked`, which nobody would decode.
    #[error("the request has a transfer coding other than chunked")]
    TransferCoding,
}

impl Refusal {
    /// The outcome of a request that is refused.
    pub const fn outcome(self) -> Outcome {
        Outcome::BadRequest
    }

    /// The status, which says a little more than the outcome's.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::TooManyFields => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Connect | Self::TransferCoding => StatusCode::NOT_IMPLEMENTED,
            Self::NoHost
            | Self::RepeatedHost
            | Self::HostMismatch
            | Self::InvalidHost
            | Self::InvalidTarget => StatusCode::BAD_REQUEST,
        }
    }
}

/// Makes the head of a request safe to hand on, or says why it is refused. See the [module](self) for what holds afterwards.
pub fn request(head: &mut request::Parts, connection: &ConnectionInfo) -> Result<(), Refusal> {
    if head.method == Method::CONNECT {
        return Err(Refusal::Connect);
    }
    if head.headers.len() > connection.max_fields {
        return Err(Refusal::TooManyFields);
    }
    let authority = authority(head, connection)?;

    let present = Present::of(&head.headers);
    if present.hop_by_hop {
        if !is_only_chunked(&head.headers) {
            return Err(Refusal::TransferCoding);
        }
        let trailers = hop::accepts_trailers(&head.headers);
        hop::strip(&mut head.headers);
        if trailers {
            head.headers
                .insert(header::TE, HeaderValue::from_static("trailers"));
        }
    }
    let host = if present.host {
        head.headers.remove(header::HOST)
    } else {
        None
    };
    if present.cookie {
        join_cookies(&mut head.headers);
    }
    let scheme = forward(
        &mut head.headers,
        connection,
        &authority,
        host,
        present.forwarding,
    );
    head.uri = target(std::mem::take(&mut head.uri), scheme, authority, head)?;
    if head.uri.path().len() + head.uri.query().map_or(0, str::len) > connection.max_target {
        return Err(Refusal::TargetTooLong);
    }
    Ok(())
}

/// Whether a request asks for a WebSocket: a GET without content on HTTP/1.1 (RFC 6455 §4.1, RFC 9110 §7.8). To be asked before
/// the head is made safe, which takes away what says so.
pub fn is_websocket(head: &request::Parts) -> bool {
    let names = |name, token: &[u8]| {
        head.headers
            .get_all(name)
            .iter()
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
            .any(|member| member.trim_ascii().eq_ignore_ascii_case(token))
    };
    head.headers.contains_key(header::UPGRADE)
        && head.version == Version::HTTP_11
        && head.method == Method::GET
        && names(header::UPGRADE, b"websocket")
        && names(header::CONNECTION, b"upgrade")
}

/// What one pass over the names finds, so that a usual message costs no look-ups.
#[derive(Default)]
struct Present {
    hop_by_hop: bool,
    host: bool,
    cookie: bool,
    forwarding: bool,
}

impl Present {
    fn of(headers: &HeaderMap) -> Self {
        let mut present = Self::default();
        for name in headers.keys() {
            match name.as_str() {
                "host" => present.host = true,
                "cookie" => present.cookie = true,
                name if hop::is_for_one(name) => present.hop_by_hop = true,
                name if hop::is_forwarding(name) => present.forwarding = true,
                _ => {}
            }
        }
        present
    }
}

/// Makes one field of the several that HTTP/2 may send (RFC 9113 section 8.2.3): elsewhere there is one.
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(header::COOKIE).iter().nth(1).is_none() {
        return;
    }
    let mut cookies = Vec::new();
    for line in headers.get_all(header::COOKIE) {
        if !cookies.is_empty() {
            cookies.extend_from_slice(b"; ");
        }
        cookies.extend_from_slice(line.as_bytes());
    }
    if let Ok(cookies) = HeaderValue::from_maybe_shared(Bytes::from(cookies)) {
        headers.insert(header::COOKIE, cookies);
    }
}

/// Whether the body has no coding, or `chunked` alone: hyper removes only that one.
fn is_only_chunked(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => coding.as_bytes().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    }
}

/// The authority a request is for: `:authority`, or the absolute target, or `Host`; where there are two, they must agree.
fn authority(head: &request::Parts, connection: &ConnectionInfo) -> Result<Authority, Refusal> {
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Refusal::RepeatedHost);
    }
    match (head.uri.authority(), host) {
        (Some(target), None) => {
            // RFC 9112 §3.2: an HTTP/1.1 request has a Host in any case.
            if head.version == Version::HTTP_11 {
                return Err(Refusal::NoHost);
            }
            check_authority(target.as_str().as_bytes(), Some(target))
        }
        (Some(target), Some(host)) => {
            if !target
                .as_str()
                .as_bytes()
                .eq_ignore_ascii_case(host.as_bytes())
            {
                return Err(Refusal::HostMismatch);
            }
            check_authority(target.as_str().as_bytes(), Some(target))
        }
        (None, Some(host)) => check_authority(host.as_bytes(), None),
        // HTTP/1.0 has no Host: the address that was asked stands for it.
        (None, None) if head.version <= Version::HTTP_10 => {
            check_authority(connection.local.to_string().as_bytes(), None)
        }
        (None, None) => Err(Refusal::NoHost),
    }
}

/// A lower-case authority out of `text`, which `parsed` is already if there is one. Only what a host of ours can be is let
/// through: letters, digits, `-`, `.`, `_`, or an IPv6 address in brackets; then perhaps a port.
fn check_authority(text: &[u8], parsed: Option<&Authority>) -> Result<Authority, Refusal> {
    let (host, port) = match text.iter().rposition(|byte| matches!(byte, b':' | b']')) {
        Some(at) if text[at] == b':' => (&text[..at], Some(&text[at + 1..])),
        _ => (text, None),
    };
    let host_is_valid = match host {
        [b'[', address @ .., b']'] => {
            std::str::from_utf8(address).is_ok_and(|address| address.parse::<Ipv6Addr>().is_ok())
        }
        name => !name.is_empty()
            && name.iter().all(
                |byte| matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_'),
            ),
    };
    let port_is_valid = port.is_none_or(|port| {
        port.iter().all(u8::is_ascii_digit)
            && std::str::from_utf8(port).is_ok_and(|port| port.parse::<u16>().is_ok())
    });
    if !(host_is_valid && port_is_valid) {
        return Err(Refusal::InvalidHost);
    }
    let authority = match parsed {
        _ if text.iter().any(u8::is_ascii_uppercase) => {
            Authority::from_maybe_shared(Bytes::from(text.to_ascii_lowercase()))
        }
        Some(parsed) => return Ok(parsed.clone()),
        None => Authority::try_from(text),
    };
    authority.map_err(|_| Refusal::InvalidHost)
}

/// The target with scheme and authority. `*` is kept for OPTIONS alone.
fn target(
    uri: Uri,
    scheme: Scheme,
    authority: Authority,
    head: &request::Parts,
) -> Result<Uri, Refusal> {
    let mut parts = uri.into_parts();
    if parts
        .scheme
        .as_ref()
        .is_some_and(|scheme| *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS)
    {
        return Err(Refusal::InvalidTarget);
    }
    match &parts.path_and_query {
        Some(path) if path.as_str().starts_with('/') => {}
        Some(path) if path.as_str() == "*" && head.method == Method::OPTIONS => {}
        // An absolute target without a path, perhaps with a query: `http://host?query`.
        Some(path) if path.path().is_empty() || path.path() == "/" => {
            parts.path_and_query = match path.query() {
                Some(query) => Some(
                    PathAndQuery::from_maybe_shared(Bytes::from(format!("/?{query}")))
                        .map_err(|_| Refusal::InvalidTarget)?,
                ),
                None => Some(PathAndQuery::from_static("/")),
            };
        }
        Some(_) => return Err(Refusal::InvalidTarget),
        // Only an absolute target may leave its path out (RFC 9112 §3.2.2).
        None if parts.scheme.is_some() => {
            parts.path_and_query = Some(PathAndQuery::from_static("/"));
        }
        None => return Err(Refusal::InvalidTarget),
    }
    parts.scheme = Some(scheme);
    parts.authority = Some(authority);
    Uri::from_parts(parts).map_err(|_| Refusal::InvalidTarget)
}

/// Writes for whom this node speaks, and answers with the scheme that the client used.
fn forward(
    headers: &mut HeaderMap,
    connection: &ConnectionInfo,
    authority: &Authority,
    host: Option<HeaderValue>,
    present: bool,
) -> Scheme {
    let trusted = connection.is_trusted();
    if present {
        // A proxy writes these names with `-`: with `_` it hands on what a client made up.
        hop::remove_named(headers, |name| {
            hop::is_forwarding(name) && (!trusted || name.contains('_'))
        });
    }
    let before = present && trusted;
    let scheme = match headers.get(FORWARDED_PROTO).filter(|_| before) {
        Some(proto) if proto == "https" => Scheme::HTTPS,
        Some(proto) if proto == "http" => Scheme::HTTP,
        Some(_) | None => connection.scheme(),
    };

    let mut element = Vec::with_capacity(connection.forwarded.len() + authority.as_str().len() + 2);
    element.extend_from_slice(connection.forwarded.as_bytes());
    // A host with a port or brackets is no token (RFC 7239 §4).
    let quoted = authority.as_str().contains(':');
    if quoted {
        element.push(b'"');
    }
    element.extend_from_slice(authority.as_str().as_bytes());
    if quoted {
        element.push(b'"');
    }
    let element = Bytes::from(element);

    // The client's own value where it says the same, which is nearly always: it needs no copy.
    let host = match host.filter(|host| host == authority.as_str()) {
        Some(host) => Ok(host),
        None => HeaderValue::from_str(authority.as_str()),
    };
    if before {
        append_to_list(headers, FORWARDED_FOR, connection.forwarded_for.as_bytes());
        append_to_list(headers, header::FORWARDED, &element);
        headers
            .entry(FORWARDED_PROTO)
            .or_insert_with(|| HeaderValue::from_static(connection.scheme_str()));
        if let Ok(host) = host {
            headers.entry(FORWARDED_HOST).or_insert(host);
        }
    } else {
        headers.insert(FORWARDED_FOR, connection.forwarded_for.clone());
        headers.insert(
            FORWARDED_PROTO,
            HeaderValue::from_static(connection.scheme_str()),
        );
        if let Ok(host) = host {
            headers.insert(FORWARDED_HOST, host);
        }
        if let Ok(element) = HeaderValue::from_maybe_shared(element) {
            headers.insert(header::FORWARDED, element);
        }
    }
    scheme
}

/// Adds an element to a list field, all of whose lines become one.
fn append_to_list(headers: &mut HeaderMap, name: HeaderName, element: &[u8]) {
    let mut list = Vec::new();
    for value in headers.get_all(&name) {
        list.extend_from_slice(value.as_bytes());
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(element);
    if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(list)) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::Request;
    use proptest::prelude::*;

    use super::*;

    fn connection() -> ConnectionInfo {
        ConnectionInfo::clear_text(
            "192.0.2.7:1234".parse().unwrap(),
            "127.0.0.1:8080".parse().unwrap(),
        )
    }

    /// The sanitized head of a request, or why it is refused.
    fn check(
        version: Version,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
        connection: &ConnectionInfo,
    ) -> Result<request::Parts, Refusal> {
        let mut builder = Request::builder()
            .version(version)
            .method(method)
            .uri(target);
        for (name, value) in fields {
            builder = builder.header(*name, *value);
        }
        let (mut head, ()) = builder.body(()).unwrap().into_parts();
        request(&mut head, connection).map(|()| head)
    }

    #[test]
    fn the_authority_stands_in_the_uri_and_nowhere_else() {
        let v11 = Version::HTTP_11;
        for (version, target, hosts, expected) in [
            (
                v11,
                "/a?b",
                &["Example.COM"][..],
                Ok("http://example.com/a?b"),
            ),
            (v11, "/", &["h:8080"], Ok("http://h:8080/")),
            (v11, "/", &["[::1]:80"], Ok("http://[::1]:80/")),
            (v11, "/", &["[::1]"], Ok("http://[::1]/")),
            (v11, "http://h/x", &["h"], Ok("http://h/x")),
            (v11, "http://h", &["H"], Ok("http://h/")),
            (v11, "http://H", &["h"], Ok("http://h/")),
            (v11, "http://h?q", &["h"], Ok("http://h/?q")),
            (v11, "https://h/x", &["h"], Ok("http://h/x")),
            (v11, "http://h/x", &["other"], Err(Refusal::HostMismatch)),
            (v11, "http://h/x", &["h:80"], Err(Refusal::HostMismatch)),
            (v11, "http://h/x", &[], Err(Refusal::NoHost)),
            (v11, "ftp://h/x", &["h"], Err(Refusal::InvalidTarget)),
            (v11, "*", &["h"], Err(Refusal::InvalidTarget)),
            (v11, "/", &[], Err(Refusal::NoHost)),
            (v11, "/", &["a", "a"], Err(Refusal::RepeatedHost)),
            (v11, "/", &[""], Err(Refusal::InvalidHost)),
            (v11, "/", &["a,b"], Err(Refusal::InvalidHost)),
            (v11, "/", &["a/b"], Err(Refusal::InvalidHost)),
            (v11, "/", &["u@h"], Err(Refusal::InvalidHost)),
            (v11, "/", &["h:99999"], Err(Refusal::InvalidHost)),
            (v11, "/", &["h:"], Err(Refusal::InvalidHost)),
            (v11, "/", &["h:1:2"], Err(Refusal::InvalidHost)),
            (v11, "/", &["[::g]"], Err(Refusal::InvalidHost)),
            (v11, "/", &["[::1]x"], Err(Refusal::InvalidHost)),
            (Version::HTTP_10, "/", &[], Ok("http://127.0.0.1:8080/")),
            (Version::HTTP_10, "/", &["h"], Ok("http://h/")),
            (Version::HTTP_2, "http://h/x", &[], Ok("http://h/x")),
            (Version::HTTP_2, "http://h/x", &["h"], Ok("http://h/x")),
            (
                Version::HTTP_2,
                "http://h/x",
                &["i"],
                Err(Refusal::HostMismatch),
            ),
            (
                Version::HTTP_2,
                "http://u@h/x",
                &[],
                Err(Refusal::InvalidHost),
            ),
            (Version::HTTP_2, "/x", &[], Err(Refusal::NoHost)),
        ] {
            let fields: Vec<_> = hosts.iter().map(|host| ("host", *host)).collect();
            let head = check(version, "GET", target, &fields, &connection());
            if let Ok(head) = &head {
                assert!(!head.headers.contains_key("host"));
            }
            let uri = head.map(|head| head.uri.to_string());
            assert_eq!(
                uri,
                expected.map(str::to_owned),
                "{version:?} {target} {hosts:?}"
            );
        }
        let head = check(v11, "OPTIONS", "*", &[("host", "h")], &connection()).unwrap();
        assert_eq!(head.uri.path(), "*");
        assert_eq!(
            check(v11, "CONNECT", "h:443", &[("host", "h:443")], &connection()).unwrap_err(),
            Refusal::Connect
        );
    }

    #[test]
    fn fields_for_this_hop_are_stripped() {
        let head = check(
            Version::HTTP_11,
            "POST",
            "/",
            &[
                ("host", "h"),
                ("connection", "close, X-Secret, content-length"),
                ("Connection", "upgrade,  te"),
                ("x-secret", "1"),
                ("content-length", "5"),
                ("keep-alive", "timeout=5"),
                ("proxy-connection", "keep-alive"),
                ("te", "gzip, trailers"),
                ("upgrade", "websocket"),
                ("transfer-encoding", "Chunked"),
                ("expect", "100-continue"),
                ("accept", "*/*"),
                ("trailer", "x-sum"),
            ],
            &connection(),
        )
        .unwrap();
        let mut names: Vec<_> = head
            .headers
            .keys()
            .map(HeaderName::as_str)
            .filter(|name| !hop::is_forwarding(name))
            .collect();
        names.sort_unstable();
        assert_eq!(names, ["accept", "content-length", "te", "trailer"]);
        assert_eq!(head.headers["te"], "trailers");
    }

    /// RFC 9113 section 8.2.3.
    #[test]
    fn the_cookies_of_http2_become_one_field() {
        for (fields, joined) in [
            (
                &[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2; c=3")][..],
                "a=1; b=2; c=3",
            ),
            (&[("cookie", "a=1")], "a=1"),
        ] {
            let target = "http://example.com/";
            let head = check(Version::HTTP_2, "GET", target, fields, &connection()).unwrap();
            let cookies: Vec<_> = head.headers.get_all(header::COOKIE).iter().collect();
            assert_eq!(cookies, [joined]);
        }
    }

    #[test]
    fn a_body_that_nobody_would_decode_is_refused() {
        for codings in [
            &["gzip, chunked"][..],
            &["gzip", "chunked"],
            &["chunked", "chunked"],
        ] {
            let mut fields = vec![("host", "h")];
            fields.extend(codings.iter().map(|coding| ("transfer-encoding", *coding)));
            let refusal = check(Version::HTTP_11, "POST", "/", &fields, &connection());
            assert_eq!(refusal.unwrap_err(), Refusal::TransferCoding, "{codings:?}");
        }
    }

    #[test]
    fn a_client_cannot_say_whom_it_speaks_for_and_a_trusted_proxy_can() {
        let fields = [
            ("host", "h:8080"),
            ("x-forwarded-for", "1.1.1.1"),
            ("X-Forwarded-For", "2.2.2.2"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-port", "443"),
            ("x-real-ip", "3.3.3.3"),
            ("X_Forwarded_For", "4.4.4.4"),
            ("x-forwarded_proto", "https"),
            ("x_real_ip", "4.4.4.4"),
            ("forwarded", "for=1.1.1.1"),
        ];
        let mut connection = connection();
        let get = |head: &request::Parts, name| {
            let values: Vec<_> = head.headers.get_all(name).iter().collect();
            assert!(values.len() <= 1);
            values
                .first()
                .map(|value| value.to_str().unwrap().to_owned())
        };

        let head = check(Version::HTTP_11, "GET", "/", &fields, &connection).unwrap();
        assert_eq!(head.uri.scheme_str(), Some("http"));
        for (name, value) in [
            ("x-forwarded-for", Some("192.0.2.7")),
            ("x-forwarded-proto", Some("http")),
            ("x-forwarded-host", Some("h:8080")),
            (
                "forwarded",
                Some("for=192.0.2.7;proto=http;host=\"h:8080\""),
            ),
            ("x-forwarded-port", None),
            ("x-real-ip", None),
            ("x_forwarded_for", None),
            ("x-forwarded_proto", None),
            ("x_real_ip", None),
        ] {
            assert_eq!(get(&head, name).as_deref(), value, "{name}");
        }

        connection.proxies = ["192.0.2.0/24".parse().unwrap()].into();
        let head = check(Version::HTTP_11, "GET", "/", &fields, &connection).unwrap();
        assert_eq!(head.uri.scheme_str(), Some("https"));
        for (name, value) in [
            ("x-forwarded-for", Some("1.1.1.1, 2.2.2.2, 192.0.2.7")),
            ("x-forwarded-proto", Some("https")),
            ("x-forwarded-host", Some("h:8080")),
            (
                "forwarded",
                Some("for=1.1.1.1, for=192.0.2.7;proto=http;host=\"h:8080\""),
            ),
            ("x-forwarded-port", Some("443")),
            ("x-real-ip", Some("3.3.3.3")),
            // It does not say this itself.
            ("x_forwarded_for", None),
            ("x-forwarded_proto", None),
            ("x_real_ip", None),
        ] {
            assert_eq!(get(&head, name).as_deref(), value, "{name}");
        }
    }

    #[test]
    fn the_client_is_the_last_that_is_no_trusted_proxy() {
        let mut connection = connection();
        connection.proxies = ["192.0.2.0/24", "2001:db8::/32"]
            .map(|network| network.parse().unwrap())
            .into();
        for (told, client) in [
            (None, "192.0.2.7"),
            (Some("198.51.100.1"), "198.51.100.1"),
            // Whoever is before the first that is not trusted may be made up by it.
            (Some("127.0.0.1, 198.51.100.1"), "198.51.100.1"),
            (Some("198.51.100.1, 192.0.2.9, 2001:db8::1"), "198.51.100.1"),
            (Some("198.51.100.1:4711"), "198.51.100.1"),
            (Some("[2001:db9::1]:4711"), "2001:db9::1"),
            (Some("::ffff:198.51.100.1"), "198.51.100.1"),
            (Some("192.0.2.8"), "192.0.2.8"),
            (Some("198.51.100.1, unknown"), "192.0.2.7"),
            (Some("198.51.100.1, unknown, 192.0.2.8"), "192.0.2.8"),
            (Some(""), "192.0.2.7"),
            // What a client says before it, be it no text at all, hides nobody.
            (Some("\u{ff}, 198.51.100.1"), "198.51.100.1"),
        ] {
            let mut fields = vec![("host", "h")];
            fields.extend(told.map(|told| ("x-forwarded-for", told)));
            let head = check(Version::HTTP_11, "GET", "/", &fields, &connection).unwrap();
            assert_eq!(
                connection.client(&head.headers).to_string(),
                client,
                "{told:?}"
            );
        }
        // A proxy that hands its client's `Connection` on.
        let fields = [
            ("host", "h"),
            ("connection", "x-forwarded-for, x-forwarded-proto"),
            ("x-forwarded-for", "198.51.100.1"),
            ("x-forwarded-proto", "https"),
        ];
        let head = check(Version::HTTP_11, "GET", "/", &fields, &connection).unwrap();
        assert_eq!(connection.client(&head.headers).to_string(), "198.51.100.1");
        assert_eq!(head.uri.scheme_str(), Some("https"));

        connection.proxies = Arc::default();
        let fields = [("host", "h"), ("x-forwarded-for", "198.51.100.1")];
        let head = check(Version::HTTP_11, "GET", "/", &fields, &connection).unwrap();
        assert_eq!(connection.client(&head.headers).to_string(), "192.0.2.7");
    }

    #[test]
    fn only_a_get_of_http_1_1_that_says_it_twice_asks_for_a_websocket() {
        let asks = |method: &str, version, fields: &[(&str, &str)]| {
            let mut request = Request::builder().method(method).version(version);
            for (name, value) in fields {
                request = request.header(*name, *value);
            }
            is_websocket(&request.body(()).unwrap().into_parts().0)
        };
        let both = [
            ("upgrade", "WebSocket"),
            ("connection", "keep-alive, Upgrade"),
        ];
        assert!(asks("GET", Version::HTTP_11, &both));
        assert!(!asks("POST", Version::HTTP_11, &both));
        assert!(!asks("GET", Version::HTTP_10, &both));
        assert!(!asks("GET", Version::HTTP_2, &both));
        assert!(!asks("GET", Version::HTTP_11, &both[..1]));
        assert!(!asks("GET", Version::HTTP_11, &both[1..]));
        let other = [("upgrade", "h2c"), ("connection", "upgrade")];
        assert!(!asks("GET", Version::HTTP_11, &other));
    }

    #[test]
    fn naming_a_forwarding_field_in_connection_does_not_hide_the_client() {
        let fields = [
            ("host", "h"),
            ("connection", "x-forwarded-for, forwarded, host"),
        ];
        let head = check(Version::HTTP_11, "GET", "/", &fields, &connection()).unwrap();
        assert_eq!(head.headers["x-forwarded-for"], "192.0.2.7");
        assert_eq!(head.uri.host(), Some("h"));
    }

    #[test]
    fn too_much_is_refused() {
        let mut connection = connection();
        connection.max_target = 10;
        connection.max_fields = 2;
        let host = [("host", "h")];
        let long = format!("/{}", "x".repeat(10));
        let refusal = check(Version::HTTP_11, "GET", &long, &host, &connection);
        assert_eq!(refusal.unwrap_err(), Refusal::TargetTooLong);
        let many = [("host", "h"), ("a", ""), ("a", "")];
        let refusal = check(Version::HTTP_11, "GET", "/", &many, &connection);
        assert_eq!(refusal.unwrap_err(), Refusal::TooManyFields);
    }

    proptest! {
        #[test]
        fn whatever_comes_in_what_goes_on_has_one_meaning(
            method in prop::sample::select(vec!["GET", "POST", "OPTIONS", "HEAD", "X"]),
            target in prop::sample::select(vec!["/", "/a?b", "*", "http://h/x", "http://H", "https://u:p@h/x", "h:1", "//h/x"]),
            version in prop::sample::select(vec![Version::HTTP_10, Version::HTTP_11, Version::HTTP_2]),
            trusted: bool,
            fields in prop::collection::vec((
                prop::sample::select(vec![
                    "host", "connection", "te", "transfer-encoding", "x-forwarded-for", "x-forwarded-proto",
                    "forwarded", "upgrade", "x-a", "content-length", "keep-alive", "x-real-ip",
                    "x_forwarded_for",
                ]),
                prop_oneof![
                    "[ -~]{0,20}",
                    prop::sample::select(vec!["h", "H", "h:80", "close, x-a", "trailers", "chunked", "https"]).prop_map(str::to_owned),
                ],
            ), 0..8),
        ) {
            let mut connection = connection();
            if trusted {
                connection.proxies = ["192.0.2.0/24".parse().unwrap()].into();
            }
            let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
            if let Ok(mut head) = check(version, method, target, &fields, &connection) {
                let authority = head.uri.authority().unwrap().as_str().to_owned();
                prop_assert_eq!(&authority, &authority.to_ascii_lowercase());
                prop_assert!(!authority.contains('@'));
                prop_assert!(matches!(head.uri.scheme_str(), Some("http" | "https")));
                prop_assert!(head.uri.path().starts_with('/') || head.uri.path() == "*");
                for name in ["host", "connection", "transfer-encoding", "upgrade", "keep-alive", "x_forwarded_for"] {
                    prop_assert!(!head.headers.contains_key(name), "{}", name);
                }
                if let Some(te) = head.headers.get("te") {
                    prop_assert_eq!(te, "trailers");
                }
                let chain = head.headers["x-forwarded-for"].to_str().unwrap();
                prop_assert_eq!(chain.rsplit(", ").next(), Some("192.0.2.7"));
                prop_assert!(trusted || chain == "192.0.2.7");

                // Sanitizing again, as from a client on HTTP/2, changes nothing.
                let once = head.clone();
                head.version = Version::HTTP_2;
                if trusted { return Ok(()); }
                prop_assert_eq!(request(&mut head, &connection), Ok(()));
                prop_assert_eq!(head.uri, once.uri);
                prop_assert_eq!(head.headers, once.headers);
            }
        }
    }
}
