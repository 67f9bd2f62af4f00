//! What a guest prints, cut into lines.

use std::{mem, sync::Arc};

use super::{FunctionLog, Level, Stream};
use crate::model::{ByteSize, RequestId, Version};

/// The most bytes of one line; what is longer goes on in the next.
pub const MAX_LINE: usize = 64 << 10;

/// What a line costs of the budget at least: a flood of empty lines is a flood too.
const MIN_COST: usize = 32;

/// The output of one invocation on its way to the log: bytes in, lines out, up to a budget.
///
/// It belongs to an instance and is [begun](Self::begin) anew for each invocation. While the guest prints nothing it
/// allocates nothing, and the log hears nothing.
#[derive(Debug)]
pub struct OutputCapture {
    log: Arc<FunctionLog>,
    invocation: Option<Invocation>,
    /// Lines without their end yet, of stdout and stderr.
    partial: [Vec<u8>; 2],
}

#[derive(Debug, Clone, Copy)]
struct Invocation {
    request_id: RequestId,
    version: Version,
    limit: ByteSize,
    left: usize,
}

impl OutputCapture {
    /// A capture for an instance of the function. Output before [`begin`](Self::begin) is dropped: no invocation is
    /// there to own it.
    pub fn new(log: Arc<FunctionLog>) -> Self {
        Self {
            log,
            invocation: None,
            partial: [Vec::new(), Vec::new()],
        }
    }

    /// From now on output belongs to this invocation, which may print up to `limit`.
    pub fn begin(&mut self, request_id: RequestId, version: Version, limit: ByteSize) {
        self.end();
        self.invocation = Some(Invocation {
            request_id,
            version,
            limit,
            left: limit.as_usize(),
        });
    }

    /// The invocation is over: its last line counts although no line break ended it. Call it before
    /// [`FunctionLog::report`].
    pub fn end(&mut self) {
        for (stream, index) in [(Stream::Stdout, 0), (Stream::Stderr, 1)] {
            let line = mem::take(&mut self.partial[index]);
            if !line.is_empty() {
                self.line(stream, None, &line);
            }
        }
        self.invocation = None;
    }

    /// What the guest wrote to standard output.
    pub fn stdout(&mut self, bytes: &[u8]) {
        self.write(Stream::Stdout, 0, bytes);
    }

    /// What the guest wrote to standard error.
    pub fn stderr(&mut self, bytes: &[u8]) {
        self.write(Stream::Stderr, 1, bytes);
    }

    /// What the guest said through `wasi:logging`. It is one entry, whatever line breaks it has.
    pub fn log(&mut self, level: Level, context: &str, message: &str) {
        if self.is_open() && self.log.wants(Some(level), &[]) {
            let text = if context.is_empty() {
                message.to_owned()
            } else {
                format!("{context}: {message}")
            };
            self.line(Stream::Log, Some(level), text.as_bytes());
        }
    }

    /// Whether output is still taken.
    fn is_open(&self) -> bool {
        self.invocation
            .is_some_and(|invocation| invocation.left > 0)
    }

    fn write(&mut self, stream: Stream, index: usize, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if !self.is_open() {
                self.partial[index] = Vec::new();
                return;
            }
            let (text, complete) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            self.piece(stream, index, text, complete);
        }
    }

    fn piece(&mut self, stream: Stream, index: usize, mut text: &[u8], complete: bool) {
        let mut partial = mem::take(&mut self.partial[index]);
        while partial.len() + text.len() > MAX_LINE {
            let (now, later) = text.split_at(MAX_LINE - partial.len());
            partial.extend_from_slice(now);
            // A character that the cut would split goes to the next line.
            let rest = partial.split_off(character_boundary(&partial));
            self.line(stream, None, &partial);
            partial = rest;
            text = later;
        }
        if !complete {
            partial.extend_from_slice(text);
        } else if partial.is_empty() {
            self.line(stream, None, text);
        } else {
            partial.extend_from_slice(text);
            self.line(stream, None, &partial);
            partial.clear();
        }
        self.partial[index] = partial;
    }

    /// Takes a line off the budget and puts it in the log, or says that the budget is used up.
    fn line(&mut self, stream: Stream, level: Option<Level>, line: &[u8]) {
        let Some(invocation) = &mut self.invocation else {
            return;
        };
        // What is not wanted costs nothing of the budget.
        if invocation.left == 0 || (level.is_none() && !self.log.wants(None, line)) {
            return;
        }
        let cost = (line.len() + 1).max(MIN_COST);
        let cut = cost > invocation.left;
        let line = &line[..line.len().min(invocation.left)];
        invocation.left = invocation.left.saturating_sub(cost);
        let Invocation {
            request_id,
            version,
            limit,
            left,
        } = *invocation;
        let text = String::from_utf8_lossy(line).into_owned();
        self.log.line(request_id, version, stream, level, text);
        if cut || left == 0 {
            invocation.left = 0;
            self.log.platform(
                request_id,
                version,
                Level::Warn,
                format!("truncated: the invocation's {limit} of log are used up"),
            );
        }
    }
}

/// Where to cut so that no UTF-8 sequence is split: at most three bytes before the end.
fn character_boundary(text: &[u8]) -> usize {
    let end = text.len();
    for back in 1..=end.min(3) {
        let byte = text[end - back];
        if byte < 0x80 {
            break;
        }
        if byte >= 0xC0 {
            let wanted = match byte {
                0xF0.. => 4,
                0xE0.. => 3,
                _ => 2,
            };
            return if wanted > back { end - back } else { end };
        }
    }
    end
}
