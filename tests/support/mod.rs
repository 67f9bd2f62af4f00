//! A node to try things on, its guests, and a client of both of its doors.
//!
//! ```ignore
//! let node = Node::start().await;
//! let crash = node.function("crash", guests::HOSTILE, FunctionConfiguration::default()).await;
//! assert_eq!(crash.get("/trap").await.error(), "trap");
//! assert_eq!(crash.get("/").await.text(), "hello\n");
//! ```
//!
//! The node runs in the test's own process, on ports of the kernel's choice, with its data in a folder of its own; it is
//! gone with the [`Node`]. Its own log goes to the test's output if `WHARF_LOG` is set. Tests need tokio's threads:
//! `#[tokio::test(flavor = "multi_thread")]`. Functions are deployed through the API and called through their URLs: what a
//! test sees is what a user sees.

pub(crate) mod aws;
pub(crate) mod debian;
pub(crate) mod guests;
pub(crate) mod ports;
pub(crate) mod zips;

use std::{
    fmt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use bytes::Bytes;
use reqwest::{Method, StatusCode, header::HeaderMap};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use wharf::{
    control::{
        api::{Deploy, DeployFunction},
        client::{Client, ClientError, Invoked},
    },
    model::FunctionConfiguration,
    node::NodeConfig,
    runtime::EngineSettings,
    telemetry::logs::LogLine,
};

use guests::Guest;

/// How long anything may take that takes a moment. Far more than it does on a machine with nothing else to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The program: that of this build, or the one that `WHARF_TEST_PROGRAM` names, for tests that start processes.
pub(crate) fn program() -> PathBuf {
    match std::env::var_os("WHARF_TEST_PROGRAM") {
        // Tests start it in folders of their own.
        Some(program) => std::path::absolute(program).unwrap(),
        None => env!("CARGO_BIN_EXE_wharf").into(),
    }
}

/// A node that serves.
pub(crate) struct Node {
    /// Where functions answer, as `127.0.0.1:40001`.
    pub(crate) http: std::net::SocketAddr,
    /// Where the API answers.
    pub(crate) api: std::net::SocketAddr,
    /// Where it serves with TLS, if it does.
    pub(crate) https: Option<std::net::SocketAddr>,
    /// The API's client.
    pub(crate) client: Client,
    /// A client for everything else. It follows no redirects and waits a minute at most.
    pub(crate) web: reqwest::Client,
    data: TempDir,
    serving: DropGuard,
    running: JoinHandle<()>,
}

impl Node {
    /// Starts a node with room for 100 instances.
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// Starts a node whose settings were changed.
    pub(crate) async fn start_with(change: impl FnOnce(&mut NodeConfig)) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), change).await
    }

    /// Starts a node on the data of another, as [`stop`](Self::stop) gives it.
    pub(crate) async fn start_in(data: TempDir, change: impl FnOnce(&mut NodeConfig)) -> Self {
        show_log();
        let mut config = NodeConfig::new(data.path().to_owned(), program());
        config.http.set_port(0);
        config.api.set_port(0);
        config.grace = Duration::from_secs(1);
        // Every slot reserves address space, and the nodes of several tests live at once.
        config.engine = EngineSettings {
            slots: 100,
            ..EngineSettings::default()
        };
        change(&mut config);
        let node = Box::pin(wharf::node::Node::bind(config)).await.unwrap();
        let (http, api, https) = (node.http_addr(), node.api_addr(), node.https_addr());
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(node.run(shutdown.clone()));
        let token = Client::token(data.path()).unwrap();
        let web = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(Duration::from_secs(60))
            .build();
        let node = Self {
            http,
            api,
            https,
            client: Client::new(&api.to_string(), token).unwrap(),
            web: web.unwrap(),
            data,
            serving: shutdown.drop_guard(),
            running,
        };
        eventually(async || {
            let ready = Reply::of(node.api_request(Method::GET, "/readyz")).await;
            (ready.status() == 200).then_some(())
        })
        .await;
        node
    }

    /// Ends the node in peace. Its data can be given to another.
    pub(crate) async fn stop(self) -> TempDir {
        drop(self.serving);
        self.running.await.unwrap();
        self.data
    }

    /// The node's data folder.
    pub(crate) fn data(&self) -> &Path {
        self.data.path()
    }

    /// Deploys a function, or deploys it again.
    pub(crate) async fn function(
        &self,
        name: &str,
        guest: Guest,
        configuration: FunctionConfiguration,
    ) -> Function<'_> {
        let deployed = self.try_function(name, guest.bytes(), configuration).await;
        deployed.unwrap_or_else(|error| panic!("deploy {name}: {error}"))
    }

    /// Deploys what may not be a component at all.
    pub(crate) async fn try_function(
        &self,
        name: &str,
        component: Bytes,
        configuration: FunctionConfiguration,
    ) -> Result<Function<'_>, ClientError> {
        let code = self.client.upload(component).await?;
        let function = DeployFunction {
            name: name.parse().unwrap(),
            code,
            configuration,
        };
        let deploy = Deploy {
            app: None,
            functions: vec![function],
            routes: Vec::new(),
            distributions: Vec::new(),
        };
        self.client.deploy(&deploy).await?;
        Ok(Function {
            node: self,
            name: name.to_owned(),
        })
    }

    /// A request to the node's address, as routes without a host see it.
    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.web
            .request(method, format!("http://{}{path}", self.http))
    }

    /// A GET to the node's address.
    pub(crate) async fn get(&self, path: &str) -> Reply {
        Reply::of(self.request(Method::GET, path)).await
    }

    /// A request to the API, without the token.
    pub(crate) fn api_request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.web
            .request(method, format!("http://{}{path}", self.api))
    }

    /// A request to the API, with the token.
    pub(crate) fn authorized(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let token = std::fs::read_to_string(self.data().join(wharf::control::TOKEN_FILE));
        self.api_request(method, path)
            .bearer_auth(token.unwrap().trim())
    }

    /// The metrics whose line begins with `name`, added up.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let text = Reply::of(self.authorized(Method::GET, "/metrics")).await;
        text.text()
            .lines()
            .filter(|line| line.starts_with(name))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    }
}

/// A deployed function, called by its URL `http://NAME.localhost`.
#[derive(Clone)]
pub(crate) struct Function<'a> {
    node: &'a Node,
    /// Its name.
    pub(crate) name: String,
}

impl Function<'_> {
    /// A request to the function.
    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.node
            .request(method, path)
            .header("host", format!("{}.localhost", self.name))
    }

    /// A GET, its answer read as far as it goes.
    pub(crate) async fn get(&self, path: &str) -> Reply {
        Reply::of(self.request(Method::GET, path)).await
    }

    /// A POST, its answer read as far as it goes.
    pub(crate) async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> Reply {
        Reply::of(self.request(Method::POST, path).body(body)).await
    }

    /// Invokes the function with an event, through the API. The answer comes with the invocation's log.
    pub(crate) async fn invoke(&self, event: serde_json::Value) -> Invoked {
        self.invoke_bytes(event.to_string()).await.unwrap()
    }

    /// Invokes the function with what may be no event.
    pub(crate) async fn invoke_bytes(
        &self,
        event: impl Into<Bytes>,
    ) -> Result<Invoked, ClientError> {
        let client = &self.node.client;
        client
            .invoke(&self.name, event.into(), "RequestResponse", true)
            .await
    }

    /// The last lines of the function's log.
    pub(crate) async fn log(&self) -> Vec<LogLine> {
        use futures::TryStreamExt as _;
        let lines = self.node.client.logs(&self.name, 100_000, false).await;
        lines.unwrap().try_collect().await.unwrap()
    }

    /// What the function's log says of one request, waited for: it is complete once it has the `REPORT` line.
    pub(crate) async fn log_of(&self, reply: &Reply) -> Vec<LogLine> {
        let id = reply.header("x-request-id").to_owned();
        let started = Instant::now();
        loop {
            let mut lines = self.log().await;
            lines.retain(|line| line.request_id.as_deref() == Some(&id));
            if lines.iter().any(|line| line.message.starts_with("REPORT")) {
                return lines;
            }
            assert!(
                started.elapsed() < PATIENCE,
                "no REPORT for {reply:?}, only {lines:?}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The `REPORT` line of one request, waited for.
    pub(crate) async fn report(&self, reply: &Reply) -> Report {
        let lines = self.log_of(reply).await;
        let line = lines
            .into_iter()
            .find(|line| line.message.starts_with("REPORT"));
        Report(line.unwrap().message)
    }

    /// The `REPORT` lines of all requests so far.
    pub(crate) async fn reports(&self) -> Vec<Report> {
        let lines = self.log().await.into_iter();
        lines
            .filter(|line| line.message.starts_with("REPORT"))
            .map(|line| Report(line.message))
            .collect()
    }

    /// Waits until an invocation ended with this outcome, however it came to be.
    pub(crate) async fn reported(&self, outcome: &str) -> Report {
        eventually(async || {
            let reports = self.reports().await;
            reports.into_iter().find(|one| one.outcome() == outcome)
        })
        .await
    }
}

/// A `REPORT` line.
#[derive(Debug, Clone)]
pub(crate) struct Report(pub String);

impl Report {
    /// The value of a field, such as `Outcome` or `Max Memory Used`.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.0
            .split('\t')
            .find_map(|field| field.strip_prefix(name)?.strip_prefix(": "))
            .unwrap_or_else(|| panic!("no `{name}` in {}", self.0))
    }

    /// The word.
    pub(crate) fn outcome(&self) -> &str {
        self.field("Outcome")
    }

    /// A number with a unit, such as `Duration`, without the unit.
    pub(crate) fn number(&self, name: &str) -> f64 {
        let value = self.field(name);
        value.split(' ').next().unwrap().parse().unwrap()
    }
}

/// A response, read as far as it goes.
#[derive(Clone)]
pub(crate) struct Reply {
    /// Its status.
    pub(crate) status: StatusCode,
    /// Its header fields.
    pub(crate) headers: HeaderMap,
    /// Its body, or what came of it.
    pub(crate) body: Bytes,
    /// Whether the body came to its end.
    pub(crate) complete: bool,
}

impl Reply {
    /// Sends a request and reads its response.
    pub(crate) async fn of(request: reqwest::RequestBuilder) -> Self {
        let mut response = request.send().await.unwrap();
        let mut body = Vec::new();
        let complete = loop {
            match response.chunk().await {
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => break true,
                Err(_) => break false,
            }
        };
        Self {
            status: response.status(),
            headers: response.headers().clone(),
            body: body.into(),
            complete,
        }
    }

    /// The status as a number.
    pub(crate) fn status(&self) -> u16 {
        self.status.as_u16()
    }

    /// A header field, empty if it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap())
    }

    /// The word of an outcome that is not `ok`: `x-wharf-error`.
    pub(crate) fn error(&self) -> &str {
        self.header("x-wharf-error")
    }

    /// The body of a complete response.
    pub(crate) fn text(&self) -> &str {
        assert!(self.complete, "{self:?} is incomplete");
        str::from_utf8(&self.body).unwrap()
    }

    /// The document of a complete response.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(self.text()).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let most = self.body.len().min(400);
        write!(
            formatter,
            "{} {:?} {:?} ({} bytes, {})",
            self.status,
            self.headers,
            String::from_utf8_lossy(&self.body[..most]),
            self.body.len(),
            if self.complete {
                "complete"
            } else {
                "incomplete"
            }
        )
    }
}

/// Waits until there is what is asked for; panics when that takes too long.
pub(crate) async fn eventually<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(
            started.elapsed() < PATIENCE,
            "it has not come true in {PATIENCE:?}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Shows what nodes say, if `WHARF_LOG` asks for it.
fn show_log() {
    if let Ok(filter) = std::env::var("WHARF_LOG") {
        let _ = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_test_writer()
            .try_init();
    }
}
