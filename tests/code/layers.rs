//! Layers give functions files under `/opt`, and components for what they import.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use serde_json::{Value, json};
use tempfile::TempDir;
use wharf::{
    control::code::{CodeError, LayerContent, Layers, Package, Prepared},
    model::{Digest, FunctionConfiguration, Vpc},
    runtime::{CompileLimits, EngineSettings, Runtime, RuntimeSettings},
    store::{Blobs, DataFolder, Folders, KeyValueLimits, Sqlite},
    telemetry::metrics::Metrics,
};

use crate::support::{self, Node, guests, zips};

/// Layers, in a data folder of their own.
struct Shelf {
    data: TempDir,
    blobs: Arc<Blobs>,
    layers: Layers,
}

impl Shelf {
    fn new() -> Self {
        Self::open(tempfile::tempdir().unwrap(), CompileLimits::default())
    }

    fn open(data: TempDir, compile: CompileLimits) -> Self {
        let folder = DataFolder::open(data.path()).unwrap();
        let blobs = Arc::new(Blobs::open(&folder).unwrap());
        let settings = RuntimeSettings {
            engine: EngineSettings {
                slots: 2,
                ..EngineSettings::default()
            },
            components: 1 << 20,
            slot_wait: Duration::from_secs(1),
            artifacts: data.path().join("artifacts"),
            compiler: support::program(),
            compile,
            tmp: data.path().join("tmp"),
            arn_prefix: String::new(),
            vpc: Vpc::default(),
        };
        let store = Arc::new(Sqlite::open(&folder, KeyValueLimits::default()).unwrap());
        let metrics = Metrics::new().node().clone();
        let runtime = Runtime::start(settings, store, metrics, blobs.clone()).unwrap();
        let layers = Layers::new(Folders::open(&folder).unwrap(), blobs.clone(), runtime);
        Self {
            data,
            blobs,
            layers,
        }
    }

    async fn publish(&self, files: &[(&str, &[u8])]) -> LayerContent {
        self.layers.publish(zips::zip(files)).await.unwrap()
    }

    async fn prepare(&self, package: Bytes, layers: &[Digest]) -> Result<Prepared, CodeError> {
        let package = Package::open(package, None)?;
        self.layers.prepare(package, layers).await
    }

    /// Deploys what was prepared.
    async fn deploy<'a>(
        &self,
        node: &'a Node,
        name: &str,
        prepared: &Prepared,
    ) -> Result<support::Function<'a>, wharf::control::client::ClientError> {
        let code = self.blobs.read(&prepared.code).await.unwrap().unwrap();
        assert_eq!(code.len() as u64, prepared.code_size);
        let configuration = FunctionConfiguration {
            files: self
                .layers
                .grants(prepared.opt.as_ref(), prepared.task.as_ref()),
            ..FunctionConfiguration::default()
        };
        node.try_function(name, code, configuration).await
    }
}

async fn ask(function: &support::Function<'_>, event: Value) -> Value {
    let invoked = function.invoke(event).await;
    let answer: Value = serde_json::from_slice(&invoked.payload).unwrap();
    match invoked.function_error {
        Some(_) => answer["errorMessage"].clone(),
        None => answer,
    }
}

fn greeter() -> Bytes {
    guests::GREETER.bytes()
}

fn greet_probe() -> Bytes {
    guests::GREET_PROBE.bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_in_a_layer_is_linked_into_the_functions_imports() {
    let (node, shelf) = (Node::start().await, Shelf::new());
    let layer = shelf
        .publish(&[("lib/greeter.wasm", &greeter()), ("word", b"Ahoy\n")])
        .await;
    assert_eq!(layer.components, ["lib/greeter.wasm"]);
    let prepared = shelf.prepare(greet_probe(), &[layer.digest]).await.unwrap();
    assert_ne!(prepared.code, Digest::of(&greet_probe()));
    let function = shelf.deploy(&node, "greets", &prepared).await.unwrap();
    // The layer's component reads the layer's file.
    assert_eq!(
        ask(&function, json!({"do": "greet", "name": "Ada"})).await,
        json!("Ahoy, Ada! (1)")
    );
    // The same again is the same code: nothing is compiled anew.
    let again = shelf.prepare(greet_probe(), &[layer.digest]).await.unwrap();
    assert_eq!(again, prepared);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_layer_exports_is_an_error_at_deployment() {
    let (node, shelf) = (Node::start().await, Shelf::new());
    let prepared = shelf.prepare(greet_probe(), &[]).await.unwrap();
    assert_eq!(prepared.code, Digest::of(&greet_probe()));
    let error = shelf.deploy(&node, "alone", &prepared).await;
    let error = error.err().expect("it is refused").to_string();
    assert!(error.contains("acme:greet/hello@1.0.0"), "{error}");

    // A layer with a component that is of no use changes nothing.
    let other = guests::EVENT_PROBE.bytes();
    let layer = shelf.publish(&[("other.wasm", &other)]).await;
    let prepared = shelf.prepare(greet_probe(), &[layer.digest]).await.unwrap();
    assert_eq!(prepared.code, Digest::of(&greet_probe()));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_layers_are_merged_in_order_and_nobody_changes_them() {
    let (node, shelf) = (Node::start().await, Shelf::new());
    let first = shelf
        .publish(&[
            ("both", b"first"),
            ("python/a", b"a"),
            ("g.wasm", &greeter()),
        ])
        .await;
    let second = shelf
        .publish(&[("both", b"second"), ("python/b", b"b")])
        .await;
    let order = [first.digest, second.digest];
    let prepared = shelf.prepare(greet_probe(), &order).await.unwrap();
    let function = shelf.deploy(&node, "reads", &prepared).await.unwrap();
    let read = async |path: &str| ask(&function, json!({"do": "read", "path": path})).await;
    assert_eq!(read("/opt/both").await, json!("second"));
    assert_eq!(
        ask(&function, json!({"do": "list", "path": "/opt/python"})).await,
        json!(["a", "b"])
    );
    for change in ["write", "remove"] {
        for path in ["/opt/both", "/opt/new", "/opt/python/a"] {
            let said = ask(&function, json!({"do": change, "path": path})).await;
            assert!(said.is_string(), "{change} {path}: {said}");
        }
    }
    assert_eq!(read("/opt/both").await, json!("second"));

    let other = [second.digest, first.digest];
    let reversed = shelf.prepare(greet_probe(), &other).await.unwrap();
    assert_ne!(reversed.opt, prepared.opt);
    let function = shelf.deploy(&node, "reads", &reversed).await.unwrap();
    assert_eq!(
        ask(&function, json!({"do": "read", "path": "/opt/both"})).await,
        json!("first")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_package_holds_beside_its_component_is_under_var_task() {
    let (node, shelf) = (Node::start().await, Shelf::new());
    let layer = shelf.publish(&[("g.wasm", &greeter())]).await;
    let package = zips::zip(&[("bootstrap.wasm", &greet_probe()), ("data/words", b"hello")]);
    let prepared = shelf.prepare(package, &[layer.digest]).await.unwrap();
    let function = shelf.deploy(&node, "packed", &prepared).await.unwrap();
    assert_eq!(
        ask(&function, json!({"do": "list", "path": "/var/task"})).await,
        json!(["data"])
    );
    assert_eq!(
        ask(
            &function,
            json!({"do": "read", "path": "/var/task/data/words"})
        )
        .await,
        json!("hello")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_in_a_layer_leads_inside_of_it_or_is_refused() {
    let (node, shelf) = (Node::start().await, Shelf::new());
    let link = |path: &str, target: &str| {
        zips::made(|zip| {
            zip.add_symlink(path, target, zips::options(0o777)).unwrap();
        })
    };
    for (path, target) in [
        ("l", "/etc/passwd"),
        ("l", "../etc/passwd"),
        ("a/l", "../../x"),
        ("l", "a/../../x"),
        ("a/b/l", "c/../../../x"),
        ("l", ""),
    ] {
        let error = shelf.layers.publish(link(path, target)).await.unwrap_err();
        assert_eq!(error.code(), "InvalidParameterValueException");
        assert!(error.to_string().contains("may lead outside"), "{error}");
    }
    let layer = zips::made(|zip| {
        let options = zips::options(0o644);
        zip.start_file("deep/er/file", options).unwrap();
        std::io::Write::write_all(zip, b"text").unwrap();
        zip.add_symlink("deep/link", "../link", options).unwrap();
        zip.add_symlink("link", "deep/er/file", options).unwrap();
        zip.start_file("g.wasm", options).unwrap();
        std::io::Write::write_all(zip, &greeter()).unwrap();
    });
    let first = shelf.layers.publish(layer).await.unwrap();
    let second = shelf.publish(&[("more", b"")]).await;
    // Alone, and merged.
    for layers in [vec![first.digest], vec![first.digest, second.digest]] {
        let prepared = shelf.prepare(greet_probe(), &layers).await.unwrap();
        let function = shelf.deploy(&node, "links", &prepared).await.unwrap();
        assert_eq!(
            ask(&function, json!({"do": "read", "path": "/opt/deep/link"})).await,
            json!("text")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_is_on_disk_once_whole_and_for_its_owner_to_read() {
    let shelf = Shelf::new();
    let files = zips::zip(&[("bin/tool", b"#!"), ("g.wasm", &greeter())]);
    let layer = shelf.layers.publish(files.clone()).await.unwrap();
    assert_eq!(layer.digest, Digest::of(&files));
    assert_eq!(layer.size, files.len() as u64);
    assert_eq!(layer.unzipped, 2 + greeter().len() as u64);
    // The zip is kept, to be given out again.
    assert_eq!(
        shelf.blobs.read(&layer.digest).await.unwrap(),
        Some(files.clone())
    );
    let grant = shelf.layers.grants(Some(&layer.digest), None).remove(0);
    assert_eq!((grant.mount.as_str(), grant.writable), ("/opt", false));
    let mode = fs::metadata(grant.source.join("bin/tool")).unwrap();
    assert_eq!(mode.permissions().mode() & 0o777, 0o400);

    // What a node leaves that is killed while it unpacks is swept; the rest is found.
    let half = shelf.data.path().join("layers/tmp/half/content");
    let data = shelf.data;
    drop((shelf.layers, shelf.blobs));
    fs::create_dir_all(&half).unwrap();
    let shelf = reopened(data).await;
    assert!(!half.exists());
    assert_eq!(
        shelf.layers.find(layer.digest).await.unwrap(),
        Some(layer.clone())
    );
    assert_eq!(shelf.layers.publish(files).await.unwrap(), layer);
}

/// The data folder is free when the last that holds it is gone, which tasks in the background may.
async fn reopened(data: TempDir) -> Shelf {
    support::eventually(async || DataFolder::open(data.path()).ok()).await;
    Shelf::open(data, CompileLimits::default())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nothing_uses_is_removed_and_made_again_when_it_is_wanted() {
    let shelf = Shelf::new();
    let used = shelf.publish(&[("a", b"a")]).await;
    let unused = shelf.publish(&[("b", b"b")]).await;
    let layers = [used.digest, unused.digest];
    let package = zips::zip(&[("f.wasm", &greet_probe()), ("words", b"w")]);
    let package_digest = shelf.blobs.put(package.clone()).await.unwrap();
    let prepared = shelf.prepare(package.clone(), &layers).await.unwrap();
    let (opt, task) = (prepared.opt.unwrap(), prepared.task.unwrap());
    let later = SystemTime::now() + Duration::from_secs(60);
    shelf.layers.sweep([opt].into(), later).await.unwrap();
    assert!(shelf.layers.is_here(&opt));
    assert!(!shelf.layers.is_here(&task) && !shelf.layers.is_here(&unused.digest));
    // Merged layers live without those they were made of.
    let folder = &shelf.layers.grants(Some(&opt), None)[0].source;
    assert_eq!(fs::read(folder.join("a")).unwrap(), b"a");

    // The zips are there: after a backup was restored, nothing else is.
    shelf.layers.sweep([].into(), later).await.unwrap();
    shelf
        .layers
        .mend(package_digest, None, &layers)
        .await
        .unwrap();
    assert!(shelf.layers.is_here(&opt) && shelf.layers.is_here(&task));
    shelf.blobs.remove(&unused.digest).await.unwrap();
    shelf.layers.sweep([].into(), later).await.unwrap();
    let again = shelf.prepare(package.clone(), &layers[..1]).await.unwrap();
    assert_eq!(again.opt, Some(used.digest));
    let error = shelf.prepare(package, &layers).await.unwrap_err();
    assert!(error.to_string().contains("is not on this node"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_and_its_layers_are_held_to_250_mb_and_five_layers() {
    let shelf = Shelf::new();
    let zeros = vec![0; 131_000_000];
    let mut layers = Vec::new();
    for name in ["a", "b"] {
        layers.push(shelf.publish(&[(name, &zeros)]).await.digest);
    }
    let component = greet_probe();
    let prepared = shelf.prepare(component.clone(), &layers).await;
    let error = prepared.unwrap_err();
    assert_eq!(error.code(), "InvalidParameterValueException");
    assert_eq!(
        error.to_string(),
        format!(
            "Function code combined with layers exceeds the maximum allowed size of 262144000 bytes. The actual size is \
             {} bytes.",
            2 * 131_000_000 + component.len()
        )
    );
    let small = shelf.publish(&[("a", b"")]).await.digest;
    let error = shelf.prepare(component, &[small; 6]).await.unwrap_err();
    assert_eq!(error.to_string(), "Cannot reference more than 5 layers.");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_component_in_a_layer_is_an_error_and_no_more() {
    let shelf = Shelf::new();
    let prefix = b"\0asm\x0d\0\x01\0";
    let mut cut = greeter().to_vec();
    cut.truncate(cut.len() / 2);
    for bytes in [[&prefix[..], b"\xff\xff\xff"].concat(), cut] {
        let layer = shelf.publish(&[("bad.wasm", &bytes)]).await;
        let error = shelf.prepare(greet_probe(), &[layer.digest]).await;
        let error = error.unwrap_err();
        assert_eq!(error.code(), "InvalidParameterValueException");
        assert!(
            error
                .to_string()
                .starts_with("the layer's `bad.wasm` is not a component"),
            "{error}"
        );
    }
    // A linker that takes longer than it may is stopped, and the node goes on.
    let tight = CompileLimits {
        time: Duration::from_millis(1),
        ..CompileLimits::default()
    };
    let shelf = Shelf::open(tempfile::tempdir().unwrap(), tight);
    let layer = shelf.publish(&[("g.wasm", &greeter())]).await;
    let error = shelf.prepare(greet_probe(), &[layer.digest]).await;
    assert_eq!(
        error.unwrap_err().to_string(),
        "linking the function with its layers was stopped: it took too long"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_an_archive_that_is_refused_stays() {
    let shelf = Shelf::new();
    for archive in [
        Bytes::from_static(b"PK\x05\x06 no archive"),
        zips::changed(&zips::zip(&[("aa/b", b"x")]), b"aa/b", b"../b"),
    ] {
        let error = shelf.layers.publish(archive).await.unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("Could not unzip uploaded file."),
            "{error}"
        );
    }
    let count = |folder: &Path| fs::read_dir(folder).unwrap().count();
    assert_eq!(count(&shelf.data.path().join("layers/sha256")), 0);
    assert_eq!(count(&shelf.data.path().join("layers/tmp")), 0);
    assert_eq!(shelf.blobs.list().await.unwrap(), []);
}
