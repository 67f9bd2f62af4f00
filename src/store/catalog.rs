//! What is deployed.

use std::collections::{BTreeMap, HashSet};

use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::watch;

use super::Error;
use crate::model::{Deployment, Digest, FunctionName, Version};

/// What is deployed, the routes to it, and the documents about it: aliases, layers, roles and the like.
///
/// The catalog has a revision, a number that rises with every change. A change is a whole one or none: an app whose
/// functions and routes are applied together is never seen half deployed, whatever happens to the node meanwhile.
#[async_trait::async_trait]
pub trait Catalog: Send + Sync {
    /// Every deployment and route, and the documents of these kinds, as they were at one moment.
    async fn snapshot(&self, kinds: &'static [&'static str]) -> Result<Snapshot, Error>;

    /// What changed after the revision `since`, among documents those of these kinds. After 0, or after a revision that
    /// the catalog does not remember, that is everything.
    async fn changes(&self, since: u64, kinds: &'static [&'static str]) -> Result<Delta, Error>;

    /// The blobs that are in use: code that is deployed, and what documents name in a list `blobs` at their top level.
    async fn blobs(&self) -> Result<HashSet<Digest>, Error>;

    /// Every deployment, by name and version; versions of a function in their order, `$LATEST` first.
    async fn deployments(&self) -> Result<Vec<Deployment>, Error>;

    /// One version of a function.
    async fn deployment(
        &self,
        name: &FunctionName,
        version: Version,
    ) -> Result<Option<Deployment>, Error>;

    /// The deployments of one function, `$LATEST` first.
    async fn versions(&self, name: &FunctionName) -> Result<Vec<Deployment>, Error>;

    /// The deployments of the functions whose `$LATEST` an app deployed, by name and version.
    async fn of_app(&self, app: &str) -> Result<Vec<Deployment>, Error>;

    /// Up to `limit` deployments of `$LATEST`, by name, after the function `after`.
    async fn functions(
        &self,
        after: Option<&FunctionName>,
        limit: usize,
    ) -> Result<Vec<Deployment>, Error>;

    /// A document, or none. See `get` for one whose type is known.
    async fn document(&self, kind: &'static str, key: &str) -> Result<Option<Document>, Error>;

    /// Up to `limit` documents of a kind whose keys begin with `prefix`, by key, after the key `after`.
    async fn documents(
        &self,
        kind: &'static str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Document>, Error>;

    /// Makes all the changes or none, and gives the catalog's new revision.
    ///
    /// Fails with [`Error::Conflict`] where a change was made for a revision that is no more.
    async fn apply(&self, changes: Changes) -> Result<u64, Error>;

    /// The catalog's revision, now and whenever it changes. A receiver that is slow sees the last one only.
    fn watch(&self) -> watch::Receiver<u64>;
}

/// A value that the catalog keeps as a document.
pub trait Resource: Serialize + DeserializeOwned {
    /// What it is, one word. Documents of other kinds may have the same key.
    const KIND: &'static str;

    /// What tells it from others of its kind. What belongs to a function begins with `NAME/`.
    fn key(&self) -> String;
}

impl dyn Catalog {
    /// The resource with that key, and its revision.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if the document is not of that type, and whatever the catalog fails with.
    pub async fn get<R: Resource>(&self, key: &str) -> Result<Option<Stored<R>>, Error> {
        let document = self.document(R::KIND, key).await?;
        document.map(Document::read).transpose()
    }

    /// Up to `limit` resources whose keys begin with `prefix`, by key, after the key `after`.
    ///
    /// # Errors
    ///
    /// As `get`.
    pub async fn list<R: Resource>(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Stored<R>>, Error> {
        let documents = self.documents(R::KIND, prefix, after, limit).await?;
        documents.into_iter().map(Document::read).collect()
    }
}

/// A resource as the catalog has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored<R> {
    /// The catalog's revision that wrote it.
    pub revision: u64,
    /// The resource.
    pub value: R,
}

/// A document: a [`Resource`] whose type is not looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Its key.
    pub key: String,
    /// The catalog's revision that wrote it.
    pub revision: u64,
    /// What it says.
    pub value: serde_json::Value,
}

impl Document {
    /// The resource that it is.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if it is none of that type.
    pub fn read<R: Resource>(self) -> Result<Stored<R>, Error> {
        let value = serde_json::from_value(self.value).map_err(|error| Error::Corrupt {
            what: format!("the {} `{}`", R::KIND, self.key),
            source: Some(std::sync::Arc::new(error)),
        })?;
        Ok(Stored {
            revision: self.revision,
            value,
        })
    }
}

/// The catalog at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// The catalog's revision.
    pub revision: u64,
    /// Every deployment, in the order of [`Catalog::deployments`].
    pub deployments: Vec<Deployment>,
    /// The routes of each app. The catalog does not look into them.
    pub routes: BTreeMap<String, serde_json::Value>,
    /// The documents that were asked for, by kind; those of a kind by key.
    pub documents: BTreeMap<&'static str, Vec<Document>>,
}

impl Snapshot {
    /// The resources of a type. One that cannot be read is left out, and the node's log says so.
    pub fn resources<R: Resource>(&self) -> Vec<R> {
        let documents = self.documents.get(R::KIND).map_or(&[][..], Vec::as_slice);
        let read = |document: &Document| match document.clone().read::<R>() {
            Ok(stored) => Some(stored.value),
            Err(error) => {
                tracing::error!(%error, "a document of the catalog is passed over");
                None
            }
        };
        documents.iter().filter_map(read).collect()
    }
}

/// What several changes came to. What was changed and removed since is among the removed alone.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Delta {
    /// The catalog's revision with them.
    pub revision: u64,
    /// Whether this is everything there is: what is not here is not there. Then nothing is said to be removed.
    pub complete: bool,
    /// Deployments that are new or changed, by name and version.
    pub deployments: Vec<Deployment>,
    /// Deployments that were removed.
    pub removed: Vec<(FunctionName, Version)>,
    /// The routes of apps whose routes changed; none if they were removed.
    pub routes: BTreeMap<String, Option<serde_json::Value>>,
    /// Documents that are new or changed, by kind; those of a kind by key.
    pub documents: BTreeMap<&'static str, Vec<Document>>,
    /// The keys of documents that were removed, by kind.
    pub deleted: BTreeMap<&'static str, Vec<String>>,
}

/// Changes that happen as one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changes {
    /// The revision the catalog must have; none means any.
    pub expected: Option<u64>,
    /// What to change, in this order.
    pub changes: Vec<Change>,
}

impl From<Vec<Change>> for Changes {
    fn from(changes: Vec<Change>) -> Self {
        Self {
            expected: None,
            changes,
        }
    }
}

/// One change.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Deploys a version of a function, in place of the one of that name and version if there is one.
    ///
    /// The catalog sets the deployment's `revision` to the one that this change makes.
    Deploy {
        /// What to deploy. The `revision` in it does not count. Boxed, as it is much larger than the other changes.
        deployment: Box<Deployment>,
        /// The revision the present one must have, 0 if there must be none; none means any.
        expected: Option<u64>,
    },
    /// Removes a version of a function. One that is not there is no error.
    Remove {
        /// The function.
        name: FunctionName,
        /// The version.
        version: Version,
    },
    /// Sets the routes of an app.
    Route {
        /// The app.
        app: String,
        /// Its routes, all of them.
        routes: serde_json::Value,
    },
    /// Removes the routes of an app. An app that has none is no error.
    Unroute {
        /// The app.
        app: String,
    },
    /// Writes a document, in place of the one of that kind and key if there is one.
    Put {
        /// Its kind ([`Resource::KIND`]).
        kind: &'static str,
        /// Its key.
        key: String,
        /// What it says.
        document: serde_json::Value,
        /// The revision the present one must have, 0 if there must be none; none means any.
        expected: Option<u64>,
    },
    /// Removes a document. One that is not there is no error, unless a revision is expected.
    Delete {
        /// Its kind.
        kind: &'static str,
        /// Its key.
        key: String,
        /// The revision it must have; none means any.
        expected: Option<u64>,
    },
    /// Removes the documents of a kind whose keys begin so.
    DeleteAll {
        /// Their kind.
        kind: &'static str,
        /// How their keys begin.
        prefix: String,
    },
}

impl Change {
    /// Writes a resource, whatever is there.
    ///
    /// # Errors
    ///
    /// It cannot be written as JSON.
    pub fn put<R: Resource>(resource: &R) -> Result<Self, Error> {
        Self::put_expecting(resource, None)
    }

    /// Writes a resource where the present one has the revision `expected`, 0 if there must be none.
    ///
    /// # Errors
    ///
    /// It cannot be written as JSON.
    pub fn put_expecting<R: Resource>(
        resource: &R,
        expected: impl Into<Option<u64>>,
    ) -> Result<Self, Error> {
        let document = serde_json::to_value(resource)
            .map_err(|error| Error::Database(std::sync::Arc::new(error)))?;
        Ok(Self::Put {
            kind: R::KIND,
            key: resource.key(),
            document,
            expected: expected.into(),
        })
    }

    /// Removes a resource.
    pub fn delete<R: Resource>(key: impl Into<String>) -> Self {
        Self::Delete {
            kind: R::KIND,
            key: key.into(),
            expected: None,
        }
    }
}
