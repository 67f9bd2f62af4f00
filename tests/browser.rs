//! A distribution as a browser sees it: Chromium, over TLS and QUIC.
//!
//! Chromium is large, so these tests run only when they are asked for:
//!
//! ```console
//! # apt-get install chromium
//! $ cargo test --test integration browser:: -- --ignored
//! ```

use std::{
    convert::Infallible, net::SocketAddr, path::Path, process::Stdio, sync::Arc, time::Duration,
};

use crate::support::{Node, Reply, aws::python_with};
use axum::{
    Router,
    body::Body,
    http::{StatusCode, header},
    response::{Html, IntoResponse},
    routing::{any, get, post},
};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use http::Method;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use rcgen::PublicKeyData as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::TcpListener,
    process::{Child, Command},
    sync::{Notify, mpsc},
    time::timeout,
};
use wharf::ingress::{CertificateSource, TlsConfig};

/// How long Chromium may take to start and do everything; far more than it does.
const PATIENCE: Duration = Duration::from_secs(90);

/// The hosts of the distribution; the second is another origin to a page of the first.
const HOSTS: [&str; 2] = ["site.example", "other.example"];

/// A site's server, and what pages post to it.
struct Origin {
    address: SocketAddr,
    seen: mpsc::UnboundedReceiver<Value>,
}

impl Origin {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, seen) = mpsc::unbounded_channel();
        let go = Arc::new(Notify::new());
        let told = Arc::clone(&go);
        let large: Vec<_> = (0..5000).map(|number| json!({"number": number})).collect();
        let large = Bytes::from(serde_json::to_vec(&large).unwrap());
        let kept = (header::CACHE_CONTROL, "max-age=600");
        let json = (header::CONTENT_TYPE, "application/json");
        let router = Router::new()
            .route("/", get(async || Html(include_str!("browser/page.html"))))
            .route(
                "/large.json",
                get(async move || ([kept, json, (header::ETAG, "\"one\"")], large)),
            )
            .route(
                "/letters",
                get(async || ([(header::CACHE_CONTROL, "max-age=600")], "abcdefgh")),
            )
            .route("/stream", get(async move || streamed(told)))
            .route("/go", post(async move || go.notify_one()))
            .route("/length", any(length))
            .route(
                "/cookie",
                get(async || ([(header::SET_COOKIE, "visit=1; Secure")], "")),
            )
            .route(
                "/seen",
                post(async move |body: Bytes| {
                    let _gone = sender.send(serde_json::from_slice(&body).unwrap());
                }),
            );
        tokio::spawn(async move {
            let builder = Builder::new(TokioExecutor::new());
            while let Ok((stream, _)) = listener.accept().await {
                let service = TowerToHyperService::new(router.clone());
                let serving = builder.serve_connection(TokioIo::new(stream), service);
                tokio::spawn(serving.into_owned());
            }
        });
        Self { address, seen }
    }
}

/// How long a request's body is.
async fn length(body: Bytes) -> impl IntoResponse {
    (
        [("x-edge", "seen"), ("x-hidden", "unseen")],
        body.len().to_string(),
    )
}

/// A body whose end comes when somebody has its beginning.
fn streamed(go: Arc<Notify>) -> impl IntoResponse {
    let pieces = futures::stream::unfold(0, move |number| {
        let go = Arc::clone(&go);
        async move {
            let piece = match number {
                0 => "the beginning",
                1 => {
                    go.notified().await;
                    ", and the end"
                }
                _ => return None,
            };
            Some((Ok::<_, Infallible>(Bytes::from(piece)), number + 1))
        }
    });
    (
        StatusCode::OK,
        [(header::CACHE_CONTROL, "no-store")],
        Body::from_stream(pieces),
    )
}

/// A server of WebSockets. It ends when dropped.
async fn websockets() -> (Child, u64) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tunnels");
    let mut server = Command::new(python_with(&format!("{folder}/requirements.txt")))
        .arg(format!("{folder}/origin.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut said = BufReader::new(server.stdout.take().unwrap()).lines();
    let line = timeout(PATIENCE, said.next_line()).await.unwrap().unwrap();
    let ports: Value = serde_json::from_str(&line.unwrap()).unwrap();
    (server, ports["websocket"].as_u64().unwrap())
}

/// Writes a certificate for [`HOSTS`]. What Chromium knows its key by.
fn certify(folder: &Path) -> String {
    let made = rcgen::generate_simple_self_signed(HOSTS.map(str::to_owned)).unwrap();
    let write = |name: &str, text: String| std::fs::write(folder.join(name), text).unwrap();
    write("site.example.crt", made.cert.pem());
    write("site.example.key", made.signing_key.serialize_pem());
    let key = made.signing_key.subject_public_key_info();
    BASE64_STANDARD.encode(Sha256::digest(key))
}

/// Chromium on a page. It ends when dropped.
fn visit(url: &str, key: &str, profile: &Path, more: &[String]) -> Child {
    let program = std::env::var("CHROMIUM").unwrap_or_else(|_| "chromium".to_owned());
    let mut command = Command::new(&program);
    command
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
        ])
        .args([
            "--disable-background-networking",
            "--disable-component-update",
        ])
        .arg("--host-resolver-rules=MAP *.example 127.0.0.1")
        .arg(format!("--ignore-certificate-errors-spki-list={key}"))
        .arg(format!("--user-data-dir={}", profile.display()))
        .args(["--remote-debugging-port=0"]) // it stays open
        .args(more)
        .arg(url)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    command
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}; CHROMIUM says where another one is"))
}

#[tokio::test]
#[ignore = "it needs Chromium"]
async fn a_page_finds_everything_as_pages_do() {
    finds_everything("h2", |_| Vec::new()).await;
}

#[tokio::test]
#[ignore = "it needs Chromium"]
async fn a_page_finds_everything_over_http3() {
    finds_everything("h3", |port| {
        vec![format!("--origin-to-force-quic-on=site.example:{port}")]
    })
    .await;
}

/// Opens the page over `protocol`, with more arguments for Chromium by the node's port.
async fn finds_everything(protocol: &str, more: impl Fn(u16) -> Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let key = certify(folder.path());
    let certificates = CertificateSource::Folder(folder.path().to_owned());
    let node = Node::start_with(|config| {
        let tls = TlsConfig {
            http3: protocol == "h3",
            ..TlsConfig::new(certificates)
        };
        config.https = Some((([127, 0, 0, 1], 0).into(), tls));
    })
    .await;
    let port = node.https.unwrap().port();
    let mut origin = Origin::start().await;
    let (_server, chat) = websockets().await;
    let server = |port: u64| json!({"servers": [{"url": format!("http://127.0.0.1:{port}")}], "private": true});
    let site = json!({
        "name": "site",
        "hosts": HOSTS,
        "origins": {"main": server(origin.address.port().into()), "chat": server(chat)},
        "behaviours": [{"path": "/chat", "target": {"origin": "chat"}, "websockets": true}],
        "default": {
            "target": {"origin": "main"},
            "methods": ["GET", "POST", "PUT", "DELETE"],
            "compress": {"codings": ["br"]},
            "response_headers": {
                "security": {"content_security_policy": "script-src 'unsafe-inline' 'self'"},
                "cors": {
                    "AllowOrigins": [format!("https://site.example:{port}")],
                    "AllowMethods": ["PUT"],
                    "AllowHeaders": ["x-token"],
                    "ExposeHeaders": ["x-edge"],
                },
            },
        },
    });
    let put = node.authorized(Method::PUT, "/wharf/v1/distributions/site");
    let reply = Reply::of(put.json(&site)).await;
    assert_eq!(reply.status(), 204, "{reply:?}");

    let profile = tempfile::tempdir().unwrap();
    let url = format!("https://site.example:{port}/");
    let mut browser = visit(&url, &key, profile.path(), &more(port));
    let seen = timeout(PATIENCE, origin.seen.recv())
        .await
        .unwrap()
        .unwrap();
    browser.kill().await.unwrap();
    assert_eq!(
        seen,
        json!({
            "protocol": protocol,
            "compressed": {"coding": "br", "items": 5000, "smaller": true},
            "revalidated": {"status": 200, "items": 5000, "small": true},
            "range": [206, "bytes 2-4/8", "cde"],
            "streamed": ["the beginning", ", and the end"],
            "posted": "1500000",
            "cookies": "visit=1",
            "aborted": "AbortError",
            "allowed": ["4", "seen", null],
            "forbidden": "TypeError",
            "policy": "script-src-elem",
            "websocket": {
                "path": "/chat",
                "subprotocol": "chat.v2",
                "echo": "hello from a page",
                "closed": [4001, "as you wish"],
            },
        })
    );
    node.stop().await;
}
