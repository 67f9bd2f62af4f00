//! Servers that are broken or mean harm only the requests that they are asked.

use super::*;

/// A brief patience, for servers that stall.
fn impatient(url: &str) -> distribution::Origin {
    let mut config = config(&[url]);
    config.timeouts.first_byte = BRIEF;
    config.timeouts.idle = BRIEF;
    config
}

/// RFC 9112 §6.3, §8: the answers whose end cannot be trusted.
#[tokio::test]
async fn a_body_that_breaks_off_never_looks_complete() {
    for (bytes, end) in [
        (
            &b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"[..],
            End::Close,
        ),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
            End::Reset,
        ),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
            End::Hold,
        ),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n", End::Close),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
            End::Close,
        ),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n8\r\nhalf",
            End::Close,
        ),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n",
            End::Close,
        ),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
            End::Hold,
        ),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\nhalf\r\n",
            End::Hold,
        ),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
            End::Hold,
        ),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalfX\r\n0\r\n\r\n",
            End::Hold,
        ),
        (b"HTTP/1.1 200 OK\r\n\r\nhalf", End::Reset),
        (b"HTTP/1.0 200 OK\r\n\r\nhalf", End::Reset),
        (b"HTTP/1.0 200 OK\r\n\r\nhalf", End::Hold),
    ] {
        let script = Script::once(bytes, end).await;
        let origin = origin(&impatient(&script.url));
        let told = String::from_utf8_lossy(bytes);
        let answer = origin.get("/").await.unwrap_or_else(|error| {
            panic!("{told:?} {end:?}: {}", words(&error));
        });
        let body = text(answer).await;
        assert!(body.is_err(), "{told:?} {end:?}");
        let server = origin.server(0);
        assert_eq!((server.failures, server.in_use), (1, 0), "{told:?} {end:?}");
        assert_eq!(server.kept, 0, "{told:?} {end:?}");
    }
}

/// RFC 9112 §6.3, last item.
#[tokio::test]
async fn a_body_that_ends_with_its_connection_is_complete_at_a_clean_close() {
    for bytes in [
        &b"HTTP/1.0 200 OK\r\n\r\nwhole"[..],
        b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nwhole",
        b"HTTP/1.1 200 OK\r\n\r\nwhole",
    ] {
        let script = Script::once(bytes, End::Close).await;
        let origin = origin(&impatient(&script.url));
        assert_eq!(origin.text("/").await.unwrap(), "whole");
        assert_eq!(origin.server(0).kept, 0);
    }
}

/// RFC 9112 §2, §5, §6: what is no HTTP, or could be read in two ways.
#[tokio::test]
async fn an_answer_that_is_no_http_is_the_servers_failure() {
    let too_many = "x: 1\r\n".repeat(101);
    let too_long = format!("x: {}\r\n", "y".repeat(70 << 10));
    let endless = "x: 1".repeat(100 << 10);
    let with = |fields: &str| format!("HTTP/1.1 200 OK\r\n{fields}content-length: 0\r\n\r\n");
    for (what, bytes) in [
        ("garbage", "\x16\x03\x01 garbage\r\n\r\n".to_owned()),
        ("another protocol", "SSH-2.0-OpenSSH_9.6\r\n".to_owned()),
        ("HTTP/0.9", "hello".to_owned()),
        ("no status", "HTTP/1.1 OK\r\n\r\n".to_owned()),
        ("too many fields", with(&too_many)),
        ("too long a field", with(&too_long)),
        ("an endless head", format!("HTTP/1.1 200 OK\r\n{endless}")),
        ("a space before the colon", with("x : 1\r\n")),
        ("a folded line", with("x: 1\r\n folded\r\n")),
        ("a bare CR", with("x: 1\rset-cookie: stolen\r\n")),
        ("a NUL", with("x: 1\0\r\n")),
        ("no name", with(": 1\r\n")),
        ("two lengths", with("content-length: 5\r\n")),
        ("a list of lengths", with("content-length: 0, 0\r\n")),
        ("no length", with("content-length: -1\r\n")),
        ("a hexadecimal length", with("content-length: 0x0\r\n")),
        ("both framings", with("transfer-encoding: chunked\r\n")),
        (
            "another coding",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n".to_owned(),
        ),
        (
            "a coding below",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n".to_owned(),
        ),
        (
            "a coding in 1.0",
            "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
        ),
        (
            "an upgrade",
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"
                .to_owned(),
        ),
        ("nothing", String::new()),
    ] {
        let bytes: &'static str = bytes.leak();
        let script = Script::once(bytes.as_bytes(), End::Close).await;
        let origin = origin(&impatient(&script.url));
        let error = origin.get("/").await.expect_err(what);
        assert_eq!(error.outcome().status(), 502, "{what}: {}", words(&error));
        let server = origin.server(0);
        assert_eq!(
            (server.failures, server.in_use, server.kept),
            (1, 0, 0),
            "{what}"
        );
    }
}

/// A line may end in LF alone (RFC 9112 §2.2); what follows it is then a field of its own, and not part of a value.
#[tokio::test]
async fn a_bare_lf_ends_a_line_and_no_value_holds_one() {
    let bytes = b"HTTP/1.1 200 OK\nx: 1\nset-cookie: a=b\ncontent-length: 2\n\nok";
    let script = Script::once(bytes, End::Hold).await;
    let origin = origin(&impatient(&script.url));
    let answer = origin.get("/").await.unwrap();
    assert_eq!(answer.headers()["x"], "1");
    assert_eq!(answer.headers()["set-cookie"], "a=b");
}

#[tokio::test]
async fn chunk_extensions_without_end_are_an_error() {
    let mut bytes = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4;".to_vec();
    bytes.extend(std::iter::repeat_n(b'x', 64 << 10));
    bytes.extend(b"\r\nhalf\r\n0\r\n\r\n");
    let script = Script::once(bytes.leak(), End::Hold).await;
    let origin = origin(&impatient(&script.url));
    assert!(origin.text("/").await.is_err());
}

#[tokio::test]
async fn trailers_without_end_are_an_error() {
    let mut bytes =
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n".to_vec();
    for _ in 0..100_000 {
        bytes.extend(b"x: 1\r\n");
    }
    let script = Script::once(bytes.leak(), End::Hold).await;
    let origin = origin(&impatient(&script.url));
    assert!(origin.text("/").await.is_err());
}

/// RFC 9110 §15.2.
#[tokio::test]
async fn interim_answers_are_skipped_and_do_not_buy_time() {
    let bytes = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n\
        HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let script = Script::once(bytes, End::Hold).await;
    assert_eq!(
        origin(&impatient(&script.url)).text("/").await.unwrap(),
        "ok"
    );

    let script = Script::with(|mut stream, _| {
        Box::pin(async move {
            read_head(&mut stream).await?;
            loop {
                stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
            }
        })
    })
    .await;
    let start = std::time::Instant::now();
    let error = origin(&impatient(&script.url)).get("/").await.unwrap_err();
    assert!(
        matches!(error, OriginError::FirstByteTimeout(_)),
        "{}",
        words(&error)
    );
    assert!(start.elapsed() < 10 * BRIEF);
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up() {
    let script = Script::once(b"", End::Hold).await;
    let origin = origin(&impatient(&script.url));
    let error = origin.get("/").await.unwrap_err();
    assert!(
        matches!(error, OriginError::FirstByteTimeout(_)),
        "{}",
        words(&error)
    );
    assert_eq!(error.outcome().status(), 504);
}

/// Who waits for it may be less patient than what a server is allowed.
#[tokio::test]
async fn a_server_that_says_nothing_until_nobody_waits_any_more_has_failed() {
    let script = Script::once(b"", End::Hold).await;
    let origin = origin(&config(&[&script.url]));
    let viewer = Viewer {
        until: Some(Instant::now() + BRIEF),
        ..viewer()
    };
    let error = origin.send(get("/"), &viewer).await.unwrap_err();
    assert!(
        matches!(error, OriginError::FirstByteTimeout(_)),
        "{}",
        words(&error)
    );
    assert_eq!((origin.server(0).failures, origin.server(0).in_use), (1, 0));
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_is_given_up() {
    let script = Script::with(|mut stream, _| {
        Box::pin(async move {
            read_head(&mut stream).await?;
            for byte in b"HTTP/1.1 200 OK\r\n".iter().cycle() {
                stream.write_all(&[*byte]).await?;
                tokio::time::sleep(BRIEF / 10).await;
            }
            Ok(())
        })
    })
    .await;
    let error = origin(&impatient(&script.url)).get("/").await.unwrap_err();
    assert!(matches!(
        error,
        OriginError::FirstByteTimeout(_) | OriginError::Failed(_)
    ));
}

#[tokio::test]
async fn a_body_may_take_long_as_long_as_it_comes() {
    let script = Script::with(|mut stream, _| {
        Box::pin(async move {
            read_head(&mut stream).await?;
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n")
                .await?;
            for byte in b"slowly" {
                tokio::time::sleep(BRIEF / 2).await;
                stream.write_all(&[*byte]).await?;
            }
            std::future::pending().await
        })
    })
    .await;
    let origin = origin(&impatient(&script.url));
    assert_eq!(origin.text("/").await.unwrap(), "slowly");
    assert_eq!(origin.server(0).failures, 0);
}

#[tokio::test]
async fn a_viewer_that_reads_slowly_is_no_slow_server() {
    let hyper = Hyper::start(|_| async { Response::new(full(vec![b'x'; 4 << 20])) }).await;
    let origin = origin(&impatient(&hyper.url));
    let mut body = origin.get("/").await.unwrap().into_body();
    let mut received = body
        .frame()
        .await
        .unwrap()
        .unwrap()
        .into_data()
        .unwrap()
        .len();
    tokio::time::sleep(2 * BRIEF).await;
    while let Some(frame) = body.frame().await {
        received += frame.unwrap().into_data().unwrap().len();
    }
    assert_eq!(received, 4 << 20);
}

#[tokio::test]
async fn a_server_that_closes_on_a_viewer_that_reads_slowly_has_not_failed() {
    let script = Script::with(|mut stream, _| {
        Box::pin(async move {
            read_head(&mut stream).await?;
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 8388608\r\n\r\n")
                .await?;
            stream.write_all(&vec![b'x'; 4 << 20]).await?;
            stream.shutdown().await
        })
    })
    .await;
    let mut config = config(&[&script.url]);
    config.timeouts.idle = BRIEF;
    let origin = origin(&config);
    for (pause, failures) in [(2 * BRIEF, 0), (Duration::ZERO, 1)] {
        let mut body = origin.get("/").await.unwrap().into_body();
        body.frame().await.unwrap().unwrap();
        tokio::time::sleep(pause).await;
        assert!(body.collect().await.is_err());
        let server = origin.server(0);
        assert_eq!((server.failures, server.in_use), (failures, 0), "{pause:?}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_read_a_request_is_given_up() {
    let script = Script::with(|mut stream, _| {
        Box::pin(async move {
            read_head(&mut stream).await?;
            std::future::pending().await
        })
    })
    .await;
    let mut config = impatient(&script.url);
    config.timeouts.first_byte = LONG;
    let origin = origin(&config);
    let body = http_body_util::StreamBody::new(futures::stream::repeat_with(|| {
        Ok::<_, Infallible>(http_body::Frame::data(Bytes::from_static(&[0; 64 << 10])))
    }));
    let request = Request::put("/").body(body).unwrap();
    let error = origin.send(request, &viewer()).await.unwrap_err();
    assert!(
        matches!(error, OriginError::IdleTimeout(_)),
        "{}",
        words(&error)
    );
    assert_eq!(origin.server(0).failures, 1);
}

/// RFC 9110 §15.4: who follows is the viewer.
#[tokio::test]
async fn a_redirect_is_passed_on_and_not_followed() {
    let target = Script::once(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", End::Hold).await;
    let bytes: &'static str = format!(
        "HTTP/1.1 302 Found\r\nlocation: {}/secret\r\ncontent-length: 0\r\n\r\n",
        target.url
    )
    .leak();
    let script = Script::once(bytes.as_bytes(), End::Hold).await;
    let answer = origin(&impatient(&script.url)).get("/").await.unwrap();
    assert_eq!(answer.status(), 302);
    assert_eq!(
        answer.headers()["location"],
        format!("{}/secret", target.url)
    );
    assert_eq!(target.connections(), 0);
}

#[tokio::test]
async fn an_answer_that_nobody_asked_for_is_not_given_to_the_next_request() {
    let script = Script::start(&[
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n1\
              HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nstolen",
            End::Next,
        ),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n2", End::Next),
    ])
    .await;
    let origin = origin(&impatient(&script.url));
    assert_eq!(origin.text("/").await.unwrap(), "1");
    assert_eq!(origin.text("/").await.unwrap(), "2");
    assert_eq!(script.connections(), 2);
}

/// RFC 9110 §6.4.1: no body follows, whatever the fields say.
#[tokio::test]
async fn an_answer_without_a_body_has_none_whatever_its_length() {
    let script = Script::start(&[
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n",
            End::Next,
        ),
        (
            b"HTTP/1.1 304 Not Modified\r\ncontent-length: 1000\r\n\r\n",
            End::Next,
        ),
        (
            b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n",
            End::Next,
        ),
    ])
    .await;
    let origin = origin(&impatient(&script.url));
    let head = Request::head("/").body(Empty::new()).unwrap();
    let answer = origin.send(head, &viewer()).await.unwrap();
    assert_eq!(answer.headers()["content-length"], "1000");
    assert_eq!(text(answer).await.unwrap(), "");
    let answer = origin.get("/").await.unwrap();
    assert_eq!(answer.headers()["content-length"], "1000");
    assert_eq!(text(answer).await.unwrap(), "");
    let answer = origin.get("/").await.unwrap();
    assert!(!answer.headers().contains_key("content-length"));
    assert_eq!(script.connections(), 1);
}

/// The server closes its side, or the connection, before the request is read.
#[tokio::test]
async fn a_server_that_hangs_up_at_once_is_unreachable() {
    let script = Script::with(|stream, _| {
        Box::pin(async move {
            drop(stream);
            Ok(())
        })
    })
    .await;
    let error = origin(&impatient(&script.url)).get("/").await.unwrap_err();
    assert_eq!(error.outcome().status(), 502, "{}", words(&error));
}

#[tokio::test]
async fn a_private_address_is_dialled_only_where_it_is_allowed() {
    let hyper = Hyper::start(echo).await;
    let port = hyper.address.port();
    let names = || {
        Arc::new(Names(HashMap::from([(
            "rebound.test",
            vec!["127.0.0.1", "::1"],
        )])))
    };
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "localhost",
        "rebound.test",
    ] {
        let mut config = config(&[&format!("http://{host}:{port}")]);
        config.private = false;
        let shared = match host {
            "rebound.test" => Origins::with_resolver("node-7", names()).unwrap(),
            _ => origins(),
        };
        let origin = Origin::new("main", &config, &shared).unwrap();
        let error = origin.get("/").await.expect_err(host);
        assert!(
            words(&error).contains("not public"),
            "{host}: {}",
            words(&error)
        );
        assert_eq!(error.outcome().code(), "origin_unreachable");
    }
    assert_eq!(hyper.connections(), 0);

    let shared = Origins::with_resolver("node-7", names()).unwrap();
    let allowed = config(&[&format!("http://rebound.test:{port}")]);
    let origin = Origin::new("main", &allowed, &shared).unwrap();
    assert_eq!(origin.get("/").await.unwrap().status(), 200);
}
