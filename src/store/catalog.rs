//! What is deployed.

use std::collections::BTreeMap;

use tokio::sync::watch;

use super::Error;
use crate::model::{Deployment, FunctionName, Version};

/// What is deployed, and the routes to it.
///
/// The catalog has a revision, a number that rises with every change. A change is a whole one or none: an app whose
/// functions and routes are applied together is never seen half deployed, whatever happens to the node meanwhile.
#[async_trait::async_trait]
pub trait Catalog: Send + Sync {
    /// Everything, as it was at one moment.
    async fn snapshot(&self) -> Result<Snapshot, Error>;

    /// Every deployment, by name and version; versions of a function in their order, `$LATEST` first.
    async fn deployments(&self) -> Result<Vec<Deployment>, Error>;

    /// One version of a function.
    async fn deployment(
        &self,
        name: &FunctionName,
        version: Version,
    ) -> Result<Option<Deployment>, Error>;

    /// Makes all the changes or none, and gives the catalog's new revision.
    ///
    /// Fails with [`Error::Conflict`] where a change was made for a revision that is no more.
    async fn apply(&self, changes: Changes) -> Result<u64, Error>;

    /// The catalog's revision, now and whenever it changes. A receiver that is slow sees the last one only.
    fn watch(&self) -> watch::Receiver<u64>;
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
}
