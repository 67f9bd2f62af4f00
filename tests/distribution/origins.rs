//! Servers that do what they must not: a client sees that an answer is not whole, nothing of it is stored, and the next request
//! gets what is right.

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{
    curl::Curl,
    server::{Server, Step, answer},
    site::{HOST, Setup, Site},
};
use crate::process::eventually;

/// Patient for a second only, and never twice.
const IMPATIENT: &str = r#"
timeouts = { first_byte = "1 s", idle = "1 s" }
retries = 0
ejection = { failures = 0 }
"#;

const FRESH: &str = "cache-control: max-age=600\r\n";

/// What a client gets.
#[derive(Debug, Clone, Copy)]
enum Gets {
    /// A beginning, and a sign that it is not all.
    Part,
    /// This outcome of the node.
    Error(u16, &'static str),
}

/// What a server does, and what comes of it.
struct Case {
    name: &'static str,
    steps: Vec<Step>,
    gets: Gets,
}

fn case(name: &'static str, gets: Gets, steps: impl Into<Vec<Step>>) -> Case {
    Case {
        name,
        steps: steps.into(),
        gets,
    }
}

/// An answer that begins well.
fn head(fields: &str) -> Step {
    Step::send(format!("HTTP/1.1 200 OK\r\n{FRESH}{fields}\r\n"))
}

/// An answer whose head is no HTTP.
fn bad(name: &'static str, head: &str) -> Case {
    let bytes = head.replace("{fresh}", FRESH);
    case(name, INVALID, [Step::send(bytes), Step::Close])
}

const INVALID: Gets = Gets::Error(502, "origin_bad_response");
const TIMEOUT: Gets = Gets::Error(504, "origin_timeout");

fn cases() -> Vec<Case> {
    let some = || Step::send(vec![b's'; 50]);
    let much = || Step::send(vec![b'm'; 2 << 20]);
    let chunk = || Step::send("a\r\n0123456789\r\n");
    let chunked = || head("transfer-encoding: chunked\r\n");
    let long = || head("content-length: 100\r\n");
    let pause = Duration::from_millis(100);
    let slow: Bytes = format!("HTTP/1.1 200 OK\r\n{FRESH}content-length: 0\r\n\r\n").into();
    vec![
        case("too-short", Gets::Part, [long(), some(), Step::Close]),
        case(
            "reset",
            Gets::Part,
            [long(), some(), Step::Wait(pause), Step::Reset],
        ),
        case("stalls", Gets::Part, [long(), some(), Step::Hang]),
        case(
            "large-and-too-short",
            Gets::Part,
            [head("content-length: 3000000\r\n"), much(), Step::Close],
        ),
        case(
            "chunks-without-end",
            Gets::Part,
            [chunked(), chunk(), Step::Close],
        ),
        case(
            "large-chunks-without-end",
            Gets::Part,
            [
                chunked(),
                Step::send("200000\r\n"),
                much(),
                Step::send("\r\n"),
                Step::Close,
            ],
        ),
        case(
            "chunk-cut",
            Gets::Part,
            [chunked(), chunk(), Step::send("a\r\n01"), Step::Close],
        ),
        case(
            "chunk-of-no-size",
            Gets::Part,
            [chunked(), chunk(), Step::send("zz\r\n")],
        ),
        case(
            "chunk-of-too-much",
            Gets::Part,
            [chunked(), chunk(), Step::send("fffffffffffffffff\r\n")],
        ),
        case(
            "chunk-longer-than-said",
            Gets::Part,
            [chunked(), Step::send("2\r\nabcdef\r\n0\r\n\r\n")],
        ),
        case(
            "chunk-with-endless-extension",
            Gets::Part,
            [
                chunked(),
                chunk(),
                Step::send("a;"),
                Step::Endless(Bytes::from_static(&[b'x'; 4096])),
            ],
        ),
        case("silent", TIMEOUT, [Step::Hang]),
        case("head-byte-by-byte", TIMEOUT, [Step::Drip(slow, pause)]),
        case(
            "endless-interim-answers",
            TIMEOUT,
            [
                Step::Drip(
                    "HTTP/1.1 100 Continue\r\n\r\n".repeat(20).into(),
                    pause / 20,
                ),
                Step::Hang,
            ],
        ),
        case(
            "endless-fields",
            INVALID,
            [
                Step::send("HTTP/1.1 200 OK\r\n"),
                Step::Endless(Bytes::from_static(b"x-more: and more\r\n")),
            ],
        ),
        case(
            "endless-field",
            INVALID,
            [
                Step::send("HTTP/1.1 200 OK\r\nx: "),
                Step::Endless(Bytes::from_static(&[b'x'; 4096])),
            ],
        ),
        case("hangs-up", INVALID, [Step::Close]),
        case("resets", INVALID, [Step::Reset]),
        bad("garbage", "\u{0}\u{1}\u{2}\u{3}garbage\r\n\r\n"),
        bad("another-protocol", "220 mail.example ESMTP\r\n"),
        bad("no-version", "<html>HTTP/0.9</html>"),
        bad(
            "two-lengths",
            "HTTP/1.1 200 OK\r\n{fresh}content-length: 1\r\ncontent-length: 2\r\n\r\nab",
        ),
        bad(
            "signed-length",
            "HTTP/1.1 200 OK\r\n{fresh}content-length: +1\r\n\r\na",
        ),
        bad(
            "two-framings",
            "HTTP/1.1 200 OK\r\n{fresh}content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        bad(
            "unknown-coding",
            "HTTP/1.1 200 OK\r\n{fresh}transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        ),
        bad(
            "nul-in-a-value",
            "HTTP/1.1 200 OK\r\n{fresh}x: a\u{0}b\r\ncontent-length: 0\r\n\r\n",
        ),
        bad(
            "space-before-colon",
            "HTTP/1.1 200 OK\r\n{fresh}content-length : 0\r\n\r\n",
        ),
        bad(
            "switches-unasked",
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        ),
    ]
}

/// The server misbehaves at the first request for a path, and answers the others.
async fn misbehaving() -> Server {
    Server::start(|heard, number| {
        let name = heard.target.trim_start_matches(['/', '1', '2']);
        match cases().into_iter().find(|case| case.name == name) {
            Some(case) if number == 1 => case.steps,
            _ => answer(FRESH, "whole\n"),
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_whole_never_looks_so_and_the_next_request_gets_what_is() {
    let server = misbehaving().await;
    let setup = Setup {
        origin: IMPATIENT,
        ..Setup::default()
    };
    let site = Site::with(&server.url(), setup).await;
    let curls = [
        ("1", site.curl().with(&["--http1.1"])),
        ("2", site.curl_with_tls().with(&["--http2"])),
    ];
    let cases = &cases();
    let tried = curls.iter().flat_map(|(protocol, curl)| {
        cases.iter().map(move |case| async move {
            let path = format!("/{protocol}{}", case.name);
            attempt(curl, case, &path)
                .await
                .map_err(|wrong| format!("{path}: {wrong}"))
        })
    });
    let wrong: Vec<String> = join_all(tried)
        .await
        .into_iter()
        .filter_map(Result::err)
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for heard in server.heard() {
        assert_eq!(server.asked(&heard.target), 2, "{}", heard.target);
    }
    assert_eq!(server.heard().len(), 2 * 2 * cases.len());
}

async fn attempt(curl: &Curl, case: &Case, path: &str) -> Result<(), String> {
    let first = curl.get(path).await;
    let is_right = match case.gets {
        // 28 is curl's own patience: nobody told it.
        Gets::Part => ![0, 28].contains(&first.exit) && [0, 200].contains(&first.status),
        Gets::Error(status, word) => {
            (first.exit, first.status, &*first.field("x-wharf-error")) == (0, status, word)
        }
    };
    if !is_right {
        return Err(format!("{:?} and not {first:?}", case.gets));
    }
    for expected in ["fwd=uri-miss; fwd-status=200; stored", "hit; ttl="] {
        let next = curl.get(path).await;
        if (next.exit, next.status, next.text()) != (0, 200, "whole\n")
            || !next.cache().starts_with(expected)
        {
            return Err(format!("{expected} and not {next:?}"));
        }
    }
    Ok(())
}

/// What follows an answer on its connection answers nobody.
#[tokio::test]
async fn an_answer_that_nobody_asked_for_is_given_to_nobody() {
    let server = Server::start(|heard, _| match &*heard.target {
        "/long" => {
            let more =
                "HTTP/1.1 200 OK\r\ncache-control: max-age=600\r\ncontent-length: 4\r\n\r\nevil";
            let mut steps = answer(FRESH, "hello");
            steps.push(Step::send(more));
            steps
        }
        _ => answer(FRESH, "whole\n"),
    })
    .await;
    let site = Site::of(&server.url()).await;
    let curl = site.curl();
    let long = curl.get("/long").await;
    assert_eq!((long.exit, long.text()), (0, "hello"));
    for number in 0..10 {
        assert_eq!(curl.get(&format!("/{number}")).await.text(), "whole\n");
    }
    assert_eq!(curl.get("/long").await.text(), "hello");
}

/// RFC 9110 section 15.4: it is for the client, whose addresses are its own.
#[tokio::test]
async fn a_redirect_to_a_private_address_is_passed_on_and_not_followed() {
    let inside = Server::start(|_, _| answer("", "secret\n")).await;
    let to = inside.url();
    let server = Server::start({
        let to = to.clone();
        move |_, _| {
            vec![Step::send(format!(
                "HTTP/1.1 302 Found\r\n{FRESH}location: {to}/\r\ncontent-length: 0\r\n\r\n"
            ))]
        }
    })
    .await;
    let site = Site::of(&server.url()).await;
    for _ in 0..2 {
        let moved = site.curl().get("/").await;
        assert_eq!(
            (moved.status, moved.field("location")),
            (302, format!("{to}/"))
        );
    }
    assert_eq!((server.heard().len(), inside.heard().len()), (1, 0));
}

/// A status that no cache may store, or that answers what was not asked.
#[tokio::test]
async fn a_part_or_a_304_that_nobody_asked_for_is_not_stored() {
    let server = Server::start(|heard, number| match (&*heard.target, number) {
        ("/part", 1) => vec![Step::send(format!(
            "HTTP/1.1 206 Partial Content\r\n{FRESH}content-range: bytes 0-1/10\r\ncontent-length: 2\r\n\r\nab"
        ))],
        ("/same", 1) => vec![Step::send(format!("HTTP/1.1 304 Not Modified\r\n{FRESH}etag: \"a\"\r\n\r\n"))],
        ("/beyond", 1) => vec![Step::send(format!(
            "HTTP/1.1 416 Range Not Satisfiable\r\n{FRESH}content-range: bytes */0\r\ncontent-length: 0\r\n\r\n"
        ))],
        _ => answer(FRESH, "whole\n"),
    })
    .await;
    let site = Site::of(&server.url()).await;
    let curl = site.curl();
    for path in ["/part", "/same", "/beyond"] {
        let odd = curl.get(path).await;
        assert_ne!(odd.status, 200, "{path}: {odd:?}");
        for hit in [false, true] {
            let next = curl.get(path).await;
            assert_eq!(
                (next.status, next.text(), next.is_hit()),
                (200, "whole\n", hit),
                "{path}: {next:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_without_end_are_held_within_bounds() {
    let server =
        Server::start(
            |heard, _| match heard.target.split('?').next().unwrap_or_default() {
                "/body" => vec![
                    head("transfer-encoding: chunked\r\n"),
                    Step::Endless(
                        [&b"10000\r\n"[..], &[b'x'; 0x10000], b"\r\n"]
                            .concat()
                            .into(),
                    ),
                ],
                "/fields" => vec![
                    Step::send("HTTP/1.1 200 OK\r\n"),
                    Step::Endless(Bytes::from_static(b"x-more: and more\r\n")),
                ],
                _ => answer(FRESH, "whole\n"),
            },
        )
        .await;
    let setup = Setup {
        origin: IMPATIENT,
        node: &["--cache-memory", "16 MB", "--cache-disk", "64 MB"],
        ..Setup::default()
    };
    let site = Site::with(&server.url(), setup).await;
    let address = site.node.http;
    let before = site.memory();
    let readers = (0..4).map(|number| async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // Two read what others read too, two what is theirs alone.
        let query = if number < 2 {
            String::new()
        } else {
            format!("?{number}")
        };
        let request = format!("GET /body{query} HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut buffer = vec![0; 1 << 20];
        let mut left: usize = 64 << 20;
        while left > 0 {
            match stream.read(&mut buffer).await {
                Ok(length @ 1..) => left = left.saturating_sub(length),
                end => panic!("it ended: {end:?}"),
            }
        }
    });
    join_all(readers).await;
    let curl = site.curl();
    let fields = join_all((0..20).map(|number| {
        let curl = curl.clone();
        async move { curl.get(&format!("/fields?{number}")).await.status }
    }));
    assert!(fields.await.iter().all(|status| *status == 502));
    let (grown, stored) = (site.memory().saturating_sub(before), folder(&site.cache()));
    assert!(grown < 200 << 20, "{} MB more", grown >> 20);
    assert!(stored <= 65 << 20, "{} MB on disk", stored >> 20);
    // Nobody reads them any more: what was begun for them is given up, and not kept.
    eventually("nothing of them is left on disk", async || {
        folder(&site.cache()) < 1 << 20
    })
    .await;
}

/// The bytes of the files in a folder.
pub(crate) fn folder(path: &std::path::Path) -> u64 {
    let mut bytes = 0;
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes += folder(&entry.path()),
            Ok(metadata) => bytes += metadata.len(),
            // It is gone.
            Err(_) => {}
        }
    }
    bytes
}
