//! The functions' logs: a group per function, named `/aws/lambda/NAME` as in Lambda.
//!
//! The request path only pushes values into the buffer of its [`FunctionLog`]. One thread, the writer, wakes
//! at most every 50 ms while there is something to write, encodes what came in, appends it to the group's
//! segments and hands it to whoever [tails](Logs::tail) the group. While nothing is said, nothing runs.
//!
//! An invocation is one record on disk; [`LogLine`]s (`START`, `END`, `REPORT`) are made of it when somebody reads. A
//! busy function thus costs one short record a request, not three lines.
//!
//! What is always true: memory is bounded, a group by [`BUFFERED_ENTRIES`] and [`BUFFERED_BYTES`], its files by
//! [`LogLimits`]; what does not fit is dropped and a line says how many; a disk that fails costs lines, never a request;
//! a function that floods its log drops its own lines, never another's.

mod capture;
mod record;
mod segment;
mod tail;
mod writer;

use std::{
    collections::HashMap,
    fmt, io,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::model::{ByteSize, FunctionName, InvocationRecord, RequestId, Version};

pub use self::{
    capture::{MAX_LINE, OutputCapture},
    record::{Level, LogLine, Stream},
    tail::{Tail, TailFrom},
};

/// The most entries of one function that wait to be written.
pub const BUFFERED_ENTRIES: usize = 32_768;

/// The most bytes of text of one function that wait to be written.
pub const BUFFERED_BYTES: usize = 8 << 20;

/// The most bytes of text of all functions that wait to be written.
const BUFFERED_BYTES_NODE: usize = 128 << 20;

/// From here on the writer is not left to sleep to the end of its interval.
const URGENT_ENTRIES: usize = 4096;

/// What the logs may take on disk.
#[derive(Debug, Clone)]
pub struct LogLimits {
    /// Of one function; 64 MB.
    pub function: ByteSize,
    /// Of all functions; 4 GB.
    pub total: ByteSize,
    /// How long a line is kept; 7 days.
    pub age: Duration,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self {
            function: ByteSize::mb(64),
            total: ByteSize::mb(4096),
            age: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

/// The logs of all functions of a node. Dropping it writes what is left.
pub struct Logs {
    functions: RwLock<HashMap<FunctionName, Arc<FunctionLog>>>,
    shared: Arc<Shared>,
    writer: Option<std::thread::JoinHandle<()>>,
}

/// What the functions' buffers, the writer and the readers share.
#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    wake: std::sync::Condvar,
    disk: Mutex<writer::Disk>,
    buffered_bytes: AtomicUsize,
    stats: LogStats,
}

/// What the writer has to do.
#[derive(Debug, Default)]
struct Queue {
    /// Functions whose buffers are not empty.
    waiting: Vec<Arc<FunctionLog>>,
    urgent: bool,
    stop: bool,
}

/// What was lost, for the metrics. They only grow.
#[derive(Debug, Default)]
pub struct LogStats {
    /// Entries dropped because they came faster than they could be written.
    pub dropped: AtomicU64,
    /// Batches that could not be written to disk.
    pub disk_errors: AtomicU64,
}

impl Logs {
    /// Opens the logs in `folder`, which is made if it is missing, and starts the writer.
    pub fn open(folder: impl Into<PathBuf>, limits: LogLimits) -> io::Result<Self> {
        let disk = writer::Disk::open(folder.into(), limits)?;
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            wake: std::sync::Condvar::new(),
            disk: Mutex::new(disk),
            buffered_bytes: AtomicUsize::new(0),
            stats: LogStats::default(),
        });
        let writer = std::thread::Builder::new()
            .name("wharf-logs".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || writer::run(&shared)
            })?;
        Ok(Self {
            functions: RwLock::default(),
            shared,
            writer: Some(writer),
        })
    }

    /// The log of a function. Fetch it once and keep it: that is what makes [`FunctionLog::report`] cheap.
    pub fn function(&self, name: &FunctionName) -> Arc<FunctionLog> {
        let functions = self.functions.read();
        if let Some(log) = functions
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned()
        {
            return log;
        }
        let functions = self.functions.write();
        let mut functions = functions.unwrap_or_else(PoisonError::into_inner);
        Arc::clone(functions.entry(name.clone()).or_insert_with(|| {
            Arc::new(FunctionLog {
                name: name.clone(),
                shared: Arc::clone(&self.shared),
                buffer: Mutex::default(),
            })
        }))
    }

    /// Forgets the log of a function that was deleted, on disk too.
    pub fn remove(&self, name: &FunctionName) {
        let functions = self.functions.write();
        functions
            .unwrap_or_else(PoisonError::into_inner)
            .remove(name);
        lock(&self.shared.disk).remove(name);
    }

    /// Writes everything that was said so far. Blocks on the disk.
    pub fn flush(&self) {
        self.shared.drain();
    }

    /// Reads a function's log: what is kept of it, and then, if `follow`, what it says from now on.
    ///
    /// Between the two no line is lost and none comes twice. Must be called from within a tokio runtime: the files are
    /// read on a thread that may block.
    pub fn tail(&self, name: &FunctionName, from: TailFrom, follow: bool) -> Tail {
        Tail::open(Arc::clone(&self.shared), name.clone(), from, follow)
    }

    /// What was lost so far.
    pub fn stats(&self) -> &LogStats {
        &self.shared.stats
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        lock(&self.shared.queue).stop = true;
        self.shared.wake.notify_one();
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has nothing more to write.
            let _ = writer.join();
        }
    }
}

impl fmt::Debug for Logs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Logs").finish_non_exhaustive()
    }
}

/// The log of one function: where its invocations put what they have to say.
pub struct FunctionLog {
    name: FunctionName,
    shared: Arc<Shared>,
    buffer: Mutex<Buffer>,
}

/// What a function said since the writer came by.
#[derive(Debug, Default)]
struct Buffer {
    entries: Vec<Entry>,
    bytes: usize,
    dropped: u64,
}

/// One thing that a function said, or that is said of it.
#[derive(Debug)]
enum Entry {
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
    /// The function whose log this is.
    pub fn name(&self) -> &FunctionName {
        &self.name
    }

    /// Ends an invocation: `START` (if no output came before), `END` and `REPORT`.
    ///
    /// `memory` is what the function may have, for the line's `Memory Size`.
    pub fn report(self: &Arc<Self>, version: Version, memory: ByteSize, record: InvocationRecord) {
        self.push(
            Entry::Report {
                at_ms: now_ms(),
                version,
                memory,
                record,
            },
            0,
        );
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

    fn line(
        self: &Arc<Self>,
        request_id: RequestId,
        version: Version,
        stream: Stream,
        level: Option<Level>,
        message: String,
    ) {
        let bytes = message.len();
        self.push(
            Entry::Line {
                at_ms: now_ms(),
                request_id,
                version,
                stream,
                level,
                message,
            },
            bytes,
        );
    }

    fn push(self: &Arc<Self>, entry: Entry, bytes: usize) {
        let mut buffer = lock(&self.buffer);
        let first = buffer.entries.is_empty() && buffer.dropped == 0;
        let fits = buffer.entries.len() < BUFFERED_ENTRIES
            && buffer.bytes + bytes <= BUFFERED_BYTES
            && (bytes == 0
                || self.shared.buffered_bytes.load(Ordering::Relaxed) < BUFFERED_BYTES_NODE);
        if fits {
            buffer.bytes += bytes;
            buffer.entries.push(entry);
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
    fn take(&self) -> Buffer {
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

impl Shared {
    /// Tells the writer that a buffer is no longer empty, or is filling fast.
    fn announce(&self, log: Option<Arc<FunctionLog>>, urgent: bool) {
        let mut queue = lock(&self.queue);
        let idle = queue.waiting.is_empty();
        queue.waiting.extend(log);
        queue.urgent |= urgent;
        drop(queue);
        // While it is in its interval the writer needs no call: it looks again when that is over.
        if idle || urgent {
            self.wake.notify_one();
        }
    }

    /// Writes what waits.
    fn drain(&self) {
        self.drain_to(&mut lock(&self.disk));
    }

    fn drain_to(&self, disk: &mut writer::Disk) {
        let waiting = std::mem::take(&mut lock(&self.queue).waiting);
        for log in waiting {
            let buffer = log.take();
            disk.write(&log.name, buffer, &self.stats);
        }
    }
}

/// A lock that a panic elsewhere does not spoil: every value behind one here is whole between two statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Milliseconds since 1970-01-01T00:00:00Z.
fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
