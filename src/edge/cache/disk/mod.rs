//! The tier on disk: what is stored survives a restart.
//!
//! ```text
//! lock                     held by the process that has the folder open
//! heads/ab/cdef…           a response: what it says, and its body if that is small; named by the digest of its key
//! bodies/ab/cdef…-version  a large body
//! tmp/                     what is being written
//! ```
//!
//! A file is written in `tmp` and renamed when it is whole: head files last, so a response is there with its body or not
//! at all. What a killed process leaves in `tmp`, and bodies without a head, are removed when the folder is opened.
//!
//! Nothing is synced: a process that is killed loses nothing that it wrote, and what a power failure tears does not match
//! its checksums. A file that is not what was written is removed, and is a miss. Errors of the disk are counted and never
//! reach a client before its response has begun.
//!
//! The least recently used responses go when there is no room. An eighth of the capacity is for what is being written, so
//! larger responses are not stored.

mod body;
mod format;
mod scan;
mod store;

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
};

use moka::{notification::RemovalCause, policy::EvictionPolicy, sync::Cache};

pub(super) use {
    body::{BodyFile, Spool},
    store::Document,
};

use super::{
    CacheError, DiskConfig,
    clock::Moment,
    index::{Index, Label, Tier},
    key::{Digest, DigestHasher, Key},
    memory::Slot,
    purge::Log,
    statistics::{Counters, Registry},
    stored::{self, Content, Stored},
};
use format::{Meta, PREFIX, Place, Prefix};

/// Bodies up to this length are in the file of their head.
const INLINE: u64 = body::BLOCK;

/// What file systems round sizes up to.
const UNIT: u64 = 4 << 10;

/// The share of the capacity that is for what is being written.
const SPOOL_SHARE: u64 = 8;

/// How many locks the files share.
const STRIPES: usize = 64;

/// Responses on disk.
#[derive(Debug)]
pub(super) struct Disk {
    folder: PathBuf,
    /// Locked as long as it is open.
    _lock: File,
    records: Cache<Digest, Record, DigestHasher>,
    /// Files of a digest are changed, and its record with them, by one at a time.
    stripes: Box<[Mutex<()>]>,
    /// What lost its record, and has files still.
    doomed: Arc<Mutex<Vec<(Digest, Record)>>>,
    spooling: AtomicU64,
    most_spooling: u64,
    index: Arc<Index>,
    log: Arc<Log>,
    registry: Arc<Registry>,
    corrupt: AtomicU64,
    failures: AtomicU64,
}

/// What is known of a response without reading it.
#[derive(Debug, Clone)]
struct Record {
    version: u64,
    /// The version of its body file.
    body: Option<u64>,
    /// Bytes of all its files.
    size: u64,
    /// When the response came.
    received: Moment,
    /// When it was marked stale, in milliseconds, by this process; 0 if it was not.
    marked: Arc<AtomicU64>,
    counters: Arc<Counters>,
}

impl Disk {
    /// Opens a folder, and removes what a killed process left half written.
    pub(super) fn open(
        config: &DiskConfig,
        index: &Arc<Index>,
        log: &Arc<Log>,
        registry: &Arc<Registry>,
    ) -> Result<Self, CacheError> {
        let failed = |error| CacheError::Folder {
            folder: config.folder.clone(),
            source: error,
        };
        let tmp = config.folder.join("tmp");
        for folder in ["heads", "bodies", "tmp"] {
            fs::create_dir_all(config.folder.join(folder)).map_err(failed)?;
        }
        let lock = File::create(config.folder.join("lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                return Err(CacheError::InUse(config.folder.clone()));
            }
            Err(fs::TryLockError::Error(error)) => return Err(failed(error)),
        }
        fs::remove_dir_all(&tmp).map_err(failed)?;
        fs::create_dir(&tmp).map_err(failed)?;
        let most_spooling = config.capacity.as_u64() / SPOOL_SHARE;
        let doomed = Arc::default();
        Ok(Self {
            folder: config.folder.clone(),
            _lock: lock,
            records: records(config.capacity.as_u64() - most_spooling, index, &doomed),
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            doomed,
            spooling: AtomicU64::new(0),
            most_spooling,
            index: Arc::clone(index),
            log: Arc::clone(log),
            registry: Arc::clone(registry),
            corrupt: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        })
    }

    /// The largest body that is stored.
    pub(super) const fn most(&self) -> u64 {
        self.most_spooling
    }

    /// Whether there may be a response under a key: no proof, but no I/O either.
    pub(super) fn may_have(&self, key: &Key) -> bool {
        self.records.contains_key(&key.digest)
    }

    /// Whether what was read is still stored. It is marked stale if that was done since.
    pub(super) fn has(&self, slot: &Slot) -> bool {
        let Some(record) = self.records.get(&slot.key().digest) else {
            return false;
        };
        let marked = record.marked.load(SeqCst);
        if let (Slot::Response(stored), 1..) = (slot, marked) {
            stored.mark(Moment::from_millis(marked));
        }
        record.version == slot.version()
    }

    /// Notes that a response is stale from now on; [`mark`](Self::mark) writes it down.
    pub(super) fn note_mark(&self, digest: &Digest, now: Moment) {
        if let Some(record) = self.records.get(digest) {
            stored::mark(&record.marked, now);
        }
    }

    /// What is stored under a key. Blocks.
    pub(super) fn load(self: &Arc<Self>, key: &Key) -> Option<Slot> {
        let record = self.records.get(&key.digest)?;
        match self.read(&key.digest) {
            Ok(Some(slot)) => (slot.key().bytes == key.bytes).then_some(slot),
            Ok(None) => {
                self.corrupt.fetch_add(1, Relaxed);
                self.remove_version(&key.digest, record.version);
                None
            }
            // Replaced or removed meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.remove_version(&key.digest, record.version);
                None
            }
            Err(_) => {
                self.failures.fetch_add(1, Relaxed);
                None
            }
        }
    }

    /// None if the files are not what was written.
    fn read(self: &Arc<Self>, digest: &Digest) -> io::Result<Option<Slot>> {
        let file = File::open(self.head_path(digest))?;
        let Some((prefix, meta)) = read_meta(&file)? else {
            return Ok(None);
        };
        let Some(meta) = format::decode(&meta, &self.registry) else {
            return Ok(None);
        };
        let (head, length, place) = match meta {
            Meta::Varying(varying) => return Ok(Some(Slot::Varying(Arc::new(varying)))),
            Meta::Response { head, length, body } => (head, length, body),
        };
        let content = match place {
            Place::Inline(sum) => {
                let mut body = Vec::new();
                file.take(INLINE + 1).read_to_end(&mut body)?;
                format::inline(body.into(), length, &sum).map(Content::Memory)
            }
            Place::File(version) => {
                let path = self.body_path(digest, version);
                let file = BodyFile::open(&path, length, version)?;
                file.map(|file| Content::File(Arc::new(file), Arc::clone(self)))
            }
        };
        Ok(content.map(|content| {
            let stored = Stored::new(*head, content, length, prefix.marked);
            Slot::Response(Arc::new(stored))
        }))
    }

    /// Forgets a response at once. Its files are there until the [sweep](Self::sweep).
    pub(super) fn forget(&self, digest: &Digest) {
        self.records.invalidate(digest);
    }

    /// Removes the files of what was evicted or forgotten. Blocks.
    pub(super) fn sweep(&self) {
        let doomed = std::mem::take(&mut *lock(&self.doomed));
        for (digest, record) in doomed {
            let _stripe = self.stripe(&digest);
            let current = self.records.get(&digest);
            // What is not there is as good as removed; what cannot be removed is found when the folder is opened again.
            if current.is_none() {
                let _ = fs::remove_file(self.head_path(&digest));
            }
            if let Some(version) = record.body
                && current.is_none_or(|current| current.body != record.body)
            {
                let _ = fs::remove_file(self.body_path(&digest, version));
            }
        }
    }

    /// Removes that version of a response, and no other. Blocks.
    pub(super) fn remove_version(&self, digest: &Digest, version: u64) {
        let stripe = self.stripe(digest);
        let current = self.records.get(digest);
        if current.is_some_and(|current| current.version == version) {
            self.records.invalidate(digest);
        }
        drop(stripe);
        self.sweep();
    }

    /// The bytes and the responses that it holds now.
    pub(super) fn size(&self) -> (u64, u64) {
        self.records.run_pending_tasks();
        (
            self.records.weighted_size() * UNIT,
            self.records.entry_count(),
        )
    }

    /// Files that were not what was written, and errors of the disk.
    pub(super) fn troubles(&self) -> (u64, u64) {
        (self.corrupt.load(Relaxed), self.failures.load(Relaxed))
    }

    pub(super) fn count_corrupt(&self) {
        self.corrupt.fetch_add(1, Relaxed);
    }

    pub(super) fn count_failure(&self) {
        self.failures.fetch_add(1, Relaxed);
    }

    fn insert(&self, digest: Digest, label: &Label, record: Record) {
        // Before the record: an eviction that comes at once then finds it.
        self.index.add(digest, label, Tier::Disk, record.version);
        self.records.insert(digest, record);
    }

    fn doom(&self, digest: Digest, record: Record) {
        lock(&self.doomed).push((digest, record));
    }

    fn stripe(&self, digest: &Digest) -> MutexGuard<'_, ()> {
        lock(&self.stripes[usize::from(digest[0]) % STRIPES])
    }

    fn head_path(&self, digest: &Digest) -> PathBuf {
        place(&self.folder.join("heads"), digest, "")
    }

    fn body_path(&self, digest: &Digest, version: u64) -> PathBuf {
        place(
            &self.folder.join("bodies"),
            digest,
            &format!("-{version:016x}"),
        )
    }
}

fn records(
    capacity: u64,
    index: &Arc<Index>,
    doomed: &Arc<Mutex<Vec<(Digest, Record)>>>,
) -> Cache<Digest, Record, DigestHasher> {
    let (index, doomed) = (Arc::clone(index), Arc::clone(doomed));
    Cache::builder()
        .max_capacity(capacity / UNIT)
        .eviction_policy(EvictionPolicy::lru())
        .weigher(|_, record: &Record| {
            u32::try_from(record.size.div_ceil(UNIT) + u64::from(record.body.is_some()))
                .unwrap_or(u32::MAX)
        })
        .eviction_listener(move |digest: Arc<Digest>, record: Record, cause| {
            index.remove(&digest, Tier::Disk, record.version);
            if cause == RemovalCause::Size {
                record.counters.disk.evicted(record.size);
            }
            // Files are removed where blocking is allowed.
            lock(&doomed).push((*digest, record));
        })
        .build_with_hasher(DigestHasher::default())
}

/// The beginning and the meta of a head file; none if they are not what was written.
fn read_meta(mut file: &File) -> io::Result<Option<(Prefix, Vec<u8>)>> {
    let mut prefix = [0; PREFIX];
    match file.read_exact(&mut prefix) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let Some(prefix) = Prefix::read(&prefix) else {
        return Ok(None);
    };
    let mut meta = Vec::new();
    let length = prefix.length as u64;
    file.take(length).read_to_end(&mut meta)?;
    Ok(prefix.matches(&meta).then_some((prefix, meta)))
}

fn place(folder: &Path, digest: &Digest, suffix: &str) -> PathBuf {
    let name = blake3::Hash::from_bytes(*digest).to_hex();
    let (parent, name) = name.as_str().split_at(2);
    folder.join(parent).join(format!("{name}{suffix}"))
}

/// A lock that a panic elsewhere does not spoil: what it guards is whole between two statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
