//! `wharf up`: an app is built, served, and built again while it is used.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use crate::process::{App, Node, eventually};

const SOURCE: &str = "src/lib.rs";

/// A client that asks and asks: how many answers it got, and the first that was none.
async fn hammer(
    url: String,
    end: Arc<AtomicBool>,
    answers: Arc<AtomicUsize>,
) -> Result<(), String> {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    while !end.load(SeqCst) {
        let answered = async {
            let response = client.get(&url).send().await?.error_for_status()?;
            response.text().await
        };
        let text = answered.await.map_err(|error| format!("{error:?}"))?;
        if !text.ends_with("world!\n") {
            return Err(text);
        }
        answers.fetch_add(1, SeqCst);
    }
    Ok(())
}

#[tokio::test]
async fn a_change_is_swapped_in_without_a_failed_request_and_a_broken_build_changes_nothing() {
    let app = App::example("hello");
    let mut node = Node::up(app.path()).await;
    assert_eq!(node.get("/").await.text(), "Hello, world!\n");
    assert_eq!(node.get("/?name=Ada").await.text(), "Hello, Ada!\n");

    let (end, answers) = (Arc::default(), Arc::default());
    let url = format!("http://{}/", node.http);
    let hammering = tokio::spawn(hammer(url, Arc::clone(&end), Arc::clone(&answers)));
    let greets = async |greeting: &str| node.get("/").await.text() == greeting;

    app.edit(SOURCE, "\"Hello, world!", "\"Good evening, world!");
    eventually("the change is served", async || {
        greets("Good evening, world!\n").await
    })
    .await;

    app.edit(SOURCE, "Ok(Response", "Okay(Response");
    node.says("the version before serves on").await;
    let said = node.said();
    assert!(said.contains("cannot find function"), "{said}");
    assert!(
        said.contains("the function `hello` was not built"),
        "{said}"
    );
    assert!(greets("Good evening, world!\n").await);

    app.edit(SOURCE, "Okay(Response", "Ok(Response");
    app.edit(SOURCE, "\"Good evening, world!", "\"Good night, world!");
    eventually("the mended version is served", async || {
        greets("Good night, world!\n").await
    })
    .await;

    end.store(true, SeqCst);
    hammering.await.unwrap().unwrap();
    assert!(answers.load(SeqCst) > 100, "{answers:?}");

    node.signal("INT");
    assert_eq!(node.ended().await.code(), Some(0), "{}", node.said());
}

/// An app whose build takes a second, counts itself and writes into its own source.
fn slow_build(generated: &str) -> App {
    let app = App::new(
        "name = 'a'\n[functions.a]\nbuild = 'sh build.sh'\ncomponent = 'a.wasm'\n\
         [[routes]]\npath = '/text'\nfunction = 'a'\n# {hostile}",
    );
    let manifest = std::fs::read_to_string(app.path().join("wharf.toml")).unwrap();
    let (_, hostile) = manifest.split_once("# ").unwrap();
    let build = format!(
        "set -e\nread=$(cat text)\nsleep 1\nmkdir -p gen\n{generated} > gen/made\n\
         cp {hostile} a.wasm\necho \"built $read\" >&2\n"
    );
    std::fs::write(app.path().join("build.sh"), build).unwrap();
    std::fs::write(app.path().join("text"), "one").unwrap();
    app
}

#[tokio::test]
async fn a_change_during_a_build_is_built_after_it_and_what_the_build_writes_is_none() {
    let app = slow_build("cat text");
    let node = Node::up(app.path()).await;
    let builds = || node.said().matches("built ").count();
    assert_eq!(builds(), 1, "{}", node.said());
    app.edit("text", "one", "two");
    tokio::time::sleep(Duration::from_millis(700)).await;
    app.edit("text", "two", "three");
    node.says("built three").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    // `gen/made` is another after a build of another text, once each.
    assert!(builds() <= 4, "{}", node.said());
    let settled = builds();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(builds(), settled, "{}", node.said());
    node.stop().await;
}

#[tokio::test]
async fn a_build_that_changes_its_own_source_each_time_ends() {
    let app = slow_build("date +%N");
    let node = Node::up(app.path()).await;
    app.edit("text", "one", "two");
    node.says("the build changes its own source").await;
    // And what is changed then is still built.
    app.edit("text", "two", "three");
    node.says("built three").await;
    node.stop().await;
}

#[tokio::test]
async fn a_manifest_that_changes_or_breaks_is_like_source_that_does() {
    let app = App::new(
        "name = 'a'\n[functions.a]\ncomponent = '{hostile}'\n\
         [[routes]]\npath = '/one'\nresponse = { body = 'one' }",
    );
    let node = Node::up(app.path()).await;
    assert_eq!(node.get("/one").await.text(), "one");
    assert_eq!(node.get("/two").await.status, 404);

    app.edit("wharf.toml", "'/one'", "'/two'");
    eventually("the new route is served", async || {
        node.get("/two").await.text() == "one"
    })
    .await;
    assert_eq!(node.get("/one").await.status, 404);

    app.edit("wharf.toml", "response =", "respond =");
    node.says("the version before serves on").await;
    let said = node.said();
    assert!(
        said.contains("wharf.toml") && said.contains("respond"),
        "{said}"
    );
    assert_eq!(node.get("/two").await.text(), "one");
    node.stop().await;
}

#[tokio::test]
async fn an_interrupt_lets_a_request_in_flight_finish() {
    let app = App::new(
        "name = 'a'\n[functions.a]\ncomponent = '{hostile}'\ntimeout = '30 s'\n\
         [[routes]]\npath = '/{*rest}'\nfunction = 'a'",
    );
    let mut node = Node::up(app.path()).await;
    // An answer in two parts: the head has come, so the request is in flight for certain.
    let slow = node.request("GET", "/slow-body?bytes=20&ms=100");
    let slow = slow.send().await.unwrap();
    assert_eq!(slow.status(), 200);
    node.signal("INT");
    let read = tokio::spawn(slow.bytes());
    assert_eq!(node.ended().await.code(), Some(0), "{}", node.said());
    assert_eq!(read.await.unwrap().unwrap().len(), 20);
}

#[tokio::test]
async fn a_second_interrupt_ends_it_at_once() {
    let app = App::new(
        "name = 'a'\n[functions.a]\ncomponent = '{hostile}'\ntimeout = '30 s'\n\
         [[routes]]\npath = '/{*rest}'\nfunction = 'a'",
    );
    let mut node = Node::up(app.path()).await;
    let slow = node.request("GET", "/slow-body?bytes=1000&ms=100");
    let slow = slow.send().await.unwrap();
    node.signal("INT");
    tokio::time::sleep(Duration::from_millis(500)).await;
    node.signal("INT");
    assert_eq!(node.ended().await.code(), Some(1), "{}", node.said());
    slow.bytes().await.unwrap_err();
}

#[tokio::test]
async fn an_app_that_cannot_be_built_is_not_served() {
    let app = App::new("name = 'a'\n[functions.a]\nbuild = 'exit 3'\ncomponent = 'a.wasm'");
    let output = crate::process::wharf()
        .args(["up", "--http", "127.0.0.1:0", "--api", "127.0.0.1:0"])
        .arg(app.path())
        .output()
        .await
        .unwrap();
    let said = crate::process::failed(output);
    assert!(said.contains("`exit 3` failed"), "{said}");
    assert!(!said.contains("Serving"), "{said}");
}
