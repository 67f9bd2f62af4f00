//! Requests that are made to be read in two ways: what reaches the server is one request that can be read in one way only, or
//! nothing (RFC 9112 sections 6 and 11.2). The server reads strictly, and says so if something else comes.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use futures::future::join_all;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::{
    server::{Server, answer},
    site::{HOST, Setup, Site},
    wire::{self, Became, frame, literals},
};
use crate::process::{PATIENCE, eventually};

/// A request that nobody may get to send by hiding it in another. It is `{evil}` in what follows.
const EVIL: &str = "GET /evil HTTP/1.1\r\nhost: site.example\r\n\r\n";

/// Takes bodies, in every method.
const OPEN: &str = r#"methods = ["GET", "HEAD", "POST", "PUT", "OPTIONS"]"#;

/// Answers that are stored for a while, or not at all: then every request reaches the server.
const FRESH: &str = "cache-control: max-age=600\r\n";
const UNSTORED: &str = "cache-control: no-store\r\n";

async fn site(fields: &'static str) -> (Server, Site) {
    let server = Server::start(move |_, _| answer(fields, "answer\n")).await;
    let setup = Setup {
        behaviour: OPEN,
        ..Setup::default()
    };
    let site = Site::with(&server.url(), setup).await;
    (server, site)
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Becomes {
    /// It is refused, and the server never hears of it.
    Refused,
    /// It has one meaning, and the server gets that.
    Served,
    /// One of the two.
    Either,
}

use Becomes::{Either, Refused, Served};

/// A POST with these lines about its framing, and what follows the head.
fn post(lines: &str, body: &str) -> String {
    format!("POST /post HTTP/1.1\r\nhost: {HOST}\r\n{lines}\r\n\r\n{body}")
}

/// A GET with this line.
fn get(line: &str) -> String {
    format!("GET /get HTTP/1.1\r\nhost: {HOST}\r\n{line}\r\n\r\n")
}

/// A request for this target.
fn target(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nhost: {HOST}\r\n\r\n")
}

fn framings() -> Vec<(Becomes, String)> {
    let hidden = format!("0\r\n\r\n{EVIL}");
    let length = hidden.len();
    let mut requests = vec![
        // CL.TE and TE.CL: chunks are what counts, and nothing that follows them does (RFC 9112 section 6.3).
        (
            Either,
            post(
                &format!("content-length: {length}\r\ntransfer-encoding: chunked"),
                &hidden,
            ),
        ),
        (
            Either,
            post(
                &format!("transfer-encoding: chunked\r\ncontent-length: {length}"),
                &hidden,
            ),
        ),
        (
            Either,
            post(
                "content-length: 4\r\ntransfer-encoding: chunked",
                &format!("{:x}\r\n{EVIL}\r\n0\r\n\r\n", EVIL.len()),
            ),
        ),
        // Lengths that are no numbers, or several.
        (
            Refused,
            post("content-length: 0\r\ncontent-length: 5", "12345"),
        ),
        (
            Refused,
            post(&format!("content-length: 0, {length}"), &hidden),
        ),
        (
            Either,
            post("content-length: 5\r\ncontent-length: 5", "12345"),
        ),
        (Either, post("content-length: 5, 5", "12345")),
        (
            Refused,
            post(
                &format!("content-length: 18446744073709551617\r\nx: {EVIL}"),
                "",
            ),
        ),
        (Refused, post("content-length: 99999999999999999999", EVIL)),
        (
            Refused,
            post(&format!("content-length: 0\r\n {length}"), &hidden),
        ),
    ];
    for length in [
        "+5", "-5", "0x5", "5 5", "5;", "5.0", "1e1", "\"5\"", "", "\u{ff15}", "five", "5\u{b}",
        "5\u{0}",
    ] {
        requests.push((
            Refused,
            post(
                &format!("content-length: {length}"),
                &format!("12345{EVIL}"),
            ),
        ));
    }
    // White space around a value is none of it (RFC 9110 section 5.5).
    requests.push((Served, post("content-length: \t 5 \t", "12345")));
    // TE.TE: codings that one reader knows and another does not.
    for coding in [
        "xchunked",
        "chunked, chunked",
        "chunked, identity",
        "identity",
        "identity, chunked",
        "gzip, chunked",
        "chunked;q=1",
        "\"chunked\"",
        "chunked\r\ntransfer-encoding: x",
        "x\r\ntransfer-encoding: chunked",
        "\r\n chunked",
        "chunked\u{0}",
        "\u{b}chunked",
        "chunked\r\n\tx",
    ] {
        requests.push((
            Either,
            post(&format!("transfer-encoding: {coding}"), &hidden),
        ));
        let both = format!("transfer-encoding: {coding}\r\ncontent-length: {length}");
        requests.push((Either, post(&both, &hidden)));
    }
    for name in [
        "transfer-encoding ",
        "transfer-encoding\t",
        " transfer-encoding",
        "transfer\u{2d}encoding\u{0}",
        "transfer-encoding\r\n",
    ] {
        requests.push((
            Refused,
            post(
                &format!("{name}: chunked\r\ncontent-length: {length}"),
                &hidden,
            ),
        ));
    }
    // A field that only looks like it is none.
    requests.push((
        Served,
        post(
            &format!("transfer_encoding: chunked\r\ncontent-length: {length}"),
            &hidden,
        ),
    ));
    requests.push((
        Served,
        post("Transfer-Encoding: \tChunked \t", "5\r\n12345\r\n0\r\n\r\n"),
    ));
    requests
}

fn chunks() -> Vec<(Becomes, String)> {
    let chunked = |body: &str| post("transfer-encoding: chunked", body);
    let mut requests = vec![
        (Served, chunked("5;a=b;c\r\n12345\r\n0\r\n\r\n")),
        (Served, chunked("000005\r\n12345\r\n0\r\n\r\n")),
        // What a trailer says is of no account to the framing.
        (
            Either,
            chunked(
                "5\r\n12345\r\n0\r\ncontent-length: 50\r\nhost: evil\r\ntransfer-encoding: x\r\n\r\n",
            ),
        ),
    ];
    for body in [
        "10000000000000005\r\n12345\r\n0\r\n\r\n",
        "fffffffffffffffff\r\n12345\r\n0\r\n\r\n",
        "-5\r\n12345\r\n0\r\n\r\n",
        "+5\r\n12345\r\n0\r\n\r\n",
        "0x5\r\n12345\r\n0\r\n\r\n",
        "5 5\r\n12345\r\n0\r\n\r\n",
        "\r\n12345\r\n0\r\n\r\n",
        ";a\r\n12345\r\n0\r\n\r\n",
        "5\r\n1234567\r\n0\r\n\r\n",
        "5\n12345\r\n0\r\n\r\n",
        "5\r12345\r\n0\r\n\r\n",
        "5\r\n123450\r\n\r\n",
        "5;a\n12345\r\n0\r\n\r\n",
        "0\r\nno trailer\r\n\r\n",
        "0\r\n x: folded\r\n\r\n",
    ] {
        requests.push((Either, chunked(&format!("{body}{EVIL}"))));
    }
    requests.push((
        Refused,
        chunked(&format!("5;{}\r\n12345\r\n0\r\n\r\n", "x".repeat(100_000))),
    ));
    requests
}

fn heads() -> Vec<(Becomes, String)> {
    let mut requests = vec![
        (Refused, get("x: a\u{0}b")),
        (Refused, get("x: a\rb")),
        (Refused, get("x : a")),
        (Refused, get("x\t: a")),
        (Refused, get(": a")),
        (Refused, get("no colon")),
        (Refused, get("x(y): a")),
        (Either, get("x: a\r\n folded")),
        (Either, get(&format!("x: a\n{}", EVIL.trim_end()))),
        (Refused, get("host: site.example")),
        (Refused, get("host: evil.example")),
        (
            Refused,
            format!("GET /get HTTP/1.1\r\nhost: {HOST}, {HOST}\r\n\r\n"),
        ),
        (
            Refused,
            format!("GET /get HTTP/1.1\r\nhost: {HOST}@evil.example\r\n\r\n"),
        ),
        (
            Refused,
            format!("GET /get HTTP/1.1\r\nhost: {HOST}/../evil\r\n\r\n"),
        ),
        (
            Refused,
            format!("GET /get HTTP/1.1\r\nhost: {HOST}:80:80\r\n\r\n"),
        ),
        (
            Refused,
            format!("GET /get HTTP/1.1\r\nhost: {HOST}:99999\r\n\r\n"),
        ),
        (Refused, "GET /get HTTP/1.1\r\n\r\n".to_owned()),
        (Refused, "GET /get HTTP/1.1\r\nhost:\r\n\r\n".to_owned()),
        (
            Refused,
            format!("GET /get HTTP/1.1\r\n host: {HOST}\r\n\r\n"),
        ),
        // A body in a GET is one, and what is in it is no request.
        (
            Served,
            format!(
                "GET /get HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: {}\r\n\r\n{EVIL}",
                EVIL.len()
            ),
        ),
        // Fields for this hop end here, whatever they name.
        (
            Served,
            get("connection: x-forwarded-for, host, cookie, content-length\r\ncookie: a"),
        ),
        (
            Served,
            get(
                "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__",
            ),
        ),
        (
            Served,
            post(
                "connection: transfer-encoding\r\ntransfer-encoding: chunked",
                "5\r\n12345\r\n0\r\n\r\n",
            ),
        ),
        (
            Served,
            post("connection: content-length\r\ncontent-length: 5", "12345"),
        ),
        (
            Served,
            get("te: gzip\r\nproxy-connection: keep-alive\r\nkeep-alive: timeout=5"),
        ),
    ];
    // Where a line ends, and what is in the first.
    for line in [
        "GET  /get HTTP/1.1",
        "GET /get  HTTP/1.1",
        "GET\t/get\tHTTP/1.1",
        " GET /get HTTP/1.1",
        "GET /get HTTP/1.1 ",
        "GET /get HTTP/1.2",
        "GET /get HTTP/2.0",
        "GET /get http/1.1",
        "GET /get HTTP/1.1 HTTP/1.1",
        "GET /get",
        "GET /get HTTP/11",
        "G\u{0}T /get HTTP/1.1",
        "get /get HTTP/1.1",
        "GET /get HTTP/0.9",
        "GET /get\u{b}HTTP/1.1",
        "(GET) /get HTTP/1.1",
        "CONNECT site.example:443 HTTP/1.1",
        "TRACE /get HTTP/1.1",
    ] {
        requests.push((Refused, format!("{line}\r\nhost: {HOST}\r\n\r\n")));
    }
    requests
}

fn targets() -> Vec<(Becomes, String)> {
    let mut requests = vec![
        (Served, target("http://site.example/get")),
        (Served, target("HTTP://SITE.example/get")),
        (Served, target("/get?a=http://evil.example/../..")),
        (Served, target("//evil.example/get")),
        (Served, target("/a/..b/...")),
        // No server sees a fragment.
        (Either, target("/get#/../evil")),
    ];
    for wrong in [
        "http://evil.example/get",
        "http://site.example@evil.example/get",
        "http://evil.example@site.example/get",
        "http:///get",
        "ftp://site.example/get",
        "get",
        "site.example/get",
        "?get",
        "*",
        "",
        "/../evil",
        "/a/../evil",
        "/a/%2e%2e/evil",
        "/a/.%2E/evil",
        "/a/..%2fevil",
        "/a/%2e%2e%5cevil",
        "/a\\..\\evil",
        "/./evil",
        "/a/..",
        "/a b",
        "/a\u{0}",
        "/a\u{1}",
        "/a\u{7f}",
        "/a\r",
        "/caf\u{e9}\u{0}",
    ] {
        requests.push((Refused, target(wrong)));
    }
    requests
}

/// Sends each on a connection of its own. The server has then heard nothing but what it may.
async fn try_all(site: &Site, server: &Server, requests: &[(Becomes, String)]) {
    let address = site.node.http;
    let mut wrong = Vec::new();
    for (becomes, request) in requests {
        let before = server.heard().len();
        let said = wire::send(address, request).await;
        let heard = server.heard().split_off(before);
        let served = wire::status(&said) == 200;
        let is_right = match becomes {
            Refused => !served && heard.is_empty(),
            Served => served && heard.len() == 1,
            Either => heard.len() <= 1,
        };
        let is_one = said.matches("HTTP/1.1 ").count() <= 1;
        let is_hidden = heard.iter().any(|heard| heard.target == "/evil");
        if !is_right || !is_one || is_hidden {
            wrong.push(format!(
                "{becomes:?}: {}\n  {}\n  {heard:?}",
                request.escape_debug(),
                said.escape_debug()
            ));
        }
        assert_ne!(wire::status(&said), 500, "{request:?}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let good = wire::send(address, target("/good")).await;
    assert_eq!(wire::status(&good), 200, "{good}");
}

#[tokio::test]
async fn a_body_has_one_length_or_none() {
    let (server, site) = site(UNSTORED).await;
    try_all(&site, &server, &framings()).await;
}

#[tokio::test]
async fn chunks_say_their_size_in_one_way() {
    let (server, site) = site(UNSTORED).await;
    try_all(&site, &server, &chunks()).await;
}

#[tokio::test]
async fn a_head_is_lines_that_mean_one_thing() {
    let (server, site) = site(UNSTORED).await;
    try_all(&site, &server, &heads()).await;
    for heard in server.heard() {
        for name in [
            "connection",
            "upgrade",
            "http2-settings",
            "te",
            "keep-alive",
            "proxy-connection",
        ] {
            assert_eq!(heard.field(name), None, "{heard:?}");
        }
        assert_eq!(
            heard.field("x-forwarded-for"),
            Some("127.0.0.1"),
            "{heard:?}"
        );
    }
}

#[tokio::test]
async fn a_target_is_one_path_at_one_host() {
    let (server, site) = site(UNSTORED).await;
    try_all(&site, &server, &targets()).await;
}

/// RFC 9113 section 8: what HTTP/2 can carry and HTTP/1.1 cannot does not get from the one to the other.
#[tokio::test]
async fn nothing_of_http2_becomes_another_line_of_http1() {
    let (server, site) = site(UNSTORED).await;
    let address = site.node.http;
    let pseudo = |method, path| {
        [
            (":method", method),
            (":scheme", "http"),
            (":path", path),
            (":authority", HOST),
        ]
    };
    let with = |fields: &[(&'static str, &'static str)]| {
        let head = pseudo("GET", "/get")
            .into_iter()
            .chain(fields.iter().copied());
        vec![frame(1, 5, 1, &literals(head))]
    };
    let request = |method, path| vec![frame(1, 5, 1, &literals(pseudo(method, path)))];
    let mut refused = vec![
        with(&[("x", "a\r\ntransfer-encoding: chunked")]),
        with(&[(
            "x",
            "a\r\n\r\nGET /evil HTTP/1.1\r\nhost: site.example\r\n\r\n",
        )]),
        with(&[("x", "a\nb: c")]),
        with(&[("x", "a\u{0}b")]),
        with(&[("x: y\r\nz", "a")]),
        with(&[("x y", "a")]),
        with(&[("x:", "a")]),
        with(&[("X", "a")]),
        with(&[("", "a")]),
        with(&[("transfer-encoding", "chunked")]),
        with(&[("connection", "close")]),
        with(&[("keep-alive", "timeout=5")]),
        with(&[("proxy-connection", "close")]),
        with(&[("upgrade", "h2c")]),
        with(&[("host", "evil.example")]),
        with(&[(":path", "/evil")]),
        with(&[(":authority", "evil.example")]),
        with(&[(":unknown", "a")]),
        with(&[(":status", "200")]),
        with(&[("content-length", "5")]),
        with(&[("content-length", "a")]),
        with(&[("content-length", "0"), ("content-length", "5")]),
        request("GET", "/get HTTP/1.1\r\nx: y"),
        request("GET", "/get HTTP/1.1"),
        request("GET", "get"),
        request("GET", ""),
        request("GET", "*"),
        request("GET", "/a\u{7f}"),
        request("GET", "/a/../evil"),
        request("GET", "http://evil.example/get"),
        request("GET /evil HTTP/1.1\r\nx: y\r\n\r\nGET", "/get"),
        request("", "/get"),
        request("CONNECT", "/get"),
        vec![frame(
            1,
            5,
            1,
            &literals([
                (":method", "GET"),
                (":scheme", "http"),
                (":path", "/get"),
                (":authority", "site.example\r\nx: y"),
            ]),
        )],
        vec![frame(
            1,
            5,
            1,
            &literals([
                (":method", "GET"),
                (":scheme", "http"),
                (":path", "/get"),
                (":authority", "evil@site.example"),
            ]),
        )],
        vec![frame(
            1,
            5,
            1,
            &literals([(":method", "GET"), (":scheme", "http"), (":path", "/get")]),
        )],
        vec![frame(
            1,
            5,
            1,
            &literals([(":method", "GET"), (":path", "/get"), (":authority", HOST)]),
        )],
        vec![frame(
            1,
            5,
            1,
            &literals([
                (":method", "GET"),
                (":scheme", "http"),
                (":authority", HOST),
            ]),
        )],
        vec![frame(
            1,
            5,
            1,
            &literals([
                ("x", "y"),
                (":method", "GET"),
                (":scheme", "http"),
                (":path", "/get"),
                (":authority", HOST),
            ]),
        )],
    ];
    let posted = |length, body: &str| {
        let head = pseudo("POST", "/post")
            .into_iter()
            .chain([("content-length", length)]);
        vec![
            frame(1, 4, 1, &literals(head)),
            frame(0, 1, 1, body.as_bytes()),
        ]
    };
    // A body of another length than it was to have.
    refused.push(posted("3", EVIL));
    refused.push(posted("100", "abc"));
    let mut wrong = Vec::new();
    for frames in &refused {
        let became = wire::send_frames(address, frames).await;
        if became == Became::Served {
            wrong.push(frames.concat().escape_ascii().to_string());
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(server.heard().is_empty(), "{:#?}", server.heard());
    // And what is as it should be is served.
    let cookies = with(&[
        ("cookie", "a=1"),
        ("cookie", "b=2"),
        ("te", "trailers"),
        ("host", HOST),
    ]);
    for frames in [cookies, posted("3", "abc"), request("GET", "/good")] {
        assert_eq!(
            wire::send_frames(address, &frames).await,
            Became::Served,
            "{frames:?}"
        );
    }
    let heard = server.heard();
    assert_eq!(heard[0].field("cookie"), Some("a=1; b=2"), "{heard:?}");
    assert_eq!(heard[1].body, b"abc");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_are_slow_or_ask_too_much_keep_nobody_from_the_site() {
    let (server, site) = site(FRESH).await;
    let (address, curl) = (site.node.http, site.curl());
    assert_eq!(curl.get("/page").await.status, 200);
    let before = site.memory();
    // Heads and bodies that never end, answers that are never read.
    let mut slow = Vec::new();
    for number in 0..100 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = match number % 3 {
            0 => "GET /page HTTP/1.1\r\nhost: site.example\r\nx: ".to_owned(),
            1 => post("content-length: 1000000", "begun"),
            _ => target("/page").repeat(50),
        };
        stream.write_all(request.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    // Streams that are reset as soon as they are opened, misses among them.
    let attacks = (0..4).map(|_| rapid_reset(address));
    let attacks = tokio::spawn(join_all(attacks));
    for _ in 0..20 {
        let started = Instant::now();
        let page = timeout(PATIENCE, curl.get("/page")).await.unwrap();
        assert_eq!(
            (page.status, page.text()),
            (200, "answer\n"),
            "{:?}",
            started.elapsed()
        );
    }
    timeout(PATIENCE, attacks)
        .await
        .expect("each is cut off")
        .unwrap();
    // Fields that are too large, or too many.
    for fields in [
        format!("x: {}", "y".repeat(2 << 20)),
        "x: y\r\n".repeat(5000),
    ] {
        let said = wire::send(
            address,
            format!("GET /page HTTP/1.1\r\nhost: {HOST}\r\n{fields}\r\n\r\n"),
        )
        .await;
        assert_eq!(wire::status(&said), 431, "{said}");
    }
    let said = wire::send(address, target(&format!("/{}", "a".repeat(100_000)))).await;
    assert!([414, 431].contains(&wire::status(&said)), "{said}");
    let grown = site.memory().saturating_sub(before);
    assert!(grown < 100 << 20, "{} MB more", grown >> 20);
    drop(slow);
    let server_heard = server.heard();
    let posts = server_heard.iter().filter(|heard| heard.method == "POST");
    assert_eq!(posts.count(), 0, "none was whole");
    eventually("the site is served", async || {
        curl.get("/page").await.is_hit()
    })
    .await;
}

/// A connection that opens streams and resets them at once, until it is cut off.
async fn rapid_reset(address: SocketAddr) {
    let mut bytes = wire::preface();
    for number in 0..5_000_u32 {
        let (stream, path) = (number * 2 + 1, format!("/miss/{number}"));
        let head = literals([
            (":method", "GET"),
            (":scheme", "http"),
            (":path", &*path),
            (":authority", HOST),
        ]);
        bytes.extend(frame(1, 5, stream, &head));
        bytes.extend(frame(3, 0, stream, &8_u32.to_be_bytes()));
    }
    let mut stream = TcpStream::connect(address).await.unwrap();
    let _ = stream.write_all(&bytes).await;
    let mut buffer = vec![0; 1 << 16];
    while let Ok(1..) = stream.read(&mut buffer).await {}
}

/// A body that is sent slowly gets through whole, and the time it takes is the client's.
#[tokio::test]
async fn a_body_that_comes_slowly_arrives_whole() {
    let (server, site) = site(UNSTORED).await;
    let mut stream = TcpStream::connect(site.node.http).await.unwrap();
    stream
        .write_all(post("content-length: 10", "").as_bytes())
        .await
        .unwrap();
    for byte in b"0123456789" {
        tokio::time::sleep(Duration::from_millis(20)).await;
        stream.write_all(&[*byte]).await.unwrap();
    }
    let mut said = Vec::new();
    stream.read_buf(&mut said).await.unwrap();
    assert_eq!(wire::status(str::from_utf8(&said).unwrap()), 200);
    assert_eq!(server.heard()[0].body, b"0123456789");
}
