//! Requests and answers.

use std::{
    sync::atomic::Ordering::SeqCst,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::time::sleep;
use wharf::model::ByteSize;

use super::{Authority, Listening, eventually};

/// RFC 9114 section 8.1.
const NO_ERROR: u64 = 0x100;
const INTERNAL_ERROR: u64 = 0x102;
const FRAME_UNEXPECTED: u64 = 0x105;
const FRAME_ERROR: u64 = 0x106;
const EXCESSIVE_LOAD: u64 = 0x107;
const REQUEST_REJECTED: u64 = 0x10b;
const REQUEST_INCOMPLETE: u64 = 0x10d;
const MESSAGE_ERROR: u64 = 0x10e;
/// RFC 9204 section 6.
const DECOMPRESSION_FAILED: u64 = 0x200;

#[tokio::test]
async fn requests_and_answers_of_all_kinds_share_a_connection() {
    let node = Listening::start();
    let seen = node.seen("requests", &[]).await;
    let body = seen["where"]["body"].as_str().unwrap();
    assert_eq!(
        body,
        "https://a.example/where?q HTTP/3.0 Some(TlsInfo { version: V1_3, server_name: Some(\"a.example\") }) 127.0.0.1"
    );
    assert_eq!(seen["echo"], json!([200, true]));
    assert_eq!(seen["trailers"], "trailer=Some(\"42\") abc");
    assert_eq!(seen["sent"], json!(["body", {"x-sum": "42"}]));
    assert_eq!(seen["head"], json!([200, "5", 0]));
    assert_eq!(seen["empty"], json!([204, 0]));
    assert_eq!(seen["many"], 100);
    assert_eq!(seen["date"], true);
    assert_eq!(seen["alt-svc"], Value::Null);
    eventually("all is done", || node.in_flight() == 0).await;
    eventually("the client is gone", || node.stats.active.get() == 0).await;
    assert_eq!(node.stats.accepted.get(), 1);
    assert_eq!(node.stats.protocol_errors.get(), 0);
}

#[tokio::test]
async fn bodies_stream_both_ways() {
    let node = Listening::start();
    let seen = node.seen("streams", &[]).await;
    assert!(seen["drip"].as_f64().unwrap() >= 0.4, "{seen}");
    assert_eq!(seen["echo"], "first last");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_reset() {
    let node = Listening::start();
    let seen = node.seen("breaks", &[]).await;
    let reset = json!(["reset", INTERNAL_ERROR]);
    assert_eq!(
        seen,
        json!({"broken": [reset, reset, reset, reset], "then": 200})
    );
}

#[tokio::test]
async fn malformed_requests_are_refused() {
    let node = Listening::start();
    let usual = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "a.example"),
        (":path", "/"),
    ];
    // Fields that stand for those of the same name, or beside them.
    let with = |change: &[(&'static str, &'static str)]| {
        let mut fields: Vec<_> = usual.to_vec();
        fields.retain(|(name, _)| !change.iter().any(|(changed, _)| changed == name));
        fields.extend_from_slice(change);
        fields.retain(|(_, value)| *value != "(none)");
        fields
    };
    let (reset, status) = (json!(["reset", MESSAGE_ERROR]), |status: u16| json!(status));
    let cases = [
        // What a request must have, and may not have (RFC 9114 sections 4.2 and 4.3).
        (vec![(":method", "(none)")], reset.clone()),
        (vec![(":path", "(none)")], reset.clone()),
        (vec![(":scheme", "(none)")], reset.clone()),
        (vec![(":authority", "(none)")], reset.clone()),
        (vec![(":authority", "")], reset.clone()),
        (vec![(":path", "x")], reset.clone()),
        (vec![(":unknown", "x")], reset.clone()),
        (vec![(":protocol", "websocket")], reset.clone()),
        (vec![("host", "b.example")], reset.clone()),
        (vec![("X-Upper", "x")], reset.clone()),
        (vec![("x", "a\nb")], reset.clone()),
        (vec![("connection", "x")], reset.clone()),
        (vec![("transfer-encoding", "chunked")], reset.clone()),
        (vec![("keep-alive", "timeout=5")], reset.clone()),
        (vec![("proxy-connection", "x")], reset.clone()),
        (vec![("upgrade", "websocket")], reset.clone()),
        (vec![("te", "gzip")], reset.clone()),
        // What is well-formed and not served.
        (vec![(":scheme", "ftp")], status(400)),
        (vec![(":authority", "u@a.example")], status(400)),
        (
            vec![
                (":method", "CONNECT"),
                (":scheme", "(none)"),
                (":path", "(none)"),
            ],
            status(501),
        ),
        // What is fine.
        (vec![("te", "trailers")], status(200)),
        (vec![("host", "a.example")], status(200)),
        (
            vec![(":authority", "(none)"), ("host", "a.example")],
            status(200),
        ),
    ];
    let sent: Vec<_> = cases.iter().map(|(change, _)| with(change)).collect();
    let seen = node.seen("malformed", &[&json!(sent).to_string()]).await;
    let got = seen["seen"].as_array().unwrap();
    for ((change, expected), got) in cases.iter().zip(got) {
        assert_eq!(got, expected, "{change:?}");
    }
    // A body that is longer or shorter than its head says fails who reads it; one that says nonsense is not looked at.
    assert_eq!(got[cases.len()..], [json!(408), json!(408), reset]);
    assert_eq!(seen["then"], 200);
}

#[tokio::test]
async fn heads_have_limits() {
    let node = Listening::with(Authority::with_a(), |config| {
        config.limits.head = ByteSize::kb(8);
        config.limits.target = 2048;
    });
    let seen = node.seen("limits", &[]).await;
    assert_eq!(seen, json!([431, 431, 431, 414, 408, 200]));
}

#[tokio::test]
async fn a_body_that_nobody_reads_is_not_asked_for() {
    let node = Listening::start();
    let seen = node.seen("early", &[]).await;
    assert_eq!(
        seen,
        json!({"status": 200, "body": "ignored", "stopped": NO_ERROR})
    );
}

#[tokio::test]
async fn a_request_that_is_given_up_ends_its_handler() {
    let node = Listening::start();
    assert_eq!(node.seen("cancel", &[]).await, 200);
    eventually("both are dropped", || node.in_flight() == 0).await;
    let pieces = node.handler.pieces.load(SeqCst);
    sleep(Duration::from_millis(50)).await;
    assert_eq!(node.handler.pieces.load(SeqCst), pieces);
}

#[tokio::test]
async fn a_client_that_does_not_read_slows_the_writer_down_and_is_left() {
    let node = Listening::with(Authority::with_a(), |config| {
        config.limits.deadlines.write = Duration::from_millis(500);
    });
    let seen = node.seen("stall", &[]).await;
    assert_eq!(seen[0], "reset", "{seen}");
    // A MB is held for the connection, and what the client has made room for.
    assert!(node.handler.pieces.load(SeqCst) < 100);
    assert_eq!(node.stats.write_timeouts.get(), 1);
    eventually("it is dropped", || node.in_flight() == 0).await;
}

#[tokio::test]
async fn a_flood_of_resets_closes_the_connection() {
    let node = Listening::start();
    let seen = node.seen("flood", &[]).await;
    assert_eq!(seen["closed"], EXCESSIVE_LOAD, "{seen}");
    assert!(node.handler.handled.load(SeqCst) < 300, "{seen}");
    eventually("all are dropped", || node.in_flight() == 0).await;
    assert_eq!(node.seen("polite", &[]).await, Value::Null);
}

#[tokio::test]
async fn a_flood_of_streams_without_a_request_closes_the_connection() {
    let node = Listening::start();
    let seen = node.seen("headless", &[]).await;
    assert_eq!(seen["closed"], EXCESSIVE_LOAD, "{seen}");
    assert_eq!(node.handler.handled.load(SeqCst), 0);
}

#[tokio::test]
async fn frames_that_are_wrong_end_the_stream_or_the_connection() {
    let node = Listening::start();
    let seen = node.seen("frames", &[]).await;
    let closed = |code: u64| json!(["closed", code]);
    let expected = json!({
        "nothing": ["reset", REQUEST_INCOMPLETE],
        "cut head": closed(FRAME_ERROR),
        "cut body": closed(FRAME_ERROR),
        "data first": closed(FRAME_UNEXPECTED),
        "settings": closed(FRAME_UNEXPECTED),
        "webtransport": closed(FRAME_UNEXPECTED),
        "push": closed(FRAME_UNEXPECTED),
        "qpack": closed(DECOMPRESSION_FAILED),
        "http2": closed(FRAME_UNEXPECTED),
        "unknown": 200,
        "endless head": 431,
        "endless control": closed(EXCESSIVE_LOAD),
    });
    assert_eq!(seen, expected, "{seen:#}");
    eventually("all is done", || node.in_flight() == 0).await;
}

#[tokio::test]
async fn who_does_not_go_on_misses_a_deadline() {
    let node = Listening::with(Authority::with_a(), |config| {
        config.limits.deadlines.head = Duration::from_millis(400);
        config.limits.deadlines.body = Duration::from_millis(400);
    });
    let started = Instant::now();
    let seen = node.seen("slow_head", &[]).await;
    assert_eq!(seen, json!([["reset", REQUEST_REJECTED], 408, 200]));
    assert!(started.elapsed() < Duration::from_secs(10));
    assert_eq!(node.stats.head_timeouts.get(), 1);
    assert_eq!(node.stats.body_timeouts.get(), 1);
}
