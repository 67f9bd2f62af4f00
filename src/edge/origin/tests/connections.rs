//! Connections are kept, counted, and given back.

use super::*;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn requests_one_after_another_share_a_connection() {
    for bytes in [
        OK,
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    ] {
        let script: &'static [_] = vec![(bytes, End::Next)].leak();
        let script = Script::start(script).await;
        let origin = origin(&config(&[&script.url]));
        for _ in 0..20 {
            origin.text("/").await.unwrap();
        }
        assert_eq!(script.connections(), 1);
        let server = origin.server(0);
        assert_eq!((server.requests, server.answers, server.dials), (20, 20, 1));
        assert_eq!((server.in_use, server.kept, server.failures), (0, 1, 0));
        assert!(server.latency > Duration::ZERO);
    }
}

#[tokio::test]
async fn a_connection_that_is_to_be_closed_is_not_kept() {
    let script = Script::start(&[(
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
        End::Next,
    )])
    .await;
    let origin = origin(&config(&[&script.url]));
    for _ in 0..3 {
        assert_eq!(origin.text("/").await.unwrap(), "ok");
    }
    assert_eq!(script.connections(), 3);
}

#[tokio::test]
async fn a_viewer_that_leaves_in_the_midst_of_a_body_closes_the_connection() {
    let script = Script::start(&[
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
            End::Next,
        ),
        (OK, End::Next),
    ])
    .await;
    let origin = origin(&config(&[&script.url]));
    let mut body = origin.get("/").await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    drop(body);
    assert_eq!(origin.text("/").await.unwrap(), "ok");
    assert_eq!(script.connections(), 2);
    let server = origin.server(0);
    assert_eq!(
        (server.failures, server.in_use),
        (0, 0),
        "it is nobody's fault"
    );
}

#[tokio::test]
async fn a_request_that_is_given_up_closes_the_connection() {
    let script = Script::start(&[(b"", End::Next), (OK, End::Next)]).await;
    let origin = origin(&config(&[&script.url]));
    assert!(tokio::time::timeout(BRIEF, origin.get("/")).await.is_err());
    assert_eq!(origin.text("/").await.unwrap(), "ok");
    assert_eq!(script.connections(), 2);
    assert_eq!(origin.server(0).in_use, 0);
}

/// RFC 9112 §9.3: an early answer leaves the connection in the midst of the request.
#[tokio::test]
async fn an_answer_before_the_whole_request_closes_the_connection() {
    let script = Script::start(&[(OK, End::Next)]).await;
    let origin = origin(&config(&[&script.url]));
    let (sender, body) = tokio::sync::mpsc::unbounded_channel::<Bytes>();
    sender.send(Bytes::from_static(b"first")).unwrap();
    let body = futures::stream::unfold(body, |mut body| async {
        let piece = body.recv().await?;
        Some((Ok::<_, Infallible>(http_body::Frame::data(piece)), body))
    });
    let request = Request::post("/")
        .body(http_body_util::StreamBody::new(body))
        .unwrap();
    let answer = origin.send(request, &viewer()).await.unwrap();
    assert_eq!(text(answer).await.unwrap(), "ok");
    assert_eq!(origin.server(0).kept, 0);
    eventually("nobody reads the rest", || sender.is_closed()).await;
    assert_eq!(origin.text("/").await.unwrap(), "ok");
    assert_eq!(script.connections(), 2);
}

#[tokio::test]
async fn so_many_connections_and_no_more_and_who_waits_gets_one() {
    let hyper = Hyper::start(|request: Request<Incoming>| async move {
        if request.uri().path() == "/slow" {
            tokio::time::sleep(BRIEF).await;
        }
        Response::new(full("ok"))
    })
    .await;
    let mut config = config(&[&hyper.url]);
    config.connections = 2;
    let origin = Arc::new(origin(&config));
    let mut requests = JoinSet::new();
    for _ in 0..4 {
        let origin = Arc::clone(&origin);
        requests.spawn(async move { origin.text("/slow").await });
    }
    eventually("two wait", || origin.server(0).waiting == 2).await;
    assert_eq!(origin.server(0).in_use, 2);
    let error = origin.get("/").await.unwrap_err();
    assert!(matches!(error, OriginError::Overloaded), "{error}");
    assert_eq!(error.outcome().status(), 503);
    while let Some(answer) = requests.join_next().await {
        assert_eq!(answer.unwrap().unwrap(), "ok");
    }
    assert_eq!(hyper.connections(), 2);
    let server = origin.server(0);
    assert_eq!((server.in_use, server.waiting, server.kept), (0, 0, 2));
    assert_eq!(server.failures, 0, "it is not the server's fault");
}

#[tokio::test]
async fn who_waits_too_long_for_a_connection_is_told_so() {
    let script = Script::once(b"", End::Hold).await;
    let mut config = config(&[&script.url]);
    config.connections = 1;
    config.timeouts.connect = BRIEF;
    let origin = Arc::new(origin(&config));
    let holder = Arc::clone(&origin);
    let held = tokio::spawn(async move { holder.get("/").await.map(drop) });
    eventually("it is in use", || origin.server(0).in_use == 1).await;
    let error = origin.get("/").await.unwrap_err();
    assert!(matches!(error, OriginError::Overloaded), "{error}");
    held.abort();
    eventually("it is free", || origin.server(0).in_use == 0).await;
}

/// RFC 9112 §9.3.1: a kept connection that the server has closed is no failure of anybody's.
#[tokio::test]
async fn a_kept_connection_that_was_closed_is_replaced_unnoticed() {
    for end in [End::Close, End::Reset] {
        let script: &'static [_] = vec![(OK, end)].leak();
        let script = Script::start(script).await;
        let origin = origin(&config(&[&script.url]));
        for _ in 0..5 {
            assert_eq!(origin.text("/").await.unwrap(), "ok");
        }
        assert_eq!(origin.server(0).failures, 0, "{end:?}");
        assert_eq!(script.connections(), 5, "{end:?}");
    }
}

#[tokio::test]
async fn a_server_keeps_its_connections_when_the_configuration_around_it_changes() {
    let script = Script::start(&[(OK, End::Next)]).await;
    let other = Script::start(&[(OK, End::Next)]).await;
    let shared = origins();
    let mut config = config(&[&script.url]);
    let before = Origin::new("main", &config, &shared).unwrap();
    before.text("/").await.unwrap();

    config.servers.push(server(&other.url));
    config.servers[0].weight = 7;
    config.headers = vec![("x-new".to_owned(), "1".to_owned())];
    config.timeouts.first_byte = LONG;
    config.forward_host = true;
    let after = Origin::new("main", &config, &shared).unwrap();
    drop(before);
    after.text("/").await.unwrap();
    assert_eq!(script.connections(), 1);
    assert_eq!(after.server(0).requests, 2);

    config.protocol = distribution::OriginProtocol::Http1;
    let another = Origin::new("main", &config, &shared).unwrap();
    another.text("/").await.unwrap();
    assert_eq!(script.connections(), 2);
}

#[tokio::test]
async fn the_connections_of_an_origin_that_is_gone_are_closed() {
    let closed = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&closed);
    let script = Script::with(move |mut stream, _| {
        let count = Arc::clone(&count);
        Box::pin(async move {
            while read_head(&mut stream).await.is_ok() {
                stream.write_all(OK).await?;
            }
            count.fetch_add(1, Relaxed);
            Ok(())
        })
    })
    .await;
    let shared = origins();
    let origin = Origin::new("main", &config(&[&script.url]), &shared).unwrap();
    origin.text("/").await.unwrap();
    assert_eq!(closed.load(Relaxed), 0);
    drop(origin);
    eventually("the connection is closed", || closed.load(Relaxed) == 1).await;
}

#[tokio::test]
async fn connecting_is_given_up() {
    // Accepts and never shakes hands.
    let script = Script::with(|stream, _| {
        Box::pin(async move {
            let _stream = stream;
            std::future::pending().await
        })
    })
    .await;
    let mut config = config(&[&script.url.replace("http:", "https:")]);
    config.timeouts.connect = BRIEF;
    let origin = origin(&config);
    let error = origin.get("/").await.unwrap_err();
    assert!(matches!(error, OriginError::ConnectTimeout(_)), "{error}");
    assert_eq!(error.outcome().status(), 504);
}

/// While a server cannot be connected to, one request at a time tries and the others need not wait.
#[tokio::test]
async fn an_open_circuit_lets_one_try_and_tells_the_others_at_once() {
    let stalls = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let acceptor = tls::acceptor(&["127.0.0.1"], &[]);
    let tls_server = acceptor.acceptor.clone();
    let stalling = Arc::clone(&stalls);
    let script = Script::with(move |stream, _| {
        let (acceptor, stalls) = (tls_server.clone(), stalling.load(Relaxed));
        Box::pin(async move {
            if stalls {
                let _stream = stream;
                return std::future::pending().await;
            }
            let mut stream = acceptor.accept(stream).await?;
            let mut head = [0; 4096];
            while stream.read(&mut head).await? > 0 {
                stream.write_all(OK).await?;
            }
            Ok(())
        })
    })
    .await;
    let mut config = config(&[&script.url.replace("http:", "https:")]);
    config.tls.ca = Some(acceptor.ca.path().to_owned());
    config.timeouts.connect = BRIEF;
    config.ejection.failures = 2;
    let origin = Arc::new(origin(&config));
    for _ in 0..2 {
        let error = origin.get("/").await.unwrap_err();
        assert!(matches!(error, OriginError::ConnectTimeout(_)), "{error}");
    }
    assert_eq!(origin.server(0).state, ServerState::CircuitOpen);
    let trying = Arc::clone(&origin);
    let trial = tokio::spawn(async move { trying.get("/").await.map(drop) });
    eventually("the trial dials", || script.connections() == 3).await;
    for _ in 0..10 {
        let error = origin.get("/").await.unwrap_err();
        assert!(matches!(error, OriginError::CircuitOpen), "{error}");
    }
    assert!(trial.await.unwrap().is_err());
    assert_eq!(script.connections(), 3);

    stalls.store(false, Relaxed);
    assert_eq!(origin.text("/").await.unwrap(), "ok");
    assert_eq!(origin.server(0).state, ServerState::Healthy);
}

#[tokio::test]
async fn a_connection_that_nobody_uses_is_closed_in_time() {
    let script = Script::start(&[(OK, End::Next)]).await;
    let origin = origin(&config(&[&script.url]));
    origin.text("/").await.unwrap();
    tokio::time::pause();
    tokio::time::advance(lease::KEEP / 2).await;
    tokio::task::yield_now().await;
    assert_eq!(origin.server(0).kept, 1);
    tokio::time::advance(lease::KEEP).await;
    eventually("it is closed", || origin.server(0).kept == 0).await;
}
