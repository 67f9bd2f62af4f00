//! What is wrong with what a node is given, and how it says so: components, requests to the API, files on its disk.

use std::{fs, path::PathBuf, time::Duration};

use crate::support::{Node, Reply, eventually, guests};
use bytes::Bytes;
use reqwest::Method;
use wharf::model::{Digest, FunctionConfiguration};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_component_is_refused_with_the_reason() {
    let node = Node::start().await;
    let hello = guests::HELLO.bytes();
    let wat = |text: &str| Bytes::from(wat::parse_str(text).unwrap());
    let mut flipped = hello.to_vec();
    let middle = flipped.len() / 2;
    flipped[middle..middle + 64].fill(0xff);
    for (what, component, reason) in [
        ("nothing", Bytes::new(), "empty"),
        (
            "text",
            Bytes::from_static(b"#!/bin/sh\necho hello\n"),
            "not a WebAssembly component",
        ),
        ("cut", hello.slice(..hello.len() / 2), "out of bounds"),
        ("damaged", flipped.into(), ""),
        ("module", wat("(module)"), "is a WebAssembly module"),
        (
            "unable",
            wat("(component)"),
            "exports nothing that Wharf calls",
        ),
        (
            "importer",
            wat(r#"(component (import "acme:rockets/launch" (func)))"#),
            "acme:rockets/launch",
        ),
    ] {
        let refused = node
            .try_function("bad", component, FunctionConfiguration::default())
            .await;
        let message = refused.err().unwrap().to_string();
        assert!(
            message.starts_with("function `bad`: ") && message.contains(reason),
            "{what}: {message}"
        );
    }
    let reply = node.function("good", guests::HELLO, FunctionConfiguration::default());
    assert_eq!(reply.await.get("/").await.text(), "hello\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_deployment_leaves_the_one_before_served() {
    let node = Node::start().await;
    let configuration = FunctionConfiguration::default;
    let hello = node.function("f", guests::HELLO, configuration()).await;
    let refused = node
        .try_function("f", Bytes::from_static(b"nothing"), configuration())
        .await;
    assert!(refused.is_err());
    let out_of_range = FunctionConfiguration {
        timeout: Some(Duration::ZERO),
        ..configuration()
    };
    let refused = node
        .try_function("f", guests::HELLO.bytes(), out_of_range)
        .await;
    let message = refused.err().unwrap().to_string();
    assert!(message.contains("function `f`: timeout"), "{message}");
    assert_eq!(hello.get("/").await.text(), "hello\n");
}

/// The files of a node's folder of artifacts with this extension.
fn artifacts(node: &Node, extension: &str) -> Vec<PathBuf> {
    let folders = fs::read_dir(node.data().join("artifacts")).unwrap();
    folders
        .map(|folder| folder.unwrap().path())
        .filter(|folder| folder.is_dir())
        .flat_map(|folder| fs::read_dir(folder).unwrap())
        .map(|file| file.unwrap().path())
        .filter(|file| file.extension().is_some_and(|found| found == extension))
        .collect()
}

/// Puts another file in the place of one that may be mapped.
fn replace(path: &PathBuf, bytes: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_artifact_never_runs_and_is_made_again() {
    let mut node = Node::start().await;
    let configuration = FunctionConfiguration::default;
    node.function("hello", guests::HELLO, configuration()).await;
    let damages: [fn(&PathBuf); 3] = [
        |artifact| {
            let mut bytes = fs::read(artifact).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            replace(artifact, &bytes);
        },
        |artifact| replace(artifact, b""),
        |artifact| fs::remove_file(artifact).unwrap(),
    ];
    for damage in damages {
        for artifact in artifacts(&node, "cwasm") {
            damage(&artifact);
        }
        // The next node finds them, as it would after a crash of the disk or an update.
        node = Node::start_in(node.stop().await, |_| {}).await;
        let request = || {
            let request = node.request(Method::GET, "/");
            Reply::of(request.header("host", "hello.localhost"))
        };
        let answered = eventually(async || {
            let reply = request().await;
            if reply.error().is_empty() {
                return Some(reply);
            }
            assert_eq!((reply.status(), reply.error()), (500, "internal"));
            None
        });
        assert_eq!(answered.await.text(), "hello\n");
    }

    // A deployment of the same code mends it too.
    let artifact = artifacts(&node, "hash").pop().unwrap();
    replace(&artifact, &[0; 32]);
    node = Node::start_in(node.stop().await, |_| {}).await;
    let hello = node.function("hello", guests::HELLO, configuration()).await;
    assert_eq!(hello.get("/").await.text(), "hello\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_is_for_who_has_the_token() {
    let node = Node::start().await;
    for path in ["/wharf/v1/functions", "/wharf/v1/node", "/metrics", "/any"] {
        for request in [
            node.api_request(Method::GET, path),
            node.api_request(Method::GET, path).bearer_auth("wrong"),
            node.api_request(Method::GET, path).bearer_auth(""),
            node.api_request(Method::GET, path)
                .basic_auth("user", Some("wrong")),
        ] {
            let reply = Reply::of(request).await;
            let found = (reply.status(), reply.json()["error"].clone());
            assert_eq!(found, (401, "unauthorized".into()), "{path}: {reply:?}");
            assert_eq!(reply.header("www-authenticate"), "Bearer realm=\"wharf\"");
        }
    }
    for path in ["/healthz", "/readyz"] {
        let reply = Reply::of(node.api_request(Method::GET, path)).await;
        assert_eq!(reply.status(), 200);
    }
    let known = Reply::of(node.authorized(Method::GET, "/wharf/v1/node")).await;
    assert_eq!(known.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_says_what_is_wrong_with_a_request() {
    let node = Node::start().await;
    let configuration = FunctionConfiguration::default;
    let probe = node
        .function("probe", guests::EVENT_PROBE, configuration())
        .await;
    let digest = Digest::of(b"hello");
    let deployments = "/wharf/v1/deployments";
    let invocations = "/2015-03-31/functions/probe/invocations";
    let deploy = |code: &str| {
        format!(
            r#"{{"app": null, "functions": [{{"name": "x", "code": "{code}", "configuration": {{}}}}]}}"#
        )
    };
    for (method, path, body, status, word, says) in [
        (
            Method::POST,
            deployments,
            "{".to_owned(),
            400,
            "invalid",
            "not a deployment",
        ),
        (
            Method::POST,
            deployments,
            String::new(),
            400,
            "invalid",
            "not a deployment",
        ),
        (
            Method::POST,
            deployments,
            r#"{"functions": [], "speed": 1}"#.to_owned(),
            400,
            "invalid",
            "speed",
        ),
        (
            Method::POST,
            deployments,
            r#"{"functions": [{"name": "a/b"}]}"#.to_owned(),
            400,
            "invalid",
            "a/b",
        ),
        (
            Method::POST,
            deployments,
            deploy("abc"),
            400,
            "invalid",
            "not a deployment",
        ),
        (
            Method::POST,
            deployments,
            deploy(&digest.to_string()),
            400,
            "no_code",
            "upload it first",
        ),
        (
            Method::POST,
            deployments,
            "[".repeat(1_000_000),
            400,
            "invalid",
            "not a deployment",
        ),
        (
            Method::POST,
            deployments,
            " ".repeat((64 << 20) + 1),
            413,
            "too_large",
            "67108864",
        ),
        (
            Method::PUT,
            &format!("/wharf/v1/blobs/{digest}"),
            "not hello".to_owned(),
            400,
            "invalid",
            "send them again",
        ),
        (
            Method::PUT,
            "/wharf/v1/blobs/..%2f..%2fapi-token",
            "x".to_owned(),
            400,
            "invalid",
            "api-token",
        ),
        (
            Method::GET,
            "/wharf/v1/functions/nobody",
            String::new(),
            404,
            "no_function",
            "nobody",
        ),
        (
            Method::DELETE,
            "/wharf/v1/functions/nobody",
            String::new(),
            404,
            "no_function",
            "nobody",
        ),
        (
            Method::GET,
            "/wharf/v1/functions/nobody/logs",
            String::new(),
            404,
            "no_function",
            "nobody",
        ),
        (
            Method::GET,
            "/wharf/v1/functions/probe/logs?last=many",
            String::new(),
            400,
            "invalid",
            "last",
        ),
        (
            Method::GET,
            "/wharf/v2/node",
            String::new(),
            404,
            "no_path",
            "/wharf/v2/node",
        ),
    ] {
        let reply = Reply::of(node.authorized(method.clone(), path).body(body)).await;
        let problem = reply.json();
        let message = problem["message"].as_str().unwrap();
        assert!(
            reply.status() == status && problem["error"] == word && message.contains(says),
            "{method} {path}: {reply:?}"
        );
    }
    // Where it answers as Lambda does, it says so in Lambda's words.
    for (body, says) in [
        (b"{".to_vec(), "EOF"),
        (b"1 2".to_vec(), "trailing characters"),
        (vec![b'"', 0xff, b'"'], "utf-8"),
    ] {
        let reply = Reply::of(node.authorized(Method::POST, invocations).body(body)).await;
        let message = reply.json()["message"].as_str().unwrap().to_owned();
        assert_eq!(
            (reply.status(), reply.header("x-amzn-errortype")),
            (400, "InvalidRequestContentException")
        );
        assert!(message.contains(says), "{message}");
    }
    let whole = format!("\"{}\"", "x".repeat((5 << 20) + 500_000));
    let answer = probe.invoke_bytes(whole.clone()).await;
    // What is a text has no `do`: it is echoed.
    assert_eq!(answer.unwrap().payload, whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_is_too_large_is_refused_while_it_comes() {
    let node = Node::start().await;
    let digest = Digest::of(b"never read");
    let piece = Bytes::from(vec![0; 1 << 20]);
    let pieces = std::iter::repeat_n(piece, 251).map(Ok::<_, std::io::Error>);
    let body = reqwest::Body::wrap_stream(futures::stream::iter(pieces));
    let path = format!("/wharf/v1/blobs/{digest}");
    let reply = Reply::of(node.authorized(Method::PUT, &path).body(body)).await;
    assert_eq!(reply.status(), 413, "{reply:?}");
    assert_eq!(reply.json()["error"], "too_large");
}
