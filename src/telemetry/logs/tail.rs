//! Reading a log: what is kept of it, then what comes.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::mpsc::{self, error::TrySendError};

use super::{
    LogLine, Shared, lock, now_ms,
    query::records,
    record::{Origin, Record, dropped},
    segment::View,
};
use crate::model::{FunctionName, LogGroupName};

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
    live: Option<Live>,
}

/// What a group's writers say from now on, as it is written. Dropping it ends the reading.
#[derive(Debug)]
pub struct Live {
    lines: mpsc::Receiver<LiveLine>,
    missed: Arc<AtomicU64>,
}

/// A line, and where it stands.
#[derive(Debug, Clone)]
pub struct LiveLine {
    /// The group. None for what is said of the reading itself.
    pub group: Option<LogGroupName>,
    /// The log stream; empty for what is said of the reading itself.
    pub stream: Arc<str>,
    /// When it came to the node: milliseconds since 1970-01-01T00:00:00Z.
    pub ingested: u64,
    /// What was said.
    pub line: LogLine,
}

impl Tail {
    pub(super) fn open(
        shared: Arc<Shared>,
        name: FunctionName,
        group: LogGroupName,
        from: TailFrom,
        follow: bool,
    ) -> Self {
        let (past, history) = mpsc::channel(WAITING);
        let (subscriber, live) = follow.then(|| Subscriber::new(Some(name.clone()))).unzip();
        tokio::task::spawn_blocking(move || {
            let mut disk = lock(&shared.disk);
            shared.drain_to(&mut disk);
            let segments = disk.read(&group, subscriber);
            drop(disk);
            let whose = Whose { name, group };
            match from {
                TailFrom::Last(count) => send_last(&segments, &whose, count.min(MAX_LAST), &past),
                TailFrom::Since(ms) => send_since(&segments, &whose, ms, &past),
            }
        });
        Self {
            history: Some(history),
            live,
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
        Some(self.live.as_mut()?.next().await?.line)
    }
}

impl Live {
    /// The next line. None when the group or the function was deleted.
    ///
    /// Where this reader was too slow and lines were left out, a line says how many.
    pub async fn next(&mut self) -> Option<LiveLine> {
        match self.lines.try_recv() {
            Ok(line) => return Some(line),
            Err(_) => match self.missed.swap(0, Ordering::Relaxed) {
                0 => {}
                missed => return Some(LiveLine::missed(now_ms(), missed)),
            },
        }
        self.lines.recv().await
    }
}

impl LiveLine {
    fn missed(ms: u64, count: u64) -> Self {
        Self {
            group: None,
            stream: "".into(),
            ingested: ms,
            line: dropped(ms, count),
        }
    }
}

/// The writer's end of a [`Tail`] or of a [`Live`].
#[derive(Debug, Clone)]
pub(super) struct Subscriber {
    lines: mpsc::Sender<LiveLine>,
    missed: Arc<AtomicU64>,
    /// The function whose lines are wanted; none means all of the group.
    function: Option<FunctionName>,
}

impl Subscriber {
    pub(super) fn new(function: Option<FunctionName>) -> (Self, Live) {
        let missed = Arc::new(AtomicU64::new(0));
        let (lines, live) = mpsc::channel(WAITING);
        let subscriber = Self {
            lines,
            missed: Arc::clone(&missed),
            function,
        };
        let live = Live {
            lines: live,
            missed,
        };
        (subscriber, live)
    }

    /// Whether it reads along for this function alone.
    pub(super) fn is_for(&self, function: &FunctionName) -> bool {
        self.function.as_ref() == Some(function)
    }

    /// Hands the lines of a record on if there is room for them. False when nobody reads any more.
    pub(super) fn send(
        &mut self,
        group: &LogGroupName,
        stream: &Arc<str>,
        record: &Record<'_>,
    ) -> bool {
        if let Some(function) = &self.function
            && !is_of(record, group, function)
        {
            return !self.lines.is_closed();
        }
        let mut open = true;
        record.lines(|line| {
            open = open
                && self.send_line(LiveLine {
                    group: Some(group.clone()),
                    stream: Arc::clone(stream),
                    ingested: record.ingested(),
                    line,
                });
        });
        open
    }

    fn send_line(&mut self, line: LiveLine) -> bool {
        // The reader, too, says how many are missing, when it has read all that is there: whoever takes the number.
        if self.missed.load(Ordering::Relaxed) > 0 && self.lines.capacity() >= 2 {
            let missed = self.missed.swap(0, Ordering::Relaxed);
            if missed > 0
                && self
                    .lines
                    .try_send(LiveLine::missed(line.line.timestamp, missed))
                    .is_err()
            {
                return !self.lines.is_closed();
            }
        }
        match self.lines.try_send(line) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                self.missed.fetch_add(1, Ordering::Relaxed);
                true
            }
            Err(TrySendError::Closed(_)) => false,
        }
    }
}

/// Whose lines are wanted, and the group that has them.
struct Whose {
    name: FunctionName,
    group: LogGroupName,
}

/// Whether a record of the group is the function's. What somebody put into the function's own group is.
fn is_of(record: &Record<'_>, group: &LogGroupName, function: &FunctionName) -> bool {
    let own = || group.function().as_ref() == Some(function);
    match record.origin() {
        Origin::Function(Some(name), _) => name == function.as_str(),
        Origin::Function(None, _) | Origin::Put(_) => own(),
    }
}

fn send_last(segments: &[View], whose: &Whose, count: usize, to: &mpsc::Sender<LogLine>) {
    // Newest segment first, until there are enough.
    let mut lines = VecDeque::new();
    for view in segments.iter().rev() {
        if lines.len() >= count {
            break;
        }
        let missing = count - lines.len();
        let mut segment = VecDeque::new();
        read(view, whose, |line| {
            if segment.len() == missing {
                segment.pop_front();
            }
            segment.push_back(line);
            true
        });
        for line in segment.into_iter().rev() {
            lines.push_front(line);
        }
    }
    for line in lines {
        if to.blocking_send(line).is_err() {
            return;
        }
    }
}

fn send_since(segments: &[View], whose: &Whose, ms: u64, to: &mpsc::Sender<LogLine>) {
    // The last segment that begins before it may hold lines after it.
    let first = segments
        .partition_point(|view| view.first_ms <= ms)
        .saturating_sub(1);
    for view in &segments[first..] {
        let more = read(view, whose, |line| {
            line.timestamp < ms || to.blocking_send(line).is_ok()
        });
        if !more {
            return;
        }
    }
}

/// Gives the lines of a segment to `each` until that answers false; answers whether it never did.
fn read(view: &View, whose: &Whose, mut each: impl FnMut(LogLine) -> bool) -> bool {
    records(&view.path, view.bytes, |_, record| {
        let mut more = true;
        if is_of(&record, &whose.group, &whose.name) {
            record.lines(|line| more = more && each(line));
        }
        more
    })
}
