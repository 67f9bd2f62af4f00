//! A whole node: functions and distributions, and what is written of their requests.

use std::{net::SocketAddr, time::Duration};

use http::Method;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use wharf::model::FunctionConfiguration;

use super::{Authority, seen};
use crate::support::{Node, Reply, eventually, guests};

/// An origin that answers every request alike, and may be kept.
async fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut read = Vec::new();
                while stream.read_buf(&mut read).await.is_ok_and(|read| read > 0) {
                    if read.ends_with(b"\r\n\r\n") {
                        read.clear();
                        let answer = b"HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 16\r\n\r\nfrom the origin\n";
                        stream.write_all(answer).await.unwrap();
                    }
                }
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_and_distributions_answer_and_are_logged() {
    let authority = Authority::new();
    authority.issue("all", &["site.example", "echo.localhost"]);
    let logs = tempfile::tempdir().unwrap();
    let log = logs.path().join("access.log");
    let node = Node::start_with(|config| {
        config.https = Some(("127.0.0.1:0".parse().unwrap(), authority.tls()));
        config.access_log = Some(wharf::telemetry::access::AccessLogSettings {
            destination: wharf::telemetry::access::Destination::File(log.clone()),
            format: wharf::telemetry::access::AccessFormat::default(),
        });
    })
    .await;
    node.function("echo", guests::HELLO, FunctionConfiguration::default())
        .await;
    let origin = origin().await;
    let site = json!({
        "name": "site",
        "hosts": ["site.example"],
        "origins": {"main": {
            "servers": [{"url": format!("http://{origin}")}],
            "private": true,
        }},
        "behaviours": [],
        "default": {"target": {"origin": "main"}},
    });
    let put = node.authorized(Method::PUT, "/wharf/v1/distributions/site");
    let reply = Reply::of(put.json(&site)).await;
    assert_eq!(reply.status(), 204, "{reply:?}");

    let https = node.https.unwrap();
    let ca = authority.ca();
    let answers = seen("get", https, &ca, &["echo.localhost", "/"]).await;
    assert_eq!(answers[0]["status"], 200, "{answers:#}");
    assert_eq!(answers[0]["body"], "hello\n");
    assert!(answers[0]["headers"]["x-request-id"].is_string());

    let answers = seen("get", https, &ca, &["site.example", "/x", "/x"]).await;
    for answer in answers.as_array().unwrap() {
        assert_eq!(answer["status"], 200, "{answers:#}");
        assert_eq!(answer["body"], "from the origin\n");
    }
    let status = answers[1]["headers"]["cache-status"].as_str().unwrap();
    assert!(status.contains("hit"), "{answers:#}");

    let lines = eventually(async || {
        let text = std::fs::read_to_string(&log).ok()?;
        let lines: Vec<serde_json::Value> = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        (lines.len() == 3).then_some(lines)
    })
    .await;
    for line in lines {
        assert_eq!(line["protocol"], "HTTP/3.0", "{line}");
        assert_eq!(line["tls"], "TLSv1.3", "{line}");
        assert_eq!(line["status"], 200, "{line}");
    }
    tokio::time::timeout(Duration::from_secs(10), node.stop())
        .await
        .unwrap();
}
