//! `wasi:filesystem` 0.3.

use std::{
    fs::File,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::{sync::oneshot, task::JoinHandle};
use wasmtime::{
    AsContextMut as _, StoreContextMut,
    component::{
        self, Accessor, FutureReader, Linker, Resource, Source, StreamConsumer, StreamReader,
        StreamResult,
    },
};
use wasmtime_wasi::{
    filesystem::{Descriptor, WasiFilesystem, WasiFilesystemCtxView},
    p3::{
        bindings::filesystem::{
            preopens,
            types::{
                self, Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry,
                ErrorCode, Filesize, HostDescriptorWithStore, MetadataHashValue, NewTimestamp,
                OpenFlags, PathFlags,
            },
        },
        filesystem::{FilesystemError, FilesystemResult},
    },
};

use super::{
    Access, FilesystemHost, FilesystemView, HasFilesystem, Place, borrow, make, quota::Quota,
};

/// What is written to a file at once.
const CHUNK: usize = 64 << 10;

pub(crate) fn add_to_linker<T: FilesystemHost + 'static>(
    linker: &mut Linker<T>,
) -> wasmtime::Result<()> {
    types::add_to_linker::<T, HasFilesystem>(linker, T::filesystem_view)?;
    preopens::add_to_linker::<T, HasFilesystem>(linker, T::filesystem_view)
}

impl preopens::Host for FilesystemView<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        self.directories()
    }
}

impl types::Host for FilesystemView<'_> {
    fn convert_error_code(&mut self, error: FilesystemError) -> wasmtime::Result<ErrorCode> {
        error.downcast()
    }
}

impl types::HostDescriptor for FilesystemView<'_> {
    fn drop(&mut self, fd: Resource<Descriptor>) -> wasmtime::Result<()> {
        self.closed(&fd);
        types::HostDescriptor::drop(&mut self.wasi(), fd)
    }
}

/// wasmtime-wasi's view of a host.
fn wasi_view<T: FilesystemHost>(host: &mut T) -> WasiFilesystemCtxView<'_> {
    let FilesystemView { table, filesystem } = host.filesystem_view();
    WasiFilesystemCtxView {
        ctx: &mut filesystem.wasi,
        table,
    }
}

/// The store as wasmtime-wasi sees it.
fn wasi_access<'a, T: FilesystemHost + 'static>(
    store: &'a mut component::Access<'_, T, HasFilesystem>,
) -> component::Access<'a, T, WasiFilesystem> {
    component::Access::<T, WasiFilesystem>::new(store.as_context_mut(), wasi_view::<T>)
}

/// A call of this interface: the store, as we see it and as wasmtime-wasi does.
struct Call<'a, T: FilesystemHost + 'static> {
    store: &'a Accessor<T, HasFilesystem>,
    wasi: Accessor<T, WasiFilesystem>,
}

impl<'a, T: FilesystemHost + 'static> Call<'a, T> {
    fn new(store: &'a Accessor<T, HasFilesystem>) -> Self {
        Self {
            store,
            wasi: store.with_getter::<WasiFilesystem>(wasi_view::<T>),
        }
    }

    /// As [`new`](Self::new), for a call on a descriptor. Makes the folder of `/tmp` if the descriptor is waiting for it,
    /// and answers the account to charge, which is none for granted folders.
    async fn enter(
        store: &'a Accessor<T, HasFilesystem>,
        fd: &Resource<Descriptor>,
    ) -> FilesystemResult<(Self, Option<Arc<Quota>>)> {
        let access = store.with(|mut store| store.get().access(fd));
        let quota = match access.map_err(FilesystemError::trap)? {
            Access::Granted => None,
            Access::Tmp(quota) => Some(quota),
            Access::Unmade(folders) => {
                let made = make(folders).await?;
                let settled = store.with(|mut store| store.get().settle(fd, made));
                Some(settled.map_err(FilesystemError::trap)?)
            }
        };
        Ok((Self::new(store), quota))
    }

    /// The same for a call on two descriptors, which must be of one mount.
    async fn enter_both(
        store: &'a Accessor<T, HasFilesystem>,
        fd: &Resource<Descriptor>,
        other: &Resource<Descriptor>,
    ) -> FilesystemResult<(Self, Option<Arc<Quota>>)> {
        if !store.with(|mut store| store.get().filesystem.same_mount(fd, other)) {
            return Err(ErrorCode::CrossDevice.into());
        }
        Self::enter(store, other).await?;
        Self::enter(store, fd).await
    }

    /// The file at a path and how many names it has, to see afterwards what became of it. Whatever else is there, or
    /// nothing, needs no looking after.
    async fn peek(
        &self,
        folder: &Resource<Descriptor>,
        path: &str,
    ) -> FilesystemResult<Option<(Arc<File>, u64)>> {
        let opened = WasiFilesystem::open_at(
            &self.wasi,
            borrow(folder),
            PathFlags::empty(),
            path.to_owned(),
            OpenFlags::empty(),
            DescriptorFlags::READ,
        )
        .await;
        let Ok(opened) = opened else { return Ok(None) };
        let opened = self
            .store
            .with(|mut store| store.get().table.delete(opened))?;
        let Descriptor::File(file) = opened else {
            return Ok(None);
        };
        Ok(super::names(&file.file).map(|names| (file.file, names)))
    }

    async fn open(
        &self,
        folder: &Resource<Descriptor>,
        path_flags: PathFlags,
        path: &str,
        open_flags: OpenFlags,
        flags: DescriptorFlags,
    ) -> FilesystemResult<Resource<Descriptor>> {
        let (folder, path) = (borrow(folder), path.to_owned());
        WasiFilesystem::open_at(&self.wasi, folder, path_flags, path, open_flags, flags).await
    }

    /// Opens a file or folder in `/tmp`, in steps that each either make a name or do not.
    async fn open_in_tmp(
        &self,
        quota: &Arc<Quota>,
        folder: &Resource<Descriptor>,
        path_flags: PathFlags,
        path: &str,
        open_flags: OpenFlags,
        mut flags: DescriptorFlags,
    ) -> FilesystemResult<Resource<Descriptor>> {
        let create = open_flags.contains(OpenFlags::CREATE);
        let exclusive = open_flags.contains(OpenFlags::EXCLUSIVE);
        let truncate = open_flags.contains(OpenFlags::TRUNCATE);
        if open_flags.contains(OpenFlags::DIRECTORY) && (create || exclusive || truncate) {
            return Err(ErrorCode::Invalid.into());
        }
        if create || truncate {
            // As wasmtime-wasi does for these two flags, which it does not get to see.
            if !flags.contains(DescriptorFlags::WRITE) {
                flags |= DescriptorFlags::READ;
            }
            flags |= DescriptorFlags::WRITE;
        }
        let mut result = Err(ErrorCode::NoEntry.into());
        if !(create && exclusive) {
            let existing = open_flags & OpenFlags::DIRECTORY;
            result = self.open(folder, path_flags, path, existing, flags).await;
        }
        if create && is_no_entry(&result) {
            let new = OpenFlags::CREATE | OpenFlags::EXCLUSIVE;
            let call = self.open(folder, path_flags, path, new, flags);
            result = named(Some(quota), call).await;
            if !exclusive && is_exist(&result) {
                // A symlink to a name that is not there, or a file that came meanwhile. In the second case its name
                // counts twice.
                let call = self.open(folder, path_flags, path, OpenFlags::CREATE, flags);
                result = named(Some(quota), call).await;
            }
        }
        let opened = result?;
        let file = self
            .store
            .with(|mut store| store.get().file(&opened))
            .map_err(FilesystemError::trap)?;
        if truncate && let Some(file) = file {
            let quota = Arc::clone(quota);
            if let Err(error) = quota.in_turn(move |quota| quota.set_size(&file, 0)).await {
                self.store
                    .with(|mut store| store.get().table.delete(opened))?;
                return Err(error.into());
            }
        }
        Ok(opened)
    }
}

/// Makes a name, which counts unless that fails.
async fn named<R>(
    quota: Option<&Arc<Quota>>,
    call: impl Future<Output = FilesystemResult<R>>,
) -> FilesystemResult<R> {
    if let Some(quota) = quota {
        quota.reserve_entry()?;
    }
    let result = call.await;
    if let (Err(_), Some(quota)) = (&result, quota) {
        quota.release_entry();
    }
    result
}

fn is_no_entry<R>(result: &FilesystemResult<R>) -> bool {
    matches!(result, Err(error) if matches!(error.downcast_ref(), Some(ErrorCode::NoEntry)))
}

fn is_exist<R>(result: &FilesystemResult<R>) -> bool {
    matches!(result, Err(error) if matches!(error.downcast_ref(), Some(ErrorCode::Exist)))
}

/// What became of a stream, as it is told to the guest.
type Written = FutureReader<Result<(), ErrorCode>>;

/// Writes a stream to a file, through the quota where the file is in `/tmp`.
fn write_stream<T: FilesystemHost + 'static>(
    mut store: component::Access<'_, T, HasFilesystem>,
    fd: Resource<Descriptor>,
    mut data: StreamReader<u8>,
    position: Position,
) -> wasmtime::Result<Written> {
    let mut view = store.get();
    let access = view.access(&fd)?;
    let file = match view.table.get(&fd)? {
        Descriptor::File(file) if file.perms.write_not_permitted() => Err(ErrorCode::NotPermitted),
        Descriptor::File(file) => Ok(Arc::clone(&file.file)),
        Descriptor::Dir(_) => Err(ErrorCode::BadDescriptor),
    };
    let target = match (access, file) {
        (Access::Granted, _) => {
            let store = wasi_access(&mut store);
            return match position {
                Position::Offset(offset) => {
                    WasiFilesystem::write_via_stream(store, fd, data, offset)
                }
                Position::End => WasiFilesystem::append_via_stream(store, fd, data),
            };
        }
        (Access::Unmade(_), _) => Err(ErrorCode::BadDescriptor),
        (Access::Tmp(quota), file) => file.map(|file| (quota, file)),
    };
    let (result, written) = oneshot::channel();
    match target {
        Ok((quota, file)) => data.pipe(
            &mut store,
            Writer {
                quota,
                file,
                position,
                result: Some(result),
                task: None,
            },
        )?,
        Err(code) => {
            data.close(&mut store)?;
            // The receiver is ours, and there.
            let _ = result.send(Err(code));
        }
    }
    FutureReader::new(&mut store, written)
}

impl<T: FilesystemHost + 'static> HostDescriptorWithStore<T> for HasFilesystem {
    fn read_via_stream(
        mut store: component::Access<'_, T, Self>,
        fd: Resource<Descriptor>,
        offset: Filesize,
    ) -> wasmtime::Result<(StreamReader<u8>, Written)> {
        if store.get().filesystem.place(&fd) == Some(Place::Unmade) {
            return Ok((
                StreamReader::new(&mut store, std::iter::empty())?,
                FutureReader::new(&mut store, async {
                    wasmtime::error::Ok(Err(ErrorCode::IsDirectory))
                })?,
            ));
        }
        let store = wasi_access(&mut store);
        WasiFilesystem::read_via_stream(store, fd, offset)
    }

    fn write_via_stream(
        store: component::Access<'_, T, Self>,
        fd: Resource<Descriptor>,
        data: StreamReader<u8>,
        offset: Filesize,
    ) -> wasmtime::Result<Written> {
        write_stream(store, fd, data, Position::Offset(offset))
    }

    fn append_via_stream(
        store: component::Access<'_, T, Self>,
        fd: Resource<Descriptor>,
        data: StreamReader<u8>,
    ) -> wasmtime::Result<Written> {
        write_stream(store, fd, data, Position::End)
    }

    async fn advise(
        store: &Accessor<T, Self>,
        fd: Resource<Descriptor>,
        offset: Filesize,
        len: Filesize,
        advice: Advice,
    ) -> FilesystemResult<()> {
        let (call, _) = Call::enter(store, &fd).await?;
        WasiFilesystem::advise(&call.wasi, fd, offset, len, advice).await
    }

    async fn sync_data(
        store: &Accessor<T, Self>,
        fd: Resource<Descriptor>,
    ) -> FilesystemResult<()> {
        let (call, _) = Call::enter(store, &fd).await?;
        WasiFilesystem::sync_data(&call.wasi, fd).await
    }

    async fn get_flags(
        store: &Accessor<T, Self>,
        fd: Resource<Descriptor>,
    ) -> FilesystemResult<DescriptorFlags> {
        let (call, _) = Call::enter(store, &fd).await?;
        WasiFilesystem::get_flags(&call.wasi, fd).await
    }

    async fn get_type(
        store: &Accessor<T, Self>,
        fd: Resource<Descriptor>,
    ) -> FilesystemResult<DescriptorType> {
        let (call, _) = Call::enter(store, &fd).await?;
        WasiFilesystem::get_type(&call.wasi, fd).await
    }

    async fn set_size(
        store: &Accessor<T, Self>,
        fd: Resource<Descriptor>,
        size: Filesize,
    ) -> FilesystemResult<()> {
        let (call, quota) = Call::enter(store, &fd).await?;
        let Some(quota) = quota else {
            return WasiFilesystem::set_size(&call.wasi, fd, size).await;
        };
        let file = store
            .with(|mut store| store.get().file(&fd))
            .map_err(FilesystemError::trap)?
            .ok_or(ErrorCode::BadDescriptor)?;
        Ok(quota
            .in_turn(move |quota| quota.set_size(&file, size))
            .await?)
    }

    async fn set_times(
        store: &Accessor<T, Self>,
        fd: Resource<Descriptor>,
        access: NewTimestamp,
        modification: NewTimestamp,
    ) -> FilesystemResult<()> {
        let (call, _) = Call::enter(store, &fd).await?;
        WasiFilesystem::set_times(&call.wasi, fd, access, modification).await
    }

    fn read_directory(
        mut store: component::Access<'_, T, Self>,
        fd: Resource<Descriptor>,
    ) -> wasmtime::Result<(StreamReader<DirectoryEntry>, Written)> {
        if let Access::Unmade(_) = store.get().access(&fd)? {
            // A folder that is not made is empty.
            return Ok((
                StreamReader::new(&mut store, std::iter::empty())?,
                FutureReader::new(&mut store, async { wasmtime::error::Ok(Ok(())) })?,
            ));
        }
        let store = wasi_access(&mut store);
        WasiFilesystem::read_directory(store, fd)
    }

    async fn sync(store: &Accessor<T, Self>, fd: Resource<Descriptor>) -> FilesystemResult<()> {
        let (call, _) = Call::enter(store, &fd).await?;
        WasiFilesystem::sync(&call.wasi, fd).await
    }

    async fn create_directory_at(
        store: &Accessor<T, Self>,
        fd: Resource<Descriptor>,
        path: String,
    ) -> FilesystemResult<()> {
        let (call, quota) = Call::enter(store, &fd).await?;
        let create = WasiFilesystem::create_directory_at(&call.wasi, fd, path);
        named(quota.as_ref(), create).await
    }

    async fn stat(
        store: &Accessor<T, Self>,
        fd: Resource<Descriptor>,
    ) -> FilesystemResult<DescriptorStat> {
        let (call, _) = Call::enter(store, &fd).await?;
        WasiFilesystem::stat(&call.wasi, fd).await
    }

    async fn stat_at(
        store: &Accessor<T, Self>,
        fd: Resource<Descriptor>,
        path_flags: PathFlags,
        path: String,
    ) -> FilesystemResult<DescriptorStat> {
        let (call, _) = Call::enter(store, &fd).await?;
        WasiFilesystem::stat_at(&call.wasi, fd, path_flags, path).await
    }

    async fn set_times_at(
        store: &Accessor<T, Self>,
        fd: Resource<Descriptor>,
        path_flags: PathFlags,
        path: String,
        access: NewTimestamp,
        modification: NewTimestamp,
    ) -> FilesystemResult<()> {
        let (call, _) = Call::enter(store, &fd).await?;
        WasiFilesystem::set_times_at(&call.wasi, fd, path_flags, path, access, modification).await
    }

    async fn link_at(
        store: &Accessor<T, Self>,
        fd: Resource<Descriptor>,
        path_flags: PathFlags,
        path: String,
        new_fd: Resource<Descriptor>,
        new_path: String,
    ) -> FilesystemResult<()> {
        let (call, quota) = Call::enter_both(store, &fd, &new_fd).await?;
        let link = WasiFilesystem::link_at(&call.wasi, fd, path_flags, path, new_fd, new_path);
        named(quota.as_ref(), link).await
    }

    async fn open_at(
        store: &Accessor<T, Self>,
        fd: Resource<Descriptor>,
        path_flags: PathFlags,
        path: String,
        open_flags: OpenFlags,
        flags: DescriptorFlags,
    ) -> FilesystemResult<Resource<Descriptor>> {
        let (call, quota) = Call::enter(store, &fd).await?;
        if !store.with(|mut store| store.get().filesystem.quota().admits_handle()) {
            return Err(ErrorCode::Quota.into());
        }
        let opened = match &quota {
            None => call.open(&fd, path_flags, &path, open_flags, flags).await?,
            Some(quota) => {
                call.open_in_tmp(quota, &fd, path_flags, &path, open_flags, flags)
                    .await?
            }
        };
        store
            .with(|mut store| store.get().opened(&opened, quota.is_some()))
            .map_err(FilesystemError::trap)?;
        Ok(opened)
    }

    async fn readlink_at(
        store: &Accessor<T, Self>,
        fd: Resource<Descriptor>,
        path: String,
    ) -> FilesystemResult<String> {
        let (call, _) = Call::enter(store, &fd).await?;
        WasiFilesystem::readlink_at(&call.wasi, fd, path).await
    }

    async fn remove_directory_at(
        store: &Accessor<T, Self>,
        fd: Resource<Descriptor>,
        path: String,
    ) -> FilesystemResult<()> {
        let (call, quota) = Call::enter(store, &fd).await?;
        WasiFilesystem::remove_directory_at(&call.wasi, fd, path).await?;
        if let Some(quota) = quota {
            quota.release_entry();
        }
        Ok(())
    }

    async fn rename_at(
        store: &Accessor<T, Self>,
        fd: Resource<Descriptor>,
        path: String,
        new_fd: Resource<Descriptor>,
        new_path: String,
    ) -> FilesystemResult<()> {
        let (call, quota) = Call::enter_both(store, &fd, &new_fd).await?;
        let Some(quota) = quota else {
            return WasiFilesystem::rename_at(&call.wasi, fd, path, new_fd, new_path).await;
        };
        let replaced = call.peek(&new_fd, &new_path).await?;
        WasiFilesystem::rename_at(&call.wasi, fd, path, new_fd, new_path).await?;
        if let Some((file, names)) = replaced
            && quota.unnamed(file, names)
        {
            quota.release_entry();
        }
        Ok(())
    }

    async fn symlink_at(
        store: &Accessor<T, Self>,
        fd: Resource<Descriptor>,
        target: String,
        path: String,
    ) -> FilesystemResult<()> {
        let (call, quota) = Call::enter(store, &fd).await?;
        let link = WasiFilesystem::symlink_at(&call.wasi, fd, target, path);
        named(quota.as_ref(), link).await
    }

    async fn unlink_file_at(
        store: &Accessor<T, Self>,
        fd: Resource<Descriptor>,
        path: String,
    ) -> FilesystemResult<()> {
        let (call, quota) = Call::enter(store, &fd).await?;
        let Some(quota) = quota else {
            return WasiFilesystem::unlink_file_at(&call.wasi, fd, path).await;
        };
        let removed = call.peek(&fd, &path).await?;
        WasiFilesystem::unlink_file_at(&call.wasi, fd, path).await?;
        quota.release_entry();
        if let Some((file, names)) = removed {
            quota.unnamed(file, names);
        }
        Ok(())
    }

    async fn is_same_object(
        store: &Accessor<T, Self>,
        fd: Resource<Descriptor>,
        other: Resource<Descriptor>,
    ) -> wasmtime::Result<bool> {
        for fd in [&fd, &other] {
            if let Access::Unmade(folders) = store.with(|mut store| store.get().access(fd))? {
                let made = make(folders).await?;
                store.with(|mut store| store.get().settle(fd, made))?;
            }
        }
        WasiFilesystem::is_same_object(&Call::new(store).wasi, fd, other).await
    }

    async fn metadata_hash(
        store: &Accessor<T, Self>,
        fd: Resource<Descriptor>,
    ) -> FilesystemResult<MetadataHashValue> {
        let (call, _) = Call::enter(store, &fd).await?;
        WasiFilesystem::metadata_hash(&call.wasi, fd).await
    }

    async fn metadata_hash_at(
        store: &Accessor<T, Self>,
        fd: Resource<Descriptor>,
        path_flags: PathFlags,
        path: String,
    ) -> FilesystemResult<MetadataHashValue> {
        let (call, _) = Call::enter(store, &fd).await?;
        WasiFilesystem::metadata_hash_at(&call.wasi, fd, path_flags, path).await
    }
}

#[derive(Debug, Clone, Copy)]
enum Position {
    Offset(u64),
    End,
}

/// The end of a stream that writes to a file in `/tmp`.
struct Writer {
    quota: Arc<Quota>,
    file: Arc<File>,
    position: Position,
    /// Where the guest is told how it went. Taken when it was.
    result: Option<oneshot::Sender<Result<(), ErrorCode>>>,
    task: Option<JoinHandle<io::Result<usize>>>,
}

impl Writer {
    /// Tells the guest how it went. It may have stopped listening.
    fn close(&mut self, result: Result<(), ErrorCode>) {
        if let Some(sender) = self.result.take() {
            let _ = sender.send(result);
        }
    }
}

impl<T> StreamConsumer<T> for Writer {
    type Item = u8;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        store: StoreContextMut<'_, T>,
        source: Source<'_, u8>,
        _finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let mut source = source.as_direct(store);
        let this = &mut *self;
        let task = this.task.get_or_insert_with(|| {
            let remaining = source.remaining();
            let bytes = remaining[..remaining.len().min(CHUNK)].to_vec();
            let (quota, file) = (Arc::clone(&this.quota), Arc::clone(&this.file));
            let position = this.position;
            tokio::spawn(quota.in_turn(move |quota| match position {
                Position::Offset(offset) => quota.write_at(&file, &bytes, offset),
                Position::End => quota.append(&file, &bytes),
            }))
        });
        // A write that has begun cannot be taken back, so a guest that cancels waits for it too.
        let written = ready!(Pin::new(task).poll(context));
        this.task = None;
        match written.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(written) => {
                source.mark_read(written);
                if let Position::Offset(offset) = &mut this.position {
                    *offset += written as u64;
                }
                Poll::Ready(Ok(StreamResult::Completed))
            }
            Err(error) => {
                this.close(Err(error.into()));
                Poll::Ready(Ok(StreamResult::Dropped))
            }
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.close(Ok(()));
    }
}
