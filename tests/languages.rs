//! The examples in other languages than Rust do what their READMEs say.
//!
//! They are built with what `.ci/toolchains` installs, so these tests are behind the feature `languages`:
//!
//! ```console
//! $ .ci/toolchains all
//! $ cargo test --features languages --test languages
//! ```

#![expect(
    clippy::unwrap_used,
    reason = "what fails in a test's own work fails the test"
)]

mod process;

use process::{App, Node, Reply};
use serde_json::{Value, json};

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
async fn c_greets() {
    greets("c").await;
}

#[tokio::test]
async fn go_greets() {
    greets("go").await;
}

#[tokio::test]
async fn javascript_greets() {
    greets("js").await;
}

#[tokio::test]
async fn python_greets() {
    greets("python").await;
}

#[tokio::test]
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
