//! A site, from its manifest to the viewer: in front of Python's web server, which serves a folder.

use std::{fs, path::Path, process::Stdio};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::process::{App, Node, done, failed};

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
    assert!(
        listed.contains("3 requests, 33 % from the cache"),
        "{listed}"
    );
    assert!(
        listed.contains(" is healthy, 2 requests, 0 failed"),
        "{listed}"
    );

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

#[tokio::test]
async fn what_happens_to_a_request_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("page.html"), "page\n").unwrap();
    let files = Files::serve(folder.path()).await;
    let data = tempfile::tempdir().unwrap();
    let log = data.path().join("access.log");
    let node = Node::serve_with(&data.path().join("node"), |wharf| {
        wharf
            .args(["--log", "wharf=debug", "--log-format", "json"])
            .args(["--access-log-format", "combined", "--access-log"])
            .arg(&log);
    })
    .await;
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
        hooks = {{ viewer_request = ["probe"] }}
        [[distributions.site.behaviours]]
        path = "/near/*"
        origin = "files"
        access = {{ countries = ["DE"] }}
        "#,
        files.port
    ));
    let deployed = node
        .wharf(["deploy".as_ref(), app.path().as_os_str()])
        .await;
    let told = String::from_utf8_lossy(&deployed.stderr).into_owned();
    done(deployed);
    for told in [told, node.said()] {
        assert!(
            told.contains("distribution `site` lets viewers in by country"),
            "{told}"
        );
    }

    let reply = node.get_at("site.example", "/page.html?q=1").await;
    assert_eq!(reply.text(), "page\n", "{reply:?}");
    let id = reply.header("x-request-id").to_owned();
    node.says(r#""name":"hook""#).await;
    let said = node.said();
    let lines = said
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let spans: Vec<Value> = lines.filter(|line| line["message"] == "close").collect();
    let ended = |name: &str| {
        let is_it = |line: &&Value| line["span"]["name"] == name;
        spans
            .iter()
            .find(is_it)
            .unwrap_or_else(|| panic!("no {name} in {said}"))
    };
    for (name, above) in [
        ("request", &[][..]),
        ("hook", &["request"]),
        ("cache", &[]),
        ("origin", &["request", "cache"]),
        ("attempt", &["request", "cache", "origin"]),
    ] {
        let line = ended(name);
        let spans = line["spans"].as_array().unwrap();
        let names: Vec<&str> = spans
            .iter()
            .map(|it| it["name"].as_str().unwrap())
            .collect();
        assert!(names == above || name == "cache", "{line}");
        let first = spans.first().unwrap_or(&line["span"]);
        assert_eq!(first["request_id"], *id, "{line}");
    }
    assert_eq!(ended("hook")["span"]["point"], "viewer-request");
    assert_eq!(ended("hook")["span"]["function"], "probe");
    assert_eq!(ended("cache")["span"]["result"], "miss");
    assert_eq!(ended("attempt")["span"]["number"], 1);

    node.stop().await;
    let log = fs::read_to_string(log).unwrap();
    let mut lines = log.lines();
    let line = lines.next().unwrap();
    assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
    assert!(
        line.contains(r#"] "GET /page.html?q=1 HTTP/1.1" 200 5 "-" ""#),
        "{line}"
    );
    assert_eq!(lines.next(), None);
}
