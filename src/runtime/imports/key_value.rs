//! `wasi:keyvalue@0.2.0-draft`, and what both drafts of `wasi:keyvalue` share.
//!
//! A function reaches the stores it was granted and no other. What it may keep there is the store's business: see
//! [`KeyValueLimits`](crate::store::KeyValueLimits).

use std::{collections::BTreeMap, sync::Arc};

use wasmtime::component::{HasData, Linker, Resource, ResourceTable, ResourceTableError};

use crate::{
    model::Fault,
    runtime::bindings::wasi::keyvalue0_2_0_draft::{atomics, batch, store},
    store::{self as state, KeyValue},
};

/// What `wasi:keyvalue` needs of a store's state.
pub(crate) struct KeyValueView<'a> {
    /// Where values are kept.
    pub(crate) store: &'a Arc<dyn KeyValue>,
    /// What the function may open: the identifier it uses, and the store on the node.
    pub(crate) grants: &'a BTreeMap<String, String>,
    /// Where the instance's resources are.
    pub(crate) table: &'a mut ResourceTable,
    /// Counts the calls to the store, for the receipt.
    pub(crate) calls: &'a mut u64,
}

/// Adds both drafts to a linker.
pub(crate) fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    get: fn(&mut T) -> KeyValueView<'_>,
) -> wasmtime::Result<()> {
    store::add_to_linker::<T, HasKeyValue>(linker, get)?;
    atomics::add_to_linker::<T, HasKeyValue>(linker, get)?;
    batch::add_to_linker::<T, HasKeyValue>(linker, get)?;
    super::key_value_draft2::add_to_linker(linker, get)
}

pub(super) struct HasKeyValue;

impl HasData for HasKeyValue {
    type Data<'a> = KeyValueView<'a>;
}

/// A store that a guest has opened, by its name on the node.
#[expect(unreachable_pub, reason = "`bindgen!` re-exports it")]
pub struct Bucket(Arc<str>);

/// A value as a guest saw it, to be swapped if it is still so.
#[expect(unreachable_pub, reason = "`bindgen!` re-exports it")]
pub struct Cas {
    pub(super) store: Arc<str>,
    pub(super) key: String,
    pub(super) seen: Option<Vec<u8>>,
}

/// Why a call failed, for either draft.
#[expect(unreachable_pub, reason = "`bindgen!` re-exports it")]
#[derive(Debug)]
pub enum Error {
    /// The function may not open that store.
    AccessDenied,
    /// Anything else that the guest is told, in words.
    Other(String),
    /// What no correct guest can do: it traps.
    Trap(wasmtime::Error),
}

impl From<state::Error> for Error {
    /// The guest is told what it did wrong, and of the node's own troubles only that there are some.
    fn from(error: state::Error) -> Self {
        match error.fault() {
            Fault::Guest => Self::Other(error.to_string()),
            Fault::None | Fault::Client | Fault::Origin | Fault::Host => {
                let cause = std::error::Error::source(&error).map(tracing::field::display);
                tracing::error!(%error, cause, "key-value store failed");
                Self::Other("the node's key-value store failed".to_owned())
            }
        }
    }
}

impl From<ResourceTableError> for Error {
    fn from(error: ResourceTableError) -> Self {
        Self::Trap(error.into())
    }
}

// What both drafts do, once.
impl KeyValueView<'_> {
    pub(super) fn open(&mut self, identifier: &str) -> Result<Resource<Bucket>, Error> {
        *self.calls += 1;
        let store = self.grants.get(identifier).ok_or(Error::AccessDenied)?;
        Ok(self.table.push(Bucket(store.as_str().into()))?)
    }

    /// The name of a bucket's store, for one more call to it.
    pub(super) fn call(&mut self, bucket: &Resource<Bucket>) -> Result<Arc<str>, Error> {
        *self.calls += 1;
        Ok(Arc::clone(&self.table.get(bucket)?.0))
    }
}

/// As many keys a page as the store gives.
pub(super) const PAGE: usize = usize::MAX;

impl store::Host for KeyValueView<'_> {
    async fn open(&mut self, identifier: String) -> Result<Resource<Bucket>, Error> {
        KeyValueView::open(self, &identifier)
    }

    fn convert_error(&mut self, error: Error) -> wasmtime::Result<store::Error> {
        match error {
            Error::AccessDenied => Ok(store::Error::AccessDenied),
            Error::Other(message) => Ok(store::Error::Other(message)),
            Error::Trap(error) => Err(error),
        }
    }
}

impl store::HostBucket for KeyValueView<'_> {
    async fn get(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
    ) -> Result<Option<Vec<u8>>, Error> {
        let store = self.call(&bucket)?;
        Ok(self.store.get(&store, &key).await?)
    }

    async fn set(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
        value: Vec<u8>,
    ) -> Result<(), Error> {
        let store = self.call(&bucket)?;
        Ok(self.store.set(&store, &key, value).await?)
    }

    async fn delete(&mut self, bucket: Resource<Bucket>, key: String) -> Result<(), Error> {
        let store = self.call(&bucket)?;
        Ok(self.store.delete(&store, &key).await?)
    }

    async fn exists(&mut self, bucket: Resource<Bucket>, key: String) -> Result<bool, Error> {
        let store = self.call(&bucket)?;
        Ok(self.store.exists(&store, &key).await?)
    }

    async fn list_keys(
        &mut self,
        bucket: Resource<Bucket>,
        cursor: Option<u64>,
    ) -> Result<store::KeyResponse, Error> {
        let store = self.call(&bucket)?;
        let page = self.store.list_keys(&store, cursor, PAGE).await?;
        Ok(store::KeyResponse {
            keys: page.keys,
            cursor: page.next,
        })
    }

    async fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.table.delete(bucket)?;
        Ok(())
    }
}

impl atomics::Host for KeyValueView<'_> {
    async fn increment(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
        delta: u64,
    ) -> Result<u64, Error> {
        let store = self.call(&bucket)?;
        Ok(self.store.increment_unsigned(&store, &key, delta).await?)
    }
}

impl batch::Host for KeyValueView<'_> {
    async fn get_many(
        &mut self,
        bucket: Resource<Bucket>,
        keys: Vec<String>,
    ) -> Result<Vec<Option<(String, Vec<u8>)>>, Error> {
        let store = self.call(&bucket)?;
        let values = self.store.get_many(&store, keys.clone()).await?;
        Ok(keys
            .into_iter()
            .zip(values)
            .map(|(key, value)| Some((key, value?)))
            .collect())
    }

    async fn set_many(
        &mut self,
        bucket: Resource<Bucket>,
        entries: Vec<(String, Vec<u8>)>,
    ) -> Result<(), Error> {
        let store = self.call(&bucket)?;
        Ok(self.store.set_many(&store, entries).await?)
    }

    async fn delete_many(
        &mut self,
        bucket: Resource<Bucket>,
        keys: Vec<String>,
    ) -> Result<(), Error> {
        let store = self.call(&bucket)?;
        Ok(self.store.delete_many(&store, keys).await?)
    }
}

#[cfg(test)]
mod tests {
    use wasmtime::Engine;

    use super::*;
    use crate::{
        runtime::bindings::wasi::keyvalue0_2_0_draft2 as draft2,
        store::{DataFolder, KeyValueLimits, Sqlite},
    };

    /// What a guest has: a table, and grants to open `default` and `counts`, both the node's store `shop`.
    struct Guest {
        _folder: tempfile::TempDir,
        store: Arc<dyn KeyValue>,
        grants: BTreeMap<String, String>,
        table: ResourceTable,
        calls: u64,
    }

    impl Guest {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let data = DataFolder::open(folder.path()).unwrap();
            let store = Sqlite::open(&data, KeyValueLimits::default()).unwrap();
            let grants = ["default", "counts"].map(|name| (name.to_owned(), "shop".to_owned()));
            Self {
                _folder: folder,
                store: Arc::new(store),
                grants: grants.into(),
                table: ResourceTable::new(),
                calls: 0,
            }
        }

        fn view(&mut self) -> KeyValueView<'_> {
            KeyValueView {
                store: &self.store,
                grants: &self.grants,
                table: &mut self.table,
                calls: &mut self.calls,
            }
        }

        fn open(&mut self, identifier: &str) -> Result<u32, Error> {
            Ok(self.view().open(identifier)?.rep())
        }
    }

    /// The guest lends its handle for a call.
    fn lend<T: 'static>(handle: u32) -> Resource<T> {
        Resource::new_borrow(handle)
    }

    #[test]
    fn both_drafts_fit_into_one_linker() {
        let mut linker = Linker::<Guest>::new(&Engine::default());
        add_to_linker(&mut linker, Guest::view).unwrap();
    }

    #[tokio::test]
    async fn a_store_that_was_not_granted_cannot_be_opened() {
        let mut guest = Guest::new();
        // `shop` is the node's name of the store, not the function's.
        for identifier in ["", "shop", "other"] {
            assert!(matches!(guest.open(identifier), Err(Error::AccessDenied)));
        }
        guest.open("default").unwrap();
    }

    #[tokio::test]
    async fn what_one_draft_writes_the_other_reads() {
        let mut guest = Guest::new();
        let first = guest.open("default").unwrap();
        let second = guest.open("counts").unwrap();
        let view = &mut guest.view();
        let key = || "visits".to_owned();
        assert_eq!(
            atomics::Host::increment(view, lend(first), key(), 41)
                .await
                .unwrap(),
            41
        );
        assert_eq!(
            draft2::atomics::Host::increment(view, lend(second), key(), 1)
                .await
                .unwrap(),
            42
        );
        assert_eq!(
            store::HostBucket::get(view, lend(first), key())
                .await
                .unwrap()
                .unwrap(),
            b"42"
        );
        let keys = vec![key(), "none".to_owned()];
        let values = batch::Host::get_many(view, lend(first), keys.clone())
            .await
            .unwrap();
        assert_eq!(values, [Some((key(), b"42".to_vec())), None]);
        let values = draft2::batch::Host::get_many(view, lend(second), keys)
            .await
            .unwrap();
        assert_eq!(
            values,
            [(key(), Some(b"42".to_vec())), ("none".to_owned(), None)]
        );
        assert_eq!(guest.calls, 7, "two opened, five on buckets");
    }

    #[tokio::test]
    async fn a_failed_swap_hands_back_a_handle_that_saw_the_new_value() {
        use draft2::atomics::{CasError, Host as _, HostCas as _};
        let mut guest = Guest::new();
        let bucket = guest.open("default").unwrap();
        let view = &mut guest.view();
        let key = || "key".to_owned();
        let mine = view.new(lend(bucket), key()).await.unwrap();
        let theirs = view.new(lend(bucket), key()).await.unwrap();
        view.swap(theirs, b"theirs".to_vec())
            .await
            .unwrap()
            .unwrap();
        let Err(CasError::CasFailed(again)) = view.swap(mine, b"mine".to_vec()).await.unwrap()
        else {
            panic!("the swap succeeded");
        };
        let seen = view.current(lend(again.rep())).await.unwrap();
        assert_eq!(seen.unwrap(), b"theirs");
        view.swap(again, b"mine".to_vec()).await.unwrap().unwrap();
        let value = draft2::store::HostBucket::get(view, lend(bucket), key()).await;
        assert_eq!(value.unwrap().unwrap(), b"mine");
    }

    #[tokio::test]
    async fn pages_of_keys_lead_from_one_to_the_next() {
        let mut guest = Guest::new();
        let bucket = guest.open("default").unwrap();
        let view = &mut guest.view();
        let entries = (0..1500).map(|n| (format!("{n}"), vec![])).collect();
        batch::Host::set_many(view, lend(bucket), entries)
            .await
            .unwrap();
        let first = store::HostBucket::list_keys(view, lend(bucket), None)
            .await
            .unwrap();
        let rest = store::HostBucket::list_keys(view, lend(bucket), first.cursor)
            .await
            .unwrap();
        assert_eq!((first.keys.len(), rest.keys.len()), (1000, 500));
        assert_eq!(rest.cursor, None);

        use draft2::store::HostBucket as _;
        let cursor = first.cursor.map(|cursor| cursor.to_string());
        let same = view.list_keys(lend(bucket), cursor).await.unwrap();
        assert_eq!((same.keys, same.cursor), (rest.keys, None));
        let error = view.list_keys(lend(bucket), Some("x".to_owned())).await;
        assert!(matches!(error, Err(Error::Other(_))));
    }

    #[tokio::test]
    async fn the_guest_learns_what_it_did_wrong() {
        let mut guest = Guest::new();
        let bucket = guest.open("default").unwrap();
        let view = &mut guest.view();
        let value = vec![0; (1 << 20) + 1];
        let error = store::HostBucket::set(view, lend(bucket), "key".to_owned(), value).await;
        let error = store::Host::convert_error(view, error.unwrap_err()).unwrap();
        let store::Error::Other(message) = error else {
            panic!("{error:?}");
        };
        assert_eq!(message, "a value of 1048577 bytes is larger than 1 MB");
    }
}
