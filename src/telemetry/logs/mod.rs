//! The functions' logs, in groups as CloudWatch has them: one a function, `/aws/lambda/NAME`, unless it names another.
//!
//! The request path only pushes values into the buffer of its [`FunctionLog`]. One thread, the writer, wakes
//! at most every 50 ms while there is something to write, encodes what came in, appends it to the group's
//! segments and hands it to whoever [tails](Logs::tail) the group. While nothing is said, nothing runs.
//!
//! An invocation is one record on disk; [`LogLine`]s (`START`, `END`, `REPORT`) are made of it when somebody reads. A
//! busy function thus costs one short record a request, not three lines. What log streams there are, and which events at
//! what times, is found out from the records too, when somebody asks: see `groups` and `query`.
//!
//! A function that is removed leaves its group behind, until the lines are too old or somebody deletes it.
//!
//! What is always true: memory is bounded, a group by [`BUFFERED_ENTRIES`] and [`BUFFERED_BYTES`], its files by
//! [`LogLimits`]; what does not fit is dropped and a line says how many; a disk that fails costs lines, never a request;
//! a function that floods its log drops its own lines, never another's.

mod capture;
mod folder;
mod function;
mod groups;
mod json;
mod query;
mod record;
mod segment;
mod streams;
mod tail;
mod writer;

use std::{
    collections::HashMap,
    fmt, io,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, AtomicUsize},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::batch::{self, Batch};
use crate::model::{ByteSize, FunctionName, LogGroupName, LoggingConfig};

pub use self::{
    capture::{MAX_LINE, OutputCapture},
    function::FunctionLog,
    groups::{GroupSummary, LogsError, StreamSummary},
    query::{Direction, InvalidKey, Key, LogEvent, MAX_PAGE, Page, Query},
    record::{Level, LogLine, Stream},
    tail::{Live, LiveLine, Tail, TailFrom},
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
    /// Of one group; 64 MB.
    pub function: ByteSize,
    /// Of all groups; 4 GB.
    pub total: ByteSize,
    /// How long a line is kept in a group for which nothing else was set; 7 days.
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
    /// The logs of a function: one, and those of versions that are set up otherwise. The last one is the newest.
    functions: RwLock<HashMap<FunctionName, Vec<Arc<FunctionLog>>>>,
    shared: Arc<Shared>,
    writer: Option<std::thread::JoinHandle<()>>,
}

/// What the functions' buffers, the writer and the readers share.
#[derive(Debug)]
struct Shared {
    /// Functions whose buffers are not empty.
    batch: Batch<Vec<Arc<FunctionLog>>>,
    disk: Mutex<writer::Disk>,
    buffered_bytes: AtomicUsize,
    stats: LogStats,
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
            batch: Batch::default(),
            disk: Mutex::new(disk),
            buffered_bytes: AtomicUsize::new(0),
            stats: LogStats::default(),
        });
        let writer = batch::spawn("wharf-logs", {
            let shared = Arc::clone(&shared);
            move || writer::run(&shared)
        })?;
        Ok(Self {
            functions: RwLock::default(),
            shared,
            writer: Some(writer),
        })
    }

    /// The log of a function, in its own group. Fetch it once and keep it: that is what makes [`FunctionLog::report`]
    /// cheap.
    pub fn function(&self, name: &FunctionName) -> Arc<FunctionLog> {
        self.function_with(name, &LoggingConfig::default())
    }

    /// The log of a function that is set up like this.
    pub fn function_with(&self, name: &FunctionName, logging: &LoggingConfig) -> Arc<FunctionLog> {
        let functions = self.functions.write();
        let mut functions = functions.unwrap_or_else(PoisonError::into_inner);
        let logs = functions.entry(name.clone()).or_default();
        let known = logs.iter().position(|log| log.logging() == logging);
        let log = match known {
            Some(at) => logs.remove(at),
            None => {
                // Those that no version has any more. One that is about to be written is kept by the writer.
                logs.retain(|log| Arc::strong_count(log) > 1);
                let shared = Arc::clone(&self.shared);
                Arc::new(FunctionLog::new(name.clone(), logging.clone(), shared))
            }
        };
        logs.push(Arc::clone(&log));
        log
    }

    /// Forgets a function that was removed, and ends its readers. What it said stays.
    pub fn forget(&self, name: &FunctionName) {
        let functions = self.functions.write();
        functions
            .unwrap_or_else(PoisonError::into_inner)
            .remove(name);
        lock(&self.shared.disk).forget(name);
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
        let functions = self.functions.read();
        let functions = functions.unwrap_or_else(PoisonError::into_inner);
        let group = match functions.get(name).and_then(|logs| logs.last()) {
            Some(log) => log.group().clone(),
            None => LogGroupName::of_function(name),
        };
        let shared = Arc::clone(&self.shared);
        Tail::open(shared, name.clone(), group, from, follow)
    }

    /// What was lost so far.
    pub fn stats(&self) -> &LogStats {
        &self.shared.stats
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        self.shared.batch.stop();
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

impl Shared {
    /// Tells the writer that a buffer is no longer empty, or is filling fast.
    fn announce(&self, log: Option<Arc<FunctionLog>>, urgent: bool) {
        self.batch.add(|waiting| {
            waiting.extend(log);
            urgent
        });
    }

    /// Writes what waits.
    fn drain(&self) {
        self.drain_to(&mut lock(&self.disk));
    }

    fn drain_to(&self, disk: &mut writer::Disk) {
        for log in self.batch.take(Vec::new()) {
            let buffer = log.take();
            disk.write(&log, buffer, &self.stats);
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
