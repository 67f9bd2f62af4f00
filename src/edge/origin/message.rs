//! A request on its way to one server or another.
//!
//! It is written anew for each connection: origin form and `Host` for HTTP/1.1, pseudo-header fields for HTTP/2. Of what the viewer
//! sent to name a target only path and query are left.

use http::{
    HeaderMap, HeaderValue, Method, Request, Uri, Version, header, request,
    uri::{self, Authority, PathAndQuery, Scheme},
};
use http_body::Body as _;

use super::{OriginError, body::RequestBody};

/// What is sent, apart from whom it is sent to.
pub(super) struct Message {
    pub(super) method: Method,
    /// Without the server's base.
    pub(super) path: PathAndQuery,
    pub(super) headers: HeaderMap,
    pub(super) body: RequestBody,
}

impl Message {
    pub(super) fn new(head: request::Parts, body: RequestBody) -> Result<Self, OriginError> {
        if head.method == Method::CONNECT {
            return Err(OriginError::InvalidRequest("CONNECT asks for a tunnel"));
        }
        let path = match head.uri.into_parts().path_and_query {
            Some(path) if path.as_str().starts_with('/') => path,
            Some(path) if path.as_str() == "*" && head.method == Method::OPTIONS => path,
            Some(_) | None => {
                return Err(OriginError::InvalidRequest("its target is no path"));
            }
        };
        Ok(Self {
            method: head.method,
            path,
            headers: head.headers,
            body,
        })
    }

    /// The same once more. To be asked of a message without a body.
    pub(super) fn spare(&self) -> Self {
        Self {
            method: self.method.clone(),
            path: self.path.clone(),
            headers: self.headers.clone(),
            body: RequestBody::Empty,
        }
    }
}

/// Whom a message is sent to.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) scheme: Scheme,
    pub(super) host: Host,
    /// What goes before every path; empty, or it begins with `/` and does not end so.
    pub(super) base: Box<str>,
}

/// A host, as both protocols write it.
#[derive(Clone)]
pub(super) struct Host {
    authority: Authority,
    value: HeaderValue,
}

impl Host {
    pub(super) fn new(authority: Authority) -> Option<Self> {
        let value = HeaderValue::from_str(authority.as_str()).ok()?;
        Some(Self { authority, value })
    }
}

impl Target {
    /// The message for a connection to this target. `host` is sent in place of the target's own.
    pub(super) fn address(
        &self,
        message: Message,
        host: Option<&Host>,
        http2: bool,
    ) -> Result<Request<RequestBody>, OriginError> {
        let Message {
            method,
            path,
            mut headers,
            body,
        } = message;
        let path = self.based(path)?;
        let host = host.unwrap_or(&self.host);
        let (uri, version) = if http2 {
            // Of an earlier attempt on HTTP/1.1.
            headers.remove(header::HOST);
            headers.remove(header::CONNECTION);
            headers.remove(header::TRANSFER_ENCODING);
            let mut parts = uri::Parts::default();
            parts.scheme = Some(self.scheme.clone());
            parts.authority = Some(host.authority.clone());
            parts.path_and_query = Some(path);
            let uri = Uri::from_parts(parts)
                .map_err(|_| OriginError::InvalidRequest("its target is no path"))?;
            (uri, Version::HTTP_2)
        } else {
            headers.insert(header::HOST, host.value.clone());
            frame(&method, &mut headers, &body);
            (Uri::from(path), Version::HTTP_11)
        };
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.version_mut() = version;
        *request.headers_mut() = headers;
        Ok(request)
    }

    fn based(&self, path: PathAndQuery) -> Result<PathAndQuery, OriginError> {
        if self.base.is_empty() || path.as_str() == "*" {
            return Ok(path);
        }
        PathAndQuery::try_from(format!("{}{path}", self.base))
            .map_err(|_| OriginError::InvalidRequest("its target is no path"))
    }
}

/// Says what hyper would leave unsaid of an HTTP/1.1 request; the rest of the framing is hyper's.
fn frame(method: &Method, headers: &mut HeaderMap, body: &RequestBody) {
    if headers.contains_key(header::TE) {
        // RFC 9110 §10.1.4.
        headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
    }
    if body.is_end_stream() {
        // RFC 9110 §8.6: of a method that expects a body, the length is told even if it is 0.
        if matches!(*method, Method::POST | Method::PUT | Method::PATCH) {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
    } else if body.size_hint().exact().is_none() {
        // hyper leaves out a GET's body whose length it does not know, unless told otherwise.
        headers.insert(
            header::TRANSFER_ENCODING,
            HeaderValue::from_static("chunked"),
        );
    }
}
