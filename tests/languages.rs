//! The examples in other languages than Rust do what their READMEs say.
//!
//! They are built with what `.ci/toolchains` installs, and one opens a page in Chromium, so these tests run only when they are asked for:
//!
//! ```console
//! $ .ci/toolchains all
//! $ cargo test --test integration languages:: -- --ignored
//! ```

use crate::process;
use crate::process::{App, Node, Reply};
use crate::support::ports;
use serde_json::{Value, json};

/// Opens the front page in a browser, for as long as it takes to ask some rows again.
async fn the_page_shows_what_the_cache_does(node: &Node) {
    let profile = tempfile::tempdir().unwrap();
    let mut chromium = tokio::process::Command::new("chromium");
    chromium
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"])
        .arg("--virtual-time-budget=8000")
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("http://pier.localhost:{}/", node.http.port()))
        .kill_on_drop(true);
    let output = tokio::time::timeout(process::PATIENCE, chromium.output()).await;
    let page = String::from_utf8(output.unwrap().unwrap().stdout).unwrap();
    let row = |path: &str| {
        let row = page.split(&format!("<tr id=\"{path}\">")).nth(1);
        row.and_then(|row| row.split("</tr>").next())
            .unwrap_or_else(|| panic!("no row {path} in {page}"))
    };
    // The browser asks past its own cache, which is not taken for a wish to go past the edge's.
    for path in ["/data/edge", "/data/none"] {
        let row = row(path);
        assert!(
            row.contains("wharf; ") && !row.contains("fwd=request"),
            "{row}"
        );
    }
    for path in ["/data/private", "/me"] {
        assert!(row(path).contains("wharf; fwd="), "{}", row(path));
    }
}

/// What every hello does.
async fn greets(language: &str) {
    let app = App::example(&format!("hello-{language}"));
    let node = Node::up(app.path()).await;
    for (query, greeting) in [
        ("/", "Hello, world!\n"),
        ("/?name=Ada", "Hello, Ada!\n"),
        ("/any/where?name=Jos%C3%A9+Luis", "Hello, José Luis!\n"),
        ("/?name=", "Hello, world!\n"),
    ] {
        let reply = node.get(query).await;
        assert_eq!(
            (reply.status.as_u16(), reply.text().as_str()),
            (200, greeting),
            "{query}"
        );
    }
    // Each in an instance of its own.
    let all = (0..20).map(|number| {
        let node = &node;
        async move {
            let reply = node.get(&format!("/?name={number}")).await;
            assert_eq!(reply.text(), format!("Hello, {number}!\n"));
        }
    });
    futures::future::join_all(all).await;
    // A request with a body that nobody reads.
    let reply = Reply::of(node.request("POST", "/?name=Ada").body(vec![0; 100_000])).await;
    assert_eq!(reply.text(), "Hello, Ada!\n");
    node.stop().await;
}

#[tokio::test]
#[ignore = "it needs what `.ci/toolchains` installs"]
async fn c_greets() {
    greets("c").await;
}

#[tokio::test]
#[ignore = "it needs what `.ci/toolchains` installs"]
async fn go_greets() {
    greets("go").await;
}

#[tokio::test]
#[ignore = "it needs what `.ci/toolchains` installs"]
async fn javascript_greets() {
    greets("js").await;
}

#[tokio::test]
#[ignore = "it needs what `.ci/toolchains` installs"]
async fn python_greets() {
    greets("python").await;
}

#[tokio::test]
#[ignore = "it needs what `.ci/toolchains` installs"]
async fn typescript_prices_an_order_or_says_what_is_wrong_with_it() {
    let app = App::example("order-js");
    let node = Node::up(app.path()).await;
    let order = r#"{"id":"A-1","items":[{"sku":"tea","quantity":2,"price":450}]}"#;
    let priced = node.invoke("order-js", order).await.unwrap();
    let priced: Value = serde_json::from_str(&priced).unwrap();
    assert_eq!(
        (&priced["id"], &priced["total"]),
        (&json!("A-1"), &json!(900))
    );
    assert_eq!(priced["pricedBy"].as_str().unwrap().len(), 36);
    let error = node.invoke("order-js", r#"{"id":"A-2","items":[]}"#).await;
    let error = error.unwrap_err();
    let document =
        r#"{"errorType":"EmptyOrder","errorMessage":"order A-2 has no items","trace":[]}"#;
    assert_eq!(error.lines().next().unwrap(), document);
    node.stop().await;
}

#[tokio::test]
#[ignore = "it needs what `.ci/toolchains` installs, and Chromium"]
async fn a_site_has_an_origin_of_its_own_and_hooks_in_rust_and_javascript() {
    let app = App::example("cdn");
    // Any free port, so that nothing else on this machine matters.
    let port = ports::free_address().port().to_string();
    for before in ["origin.py 8090", "127.0.0.1:8090"] {
        app.edit("wharf.toml", before, &before.replace("8090", &port));
    }
    let node = Node::up(app.path()).await;
    node.says("  Starting origin (exec python3 -u origin.py ")
        .await;
    // The first request may come before the origin listens.
    let get = async |path: &str, cookie: &str| {
        let request = node.request("GET", path).header("host", "pier.localhost");
        Reply::of(request.header("cookie", cookie)).await
    };
    let mut first = get("/", "").await;
    for _ in 0..100 {
        if first.status == 200 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        first = get("/", "").await;
    }
    let variant = first.header("x-variant").to_owned();
    let cookie = format!("variant={variant}");
    assert!(first.header("set-cookie").starts_with(&cookie), "{first:?}");
    let again = get("/", &cookie).await;
    assert!(again.header("cache-status").contains("hit"), "{again:?}");
    assert_eq!(again.header("set-cookie"), "");
    for (variant, title) in [("a", "by day"), ("b", "by night")] {
        let page = get("/", &format!("variant={variant}")).await;
        assert!(page.text().contains(title), "{page:?}");
        assert_eq!(page.header("x-variant"), variant);
        assert_eq!(page.header("x-content-type-options"), "nosniff");
    }

    let asked = async |path: &str| {
        let reply = get(path, "").await;
        let data: Value = serde_json::from_str(&reply.text()).unwrap();
        data["asked"].as_u64().unwrap()
    };
    assert_eq!(
        (asked("/data/edge").await, asked("/data/edge").await),
        (1, 1)
    );
    // A parameter that the key has not is the same question.
    assert_eq!(asked("/data/edge?utm_source=x").await, 1);
    // That there is nothing is kept too.
    assert_eq!(get("/data/none", "").await.status, 404);
    let none = get("/data/none", "").await;
    assert!(none.header("cache-status").contains("hit"), "{none:?}");
    the_page_shows_what_the_cache_does(&node).await;
    let purged = node.wharf(["purge", "pier", "--tag", "data"]).await;
    assert!(purged.status.success(), "{purged:?}");
    // Once more than for the first, and for the browser's variant.
    assert!(asked("/data/edge").await > 1);
    let me = asked("/me").await;
    assert_eq!(asked("/me").await, me + 1);
    node.says("origin | \"GET /data/edge").await;

    // It runs no longer than what needs it.
    node.stop().await;
    assert!(std::net::TcpStream::connect(format!("127.0.0.1:{port}")).is_err());
}
