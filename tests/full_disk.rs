//! A node whose disk is full: it says so to whoever wants to change something, and goes on serving.
//!
//! The disk is a small one of the node's own, mounted in a namespace of its own, so that nobody else's fills up.

use std::{fs, io::Write as _, path::Path};

use crate::process::{self, App, Node, PATIENCE, done, failed};

const MANIFEST: &str = "name = 'a'\n\
    [functions.web]\ncomponent = '{hostile}'\nkey_value = ['default']\ntimeout = '60 s'\n\
    [functions.event]\ncomponent = '{event_probe}'\nkey_value = ['default']";

/// Fills a disk to its last byte.
fn fill(ballast: &Path) {
    let mut file = fs::File::create(ballast).unwrap();
    for size in [1 << 20, 4096, 1] {
        let chunk = vec![1; size];
        while file.write_all(&chunk).is_ok() {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_and_what_is_served_is_served_on() {
    let data = tempfile::tempdir().unwrap();
    let Some(node) = Node::serve_on_disk(data.path(), "48m").await else {
        // Seen in containers that let nobody mount anything.
        println!("not tested: no disk of its own can be mounted here");
        return;
    };
    let app = App::new(MANIFEST);
    node.deploy(app.path()).await;
    let count = r#"{"do": "count", "key": "n"}"#;
    assert_eq!(node.invoke("event", count).await.unwrap(), "1\n");

    let ballast = node.data().join("ballast");
    fill(&ballast);
    let serves = async |when: &str| {
        for path in ["/", "/echo", "/environment"] {
            let answer = node.get_at("web.localhost", path).await;
            assert_eq!(answer.status, 200, "{when}: {answer:?}");
        }
        let ready = reqwest::Client::builder().no_proxy().build().unwrap();
        let ready = ready.get(format!("http://{}/readyz", node.api));
        assert_eq!(ready.send().await.unwrap().status(), 200, "{when}");
    };
    serves("with a full disk").await;

    // More than fits into what the database's files have in reserve.
    let large = "x".repeat(2 << 20);
    app.manifest(&format!("{MANIFEST}\nconfig = {{ large = '{large}' }}"));
    let refused = failed(
        node.wharf(["deploy".as_ref(), app.path().as_os_str()])
            .await,
    );
    assert!(refused.contains("the disk is full"), "{refused}");
    serves("after a deployment").await;

    let unknown = app.path().join("unknown.wasm");
    let mut bytes = fs::read(process::guest("p3_hello")).unwrap();
    // A custom section, so that its digest is new.
    bytes.extend([0, 2, 1, b'x']);
    fs::write(&unknown, bytes).unwrap();
    let upload = [
        "deploy",
        "--name",
        "new",
        "--wasm",
        unknown.to_str().unwrap(),
    ];
    let refused = failed(node.wharf(upload).await);
    assert!(refused.contains("the disk is full"), "{refused}");
    let backup = app.path().join("backup.tar");
    let backup = ["backup", backup.to_str().unwrap()];
    let refused = failed(node.wharf(backup).await);
    assert!(refused.contains("the disk is full"), "{refused}");

    let flood = node
        .get_at("web.localhost", "/kv-flood?bytes=1000000&most=100")
        .await;
    assert!(!flood.json()["refused"].is_null(), "{flood:?}");
    let event = format!("\"{}\"", "x".repeat(1_000_000));
    let payload = app.path().join("event.json");
    fs::write(&payload, event).unwrap();
    let payload = format!("@{}", payload.display());
    let publish = ["invoke", "event", "--async", "--payload", &payload];
    let mut told = String::new();
    // The first may fit into what a change left that was undone.
    for _ in 0..100 {
        let output = node.wharf(publish).await;
        if !output.status.success() {
            told = failed(output);
            break;
        }
    }
    assert!(told.contains("the disk is full"), "{told}");
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{}/2015-03-31/functions/event/invocations", node.api);
    let refused = client
        .post(url)
        .bearer_auth(node.token())
        .header("x-amz-invocation-type", "Event")
        .body(fs::read(app.path().join("event.json")).unwrap());
    let refused = refused.send().await.unwrap();
    assert_eq!(refused.status(), 500);
    assert_eq!(refused.headers()["x-amzn-errortype"], "ServiceException");
    serves("after functions and events").await;

    fs::remove_file(ballast).unwrap();
    tokio::time::timeout(PATIENCE, async {
        let counted = node.invoke("event", count).await.unwrap();
        assert_eq!(counted, "2\n", "what was refused was not done");
    })
    .await
    .unwrap();
    done(node.wharf(upload).await);
    serves("with room again").await;
    node.stop().await;
}
