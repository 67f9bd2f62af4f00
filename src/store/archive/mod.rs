//! Backups: a node's state in one file, and back.
//!
//! An archive is a tar, so that it can be looked into, and sent through whatever compresses or encrypts. Its first file is
//! the [`Manifest`], which names every other one, its size and its SHA-256, in the order in which they follow; the second
//! is the manifest's own SHA-256.
//!
//! In it is what cannot be made again: the database as it was at one moment, and every blob that it refers to. Logs and
//! compiled code are not. The node's key and the credentials are only if they are asked for: without the key, what is
//! sealed in the database stays sealed.
//!
//! Reading trusts nothing: a path is one of a few, an archive that is cut off or changed is refused, and nothing is left
//! of it.

mod backup;
mod restore;
#[cfg(test)]
mod tests;

use std::{
    io::{self, Read},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub use backup::{Backup, Backups};
pub use restore::{Key, Restored, restore, verify};

use super::{Error, KEY_FILE, sqlite};
use crate::model::Digest;

/// The newest format that this program writes and reads.
const FORMAT: u32 = 1;

/// The first file of an archive.
const MANIFEST: &str = "wharf-backup.json";

/// The second: what `sha256sum` says of the first.
const SEAL: &str = "wharf-backup.sha256";

/// Files that open the API, which may be in an archive. They are the control plane's, and kept as they are.
const CREDENTIALS: &[&str] = &["credentials", "api-token"];

/// The largest manifest: some million files.
const MAX_MANIFEST: u64 = 256 << 20;

/// What is in an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The archive's format.
    pub wharf_backup: u32,
    /// The version of Wharf that wrote it.
    pub wharf: String,
    /// When: milliseconds since 1970-01-01T00:00:00Z.
    pub created_ms: u64,
    /// Deployed functions, all versions of one counted once.
    pub functions: u64,
    /// The name of the key that things in the database are sealed with.
    pub key: Option<String>,
    /// The files, in their order.
    pub files: Vec<Entry>,
}

/// A file of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its path in the data folder, with `/`.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// The SHA-256 of what it holds.
    pub sha256: Digest,
}

impl Manifest {
    /// The bytes of all files.
    pub fn size(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// Whether the node's key is in it.
    pub fn has_key(&self) -> bool {
        self.files.iter().any(|file| file.path == KEY_FILE)
    }
}

/// Which secrets an archive holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Include {
    /// The node's key, with which everything that is sealed in the archive can be read.
    pub key: bool,
    /// The API's token and its users' access keys.
    pub credentials: bool,
}

/// Why an archive is not written, or not taken.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It is none.
    #[error("it is not a backup of Wharf's")]
    Foreign,
    /// A newer Wharf wrote it.
    #[error("a newer Wharf wrote it (format {found}; this one knows up to {known})")]
    Newer {
        /// Its format.
        found: u32,
        /// The newest format this program reads.
        known: u32,
    },
    /// It ends before its end.
    #[error("it is cut off")]
    Truncated,
    /// Something in it is not what was written.
    #[error("`{path}` in it is not what was written")]
    Altered {
        /// Its path.
        path: String,
    },
    /// Something is in it that a backup does not have there.
    #[error("`{path}` has no place in a backup")]
    Unexpected {
        /// Its path.
        path: String,
    },
    /// A blob that the database refers to is not there.
    #[error("the component or package {digest} is missing, which something deployed needs")]
    Missing {
        /// The blob.
        digest: Digest,
    },
    /// The folder to restore to has something in it.
    #[error("`{}` is not empty; a backup is restored into an empty folder", folder.display())]
    NotEmpty {
        /// The folder.
        folder: PathBuf,
    },
    /// The file system failed.
    #[error("cannot {what}")]
    Io {
        /// What was tried, a verb phrase.
        what: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Error),
}

impl ArchiveError {
    fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        |source| Self::Io { what, source }
    }
}

/// Whether a file of that path has a place in an archive, and the digest that its name promises.
fn place(path: &str) -> Option<Option<Digest>> {
    if path == sqlite::FILE || path == KEY_FILE || CREDENTIALS.contains(&path) {
        return Some(None);
    }
    let (folder, file) = path.strip_prefix("blobs/sha256/")?.split_once('/')?;
    let digest: Digest = format!("{folder}{file}").parse().ok()?;
    // Written as we write it: two hexadecimal digits, then the others.
    (blob_path(&digest) == path).then_some(Some(digest))
}

fn blob_path(digest: &Digest) -> String {
    let name = digest.to_string();
    let (folder, file) = name.split_at(2);
    format!("blobs/sha256/{folder}/{file}")
}

/// Reads something, and knows what it read.
struct Hashing<R> {
    inner: R,
    hash: Sha256,
    size: u64,
}

impl<R: Read> Hashing<R> {
    fn new(inner: R) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
            size: 0,
        }
    }

    /// How many bytes were read, and their digest.
    fn finish(self) -> (u64, Digest) {
        (self.size, Digest::from_array(self.hash.finalize().into()))
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hash.update(&buffer[..read]);
        self.size += read as u64;
        Ok(read)
    }
}
