//! Folders named by the digest of what they were made from.

use std::{
    collections::{BTreeMap, HashSet},
    fs::{self, DirBuilder, File, FileTimes},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::SystemTime,
};

use super::{DataFolder, Error, folder};
use crate::model::Digest;

/// Folders named by the digest of what they were made from: `layers/sha256/ab/cdef…`.
///
/// A folder is there whole or not at all: it is filled elsewhere, made durable, and then given its name. Nothing in it
/// changes, so that any number of instances may have it mounted, and files may be shared between folders.
#[derive(Debug, Clone)]
pub struct Folders {
    /// Keeps the data folder locked.
    _data: Arc<DataFolder>,
    named: Arc<Path>,
    unnamed: Arc<Path>,
    /// Held to make a folder young, and alone to remove one for its age.
    ages: Arc<RwLock<()>>,
}

impl Folders {
    /// Opens the folders in `layers` of a data folder, and removes what a killed node left half made.
    pub fn open(data: &Arc<DataFolder>) -> Result<Self, Error> {
        let root = data.path().join("layers");
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
        })
    }

    /// Where the folder of a digest is, whether or not there is one.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        let name = digest.to_string();
        let (above, below) = name.split_at(2);
        self.named.join(above).join(below)
    }

    /// Whether there is a folder of that digest. If so it counts as just made: see [`sweep`](Self::sweep).
    pub fn touch(&self, digest: &Digest) -> Result<bool, Error> {
        let path = self.path(digest);
        let _ages = self.ages.read().unwrap_or_else(PoisonError::into_inner);
        let touched = File::open(&path).and_then(|folder| {
            let now = SystemTime::now();
            folder.set_times(FileTimes::new().set_modified(now))
        });
        match touched {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io(format!("look for `{}`", path.display()), error)),
        }
    }

    /// Whether there is a folder of that digest. Asks the disk.
    pub fn contains(&self, digest: &Digest) -> bool {
        self.path(digest).is_dir()
    }

    /// A folder for a while, in the same place: gone when it is dropped, or at the next start.
    pub fn scratch(&self) -> Result<tempfile::TempDir, Error> {
        tempfile::tempdir_in(&self.unnamed)
            .map_err(|error| Error::io(format!("write `{}`", self.unnamed.display()), error))
    }

    /// Makes the folder of a digest, if there is none, out of what `fill` puts into an empty one. When this returns, it is
    /// on disk. Waits for the disk.
    ///
    /// # Errors
    ///
    /// What `fill` said, or the disk; then there is no folder.
    pub fn make<E: From<Error>>(
        &self,
        digest: &Digest,
        fill: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<(), E> {
        let path = self.path(digest);
        if self.touch(digest)? {
            return Ok(());
        }
        let making = self.scratch()?;
        let content = making.path().join("content");
        let failed = |error| Error::io(format!("write `{}`", path.display()), error);
        DirBuilder::new()
            .mode(0o700)
            .create(&content)
            .map_err(failed)?;
        fill(&content)?;
        self.name(&content, &path).map_err(failed)?;
        Ok(())
    }

    fn name(&self, content: &Path, path: &Path) -> io::Result<()> {
        // There may be thousands of files: one call for all of them.
        rustix::fs::syncfs(File::open(content)?)?;
        let above = path.parent().expect("a folder lies in a folder of `named`");
        folder::create(above)?;
        match fs::rename(content, path) {
            // Somebody else made the same meanwhile.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => return Ok(()),
            renamed => renamed?,
        }
        File::open(above)?.sync_all()?;
        File::open(&self.named)?.sync_all()
    }

    /// Makes the folder of a digest, if there is none, out of others laid over each other in the folder `inside` of it:
    /// where two have something at the same path, the later one's is there, and a folder takes in what both have. Files are
    /// shared, not copied. Waits for the disk.
    pub fn merge(&self, digest: &Digest, inside: &Path, folders: &[PathBuf]) -> Result<(), Error> {
        self.make(digest, |made| {
            let merged = made.join(inside);
            fs::create_dir_all(&merged)
                .and_then(|()| merge(folders, &merged))
                .map_err(|error| Error::io(format!("write `{}`", merged.display()), error))
        })
    }

    /// The digests of all folders, in their order.
    pub fn list(&self) -> Result<Vec<Digest>, Error> {
        let listed = || -> io::Result<Vec<Digest>> {
            let mut digests = Vec::new();
            for above in fs::read_dir(&self.named)? {
                let above = above?;
                for below in fs::read_dir(above.path())? {
                    let name = [above.file_name(), below?.file_name()]
                        .map(|part| part.to_string_lossy().into_owned())
                        .concat();
                    digests.extend(name.parse::<Digest>());
                }
            }
            digests.sort_unstable();
            Ok(digests)
        };
        listed().map_err(|error| Error::io(format!("list `{}`", self.named.display()), error))
    }

    /// Removes the folders that are not in `used` and were made or touched for the last time before `before`. Who has one
    /// mounted finds it empty.
    pub fn sweep(&self, used: &HashSet<Digest>, before: SystemTime) -> Result<(), Error> {
        for digest in self.list()? {
            if used.contains(&digest) {
                continue;
            }
            let path = self.path(&digest);
            let failed = |error| Error::io(format!("remove `{}`", path.display()), error);
            let removing = self.scratch()?;
            if self
                .unname(&path, removing.path(), before)
                .map_err(failed)?
            {
                tracing::info!(%digest, "removed the files of a layer or package that nothing uses");
                removing.close().map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Takes a folder's name away, so that there is never half of it, unless it is young.
    fn unname(&self, path: &Path, to: &Path, before: SystemTime) -> io::Result<bool> {
        let _ages = self.ages.write().unwrap_or_else(PoisonError::into_inner);
        if fs::metadata(path)?.modified()? >= before {
            return Ok(false);
        }
        fs::rename(path, to.join("content"))?;
        Ok(true)
    }
}

/// What is at a path of a merged folder.
enum Found {
    Folder,
    File(PathBuf),
    Link(PathBuf),
}

fn merge(folders: &[PathBuf], merged: &Path) -> io::Result<()> {
    let mut found: BTreeMap<PathBuf, Found> = BTreeMap::new();
    for folder in folders {
        lay_over(folder, &mut found)?;
    }
    let mut links = Vec::new();
    // Paths are ordered by their parts, so a folder comes before what is in it.
    for (path, found) in &found {
        let place = merged.join(path);
        match found {
            Found::Folder => DirBuilder::new().mode(0o700).create(&place)?,
            Found::File(source) => share(source, &place)?,
            Found::Link(target) => links.push((place, target)),
        }
    }
    // Last: so nothing was written through one.
    for (place, target) in links {
        std::os::unix::fs::symlink(target, place)?;
    }
    Ok(())
}

/// Adds what is in a folder to what was found in earlier ones. No link is followed.
fn lay_over(folder: &Path, found: &mut BTreeMap<PathBuf, Found>) -> io::Result<()> {
    let mut open = vec![PathBuf::new()];
    while let Some(inside) = open.pop() {
        for entry in fs::read_dir(folder.join(&inside))? {
            let entry = entry?;
            let path = inside.join(entry.file_name());
            let kind = entry.file_type()?;
            if kind.is_dir() {
                if !matches!(found.get(&path), Some(Found::Folder)) {
                    found.insert(path.clone(), Found::Folder);
                }
                open.push(path);
                continue;
            }
            // It may stand where a folder was.
            let below: Vec<PathBuf> = found
                .range(path.clone()..)
                .take_while(|(other, _)| other.starts_with(&path))
                .map(|(other, _)| other.clone())
                .collect();
            for other in below {
                found.remove(&other);
            }
            let new = if kind.is_symlink() {
                Found::Link(fs::read_link(entry.path())?)
            } else {
                Found::File(entry.path())
            };
            found.insert(path, new);
        }
    }
    Ok(())
}

/// Gives a file a second name; copies it where the file system has no more names for it.
fn share(source: &Path, place: &Path) -> io::Result<()> {
    match fs::hard_link(source, place) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::TooManyLinks | io::ErrorKind::Unsupported
            ) =>
        {
            fs::copy(source, place).map(drop)
        }
        linked => linked,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn open(folder: &Path) -> Folders {
        Folders::open(&DataFolder::open(folder).unwrap()).unwrap()
    }

    fn write(folder: &Path, path: &str, text: &str) {
        let place = folder.join(path);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(place, text).unwrap();
    }

    fn make(folders: &Folders, files: &[(&str, &str)]) -> Digest {
        let digest = Digest::of(format!("{files:?}").as_bytes());
        let made = folders.make::<Error>(&digest, |folder| {
            for (path, text) in files {
                write(folder, path, text);
            }
            Ok(())
        });
        made.unwrap();
        digest
    }

    #[test]
    fn a_folder_is_there_after_a_restart_and_half_of_one_is_swept() {
        let data = tempfile::tempdir().unwrap();
        let folders = open(data.path());
        let digest = make(&folders, &[("a/b", "b")]);
        let failed = folders.make::<Error>(&Digest::of(b"half"), |folder| {
            write(folder, "half", "");
            Err(Error::Closed)
        });
        assert!(matches!(failed, Err(Error::Closed)));
        assert!(!folders.contains(&Digest::of(b"half")));
        // What a killed node leaves.
        write(data.path(), "layers/tmp/x/content/half", "");
        drop(folders);

        let folders = open(data.path());
        assert_eq!(folders.list().unwrap(), [digest]);
        assert_eq!(
            fs::read_to_string(folders.path(&digest).join("a/b")).unwrap(),
            "b"
        );
        assert_eq!(
            fs::read_dir(data.path().join("layers/tmp"))
                .unwrap()
                .count(),
            0
        );
    }

    #[test]
    fn what_is_unused_and_old_is_swept() {
        let data = tempfile::tempdir().unwrap();
        let folders = open(data.path());
        let [used, young, old] = ["used", "young", "old"].map(|name| make(&folders, &[(name, "")]));
        std::thread::sleep(std::time::Duration::from_millis(20));
        let now = SystemTime::now();
        assert!(folders.touch(&young).unwrap());
        folders.sweep(&HashSet::from([used]), now).unwrap();
        assert!(folders.contains(&used) && folders.contains(&young));
        assert!(!folders.contains(&old));
        assert!(!folders.touch(&old).unwrap());
        assert_eq!(
            fs::read_dir(data.path().join("layers/tmp"))
                .unwrap()
                .count(),
            0
        );
    }

    #[test]
    fn later_folders_go_before_earlier_ones() {
        let data = tempfile::tempdir().unwrap();
        let folders = open(data.path());
        let first = make(
            &folders,
            &[
                ("both", "1"),
                ("first", "1"),
                ("in/both", "1"),
                ("in/first", "1"),
                ("folder/then-file", "1"),
                ("folder/more", "1"),
                ("folderish", "1"),
                ("file", "1"),
            ],
        );
        let second = make(
            &folders,
            &[
                ("both", "2"),
                ("in/both", "2"),
                ("in/second", "2"),
                ("folder", "2"),
                ("file/then-folder", "2"),
            ],
        );
        let merged = Digest::of(b"merged");
        let sources = [folders.path(&first), folders.path(&second)];
        folders
            .merge(&merged, Path::new("files"), &sources)
            .unwrap();
        let place = folders.path(&merged).join("files");
        for (path, text) in [
            ("both", "2"),
            ("first", "1"),
            ("in/both", "2"),
            ("in/first", "1"),
            ("in/second", "2"),
            ("folder", "2"),
            ("folderish", "1"),
            ("file/then-folder", "2"),
        ] {
            assert_eq!(
                fs::read_to_string(place.join(path)).unwrap(),
                text,
                "{path}"
            );
        }
        // Removing a layer leaves what was merged.
        let later = SystemTime::now() + std::time::Duration::from_secs(60);
        folders.sweep(&HashSet::from([merged]), later).unwrap();
        assert!(!folders.contains(&first));
        assert_eq!(fs::read_to_string(place.join("first")).unwrap(), "1");
    }

    #[test]
    fn no_link_of_one_layer_is_written_through_by_another() {
        let data = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let folders = open(data.path());
        let links = Digest::of(b"links");
        let made = folders.make::<Error>(&links, |folder| {
            symlink(outside.path(), folder.join("out")).unwrap();
            symlink("file", folder.join("link")).unwrap();
            Ok(())
        });
        made.unwrap();
        let files = make(&folders, &[("out/escaped", "x"), ("link", "y")]);
        for (name, order) in [("after", [links, files]), ("before", [files, links])] {
            let merged = Digest::of(name.as_bytes());
            folders
                .merge(
                    &merged,
                    Path::new(""),
                    &order.map(|digest| folders.path(&digest)),
                )
                .unwrap();
            assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0, "{name}");
            let link = fs::symlink_metadata(folders.path(&merged).join("link")).unwrap();
            assert_eq!(link.is_symlink(), name == "before");
        }
    }
}
