//! What the cache did, as plain numbers.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use super::status::Handling;
use crate::model::CacheResult;

/// What the cache did since it was opened, by distribution, and what it holds now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Statistics {
    /// By the name of the distribution.
    pub distributions: BTreeMap<String, Counts>,
    /// Bytes that the memory tier holds.
    pub memory_bytes: u64,
    /// Responses that the memory tier holds.
    pub memory_objects: u64,
    /// Bytes that the disk tier holds.
    pub disk_bytes: u64,
    /// Responses that the disk tier holds.
    pub disk_objects: u64,
    /// Files that did not hold what was written, and were removed.
    pub corrupt: u64,
    /// Responses that the disk did not take.
    pub disk_failures: u64,
}

/// What the cache did for one distribution. Each request that it answered is in one of the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Requests answered from a fresh stored response.
    pub hits: u64,
    /// Requests that went to the origin because nothing that is stored answers them.
    pub misses: u64,
    /// Requests answered from a stale stored response.
    pub stale: u64,
    /// Requests answered from a stored response that the origin, asked for them, said is still good.
    pub revalidated: u64,
    /// Requests answered by the response to another request.
    pub collapsed: u64,
    /// Requests that are not for the cache.
    pub bypass: u64,
    /// What the memory tier took and gave up.
    pub memory: TierCounts,
    /// What the disk tier took and gave up.
    pub disk: TierCounts,
}

/// What a tier took and gave up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TierCounts {
    /// Responses stored.
    pub stored_objects: u64,
    /// Their bytes.
    pub stored_bytes: u64,
    /// Responses evicted for lack of room.
    pub evicted_objects: u64,
    /// Their bytes.
    pub evicted_bytes: u64,
}

/// The counters of one distribution.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) hits: AtomicU64,
    pub(super) misses: AtomicU64,
    pub(super) stale: AtomicU64,
    pub(super) revalidated: AtomicU64,
    pub(super) collapsed: AtomicU64,
    pub(super) bypass: AtomicU64,
    pub(super) memory: TierCounters,
    pub(super) disk: TierCounters,
}

/// The counters of one tier.
#[derive(Debug, Default)]
pub(super) struct TierCounters {
    stored_objects: AtomicU64,
    stored_bytes: AtomicU64,
    evicted_objects: AtomicU64,
    evicted_bytes: AtomicU64,
}

impl Counters {
    /// Counts a request that is answered: as one thing, and as the same that the metrics and the access log call it.
    pub(super) fn count(&self, handling: &Handling) {
        count(match handling.handled().result {
            CacheResult::Hit => &self.hits,
            CacheResult::Stale => &self.stale,
            CacheResult::Revalidated => &self.revalidated,
            CacheResult::Collapsed => &self.collapsed,
            CacheResult::Miss => &self.misses,
            CacheResult::Bypass => &self.bypass,
        });
    }

    fn read(&self) -> Counts {
        Counts {
            hits: self.hits.load(Relaxed),
            misses: self.misses.load(Relaxed),
            stale: self.stale.load(Relaxed),
            revalidated: self.revalidated.load(Relaxed),
            collapsed: self.collapsed.load(Relaxed),
            bypass: self.bypass.load(Relaxed),
            memory: self.memory.read(),
            disk: self.disk.read(),
        }
    }
}

impl TierCounters {
    pub(super) fn stored(&self, bytes: u64) {
        self.stored_objects.fetch_add(1, Relaxed);
        self.stored_bytes.fetch_add(bytes, Relaxed);
    }

    pub(super) fn evicted(&self, bytes: u64) {
        self.evicted_objects.fetch_add(1, Relaxed);
        self.evicted_bytes.fetch_add(bytes, Relaxed);
    }

    fn read(&self) -> TierCounts {
        TierCounts {
            stored_objects: self.stored_objects.load(Relaxed),
            stored_bytes: self.stored_bytes.load(Relaxed),
            evicted_objects: self.evicted_objects.load(Relaxed),
            evicted_bytes: self.evicted_bytes.load(Relaxed),
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

/// The counters of all distributions. A stored response has its own at hand: a hit does not come here.
#[derive(Debug, Default)]
pub(super) struct Registry(RwLock<HashMap<Arc<str>, Arc<Counters>>>);

impl Registry {
    /// The counters of a distribution, and the one copy of its name.
    pub(super) fn of(&self, distribution: &str) -> (Arc<str>, Arc<Counters>) {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((name, counters)) = known.get_key_value(distribution) {
            return (Arc::clone(name), Arc::clone(counters));
        }
        drop(known);
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let name: Arc<str> = distribution.into();
        let counters = known.entry(Arc::clone(&name)).or_default();
        (name, Arc::clone(counters))
    }

    /// The numbers of a distribution; all 0 if it has none.
    pub(super) fn counts(&self, distribution: &str) -> Counts {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let counters = known.get(distribution);
        counters.map(|counters| counters.read()).unwrap_or_default()
    }

    pub(super) fn forget(&self, distribution: &str) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.remove(distribution);
    }

    pub(super) fn read(&self) -> BTreeMap<String, Counts> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known
            .iter()
            .map(|(name, counters)| (name.as_ref().to_owned(), counters.read()))
            .collect()
    }
}
