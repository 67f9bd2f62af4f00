//! What functions keep through `wasi:keyvalue`.

use super::Error;
use crate::model::ByteSize;

/// Key-value stores, each with a name of its own; one that nothing was written to is empty.
///
/// Every method is atomic, those on several keys included, and what was acknowledged is read by every later call.
/// Numbers are kept as decimal text, so that a function may also read and write a counter as a value.
#[async_trait::async_trait]
pub trait KeyValue: Send + Sync {
    /// The value of a key.
    async fn get(&self, store: &str, key: &str) -> Result<Option<Vec<u8>>, Error>;

    /// The values of several keys, in their order, as they were at one moment; at most [`KeyValueLimits::batch`] of them.
    async fn get_many(&self, store: &str, keys: Vec<String>)
    -> Result<Vec<Option<Vec<u8>>>, Error>;

    /// Whether a key exists.
    async fn exists(&self, store: &str, key: &str) -> Result<bool, Error>;

    /// Some of the keys, at most `limit` and never more than [`KeyValueLimits::page`], in the order they were created.
    ///
    /// `cursor` is the `next` of the page before. Keys that exist from the first page to the last are met exactly once,
    /// whatever is set and deleted meanwhile.
    async fn list_keys(
        &self,
        store: &str,
        cursor: Option<u64>,
        limit: usize,
    ) -> Result<KeyPage, Error>;

    /// Sets the value of a key.
    async fn set(&self, store: &str, key: &str, value: Vec<u8>) -> Result<(), Error> {
        self.set_many(store, vec![(key.to_owned(), value)]).await
    }

    /// Sets several keys, all or none.
    async fn set_many(&self, store: &str, entries: Vec<(String, Vec<u8>)>) -> Result<(), Error>;

    /// Deletes a key. One that does not exist is no error.
    async fn delete(&self, store: &str, key: &str) -> Result<(), Error> {
        self.delete_many(store, vec![key.to_owned()]).await
    }

    /// Deletes several keys, all or none.
    async fn delete_many(&self, store: &str, keys: Vec<String>) -> Result<(), Error>;

    /// Adds to a number and gives the sum. A key that does not exist counts as 0.
    async fn increment(&self, store: &str, key: &str, delta: i64) -> Result<i64, Error>;

    /// [`increment`](Self::increment) in numbers without a sign.
    async fn increment_unsigned(&self, store: &str, key: &str, delta: u64) -> Result<u64, Error>;

    /// Sets a value if the present one is `expected`, where none means that the key does not exist.
    async fn compare_and_swap(
        &self,
        store: &str,
        key: &str,
        expected: Option<Vec<u8>>,
        value: Vec<u8>,
    ) -> Result<Swap, Error>;
}

/// A page of keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyPage {
    /// The keys.
    pub keys: Vec<String>,
    /// Where the next page begins; none after the last.
    pub next: Option<u64>,
}

/// What came of a compare-and-swap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Swap {
    /// The value is set.
    Done,
    /// The value was another one, this one.
    Changed(Option<Vec<u8>>),
}

/// How much functions may keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyValueLimits {
    /// The longest key; 1 KB by default.
    pub key: ByteSize,
    /// The largest value; 1 MB by default.
    pub value: ByteSize,
    /// The most a store holds: for each entry, its key, its value and [`ENTRY`](Self::ENTRY) bytes; 256 MB by default.
    pub store: ByteSize,
    /// The most bytes of keys and values that one call carries, either way; 16 MB by default.
    ///
    /// A list of keys is small and may name a large value a thousand times: without this, its answer would be the node's
    /// memory.
    pub batch: ByteSize,
    /// The most keys of a page; 1,000 by default.
    pub page: usize,
}

impl KeyValueLimits {
    /// What an entry counts beside its key and value, so that a flood of tiny entries meets the limit too: about what
    /// its row and its places in two indexes take on disk.
    pub const ENTRY: u64 = 64;
}

impl Default for KeyValueLimits {
    fn default() -> Self {
        Self {
            key: ByteSize::kb(1),
            value: ByteSize::mb(1),
            store: ByteSize::mb(256),
            batch: ByteSize::mb(16),
            page: 1000,
        }
    }
}
