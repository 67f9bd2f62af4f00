//! The interfaces as a guest calls them, without a guest.

use std::{fs, path::Path};

use wasmtime_wasi::p2::{
    FsResult,
    bindings::filesystem::{
        preopens::Host as _,
        types::{DescriptorFlags, ErrorCode, HostDescriptor, OpenFlags, PathFlags},
    },
};

use super::{quota::MAX_ENTRIES, *};

struct Instance {
    table: ResourceTable,
    filesystem: Filesystem,
}

impl FilesystemHost for Instance {
    fn filesystem_view(&mut self) -> FilesystemView<'_> {
        FilesystemView {
            table: &mut self.table,
            filesystem: &mut self.filesystem,
        }
    }
}

fn instance(base: &Path, grants: &[FileGrant], tmp: ByteSize) -> Instance {
    let folders = TmpFolders::open(base).unwrap();
    Instance {
        table: ResourceTable::new(),
        filesystem: Filesystem::new(Mounts::open(folders, grants, tmp).unwrap()),
    }
}

/// The folders of instances under `base`.
fn made(base: &Path) -> usize {
    fs::read_dir(base)
        .unwrap()
        .map(|run| fs::read_dir(run.unwrap().path()).unwrap().count())
        .sum()
}

impl Instance {
    fn folder(&mut self, mount: &str) -> Resource<Descriptor> {
        let directories = self.filesystem_view().get_directories().unwrap();
        directories
            .into_iter()
            .find(|(_, name)| name == mount)
            .unwrap()
            .0
    }

    async fn open(
        &mut self,
        folder: &Resource<Descriptor>,
        path: &str,
        open_flags: OpenFlags,
    ) -> FsResult<Resource<Descriptor>> {
        self.filesystem_view()
            .open_at(
                borrow(folder),
                PathFlags::SYMLINK_FOLLOW,
                path.to_owned(),
                open_flags,
                DescriptorFlags::READ | DescriptorFlags::WRITE,
            )
            .await
    }

    async fn write(
        &mut self,
        file: &Resource<Descriptor>,
        size: usize,
        offset: u64,
    ) -> FsResult<u64> {
        let bytes = vec![b'x'; size];
        self.filesystem_view()
            .write(borrow(file), bytes, offset)
            .await
    }

    fn close(&mut self, descriptor: Resource<Descriptor>) {
        HostDescriptor::drop(&mut self.filesystem_view(), descriptor).unwrap();
    }
}

fn code<R: std::fmt::Debug>(result: FsResult<R>) -> ErrorCode {
    result.unwrap_err().downcast().unwrap()
}

#[tokio::test]
async fn nothing_is_made_until_a_file_is_touched() {
    let base = tempfile::tempdir().unwrap();
    let mut instance = instance(base.path(), &[], ByteSize::mb(1));
    let tmp = instance.folder("/tmp");
    assert_eq!(made(base.path()), 0);
    let file = instance.open(&tmp, "a", OpenFlags::CREATE).await.unwrap();
    assert_eq!(made(base.path()), 1);
    // Another descriptor of /tmp leads to the same folder.
    let again = instance.folder("/tmp");
    instance
        .open(&again, "a", OpenFlags::empty())
        .await
        .unwrap();
    assert_eq!(made(base.path()), 1);
    instance.close(file);
}

#[tokio::test]
async fn a_full_tmp_refuses_growth_however_it_is_asked_for() {
    let base = tempfile::tempdir().unwrap();
    let mut instance = instance(base.path(), &[], ByteSize::kb(64));
    let tmp = instance.folder("/tmp");
    let file = instance.open(&tmp, "a", OpenFlags::CREATE).await.unwrap();
    assert_eq!(instance.write(&file, 64 << 10, 0).await.unwrap(), 64 << 10);

    let full = instance.write(&file, 1, 64 << 10).await;
    assert_eq!(code(full), ErrorCode::InsufficientSpace);
    let mut view = instance.filesystem_view();
    assert_eq!(
        code(view.set_size(borrow(&file), 1 << 40).await),
        ErrorCode::InsufficientSpace
    );
    for append in [false, true] {
        let mut view = instance.filesystem_view();
        let stream = if append {
            view.append_via_stream(borrow(&file))
        } else {
            view.write_via_stream(borrow(&file), 64 << 10)
        };
        let mut stream = view.table.delete(stream.unwrap()).unwrap();
        let error = stream.blocking_write_and_flush("x".into()).await;
        let wasmtime_wasi_io::streams::StreamError::LastOperationFailed(error) = error.unwrap_err()
        else {
            panic!("the write itself fails");
        };
        let error = view.table.push(error).unwrap();
        use wasmtime_wasi::p2::bindings::filesystem::types::Host as _;
        assert_eq!(
            view.filesystem_error_code(error).unwrap(),
            Some(ErrorCode::InsufficientSpace)
        );
    }

    // Unlinked but open: still there. Closed: gone.
    let mut view = instance.filesystem_view();
    view.unlink_file_at(borrow(&tmp), "a".into()).await.unwrap();
    let other = instance.open(&tmp, "b", OpenFlags::CREATE).await.unwrap();
    assert_eq!(
        code(instance.write(&other, 1, 0).await),
        ErrorCode::InsufficientSpace
    );
    instance.close(file);
    instance.write(&other, 64 << 10, 0).await.unwrap();

    // Cutting a file while it is opened makes room.
    let cut = OpenFlags::CREATE | OpenFlags::TRUNCATE;
    let again = instance.open(&tmp, "b", cut).await.unwrap();
    assert_eq!(
        instance
            .filesystem_view()
            .stat(borrow(&again))
            .await
            .unwrap()
            .size,
        0
    );
    instance.write(&again, 64 << 10, 0).await.unwrap();

    // So does a file that takes another's place.
    let small = instance.open(&tmp, "c", OpenFlags::CREATE).await.unwrap();
    instance.close(other);
    instance.close(again);
    let mut view = instance.filesystem_view();
    view.rename_at(borrow(&tmp), "c".into(), borrow(&tmp), "b".into())
        .await
        .unwrap();
    instance.write(&small, 64 << 10, 0).await.unwrap();
}

#[tokio::test]
async fn a_stream_writes_where_it_was_told_to() {
    let base = tempfile::tempdir().unwrap();
    let mut instance = instance(base.path(), &[], ByteSize::mb(1));
    let tmp = instance.folder("/tmp");
    let file = instance.open(&tmp, "a", OpenFlags::CREATE).await.unwrap();
    instance.write(&file, 3, 0).await.unwrap();
    let mut view = instance.filesystem_view();
    let at = view.write_via_stream(borrow(&file), 1).unwrap();
    let end = view.append_via_stream(borrow(&file)).unwrap();
    let mut at = view.table.delete(at).unwrap();
    let mut end = view.table.delete(end).unwrap();
    at.blocking_write_and_flush("y".into()).await.unwrap();
    end.blocking_write_and_flush("z".into()).await.unwrap();
    end.blocking_write_and_flush("!".into()).await.unwrap();
    at.blocking_write_and_flush("Y".into()).await.unwrap();
    let (bytes, _) = view.read(borrow(&file), 100, 0).await.unwrap();
    assert_eq!(bytes, b"xyYz!");
}

#[tokio::test]
async fn names_and_handles_run_out() {
    let base = tempfile::tempdir().unwrap();
    let mut instance = instance(base.path(), &[], ByteSize::mb(1));
    let tmp = instance.folder("/tmp");
    let first = instance.open(&tmp, "0", OpenFlags::CREATE).await.unwrap();
    instance.close(first);
    let quota = Arc::clone(instance.filesystem.quota());
    for _ in 1..MAX_ENTRIES {
        quota.reserve_entry().unwrap();
    }
    let full = instance.open(&tmp, "1", OpenFlags::CREATE).await;
    assert_eq!(code(full), ErrorCode::InsufficientSpace);
    let mut view = instance.filesystem_view();
    let full = view.create_directory_at(borrow(&tmp), "d".into()).await;
    assert_eq!(code(full), ErrorCode::InsufficientSpace);
    let full = view.symlink_at(borrow(&tmp), "0".into(), "s".into()).await;
    assert_eq!(code(full), ErrorCode::InsufficientSpace);
    let none = PathFlags::empty();
    let full = view
        .link_at(borrow(&tmp), none, "0".into(), borrow(&tmp), "l".into())
        .await;
    assert_eq!(code(full), ErrorCode::InsufficientSpace);

    // What is there can still be opened, until the handles are used up.
    let mut held = Vec::new();
    let refused = loop {
        match instance.open(&tmp, "0", OpenFlags::CREATE).await {
            Ok(file) => held.push(file),
            refused => break refused,
        }
    };
    assert_eq!(code(refused), ErrorCode::Quota);
    assert_eq!(held.len(), quota::MAX_HANDLES);
    instance.close(held.pop().unwrap());
    instance.open(&tmp, "0", OpenFlags::empty()).await.unwrap();

    let mut view = instance.filesystem_view();
    view.unlink_file_at(borrow(&tmp), "0".into()).await.unwrap();
    view.create_directory_at(borrow(&tmp), "d".into())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_granted_folder_is_what_it_was_granted_as_and_no_way_out() {
    let base = tempfile::tempdir().unwrap();
    let data = tempfile::tempdir().unwrap();
    fs::write(data.path().join("file"), "hello").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", data.path().join("out")).unwrap();
    let grant = |mount: &str, writable| FileGrant {
        source: data.path().to_owned(),
        mount: mount.to_owned(),
        writable,
    };
    let grants = [grant("/read", false), grant("/write", true)];
    let mut instance = instance(base.path(), &grants, ByteSize::kb(4));
    let (tmp, read, write) = (
        instance.folder("/tmp"),
        instance.folder("/read"),
        instance.folder("/write"),
    );
    let refused = instance.open(&read, "file", OpenFlags::empty()).await;
    assert_eq!(code(refused), ErrorCode::NotPermitted);
    for escape in ["../x", "/etc/passwd", "out"] {
        for folder in [&tmp, &write] {
            assert!(
                instance
                    .open(folder, escape, OpenFlags::CREATE)
                    .await
                    .is_err()
            );
        }
    }
    // The quota is for /tmp.
    let file = instance
        .open(&write, "big", OpenFlags::CREATE)
        .await
        .unwrap();
    instance.write(&file, 1 << 20, 0).await.unwrap();
    // Nothing crosses from one to the other.
    let mut view = instance.filesystem_view();
    let rename = view.rename_at(borrow(&write), "big".into(), borrow(&tmp), "big".into());
    assert_eq!(code(rename.await), ErrorCode::CrossDevice);
    let none = PathFlags::empty();
    let link = view.link_at(borrow(&tmp), none, "a".into(), borrow(&write), "a".into());
    assert_eq!(code(link.await), ErrorCode::CrossDevice);
}

#[test]
fn a_grant_of_what_is_no_folder_is_named() {
    let base = tempfile::tempdir().unwrap();
    let grant = FileGrant {
        source: "/no/such/folder".into(),
        mount: "/data".into(),
        writable: false,
    };
    let folders = TmpFolders::open(base.path()).unwrap();
    let Err(error) = Mounts::open(folders, &[grant], ByteSize::mb(1)) else {
        panic!("there is no such folder");
    };
    assert!(error.to_string().contains("/no/such/folder"), "{error}");
}
