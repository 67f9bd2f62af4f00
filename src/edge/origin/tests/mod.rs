//! Origins through real sockets: servers that keep to HTTP, and servers that do not.

mod connections;
mod forwarding;
mod hostile;
mod http2;
mod retries;
mod tls;
mod upgrades;

use std::{
    collections::HashMap,
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{
    Method,
    uri::{Authority, Scheme},
};
use http_body_util::{BodyExt as _, Empty, Full, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::model::distribution::{self, OriginServer};

const BRIEF: Duration = Duration::from_millis(150);
const LONG: Duration = Duration::from_secs(20);

type ServerBody = UnsyncBoxBody<Bytes, io::Error>;

/// A configuration of these servers at addresses of this machine, none of which is retried or given up early.
fn config(urls: &[&str]) -> distribution::Origin {
    distribution::Origin {
        servers: urls.iter().map(|url| server(url)).collect(),
        retries: 0,
        private: true,
        ..distribution::Origin::default()
    }
}

fn server(url: &str) -> OriginServer {
    OriginServer {
        url: (*url).to_owned(),
        weight: 1,
        backup: false,
    }
}

fn backup(url: &str) -> OriginServer {
    OriginServer {
        backup: true,
        ..server(url)
    }
}

fn origins() -> Origins {
    Origins::new("node-7").unwrap()
}

fn origin(config: &distribution::Origin) -> Origin {
    Origin::new("main", config, &origins()).unwrap()
}

fn viewer() -> Viewer {
    Viewer {
        address: "192.0.2.7".parse().unwrap(),
        scheme: Scheme::HTTPS,
        authority: Authority::from_static("www.test"),
        until: None,
    }
}

fn get(path: &str) -> Request<Empty<Bytes>> {
    Request::get(path).body(Empty::new()).unwrap()
}

fn post(path: &str, body: &'static str) -> Request<Full<Bytes>> {
    Request::post(path).body(Full::from(body)).unwrap()
}

impl Origin {
    async fn get(&self, path: &str) -> Result<Response<OriginBody>, OriginError> {
        self.send(get(path), &viewer()).await
    }

    /// The text of the answer to a GET.
    async fn text(&self, path: &str) -> Result<String, OriginError> {
        text(self.get(path).await?).await
    }

    fn server(&self, index: usize) -> ServerStatistics {
        self.statistics().servers[index].clone()
    }
}

async fn text(answer: Response<OriginBody>) -> Result<String, OriginError> {
    let body = answer.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8_lossy(&body).into_owned())
}

/// An error and its causes, in words.
fn words(error: &OriginError) -> String {
    let mut words = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        words.push_str(": ");
        words.push_str(&error.to_string());
        cause = error.source();
    }
    words
}

/// How a scripted server ends a connection.
#[derive(Debug, Clone, Copy)]
enum End {
    Close,
    Reset,
    /// Keeps it open and says no more.
    Hold,
    /// Reads another request and gives the next answer on it.
    Next,
}

/// A server that answers with bytes, whatever it is asked.
struct Script {
    url: String,
    connections: Arc<AtomicUsize>,
    heads: Arc<Mutex<Vec<String>>>,
    _accepting: JoinSet<()>,
}

impl Script {
    /// The answers are given in turn, whatever connection the requests come on; the last one ever after.
    async fn start(answers: &'static [(&'static [u8], End)]) -> Self {
        let next = Arc::<AtomicUsize>::default();
        Self::with(move |mut stream, heads| {
            let next = Arc::clone(&next);
            Box::pin(async move {
                loop {
                    let head = read_head(&mut stream).await?;
                    heads.lock().unwrap().push(head);
                    let (bytes, end) = answers[next.fetch_add(1, Relaxed).min(answers.len() - 1)];
                    stream.write_all(bytes).await?;
                    match end {
                        End::Next => {}
                        End::Hold => std::future::pending().await,
                        End::Close => return stream.shutdown().await,
                        End::Reset => {
                            // What was written has to be read before it is thrown away.
                            tokio::time::sleep(BRIEF / 5).await;
                            return stream.set_zero_linger();
                        }
                    }
                }
            })
        })
        .await
    }

    /// One answer, on each connection.
    async fn once(bytes: &'static [u8], end: End) -> Self {
        Self::with(move |mut stream, heads| {
            Box::pin(async move {
                let head = read_head(&mut stream).await?;
                heads.lock().unwrap().push(head);
                stream.write_all(bytes).await?;
                match end {
                    End::Hold | End::Next => std::future::pending().await,
                    End::Close => stream.shutdown().await,
                    End::Reset => {
                        tokio::time::sleep(BRIEF / 5).await;
                        stream.set_zero_linger()
                    }
                }
            })
        })
        .await
    }

    async fn with(
        serve: impl Fn(TcpStream, Arc<Mutex<Vec<String>>>) -> BoxFuture<'static, io::Result<()>>
        + Send
        + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let connections = Arc::<AtomicUsize>::default();
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let mut accepting = JoinSet::new();
        let (count, seen) = (Arc::clone(&connections), Arc::clone(&heads));
        accepting.spawn(async move {
            let mut serving = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Relaxed);
                serving.spawn(serve(stream, Arc::clone(&seen)));
            }
        });
        Self {
            url,
            connections,
            heads,
            _accepting: accepting,
        }
    }

    fn connections(&self) -> usize {
        self.connections.load(Relaxed)
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

/// Reads to the end of a head; what is read beyond it is part of the text.
async fn read_head(stream: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        if stream.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// A server of hyper's, with HTTP/1.1 and HTTP/2.
struct Hyper {
    url: String,
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    _accepting: JoinSet<()>,
}

impl Hyper {
    async fn start<F>(
        answer: impl Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Response<ServerBody>> + Send + 'static,
    {
        Self::start_with(None, answer).await
    }

    async fn start_with<F>(
        tls: Option<TlsAcceptor>,
        answer: impl Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Response<ServerBody>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let connections = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&connections);
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut serving = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Relaxed);
                let (tls, answer) = (tls.clone(), answer.clone());
                serving.spawn(async move {
                    let service = service_fn(move |request| {
                        let answered = answer(request);
                        async { Ok::<_, Infallible>(answered.await) }
                    });
                    let builder = auto::Builder::new(TokioExecutor::new());
                    let served: Pin<Box<dyn Future<Output = _> + Send>> = match tls {
                        None => Box::pin(async move {
                            let stream = TokioIo::new(stream);
                            builder
                                .serve_connection_with_upgrades(stream, service)
                                .await
                        }),
                        Some(tls) => Box::pin(async move {
                            let stream = TokioIo::new(tls.accept(stream).await?);
                            builder
                                .serve_connection_with_upgrades(stream, service)
                                .await
                        }),
                    };
                    let _ = served.await;
                });
            }
        });
        Self {
            url: format!("{scheme}://{address}"),
            address,
            connections,
            _accepting: accepting,
        }
    }

    fn connections(&self) -> usize {
        self.connections.load(Relaxed)
    }
}

fn full(text: impl Into<Bytes>) -> ServerBody {
    Full::new(text.into())
        .map_err(|never: Infallible| match never {})
        .boxed_unsync()
}

/// Answers with what it was asked: version, method and path, then the fields in order, then the body.
async fn echo(request: Request<Incoming>) -> Response<ServerBody> {
    let (head, body) = request.into_parts();
    let mut text = format!("{:?} {} {}\n", head.version, head.method, head.uri);
    let mut fields: Vec<String> = head
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())))
        .collect();
    fields.sort();
    text.extend(fields);
    text.push('\n');
    if let Ok(body) = body.collect().await {
        text.push_str(&String::from_utf8_lossy(&body.to_bytes()));
    }
    Response::new(full(text))
}

/// A resolver that knows these names.
struct Names(HashMap<&'static str, Vec<&'static str>>);

impl Resolve for Names {
    fn resolve(&self, name: String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        let addresses = self.0.get(name.as_str()).map(|addresses| {
            let address = |text: &&str| SocketAddr::new(text.parse().unwrap(), 0);
            addresses.iter().map(address).collect()
        });
        Box::pin(async move { addresses.ok_or_else(|| io::ErrorKind::NotFound.into()) })
    }
}

/// Waits until something holds.
async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let waited = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(LONG, waited).await;
    assert!(waited.is_ok(), "{what}");
}
