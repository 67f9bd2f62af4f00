//! A site, from its manifest to the viewer: in front of Python's web server, which serves a folder.

use std::{fs, path::Path, process::Stdio};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use super::process::{App, Node, done, failed};

/// A web server for the files of a folder. It ends when dropped.
struct Files {
    port: u16,
    _server: Child,
}

impl Files {
    async fn serve(folder: &Path) -> Self {
        let mut server = Command::new("python3")
            .args([
                "-u",
                "-m",
                "http.server",
                "0",
                "--bind",
                "127.0.0.1",
                "--directory",
            ])
            .arg(folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut said = BufReader::new(server.stdout.take().unwrap()).lines();
        let line = said.next_line().await.unwrap().unwrap();
        // Serving HTTP on 127.0.0.1 port 43211 (http://127.0.0.1:43211/) ...
        let port = line.split(' ').nth(5).unwrap().parse().unwrap();
        Self {
            port,
            _server: server,
        }
    }
}

#[tokio::test]
async fn a_site_is_deployed_cached_purged_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.html");
    fs::write(&page, "first\n").unwrap();
    let files = Files::serve(folder.path()).await;
    let data = tempfile::tempdir().unwrap();
    let node = Node::serve(data.path()).await;
    let app = App::new(&format!(
        r#"
        name = "cdn"
        [functions.probe]
        component = "{{hook_probe}}"
        [distributions.site]
        hosts = ["site.example"]
        [distributions.site.origins.files]
        servers = ["http://127.0.0.1:{}"]
        private = true
        [distributions.site.default]
        origin = "files"
        cache = {{ default = "1 h" }}
        hooks = {{ viewer_response = ["probe"] }}
        "#,
        files.port
    ));
    node.deploy(app.path()).await;
    let get = async |path: &str| node.get_at("site.example", path).await;
    let first = get("/page.html").await;
    assert_eq!(first.text(), "first\n", "{first:?}");
    assert_eq!(first.header("x-viewer-response"), "seen");
    fs::write(&page, "second\n").unwrap();
    assert_eq!(get("/page.html").await.text(), "first\n");
    assert_eq!(get("/none.html").await.status, 404);

    let cache = node.wharf(["cache", "--output", "json"]).await;
    let cache: Value = serde_json::from_str(&done(cache)).unwrap();
    assert_eq!(cache["distributions"]["site"]["hits"], 1, "{cache}");
    let shown = done(node.wharf(["cache"]).await);
    assert!(shown.contains("1 hits"), "{shown}");
    let listed = done(node.wharf(["distributions"]).await);
    assert!(listed.contains("site.example"), "{listed}");

    let purged = done(node.wharf(["purge", "site", "--url", "/page.html"]).await);
    assert_eq!(purged, "1\n");
    assert_eq!(get("/page.html").await.text(), "second\n");
    let nothing = failed(node.wharf(["purge", "other", "--all"]).await);
    assert!(
        nothing.contains("there is no distribution `other`"),
        "{nothing}"
    );

    done(node.wharf(["distributions", "--remove", "site"]).await);
    assert_eq!(get("/page.html").await.status, 404);
    // The app has it, and brings it back with what it has now.
    fs::write(&page, "third\n").unwrap();
    node.deploy(app.path()).await;
    assert_eq!(get("/page.html").await.text(), "third\n");
    // What is cached outlives the process.
    fs::write(&page, "fourth\n").unwrap();
    node.stop().await;
    let node = Node::serve(data.path()).await;
    let kept = node.get_at("site.example", "/page.html").await;
    assert_eq!(kept.text(), "third\n", "{kept:?}");
    assert!(kept.header("cache-status").contains("hit"), "{kept:?}");
    node.stop().await;
}
