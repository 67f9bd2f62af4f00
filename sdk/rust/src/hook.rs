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
//! What a hook answers is checked before it goes on. What it says of header fields that are for one hop is left out, a body that
//! stays keeps its `content-length`, and a request its `via` and `cdn-loop`; anything else that HTTP does not allow fails the hook,
//! and its log names the field.
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

use std::{
    fmt, iter, mem,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

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
///
/// They stay as the host gave them until they are looked for, and only what a hook changes of them goes back.
#[derive(Clone, Default)]
pub struct Headers {
    /// Those of the host, as it writes them.
    block: Vec<u8>,
    /// Which they are.
    given: Given,
    /// The names, in lower case, of those of the host that are no longer there.
    removed: Vec<String>,
    /// Those that were added.
    added: Vec<(String, Vec<u8>)>,
}

/// Tells the fields of one head that the host gave from those of every other. Zero is that of fields which a hook began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Given(u32);

impl Given {
    fn next() -> Self {
        static LAST: AtomicU32 = AtomicU32::new(0);
        Self(LAST.fetch_add(1, Relaxed).wrapping_add(1))
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |(name, value)| (name, String::from_utf8_lossy(value));
        formatter
            .debug_list()
            .entries(self.iter().map(text))
            .finish()
    }
}

impl PartialEq for Headers {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Headers {}

impl Headers {
    fn given(fields: String) -> Self {
        Self {
            block: bytes(fields),
            given: Given::next(),
            ..Self::default()
        }
    }

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
        let added = self.added.iter();
        let added = added.filter(move |(field, _)| field.eq_ignore_ascii_case(name));
        self.kept(name)
            .chain(added.map(|(_, value)| value.as_slice()))
    }

    /// Whether there is a field of that name.
    pub fn contains(&self, name: &str) -> bool {
        self.get_all(name).next().is_some()
    }

    /// Sets a name to one value, in place of all it had. The field is the last then.
    pub fn set(&mut self, name: &str, value: impl Into<Vec<u8>>) {
        self.remove(name);
        self.append(name, value);
    }

    /// Adds a field beside those of the same name.
    pub fn append(&mut self, name: &str, value: impl Into<Vec<u8>>) {
        self.added.push((name.to_ascii_lowercase(), value.into()));
    }

    /// Removes every field of a name, and says whether there was one.
    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.added.len();
        self.added
            .retain(|(field, _)| !field.eq_ignore_ascii_case(name));
        let is_kept = self.kept(name).next().is_some();
        if is_kept {
            self.removed.push(name.to_ascii_lowercase());
        }
        is_kept || self.added.len() < before
    }

    /// Every name and value, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let added = self.added.iter();
        let added = added.map(|(name, value)| (name.as_str(), value.as_slice()));
        let given = Lines(&self.block).filter_map(parts);
        given
            .filter(|(name, _)| !self.is_removed(name))
            .chain(added)
    }

    /// The values that the host gave of a name, if they are still there.
    fn kept<'a, 'n>(&'a self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        // A name with a colon in it is none, but may be how a line begins.
        let block = match self.is_removed(name) || name.contains(':') {
            true => &[],
            false => self.block.as_slice(),
        };
        Lines(block).filter_map(move |line| value(line, name))
    }

    fn is_removed(&self, name: &str) -> bool {
        self.removed
            .iter()
            .any(|removed| removed.eq_ignore_ascii_case(name))
    }

    /// All of them, each by itself.
    fn into_fields(self) -> Vec<wit::Header> {
        self.iter()
            .map(|(name, value)| (name.to_owned(), text(value.to_vec())))
            .collect()
    }

    /// The changes that make these of the fields that the host gave.
    fn changes(mut self, given: Given) -> Vec<wit::HeaderChange> {
        if self.given != given {
            let all = self
                .into_fields()
                .into_iter()
                .map(wit::HeaderChange::Append);
            return iter::once(wit::HeaderChange::Clear).chain(all).collect();
        }
        let added = mem::take(&mut self.added);
        let mut changes = Vec::with_capacity(self.removed.len() + added.len());
        let is_gone = |name: &&String| !added.iter().any(|(field, _)| field == *name);
        let gone = self.removed.iter().filter(is_gone).cloned();
        changes.extend(gone.map(wit::HeaderChange::Remove));
        for (name, value) in added {
            let is_set = |change: &wit::HeaderChange| matches!(change, wit::HeaderChange::Set((set, _)) if *set == name);
            let is_beside = changes.iter().any(is_set) || self.kept(&name).next().is_some();
            let header = (name, text(value));
            changes.push(if is_beside {
                wit::HeaderChange::Append(header)
            } else {
                // In the place of whatever there was.
                wit::HeaderChange::Set(header)
            });
        }
        changes
    }
}

/// The bytes that the characters of a text from the host are.
fn bytes(text: String) -> Vec<u8> {
    match text.is_ascii() {
        true => text.into_bytes(),
        false => text
            .chars()
            .map(|character| u8::try_from(character).unwrap_or(b'?'))
            .collect(),
    }
}

/// The text for the host whose characters are these bytes.
fn text(bytes: Vec<u8>) -> String {
    match String::from_utf8(bytes) {
        Ok(text) if text.is_ascii() => text,
        Ok(text) => text.bytes().map(char::from).collect(),
        Err(error) => error.into_bytes().into_iter().map(char::from).collect(),
    }
}

/// The lines of a block that the host wrote, without the CR LF that ends each.
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<Self::Item> {
        let end = memchr::memchr(b'\r', self.0)?;
        let (line, rest) = self.0.split_at(end);
        self.0 = rest.get(2..)?;
        Some(line)
    }
}

/// Name and value of a line.
fn parts(line: &[u8]) -> Option<(&str, &[u8])> {
    let colon = memchr::memchr(b':', line)?;
    let name = str::from_utf8(&line[..colon]).ok()?;
    Some((name, line.get(colon + 2..)?))
}

/// The value of a line whose name this is.
fn value<'a>(line: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let (field, rest) = line.split_at_checked(name.len())?;
    let value = rest.strip_prefix(b": ")?;
    field.eq_ignore_ascii_case(name.as_bytes()).then_some(value)
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

/// The scheme of a request's URI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Clear text.
    Http,
    /// TLS.
    Https,
}

impl fmt::Display for Scheme {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Http => "http",
            Self::Https => "https",
        })
    }
}

impl From<wit::Scheme> for Scheme {
    fn from(scheme: wit::Scheme) -> Self {
        match scheme {
            wit::Scheme::Http => Self::Http,
            wit::Scheme::Https => Self::Https,
        }
    }
}

impl From<Scheme> for wit::Scheme {
    fn from(scheme: Scheme) -> Self {
        match scheme {
            Scheme::Http => Self::Http,
            Scheme::Https => Self::Https,
        }
    }
}

/// The head of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The method, such as `GET`.
    pub method: String,
    /// The scheme.
    pub scheme: Scheme,
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
    /// A GET request of a URL such as `https://example.com/path?query`, for tests. A part that is missing is empty; without a scheme it is https.
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
            scheme: match scheme {
                "http" => Scheme::Http,
                _ => Scheme::Https,
            },
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
    let request = Request::from(request);
    let given = request.headers.given;
    hook(request, client.into()).into().said(given)
}

/// Runs an origin-request hook.
#[doc(hidden)]
pub fn call_origin_request<A: Into<RequestAction>>(
    request: wit::Request,
    client: wit::Client,
    body: Option<wit::Body>,
    hook: impl FnOnce(Request, Client, Option<Body>) -> A,
) -> wit::RequestAction {
    let request = Request::from(request);
    let given = request.headers.given;
    hook(request, client.into(), body.map(Body::from))
        .into()
        .said(given)
}

/// Runs an origin-response hook.
#[doc(hidden)]
pub fn call_origin_response<A: Into<ResponseAction>>(
    request: wit::Request,
    response: wit::Response,
    body: Option<wit::Body>,
    hook: impl FnOnce(Request, Response, Option<Body>) -> A,
) -> wit::ResponseAction {
    let response = Response::from(response);
    let given = response.headers.given;
    hook(request.into(), response, body.map(Body::from))
        .into()
        .said(given)
}

/// Runs a viewer-response hook.
#[doc(hidden)]
pub fn call_viewer_response<A: Into<ResponseAction>>(
    request: wit::Request,
    response: wit::Response,
    client: wit::Client,
    hook: impl FnOnce(Request, Response, Client) -> A,
) -> wit::ResponseAction {
    let response = Response::from(response);
    let given = response.headers.given;
    hook(request.into(), response, client.into())
        .into()
        .said(given)
}

impl RequestAction {
    /// What the host is told, who gave these fields.
    fn said(self, given: Given) -> wit::RequestAction {
        match self {
            Self::Next => wit::RequestAction::Next,
            Self::Forward(Forward {
                request,
                body,
                origin,
                cache_key,
            }) => wit::RequestAction::Forward(wit::ForwardedRequest {
                method: request.method,
                scheme: request.scheme.into(),
                authority: request.authority,
                path: request.path,
                query: request.query,
                headers: request.headers.changes(given),
                body,
                origin,
                cache_key,
            }),
            Self::Respond(response) => wit::RequestAction::Respond(wit::NewResponse {
                status: response.status,
                headers: response.headers.into_fields(),
                body: response.body,
            }),
        }
    }
}

impl ResponseAction {
    /// What the host is told, who gave these fields.
    fn said(self, given: Given) -> wit::ResponseAction {
        match self {
            Self::Next => wit::ResponseAction::Next,
            Self::Replace(response) => wit::ResponseAction::Replace(wit::ReplacedResponse {
                status: response.status,
                headers: response.headers.changes(given),
                body: response.body,
            }),
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
            scheme: request.scheme.into(),
            authority: request.authority,
            path: request.path,
            query: request.query,
            headers: Headers::given(request.headers),
        }
    }
}

impl From<wit::Response> for Response {
    fn from(response: wit::Response) -> Self {
        Self {
            status: response.status,
            headers: Headers::given(response.headers),
            body: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_a_header_replaces_every_value() {
        let mut headers = Headers::default();
        headers.append("a", "1");
        headers.append("B", "2");
        headers.append("A", "3");
        headers.set("a", "4");
        let fields: Vec<_> = headers.iter().collect();
        assert_eq!(fields, [("b", &b"2"[..]), ("a", &b"4"[..])]);
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

    fn given() -> (wit::Request, wit::Client) {
        let request = wit::Request {
            method: "GET".into(),
            scheme: wit::Scheme::Https,
            authority: "example.com".into(),
            path: "/a".into(),
            query: Some("b".into()),
            headers: "a: 1\r\nb: 2\r\na: 3\r\nc: 4\r\n".to_owned(),
        };
        let client = wit::Client {
            address: "::1".into(),
            tls_version: None,
            country: None,
        };
        (request, client)
    }

    /// What the host is told of the fields of a request that a hook has changed.
    fn changes(change: impl FnOnce(&mut Headers)) -> Vec<wit::HeaderChange> {
        let (request, client) = given();
        let action = call_viewer_request(request, client, |mut request, client| {
            assert_eq!(client.address, "::1");
            change(&mut request.headers);
            request
        });
        let wit::RequestAction::Forward(forwarded) = action else {
            panic!("not forwarded");
        };
        let (request, _) = given();
        assert_eq!(forwarded.path, request.path);
        assert_eq!(forwarded.query, request.query);
        forwarded.headers
    }

    /// In words, as what `wit-bindgen` makes cannot be compared.
    fn words(changes: &[wit::HeaderChange]) -> Vec<String> {
        let text = |(name, value): &wit::Header| format!("{name}={value}");
        let word = |change: &wit::HeaderChange| match change {
            wit::HeaderChange::Clear => "clear".to_owned(),
            wit::HeaderChange::Remove(name) => format!("remove {name}"),
            wit::HeaderChange::Set(header) => format!("set {}", text(header)),
            wit::HeaderChange::Append(header) => format!("append {}", text(header)),
        };
        changes.iter().map(word).collect()
    }

    #[test]
    fn the_host_is_told_what_changed_and_nothing_else() {
        assert!(changes(|_| {}).is_empty());
        let read = changes(|headers| assert_eq!(headers.get("B"), Some("2")));
        assert!(read.is_empty());
        let absent = changes(|headers| assert!(!headers.remove("x")));
        assert!(absent.is_empty());
        let changed = changes(|headers| {
            headers.set("A", "5");
            headers.append("B", "6");
            headers.append("d", "7");
            headers.set("D", "8");
            assert!(headers.remove("c"));
        });
        let expected = ["remove c", "set a=5", "append b=6", "set d=8"];
        assert_eq!(words(&changed), expected);
        let gone_again = changes(|headers| {
            headers.append("x", "1");
            headers.remove("x");
        });
        assert!(gone_again.is_empty());
        let set_twice = changes(|headers| {
            headers.append("a", "4");
            headers.set("a", "5");
            headers.append("A", "6");
            headers.set("b", "7");
            assert!(headers.remove("B"));
            assert!(headers.remove("c"));
            headers.append("c", "8");
        });
        let expected = ["remove b", "set a=5", "append a=6", "set c=8"];
        assert_eq!(words(&set_twice), expected);
        // A character for the host is a byte here, whatever text they make.
        let bytes = changes(|headers| {
            headers.set("a", "\u{e9}");
            headers.append("b", [0xff]);
        });
        assert_eq!(words(&bytes), ["set a=\u{c3}\u{a9}", "append b=\u{ff}"]);
    }

    #[test]
    fn what_the_host_gave_is_read_as_it_was_sent() {
        let block = "a: \r\nset-cookie: b=1; c\r\nx: : \u{ff}\t \r\nset-cookie: d: e\r\n";
        let mut headers = Headers::given(block.to_owned());
        let fields: Vec<_> = headers.iter().collect();
        let expected: [(&str, &[u8]); 4] = [
            ("a", b""),
            ("set-cookie", b"b=1; c"),
            ("x", b": \xff\t "),
            ("set-cookie", b"d: e"),
        ];
        assert_eq!(fields, expected);
        assert_eq!(headers.get("A"), Some(""));
        assert_eq!(headers.get_all("Set-Cookie").count(), 2);
        assert_eq!(headers.get("set-cookie: d"), None);
        assert!(!headers.remove("set-cookie: d"));
        headers.set("A", "2");
        assert_eq!(headers.iter().last(), Some(("a", &b"2"[..])));
        let shown = format!("{headers:?}");
        assert!(
            shown.ends_with(r#"("set-cookie", "d: e"), ("a", "2")]"#),
            "{shown}"
        );
        // What is cut off is not made up.
        for (end, _) in block.char_indices() {
            assert!(Headers::given(block[..end].to_owned()).iter().count() < 4);
        }
    }

    #[test]
    fn fields_from_elsewhere_take_the_place_of_all_that_were_given() {
        let new = changes(|headers| {
            *headers = Headers::default();
            headers.append("e", "1");
        });
        assert_eq!(words(&new), ["clear", "append e=1"]);
        // Those of another call, which has its own names for what changed.
        let other = Headers::given("f: 2\r\n".to_owned());
        let other = changes(|headers| *headers = other);
        assert_eq!(words(&other), ["clear", "append f=2"]);

        let (request, _) = given();
        let response = wit::Response {
            status: 200,
            headers: "g: 3\r\n".to_owned(),
        };
        let said = call_origin_response(request, response, None, |request, mut response, _| {
            response.headers = request.headers;
            response
        });
        let wit::ResponseAction::Replace(replaced) = said else {
            panic!("not replaced");
        };
        let expected = [
            "clear",
            "append a=1",
            "append b=2",
            "append a=3",
            "append c=4",
        ];
        assert_eq!(words(&replaced.headers), expected);
    }

    #[test]
    fn a_response_hook_sees_the_response_and_what_it_is_given_of_the_body() {
        let body = wit::Body {
            data: b"abc".to_vec(),
            truncated: true,
        };
        let response = wit::Response {
            status: 204,
            headers: String::new(),
        };
        let next = call_origin_response(given().0, response, Some(body), |_, response, body| {
            assert_eq!(response.status, 204);
            assert!(body.is_some_and(|body| body.data == b"abc" && body.truncated));
            ResponseAction::Next
        });
        assert!(matches!(next, wit::ResponseAction::Next));
    }
}
