//! The cache as a whole, with an origin that does what a test says.

mod collapse;
mod disk;
mod purging;
mod rules;
mod validation;

use std::{
    future::Future,
    io,
    path::Path,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use bytes::Bytes;
use futures::channel::mpsc::{UnboundedSender, unbounded};
use http::{HeaderMap, HeaderValue, Method, Request, Response, request::Parts};
use http_body::Frame;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody, combinators::UnsyncBoxBody};

use super::*;

/// The body of an origin's response.
pub(super) type Scripted = UnsyncBoxBody<Bytes, io::Error>;

type Sent = Pin<Box<dyn Future<Output = Result<Response<Scripted>, io::Error>> + Send>>;

/// An origin, and what was asked of it.
#[derive(Clone)]
pub(super) struct Origin(Arc<Script>);

struct Script {
    answer: Box<dyn Fn(Parts) -> Sent + Send + Sync>,
    asked: Mutex<Vec<Parts>>,
}

impl Origin {
    pub(super) fn new<S>(answer: impl Fn(Parts) -> S + Send + Sync + 'static) -> Self
    where
        S: Future<Output = Result<Response<Scripted>, io::Error>> + Send + 'static,
    {
        Self(Arc::new(Script {
            answer: Box::new(move |parts| Box::pin(answer(parts))),
            asked: Mutex::default(),
        }))
    }

    /// One that answers every request with the same fields and body.
    pub(super) fn fixed(
        fields: &'static [(&'static str, &'static str)],
        body: &'static str,
    ) -> Self {
        Self::new(move |_| std::future::ready(Ok(response(200, fields, body))))
    }

    pub(super) fn count(&self) -> usize {
        self.0.asked.lock().unwrap().len()
    }

    pub(super) fn last(&self) -> Parts {
        self.0.asked.lock().unwrap().last().unwrap().clone()
    }
}

impl Forward for Origin {
    type RequestBody = Empty<Bytes>;
    type Body = Scripted;
    type Error = io::Error;

    async fn send(
        &self,
        request: Request<Option<Empty<Bytes>>>,
    ) -> Result<Response<Scripted>, io::Error> {
        let (parts, _) = request.into_parts();
        self.0.asked.lock().unwrap().push(parts.clone());
        (self.0.answer)(parts).await
    }

    /// As of a client that has used up what is its own.
    fn is_of_one(error: &io::Error) -> bool {
        error.kind() == io::ErrorKind::OutOfMemory
    }
}

pub(super) fn response(
    status: u16,
    fields: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Response<Scripted> {
    let body = Full::new(body.into()).map_err(|never| match never {});
    with_body(status, fields, body.boxed_unsync())
}

/// A response that this node compressed: by another tag than its origin's.
pub(super) fn recoded(fields: &[(&str, &str)], tag: Option<&'static str>) -> Response<Scripted> {
    let mut response = response(200, fields, "coded");
    let tag = tag.map(HeaderValue::from_static);
    response.extensions_mut().insert(Recoded { tag });
    response
}

pub(super) fn with_body(
    status: u16,
    fields: &[(&str, &str)],
    body: Scripted,
) -> Response<Scripted> {
    let mut response = Response::builder().status(status);
    for (name, value) in fields {
        response = response.header(*name, *value);
    }
    response.body(body).unwrap()
}

/// A body that comes as the test sends it; dropping the sender ends it.
pub(super) fn streamed() -> (UnboundedSender<Result<Frame<Bytes>, io::Error>>, Scripted) {
    let (sender, receiver) = unbounded();
    (sender, StreamBody::new(receiver).boxed_unsync())
}

pub(super) fn send(
    sender: &UnboundedSender<Result<Frame<Bytes>, io::Error>>,
    bytes: impl Into<Bytes>,
) {
    sender
        .unbounded_send(Ok(Frame::data(bytes.into())))
        .unwrap();
}

/// A distribution and its origin.
#[derive(Clone)]
pub(super) struct Site {
    pub(super) cache: Cache,
    pub(super) origin: Origin,
    pub(super) policy: Arc<CachePolicy>,
    now: Arc<AtomicU64>,
}

/// What a client got.
#[derive(Debug)]
pub(super) struct Got {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Got {
    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(super) fn field(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// What the cache said.
    pub(super) fn cache(&self) -> &str {
        self.field("cache-status").strip_prefix("wharf; ").unwrap()
    }

    pub(super) fn is_hit(&self) -> bool {
        self.cache().starts_with("hit")
    }
}

pub(super) const START: u64 = 784_111_777_000;

pub(super) fn config(disk: Option<&Path>) -> CacheConfig {
    CacheConfig {
        memory: ByteSize::mb(64),
        disk: disk.map(|folder| DiskConfig {
            folder: folder.to_owned(),
            capacity: ByteSize::mb(256),
        }),
        ..CacheConfig::default()
    }
}

impl Site {
    pub(super) async fn new(origin: Origin) -> Self {
        Self::open(origin, config(None)).await
    }

    pub(super) async fn open(origin: Origin, mut config: CacheConfig) -> Self {
        let now = Arc::new(AtomicU64::new(START));
        config.clock = Clock::Manual(Arc::clone(&now));
        Self {
            cache: Cache::open(config).await.unwrap(),
            origin,
            policy: Arc::default(),
            now,
        }
    }

    pub(super) fn with_policy(mut self, change: impl FnOnce(&mut CachePolicy)) -> Self {
        change(Arc::make_mut(&mut self.policy));
        self
    }

    pub(super) fn advance(&self, seconds: u64) {
        self.now.fetch_add(seconds * 1000, SeqCst);
    }

    /// How many seconds the clock was advanced.
    pub(super) fn now(&self) -> u64 {
        (self.now.load(SeqCst) - START) / 1000
    }

    pub(super) async fn begin(
        &self,
        method: Method,
        path: &str,
        fields: &[(&str, &str)],
    ) -> Result<Response<Body<Scripted>>, Arc<io::Error>> {
        let base = if path.starts_with('/') {
            "http://site.example"
        } else {
            ""
        };
        let uri = format!("{base}{path}");
        self.begin_as(method, &uri, fields, None).await
    }

    /// Asks for what a hook made of what a viewer asked for.
    pub(super) async fn begin_as(
        &self,
        method: Method,
        uri: &str,
        fields: &[(&str, &str)],
        asked: Option<&Uri>,
    ) -> Result<Response<Body<Scripted>>, Arc<io::Error>> {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let scope = Scope {
            distribution: "site",
            source: "",
            policy: &self.policy,
            key: None,
            asked,
        };
        self.cache
            .serve(scope, request.body(Empty::new()).unwrap(), || {
                self.origin.clone()
            })
            .await
    }

    pub(super) async fn send(&self, method: Method, path: &str, fields: &[(&str, &str)]) -> Got {
        got(self.begin(method, path, fields).await.unwrap()).await
    }

    pub(super) async fn get(&self, path: &str) -> Got {
        self.send(Method::GET, path, &[]).await
    }

    pub(super) async fn get_with(&self, path: &str, fields: &[(&str, &str)]) -> Got {
        self.send(Method::GET, path, fields).await
    }

    pub(super) fn counts(&self) -> Counts {
        self.cache.statistics().distributions["site"]
    }

    /// Ends the cache, and waits until its folder is free.
    pub(super) async fn close(self) {
        let disk = self.cache.0.disk.as_ref().map(Arc::downgrade);
        drop(self);
        until(|| disk.as_ref().is_none_or(|disk| disk.strong_count() == 0)).await;
    }

    /// Waits until nothing is under way.
    pub(super) async fn settle(&self) {
        self.cache.settle(Duration::from_secs(60)).await;
    }
}

pub(super) async fn got(response: Response<Body<Scripted>>) -> Got {
    let (parts, body) = response.into_parts();
    Got {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body: body.collect().await.unwrap().to_bytes(),
    }
}

/// Waits for what other tasks do.
pub(super) async fn until(mut is_so: impl FnMut() -> bool) {
    for _ in 0..10_000 {
        if is_so() {
            return;
        }
        tokio::task::yield_now().await;
        std::thread::sleep(std::time::Duration::from_micros(200));
    }
    panic!("it did not come to pass");
}
