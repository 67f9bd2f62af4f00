//! A socket that leaves marks in [`Progress`], begins with bytes that were read before, and lets [`Framing`] see what is read.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::{
    framing::{Framing, MALFORMED},
    progress::{Progress, Protocol},
};

/// How an HTTP/2 client with prior knowledge begins (RFC 9113 §3.4). No HTTP/1.1 request does.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Reads as much of a connection as it takes to know its protocol. What was read is to be read again.
pub(super) async fn detect(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<(Protocol, Bytes)> {
    let mut head = [0; PREFACE.len()];
    let mut length = 0;
    loop {
        let read = stream.read(&mut head[length..]).await?;
        length += read;
        let seen = &head[..length];
        let protocol = if seen == PREFACE {
            Protocol::Http2
        } else if read == 0 || !PREFACE.starts_with(seen) {
            Protocol::Http1
        } else {
            continue;
        };
        return Ok((protocol, Bytes::copy_from_slice(seen)));
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Socket<S> {
    stream: S,
    read_before: Bytes,
    progress: Arc<Progress>,
    /// Of HTTP/1 only.
    framing: Option<Framing>,
    shut_down: bool,
}

impl<S> Socket<S> {
    /// A socket that speaks `protocol`, for as long as it does not become a tunnel.
    pub(super) fn new(
        stream: S,
        read_before: Bytes,
        protocol: Protocol,
        progress: &Arc<Progress>,
    ) -> Self {
        Self {
            stream,
            read_before,
            progress: Arc::clone(progress),
            framing: (protocol == Protocol::Http1).then(Framing::default),
            shut_down: false,
        }
    }

    /// What comes from here on is no HTTP, or nobody's to read: it is not looked at, and nothing of it is kept.
    pub(super) fn look_away(&mut self) {
        self.framing = None;
    }

    /// The connection is a tunnel from here on. What was read and was not meant for who read it is put back.
    pub(super) fn switch(&mut self, bytes: Bytes) {
        self.look_away();
        if self.read_before.is_empty() {
            self.read_before = bytes;
        } else {
            self.read_before = [bytes, self.read_before.split_off(0)].concat().into();
        }
    }

    /// Whether everything was written and the client told that no more comes.
    pub(super) fn is_shut_down(&self) -> bool {
        self.shut_down
    }

    /// How many of these bytes, which just came, may be read.
    fn admit(&mut self, bytes: &[u8]) -> usize {
        self.progress.read();
        let Some(framing) = &mut self.framing else {
            return bytes.len();
        };
        if framing.may_switch() && self.progress.is_switching() {
            return bytes.len();
        }
        let Some(admitted) = framing.fault(bytes) else {
            return bytes.len();
        };
        self.framing = None;
        self.read_before = Bytes::from_static(MALFORMED);
        admitted
    }

    fn mark_write<T>(&self, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match &poll {
            Poll::Pending => self.progress.write_is_blocked(),
            Poll::Ready(Ok(_)) => self.progress.wrote(),
            Poll::Ready(Err(_)) => {}
        }
        poll
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Socket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let filled = buffer.filled().len();
        if self.read_before.is_empty() {
            ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        } else {
            let length = self.read_before.len().min(buffer.remaining());
            buffer.put_slice(&self.read_before[..length]);
            self.read_before.advance(length);
        }
        let came = &buffer.filled()[filled..];
        if came.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let admitted = self.admit(came);
        buffer.set_filled(filled + admitted);
        if admitted == 0 {
            // To read nothing would be the end.
            return self.poll_read(cx, buffer);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.mark_write(poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.mark_write(poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    // A TLS stream takes bytes that the socket does not: they wait here.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_flush(cx);
        self.mark_write(poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.shut_down = matches!(poll, Poll::Ready(Ok(())));
        self.mark_write(poll)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_is_http2_only_after_the_whole_preface() {
        for (bytes, protocol) in [
            (&PREFACE[..], Protocol::Http2),
            (&PREFACE[..23], Protocol::Http1),
            (b"PRI / HTTP/1.1\r\nhost: h\r\n\r\n", Protocol::Http1),
            (b"G", Protocol::Http1),
            (b"", Protocol::Http1),
        ] {
            let (detected, read) = detect(&mut &*bytes).await.unwrap();
            assert_eq!(detected, protocol);
            assert!(bytes.starts_with(&read));
        }
    }
}
