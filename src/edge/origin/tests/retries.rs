//! Which requests are sent again, and to whom.

use super::*;

const OK: (&[u8], End) = (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", End::Next);
const DEAD: &str = "http://127.0.0.1:1";

fn with_retries(urls: &[&str]) -> distribution::Origin {
    distribution::Origin {
        retries: 1,
        ..config(urls)
    }
}

/// RFC 9110 §9.2.2.
#[tokio::test]
async fn only_a_request_that_may_be_served_twice_is_sent_again() {
    for (method, again) in [
        ("GET", true),
        ("HEAD", true),
        ("OPTIONS", true),
        ("PUT", true),
        ("DELETE", true),
        ("POST", false),
        ("PATCH", false),
        ("PROPFIND", false),
    ] {
        let script = Script::start(&[(b"", End::Close), OK]).await;
        let origin = origin(&with_retries(&[&script.url]));
        let request = Request::builder()
            .method(method)
            .uri("/")
            .body(Empty::new());
        let answer = origin.send(request.unwrap(), &viewer()).await;
        assert_eq!(answer.is_ok(), again, "{method}");
        assert_eq!(script.heads().len(), 1 + usize::from(again), "{method}");
        assert_eq!(origin.statistics().retries, u64::from(again), "{method}");
    }
}

#[tokio::test]
async fn a_body_that_was_begun_is_not_sent_again() {
    let script = Script::start(&[(b"", End::Close), OK]).await;
    let origin = origin(&with_retries(&[&script.url]));
    let request = Request::put("/").body(Full::<Bytes>::from("body")).unwrap();
    let error = origin.send(request, &viewer()).await.unwrap_err();
    assert!(error.blames_server(), "{error}");
    assert_eq!(script.heads().len(), 1);
}

#[tokio::test]
async fn so_many_attempts_and_no_more() {
    for (retries, attempts) in [(0, 1), (1, 2), (3, 4)] {
        let script = Script::start(&[(b"", End::Close)]).await;
        let mut config = config(&[&script.url]);
        config.retries = retries;
        origin(&config).get("/").await.unwrap_err();
        assert_eq!(script.heads().len(), attempts);
    }
}

/// Nothing was sent, so it cannot be served twice.
#[tokio::test]
async fn a_request_goes_to_another_server_when_the_first_cannot_be_reached() {
    let script = Script::start(&[OK]).await;
    let origin = origin(&with_retries(&[DEAD, &script.url]));
    for _ in 0..4 {
        let answer = origin.send(post("/", "body"), &viewer()).await.unwrap();
        assert_eq!(text(answer).await.unwrap(), "ok");
    }
    for head in script.heads() {
        assert!(head.starts_with("POST / HTTP/1.1\r\n"), "{head}");
    }
}

/// RFC 9112 §9.3.1. Whether the server closes before the request is written or after, a GET survives; a POST that was written does
/// not, and one that was not written does.
#[tokio::test]
async fn a_kept_connection_that_closes_under_a_request() {
    let script = Script::start(&[OK, (b"", End::Close), OK]).await;
    let origin = origin(&config(&[&script.url]));
    assert_eq!(origin.text("/").await.unwrap(), "ok");
    assert_eq!(
        origin.text("/").await.unwrap(),
        "ok",
        "without counting as a retry"
    );
    assert_eq!(
        (origin.statistics().retries, origin.server(0).failures),
        (0, 0)
    );
    assert_eq!(script.heads().len(), 3);

    let script = Script::start(&[OK, (b"", End::Close), OK]).await;
    let origin = self::origin(&config(&[&script.url]));
    assert_eq!(origin.text("/").await.unwrap(), "ok");
    let error = origin.send(post("/", "body"), &viewer()).await.unwrap_err();
    assert!(matches!(error, OriginError::Failed(_)), "{error}");
    assert_eq!(script.heads().len(), 2, "it was not sent again");

    let script = Script::start(&[(OK.0, End::Close)]).await;
    let origin = self::origin(&config(&[&script.url]));
    for _ in 0..5 {
        let answer = origin.send(post("/", "body"), &viewer()).await.unwrap();
        assert_eq!(text(answer).await.unwrap(), "ok");
    }
}

#[tokio::test]
async fn a_slow_server_is_left_for_another() {
    let slow = Script::once(b"", End::Hold).await;
    let quick = Script::start(&[OK]).await;
    let mut config = with_retries(&[&slow.url, &quick.url]);
    config.timeouts.first_byte = BRIEF;
    assert_eq!(origin(&config).text("/").await.unwrap(), "ok");
    assert_eq!(slow.connections(), 1);
}

#[tokio::test]
async fn a_backup_serves_when_the_others_cannot() {
    let spare = Script::start(&[OK]).await;
    let mut config = with_retries(&[DEAD]);
    config.servers.push(backup(&spare.url));
    config.ejection.failures = 3;
    let origin = origin(&config);
    for _ in 0..3 {
        assert_eq!(origin.text("/").await.unwrap(), "ok");
    }
    // Now the first is out, and not even asked.
    for _ in 0..3 {
        assert_eq!(origin.text("/").await.unwrap(), "ok");
    }
    assert_eq!(origin.server(0).dials, 3);
    assert_eq!(origin.statistics().retries, 3);
}

/// As in CloudFront's origin groups.
#[tokio::test]
async fn a_status_sends_a_safe_request_to_the_backup() {
    for (method, expected) in [
        ("GET", 200),
        ("HEAD", 200),
        ("OPTIONS", 200),
        ("POST", 503),
        ("PUT", 503),
        ("DELETE", 503),
    ] {
        let bad = Script::start(&[(
            b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n",
            End::Next,
        )])
        .await;
        let spare = Script::start(&[OK]).await;
        let mut config = config(&[&bad.url]);
        config.servers.push(backup(&spare.url));
        config.failover = [503].into();
        let origin = origin(&config);
        let request = Request::builder()
            .method(method)
            .uri("/")
            .body(Empty::new());
        let answer = origin.send(request.unwrap(), &viewer()).await.unwrap();
        assert_eq!(answer.status(), expected, "{method}");
        let moved = u64::from(expected == 200);
        assert_eq!(origin.statistics().failovers, moved, "{method}");
        assert_eq!(origin.server(0).failures, 0, "a status is no failure");
    }
}

#[tokio::test]
async fn a_status_is_better_than_a_backup_that_fails() {
    let bad = Script::start(&[(
        b"HTTP/1.1 503 Busy\r\ncontent-length: 4\r\n\r\nbusy",
        End::Next,
    )])
    .await;
    let mut config = config(&[&bad.url]);
    config.servers.push(backup(DEAD));
    config.failover = [503].into();
    let answer = origin(&config).get("/").await.unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(text(answer).await.unwrap(), "busy");
}

#[tokio::test]
async fn a_server_that_fails_is_left_alone_for_a_while_and_then_tried() {
    let good = Script::start(&[OK]).await;
    let bad = Script::start(&[(b"", End::Close), (b"", End::Close), OK]).await;
    let mut config = with_retries(&[&bad.url, &good.url]);
    config.ejection.failures = 2;
    config.ejection.duration = 2 * BRIEF;
    let origin = origin(&config);
    for _ in 0..10 {
        assert_eq!(origin.text("/").await.unwrap(), "ok");
    }
    assert_eq!(bad.heads().len(), 2);
    assert_eq!(origin.server(0).state, ServerState::Ejected);
    tokio::time::sleep(3 * BRIEF).await;
    for _ in 0..10 {
        assert_eq!(origin.text("/").await.unwrap(), "ok");
    }
    assert_eq!(origin.server(0).state, ServerState::Healthy);
    assert_eq!(bad.heads().len(), 2 + 5, "it has its share again");
}

#[tokio::test]
async fn a_server_comes_back_though_nobody_reads_its_answers_to_the_end() {
    const ENDLESS: (&[u8], End) = (b"HTTP/1.1 200 OK\r\n\r\ndata", End::Hold);
    async fn read_a_piece(origin: &Origin) {
        let mut body = origin.get("/").await.unwrap().into_body();
        body.frame().await.unwrap().unwrap();
    }
    let good = Script::start(&[ENDLESS]).await;
    let bad = Script::start(&[(b"", End::Close), (b"", End::Close), ENDLESS]).await;
    let mut config = with_retries(&[&bad.url, &good.url]);
    config.ejection.failures = 2;
    config.ejection.duration = BRIEF;
    let origin = origin(&config);
    while origin.server(0).state != ServerState::Ejected {
        read_a_piece(&origin).await;
    }
    tokio::time::sleep(2 * BRIEF).await;
    for _ in 0..4 {
        read_a_piece(&origin).await;
    }
    assert_eq!(origin.server(0).state, ServerState::Healthy);
}

#[tokio::test]
async fn a_server_whose_bodies_break_off_is_ejected_too() {
    let bad = Script::once(
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf",
        End::Close,
    )
    .await;
    let mut config = config(&[&bad.url]);
    config.ejection.failures = 3;
    let origin = origin(&config);
    for _ in 0..3 {
        assert!(origin.text("/").await.is_err());
    }
    assert_eq!(origin.server(0).state, ServerState::Ejected);
}

#[tokio::test]
async fn the_last_server_is_asked_even_if_it_fails() {
    let script =
        Script::start(&[(b"", End::Close), (b"", End::Close), (b"", End::Close), OK]).await;
    let mut config = config(&[&script.url]);
    config.ejection.failures = 2;
    let origin = origin(&config);
    for _ in 0..3 {
        origin.get("/").await.unwrap_err();
    }
    assert_eq!(origin.server(0).state, ServerState::Ejected);
    assert_eq!(origin.text("/").await.unwrap(), "ok");
    assert_eq!(origin.server(0).state, ServerState::Healthy);
}

#[tokio::test]
async fn servers_share_by_weight() {
    let (light, heavy) = (Script::start(&[OK]).await, Script::start(&[OK]).await);
    let mut config = config(&[&light.url, &heavy.url]);
    config.servers[1].weight = 3;
    let origin = origin(&config);
    for _ in 0..40 {
        origin.text("/").await.unwrap();
    }
    assert_eq!((light.heads().len(), heavy.heads().len()), (10, 30));
}

#[tokio::test]
async fn checks_take_a_server_out_and_bring_it_back() {
    let well = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let answer = Arc::clone(&well);
    let checked = Hyper::start(move |request: Request<Incoming>| {
        let well = answer.load(Relaxed);
        async move {
            let mut response = Response::new(full("checked"));
            if request.uri() == "/base/health?deep" {
                assert_eq!(request.headers()["host"], "app.test");
                if !well {
                    *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
                }
            }
            response
        }
    })
    .await;
    let spare = Script::start(&[OK]).await;
    let mut config = config(&[&format!("{}/base", checked.url)]);
    config.servers.push(backup(&spare.url));
    config.host = Some("app.test".to_owned());
    config.health = Some(distribution::HealthCheck {
        path: "/health?deep".to_owned(),
        interval: BRIEF / 10,
        timeout: BRIEF,
        ..distribution::HealthCheck::default()
    });
    let origin = origin(&config);
    assert_eq!(origin.text("/").await.unwrap(), "checked");
    well.store(false, Relaxed);
    eventually("it is out", || {
        origin.server(0).state == ServerState::Unhealthy
    })
    .await;
    assert_eq!(origin.text("/").await.unwrap(), "ok");
    well.store(true, Relaxed);
    eventually("it is back", || {
        origin.server(0).state == ServerState::Healthy
    })
    .await;
    assert_eq!(origin.text("/").await.unwrap(), "checked");

    drop(origin);
    tokio::time::sleep(BRIEF).await;
    let asked = checked.connections();
    tokio::time::sleep(2 * BRIEF).await;
    assert_eq!(
        checked.connections(),
        asked,
        "nobody asks for an origin that is gone"
    );
}

/// As in CloudFront's origin groups: what may change something stays with the servers that are meant for it.
#[tokio::test]
async fn a_request_that_was_sent_goes_to_a_backup_only_if_it_is_safe() {
    for (method, expected) in [
        ("GET", "backup"),
        ("OPTIONS", "backup"),
        ("PUT", "same"),
        ("DELETE", "same"),
    ] {
        let broken = Script::start(&[
            (b"", End::Close),
            (
                b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nsame",
                End::Next,
            ),
        ])
        .await;
        let spare = Script::start(&[(
            b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nbackup",
            End::Next,
        )])
        .await;
        let mut config = with_retries(&[&broken.url]);
        config.servers.push(backup(&spare.url));
        let request = Request::builder()
            .method(method)
            .uri("/")
            .body(Empty::new());
        let answer = origin(&config)
            .send(request.unwrap(), &viewer())
            .await
            .unwrap();
        assert_eq!(text(answer).await.unwrap(), expected, "{method}");
    }
}

#[tokio::test]
async fn nobody_checks_the_servers_of_an_origin_that_is_gone() {
    let script = Script::start(&[OK]).await;
    let mut config = config(&[&script.url]);
    config.health = Some(distribution::HealthCheck {
        interval: BRIEF,
        ..distribution::HealthCheck::default()
    });
    let origin = origin(&config);
    eventually("it is checked", || script.heads().len() == 1).await;
    drop(origin);
    tokio::time::sleep(3 * BRIEF).await;
    assert_eq!(script.connections(), 1);
}
