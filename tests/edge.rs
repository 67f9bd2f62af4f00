//! Distributions, from a request on a socket to an origin on another: what a viewer gets, and what the origin is asked.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::support::{Node, Reply, eventually, guests};
use bytes::Bytes;
use futures::future::join_all;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use wharf::model::FunctionConfiguration;

/// A server on this machine: what it was asked, and what it answers by path.
struct Origin {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    last: Arc<Mutex<HeaderMap>>,
}

impl Origin {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let last = Arc::new(Mutex::new(HeaderMap::new()));
        tokio::spawn({
            let (asked, last) = (asked.clone(), last.clone());
            async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let (asked, last) = (asked.clone(), last.clone());
                    let service = service_fn(move |request: Request<Incoming>| {
                        let number = asked.fetch_add(1, Relaxed) + 1;
                        *last.lock().unwrap() = request.headers().clone();
                        answer(request, number)
                    });
                    tokio::spawn(
                        hyper::server::conn::http1::Builder::new()
                            .serve_connection(TokioIo::new(stream), service),
                    );
                }
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

    /// A field of the last request, as one list.
    fn last(&self, name: &str) -> Option<String> {
        let last = self.last.lock().unwrap();
        let values = last.get_all(name).iter();
        let values: Vec<&str> = values.map(|value| value.to_str().unwrap()).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }
}

async fn answer(
    request: Request<Incoming>,
    number: usize,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path_and_query().unwrap().to_string();
    let body = format!("{number} {} {path}\n", request.method());
    let response = Response::builder()
        .header("content-type", "text/plain")
        .header("x-number", number);
    Ok(match request.uri().path() {
        "/private" => response
            .header("cache-control", "private, max-age=60")
            .body(body.into()),
        "/slow" => {
            tokio::time::sleep(Duration::from_millis(200)).await;
            response
                .header("cache-control", "max-age=60")
                .body(body.into())
        }
        "/large" => response
            .header("cache-control", "max-age=60")
            .header("etag", "\"large\"")
            .body("0123456789".repeat(1000).into()),
        "/shared" => response
            .header("access-control-allow-origin", "https://origin.example")
            .body(body.into()),
        "/tagged" => response
            .header("cache-control", "max-age=60")
            .header("cache-tag", "news")
            .body(body.into()),
        _ => response
            .header("cache-control", "max-age=60")
            .body(body.into()),
    }
    .unwrap())
}

/// A node with a distribution in front of an origin, changed by `change`.
async fn site(change: impl FnOnce(&mut Value)) -> (Node, Origin) {
    let origin = Origin::start().await;
    let node = Node::start().await;
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
    ask(node, Method::GET, path, &[]).await
}

async fn ask(node: &Node, method: Method, path: &str, fields: &[(&str, &str)]) -> Reply {
    let mut request = node.request(method, path).header("host", "site.example");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    Reply::of(request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_fresh_is_served_without_asking_the_origin() {
    let (node, origin) = site(|_| {}).await;
    let first = get(&node, "/a?b").await;
    assert_eq!(first.text(), "1 GET /a?b\n");
    assert!(
        first.header("cache-status").contains("fwd=uri-miss"),
        "{first:?}"
    );
    let second = get(&node, "/a?b").await;
    assert_eq!(second.text(), "1 GET /a?b\n");
    assert!(second.header("cache-status").contains("hit"), "{second:?}");
    assert_eq!(second.header("age"), "0");
    let head = ask(&node, Method::HEAD, "/a?b", &[]).await;
    assert_eq!((head.status(), head.text()), (200, ""));
    assert_eq!(get(&node, "/a?c").await.text(), "2 GET /a?c\n");
    assert_eq!(origin.asked(), 2);
    assert!(origin.last("via").unwrap().starts_with("1.1 wharf-"));
    assert!(origin.last("cdn-loop").unwrap().starts_with("wharf-"));
    assert_eq!(
        origin.last("x-forwarded-host").as_deref(),
        Some("site.example")
    );
    // What is private is nobody else's.
    assert_eq!(get(&node, "/private").await.text(), "3 GET /private\n");
    assert_eq!(get(&node, "/private").await.text(), "4 GET /private\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_and_conditions_are_answered_from_what_is_stored() {
    let (node, origin) = site(|_| {}).await;
    assert_eq!(get(&node, "/large").await.text().len(), 10_000);
    let part = ask(&node, Method::GET, "/large", &[("range", "bytes=5-14")]).await;
    assert_eq!((part.status(), part.text()), (206, "5678901234"));
    assert_eq!(part.header("content-range"), "bytes 5-14/10000");
    let beyond = ask(&node, Method::GET, "/large", &[("range", "bytes=10000-")]).await;
    assert_eq!(beyond.status(), 416);
    let same = ask(
        &node,
        Method::GET,
        "/large",
        &[("if-none-match", "\"large\"")],
    )
    .await;
    assert_eq!((same.status(), same.text()), (304, ""));
    assert_eq!(origin.asked(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn misses_of_one_object_reach_the_origin_once() {
    let (node, origin) = site(|_| {}).await;
    let replies = join_all((0..100).map(|_| get(&node, "/slow"))).await;
    for reply in replies {
        assert_eq!(reply.text(), "1 GET /slow\n");
    }
    assert_eq!(origin.asked(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_behaviour_decides_who_asks_how_and_what_is_told() {
    let (node, origin) = site(|site| {
        site["default"]["compress"] = json!({"codings": ["gzip"]});
        site["default"]["response_headers"] = json!({
            "security": {}, "remove": ["x-number"], "set": [["x-edge", "wharf"]],
        });
        site["behaviours"] = json!([
            {"path": "/post/*", "target": {"origin": "main"}, "methods": ["POST"], "request_body": 10},
            {"path": "/closed/*", "target": {"origin": "main"}, "access": {"deny": ["127.0.0.0/8"]}},
            {"path": "/rare/*", "target": {"origin": "main"},
             "rate_limit": {"requests": 1, "per": {"secs": 60, "nanos": 0}, "burst": 2}},
            {"path": "/secure/*", "target": {"origin": "main"}, "redirect_to_https": true},
        ]);
    })
    .await;
    let large = ask(
        &node,
        Method::GET,
        "/large",
        &[("accept-encoding", "gzip, br")],
    )
    .await;
    assert_eq!(large.header("content-encoding"), "gzip", "{large:?}");
    assert_eq!(large.header("x-edge"), "wharf");
    assert_eq!(large.header("x-content-type-options"), "nosniff");
    assert_eq!(large.header("x-number"), "");
    let plain = ask(&node, Method::GET, "/large", &[]).await;
    assert_eq!(
        (plain.header("content-encoding"), plain.text().len()),
        ("", 10_000)
    );
    let asked = origin.asked();
    let wrong = get(&node, "/post/a").await;
    assert_eq!((wrong.status(), wrong.header("allow")), (405, "POST"));
    let post = node
        .request(Method::POST, "/post/a")
        .header("host", "site.example");
    let long = Reply::of(post.body("0123456789 and more")).await;
    assert_eq!(long.status(), 413);
    let closed = get(&node, "/closed/a").await;
    assert_eq!((closed.status(), closed.error()), (403, "forbidden"));
    let secure = get(&node, "/secure/a?b").await;
    let to = "https://site.example/secure/a?b";
    assert_eq!((secure.status(), secure.header("location")), (308, to));
    assert_eq!(origin.asked(), asked, "none of these reaches the origin");
    for expected in [200, 200, 429] {
        assert_eq!(get(&node, "/rare/a").await.status(), expected);
    }
    let throttled = get(&node, "/rare/a").await;
    let seconds: u64 = throttled.header("retry-after").parse().unwrap();
    assert!((30..=60).contains(&seconds), "{throttled:?}");
}

/// RFC 8586.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_was_here_before_is_a_loop() {
    let (node, origin) = site(|_| {}).await;
    get(&node, "/a").await;
    let this = origin.last("cdn-loop").unwrap();
    let again = ask(&node, Method::GET, "/b", &[("cdn-loop", &this)]).await;
    assert_eq!((again.status(), again.error()), (508, "bad_request"));
    let other = ask(&node, Method::GET, "/b", &[("cdn-loop", "other-cdn")]).await;
    assert_eq!(other.status(), 200);
    assert_eq!(
        origin.last("cdn-loop").unwrap().matches("wharf-").count(),
        1
    );
    // A quote that a client opens hides nothing from whoever gets the lines as one.
    ask(&node, Method::GET, "/c", &[("cdn-loop", "a;x=\"")]).await;
    let joined = origin.last("cdn-loop").unwrap();
    assert!(joined.starts_with("a;x=\", wharf-"), "{joined}");
    let again = ask(&node, Method::GET, "/d", &[("cdn-loop", &joined)]).await;
    assert_eq!((again.status(), again.error()), (508, "bad_request"));
    assert_eq!(origin.asked(), 3);
}

/// RFC 8586 section 3: a cache may not take the field away, and so no hook of it may.
#[tokio::test(flavor = "multi_thread")]
async fn a_hook_cannot_take_away_whom_a_request_has_passed() {
    let (node, main, other) = probed(Node::start().await).await;
    let hook = json!([{"function": "probe"}]);
    let both = json!({"viewer_request": hook, "origin_request": hook});
    hooked(&node, &main, &other, both).await;
    let passed = [("cdn-loop", "other-cdn"), ("via", "1.1 other")];
    assert_eq!(
        ask(&node, Method::GET, "/hook/forget", &passed)
            .await
            .status(),
        200
    );
    assert_eq!(main.last("x-origin-request").as_deref(), Some("seen"));
    let parties = main.last("cdn-loop").unwrap();
    assert!(parties.starts_with("other-cdn, wharf-"), "{parties}");
    let via = main.last("via").unwrap();
    assert!(via.starts_with("1.1 other, 1.1 wharf-"), "{via}");
}

/// CVE-2024-45614: CGI and its kin make one variable of `-` and `_`.
#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_a_client_may_not_send_does_not_pass_in_another_spelling() {
    let (node, origin) = site(|_| {}).await;
    let made_up = [
        ("x_forwarded_for", "192.0.2.1"),
        ("x-forwarded_host", "evil.example"),
        ("x_real_ip", "192.0.2.1"),
        ("x-original-url", "/evil"),
        ("x_original_url", "/evil"),
        ("x_http-method_override", "PUT"),
    ];
    let mut fields = made_up.to_vec();
    fields.push(("x_else", "1"));
    let asked = ask(&node, Method::GET, "/a", &fields).await;
    assert_eq!(asked.text(), "1 GET /a\n");
    for (name, _) in made_up {
        assert_eq!(origin.last(name), None, "{name}");
    }
    assert_eq!(origin.last("x_else").as_deref(), Some("1"));
    assert_eq!(origin.last("x-forwarded-for").as_deref(), Some("127.0.0.1"));
}

/// Fetch standard, "CORS protocol": a browser takes one `Access-Control-Allow-Origin`.
#[tokio::test(flavor = "multi_thread")]
async fn the_behaviours_cors_stands_alone() {
    let (node, origin) = site(|site| {
        site["default"]["response_headers"] = json!({"cors": {
            "AllowOrigins": ["https://page.example"], "AllowMethods": ["PUT"],
        }});
    })
    .await;
    let page = ("origin", "https://page.example");
    let shared = ask(&node, Method::GET, "/shared", &[page]).await;
    let allowed = shared.headers.get_all("access-control-allow-origin");
    let allowed: Vec<_> = allowed.iter().collect();
    assert_eq!(allowed, ["https://page.example"], "{shared:?}");
    let stranger = ask(
        &node,
        Method::GET,
        "/shared",
        &[("origin", "https://b.example")],
    )
    .await;
    assert_eq!(stranger.header("access-control-allow-origin"), "");
    // Who is no page gets what a cache between may give to a page (Fetch standard, "CORS protocol and HTTP caches").
    let nobody = ask(&node, Method::GET, "/shared", &[]).await;
    assert_eq!(nobody.header("vary"), "Origin", "{nobody:?}");
    let wanted = ("access-control-request-method", "PUT");
    let asked = origin.asked();
    let preflight = ask(&node, Method::OPTIONS, "/shared", &[page, wanted]).await;
    assert_eq!(preflight.status(), 204);
    assert_eq!(preflight.header("access-control-allow-methods"), "PUT");
    assert_eq!(origin.asked(), asked);
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_see_requests_and_answers_on_their_way() {
    let origin = Origin::start().await;
    let node = Node::start().await;
    node.function(
        "probe",
        guests::HOOK_PROBE,
        FunctionConfiguration::default(),
    )
    .await;
    let site = json!({
        "name": "site",
        "hosts": ["site.example"],
        "origins": {"main": {"servers": [{"url": format!("http://{}", origin.address)}], "private": true}},
        "default": {"target": {"origin": "main"}, "hooks": {
            "viewer_request": [{"function": "probe"}],
            "origin_request": [{"function": "probe"}],
            "origin_response": [{"function": "probe"}],
            "viewer_response": [{"function": "probe"}],
        }},
    });
    let put = node.authorized(Method::PUT, "/wharf/v1/distributions/site");
    let reply = Reply::of(put.json(&site)).await;
    assert_eq!(reply.status(), 204, "{reply:?}");
    let rewritten = get(&node, "/hook/rewrite").await;
    assert_eq!(rewritten.text(), "1 GET /rewritten\n");
    assert_eq!(rewritten.header("x-origin-response"), "seen");
    assert_eq!(rewritten.header("x-viewer-response"), "seen");
    assert_eq!(origin.last("x-client").as_deref(), Some("127.0.0.1"));
    assert_eq!(origin.last("x-origin-request").as_deref(), Some("seen"));
    let made = get(&node, "/hook/respond").await;
    assert_eq!((made.status(), made.text()), (418, "made by the hook\n"));
    let trapped = get(&node, "/hook/trap").await;
    assert_eq!((trapped.status(), trapped.error()), (502, "trap"));
    let late = get(&node, "/hook/late-key").await;
    assert_eq!((late.status(), late.error()), (502, "bad_response"));
    assert_eq!(origin.asked(), 1);
    // What they cost, and how they went.
    for (point, result, calls) in [
        ("viewer_request", "ok", 3.0),
        ("viewer_request", "failed", 1.0),
        ("origin_request", "failed", 1.0),
        ("viewer_response", "ok", 2.0),
    ] {
        let name = "wharf_distribution_hook_calls_total";
        let line = format!(r#"{name}{{distribution="site",point="{point}",result="{result}"}}"#);
        assert_eq!(node.metric(&line).await, calls, "{line}");
    }
    let cpu = r#"wharf_invocation_cpu_seconds_total{function="probe"}"#;
    assert!(node.metric(cpu).await > 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_at_every_point_has_what_its_function_was_granted() {
    let (node, origin) = site(|_| {}).await;
    let granted = FunctionConfiguration {
        key_value: [("default".to_owned(), "counts".to_owned())].into(),
        config: [("flag".to_owned(), "blue".to_owned())].into(),
        // A count is on disk before the store answers.
        timeout: Some(Duration::from_secs(20)),
        ..FunctionConfiguration::default()
    };
    let probe = node.function("probe", guests::HOOK_PROBE, granted).await;
    let hook = json!([{"function": "probe"}]);
    let put = node.authorized(Method::PUT, "/wharf/v1/distributions/site");
    let put = put.json(&json!({
        "name": "site",
        "hosts": ["site.example"],
        "origins": {"main": {"servers": [{"url": format!("http://{}", origin.address)}], "private": true}},
        "default": {"target": {"origin": "main"}, "hooks": {
            "viewer_request": hook, "origin_request": hook, "origin_response": hook, "viewer_response": hook,
        }},
    }));
    assert_eq!(Reply::of(put).await.status(), 204);
    let first = get(&node, "/hook/granted").await;
    assert_eq!(first.status(), 200, "{first:?}");
    assert_eq!(origin.last("x-viewer-request").as_deref(), Some("1 blue"));
    assert_eq!(origin.last("x-origin-request").as_deref(), Some("2 blue"));
    assert_eq!(first.header("x-origin-response"), "3 blue");
    assert_eq!(first.header("x-viewer-response"), "4 blue");
    // The two at the origin have nothing to do with an answer from the cache.
    let second = get(&node, "/hook/granted").await;
    assert_eq!(second.header("x-origin-response"), "3 blue");
    assert_eq!(second.header("x-viewer-response"), "6 blue");
    let said = eventually(async || {
        let lines = probe.log().await.into_iter();
        let said: Vec<String> = lines
            .map(|line| line.message)
            .filter(|line| line.contains(" is number "))
            .collect();
        (said.len() == 6).then_some(said)
    })
    .await;
    for (number, point) in [
        "viewer_request",
        "origin_request",
        "origin_response",
        "viewer_response",
    ]
    .into_iter()
    .enumerate()
    {
        let line = format!("{point} is number {}", number + 1);
        assert!(said[number].contains(&line), "{said:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_purged_is_fetched_again() {
    let (node, origin) = site(|_| {}).await;
    let purge = async |what: Value| {
        let request = node.authorized(Method::POST, "/wharf/v1/distributions/site/purge");
        Reply::of(request.json(&what)).await
    };
    let numbers = async || {
        let mut numbers = Vec::new();
        for path in ["/tagged", "/a/1", "/a/2", "/b"] {
            numbers.push(get(&node, path).await.header("x-number").to_owned());
        }
        numbers
    };
    assert_eq!(numbers().await, ["1", "2", "3", "4"]);
    assert_eq!(numbers().await, ["1", "2", "3", "4"]);
    assert_eq!(
        get(&node, "/tagged").await.header("cache-tag"),
        "",
        "it is the node's"
    );
    for (what, objects, expected) in [
        (json!({"tags": ["news"]}), 1, ["5", "2", "3", "4"]),
        (
            json!({"prefixes": ["http://site.example/a/"]}),
            2,
            ["5", "6", "7", "4"],
        ),
        (
            json!({"urls": ["http://site.example/b"]}),
            1,
            ["5", "6", "7", "8"],
        ),
        (json!({"urls": ["/b"]}), 1, ["5", "6", "7", "9"]),
        (json!({"prefixes": ["/a"]}), 2, ["5", "10", "11", "9"]),
        (json!({"all": true}), 4, ["12", "13", "14", "15"]),
    ] {
        let purged = purge(what.clone()).await;
        assert_eq!(purged.json()["objects"], objects, "{what}: {purged:?}");
        assert_eq!(numbers().await, expected, "{what}");
    }
    assert_eq!(purge(json!({})).await.status(), 400);
    assert_eq!(
        purge(json!({"urls": ["/"], "all": true})).await.status(),
        400
    );
    let summary = Reply::of(node.authorized(Method::GET, "/wharf/v1/cache")).await;
    assert_eq!(summary.json()["memory"]["objects"], 4, "{summary:?}");
    assert!(summary.json()["distributions"]["site"]["hits"].as_u64() > Some(3));
    assert_eq!(origin.asked(), 15);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_distribution_is_told_with_its_key() {
    let node = Node::start().await;
    let put = async |site: Value| {
        let request = node.authorized(Method::PUT, "/wharf/v1/distributions/site");
        let reply = Reply::of(request.json(&site)).await;
        assert_eq!(reply.status(), 400, "{reply:?}");
        reply.json()["message"].as_str().unwrap().to_owned()
    };
    let site = |target: Value| {
        json!({
            "name": "site", "hosts": ["site.example"],
            "origins": {"main": {"servers": [{"url": "http://example.com"}]}},
            "default": {"target": target},
        })
    };
    let said = put(site(json!({"origin": "other"}))).await;
    assert!(said.contains("default.origin"), "{said}");
    let said = put(site(json!({"function": "nobody"}))).await;
    assert!(said.contains("there is no function `nobody`"), "{said}");
    let mut other = site(json!({"origin": "main"}));
    other["name"] = "other".into();
    assert!(put(other).await.contains("the path's `site`"));
    node.function("page", guests::HOSTILE, FunctionConfiguration::default())
        .await;
    let mut hooked = site(json!({"origin": "main"}));
    hooked["default"]["hooks"] = json!({"viewer_request": [{"function": "page"}]});
    let said = put(hooked).await;
    assert!(said.contains("has no hook viewer-request"), "{said}");
}

/// The node with the probe of hooks, and two origins.
async fn probed(node: Node) -> (Node, Origin, Origin) {
    let probe = FunctionConfiguration::default();
    node.function("probe", guests::HOOK_PROBE, probe).await;
    (node, Origin::start().await, Origin::start().await)
}

/// Puts a distribution with the origins `main` and `other` in place, whose default behaviour has these hooks.
async fn hooked(node: &Node, main: &Origin, other: &Origin, hooks: Value) {
    let server = |origin: &Origin| json!({"servers": [{"url": format!("http://{}", origin.address)}], "private": true});
    let site = json!({
        "name": "site",
        "hosts": ["site.example"],
        "origins": {"main": server(main), "other": server(other)},
        "default": {"target": {"origin": "main"}, "hooks": hooks},
    });
    let put = node.authorized(Method::PUT, "/wharf/v1/distributions/site");
    assert_eq!(Reply::of(put.json(&site)).await.status(), 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_picks_the_origin_and_the_cache_key() {
    let (node, main, other) = probed(Node::start().await).await;
    let hook = json!([{"function": "probe"}]);
    hooked(
        &node,
        &main,
        &other,
        json!({"viewer_request": hook, "origin_request": hook}),
    )
    .await;
    // One key for both, so the second is answered with the first.
    for path in ["/hook/origin?a", "/hook/origin?b"] {
        assert_eq!(get(&node, path).await.text(), "1 GET /hook/origin?a\n");
    }
    assert_eq!((main.asked(), other.asked()), (0, 1));
    // After a miss, too; the key is still that of the URL.
    for (path, number) in [("/hook/late-origin?a", 2), ("/hook/late-origin?b", 3)] {
        for _ in 0..2 {
            let expected = format!("{number} GET {path}\n");
            assert_eq!(get(&node, path).await.text(), expected);
        }
    }
    assert_eq!((main.asked(), other.asked()), (0, 3));
    let nowhere = get(&node, "/hook/nowhere").await;
    assert_eq!((nowhere.status(), nowhere.error()), (502, "bad_response"));
    assert_eq!((main.asked(), other.asked()), (0, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn request_hooks_follow_each_other_until_one_answers_or_fails() {
    let (node, main, other) = probed(Node::start().await).await;
    let viewer_request = |hooks: &[&str]| {
        let hooks = hooks.iter();
        let hooks = hooks.map(|on_failure| json!({"function": "probe", "on_failure": on_failure}));
        json!({"viewer_request": hooks.collect::<Vec<_>>()})
    };
    let calls = async |result: &str| {
        let labels = format!(r#"distribution="site",point="viewer_request",result="{result}""#);
        node.metric(&format!("wharf_distribution_hook_calls_total{{{labels}}}"))
            .await
    };
    hooked(&node, &main, &other, viewer_request(&["fail", "fail"])).await;
    // Each sees what the one before made of the request.
    get(&node, "/hook/chain").await;
    assert_eq!(main.last("x-viewer-request").as_deref(), Some("seen, seen"));
    assert_eq!(calls("ok").await, 2.0);
    assert_eq!(get(&node, "/hook/respond").await.status(), 418);
    assert_eq!(calls("ok").await, 3.0, "the second was not asked");
    let trapped = get(&node, "/hook/trap").await;
    assert_eq!((trapped.status(), trapped.error()), (502, "trap"));
    assert_eq!((calls("failed").await, main.asked()), (1.0, 1));
    // A hook that is too slow has failed like any other.
    let busy = FunctionConfiguration {
        fuel: Some(1 << 50),
        cpu: Some(Duration::from_secs(20)),
        ..FunctionConfiguration::default()
    };
    node.function("busy", guests::HOOK_PROBE, busy).await;
    let hook = json!({"viewer_request": [{"function": "busy"}]});
    hooked(&node, &main, &other, hook).await;
    let late = get(&node, "/hook/loop").await;
    assert_eq!((late.status(), late.error()), (502, "timeout"));

    hooked(&node, &main, &other, viewer_request(&["bypass", "bypass"])).await;
    assert_eq!(get(&node, "/hook/trap").await.text(), "2 GET /hook/trap\n");
    assert_eq!(calls("bypassed").await, 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_country_of_a_client_is_told_to_hooks_and_to_access_rules() {
    let database = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/edge/loopback.mmdb");
    let node = Node::start_with(|config| config.countries = Some(database.into())).await;
    let (node, main, other) = probed(node).await;
    let hook = json!([{"function": "probe"}]);
    hooked(
        &node,
        &main,
        &other,
        json!({"viewer_request": hook, "viewer_response": hook}),
    )
    .await;
    let asked = get(&node, "/hook/country").await;
    assert_eq!(asked.text(), "127.0.0.1  NZ");
    let answered = get(&node, "/hook/client").await;
    assert_eq!(answered.header("x-client"), "127.0.0.1  NZ");
    for (countries, status) in [
        (json!({"only": ["NZ", "DE"]}), 200),
        (json!({"only": ["DE"]}), 403),
        (json!({"except": ["NZ"]}), 403),
    ] {
        let site = json!({
            "name": "site",
            "hosts": ["site.example"],
            "origins": {"main": {"servers": [{"url": format!("http://{}", main.address)}], "private": true}},
            "default": {"target": {"origin": "main"}, "access": {"countries": countries}},
        });
        let put = node.authorized(Method::PUT, "/wharf/v1/distributions/site");
        assert_eq!(Reply::of(put.json(&site)).await.status(), 204);
        assert_eq!(get(&node, "/page").await.status(), status, "{site}");
    }
}

/// A hook that rewrites a request leaves nothing where another behaviour, with other rules, would find it.
#[tokio::test(flavor = "multi_thread")]
async fn what_one_behaviour_stored_is_not_served_by_another() {
    let (node, origin) = site(|_| {}).await;
    node.function(
        "probe",
        guests::HOOK_PROBE,
        FunctionConfiguration::default(),
    )
    .await;
    let other = Origin::start().await;
    let server = |origin: &Origin| json!({"servers": [{"url": format!("http://{}", origin.address)}], "private": true});
    let site = json!({
        "name": "site",
        "hosts": ["site.example"],
        "origins": {"main": server(&origin), "other": server(&other)},
        "behaviours": [{
            "path": "/hook/*", "target": {"origin": "other"},
            "hooks": {"viewer_request": [{"function": "probe"}]},
        }],
        "default": {"target": {"origin": "main"}},
    });
    let put = node.authorized(Method::PUT, "/wharf/v1/distributions/site");
    assert_eq!(Reply::of(put.json(&site)).await.status(), 204);
    for _ in 0..2 {
        assert_eq!(
            get(&node, "/hook/rewrite").await.text(),
            "1 GET /rewritten\n"
        );
    }
    assert_eq!((origin.asked(), other.asked()), (0, 1));
    get(&node, "/rewritten").await;
    assert_eq!((origin.asked(), other.asked()), (1, 1));
    // Both are at that URL.
    let purge = node.authorized(Method::POST, "/wharf/v1/distributions/site/purge");
    let purged = Reply::of(purge.json(&json!({"urls": ["/rewritten"]}))).await;
    assert_eq!(purged.json()["objects"], 2);
}
