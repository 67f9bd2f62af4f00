//! Reading a log: what is kept of it, then what comes.

use std::{
    collections::VecDeque,
    fs::File,
    io::{BufRead as _, BufReader, Read as _},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::mpsc::{self, error::TrySendError};

use super::{
    LogLine, Shared, lock, now_ms,
    record::{Record, dropped},
};
use crate::model::FunctionName;

/// Lines that wait for a reader.
const WAITING: usize = 4096;

/// The most lines that [`TailFrom::Last`] gives.
const MAX_LAST: usize = 100_000;

/// Where reading begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TailFrom {
    /// At this many lines before the end, 100,000 at most.
    Last(usize),
    /// At the first line from this moment on: milliseconds since 1970-01-01T00:00:00Z.
    Since(u64),
}

/// A reader of one function's log. Dropping it ends the reading.
#[derive(Debug)]
pub struct Tail {
    history: Option<mpsc::Receiver<LogLine>>,
    live: Option<mpsc::Receiver<LogLine>>,
    missed: Arc<AtomicU64>,
}

impl Tail {
    pub(super) fn open(
        shared: Arc<Shared>,
        name: FunctionName,
        from: TailFrom,
        follow: bool,
    ) -> Self {
        let missed = Arc::new(AtomicU64::new(0));
        let (past, history) = mpsc::channel(WAITING);
        let (subscriber, live) = follow
            .then(|| mpsc::channel(WAITING))
            .map(|(lines, live)| {
                let missed = Arc::clone(&missed);
                (Subscriber { lines, missed }, live)
            })
            .unzip();
        tokio::task::spawn_blocking(move || {
            let mut disk = lock(&shared.disk);
            shared.drain_to(&mut disk);
            let segments = disk.read(&name, subscriber);
            drop(disk);
            match from {
                TailFrom::Last(count) => send_last(&segments, count.min(MAX_LAST), &past),
                TailFrom::Since(ms) => send_since(&segments, ms, &past),
            }
        });
        Self {
            history: Some(history),
            live,
            missed,
        }
    }

    /// The next line. None when all was read and nothing is to follow, or when the function was deleted.
    ///
    /// Where this reader was too slow and lines were left out, a line says how many.
    pub async fn next(&mut self) -> Option<LogLine> {
        if let Some(history) = &mut self.history {
            if let Some(line) = history.recv().await {
                return Some(line);
            }
            self.history = None;
        }
        let live = self.live.as_mut()?;
        match live.try_recv() {
            Ok(line) => return Some(line),
            Err(_) => match self.missed.swap(0, Ordering::Relaxed) {
                0 => {}
                missed => return Some(dropped(now_ms(), missed)),
            },
        }
        live.recv().await
    }
}

/// The writer's end of a [`Tail`].
#[derive(Debug)]
pub(super) struct Subscriber {
    lines: mpsc::Sender<LogLine>,
    missed: Arc<AtomicU64>,
}

impl Subscriber {
    /// Hands a line on if there is room for it. False when nobody reads any more.
    pub(super) fn send(&mut self, line: &LogLine) -> bool {
        // The reader, too, says how many are missing, when it has read all that is there: whoever takes the number.
        if self.missed.load(Ordering::Relaxed) > 0 && self.lines.capacity() >= 2 {
            let missed = self.missed.swap(0, Ordering::Relaxed);
            if missed > 0
                && self
                    .lines
                    .try_send(dropped(line.timestamp, missed))
                    .is_err()
            {
                return !self.lines.is_closed();
            }
        }
        match self.lines.try_send(line.clone()) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                self.missed.fetch_add(1, Ordering::Relaxed);
                true
            }
            Err(TrySendError::Closed(_)) => false,
        }
    }
}

fn send_last(segments: &[(u64, PathBuf, u64)], count: usize, to: &mpsc::Sender<LogLine>) {
    // Newest segment first, until there are enough.
    let mut lines = VecDeque::new();
    for (_, path, bytes) in segments.iter().rev() {
        if lines.len() >= count {
            break;
        }
        let mut segment = Vec::new();
        read(path, *bytes, |line| {
            segment.push(line);
            true
        });
        for line in segment.into_iter().rev().take(count - lines.len()) {
            lines.push_front(line);
        }
    }
    for line in lines {
        if to.blocking_send(line).is_err() {
            return;
        }
    }
}

fn send_since(segments: &[(u64, PathBuf, u64)], ms: u64, to: &mpsc::Sender<LogLine>) {
    // The last segment that begins before it may hold lines after it.
    let first = segments
        .partition_point(|(first_ms, ..)| *first_ms <= ms)
        .saturating_sub(1);
    for (_, path, bytes) in &segments[first..] {
        let more = read(path, *bytes, |line| {
            line.timestamp < ms || to.blocking_send(line).is_ok()
        });
        if !more {
            return;
        }
    }
}

/// Gives the lines of a segment to `each` until that answers false. A segment that was deleted meanwhile has none, and
/// what does not read as a record (a crash tore it) is passed over.
fn read(path: &PathBuf, bytes: u64, mut each: impl FnMut(LogLine) -> bool) -> bool {
    let Ok(file) = File::open(path) else {
        return true;
    };
    let mut reader = BufReader::with_capacity(64 << 10, file.take(bytes));
    let mut text = Vec::new();
    let mut more = true;
    while more {
        text.clear();
        match reader.read_until(b'\n', &mut text) {
            Ok(0) | Err(_) => return true,
            Ok(_) => {}
        }
        if let Ok(record) = serde_json::from_slice::<Record<'_>>(&text) {
            record.lines(|line| more = more && each(line));
        }
    }
    false
}
