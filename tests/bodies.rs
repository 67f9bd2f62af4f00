//! Bodies on their way through a distribution: what hooks are given of them and make of them.

#![expect(
    clippy::unwrap_used,
    reason = "what fails in a test's own work fails the test"
)]

mod support;

use std::{
    convert::Infallible,
    io,
    io::Write as _,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use futures::stream::{self, StreamExt as _};
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use support::{Node, Reply, guests};
use tokio::{io::AsyncWriteExt as _, net::TcpListener};
use wharf::model::FunctionConfiguration;

type Body = UnsyncBoxBody<Bytes, io::Error>;

const GREETING: &str = "hello from the origin\n";

/// A server on this machine that answers as the query says.
struct Origin {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    /// The last request, and its body.
    last: Arc<Mutex<Option<(http::request::Parts, Bytes)>>>,
}

impl Origin {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let last = Arc::new(Mutex::new(None));
        let (counted, kept) = (asked.clone(), last.clone());
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (counted, kept) = (counted.clone(), kept.clone());
                let service = service_fn(move |request: Request<Incoming>| {
                    counted.fetch_add(1, Relaxed);
                    let kept = kept.clone();
                    async move {
                        let (head, body) = request.into_parts();
                        let body = match body.collect().await {
                            Ok(body) => body.to_bytes(),
                            Err(_) => Bytes::from_static(b"(broken off)"),
                        };
                        let response = answer(&head, &body);
                        *kept.lock().unwrap() = Some((head, body));
                        Ok::<_, Infallible>(response)
                    }
                });
                let http = hyper::server::conn::http1::Builder::new();
                tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
            }
        });
        Self {
            address,
            asked,
            last,
        }
    }

    fn asked(&self) -> usize {
        self.asked.load(Relaxed)
    }

    /// A field of the last request.
    fn field(&self, name: &str) -> Option<String> {
        let last = self.last.lock().unwrap();
        let value = last.as_ref().unwrap().0.headers.get(name)?;
        Some(value.to_str().unwrap().to_owned())
    }

    /// The body of the last request.
    fn body(&self) -> Bytes {
        self.last.lock().unwrap().as_ref().unwrap().1.clone()
    }
}

fn answer(head: &http::request::Parts, body: &Bytes) -> Response<Body> {
    let query = head.uri.query().unwrap_or_default();
    let (what, number) = query.split_once('=').unwrap_or((query, "0"));
    let number: usize = number.parse().unwrap_or(0);
    let response = Response::builder()
        .header("cache-control", "max-age=60")
        .header("content-type", "text/plain")
        .header("etag", "\"1\"");
    match what {
        "size" => response
            .header("content-length", number)
            .body(pieces(number)),
        // Announced, and half of it sent; the same without an announcement.
        "cut" => {
            let half = pieces(number / 2).into_data_stream();
            let cut = half.chain(stream::once(async { Err(io::Error::other("on purpose")) }));
            let cut = BodyExt::boxed_unsync(StreamBody::new(cut.map(|data| data.map(Frame::data))));
            match head.uri.path().contains("chunked") {
                true => response.body(cut),
                false => response.header("content-length", number).body(cut),
            }
        }
        // Half of it, and the other half long after.
        "slow" => {
            let late = stream::once(async {
                tokio::time::sleep(Duration::from_secs(30)).await;
                Ok(Bytes::from_static(b"late"))
            });
            let slow = pieces(10).into_data_stream().chain(late);
            response.body(BodyExt::boxed_unsync(StreamBody::new(
                slow.map(|data| data.map(Frame::data)),
            )))
        }
        "status" => response
            .status(StatusCode::from_u16(u16::try_from(number).unwrap()).unwrap())
            .body(full("")),
        "echo" => response.body(full(body.clone())),
        "gzip" => {
            let mut coded = GzEncoder::new(Vec::new(), Compression::default());
            coded.write_all(GREETING.as_bytes()).unwrap();
            response
                .header("content-encoding", "gzip")
                .body(full(coded.finish().unwrap()))
        }
        _ if head.headers.contains_key("range") => response
            .status(206)
            .header("content-range", format!("bytes 0-4/{}", GREETING.len()))
            .body(full("hello")),
        _ => response.body(full(GREETING)),
    }
    .unwrap()
}

fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// So many bytes, 16 KB at a time.
fn pieces(size: usize) -> Body {
    static PIECE: [u8; 16 << 10] = [b'a'; 16 << 10];
    let pieces = stream::unfold(size, |left| async move {
        let length = left.min(PIECE.len());
        (length > 0).then(|| {
            (
                Ok(Frame::data(Bytes::from_static(&PIECE[..length]))),
                left - length,
            )
        })
    });
    BodyExt::boxed_unsync(StreamBody::new(pieces))
}

/// A node with a distribution in front of an origin, whose behaviour was changed.
async fn site(change: impl FnOnce(&mut Value)) -> (Node, Origin) {
    let origin = Origin::start().await;
    let node = Node::start().await;
    let configuration = FunctionConfiguration {
        timeout: Some(Duration::from_secs(20)),
        fuel: Some(1_000_000_000),
        ..FunctionConfiguration::default()
    };
    node.function("probe", guests::HOOK_PROBE, configuration)
        .await;
    let mut site = json!({
        "name": "site",
        "hosts": ["site.example"],
        "origins": {"main": {"servers": [{"url": format!("http://{}", origin.address)}], "private": true}},
        "default": {"target": {"origin": "main"}, "methods": ["GET", "POST"]},
    });
    change(&mut site["default"]);
    let put = node.authorized(Method::PUT, "/wharf/v1/distributions/site");
    let reply = Reply::of(put.json(&site)).await;
    assert_eq!(reply.status(), 204, "{reply:?}");
    (node, origin)
}

/// The hooks at the origin, given so many bytes.
fn given(bytes: u64) -> Value {
    let hook = json!([{"function": "probe", "body": bytes}]);
    json!({"origin_request": hook, "origin_response": hook})
}

fn request(node: &Node, method: Method, path: &str) -> reqwest::RequestBuilder {
    node.request(method, path).header("host", "site.example")
}

async fn get(node: &Node, path: &str) -> Reply {
    Reply::of(request(node, Method::GET, path)).await
}

async fn post(node: &Node, path: &str, body: impl Into<reqwest::Body>) -> Reply {
    Reply::of(request(node, Method::POST, path).body(body)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_is_given_as_much_of_a_body_as_the_distribution_says_and_the_rest_goes_past() {
    let (node, origin) = site(|behaviour| behaviour["hooks"] = given(8)).await;
    for (body, described) in [
        ("", "none"),
        ("01234", "5"),
        ("01234567", "8"),
        ("012345678", "8 of more"),
    ] {
        let echoed = post(&node, "/hook/body?echo", body).await;
        assert_eq!(origin.field("x-request-body").as_deref(), Some(described));
        assert_eq!(origin.body(), body, "what the origin gets");
        assert_eq!(echoed.text(), body, "what the client gets");
    }
    // In pieces, and without a length.
    let in_pieces = stream::iter(["012", "345", "678", "9"]).map(Ok::<_, Infallible>);
    let echoed = post(
        &node,
        "/hook/body?echo",
        reqwest::Body::wrap_stream(in_pieces),
    )
    .await;
    assert_eq!(origin.field("x-request-body").as_deref(), Some("8 of more"));
    assert_eq!(echoed.text(), "0123456789");

    for (path, described, length) in [
        ("/hook/body/a?size=0", "0", 0),
        ("/hook/body/a?size=8", "8", 8),
        ("/hook/body/a?size=9", "8 of more", 9),
        ("/hook/body/a?size=100000", "8 of more", 100_000),
        ("/hook/body/a?status=204", "none", 0),
    ] {
        let reply = get(&node, path).await;
        assert_eq!(reply.header("x-response-body"), described, "{path}");
        assert_eq!(reply.body.len(), length, "{path}");
        assert!(reply.complete, "{path}");
    }
    let asked = origin.asked();
    let stored = get(&node, "/hook/body/a?size=100000").await;
    assert_eq!((stored.body.len(), origin.asked()), (100_000, asked));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_hook_is_given_what_it_did_not_ask_for() {
    let hook = json!([{"function": "probe"}]);
    let hooks = json!({"origin_request": hook, "origin_response": hook});
    let (node, origin) = site(|behaviour| behaviour["hooks"] = hooks).await;
    let echoed = post(&node, "/hook/body?echo", "01234").await;
    assert_eq!(origin.field("x-request-body").as_deref(), Some("none"));
    assert_eq!(echoed.header("x-response-body"), "none");
    assert_eq!(echoed.text(), "01234");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_hook_makes_of_a_body_takes_its_place() {
    let (node, origin) = site(|behaviour| behaviour["hooks"] = given(1 << 20)).await;
    let reply = post(&node, "/hook/body/request?echo", "quiet").await;
    assert_eq!(origin.body(), "QUIET");
    assert_eq!(origin.field("content-length").as_deref(), Some("5"));
    assert_eq!(reply.text(), "QUIET");

    let loud = GREETING.to_ascii_uppercase();
    let reply = get(&node, "/hook/body/response").await;
    assert_eq!(
        (reply.text(), reply.header("x-response-body")),
        (loud.as_str(), "22")
    );
    assert_eq!(reply.header("content-length"), "22");
    // It is what is stored, and what parts are of.
    let asked = origin.asked();
    let part = request(&node, Method::GET, "/hook/body/response").header("range", "bytes=0-4");
    let part = Reply::of(part).await;
    assert_eq!((part.status(), part.text()), (206, "HELLO"));
    assert_eq!(origin.asked(), asked);
    // A megabyte, which is the most.
    let large = get(&node, "/hook/body/response?size=1048576").await;
    assert_eq!(large.body.len(), 1 << 20);
    assert!(large.body.iter().all(|byte| *byte == b'A'));
    // Of what is larger it makes what it makes: it was told.
    let larger = get(&node, "/hook/body/response?size=1048577").await;
    assert_eq!(larger.header("x-response-body"), "1048576 of more");
    assert_eq!(larger.body.len(), 1 << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_hook_hides_is_not_to_be_had_by_asking_for_less() {
    let (node, origin) = site(|behaviour| {
        behaviour["hooks"] = given(1000);
        behaviour["cache"] = json!({"enabled": false});
    })
    .await;
    let loud = GREETING.to_ascii_uppercase();
    for range in ["bytes=0-4", "bytes=5000000-5000004", "bytes=-3"] {
        let part = request(&node, Method::GET, "/hook/body/response").header("range", range);
        let reply = Reply::of(part.header("if-range", "\"1\"")).await;
        assert_eq!(
            (reply.status(), reply.text()),
            (200, loud.as_str()),
            "{range}"
        );
        assert_eq!(
            (origin.field("range"), origin.field("if-range")),
            (None, None)
        );
    }
    // There is no body to see, and its length is not known.
    let head = Reply::of(request(&node, Method::HEAD, "/hook/body?size=50")).await;
    assert_eq!(head.header("x-response-body"), "none");
    assert_eq!(head.header("content-length"), "");
    let same =
        request(&node, Method::GET, "/hook/body?status=304").header("if-none-match", "\"1\"");
    let same = Reply::of(same).await;
    assert_eq!(
        (same.status(), same.header("x-response-body")),
        (304, "none")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_sees_what_the_origin_sent_with_its_content_coding() {
    let (node, _) = site(|behaviour| behaviour["hooks"] = given(1000)).await;
    let coded = get(&node, "/hook/body?gzip").await;
    assert_eq!(coded.header("content-encoding"), "gzip");
    let seen: usize = coded.header("x-response-body").parse().unwrap();
    assert_eq!(seen, coded.body.len());
    assert!(coded.body.starts_with(&[0x1f, 0x8b]), "{coded:?}");
    // It knew the coding, and so is believed.
    let replaced = get(&node, "/hook/body/response?gzip").await;
    assert_eq!(replaced.header("content-encoding"), "gzip");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_off_or_is_slow_is_neither_shown_nor_stored() {
    let (node, origin) = site(|behaviour| {
        behaviour["hooks"] = given(1000);
        behaviour["timeout"] = json!({"secs": 2, "nanos": 0});
    })
    .await;
    for path in ["/hook/body?cut=100", "/hook/body/chunked?cut=100"] {
        for _ in 0..2 {
            let asked = origin.asked();
            let reply = get(&node, path).await;
            assert_eq!((reply.status(), reply.error()), (502, "origin_unreachable"));
            assert!(origin.asked() > asked, "{path} was stored");
        }
    }
    // What breaks off behind what the hook is given breaks off for the client.
    for _ in 0..2 {
        let asked = origin.asked();
        let reply = get(&node, "/hook/body/chunked?cut=100000").await;
        assert_eq!(reply.header("x-response-body"), "1000 of more");
        assert!(!reply.complete, "{reply:?}");
        assert!(origin.asked() > asked, "it was stored");
    }
    let started = Instant::now();
    let slow = get(&node, "/hook/body?slow").await;
    assert_eq!((slow.status(), slow.error()), (504, "origin_timeout"));
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_body_is_too_long_or_breaks_off_reaches_nobody() {
    let (node, origin) = site(|behaviour| {
        behaviour["hooks"] = given(1000);
        behaviour["request_body"] = json!(100);
    })
    .await;
    let long = stream::iter(0..20).map(|_| Ok::<_, Infallible>("0123456789"));
    let long = post(&node, "/hook/body?echo", reqwest::Body::wrap_stream(long)).await;
    assert_eq!(long.status(), 413, "{long:?}");
    let mut client = tokio::net::TcpStream::connect(node.http).await.unwrap();
    let head =
        "POST /hook/body?echo HTTP/1.1\r\nhost: site.example\r\ncontent-length: 50\r\n\r\nhalf";
    client.write_all(head.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(client);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(origin.asked(), 0);
    let whole = post(&node, "/hook/body?echo", "whole").await;
    assert_eq!((whole.text(), origin.asked()), ("whole", 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_fails_fails_the_request_or_is_bypassed_with_the_body_whole() {
    let (node, _) = site(|behaviour| behaviour["hooks"] = given(10)).await;
    let trapped = get(&node, "/hook/body/trap").await;
    assert_eq!((trapped.status(), trapped.error()), (502, "trap"));
    let (node, _) = site(|behaviour| {
        behaviour["hooks"] = given(10);
        behaviour["hooks"]["origin_response"][0]["on_failure"] = json!("bypass");
    })
    .await;
    let passed = get(&node, "/hook/body/trap").await;
    assert_eq!((passed.status(), passed.text()), (200, GREETING));
    let large = get(&node, "/hook/body/trap?size=100000").await;
    assert_eq!(large.body.len(), 100_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_after_each_other_are_given_what_the_one_before_made() {
    let hook = |bytes: u64| json!({"function": "probe", "body": bytes});
    let hooks = json!({"origin_response": [hook(5), hook(3), hook(1000)]});
    let (node, _) = site(|behaviour| behaviour["hooks"] = hooks).await;
    let fields = |reply: &Reply| {
        let values = reply.headers.get_all("x-response-body").iter();
        let values: Vec<_> = values.map(|value| value.to_str().unwrap()).collect();
        values.join(", ")
    };
    let reply = get(&node, "/hook/body").await;
    assert_eq!(fields(&reply), "5 of more, 3 of more, 22");
    assert_eq!(reply.text(), GREETING);
    let reply = get(&node, "/hook/body/response").await;
    assert_eq!(fields(&reply), "5 of more, 3 of more, 3");
    assert_eq!(reply.text(), "HEL");
}
