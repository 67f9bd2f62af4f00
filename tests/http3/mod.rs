//! HTTP/3 as its clients see it. The client is aioquic, which shares nothing with the server.

mod distributions;
mod listener;
mod messages;

use std::{
    convert::Infallible,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use crate::support::aws::python_with;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    process::Command,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use wharf::{
    ingress::{
        CertificateSource, ConnectionInfo, Handler, ListenerStats, RequestBody, Server,
        ServerConfig, TlsConfig, error, sanitize,
    },
    model::{Digest, RequestId},
};

/// How long a client may take; far more than it does.
const PATIENCE: Duration = Duration::from_secs(60);

const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/http3");

/// A Python with the client.
static PYTHON: LazyLock<PathBuf> =
    LazyLock::new(|| python_with(&format!("{HERE}/requirements.txt")));

/// Does a scenario of `client.py`; what it saw.
async fn seen(scenario: &str, address: SocketAddr, ca: &Path, arguments: &[&str]) -> Value {
    let mut command = Command::new(&*PYTHON);
    command
        .args([&format!("{HERE}/client.py"), scenario, &address.to_string()])
        .arg(ca)
        .args(arguments)
        .kill_on_drop(true);
    let output = timeout(PATIENCE, command.output()).await.unwrap().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{scenario}: {errors}");
    serde_json::from_slice(&output.stdout).unwrap()
}

async fn eventually(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..1000 {
        if condition() {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}");
}

/// An authority, and a folder for what it issues: `NAME.crt`, `NAME.key`.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: TempDir,
    own: TempDir,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "an authority");
        let certificate = params.self_signed(&key).unwrap();
        let own = tempfile::tempdir().unwrap();
        std::fs::write(own.path().join("ca.pem"), certificate.pem()).unwrap();
        Self {
            issuer: Issuer::new(params, key),
            folder: tempfile::tempdir().unwrap(),
            own,
        }
    }

    /// One with a certificate for `a.example`.
    fn with_a() -> Self {
        let authority = Self::new();
        authority.issue("a", &["a.example"]);
        authority
    }

    /// Writes a certificate and its key; the digest of the certificate.
    fn issue(&self, stem: &str, names: &[&str]) -> String {
        let key = KeyPair::generate().unwrap();
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let params = CertificateParams::new(names).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let write = |ending: &str, text: &str| {
            // Moved, as who cares for it does: none is seen half written.
            let new = self.own.path().join("new");
            std::fs::write(&new, text).unwrap();
            std::fs::rename(new, self.folder.path().join(format!("{stem}.{ending}"))).unwrap();
        };
        write("key", &key.serialize_pem());
        write("crt", &certificate.pem());
        Digest::of(certificate.der()).to_string()
    }

    fn ca(&self) -> PathBuf {
        self.own.path().join("ca.pem")
    }

    fn tls(&self) -> TlsConfig {
        let files = CertificateSource::Folder(self.folder.path().to_owned());
        TlsConfig {
            http3: true,
            poll: Duration::from_millis(50),
            ..TlsConfig::new(files)
        }
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type BoxBody = UnsyncBoxBody<Bytes, BoxError>;

/// Answers by path, after sanitizing as the data plane does.
#[derive(Default)]
struct Paths {
    /// Requests whose futures or bodies are there.
    in_flight: Arc<AtomicUsize>,
    handled: AtomicUsize,
    pieces: Arc<AtomicUsize>,
}

/// Counted until it is dropped.
struct Held(Arc<AtomicUsize>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

fn full(bytes: impl Into<Bytes>) -> BoxBody {
    Full::new(bytes.into())
        .map_err(|never: Infallible| match never {})
        .boxed_unsync()
}

fn frames(
    frames: impl futures::Stream<Item = Result<Frame<Bytes>, BoxError>> + Send + 'static,
) -> BoxBody {
    StreamBody::new(frames).boxed_unsync()
}

fn data(bytes: &'static [u8]) -> Result<Frame<Bytes>, BoxError> {
    Ok(Frame::data(Bytes::from_static(bytes)))
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
        let held = Held(Arc::clone(&self.in_flight));
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
                sleep(Duration::from_millis(500)).await;
                response.body(full("slept"))
            }
            "/forever" => std::future::pending().await,
            "/panic" => panic!("on purpose"),
            "/no-content" => response.status(204).body(full("never sent")),
            "/drip" => {
                let later = async {
                    sleep(Duration::from_millis(500)).await;
                    data(b"second")
                };
                let first = futures::stream::iter([data(b"first ")]);
                use futures::StreamExt as _;
                response.body(frames(first.chain(futures::stream::once(later))))
            }
            "/broken" => {
                let error: Result<Frame<Bytes>, BoxError> = Err("broken".into());
                response.body(frames(futures::stream::iter([data(b"half"), error])))
            }
            "/short" => response
                .header("content-length", "5")
                .body(frames(futures::stream::iter([data(b"1234")]))),
            "/long" => response
                .header("content-length", "5")
                .body(frames(futures::stream::iter([data(b"123456")]))),
            "/trailers" => {
                let mut trailers = HeaderMap::new();
                trailers.insert("x-sum", "42".parse().unwrap());
                let trailers = Ok(Frame::trailers(trailers));
                response
                    .header("trailer", "x-sum")
                    .body(frames(futures::stream::iter([data(b"body"), trailers])))
            }
            "/endless" => {
                let pieces = Arc::clone(&self.pieces);
                response.body(frames(futures::stream::repeat_with(move || {
                    let _held = &held;
                    pieces.fetch_add(1, SeqCst);
                    data(&[b'x'; 16 * 1024])
                })))
            }
            "/own-alternative" => response.header("alt-svc", "clear").body(full("own")),
            "/where" => response.body(full(format!(
                "{} {:?} {:?} {}",
                head.uri,
                head.version,
                connection.tls,
                connection.peer.ip()
            ))),
            _ => response.header("connection", "close").body(full("hello")),
        }
        .unwrap()
    }
}

/// A server on a free port, stopped when it is dropped.
struct Listening {
    address: SocketAddr,
    handler: Arc<Paths>,
    stats: Arc<ListenerStats>,
    authority: Authority,
    shutdown: CancellationToken,
    running: Option<JoinHandle<()>>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Listening {
    fn start() -> Self {
        Self::with(Authority::with_a(), |_| {})
    }

    fn with(authority: Authority, configure: impl FnOnce(&mut ServerConfig)) -> Self {
        let mut config = ServerConfig::new("127.0.0.1:0".parse().unwrap());
        config.grace = Duration::from_secs(2);
        config.tls = Some(authority.tls());
        configure(&mut config);
        let server = Server::bind(config).unwrap();
        let (address, stats) = (server.local_addr(), server.stats());
        let handler = Arc::<Paths>::default();
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(server.run(Arc::clone(&handler), shutdown.clone()));
        Self {
            address,
            handler,
            stats,
            authority,
            shutdown,
            running: Some(running),
        }
    }

    /// What a scenario of `client.py` sees here.
    async fn seen(&self, scenario: &str, arguments: &[&str]) -> Value {
        seen(scenario, self.address, &self.authority.ca(), arguments).await
    }

    fn in_flight(&self) -> usize {
        self.handler.in_flight.load(SeqCst)
    }
}
