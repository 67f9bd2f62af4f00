//! `wasi:filesystem` 0.2.

use std::{fs::File, io, sync::Arc};

use bytes::Bytes;
use tokio::task::JoinHandle;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::{
    async_trait,
    filesystem::Descriptor,
    p2::{
        FsError, FsResult,
        bindings::filesystem::{
            preopens,
            types::{
                self, Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry,
                DirectoryEntryStream, ErrorCode, Filesize, HostDescriptor,
                HostDirectoryEntryStream, MetadataHashValue, NewTimestamp, OpenFlags, PathFlags,
            },
        },
    },
};
use wasmtime_wasi_io::{
    poll::Pollable,
    streams::{DynInputStream, DynOutputStream, OutputStream, StreamError, StreamResult},
};

use super::{
    Access, FilesystemHost, FilesystemView, HasFilesystem, Place, borrow, make, quota::Quota,
};

/// What a guest may write to a file before it asks again.
const WRITE_BUDGET: usize = 64 << 10;

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
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        error.downcast()
    }

    fn filesystem_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        self.wasi().filesystem_error_code(error)
    }
}

impl FilesystemView<'_> {
    /// Makes the folder of `/tmp` if this descriptor is waiting for it. Answers the account to charge, which is none for
    /// granted folders.
    async fn enter(&mut self, descriptor: &Resource<Descriptor>) -> FsResult<Option<Arc<Quota>>> {
        match self.access(descriptor).map_err(FsError::trap)? {
            Access::Granted => Ok(None),
            Access::Tmp(quota) => Ok(Some(quota)),
            Access::Unmade(folders) => {
                let made = make(folders).await?;
                let quota = self.settle(descriptor, made).map_err(FsError::trap)?;
                Ok(Some(quota))
            }
        }
    }

    /// Makes a name, which counts unless that fails.
    async fn named<R>(
        quota: Option<Arc<Quota>>,
        call: impl Future<Output = FsResult<R>>,
    ) -> FsResult<R> {
        if let Some(quota) = &quota {
            quota.reserve_entry()?;
        }
        let result = call.await;
        if let (Err(_), Some(quota)) = (&result, &quota) {
            quota.release_entry();
        }
        result
    }

    /// The file at a path and how many names it has, to see afterwards what became of it. Whatever else is there, or
    /// nothing, needs no looking after.
    async fn peek(
        &mut self,
        folder: &Resource<Descriptor>,
        path: &str,
    ) -> FsResult<Option<(Arc<File>, u64)>> {
        let opened = self
            .wasi()
            .open_at(
                borrow(folder),
                PathFlags::empty(),
                path.to_owned(),
                OpenFlags::empty(),
                DescriptorFlags::READ,
            )
            .await;
        let Ok(opened) = opened else { return Ok(None) };
        let file = match self.table.delete(opened)? {
            Descriptor::File(file) => file.file,
            Descriptor::Dir(_) => return Ok(None),
        };
        Ok(super::names(&file).map(|names| (file, names)))
    }

    /// Opens a file or folder in `/tmp`, in steps that each either make a name or do not.
    async fn open_in_tmp(
        &mut self,
        quota: &Arc<Quota>,
        folder: Resource<Descriptor>,
        path_flags: PathFlags,
        path: String,
        open_flags: OpenFlags,
        mut flags: DescriptorFlags,
    ) -> FsResult<Resource<Descriptor>> {
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
        let existing = open_flags & OpenFlags::DIRECTORY;
        let mut result = Err(ErrorCode::NoEntry.into());
        if !(create && exclusive) {
            result = self
                .wasi()
                .open_at(borrow(&folder), path_flags, path.clone(), existing, flags)
                .await;
        }
        if create && is(&result, ErrorCode::NoEntry) {
            let new = OpenFlags::CREATE | OpenFlags::EXCLUSIVE;
            let call = self.table_open(borrow(&folder), path_flags, path.clone(), new, flags);
            result = Self::named(Some(Arc::clone(quota)), call).await;
            if !exclusive && is(&result, ErrorCode::Exist) {
                // A symlink to a name that is not there. If the file turns out to be there after all, its name counts
                // twice.
                let call = self.table_open(folder, path_flags, path, OpenFlags::CREATE, flags);
                result = Self::named(Some(Arc::clone(quota)), call).await;
            }
        }
        let opened = result?;
        if truncate && let Some(file) = self.file(&opened).map_err(FsError::trap)? {
            let quota = Arc::clone(quota);
            if let Err(error) = quota.in_turn(move |quota| quota.set_size(&file, 0)).await {
                self.table.delete(opened)?;
                return Err(error.into());
            }
        }
        Ok(opened)
    }

    async fn table_open(
        &mut self,
        folder: Resource<Descriptor>,
        path_flags: PathFlags,
        path: String,
        open_flags: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Resource<Descriptor>> {
        self.wasi()
            .open_at(folder, path_flags, path, open_flags, flags)
            .await
    }

    /// The file behind a descriptor of `/tmp`, for a stream that writes to it.
    fn writable(&mut self, descriptor: &Resource<Descriptor>) -> FsResult<Arc<File>> {
        match self.table.get(descriptor)? {
            Descriptor::File(file) if file.perms.write_not_permitted() => {
                Err(ErrorCode::NotPermitted.into())
            }
            Descriptor::File(file) => Ok(Arc::clone(&file.file)),
            Descriptor::Dir(_) => Err(ErrorCode::BadDescriptor.into()),
        }
    }
}

fn is<R>(result: &FsResult<R>, code: ErrorCode) -> bool {
    matches!(result, Err(error) if error.downcast_ref() == Some(&code))
}

impl HostDescriptor for FilesystemView<'_> {
    async fn advise(
        &mut self,
        fd: Resource<Descriptor>,
        offset: Filesize,
        len: Filesize,
        advice: Advice,
    ) -> FsResult<()> {
        self.enter(&fd).await?;
        self.wasi().advise(fd, offset, len, advice).await
    }

    async fn sync_data(&mut self, fd: Resource<Descriptor>) -> FsResult<()> {
        self.enter(&fd).await?;
        self.wasi().sync_data(fd).await
    }

    async fn get_flags(&mut self, fd: Resource<Descriptor>) -> FsResult<DescriptorFlags> {
        self.enter(&fd).await?;
        self.wasi().get_flags(fd).await
    }

    async fn get_type(&mut self, fd: Resource<Descriptor>) -> FsResult<DescriptorType> {
        self.enter(&fd).await?;
        self.wasi().get_type(fd).await
    }

    async fn set_size(&mut self, fd: Resource<Descriptor>, size: Filesize) -> FsResult<()> {
        let Some(quota) = self.enter(&fd).await? else {
            return self.wasi().set_size(fd, size).await;
        };
        let file = self.writable(&fd)?;
        Ok(quota
            .in_turn(move |quota| quota.set_size(&file, size))
            .await?)
    }

    async fn set_times(
        &mut self,
        fd: Resource<Descriptor>,
        access: NewTimestamp,
        modification: NewTimestamp,
    ) -> FsResult<()> {
        self.enter(&fd).await?;
        self.wasi().set_times(fd, access, modification).await
    }

    async fn read(
        &mut self,
        fd: Resource<Descriptor>,
        len: Filesize,
        offset: Filesize,
    ) -> FsResult<(Vec<u8>, bool)> {
        self.enter(&fd).await?;
        self.wasi().read(fd, len, offset).await
    }

    async fn write(
        &mut self,
        fd: Resource<Descriptor>,
        bytes: Vec<u8>,
        offset: Filesize,
    ) -> FsResult<Filesize> {
        let Some(quota) = self.enter(&fd).await? else {
            return self.wasi().write(fd, bytes, offset).await;
        };
        let file = self.writable(&fd)?;
        let written = quota
            .in_turn(move |quota| quota.write_at(&file, &bytes, offset))
            .await?;
        Ok(written as Filesize)
    }

    async fn read_directory(
        &mut self,
        fd: Resource<Descriptor>,
    ) -> FsResult<Resource<DirectoryEntryStream>> {
        self.enter(&fd).await?;
        self.wasi().read_directory(fd).await
    }

    async fn sync(&mut self, fd: Resource<Descriptor>) -> FsResult<()> {
        self.enter(&fd).await?;
        self.wasi().sync(fd).await
    }

    async fn create_directory_at(
        &mut self,
        fd: Resource<Descriptor>,
        path: String,
    ) -> FsResult<()> {
        let quota = self.enter(&fd).await?;
        Self::named(quota, self.wasi().create_directory_at(fd, path)).await
    }

    async fn stat(&mut self, fd: Resource<Descriptor>) -> FsResult<DescriptorStat> {
        self.enter(&fd).await?;
        self.wasi().stat(fd).await
    }

    async fn stat_at(
        &mut self,
        fd: Resource<Descriptor>,
        path_flags: PathFlags,
        path: String,
    ) -> FsResult<DescriptorStat> {
        self.enter(&fd).await?;
        self.wasi().stat_at(fd, path_flags, path).await
    }

    async fn set_times_at(
        &mut self,
        fd: Resource<Descriptor>,
        path_flags: PathFlags,
        path: String,
        access: NewTimestamp,
        modification: NewTimestamp,
    ) -> FsResult<()> {
        self.enter(&fd).await?;
        self.wasi()
            .set_times_at(fd, path_flags, path, access, modification)
            .await
    }

    async fn link_at(
        &mut self,
        fd: Resource<Descriptor>,
        path_flags: PathFlags,
        path: String,
        new_fd: Resource<Descriptor>,
        new_path: String,
    ) -> FsResult<()> {
        if !self.filesystem.same_mount(&fd, &new_fd) {
            return Err(ErrorCode::CrossDevice.into());
        }
        let quota = self.enter(&fd).await?;
        self.enter(&new_fd).await?;
        let mut wasi = self.wasi();
        let call = wasi.link_at(fd, path_flags, path, new_fd, new_path);
        Self::named(quota, call).await
    }

    async fn open_at(
        &mut self,
        fd: Resource<Descriptor>,
        path_flags: PathFlags,
        path: String,
        open_flags: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Resource<Descriptor>> {
        let quota = self.enter(&fd).await?;
        if !self.filesystem.quota().admits_handle() {
            return Err(ErrorCode::Quota.into());
        }
        let opened = match &quota {
            None => {
                self.table_open(fd, path_flags, path, open_flags, flags)
                    .await?
            }
            Some(quota) => {
                self.open_in_tmp(quota, fd, path_flags, path, open_flags, flags)
                    .await?
            }
        };
        self.opened(&opened, quota.is_some())
            .map_err(FsError::trap)?;
        Ok(opened)
    }

    fn drop(&mut self, fd: Resource<Descriptor>) -> wasmtime::Result<()> {
        self.closed(&fd);
        HostDescriptor::drop(&mut self.wasi(), fd)
    }

    async fn readlink_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<String> {
        self.enter(&fd).await?;
        self.wasi().readlink_at(fd, path).await
    }

    async fn remove_directory_at(
        &mut self,
        fd: Resource<Descriptor>,
        path: String,
    ) -> FsResult<()> {
        let quota = self.enter(&fd).await?;
        self.wasi().remove_directory_at(fd, path).await?;
        if let Some(quota) = quota {
            quota.release_entry();
        }
        Ok(())
    }

    async fn rename_at(
        &mut self,
        fd: Resource<Descriptor>,
        path: String,
        new_fd: Resource<Descriptor>,
        new_path: String,
    ) -> FsResult<()> {
        if !self.filesystem.same_mount(&fd, &new_fd) {
            return Err(ErrorCode::CrossDevice.into());
        }
        let Some(quota) = self.enter(&fd).await? else {
            return self.wasi().rename_at(fd, path, new_fd, new_path).await;
        };
        self.enter(&new_fd).await?;
        let replaced = self.peek(&new_fd, &new_path).await?;
        self.wasi().rename_at(fd, path, new_fd, new_path).await?;
        if let Some((file, names)) = replaced
            && quota.unnamed(file, names)
        {
            quota.release_entry();
        }
        Ok(())
    }

    async fn symlink_at(
        &mut self,
        fd: Resource<Descriptor>,
        target: String,
        path: String,
    ) -> FsResult<()> {
        let quota = self.enter(&fd).await?;
        Self::named(quota, self.wasi().symlink_at(fd, target, path)).await
    }

    async fn unlink_file_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        let Some(quota) = self.enter(&fd).await? else {
            return self.wasi().unlink_file_at(fd, path).await;
        };
        let removed = self.peek(&fd, &path).await?;
        self.wasi().unlink_file_at(fd, path).await?;
        quota.release_entry();
        if let Some((file, names)) = removed {
            quota.unnamed(file, names);
        }
        Ok(())
    }

    fn read_via_stream(
        &mut self,
        fd: Resource<Descriptor>,
        offset: Filesize,
    ) -> FsResult<Resource<DynInputStream>> {
        if self.filesystem.place(&fd) == Some(Place::Unmade) {
            return Err(ErrorCode::IsDirectory.into());
        }
        self.wasi().read_via_stream(fd, offset)
    }

    fn write_via_stream(
        &mut self,
        fd: Resource<Descriptor>,
        offset: Filesize,
    ) -> FsResult<Resource<DynOutputStream>> {
        match self.access(&fd).map_err(FsError::trap)? {
            Access::Granted => self.wasi().write_via_stream(fd, offset),
            Access::Unmade(_) => Err(ErrorCode::BadDescriptor.into()),
            Access::Tmp(quota) => {
                let file = self.writable(&fd)?;
                let writer = Writer::new(quota, file, Position::Offset(offset));
                Ok(self.table.push(Box::new(writer) as DynOutputStream)?)
            }
        }
    }

    fn append_via_stream(
        &mut self,
        fd: Resource<Descriptor>,
    ) -> FsResult<Resource<DynOutputStream>> {
        match self.access(&fd).map_err(FsError::trap)? {
            Access::Granted => self.wasi().append_via_stream(fd),
            Access::Unmade(_) => Err(ErrorCode::BadDescriptor.into()),
            Access::Tmp(quota) => {
                let file = self.writable(&fd)?;
                let writer = Writer::new(quota, file, Position::End);
                Ok(self.table.push(Box::new(writer) as DynOutputStream)?)
            }
        }
    }

    async fn is_same_object(
        &mut self,
        one: Resource<Descriptor>,
        other: Resource<Descriptor>,
    ) -> wasmtime::Result<bool> {
        for fd in [&one, &other] {
            if let Access::Unmade(folders) = self.access(fd)? {
                let made = make(folders).await?;
                self.settle(fd, made)?;
            }
        }
        self.wasi().is_same_object(one, other).await
    }

    async fn metadata_hash(&mut self, fd: Resource<Descriptor>) -> FsResult<MetadataHashValue> {
        self.enter(&fd).await?;
        self.wasi().metadata_hash(fd).await
    }

    async fn metadata_hash_at(
        &mut self,
        fd: Resource<Descriptor>,
        path_flags: PathFlags,
        path: String,
    ) -> FsResult<MetadataHashValue> {
        self.enter(&fd).await?;
        self.wasi().metadata_hash_at(fd, path_flags, path).await
    }
}

impl HostDirectoryEntryStream for FilesystemView<'_> {
    async fn read_directory_entry(
        &mut self,
        stream: Resource<DirectoryEntryStream>,
    ) -> FsResult<Option<DirectoryEntry>> {
        self.wasi().read_directory_entry(stream).await
    }

    fn drop(&mut self, stream: Resource<DirectoryEntryStream>) -> wasmtime::Result<()> {
        HostDirectoryEntryStream::drop(&mut self.wasi(), stream)
    }
}

#[derive(Debug, Clone, Copy)]
enum Position {
    Offset(u64),
    End,
}

/// A stream that writes to a file in `/tmp`.
#[derive(Debug)]
struct Writer {
    quota: Arc<Quota>,
    file: Arc<File>,
    position: Position,
    state: State,
}

#[derive(Debug)]
enum State {
    Ready,
    Writing(JoinHandle<io::Result<Position>>),
    Failed(io::Error),
    Closed,
}

impl Writer {
    fn new(quota: Arc<Quota>, file: Arc<File>, position: Position) -> Self {
        Self {
            quota,
            file,
            position,
            state: State::Ready,
        }
    }

    /// The error of the last write, once. Then the stream is closed.
    fn failure(&mut self) -> Option<StreamError> {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Failed(error) => Some(StreamError::LastOperationFailed(error.into())),
            State::Closed => Some(StreamError::Closed),
            state @ (State::Ready | State::Writing(_)) => {
                self.state = state;
                None
            }
        }
    }
}

/// Writes everything, or fails with what it could write written.
fn write_all(quota: &Quota, file: &File, mut bytes: &[u8], at: Position) -> io::Result<Position> {
    let mut position = at;
    while !bytes.is_empty() {
        let written = match &mut position {
            Position::Offset(offset) => {
                let written = quota.write_at(file, bytes, *offset)?;
                *offset += written as u64;
                written
            }
            Position::End => quota.append(file, bytes)?,
        };
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = &bytes[written..];
    }
    Ok(position)
}

#[async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {
        if let State::Writing(task) = &mut self.state {
            self.state = match task.await {
                Ok(Ok(position)) => {
                    self.position = position;
                    State::Ready
                }
                Ok(Err(error)) => State::Failed(error),
                Err(error) => State::Failed(io::Error::other(error)),
            };
        }
    }
}

#[async_trait]
impl OutputStream for Writer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if let Some(error) = self.failure() {
            return Err(error);
        }
        if matches!(self.state, State::Writing(_)) {
            return Err(StreamError::trap("write without a permit from check-write"));
        }
        let (quota, file) = (Arc::clone(&self.quota), Arc::clone(&self.file));
        let position = self.position;
        self.state = State::Writing(tokio::spawn(
            quota.in_turn(move |quota| write_all(quota, &file, &bytes, position)),
        ));
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        // Nothing is held back: what is not written yet is on its way.
        self.failure().map_or(Ok(()), Err)
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        if let Some(error) = self.failure() {
            return Err(error);
        }
        Ok(match self.state {
            State::Writing(_) => 0,
            State::Ready | State::Failed(_) | State::Closed => WRITE_BUDGET,
        })
    }

    async fn cancel(&mut self) {
        // A write that has begun cannot be stopped; until it ends the guest waits, so that it cannot pile them up.
        self.ready().await;
        self.state = State::Closed;
    }
}
