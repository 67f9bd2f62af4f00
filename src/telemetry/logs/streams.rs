//! Log streams: what they are called, and which of them have what times.
//!
//! The streams of a group share its segments. A function writes to a stream a day, version and node, called
//! `2026/11/25/[$LATEST]HEX` as in Lambda (in a group that is not its own `2026/11/25/NAME[$LATEST]HEX`); HEX stands for
//! the execution environment there and for the node here, whose instances often live for one request.

use std::{collections::HashMap, fs, io::Write as _, path::Path, sync::Arc};

use super::record::{Origin, Record};

/// The file that has the node's part of the names.
const NODE_FILE: &str = ".node";

const DAY_MS: u64 = 24 * 3600 * 1000;

/// The node's part of the names of log streams: 32 hexadecimal digits, made once.
pub(super) fn node(root: &Path) -> Arc<str> {
    let path = root.join(NODE_FILE);
    if let Ok(text) = fs::read_to_string(&path)
        && text.len() == 32
        && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    {
        return text.into();
    }
    let made = uuid::Uuid::new_v4().simple().to_string();
    // Apart and then moved, so that no half of one is ever read. Without the file the streams are called differently after
    // the next start, and that is all.
    let written = tempfile::NamedTempFile::new_in(root).and_then(|mut file| {
        file.write_all(made.as_bytes())?;
        file.persist(&path).map_err(|error| error.error)
    });
    if let Err(error) = written {
        tracing::debug!(%error, "the name of the log streams is not kept");
    }
    made.into()
}

/// Gives records the names of their streams. Most have the one of the record before.
#[derive(Debug)]
pub(super) struct Namer {
    node: Arc<str>,
    day: u64,
    function: Option<String>,
    version: String,
    /// Empty before the first.
    name: Arc<str>,
}

impl Namer {
    pub(super) fn new(node: Arc<str>) -> Self {
        Self {
            node,
            day: 0,
            function: None,
            version: String::new(),
            name: "".into(),
        }
    }

    pub(super) fn name(&mut self, record: &Record<'_>) -> &Arc<str> {
        match record.origin() {
            Origin::Put(name) => {
                if *self.name != *name {
                    self.name = name.into();
                }
                self.version.clear();
            }
            Origin::Function(function, version) => {
                let day = record.ms() / DAY_MS;
                // No version is empty, so that what `Put` left matches none.
                if self.version != version
                    || self.day != day
                    || self.function.as_deref() != function
                {
                    let ms = i64::try_from(day.saturating_mul(DAY_MS)).unwrap_or(i64::MAX);
                    let date = jiff::Timestamp::from_millisecond(ms).unwrap_or_default();
                    let (date, node) = (date.strftime("%Y/%m/%d"), &self.node);
                    let name = function.unwrap_or_default();
                    self.name = format!("{date}/{name}[{version}]{node}").into();
                    self.day = day;
                    self.function = function.map(str::to_owned);
                    version.clone_into(&mut self.version);
                }
            }
        }
        &self.name
    }
}

/// From when to when a stream has events: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) first: u64,
    pub(super) last: u64,
    /// When the last one came.
    pub(super) ingested: u64,
}

impl Extent {
    pub(super) fn merge(&mut self, other: Self) {
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        self.ingested = self.ingested.max(other.ingested);
    }
}

/// The streams that have something in a segment.
#[derive(Debug, Clone, Default)]
pub(super) struct Index(HashMap<Arc<str>, Extent>);

impl Index {
    fn merge(&mut self, stream: &Arc<str>, extent: Extent) {
        match self.0.get_mut(stream) {
            Some(known) => known.merge(extent),
            None => {
                self.0.insert(Arc::clone(stream), extent);
            }
        }
    }

    pub(super) fn extend(&mut self, other: &Self) {
        for (stream, extent) in &other.0 {
            self.merge(stream, *extent);
        }
    }

    pub(super) fn remove(&mut self, stream: &str) {
        self.0.remove(stream);
    }

    pub(super) fn contains(&self, stream: &str) -> bool {
        self.0.contains_key(stream)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, Extent)> {
        self.0.iter().map(|(stream, extent)| (stream, *extent))
    }

    /// The first and the last time of the streams that are wanted.
    pub(super) fn range(&self, wanted: impl Fn(&str) -> bool) -> Option<(u64, u64)> {
        self.iter()
            .filter(|(name, _)| wanted(name))
            .map(|(_, extent)| (extent.first, extent.last))
            .reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)))
    }
}

/// An index on its way: a record of the same stream as the one before costs a comparison.
#[derive(Debug, Default)]
pub(super) struct Indexer {
    index: Index,
    run: Option<(Arc<str>, Extent)>,
}

impl Indexer {
    pub(super) fn add(&mut self, stream: &Arc<str>, record: &Record<'_>) {
        let extent = Extent {
            first: record.ms(),
            last: record.ms(),
            ingested: record.ingested(),
        };
        match &mut self.run {
            Some((name, run)) if Arc::ptr_eq(name, stream) => run.merge(extent),
            _ => {
                let before = self.run.replace((Arc::clone(stream), extent));
                self.settle(before);
            }
        }
    }

    fn settle(&mut self, run: Option<(Arc<str>, Extent)>) {
        if let Some((name, extent)) = run {
            self.index.merge(&name, extent);
        }
    }

    pub(super) fn finish(mut self) -> Index {
        let last = self.run.take();
        self.settle(last);
        self.index
    }
}
