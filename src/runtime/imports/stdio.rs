//! A guest's standard input, output and error.
//!
//! The streams belong to the instance and outlive an invocation where the instance is used again, so what they lead to
//! is switched: [`Stdio::begin`] says whose output it is from now on. Output goes to the function's log; for a
//! `wasi:cli` command standard input is the event and standard output the answer, and only standard error is log.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wasmtime_wasi::{
    async_trait,
    cli::{IsTerminal, StdinStream, StdoutStream},
};
use wasmtime_wasi_io::{
    poll::Pollable,
    streams::{InputStream, OutputStream, StreamError, StreamResult},
};

use crate::{
    model::{ByteSize, RequestId, Version},
    telemetry::logs::{FunctionLog, Level, OutputCapture},
};

/// What the guest may write before it asks again, as large as the largest write that wasi-libc makes.
const WRITE_BUDGET: usize = 64 << 10;

/// The standard streams of one instance. Clones are the same streams.
#[derive(Debug, Clone)]
pub(crate) struct Stdio(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    capture: OutputCapture,
    input: Bytes,
    answer: Option<Answer>,
}

/// The standard output of a command.
#[derive(Debug)]
struct Answer {
    bytes: Vec<u8>,
    limit: usize,
    exceeded: bool,
}

/// A command printed more than an answer may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer on standard output is larger than allowed")]
pub(crate) struct AnswerTooLarge;

impl Stdio {
    /// Streams of an instance that has no invocation yet: input is empty, output goes nowhere.
    pub(crate) fn new(log: Arc<FunctionLog>) -> Self {
        Self(Arc::new(Mutex::new(State {
            capture: OutputCapture::new(log),
            input: Bytes::new(),
            answer: None,
        })))
    }

    /// Standard input, for a `WasiCtxBuilder`.
    pub(crate) fn stdin(&self) -> impl StdinStream + 'static {
        Stdin(self.clone())
    }

    /// Standard output.
    pub(crate) fn stdout(&self) -> impl StdoutStream + 'static {
        Output(self.clone(), Which::Stdout)
    }

    /// Standard error.
    pub(crate) fn stderr(&self) -> impl StdoutStream + 'static {
        Output(self.clone(), Which::Stderr)
    }

    /// From now on output belongs to this invocation, which may log up to `log` bytes.
    pub(crate) fn begin(&self, request_id: RequestId, version: Version, log: ByteSize) {
        let mut state = self.lock();
        state.capture.begin(request_id, version, log);
        state.input = Bytes::new();
        state.answer = None;
    }

    /// As [`begin`](Self::begin), for a command: `event` is its input, and up to `response` bytes of output its answer.
    pub(crate) fn begin_command(
        &self,
        request_id: RequestId,
        version: Version,
        log: ByteSize,
        event: Bytes,
        response: ByteSize,
    ) {
        let mut state = self.lock();
        state.capture.begin(request_id, version, log);
        state.input = event;
        state.answer = Some(Answer {
            bytes: Vec::new(),
            limit: response.as_usize(),
            exceeded: false,
        });
    }

    /// A message of `wasi:logging`.
    pub(crate) fn log(&self, level: Level, context: &str, message: &str) {
        self.lock().capture.log(level, context, message);
    }

    /// The invocation is over: its last line is complete as it is. Answers what a command printed.
    pub(crate) fn end(&self) -> Result<Bytes, AnswerTooLarge> {
        let mut state = self.lock();
        state.capture.end();
        state.input = Bytes::new();
        match state.answer.take() {
            Some(answer) if answer.exceeded => Err(AnswerTooLarge),
            Some(answer) => Ok(answer.bytes.into()),
            None => Ok(Bytes::new()),
        }
    }

    fn write(&self, which: Which, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.lock();
        match (which, &mut state.answer) {
            (Which::Stdout, Some(answer)) => {
                if answer.exceeded || answer.bytes.len() + bytes.len() > answer.limit {
                    // What is there is of no use any more; a guest that hears of it can stop.
                    answer.exceeded = true;
                    answer.bytes = Vec::new();
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
                answer.bytes.extend_from_slice(bytes);
            }
            (Which::Stdout, None) => state.capture.stdout(bytes),
            (Which::Stderr, _) => state.capture.stderr(bytes),
        }
        Ok(())
    }

    fn read(&self, most: usize) -> Bytes {
        let mut state = self.lock();
        let most = most.min(state.input.len());
        state.input.split_to(most)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Clone, Copy)]
enum Which {
    Stdout,
    Stderr,
}

/// Standard output or error of an instance.
#[derive(Debug, Clone)]
struct Output(Stdio, Which);

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.0
            .write(self.1, &bytes)
            .map_err(|_| StreamError::Closed)
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BUDGET)
    }
}

impl AsyncWrite for Output {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(self.0.write(self.1, bytes).map(|()| bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Standard input of an instance. Every stream made of it reads on where another stopped.
#[derive(Debug, Clone)]
struct Stdin(Stdio);

impl IsTerminal for Stdin {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdinStream for Stdin {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Pollable for Stdin {
    async fn ready(&mut self) {}
}

impl InputStream for Stdin {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        let bytes = self.0.read(size);
        if bytes.is_empty() && size > 0 {
            return Err(StreamError::Closed);
        }
        Ok(bytes)
    }
}

impl AsyncRead for Stdin {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut bytes = self.0.read(buffer.remaining());
        while bytes.has_remaining() {
            let chunk = bytes.chunk();
            buffer.put_slice(chunk);
            bytes.advance(chunk.len());
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::telemetry::logs::{LogLimits, Logs, TailFrom};

    fn stdio(logs: &Logs) -> Stdio {
        Stdio::new(logs.function(&"hello".parse().unwrap()))
    }

    #[tokio::test]
    async fn a_command_reads_its_event_and_prints_its_answer() {
        let folder = tempfile::tempdir().unwrap();
        let logs = Logs::open(folder.path(), LogLimits::default()).unwrap();
        let stdio = stdio(&logs);
        stdio.begin_command(
            RequestId::generate(),
            Version::Latest,
            ByteSize::kb(1),
            Bytes::from_static(b"{\"event\":1}"),
            ByteSize::bytes(10),
        );
        // One stream of 0.2 and one of 0.3: they share what there is to read.
        let mut first = stdio.stdin().p2_stream();
        assert_eq!(first.read(4).unwrap(), "{\"ev");
        let mut text = String::new();
        let mut second = Pin::from(stdio.stdin().async_stream());
        second.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "ent\":1}");
        assert!(matches!(first.read(4), Err(StreamError::Closed)));

        stdio.stdout().p2_stream().write("12345".into()).unwrap();
        let mut stdout = Pin::from(stdio.stdout().async_stream());
        stdout.write_all(b"67890").await.unwrap();
        stdio.stderr().p2_stream().write("said\n".into()).unwrap();
        assert_eq!(stdio.end().unwrap(), "1234567890");
        assert_eq!(stdio.end().unwrap(), "");

        let mut tail = logs.tail(&"hello".parse().unwrap(), TailFrom::Last(1), false);
        assert_eq!(tail.next().await.unwrap().message, "said");
    }

    #[tokio::test]
    async fn an_answer_that_is_too_large_closes_the_stream_and_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let logs = Logs::open(folder.path(), LogLimits::default()).unwrap();
        let stdio = stdio(&logs);
        stdio.begin_command(
            RequestId::generate(),
            Version::Latest,
            ByteSize::kb(1),
            Bytes::new(),
            ByteSize::bytes(4),
        );
        let mut stdout = stdio.stdout().p2_stream();
        stdout.write("1234".into()).unwrap();
        assert!(matches!(stdout.write("5".into()), Err(StreamError::Closed)));
        assert!(matches!(stdout.write("".into()), Err(StreamError::Closed)));
        assert_eq!(stdio.end(), Err(AnswerTooLarge));
    }
}
