//! h3's idea of QUIC, by quinn.
//!
//! Not by the crate h3-quinn: that one panics when a stream is to be stopped while it is read from, ends a stream that was
//! dropped as if it were complete, and gives no way to hear that a client has stopped listening.

use std::{
    error::Error,
    fmt,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use futures::{
    future::BoxFuture,
    stream::{self, BoxStream, StreamExt as _},
};
use h3::{
    error::Code,
    quic::{self, ConnectionErrorIncoming, StreamErrorIncoming, StreamId, WriteBuf},
};
use quinn::VarInt;

use super::frames::{Fault, Frames};

/// Done when a client wants no more of an answer (with its reason), or has acknowledged all of one that was finished.
pub(super) type Stopped = BoxFuture<'static, Result<Option<VarInt>, quinn::StoppedError>>;

/// A bare answer of status 431: a HEADERS frame of ten bytes. Its one field is `:status`, whose name stands at 24 in the static
/// table (RFC 9204 section 4.5.4 and appendix A).
const HEAD_TOO_LARGE: &[u8] = b"\x01\x08\0\0\x5f\x09\x03431";

/// A code as quinn has it.
pub(super) fn varint(code: Code) -> VarInt {
    VarInt::from_u64(code.value()).unwrap_or(VarInt::MAX)
}

/// A connection for h3.
pub(super) struct Quic {
    opener: Opener,
    bidirectional:
        BoxStream<'static, Result<(quinn::SendStream, quinn::RecvStream), quinn::ConnectionError>>,
    unidirectional: BoxStream<'static, Result<quinn::RecvStream, quinn::ConnectionError>>,
    head: u64,
    accepted: Accepted,
}

/// What h3 does not hand on of the request that it last accepted.
#[derive(Clone, Default)]
pub(super) struct Accepted(Arc<Mutex<Option<Stopped>>>);

impl Accepted {
    /// To be asked when h3 has accepted a request, once.
    pub(super) fn take(&self) -> Option<Stopped> {
        self.slot().take()
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Stopped>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Quic {
    /// The connection, whose requests have heads of up to `head` bytes, encoded.
    pub(super) fn new(connection: &quinn::Connection, head: u64) -> Self {
        let bidirectional = stream::unfold(connection.clone(), async |connection| {
            Some((connection.accept_bi().await, connection))
        });
        let unidirectional = stream::unfold(connection.clone(), async |connection| {
            Some((connection.accept_uni().await, connection))
        });
        Self {
            opener: Opener {
                connection: connection.clone(),
                opening: None,
            },
            bidirectional: bidirectional.boxed(),
            unidirectional: unidirectional.boxed(),
            head,
            accepted: Accepted::default(),
        }
    }

    pub(super) fn accepted(&self) -> Accepted {
        self.accepted.clone()
    }
}

impl quic::Connection<Bytes> for Quic {
    type RecvStream = RecvStream;
    type OpenStreams = Opener;

    fn poll_accept_recv(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<RecvStream, ConnectionErrorIncoming>> {
        let accepted = ready!(self.unidirectional.poll_next_unpin(cx));
        let Some(accepted) = accepted else {
            return Poll::Pending;
        };
        let stream = accepted.map_err(connection_error)?;
        Poll::Ready(Ok(RecvStream {
            stream,
            frames: Frames::unidirectional(),
            connection: self.opener.connection.clone(),
        }))
    }

    fn poll_accept_bidi(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<BidiStream, ConnectionErrorIncoming>> {
        let accepted = ready!(self.bidirectional.poll_next_unpin(cx));
        let Some(accepted) = accepted else {
            return Poll::Pending;
        };
        let (send, receive) = accepted.map_err(connection_error)?;
        *self.accepted.slot() = Some(Box::pin(send.stopped()));
        Poll::Ready(Ok(BidiStream {
            send: SendStream::new(send),
            receive: RecvStream {
                stream: receive,
                frames: Frames::of_request(self.head),
                connection: self.opener.connection.clone(),
            },
        }))
    }

    fn opener(&self) -> Opener {
        Opener {
            connection: self.opener.connection.clone(),
            opening: None,
        }
    }
}

impl quic::OpenStreams<Bytes> for Quic {
    type BidiStream = BidiStream;
    type SendStream = SendStream;

    fn poll_open_bidi(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<BidiStream, StreamErrorIncoming>> {
        self.opener.poll_open_bidi(cx)
    }

    fn poll_open_send(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<SendStream, StreamErrorIncoming>> {
        self.opener.poll_open_send(cx)
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        self.opener.close(code, reason);
    }
}

/// Opens streams: those for control and for QPACK.
pub(super) struct Opener {
    connection: quinn::Connection,
    opening: Option<BoxFuture<'static, Result<quinn::SendStream, quinn::ConnectionError>>>,
}

impl quic::OpenStreams<Bytes> for Opener {
    type BidiStream = BidiStream;
    type SendStream = SendStream;

    fn poll_open_bidi(
        &mut self,
        _cx: &mut Context<'_>,
    ) -> Poll<Result<BidiStream, StreamErrorIncoming>> {
        // RFC 9114 section 6.1: HTTP/3 has none of a server's.
        let error = "a server opens no bidirectional stream";
        Poll::Ready(Err(StreamErrorIncoming::Unknown(error.into())))
    }

    fn poll_open_send(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<SendStream, StreamErrorIncoming>> {
        let opening = self.opening.get_or_insert_with(|| {
            let connection = self.connection.clone();
            Box::pin(async move { connection.open_uni().await })
        });
        let opened = ready!(opening.as_mut().poll(cx));
        self.opening = None;
        Poll::Ready(opened.map(SendStream::new).map_err(lost))
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        self.connection.close(varint(code), reason);
    }
}

/// A request and its answer.
pub(super) struct BidiStream {
    send: SendStream,
    receive: RecvStream,
}

impl quic::BidiStream<Bytes> for BidiStream {
    type SendStream = SendStream;
    type RecvStream = RecvStream;

    fn split(self) -> (SendStream, RecvStream) {
        (self.send, self.receive)
    }
}

impl quic::RecvStream for BidiStream {
    type Buf = Bytes;

    fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        let received = ready!(self.receive.poll(cx));
        if let Err(Received::HeadTooLarge) = received {
            // Before the stream is split there is no answer yet: this is it.
            self.send.answer(HEAD_TOO_LARGE, cx);
        }
        Poll::Ready(received.map_err(Into::into))
    }

    fn stop_sending(&mut self, code: u64) {
        self.receive.stop_sending(code);
    }

    fn recv_id(&self) -> StreamId {
        self.receive.recv_id()
    }
}

impl quic::SendStream<Bytes> for BidiStream {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_ready(cx)
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        self.send.send_data(data)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_finish(cx)
    }

    fn reset(&mut self, code: u64) {
        self.send.reset(code);
    }

    fn send_id(&self) -> StreamId {
        self.send.send_id()
    }
}

/// What this node sends. One that is dropped before anything was written says that its request was not looked at; one that is
/// dropped later is finished.
pub(super) struct SendStream {
    stream: quinn::SendStream,
    writing: Option<WriteBuf<Bytes>>,
    written: bool,
}

impl SendStream {
    fn new(stream: quinn::SendStream) -> Self {
        Self {
            stream,
            writing: None,
            written: false,
        }
    }

    /// Writes a whole answer that is a few bytes, if the client has left room for it.
    fn answer(&mut self, bytes: &[u8], cx: &mut Context<'_>) {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if matches!(written, Poll::Ready(Ok(length)) if length == bytes.len()) {
            self.written = true;
            // One that was closed meanwhile needs no end.
            let _ = self.stream.finish();
        }
    }
}

impl quic::SendStream<Bytes> for SendStream {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        if let Some(writing) = &mut self.writing {
            while writing.has_remaining() {
                let written = Pin::new(&mut self.stream).poll_write(cx, writing.chunk());
                let written = ready!(written).map_err(|error| match error {
                    quinn::WriteError::Stopped(code) => StreamErrorIncoming::StreamTerminated {
                        error_code: code.into_inner(),
                    },
                    quinn::WriteError::ConnectionLost(error) => lost(error),
                    error => StreamErrorIncoming::Unknown(error.into()),
                })?;
                self.written = true;
                writing.advance(written);
            }
        }
        self.writing = None;
        Poll::Ready(Ok(()))
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        // h3 waits until it is ready for more.
        self.writing = Some(data.into());
        Ok(())
    }

    fn poll_finish(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        let finished = self.stream.finish();
        Poll::Ready(finished.map_err(|error| StreamErrorIncoming::Unknown(error.into())))
    }

    fn reset(&mut self, code: u64) {
        // One that is closed needs no reset.
        let _ = self
            .stream
            .reset(VarInt::from_u64(code).unwrap_or(VarInt::MAX));
    }

    fn send_id(&self) -> StreamId {
        id(self.stream.id())
    }
}

impl Drop for SendStream {
    fn drop(&mut self) {
        if !self.written {
            // RFC 9114 section 8.1. One that is closed needs no reset.
            let _ = self.stream.reset(varint(Code::H3_REQUEST_REJECTED));
        }
    }
}

/// What a client sends. One that is dropped early asks the client to stop, without a reproach (RFC 9114 section 4.1).
pub(super) struct RecvStream {
    stream: quinn::RecvStream,
    frames: Frames,
    connection: quinn::Connection,
}

/// Why nothing more comes.
enum Received {
    HeadTooLarge,
    Failed(StreamErrorIncoming),
}

impl RecvStream {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Received>> {
        loop {
            if let Some(piece) = self.frames.next().map_err(|fault| self.broken(fault))? {
                return Poll::Ready(Ok(Some(piece)));
            }
            // It keeps nothing between two calls: quinn has the waker.
            let read = pin!(self.stream.read_chunk(usize::MAX, true)).poll(cx);
            match ready!(read) {
                Ok(Some(chunk)) => self.frames.receive(chunk.bytes),
                Ok(None) => {
                    self.frames.end().map_err(|fault| self.broken(fault))?;
                    return Poll::Ready(Ok(None));
                }
                Err(quinn::ReadError::Reset(code)) => {
                    let error_code = code.into_inner();
                    let terminated = StreamErrorIncoming::StreamTerminated { error_code };
                    return Poll::Ready(Err(Received::Failed(terminated)));
                }
                Err(quinn::ReadError::ConnectionLost(error)) => {
                    return Poll::Ready(Err(Received::Failed(lost(error))));
                }
                Err(error) => {
                    let unknown = StreamErrorIncoming::Unknown(error.into());
                    return Poll::Ready(Err(Received::Failed(unknown)));
                }
            }
        }
    }

    fn broken(&self, fault: Fault) -> Received {
        match fault {
            Fault::HeadTooLarge => Received::HeadTooLarge,
            Fault::Connection(code, reason) => {
                self.connection.close(varint(code), reason.as_bytes());
                Received::Failed(StreamErrorIncoming::ConnectionErrorIncoming {
                    connection_error: connection_error(quinn::ConnectionError::LocallyClosed),
                })
            }
        }
    }
}

impl From<Received> for StreamErrorIncoming {
    fn from(received: Received) -> Self {
        match received {
            Received::HeadTooLarge => Self::Unknown(Box::new(HeadTooLarge)),
            Received::Failed(error) => error,
        }
    }
}

impl quic::RecvStream for RecvStream {
    type Buf = Bytes;

    fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        self.poll(cx).map_err(Into::into)
    }

    fn stop_sending(&mut self, code: u64) {
        // What is closed needs no stop.
        let _ = self
            .stream
            .stop(VarInt::from_u64(code).unwrap_or(VarInt::MAX));
    }

    fn recv_id(&self) -> StreamId {
        id(self.stream.id())
    }
}

impl Drop for RecvStream {
    fn drop(&mut self) {
        // What is closed needs no stop.
        let _ = self.stream.stop(varint(Code::H3_NO_ERROR));
    }
}

/// A field section is longer than it may be.
#[derive(Debug)]
struct HeadTooLarge;

impl fmt::Display for HeadTooLarge {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a field section is too long")
    }
}

impl Error for HeadTooLarge {}

fn id(id: quinn::StreamId) -> StreamId {
    let id = u64::from(VarInt::from(id));
    id.try_into()
        .expect("QUIC's stream ids are what HTTP/3's are")
}

fn lost(error: quinn::ConnectionError) -> StreamErrorIncoming {
    StreamErrorIncoming::ConnectionErrorIncoming {
        connection_error: connection_error(error),
    }
}

fn connection_error(error: quinn::ConnectionError) -> ConnectionErrorIncoming {
    match error {
        quinn::ConnectionError::ApplicationClosed(close) => {
            ConnectionErrorIncoming::ApplicationClose {
                error_code: close.error_code.into_inner(),
            }
        }
        quinn::ConnectionError::TimedOut => ConnectionErrorIncoming::Timeout,
        error => ConnectionErrorIncoming::Undefined(Arc::new(error)),
    }
}
