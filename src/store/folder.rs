//! The folder that holds a node's state.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use super::Error;

/// The file whose lock says that a node is using the folder.
pub(super) const LOCK: &str = "wharf.lock";

/// The folder in which a backup is unpacked. Where it is, that did not come to an end.
pub(super) const RESTORING: &str = ".restoring";

/// The folder that holds a node's state, locked for as long as this value lives.
///
/// Two nodes on one folder would each believe in their own picture of it. The lock is the operating system's, so it is
/// gone with the process however that ended.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    _lock: File,
}

impl DataFolder {
    /// Makes the folder if there is none, readable by its owner alone, and locks it.
    ///
    /// Fails with [`Error::InUse`] if another node has it, with [`Error::Unfinished`] if a backup was half restored to it.
    pub fn open(path: &Path) -> Result<Arc<Self>, Error> {
        create(path).map_err(|error| {
            Error::io(format!("make the data folder `{}`", path.display()), error)
        })?;
        let lock_path = path.join(LOCK);
        let failed = |error| Error::io(format!("lock `{}`", lock_path.display()), error);
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(failed)?;
        match lock_soon(&lock) {
            Ok(()) if path.join(RESTORING).exists() => Err(Error::Unfinished {
                folder: path.to_owned(),
            }),
            Ok(()) => Ok(Arc::new(Self {
                path: path.to_owned(),
                _lock: lock,
            })),
            Err(TryLockError::WouldBlock) => Err(Error::InUse {
                folder: path.to_owned(),
            }),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Takes the lock, or finds out that somebody keeps it. A program that was started by whoever had it last has it too, until
/// it executes: so long is waited for.
fn lock_soon(lock: &File) -> Result<(), TryLockError> {
    const TRIES: u32 = 25;
    for _ in 1..TRIES {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(20)),
            locked => return locked,
        }
    }
    lock.try_lock()
}

/// Makes a folder and those above it. State may hold secrets, so that others may not read it.
pub(super) fn create(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Makes the names in a folder durable: the sync of a file does not cover the name it is found by.
pub(super) fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_belongs_to_one_node_at_a_time() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("data/of/a/node");
        let first = DataFolder::open(&path).unwrap();
        let error = DataFolder::open(&path).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "the data folder `{}` is in use by another node",
                path.display()
            )
        );
        drop(first);
        DataFolder::open(&path).unwrap();
    }
}
