//! Key-value buckets (`wasi:keyvalue`).
//!
//! A function opens the buckets that its `wharf.toml` grants, by name.
//!
//! ```no_run
//! use wharf_sdk::key_value::Bucket;
//!
//! let bucket = Bucket::open("default")?;
//! bucket.set("greeting", "hello")?;
//! assert_eq!(bucket.get("greeting")?.as_deref(), Some(&b"hello"[..]));
//! let visits = bucket.increment("visits", 1)?;
//! for key in bucket.keys() {
//!     println!("{}", key?);
//! }
//! # Ok::<_, wharf_sdk::key_value::Error>(())
//! ```

use std::{fmt, vec};

use crate::bindings::imports::wasi::keyvalue0_2_0_draft::{atomics, batch, store};

/// An open bucket. What one call wrote the next one reads; other instances may see it later.
#[derive(Debug)]
pub struct Bucket(store::Bucket);

impl Bucket {
    /// Opens the bucket that the function's configuration calls so.
    pub fn open(identifier: &str) -> Result<Self, Error> {
        Ok(Self(store::open(identifier)?))
    }

    /// The value of a key, or `None` if there is none.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        self.0.get(key).map_err(Error::from)
    }

    /// Sets the value of a key.
    pub fn set(&self, key: &str, value: impl AsRef<[u8]>) -> Result<(), Error> {
        self.0.set(key, value.as_ref()).map_err(Error::from)
    }

    /// Deletes a key; one that does not exist is no error.
    pub fn delete(&self, key: &str) -> Result<(), Error> {
        self.0.delete(key).map_err(Error::from)
    }

    /// Whether a key exists.
    pub fn exists(&self, key: &str) -> Result<bool, Error> {
        self.0.exists(key).map_err(Error::from)
    }

    /// Every key, in no particular order, read a page at a time. An error ends the iteration.
    pub fn keys(&self) -> Keys<'_> {
        Keys {
            bucket: self,
            page: Vec::new().into_iter(),
            next: Next::Page(None),
        }
    }

    /// Adds to a number, as one step whoever else does, and gives the new one. A key that does not exist counts as zero.
    pub fn increment(&self, key: &str, delta: u64) -> Result<u64, Error> {
        atomics::increment(&self.0, key, delta).map_err(Error::from)
    }

    /// The values of several keys in one call, in the order of the keys; `None` where there is none.
    pub fn get_many<K: Into<String>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Option<Vec<u8>>>, Error> {
        let keys: Vec<String> = keys.into_iter().map(Into::into).collect();
        let pairs = batch::get_many(&self.0, &keys)?;
        Ok(pairs
            .into_iter()
            .map(|pair| pair.map(|(_, value)| value))
            .collect())
    }

    /// Sets several keys in one call. Not atomic: after an error some may be set.
    pub fn set_many<K: Into<String>, V: Into<Vec<u8>>>(
        &self,
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<(), Error> {
        let pairs: Vec<(String, Vec<u8>)> = pairs
            .into_iter()
            .map(|(key, value)| (key.into(), value.into()))
            .collect();
        batch::set_many(&self.0, &pairs).map_err(Error::from)
    }

    /// Deletes several keys in one call. Not atomic: after an error some may be deleted.
    pub fn delete_many<K: Into<String>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<(), Error> {
        let keys: Vec<String> = keys.into_iter().map(Into::into).collect();
        batch::delete_many(&self.0, &keys).map_err(Error::from)
    }
}

/// The keys of a bucket: see [`Bucket::keys`].
#[derive(Debug)]
pub struct Keys<'a> {
    bucket: &'a Bucket,
    page: vec::IntoIter<String>,
    next: Next,
}

/// What follows the page at hand.
#[derive(Debug)]
enum Next {
    Page(Option<u64>),
    End,
}

impl Iterator for Keys<'_> {
    type Item = Result<String, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(key) = self.page.next() {
                return Some(Ok(key));
            }
            let Next::Page(cursor) = self.next else {
                return None;
            };
            self.next = Next::End;
            match self.bucket.0.list_keys(cursor) {
                Ok(response) => {
                    self.page = response.keys.into_iter();
                    if response.cursor.is_some() {
                        self.next = Next::Page(response.cursor);
                    }
                }
                Err(error) => return Some(Err(error.into())),
            }
        }
    }
}

/// Why an operation on a bucket failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The node knows no bucket of that name.
    NoSuchStore,
    /// The function may not use that bucket.
    AccessDenied,
    /// Anything else, in words.
    Other(String),
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchStore => formatter.write_str("there is no such bucket"),
            Self::AccessDenied => formatter.write_str("the function may not use that bucket"),
            Self::Other(message) => formatter.write_str(message),
        }
    }
}

impl std::error::Error for Error {}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::NoSuchStore => Self::NoSuchStore,
            store::Error::AccessDenied => Self::AccessDenied,
            store::Error::Other(message) => Self::Other(message),
        }
    }
}
