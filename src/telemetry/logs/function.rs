//! Where the invocations of a function put what they have to say.

use std::{
    fmt,
    sync::{Arc, Mutex, atomic::Ordering},
};

use super::{
    BUFFERED_BYTES, BUFFERED_BYTES_NODE, BUFFERED_ENTRIES, Level, Shared, Stream, URGENT_ENTRIES,
    json, lock, now_ms,
};
use crate::model::{
    ByteSize, FunctionName, InvocationRecord, LogGroupName, LoggingConfig, RequestId, Version,
};

/// The log of one function: where its invocations put what they have to say.
pub struct FunctionLog {
    name: FunctionName,
    group: LogGroupName,
    /// Whether the group is another's, so that it must be said whose the lines are.
    guest: bool,
    logging: LoggingConfig,
    shared: Arc<Shared>,
    buffer: Mutex<Buffer>,
}

/// What a function said since the writer came by.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    pub(super) entries: Vec<Entry>,
    bytes: usize,
    pub(super) dropped: u64,
}

/// One thing that a function said, or that is said of it.
#[derive(Debug)]
pub(super) enum Entry {
    /// A line of output, of `wasi:logging` or of the node.
    Line {
        at_ms: u64,
        request_id: RequestId,
        version: Version,
        stream: Stream,
        level: Option<Level>,
        message: String,
    },
    /// The end of an invocation.
    Report {
        at_ms: u64,
        version: Version,
        memory: ByteSize,
        record: InvocationRecord,
    },
}

impl FunctionLog {
    pub(super) fn new(name: FunctionName, logging: LoggingConfig, shared: Arc<Shared>) -> Self {
        let own = LogGroupName::of_function(&name);
        let group = logging.log_group.clone().unwrap_or_else(|| own.clone());
        Self {
            guest: group != own,
            name,
            group,
            logging,
            shared,
            buffer: Mutex::default(),
        }
    }

    /// The function whose log this is.
    pub fn name(&self) -> &FunctionName {
        &self.name
    }

    /// The group that has it.
    pub fn group(&self) -> &LogGroupName {
        &self.group
    }

    pub(super) fn logging(&self) -> &LoggingConfig {
        &self.logging
    }

    /// The function's name, if the group's does not tell it.
    pub(super) fn stranger(&self) -> Option<&FunctionName> {
        self.guest.then_some(&self.name)
    }

    /// Ends an invocation: `START` (if no output came before), `END` and `REPORT`.
    ///
    /// `memory` is what the function may have, for the line's `Memory Size`.
    pub fn report(self: &Arc<Self>, version: Version, memory: ByteSize, record: InvocationRecord) {
        self.push(0, |at_ms| Entry::Report {
            at_ms,
            version,
            memory,
            record,
        });
    }

    /// A line of the node about an invocation: why it trapped, why a request of it was refused.
    pub fn platform(
        self: &Arc<Self>,
        request_id: RequestId,
        version: Version,
        level: Level,
        message: impl Into<String>,
    ) {
        self.line(
            request_id,
            version,
            Stream::Platform,
            Some(level),
            message.into(),
        );
    }

    pub(super) fn line(
        self: &Arc<Self>,
        request_id: RequestId,
        version: Version,
        stream: Stream,
        level: Option<Level>,
        message: String,
    ) {
        let bytes = message.len();
        self.push(bytes, |at_ms| Entry::Line {
            at_ms,
            request_id,
            version,
            stream,
            level,
            message,
        });
    }

    /// Whether what the function says matters enough to be kept (`LoggingConfig`, `ApplicationLogLevel`).
    pub(super) fn wants(&self, level: Option<Level>, line: &[u8]) -> bool {
        match self.logging.application_floor() {
            None => true,
            Some(floor) => json::application_level(level, line) >= floor,
        }
    }

    /// The time is taken behind the lock, so that entries stand in the order of their times: whoever reads on from the
    /// newest misses none.
    fn push(self: &Arc<Self>, bytes: usize, entry: impl FnOnce(u64) -> Entry) {
        let mut buffer = lock(&self.buffer);
        let first = buffer.entries.is_empty() && buffer.dropped == 0;
        let fits = buffer.entries.len() < BUFFERED_ENTRIES
            && buffer.bytes + bytes <= BUFFERED_BYTES
            && (bytes == 0
                || self.shared.buffered_bytes.load(Ordering::Relaxed) < BUFFERED_BYTES_NODE);
        if fits {
            buffer.bytes += bytes;
            buffer.entries.push(entry(now_ms()));
            if bytes != 0 {
                self.shared
                    .buffered_bytes
                    .fetch_add(bytes, Ordering::Relaxed);
            }
        } else {
            buffer.dropped += 1;
        }
        let urgent = buffer.entries.len() == URGENT_ENTRIES;
        drop(buffer);
        if first || urgent {
            self.shared
                .announce(first.then(|| Arc::clone(self)), urgent);
        }
    }

    /// Everything that was said since the last call.
    pub(super) fn take(&self) -> Buffer {
        let buffer = std::mem::take(&mut *lock(&self.buffer));
        self.shared
            .buffered_bytes
            .fetch_sub(buffer.bytes, Ordering::Relaxed);
        buffer
    }
}

impl fmt::Debug for FunctionLog {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("FunctionLog")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
