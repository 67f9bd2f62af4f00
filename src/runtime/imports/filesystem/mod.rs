//! `wasi:filesystem` 0.2 and 0.3: a private, sized `/tmp`, and the folders a function was granted.
//!
//! The calls themselves are wasmtime-wasi's, symlinks and escapes included. Here stands what it has not: every function
//! that makes a name, opens a file or changes a size passes the [`Quota`] of its instance first. Both versions of the
//! interface are implemented in full rather than shadowed here and there, so that a function which WASI adds later
//! cannot slip past it: it does not compile.
//!
//! An instance that touches no file makes no system call. `get-directories` hands out a descriptor for `/tmp` that
//! stands for a folder not made yet (underneath it is `/dev/null`, so a use that went round [`Filesystem`] would fail,
//! not leak); the folder is made by the first call that needs it. The folder lives as long as the instance: where
//! instances are reused, `/tmp` is too, as in Lambda.
//!
//! No link and no rename leads from one mount to another.

mod folders;
mod p2;
mod p3;
mod quota;

use std::{collections::HashMap, fs::File, io, path::PathBuf, sync::Arc};

use wasmtime::component::{HasData, Resource, ResourceTable};
use wasmtime_wasi::{
    FsPerms,
    filesystem::{Descriptor, WasiFilesystemCtx, WasiFilesystemCtxView},
};

use self::{folders::TmpFolder, quota::Quota};
use crate::model::{ByteSize, FileGrant};

pub(crate) use self::folders::TmpFolders;

/// Where the private folder is mounted.
const TMP: &str = "/tmp";

pub(crate) use self::{
    p2::add_to_linker as add_p2_to_linker, p3::add_to_linker as add_p3_to_linker,
};

/// What a [`wasmtime::Store`] must hold for its guest to have files.
pub(crate) trait FilesystemHost: Send {
    /// The instance's files, and the table its resources are in.
    fn filesystem_view(&mut self) -> FilesystemView<'_>;
}

/// The files of an instance while a call uses them.
pub(crate) struct FilesystemView<'a> {
    /// Where descriptors are kept.
    pub(crate) table: &'a mut ResourceTable,
    /// The mounts of the instance.
    pub(crate) filesystem: &'a mut Filesystem,
}

/// Ties [`FilesystemView`] to the interfaces it implements.
pub(crate) struct HasFilesystem;

impl HasData for HasFilesystem {
    type Data<'a> = FilesystemView<'a>;
}

/// What is mounted in every instance of a function version.
pub(crate) struct Mounts {
    folders: Arc<TmpFolders>,
    /// Opened once: instances share the handle.
    granted: Vec<(Descriptor, String)>,
    tmp: u64,
}

/// A granted folder that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("folder `{}` cannot be granted", source_folder.display())]
pub(crate) struct GrantError {
    source_folder: PathBuf,
    source: io::Error,
}

impl Mounts {
    /// Opens the granted folders.
    pub(crate) fn open(
        folders: Arc<TmpFolders>,
        grants: &[FileGrant],
        tmp: ByteSize,
    ) -> Result<Arc<Self>, GrantError> {
        let granted = grants
            .iter()
            .map(|grant| {
                let folder = File::open(&grant.source).and_then(|folder| {
                    if folder.metadata()?.is_dir() {
                        Ok(folder)
                    } else {
                        Err(io::ErrorKind::NotADirectory.into())
                    }
                });
                let folder = folder.map_err(|source| GrantError {
                    source_folder: grant.source.clone(),
                    source,
                })?;
                let perms = if grant.writable {
                    FsPerms::ReadWrite
                } else {
                    FsPerms::ReadOnly
                };
                Ok((folders::folder(folder, perms), grant.mount.clone()))
            })
            .collect::<Result<_, _>>()?;
        Ok(Arc::new(Self {
            folders,
            granted,
            tmp: tmp.as_u64(),
        }))
    }
}

/// The files of one instance.
pub(crate) struct Filesystem {
    mounts: Arc<Mounts>,
    /// Made when the guest first asks for a folder.
    quota: Option<Arc<Quota>>,
    /// Made when the guest first uses it.
    tmp: Option<TmpFolder>,
    /// Descriptors that lead to `/tmp` and below, by their place in the resource table.
    places: HashMap<u32, Place>,
    /// wasmtime-wasi's own state, with no folder in it.
    wasi: WasiFilesystemCtx,
}

/// What a descriptor of `/tmp` stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// `/tmp` itself, whose folder this descriptor does not have yet.
    Unmade,
    /// `/tmp` or something in it.
    Made,
}

/// What a call has to do with the quota before wasmtime-wasi does its part.
enum Access {
    /// Outside `/tmp`: nothing.
    Granted,
    /// Inside: the account to charge.
    Tmp(Arc<Quota>),
    /// Inside, and the folder has to be made first.
    Unmade(Arc<TmpFolders>),
}

impl Filesystem {
    /// The files of a new instance. Nothing is opened or made yet.
    pub(crate) fn new(mounts: Arc<Mounts>) -> Self {
        Self {
            mounts,
            quota: None,
            tmp: None,
            places: HashMap::new(),
            wasi: WasiFilesystemCtx::default(),
        }
    }

    fn quota(&mut self) -> &Arc<Quota> {
        let limit = self.mounts.tmp;
        self.quota
            .get_or_insert_with(|| Arc::new(Quota::new(limit)))
    }

    fn place(&self, descriptor: &Resource<Descriptor>) -> Option<Place> {
        self.places.get(&descriptor.rep()).copied()
    }

    /// Whether both descriptors are of `/tmp`, or neither.
    fn same_mount(&self, one: &Resource<Descriptor>, other: &Resource<Descriptor>) -> bool {
        self.place(one).is_some() == self.place(other).is_some()
    }
}

impl FilesystemView<'_> {
    /// wasmtime-wasi's view of the same resources.
    fn wasi(&mut self) -> WasiFilesystemCtxView<'_> {
        WasiFilesystemCtxView {
            ctx: &mut self.filesystem.wasi,
            table: self.table,
        }
    }

    /// The mounts, as `get-directories` gives them in both versions.
    fn directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        self.filesystem.quota();
        let mounts = Arc::clone(&self.filesystem.mounts);
        let mut directories = Vec::with_capacity(mounts.granted.len() + 1);
        let tmp = self.table.push(mounts.folders.placeholder())?;
        self.filesystem.places.insert(tmp.rep(), Place::Unmade);
        directories.push((tmp, TMP.to_owned()));
        for (folder, mount) in &mounts.granted {
            let folder = self.table.push(folder.clone())?;
            directories.push((folder, mount.clone()));
        }
        Ok(directories)
    }

    /// What a call on a descriptor has to do first.
    fn access(&mut self, descriptor: &Resource<Descriptor>) -> wasmtime::Result<Access> {
        let filesystem = &mut *self.filesystem;
        match (filesystem.place(descriptor), &filesystem.tmp) {
            (None, _) => Ok(Access::Granted),
            (Some(Place::Unmade), None) => {
                Ok(Access::Unmade(Arc::clone(&filesystem.mounts.folders)))
            }
            (Some(Place::Unmade), Some(tmp)) => {
                *self.table.get_mut(descriptor)? = tmp.descriptor();
                filesystem.places.insert(descriptor.rep(), Place::Made);
                Ok(Access::Tmp(Arc::clone(filesystem.quota())))
            }
            (Some(Place::Made), _) => Ok(Access::Tmp(Arc::clone(filesystem.quota()))),
        }
    }

    /// Gives a descriptor of `/tmp` the folder that was `made` for it, or the one that another call made meanwhile.
    fn settle(
        &mut self,
        descriptor: &Resource<Descriptor>,
        made: TmpFolder,
    ) -> wasmtime::Result<Arc<Quota>> {
        self.filesystem.tmp.get_or_insert(made);
        self.access(descriptor)?;
        Ok(Arc::clone(self.filesystem.quota()))
    }

    /// Remembers a descriptor that was opened below another.
    fn opened(&mut self, descriptor: &Resource<Descriptor>, in_tmp: bool) -> wasmtime::Result<()> {
        let file = match self.table.get(descriptor)? {
            Descriptor::File(file) => &file.file,
            Descriptor::Dir(folder) => &folder.dir,
        };
        self.filesystem.quota().opened(file, in_tmp);
        if in_tmp {
            self.filesystem.places.insert(descriptor.rep(), Place::Made);
        }
        Ok(())
    }

    /// Forgets a descriptor that the guest closes.
    fn closed(&mut self, descriptor: &Resource<Descriptor>) {
        self.filesystem.places.remove(&descriptor.rep());
    }

    /// The open file of a descriptor, if it is one of a file.
    fn file(&self, descriptor: &Resource<Descriptor>) -> wasmtime::Result<Option<Arc<File>>> {
        Ok(match self.table.get(descriptor)? {
            Descriptor::File(file) => Some(Arc::clone(&file.file)),
            Descriptor::Dir(_) => None,
        })
    }
}

/// Another name for a descriptor that the guest lends to a call.
fn borrow(descriptor: &Resource<Descriptor>) -> Resource<Descriptor> {
    Resource::new_borrow(descriptor.rep())
}

/// Makes the folder of an instance on a thread that may block.
async fn make(folders: Arc<TmpFolders>) -> io::Result<TmpFolder> {
    blocking(move || folders.make()).await
}

/// Does what blocks on the disk where that holds up nobody.
async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> io::Result<R> + Send + 'static,
) -> io::Result<R> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// How many names a file has.
fn names(file: &File) -> Option<u64> {
    use std::os::unix::fs::MetadataExt as _;

    file.metadata().ok().map(|metadata| metadata.nlink())
}

#[cfg(test)]
mod tests;
