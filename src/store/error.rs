//! Why the store did not do what it was asked.

use std::{io, path::PathBuf, sync::Arc};

use super::{KeyError, SealError};
use crate::model::{ByteSize, Fault};

/// Why the store did not do what it was asked.
///
/// It can be cloned, because changes that share a transaction share its failure.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another process holds the data folder.
    #[error("the data folder `{}` is in use by another node", folder.display())]
    InUse {
        /// The folder.
        folder: PathBuf,
    },
    /// A backup was being restored to the data folder, and did not come to its end.
    #[error(
        "restoring a backup to `{}` did not come to its end; empty the folder and restore it again",
        folder.display()
    )]
    Unfinished {
        /// The folder.
        folder: PathBuf,
    },
    /// The file was written by a newer Wharf, and reading it with this one could lose what the newer one knows.
    #[error(
        "`{}` was written by a newer Wharf (format {found}; this one knows up to {known})",
        file.display()
    )]
    Newer {
        /// The file.
        file: PathBuf,
        /// The format it has.
        found: u32,
        /// The newest format this program reads.
        known: u32,
    },
    /// The file is not one of ours.
    #[error("`{}` is not a Wharf database", file.display())]
    Foreign {
        /// The file.
        file: PathBuf,
    },
    /// What is on disk is not what was written.
    #[error("{what} is corrupt")]
    Corrupt {
        /// What is corrupt.
        what: String,
        /// How it shows, if the database told.
        #[source]
        source: Option<Arc<dyn std::error::Error + Send + Sync>>,
    },
    /// The disk is full, or the user's share of it.
    #[error("the disk is full")]
    Full,
    /// Somebody else changed it first.
    #[error("{what} has revision {found}, not {expected}")]
    Conflict {
        /// What was to be changed.
        what: String,
        /// The revision the change was made for; 0 means that it did not exist.
        expected: u64,
        /// The revision it has; 0 means that it does not exist.
        found: u64,
    },
    /// A key-value store would hold more than it may.
    #[error("the store `{store}` would hold more than {limit}")]
    QuotaExceeded {
        /// The store.
        store: String,
        /// How much it may hold.
        limit: ByteSize,
    },
    /// A key is longer than a key may be.
    #[error("a key of {size} bytes is longer than {limit}")]
    KeyTooLong {
        /// Its size.
        size: usize,
        /// The limit.
        limit: ByteSize,
    },
    /// A value is larger than a value may be.
    #[error("a value of {size} bytes is larger than {limit}")]
    ValueTooLarge {
        /// Its size.
        size: usize,
        /// The limit.
        limit: ByteSize,
    },
    /// A call on several keys carries more than it may, one way or the other.
    #[error("keys and values of one call are more than {limit}")]
    BatchTooLarge {
        /// The limit.
        limit: ByteSize,
    },
    /// A value that was to be counted with is not a whole number, or not one of the wanted width.
    #[error("the value of `{key}` is not a number that can be incremented")]
    NotANumber {
        /// The key.
        key: String,
    },
    /// A sum does not fit its number.
    #[error("the value of `{key}` would overflow")]
    Overflow {
        /// The key.
        key: String,
    },
    /// The node's key is of no use: what was sealed with it cannot be read.
    #[error("cannot use the node's key `{}`", file.display())]
    Key {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Arc<KeyError>,
    },
    /// Something that is kept encrypted does not open.
    #[error("cannot open what is sealed as `{context}`")]
    Sealed {
        /// The place it was sealed for.
        context: String,
        /// Why not.
        source: SealError,
    },
    /// The store is shutting down.
    #[error("the store is closed")]
    Closed,
    /// The operating system refused.
    #[error("cannot {what}")]
    Io {
        /// What was tried, a verb phrase.
        what: String,
        /// Why it failed.
        #[source]
        source: Arc<io::Error>,
    },
    /// The database failed in a way that has no name of its own here.
    #[error("the database failed")]
    Database(#[source] Arc<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// Whose fault it is: `Guest` where a function asked for what it may not have, else `Host`.
    ///
    /// A conflict is the `Client`'s: it wrote without having read.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Conflict { .. } => Fault::Client,
            Self::QuotaExceeded { .. }
            | Self::KeyTooLong { .. }
            | Self::ValueTooLarge { .. }
            | Self::BatchTooLarge { .. }
            | Self::NotANumber { .. }
            | Self::Overflow { .. } => Fault::Guest,
            Self::InUse { .. }
            | Self::Unfinished { .. }
            | Self::Newer { .. }
            | Self::Foreign { .. }
            | Self::Corrupt { .. }
            | Self::Key { .. }
            | Self::Sealed { .. }
            | Self::Full
            | Self::Closed
            | Self::Io { .. }
            | Self::Database(_) => Fault::Host,
        }
    }

    pub(super) fn key(file: PathBuf, source: KeyError) -> Self {
        Self::Key {
            file,
            source: Arc::new(source),
        }
    }

    /// An error of the file system; `what` is the verb phrase that failed.
    pub(crate) fn io(what: impl Into<String>, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            _ => Self::Io {
                what: what.into(),
                source: Arc::new(source),
            },
        }
    }
}
