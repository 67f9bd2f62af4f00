//! Files named by the digest of what they hold.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use bytes::Bytes;
use tokio::sync::{OwnedRwLockReadGuard, RwLock};

use super::{DataFolder, Error, folder};
use crate::model::Digest;

/// Files named by the digest of what they hold: `blobs/sha256/ab/cdef…`.
///
/// A file is there whole or not at all: it is written elsewhere, made durable, and then given its name. It never changes,
/// so a path may be handed to another process; and what is read through [`read`](Self::read) is what was written, or an
/// error.
///
/// What nothing needs is [swept](Self::sweep) away after a while. Whoever begins to refer to a blob that nothing may have
/// referred to puts it or asks whether it is there, and from then on has that while.
#[derive(Debug, Clone)]
pub struct Blobs {
    /// Keeps the folder locked.
    _data: Arc<DataFolder>,
    named: Arc<Path>,
    unnamed: Arc<Path>,
    /// Between the look at how old a file is and its removal nothing makes it young again.
    ages: Arc<Mutex<()>>,
    held: Arc<RwLock<()>>,
}

/// As long as it lives, no file is swept away.
#[derive(Debug)]
pub struct Hold(#[expect(dead_code, reason = "it is held, not read")] OwnedRwLockReadGuard<()>);

/// What sweeping came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// What was removed.
    pub removed: HashSet<Digest>,
    /// How many bytes that was.
    pub bytes: u64,
    /// What is still there, used or not.
    pub kept: HashSet<Digest>,
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
            ages: Arc::default(),
            held: Arc::default(),
        })
    }

    /// Where the file of a digest is, whether or not there is one.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        let name = digest.to_string();
        let (folder, file) = name.split_at(2);
        self.named.join(folder).join(file)
    }

    /// Whether there is a file of that digest. Who asks means to refer to it: it counts as new from now on.
    pub async fn contains(&self, digest: &Digest) -> Result<bool, Error> {
        let (blobs, path) = (self.clone(), self.path(digest));
        blocking(move || {
            let _ages = blobs.ages();
            match touch(&path) {
                Ok(()) => Ok(true),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
                Err(error) => Err(Error::io(format!("look for `{}`", path.display()), error)),
            }
        })
        .await
    }

    /// Keeps everything that is there: from here on nothing is swept away, until the hold is dropped.
    pub async fn hold(&self) -> Hold {
        Hold(Arc::clone(&self.held).read_owned().await)
    }

    /// Removes the files that are not in `used` and were put or asked for the last time before `before`. None if they are
    /// [held](Self::hold).
    pub async fn sweep(
        &self,
        used: &HashSet<Digest>,
        before: SystemTime,
    ) -> Result<Option<Swept>, Error> {
        let Ok(sweeping) = Arc::clone(&self.held).try_write_owned() else {
            return Ok(None);
        };
        let listed = self.list().await?;
        let (unused, mut swept) = (
            listed.iter().filter(|digest| !used.contains(digest)),
            Swept::default(),
        );
        let unused: Vec<Digest> = unused.copied().collect();
        swept.kept = listed.into_iter().collect();
        let blobs = self.clone();
        blocking(move || {
            let _sweeping = sweeping;
            for digest in unused {
                let path = blobs.path(&digest);
                let removed = blobs
                    .remove_older(&path, before)
                    .map_err(|error| Error::io(format!("remove `{}`", path.display()), error))?;
                if let Some(bytes) = removed {
                    swept.kept.remove(&digest);
                    swept.removed.insert(digest);
                    swept.bytes += bytes;
                }
            }
            Ok(Some(swept))
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

    fn ages(&self) -> MutexGuard<'_, ()> {
        self.ages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes a file that is older, and says how large it was.
    fn remove_older(&self, path: &Path, before: SystemTime) -> io::Result<Option<u64>> {
        let _ages = self.ages();
        let removed = fs::metadata(path).and_then(|metadata| {
            if metadata.modified()? >= before {
                return Ok(None);
            }
            fs::remove_file(path)?;
            Ok(Some(metadata.len()))
        });
        match removed {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            removed => removed,
        }
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let parent = path.parent().expect("a blob lies in a folder of `named`");
        let mut file = tempfile::NamedTempFile::new_in(&self.unnamed)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        folder::create(parent)?;
        let ages = self.ages();
        // A file of that name holds the same bytes, unless it was damaged: then this mends it.
        file.persist(path)?;
        drop(ages);
        folder::sync(parent)?;
        // The folder may be new, and whoever made it not have come to this yet.
        folder::sync(&self.named)
    }
}

/// Makes a file as young as if it had been written now.
fn touch(path: &Path) -> io::Result<()> {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, utimensat};
    let at = |tv_nsec| Timespec { tv_sec: 0, tv_nsec };
    let times = Timestamps {
        last_access: at(UTIME_OMIT),
        last_modification: at(UTIME_NOW),
    };
    Ok(utimensat(CWD, path, &times, AtFlags::empty())?)
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

    /// Makes the file of a blob as old as that.
    fn age(blobs: &Blobs, digest: &Digest, seconds: u64) {
        let file = File::options()
            .write(true)
            .open(blobs.path(digest))
            .unwrap();
        let then = SystemTime::now() - std::time::Duration::from_secs(seconds);
        file.set_modified(then).unwrap();
    }

    fn ago(seconds: u64) -> SystemTime {
        SystemTime::now() - std::time::Duration::from_secs(seconds)
    }

    #[tokio::test]
    async fn what_nothing_uses_is_swept_away_when_it_is_old() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = open(folder.path());
        let put = async |bytes: &'static [u8], seconds| {
            let digest = blobs.put(Bytes::from_static(bytes)).await.unwrap();
            age(&blobs, &digest, seconds);
            digest
        };
        let used = put(b"used", 100).await;
        let old = put(b"old", 100).await;
        let young = put(b"young", 20).await;
        let again = put(b"put again", 100).await;
        blobs.put(Bytes::from_static(b"put again")).await.unwrap();
        let asked = put(b"asked for", 100).await;
        assert!(blobs.contains(&asked).await.unwrap());

        let swept = blobs.sweep(&[used].into(), ago(60)).await.unwrap();
        assert_eq!(
            swept.unwrap(),
            Swept {
                removed: [old].into(),
                bytes: 3,
                kept: [used, young, again, asked].into(),
            }
        );
        let mut left = vec![used, young, again, asked];
        left.sort_unstable();
        assert_eq!(blobs.list().await.unwrap(), left);
    }

    #[tokio::test]
    async fn what_is_held_is_not_swept_away() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = open(folder.path());
        let digest = blobs.put(Bytes::from_static(b"old")).await.unwrap();
        age(&blobs, &digest, 100);
        let hold = blobs.hold().await;
        let swept = blobs.sweep(&HashSet::new(), ago(60)).await.unwrap();
        assert_eq!(swept, None);
        drop(hold);
        let swept = blobs.sweep(&HashSet::new(), ago(60)).await.unwrap();
        assert_eq!(swept.unwrap().removed, [digest].into());
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
