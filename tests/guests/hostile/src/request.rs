//! The request, with its query taken apart.

use wasip2::{
    http::types::{FutureTrailers, IncomingBody, IncomingRequest},
    io::streams::InputStream,
};

pub(crate) struct Request {
    wasi: IncomingRequest,
    path: String,
    query: Vec<(String, String)>,
}

impl Request {
    pub(crate) fn new(wasi: IncomingRequest) -> Self {
        let target = wasi.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        Self {
            path: path.to_owned(),
            query: form_urlencoded::parse(query.as_bytes())
                .into_owned()
                .collect(),
            wasi,
        }
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// A text of the query, empty if it is not there.
    pub(crate) fn text(&self, key: &str) -> &str {
        let pair = self.query.iter().find(|(name, _)| name == key);
        pair.map_or("", |(_, value)| value)
    }

    /// A number of the query, or the default if it is not there or no number.
    pub(crate) fn number(&self, key: &str, default: u64) -> u64 {
        self.text(key).parse().unwrap_or(default)
    }

    pub(crate) fn method(&self) -> String {
        format!("{:?}", self.wasi.method())
            .trim_start_matches("Method::")
            .to_uppercase()
    }

    pub(crate) fn target(&self) -> String {
        self.wasi.path_with_query().unwrap_or_default()
    }

    pub(crate) fn authority(&self) -> String {
        self.wasi.authority().unwrap_or_default()
    }

    pub(crate) fn headers(&self) -> Vec<(String, Vec<u8>)> {
        self.wasi.headers().entries()
    }

    pub(crate) fn body(&self) -> Body {
        let body = self.wasi.consume().expect("the body is taken once");
        let stream = body.stream().expect("the stream is taken once");
        Body { stream, body }
    }

    /// Reads the body to its end and says how long it was.
    pub(crate) fn read_body(&self) -> u64 {
        let mut body = self.body();
        std::iter::from_fn(|| body.read())
            .map(|piece| piece.len() as u64)
            .sum()
    }
}

/// The body while it is read. The stream is a child of the body, so it stands first: it is dropped first.
pub(crate) struct Body {
    stream: InputStream,
    body: IncomingBody,
}

impl Body {
    /// The next piece; none at the end, and none if the client broke off.
    pub(crate) fn read(&mut self) -> Option<Vec<u8>> {
        self.stream.blocking_read(64 << 10).ok()
    }

    /// The trailers after the end.
    pub(crate) fn trailers(self) -> Vec<(String, Vec<u8>)> {
        drop(self.stream);
        let trailers: FutureTrailers = IncomingBody::finish(self.body);
        trailers.subscribe().block();
        match trailers.get() {
            Some(Ok(Ok(Some(fields)))) => fields.entries(),
            _ => Vec::new(),
        }
    }
}
