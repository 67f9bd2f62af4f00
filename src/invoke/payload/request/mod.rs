//! The event of an HTTP request → the request, for a function that speaks HTTP.
//!
//! Fields and bytes of a head are counted as the listener counts them. No part of the event is kept that the request does
//! not need, so a hostile one costs little more than its own bytes.

#[cfg(test)]
mod tests;

use std::{borrow::Cow, fmt::Write as _, net::IpAddr};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header,
    uri::{Authority, PathAndQuery, Scheme},
};
use http_body_util::Full;
use serde::{Deserialize, de::IgnoredAny};

use super::value::{Few, FewNamed, MAX_FIELDS, Scalar};
use crate::model::hop;

/// Bytes of names and values of a request's header fields.
const MAX_HEAD: usize = 64 << 10;

/// Bytes of path and query.
const MAX_TARGET: usize = 16 << 10;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// A request out of an event, and how its answer is to be written.
#[derive(Debug)]
pub(in crate::invoke) struct HttpEvent {
    pub(in crate::invoke) request: Request<Full<Bytes>>,
    pub(in crate::invoke) form: Form,
}

/// The format of an event, and so of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::invoke) enum Form {
    /// API Gateway's HTTP APIs and function URLs.
    V2,
    /// API Gateway's REST APIs and load balancers.
    V1 {
        /// Whether repeated fields are lists.
        multiple: bool,
        /// A load balancer's: it wants the status in words as well.
        balancer: bool,
    },
}

/// Why an event is no request.
#[derive(Debug, thiserror::Error)]
pub(in crate::invoke) enum InvalidEvent {
    #[error(
        "the function speaks HTTP, so its events are requests as API Gateway (format 1.0 or 2.0), function URLs and load \
         balancers write them; this one has neither `requestContext.http.method` nor `httpMethod`"
    )]
    NotHttp,
    #[error("the event is not the event of an HTTP request: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("`{0}` is not a method that can be served")]
    Method(String),
    #[error("the path and query are none")]
    Target,
    #[error("the path and query are longer than {MAX_TARGET} bytes")]
    TargetTooLong,
    #[error("`{0}` is not a host with an optional port")]
    Host(String),
    #[error(
        "`{0}` is not a header field: its name or its value has characters that it may not have"
    )]
    Header(String),
    #[error("the header has more than {MAX_FIELDS} fields or {MAX_HEAD} bytes")]
    HeadTooLarge,
    #[error("`body` is not base64 although `isBase64Encoded` is true")]
    Base64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    http_method: Option<String>,
    path: Option<String>,
    raw_path: Option<String>,
    raw_query_string: Option<String>,
    cookies: Option<Few<String>>,
    headers: Option<FewNamed<Scalar>>,
    multi_value_headers: Option<FewNamed<Few<Scalar>>>,
    query_string_parameters: Option<FewNamed<Scalar>>,
    multi_value_query_string_parameters: Option<FewNamed<Few<Scalar>>>,
    request_context: Option<Context>,
    body: Option<String>,
    #[serde(default)]
    is_base64_encoded: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Context {
    domain_name: Option<String>,
    http: Option<ContextHttp>,
    identity: Option<Identity>,
    elb: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContextHttp {
    method: String,
    source_ip: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Identity {
    source_ip: Option<String>,
}

/// The request that an event is. `default_host` is asked where the event names none.
pub(in crate::invoke) fn request(
    event: &str,
    default_host: &str,
) -> Result<HttpEvent, InvalidEvent> {
    let mut event: Event = serde_json::from_str(event)?;
    let context = event.request_context.take().unwrap_or_default();
    let (form, method, source_ip) = match (context.http, event.http_method.take()) {
        (Some(http), _) => (Form::V2, http.method, http.source_ip),
        (None, Some(method)) => {
            let form = Form::V1 {
                multiple: event.multi_value_headers.is_some(),
                balancer: context.elb.is_some(),
            };
            let identity = context.identity.and_then(|identity| identity.source_ip);
            (form, method, identity)
        }
        (None, None) => return Err(InvalidEvent::NotHttp),
    };
    let target = target(&mut event, form)?;
    let body = body(event.body.take(), event.is_base64_encoded)?;
    let (mut headers, host) = headers(event)?;
    frame(&mut headers, body.len());
    let scheme = match headers.get(FORWARDED_PROTO) {
        Some(proto) if proto == "http" => Scheme::HTTP,
        _ => Scheme::HTTPS,
    };
    if let Some(address) = source_ip.and_then(|address| address.parse::<IpAddr>().ok())
        && !headers.contains_key(FORWARDED_FOR)
        && let Ok(address) = address.to_string().try_into()
    {
        headers.insert(FORWARDED_FOR, address);
    }
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(scheme);
    parts.authority = Some(authority(
        host.or(context.domain_name)
            .as_deref()
            .unwrap_or(default_host),
    )?);
    parts.path_and_query = Some(target);

    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::from_bytes(method.as_bytes())
        .ok()
        .filter(|method| *method != Method::CONNECT)
        .ok_or_else(|| InvalidEvent::Method(short(&method)))?;
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| InvalidEvent::Target)?;
    *request.headers_mut() = headers;
    Ok(HttpEvent { request, form })
}

/// Path and query. What the gateway has decoded is encoded again.
fn target(event: &mut Event, form: Form) -> Result<PathAndQuery, InvalidEvent> {
    let (path, query) = match form {
        Form::V2 => {
            let raw = event.raw_query_string.take();
            (event.raw_path.take(), raw.or_else(|| query(event, false)))
        }
        Form::V1 { balancer, .. } => (event.path.take(), query(event, balancer)),
    };
    let path = path.unwrap_or_else(|| "/".to_owned());
    let mut target = encoded(&path, Part::Path).into_owned();
    if let Some(query) = query.filter(|query| !query.is_empty()) {
        target.push('?');
        target.push_str(&encoded(&query, Part::Query));
    }
    if target.len() > MAX_TARGET {
        return Err(InvalidEvent::TargetTooLong);
    }
    if !target.starts_with('/') && target != "*" {
        return Err(InvalidEvent::Target);
    }
    target.parse().map_err(|_| InvalidEvent::Target)
}

/// The query of the parameters, if the event has them. A load balancer gives them as they were sent.
fn query(event: &mut Event, as_sent: bool) -> Option<String> {
    let multiple = event.multi_value_query_string_parameters.take();
    let single = event.query_string_parameters.take();
    let parameters = flat(multiple, single)?;
    if as_sent {
        let pairs = parameters
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        return Some(pairs.collect::<Vec<_>>().join("&"));
    }
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(parameters);
    Some(query.finish())
}

/// Names and values, from the lists if there are any.
fn flat(
    multiple: Option<FewNamed<Few<Scalar>>>,
    single: Option<FewNamed<Scalar>>,
) -> Option<Vec<(String, String)>> {
    if let Some(FewNamed(multiple)) = multiple {
        let pairs = multiple.into_iter().flat_map(|(name, Few(values))| {
            values
                .into_iter()
                .map(move |Scalar(value)| (name.clone(), value))
        });
        return Some(pairs.collect());
    }
    let FewNamed(single) = single?;
    let pairs = single
        .into_iter()
        .map(|(name, Scalar(value))| (name, value));
    Some(pairs.collect())
}

fn body(body: Option<String>, is_base64: bool) -> Result<Bytes, InvalidEvent> {
    match body {
        None => Ok(Bytes::new()),
        Some(body) if is_base64 => BASE64_STANDARD
            .decode(body)
            .map(Bytes::from)
            .map_err(|_| InvalidEvent::Base64),
        Some(body) => Ok(Bytes::from(body)),
    }
}

/// The header, and the host that stands in it.
fn headers(event: Event) -> Result<(HeaderMap, Option<String>), InvalidEvent> {
    let mut headers = HeaderMap::new();
    let mut host = None;
    let mut bytes = 0;
    let mut append = |name: HeaderName, value: HeaderValue| {
        bytes += name.as_str().len() + value.len();
        if headers.len() == MAX_FIELDS || bytes > MAX_HEAD {
            return Err(InvalidEvent::HeadTooLarge);
        }
        headers.append(name, value);
        Ok(())
    };
    let cookies = event.cookies.filter(|Few(cookies)| !cookies.is_empty());
    for (name, value) in flat(event.multi_value_headers, event.headers).unwrap_or_default() {
        let invalid = || InvalidEvent::Header(short(&name));
        let field = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid())?;
        if field == header::HOST {
            if host.is_some() {
                return Err(InvalidEvent::Host(short(&value)));
            }
            host = Some(value);
            continue;
        }
        // An event of format 2.0 has them in its `cookies`.
        if field == header::COOKIE && cookies.is_some() {
            continue;
        }
        append(
            field,
            HeaderValue::from_bytes(value.as_bytes()).map_err(|_| invalid())?,
        )?;
    }
    if let Some(Few(cookies)) = cookies {
        let value = HeaderValue::from_bytes(cookies.join("; ").as_bytes())
            .map_err(|_| InvalidEvent::Header("cookie".to_owned()))?;
        append(header::COOKIE, value)?;
    }
    Ok((headers, host))
}

/// Leaves nothing in the header that could say something else of the body than what it is.
fn frame(headers: &mut HeaderMap, length: usize) {
    let unwanted: Vec<HeaderName> = headers
        .keys()
        .filter(|name| hop::is_framing(name.as_str()))
        .cloned()
        .collect();
    for name in unwanted {
        headers.remove(name);
    }
    if headers.contains_key(header::CONTENT_LENGTH) {
        headers.insert(header::CONTENT_LENGTH, length.into());
    }
}

fn authority(text: &str) -> Result<Authority, InvalidEvent> {
    text.to_ascii_lowercase()
        .parse::<Authority>()
        .ok()
        .filter(|authority| {
            // User information would stand there too, and a port that is none.
            let host_alone = authority.host() == authority.as_str();
            let with_port = authority.port_u16().is_some() && !authority.as_str().contains('@');
            !authority.host().is_empty() && (host_alone || with_port)
        })
        .ok_or_else(|| InvalidEvent::Host(short(text)))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Path,
    Query,
}

/// Percent-encodes what cannot stand in a URI, or would end its part. What is encoded already stays as it is.
fn encoded(text: &str, part: Part) -> Cow<'_, str> {
    let must = |byte: u8| {
        byte <= b' '
            || byte >= 0x7f
            || matches!(byte, b'#' | b'<' | b'>')
            || (part == Part::Path && matches!(byte, b'?' | b'`'))
    };
    if !text.bytes().any(must) {
        return Cow::Borrowed(text);
    }
    let mut encoded = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        if must(byte) {
            let _ = write!(encoded, "%{byte:02X}");
        } else {
            encoded.push(char::from(byte));
        }
    }
    Cow::Owned(encoded)
}

fn short(text: &str) -> String {
    text.chars().take(80).collect()
}
