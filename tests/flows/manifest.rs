//! What a manifest says is what a function gets, and no more.

use std::{fs, path::Path, time::Duration};

use futures::future::join_all;
use serde_json::json;
use tempfile::TempDir;

use crate::process::{App, Node, Reply, eventually};

/// A node that serves the app of a manifest.
struct Served {
    node: Node,
    app: App,
    _data: TempDir,
}

async fn served(manifest: &str) -> Served {
    let data = tempfile::tempdir().unwrap();
    let node = Node::serve(data.path()).await;
    let app = App::new(manifest);
    node.deploy(app.path()).await;
    Served {
        node,
        app,
        _data: data,
    }
}

#[tokio::test]
async fn routes_lead_by_host_path_and_method() {
    let served = served(
        r#"
        name = "routes"
        [functions.hostile]
        component = "{hostile}"
        [functions.probe]
        component = "{event_probe}"
        [functions.Upper_Case]
        component = "{hostile}"

        [[routes]]
        path = "/"
        function = "hostile"
        [[routes]]
        path = "/echo"
        methods = ["GET", "POST"]
        function = "hostile"
        [[routes]]
        path = "/users/{id}/files/{*rest}"
        function = "probe"
        [[routes]]
        host = "example.com"
        path = "/"
        response = { body = "example" }
        [[routes]]
        host = "*.example.com"
        path = "/{*rest}"
        response = { status = 418, body = "teapot", headers = { x-brew = "tea", content-type = "text/html" } }
        [[routes]]
        path = "/old/{id}"
        redirect = { to = "/new/{id}", status = 308 }
        [[routes]]
        path = "/away"
        redirect = { to = "https://example.com/there?fixed=1" }
        "#,
    )
    .await;
    let node = &served.node;
    assert_eq!(node.get("/").await.text(), "hello\n");
    let missed = node.get("/nothing").await;
    assert_eq!(
        (missed.status.as_u16(), missed.header("x-wharf-error")),
        (404, "no_route")
    );
    assert_eq!(missed.json()["error"], "no_route");
    assert_eq!(missed.json()["requestId"], missed.header("x-request-id"));

    let head = Reply::of(node.request("HEAD", "/echo")).await;
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
    let echoed = Reply::of(node.request("POST", "/echo").body("body")).await;
    assert_eq!(echoed.text(), "body");
    let refused = Reply::of(node.request("DELETE", "/echo")).await;
    assert_eq!(
        (refused.status.as_u16(), refused.header("allow")),
        (405, "GET, HEAD, POST")
    );

    // An event function gets the request as an event, as Lambda's function URLs send it.
    let event = node.get("/users/7/files/a/b?x=1&x=2").await.json();
    assert_eq!(event["rawPath"], "/users/7/files/a/b");
    assert_eq!(event["rawQueryString"], "x=1&x=2");
    assert_eq!(event["pathParameters"], json!({ "id": "7", "rest": "a/b" }));
    assert_eq!(node.get("/users/7/files").await.status, 404);
    assert_eq!(node.get("/users/7/files/../x").await.status, 404);

    assert_eq!(node.get_at("example.com", "/").await.text(), "example");
    assert_eq!(node.get_at("EXAMPLE.com:80", "/").await.text(), "example");
    let teapot = node.get_at("a.b.example.com", "/any/where").await;
    assert_eq!(
        (teapot.status.as_u16(), teapot.text().as_str()),
        (418, "teapot")
    );
    assert_eq!(
        (teapot.header("x-brew"), teapot.header("content-type")),
        ("tea", "text/html")
    );

    let moved = node.get("/old/7?q=1").await;
    assert_eq!(
        (moved.status.as_u16(), moved.header("location")),
        (308, "/new/7?q=1")
    );
    let away = node.get("/away?q=1").await;
    let there = "https://example.com/there?fixed=1";
    assert_eq!(
        (away.status.as_u16(), away.header("location")),
        (302, there)
    );

    for host in [
        "hostile.localhost",
        "HOSTILE.LOCALHOST:99",
        "upper_case.localhost",
    ] {
        assert_eq!(node.get_at(host, "/").await.text(), "hello\n", "{host}");
        let counted = node.get_at(host, "/state").await.json();
        assert_eq!(counted, json!({ "requests": 1 }), "{host}");
    }
    served.node.stop().await;
}

#[tokio::test]
async fn a_function_sees_its_environment_secrets_and_configuration_and_nothing_of_the_nodes() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("secret.txt"), "from a file\n").unwrap();
    let app = App::new(
        r#"
        name = "surroundings"
        [functions.seen]
        component = "{hostile}"
        environment = { MODE = "fast" }
        secrets = { TOKEN = { env = "THE_TOKEN" }, KEY = { file = "secret.txt" } }
        config = { greeting = "hi", empty = "" }
        [functions.bare]
        component = "{hostile}"
        "#,
    );
    fs::copy(
        folder.path().join("secret.txt"),
        app.path().join("secret.txt"),
    )
    .unwrap();
    let data = tempfile::tempdir().unwrap();
    let node = Node::serve_with(data.path(), |wharf| {
        wharf.env("THE_TOKEN", "from the environment");
    })
    .await;
    node.deploy(app.path()).await;

    let seen = node.get_at("seen.localhost", "/environment").await.json();
    let variables = &seen["variables"];
    assert_eq!(variables["MODE"], "fast");
    assert_eq!(variables["TOKEN"], "from the environment");
    assert_eq!(variables["KEY"], "from a file");
    assert_eq!(variables["PATH"], serde_json::Value::Null);
    assert_eq!(variables["THE_TOKEN"], serde_json::Value::Null);
    let config = node.get_at("seen.localhost", "/config").await.json();
    assert!(
        config.to_string().contains(r#""greeting","hi""#) || config["values"]["greeting"] == "hi",
        "{config}"
    );

    let bare = node.get_at("bare.localhost", "/environment").await.json();
    for name in ["MODE", "TOKEN", "KEY"] {
        assert_eq!(bare["variables"][name], serde_json::Value::Null, "{name}");
    }

    // No value leaves the node again.
    for arguments in [&["functions"][..], &["functions", "--output", "json"]] {
        let listed = crate::process::done(node.wharf(arguments).await);
        for secret in ["from the environment", "from a file", "fast"] {
            assert!(!listed.contains(secret), "{listed}");
        }
    }
    for file in files_in(data.path()) {
        let bytes = fs::read(&file).unwrap();
        let holds = |secret: &[u8]| bytes.windows(secret.len()).any(|window| window == secret);
        assert!(!holds(b"from the environment"), "{}", file.display());
        assert!(!holds(b"from a file"), "{}", file.display());
    }
    assert!(!node.said().contains("from the environment"));
    node.stop().await;
}

fn files_in(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            files.extend(files_in(&entry.path()));
        } else if entry.file_type().unwrap().is_file() {
            files.push(entry.path());
        }
    }
    files
}

#[tokio::test]
async fn a_store_is_opened_by_who_was_given_it_under_the_name_it_was_given() {
    let served = served(
        r#"
        name = "stores"
        [functions.one]
        component = "{hostile}"
        key_value = { default = "shared" }
        [functions.two]
        component = "{hostile}"
        key_value = ["shared"]
        [functions.none]
        component = "{hostile}"
        "#,
    )
    .await;
    let node = &served.node;
    let flood = "/kv-flood?bytes=10&most=3";
    let one = node.get_at("one.localhost", flood).await.json();
    assert_eq!(one["values"], 3, "{one}");
    let two = node.get_at("two.localhost", flood).await.json();
    assert_eq!(two["values"], 0, "{two}");
    let two = format!("{flood}&bucket=shared");
    let two = node.get_at("two.localhost", &two).await.json();
    assert_eq!(two["values"], 3, "{two}");
    let none = node.get_at("none.localhost", flood).await.json();
    assert_eq!(none["values"], 0, "{none}");
    served.node.stop().await;
}

#[tokio::test]
async fn a_folder_that_is_given_is_read_and_only_written_where_that_is_said() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "secret").unwrap();
    let app = App::new("name = 'files'\n[[routes]]\npath = '/'\nresponse = {}");
    for folder in ["read", "write"] {
        let path = app.path().join(folder);
        fs::create_dir(&path).unwrap();
        fs::write(path.join("file"), folder).unwrap();
        std::os::unix::fs::symlink(outside.path(), path.join("out")).unwrap();
    }
    app.manifest(
        r#"
        name = "files"
        [functions.files]
        component = "{hostile}"
        files = [
            { source = "read", mount = "/read" },
            { source = "write", mount = "/write", writable = true },
        ]
        [functions.none]
        component = "{hostile}"
        "#,
    );
    let data = tempfile::tempdir().unwrap();
    let node = Node::serve(data.path()).await;
    node.deploy(app.path()).await;
    let files = async |function: &str, path: &str| {
        let host = format!("{function}.localhost");
        node.get_at(&host, &format!("/files?path={path}"))
            .await
            .json()
    };
    let read = files("files", "/read/file").await;
    assert_eq!(read["read"], json!({ "ok": "read" }));
    assert!(read["create"]["error"].is_string(), "{read}");
    assert!(read["link"]["error"].is_string(), "{read}");
    let listed = files("files", "/read").await;
    let mut names: Vec<_> = listed["list"]["ok"].as_array().unwrap().clone();
    names.sort_by_key(ToString::to_string);
    assert_eq!(names, ["file", "out"]);
    assert!(!app.path().join("read/file.created").exists());

    let written = files("files", "/write/file").await;
    assert_eq!(written["create"], json!({ "ok": true }));
    assert!(app.path().join("write/file.created").exists());

    for (function, path) in [
        ("files", "/read/out/secret"),
        ("files", "/write/out/secret"),
        ("files", "/read/../../secret"),
        ("files", "/etc/passwd"),
        ("none", "/read/file"),
    ] {
        let refused = files(function, path).await;
        assert!(refused["read"]["error"].is_string(), "{path}: {refused}");
    }
    node.stop().await;
}

#[tokio::test]
async fn a_private_place_is_reached_by_who_was_given_it() {
    // The node itself stands for the private place.
    let served =
        served("name = 'a'\n[[routes]]\npath = '/there'\nresponse = { body = 'there' }").await;
    let node = &served.node;
    served.app.manifest(&format!(
        r#"
        name = "a"
        [functions.granted]
        component = "{{hostile}}"
        outbound = ["127.0.0.1:{}"]
        [functions.refused]
        component = "{{hostile}}"
        outbound = ["127.0.0.1:1"]
        [[routes]]
        path = "/there"
        response = {{ body = "there" }}
        "#,
        node.http.port()
    ));
    node.deploy(served.app.path()).await;
    let path = format!("/fetch?url=http://{}/there", node.http);
    let granted = node.get_at("granted.localhost", &path).await.json();
    assert_eq!(granted, json!({ "status": 200, "body": "there" }));
    let refused = node.get_at("refused.localhost", &path).await.json();
    let error = refused["error"].as_str().unwrap();
    assert!(
        error.contains("Prohibited") || error.contains("Denied"),
        "{error}"
    );
    served.node.stop().await;
}

#[tokio::test]
async fn instances_are_fresh_or_used_again_as_the_manifest_says() {
    let served = served(
        r#"
        name = "a"
        [functions.fresh]
        component = "{hostile}"
        [functions.reuse]
        component = "{hostile}"
        isolation = "reuse"
        [functions.twice]
        component = "{hostile}"
        isolation = { requests = 2 }
        "#,
    )
    .await;
    let node = &served.node;
    let counts = async |function: &str| {
        let host = format!("{function}.localhost");
        let mut counts = Vec::new();
        for _ in 0..4 {
            let counted = node.get_at(&host, "/state").await.json();
            counts.push(counted["requests"].as_u64().unwrap());
            // The instance goes back once the client has its answer.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        counts
    };
    assert_eq!(counts("fresh").await, [1, 1, 1, 1]);
    let reused = counts("reuse").await;
    assert!(reused.contains(&2), "{reused:?}");
    let twice = counts("twice").await;
    assert!(twice.contains(&2) && !twice.contains(&3), "{twice:?}");
    served.node.stop().await;
}

/// The receipt of a request.
async fn receipt(node: &Node, host: &str) -> serde_json::Value {
    let request = node.request("GET", "/").header("host", host);
    let reply = Reply::of(request.header("x-wharf-receipt", "1")).await;
    assert_eq!(reply.text(), "hello\n");
    match reply.header("x-wharf-receipt") {
        "" => serde_json::Value::Null,
        receipt => serde_json::from_str(receipt).unwrap(),
    }
}

#[tokio::test]
async fn a_pool_with_a_minimum_makes_the_first_request_warm() {
    let served = served(
        r#"
        name = "a"
        [functions.ready]
        component = "{hostile}"
        pool = { min = 2 }
        receipt = true
        [functions.cold]
        component = "{hostile}"
        receipt = true
        [functions.silent]
        component = "{hostile}"
        "#,
    )
    .await;
    let node = &served.node;
    let idle = async || {
        let url = format!("http://{}/wharf/v1/node", node.api);
        let token = node.token();
        let request = reqwest::Client::builder()
            .no_proxy()
            .build()
            .unwrap()
            .get(url);
        Reply::of(request.bearer_auth(token)).await.json()["idle_instances"].clone()
    };
    eventually("the pool is full", async || idle().await == 2).await;
    let ready = receipt(node, "ready.localhost").await;
    assert_eq!(ready["start"], "warm", "{ready}");
    assert_eq!(ready["outcome"], "ok");
    assert!(ready["fuel"].as_u64().unwrap() > 0, "{ready}");
    assert!(ready["peak_memory"].as_u64().unwrap() > 0, "{ready}");
    let cold = receipt(node, "cold.localhost").await;
    assert_eq!(cold["start"], "cold", "{cold}");
    assert!(cold["init_us"].as_u64().is_some(), "{cold}");
    // A receipt is for who may have it.
    assert_eq!(
        receipt(node, "silent.localhost").await,
        serde_json::Value::Null
    );
    served.node.stop().await;
}

#[tokio::test]
async fn a_function_has_no_more_invocations_at_one_moment_than_it_may() {
    let served = served(
        r#"
        name = "a"
        [functions.two]
        component = "{hostile}"
        concurrency = 2
        [functions.off]
        component = "{hostile}"
        concurrency = 0
        "#,
    )
    .await;
    let node = &served.node;
    let requests = (0..6).map(|_| node.get_at("two.localhost", "/sleep?ms=1500"));
    let replies = join_all(requests).await;
    let count = |status: u16| {
        replies
            .iter()
            .filter(|reply| reply.status == status)
            .count()
    };
    assert_eq!((count(200), count(429)), (2, 4));
    let throttled = replies.iter().find(|reply| reply.status == 429).unwrap();
    assert_eq!(throttled.header("x-wharf-error"), "throttled");
    assert_eq!(throttled.header("retry-after"), "1");
    assert_eq!(node.get_at("two.localhost", "/").await.status, 200);
    assert_eq!(node.get_at("off.localhost", "/").await.status, 429);
    served.node.stop().await;
}

#[tokio::test]
async fn limits_of_an_invocation_hold() {
    let served = served(
        r#"
        name = "a"
        [functions.short]
        component = "{hostile}"
        timeout = "300 ms"
        [functions.small]
        component = "{hostile}"
        memory = "16 MB"
        [functions.lean]
        component = "{hostile}"
        fuel = 50_000_000
        [functions.busy]
        component = "{hostile}"
        cpu = "100 ms"
        "#,
    )
    .await;
    let node = &served.node;
    for (function, path, status, error) in [
        ("short", "/never", 504, "timeout"),
        ("small", "/memory", 502, "out_of_memory"),
        ("lean", "/loop", 502, "out_of_fuel"),
        ("busy", "/burn?ms=2500", 502, "out_of_cpu"),
        ("busy", "/trap", 502, "trap"),
    ] {
        let reply = node.get_at(&format!("{function}.localhost"), path).await;
        assert_eq!(
            (reply.status.as_u16(), reply.header("x-wharf-error")),
            (status, error),
            "{path}"
        );
        let next = node.get_at(&format!("{function}.localhost"), "/").await;
        assert_eq!(next.text(), "hello\n", "{function}");
    }
    served.node.stop().await;
}
