//! Every template of `wharf new` builds, and passes its own test. This compiles the guest crate for two targets, which
//! takes a minute the first time.

use crate::{process, support};

use std::{
    convert::Infallible,
    fs,
    net::SocketAddr,
    path::Path,
    process::{Command, Output},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use http::{Request, Response};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// A server that says hello to everybody, and counts them.
async fn origin() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let counted = counted.clone();
            let service = service_fn(move |_: Request<Incoming>| {
                counted.fetch_add(1, Relaxed);
                std::future::ready(Ok::<_, Infallible>(Response::new("hello\n".to_owned())))
            });
            let http = hyper::server::conn::http1::Builder::new();
            tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
        }
    });
    (address, asked)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hook_template_stands_before_the_site_of_its_manifest() {
    let (address, asked) = origin().await;
    let folder = tempfile::tempdir().unwrap();
    let project = folder.path().join("guard");
    let mut new = process::wharf();
    new.current_dir(folder.path());
    let made = process::run(new.args(["new", "guard", "--template", "hook"])).await;
    process::done(made);
    let manifest = fs::read_to_string(project.join("wharf.toml")).unwrap();
    let theirs = r#"servers = ["https://example.com"]"#;
    assert!(manifest.contains(theirs), "{manifest}");
    let ours = format!("servers = [\"http://{address}\"]\nprivate = true");
    fs::write(project.join("wharf.toml"), manifest.replace(theirs, &ours)).unwrap();
    let node = process::Node::up(&project).await;
    let probe = node.get_at("site.localhost", "/index.php").await;
    assert_eq!((probe.status.as_u16(), asked.load(Relaxed)), (404, 0));
    let page = node.get_at("site.localhost", "/").await;
    assert_eq!(
        (page.status.as_u16(), page.text().as_str()),
        (200, "hello\n")
    );
    assert_eq!(asked.load(Relaxed), 1);
    // It has no address of its own.
    let alone = node.get_at("guard.localhost", "/").await;
    assert_eq!(alone.status.as_u16(), 404);
    node.stop().await;
}

#[test]
fn every_template_builds_and_passes_its_own_test() {
    let folder = tempfile::tempdir().unwrap();
    // The dependencies are compiled once for all.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("templates");
    for template in ["http", "event", "hook"] {
        let name = format!("a-{template}");
        let wharf = || {
            let mut wharf = Command::new(support::program());
            wharf
                .current_dir(folder.path())
                .env("CARGO_TARGET_DIR", &target);
            wharf
        };
        run(wharf().args(["new", &name, "--template", template]));
        let project = folder.path().join(&name);
        run(Command::new("cargo")
            .args(["fmt", "--check"])
            .current_dir(&project));
        run(Command::new("cargo")
            .args(["test", "--quiet"])
            .current_dir(&project)
            .env("CARGO_TARGET_DIR", &target));
        let built = run(wharf().args(["build", &name, "--output", "json"]));
        let built: serde_json::Value = serde_json::from_slice(&built.stdout).unwrap();
        let component = fs::read(built["component"].as_str().unwrap()).unwrap();
        // The preamble of a component, which is not that of a core module.
        assert!(component.starts_with(b"\0asm\x0d\0\x01\0"), "{template}");
    }
}
