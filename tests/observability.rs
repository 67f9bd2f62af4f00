//! What one sees of a node: its access log, its numbers about distributions, and the trace that it hands on.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::support::{Node, Reply, eventually, guests};
use bytes::Bytes;
use futures::StreamExt as _;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use wharf::{
    model::FunctionConfiguration,
    telemetry::access::{AccessFormat, AccessLogSettings, Destination},
};

/// A server on this machine, and the fields of its last request.
struct Origin {
    address: SocketAddr,
    last: Arc<Mutex<HeaderMap>>,
}

type Answered = UnsyncBoxBody<Bytes, Infallible>;

impl Origin {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let last = Arc::new(Mutex::new(HeaderMap::new()));
        tokio::spawn({
            let last = last.clone();
            async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let last = last.clone();
                    let service = service_fn(move |request: Request<Incoming>| {
                        *last.lock().unwrap() = request.headers().clone();
                        answer(request)
                    });
                    tokio::spawn(
                        hyper::server::conn::http1::Builder::new()
                            .serve_connection(TokioIo::new(stream), service),
                    );
                }
            }
        });
        Self { address, last }
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Answered>, Infallible> {
    let whole = |text: &str| Full::new(Bytes::from(text.to_owned())).boxed_unsync();
    let response = Response::builder();
    Ok(match request.uri().path() {
        "/slow" => {
            tokio::time::sleep(Duration::from_millis(100)).await;
            response
                .header("cache-control", "no-store")
                .body(whole("slow"))
        }
        "/endless" => {
            let pieces = futures::stream::repeat(Bytes::from(vec![b'x'; 16 << 10]));
            let frames = pieces.map(|piece| Ok(Frame::data(piece)));
            let body = StreamBody::new(frames).boxed_unsync();
            response.header("cache-control", "no-store").body(body)
        }
        _ => response
            .header("cache-control", "max-age=60")
            .body(whole("answer")),
    }
    .unwrap())
}

/// A node with an access log and a distribution before an origin, both changed by `change`.
async fn site(format: AccessFormat, change: impl FnOnce(&mut Value)) -> (Node, Origin) {
    let origin = Origin::start().await;
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let node = Node::start_in(folder, |config| {
        config.access_log = Some(AccessLogSettings {
            destination: Destination::File(log),
            format,
        });
    })
    .await;
    let mut site = json!({
        "name": "site",
        "hosts": ["site.example"],
        "origins": {"main": {"servers": [{"url": format!("http://{}", origin.address)}], "private": true}},
        "behaviours": [],
        "default": {"target": {"origin": "main"}},
    });
    change(&mut site);
    let put = node.authorized(Method::PUT, "/wharf/v1/distributions/site");
    let reply = Reply::of(put.json(&site)).await;
    assert_eq!(reply.status(), 204, "{reply:?}");
    (node, origin)
}

async fn get(node: &Node, path: &str) -> Reply {
    let request = node.request(Method::GET, path);
    Reply::of(request.header("host", "site.example")).await
}

/// The lines of the log so far.
fn lines(node: &Node) -> Vec<String> {
    let text = std::fs::read_to_string(node.data().join("access.log")).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// The line of a request, waited for.
async fn line(node: &Node, is_it: impl Fn(&Value) -> bool) -> Value {
    eventually(async || {
        let documents = lines(node).into_iter();
        let mut documents = documents.map(|line| serde_json::from_str::<Value>(&line).unwrap());
        documents.find(&is_it)
    })
    .await
}

async fn line_of(node: &Node, reply: &Reply) -> Value {
    let id = reply.header("x-request-id");
    assert_ne!(id, "");
    line(node, |line| line["request_id"] == id).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_of_a_distribution_leaves_a_line_with_its_way() {
    let (node, _origin) = site(AccessFormat::Json, |site| {
        site["behaviours"] = json!([
            {"path": "/closed/*", "target": {"origin": "main"}, "access": {"deny": ["127.0.0.0/8"]}},
            {"path": "/away/*", "target": {"origin": "away"}},
        ]);
        site["origins"]["away"] =
            json!({"servers": [{"url": "http://127.0.0.1:9"}], "private": true, "retries": 0});
    })
    .await;
    let missed = get(&node, "/a?b=c&d").await;
    let line = line_of(&node, &missed).await;
    for (key, expected) in [
        ("client", json!("127.0.0.1")),
        ("method", json!("GET")),
        ("target", json!("/a?b=c&d")),
        ("protocol", json!("HTTP/1.1")),
        ("host", json!("site.example")),
        ("status", json!(200)),
        ("outcome", json!("ok")),
        ("bytes", json!(6)),
        ("distribution", json!("site")),
        ("behaviour", json!("default")),
        ("cache", json!("miss")),
        ("origin", json!("main")),
    ] {
        assert_eq!(line[key], expected, "{key}: {line}");
    }
    assert_eq!(line.get("tls"), None, "{line}");
    let time = line["time"].as_str().unwrap();
    let age = jiff::Timestamp::now().duration_since(time.parse().unwrap());
    assert!(age.as_secs() < 20, "{time}");

    let hit = line_of(&node, &get(&node, "/a?b=c&d").await).await;
    assert_eq!((&hit["cache"], hit.get("origin")), (&json!("hit"), None));
    let slow = line_of(&node, &get(&node, "/slow").await).await;
    for key in ["duration_us", "first_byte_us", "origin_us"] {
        let time = slow[key].as_u64().unwrap();
        assert!((100_000..5_000_000).contains(&time), "{key}: {slow}");
    }
    let closed = line_of(&node, &get(&node, "/closed/a").await).await;
    assert_eq!(closed["behaviour"], "/closed/*");
    assert_eq!(
        (&closed["status"], &closed["outcome"]),
        (&json!(403), &json!("forbidden"))
    );
    let away = line_of(&node, &get(&node, "/away/a").await).await;
    assert_eq!(
        (&away["status"], &away["origin"]),
        (&json!(502), &json!("away"))
    );
    assert_eq!(away["outcome"], "origin_unreachable", "{away}");
    let head = node
        .request(Method::HEAD, "/a?b=c&d")
        .header("host", "site.example");
    let head = line_of(&node, &Reply::of(head).await).await;
    assert_eq!(
        (&head["bytes"], &head["outcome"]),
        (&json!(0), &json!("ok"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn so_do_those_of_functions_and_those_that_lead_nowhere() {
    let (node, _origin) = site(AccessFormat::Json, |_| {}).await;
    let hello = node
        .function("hello", guests::HELLO, FunctionConfiguration::default())
        .await;
    let reply = hello.get("/?q=\"1\"").await;
    let line = line_of(&node, &reply).await;
    assert_eq!(
        (&line["function"], &line["outcome"]),
        (&json!("hello"), &json!("ok"))
    );
    assert_eq!(line["bytes"], reply.body.len());
    let trap = line_of(&node, &hello.get("/trap").await).await;
    assert_eq!(
        (&trap["status"], &trap["outcome"]),
        (&json!(502), &json!("trap"))
    );
    let nowhere = line_of(&node, &node.get("/nowhere").await).await;
    assert_eq!(
        (&nowhere["status"], &nowhere["outcome"]),
        (&json!(404), &json!("no_route"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_is_told_with_what_it_got() {
    let (node, _origin) = site(AccessFormat::Json, |_| {}).await;
    let mut client = TcpStream::connect(node.http).await.unwrap();
    let request = b"GET /endless HTTP/1.1\r\nhost: site.example\r\n\r\n";
    client.write_all(request).await.unwrap();
    let mut read = vec![0; 300_000];
    client.read_exact(&mut read).await.unwrap();
    drop(client);
    let gone = line(&node, |line| line["target"] == "/endless").await;
    assert_eq!(
        (&gone["status"], &gone["outcome"]),
        (&json!(200), &json!("cancelled"))
    );
    assert!(gone["bytes"].as_u64().unwrap() > 250_000, "{gone}");

    // Before there is an answer.
    let mut client = TcpStream::connect(node.http).await.unwrap();
    let request = b"GET /slow HTTP/1.1\r\nhost: site.example\r\n\r\n";
    client.write_all(request).await.unwrap();
    tokio::time::sleep(Duration::from_millis(30)).await;
    drop(client);
    let gone = line(&node, |line| line["target"] == "/slow").await;
    assert_eq!(
        (gone.get("status"), &gone["outcome"]),
        (None, &json!("cancelled"))
    );
    assert_eq!(gone["origin"], "main", "{gone}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_sends_forges_no_line() {
    for format in [AccessFormat::Json, AccessFormat::Combined] {
        let (node, _origin) = site(format, |_| {}).await;
        let mut client = TcpStream::connect(node.http).await.unwrap();
        let request = b"GET /%0a\"\\?x HTTP/1.1\r\nhost: site.example\r\nconnection: close\r\n\
            referer: a\tb\xc2\x85\xe2\x80\xa8\xff\r\nuser-agent: \"} {\"outcome\":\"ok\\\r\n\r\n";
        client.write_all(request).await.unwrap();
        let mut reply = Vec::new();
        client.read_to_end(&mut reply).await.unwrap();
        assert!(
            reply.starts_with(b"HTTP/1.1 200"),
            "{}",
            reply.escape_ascii()
        );
        let line = eventually(async || lines(&node).pop()).await;
        match format {
            AccessFormat::Json => {
                let line: Value = serde_json::from_str(&line).unwrap();
                assert_eq!(line["target"], "/%0a\"\\?x");
                assert_eq!(line["referer"], "a\tb\u{85}\u{2028}\u{fffd}");
                assert_eq!(line["user_agent"], "\"} {\"outcome\":\"ok\\");
            }
            AccessFormat::Common | AccessFormat::Combined => {
                let end =
                    r#" HTTP/1.1" 200 6 "a\tb\xc2\x85\xe2\x80\xa8\xff" "\"} {\"outcome\":\"ok\\""#;
                assert!(line.ends_with(end), "{line}");
                assert!(line.contains(r#""GET /%0a\"\\?x "#), "{line}");
            }
        }
        assert_eq!(lines(&node).len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_numbers_of_a_distribution_are_scraped_until_it_is_removed() {
    let (node, origin) = site(AccessFormat::Json, |site| {
        site["behaviours"] = json!([{"path": "/away/*", "target": {"origin": "away"}}]);
        site["origins"]["away"] =
            json!({"servers": [{"url": "http://127.0.0.1:9"}], "private": true, "retries": 0});
    })
    .await;
    for path in ["/a", "/a", "/a", "/away/b"] {
        get(&node, path).await;
    }
    let server = format!("server=\"http://{}/\"", origin.address);
    let labels = "distribution=\"site\"";
    for (name, labels, value) in [
        ("requests_total", "status=\"2xx\",cache=\"hit\"", 2.0),
        ("requests_total", "status=\"2xx\",cache=\"miss\"", 1.0),
        ("requests_total", "status=\"5xx\",cache=\"none\"", 1.0),
        ("failures_total", "outcome=\"origin_unreachable\"", 1.0),
    ]
    .map(|(name, more, value)| {
        (
            format!("wharf_distribution_{name}"),
            format!("{labels},{more}"),
            value,
        )
    })
    .into_iter()
    .chain(
        [
            ("bytes_total", "origin=\"main\"", 6.0),
            ("first_byte_seconds_count", "origin=\"main\"", 1.0),
            ("failures_total", "origin=\"away\",reason=\"connect\"", 1.0),
            ("server_up", &format!("origin=\"main\",{server}"), 1.0),
        ]
        .map(|(name, more, value)| {
            (
                format!("wharf_origin_{name}"),
                format!("{labels},{more}"),
                value,
            )
        }),
    ) {
        let name = format!("{name}{{{labels}}}");
        assert_eq!(node.metric(&name).await, value, "{name}");
    }
    let bytes = "wharf_distribution_viewer_bytes_total{distribution=\"site\"}";
    assert!(node.metric(bytes).await >= 18.0);
    assert_eq!(node.metric("wharf_cache_memory_objects").await, 1.0);

    let listed = Reply::of(node.authorized(Method::GET, "/wharf/v1/distributions/site")).await;
    let status = &listed.json()["status"];
    assert_eq!(
        (&status["requests"], &status["from_cache"]),
        (&json!(4), &json!(2))
    );
    let server = &status["origins"]["main"]["servers"][0];
    assert_eq!(
        (&server["state"], &server["requests"]),
        (&json!("healthy"), &json!(1))
    );

    let removed = node.authorized(Method::DELETE, "/wharf/v1/distributions/site");
    assert_eq!(Reply::of(removed).await.status(), 204);
    eventually(async || {
        let metrics = Reply::of(node.authorized(Method::GET, "/metrics")).await;
        (!metrics.text().contains("site")).then_some(())
    })
    .await;
}

/// W3C Trace Context.
#[tokio::test(flavor = "multi_thread")]
async fn an_origin_gets_the_trace_of_a_request() {
    let (node, origin) = site(AccessFormat::Json, |_| {}).await;
    let told = || {
        let last = origin.last.lock().unwrap();
        last["traceparent"].to_str().unwrap().to_owned()
    };
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = node
        .request(Method::GET, "/a")
        .header("host", "site.example");
    Reply::of(request.header("traceparent", trace)).await;
    assert_eq!(told(), trace);
    // Without one, or with none that is one, it gets one by which the request is found.
    for made in [None, Some("00-0-0-00")] {
        let path = format!("/b{}", made.is_some());
        let mut request = node
            .request(Method::GET, &path)
            .header("host", "site.example");
        if let Some(made) = made {
            request = request.header("traceparent", made);
        }
        let reply = Reply::of(request).await;
        let id = reply.header("x-request-id").replace('-', "");
        assert!(told().starts_with(&format!("00-{id}-")), "{}", told());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_answers_badly_was_reached() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(b"220 smtp.example ESMTP\r\n").await;
        }
    });
    let (node, _origin) = site(AccessFormat::Json, |site| {
        site["origins"]["main"]["servers"] = json!([{"url": format!("http://{address}")}]);
        site["origins"]["main"]["retries"] = json!(0);
    })
    .await;
    let reply = get(&node, "/a").await;
    let word = "origin_bad_response";
    assert_eq!((reply.status(), reply.error()), (502, word));
    assert_eq!(reply.json()["error"], word);
    assert_eq!(line_of(&node, &reply).await["outcome"], word);
    let failures =
        "wharf_distribution_failures_total{distribution=\"site\",outcome=\"origin_bad_response\"}";
    assert_eq!(node.metric(failures).await, 1.0);
    let reasons =
        "wharf_origin_failures_total{distribution=\"site\",origin=\"main\",reason=\"broken\"}";
    assert_eq!(node.metric(reasons).await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_is_told_as_the_origins() {
    for cache_control in ["max-age=60", "no-store"] {
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: 100\r\ncache-control: {cache_control}\r\n\r\n"
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.read(&mut [0; 1024]).await;
                let _ = stream.write_all(head.as_bytes()).await;
                let _ = stream.write_all(b"0123456789").await;
                // So that the viewer has the head before it breaks off.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        let (node, _origin) = site(AccessFormat::Json, |site| {
            site["origins"]["main"]["servers"] = json!([{"url": format!("http://{address}")}]);
        })
        .await;
        let reply = get(&node, "/a").await;
        assert!(!reply.complete, "{reply:?}");
        let line = line_of(&node, &reply).await;
        assert_eq!((&line["status"], &line["bytes"]), (&json!(200), &json!(10)));
        assert_eq!(line["outcome"], "origin_bad_response", "{line}");
        let reasons =
            "wharf_origin_failures_total{distribution=\"site\",origin=\"main\",reason=\"broken\"}";
        assert_eq!(node.metric(reasons).await, 1.0);
    }
}
