//! Answers of every kind, good and bad.

use std::io::Write as _;

use serde_json::json;
use wasip2::{
    http::types::{ErrorCode, Fields, OutgoingBody, OutgoingResponse, ResponseOutparam},
    io::streams::OutputStream,
};

use crate::request::Request;

/// The answer that is owed. Dropping it is to give none.
pub(crate) struct Answer(ResponseOutparam);

impl Answer {
    pub(crate) fn new(response: ResponseOutparam) -> Self {
        Self(response)
    }

    pub(crate) fn text(self, text: &str) {
        self.begin(&[]).write(text.as_bytes()).finish();
    }

    pub(crate) fn json(self, value: serde_json::Value) {
        self.begin(&[("content-type", "application/json")])
            .write(format!("{value}\n").as_bytes())
            .finish();
    }

    /// An empty answer of a status; what is no status to the host is reported instead.
    pub(crate) fn status(self, code: u64) {
        let response = OutgoingResponse::new(Fields::new());
        match u16::try_from(code).map(|code| response.set_status_code(code)) {
            Ok(Ok(())) => self.send(response).finish(),
            _ => self.json(json!({ "refused": code })),
        }
    }

    /// An error in place of a response.
    pub(crate) fn error(self, message: &str) {
        let error = ErrorCode::InternalError(Some(message.to_owned()));
        ResponseOutparam::set(self.0, Err(error));
    }

    /// Sends the head and gives the body.
    pub(crate) fn begin(self, headers: &[(&str, &str)]) -> Body {
        self.send(OutgoingResponse::new(fields(headers)))
    }

    fn send(self, response: OutgoingResponse) -> Body {
        let body = response.body().expect("the body is taken once");
        ResponseOutparam::set(self.0, Ok(response));
        Body {
            stream: body.write().ok(),
            body,
        }
    }

    /// Adds headers until the host takes no more, and sends what it took.
    pub(crate) fn huge_headers(self, value: u64) {
        let value = vec![b'x'; usize::try_from(value).unwrap_or(usize::MAX)];
        let headers = Fields::new();
        let taken = (0..1_000_000)
            .take_while(|number| headers.append(&format!("x-huge-{number}"), &value).is_ok())
            .count();
        let body = json!({ "headers": taken, "bytes": taken * value.len() });
        self.send(OutgoingResponse::new(headers))
            .write(format!("{body}\n").as_bytes())
            .finish();
    }

    /// Tries headers that would end the head, begin another, or belong to the connection, and reports what was refused.
    pub(crate) fn split_headers(self) {
        let headers = Fields::new();
        let tries: [(&str, &[u8]); 10] = [
            ("x-split", b"a\r\nx-injected: 1"),
            ("x-split", b"a\nx-injected: 1"),
            ("x-split", b"a\0b"),
            ("x-split\r\nx-injected", b"1"),
            ("x split", b"1"),
            ("", b"1"),
            ("transfer-encoding", b"chunked"),
            ("connection", b"close"),
            ("keep-alive", b"timeout=5"),
            ("upgrade", b"websocket"),
        ];
        let refused: Vec<_> = tries
            .iter()
            .filter(|(name, value)| headers.append(name, value).is_err())
            .map(|(name, value)| json!([name, String::from_utf8_lossy(value)]))
            .collect();
        let body = json!({ "tried": tries.len(), "refused": refused });
        self.send(OutgoingResponse::new(headers))
            .write(format!("{body}\n").as_bytes())
            .finish();
    }

    /// Sends the body back as it comes, headers and trailers as `x-echo-*`.
    pub(crate) fn echo(self, request: Request) {
        let headers = Fields::new();
        let line = [
            ("x-echo-method", request.method()),
            ("x-echo-target", request.target()),
            ("x-echo-authority", request.authority()),
        ];
        for (name, value) in line {
            let _ = headers.append(name, value.as_bytes());
        }
        for (name, value) in request.headers() {
            let _ = headers.append(&format!("x-echo-{name}"), &value);
        }
        let mut body = self.send(OutgoingResponse::new(headers));
        let mut incoming = request.body();
        while let Some(piece) = incoming.read() {
            if !body.is_open() {
                return;
            }
            body = body.write(&piece);
        }
        let trailers = Fields::new();
        for (name, value) in incoming.trailers() {
            let _ = trailers.append(&format!("x-echo-{name}"), &value);
        }
        body.end(Some(trailers));
    }
}

/// The body while it is written. The stream is a child of the body, so it stands first: it is dropped first.
pub(crate) struct Body {
    /// None once the client has gone.
    stream: Option<OutputStream>,
    body: OutgoingBody,
}

impl Body {
    pub(crate) fn is_open(&self) -> bool {
        self.stream.is_some()
    }

    /// Writes and flushes; nothing if the client has gone.
    pub(crate) fn write(mut self, bytes: &[u8]) -> Self {
        if let Some(stream) = &mut self.stream
            && stream
                .write_all(bytes)
                .and_then(|()| stream.flush())
                .is_err()
        {
            self.stream = None;
        }
        self
    }

    pub(crate) fn finish(self) {
        self.end(None);
    }

    pub(crate) fn finish_with(self, trailers: &[(&str, &str)]) {
        self.end(Some(fields(trailers)));
    }

    fn end(self, trailers: Option<Fields>) {
        let Self { stream, body } = self;
        drop(stream);
        // Refused when the length that was announced is not the one that was written: the host makes of it what it will.
        let _ = OutgoingBody::finish(body, trailers);
    }
}

fn fields(headers: &[(&str, &str)]) -> Fields {
    let fields = Fields::new();
    for (name, value) in headers {
        fields
            .append(name, value.as_bytes())
            .expect("a plain header is taken");
    }
    fields
}
