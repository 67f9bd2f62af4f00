//! The tier in memory: small responses, whole, and which resources have variants.
//!
//! A lookup takes no lock and copies nothing but a reference. What is evicted may still be on disk.

use std::sync::{Arc, Mutex, PoisonError};

use moka::{notification::RemovalCause, sync::Cache};

use super::{
    clock::Moment,
    index::{Index, Label, Tier},
    key::{Digest, DigestHasher, Key},
    stored::{Content, Stored, Varying},
};

/// What a stored response costs beside its bytes: the entry, the index and the allocator.
const OVERHEAD: u64 = 768;

/// How many locks the digests share.
const STRIPES: usize = 64;

/// What a field costs beside its bytes.
const FIELD_OVERHEAD: u64 = 64;

/// What is found under a key.
#[derive(Debug, Clone)]
pub(super) enum Slot {
    Response(Arc<Stored>),
    /// Variants are under keys of their own.
    Varying(Arc<Varying>),
}

impl Slot {
    pub(super) fn key(&self) -> &Key {
        match self {
            Self::Response(stored) => &stored.head.key,
            Self::Varying(varying) => &varying.key,
        }
    }

    pub(super) fn label(&self) -> &Label {
        match self {
            Self::Response(stored) => &stored.head.label,
            Self::Varying(varying) => &varying.label,
        }
    }

    pub(super) fn version(&self) -> u64 {
        match self {
            Self::Response(stored) => stored.head.version,
            Self::Varying(varying) => varying.version,
        }
    }

    /// When it came from the origin.
    fn received(&self) -> Moment {
        match self {
            Self::Response(stored) => stored.head.freshness.received,
            Self::Varying(varying) => varying.received,
        }
    }

    /// The bytes that it takes in memory.
    pub(super) fn weight(&self) -> u64 {
        let key = (self.key().bytes.len() + self.label().url.len()) as u64;
        let rest = match self {
            Self::Response(stored) => weight(stored),
            Self::Varying(varying) => varying.vary.names().len() as u64 * FIELD_OVERHEAD,
        };
        OVERHEAD + key + rest
    }
}

fn weight(stored: &Stored) -> u64 {
    let head = &stored.head;
    let fields = (head.headers.iter().chain(&head.hidden))
        .map(|(name, value)| name.as_str().len() as u64 + value.len() as u64 + FIELD_OVERHEAD);
    let tags = (head.label.tags.iter()).map(|tag| tag.len() as u64 + FIELD_OVERHEAD);
    let body = match &stored.content {
        Content::Memory(body) => body.len() as u64,
        Content::File(..) => 0,
    };
    fields.sum::<u64>() + tags.sum::<u64>() + body
}

/// Responses in memory, by the digest of their keys.
#[derive(Debug)]
pub(super) struct Memory {
    slots: Cache<Digest, Slot, DigestHasher>,
    index: Arc<Index>,
    /// What is under a digest and in the index is the same: one at a time changes both.
    stripes: [Mutex<()>; STRIPES],
}

impl Memory {
    pub(super) fn new(capacity: u64, index: &Arc<Index>) -> Self {
        let listener = Arc::clone(index);
        let slots = Cache::builder()
            .max_capacity(capacity)
            .weigher(|_, slot: &Slot| u32::try_from(slot.weight()).unwrap_or(u32::MAX))
            .eviction_listener(move |digest: Arc<Digest>, slot: Slot, cause| {
                listener.remove(&digest, Tier::Memory, slot.version());
                if let (RemovalCause::Size, Slot::Response(stored)) = (cause, &slot) {
                    stored.head.counters.memory.evicted(stored.length);
                }
            })
            .build_with_hasher(DigestHasher::default());
        Self {
            slots,
            index: Arc::clone(index),
            stripes: std::array::from_fn(|_| Mutex::default()),
        }
    }

    /// What is under a key. The whole key is compared: a digest is not proof.
    pub(super) fn get(&self, key: &Key) -> Option<Slot> {
        let slot = self.slots.get(&key.digest)?;
        (slot.key().bytes == key.bytes).then_some(slot)
    }

    pub(super) fn has(&self, digest: &Digest) -> bool {
        self.slots.contains_key(digest)
    }

    /// Keeps it in place of what is there, unless that came later: a large answer may be on its way for longer than its successor.
    pub(super) fn insert(&self, slot: Slot) {
        let (digest, version) = (slot.key().digest, slot.version());
        let stripe = &self.stripes[usize::from(digest[0]) % STRIPES];
        let _one = stripe.lock().unwrap_or_else(PoisonError::into_inner);
        let there = self.slots.get(&digest);
        if there.is_some_and(|there| there.received() > slot.received()) {
            return;
        }
        // Before the slot: an eviction that comes at once then finds it.
        self.index.add(digest, slot.label(), Tier::Memory, version);
        if let Slot::Response(stored) = &slot {
            stored.head.counters.memory.stored(stored.length);
        }
        self.slots.insert(digest, slot);
    }

    pub(super) fn mark(&self, digest: &Digest, now: Moment) {
        if let Some(Slot::Response(stored)) = self.slots.get(digest) {
            stored.mark(now);
        }
    }

    pub(super) fn remove(&self, digest: &Digest) {
        self.slots.invalidate(digest);
    }

    /// Removes that version of a response, and no other.
    pub(super) fn remove_version(&self, digest: &Digest, version: u64) {
        let found = self.slots.get(digest);
        if found.is_some_and(|slot| slot.version() == version) {
            self.slots.invalidate(digest);
        }
    }

    /// The bytes and the responses that it holds now.
    pub(super) fn size(&self) -> (u64, u64) {
        self.slots.run_pending_tasks();
        (self.slots.weighted_size(), self.slots.entry_count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::cache::stored::Head;

    fn stored(key: Key) -> Slot {
        let head = Head::example(key);
        let content = Content::Memory(bytes::Bytes::new());
        Slot::Response(Arc::new(Stored::new(head, content, 0, None)))
    }

    #[test]
    fn the_same_digest_is_no_proof_of_the_same_key() {
        let memory = Memory::new(1 << 20, &Arc::default());
        let key = Key::of_bytes(b"one");
        let forged = Key {
            digest: key.digest,
            bytes: (*b"two").into(),
        };
        memory.insert(stored(key.clone()));
        assert!(memory.get(&key).is_some());
        assert!(memory.get(&forged).is_none());
    }

    #[test]
    fn a_version_is_removed_only_while_it_is_there() {
        let memory = Memory::new(1 << 20, &Arc::default());
        let key = Key::of_bytes(b"one");
        memory.insert(stored(key.clone()));
        memory.remove_version(&key.digest, 2);
        assert!(memory.get(&key).is_some());
        memory.remove_version(&key.digest, 1);
        assert!(memory.get(&key).is_none());
    }

    #[test]
    fn what_came_later_stays() {
        let memory = Memory::new(1 << 20, &Arc::default());
        let key = Key::of_bytes(b"one");
        for (received, version, kept) in [(5, 1, 1), (4, 2, 1), (5, 3, 3), (6, 4, 4)] {
            let mut head = Head::example(key.clone());
            head.freshness.received = Moment::from_millis(received);
            head.version = version;
            let content = Content::Memory(bytes::Bytes::new());
            memory.insert(Slot::Response(Arc::new(Stored::new(
                head, content, 0, None,
            ))));
            assert_eq!(memory.get(&key).unwrap().version(), kept);
        }
    }

    /// Fields that clients do not see take memory too.
    #[test]
    fn tags_and_urls_weigh_what_they_take() {
        let mut head = Head::example(Key::of_bytes(b"one"));
        let weight = |head: &Head| {
            let content = Content::Memory(bytes::Bytes::new());
            Slot::Response(Arc::new(Stored::new(head.clone(), content, 0, None))).weight()
        };
        let before = weight(&head);
        let tags = "t".repeat(10_000);
        head.hidden.insert("cache-tag", tags.parse().unwrap());
        head.label.tags = [tags.as_str().into()].into();
        head.label.url = "u".repeat(3000).into();
        assert!(weight(&head) > before + 22_900);
    }
}
