//! What the listener promises to clients, kept through real sockets.

use std::{
    convert::Infallible,
    fs,
    io::{Read as _, Write as _},
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Version};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Empty, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, ServerName};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use wharf::{
    ingress::{
        CertificateSource, ConnectionInfo, Handler, ListenerStats, RequestBody, Server,
        ServerConfig, TlsConfig, error, sanitize,
    },
    model::RequestId,
};

const SECOND: Duration = Duration::from_secs(1);

type BoxBody = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// Answers by path, after sanitizing as the data plane does.
#[derive(Default)]
struct Paths {
    handled: AtomicUsize,
    in_flight: AtomicUsize,
    pieces: Arc<AtomicUsize>,
}

struct Leaving<'a>(&'a AtomicUsize);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

fn full(bytes: impl Into<Bytes>) -> BoxBody {
    Full::new(bytes.into())
        .map_err(|never: Infallible| match never {})
        .boxed_unsync()
}

impl Handler for Paths {
    type Body = BoxBody;

    async fn handle(
        &self,
        request: Request<RequestBody>,
        connection: &Arc<ConnectionInfo>,
    ) -> Response<BoxBody> {
        let (mut head, body) = request.into_parts();
        if let Err(refusal) = sanitize::request(&mut head, connection) {
            return error::refuse(&refusal, RequestId::generate()).map(full);
        }
        self.handled.fetch_add(1, SeqCst);
        self.in_flight.fetch_add(1, SeqCst);
        let _leaving = Leaving(&self.in_flight);
        let response = Response::builder();
        match head.uri.path() {
            "/echo" => response.body(body.map_err(Into::into).boxed_unsync()),
            "/collect" => match body.collect().await {
                Ok(body) => {
                    let trailer = body.trailers().and_then(|trailers| trailers.get("x-sum"));
                    let text = format!("trailer={trailer:?} ");
                    let body = [text.as_bytes(), &body.to_bytes()].concat();
                    response.body(full(body))
                }
                Err(_) => response.status(408).body(full("body")),
            },
            "/ignore-body" => response.body(full("ignored")),
            "/sleep" => {
                sleep(SECOND / 2).await;
                response.body(full("slept"))
            }
            "/forever" => std::future::pending().await,
            "/panic" => panic!("on purpose"),
            "/no-content" => response
                .status(204)
                .header("content-length", 10)
                .body(full("never sent")),
            "/trailers" => {
                let mut trailers = HeaderMap::new();
                trailers.insert("x-sum", "42".parse().unwrap());
                let frames = [
                    Frame::data(Bytes::from_static(b"body")),
                    Frame::trailers(trailers),
                ];
                let frames = frames.map(Ok::<_, Box<dyn std::error::Error + Send + Sync>>);
                let body = StreamBody::new(futures::stream::iter(frames));
                response
                    .header("trailer", "x-sum")
                    .body(body.boxed_unsync())
            }
            "/endless" => {
                let pieces = Arc::clone(&self.pieces);
                let stream = futures::stream::repeat_with(move || {
                    pieces.fetch_add(1, SeqCst);
                    Ok(Frame::data(Bytes::from_static(&[b'x'; 16 * 1024])))
                });
                response.body(StreamBody::new(stream).boxed_unsync())
            }
            "/where" => response.body(full(format!(
                "{} {:?} {:?}",
                head.uri, connection.protocol, connection.tls
            ))),
            _ => response.body(full("hello")),
        }
        .unwrap()
    }
}

/// A server on a free port, stopped when it is dropped.
struct Node {
    address: SocketAddr,
    handler: Arc<Paths>,
    stats: Arc<ListenerStats>,
    shutdown: CancellationToken,
    running: JoinHandle<()>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Node {
    fn start() -> Self {
        Self::with(|_| {})
    }

    fn with(configure: impl FnOnce(&mut ServerConfig)) -> Self {
        let mut config = ServerConfig::new("127.0.0.1:0".parse().unwrap());
        config.grace = 2 * SECOND;
        configure(&mut config);
        let server = Server::bind(config).unwrap();
        let address = server.local_addr();
        let stats = server.stats();
        let handler = Arc::<Paths>::default();
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(server.run(Arc::clone(&handler), shutdown.clone()));
        Self {
            address,
            handler,
            stats,
            shutdown,
            running,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// What comes back for these bytes until the server closes, or nothing comes for a while.
    async fn raw(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        // The server may close before it has read everything.
        let _ = stream.write_all(bytes.as_ref()).await;
        read_all(&mut stream).await
    }

    async fn says_hello(&self) {
        let reply = self
            .raw("GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n")
            .await;
        assert!(reply.starts_with("HTTP/1.1 200 OK\r\n"), "{reply}");
        assert!(reply.ends_with("\r\n\r\nhello"), "{reply}");
    }

    fn handled(&self) -> usize {
        self.handler.handled.load(SeqCst)
    }
}

async fn read_all(stream: &mut TcpStream) -> String {
    let mut reply = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(Ok(length @ 1..)) = timeout(SECOND, stream.read(&mut buffer)).await {
        reply.extend_from_slice(&buffer[..length]);
    }
    String::from_utf8_lossy(&reply).into_owned()
}

/// Waits until the server closes the connection. How long that took.
async fn closed(stream: &mut TcpStream) -> Duration {
    let start = Instant::now();
    let mut buffer = vec![0; 64 * 1024];
    let end = async { while let Ok(1..) = stream.read(&mut buffer).await {} };
    timeout(10 * SECOND, end).await.expect("the server closes");
    start.elapsed()
}

async fn eventually(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..500 {
        if condition() {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}");
}

async fn http2<B>(
    io: impl hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
) -> hyper::client::conn::http2::SendRequest<B>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>
        + Send
        + Unpin
        + 'static,
{
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
        .await
        .unwrap();
    tokio::spawn(connection);
    sender
}

fn get(uri: &str) -> Request<Empty<Bytes>> {
    Request::get(uri).body(Empty::new()).unwrap()
}

// HTTP/1.1

#[tokio::test]
async fn a_connection_is_kept_alive_and_pipelined_requests_are_answered_in_order() {
    let node = Node::start();
    let one = "GET /where?1 HTTP/1.1\r\nhost: h\r\n\r\n";
    let two = "POST /collect HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\n\r\nabc";
    let three = "GET /where?3 HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";
    let reply = node.raw([one, two, three].concat()).await;
    let at = |text: &str| {
        reply
            .find(text)
            .unwrap_or_else(|| panic!("{text}: {reply}"))
    };
    assert!(at("http://h/where?1") < at("trailer=None abc"));
    assert!(at("trailer=None abc") < at("http://h/where?3"));
    assert_eq!(reply.matches("HTTP/1.1 200 OK").count(), 3);
    assert_eq!(reply.matches("date: ").count(), 3);
    assert_eq!(node.stats.accepted.get(), 1);
}

#[tokio::test]
async fn head_and_no_content_have_no_body_and_head_keeps_its_length() {
    let node = Node::start();
    let reply = node
        .raw("HEAD / HTTP/1.1\r\nhost: h\r\n\r\nGET /no-content HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n")
        .await;
    assert!(reply.contains("content-length: 5\r\n"), "{reply}");
    assert!(
        !reply.contains("hello") && !reply.contains("never"),
        "{reply}"
    );
    assert!(reply.contains("HTTP/1.1 204"), "{reply}");

    let mut client = http2(TokioIo::new(node.connect().await)).await;
    let request = Request::head("http://h/")
        .body(Empty::<Bytes>::new())
        .unwrap();
    let response = client.send_request(request).await.unwrap();
    assert_eq!(response.headers()["content-length"], "5");
    assert!(
        response
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes()
            .is_empty()
    );
    let response = client
        .send_request(get("http://h/no-content"))
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    // RFC 9110 section 8.6.
    assert!(!response.headers().contains_key("content-length"));
    assert!(
        response
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes()
            .is_empty()
    );
}

#[tokio::test]
async fn a_client_that_expects_100_continue_gets_it_when_its_body_is_wanted() {
    let node = Node::start();
    let head = |path| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n"
        )
    };
    let mut stream = node.connect().await;
    stream.write_all(head("/collect").as_bytes()).await.unwrap();
    let mut buffer = [0; 1024];
    let length = stream.read(&mut buffer).await.unwrap();
    assert_eq!(&buffer[..length], b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"abc").await.unwrap();
    let length = stream.read(&mut buffer).await.unwrap();
    assert!(String::from_utf8_lossy(&buffer[..length]).ends_with("abc"));

    let reply = node.raw(head("/ignore-body")).await;
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
}

#[tokio::test]
async fn chunks_and_trailers_go_both_ways() {
    let node = Node::start();
    let reply = node
        .raw("POST /collect HTTP/1.1\r\nhost: h\r\nconnection: close\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n\
              3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\nx-sum: 7\r\n\r\n")
        .await;
    assert!(reply.ends_with("trailer=Some(\"7\") abcde"), "{reply}");
    let reply = node
        .raw("GET /trailers HTTP/1.1\r\nhost: h\r\nte: trailers\r\nconnection: close\r\n\r\n")
        .await;
    assert!(
        reply.ends_with("4\r\nbody\r\n0\r\nx-sum: 42\r\n\r\n"),
        "{reply}"
    );
}

#[tokio::test]
async fn a_body_is_echoed_while_it_comes() {
    let node = Node::start();
    let mut stream = node.connect().await;
    stream
        .write_all(b"POST /echo HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n")
        .await
        .unwrap();
    let mut buffer = [0; 1024];
    for piece in ["first", "later"] {
        stream
            .write_all(format!("5\r\n{piece}\r\n").as_bytes())
            .await
            .unwrap();
        let mut seen = String::new();
        while !seen.contains(piece) {
            let length = timeout(SECOND, stream.read(&mut buffer))
                .await
                .unwrap()
                .unwrap();
            seen += &String::from_utf8_lossy(&buffer[..length]);
        }
    }
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_its_request() {
    let node = Node::start();
    let mut stream = node.connect().await;
    stream
        .write_all(b"GET /forever HTTP/1.1\r\nhost: h\r\n\r\n")
        .await
        .unwrap();
    eventually("the request is taken", || {
        node.handler.in_flight.load(SeqCst) == 1
    })
    .await;
    drop(stream);
    eventually("the request is cancelled", || {
        node.handler.in_flight.load(SeqCst) == 0
    })
    .await;
}

#[tokio::test]
async fn a_handler_that_panics_harms_its_own_connection() {
    let node = Node::start();
    let reply = node.raw("GET /panic HTTP/1.1\r\nhost: h\r\n\r\n").await;
    assert_eq!(reply, "");
    node.says_hello().await;
    eventually("the connection is over", || node.stats.active.get() == 0).await;
}

// Malformed and ambiguous

#[tokio::test]
async fn a_request_with_two_meanings_is_refused() {
    let node = Node::start();
    let long = "x".repeat(70 * 1024);
    let many: String = (0..101).map(|number| format!("a{number}: b\r\n")).collect();
    let post = "POST /collect HTTP/1.1\r\nhost: h\r\n";
    for (what, request, status) in [
        (
            "two lengths",
            format!("{post}content-length: 3\r\ncontent-length: 4\r\n\r\nabcd"),
            400,
        ),
        (
            "a list of lengths",
            format!("{post}content-length: 3, 4\r\n\r\nabcd"),
            400,
        ),
        (
            "a signed length",
            format!("{post}content-length: +3\r\n\r\nabc"),
            400,
        ),
        (
            "a huge length",
            format!("{post}content-length: 99999999999999999999\r\n\r\n"),
            400,
        ),
        (
            "a coding below chunked",
            format!("{post}transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
            501,
        ),
        (
            "chunked not last",
            format!("{post}transfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
            400,
        ),
        (
            "a hidden coding",
            format!("{post}transfer-encoding: xchunked\r\n\r\n0\r\n\r\n"),
            400,
        ),
        (
            "chunked on 1.0",
            "POST /collect HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
            400,
        ),
        (
            "a folded line",
            "GET / HTTP/1.1\r\nhost: h\r\na: b\r\n c\r\n\r\n".to_owned(),
            400,
        ),
        (
            "a space before the colon",
            "GET / HTTP/1.1\r\nhost : h\r\n\r\n".to_owned(),
            400,
        ),
        (
            "a space before the first field",
            "GET / HTTP/1.1\r\n host: h\r\n\r\n".to_owned(),
            400,
        ),
        (
            "no name",
            "GET / HTTP/1.1\r\nhost: h\r\n: b\r\n\r\n".to_owned(),
            400,
        ),
        (
            "a NUL in a value",
            "GET / HTTP/1.1\r\nhost: h\r\na: b\0c\r\n\r\n".to_owned(),
            400,
        ),
        (
            "a bare CR in a value",
            "GET / HTTP/1.1\r\nhost: h\r\na: b\rc: d\r\n\r\n".to_owned(),
            400,
        ),
        (
            "a NUL in the target",
            "GET /\0 HTTP/1.1\r\nhost: h\r\n\r\n".to_owned(),
            400,
        ),
        (
            "two spaces",
            "GET  / HTTP/1.1\r\nhost: h\r\n\r\n".to_owned(),
            400,
        ),
        (
            "two targets",
            "GET / /b HTTP/1.1\r\nhost: h\r\n\r\n".to_owned(),
            400,
        ),
        (
            "another version",
            "GET / HTTP/3.0\r\nhost: h\r\n\r\n".to_owned(),
            400,
        ),
        (
            "no HTTP",
            "\x16\x03\x01\x02\0\x01\0\x01\r\n\r\n".to_owned(),
            400,
        ),
        (
            "two hosts",
            "GET / HTTP/1.1\r\nhost: h\r\nHost: h\r\n\r\n".to_owned(),
            400,
        ),
        ("no host", "GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
        (
            "another host",
            "GET http://a/ HTTP/1.1\r\nhost: b\r\n\r\n".to_owned(),
            400,
        ),
        (
            "a tunnel",
            "CONNECT h:443 HTTP/1.1\r\nhost: h:443\r\n\r\n".to_owned(),
            501,
        ),
        (
            "a huge field",
            format!("GET / HTTP/1.1\r\nhost: h\r\na: {long}\r\n\r\n"),
            431,
        ),
        (
            "a huge target",
            format!("GET /{long} HTTP/1.1\r\nhost: h\r\n\r\n"),
            431,
        ),
        (
            "a long target",
            format!("GET /{} HTTP/1.1\r\nhost: h\r\n\r\n", &long[..20_000]),
            414,
        ),
        (
            "many fields",
            format!("GET / HTTP/1.1\r\nhost: h\r\n{many}\r\n"),
            431,
        ),
    ] {
        let reply = node.raw(&request).await;
        assert!(
            reply.starts_with(&format!("HTTP/1.1 {status} "))
                || reply.starts_with(&format!("HTTP/1.0 {status} ")),
            "{what}: {reply}"
        );
        assert_eq!(reply.matches("HTTP/1.").count(), 1, "{what}: {reply}");
    }
    assert_eq!(node.handled(), 0);
    node.says_hello().await;
}

// RFC 9112 §6.3 and §2.2 let a server take these.
#[tokio::test]
async fn what_others_may_read_otherwise_is_refused_on_any_request_of_a_connection() {
    let node = Node::start();
    let smuggled = "GET /where HTTP/1.1\r\nhost: smuggled\r\n\r\n";
    let post = "POST /collect HTTP/1.1\r\nhost: h\r\n";
    let chunks = "\r\n3\r\nabc\r\n0\r\n\r\n";
    let faulty = [
        format!("{post}content-length: 6\r\ntransfer-encoding: chunked\r\n{chunks}"),
        format!("{post}transfer-encoding: chunked\r\ncontent-length: 6\r\n{chunks}"),
        format!("{post}transfer-encoding: chunked\r\nContent-Length : 6\r\n{chunks}"),
        format!("{post}Transfer-Encoding: chunked\r\ncontent-length: x\r\n{chunks}"),
        "\nGET / HTTP/1.1\r\nhost: h\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\nhost: h\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nhost: h\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nhost: h\r\na: b\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nhost: h\r\n\n".to_owned(),
        "GET / HTTP/1.1\nhost: h\n\n".to_owned(),
    ];
    for before in [
        String::new(),
        "GET / HTTP/1.1\r\nhost: h\r\n\r\n".to_owned(),
        // A content that is made of what is refused in heads.
        format!("{post}content-length: 8\r\n\r\na\n\nb\r\n\r\n"),
        format!("{post}transfer-encoding: chunked\r\n\r\n2\r\n\n\n\r\n0\r\na: b\r\n\r\n"),
        // It is not switched to, so the connection stays HTTP/1.1.
        "GET / HTTP/1.1\r\nhost: h\r\nconnection: upgrade\r\nupgrade: other\r\n\r\n".to_owned(),
    ] {
        for faulty in &faulty {
            let reply = node.raw(format!("{before}{faulty}{smuggled}")).await;
            let what = format!("{before:?} {faulty:?}: {reply}");
            let answers: Vec<_> = reply.matches("HTTP/1.1 ").collect();
            assert_eq!(answers.len(), 1 + usize::from(!before.is_empty()), "{what}");
            assert!(reply.contains("HTTP/1.1 400 Bad Request\r\n"), "{what}");
            assert_eq!(
                reply.contains("HTTP/1.1 200 OK\r\n"),
                !before.is_empty(),
                "{what}"
            );
            assert!(!reply.contains("smuggled"), "{what}");
        }
    }
    assert_eq!(node.handled(), 4 * faulty.len());
    node.says_hello().await;
}

#[tokio::test]
async fn what_is_refused_is_refused_however_slowly_it_comes() {
    let node = Node::start();
    let request = "POST /collect HTTP/1.1\r\nhost: h\r\ncontent-length: 6\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut stream = node.connect().await;
    stream.set_nodelay(true).unwrap();
    for byte in request.as_bytes() {
        if stream.write_all(&[*byte]).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let reply = read_all(&mut stream).await;
    assert!(reply.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{reply}");
    assert_eq!(node.handled(), 0);
}

#[tokio::test]
async fn malformed_chunks_end_the_body_with_an_error_and_the_connection_too() {
    let node = Node::start();
    let smuggled = "GET /where HTTP/1.1\r\nhost: smuggled\r\n\r\n";
    let extension = format!("3;{}\r\nabc\r\n0\r\n\r\n", "x".repeat(20 * 1024));
    let trailers = format!("0\r\na: {}\r\n\r\n", "x".repeat(80 * 1024));
    for chunks in [
        "x\r\nabc\r\n0\r\n\r\n",
        "-3\r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "3 4\r\nabc\r\n0\r\n\r\n",
        "\r\n0\r\n\r\n",
        "3\nabc\n0\n\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "3;a\nb\r\nabc\r\n0\r\n\r\n",
        "11111111111111111\r\nabc\r\n0\r\n\r\n",
        "0\r\na : b\r\n\r\n",
        &extension,
        &trailers,
    ] {
        let request = format!(
            "POST /collect HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n{chunks}{smuggled}"
        );
        let reply = node.raw(&request).await;
        let what = &chunks[..chunks.len().min(20)];
        assert!(
            !reply.contains("smuggled") && !reply.contains(" 200 "),
            "{what:?}: {reply}"
        );
    }
    node.says_hello().await;
}

#[tokio::test]
async fn bytes_after_a_body_that_nobody_read_are_not_a_request() {
    let node = Node::start();
    let smuggled = "GET /where HTTP/1.1\r\nhost: smuggled\r\n\r\n";
    let body = format!("{smuggled}{}", "x".repeat(1 << 20));
    let length = body.len();
    let reply = node
        .raw(format!(
            "POST /ignore-body HTTP/1.1\r\nhost: h\r\ncontent-length: {length}\r\n\r\n{body}"
        ))
        .await;
    assert!(!reply.contains("smuggled"), "{reply}");
}

/// More than the kernel's buffers of both sides hold together.
const MUCH: usize = 32 << 20;

/// Writes everything and only then reads, as simple clients do.
async fn write_then_read(mut stream: impl AsyncRead + AsyncWrite + Unpin, head: &str) -> String {
    let exchange = async {
        stream.write_all(head.as_bytes()).await?;
        let piece = vec![b'x'; 64 * 1024];
        for _ in 0..MUCH / piece.len() {
            stream.write_all(&piece).await?;
        }
        stream.flush().await?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await?;
        Ok::<_, std::io::Error>(reply)
    };
    let exchange = timeout(10 * SECOND, exchange).await.unwrap();
    exchange.unwrap_or_else(|error| error.to_string())
}

#[tokio::test]
async fn an_answer_reaches_a_client_that_was_still_sending() {
    let folder = TempDir::new().unwrap();
    let certificate = write_certificate(folder.path(), "default", &["a.example"]);
    let (clear_text, tls) = (Node::start(), tls_node(&folder));
    let connector = connector(&[&certificate], &[]);
    for (head, status) in [
        (
            format!("POST /ignore-body HTTP/1.1\r\nhost: h\r\ncontent-length: {MUCH}\r\n\r\n"),
            200,
        ),
        (
            format!(
                "POST /ignore-body HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n{MUCH:x}\r\n"
            ),
            200,
        ),
        // No request at all, and none is read to its end.
        ("GET / HTTP/1.1\r\nhost: h\r\na: ".to_owned(), 431),
        ("nonsense\r\n\r\n".to_owned(), 400),
    ] {
        let stream = handshake(&tls, &connector, "a.example").await.unwrap();
        let replies = [
            write_then_read(clear_text.connect().await, &head).await,
            write_then_read(stream, &head).await,
        ];
        for reply in replies {
            let status = format!("HTTP/1.1 {status} ");
            assert!(reply.starts_with(&status), "{head:?}: {reply}");
        }
    }
}

#[tokio::test]
async fn a_client_that_sends_on_after_its_answer_is_left_after_a_moment() {
    let node = Node::with(|config| {
        config.limits.connections = 1;
        config.limits.deadlines.linger = SECOND / 2;
    });
    let mut stream = node.connect().await;
    stream
        .write_all(b"POST /ignore-body HTTP/1.1\r\nhost: h\r\ncontent-length: 1000000\r\n\r\n")
        .await
        .unwrap();
    assert!(read_all(&mut stream).await.ends_with("ignored"));
    let start = Instant::now();
    while stream.write_all(b"x").await.is_ok() && start.elapsed() < 5 * SECOND {
        if start.elapsed() < SECOND / 4 {
            assert_eq!(node.stats.active.get(), 1, "it counts as a connection");
        }
        sleep(SECOND / 20).await;
    }
    let took = start.elapsed();
    assert!(took > SECOND / 3 && took < 3 * SECOND, "{took:?}");
    node.says_hello().await;
}

#[tokio::test]
async fn a_client_that_sends_much_after_its_answer_is_left_at_once() {
    let node = Node::with(|config| config.limits.deadlines.linger = 60 * SECOND);
    let mut stream = node.connect().await;
    stream
        .write_all(b"POST /ignore-body HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n")
        .await
        .unwrap();
    let piece = vec![b'x'; 1 << 20];
    let mut sent = 0;
    let sending = async {
        while stream.write_all(&piece).await.is_ok() {
            sent += piece.len();
        }
    };
    timeout(30 * SECOND, sending).await.expect("it is cut");
    assert!(sent > MUCH && sent < 128 << 20, "{sent} bytes");
}

// Slow clients

#[tokio::test]
async fn a_head_that_drips_is_cut_at_its_deadline() {
    let node = Node::with(|config| config.limits.deadlines.head = SECOND / 2);
    let silent = async { closed(&mut node.connect().await).await };
    let dripping = async {
        let mut stream = node.connect().await;
        let start = Instant::now();
        stream
            .write_all(b"GET / HTTP/1.1\r\nhost: h\r\na: ")
            .await
            .unwrap();
        while stream.write_all(b"b").await.is_ok() && start.elapsed() < 5 * SECOND {
            sleep(SECOND / 20).await;
        }
        start.elapsed()
    };
    let second_request = async {
        let mut stream = node.connect().await;
        stream
            .write_all(b"GET / HTTP/1.1\r\nhost: h\r\n\r\nGET / HT")
            .await
            .unwrap();
        sleep(SECOND / 5).await;
        stream.write_all(b"T").await.unwrap();
        closed(&mut stream).await
    };
    let (silent, dripping, second) = tokio::join!(silent, dripping, second_request);
    for took in [silent, dripping, second] {
        assert!(took > SECOND / 3 && took < 3 * SECOND, "{took:?}");
    }
    assert_eq!(node.stats.head_timeouts.get(), 3);
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_one_in_use_is_not() {
    let node = Node::with(|config| {
        config.limits.deadlines.idle = SECOND / 2;
        config.limits.deadlines.head = SECOND / 4;
    });
    let mut stream = node.connect().await;
    let mut buffer = [0; 1024];
    for path in ["/sleep", "/", "/sleep"] {
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nhost: h\r\n\r\n").as_bytes())
            .await
            .unwrap();
        assert!(stream.read(&mut buffer).await.unwrap() > 0);
        sleep(SECOND / 3).await;
    }
    let took = closed(&mut stream).await;
    assert!(took < SECOND, "{took:?}");

    let mut client = http2(TokioIo::new(node.connect().await)).await;
    client.send_request(get("http://h/sleep")).await.unwrap();
    timeout(3 * SECOND, async {
        while client.ready().await.is_ok() {
            sleep(SECOND / 20).await
        }
    })
    .await
    .expect("an idle HTTP/2 connection is closed");
    assert_eq!(node.stats.idle_closes.get(), 2);
    assert_eq!(node.stats.head_timeouts.get(), 0);
}

#[tokio::test]
async fn a_body_without_progress_fails_and_one_with_progress_may_take_its_time() {
    let node = Node::with(|config| config.limits.deadlines.body = SECOND / 2);
    let head =
        "POST /collect HTTP/1.1\r\nhost: h\r\ncontent-length: 4\r\nconnection: close\r\n\r\n";
    let mut stream = node.connect().await;
    stream
        .write_all(format!("{head}ab").as_bytes())
        .await
        .unwrap();
    let reply = read_all(&mut stream).await;
    assert!(reply.starts_with("HTTP/1.1 408"), "{reply}");
    assert_eq!(node.stats.body_timeouts.get(), 1);

    let mut stream = node.connect().await;
    stream.write_all(head.as_bytes()).await.unwrap();
    for byte in [b"a", b"b", b"c", b"d"] {
        sleep(SECOND / 4).await;
        stream.write_all(byte).await.unwrap();
    }
    assert!(read_all(&mut stream).await.ends_with("abcd"));
    assert_eq!(node.stats.body_timeouts.get(), 1);
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_the_writer_and_is_then_cut() {
    let node = Node::with(|config| config.limits.deadlines.write = SECOND);
    let mut stream = node.connect().await;
    stream
        .write_all(b"GET /endless HTTP/1.1\r\nhost: h\r\n\r\n")
        .await
        .unwrap();
    sleep(SECOND / 2).await;
    let pieces = node.handler.pieces.load(SeqCst);
    sleep(SECOND / 4).await;
    assert_eq!(node.handler.pieces.load(SeqCst), pieces, "the writer waits");
    eventually("the connection is cut", || node.stats.active.get() == 0).await;
    assert_eq!(node.stats.write_timeouts.get(), 1);
}

#[tokio::test]
async fn a_client_that_reads_slowly_is_served() {
    let node = Node::with(|config| config.limits.deadlines.write = SECOND / 2);
    let mut stream = node.connect().await;
    stream
        .write_all(b"GET /endless HTTP/1.1\r\nhost: h\r\n\r\n")
        .await
        .unwrap();
    let mut buffer = vec![0; 1 << 20];
    for _ in 0..10 {
        sleep(SECOND / 5).await;
        let mut left = 4 << 20;
        while left > 0 {
            let length = stream.read(&mut buffer).await.unwrap();
            assert!(length > 0, "still served");
            left -= length.min(left);
        }
    }
    assert_eq!(node.stats.write_timeouts.get(), 0);
}

#[tokio::test]
async fn an_http2_stream_that_is_not_read_is_reset_and_the_others_go_on() {
    let node = Node::with(|config| config.limits.deadlines.write = SECOND / 2);
    let mut client = http2(TokioIo::new(node.connect().await)).await;
    let mut stalled = client
        .send_request(get("http://h/endless"))
        .await
        .unwrap()
        .into_body();
    eventually("the stream is reset", || {
        node.stats.write_timeouts.get() == 1
    })
    .await;
    let response = client.send_request(get("http://h/")).await.unwrap();
    assert_eq!(
        response.into_body().collect().await.unwrap().to_bytes(),
        "hello"
    );
    let end = async {
        loop {
            match stalled.frame().await {
                Some(Ok(_)) => {}
                end => break end,
            }
        }
    };
    assert!(matches!(timeout(SECOND, end).await.unwrap(), Some(Err(_))));
    assert_eq!(node.stats.active.get(), 1);
}

// HTTP/2

#[tokio::test]
async fn http2_is_served_on_clear_text_with_prior_knowledge() {
    let node = Node::start();
    let mut client = http2(TokioIo::new(node.connect().await)).await;
    let response = client
        .send_request(get("http://Host.example/where?q"))
        .await
        .unwrap();
    assert_eq!(response.version(), Version::HTTP_2);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "http://host.example/where?q Http2 None");
}

#[tokio::test]
async fn http2_bodies_stream_both_ways_with_trailers() {
    let node = Node::start();
    let mut client = http2(TokioIo::new(node.connect().await)).await;
    let (sender, receiver) =
        futures::channel::mpsc::unbounded::<Result<Frame<Bytes>, Infallible>>();
    let request = Request::post("http://h/echo")
        .body(StreamBody::new(receiver))
        .unwrap();
    let mut body = client.send_request(request).await.unwrap().into_body();
    for piece in ["one", "two"] {
        sender
            .unbounded_send(Ok(Frame::data(Bytes::from(piece))))
            .unwrap();
        let frame = timeout(SECOND, body.frame())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        assert_eq!(frame.into_data().unwrap(), piece);
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "9".parse().unwrap());
    sender
        .unbounded_send(Ok(Frame::trailers(trailers)))
        .unwrap();
    drop(sender);
    let frame = timeout(SECOND, body.frame())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(frame.into_trailers().unwrap()["x-sum"], "9");
}

#[tokio::test]
async fn a_large_body_arrives_whole_on_http2() {
    let node = Node::start();
    let mut client = http2(TokioIo::new(node.connect().await)).await;
    let bytes: Bytes = (0..1 << 20)
        .map(|number: u32| number.to_le_bytes()[1])
        .collect();
    let request = Request::post("http://h/echo")
        .body(Full::new(bytes.clone()))
        .unwrap();
    let body = client.send_request(request).await.unwrap().into_body();
    assert_eq!(body.collect().await.unwrap().to_bytes(), bytes);
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

#[tokio::test]
async fn rapid_resets_end_their_connection_and_others_are_served_meanwhile() {
    let node = Node::start();
    // :method GET, :scheme http, :path /, :authority h
    let head = [0x82, 0x86, 0x84, 0x41, 1, b'h'];
    let mut attack = [PREFACE, &frame(4, 0, 0, &[])].concat();
    for number in 0..10_000_u32 {
        let stream = number * 2 + 1;
        attack.extend(frame(1, 5, stream, &head));
        attack.extend(frame(3, 0, stream, &8_u32.to_be_bytes()));
    }
    let address = node.address;
    let attackers = (0..4).map(|_| {
        let attack = attack.clone();
        tokio::spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let _ = stream.write_all(&attack).await;
            closed(&mut stream).await
        })
    });
    let attackers: Vec<_> = attackers.collect();
    for _ in 0..20 {
        timeout(2 * SECOND, node.says_hello())
            .await
            .expect("others are served");
    }
    for attacker in attackers {
        attacker.await.unwrap();
    }
    assert!(
        node.handled() < 2_000,
        "{} of 40,000 streams were served",
        node.handled()
    );
    eventually("nothing is left", || {
        node.stats.active.get() == 0 && node.handler.in_flight.load(SeqCst) == 0
    })
    .await;
}

#[tokio::test]
async fn endless_continuations_and_huge_fields_end_their_connection() {
    let node = Node::start();
    // A literal field `a` of 16,000 bytes: 127 and 15,873 in base 128.
    let mut field = vec![0, 1, b'a', 127, 0x81, 0x7c];
    field.extend([b'b'; 16_000]);
    let mut flood = [PREFACE, &frame(4, 0, 0, &[])].concat();
    flood.extend(frame(1, 1, 1, &[0x82, 0x86, 0x84, 0x41, 1, b'h']));
    for _ in 0..2_000 {
        flood.extend(frame(9, 0, 1, &field));
    }
    let mut stream = node.connect().await;
    let _ = stream.write_all(&flood).await;
    closed(&mut stream).await;
    assert_eq!(node.handled(), 0);
    node.says_hello().await;
}

// TLS

fn write_certificate(folder: &Path, stem: &str, names: &[&str]) -> CertificateDer<'static> {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let certified = rcgen::generate_simple_self_signed(names).unwrap();
    fs::write(
        folder.join(format!("{stem}.key")),
        certified.signing_key.serialize_pem(),
    )
    .unwrap();
    fs::write(folder.join(format!("{stem}.crt")), certified.cert.pem()).unwrap();
    certified.cert.der().clone()
}

fn tls_node(folder: &TempDir) -> Node {
    Node::with(|config| {
        let mut tls = TlsConfig::new(CertificateSource::Folder(folder.path().to_owned()));
        tls.poll = SECOND / 20;
        config.tls = Some(tls);
        config.limits.deadlines.handshake = SECOND / 2;
    })
}

fn connector(trusted: &[&CertificateDer<'static>], alpn: &[&str]) -> TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in trusted {
        roots.add((*certificate).clone()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

type Tls = tokio_rustls::client::TlsStream<TcpStream>;

async fn handshake(node: &Node, connector: &TlsConnector, name: &str) -> std::io::Result<Tls> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    connector.connect(name, node.connect().await).await
}

#[tokio::test]
async fn tls_serves_the_certificate_of_the_name_and_the_protocol_both_know() {
    let folder = TempDir::new().unwrap();
    let a = write_certificate(folder.path(), "a", &["a.example", "*.wild.example"]);
    let b = write_certificate(folder.path(), "default", &["b.example"]);
    let node = tls_node(&folder);
    for (name, own, other) in [
        ("a.example", &a, &b),
        ("x.wild.example", &a, &b),
        ("b.example", &b, &a),
    ] {
        let stream = handshake(&node, &connector(&[own], &[]), name)
            .await
            .unwrap();
        assert_eq!(stream.get_ref().1.peer_certificates().unwrap()[0], *own);
        assert!(
            handshake(&node, &connector(&[other], &[]), name)
                .await
                .is_err()
        );
    }
    // A name that nobody has gets the default.
    let refused = handshake(&node, &connector(&[&b], &[]), "c.example").await;
    assert!(format!("{:?}", refused.unwrap_err()).contains("NotValidForName"));

    let both = connector(&[&a, &b], &["h2", "http/1.1"]);
    let stream = handshake(&node, &both, "a.example").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let mut client = http2(TokioIo::new(stream)).await;
    let response = client
        .send_request(get("https://a.example/where"))
        .await
        .unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let body = String::from_utf8_lossy(&body).into_owned();
    assert!(body.starts_with("https://a.example/where Http2 "), "{body}");
    assert!(
        body.contains("V1_3") && body.contains("a.example"),
        "{body}"
    );

    let mut stream = handshake(&node, &connector(&[&a], &[]), "a.example")
        .await
        .unwrap();
    stream
        .write_all(b"GET /where HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut reply = String::new();
    // To the end, with close_notify: else this is an error.
    stream.read_to_string(&mut reply).await.unwrap();
    assert!(reply.contains("https://a.example/where Http1"), "{reply}");
}

#[tokio::test]
async fn a_tls_session_is_resumed() {
    let folder = TempDir::new().unwrap();
    let certificate = write_certificate(folder.path(), "a", &["a.example"]);
    let node = tls_node(&folder);
    let connector = connector(&[&certificate], &[]);
    for expected in [rustls::HandshakeKind::Full, rustls::HandshakeKind::Resumed] {
        let mut stream = handshake(&node, &connector, "a.example").await.unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.unwrap();
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(expected));
    }
}

#[tokio::test]
async fn certificates_are_reloaded_and_a_bad_file_keeps_the_old_one() {
    let folder = TempDir::new().unwrap();
    let old = write_certificate(folder.path(), "a", &["a.example"]);
    let node = tls_node(&folder);
    handshake(&node, &connector(&[&old], &[]), "a.example")
        .await
        .unwrap();

    fs::write(folder.path().join("a.crt"), "garbage").unwrap();
    sleep(SECOND / 2).await;
    handshake(&node, &connector(&[&old], &[]), "a.example")
        .await
        .unwrap();

    let new = write_certificate(folder.path(), "a", &["a.example"]);
    let other = write_certificate(folder.path(), "b", &["b.example"]);
    sleep(SECOND / 2).await;
    handshake(&node, &connector(&[&new], &[]), "a.example")
        .await
        .unwrap();
    handshake(&node, &connector(&[&other], &[]), "b.example")
        .await
        .unwrap();
    assert!(
        handshake(&node, &connector(&[&old], &[]), "a.example")
            .await
            .is_err()
    );
}

/// Who may read it may have changed, which a file does not show.
#[tokio::test]
async fn a_certificate_that_could_not_be_read_is_tried_again_though_its_file_looks_the_same() {
    let folder = TempDir::new().unwrap();
    let old = write_certificate(folder.path(), "a", &["a.example"]);
    let node = tls_node(&folder);
    let new = write_certificate(folder.path(), "a", &["a.example"]);
    let chain = folder.path().join("a.crt");
    let good = fs::read(&chain).unwrap();
    let written = |bytes: &[u8]| {
        fs::write(&chain, bytes).unwrap();
        let file = fs::File::options().write(true).open(&chain).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + SECOND).unwrap();
    };
    written(&vec![b' '; good.len()]);
    sleep(SECOND / 2).await;
    let served = handshake(&node, &connector(&[&old], &[]), "a.example").await;
    served.unwrap();
    written(&good);
    sleep(SECOND / 2).await;
    let served = handshake(&node, &connector(&[&new], &[]), "a.example").await;
    served.unwrap();
}

#[tokio::test]
async fn a_listener_without_usable_certificates_is_not_bound() {
    let folder = TempDir::new().unwrap();
    let bind = || {
        let mut config = ServerConfig::new("127.0.0.1:0".parse().unwrap());
        config.tls = Some(TlsConfig::new(CertificateSource::Folder(
            folder.path().to_owned(),
        )));
        Server::bind(config).map(|_| ())
    };
    assert!(bind().is_err());
    write_certificate(folder.path(), "a", &["a.example"]);
    assert!(bind().is_ok());
    write_certificate(folder.path(), "b", &["b.example"]);
    fs::copy(folder.path().join("a.key"), folder.path().join("b.key")).unwrap();
    assert!(bind().is_err());
}

#[tokio::test]
async fn a_handshake_that_hangs_or_fails_ends_alone() {
    let folder = TempDir::new().unwrap();
    let certificate = write_certificate(folder.path(), "a", &["a.example"]);
    let node = tls_node(&folder);
    let mut silent = node.connect().await;
    let mut clear = node.connect().await;
    clear
        .write_all(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n")
        .await
        .unwrap();
    closed(&mut clear).await;
    handshake(&node, &connector(&[&certificate], &[]), "a.example")
        .await
        .unwrap();
    closed(&mut silent).await;
    assert_eq!(node.stats.handshake_failures.get(), 1);
    assert_eq!(node.stats.handshake_timeouts.get(), 1);
}

// The listener

#[tokio::test]
async fn connections_over_the_limit_wait_for_their_turn() {
    let node = Node::with(|config| config.limits.connections = 2);
    let mut first = node.connect().await;
    let _second = node.connect().await;
    eventually("two are open", || node.stats.active.get() == 2).await;
    let mut third = node.connect().await;
    third
        .write_all(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n")
        .await
        .unwrap();
    let mut buffer = [0; 1024];
    assert!(timeout(SECOND / 3, third.read(&mut buffer)).await.is_err());
    assert_eq!(node.stats.accepted.get(), 2);
    first.shutdown().await.unwrap();
    closed(&mut first).await;
    assert!(
        timeout(SECOND, third.read(&mut buffer))
            .await
            .unwrap()
            .unwrap()
            > 0
    );
}

#[tokio::test]
async fn a_shutdown_lets_requests_finish_and_takes_no_more() {
    let mut node = Node::start();
    let mut idle = node.connect().await;
    let mut busy = node.connect().await;
    let mut client = http2(TokioIo::new(node.connect().await)).await;
    busy.write_all(b"GET /sleep HTTP/1.1\r\nhost: h\r\n\r\n")
        .await
        .unwrap();
    let streaming = tokio::spawn(client.send_request(get("http://h/sleep")));
    eventually("two are in flight", || {
        node.handler.in_flight.load(SeqCst) == 2
    })
    .await;
    node.shutdown.cancel();
    assert!(closed(&mut idle).await < SECOND / 4);
    assert!(TcpStream::connect(node.address).await.is_err());
    let reply = read_all(&mut busy).await;
    assert!(
        reply.contains("connection: close") && reply.ends_with("slept"),
        "{reply}"
    );
    let response = streaming.await.unwrap().unwrap();
    assert_eq!(
        response.into_body().collect().await.unwrap().to_bytes(),
        "slept"
    );
    timeout(SECOND, &mut node.running)
        .await
        .expect("the server is done")
        .unwrap();
}

#[tokio::test]
async fn a_shutdown_cuts_what_outlasts_the_grace_period() {
    let mut node = Node::with(|config| config.grace = SECOND / 4);
    let mut stream = node.connect().await;
    stream
        .write_all(b"GET /forever HTTP/1.1\r\nhost: h\r\n\r\n")
        .await
        .unwrap();
    let mut client = http2(TokioIo::new(node.connect().await)).await;
    let hanging = tokio::spawn(client.send_request(get("http://h/forever")));
    eventually("two are in flight", || {
        node.handler.in_flight.load(SeqCst) == 2
    })
    .await;
    node.shutdown.cancel();
    timeout(SECOND, &mut node.running)
        .await
        .expect("the server is done")
        .unwrap();
    assert_eq!(read_all(&mut stream).await, "");
    assert!(hanging.await.unwrap().is_err());
    eventually("the handlers are dropped", || {
        node.handler.in_flight.load(SeqCst) == 0
    })
    .await;
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_a_client_that_sends_on_after_its_answer() {
    let mut node = Node::with(|config| {
        config.grace = SECOND / 4;
        config.limits.deadlines.linger = 60 * SECOND;
    });
    let mut stream = node.connect().await;
    stream
        .write_all(b"POST /ignore-body HTTP/1.1\r\nhost: h\r\ncontent-length: 1000000\r\n\r\n")
        .await
        .unwrap();
    assert!(read_all(&mut stream).await.ends_with("ignored"));
    assert_eq!(node.stats.active.get(), 1, "it is waited for");
    node.shutdown.cancel();
    timeout(SECOND, &mut node.running)
        .await
        .expect("the server is done")
        .unwrap();
}

/// Runs this test again in a process of its own, where few files may be open.
#[test]
fn a_node_out_of_file_descriptors_waits_and_serves_on() {
    const CHILD: &str = "WHARF_TEST_FEW_FILES";
    if std::env::var_os(CHILD).is_none() {
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "ingress::a_node_out_of_file_descriptors_waits_and_serves_on",
            ])
            .env(CHILD, "1")
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let node = {
        let _guard = runtime.enter();
        Node::start()
    };
    let files = fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    let limit = rustix::process::Rlimit {
        current: Some(files + 20),
        maximum: Some(files + 20),
    };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    // Clients share the limit, so the server's side runs out before all are accepted.
    let mut clients = Vec::new();
    while let Ok(client) = std::net::TcpStream::connect(node.address) {
        clients.push(client);
    }
    let start = Instant::now();
    while node.stats.accept_errors.get() == 0 {
        assert!(start.elapsed() < 5 * SECOND, "accept fails");
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(clients.split_off(1));
    let mut client = clients.remove(0);
    client.set_read_timeout(Some(5 * SECOND)).unwrap();
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut reply = String::new();
    client.read_to_string(&mut reply).unwrap();
    assert!(reply.ends_with("hello"), "{reply}");
    std::thread::sleep(2 * SECOND);
    runtime.block_on(node.says_hello());
}
