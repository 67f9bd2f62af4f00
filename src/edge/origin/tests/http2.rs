//! HTTP/2: many requests on one connection.

use super::*;

fn http2(url: &str) -> distribution::Origin {
    distribution::Origin {
        protocol: distribution::OriginProtocol::Http2,
        ..config(&[url])
    }
}

/// RFC 9113 §3.3.
#[tokio::test]
async fn prior_knowledge_needs_no_upgrade() {
    let hyper = Hyper::start(echo).await;
    let mut config = http2(&hyper.url);
    config.host = Some("app.test".to_owned());
    let got = origin(&config).text("/path?query").await.unwrap();
    assert!(
        got.starts_with("HTTP/2.0 GET http://app.test/path?query\n"),
        "{got}"
    );
    assert!(
        !got.contains("\nhost:") && got.contains("\nvia: 1.1 node-7\n"),
        "{got}"
    );
}

#[tokio::test]
async fn requests_at_one_moment_share_a_connection() {
    let hyper = Hyper::start(|_| async {
        tokio::time::sleep(BRIEF).await;
        Response::new(full("ok"))
    })
    .await;
    let origin = Arc::new(origin(&http2(&hyper.url)));
    let mut requests = JoinSet::new();
    for _ in 0..60 {
        let origin = Arc::clone(&origin);
        requests.spawn(async move { origin.text("/").await });
    }
    eventually("all are under way", || origin.server(0).in_use == 60).await;
    while let Some(answer) = requests.join_next().await {
        assert_eq!(answer.unwrap().unwrap(), "ok");
    }
    assert_eq!(hyper.connections(), 1);
    assert_eq!(origin.server(0).in_use, 0);
}

#[tokio::test]
async fn a_connection_takes_so_many_requests_and_then_there_is_another() {
    let hyper = Hyper::start(|_| async {
        tokio::time::sleep(BRIEF).await;
        Response::new(full("ok"))
    })
    .await;
    let origin = Arc::new(origin(&http2(&hyper.url)));
    let mut requests = JoinSet::new();
    for _ in 0..150 {
        let origin = Arc::clone(&origin);
        requests.spawn(async move { origin.text("/").await });
    }
    while let Some(answer) = requests.join_next().await {
        assert_eq!(answer.unwrap().unwrap(), "ok");
    }
    assert_eq!(hyper.connections(), 2);
}

#[tokio::test]
async fn a_stream_that_is_given_up_leaves_the_others_alone() {
    let hyper = Hyper::start(|request: Request<Incoming>| async move {
        match request.uri().path() {
            "/never" => std::future::pending().await,
            "/endless" => {
                let frames = futures::stream::repeat_with(|| {
                    Ok(http_body::Frame::data(Bytes::from_static(&[0; 16 << 10])))
                });
                Response::new(http_body_util::StreamBody::new(frames).boxed_unsync())
            }
            _ => Response::new(full("ok")),
        }
    })
    .await;
    let mut config = http2(&hyper.url);
    config.timeouts.first_byte = BRIEF;
    let origin = origin(&config);
    let error = origin.get("/never").await.unwrap_err();
    assert!(matches!(error, OriginError::FirstByteTimeout(_)), "{error}");
    // Nobody reads these, and still there is room for another.
    let mut unread = Vec::new();
    for _ in 0..30 {
        unread.push(origin.get("/endless").await.unwrap());
    }
    tokio::time::sleep(BRIEF).await;
    assert_eq!(origin.text("/").await.unwrap(), "ok");
    drop(unread);
    assert_eq!(origin.text("/").await.unwrap(), "ok");
    assert_eq!(hyper.connections(), 1);
    assert_eq!(origin.server(0).in_use, 0);
}

#[tokio::test]
async fn a_body_that_is_reset_never_looks_complete() {
    let hyper = Hyper::start(|_| async {
        let frames = futures::stream::iter([
            Ok(http_body::Frame::data(Bytes::from_static(b"half"))),
            Err(io::ErrorKind::Other.into()),
        ]);
        Response::new(http_body_util::StreamBody::new(frames).boxed_unsync())
    })
    .await;
    let origin = origin(&http2(&hyper.url));
    assert!(origin.text("/").await.is_err());
    assert_eq!(origin.server(0).failures, 1);
}

/// RFC 9113 §8.1: NO_ERROR asks to send no more, which is no end of the answer.
#[tokio::test]
async fn a_body_that_is_reset_without_an_error_is_not_complete_either() {
    let script = Script::with(|mut stream, _| {
        Box::pin(async move {
            let mut preface = [0; 24];
            stream.read_exact(&mut preface).await?;
            loop {
                let mut frame = [0; 9];
                stream.read_exact(&mut frame).await?;
                let [_, high, low, kind, ..] = frame;
                let length = u16::from_be_bytes([high, low]);
                stream.read_exact(&mut vec![0; usize::from(length)]).await?;
                // HEADERS.
                if kind == 1 {
                    break;
                }
            }
            for frame in [
                &b"\0\0\0\x04\0\0\0\0\0"[..],        // SETTINGS
                b"\0\0\0\x04\x01\0\0\0\0",           // SETTINGS, ACK
                b"\0\0\x01\x01\x04\0\0\0\x01\x88",   // HEADERS, END_HEADERS: 200
                b"\0\0\x04\0\0\0\0\0\x01half",       // DATA
                b"\0\0\x04\x03\0\0\0\0\x01\0\0\0\0", // RST_STREAM, NO_ERROR
            ] {
                stream.write_all(frame).await?;
            }
            std::future::pending().await
        })
    })
    .await;
    let origin = origin(&http2(&script.url));
    let error = origin.text("/").await.unwrap_err();
    assert!(
        matches!(error, OriginError::InvalidResponse(_)),
        "{}",
        words(&error)
    );
    let server = origin.server(0);
    assert_eq!((server.failures, server.in_use), (1, 0));
}

#[tokio::test]
async fn a_connection_on_which_nothing_is_answered_is_replaced() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let accepted = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&accepted);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let first = count.fetch_add(1, Relaxed) == 0;
            tokio::spawn(async move {
                let service = service_fn(move |_: Request<Incoming>| async move {
                    if first {
                        std::future::pending::<()>().await;
                    }
                    Ok::<_, Infallible>(Response::new(full("ok")))
                });
                hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await
            });
        }
    });
    let mut config = http2(&url);
    config.timeouts.first_byte = BRIEF;
    let origin = origin(&config);
    for _ in 0..3 {
        let error = origin.get("/").await.unwrap_err();
        assert!(matches!(error, OriginError::FirstByteTimeout(_)), "{error}");
    }
    assert_eq!(accepted.load(Relaxed), 1, "one of them may just be slow");
    assert_eq!(origin.text("/").await.unwrap(), "ok");
    assert_eq!(accepted.load(Relaxed), 2);
    assert_eq!(origin.server(0).kept, 1);
}

#[tokio::test]
async fn a_connection_that_is_gone_is_replaced() {
    let hyper = Hyper::start(echo).await;
    let origin = origin(&http2(&hyper.url));
    origin.text("/").await.unwrap();
    let address = hyper.address;
    drop(hyper);
    // The address is taken again by another server.
    let listener = loop {
        match TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(_) => tokio::time::sleep(BRIEF / 10).await,
        }
    };
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(
                TokioIo::new(stream),
                service_fn(|request| async { Ok::<_, Infallible>(echo(request).await) }),
            )
            .await
    });
    let answer = origin.send(post("/", "body"), &viewer()).await.unwrap();
    assert!(text(answer).await.unwrap().ends_with("body"));
    assert_eq!(origin.server(0).failures, 0);
    serving.abort();
}

#[tokio::test]
async fn a_server_that_does_not_speak_it_gives_no_valid_answer() {
    let script = Script::once(
        b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n",
        End::Close,
    )
    .await;
    let error = origin(&http2(&script.url)).get("/").await.unwrap_err();
    assert_eq!(
        error.outcome().code(),
        "origin_bad_response",
        "{}",
        words(&error)
    );
}

/// RFC 9113 §8.1.1.
#[tokio::test]
async fn a_length_that_is_not_kept_to_is_an_error() {
    let hyper = Hyper::start(|request: Request<Incoming>| async move {
        let promised = request.uri().path().trim_start_matches('/').to_owned();
        let frames =
            futures::stream::iter([Ok(http_body::Frame::data(Bytes::from_static(b"four")))]);
        Response::builder()
            .header("content-length", promised)
            .body(http_body_util::StreamBody::new(frames).boxed_unsync())
            .unwrap()
    })
    .await;
    let origin = origin(&http2(&hyper.url));
    assert_eq!(origin.text("/4").await.unwrap(), "four");
    for promised in ["/3", "/5", "/0"] {
        assert!(origin.text(promised).await.is_err(), "{promised}");
    }
}

/// The first requests to a server do not each make a connection when it turns out that they can share one.
#[tokio::test]
async fn requests_that_come_before_the_first_connection_share_it() {
    let app = tls::acceptor(&["127.0.0.1"], &[b"h2"]);
    let hyper = Hyper::start_with(Some(app.acceptor.clone()), echo).await;
    let mut config = config(&[&hyper.url]);
    config.tls.ca = Some(app.ca.path().to_owned());
    let origin = Arc::new(origin(&config));
    let mut requests = JoinSet::new();
    for _ in 0..20 {
        let origin = Arc::clone(&origin);
        requests.spawn(async move { origin.text("/").await });
    }
    while let Some(answer) = requests.join_next().await {
        assert!(answer.unwrap().unwrap().starts_with("HTTP/2.0"));
    }
    assert_eq!(hyper.connections(), 1);
}

#[tokio::test]
async fn a_connection_has_room_again_when_an_answer_has_ended() {
    let hyper = Hyper::start(echo).await;
    let origin = origin(&http2(&hyper.url));
    for _ in 0..250 {
        origin.text("/").await.unwrap();
    }
    assert_eq!(hyper.connections(), 1);
}

/// RFC 9113 §6.8: what was begun is finished, and what comes goes elsewhere.
#[tokio::test]
async fn a_connection_that_is_going_away_gets_no_more_requests() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let leave = Arc::new(tokio::sync::Notify::new());
    let told = Arc::clone(&leave);
    let accepted = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&accepted);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let first = count.fetch_add(1, Relaxed) == 0;
            let told = Arc::clone(&told);
            tokio::spawn(async move {
                let service = service_fn(|request: Request<Incoming>| async move {
                    if request.uri().path() == "/slow" {
                        tokio::time::sleep(4 * BRIEF).await;
                    }
                    Ok::<_, Infallible>(Response::new(full("ok")))
                });
                let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let mut served =
                    std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
                tokio::select! {
                    _ = &mut served => return,
                    () = told.notified(), if first => {}
                }
                served.as_mut().graceful_shutdown();
                let _ = served.await;
            });
        }
    });
    let origin = Arc::new(origin(&http2(&url)));
    let slow = Arc::clone(&origin);
    let slow = tokio::spawn(async move { slow.text("/slow").await });
    eventually("it is under way", || origin.server(0).in_use == 1).await;
    tokio::time::sleep(BRIEF).await;
    leave.notify_one();
    tokio::time::sleep(BRIEF).await;
    for _ in 0..5 {
        let answer = origin.send(post("/", "body"), &viewer()).await.unwrap();
        assert_eq!(text(answer).await.unwrap(), "ok");
    }
    assert!(!slow.is_finished());
    assert_eq!(slow.await.unwrap().unwrap(), "ok");
    assert_eq!(accepted.load(Relaxed), 2);
    assert_eq!(origin.server(0).failures, 0);
}
