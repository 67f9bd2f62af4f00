//! Files named by the digest of what they hold.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;

use super::{DataFolder, Error, folder};
use crate::model::Digest;

/// Files named by the digest of what they hold: `blobs/sha256/ab/cdef…`.
///
/// A file is there whole or not at all: it is written elsewhere, made durable, and then given its name. It never changes,
/// so a path may be handed to another process; and what is read through [`read`](Self::read) is what was written, or an
/// error.
#[derive(Debug, Clone)]
pub struct Blobs {
    /// Keeps the folder locked.
    _data: Arc<DataFolder>,
    named: Arc<Path>,
    unnamed: Arc<Path>,
}

impl Blobs {
    /// Opens the blobs of a data folder, and removes what a killed node left half written.
    pub fn open(data: &Arc<DataFolder>) -> Result<Self, Error> {
        let root = data.path().join("blobs");
        let named = root.join("sha256");
        let unnamed = root.join("tmp");
        let failed = |error| Error::io(format!("open `{}`", root.display()), error);
        match fs::remove_dir_all(&unnamed) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        folder::create(&named).map_err(failed)?;
        folder::create(&unnamed).map_err(failed)?;
        Ok(Self {
            _data: Arc::clone(data),
            named: named.into(),
            unnamed: unnamed.into(),
        })
    }

    /// Where the file of a digest is, whether or not there is one.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        let name = digest.to_string();
        let (folder, file) = name.split_at(2);
        self.named.join(folder).join(file)
    }

    /// Whether there is a file of that digest.
    pub async fn contains(&self, digest: &Digest) -> Result<bool, Error> {
        let path = self.path(digest);
        blocking(move || {
            path.try_exists()
                .map_err(|error| Error::io(format!("look for `{}`", path.display()), error))
        })
        .await
    }

    /// Keeps some bytes and gives their digest. When this returns, they are on disk.
    pub async fn put(&self, bytes: Bytes) -> Result<Digest, Error> {
        let blobs = self.clone();
        blocking(move || {
            let digest = Digest::of(&bytes);
            let path = blobs.path(&digest);
            blobs
                .write(&path, &bytes)
                .map_err(|error| Error::io(format!("write `{}`", path.display()), error))?;
            Ok(digest)
        })
        .await
    }

    /// The bytes of a digest, proved to have it. None if there is no such file, [`Error::Corrupt`] if it was changed.
    pub async fn read(&self, digest: &Digest) -> Result<Option<Bytes>, Error> {
        let (path, digest) = (self.path(digest), *digest);
        blocking(move || match fs::read(&path) {
            Ok(bytes) if Digest::of(&bytes) == digest => Ok(Some(bytes.into())),
            Ok(_) => Err(Error::Corrupt {
                what: format!("`{}`", path.display()),
                source: None,
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(format!("read `{}`", path.display()), error)),
        })
        .await
    }

    /// The file of a digest, open for reading, or none. What it holds is not looked at: see [`read`](Self::read).
    pub async fn open_file(&self, digest: &Digest) -> Result<Option<File>, Error> {
        let path = self.path(digest);
        blocking(move || match File::open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(format!("open `{}`", path.display()), error)),
        })
        .await
    }

    /// Removes the file of a digest. One that is not there is no error; who has it open keeps it.
    pub async fn remove(&self, digest: &Digest) -> Result<(), Error> {
        let path = self.path(digest);
        blocking(move || match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io(format!("remove `{}`", path.display()), error))
            }
            _ => Ok(()),
        })
        .await
    }

    /// The digests of all files, in their order. What is not named by a digest is not ours and passed over.
    pub async fn list(&self) -> Result<Vec<Digest>, Error> {
        let named = Arc::clone(&self.named);
        blocking(move || {
            list(&named).map_err(|error| Error::io(format!("list `{}`", named.display()), error))
        })
        .await
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let parent = path.parent().expect("a blob lies in a folder of `named`");
        let mut file = tempfile::NamedTempFile::new_in(&self.unnamed)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        folder::create(parent)?;
        // A file of that name holds the same bytes, unless it was damaged: then this mends it.
        file.persist(path)?;
        folder::sync(parent)?;
        // The folder may be new, and whoever made it not have come to this yet.
        folder::sync(&self.named)
    }
}

fn list(named: &Path) -> io::Result<Vec<Digest>> {
    let mut digests = Vec::new();
    for folder in fs::read_dir(named)? {
        let folder = folder?;
        if !folder.file_type()?.is_dir() {
            continue;
        }
        for file in fs::read_dir(folder.path())? {
            let name = [folder.file_name(), file?.file_name()]
                .map(|part| part.to_string_lossy().into_owned())
                .concat();
            digests.extend(name.parse::<Digest>());
        }
    }
    digests.sort_unstable();
    Ok(digests)
}

/// Runs what waits for a disk where waiting holds up nobody.
async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> Result<R, Error> + Send + 'static,
) -> Result<R, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or(Err(Error::Closed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &Path) -> Blobs {
        Blobs::open(&DataFolder::open(folder).unwrap()).unwrap()
    }

    #[tokio::test]
    async fn a_blob_is_found_by_its_digest_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = open(folder.path());
        let digest = blobs.put(Bytes::from_static(b"hello")).await.unwrap();
        assert_eq!(digest, Digest::of(b"hello"));
        drop(blobs);

        let blobs = open(folder.path());
        assert!(blobs.contains(&digest).await.unwrap());
        assert_eq!(blobs.read(&digest).await.unwrap().unwrap(), "hello");
        assert!(blobs.path(&digest).ends_with(
            "blobs/sha256/2c/f24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
        ));
    }

    #[tokio::test]
    async fn what_was_removed_is_gone_and_removing_it_again_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = open(folder.path());
        let digest = blobs.put(Bytes::from_static(b"hello")).await.unwrap();
        blobs.remove(&digest).await.unwrap();
        blobs.remove(&digest).await.unwrap();
        assert!(!blobs.contains(&digest).await.unwrap());
        assert_eq!(blobs.read(&digest).await.unwrap(), None);
        assert!(blobs.open_file(&digest).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_damaged_blob_is_an_error_and_writing_it_again_mends_it() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = open(folder.path());
        let digest = blobs.put(Bytes::from_static(b"hello")).await.unwrap();
        fs::write(blobs.path(&digest), b"hullo").unwrap();
        let error = blobs.read(&digest).await.unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
        blobs.put(Bytes::from_static(b"hello")).await.unwrap();
        assert_eq!(blobs.read(&digest).await.unwrap().unwrap(), "hello");
    }

    #[tokio::test]
    async fn a_half_written_blob_is_swept_and_only_digests_are_listed() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = open(folder.path());
        let mut digests = vec![
            blobs.put(Bytes::from_static(b"one")).await.unwrap(),
            blobs.put(Bytes::from_static(b"two")).await.unwrap(),
        ];
        digests.sort_unstable();
        fs::write(folder.path().join("blobs/tmp/half"), b"ha").unwrap();
        fs::write(folder.path().join("blobs/sha256/README"), b"?").unwrap();
        fs::write(blobs.path(&digests[0]).with_extension("bak"), b"?").unwrap();
        drop(blobs);

        let blobs = open(folder.path());
        assert_eq!(blobs.list().await.unwrap(), digests);
        assert!(!folder.path().join("blobs/tmp/half").exists());
    }
}
