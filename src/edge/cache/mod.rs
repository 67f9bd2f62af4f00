//! The shared HTTP cache (RFC 9111) of all distributions.
//!
//! A request comes to [`Cache::serve`]. It is answered from memory without waiting, or looks further: on disk, among the
//! requests that are under way, at the origin. Files in the order in which a request meets them:
//!
//! * `key` and `vary`: which stored response a request is about;
//! * `memory` and `disk`: where that is;
//! * `directives` and `freshness`: whether it may be used;
//! * `collapse`, `flight` and `fetch`: going forward, once for all who wait; `storable`: whether they may share what comes;
//! * `fill` and `download`: a response on its way, and everyone who reads it;
//! * `forward`: what goes forward and is not stored;
//! * `validator`, `range`, `status`, `reply`, `body`: what the client gets; `recoded`: what is not stored as the origin sent it;
//! * `purge` and `index`: taking it away again.
//!
//! Always true: what its origin calls `private` or `no-store` is never stored and never shared, not even with who waits.
//! A response that is not whole is never stored as whole. A stored response is used for a request only if their whole
//! keys are the same. What was asked for before a purge is not stored after it. Trouble with the disk costs hits, not
//! answers.
//!
//! What is decided where the RFCs leave room:
//! * Only responses to GET are stored. A HEAD request is answered from them, or goes forward and updates them.
//! * A client's `no-cache`, `max-age=0` and `no-store` are obeyed unless the policy has `ignore_client`.
//! * A request for a range that begins in the first megabyte, or in what is on its way already, fetches the whole
//!   response and gets its part of it. Another one for a single range goes forward as it is, and what comes is stored for who
//!   asks for just that range: parts are not put together. Others, and those with `If-Range`, are not stored, and no 416 is.
//! * A response that sets a cookie is stored only where its origin says that it is for all: see `storable`.
//! * Requests with `Authorization` do not wait for others.
//! * Trailers of stored responses are dropped.
//!
//! Deliberately not here: what leaves a request between cache and origin (connection fields, timeouts, retries), caching
//! of POST, and any notion of another node's cache.

mod body;
mod clock;
mod collapse;
mod directives;
mod disk;
mod download;
mod fetch;
mod fill;
mod flight;
mod forward;
mod freshness;
mod index;
#[doc(hidden)]
pub mod invariants;
mod key;
mod memory;
mod purge;
mod range;
mod recoded;
mod reply;
mod serve;
mod statistics;
mod status;
mod storable;
mod stored;
#[cfg(test)]
mod tests;
mod validator;
mod vary;

use std::{
    collections::HashMap,
    future::Future,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, Uri};
use tokio::{
    sync::{OnceCell, watch},
    task::spawn_blocking,
    time::timeout,
};
use tokio_util::task::TaskTracker;

pub use self::{
    body::{Body, BodyError},
    clock::Clock,
    fill::Failure,
    purge::{Purge, PurgeMode, Purged},
    statistics::{Counts, Statistics, TierCounts},
    status::Handled,
};
pub(super) use self::{
    recoded::{Recoded, strip_digests, vary},
    stored::strip_for_client,
};

use self::{
    clock::Moment,
    disk::{Disk, Document},
    flight::Flights,
    index::Index,
    key::{Digest, DigestHasher, Key},
    memory::{Memory, Slot},
    purge::{Generation, Log, Matcher},
    statistics::Registry,
    stored::Content,
};
use crate::model::{ByteSize, CachePolicy};

/// How long opening waits for what an earlier run stored; after that it is found while the node serves.
const SCAN_PATIENCE: Duration = Duration::from_secs(2);

/// How many resources are remembered whose responses cannot be shared.
const MOST_PASSES: u64 = 100_000;

/// The share of the memory tier's capacity that bodies may take which are not whole yet, beside it.
const FILL_SHARE: u64 = 4;

/// The most bytes that wait to be written to the disk tier from memory.
const MOST_WAITING: u64 = 64 << 20;

/// How a cache is set up.
#[derive(Debug, Clone)]
pub struct CacheConfig {
    /// What the memory tier holds.
    pub memory: ByteSize,
    /// The largest body that is held in memory; larger ones are on disk only, and stored only if there is one.
    pub memory_object: ByteSize,
    /// The disk tier, if there is one.
    pub disk: Option<DiskConfig>,
    /// How long a download that is stored goes on when nobody reads it any more.
    pub finish: Duration,
    /// What tells the time.
    pub clock: Clock,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            memory: ByteSize::mb(256),
            memory_object: ByteSize::mb(1),
            disk: None,
            finish: Duration::from_secs(60),
            clock: Clock::System,
        }
    }
}

/// How the disk tier is set up.
#[derive(Debug, Clone)]
pub struct DiskConfig {
    /// Where it is. One process at a time has it.
    pub folder: PathBuf,
    /// What it holds, with what is being written. The largest object is an eighth of it.
    pub capacity: ByteSize,
}

/// Why a cache was not opened.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The folder cannot be made, read or cleaned.
    #[error("open the cache in `{}`", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has the folder.
    #[error("the cache in `{}` is in use", .0.display())]
    InUse(PathBuf),
}

/// Whose request it is, and how it is cached.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// The name of the distribution: nothing is shared between two.
    pub distribution: &'a str,
    /// What answers a miss, where the distribution has more than one way: nothing is shared between two either, as a hook may
    /// rewrite a request of the one to a URL of the other.
    pub source: &'a str,
    /// The policy of the behaviour.
    pub policy: &'a Arc<CachePolicy>,
    /// What a hook chose to stand for path, query, headers and cookies in the key.
    pub key: Option<&'a str>,
    /// What the viewer asked for, where a hook made another URL of it: a purge of either takes what is fetched.
    pub asked: Option<&'a Uri>,
}

/// The way to the origin.
///
/// A clone may be used after the request that it was given for is over, to revalidate what is stored.
pub trait Forward: Clone + Send + Sync + 'static {
    /// The body of the client's request.
    type RequestBody: http_body::Body + Send;
    /// The body of the origin's response.
    type Body: http_body::Body<Data = Bytes, Error: Into<BoxError> + Send> + Send + 'static;
    /// Why there is no response.
    type Error: Send + Sync + 'static;

    /// Sends a request towards the origin. The cache's own requests have no body.
    fn send(
        &self,
        request: Request<Option<Self::RequestBody>>,
    ) -> impl Future<Output = Result<Response<Self::Body>, Self::Error>> + Send;

    /// Whether an error is of nobody but who asked: others who wait for the same response then ask themselves.
    fn is_of_one(_error: &Self::Error) -> bool {
        false
    }
}

/// An error of any kind.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The shared HTTP cache of a node. Clones are the same cache.
#[derive(Debug, Clone)]
pub struct Cache(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    memory: Memory,
    disk: Option<Arc<Disk>>,
    index: Arc<Index>,
    log: Arc<Log>,
    registry: Arc<Registry>,
    flights: Arc<Flights>,
    /// Until when requests for a key do not wait for each other: "hit for miss".
    passes: moka::sync::Cache<Digest, Moment, DigestHasher>,
    /// What is being read from disk.
    loads: Mutex<HashMap<Digest, Load>>,
    /// Nothing is sent: it is closed when all is found that an earlier run stored.
    scanning: watch::Receiver<()>,
    clock: Clock,
    memory_object: u64,
    finish: Duration,
    /// Bytes in memory of bodies that are not whole yet, and the most of them.
    filling: AtomicU64,
    most_filling: u64,
    /// Bytes that wait to be written to disk.
    waiting: AtomicU64,
    /// What is on its way, though nobody may wait for it any more.
    fetches: TaskTracker,
    /// What is being written to disk.
    writes: TaskTracker,
}

/// Where what is taken into memory was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comes {
    /// It takes the place of what is there.
    FromOrigin,
    /// What is there is younger.
    FromDisk,
}

impl Cache {
    /// Opens a cache. What an earlier run stored on disk is looked for in the background if it is much.
    pub async fn open(config: CacheConfig) -> Result<Self, CacheError> {
        let index = Arc::new(Index::default());
        let log = Arc::new(Log::default());
        let registry = Arc::new(Registry::default());
        let disk = match config.disk {
            None => None,
            Some(disk) => {
                let (index, log, registry) =
                    (Arc::clone(&index), Arc::clone(&log), Arc::clone(&registry));
                let folder = disk.folder.clone();
                let opened = spawn_blocking(move || Disk::open(&disk, &index, &log, &registry));
                let opened = opened.await.unwrap_or_else(|error| {
                    Err(CacheError::Folder {
                        folder,
                        source: io::Error::other(error),
                    })
                })?;
                Some(Arc::new(opened))
            }
        };
        let (scan, scanning) = watch::channel(());
        if let Some(disk) = &disk {
            let disk = Arc::clone(disk);
            drop(spawn_blocking(move || {
                disk.scan();
                drop(disk);
                // A scan that panics drops it too.
                drop(scan);
            }));
            // What is not found yet is a miss.
            let _ = timeout(SCAN_PATIENCE, closed(&scanning)).await;
        }
        Ok(Self(Arc::new(Shared {
            memory: Memory::new(config.memory.as_u64(), &index),
            disk,
            index,
            log,
            registry,
            flights: Arc::default(),
            passes: moka::sync::Cache::builder()
                .max_capacity(MOST_PASSES)
                .build_with_hasher(DigestHasher::default()),
            loads: Mutex::default(),
            scanning,
            clock: config.clock,
            memory_object: config.memory_object.as_u64().min(u64::from(u32::MAX / 2)),
            finish: config.finish,
            filling: AtomicU64::new(0),
            most_filling: config.memory.as_u64() / FILL_SHARE,
            waiting: AtomicU64::new(0),
            fetches: TaskTracker::new(),
            writes: TaskTracker::new(),
        })))
    }

    /// Takes stored responses of a distribution away, or marks them stale. What is on its way from the origin is not
    /// stored either. When this returns, nothing of it comes back, not even after the process is killed: so it waits while what an
    /// earlier run stored is still looked for.
    pub async fn purge(&self, distribution: &str, what: &Purge, how: PurgeMode) -> Purged {
        let matcher = Matcher::new(what);
        let purged = self.take_away(distribution, matcher, how).await;
        // What is found from now on sees the purge in the log, and is removed.
        closed(&self.0.scanning).await;
        purged
    }

    async fn take_away(&self, distribution: &str, matcher: Matcher, how: PurgeMode) -> Purged {
        let shared = &self.0;
        shared.log.note(distribution, matcher.clone());
        let taken = Arc::clone(shared).take_noted(distribution.to_owned(), matcher, how);
        match shared.disk {
            None => taken.await,
            // It waits for the disk, and who asks for it may go away meanwhile.
            Some(_) => shared.writes.spawn(taken).await.unwrap_or_default(),
        }
    }

    /// What the cache did for a distribution.
    pub fn counts(&self, distribution: &str) -> Counts {
        self.0.registry.counts(distribution)
    }

    /// Forgets what it did for a distribution that is gone, and what was purged of it. What it holds of it is for
    /// [`purge`](Self::purge).
    pub fn forget(&self, distribution: &str) {
        self.0.registry.forget(distribution);
        self.0.log.forget(distribution);
    }

    /// Waits until what is on its way has come, and what was stored is on disk, for as long as `patience`. To be called when nobody
    /// asks any more.
    pub async fn settle(&self, patience: Duration) {
        let settled = async {
            self.0.fetches.close();
            self.0.fetches.wait().await;
            self.0.writes.close();
            self.0.writes.wait().await;
        };
        if timeout(patience, settled).await.is_err() {
            tracing::warn!("origin or disk are slow: some of what was asked for last is not kept");
        }
    }

    /// What the cache did and holds.
    pub fn statistics(&self) -> Statistics {
        let shared = &self.0;
        let (memory_bytes, memory_objects) = shared.memory.size();
        let disk = shared.disk.as_ref();
        let (disk_bytes, disk_objects) = disk.map_or((0, 0), |disk| disk.size());
        let (corrupt, disk_failures) = disk.map_or((0, 0), |disk| disk.troubles());
        Statistics {
            distributions: shared.registry.read(),
            memory_bytes,
            memory_objects,
            disk_bytes,
            disk_objects,
            corrupt,
            disk_failures,
        }
    }
}

impl Shared {
    /// Takes away, or marks, what was stored before the log had a note of it.
    async fn take_noted(
        self: Arc<Self>,
        distribution: String,
        matcher: Matcher,
        how: PurgeMode,
    ) -> Purged {
        if self.disk.is_some() {
            self.log.pass_writers().await;
        }
        let digests = self.index.find(&distribution, &matcher);
        let purged = Purged {
            objects: digests.len(),
        };
        if digests.is_empty() {
            return purged;
        }
        let now = self.clock.now();
        if let Some(disk) = &self.disk {
            digests.iter().for_each(|digest| match how {
                PurgeMode::Soft => disk.note_mark(digest, now),
                PurgeMode::Hard => disk.forget(digest),
            });
            // Who took one of them from disk before that has it in memory by now.
            self.log.pass();
        }
        digests.iter().for_each(|digest| match how {
            PurgeMode::Soft => self.memory.mark(digest, now),
            PurgeMode::Hard => self.memory.remove(digest),
        });
        if let Some(disk) = &self.disk {
            let disk = Arc::clone(disk);
            let work = spawn_blocking(move || match how {
                PurgeMode::Soft => digests.iter().for_each(|digest| disk.mark(digest, now)),
                PurgeMode::Hard => disk.sweep(),
            });
            // It ends early only when the node does.
            let _ = work.await;
        }
        purged
    }

    /// What is stored under a key, in memory or on disk.
    async fn slot(&self, key: &Key) -> Option<Slot> {
        match self.memory.get(key) {
            Some(slot) => Some(slot),
            None => self.load(key).await,
        }
    }

    /// What the disk has under a key. However many ask at a time, it is read once.
    async fn load(&self, key: &Key) -> Option<Slot> {
        let disk = self.disk.as_ref().filter(|disk| disk.may_have(key))?;
        let loading = Loading {
            shared: self,
            digest: key.digest,
            cell: Arc::clone(self.loads().entry(key.digest).or_default()),
        };
        let slot = loading
            .cell
            .get_or_init(|| async {
                let asked = self.log.generation();
                let (disk, key) = (Arc::clone(disk), key.clone());
                let slot = spawn_blocking(move || disk.load(&key)).await.ok()??;
                self.keep(&slot, asked, Comes::FromDisk).then_some(slot)
            })
            .await
            .clone();
        drop(loading);
        // It may have been purged since it was read for somebody else.
        slot.filter(|slot| slot.key().bytes == key.bytes && disk.has(slot))
    }

    fn loads(&self) -> std::sync::MutexGuard<'_, HashMap<Digest, Load>> {
        self.loads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what was asked for then into memory if it fits. False if it was purged since, or may have been.
    fn keep(&self, slot: &Slot, asked: Generation, comes: Comes) -> bool {
        let label = slot.label();
        let held = self.log.hold();
        if held.was_purged(asked, &label.distribution, label.urls(), Some(&label.tags)) {
            return false;
        }
        if comes == Comes::FromDisk && !self.disk.as_ref().is_some_and(|disk| disk.has(slot)) {
            return false;
        }
        let digest = &slot.key().digest;
        let is_small = match slot {
            Slot::Varying(_) => true,
            Slot::Response(stored) => match &stored.content {
                Content::Memory(body) => body.len() as u64 <= self.memory_object,
                Content::File(..) => false,
            },
        };
        match comes {
            Comes::FromDisk if self.memory.has(digest) => {}
            _ if is_small => self.memory.insert(slot.clone()),
            Comes::FromOrigin => self.memory.remove(digest),
            Comes::FromDisk => {}
        }
        true
    }

    /// Writes what is in memory to disk too, in the background. What there is too much of is not written.
    fn write(self: &Arc<Self>, slot: Slot, asked: Generation) {
        use std::sync::atomic::Ordering::Relaxed;
        let Some(disk) = &self.disk else {
            return;
        };
        let weight = slot.weight();
        if self.waiting.fetch_add(weight, Relaxed) > MOST_WAITING {
            self.waiting.fetch_sub(weight, Relaxed);
            disk.forget(&slot.key().digest);
            return;
        }
        let (shared, disk) = (Arc::clone(self), Arc::clone(disk));
        drop(self.writes.spawn_blocking(move || {
            let document = match &slot {
                Slot::Varying(varying) => Document::Varying(varying),
                Slot::Response(stored) => match &stored.content {
                    Content::Memory(body) => Document::Whole(&stored.head, body),
                    Content::File(file, _) => Document::Refreshed(&stored.head, file),
                },
            };
            disk.store(document, asked);
            shared.waiting.fetch_sub(weight, Relaxed);
        }));
    }

    /// Marks that response stale in both tiers.
    async fn mark(&self, stored: &stored::Stored, now: Moment) {
        stored.mark(now);
        if let Some(disk) = &self.disk {
            let (digest, version) = (stored.head.key.digest, stored.head.version);
            let disk = Arc::clone(disk);
            let work = spawn_blocking(move || disk.mark_version(&digest, version, now));
            // It ends early only when the node does.
            let _ = work.await;
        }
    }

    /// Removes that response from both tiers.
    async fn discard(&self, stored: &stored::Stored) {
        let (digest, version) = (stored.head.key.digest, stored.head.version);
        self.memory.remove_version(&digest, version);
        if let Some(disk) = &self.disk {
            let disk = Arc::clone(disk);
            let work = spawn_blocking(move || disk.remove_version(&digest, version));
            // It ends early only when the node does.
            let _ = work.await;
        }
    }
}

/// Waits until the sender is gone.
async fn closed(receiver: &watch::Receiver<()>) {
    let _ = receiver.clone().changed().await;
}

/// What is read from disk, for all who ask for it.
type Load = Arc<OnceCell<Option<Slot>>>;

/// One who waits for a [`Load`], or did until now. It is forgotten when it is done, and when nobody waits any more.
struct Loading<'a> {
    shared: &'a Shared,
    digest: Digest,
    cell: Load,
}

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        let mut loads = self.shared.loads();
        let is_last = Arc::strong_count(&self.cell) <= 2;
        let is_ours = |load: &Load| Arc::ptr_eq(load, &self.cell);
        if (is_last || self.cell.initialized()) && loads.get(&self.digest).is_some_and(is_ours) {
            loads.remove(&self.digest);
        }
    }
}
