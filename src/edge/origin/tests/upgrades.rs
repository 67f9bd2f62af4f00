//! WebSocket: a tunnel between a viewer and a server.

use hyper::server::conn::http1;
use tokio::net::TcpSocket;

use super::*;
use crate::model::Outcome;

const SWITCH: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\n\
    connection: Upgrade\r\nsec-websocket-accept: abc\r\nx-hop: 1\r\n\r\nhello ";

fn request() -> Request<()> {
    Request::get("/chat")
        .header("sec-websocket-key", "key")
        .header("connection", "upgrade, x-own")
        .header("upgrade", "websocket")
        .header("x-own", "1")
        .body(())
        .unwrap()
}

/// A server that switches and then sends back what it gets, in capitals, until it gets a full stop.
async fn shouting() -> Script {
    Script::with(|mut stream, heads| {
        Box::pin(async move {
            let head = read_head(&mut stream).await?;
            heads.lock().unwrap().push(head);
            stream.write_all(SWITCH).await?;
            let mut piece = [0; 1024];
            loop {
                let length = stream.read(&mut piece).await?;
                if length == 0 {
                    return Ok(());
                }
                stream
                    .write_all(&piece[..length].to_ascii_uppercase())
                    .await?;
                if piece[..length].contains(&b'.') {
                    return stream.shutdown().await;
                }
            }
        })
    })
    .await
}

/// A node: answers an upgrade as the origin does and joins the two ends.
async fn node(
    origin: Arc<Origin>,
) -> (
    SocketAddr,
    tokio::task::JoinHandle<Result<(u64, u64), TunnelError>>,
) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (joined, mut tunnels) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let service = service_fn(move |mut viewer: Request<Incoming>| {
            let (origin, joined) = (Arc::clone(&origin), joined.clone());
            async move {
                let upgraded = hyper::upgrade::on(&mut viewer);
                let (head, _) = viewer.into_parts();
                let asked = Request::from_parts(head, ());
                let answer = origin.upgrade(asked, &self::viewer()).await.unwrap();
                Ok::<_, Infallible>(match answer {
                    Upgrade::Switched(answer, tunnel) => {
                        joined.send((upgraded, tunnel)).unwrap();
                        answer.map(|()| full(""))
                    }
                    Upgrade::Declined(answer) => {
                        answer.map(|body| body.map_err(io::Error::other).boxed_unsync())
                    }
                })
            }
        });
        http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
            .await
    });
    let tunnel = tokio::spawn(async move {
        let (upgraded, tunnel) = tunnels.recv().await.unwrap();
        let viewer = TokioIo::new(upgraded.await.unwrap());
        let traffic = Traffic::default();
        let joined = tunnel.join(viewer, &traffic).await;
        joined.map(|()| (traffic.from_viewer(), traffic.from_origin()))
    });
    (address, tunnel)
}

async fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpSocket::new_v4().unwrap().connect(address).await;
    let mut stream = stream.unwrap();
    let request = "GET /chat HTTP/1.1\r\nhost: www.test\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
        sec-websocket-key: key\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// RFC 6455 §4, RFC 9110 §7.8.
#[tokio::test]
async fn a_websocket_is_a_tunnel_in_both_directions() {
    let script = shouting().await;
    let origin = Arc::new(origin(&config(&[&script.url])));
    let (address, tunnel) = node(Arc::clone(&origin)).await;
    let mut viewer = connect(address).await;
    let mut head = String::new();
    while !head.ends_with("hello ") {
        head.push(char::from(viewer.read_u8().await.unwrap()));
    }
    assert!(
        head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"),
        "{head}"
    );
    assert!(head.contains("sec-websocket-accept: abc\r\n"), "{head}");
    assert_eq!(
        origin.server(0).in_use,
        1,
        "it takes a slot as long as it lasts"
    );
    for piece in ["one", "two", "three."] {
        viewer.write_all(piece.as_bytes()).await.unwrap();
        let mut back = vec![0; piece.len()];
        viewer.read_exact(&mut back).await.unwrap();
        assert_eq!(back, piece.to_uppercase().as_bytes());
    }
    assert_eq!(
        viewer.read(&mut [0]).await.unwrap(),
        0,
        "the server's end is passed on"
    );
    drop(viewer);
    assert_eq!(tunnel.await.unwrap().unwrap(), (12, 18));
    assert_eq!((origin.server(0).in_use, origin.server(0).failures), (0, 0));

    let heads = script.heads();
    for line in [
        "upgrade: websocket",
        "connection: upgrade",
        "sec-websocket-key: key",
        "via: 1.1 node-7",
    ] {
        assert!(
            heads[0].contains(&format!("\r\n{line}\r\n")),
            "{}",
            heads[0]
        );
    }
}

#[tokio::test]
async fn a_tunnel_through_which_nothing_comes_is_closed() {
    let script = shouting().await;
    let mut config = config(&[&script.url]);
    config.timeouts.idle = BRIEF;
    let origin = Arc::new(origin(&config));
    let (address, tunnel) = node(Arc::clone(&origin)).await;
    let mut viewer = connect(address).await;
    for _ in 0..6 {
        tokio::time::sleep(BRIEF / 2).await;
        viewer.write_all(b"x").await.unwrap();
    }
    assert!(!tunnel.is_finished(), "it is used");
    let error = tunnel.await.unwrap().unwrap_err();
    assert!(matches!(error, TunnelError::Idle(BRIEF)), "{error}");
    assert_eq!(error.outcome(), Outcome::OriginTimeout);
    assert_eq!(origin.server(0).in_use, 0);
}

#[tokio::test]
async fn who_broke_a_tunnel_off_is_known() {
    // A reset is an error, where an end is none.
    let script = Script::once(SWITCH, End::Reset).await;
    let (address, tunnel) = node(Arc::new(origin(&config(&[&script.url])))).await;
    let viewer = connect(address).await;
    let error = tunnel.await.unwrap().unwrap_err();
    assert_eq!(error.outcome(), Outcome::OriginBadResponse, "{error}");
    drop(viewer);

    let script = shouting().await;
    let (address, tunnel) = node(Arc::new(origin(&config(&[&script.url])))).await;
    let mut viewer = connect(address).await;
    let mut head = String::new();
    while !head.ends_with("hello ") {
        head.push(char::from(viewer.read_u8().await.unwrap()));
    }
    viewer.set_zero_linger().unwrap();
    drop(viewer);
    let error = tunnel.await.unwrap().unwrap_err();
    assert_eq!(error.outcome(), Outcome::Cancelled, "{error}");
}

/// A server that refuses connections.
async fn gone() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// RFC 9110 §9.2.2 is about what was sent: here nothing was.
#[tokio::test]
async fn where_no_connection_can_be_had_the_next_server_is_asked() {
    for is_backup in [false, true] {
        let script = Script::once(SWITCH, End::Hold).await;
        let mut config = config(&[&gone().await, &script.url]);
        config.servers[1].backup = is_backup;
        config.retries = 1;
        let origin = origin(&config);
        for _ in 0..4 {
            let answer = origin.upgrade(request(), &viewer()).await.unwrap();
            assert!(matches!(answer, Upgrade::Switched(..)), "{answer:?}");
        }
        assert_eq!(script.connections(), 4);
    }
    // As often as it may be tried again, and no more.
    let mut config = config(&[&gone().await, &gone().await, &gone().await]);
    config.retries = 1;
    let origin = origin(&config);
    let error = origin.upgrade(request(), &viewer()).await.unwrap_err();
    assert!(matches!(error, OriginError::Unreachable(_)), "{error}");
    assert_eq!(origin.statistics().retries, 1);
}

/// What was sent is not sent again: the server may have acted upon it.
#[tokio::test]
async fn what_a_server_was_sent_goes_to_no_other() {
    let (one, two) = (
        Script::once(b"", End::Close).await,
        Script::once(b"", End::Close).await,
    );
    let mut config = config(&[&one.url, &two.url]);
    config.retries = 3;
    let origin = origin(&config);
    let error = origin.upgrade(request(), &viewer()).await.unwrap_err();
    assert!(matches!(error, OriginError::Failed(_)), "{error}");
    assert_eq!(one.connections() + two.connections(), 1);
}

#[tokio::test]
async fn a_server_may_decline() {
    let script = Script::start(&[(
        b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno",
        End::Next,
    )])
    .await;
    let origin = origin(&config(&[&script.url]));
    let Upgrade::Declined(answer) = origin.upgrade(request(), &viewer()).await.unwrap() else {
        panic!("it declined");
    };
    assert_eq!(answer.status(), 403);
    assert_eq!(text(answer).await.unwrap(), "no");
    assert!(!script.heads()[0].contains("x-own"));
    // However many are declined, they leave no connection behind.
    assert_eq!((origin.server(0).in_use, origin.server(0).kept), (0, 0));
}

#[tokio::test]
async fn a_tunnel_takes_the_place_of_a_connection_that_is_kept() {
    const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    const ANSWERS: [(&[u8], End); 2] = [(OK, End::Next), (SWITCH, End::Hold)];
    for (connections, kept) in [(1, 0), (2, 1)] {
        let script = Script::start(&ANSWERS).await;
        let mut config = config(&[&script.url]);
        config.connections = connections;
        let origin = origin(&config);
        assert_eq!(origin.text("/").await.unwrap(), "ok");
        assert_eq!(origin.server(0).kept, 1);
        let upgrade = origin.upgrade(request(), &viewer()).await.unwrap();
        assert!(matches!(upgrade, Upgrade::Switched(..)));
        let server = origin.server(0);
        assert_eq!((server.in_use, server.kept), (1, kept), "{connections}");
    }
}

#[tokio::test]
async fn a_switch_to_something_else_is_refused() {
    for bytes in [
        &b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n"[..],
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ] {
        let script = Script::once(bytes, End::Hold).await;
        let origin = origin(&config(&[&script.url]));
        let error = origin.upgrade(request(), &viewer()).await.unwrap_err();
        assert!(matches!(error, OriginError::InvalidResponse(_)), "{error}");
        assert_eq!(origin.server(0).in_use, 0);
    }
}
