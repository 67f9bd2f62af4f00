//! The listener: certificates, connections, how it ends, and what the other versions say of it.

use std::{net::UdpSocket, sync::Arc, time::Duration};

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use wharf::ingress::{BindError, Server, ServerConfig, TlsConfig};

use super::{Authority, Listening, eventually};

const NO_ERROR: u64 = 0x100;
const REQUEST_REJECTED: u64 = 0x10b;

/// What an answer over TCP says of other ways to the host.
async fn alternative(node: &Listening, version: &str, path: &str) -> Option<String> {
    let mut trusted = rustls::RootCertStore::empty();
    let ca = std::fs::read(node.authority.ca()).unwrap();
    trusted
        .add(CertificateDer::from_pem_slice(&ca).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(trusted)
        .with_no_client_auth();
    config.alpn_protocols = vec![version.into()];
    let stream = TcpStream::connect(node.address).await.unwrap();
    let stream = TlsConnector::from(Arc::new(config))
        .connect("a.example".try_into().unwrap(), stream)
        .await
        .unwrap();
    let stream = TokioIo::new(stream);
    let request = Request::get(format!("https://a.example{path}")).header("host", "a.example");
    let request = request.body(Empty::<Bytes>::new()).unwrap();
    let answer = if version == "h2" {
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream)
            .await
            .unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await.unwrap()
    } else {
        let (mut sender, connection) = http1::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await.unwrap()
    };
    assert_eq!(answer.status(), 200);
    let said = answer.headers().get("alt-svc")?;
    Some(said.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn answers_of_the_other_versions_say_that_there_is_http3() {
    let node = Listening::start();
    let there = format!("h3=\":{}\"; ma=86400", node.address.port());
    for version in ["http/1.1", "h2"] {
        let said = alternative(&node, version, "/").await;
        assert_eq!(said.as_deref(), Some(&*there));
        // Who says something about it itself is not talked over.
        let said = alternative(&node, version, "/own-alternative").await;
        assert_eq!(said.as_deref(), Some("clear"));
    }
    let off = Listening::with(Authority::with_a(), |config| {
        config.tls.as_mut().unwrap().http3 = false;
    });
    for version in ["http/1.1", "h2"] {
        assert_eq!(alternative(&off, version, "/").await, None);
    }
    // Nobody else has the port.
    UdpSocket::bind(off.address).unwrap();
}

#[tokio::test]
async fn the_certificate_is_that_of_the_name_and_is_reloaded() {
    let authority = Authority::new();
    let a = authority.issue("a", &["a.example", "*.wild.example"]);
    let b = authority.issue("b", &["b.example"]);
    let node = Listening::with(authority, |_| {});
    let names = ["a.example", "x.wild.example", "b.example"];
    let shown = node.seen("names", &names).await;
    assert_eq!(
        shown,
        json!({"a.example": a, "x.wild.example": a, "b.example": b})
    );
    let new = node.authority.issue("a", &["a.example"]);
    let other = node.authority.issue("c", &["c.example"]);
    let mut shown = Value::Null;
    for _ in 0..20 {
        shown = node.seen("names", &["a.example", "c.example"]).await;
        if shown["c.example"] == json!(other) {
            break;
        }
    }
    assert_eq!(shown, json!({"a.example": new, "c.example": other}));
}

#[tokio::test]
async fn there_is_no_early_data() {
    let node = Listening::start();
    assert_eq!(node.seen("early_data", &[]).await, json!([true, false]));
}

#[tokio::test]
async fn a_server_that_ends_answers_what_it_has_and_takes_no_more() {
    let mut node = Listening::start();
    let (handler, shutdown) = (node.handler.clone(), node.shutdown.clone());
    let stop = async {
        let begun = || handler.in_flight.load(std::sync::atomic::Ordering::SeqCst) == 1;
        eventually("it is begun", begun).await;
        shutdown.cancel();
    };
    let (seen, ()) = tokio::join!(node.seen("drain", &[]), stop);
    // The first that was not served is the second.
    let rejected = json!(["reset", REQUEST_REJECTED]);
    assert_eq!(
        seen,
        json!({"goaway": 4, "slow": "slept", "late": rejected, "closed": NO_ERROR})
    );
    let running = node.running.take().unwrap();
    tokio::time::timeout(Duration::from_secs(5), running)
        .await
        .unwrap()
        .unwrap();
    UdpSocket::bind(node.address).unwrap();
}

#[tokio::test]
async fn what_is_not_done_within_the_grace_is_cut() {
    let mut node = Listening::with(Authority::with_a(), |config| {
        config.grace = Duration::from_millis(200);
    });
    let (handler, shutdown) = (node.handler.clone(), node.shutdown.clone());
    let stop = async {
        let begun = || handler.in_flight.load(std::sync::atomic::Ordering::SeqCst) == 1;
        eventually("it is begun", begun).await;
        shutdown.cancel();
    };
    let (seen, ()) = tokio::join!(node.seen("cut", &[]), stop);
    assert_eq!(seen, json!({"closed": NO_ERROR, "status": null}));
    node.running.take().unwrap().await.unwrap();
    eventually("it is dropped", || node.in_flight() == 0).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_politely() {
    let node = Listening::with(Authority::with_a(), |config| {
        config.limits.deadlines.idle = Duration::from_millis(500);
    });
    let seen = node.seen("idle", &[]).await;
    assert!(seen["after"].as_f64().unwrap() >= 0.4, "{seen}");
    assert_eq!(seen["goaway"], 4);
    assert_eq!(seen["closed"], NO_ERROR);
    assert_eq!(node.stats.idle_closes.get(), 1);
    eventually("it is gone", || node.stats.active.get() == 0).await;
}

#[tokio::test]
async fn connections_have_the_limit_of_the_listener() {
    let node = Listening::with(Authority::with_a(), |config| {
        // One is held for the next connection of TCP.
        config.limits.connections = 2;
    });
    assert_eq!(node.seen("busy", &[]).await, json!([200, true, 200]));
}

#[tokio::test]
async fn a_crowd_has_to_show_its_address_and_is_served() {
    let node = Listening::start();
    let seen = node.seen("crowd", &["100"]).await;
    let (served, retried) = (json!([200, false]), json!([200, true]));
    assert_eq!(seen, json!([served, vec![retried; 10]]));
    // No more than those that need not show it, and those that did.
    let accepted = node.stats.accepted.get();
    assert!(accepted <= 1 + 64 + 10, "{accepted}");
}

#[tokio::test]
async fn datagrams_that_mean_nothing_harm_nobody() {
    let node = Listening::start();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut state: u32 = 1;
    let mut garbage = vec![0; 1400];
    for round in 0..2000_usize {
        for byte in &mut garbage {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *byte = state.to_be_bytes()[0];
        }
        // Some look like the beginning of a connection (RFC 9000 section 17.2.2): long header, version 1.
        if round % 3 == 0 {
            garbage[..6].copy_from_slice(&[0xc3, 0, 0, 0, 1, 8]);
        }
        let length = 1 + round % garbage.len();
        socket.send_to(&garbage[..length], node.address).unwrap();
    }
    assert_eq!(node.seen("requests", &[]).await["many"], 100);
    eventually("none is left", || node.stats.active.get() == 0).await;
}

#[tokio::test]
async fn a_port_that_is_taken_in_udp_is_named() {
    // One that is free in TCP.
    let (taken, address) = loop {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        if std::net::TcpListener::bind(address).is_ok() {
            break (socket, address);
        }
    };
    let authority = Authority::with_a();
    let config = |http3| ServerConfig {
        tls: Some(TlsConfig {
            http3,
            ..authority.tls()
        }),
        ..ServerConfig::new(address)
    };
    let error = Server::bind(config(true)).unwrap_err();
    assert!(matches!(error, BindError::Datagrams(at, _) if at == address));
    let text = error.to_string();
    assert_eq!(text, format!("listen at {address} of UDP, for HTTP/3"));
    Server::bind(config(false)).unwrap();
    drop(taken);
}
