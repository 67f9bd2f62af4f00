//! The one thread that encodes what functions said, stores it and hands it to readers.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    path::PathBuf,
    sync::{PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use super::{
    Buffer, Entry, LogLimits, LogStats, Shared, lock, now_ms,
    record::{Record, Report},
    segment::Group,
    tail::Subscriber,
};
use crate::model::{FunctionName, RequestId};

/// How long lines are gathered before they are written: one system call serves them all.
const INTERVAL: Duration = Duration::from_millis(50);

/// How often old segments are looked for.
const EXPIRY: Duration = Duration::from_secs(3600);

/// The largest segment. A group has at least eight, so that dropping the oldest loses little.
const SEGMENT: u64 = 8 << 20;

/// Groups whose newest segment stays open between batches.
const OPEN_FILES: usize = 128;

/// The most invocations that are remembered to have begun.
const STARTED: usize = 65_536;

/// How much the writer stands back behind the threads that serve requests. Its bursts, some thousand records at a time, held
/// requests up on a node that has all its cores busy: at 15 the p99 of a hello was a sixth lower. At 10 the kernel gives it a
/// tenth of what it gives each of them, and a node under load has it write for about a hundredth of its time.
const NICE: i32 = 10;

/// The writer's life: until the logs are dropped.
pub(super) fn run(shared: &Shared) {
    // On Linux the priority is the thread's alone. Without it logs are written as well.
    let thread = rustix::thread::gettid();
    if let Err(error) = rustix::process::setpriority_process(Some(thread), NICE) {
        tracing::debug!(%error, "the log's writer keeps its priority");
    }
    lock(&shared.disk).index();
    loop {
        let stop = shared.wait();
        shared.drain();
        if stop {
            return;
        }
        lock(&shared.disk).expire();
    }
}

impl Shared {
    /// Sleeps until there is something to write and its interval is over. Answers whether that was the last time.
    fn wait(&self) -> bool {
        let mut queue = lock(&self.queue);
        while queue.waiting.is_empty() && !queue.stop {
            let (guard, timeout) = self
                .wake
                .wait_timeout(queue, EXPIRY)
                .unwrap_or_else(PoisonError::into_inner);
            queue = guard;
            if timeout.timed_out() {
                break;
            }
        }
        let until = Instant::now() + INTERVAL;
        while !queue.waiting.is_empty() && !queue.stop && !queue.urgent {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            queue = self
                .wake
                .wait_timeout(queue, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        queue.urgent = false;
        queue.stop
    }
}

/// All groups on disk, and who is reading along.
#[derive(Debug)]
pub(super) struct Disk {
    root: PathBuf,
    limits: LogLimits,
    groups: HashMap<FunctionName, Group>,
    /// Whether `groups` has what an earlier node left.
    indexed: bool,
    /// The bytes of all groups.
    total: u64,
    open: usize,
    /// Whether the last write failed: one warning says so, not one a batch.
    failing: bool,
    expired: Instant,
    /// Invocations that said something and have not ended.
    started: HashSet<RequestId>,
    subscribers: HashMap<FunctionName, Vec<Subscriber>>,
    encoded: Vec<u8>,
}

impl Disk {
    pub(super) fn open(root: PathBuf, limits: LogLimits) -> io::Result<Self> {
        fs::create_dir_all(&root)?;
        Ok(Self {
            root,
            limits,
            groups: HashMap::new(),
            indexed: false,
            total: 0,
            open: 0,
            failing: false,
            expired: Instant::now(),
            started: HashSet::new(),
            subscribers: HashMap::new(),
            encoded: Vec::new(),
        })
    }

    /// Finds what an earlier node left, once. Done on the writer's thread, unless somebody reads before that: a node with
    /// thousands of groups should not start later for it.
    fn index(&mut self) {
        if std::mem::replace(&mut self.indexed, true) {
            return;
        }
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) => {
                tracing::warn!(folder = %self.root.display(), %error, "logs not read");
                return;
            }
        };
        for entry in entries.flatten() {
            let name: Option<FunctionName> = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            if let Some(name) = name
                && !self.groups.contains_key(&name)
                && let Ok(group) = Group::read(entry.path())
            {
                self.total += group.bytes();
                self.groups.insert(name, group);
            }
        }
        self.expire_now();
        self.shrink(None);
    }

    /// Encodes what a function said, stores it and hands it to its readers.
    pub(super) fn write(&mut self, name: &FunctionName, buffer: Buffer, stats: &LogStats) {
        self.index();
        let mut encoded = std::mem::take(&mut self.encoded);
        encoded.clear();
        let mut subscribers = self.subscribers.remove(name);
        let mut emit = |record: Record<'_>| {
            record.write(&mut encoded);
            if let Some(subscribers) = &mut subscribers {
                record.lines(|line| subscribers.retain_mut(|reader| reader.send(&line)));
            }
        };
        for entry in &buffer.entries {
            self.encode(entry, &mut emit);
        }
        if buffer.dropped > 0 {
            stats.dropped.fetch_add(buffer.dropped, Ordering::Relaxed);
            emit(Record::Dropped {
                ms: now_ms(),
                count: buffer.dropped,
            });
        }
        if let Some(subscribers) = subscribers.filter(|subscribers| !subscribers.is_empty()) {
            self.subscribers.insert(name.clone(), subscribers);
        }
        self.store(name, &encoded, stats);
        // A flood should not leave its buffer behind.
        encoded.shrink_to(1 << 20);
        self.encoded = encoded;
    }

    fn encode(&mut self, entry: &Entry, emit: &mut impl FnMut(Record<'_>)) {
        let mut id = [0; 36];
        match entry {
            Entry::Line {
                at_ms,
                request_id,
                version,
                stream,
                level,
                message,
            } => {
                let id = request_id.encode(&mut id);
                if self.started.len() >= STARTED {
                    // Their ends were dropped. A second START line does less harm than memory that grows.
                    self.started.clear();
                }
                if self.started.insert(*request_id) {
                    emit(Record::Start {
                        ms: *at_ms,
                        id: id.into(),
                        version: version.to_string().into(),
                    });
                }
                emit(Record::Line {
                    ms: *at_ms,
                    id: id.into(),
                    stream: *stream,
                    level: *level,
                    message: message.into(),
                });
            }
            Entry::Report {
                version, record, ..
            } => {
                let id = record.request_id.encode(&mut id);
                // Most invocations say nothing: then there is nothing to look up.
                let started = !self.started.is_empty() && self.started.remove(&record.request_id);
                let number;
                let version = match version {
                    crate::model::Version::Latest => "$LATEST",
                    published @ crate::model::Version::Published(_) => {
                        number = published.to_string();
                        &number
                    }
                };
                if let Some(report) = Report::of(entry, id, version, started) {
                    emit(report);
                }
            }
        }
    }

    fn store(&mut self, name: &FunctionName, lines: &[u8], stats: &LogStats) {
        let limit = (self.limits.function.as_u64() / 8).clamp(1, SEGMENT);
        let group = self
            .groups
            .entry(name.clone())
            .or_insert_with(|| Group::new(self.root.join(name.as_str())));
        let (before, was_open) = (group.bytes(), group.is_open());
        let result = group.append(lines, now_ms(), limit);
        while group.bytes() > self.limits.function.as_u64() && group.bytes() > limit * 2 {
            group.remove_oldest();
        }
        self.total = (self.total + group.bytes()).saturating_sub(before);
        self.open += usize::from(group.is_open());
        self.open = self.open.saturating_sub(usize::from(was_open));
        match result {
            Ok(()) => self.failing = false,
            Err(error) => {
                stats.disk_errors.fetch_add(1, Ordering::Relaxed);
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(function = %name, %error, "function log not written");
                }
            }
        }
        if self.open > OPEN_FILES {
            self.groups.values_mut().for_each(Group::close);
            self.open = 0;
        }
        self.shrink(Some(name));
    }

    /// Deletes the oldest segments until all groups together are below the limit. The last segment of `keep` stays.
    fn shrink(&mut self, keep: Option<&FunctionName>) {
        let limit = self.limits.total.as_u64();
        if self.total <= limit {
            return;
        }
        // A little below it, so that the search is not made for every batch.
        while self.total > limit - limit / 20 {
            let oldest = self
                .groups
                .iter_mut()
                .filter(|(name, group)| Some(*name) != keep || group.snapshot().len() > 1)
                .filter_map(|(_, group)| group.oldest_ms().map(|ms| (ms, group)))
                .min_by_key(|(ms, _)| *ms);
            let Some((_, group)) = oldest else { return };
            self.total = self.total.saturating_sub(group.remove_oldest());
        }
    }

    fn expire(&mut self) {
        if self.expired.elapsed() >= EXPIRY {
            self.expire_now();
        }
    }

    fn expire_now(&mut self) {
        self.expired = Instant::now();
        let age = u64::try_from(self.limits.age.as_millis()).unwrap_or(u64::MAX);
        let cutoff = now_ms().saturating_sub(age);
        for group in self.groups.values_mut() {
            self.total = self.total.saturating_sub(group.expire(cutoff));
        }
    }

    /// Deletes a group, and ends its readers.
    pub(super) fn remove(&mut self, name: &FunctionName) {
        self.subscribers.remove(name);
        if let Some(group) = self.groups.remove(name) {
            self.total = self.total.saturating_sub(group.bytes());
            self.open = self.open.saturating_sub(usize::from(group.is_open()));
        }
        match fs::remove_dir_all(self.root.join(name.as_str())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(function = %name, %error, "function log not deleted");
            }
            _ => {}
        }
    }

    /// The files of a group as they are now. Lines that come later go to `subscriber`, if there is one.
    pub(super) fn read(
        &mut self,
        name: &FunctionName,
        subscriber: Option<Subscriber>,
    ) -> Vec<(u64, PathBuf, u64)> {
        self.index();
        if let Some(subscriber) = subscriber {
            let subscribers = self.subscribers.entry(name.clone()).or_default();
            subscribers.push(subscriber);
        }
        self.groups
            .get(name)
            .map(Group::snapshot)
            .unwrap_or_default()
    }
}
