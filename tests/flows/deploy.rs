//! `wharf serve`, and the verbs that talk to it.

use std::{process::Stdio, time::Duration};

use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    time::timeout,
};

use crate::process::{App, Node, PATIENCE, done, eventually, failed, guest, json_lines};

/// What `wharf functions` lists, by name.
async fn names(node: &Node) -> Vec<String> {
    let listed = done(node.wharf(["functions", "--output", "json"]).await);
    json_lines(&listed)
        .iter()
        .map(|function| function["name"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn one_component_is_deployed_listed_and_removed() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::serve(data.path()).await;
    let empty = node.wharf(["functions"]).await;
    assert!(String::from_utf8_lossy(&empty.stderr).contains("no function is deployed"));
    assert_eq!(done(empty), "");

    let hostile = guest("hostile");
    let wasm = hostile.to_str().unwrap();
    let deployed = done(
        node.wharf(["deploy", "--wasm", wasm, "--name", "one"])
            .await,
    );
    let url = format!("http://one.localhost:{}/", node.http.port());
    assert_eq!(deployed, format!("one\t{url}\n"));
    assert_eq!(node.get_at("one.localhost", "/").await.text(), "hello\n");

    let arguments = [
        "deploy", "--wasm", wasm, "--name", "two", "--output", "json",
    ];
    let deployed = json_lines(&done(node.wharf(arguments).await));
    assert_eq!(deployed[0]["name"], "two");
    assert_eq!(deployed[0]["kind"], "http-p2");
    assert_eq!(deployed[0]["version"], "$LATEST");

    let listed = done(node.wharf(["functions"]).await);
    assert_eq!(listed.lines().count(), 2, "{listed}");
    assert!(listed.contains(&url), "{listed}");
    assert_eq!(names(&node).await, ["one", "two"]);

    done(node.wharf(["functions", "--remove", "one"]).await);
    assert_eq!(names(&node).await, ["two"]);
    assert_eq!(node.get_at("one.localhost", "/").await.status, 404);
    let again = failed(node.wharf(["functions", "--remove", "one"]).await);
    assert!(again.contains("there is no function `one`"), "{again}");
    node.stop().await;
}

#[tokio::test]
async fn an_app_is_deployed_as_one_and_its_functions_that_are_gone_are_removed() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::serve(data.path()).await;
    let app = App::new(
        "name = 'shop'\n\
         [functions.cart]\ncomponent = '{hostile}'\n\
         [functions.price]\ncomponent = '{event_probe}'\n\
         [[routes]]\npath = '/cart'\nfunction = 'cart'\n\
         [[routes]]\npath = '/old'\nresponse = { body = 'old' }",
    );
    node.deploy(app.path()).await;
    assert_eq!(names(&node).await, ["cart", "price"]);
    assert_eq!(node.get("/old").await.text(), "old");

    // Another's functions and another app's are not touched.
    let wasm = guest("hostile");
    let wasm = wasm.to_str().unwrap();
    done(
        node.wharf(["deploy", "--wasm", wasm, "--name", "alone"])
            .await,
    );

    app.manifest(
        "name = 'shop'\n\
         [functions.cart]\ncomponent = '{hostile}'\n\
         [[routes]]\npath = '/{*rest}'\nfunction = 'cart'",
    );
    node.deploy(app.path()).await;
    assert_eq!(names(&node).await, ["alone", "cart"]);
    assert_eq!(node.get("/").await.text(), "hello\n");
    assert_eq!(node.get("/old").await.status, 404);
    assert_ne!(node.get("/old").await.header("x-wharf-error"), "no_route");
    assert!(node.invoke("price", "{}").await.is_err());
    node.stop().await;
}

#[tokio::test]
async fn a_deployment_that_fails_changes_nothing() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::serve(data.path()).await;
    let before = "name = 'shop'\n\
         [functions.cart]\ncomponent = '{hostile}'\n\
         [[routes]]\npath = '/{*rest}'\nfunction = 'cart'\n";
    let app = App::new(before);
    node.deploy(app.path()).await;
    let listed = names(&node).await;

    std::fs::write(app.path().join("core.wasm"), b"\0asm\x01\0\0\0").unwrap();
    std::fs::write(app.path().join("text.wasm"), b"hello").unwrap();
    let missing = r#"(component (import "my:own/thing@1.0.0" (instance (export "f" (func)))))"#;
    let missing = wat::parse_str(missing).unwrap();
    std::fs::write(app.path().join("missing.wasm"), missing).unwrap();
    let functions = "[functions.more]\ncomponent = '{event_probe}'\n";
    for (bad, reason) in [
        ("[functions.z]\ncomponent = 'core.wasm'", "function `z`"),
        ("[functions.z]\ncomponent = 'text.wasm'", "function `z`"),
        (
            "[functions.z]\ncomponent = 'missing.wasm'",
            "my:own/thing@1.0.0",
        ),
        (
            "[functions.z]\ncomponent = 'none.wasm'",
            "there is no component",
        ),
        (
            "[functions.z]\ncomponent = '{hostile}'\nsecrets = { KEY = { env = 'NOT_SET_ANYWHERE' } }",
            "NOT_SET_ANYWHERE",
        ),
        (
            "[functions.z]\ncomponent = '{hostile}'\nsecrets = { KEY = { file = 'no/such/file' } }",
            "no/such/file",
        ),
        (
            "[functions.z]\ncomponent = '{hostile}'\nmemory = '1 TB'",
            "memory",
        ),
        (
            "[functions.z]\ncomponent = '{hostile}'\nfiles = [{ source = 'no-such-folder', mount = '/f' }]",
            "no-such-folder",
        ),
    ] {
        let routes = "\n[[routes]]\npath = '/{*rest}'\nresponse = { body = 'new' }\n";
        app.manifest(&format!("name = 'shop'\n{functions}{bad}{routes}"));
        let output = node
            .wharf(["deploy".as_ref(), app.path().as_os_str()])
            .await;
        let said = failed(output);
        assert!(said.contains(reason), "{bad}: {said}");
        assert_eq!(names(&node).await, listed, "{bad}");
        assert_eq!(node.get("/").await.text(), "hello\n", "{bad}");
    }

    // Nor does one app take another's function.
    app.manifest("name = 'other'\n[functions.cart]\ncomponent = '{event_probe}'");
    let output = node
        .wharf(["deploy".as_ref(), app.path().as_os_str()])
        .await;
    let said = failed(output);
    assert!(said.contains("belongs to the app `shop`"), "{said}");
    assert_eq!(node.get("/").await.text(), "hello\n");
    node.stop().await;
}

#[tokio::test]
async fn an_event_comes_from_the_command_line_a_file_or_standard_input() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::serve(data.path()).await;
    let wasm = guest("event_probe");
    let wasm = wasm.to_str().unwrap();
    done(
        node.wharf(["deploy", "--wasm", wasm, "--name", "probe"])
            .await,
    );

    assert_eq!(
        node.invoke("probe", r#"{"n":1}"#).await.unwrap(),
        "{\"n\":1}\n"
    );
    assert_eq!(done(node.wharf(["invoke", "probe"]).await), "{}\n");
    let file = data.path().join("event.json");
    std::fs::write(&file, r#"{"n":2}"#).unwrap();
    let from_file = format!("@{}", file.display());
    assert_eq!(
        node.invoke("probe", &from_file).await.unwrap(),
        "{\"n\":2}\n"
    );
    let arguments = ["invoke", "probe", "--payload", "-"];
    let given = node.wharf_given(arguments, br#"{"n":3}"#).await;
    assert_eq!(done(given), "{\"n\":3}\n");

    // What the function answers is JSON already.
    let arguments = [
        "invoke",
        "probe",
        "--payload",
        r#"{"n":4}"#,
        "--output",
        "json",
    ];
    assert_eq!(done(node.wharf(arguments).await), "{\"n\":4}\n");

    let error = node
        .invoke("probe", r#"{"do":"error","type":"Refused"}"#)
        .await;
    let error = error.unwrap_err();
    let (document, said) = error.split_once('\n').unwrap();
    let document: serde_json::Value = serde_json::from_str(document).unwrap();
    let trace = json!(["first line", "second line"]);
    let expected = json!({"errorType": "Refused", "errorMessage": "on purpose", "trace": trace});
    assert_eq!(document, expected);
    assert!(
        said.contains("the function answered with an error"),
        "{said}"
    );

    for (event, error_type) in [
        (r#"{"do":"panic"}"#, "Runtime.ExitError"),
        (r#"{"do":"sleep","ms":60000}"#, "Sandbox.Timedout"),
        (r#"{"do":"memory"}"#, "Runtime.OutOfMemory"),
        (r#"{"do":"bad-json"}"#, "Runtime.BadResponse"),
    ] {
        let error = node.invoke("probe", event).await.unwrap_err();
        assert!(error.contains(error_type), "{event}: {error}");
    }
    let refused = node.invoke("probe", "{").await.unwrap_err();
    assert!(
        refused.contains("Could not parse request body into json"),
        "{refused}"
    );
    let nobody = node.invoke("nobody", "{}").await.unwrap_err();
    assert!(
        nobody
            .contains("Function not found: arn:aws:lambda:us-east-1:000000000000:function:nobody"),
        "{nobody}"
    );
    let no_file = node.invoke("probe", "@no/such/file").await.unwrap_err();
    assert!(no_file.contains("read no/such/file"), "{no_file}");
    node.stop().await;
}

#[tokio::test]
async fn a_log_is_shown_at_the_end_of_an_invocation_afterwards_and_as_it_comes() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::serve(data.path()).await;
    let wasm = guest("event_probe");
    let wasm = wasm.to_str().unwrap();
    done(
        node.wharf(["deploy", "--wasm", wasm, "--name", "probe"])
            .await,
    );

    let log = r#"{"do":"log"}"#;
    let arguments = ["invoke", "probe", "--payload", log, "--log"];
    let output = node.wharf(arguments).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    for text in [
        "START RequestId",
        "to standard output",
        "to standard error",
        "END",
        "REPORT",
    ] {
        assert!(said.contains(text), "{text}: {said}");
    }
    assert_eq!(done(output), "null\n");

    let mut shown = String::new();
    eventually("the log is written", async || {
        shown = done(node.wharf(["logs", "probe"]).await);
        shown.contains("REPORT")
    })
    .await;
    assert!(shown.contains("to standard output"), "{shown}");
    let lines = json_lines(&done(
        node.wharf(["logs", "probe", "--output", "json"]).await,
    ));
    let of = |text: &str| {
        let line = lines.iter().find(|line| line["message"] == text);
        line.unwrap_or_else(|| panic!("{text}: {lines:?}"))
    };
    assert_eq!(of("to standard output")["stream"], "stdout");
    assert_eq!(of("to standard error")["stream"], "stderr");
    assert_eq!(
        of("to standard error")["request_id"],
        of("to standard output")["request_id"]
    );
    let last = done(node.wharf(["logs", "probe", "--last", "1"]).await);
    assert_eq!(last.lines().count(), 1, "{last}");

    let mut following = node.command();
    let mut following = following
        .args(["logs", "probe", "--last", "0", "--follow"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
    let next = async || {
        node.invoke("probe", log).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    // Invoked until the follower has begun to listen, and its first line is here.
    let invoking = async {
        loop {
            next().await;
        }
    };
    let first = tokio::select! {
        line = timeout(PATIENCE, lines.next_line()) => line.unwrap().unwrap().unwrap(),
        () = invoking => unreachable!("it does not end"),
    };
    assert!(first.contains("START RequestId"), "{first}");
    following.kill().await.unwrap();

    let nobody = failed(node.wharf(["logs", "nobody"]).await);
    assert!(nobody.contains("there is no function `nobody`"), "{nobody}");
    // A follower does not keep the node from ending.
    node.stop().await;
}

#[tokio::test]
async fn the_api_wants_its_token() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::serve(data.path()).await;
    let mut wharf = node.command();
    let output = wharf
        .args(["functions", "--token", "-guessed"])
        .output()
        .await
        .unwrap();
    let said = failed(output);
    assert!(said.contains("the API wants a token"), "{said}");
    let token = std::fs::read_to_string(data.path().join("api-token")).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let mut wharf = node.command();
    wharf.args(["functions", "--token", token.trim(), "--data"]);
    done(wharf.arg(elsewhere.path()).output().await.unwrap());
    let mut wharf = node.command();
    wharf.args(["functions", "--data"]).arg(elsewhere.path());
    let said = failed(wharf.output().await.unwrap());
    assert!(
        said.contains("is the node's data folder another one"),
        "{said}"
    );
    node.stop().await;
}

#[tokio::test]
async fn a_verb_without_a_node_says_how_to_start_one() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::serve(data.path()).await;
    let mut wharf = node.command();
    node.stop().await;
    let said = failed(wharf.arg("functions").output().await.unwrap());
    assert!(said.contains("start one with `wharf serve`"), "{said}");
}
