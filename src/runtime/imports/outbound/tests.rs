//! Through real sockets: what goes out, and what does not.

use std::{
    collections::HashMap,
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt as _, future::BoxFuture};
use http::{Request, Response, StatusCode, Version, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody, combinators::BoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet};

use super::*;
use crate::{
    dial::Resolve,
    model::{OutboundGrant, Reach},
};

/// A server on this machine, and what it saw. It ends when dropped.
struct Origin {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    uploads: mpsc::UnboundedReceiver<Result<Bytes, ()>>,
    _task: JoinSet<()>,
}

impl Origin {
    async fn start() -> Self {
        Self::start_with(None).await
    }

    async fn start_with(tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let (uploaded, uploads) = mpsc::unbounded_channel();
        let mut task = JoinSet::new();
        task.spawn({
            let connections = Arc::clone(&connections);
            async move {
                let mut tasks = JoinSet::new();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    connections.fetch_add(1, Ordering::Relaxed);
                    let uploaded = uploaded.clone();
                    let service = service_fn(move |request| answer(request, uploaded.clone()));
                    let tls = tls.clone();
                    tasks.spawn(async move {
                        let builder = auto::Builder::new(TokioExecutor::new());
                        // A client that goes away is no concern here.
                        match tls {
                            None => {
                                let _ = builder
                                    .serve_connection(TokioIo::new(stream), service)
                                    .await;
                            }
                            Some(tls) => {
                                let tls = tokio_rustls::TlsAcceptor::from(tls);
                                if let Ok(stream) = tls.accept(stream).await {
                                    let stream = TokioIo::new(stream);
                                    let _ = builder.serve_connection(stream, service).await;
                                }
                            }
                        }
                    });
                }
            }
        });
        Self {
            address,
            connections,
            uploads,
            _task: task,
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn port(&self) -> u16 {
        self.address.port()
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    fn grant(&self) -> OutboundGrant {
        grant("127.0.0.1", self.port())
    }
}

type Answer = Response<BoxBody<Bytes, Infallible>>;

async fn answer(
    request: Request<Incoming>,
    uploaded: mpsc::UnboundedSender<Result<Bytes, ()>>,
) -> Result<Answer, Infallible> {
    let text = |text: String| Response::new(Full::from(text).boxed());
    Ok(match request.uri().path() {
        "/host" => {
            let authority = request.uri().authority().map(ToString::to_string);
            let host = request.headers().get(header::HOST);
            text(authority.unwrap_or_else(|| host.unwrap().to_str().unwrap().to_owned()))
        }
        "/never" => std::future::pending().await,
        "/pause" => {
            let first = futures::stream::iter([Ok(Frame::data(Bytes::from_static(b"first")))]);
            let body = StreamBody::new(first.chain(futures::stream::pending()));
            Response::new(BoxBody::new(body))
        }
        "/redirect" => {
            let mut response = text(String::new());
            *response.status_mut() = StatusCode::FOUND;
            let headers = response.headers_mut();
            headers.insert(header::LOCATION, "http://169.254.169.254/".parse().unwrap());
            response
        }
        "/upload" => {
            let body = request.into_body().collect().await;
            let body = body
                .map(http_body_util::Collected::to_bytes)
                .map_err(|_| ());
            uploaded.send(body).unwrap();
            text(String::new())
        }
        _ => text(format!("{:?}", request.version())),
    })
}

fn grant(host: &str, port: u16) -> OutboundGrant {
    OutboundGrant {
        host: host.to_owned(),
        port,
    }
}

/// Names that the test makes up, all others unknown.
#[derive(Default)]
struct Names {
    addresses: HashMap<&'static str, Vec<&'static str>>,
    lookups: AtomicUsize,
}

impl Resolve for Names {
    fn resolve(&self, name: String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        self.lookups.fetch_add(1, Ordering::Relaxed);
        let found = self.addresses.get(name.as_str()).map(|addresses| {
            let addresses = addresses.iter();
            addresses
                .map(|address| SocketAddr::new(address.parse().unwrap(), 0))
                .collect()
        });
        Box::pin(async { found.ok_or_else(|| io::ErrorKind::NotFound.into()) })
    }
}

fn names<const N: usize>(addresses: [(&'static str, Vec<&'static str>); N]) -> Arc<Names> {
    Arc::new(Names {
        addresses: addresses.into(),
        lookups: AtomicUsize::new(0),
    })
}

fn client(names: &Arc<Names>) -> OutboundClient {
    let names: Arc<dyn Resolve> = Arc::<Names>::clone(names);
    OutboundClient::with_resolver(OutboundTimeouts::default(), &[], names).unwrap()
}

#[derive(Default)]
struct Log(Mutex<Vec<String>>);

impl OutboundLog for Log {
    fn sent(&self) {}

    fn refused(&self, _: Refusal, message: &str) {
        self.0.lock().unwrap().push(message.to_owned());
    }
}

/// A function in the midst of an invocation.
struct Function {
    outbound: Outbound,
    log: Arc<Log>,
}

impl Function {
    fn new(client: &OutboundClient, grants: &[OutboundGrant]) -> Self {
        Self::limited(client, grants, 50, 10)
    }

    fn limited(
        client: &OutboundClient,
        grants: &[OutboundGrant],
        requests: u32,
        concurrency: u32,
    ) -> Self {
        let log = Arc::<Log>::default();
        let mut outbound = Outbound::new(client.pool(grants, Reach::default()));
        outbound.begin(requests, concurrency, Arc::<Log>::clone(&log));
        Self { outbound, log }
    }

    /// With the system's resolver, which knows the names of this machine.
    fn with_system_resolver(grants: &[OutboundGrant]) -> Self {
        let client = OutboundClient::new(OutboundTimeouts::default(), &[]).unwrap();
        Self::new(&client, grants)
    }

    fn send(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
    ) -> impl Future<Output = Result<Response<WasiBody>, Error>> + use<> {
        let sent = self
            .outbound
            .send_request(request, options, Box::new(async { Ok(()) }));
        async move { Ok(Pin::from(sent).await?.0) }
    }

    async fn get(&mut self, url: &str) -> Result<Response<WasiBody>, Error> {
        self.send(get(url), None).await
    }

    fn logged(&self) -> Vec<String> {
        self.log.0.lock().unwrap().clone()
    }
}

fn get(url: &str) -> Request<WasiBody> {
    let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
    Request::get(url).body(body).unwrap()
}

async fn text(response: Response<WasiBody>) -> String {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

#[tokio::test]
async fn a_private_address_is_refused_and_the_function_learns_why() {
    let origin = Origin::start().await;
    let mut function = Function::with_system_resolver(&[]);
    let error = function
        .get(&origin.url("/secret?key=1"))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::DestinationIpProhibited), "{error}");
    let address = origin.address;
    assert_eq!(
        function.logged(),
        [format!(
            "outbound request to {address} refused: 127.0.0.1 is not public: loopback"
        )]
    );
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn a_hook_calls_what_it_was_granted_and_nothing_else_be_it_public() {
    let origin = Origin::start().await;
    let names = names([("public.example", vec!["93.184.215.14"])]);
    let client = client(&names);
    let hook = |grants: &[OutboundGrant]| {
        let log = Arc::<Log>::default();
        let mut outbound = Outbound::new(client.pool_of_granted(grants));
        outbound.begin(50, 10, Arc::<Log>::clone(&log));
        Function { outbound, log }
    };
    let mut none = hook(&[]);
    for url in ["https://public.example/", &origin.url("/")] {
        let error = none.get(url).await.unwrap_err();
        assert!(matches!(error, Error::HttpRequestDenied), "{error}");
    }
    assert_eq!(
        none.logged()[0],
        "outbound request to public.example refused: a request hook calls only what it was granted"
    );
    assert_eq!(names.lookups.load(Ordering::Relaxed), 0);
    let mut granted = hook(&[origin.grant()]);
    granted.get(&origin.url("/")).await.unwrap();
    let error = granted.get("https://public.example/").await.unwrap_err();
    assert!(matches!(error, Error::HttpRequestDenied), "{error}");
}

#[tokio::test]
async fn an_address_is_refused_however_it_is_written() {
    let origin = Origin::start().await;
    let mut function = Function::with_system_resolver(&[]);
    for host in [
        "localhost",
        "LOCALHOST",
        "127.1",
        "0x7f.0.0.1",
        "2130706433",
        "0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "169.254.169.254",
        "[fd00:ec2::254]",
        "10.0.0.1",
    ] {
        let url = format!("http://{host}:{}/", origin.port());
        let error = function.get(&url).await.unwrap_err();
        assert!(
            matches!(error, Error::DestinationIpProhibited),
            "{host}: {error}"
        );
    }
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn a_grant_opens_one_host_and_port() {
    let origin = Origin::start().await;
    let other = Origin::start().await;
    let mut function = Function::with_system_resolver(&[origin.grant()]);
    let response = function.get(&origin.url("/host")).await.unwrap();
    assert_eq!(text(response).await, origin.address.to_string());
    for url in [
        other.url("/"),
        format!("http://localhost:{}/", origin.port()),
    ] {
        let error = function.get(&url).await.unwrap_err();
        assert!(
            matches!(error, Error::DestinationIpProhibited),
            "{url}: {error}"
        );
    }
    assert_eq!(other.connections(), 0);
}

#[tokio::test]
async fn a_name_that_leads_to_a_private_address_is_refused_when_dialled() {
    let origin = Origin::start().await;
    let names = names([
        ("rebound.test", vec!["127.0.0.1"]),
        ("mapped.test", vec!["::ffff:127.0.0.1", "fe80::1"]),
    ]);
    let mut function = Function::new(&client(&names), &[]);
    for name in ["rebound.test", "mapped.test"] {
        let url = format!("http://{name}:{}/", origin.port());
        let error = function.get(&url).await.unwrap_err();
        assert!(
            matches!(error, Error::DestinationIpProhibited),
            "{name}: {error}"
        );
    }
    // Judged is what is dialled: there is no second lookup that could answer otherwise.
    assert_eq!(names.lookups.load(Ordering::Relaxed), 2);
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn of_several_addresses_only_the_public_ones_are_dialled() {
    let origin = Origin::start().await;
    // The public one cannot be reached from here, or is and does not answer at this port.
    let names = names([("both.test", vec!["127.0.0.1", "2606:4700::1111"])]);
    let mut function = Function::new(&client(&names), &[]);
    let url = format!("http://both.test:{}/", origin.port());
    let options = RequestOptions {
        connect_timeout: Some(Duration::from_millis(500)),
        ..RequestOptions::default()
    };
    let error = function.send(get(&url), Some(options)).await.unwrap_err();
    assert!(!matches!(error, Error::DestinationIpProhibited), "{error}");
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn a_kept_connection_does_not_lend_its_grant_to_others() {
    let origin = Origin::start().await;
    let names = names([("app.test", vec!["127.0.0.1"])]);
    let client = client(&names);
    let url = format!("http://app.test:{}/", origin.port());
    let mut granted = Function::new(&client, &[grant("app.test", origin.port())]);
    text(granted.get(&url).await.unwrap()).await;
    text(granted.get(&url).await.unwrap()).await;
    assert_eq!(origin.connections(), 1, "the connection was kept");

    let mut other = Function::new(&client, &[grant("other.test", 1)]);
    let mut none = Function::new(&client, &[]);
    for function in [&mut other, &mut none] {
        let error = function.get(&url).await.unwrap_err();
        assert!(matches!(error, Error::DestinationIpProhibited), "{error}");
    }
}

#[tokio::test]
async fn a_redirect_is_the_guests_to_follow_and_judged_anew() {
    let origin = Origin::start().await;
    let mut function = Function::with_system_resolver(&[origin.grant()]);
    let response = function.get(&origin.url("/redirect")).await.unwrap();
    assert_eq!(response.status(), StatusCode::FOUND);
    let location = response.headers()[header::LOCATION].to_str().unwrap();
    let error = function.get(location).await.unwrap_err();
    assert!(matches!(error, Error::DestinationIpProhibited), "{error}");
    assert!(function.logged()[0].ends_with("169.254.169.254 is not public: metadata service"));
}

#[tokio::test]
async fn an_invocation_makes_so_many_requests_and_no_more() {
    let origin = Origin::start().await;
    let client = client(&names([]));
    let mut function = Function::limited(&client, &[origin.grant()], 2, 10);
    for _ in 0..2 {
        text(function.get(&origin.url("/")).await.unwrap()).await;
    }
    let error = function.get(&origin.url("/")).await.unwrap_err();
    assert!(matches!(error, Error::HttpRequestDenied), "{error}");
    assert_eq!(function.outbound.calls(), 3);
    assert!(function.logged()[0].ends_with("the invocation's outbound requests are used up"));

    let log = Arc::<Log>::clone(&function.log);
    function.outbound.begin(1, 1, log);
    text(function.get(&origin.url("/")).await.unwrap()).await;
    assert_eq!(function.outbound.calls(), 1);
}

#[tokio::test]
async fn an_instance_that_serves_no_invocation_makes_no_requests() {
    let origin = Origin::start().await;
    let client = client(&names([]));
    let mut function = Function::new(&client, &[origin.grant()]);
    function.outbound.end();
    let error = function.get(&origin.url("/")).await.unwrap_err();
    assert!(matches!(error, Error::HttpRequestDenied), "{error}");
}

#[tokio::test]
async fn requests_over_the_concurrency_wait_until_a_body_has_ended() {
    let origin = Origin::start().await;
    let client = client(&names([]));
    let mut function = Function::limited(&client, &[origin.grant()], 50, 1);
    let first = function.get(&origin.url("/pause")).await.unwrap();
    let url = origin.url("/");
    let mut second = Box::pin(function.get(&url));
    let early = tokio::time::timeout(Duration::from_millis(100), &mut second).await;
    assert!(early.is_err(), "the first is still in flight");
    drop(first);
    let second = second.await.unwrap();
    text(second).await;
    text(function.get(&origin.url("/")).await.unwrap()).await;
}

#[tokio::test]
async fn requests_get_their_turn_in_the_order_in_which_they_were_made() {
    let origin = Origin::start().await;
    let client = client(&names([]));
    let mut function = Function::limited(&client, &[origin.grant()], 50, 1);
    let url = origin.url("/");
    let first = function.send(get(&url), None);
    let mut second = Box::pin(function.send(get(&url), None));
    // Its task runs first. If it had the place, who reads the first answer before the second would wait for ever.
    assert!(second.as_mut().now_or_never().is_none());
    let first = tokio::time::timeout(Duration::from_secs(20), first).await;
    text(first.expect("it is its turn").unwrap()).await;
    text(second.await.unwrap()).await;
}

#[tokio::test]
async fn a_guests_patience_is_kept_to() {
    let origin = Origin::start().await;
    let client = client(&names([]));
    let mut function = Function::new(&client, &[origin.grant()]);
    let brief = Some(Duration::from_millis(50));
    let options = RequestOptions {
        first_byte_timeout: brief,
        ..RequestOptions::default()
    };
    let never = function
        .send(get(&origin.url("/never")), Some(options))
        .await;
    assert!(matches!(never, Err(Error::ConnectionReadTimeout)));

    let options = RequestOptions {
        between_bytes_timeout: brief,
        ..RequestOptions::default()
    };
    let paused = function
        .send(get(&origin.url("/pause")), Some(options))
        .await;
    let mut body = paused.unwrap().into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(first, "first");
    // A guest that takes its time is no slow origin.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let error = body.frame().await.unwrap().unwrap_err();
    assert!(matches!(error, Error::ConnectionReadTimeout), "{error}");
}

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let client = client(&names([]));
    let mut function = Function::new(&client, &[grant("127.0.0.1", port)]);
    let options = RequestOptions {
        connect_timeout: Some(Duration::from_millis(100)),
        ..RequestOptions::default()
    };
    let url = format!("https://127.0.0.1:{port}/");
    let error = function.send(get(&url), Some(options)).await.unwrap_err();
    assert!(matches!(error, Error::ConnectionTimeout), "{error}");
}

#[tokio::test]
async fn what_went_wrong_is_said_in_the_words_of_wasi_http() {
    let client = client(&names([]));
    let mut function = Function::new(&client, &[grant("127.0.0.1", 1)]);
    let error = function.get("http://127.0.0.1:1/").await.unwrap_err();
    assert!(matches!(error, Error::ConnectionRefused), "{error}");
    let error = function.get("http://nowhere.test/").await.unwrap_err();
    assert!(matches!(error, Error::DnsError { .. }), "{error}");

    let error = function
        .get("http://127.0.0.1@nowhere.test/")
        .await
        .unwrap_err();
    assert!(matches!(error, Error::HttpRequestUriInvalid), "{error}");
    let mut tunnel = get("http://nowhere.test/");
    *tunnel.method_mut() = Method::CONNECT;
    let error = function.send(tunnel, None).await.unwrap_err();
    assert!(matches!(error, Error::HttpRequestMethodInvalid), "{error}");

    let origin = Origin::start().await;
    let mut function = Function::new(&client, &[origin.grant()]);
    let url = format!("https://{}/", origin.address);
    let error = function.get(&url).await.unwrap_err();
    assert!(matches!(error, Error::TlsProtocolError), "{error}");
}

#[tokio::test]
async fn a_half_sent_body_is_not_taken_for_a_whole_when_the_invocation_ends() {
    for (finished, arrives) in [(true, Ok(Bytes::from_static(b"half"))), (false, Err(()))] {
        let mut origin = Origin::start().await;
        let client = client(&names([]));
        let mut function = Function::new(&client, &[origin.grant()]);
        let (guest, chunks) = mpsc::unbounded_channel();
        let chunks = futures::stream::unfold(chunks, |mut chunks| async {
            let chunk: Bytes = chunks.recv().await?;
            Some((Ok(Frame::data(chunk)), chunks))
        });
        let body = StreamBody::new(chunks).boxed_unsync();
        let request = Request::post(origin.url("/upload")).body(body).unwrap();
        let sent = tokio::spawn(function.send(request, None));
        guest.send(Bytes::from_static(b"half")).unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        if finished {
            drop(guest);
            sent.await.unwrap().unwrap();
        } else {
            // The store of a guest that trapped: this first, then the table with the guest's end of the body.
            drop(function);
            drop(guest);
        }
        assert_eq!(origin.uploads.recv().await.unwrap(), arrives);
    }
}

#[tokio::test]
async fn tls_is_checked_against_the_roots_and_brings_http2() {
    let certified = rcgen::generate_simple_self_signed(vec!["app.test".to_owned()]).unwrap();
    let certificate = CertificateDer::from(certified.cert.der().to_vec());
    let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let origin = Origin::start_with(Some(Arc::new(tls))).await;
    let port = origin.port();
    let grants = ["app.test", "wrong.test"].map(|name| grant(name, port));
    let names = names([
        ("app.test", vec!["127.0.0.1"]),
        ("wrong.test", vec!["127.0.0.1"]),
    ]);
    let url = format!("https://app.test:{port}");

    let mut function = Function::new(&client(&names), &grants);
    let error = function.get(&url).await.unwrap_err();
    assert!(matches!(error, Error::TlsCertificateError), "{error}");

    let timeouts = OutboundTimeouts::default();
    let client = OutboundClient::with_resolver(timeouts, &[certificate], names).unwrap();
    let mut function = Function::new(&client, &grants);
    let response = function.get(&url).await.unwrap();
    assert_eq!(response.version(), Version::HTTP_2);
    assert_eq!(text(response).await, "HTTP/2.0");
    let response = function.get(&format!("{url}/host")).await.unwrap();
    assert_eq!(text(response).await, format!("app.test:{port}"));
    assert_eq!(
        origin.connections(),
        2,
        "the refused one, and one for both requests"
    );
    let wrong = format!("https://wrong.test:{port}");
    let error = function.get(&wrong).await.unwrap_err();
    assert!(matches!(error, Error::TlsCertificateError), "{error}");
}

#[test]
fn a_guest_sets_no_header_that_is_the_connections() {
    for name in wasmtime_wasi_http::DEFAULT_FORBIDDEN_HEADERS {
        assert!(is_forbidden(&name), "{name}");
    }
    for name in [header::CONTENT_LENGTH, header::TE, header::AUTHORIZATION] {
        assert!(!is_forbidden(&name), "{name}");
    }
}
