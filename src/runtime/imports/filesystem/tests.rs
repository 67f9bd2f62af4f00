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
    for (folder, escape) in [
        (&write, "../x"),
        (&write, "/etc/passwd"),
        (&write, "out"),
        (&tmp, "../x"),
        (&tmp, "/etc/passwd"),
    ] {
        let opened = instance.open(folder, escape, OpenFlags::CREATE).await;
        assert!(opened.is_err(), "{escape}");
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

/// Prints what a fresh instance pays for files. Run it with `--ignored --nocapture`, optimised.
#[test]
#[ignore = "a measurement"]
fn what_an_instance_pays() {
    let base = tempfile::tempdir().unwrap();
    let folders = TmpFolders::open(base.path()).unwrap();
    let mounts = Mounts::open(folders, &[], ByteSize::mb(1)).unwrap();
    let log = crate::telemetry::logs::Logs::open(base.path().join("logs"), Default::default());
    let log = log.unwrap().function(&"hello".parse().unwrap());
    let measure = |what: &str, work: &mut dyn FnMut()| {
        let start = std::time::Instant::now();
        for _ in 0..100_000 {
            work();
        }
        println!("{what}: {} ns", start.elapsed().as_nanos() / 100_000);
    };
    measure("Filesystem::new and drop", &mut || {
        std::hint::black_box(Filesystem::new(Arc::clone(&mounts)));
    });
    measure("with get-directories", &mut || {
        let mut instance = Instance {
            table: ResourceTable::new(),
            filesystem: Filesystem::new(Arc::clone(&mounts)),
        };
        std::hint::black_box(instance.folder("/tmp"));
    });
    measure("Stdio::new, three streams, begin and end", &mut || {
        let stdio = crate::runtime::imports::stdio::Stdio::new(Arc::clone(&log));
        let streams: (Box<dyn wasmtime_wasi::cli::StdinStream>, _, _) =
            (Box::new(stdio.stdin()), stdio.stdout(), stdio.stderr());
        stdio.begin(
            crate::model::RequestId::generate(),
            crate::model::Version::Latest,
            ByteSize::kb(256),
        );
        std::hint::black_box(&streams);
        stdio.end().unwrap();
    });
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

/// The same promises in 0.3, whose calls may overlap.
mod p3 {
    use std::{
        pin::Pin,
        task::{Context, Poll},
    };

    use tokio::sync::oneshot;
    use wasmtime::{
        Config, Engine, Store, StoreContextMut,
        component::{Accessor, FutureConsumer, FutureReader, Source, StreamReader},
    };
    use wasmtime_wasi::p3::{
        bindings::filesystem::{
            preopens,
            types::{
                DescriptorFlags, ErrorCode, HostDescriptor, HostDescriptorWithStore as _,
                OpenFlags, PathFlags,
            },
        },
        filesystem::FilesystemResult,
    };

    use super::*;

    struct Tell<T>(Option<oneshot::Sender<T>>);

    impl<T: wasmtime::component::Lift + Send + 'static, D> FutureConsumer<D> for Tell<T> {
        type Item = T;

        fn poll_consume(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            store: StoreContextMut<'_, D>,
            mut source: Source<'_, T>,
            _: bool,
        ) -> Poll<wasmtime::Result<()>> {
            let mut value = None;
            source.read(store, &mut value)?;
            if let (Some(sender), Some(value)) = (self.0.take(), value) {
                let _ = sender.send(value);
            }
            Poll::Ready(Ok(()))
        }
    }

    type Files = Accessor<Instance, HasFilesystem>;

    async fn open(
        files: &Files,
        folder: &Resource<Descriptor>,
        path: &str,
        open_flags: OpenFlags,
    ) -> FilesystemResult<Resource<Descriptor>> {
        HasFilesystem::open_at(
            files,
            borrow(folder),
            PathFlags::empty(),
            path.to_owned(),
            open_flags,
            DescriptorFlags::READ | DescriptorFlags::WRITE,
        )
        .await
    }

    async fn write(
        files: &Files,
        file: &Resource<Descriptor>,
        size: usize,
        offset: Option<u64>,
    ) -> Result<(), ErrorCode> {
        let (told, result) = oneshot::channel();
        files.with(|mut store| {
            let data = StreamReader::new(&mut store, vec![b'x'; size]).unwrap();
            let fd = borrow(file);
            let written: FutureReader<_> = match offset {
                Some(offset) => {
                    let access = wasmtime::component::Access::<Instance, HasFilesystem>::new(
                        wasmtime::AsContextMut::as_context_mut(&mut store),
                        Instance::filesystem_view,
                    );
                    HasFilesystem::write_via_stream(access, fd, data, offset)
                }
                None => {
                    let access = wasmtime::component::Access::<Instance, HasFilesystem>::new(
                        wasmtime::AsContextMut::as_context_mut(&mut store),
                        Instance::filesystem_view,
                    );
                    HasFilesystem::append_via_stream(access, fd, data)
                }
            }
            .unwrap();
            written.pipe(&mut store, Tell(Some(told))).unwrap();
        });
        result.await.unwrap()
    }

    fn code<R: std::fmt::Debug>(result: FilesystemResult<R>) -> ErrorCode {
        result.unwrap_err().downcast().unwrap()
    }

    #[tokio::test]
    async fn a_full_tmp_refuses_growth_however_it_is_asked_for() {
        let base = tempfile::tempdir().unwrap();
        let mut config = Config::new();
        config.wasm_component_model_async(true);
        let engine = Engine::new(&config).unwrap();
        let mut store = Store::new(&engine, instance(base.path(), &[], ByteSize::kb(64)));
        store
            .run_concurrent(async |store| {
                let files = &store.with_getter::<HasFilesystem>(Instance::filesystem_view);
                let tmp = files.with(|mut store| {
                    let directories = preopens::Host::get_directories(&mut store.get()).unwrap();
                    directories.into_iter().next().unwrap().0
                });
                assert_eq!(made(base.path()), 0);
                let file = open(files, &tmp, "a", OpenFlags::CREATE).await.unwrap();
                assert_eq!(made(base.path()), 1);

                write(files, &file, 60 << 10, Some(0)).await.unwrap();
                write(files, &file, 4 << 10, None).await.unwrap();
                let full = write(files, &file, 1, None).await;
                assert!(matches!(full, Err(ErrorCode::InsufficientSpace)));
                let full = write(files, &file, 1, Some(64 << 10)).await;
                assert!(matches!(full, Err(ErrorCode::InsufficientSpace)));
                write(files, &file, 8, Some(0)).await.unwrap();
                let full = HasFilesystem::set_size(files, borrow(&file), 65_537).await;
                assert!(matches!(code(full), ErrorCode::InsufficientSpace));

                let other = open(files, &tmp, "b", OpenFlags::CREATE).await.unwrap();
                HasFilesystem::unlink_file_at(files, borrow(&tmp), "a".into())
                    .await
                    .unwrap();
                let full = write(files, &other, 1, None).await;
                assert!(matches!(full, Err(ErrorCode::InsufficientSpace)));
                files.with(|mut store| HostDescriptor::drop(&mut store.get(), file).unwrap());
                write(files, &other, 64 << 10, None).await.unwrap();

                // Two writers at once get what there is, and not a byte more.
                HasFilesystem::set_size(files, borrow(&other), 0)
                    .await
                    .unwrap();
                let third = open(files, &tmp, "c", OpenFlags::CREATE).await.unwrap();
                let (one, two) = futures::join!(
                    write(files, &other, 40 << 10, None),
                    write(files, &third, 40 << 10, None)
                );
                assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
            })
            .await
            .unwrap();
    }
}

/// A program built for WASI, with the standard library's own file functions.
mod guest {
    use std::process::Command;

    use wasmtime::{
        Config, Engine, Store,
        component::{Component, Linker},
    };
    use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView, p2::bindings::Command as Program};

    use super::*;
    use crate::{
        model::{RequestId, Version},
        runtime::imports::{stdio::Stdio, wasi},
        telemetry::logs::{LogLimits, Logs, TailFrom},
    };

    const SOURCE: &str = r#"
        use std::{fs, io::{Read, Write}};

        fn main() {
            let mut event = String::new();
            std::io::stdin().read_to_string(&mut event).unwrap();
            eprintln!("event: {event}");
            if event == "hello" {
                println!("hello");
                return;
            }
            fs::create_dir("/tmp/folder").unwrap();
            fs::write("/tmp/folder/file", "text").unwrap();
            fs::rename("/tmp/folder/file", "/tmp/file").unwrap();
            assert_eq!(fs::read_to_string("/tmp/file").unwrap(), "text");
            let mut file = fs::File::create("/tmp/large").unwrap();
            let mut written = 0;
            let error = loop {
                match file.write_all(&[7; 10_000]) {
                    Ok(()) => written += 10_000,
                    Err(error) => break error,
                }
            };
            fs::remove_file("/tmp/large").unwrap();
            drop(file);
            fs::write("/tmp/again", vec![0; 900_000]).unwrap();
            let mut names: Vec<_> = fs::read_dir("/tmp").unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            println!("{written} then {:?}; {names:?}; {:?}", error.raw_os_error(), fs::read("/etc/passwd").is_err());
        }
    "#;

    struct Host {
        wasi: WasiCtx,
        instance: Instance,
    }

    impl WasiView for Host {
        fn ctx(&mut self) -> WasiCtxView<'_> {
            WasiCtxView {
                ctx: &mut self.wasi,
                table: &mut self.instance.table,
            }
        }
    }

    impl FilesystemHost for Host {
        fn filesystem_view(&mut self) -> FilesystemView<'_> {
            self.instance.filesystem_view()
        }
    }

    #[tokio::test]
    async fn a_program_uses_its_tmp_and_only_that() {
        let work = tempfile::tempdir().unwrap();
        let (source, wasm) = (work.path().join("guest.rs"), work.path().join("guest.wasm"));
        fs::write(&source, SOURCE).unwrap();
        // A fresh machine does not have the target. Where there is no rustup, rustc says what is missing.
        let _ = Command::new("rustup")
            .args(["target", "add", "wasm32-wasip2"])
            .output();
        let built = Command::new("rustc")
            .args(["--edition=2024", "--target=wasm32-wasip2", "-Copt-level=1"])
            .arg("-o")
            .args([&wasm, &source])
            .status()
            .unwrap();
        assert!(built.success());

        let mut config = Config::new();
        config.wasm_component_model_async(true);
        let engine = Engine::new(&config).unwrap();
        let component = Component::from_file(&engine, &wasm).unwrap();
        let mut linker = Linker::<Host>::new(&engine);
        wasi::add_p2_to_linker(&mut linker).unwrap();
        wasi::add_p3_to_linker(&mut linker).unwrap();

        let base = work.path().join("tmp");
        let logs = Logs::open(work.path().join("logs"), LogLimits::default()).unwrap();
        let name = "guest".parse().unwrap();
        for (event, answer, folders) in [
            ("hello", "hello\n", 0),
            // 29 is EIO: wasi-libc (Rust 1.95) does not ask a stream's error for its code, which is no-space here.
            (
                "files",
                "1040000 then Some(29); [\"again\", \"file\", \"folder\"]; true\n",
                1,
            ),
        ] {
            let stdio = Stdio::new(logs.function(&name));
            let wasi = WasiCtx::builder()
                .stdin(stdio.stdin())
                .stdout(stdio.stdout())
                .stderr(stdio.stderr())
                .build();
            let instance = instance(&base, &[], ByteSize::mb(1));
            let mut store = Store::new(&engine, Host { wasi, instance });
            let program = Program::instantiate_async(&mut store, &component, &linker)
                .await
                .unwrap();
            stdio.begin_command(
                RequestId::generate(),
                Version::Latest,
                ByteSize::kb(1),
                event.into(),
                ByteSize::kb(1),
            );
            let run = program.wasi_cli_run().call_run(&mut store).await.unwrap();
            assert_eq!(run, Ok(()));
            assert_eq!(stdio.end().unwrap(), answer);
            assert_eq!(made(&base), folders);
            let line = logs.tail(&name, TailFrom::Last(1), false).next().await;
            assert_eq!(line.unwrap().message, format!("event: {event}"));
        }
    }
}
