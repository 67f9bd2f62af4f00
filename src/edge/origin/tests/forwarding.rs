//! What a server is sent.

use super::*;

/// The head of a request as it arrives, in lines.
fn lines(head: &str) -> Vec<&str> {
    head.split("\r\n").collect()
}

async fn head_of<B>(config: &distribution::Origin, script: &Script, request: Request<B>) -> String
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let before = script.heads().len();
    origin(config).send(request, &viewer()).await.unwrap();
    script.heads()[before].clone()
}

async fn script() -> Script {
    Script::start(&[(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", End::Next)]).await
}

#[tokio::test]
async fn a_server_learns_where_a_request_comes_from_and_through_whom() {
    let script = script().await;
    let mut config = config(&[&script.url]);
    config.headers = vec![("x-secret".to_owned(), "s3".to_owned())];
    let request = Request::get("https://www.test/path?query=1")
        .header("x-secret", "guessed")
        .header("accept", "*/*")
        .body(Empty::<Bytes>::new())
        .unwrap();
    let head = head_of(&config, &script, request).await;
    let mut lines = lines(&head);
    assert_eq!(lines[0], "GET /path?query=1 HTTP/1.1");
    lines.sort_unstable();
    let host = format!("host: {}", script.url.strip_prefix("http://").unwrap());
    assert_eq!(
        lines[2..],
        [
            "GET /path?query=1 HTTP/1.1",
            "accept: */*",
            "cdn-loop: node-7",
            "forwarded: for=192.0.2.7;proto=https;host=\"www.test\"",
            &host,
            "via: 1.1 node-7",
            "x-forwarded-for: 192.0.2.7",
            "x-forwarded-host: www.test",
            "x-forwarded-proto: https",
            "x-secret: s3",
        ]
    );
}

#[tokio::test]
async fn the_host_is_the_configurations_to_choose() {
    let script = script().await;
    let mut config = config(&[&script.url]);
    let request = || {
        Request::get("/")
            .header("host", "spoofed")
            .body(Empty::<Bytes>::new())
            .unwrap()
    };
    config.host = Some("app.test".to_owned());
    let head = head_of(&config, &script, request()).await;
    assert!(head.contains("\r\nhost: app.test\r\n"), "{head}");
    config.forward_host = true;
    let head = head_of(&config, &script, request()).await;
    assert!(head.contains("\r\nhost: www.test\r\n"), "{head}");
    assert!(!head.contains("spoofed"), "{head}");
}

#[tokio::test]
async fn the_base_of_a_server_goes_before_every_path() {
    let script = script().await;
    for (base, path, expected) in [
        ("", "/a?b", "/a?b"),
        ("/", "/a", "/a"),
        ("/base", "/a?b", "/base/a?b"),
        ("/base/", "/", "/base/"),
        ("/base", "//other.test/", "/base//other.test/"),
        ("", "//other.test/", "//other.test/"),
        ("", "/../a/%2e%2e/%00", "/../a/%2e%2e/%00"),
    ] {
        let config = config(&[&format!("{}{base}", script.url)]);
        // Not parsed as a URI of its own, which would take the second slash for a host.
        let mut request = get("/");
        *request.uri_mut() = http::uri::PathAndQuery::try_from(path).unwrap().into();
        let head = head_of(&config, &script, request).await;
        assert_eq!(lines(&head)[0], format!("GET {expected} HTTP/1.1"));
    }
    let config = config(&[&script.url]);
    let mut request = Request::options("/").body(Empty::<Bytes>::new()).unwrap();
    *request.uri_mut() = "*".parse().unwrap();
    let head = head_of(&config, &script, request).await;
    assert_eq!(lines(&head)[0], "OPTIONS * HTTP/1.1");
}

/// RFC 9112 §11.1, §11.2. Nothing that could be taken for the end of a line gets as far as here.
#[test]
fn neither_a_target_nor_a_value_can_hold_the_end_of_a_line() {
    for byte in (0_u8..=0x20).chain([0x7f]) {
        let target = [b"/a".as_slice(), &[byte], b"b"].concat();
        let parsed = http::uri::PathAndQuery::try_from(target.as_slice());
        assert!(parsed.is_err() || byte == 0x7f, "{byte:#x} in a target");
        let value = HeaderValue::from_bytes(&[b'a', byte, b'b']);
        assert!(
            value.is_err() || matches!(byte, b'\t' | b' '),
            "{byte:#x} in a value"
        );
        assert!(
            HeaderName::from_bytes(&[b'a', byte, b'b']).is_err(),
            "{byte:#x} in a name"
        );
        assert!(
            Method::from_bytes(&[b'a', byte, b'b']).is_err(),
            "{byte:#x} in a method"
        );
    }
}

#[tokio::test]
async fn what_is_no_path_is_not_sent() {
    let script = script().await;
    let origin = origin(&config(&[&script.url]));
    let mut connect = get("/");
    *connect.method_mut() = Method::CONNECT;
    let mut star = get("/");
    *star.uri_mut() = "*".parse().unwrap();
    let mut query = get("/");
    *query.uri_mut() = http::uri::PathAndQuery::try_from("?a").unwrap().into();
    for request in [connect, star, query] {
        let error = origin.send(request, &viewer()).await.unwrap_err();
        assert_eq!(error.outcome().status(), 400, "{error}");
    }
    assert_eq!(script.connections(), 0);
}

/// RFC 8586: 508.
#[tokio::test]
async fn a_loop_ends_here() {
    let script = script().await;
    let request = Request::get("/")
        .header("cdn-loop", "a, node-7")
        .body(Empty::<Bytes>::new());
    let error = origin(&config(&[&script.url]))
        .send(request.unwrap(), &viewer())
        .await
        .unwrap_err();
    assert_eq!(error.status(), 508);
    assert_eq!(script.connections(), 0);
}

/// RFC 9112 §6: the length is that of the body, whatever the fields say.
#[tokio::test]
async fn framing_follows_the_body() {
    let hyper = Hyper::start(echo).await;
    let origin = origin(&config(&[&hyper.url]));
    let lying = || {
        Request::post("/")
            .header("content-length", "2")
            .header("transfer-encoding", "chunked")
    };
    let request = lying().body(Full::<Bytes>::from("whole")).unwrap();
    let got = text(origin.send(request, &viewer()).await.unwrap())
        .await
        .unwrap();
    assert!(
        got.contains("content-length: 5\n") && got.ends_with("\n\nwhole"),
        "{got}"
    );
    assert!(!got.contains("transfer-encoding"), "{got}");

    for method in [Method::POST, Method::GET] {
        let body = http_body_util::StreamBody::new(futures::stream::iter(
            ["who", "le"]
                .map(|piece| Ok::<_, Infallible>(http_body::Frame::data(Bytes::from(piece)))),
        ));
        let mut request = lying().body(body).unwrap();
        *request.method_mut() = method;
        let got = text(origin.send(request, &viewer()).await.unwrap())
            .await
            .unwrap();
        assert!(
            got.contains("transfer-encoding: chunked\n") && got.ends_with("\n\nwhole"),
            "{got}"
        );
        assert!(!got.contains("content-length"), "{got}");
    }

    let request = lying().body(Empty::<Bytes>::new()).unwrap();
    let got = text(origin.send(request, &viewer()).await.unwrap())
        .await
        .unwrap();
    assert!(got.contains("content-length: 0\n"), "RFC 9110 §8.6: {got}");
    assert_eq!(hyper.connections(), 1);
}

/// RFC 9110 §7.6.1, in the other direction.
#[tokio::test]
async fn an_answer_leaves_its_hop_by_hop_fields_behind() {
    let script = Script::once(
        b"HTTP/1.1 200 OK\r\nconnection: keep-alive, x-hop\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\n\
          upgrade: h2c\r\nproxy-authenticate: Basic\r\ntrailer: x-sum\r\nx-kept: 1\r\n\
          transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n",
        End::Hold,
    )
    .await;
    let answer = origin(&config(&[&script.url])).get("/").await.unwrap();
    let mut names: Vec<&str> = answer.headers().keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["trailer", "x-kept"]);
    let body = answer.into_body().collect().await.unwrap();
    assert_eq!(body.trailers().unwrap()["x-sum"], "7");
    assert_eq!(body.to_bytes(), "ok");
}

/// RFC 9110 §6.5, §10.1.4.
#[tokio::test]
async fn trailers_go_both_ways() {
    let hyper = Hyper::start(|request: Request<Incoming>| async move {
        assert_eq!(request.headers()["te"], "trailers");
        let trailers = request.into_body().collect().await.unwrap();
        let trailers = trailers.trailers().cloned().unwrap_or_default();
        let frames = [
            Ok(http_body::Frame::data(Bytes::from_static(b"ok"))),
            Ok(http_body::Frame::trailers(trailers)),
        ];
        let body = http_body_util::StreamBody::new(futures::stream::iter(frames));
        Response::builder()
            .header("trailer", "grpc-status")
            .body(body.boxed_unsync())
            .unwrap()
    })
    .await;
    for protocol in [
        distribution::OriginProtocol::Http1,
        distribution::OriginProtocol::Http2,
    ] {
        let mut config = config(&[&hyper.url]);
        config.protocol = protocol;
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        let body = http_body_util::StreamBody::new(futures::stream::iter([
            Ok::<_, Infallible>(http_body::Frame::data(Bytes::from_static(b"hi"))),
            Ok(http_body::Frame::trailers(trailers)),
        ]));
        let request = Request::post("/service/method")
            .header("te", "trailers")
            .header("trailer", "grpc-status")
            .body(body)
            .unwrap();
        let answer = origin(&config).send(request, &viewer()).await.unwrap();
        let body = answer.into_body().collect().await.unwrap();
        let status = body
            .trailers()
            .and_then(|trailers| trailers.get("grpc-status"));
        assert_eq!(status.unwrap(), "0", "{protocol:?}");
    }
}

/// RFC 9110 §10.1.1: the viewer is told to go on when its body is read, and not before there is somebody to read it.
#[tokio::test]
async fn an_expectation_is_answered_by_reading() {
    let script = script().await;
    let request = Request::post("/")
        .header("expect", "100-continue")
        .body(Full::<Bytes>::from("body"))
        .unwrap();
    let head = head_of(&config(&[&script.url]), &script, request).await;
    assert!(!head.contains("expect"), "{head}");
}

#[tokio::test]
async fn an_answer_has_the_version_of_this_node() {
    let script = Script::once(b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n", End::Close).await;
    let answer = origin(&config(&[&script.url])).get("/").await.unwrap();
    assert_eq!(answer.version(), Version::HTTP_11);
}

#[tokio::test]
async fn a_configuration_that_cannot_work_names_its_key() {
    let good = || config(&["http://a.test"]);
    type Change = fn(&mut distribution::Origin);
    let changes: [(&str, Change); 22] = [
        ("servers", |config| config.servers.clear()),
        ("servers", |config| config.servers[0].backup = true),
        ("servers", |config| config.servers[0].weight = 0),
        ("servers", |config| {
            config.servers = vec![server("http://a.test"); 65]
        }),
        ("servers[0].weight", |config| {
            config.servers[0].weight = 1001
        }),
        ("servers[1].url", |config| {
            config.servers.push(server("ftp://a.test"))
        }),
        ("servers[0].url", |config| {
            config.servers[0].url = "a.test".to_owned()
        }),
        ("servers[0].url", |config| {
            config.servers[0].url = "http://u:p@a.test".to_owned()
        }),
        ("servers[0].url", |config| {
            config.servers[0].url = "http://a.test:99999".to_owned()
        }),
        ("servers[0].url", |config| {
            config.servers[0].url = "http://a.test/?query".to_owned()
        }),
        ("servers[0].url", |config| {
            config.servers[0].url = "http://".to_owned();
        }),
        ("host", |config| config.host = Some("a b".to_owned())),
        ("host", |config| config.host = Some("u@a".to_owned())),
        ("tls.server_name", |config| {
            config.tls.server_name = Some("a b".to_owned());
        }),
        ("connections", |config| config.connections = 0),
        ("timeouts.idle", |config| {
            config.timeouts.idle = Duration::ZERO
        }),
        ("health.path", |config| {
            config.health = Some(distribution::HealthCheck {
                path: "health".to_owned(),
                ..distribution::HealthCheck::default()
            });
        }),
        ("headers[0]", |config| {
            config.headers = vec![("a b".to_owned(), "1".to_owned())]
        }),
        ("headers[0]", |config| {
            config.headers = vec![("x".to_owned(), "a\r\nb".to_owned())]
        }),
        ("headers[0]", |config| {
            config.headers = vec![("Host".to_owned(), "a".to_owned())]
        }),
        ("headers[0]", |config| {
            config.headers = vec![("Content-Length".to_owned(), "1".to_owned())]
        }),
        ("tls.ca", |config| {
            config.tls.ca = Some("/nowhere/ca.pem".into())
        }),
    ];
    assert!(Origin::new("main", &good(), &origins()).is_ok());
    for (key, change) in changes {
        let mut config = good();
        change(&mut config);
        let error = Origin::new("main", &config, &origins()).expect_err(key);
        assert_eq!(error.key, key, "{error}");
    }
    assert_eq!(Origins::new("no node").unwrap_err().key, "node");
}

/// A body piece by piece, with a pause before each; a piece that is none is an error.
fn pieces(
    pieces: &'static [Option<&'static str>],
    pause: Duration,
) -> impl Body<Data = Bytes, Error = io::Error> + Send + 'static {
    http_body_util::StreamBody::new(futures::stream::unfold(0, move |index| async move {
        let piece = *pieces.get(index)?;
        tokio::time::sleep(pause).await;
        let piece = match piece {
            Some(piece) => Ok(http_body::Frame::data(Bytes::from_static(piece.as_bytes()))),
            None => Err(io::ErrorKind::ConnectionReset.into()),
        };
        Some((piece, index + 1))
    }))
}

/// RFC 9112 §8: the server must not take a half for the whole.
#[tokio::test]
async fn a_body_that_breaks_off_at_the_viewer_is_not_the_servers_fault() {
    for protocol in [
        distribution::OriginProtocol::Http1,
        distribution::OriginProtocol::Http2,
    ] {
        let (ends, mut ended) = tokio::sync::mpsc::unbounded_channel();
        let hyper = Hyper::start(move |request: Request<Incoming>| {
            let ends = ends.clone();
            async move {
                ends.send(request.into_body().collect().await.is_ok())
                    .unwrap();
                Response::new(full("ok"))
            }
        })
        .await;
        let mut config = config(&[&hyper.url]);
        config.protocol = protocol;
        config.retries = 3;
        let origin = origin(&config);
        let body = pieces(&[Some("half"), None], BRIEF / 10);
        let request = Request::put("/").body(body).unwrap();
        let error = origin.send(request, &viewer()).await.unwrap_err();
        assert!(
            matches!(error, OriginError::RequestBody(_)),
            "{}",
            words(&error)
        );
        assert_eq!(error.outcome().code(), "bad_request");
        assert_eq!(ended.recv().await, Some(false), "{protocol:?}");
        let server = origin.server(0);
        assert_eq!((server.failures, server.requests, server.in_use), (0, 1, 0));
    }
}

#[tokio::test]
async fn a_viewer_may_take_its_time_to_send_a_body() {
    let hyper = Hyper::start(echo).await;
    for protocol in [
        distribution::OriginProtocol::Http1,
        distribution::OriginProtocol::Http2,
    ] {
        let mut config = config(&[&hyper.url]);
        config.protocol = protocol;
        config.timeouts.first_byte = BRIEF;
        config.timeouts.idle = BRIEF;
        let body = pieces(
            &[Some("s"), Some("l"), Some("o"), Some("w")],
            BRIEF + BRIEF / 4,
        );
        let request = Request::post("/").body(body).unwrap();
        let answer = origin(&config).send(request, &viewer()).await.unwrap();
        assert!(
            text(answer).await.unwrap().ends_with("\n\nslow"),
            "{protocol:?}"
        );
    }
}

/// As servers do that have a limit for the time between two pieces.
#[tokio::test]
async fn a_server_that_closes_on_a_slow_viewer_has_not_failed() {
    let script = Script::with(|mut stream, _| {
        Box::pin(async move {
            read_head(&mut stream).await?;
            tokio::time::sleep(BRIEF).await;
            stream.shutdown().await
        })
    })
    .await;
    let origin = origin(&config(&[&script.url]));
    let body = pieces(&[Some("s"), Some("l"), Some("o"), Some("w")], 4 * BRIEF);
    let request = Request::post("/").body(body).unwrap();
    let error = origin.send(request, &viewer()).await.unwrap_err();
    assert!(matches!(error, OriginError::Failed(_)), "{}", words(&error));
    let server = origin.server(0);
    assert_eq!((server.failures, server.in_use), (0, 0));
}

/// As in a call of gRPC that streams both ways: the answer has begun, and the server listens.
#[tokio::test]
async fn a_server_may_be_silent_while_it_is_sent_something() {
    let hyper = Hyper::start(|request: Request<Incoming>| async {
        let heard = async {
            let heard = request.into_body().collect().await;
            Ok(http_body::Frame::data(
                heard.map_err(io::Error::other)?.to_bytes(),
            ))
        };
        let body = http_body_util::StreamBody::new(futures::stream::once(heard));
        Response::new(body.boxed_unsync())
    })
    .await;
    for protocol in [
        distribution::OriginProtocol::Http1,
        distribution::OriginProtocol::Http2,
    ] {
        let mut config = config(&[&hyper.url]);
        config.protocol = protocol;
        config.timeouts.idle = 2 * BRIEF;
        let said = &[
            Some("a"),
            Some("l"),
            Some("l"),
            Some("e"),
            Some("a"),
            Some("r"),
        ];
        let request = Request::post("/").body(pieces(said, BRIEF)).unwrap();
        let origin = origin(&config);
        let answer = origin.send(request, &viewer()).await.unwrap();
        assert_eq!(text(answer).await.unwrap(), "allear", "{protocol:?}");
        assert_eq!(origin.server(0).failures, 0);
    }
}

#[tokio::test]
async fn the_time_for_an_answer_begins_when_the_request_is_sent() {
    let script = Script::once(b"", End::Hold).await;
    let mut config = config(&[&script.url]);
    config.timeouts.first_byte = 2 * BRIEF;
    let body = pieces(&[Some("s"), Some("l"), Some("o"), Some("w")], BRIEF);
    let request = Request::post("/").body(body).unwrap();
    let start = std::time::Instant::now();
    let error = origin(&config).send(request, &viewer()).await.unwrap_err();
    assert!(matches!(
        error,
        OriginError::IdleTimeout(_) | OriginError::FirstByteTimeout(_)
    ));
    assert!(start.elapsed() >= 6 * BRIEF, "{:?}", start.elapsed());
}
