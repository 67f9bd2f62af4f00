//! What a request hook sees and what it may answer.
//!
//! A hook is given heads as they are, borrowed; what it answers is owned, and was checked: whoever has a
//! [`RequestAction`] or a [`ResponseAction`] can send on what becomes of the head that the hook saw.

use std::{fmt, net::IpAddr};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, request, response};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The most bytes of a body that a hook makes, and of one that it is given.
pub const MAX_BODY: usize = 1 << 20;

/// A place on the way through a distribution where a hook can stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Point {
    /// Before the cache.
    ViewerRequest,
    /// After a miss, before the origin.
    OriginRequest,
    /// After the origin, before the response is stored.
    OriginResponse,
    /// Before the client.
    ViewerResponse,
}

impl Point {
    /// Every point, in the order of a request's way.
    pub const ALL: [Self; 4] = [
        Self::ViewerRequest,
        Self::OriginRequest,
        Self::OriginResponse,
        Self::ViewerResponse,
    ];

    /// Its name, which is also that of the interface in `wharf:edge`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ViewerRequest => "viewer-request",
            Self::OriginRequest => "origin-request",
            Self::OriginResponse => "origin-response",
            Self::ViewerResponse => "viewer-response",
        }
    }

    /// Whether a hook there sees a response, and not a request alone.
    pub const fn sees_response(self) -> bool {
        matches!(self, Self::OriginResponse | Self::ViewerResponse)
    }

    /// Its name as a key of a manifest.
    pub const fn key(self) -> &'static str {
        match self {
            Self::ViewerRequest => "viewer_request",
            Self::OriginRequest => "origin_request",
            Self::OriginResponse => "origin_response",
            Self::ViewerResponse => "viewer_response",
        }
    }

    /// Whether a hook there can be given a body.
    pub const fn may_see_body(self) -> bool {
        matches!(self, Self::OriginRequest | Self::OriginResponse)
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Point {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A set of points: those at which a component can stand. Serialized as a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Points(u8);

impl Points {
    /// No point at all.
    pub const NONE: Self = Self(0);

    /// Whether this is one of them.
    pub const fn contains(self, point: Point) -> bool {
        self.0 & point.bit() != 0
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each, in the order of a request's way.
    pub fn iter(self) -> impl Iterator<Item = Point> {
        Point::ALL
            .into_iter()
            .filter(move |point| self.contains(*point))
    }
}

impl FromIterator<Point> for Points {
    fn from_iter<I: IntoIterator<Item = Point>>(points: I) -> Self {
        let bits = points.into_iter().map(Point::bit);
        Self(bits.fold(0, |all, bit| all | bit))
    }
}

impl fmt::Display for Points {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, point) in self.iter().enumerate() {
            if position > 0 {
                formatter.write_str(", ")?;
            }
            point.fmt(formatter)?;
        }
        Ok(())
    }
}

impl Serialize for Points {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Points {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::<Point>::deserialize(deserializer)?
            .into_iter()
            .collect())
    }
}

/// Who sent a request.
#[derive(Debug, Clone, Copy)]
pub struct Client<'a> {
    /// Their address.
    pub address: IpAddr,
    /// The TLS version, such as `TLSv1.3`; none on clear text.
    pub tls_version: Option<&'a str>,
    /// The ISO 3166-1 alpha-2 country of the address, where the node can tell it.
    pub country: Option<&'a str>,
}

/// The head of a request that a hook is shown. Its URI is absolute, and it has no `Host` beside it.
#[derive(Debug, Clone, Copy)]
pub struct RequestHead<'a> {
    /// The method.
    pub method: &'a Method,
    /// Scheme, authority, path and query.
    pub uri: &'a Uri,
    /// The header fields.
    pub headers: &'a HeaderMap,
}

impl<'a> From<&'a request::Parts> for RequestHead<'a> {
    fn from(head: &'a request::Parts) -> Self {
        Self {
            method: &head.method,
            uri: &head.uri,
            headers: &head.headers,
        }
    }
}

/// The head of a response that a hook is shown.
#[derive(Debug, Clone, Copy)]
pub struct ResponseHead<'a> {
    /// The status.
    pub status: StatusCode,
    /// The header fields.
    pub headers: &'a HeaderMap,
}

impl<'a> From<&'a response::Parts> for ResponseHead<'a> {
    fn from(head: &'a response::Parts) -> Self {
        Self {
            status: head.status,
            headers: &head.headers,
        }
    }
}

/// A body, as far as a hook is shown it.
#[derive(Debug, Clone, Copy)]
pub struct SeenBody<'a> {
    /// Its first bytes, with whatever content coding it has.
    pub data: &'a [u8],
    /// Whether there are more.
    pub truncated: bool,
}

/// What a hook is shown, but for the response at the points that see one.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// The request, as the hooks before made it.
    pub request: RequestHead<'a>,
    /// Who sent it.
    pub client: Client<'a>,
    /// The body of what passes the point, where the hook may be given one.
    pub body: Option<SeenBody<'a>>,
}

/// What happens after a hook at [`Point::ViewerRequest`] or [`Point::OriginRequest`].
#[derive(Debug, Clone)]
pub enum RequestAction {
    /// Go on with the request as it came.
    Next,
    /// Go on with this one. Without a body, that of the request stays.
    Forward(Box<Forward>),
    /// Answer the client with this response; nothing further is asked. Without a body it is empty.
    Respond(Box<HookResponse>),
}

/// A request as a hook changed it.
#[derive(Debug, Clone)]
pub struct Forward {
    /// The method.
    pub method: Method,
    /// Scheme, authority, path and query. The path has no dot segment.
    pub uri: Uri,
    /// What changes in its header fields: no `Host`, none that is for one hop, neither `Via` nor `CDN-Loop`. The `Content-Length`
    /// is left alone, or is that of the body here.
    pub headers: HeaderChanges,
    /// A body made by the hook.
    pub body: Option<Bytes>,
    /// The origin to use, by a name that the distribution may not have.
    pub origin: Option<String>,
    /// The cache key to use.
    pub cache_key: Option<String>,
}

/// What happens after a hook at [`Point::OriginResponse`] or [`Point::ViewerResponse`].
#[derive(Debug, Clone)]
pub enum ResponseAction {
    /// Go on with the response as it came.
    Next,
    /// Go on with this one. Without a body, that of the response stays.
    Replace(Box<Replace>),
}

/// A response as a hook changed it.
#[derive(Debug, Clone)]
pub struct Replace {
    /// The status, 200 to 599.
    pub status: StatusCode,
    /// What changes in its header fields: none that is for one hop. The `Content-Length` is left alone, or follows the body here.
    pub headers: HeaderChanges,
    /// A body made by the hook.
    pub body: Option<Bytes>,
}

/// Changes to the header fields of a head, one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeaderChanges(pub Vec<HeaderChange>);

/// A change to header fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderChange {
    /// Removes the fields of a name.
    Remove(HeaderName),
    /// Puts a field in the place of those of its name.
    Set(HeaderName, HeaderValue),
    /// Adds a field beside those of its name.
    Append(HeaderName, HeaderValue),
}

impl HeaderChange {
    /// The name of the fields that it changes.
    pub fn name(&self) -> &HeaderName {
        match self {
            Self::Remove(name) | Self::Set(name, _) | Self::Append(name, _) => name,
        }
    }
}

impl HeaderChanges {
    /// Whether one of them gives a name a value.
    pub fn give(&self, name: &HeaderName) -> bool {
        self.0.iter().any(|change| match change {
            HeaderChange::Remove(_) => false,
            HeaderChange::Set(given, _) | HeaderChange::Append(given, _) => given == name,
        })
    }

    /// Changes the fields of a head.
    pub fn apply(self, headers: &mut HeaderMap) {
        for change in self.0 {
            match change {
                HeaderChange::Remove(name) => {
                    headers.remove(name);
                }
                HeaderChange::Set(name, value) => {
                    headers.insert(name, value);
                }
                HeaderChange::Append(name, value) => {
                    headers.append(name, value);
                }
            }
        }
    }
}

/// A response that a request hook made.
#[derive(Debug, Clone)]
pub struct HookResponse {
    /// The status, 200 to 599.
    pub status: StatusCode,
    /// The header fields: none that is for one hop, no `Content-Length`.
    pub headers: HeaderMap,
    /// A body made by the hook.
    pub body: Option<Bytes>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_points_is_a_list_of_names() {
        let points: Points = [Point::ViewerResponse, Point::ViewerRequest]
            .into_iter()
            .collect();
        assert_eq!(points.to_string(), "viewer-request, viewer-response");
        assert!(points.contains(Point::ViewerRequest) && !points.contains(Point::OriginRequest));
        let json = serde_json::to_value(points).unwrap();
        assert_eq!(
            json,
            serde_json::json!(["viewer-request", "viewer-response"])
        );
        assert_eq!(serde_json::from_value::<Points>(json).unwrap(), points);
        assert!(Points::NONE.is_empty());
        for point in Point::ALL {
            assert_eq!(serde_json::to_value(point).unwrap(), point.name());
        }
    }
}
