//! The one thread that encodes what functions said, stores it and hands it to readers.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use super::{
    FunctionLog, LogLimits, LogStats, Shared,
    folder::{DELETED, Meta, folder_of},
    function::{Buffer, Entry},
    json, lock, now_ms,
    record::{Record, Report},
    segment::{Group, View},
    streams::{self, Index, Indexer, Namer},
    tail::Subscriber,
};
use crate::model::{FunctionName, LogFormat, LogGroupName, RequestId};

/// How often old segments are looked for.
const EXPIRY: Duration = Duration::from_secs(3600);

/// The largest segment. A group has at least eight, so that dropping the oldest loses little.
const SEGMENT: u64 = 8 << 20;

/// Groups whose newest segment stays open between batches.
const OPEN_FILES: usize = 128;

/// The most invocations that are remembered to have begun.
const STARTED: usize = 65_536;

/// The writer's life: until the logs are dropped.
pub(super) fn run(shared: &Shared) {
    lock(&shared.disk).index();
    loop {
        let stop = shared.batch.wait(EXPIRY);
        shared.drain();
        if stop {
            return;
        }
        lock(&shared.disk).expire();
    }
}

/// All groups on disk, and who is reading along.
#[derive(Debug)]
pub(super) struct Disk {
    root: PathBuf,
    /// The node's part of the names of log streams.
    pub(super) node: Arc<str>,
    limits: LogLimits,
    pub(super) groups: HashMap<LogGroupName, Group>,
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
    subscribers: HashMap<LogGroupName, Vec<Subscriber>>,
    encoded: Vec<u8>,
}

impl Disk {
    pub(super) fn open(root: PathBuf, limits: LogLimits) -> io::Result<Self> {
        fs::create_dir_all(&root)?;
        Ok(Self {
            node: streams::node(&root),
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
    pub(super) fn index(&mut self) {
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
            let folder = entry.path();
            if entry
                .file_name()
                .as_encoded_bytes()
                .starts_with(DELETED.as_bytes())
            {
                // A node was killed while it deleted a group.
                let _ = fs::remove_dir_all(&folder);
                continue;
            }
            if !folder.is_dir() {
                continue;
            }
            if let Some((name, meta)) = Meta::read(&folder)
                && !self.groups.contains_key(&name)
                && let Ok(group) = Group::read(folder, meta)
            {
                self.total += group.bytes();
                self.groups.insert(name, group);
            }
        }
        self.expire_now();
        self.shrink(None);
    }

    /// Encodes what a function said, stores it and hands it to its readers.
    pub(super) fn write(&mut self, log: &FunctionLog, buffer: Buffer, stats: &LogStats) {
        self.index();
        let name = log.group();
        let mut encoded = std::mem::take(&mut self.encoded);
        encoded.clear();
        let mut namer = Namer::new(Arc::clone(&self.node));
        let mut indexer = Indexer::default();
        let mut subscribers = self.subscribers.remove(name);
        let mut emit = |record: Record<'_>| {
            record.write(&mut encoded);
            let stream = namer.name(&record);
            indexer.add(stream, &record);
            if let Some(subscribers) = &mut subscribers {
                subscribers.retain_mut(|reader| reader.send(name, stream, &record));
            }
        };
        for entry in &buffer.entries {
            self.encode(log, entry, &mut emit);
        }
        if buffer.dropped > 0 {
            stats.dropped.fetch_add(buffer.dropped, Ordering::Relaxed);
            emit(Record::Dropped {
                ms: now_ms(),
                count: buffer.dropped,
                function: log.stranger().map(|function| function.as_str().into()),
                format: log.logging().log_format,
            });
        }
        if let Some(subscribers) = subscribers.filter(|subscribers| !subscribers.is_empty()) {
            self.subscribers.insert(name.clone(), subscribers);
        }
        if !encoded.is_empty() {
            // It is told and counted there; the function has nobody to tell.
            let _ = self.store(name, &encoded, &indexer.finish(), stats);
        }
        // A flood should not leave its buffer behind.
        encoded.shrink_to(1 << 20);
        self.encoded = encoded;
    }

    fn encode(&mut self, log: &FunctionLog, entry: &Entry, emit: &mut impl FnMut(Record<'_>)) {
        let mut id = [0; 36];
        let floor = log.logging().system_floor();
        let format = log.logging().log_format;
        let function = log.stranger().map(FunctionName::as_str);
        match entry {
            Entry::Line {
                at_ms,
                request_id,
                version,
                stream,
                level,
                message,
            } => {
                if *stream == super::Stream::Platform
                    && floor.is_some_and(|floor| json::system_level(*level) < floor)
                {
                    return;
                }
                let id = request_id.encode(&mut id);
                let mut digits = [0; 10];
                let version = version_text(*version, &mut digits);
                if self.started.len() >= STARTED {
                    // Their ends were dropped. A second START line does less harm than memory that grows.
                    self.started.clear();
                }
                // Where START is left out, END must know of it all the same.
                if self.started.insert(*request_id)
                    && floor.is_none_or(|floor| json::system_level(None) >= floor)
                {
                    emit(Record::Start {
                        ms: *at_ms,
                        id: id.into(),
                        version: version.into(),
                        function: function.map(Into::into),
                        format,
                    });
                }
                emit(Record::Line {
                    ms: *at_ms,
                    id: id.into(),
                    version: version.into(),
                    stream: *stream,
                    level: *level,
                    message: message.into(),
                    function: function.map(Into::into),
                    format,
                });
            }
            Entry::Report {
                version, record, ..
            } => {
                let id = record.request_id.encode(&mut id);
                // Most invocations say nothing: then there is nothing to look up.
                let started = !self.started.is_empty() && self.started.remove(&record.request_id);
                if format == LogFormat::Json
                    && floor.is_some_and(|floor| json::report_level(record.outcome) < floor)
                {
                    return;
                }
                // A report that alone matters enough comes without START.
                let started =
                    started || floor.is_some_and(|floor| json::system_level(None) < floor);
                let mut digits = [0; 10];
                let version = version_text(*version, &mut digits);
                if let Some(report) = Report::of(entry, id, version, started, function, format) {
                    emit(report);
                }
            }
        }
    }

    /// Appends lines to a group, which begins with them if it is not there.
    pub(super) fn store(
        &mut self,
        name: &LogGroupName,
        lines: &[u8],
        index: &Index,
        stats: &LogStats,
    ) -> io::Result<()> {
        let limit = (self.limits.function.as_u64() / 8).clamp(1, SEGMENT);
        let root = &self.root;
        let group = self.groups.entry(name.clone()).or_insert_with(|| {
            let (meta, folder) = (Meta::new(name), root.join(folder_of(name)));
            if let Err(error) = meta.write(&folder, false) {
                tracing::debug!(group = %name, %error, "when a log group began is not kept");
            }
            Group::new(folder, meta)
        });
        let (before, was_open) = (group.bytes(), group.is_open());
        let result = group.append(lines, index, now_ms(), limit);
        while group.bytes() > self.limits.function.as_u64() && group.bytes() > limit * 2 {
            group.remove_oldest();
        }
        self.total = (self.total + group.bytes()).saturating_sub(before);
        self.open += usize::from(group.is_open());
        self.open = self.open.saturating_sub(usize::from(was_open));
        match &result {
            Ok(()) => self.failing = false,
            Err(error) => {
                stats.disk_errors.fetch_add(1, Ordering::Relaxed);
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(group = %name, %error, "log not written");
                }
            }
        }
        if self.open > OPEN_FILES {
            self.groups.values_mut().for_each(Group::close);
            self.open = 0;
        }
        self.shrink(Some(name));
        result
    }

    /// Deletes the oldest segments until all groups together are below the limit. The last segment of `keep` stays.
    fn shrink(&mut self, keep: Option<&LogGroupName>) {
        let limit = self.limits.total.as_u64();
        if self.total <= limit {
            return;
        }
        // A little below it, so that the search is not made for every batch.
        while self.total > limit - limit / 20 {
            let oldest = self
                .groups
                .iter_mut()
                .filter(|(name, group)| Some(*name) != keep || group.has_several())
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

    /// Deletes what is older than it may get, and groups that nobody made and that have nothing any more.
    pub(super) fn expire_now(&mut self) {
        self.expired = Instant::now();
        let mut empty = Vec::new();
        for (name, group) in &mut self.groups {
            let cutoff = cutoff(&group.meta, &self.limits);
            self.total = self.total.saturating_sub(group.expire(cutoff));
            let idle = group.oldest_ms().is_none() && group.meta.created_ms < cutoff;
            if idle && group.meta.is_bare() && !self.subscribers.contains_key(name) {
                empty.push(name.clone());
            }
        }
        for name in empty {
            if let Err(error) = self.delete(&name) {
                tracing::debug!(group = %name, %error, "empty log group not deleted");
            }
        }
    }

    /// Before when a group's events are not to be seen any more.
    pub(super) fn cutoff(&self, name: &LogGroupName) -> u64 {
        self.groups
            .get(name)
            .map_or(0, |group| cutoff(&group.meta, &self.limits))
    }

    /// Begins a group with what is set of it.
    pub(super) fn make(&mut self, name: &LogGroupName, meta: Meta) -> io::Result<()> {
        let folder = self.root.join(folder_of(name));
        meta.write(&folder, true)?;
        self.groups.insert(name.clone(), Group::new(folder, meta));
        Ok(())
    }

    /// Deletes a group, and ends its readers. However it is interrupted, the group is there whole or not at all.
    pub(super) fn delete(&mut self, name: &LogGroupName) -> io::Result<()> {
        let folder = self.root.join(folder_of(name));
        let gone = format!("{DELETED}{}", uuid::Uuid::new_v4().simple());
        let gone = self.root.join(gone);
        match fs::rename(&folder, &gone) {
            // A group whose folder could not be made has none.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.subscribers.remove(name);
        if let Some(group) = self.groups.remove(name) {
            self.total = self.total.saturating_sub(group.bytes());
            self.open = self.open.saturating_sub(usize::from(group.is_open()));
        }
        match fs::remove_dir_all(&gone) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(group = %name, %error, "a deleted log group's files are left until the next start");
            }
            _ => {}
        }
        Ok(())
    }

    /// Ends the readers of a function that was removed. What it said stays, like the group.
    pub(super) fn forget(&mut self, function: &FunctionName) {
        for subscribers in self.subscribers.values_mut() {
            subscribers.retain(|reader| !reader.is_for(function));
        }
    }

    /// The files of a group as they are now. Lines that come later go to `subscriber`, if there is one.
    pub(super) fn read(
        &mut self,
        name: &LogGroupName,
        subscriber: Option<Subscriber>,
    ) -> Vec<View> {
        self.index();
        self.subscribe(name, subscriber);
        self.groups.get(name).map(Group::views).unwrap_or_default()
    }

    pub(super) fn subscribe(&mut self, name: &LogGroupName, subscriber: Option<Subscriber>) {
        if let Some(subscriber) = subscriber {
            let subscribers = self.subscribers.entry(name.clone()).or_default();
            subscribers.push(subscriber);
        }
    }

    /// Hands records that somebody put into a group to its readers.
    pub(super) fn tell(&mut self, name: &LogGroupName, stream: &Arc<str>, record: &Record<'_>) {
        if let Some(subscribers) = self.subscribers.get_mut(name) {
            subscribers.retain_mut(|reader| reader.send(name, stream, record));
        }
    }
}

fn cutoff(meta: &Meta, limits: &LogLimits) -> u64 {
    let age = match meta.retention_days {
        Some(days) => u64::from(days) * 24 * 3600 * 1000,
        None => u64::try_from(limits.age.as_millis()).unwrap_or(u64::MAX),
    };
    now_ms().saturating_sub(age)
}

/// A version as text, without allocating.
fn version_text(version: crate::model::Version, digits: &mut [u8; 10]) -> &str {
    let mut number = match version {
        crate::model::Version::Latest => return super::record::LATEST,
        crate::model::Version::Published(number) => number,
    };
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
        if number == 0 {
            // Digits are text.
            return std::str::from_utf8(&digits[at..]).unwrap_or_default();
        }
    }
}
