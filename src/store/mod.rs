//! Durable state: what a node knows after a restart, and after `kill -9`.
//!
//! * [`Catalog`]: what is deployed, the routes to it, and documents about it;
//! * [`KeyValue`]: what functions keep through `wasi:keyvalue`;
//! * [`Queue`]: events taken over for asynchronous invocation;
//! * [`Blobs`]: components, as files named by their digest;
//! * [`Folders`]: what layers unpack to, as folders named by a digest.
//! * [`Sealer`]: what is kept encrypted, with the node's key;
//! * [`archive`]: all of it in one file, and back.
//!
//! The first three are traits, because a cluster keeps them elsewhere; [`Sqlite`] is what a single node uses.
//!
//! A change that was acknowledged is on disk, in every store here. One data folder belongs to one node at a time:
//! see [`DataFolder`]. Nothing in this module reads a clock: whoever needs the time passes it in.
//!
//! Compiled artifacts are not kept here: they can be made again, and only the runtime may write what it will execute.

pub mod archive;
mod blobs;
mod catalog;
mod documents;
mod error;
mod folder;
mod folders;
mod key_value;
mod queue;
mod secret;
mod sqlite;

pub use blobs::{Blobs, Hold, Swept};
pub use catalog::{Catalog, Change, Changes, Delta, Document, Resource, Snapshot, Stored};
pub use documents::of_function;
pub use error::Error;
pub use folder::DataFolder;
pub use folders::Folders;
pub use key_value::{KeyPage, KeyValue, KeyValueLimits, Swap};
pub use queue::{Counts, Due, EventId, Lease, NewEvent, Queue};
pub use secret::{KEY_FILE, KeyError, SealError, Sealer};
pub use sqlite::Sqlite;
