//! `wasi:keyvalue@0.2.0-draft2`: string cursors, signed numbers, compare-and-swap.

use wasmtime::component::{Linker, Resource};

use super::key_value::{Bucket, Cas, Error, HasKeyValue, KeyValueView, PAGE};
use crate::{
    runtime::bindings::wasi::keyvalue0_2_0_draft2::{atomics, batch, store},
    store::Swap,
};

pub(super) fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    get: fn(&mut T) -> KeyValueView<'_>,
) -> wasmtime::Result<()> {
    store::add_to_linker::<T, HasKeyValue>(linker, get)?;
    atomics::add_to_linker::<T, HasKeyValue>(linker, get)?;
    batch::add_to_linker::<T, HasKeyValue>(linker, get)
}

fn convert(error: Error) -> wasmtime::Result<store::Error> {
    match error {
        Error::AccessDenied => Ok(store::Error::AccessDenied),
        Error::Other(message) => Ok(store::Error::Other(message)),
        Error::Trap(error) => Err(error),
    }
}

impl store::Host for KeyValueView<'_> {
    async fn open(&mut self, identifier: String) -> Result<Resource<Bucket>, Error> {
        KeyValueView::open(self, &identifier)
    }

    fn convert_error(&mut self, error: Error) -> wasmtime::Result<store::Error> {
        convert(error)
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
        cursor: Option<String>,
    ) -> Result<store::KeyResponse, Error> {
        let store = self.call(&bucket)?;
        let cursor = cursor
            .map(|cursor| cursor.parse())
            .transpose()
            .map_err(|_| Error::Other("the cursor is none that a page ended with".to_owned()))?;
        let page = self.store.list_keys(&store, cursor, PAGE).await?;
        Ok(store::KeyResponse {
            keys: page.keys,
            cursor: page.next.map(|next| next.to_string()),
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
        delta: i64,
    ) -> Result<i64, Error> {
        let store = self.call(&bucket)?;
        Ok(self.store.increment(&store, &key, delta).await?)
    }

    async fn swap(
        &mut self,
        cas: Resource<Cas>,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), atomics::CasError>> {
        *self.calls += 1;
        let Cas { store, key, seen } = self.table.delete(cas)?;
        let swap = self.store.compare_and_swap(&store, &key, seen, value).await;
        match swap {
            Ok(Swap::Done) => Ok(Ok(())),
            Ok(Swap::Changed(seen)) => {
                let again = self.table.push(Cas { store, key, seen })?;
                Ok(Err(atomics::CasError::CasFailed(again)))
            }
            Err(error) => Ok(Err(atomics::CasError::StoreError(convert(error.into())?))),
        }
    }
}

impl atomics::HostCas for KeyValueView<'_> {
    async fn new(&mut self, bucket: Resource<Bucket>, key: String) -> Result<Resource<Cas>, Error> {
        let store = self.call(&bucket)?;
        let seen = self.store.get(&store, &key).await?;
        Ok(self.table.push(Cas { store, key, seen })?)
    }

    async fn current(&mut self, cas: Resource<Cas>) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.table.get(&cas)?.seen.clone())
    }

    async fn drop(&mut self, cas: Resource<Cas>) -> wasmtime::Result<()> {
        self.table.delete(cas)?;
        Ok(())
    }
}

impl batch::Host for KeyValueView<'_> {
    async fn get_many(
        &mut self,
        bucket: Resource<Bucket>,
        keys: Vec<String>,
    ) -> Result<Vec<(String, Option<Vec<u8>>)>, Error> {
        let store = self.call(&bucket)?;
        let values = self.store.get_many(&store, keys.clone()).await?;
        Ok(keys.into_iter().zip(values).collect())
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
