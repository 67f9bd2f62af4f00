//! The body of a request on HTTP/3.

use std::{
    fmt,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use h3::{error::Code, server::RequestStream};
use http::{HeaderMap, header};
use http_body::{Frame, SizeHint};

use super::{super::body::BoxError, quic::RecvStream};

/// A body that is read as it is asked for: what is not waits in the client, but for the stream's window. Dropping it early asks
/// the client to send no more.
pub(in crate::ingress) struct Body {
    stream: RequestStream<RecvStream, Bytes>,
    /// What came with the head.
    first: Option<Result<Frame<Bytes>, BoxError>>,
    /// What is to come of a body whose length was told.
    remaining: Option<u64>,
    stage: Stage,
}

/// How far a body is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Data,
    Trailers,
    Ended,
}

/// A body is not as long as its `Content-Length` says, which is malformed (RFC 9114 section 4.1.2).
#[derive(Debug, thiserror::Error)]
#[error("the body's length is not the one that was told")]
struct WrongLength;

/// Why a `Content-Length` cannot be understood.
#[derive(Debug)]
pub(super) struct InvalidLength;

/// The length that a message tells. One that is told again the same way is as good as told once (RFC 9110 section 8.6).
pub(super) fn length(headers: &HeaderMap) -> Result<Option<u64>, InvalidLength> {
    let mut told = None;
    for value in headers.get_all(header::CONTENT_LENGTH) {
        let digits = value.as_bytes();
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return Err(InvalidLength);
        }
        let length = value.to_str().ok().and_then(|value| value.parse().ok());
        let length: u64 = length.ok_or(InvalidLength)?;
        if told.is_some_and(|told| told != length) {
            return Err(InvalidLength);
        }
        told = Some(length);
    }
    Ok(told)
}

impl Body {
    /// The body of a request whose head was read, with what of it is there: so it is known of most that they are empty.
    pub(super) async fn begin(
        stream: RequestStream<RecvStream, Bytes>,
        length: Option<u64>,
    ) -> Self {
        let mut body = Self {
            stream,
            first: None,
            remaining: length,
            stage: Stage::Data,
        };
        std::future::poll_fn(|cx| {
            if let Poll::Ready(first) = body.poll_stream(cx) {
                body.first = first;
            }
            Poll::Ready(())
        })
        .await;
        body
    }

    pub(in crate::ingress) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(first)),
            None => self.poll_stream(cx),
        }
    }

    fn poll_stream(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let read = match self.stage {
            Stage::Data => ready!(self.poll_data(cx)),
            Stage::Trailers => ready!(self.poll_trailers(cx)),
            Stage::Ended => None,
        };
        if matches!(read, Some(Err(_)) | None) {
            // h3 is not to be asked again after an error.
            self.stage = Stage::Ended;
        }
        Poll::Ready(read)
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let data = match ready!(self.stream.poll_recv_data(cx)) {
            Ok(Some(mut data)) => data.copy_to_bytes(data.remaining()),
            Ok(None) => {
                if self.remaining.is_some_and(|remaining| remaining > 0) {
                    return Poll::Ready(Some(Err(self.malformed())));
                }
                self.stage = Stage::Trailers;
                return self.poll_trailers(cx);
            }
            Err(error) => return Poll::Ready(Some(Err(error.into()))),
        };
        if let Some(remaining) = &mut self.remaining {
            let Some(left) = remaining.checked_sub(data.len() as u64) else {
                return Poll::Ready(Some(Err(self.malformed())));
            };
            *remaining = left;
        }
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn poll_trailers(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let trailers = ready!(self.stream.poll_recv_trailers(cx));
        self.stage = Stage::Ended;
        Poll::Ready(match trailers {
            Ok(trailers) => trailers.map(|trailers| Ok(Frame::trailers(trailers))),
            Err(error) => Some(Err(error.into())),
        })
    }

    fn malformed(&mut self) -> BoxError {
        self.stream.stop_sending(Code::H3_MESSAGE_ERROR);
        WrongLength.into()
    }

    pub(in crate::ingress) fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.stage == Stage::Ended
    }

    pub(in crate::ingress) fn size_hint(&self) -> SizeHint {
        let first = match &self.first {
            Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len) as u64,
            Some(Err(_)) | None => 0,
        };
        match self.remaining {
            Some(remaining) => SizeHint::with_exact(remaining.saturating_add(first)),
            None if self.stage == Stage::Ended => SizeHint::with_exact(first),
            None => {
                let mut hint = SizeHint::new();
                hint.set_lower(first);
                hint
            }
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Body")
            .field("remaining", &self.remaining)
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_told_once_or_the_same_way() {
        for (values, told) in [
            (&[][..], Some(None)),
            (&["0"], Some(Some(0))),
            (&["12"], Some(Some(12))),
            (&["12", "12"], Some(Some(12))),
            (&["12", "13"], None),
            (&["+12"], None),
            (&["-1"], None),
            (&[""], None),
            (&["12, 12"], None),
            (&["99999999999999999999"], None),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::CONTENT_LENGTH, value.parse().unwrap());
            }
            assert_eq!(length(&headers).ok(), told, "{values:?}");
        }
    }
}
