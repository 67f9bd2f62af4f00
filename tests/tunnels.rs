//! WebSockets and gRPC through a distribution: real clients on one side of a node, real servers on the other.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::LazyLock,
    time::Duration,
};

use crate::support::{Node, Reply, aws::python_with, eventually, guests};
use http::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    process::{Child, Command},
    time::timeout,
};
use wharf::{
    ingress::{CertificateSource, TlsConfig},
    model::FunctionConfiguration,
    telemetry::access::{AccessFormat, AccessLogSettings, Destination},
};

const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tunnels");

/// How long a client may take; far more than it does.
const PATIENCE: Duration = Duration::from_secs(60);

/// A Python with the clients and servers.
static PYTHON: LazyLock<PathBuf> =
    LazyLock::new(|| python_with(&format!("{HERE}/requirements.txt")));

/// A server of WebSockets and gRPC. It ends when dropped.
struct Origin {
    websocket: u64,
    grpc: u64,
    _server: Child,
}

impl Origin {
    async fn start() -> Self {
        let mut server = Command::new(&*PYTHON)
            .arg(format!("{HERE}/origin.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut said = BufReader::new(server.stdout.take().unwrap()).lines();
        let line = timeout(PATIENCE, said.next_line()).await.unwrap().unwrap();
        let ports: Value = serde_json::from_str(&line.unwrap()).unwrap();
        Self {
            websocket: ports["websocket"].as_u64().unwrap(),
            grpc: ports["grpc"].as_u64().unwrap(),
            _server: server,
        }
    }
}

/// What a script saw.
async fn seen(script: &str, arguments: &[&str]) -> Value {
    let mut command = Command::new(&*PYTHON);
    command
        .arg(Path::new(HERE).join(script))
        .args(arguments)
        .kill_on_drop(true);
    let output = timeout(PATIENCE, command.output()).await.unwrap().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {errors}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Puts a distribution in front of an origin on this machine, changed by `change`.
async fn put(node: &Node, port: u64, change: impl FnOnce(&mut Value)) {
    let mut site = json!({
        "name": "site",
        "hosts": ["site.example"],
        "origins": {"main": {
            "servers": [{"url": format!("http://127.0.0.1:{port}")}],
            "private": true,
        }},
        "behaviours": [],
        "default": {"target": {"origin": "main"}, "websockets": true},
    });
    change(&mut site);
    let put = node.authorized(Method::PUT, "/wharf/v1/distributions/site");
    let reply = Reply::of(put.json(&site)).await;
    assert_eq!(reply.status(), 204, "{reply:?}");
}

async fn websocket(url: &str, address: SocketAddr, more: &[&str]) -> Value {
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    let arguments = [&[url, &host, &port], more].concat();
    seen("websocket.py", &arguments).await
}

#[tokio::test]
async fn a_websocket_passes_both_ways_until_either_end_closes_it() {
    let (origin, node) = (Origin::start().await, Node::start().await);
    node.function(
        "probe",
        guests::HOOK_PROBE,
        FunctionConfiguration::default(),
    )
    .await;
    put(&node, origin.websocket, |site| {
        site["default"]["hooks"] = json!({
            "viewer_request": [{"function": "probe"}],
            "viewer_response": [{"function": "probe"}],
        });
    })
    .await;
    let seen = websocket("ws://site.example/hook/cookie?room=1", node.http, &[]).await;
    assert_eq!(
        seen,
        json!({
            "hello": {
                "path": "/hook/cookie?room=1",
                "host": format!("127.0.0.1:{}", origin.websocket),
                "forwarded_for": "127.0.0.1",
                "hook": "a",
                "loop": true,
                "subprotocol": "chat.v2",
            },
            "subprotocol": "chat.v2",
            "request_id": true,
            "large": true,
            "order": true,
            "closed": [4001, "as you wish"],
            "broken": true,
        })
    );
    // What an origin declines is an answer like any other, with response hooks.
    let seen = websocket("ws://site.example/closed", node.http, &[]).await;
    assert_eq!(seen, json!({"status": 403, "body": "members only\n"}));
    eventually(async || (node.metric("wharf_http_websockets").await == 0.0).then_some(())).await;
}

#[tokio::test]
async fn a_websocket_passes_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["site.example".to_owned()]).unwrap();
    let chain = folder.path().join("site.crt");
    std::fs::write(&chain, made.cert.pem()).unwrap();
    std::fs::write(
        folder.path().join("site.key"),
        made.signing_key.serialize_pem(),
    )
    .unwrap();
    let certificates = CertificateSource::Folder(folder.path().to_owned());
    let origin = Origin::start().await;
    let node = Node::start_with(|config| {
        config.https = Some((([127, 0, 0, 1], 0).into(), TlsConfig::new(certificates)));
    })
    .await;
    put(&node, origin.websocket, |_| {}).await;
    let ca = chain.to_str().unwrap();
    let seen = websocket("wss://site.example/chat", node.https.unwrap(), &[ca]).await;
    assert_eq!(
        (&seen["large"], &seen["closed"]),
        (&json!(true), &json!([4001, "as you wish"])),
        "{seen}"
    );
}

#[tokio::test]
async fn what_asks_for_a_websocket_passes_the_gate_first() {
    let (origin, node) = (Origin::start().await, Node::start().await);
    put(&node, origin.websocket, |site| {
        site["default"]["access"] = json!({"deny": ["127.0.0.0/8"]});
    })
    .await;
    let seen = websocket("ws://site.example/chat", node.http, &[]).await;
    assert_eq!(seen["status"], 403, "{seen}");
    assert!(seen["body"].as_str().unwrap().contains("forbidden"));
}

/// Sends `request` and gives back the connection and the head of the answer.
async fn answered(node: &Node, request: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(node.http).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = timeout(PATIENCE, stream.read_u8()).await.unwrap();
        head.push(byte.unwrap_or_else(|error| {
            panic!("{error} after {}", String::from_utf8_lossy(&head));
        }));
    }
    (stream, String::from_utf8(head).unwrap())
}

const ASKING: &str = "GET /chat HTTP/1.1\r\nhost: site.example\r\nconnection: keep-alive, Upgrade\r\n\
    upgrade: websocket\r\nsec-websocket-protocol: chat.v2\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";

#[tokio::test]
async fn nothing_else_is_switched_to() {
    let (origin, node) = (Origin::start().await, Node::start().await);
    put(&node, origin.websocket, |_| {}).await;
    for request in [
        ASKING.replace("websocket\r\n", "h2c\r\n"),
        ASKING.replace("Upgrade", "close"),
        ASKING.replace("HTTP/1.1", "HTTP/1.0"),
        ASKING.replace("GET", "POST") + "content-length: 2\r\n",
        ASKING.to_owned() + "content-length: 2\r\n",
    ] {
        let (_, head) = answered(&node, &(request.clone() + "\r\n{}")).await;
        let status = head.split(' ').nth(1).unwrap();
        // The origin takes nothing but WebSockets.
        assert!(
            ["400", "405", "426", "502"].contains(&status),
            "{request}{head}"
        );
    }
}

#[tokio::test]
async fn a_tunnel_ends_with_its_node_and_when_nothing_moves() {
    let (origin, node) = (Origin::start().await, Node::start().await);
    put(&node, origin.websocket, |site| {
        site["origins"]["main"]["timeouts"] = json!({"idle": {"secs": 1, "nanos": 0}});
    })
    .await;
    let (mut idle, head) = answered(&node, &format!("{ASKING}\r\n")).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let mut rest = Vec::new();
    let end = timeout(PATIENCE, idle.read_to_end(&mut rest)).await;
    assert!(end.is_ok());

    put(&node, origin.websocket, |_| {}).await;
    let (mut open, head) = answered(&node, &format!("{ASKING}\r\n")).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert_eq!(node.metric("wharf_http_websockets").await, 1.0);
    // The grace of a test's node is a second.
    timeout(PATIENCE, node.stop()).await.unwrap();
    let end = timeout(PATIENCE, open.read_to_end(&mut rest)).await;
    assert!(end.is_ok());
}

/// How a request for this path ended, as the access log has it.
async fn logged(node: &Node, path: &str) -> Value {
    let log = node.data().join("access.log");
    eventually(async || {
        let text = std::fs::read_to_string(&log).unwrap();
        let mut lines = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.find(|line| line["target"] == path)
    })
    .await["outcome"]
        .clone()
}

#[tokio::test]
async fn the_access_log_says_how_a_tunnel_ended() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let origin = Origin::start().await;
    let node = Node::start_in(folder, |config| {
        config.access_log = Some(AccessLogSettings {
            destination: Destination::File(log),
            format: AccessFormat::Json,
        });
    })
    .await;
    let open = async |path: &str| {
        let request = format!("{}\r\n", ASKING.replace("/chat", path));
        let (stream, head) = answered(&node, &request).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        stream
    };
    let end = async |mut stream: TcpStream| {
        let mut rest = Vec::new();
        let end = timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        assert!(end.is_ok(), "{rest:?}");
    };

    put(&node, origin.websocket, |_| {}).await;
    let mut stream = open("/closes").await;
    // Text frames and frames of the protocol, masked with zeros: what makes the origin close, and what answers that it does.
    stream.write_all(b"\x81\x85\0\0\0\0close").await.unwrap();
    stream.write_all(b"\x88\x82\0\0\0\0\x0f\xa1").await.unwrap();
    end(stream).await;
    assert_eq!(logged(&node, "/closes").await, "ok");

    let stream = open("/resets").await;
    stream.set_zero_linger().unwrap();
    drop(stream);
    assert_eq!(logged(&node, "/resets").await, "cancelled");

    put(&node, origin.websocket, |site| {
        site["origins"]["main"]["timeouts"] = json!({"idle": {"secs": 1, "nanos": 0}});
    })
    .await;
    end(open("/idles").await).await;
    assert_eq!(logged(&node, "/idles").await, "origin_timeout");
}

#[tokio::test]
async fn a_client_that_asked_for_an_upgrade_in_vain_is_told_the_end() {
    let (origin, node) = (Origin::start().await, Node::start().await);
    put(&node, origin.websocket, |_| {}).await;
    let request = ASKING
        .replace("/chat", "/closed")
        .replace("keep-alive", "close");
    let (mut stream, head) = answered(&node, &format!("{request}\r\n")).await;
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    let mut rest = String::new();
    let end = timeout(PATIENCE, stream.read_to_string(&mut rest)).await;
    assert!(
        end.unwrap().is_ok() && rest.contains("members only"),
        "{rest}"
    );
}

#[tokio::test]
async fn grpc_passes_with_its_trailers_and_streams() {
    let (origin, node) = (Origin::start().await, Node::start().await);
    put(&node, origin.grpc, |site| {
        site["origins"]["main"]["protocol"] = json!("http2");
        site["default"]["methods"] = json!(["POST"]);
    })
    .await;
    let seen = seen("calls.py", &["site.example", &node.http.to_string()]).await;
    assert_eq!(
        seen,
        json!({
            "echo": "002068656c6c6f20ff",
            "initial": "early",
            "trailing": {"x-trailing": "late", "x-bytes-bin": "00ff"},
            "large": true,
            "chat": ["ONE", "TWO", "THREE"],
            "end": true,
            "Fail": ["RESOURCE_EXHAUSTED", "no more of it: 100 %", "late"],
            "None": ["UNIMPLEMENTED", "Method not found!", null],
            "many": true,
        })
    );
}

#[tokio::test]
async fn what_a_client_sends_ahead_of_the_answer_is_not_lost() {
    let (origin, node) = (Origin::start().await, Node::start().await);
    put(&node, origin.websocket, |_| {}).await;
    // A text frame of two letters, masked with zeros.
    let bytes = [ASKING.as_bytes(), b"\r\n", b"\x81\x82\0\0\0\0hi"].concat();
    let mut stream = TcpStream::connect(node.http).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"\x81\x02hi") {
        let read = timeout(PATIENCE, stream.read_buf(&mut seen)).await;
        assert_ne!(
            read.unwrap().unwrap(),
            0,
            "{}",
            String::from_utf8_lossy(&seen)
        );
    }
    assert!(seen.starts_with(b"HTTP/1.1 101 "));
}
