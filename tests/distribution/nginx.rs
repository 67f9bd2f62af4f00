//! nginx behind a node, and curl and h2load before it: what these understand of HTTP is understood of it in the field.

use std::{fs::File, time::Duration};

use super::{
    curl::Curl,
    server::Nginx,
    site::{HOST, Setup, Site},
};
use crate::{
    process::{PATIENCE, eventually},
    support::debian,
};

/// Bytes that are not the same anywhere.
fn bytes(length: usize) -> Vec<u8> {
    let numbers = (0..length.div_ceil(4)).flat_map(|number| {
        let number = u32::try_from(number).unwrap();
        number.wrapping_mul(2_654_435_761).to_be_bytes()
    });
    numbers.take(length).collect()
}

/// All ways in which clients speak to a node.
fn clients(site: &Site) -> [(&'static str, Curl); 4] {
    [
        ("1.1", site.curl()),
        ("2", site.curl().with(&["--http2-prior-knowledge"])),
        ("1.1", site.curl_with_tls().with(&["--http1.1"])),
        ("2", site.curl_with_tls().with(&["--http2"])),
    ]
}

#[tokio::test]
async fn nginx_is_an_origin_in_each_protocol_that_it_speaks() {
    let nginx = Nginx::start().await;
    let (page, large) = ("line\n".repeat(2000), bytes(3 << 20));
    let trust = format!(
        "tls = {{ server_name = \"origin.example\", ca = {:?} }}",
        nginx.certificate()
    );
    let ways = [
        ("http1", nginx.http1(), "HTTP/1.1", ""),
        ("http2", nginx.http2(), "HTTP/2.0", "protocol = \"http2\""),
        ("tls1", nginx.tls1(), "HTTP/1.1", &trust),
        ("tls2", nginx.tls2(), "HTTP/2.0", &trust),
    ];
    let mut more = String::new();
    for (name, url, _, settings) in &ways {
        more += &format!(
            "[distributions.site.origins.{name}]\nservers = [\"{url}\"]\nprivate = true\n{settings}\n\
             [[distributions.site.behaviours]]\npath = \"/{name}/*\"\norigin = \"{name}\"\n"
        );
        nginx.file(&format!("{name}/page.txt"), &page);
        nginx.file(&format!("{name}/large"), &large);
    }
    let setup = Setup {
        more: &more,
        ..Setup::default()
    };
    let site = Site::with(&nginx.http1(), setup).await;
    let curl = site.curl();
    for (asked, (name, _, protocol, _)) in ways.iter().enumerate() {
        let whole = curl.get(&format!("/{name}/large")).await;
        assert_eq!((whole.exit, whole.status), (0, 200), "{name}: {whole:?}");
        assert!(whole.body == large, "{name}");
        assert_eq!(whole.field("content-length"), large.len().to_string());
        let range = ["--range", "1000000-1000009"];
        let part = curl.stored(&format!("/{name}/large"), &range).await;
        assert_eq!(part.body, &large[1_000_000..1_000_010], "{name}");
        assert!(part.is_hit(), "{name}: {part:?}");
        let page_path = format!("/{name}/page.txt");
        for expected in ["fwd=uri-miss; fwd-status=200; stored", "hit; ttl="] {
            let coded = curl.ask(&page_path, &["--compressed"]).await;
            assert_eq!(coded.field("content-encoding"), "gzip", "{name}: {coded:?}");
            assert_eq!(coded.field("vary").to_lowercase(), "accept-encoding");
            assert_eq!(coded.text(), page, "{name}");
            assert!(coded.cache().starts_with(expected), "{name}: {coded:?}");
        }
        // Another variant, which has a length.
        let plain = curl.get(&page_path).await;
        assert_eq!(
            (plain.field("content-encoding"), plain.text()),
            (String::new(), &*page)
        );
        assert!(
            plain.cache().starts_with("fwd=vary-miss"),
            "{name}: {plain:?}"
        );
        let logged = nginx.logged(3 * (asked + 1)).await;
        for request in &logged[3 * asked..] {
            assert!(request.request.ends_with(protocol), "{request:?}");
        }
    }
}

#[tokio::test]
async fn every_client_gets_wholes_parts_and_conditions_from_the_cache() {
    let nginx = Nginx::start().await;
    let large = bytes(3 << 20);
    nginx.file("fresh/large", &large);
    let site = Site::of(&nginx.http1()).await;
    let path = "/fresh/large";
    for (version, curl) in clients(&site) {
        // In clear text and with TLS: two URLs.
        let first = curl.get(path).await;
        assert_eq!((first.exit, first.status), (0, 200), "{first:?}");
        assert_eq!(first.version, version);
        let second = curl.stored(path, &[]).await;
        assert!(second.is_hit(), "{second:?}");
        assert!(first.body == large && second.body == large);
        assert!(second.field("age").parse::<u64>().is_ok(), "{second:?}");

        let etag = second.field("etag");
        assert!(etag.starts_with('"'), "{second:?}");
        for condition in [&etag, &format!("W/\"other\", W/{etag}"), "*"] {
            let field = format!("if-none-match: {condition}");
            let same = curl.ask(path, &["--header", &field]).await;
            assert_eq!(
                (same.exit, same.status, same.text()),
                (0, 304, ""),
                "{field}"
            );
            assert_eq!(same.field("etag"), etag);
        }
        let since = format!("if-modified-since: {}", second.field("last-modified"));
        assert_eq!(curl.ask(path, &["--header", &since]).await.status, 304);
        let head = curl.ask(path, &["--head"]).await;
        assert_eq!((head.exit, head.status), (0, 200));
        assert_eq!(head.field("content-length"), large.len().to_string());
        assert!(head.is_hit(), "{head:?}");

        // A download that broke off is resumed, unless it is of something else by now.
        let resumed = curl.ask(path, &["--continue-at", "3000000"]).await;
        assert_eq!((resumed.exit, resumed.status), (0, 206), "{resumed:?}");
        assert!(resumed.body == large[3_000_000..]);
        for (condition, status) in [(&*etag, 206), ("\"other\"", 200)] {
            let field = format!("if-range: {condition}");
            let part = curl
                .ask(path, &["--range", "0-9", "--header", &field])
                .await;
            assert_eq!((part.exit, part.status), (0, status), "{field}");
        }
        let last = curl.ask(path, &["--range", "-10"]).await;
        assert_eq!(last.body, &large[large.len() - 10..]);
        let beyond = curl.ask(path, &["--range", "9999999-"]).await;
        assert_eq!(beyond.status, 416);
        assert_eq!(
            beyond.field("content-range"),
            format!("bytes */{}", large.len())
        );
        let parts = curl.ask(path, &["--range", "0-9,2000000-2000009"]).await;
        assert_eq!((parts.exit, parts.status), (0, 206), "{parts:?}");
        assert!(
            multipart(&parts.field("content-type"), &parts.body)
                == [&large[..10], &large[2_000_000..2_000_010]]
        );
    }
    nginx.logged(2).await;
    // Of thirteen requests of each client, but for the first of each URL.
    assert_eq!(site.counted("hits").await, 4 * 13 - 2);
}

/// RFC 9111 section 3.3.
#[tokio::test]
async fn the_last_bytes_are_stored_for_who_asks_for_just_these() {
    let nginx = Nginx::start().await;
    let large = bytes(3 << 20);
    nginx.file("fresh/large", &large);
    let site = Site::of(&nginx.http1()).await;
    let (_, curl) = clients(&site).into_iter().next().unwrap();
    for expected in ["fwd=partial; fwd-status=206; stored", "hit; ttl="] {
        let last = curl.stored("/fresh/large", &["--range", "-10"]).await;
        assert_eq!((last.exit, last.status), (0, 206), "{last:?}");
        assert_eq!(last.body, &large[large.len() - 10..]);
        let place = format!(
            "bytes {}-{}/{}",
            large.len() - 10,
            large.len() - 1,
            large.len()
        );
        assert_eq!(last.field("content-range"), place);
        assert!(last.cache().starts_with(expected), "{last:?}");
    }
    nginx.logged(1).await;
}

/// The parts of a body, by the boundary that its type names (RFC 2046 section 5.1).
fn multipart<'a>(content_type: &str, body: &'a [u8]) -> Vec<&'a [u8]> {
    let (_, boundary) = content_type.split_once("boundary=").unwrap();
    let delimiter = format!("\r\n--{boundary}");
    let mut parts = Vec::new();
    let mut rest = body;
    while let Some(at) = find(rest, delimiter.as_bytes()) {
        parts.push(&rest[..at]);
        rest = &rest[at + delimiter.len()..];
    }
    assert_eq!(rest, b"--\r\n");
    let body = |part: &'a [u8]| &part[find(part, b"\r\n\r\n").unwrap() + 4..];
    parts.into_iter().skip(1).map(body).collect()
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

#[tokio::test]
async fn what_is_stored_is_revalidated_and_replaced_when_it_changed() {
    let nginx = Nginx::start().await;
    nginx.file("asked/page", "first\n");
    let site = Site::of(&nginx.http1()).await;
    let curl = site.curl();
    let first = curl.get("/asked/page").await;
    assert_eq!(first.cache(), "fwd=uri-miss; fwd-status=200; stored");
    let second = curl.get("/asked/page").await;
    assert_eq!((second.status, second.text()), (200, "first\n"));
    assert_eq!(second.cache(), "fwd=stale; fwd-status=304; stored");
    // The client's condition is answered here, and the node's own goes to nginx.
    let etag = second.field("etag");
    let theirs = format!("if-none-match: {etag}");
    let same = curl.ask("/asked/page", &["--header", &theirs]).await;
    assert_eq!((same.status, same.text()), (304, ""));
    nginx.file("asked/page", "second, and longer\n");
    let third = curl.ask("/asked/page", &["--header", &theirs]).await;
    assert_eq!((third.status, third.text()), (200, "second, and longer\n"));
    assert_eq!(third.cache(), "fwd=stale; fwd-status=200; stored");
    let logged = nginx.logged(4).await;
    let asked = logged
        .iter()
        .map(|request| (&*request.status, &*request.if_none_match));
    let asked: Vec<_> = asked.collect();
    let quoted = etag.replace('"', "\\x22");
    assert_eq!(
        asked,
        [
            ("200", "-"),
            ("304", &quoted),
            ("304", &quoted),
            ("200", &quoted)
        ]
    );
}

/// RFC 9111 section 4.3.4: nginx gives its files strong tags, and knows no other.
#[tokio::test]
async fn what_was_compressed_is_revalidated_with_one_request() {
    let nginx = Nginx::start().await;
    let (page, changed) = ("line\n".repeat(2000), "other line\n".repeat(2000));
    nginx.file("asked/page.txt", &page);
    let setup = Setup {
        behaviour: "compress = true",
        ..Setup::default()
    };
    let site = Site::with(&nginx.http1(), setup).await;
    let curl = site.curl();
    let path = "/asked/page.txt";
    let coded_with = ["--compressed", "--header", "accept-encoding: gzip"];
    let mut etag = String::new();
    for expected in [
        "fwd=uri-miss; fwd-status=200; stored",
        "fwd=stale; fwd-status=304; stored",
        "fwd=stale; fwd-status=304; stored",
    ] {
        let coded = curl.ask(path, &coded_with).await;
        assert_eq!(coded.cache(), expected, "{coded:?}");
        assert_eq!(coded.field("content-encoding"), "gzip", "{coded:?}");
        assert_eq!(coded.text(), page);
        etag = coded.field("etag");
        assert!(etag.starts_with("W/\""), "{coded:?}");
    }
    nginx.file("asked/page.txt", &changed);
    let coded = curl.ask(path, &coded_with).await;
    assert_eq!(coded.cache(), "fwd=stale; fwd-status=200; stored");
    assert_eq!(coded.text(), changed);
    let logged = nginx.logged(4).await;
    let asked: Vec<_> = logged
        .iter()
        .map(|request| (&*request.status, &*request.if_none_match))
        .collect();
    let theirs = etag.trim_start_matches("W/").replace('"', "\\x22");
    assert_eq!(
        asked,
        [
            ("200", "-"),
            ("304", &theirs),
            ("304", &theirs),
            ("200", &theirs)
        ]
    );
}

#[tokio::test]
async fn an_origin_that_is_down_is_stood_in_for_where_it_allows_that() {
    let mut nginx = Nginx::start().await;
    for folder in ["stale", "strict", "fresh"] {
        nginx.file(&format!("{folder}/page"), "page\n");
    }
    let site = Site::of(&nginx.http1()).await;
    let curl = site.curl();
    for path in ["/stale/page", "/strict/page", "/fresh/page"] {
        assert_eq!(curl.get(path).await.text(), "page\n");
    }
    nginx.stop().await;
    for _ in 0..10 {
        let stale = curl.get("/stale/page").await;
        assert_eq!((stale.status, stale.text()), (200, "page\n"), "{stale:?}");
        assert_eq!(stale.cache(), "fwd=stale; detail=stale-if-error");
    }
    assert!(curl.get("/fresh/page").await.is_hit());
    for path in ["/strict/page", "/fresh/other"] {
        let failed = curl.get(path).await;
        assert_eq!(failed.status, 502, "{failed:?}");
        assert_eq!(failed.field("x-wharf-error"), "origin_unreachable");
    }
    nginx.resume().await;
    eventually("nginx is asked again", async || {
        let page = curl.get("/stale/page").await;
        assert_eq!(page.text(), "page\n");
        page.cache() == "fwd=stale; fwd-status=304; stored"
    })
    .await;
    // Nothing of the outage was stored.
    assert_eq!(curl.get("/strict/page").await.status, 200);
    assert_eq!(curl.get("/fresh/other").await.status, 404);
}

#[tokio::test]
async fn what_nginx_says_about_freshness_is_heeded() {
    let nginx = Nginx::start().await;
    for folder in ["behind", "guessed", "targeted", "private"] {
        nginx.file(&format!("{folder}/page"), "first\n");
    }
    let site = Site::of(&nginx.http1()).await;
    let curl = site.curl();

    // RFC 5861 section 3: the stale one at once, the new one behind it.
    curl.get("/behind/page").await;
    nginx.file("behind/page", "second\n");
    let stale = curl.get("/behind/page").await;
    assert_eq!(stale.text(), "first\n");
    assert!(stale.cache().starts_with("hit; ttl="), "{stale:?}");
    eventually("the new one is there", async || {
        curl.get("/behind/page").await.text() == "second\n"
    })
    .await;

    // RFC 9213: `no-store` is for other caches.
    curl.get("/targeted/page").await;
    let targeted = curl.get("/targeted/page").await;
    assert!(targeted.is_hit(), "{targeted:?}");
    assert_eq!(targeted.field("cache-control"), "no-store");

    // RFC 9111 section 4.2.2: a tenth of the time since it was changed.
    let year = Duration::from_secs(365 * 24 * 60 * 60);
    let old = std::time::SystemTime::now() - year;
    let file = File::options()
        .write(true)
        .open(nginx.path("guessed/page"))
        .unwrap();
    file.set_modified(old).unwrap();
    curl.get("/guessed/page").await;
    let guessed = curl.get("/guessed/page").await;
    assert!(guessed.is_hit(), "{guessed:?}");

    for _ in 0..2 {
        let private = curl.get("/private/page").await;
        assert!(private.cache().contains("detail=private"), "{private:?}");
    }

    // RFC 9111 section 4.1: each language once, however it is written.
    let language = async |value: &str| {
        let field = format!("accept-language: {value}");
        curl.ask("/language/page", &["--header", &field]).await
    };
    for (value, text, is_hit) in [
        ("en, de;q=0.5", "en, de;q=0.5\n", false),
        ("fr", "fr\n", false),
        ("EN,de;q=0.5", "en, de;q=0.5\n", true),
        ("fr", "fr\n", true),
    ] {
        let got = language(value).await;
        assert_eq!((got.text(), got.is_hit()), (text, is_hit), "{got:?}");
    }
}

#[tokio::test]
async fn connections_to_nginx_are_kept_and_its_answers_passed_on() {
    let nginx = Nginx::start().await;
    nginx.file("private/page", "page\n");
    let setup = Setup {
        origin: "host = \"app.example\"",
        ..Setup::default()
    };
    let site = Site::with(&nginx.http1(), setup).await;
    // More than nginx answers on one connection.
    for _ in 0..220 {
        let page = site.node.get_at(HOST, "/private/page").await;
        assert_eq!(
            (page.status.as_u16(), page.text().as_str()),
            (200, "page\n")
        );
    }
    let mut connections: Vec<String> = nginx
        .logged(220)
        .await
        .into_iter()
        .map(|one| one.connection)
        .collect();
    connections.sort_unstable();
    connections.dedup();
    assert!(connections.len() < 10, "{connections:?}");
    let curl = site.curl();
    let host = curl.get("/host/").await;
    let told: Vec<&str> = host.text().split_whitespace().collect();
    assert!(
        matches!(told[..], ["app.example", "1.1", _, "127.0.0.1", "http"]),
        "{host:?}"
    );
    // It goes to the client: the node follows nothing.
    let moved = curl.get("/moved/").await;
    assert_eq!(
        (moved.status, &*moved.field("location")),
        (302, "http://127.0.0.1:9/elsewhere")
    );
    let closed = curl.get("/closed/").await;
    assert_eq!(
        (closed.status, &*closed.field("x-wharf-error")),
        (502, "origin_bad_response")
    );
}

#[tokio::test]
async fn thousands_of_requests_of_many_clients_are_one_request_to_nginx() {
    let nginx = Nginx::start().await;
    nginx.file("slow/page", bytes(100_000));
    let site = Site::of(&nginx.http1()).await;
    // Nothing is stored yet, and it takes nginx half a second: all wait for the same.
    let load = async |arguments: &[&str], scheme: &str, address: std::net::SocketAddr| {
        let mut command =
            tokio::process::Command::from(debian::command("h2load", "nghttp2-client"));
        command
            .args(["--clients", "10", "--requests", "1000"])
            .args(arguments)
            .arg(format!("--connect-to={address}"))
            .arg(format!("{scheme}://{HOST}:{}/slow/page", address.port()))
            .kill_on_drop(true);
        let ended = tokio::time::timeout(PATIENCE, command.output()).await;
        let said = String::from_utf8(ended.unwrap().unwrap().stdout).unwrap();
        assert!(
            said.contains("1000 succeeded, 0 failed, 0 errored"),
            "{said}"
        );
        assert!(
            said.contains("status codes: 1000 2xx, 0 3xx, 0 4xx, 0 5xx"),
            "{said}"
        );
    };
    load(&["--max-concurrent-streams", "20"], "https", site.https()).await;
    load(&["--h1"], "https", site.https()).await;
    nginx.logged(1).await;
    load(&["--max-concurrent-streams", "20"], "http", site.node.http).await;
    load(&["--h1"], "http", site.node.http).await;
    nginx.logged(2).await;
    assert_eq!(site.counted("misses").await, 2);
}

#[tokio::test]
async fn a_download_whose_client_goes_away_is_there_for_the_next() {
    let nginx = Nginx::start().await;
    let large = bytes(300_000);
    nginx.file("slow/large", &large);
    let site = Site::of(&nginx.http1()).await;
    let curl = site.curl();
    // Less time than it takes to come.
    let left = curl.ask("/slow/large", &["--max-time", "0.5"]).await;
    assert_eq!((left.exit, left.status), (28, 200), "{left:?}");
    let whole = curl.get("/slow/large").await;
    assert_eq!((whole.exit, whole.status), (0, 200));
    assert!(whole.body == large);
    nginx.logged(1).await;
}
