//! The files of one group: segments of JSON lines, oldest first.
//!
//! A segment is named after the millisecond of its first line, so that a folder listing is the index and a restart needs
//! nothing else; what streams a segment has is found out when somebody asks. A line that a crash tore is closed with a line
//! break and skipped by readers.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use super::{folder::Meta, streams::Index};

/// A segment is not written to for longer than this, so that lines leave close to their age.
const MAX_SPAN_MS: u64 = 24 * 3600 * 1000;

/// One file of a group.
#[derive(Debug, Clone)]
struct Segment {
    first_ms: u64,
    bytes: u64,
    /// What streams it has. None in what an earlier node left, until somebody wants to know.
    index: Option<Arc<Index>>,
}

/// A segment as a reader sees it: what comes later is not part of it.
#[derive(Debug, Clone)]
pub(super) struct View {
    pub(super) first_ms: u64,
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    pub(super) index: Option<Arc<Index>>,
}

/// One group: its segments, and what is set of it.
#[derive(Debug)]
pub(super) struct Group {
    folder: PathBuf,
    pub(super) meta: Meta,
    segments: VecDeque<Segment>,
    /// The newest segment, open for appending.
    file: Option<File>,
}

impl Group {
    /// A group without segments.
    pub(super) fn new(folder: PathBuf, meta: Meta) -> Self {
        Self {
            folder,
            meta,
            segments: VecDeque::new(),
            file: None,
        }
    }

    /// The group that an earlier node left in `folder`.
    pub(super) fn read(folder: PathBuf, meta: Meta) -> io::Result<Self> {
        let mut segments = Vec::new();
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if name.as_encoded_bytes().starts_with(b".tmp") {
                // Left by a node that was killed while it wrote what is set of the group.
                let _ = fs::remove_file(entry.path());
            }
            let first_ms = name
                .to_str()
                .and_then(|name| name.strip_suffix(".jsonl"))
                .and_then(|name| name.parse().ok());
            if let Some(first_ms) = first_ms {
                let bytes = entry.metadata()?.len();
                segments.push(Segment {
                    first_ms,
                    bytes,
                    index: None,
                });
            }
        }
        segments.sort_unstable_by_key(|segment| segment.first_ms);
        Ok(Self {
            folder,
            meta,
            segments: segments.into(),
            file: None,
        })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The bytes of all segments.
    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// When the oldest segment begins.
    pub(super) fn oldest_ms(&self) -> Option<u64> {
        self.segments.front().map(|segment| segment.first_ms)
    }

    /// Whether one could be deleted and another would be left.
    pub(super) fn has_several(&self) -> bool {
        self.segments.len() > 1
    }

    /// Whether the newest segment holds a file handle.
    pub(super) fn is_open(&self) -> bool {
        self.file.is_some()
    }

    /// Lets go of the file handle; the next line opens it again.
    pub(super) fn close(&mut self) {
        self.file = None;
    }

    /// Appends whole lines, of the streams that `index` has. `limit` is how large a segment gets before the next begins.
    pub(super) fn append(
        &mut self,
        lines: &[u8],
        index: &Index,
        now_ms: u64,
        limit: u64,
    ) -> io::Result<()> {
        let full = self.segments.back().is_none_or(|segment| {
            segment.bytes >= limit || now_ms.saturating_sub(segment.first_ms) > MAX_SPAN_MS
        });
        if full {
            self.begin(now_ms)?;
        } else if self.file.is_none() {
            self.reopen()?;
        }
        let (Some(file), Some(segment)) = (&mut self.file, self.segments.back_mut()) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        match file.write_all(lines) {
            Ok(()) => {
                segment.bytes += lines.len() as u64;
                if let Some(known) = &mut segment.index {
                    Arc::make_mut(known).extend(index);
                }
            }
            Err(error) => {
                // Part of it may be there: look again before the next line, and at its streams.
                self.file = None;
                segment.index = None;
                return Err(error);
            }
        }
        Ok(())
    }

    fn begin(&mut self, now_ms: u64) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let newest = self.segments.back().map_or(0, |segment| segment.first_ms);
        let first_ms = now_ms.max(newest + 1);
        let file = File::options()
            .append(true)
            .create_new(true)
            .open(path(&self.folder, first_ms))?;
        self.file = Some(file);
        self.segments.push_back(Segment {
            first_ms,
            bytes: 0,
            index: Some(Arc::default()),
        });
        Ok(())
    }

    fn reopen(&mut self) -> io::Result<()> {
        let Some(segment) = self.segments.back_mut() else {
            return Ok(());
        };
        let mut file = File::options()
            .append(true)
            .read(true)
            .create(true)
            .open(path(&self.folder, segment.first_ms))?;
        segment.bytes = file.metadata()?.len();
        if segment.bytes > 0 {
            file.seek(SeekFrom::End(-1))?;
            let mut last = [0];
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
                segment.bytes += 1;
            }
        }
        self.file = Some(file);
        Ok(())
    }

    /// Deletes the oldest segment and answers how many bytes it had. A file that cannot be deleted is forgotten until
    /// the next start.
    pub(super) fn remove_oldest(&mut self) -> u64 {
        let Some(segment) = self.segments.pop_front() else {
            return 0;
        };
        if self.segments.is_empty() {
            self.file = None;
        }
        if let Err(error) = fs::remove_file(path(&self.folder, segment.first_ms)) {
            tracing::debug!(folder = %self.folder.display(), %error, "log segment not deleted");
        }
        segment.bytes
    }

    /// Deletes the segments in which nothing was written since `cutoff_ms`, and answers how many bytes they had.
    pub(super) fn expire(&mut self, cutoff_ms: u64) -> u64 {
        let mut removed = 0;
        while let Some(oldest) = self.segments.front() {
            if oldest.first_ms >= cutoff_ms || self.last_write_ms() >= cutoff_ms {
                break;
            }
            removed += self.remove_oldest();
        }
        removed
    }

    /// When the oldest segment was last written to: before the next began.
    fn last_write_ms(&self) -> u64 {
        if let Some(next) = self.segments.get(1) {
            return next.first_ms;
        }
        let Some(only) = self.segments.front() else {
            return 0;
        };
        fs::metadata(path(&self.folder, only.first_ms))
            .and_then(|metadata| metadata.modified())
            .ok()
            .and_then(|modified| modified.duration_since(UNIX_EPOCH).ok())
            .map_or(0, |since: Duration| {
                u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
            })
    }

    /// The segments as they are now, oldest first.
    pub(super) fn views(&self) -> Vec<View> {
        self.segments
            .iter()
            .map(|segment| View {
                first_ms: segment.first_ms,
                path: path(&self.folder, segment.first_ms),
                bytes: segment.bytes,
                index: segment.index.clone(),
            })
            .collect()
    }

    /// Where the next line will stand: the newest segment and its length.
    pub(super) fn end(&self) -> (u64, u64) {
        self.segments
            .back()
            .map_or((0, 0), |segment| (segment.first_ms, segment.bytes))
    }

    /// Remembers what streams a segment has, after `complete` had a look at what it has by now.
    pub(super) fn know(
        &mut self,
        first_ms: u64,
        mut index: Arc<Index>,
        complete: impl FnOnce(&View, &mut Index),
    ) {
        let views = self.views();
        let at = views.iter().position(|view| view.first_ms == first_ms);
        if let Some(at) = at
            && views[at].index.is_none()
        {
            complete(&views[at], Arc::make_mut(&mut index));
            self.segments[at].index = Some(index);
        }
    }

    /// Forgets a stream that was deleted.
    pub(super) fn forget(&mut self, stream: &str) {
        for segment in &mut self.segments {
            if let Some(index) = &mut segment.index
                && index.contains(stream)
            {
                Arc::make_mut(index).remove(stream);
            }
        }
    }
}

fn path(folder: &Path, first_ms: u64) -> PathBuf {
    folder.join(format!("{first_ms:013}.jsonl"))
}
