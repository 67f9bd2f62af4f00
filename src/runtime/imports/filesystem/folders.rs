//! The folders behind `/tmp`: one an instance, made when it is first used and deleted after the instance.
//!
//! All of them stand in one folder of this run of the node, which nobody else may enter. What an earlier run left is
//! deleted in the background, as is every folder whose instance is gone.

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
};

use wasmtime_wasi::{
    FsPerms, OpenMode,
    filesystem::{Descriptor, Dir},
};

/// Nobody but the node.
const PRIVATE: u32 = 0o700;

/// The folders of all instances of a node.
pub(crate) struct TmpFolders {
    run: PathBuf,
    next: AtomicU64,
    trash: mpsc::Sender<PathBuf>,
    /// Stands for a folder that is not made yet; see [`super`].
    placeholder: Descriptor,
}

impl TmpFolders {
    /// Takes `base` for the folders of this run and deletes everything else in it: no other node may use it.
    pub(crate) fn open(base: &Path) -> io::Result<Arc<Self>> {
        fs::create_dir_all(base)?;
        fs::set_permissions(base, Permissions::from_mode(PRIVATE))?;
        let leftovers: Vec<PathBuf> = fs::read_dir(base)?
            .map(|entry| Ok(entry?.path()))
            .collect::<io::Result<_>>()?;
        let run = base.join(uuid::Uuid::new_v4().simple().to_string());
        DirBuilder::new().mode(PRIVATE).create(&run)?;
        let (trash, removed) = mpsc::channel();
        std::thread::Builder::new()
            .name("wharf-tmp".to_owned())
            .spawn({
                let run = run.clone();
                move || clean(&run, leftovers, &removed)
            })?;
        Ok(Arc::new(Self {
            run,
            next: AtomicU64::new(0),
            trash,
            placeholder: Descriptor::File(wasmtime_wasi::filesystem::File::new(
                File::open("/dev/null")?,
                FsPerms::ReadOnly,
                OpenMode::empty(),
                false,
            )),
        }))
    }

    /// A new, empty folder. Blocks on the disk.
    pub(super) fn make(self: &Arc<Self>) -> io::Result<TmpFolder> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.run.join(number.to_string());
        DirBuilder::new().mode(PRIVATE).create(&path)?;
        Ok(TmpFolder {
            folder: folder(File::open(&path)?, FsPerms::ReadWrite),
            path,
            folders: Arc::clone(self),
        })
    }

    pub(super) fn placeholder(&self) -> Descriptor {
        self.placeholder.clone()
    }
}

/// A folder that a guest may open.
pub(super) fn folder(folder: File, perms: FsPerms) -> Descriptor {
    let mode = if perms.write_not_permitted() {
        OpenMode::READ
    } else {
        OpenMode::READ | OpenMode::WRITE
    };
    // Files are read and written on tokio's blocking threads: a slow disk must not hold up other requests.
    Descriptor::Dir(Dir::new(folder, perms, mode, false))
}

/// The folder of one instance, handed to the cleaner when it is dropped.
pub(super) struct TmpFolder {
    path: PathBuf,
    folder: Descriptor,
    folders: Arc<TmpFolders>,
}

impl TmpFolder {
    pub(super) fn descriptor(&self) -> Descriptor {
        self.folder.clone()
    }
}

impl Drop for TmpFolder {
    fn drop(&mut self) {
        // Without a cleaner the next start deletes it.
        let _ = self.folders.trash.send(std::mem::take(&mut self.path));
    }
}

/// The cleaner's life: until the node is gone.
fn clean(run: &Path, leftovers: Vec<PathBuf>, removed: &mpsc::Receiver<PathBuf>) {
    let mut moved = 0;
    for path in leftovers.into_iter().chain(removed) {
        if let Err(error) = remove(run, &path, &mut moved) {
            tracing::warn!(folder = %path.display(), %error, "temporary folder not deleted");
        }
    }
    // Every instance is gone. Where that fails the next start does it.
    let _ = fs::remove_dir(run);
}

/// Deletes a file or a folder with all that is in it.
///
/// A guest may nest folders thousands deep, deeper than a path, the stack or the open files reach. So a folder inside is
/// moved up into `run` first: no path here is longer than three names, and nothing recurses.
fn remove(run: &Path, path: &Path, moved: &mut u64) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.is_dir() {
        return fs::remove_file(path);
    }
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        // A call that was under way when its instance ended may add a name while the folder is emptied.
        let mut attempts = 3;
        loop {
            empty(run, &folder, moved, &mut folders)?;
            attempts -= 1;
            match fs::remove_dir(&folder) {
                Err(error) if attempts > 0 && error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
                result => break result?,
            }
        }
    }
    Ok(())
}

/// Deletes the files of a folder and moves its folders up.
fn empty(run: &Path, folder: &Path, moved: &mut u64, up: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            *moved += 1;
            let path = run.join(format!("removed-{moved}"));
            fs::rename(entry.path(), &path)?;
            up.push(path);
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn eventually(what: &str, holds: impl Fn() -> bool) {
        let start = Instant::now();
        while !holds() {
            assert!(start.elapsed() < Duration::from_secs(20), "{what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_folder_is_private_and_goes_with_its_instance() {
        let base = tempfile::tempdir().unwrap();
        let folders = TmpFolders::open(base.path()).unwrap();
        let folder = folders.make().unwrap();
        let path = folder.path.clone();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        fs::create_dir_all(path.join("a/b/c")).unwrap();
        fs::write(path.join("a/b/file"), "x").unwrap();
        std::os::unix::fs::symlink("/", path.join("root")).unwrap();
        drop(folder);
        eventually("the folder goes", || !path.exists());
        eventually("nothing else is left", || {
            fs::read_dir(&folders.run).unwrap().next().is_none()
        });
        assert!(Path::new("/etc").exists());
    }

    #[test]
    fn a_folder_deeper_than_any_path_is_deleted() {
        let base = tempfile::tempdir().unwrap();
        let folders = TmpFolders::open(base.path()).unwrap();
        let folder = folders.make().unwrap();
        let path = folder.path.clone();
        let name = "d".repeat(200);
        let mut inner = rustix::fs::open(
            &path,
            rustix::fs::OFlags::DIRECTORY,
            rustix::fs::Mode::empty(),
        )
        .unwrap();
        for _ in 0..1_000 {
            rustix::fs::mkdirat(&inner, &name, rustix::fs::Mode::RWXU).unwrap();
            inner = rustix::fs::openat(
                &inner,
                &name,
                rustix::fs::OFlags::DIRECTORY,
                rustix::fs::Mode::empty(),
            )
            .unwrap();
        }
        drop(folder);
        eventually("the tree goes", || {
            fs::read_dir(&folders.run).unwrap().next().is_none()
        });
    }

    #[test]
    fn what_a_killed_node_left_is_deleted_at_the_next_start() {
        let base = tempfile::tempdir().unwrap();
        fs::create_dir_all(base.path().join("0123/7/inner")).unwrap();
        fs::write(base.path().join("0123/7/inner/file"), "x").unwrap();
        fs::write(base.path().join("stray"), "x").unwrap();
        let folders = TmpFolders::open(base.path()).unwrap();
        eventually("only this run is left", || {
            let left: Vec<_> = fs::read_dir(base.path())
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .collect();
            left == [folders.run.clone()]
        });
    }
}
