//! Request hooks: functions that see heads of requests and responses on their way through a distribution.
//!
//! There are four places, each an attribute: [`viewer_request`](crate::viewer_request) before the cache,
//! [`origin_request`](crate::origin_request) after a miss, [`origin_response`](crate::origin_response) before the response is
//! stored, [`viewer_response`](crate::viewer_response) before the client. A component may have several, one of each.
//!
//! The two at the origin may be given the [`Body`] too, the beginning of it: where the distribution says so (`body = "1 MB"` at the
//! hook), and the function has a third parameter.
//!
//! ```
//! use wharf_sdk::hook::{Body, Request, Response, ResponseAction};
//!
//! /// Pages greet by another name; what is too long for that stays as it is.
//! #[wharf_sdk::origin_response]
//! fn rename(_request: Request, response: Response, body: Option<Body>) -> ResponseAction {
//!     match body {
//!         Some(Body { data, truncated: false }) => match String::from_utf8(data) {
//!             Ok(page) => response.body(page.replace("Ada", "Grace")).into(),
//!             Err(_) => ResponseAction::Next,
//!         },
//!         _ => ResponseAction::Next,
//!     }
//! }
//!
//! let page = Body { data: b"Hello, Ada!".to_vec(), truncated: false };
//! let renamed = rename(Request::get("https://example.com"), Response::new(200), Some(page));
//! assert_eq!(renamed, Response::new(200).body("Hello, Grace!").into());
//! ```
//!
//! What a hook answers is checked before it goes on. Header fields that are for one hop are left out, and a body that stays keeps
//! its `content-length`; anything else that HTTP does not allow fails the hook, and its log names the field.
//!
//! A hook is a plain function on plain values, so it is tested natively:
//!
//! ```
//! use wharf_sdk::hook::{Client, Request, RequestAction, Response, ResponseAction};
//!
//! /// Mobile clients get the mobile site; nobody gets the old one.
//! #[wharf_sdk::viewer_request]
//! fn route(mut request: Request, _client: Client) -> RequestAction {
//!     if request.path.starts_with("/old/") {
//!         return Response::redirect(301, "/").into();
//!     }
//!     match request.headers.get("user-agent") {
//!         Some(agent) if agent.contains("Mobile") => {
//!             request.path.insert_str(0, "/m");
//!             request.into()
//!         }
//!         _ => RequestAction::Next,
//!     }
//! }
//!
//! /// Over TLS, browsers are to come by TLS the next time too.
//! #[wharf_sdk::viewer_response]
//! fn harden(_request: Request, mut response: Response, client: Client) -> ResponseAction {
//!     if client.tls_version.is_none() {
//!         return ResponseAction::Next;
//!     }
//!     response.headers.set("strict-transport-security", "max-age=63072000");
//!     response.into()
//! }
//!
//! let request = Request::get("https://example.com/news?page=2").header("User-Agent", "Mobile Safari");
//! let RequestAction::Forward(forward) = route(request, Client::default()) else { panic!() };
//! assert_eq!(forward.request.path, "/m/news");
//! assert_eq!(forward.request.query.as_deref(), Some("page=2"));
//!
//! let RequestAction::Respond(response) = route(Request::get("https://example.com/old/"), Client::default()) else { panic!() };
//! assert_eq!(response.headers.get("location"), Some("/"));
//! ```

use crate::bindings::imports::wharf::edge::types as wit;

/// The fields of a head, in their order. Names are compared without regard to case and kept in lower case.
///
/// ```
/// use wharf_sdk::hook::Headers;
///
/// let mut headers = Headers::default();
/// headers.append("Accept", "text/html");
/// headers.append("accept", "image/*");
/// assert_eq!(headers.get("ACCEPT"), Some("text/html"));
/// headers.set("accept", "*/*");
/// assert_eq!(headers.iter().collect::<Vec<_>>(), [("accept", &b"*/*"[..])]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Headers(Vec<(String, Vec<u8>)>);

impl Headers {
    /// The first value of a name, if it is text. [`get_all`](Self::get_all) has every value, of any bytes.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.get_all(name)
            .next()
            .and_then(|value| str::from_utf8(value).ok())
    }

    /// Every value of a name.
    pub fn get_all<'a, 'n>(
        &'a self,
        name: &'n str,
    ) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        self.iter()
            .filter(move |(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// Whether there is a field of that name.
    pub fn contains(&self, name: &str) -> bool {
        self.get_all(name).next().is_some()
    }

    /// Sets a name to one value, in place of all it had.
    pub fn set(&mut self, name: &str, value: impl Into<Vec<u8>>) {
        let mut value = Some(value.into());
        self.0.retain_mut(|(field, old)| {
            if !field.eq_ignore_ascii_case(name) {
                return true;
            }
            // The first keeps its place and takes the value; any other goes.
            match value.take() {
                Some(value) => {
                    *old = value;
                    true
                }
                None => false,
            }
        });
        if let Some(value) = value {
            self.append(name, value);
        }
    }

    /// Adds a field beside those of the same name.
    pub fn append(&mut self, name: &str, value: impl Into<Vec<u8>>) {
        self.0.push((name.to_ascii_lowercase(), value.into()));
    }

    /// Removes every field of a name, and says whether there was one.
    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.0.len();
        self.0
            .retain(|(field, _)| !field.eq_ignore_ascii_case(name));
        self.0.len() < before
    }

    /// Every name and value, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_slice()))
    }
}

/// Who sent the request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Client {
    /// The IP address, without a port.
    pub address: String,
    /// The TLS version, such as `TLSv1.3`; none on clear text.
    pub tls_version: Option<String>,
    /// The ISO 3166-1 alpha-2 country of the address, where the node can tell it.
    pub country: Option<String>,
}

/// The head of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The method, such as `GET`.
    pub method: String,
    /// `http` or `https`.
    pub scheme: String,
    /// The host, and the port if it is not the scheme's own.
    pub authority: String,
    /// The path, as it was sent, with percent-encoding.
    pub path: String,
    /// The query without its `?`; none if there is no `?`.
    pub query: Option<String>,
    /// The header fields in their order.
    pub headers: Headers,
}

impl Request {
    /// A GET request of a URL such as `https://example.com/path?query`, for tests. A part that is missing is empty.
    pub fn get(url: &str) -> Self {
        let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
        let (rest, query) = match rest.split_once('?') {
            Some((rest, query)) => (rest, Some(query.to_owned())),
            None => (rest, None),
        };
        let path = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at(path);
        Self {
            method: "GET".to_owned(),
            scheme: scheme.to_owned(),
            authority: authority.to_owned(),
            path: if path.is_empty() { "/" } else { path }.to_owned(),
            query,
            headers: Headers::default(),
        }
    }

    /// The request with one more header field.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.append(name, value);
        self
    }
}

/// The head of a response, with a body if the hook makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code, 200 to 599.
    pub status: u16,
    /// The header fields in their order.
    pub headers: Headers,
    /// A body made by the hook; none keeps the body there is.
    pub body: Option<Vec<u8>>,
}

impl Response {
    /// A response without headers and body.
    pub fn new(status: u16) -> Self {
        Self {
            status,
            headers: Headers::default(),
            body: None,
        }
    }

    /// A redirect to another place; `status` is 301, 302, 303, 307 or 308.
    pub fn redirect(status: u16, location: &str) -> Self {
        Self::new(status).header("location", location)
    }

    /// The response with one more header field.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.append(name, value);
        self
    }

    /// The response with a body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }
}

/// A body, as far as a hook is given it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Body {
    /// Its first bytes, as they were sent: `content-encoding` says how they are to be read.
    pub data: Vec<u8>,
    /// Whether there are more, which go past the hook.
    pub truncated: bool,
}

/// What happens after a request hook. A [`Request`] becomes `Forward`, a [`Response`] `Respond`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestAction {
    /// Go on with the request as it came.
    Next,
    /// Go on with this request.
    Forward(Forward),
    /// Answer the client with this response; nothing further is asked.
    Respond(Response),
}

/// A request as a hook changed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// The changed head.
    pub request: Request,
    /// A body made by the hook; none keeps the body there is, be it truncated for the hook or not.
    pub body: Option<Vec<u8>>,
    /// The origin to use, by its name in the distribution; none keeps the behaviour's.
    pub origin: Option<String>,
    /// The cache key to use, before the cache only; none keeps the behaviour's.
    pub cache_key: Option<String>,
}

/// What happens after a response hook. A [`Response`] becomes `Replace`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResponseAction {
    /// Go on with the response as it came.
    Next,
    /// Go on with this response.
    Replace(Response),
}

impl From<Request> for Forward {
    fn from(request: Request) -> Self {
        Self {
            request,
            body: None,
            origin: None,
            cache_key: None,
        }
    }
}

impl From<Request> for RequestAction {
    fn from(request: Request) -> Self {
        Self::Forward(request.into())
    }
}

impl From<Forward> for RequestAction {
    fn from(forward: Forward) -> Self {
        Self::Forward(forward)
    }
}

impl From<Response> for RequestAction {
    fn from(response: Response) -> Self {
        Self::Respond(response)
    }
}

impl From<Response> for ResponseAction {
    fn from(response: Response) -> Self {
        Self::Replace(response)
    }
}

/// Runs a viewer-request hook.
#[doc(hidden)]
pub fn call_viewer_request<A: Into<RequestAction>>(
    request: wit::Request,
    client: wit::Client,
    hook: impl FnOnce(Request, Client) -> A,
) -> wit::RequestAction {
    hook(request.into(), client.into()).into().into()
}

/// Runs an origin-request hook.
#[doc(hidden)]
pub fn call_origin_request<A: Into<RequestAction>>(
    request: wit::Request,
    client: wit::Client,
    body: Option<wit::Body>,
    hook: impl FnOnce(Request, Client, Option<Body>) -> A,
) -> wit::RequestAction {
    hook(request.into(), client.into(), body.map(Body::from))
        .into()
        .into()
}

/// Runs an origin-response hook.
#[doc(hidden)]
pub fn call_origin_response<A: Into<ResponseAction>>(
    request: wit::Request,
    response: wit::Response,
    body: Option<wit::Body>,
    hook: impl FnOnce(Request, Response, Option<Body>) -> A,
) -> wit::ResponseAction {
    hook(request.into(), response.into(), body.map(Body::from))
        .into()
        .into()
}

/// Runs a viewer-response hook.
#[doc(hidden)]
pub fn call_viewer_response<A: Into<ResponseAction>>(
    request: wit::Request,
    response: wit::Response,
    client: wit::Client,
    hook: impl FnOnce(Request, Response, Client) -> A,
) -> wit::ResponseAction {
    hook(request.into(), response.into(), client.into())
        .into()
        .into()
}

impl From<RequestAction> for wit::RequestAction {
    fn from(action: RequestAction) -> Self {
        match action {
            RequestAction::Next => Self::Next,
            RequestAction::Forward(forward) => Self::Forward(wit::ForwardedRequest {
                request: forward.request.into(),
                body: forward.body,
                origin: forward.origin,
                cache_key: forward.cache_key,
            }),
            RequestAction::Respond(response) => Self::Respond(response.into()),
        }
    }
}

impl From<ResponseAction> for wit::ResponseAction {
    fn from(action: ResponseAction) -> Self {
        match action {
            ResponseAction::Next => Self::Next,
            ResponseAction::Replace(response) => Self::Replace(response.into()),
        }
    }
}

impl From<wit::Client> for Client {
    fn from(client: wit::Client) -> Self {
        Self {
            address: client.address,
            tls_version: client.tls_version,
            country: client.country,
        }
    }
}

impl From<wit::Body> for Body {
    fn from(body: wit::Body) -> Self {
        Self {
            data: body.data,
            truncated: body.truncated,
        }
    }
}

impl From<wit::Request> for Request {
    fn from(request: wit::Request) -> Self {
        Self {
            method: request.method,
            scheme: request.scheme,
            authority: request.authority,
            path: request.path,
            query: request.query,
            headers: Headers(request.headers),
        }
    }
}

impl From<Request> for wit::Request {
    fn from(request: Request) -> Self {
        Self {
            method: request.method,
            scheme: request.scheme,
            authority: request.authority,
            path: request.path,
            query: request.query,
            headers: request.headers.0,
        }
    }
}

impl From<wit::Response> for Response {
    fn from(response: wit::Response) -> Self {
        Self {
            status: response.status,
            headers: Headers(response.headers),
            body: response.body,
        }
    }
}

impl From<Response> for wit::Response {
    fn from(response: Response) -> Self {
        Self {
            status: response.status,
            headers: response.headers.0,
            body: response.body,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_a_header_replaces_every_value_and_keeps_the_first_place() {
        let mut headers = Headers::default();
        headers.append("a", "1");
        headers.append("B", "2");
        headers.append("A", "3");
        headers.set("a", "4");
        let fields: Vec<_> = headers.iter().collect();
        assert_eq!(fields, [("a", &b"4"[..]), ("b", &b"2"[..])]);
        assert!(headers.remove("b"));
        assert!(!headers.contains("b"));
        assert!(!headers.remove("b"));
    }

    #[test]
    fn a_value_that_is_no_text_is_not_lost() {
        let request = Request::get("http://localhost").header("x", [0xff]);
        assert_eq!(request.headers.get("x"), None);
        assert_eq!(request.headers.get_all("X").next(), Some(&[0xff][..]));
        assert_eq!(request.path, "/");
    }

    #[test]
    fn what_a_hook_leaves_alone_reaches_the_host_unchanged() {
        let request = Request::get("https://example.com/a?b").header("c", "d");
        let unchanged = call_viewer_request(
            request.clone().into(),
            wit::Client {
                address: "::1".into(),
                tls_version: None,
                country: None,
            },
            |request, client| {
                assert_eq!(client.address, "::1");
                request
            },
        );
        let wit::RequestAction::Forward(forwarded) = unchanged else {
            panic!("not forwarded");
        };
        assert_eq!(Request::from(forwarded.request), request);
        let body = wit::Body {
            data: b"abc".to_vec(),
            truncated: true,
        };
        let next = call_origin_response(
            request.into(),
            Response::new(204).into(),
            Some(body),
            |_, response, body| {
                assert_eq!(response.status, 204);
                assert!(body.is_some_and(|body| body.data == b"abc" && body.truncated));
                ResponseAction::Next
            },
        );
        assert!(matches!(next, wit::ResponseAction::Next));
    }
}
