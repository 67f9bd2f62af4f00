//! Bodies on their way through a distribution: what hooks are given and make of them, and what middleware does as they stream.

use std::{
    convert::Infallible,
    io,
    io::Write as _,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use crate::process;
use crate::support::{Node, PATIENCE, Reply, eventually, guests};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use futures::stream::{self, StreamExt as _};
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use wharf::model::{FunctionConfiguration, Kind};

type Body = UnsyncBoxBody<Bytes, io::Error>;

const GREETING: &str = "hello from the origin\n";

/// A server on this machine that answers as the query says.
struct Origin {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    /// The last request, and its body.
    last: Arc<Mutex<Option<(http::request::Parts, Bytes)>>>,
    /// What was sent of an endless body, and whether nobody wants more of it.
    sent: Arc<AtomicUsize>,
    ended: Arc<AtomicBool>,
}

impl Origin {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let last = Arc::new(Mutex::new(None));
        let (sent, ended) = (Arc::new(AtomicUsize::new(0)), Arc::default());
        let endless = Endless {
            sent: Arc::clone(&sent),
            ended: Arc::clone(&ended),
        };
        let (counted, kept) = (asked.clone(), last.clone());
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (counted, kept, endless) = (counted.clone(), kept.clone(), endless.clone());
                let service = service_fn(move |request: Request<Incoming>| {
                    counted.fetch_add(1, Relaxed);
                    let (kept, endless) = (kept.clone(), endless.clone());
                    async move {
                        let (head, body) = request.into_parts();
                        let body = match body.collect().await {
                            Ok(body) => body.to_bytes(),
                            Err(_) => Bytes::from_static(b"(broken off)"),
                        };
                        let response = match head.uri.query() {
                            Some("endless") => Response::new(endless.body()),
                            _ => answer(&head, &body),
                        };
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
            sent,
            ended,
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

/// A body without an end.
#[derive(Clone)]
struct Endless {
    sent: Arc<AtomicUsize>,
    ended: Arc<AtomicBool>,
}

impl Endless {
    fn body(&self) -> Body {
        struct Wanted(Arc<AtomicBool>);
        impl Drop for Wanted {
            fn drop(&mut self) {
                self.0.store(true, Relaxed);
            }
        }
        let wanted = Wanted(self.ended.clone());
        let sent = self.sent.clone();
        let pieces = stream::repeat_with(move || {
            let _ = &wanted;
            sent.fetch_add(PIECE.len(), Relaxed);
            Ok(Frame::data(Bytes::from_static(&PIECE)))
        });
        BodyExt::boxed_unsync(StreamBody::new(pieces))
    }
}

static PIECE: [u8; 16 << 10] = [b'a'; 16 << 10];

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

/// It knows nothing of the coding, but may have one of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_a_hook_that_was_not_shown_the_one_before_has_the_coding_that_it_says() {
    let hooks = json!({"origin_response": [{"function": "probe"}]});
    let (node, _) = site(|behaviour| behaviour["hooks"] = hooks).await;
    for (path, coding) in [
        ("/hook/body?gzip", "gzip"),
        ("/hook/body/response?gzip", ""),
        ("/hook/body/coded", "br"),
        ("/hook/body/coded?gzip", "br"),
    ] {
        let reply = get(&node, path).await;
        let codings = reply.headers.get_all("content-encoding").iter();
        let codings: Vec<_> = codings.map(|value| value.to_str().unwrap()).collect();
        assert_eq!(codings.join(","), coding, "{path}");
    }
    // Whom an answer has passed is a hook's to hide.
    let via = get(&node, "/hook/body/via").await;
    assert!(via.header("via").starts_with("1.1 other"), "{via:?}");
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
            assert_eq!(
                (reply.status(), reply.error()),
                (502, "origin_bad_response")
            );
            assert!(origin.asked() > asked, "{path} was stored");
        }
    }
    // What breaks off behind what the hook is given breaks off for the client.
    for _ in 0..2 {
        let asked = origin.asked();
        let reply = get(&node, "/hook/body/chunked?cut=4000000").await;
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

/// A node with middleware around an origin. The functions `loud` and `louder` are the same.
async fn loud(change: impl FnOnce(&mut Value)) -> (Node, Origin) {
    let (node, origin) = site(|_| {}).await;
    let patient = FunctionConfiguration {
        timeout: Some(Duration::from_secs(120)),
        ..FunctionConfiguration::default()
    };
    for name in ["loud", "louder"] {
        node.function(name, guests::MIDDLEWARE, patient.clone())
            .await;
    }
    let mut site = json!({
        "name": "site",
        "hosts": ["site.example"],
        "origins": {"main": {"servers": [{"url": format!("http://{}", origin.address)}], "private": true}},
        "default": {
            "target": {"origin": "main"}, "methods": ["GET", "POST"], "hooks": {"transform": ["loud"]},
        },
    });
    change(&mut site["default"]);
    let put = node.authorized(Method::PUT, "/wharf/v1/distributions/site");
    let reply = Reply::of(put.json(&site)).await;
    assert_eq!(reply.status(), 204, "{reply:?}");
    (node, origin)
}

/// What the log of a function says of how its invocations ended.
async fn outcomes(node: &Node, function: &str) -> Vec<String> {
    let lines = node.client.logs(function, 1000, false).await.unwrap();
    let lines: Vec<_> = lines.map(|line| line.unwrap().message).collect().await;
    let reports = lines.iter().filter(|line| line.starts_with("REPORT"));
    reports
        .map(|line| match line.split_once("Outcome: ") {
            Some((_, outcome)) => outcome.split_whitespace().next().unwrap().to_owned(),
            None => "ok".to_owned(),
        })
        .collect()
}

async fn ended(node: &Node, function: &str, outcome: &str) {
    let mut seen = Vec::new();
    let found = async {
        while !seen.iter().any(|one| one == outcome) {
            tokio::time::sleep(Duration::from_millis(20)).await;
            seen = outcomes(node, function).await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, found).await;
    assert!(found.is_ok(), "{function}: {seen:?}, and never {outcome}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_middleware_makes_of_an_answer_is_sent_and_stored() {
    let (node, origin) = loud(|_| {}).await;
    let louder = GREETING.to_ascii_uppercase();
    let reply = get(&node, "/mw").await;
    assert_eq!((reply.status(), reply.text()), (200, louder.as_str()));
    assert_eq!(reply.header("etag"), "\"1\"");
    let again = get(&node, "/mw").await;
    assert_eq!((again.text(), origin.asked()), (louder.as_str(), 1));
    let part = request(&node, Method::GET, "/mw").header("range", "bytes=0-4");
    let part = Reply::of(part).await;
    assert_eq!(
        (part.status(), part.text(), origin.asked()),
        (206, "HELLO", 1)
    );
    // A part of what is not stored is the whole.
    let far = request(&node, Method::GET, "/mw/far").header("range", "bytes=5000000-");
    let far = Reply::of(far).await;
    assert_eq!((far.status(), far.text()), (200, louder.as_str()));
    let head = Reply::of(request(&node, Method::HEAD, "/mw/head")).await;
    assert_eq!((head.status(), head.text()), (200, ""));
    ended(&node, "loud", "ok").await;
    let functions = node.client.functions().await.unwrap();
    let loud = functions.iter().find(|one| one.name.as_str() == "loud");
    assert_eq!(loud.unwrap().kind, Kind::Middleware);
    assert_eq!(loud.unwrap().url, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_middleware_changes_requests_and_stands_before_another() {
    let (node, origin) = loud(|behaviour| {
        behaviour["hooks"] = json!({
            "transform": ["loud", "louder"],
            "origin_response": [{"function": "probe", "body": 1000}],
        });
    })
    .await;
    let reply = post(&node, "/mw/rewrite", "quiet").await;
    assert_eq!(reply.text(), GREETING.to_ascii_uppercase());
    assert_eq!(origin.body(), "QUIET");
    assert_eq!(origin.field("x-middleware").as_deref(), Some("seen"));
    let path = origin
        .last
        .lock()
        .unwrap()
        .as_ref()
        .unwrap()
        .0
        .uri
        .path()
        .to_owned();
    assert_eq!((path.as_str(), origin.asked()), ("/rewritten", 1));
    for function in ["loud", "louder"] {
        ended(&node, function, "ok").await;
        assert_eq!(outcomes(&node, function).await, ["ok"], "{function}");
    }
    let forgotten = request(&node, Method::GET, "/mw/forget").header("cdn-loop", "other-cdn");
    assert_eq!(Reply::of(forgotten).await.status(), 200);
    // Its first line; this node's own is another.
    assert_eq!(origin.field("cdn-loop").as_deref(), Some("other-cdn"));
    // A hook at the origin is outside, and sees what they made.
    let hooked = get(&node, "/hook/body").await;
    assert_eq!(hooked.header("x-response-body"), "22");
    assert_eq!(hooked.text(), GREETING.to_ascii_uppercase());
}

/// By the program itself, in a process of its own, so that nothing else is measured.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_body_streams_through_a_middleware_in_little_memory() {
    const SIZE: usize = 200 << 20;
    let origin = Origin::start().await;
    let app = process::App::new(&format!(
        r#"
name = "site"
[functions.loud]
component = "{{p3_middleware}}"
timeout = "120 s"
[distributions.site]
hosts = ["site.example"]
default = {{ origin = "main", cache = false, hooks = {{ transform = ["loud"] }} }}
[distributions.site.origins.main]
servers = ["http://{}"]
private = true
"#,
        origin.address
    ));
    let data = tempfile::tempdir().unwrap();
    let node = process::Node::serve(data.path()).await;
    let deployed = node.deploy(app.path()).await;
    assert_eq!(deployed, "loud\ttransform\n");
    let warm = node.get_at("site.example", "/mw").await;
    assert_eq!(warm.text(), GREETING.to_ascii_uppercase());
    let before = node.resident();
    let response = node
        .request("GET", &format!("/mw?size={SIZE}"))
        .header("host", "site.example")
        .timeout(Duration::from_secs(120));
    let mut body = response.send().await.unwrap().bytes_stream();
    let (mut received, mut most) = (0, 0);
    while let Some(piece) = body.next().await {
        let piece = piece.unwrap();
        assert!(piece.iter().all(|byte| *byte == b'A'));
        if (received + piece.len()) >> 20 > received >> 20 {
            most = most.max(node.resident().saturating_sub(before));
        }
        received += piece.len();
    }
    assert_eq!(received, SIZE);
    assert!(most < 32 << 20, "{most} bytes more than before");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_holds_the_origin_up_and_one_that_goes_ends_it() {
    let (node, origin) = loud(|behaviour| behaviour["cache"] = json!({"enabled": false})).await;
    let mut client = tokio::net::TcpStream::connect(node.http).await.unwrap();
    let head = "GET /mw?endless HTTP/1.1\r\nhost: site.example\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    let mut some = vec![0; 64 << 10];
    client.read_exact(&mut some).await.unwrap();
    assert!(some.ends_with(b"AAAA"), "{:?}", &some[..200]);
    // What sockets hold is in between, and no more.
    let sent = eventually(async || {
        let sent = origin.sent.load(Relaxed);
        tokio::time::sleep(Duration::from_millis(500)).await;
        (sent == origin.sent.load(Relaxed)).then_some(sent)
    })
    .await;
    assert!(sent < 32 << 20, "{sent} bytes were sent to nobody");
    drop(client);
    ended(&node, "loud", "cancelled").await;
    eventually(async || origin.ended.load(Relaxed).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_off_behind_a_middleware_is_never_complete_whatever_it_makes_of_it() {
    let (node, origin) = loud(|_| {}).await;
    for path in ["/mw", "/mw/sloppy", "/mw/chunked", "/mw/sloppy/chunked"] {
        for size in [100, 1_000_000] {
            for _ in 0..2 {
                let asked = origin.asked();
                let reply = get(&node, &format!("{path}?cut={size}")).await;
                let is_whole = reply.status() == 200 && reply.complete;
                assert!(!is_whole, "{path} {size}: {} bytes", reply.body.len());
                assert!(origin.asked() > asked, "{path} {size} was stored");
            }
        }
    }
    ended(&node, "loud", "origin_bad_response").await;
    let outcomes = outcomes(&node, "loud").await;
    assert!(!outcomes.contains(&"ok".to_owned()), "{outcomes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_middleware_that_fails_midway_breaks_the_answer_off() {
    let (node, origin) = loud(|_| {}).await;
    for (path, outcome) in [
        ("/mw/trap-midway?size=5000000", "trap"),
        // It sends on more than the length that it announces.
        ("/mw/liar?size=5000000", "bad_response"),
    ] {
        for _ in 0..2 {
            let asked = origin.asked();
            let reply = get(&node, path).await;
            assert_eq!(reply.status(), 200, "{path}: {reply:?}");
            assert!(!reply.complete, "{path}: {} bytes", reply.body.len());
            assert!(origin.asked() > asked, "{path} was stored");
        }
        ended(&node, "loud", outcome).await;
    }
    assert_eq!(get(&node, "/mw").await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_middleware_that_fails_gives_its_outcome_and_one_that_answers_asks_nobody() {
    let (node, origin) = loud(|_| {}).await;
    let little = FunctionConfiguration {
        fuel: Some(10_000_000),
        ..FunctionConfiguration::default()
    };
    node.function("loud", guests::MIDDLEWARE, little).await;
    for (path, status, word) in [
        ("/mw/trap", 502, "trap"),
        ("/mw/loop", 502, "out_of_fuel"),
        ("/mw/error", 502, "function_error"),
        // The path that it goes on with has a segment that is `..`.
        ("/mw/dots", 502, "function_error"),
    ] {
        let reply = get(&node, path).await;
        assert_eq!((reply.status(), reply.error()), (status, word), "{path}");
        ended(&node, "loud", word).await;
    }
    let own = get(&node, "/mw/own").await;
    assert_eq!(
        (own.status(), own.text()),
        (200, "made by the middleware\n")
    );
    assert_eq!(origin.asked(), 0);
    let many = get(&node, "/mw/many").await;
    assert_eq!((many.text(), origin.asked()), ("10 answered\n", 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn that_the_origin_is_out_is_told_unless_a_middleware_answers_instead() {
    let (node, origin) = loud(|_| {}).await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = json!([{"url": format!("http://{}", closed.local_addr().unwrap())}]);
    drop(closed);
    let out = json!({
        "name": "site",
        "hosts": ["site.example"],
        "origins": {"main": {"servers": server, "private": true}},
        "default": {"target": {"origin": "main"}, "hooks": {"transform": ["loud", "louder"]}},
    });
    let put = node.authorized(Method::PUT, "/wharf/v1/distributions/site");
    assert_eq!(Reply::of(put.json(&out)).await.status(), 204);
    let reply = get(&node, "/mw").await;
    assert_eq!((reply.status(), reply.error()), (502, "origin_unreachable"));
    let instead = get(&node, "/mw/fallback").await;
    assert_eq!((instead.status(), instead.text()), (200, "made instead\n"));
    assert_eq!(origin.asked(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_breaks_off_before_a_middleware_is_not_whole_behind_it() {
    let (node, origin) = loud(|behaviour| behaviour["request_body"] = json!(100)).await;
    let mut client = tokio::net::TcpStream::connect(node.http).await.unwrap();
    let head = "POST /mw/sloppy-request HTTP/1.1\r\nhost: site.example\r\ntransfer-encoding: chunked\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    client.write_all(b"4\r\nhalf\r\n").await.unwrap();
    eventually(async || (origin.asked() == 1).then_some(())).await;
    drop(client);
    eventually(async || origin.last.lock().unwrap().is_some().then_some(())).await;
    assert_eq!(origin.body(), "(broken off)");
    let long = stream::iter(0..20).map(|_| Ok::<_, Infallible>("0123456789"));
    let body = reqwest::Body::wrap_stream(long);
    let long = post(&node, "/mw/sloppy-request", body).await;
    assert_eq!(long.status(), 413, "{long:?}");
    let whole = post(&node, "/mw/sloppy-request?echo", "whole").await;
    assert_eq!(whole.text(), "WHOLE");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_middleware_is_told_by_what_it_imports_and_stands_nowhere_else() {
    let inspection = wharf::runtime::inspect(&guests::MIDDLEWARE.bytes()).unwrap();
    assert_eq!(inspection.kind, Some(Kind::Middleware));
    assert_eq!(Kind::Middleware.to_string(), "wasi:http 0.3 middleware");
    let (node, _) = loud(|_| {}).await;
    let put = async |behaviour: Value| {
        let site = json!({
            "name": "other", "hosts": ["other.example"],
            "origins": {"main": {"servers": [{"url": "http://example.com"}]}},
            "default": behaviour,
        });
        let request = node.authorized(Method::PUT, "/wharf/v1/distributions/other");
        let reply = Reply::of(request.json(&site)).await;
        assert_eq!(reply.status(), 400, "{reply:?}");
        reply.json()["message"].as_str().unwrap().to_owned()
    };
    let target = json!({"origin": "main"});
    let said = put(json!({"target": target, "hooks": {"transform": ["probe"]}})).await;
    assert!(
        said.contains("default.hooks.transform.0: `probe` is no middleware"),
        "{said}"
    );
    let said = put(json!({"target": {"function": "loud"}})).await;
    assert!(
        said.contains("`loud` answers no requests: it is a middleware"),
        "{said}"
    );
    let hook = json!({"viewer_request": [{"function": "loud"}]});
    let said = put(json!({"target": target, "hooks": hook})).await;
    assert!(said.contains("is no request hook"), "{said}");
    let refused = node
        .client
        .invoke("loud", "{}".into(), "RequestResponse", false)
        .await;
    let said = refused.unwrap_err().to_string();
    assert!(said.contains("it is a middleware"), "{said}");
    let alone = node
        .request(Method::GET, "/")
        .header("host", "loud.localhost");
    assert_eq!(Reply::of(alone).await.status(), 404);
}
