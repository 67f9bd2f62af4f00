//! Pages of events: a part of a group's log in the order of time, and where it goes on.
//!
//! Every event has a [`Key`], which orders the group by time and then by where the event stands on disk. A page is bounded in
//! events and bytes, whatever it is chosen from; where it ends is a key, so that going on from there gives neither an event
//! twice nor, when nothing new came, another answer.
//!
//! Segments are read from the one that begins first, and no further than the page needs. What a search reads for one
//! page is bounded too: then the page has what was found so far, perhaps nothing, and says where to go on.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    ops::Range,
    path::Path,
    str::FromStr,
    sync::Arc,
};

use super::{
    folder::Meta,
    record::Record,
    segment::View,
    streams::{Index, Indexer, Namer},
};

/// The most events of a page (CloudWatch Logs API, GetLogEvents, `limit`).
pub const MAX_PAGE: usize = 10_000;

/// The most bytes of a page: the messages, and 26 bytes each as CloudWatch counts.
const PAGE_BYTES: usize = 1 << 20;

/// What a search reads for one page, in bytes of segments.
const SEARCH_BYTES: u64 = 32 << 20;

/// The latest time that an event may have: what is later in a file is not taken for one.
const MAX_MS: u64 = 99_999_999_999_999;

/// The longest record: a message of a megabyte of control characters, each written as six.
const MAX_RECORD: u64 = 8 << 20;

/// Where an event stands in its group: by time, and then by place. Written as 56 digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    ms: u64,
    segment: u64,
    offset: u64,
    part: u32,
}

impl Key {
    /// Before all events of this time and later.
    pub fn at(ms: u64) -> Self {
        Self {
            ms: ms.min(MAX_MS),
            segment: 0,
            offset: 0,
            part: 0,
        }
    }

    /// Right behind an event.
    fn behind(self) -> Self {
        Self {
            part: self.part + 1,
            ..self
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            ms,
            segment,
            offset,
            part,
        } = self;
        write!(formatter, "{ms:014}{segment:014}{offset:020}{part:08}")
    }
}

/// A text is not 56 digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a position in a log")]
pub struct InvalidKey;

impl FromStr for Key {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        if text.len() != 56 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(InvalidKey);
        }
        let number = |from: usize, to: usize| text[from..to].parse().map_err(|_| InvalidKey);
        Ok(Self {
            ms: number(0, 14)?,
            segment: number(14, 28)?,
            offset: number(28, 48)?,
            part: text[48..].parse().map_err(|_| InvalidKey)?,
        })
    }
}

/// An event of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEvent {
    /// Its place, which is its id.
    pub key: Key,
    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub timestamp: u64,
    /// When it came to the node.
    pub ingested: u64,
    /// The log stream that it is in.
    pub stream: Arc<str>,
    /// What was said.
    pub message: String,
}

/// Which way a page goes from its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The first events from the key on.
    Forward(Key),
    /// The last events before the key.
    Backward(Key),
}

/// What a page is chosen from, and how.
pub struct Query<'a> {
    /// Where it begins.
    pub direction: Direction,
    /// No event before this.
    pub from_ms: u64,
    /// No event at this or after.
    pub until_ms: u64,
    /// The most events, of [`MAX_PAGE`].
    pub limit: usize,
    /// The streams to look in.
    pub stream: &'a (dyn Fn(&str) -> bool + Sync),
    /// What messages to look for. None gives all, and a page is then as full as it may be.
    pub search: Option<&'a (dyn Fn(&str) -> bool + Sync)>,
}

/// Some events, and where the others are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// In the order of time.
    pub events: Vec<LogEvent>,
    /// Where the events after these begin.
    pub forward: Key,
    /// Where the events before these end.
    pub backward: Key,
    /// Whether it is known that there is more in the query's direction, or that not everything was looked at.
    pub more: bool,
}

/// The events of a page on the way.
struct Best {
    events: BTreeMap<Key, LogEvent>,
    bytes: usize,
    limit: usize,
    backward: bool,
    /// Whether an event was left out.
    overflowed: bool,
}

impl Best {
    fn is_full(&self) -> bool {
        self.events.len() >= self.limit || self.bytes >= PAGE_BYTES || self.overflowed
    }

    /// The event that the next better one puts out.
    fn worst(&self) -> Option<Key> {
        let event = match self.backward {
            true => self.events.first_key_value(),
            false => self.events.last_key_value(),
        };
        event.map(|(key, _)| *key)
    }

    /// Whether an event of this time could still be one of them.
    fn wants(&self, ms: u64) -> bool {
        match self.worst() {
            Some(worst) if self.is_full() => match self.backward {
                true => ms >= worst.ms,
                false => ms <= worst.ms,
            },
            _ => true,
        }
    }

    fn put(&mut self, event: LogEvent) {
        if let Some(worst) = self.worst()
            && self.overflowed
            && (event.key > worst) != self.backward
        {
            return;
        }
        self.bytes += cost(&event);
        self.events.insert(event.key, event);
        while self.events.len() > self.limit || (self.bytes > PAGE_BYTES && self.events.len() > 1) {
            let out = match self.backward {
                true => self.events.pop_first(),
                false => self.events.pop_last(),
            };
            self.bytes -= out.map_or(0, |(_, event)| cost(&event));
            self.overflowed = true;
        }
    }
}

fn cost(event: &LogEvent) -> usize {
    event.message.len() + 26
}

/// Chooses a page. Every view has its index.
pub(super) fn page(views: &[View], meta: &Meta, node: &Arc<str>, query: &Query<'_>) -> Page {
    let (from, until, start, backward) = match query.direction {
        Direction::Forward(key) => (
            key.max(Key::at(query.from_ms)),
            Key::at(query.until_ms),
            key,
            false,
        ),
        Direction::Backward(key) => (
            Key::at(query.from_ms),
            key.min(Key::at(query.until_ms)),
            key,
            true,
        ),
    };
    let mut best = Best {
        events: BTreeMap::new(),
        bytes: 0,
        limit: query.limit.clamp(1, MAX_PAGE),
        backward,
        overflowed: false,
    };
    let mut segments: Vec<(u64, u64, &View)> = views
        .iter()
        .filter_map(|view| {
            let (first, last) = view.index.as_ref()?.range(query.stream)?;
            (last >= from.ms && first <= until.ms).then_some((first, last, view))
        })
        .collect();
    if backward {
        segments.sort_by_key(|(_, last, _)| std::cmp::Reverse(*last));
    } else {
        segments.sort_by_key(|(first, ..)| *first);
    }
    let mut read = 0;
    let mut cut = None;
    for (first, last, view) in segments {
        if !best.wants(if backward { last } else { first }) {
            best.overflowed = true;
            break;
        }
        if query.search.is_some() && !backward && read >= SEARCH_BYTES && Key::at(first) > from {
            // All that is before this segment's first event is known.
            best.events.retain(|key, _| key.ms < first);
            cut = Some(Key::at(first));
            break;
        }
        read += view.bytes;
        let mut namer = Namer::new(Arc::clone(node));
        records(&view.path, view.bytes, |offset, record| {
            let ms = record.ms();
            if ms < from.ms || ms > until.ms {
                return true;
            }
            if !best.wants(ms) {
                best.overflowed = true;
                return true;
            }
            let stream = namer.name(&record);
            if !(query.stream)(stream) || meta.is_deleted(stream, view.first_ms, offset) {
                return true;
            }
            let mut part = 0;
            record.lines(|line| {
                let key = Key {
                    ms,
                    segment: view.first_ms,
                    offset,
                    part,
                };
                part += 1;
                let inside = key >= from && key < until;
                if inside && query.search.is_none_or(|wanted| wanted(&line.message)) {
                    best.put(LogEvent {
                        key,
                        timestamp: ms,
                        ingested: record.ingested(),
                        stream: Arc::clone(stream),
                        message: line.message,
                    });
                }
            });
            true
        });
    }
    let more = best.overflowed || cut.is_some();
    let events: Vec<LogEvent> = best.events.into_values().collect();
    Page {
        forward: match (cut, events.last()) {
            (Some(cut), _) => cut,
            (_, Some(last)) => last.key.behind(),
            (_, None) => start,
        },
        backward: events.first().map_or(start, |first| first.key),
        more,
        events,
    }
}

/// Finds out what streams a segment has from `start` on.
pub(super) fn index(view: &View, start: u64, meta: &Meta, node: &Arc<str>) -> Index {
    let mut namer = Namer::new(Arc::clone(node));
    let mut indexer = Indexer::default();
    records_in(&view.path, start..view.bytes, &mut |offset, record| {
        let stream = namer.name(&record);
        if !meta.is_deleted(stream, view.first_ms, offset) {
            indexer.add(stream, &record);
        }
        true
    });
    indexer.finish()
}

/// Overwrites the records of a stream that stand before `end` with spaces: everything else stays where it is.
pub(super) fn wipe(
    views: &[View],
    stream: &str,
    end: (u64, u64),
    node: &Arc<str>,
) -> io::Result<()> {
    for view in views {
        let mut namer = Namer::new(Arc::clone(node));
        let mut places = Vec::new();
        records(&view.path, view.bytes, |offset, record| {
            if **namer.name(&record) == *stream && (view.first_ms, offset) < end {
                places.push(offset);
            }
            true
        });
        if places.is_empty() {
            continue;
        }
        let mut file = match File::options().read(true).write(true).open(&view.path) {
            Ok(file) => file,
            // Its time had come.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for offset in places {
            file.seek(SeekFrom::Start(offset))?;
            let mut text = Vec::new();
            BufReader::new((&mut file).take(MAX_RECORD)).read_until(b'\n', &mut text)?;
            let length = text.strip_suffix(b"\n").map_or(text.len(), <[u8]>::len);
            file.seek(SeekFrom::Start(offset))?;
            file.write_all(&vec![b' '; length])?;
        }
        file.sync_data()?;
    }
    Ok(())
}

/// Gives the records of a segment to `each`, with where they stand, until that answers false; answers whether it never did.
/// A segment that was deleted meanwhile has none, and what does not read as a record (a crash tore it, something else wrote
/// there) is passed over.
pub(super) fn records(
    path: &Path,
    bytes: u64,
    mut each: impl FnMut(u64, Record<'_>) -> bool,
) -> bool {
    records_in(path, 0..bytes, &mut each)
}

fn records_in(
    path: &Path,
    range: Range<u64>,
    each: &mut dyn FnMut(u64, Record<'_>) -> bool,
) -> bool {
    let Ok(mut file) = File::open(path) else {
        return true;
    };
    if range.start > 0 && file.seek(SeekFrom::Start(range.start)).is_err() {
        return true;
    }
    let length = range.end.saturating_sub(range.start);
    let mut reader = BufReader::with_capacity(64 << 10, file.take(length));
    let mut text = Vec::new();
    let mut offset = range.start;
    loop {
        text.clear();
        let Ok(length @ 1..) = (&mut reader).take(MAX_RECORD).read_until(b'\n', &mut text) else {
            return true;
        };
        if let Ok(record) = serde_json::from_slice::<Record<'_>>(&text)
            && record.ms() <= MAX_MS
            && !each(offset, record)
        {
            return false;
        }
        offset += length as u64;
    }
}
