//! The key-value tables.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{Sqlite, from_sql, to_sql};
use crate::{
    model::ByteSize,
    store::{Error, KeyPage, KeyValue, KeyValueLimits, Swap},
};

#[async_trait::async_trait]
impl KeyValue for Sqlite {
    async fn get(&self, store: &str, key: &str) -> Result<Option<Vec<u8>>, Error> {
        let (store, key) = (store.to_owned(), key.to_owned());
        self.reader
            .read(move |connection| match find(connection, &store)? {
                Some(store) => get(connection, store, &key),
                None => Ok(None),
            })
            .await
    }

    async fn get_many(
        &self,
        store: &str,
        keys: Vec<String>,
    ) -> Result<Vec<Option<Vec<u8>>>, Error> {
        let store = store.to_owned();
        let mut batch = Batch::new(&self.limits);
        batch.add_keys(&keys)?;
        self.reader
            .read(move |connection| {
                let Some(store) = find(connection, &store)? else {
                    return Ok(vec![None; keys.len()]);
                };
                keys.iter()
                    .map(|key| {
                        let value = get(connection, store, key)?;
                        batch.add(value.as_ref().map_or(0, Vec::len))?;
                        Ok(value)
                    })
                    .collect()
            })
            .await
    }

    async fn exists(&self, store: &str, key: &str) -> Result<bool, Error> {
        let (store, key) = (store.to_owned(), key.to_owned());
        self.reader
            .read(move |connection| match find(connection, &store)? {
                Some(store) => Ok(connection
                    .prepare_cached("SELECT 1 FROM key_value WHERE store = ?1 AND key = ?2")?
                    .exists(params![store, key])?),
                None => Ok(false),
            })
            .await
    }

    async fn list_keys(
        &self,
        store: &str,
        cursor: Option<u64>,
        limit: usize,
    ) -> Result<KeyPage, Error> {
        let store = store.to_owned();
        let limit = limit.clamp(1, self.limits.page);
        self.reader
            .read(move |connection| match find(connection, &store)? {
                Some(store) => list_keys(connection, store, cursor.unwrap_or(0), limit),
                None => Ok(KeyPage::default()),
            })
            .await
    }

    async fn set_many(&self, store: &str, entries: Vec<(String, Vec<u8>)>) -> Result<(), Error> {
        let mut batch = Batch::new(&self.limits);
        for (key, value) in &entries {
            check_entry(&self.limits, key, value)?;
            batch.add(key.len() + value.len())?;
        }
        self.change(store, move |store| {
            entries
                .iter()
                .try_for_each(|(key, value)| store.set(key, value))
        })
        .await
    }

    async fn delete_many(&self, store: &str, keys: Vec<String>) -> Result<(), Error> {
        Batch::new(&self.limits).add_keys(&keys)?;
        self.change(store, move |store| {
            keys.iter().try_for_each(|key| store.delete(key))
        })
        .await
    }

    async fn increment(&self, store: &str, key: &str, delta: i64) -> Result<i64, Error> {
        self.add(store, key, delta, i64::checked_add).await
    }

    async fn increment_unsigned(&self, store: &str, key: &str, delta: u64) -> Result<u64, Error> {
        self.add(store, key, delta, u64::checked_add).await
    }

    async fn compare_and_swap(
        &self,
        store: &str,
        key: &str,
        expected: Option<Vec<u8>>,
        value: Vec<u8>,
    ) -> Result<Swap, Error> {
        check_entry(&self.limits, key, &value)?;
        let key = key.to_owned();
        self.change(store, move |store| {
            let found = store.get(&key)?;
            if found != expected {
                return Ok(Swap::Changed(found));
            }
            store.set(&key, &value)?;
            Ok(Swap::Done)
        })
        .await
    }
}

impl Sqlite {
    /// Changes one store. The change is undone if it fails, or if the store then holds more than it may and more than
    /// before: deleting always works.
    async fn change<R: Send + 'static>(
        &self,
        store: &str,
        work: impl FnOnce(&mut Changing<'_>) -> Result<R, Error> + Send + 'static,
    ) -> Result<R, Error> {
        let (name, limit) = (store.to_owned(), self.limits.store);
        self.writer
            .write(move |connection| {
                let (id, before) = find_or_make(connection, &name)?;
                let mut store = Changing {
                    connection,
                    id,
                    bytes: before,
                };
                let result = work(&mut store)?;
                let after = store.bytes;
                if after > before && after > to_sql(limit.as_u64()) {
                    return Err(Error::QuotaExceeded { store: name, limit });
                }
                if after != before {
                    connection
                        .prepare_cached("UPDATE key_value_store SET bytes = ?2 WHERE id = ?1")?
                        .execute(params![id, after])?;
                }
                Ok(result)
            })
            .await
    }

    async fn add<N>(
        &self,
        store: &str,
        key: &str,
        delta: N,
        add: fn(N, N) -> Option<N>,
    ) -> Result<N, Error>
    where
        N: std::str::FromStr + ToString + Default + Copy + Send + 'static,
    {
        check_key(&self.limits, key)?;
        let key = key.to_owned();
        self.change(store, move |store| {
            let found = match store.get(&key)? {
                Some(value) => str::from_utf8(&value)
                    .ok()
                    .and_then(|text| text.parse().ok())
                    .ok_or_else(|| Error::NotANumber { key: key.clone() })?,
                None => N::default(),
            };
            let sum = add(found, delta).ok_or_else(|| Error::Overflow { key: key.clone() })?;
            store.set(&key, sum.to_string().as_bytes())?;
            Ok(sum)
        })
        .await
    }
}

/// A store in the midst of a change.
struct Changing<'a> {
    connection: &'a Connection,
    id: i64,
    /// What its entries count together.
    bytes: i64,
}

impl Changing<'_> {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        get(self.connection, self.id, key)
    }

    fn set(&mut self, key: &str, value: &[u8]) -> Result<(), Error> {
        // An update keeps the entry's id, and so its place among the keys.
        let size = self.size(key)?;
        self.connection
            .prepare_cached(match size {
                Some(_) => "UPDATE key_value SET value = ?3 WHERE store = ?1 AND key = ?2",
                None => "INSERT INTO key_value (store, key, value) VALUES (?1, ?2, ?3)",
            })?
            .execute(params![self.id, key, value])?;
        self.bytes += entry_size(key, value.len() as u64) - size.unwrap_or(0);
        Ok(())
    }

    fn delete(&mut self, key: &str) -> Result<(), Error> {
        if let Some(size) = self.size(key)? {
            self.connection
                .prepare_cached("DELETE FROM key_value WHERE store = ?1 AND key = ?2")?
                .execute(params![self.id, key])?;
            self.bytes -= size;
        }
        Ok(())
    }

    /// What an entry counts, if there is one.
    fn size(&self, key: &str) -> Result<Option<i64>, Error> {
        let value: Option<i64> = self
            .connection
            .prepare_cached("SELECT length(value) FROM key_value WHERE store = ?1 AND key = ?2")?
            .query_row(params![self.id, key], |row| row.get(0))
            .optional()?;
        Ok(value.map(|length| entry_size(key, from_sql(length))))
    }
}

fn entry_size(key: &str, value: u64) -> i64 {
    to_sql(key.len() as u64 + value + KeyValueLimits::ENTRY)
}

fn check_key(limits: &KeyValueLimits, key: &str) -> Result<(), Error> {
    if key.len() > limits.key.as_usize() {
        return Err(Error::KeyTooLong {
            size: key.len(),
            limit: limits.key,
        });
    }
    Ok(())
}

fn check_entry(limits: &KeyValueLimits, key: &str, value: &[u8]) -> Result<(), Error> {
    check_key(limits, key)?;
    if value.len() > limits.value.as_usize() {
        return Err(Error::ValueTooLarge {
            size: value.len(),
            limit: limits.value,
        });
    }
    Ok(())
}

/// What one call may still carry.
struct Batch {
    left: usize,
    limit: ByteSize,
}

impl Batch {
    /// What a key or value counts beside its bytes: about what it takes in memory.
    const ITEM: usize = 32;

    fn new(limits: &KeyValueLimits) -> Self {
        Self {
            left: limits.batch.as_usize(),
            limit: limits.batch,
        }
    }

    fn add_keys(&mut self, keys: &[String]) -> Result<(), Error> {
        keys.iter().try_for_each(|key| self.add(key.len()))
    }

    fn add(&mut self, bytes: usize) -> Result<(), Error> {
        self.left = self
            .left
            .checked_sub(bytes.saturating_add(Self::ITEM))
            .ok_or(Error::BatchTooLarge { limit: self.limit })?;
        Ok(())
    }
}

fn find(connection: &Connection, name: &str) -> Result<Option<i64>, Error> {
    Ok(connection
        .prepare_cached("SELECT id FROM key_value_store WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()?)
}

fn find_or_make(connection: &Connection, name: &str) -> Result<(i64, i64), Error> {
    let found = connection
        .prepare_cached("SELECT id, bytes FROM key_value_store WHERE name = ?1")?
        .query_row([name], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    if let Some(found) = found {
        return Ok(found);
    }
    connection
        .prepare_cached("INSERT INTO key_value_store (name, bytes) VALUES (?1, 0)")?
        .execute([name])?;
    Ok((connection.last_insert_rowid(), 0))
}

fn get(connection: &Connection, store: i64, key: &str) -> Result<Option<Vec<u8>>, Error> {
    Ok(connection
        .prepare_cached("SELECT value FROM key_value WHERE store = ?1 AND key = ?2")?
        .query_row(params![store, key], |row| row.get(0))
        .optional()?)
}

fn list_keys(
    connection: &Connection,
    store: i64,
    after: u64,
    limit: usize,
) -> Result<KeyPage, Error> {
    // One more than asked for tells whether there is another page.
    let wanted = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
    let mut statement = connection.prepare_cached(
        "SELECT id, key FROM key_value INDEXED BY key_value_by_store
         WHERE store = ?1 AND id > ?2 ORDER BY id LIMIT ?3",
    )?;
    let mut rows = statement.query(params![store, to_sql(after), wanted])?;
    let mut page = KeyPage::default();
    let mut last = after;
    while let Some(row) = rows.next()? {
        if page.keys.len() == limit {
            page.next = Some(last);
            break;
        }
        last = from_sql(row.get(0)?);
        page.keys.push(row.get(1)?);
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::{super::tests::*, *};
    use crate::store::DataFolder;

    #[tokio::test]
    async fn a_value_is_there_after_a_kill() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        assert_eq!(store.get("a", "key").await.unwrap(), None);
        store.set("a", "key", b"value".to_vec()).await.unwrap();
        assert_eq!(store.get("a", "key").await.unwrap().unwrap(), b"value");
        assert!(store.exists("a", "key").await.unwrap());

        let killed = killed(folder.path());
        let store = open(killed.path());
        assert_eq!(store.get("a", "key").await.unwrap().unwrap(), b"value");
    }

    #[tokio::test]
    async fn stores_do_not_see_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        store.set("a", "key", b"1".to_vec()).await.unwrap();
        store.set("b", "key", b"2".to_vec()).await.unwrap();
        store.delete("a", "key").await.unwrap();
        store.delete("a", "key").await.unwrap();
        assert!(!store.exists("a", "key").await.unwrap());
        assert_eq!(store.get("b", "key").await.unwrap().unwrap(), b"2");
        assert_eq!(
            store.list_keys("a", None, 10).await.unwrap(),
            KeyPage::default()
        );
        assert_eq!(
            store.list_keys("c", None, 10).await.unwrap(),
            KeyPage::default()
        );
    }

    #[tokio::test]
    async fn several_keys_change_together_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let entries = vec![("a".to_owned(), b"1".to_vec()), ("b".to_owned(), vec![])];
        store.set_many("s", entries).await.unwrap();
        let keys = ["b", "c", "a"].map(str::to_owned).to_vec();
        let values = store.get_many("s", keys.clone()).await.unwrap();
        assert_eq!(values, [Some(vec![]), None, Some(b"1".to_vec())]);

        let huge = vec![
            ("c".to_owned(), vec![]),
            ("d".to_owned(), vec![0; (1 << 20) + 1]),
        ];
        let error = store.set_many("s", huge).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "a value of 1048577 bytes is larger than 1 MB"
        );
        assert!(!store.exists("s", "c").await.unwrap());

        store.delete_many("s", keys).await.unwrap();
        assert_eq!(
            store.list_keys("s", None, 10).await.unwrap(),
            KeyPage::default()
        );
    }

    #[tokio::test]
    async fn a_small_question_for_a_large_answer_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        store.set("s", "k", vec![0; 1 << 20]).await.unwrap();
        let keys = vec!["k".to_owned(); 17];
        let error = store.get_many("s", keys.clone()).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "keys and values of one call are more than 16 MB"
        );
        store.get_many("s", keys[2..].to_vec()).await.unwrap();
    }

    #[tokio::test]
    async fn increments_at_once_all_count_and_share_commits() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let before = store.writer.commits();
        let sums = (0..200).map(|_| store.increment("s", "n", 1));
        let mut sums: Vec<_> = futures::future::join_all(sums)
            .await
            .into_iter()
            .map(Result::unwrap)
            .collect();
        sums.sort_unstable();
        assert_eq!(sums, (1..=200).collect::<Vec<_>>());
        assert_eq!(store.get("s", "n").await.unwrap().unwrap(), b"200");
        let commits = store.writer.commits() - before;
        assert!(commits <= 50, "{commits} commits for 200 increments");
    }

    #[tokio::test]
    async fn a_number_neither_wraps_nor_changes_its_kind() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        assert_eq!(store.increment("s", "n", -5).await.unwrap(), -5);
        let error = store.increment_unsigned("s", "n", 1).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "the value of `n` is not a number that can be incremented"
        );
        let error = store.increment("s", "n", i64::MIN).await.unwrap_err();
        assert_eq!(error.to_string(), "the value of `n` would overflow");
        assert_eq!(store.get("s", "n").await.unwrap().unwrap(), b"-5");

        assert_eq!(
            store.increment_unsigned("s", "u", u64::MAX).await.unwrap(),
            u64::MAX
        );
        store.increment_unsigned("s", "u", 1).await.unwrap_err();
        store.set("s", "t", b"ten".to_vec()).await.unwrap();
        store.increment("s", "t", 1).await.unwrap_err();
    }

    #[tokio::test]
    async fn of_swaps_at_once_one_succeeds_and_the_others_learn_the_value() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let swaps = (0..10u8).map(|n| store.compare_and_swap("s", "k", None, vec![n]));
        let swaps: Vec<_> = futures::future::join_all(swaps)
            .await
            .into_iter()
            .map(Result::unwrap)
            .collect();
        let value = store.get("s", "k").await.unwrap();
        assert_eq!(swaps.iter().filter(|swap| **swap == Swap::Done).count(), 1);
        assert_eq!(
            swaps
                .iter()
                .filter(|swap| **swap == Swap::Changed(value.clone()))
                .count(),
            9
        );
        let swap = store
            .compare_and_swap("s", "k", value, b"new".to_vec())
            .await;
        assert_eq!(swap.unwrap(), Swap::Done);
    }

    #[tokio::test]
    async fn a_flood_ends_at_the_quota_and_deleting_makes_room() {
        let folder = tempfile::tempdir().unwrap();
        let limits = KeyValueLimits {
            store: ByteSize::kb(1),
            ..KeyValueLimits::default()
        };
        let data = DataFolder::open(folder.path()).unwrap();
        let store = Sqlite::open(&data, limits).unwrap();
        let mut fitted = 0;
        let error = loop {
            match store.set("s", &format!("{fitted:04}"), vec![]).await {
                Ok(()) => fitted += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(error.to_string(), "the store `s` would hold more than 1 KB");
        assert_eq!(fitted, 1024 / (4 + KeyValueLimits::ENTRY));
        assert!(!store.exists("s", &format!("{fitted:04}")).await.unwrap());

        store.set("other", "key", vec![0; 500]).await.unwrap();
        store.delete("s", "0000").await.unwrap();
        store.set("s", "0000", vec![]).await.unwrap();
        store.set("s", "0000", vec![0; 500]).await.unwrap_err();

        // A limit that was lowered: what is there may be deleted bit by bit.
        drop((store, data));
        let data = DataFolder::open(folder.path()).unwrap();
        let limits = KeyValueLimits {
            store: ByteSize::bytes(1),
            ..limits
        };
        let store = Sqlite::open(&data, limits).unwrap();
        store.delete("s", "0000").await.unwrap();
        store.set("s", "0000", vec![]).await.unwrap_err();
    }

    #[tokio::test]
    async fn a_key_has_a_length() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let key = "x".repeat(1025);
        for error in [
            store.set("s", &key, vec![]).await.unwrap_err(),
            store.increment("s", &key, 1).await.unwrap_err(),
            store
                .compare_and_swap("s", &key, None, vec![])
                .await
                .unwrap_err(),
        ] {
            assert_eq!(error.to_string(), "a key of 1025 bytes is longer than 1 KB");
        }
        store.set("s", &key[1..], vec![]).await.unwrap();
        store.set("s", "", vec![]).await.unwrap();
        store.set("s", "a\0b", vec![]).await.unwrap();
        store.set("s", "a\0c", b"c".to_vec()).await.unwrap();
        assert_eq!(store.get("s", "a\0b").await.unwrap().unwrap(), b"");
        let keys = store.list_keys("s", None, 10).await.unwrap().keys;
        assert_eq!(keys, [&key[1..], "", "a\0b", "a\0c"]);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Set(u8, u8),
        Delete(u8),
        Page(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0..20u8, any::<u8>()).prop_map(|(key, value)| Step::Set(key, value)),
            2 => (0..20u8).prop_map(Step::Delete),
            2 => (1..5usize).prop_map(Step::Page),
        ];
        proptest::collection::vec(step, 1..40)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Against a map: values are the map's; and of a listing that goes on while keys change, every key that was
        /// there all the time is met once, no key twice, and none that never was there during the listing.
        #[test]
        fn a_listing_meets_every_lasting_key_once(steps in steps()) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let folder = tempfile::tempdir().unwrap();
                let store = open(folder.path());
                let mut map = BTreeMap::new();
                let mut cursor = None;
                let mut met: Vec<String> = Vec::new();
                // Keys that were there since the listing began, and keys that were there at any time of it.
                let mut lasting: Vec<String> = Vec::new();
                let mut ever: Vec<String> = Vec::new();
                let finish = |met: &mut Vec<String>, lasting: &[String], ever: &[String]| {
                    met.sort_unstable();
                    prop_assert!(lasting.iter().all(|key| met.contains(key)));
                    prop_assert!(met.iter().all(|key| ever.contains(key)));
                    met.clear();
                    Ok(())
                };
                for step in steps.into_iter().chain([Step::Page(100)]) {
                    match step {
                        Step::Set(key, value) => {
                            let key = format!("key{key}");
                            store.set("s", &key, vec![value]).await.unwrap();
                            ever.push(key.clone());
                            map.insert(key, vec![value]);
                        }
                        Step::Delete(key) => {
                            let key = format!("key{key}");
                            store.delete("s", &key).await.unwrap();
                            lasting.retain(|it| *it != key);
                            map.remove(&key);
                        }
                        Step::Page(limit) => {
                            let page = store.list_keys("s", cursor, limit).await.unwrap();
                            prop_assert!(page.keys.len() <= limit);
                            for key in &page.keys {
                                prop_assert!(map.contains_key(key));
                                // A key may be met again only if it was deleted and made anew.
                                prop_assert!(!(lasting.contains(key) && met.contains(key)));
                            }
                            met.extend(page.keys);
                            cursor = page.next;
                            if cursor.is_none() {
                                finish(&mut met, &lasting, &ever)?;
                                lasting = map.keys().cloned().collect();
                                ever.clone_from(&lasting);
                            }
                        }
                    }
                }
                let keys: Vec<_> = map.keys().cloned().collect();
                let values: Vec<_> = map.values().cloned().map(Some).collect();
                prop_assert_eq!(store.get_many("s", keys).await.unwrap(), values);
                Ok(())
            })?;
        }
    }
}
