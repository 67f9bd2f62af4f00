//! Asynchronous invocation, through the API of a node: taken over, run later and at least once.
//!
//! Wants the guests: `cargo build --release --target wasm32-wasip2 --manifest-path tests/guests/Cargo.toml`.

use crate::support::{self, guests};

use std::{
    collections::HashSet,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::{CancellationToken, DropGuard};
use wharf::{
    control::{
        api::{Deploy, DeployFunction},
        client::Client,
    },
    events::retry::RetryPolicy,
    model::FunctionConfiguration,
    node::{Node, NodeConfig},
    runtime::EngineSettings,
    store::{DataFolder, KeyValueLimits, Queue as _, Sqlite},
    telemetry::logs::LogLine,
};

/// How long anything may take that takes a moment.
const PATIENCE: Duration = Duration::from_secs(30);

fn guest(name: &'static str) -> Bytes {
    guests::Guest::Crate(name).bytes()
}

/// What the tests' functions may: count in a store that all of them share.
fn counting() -> FunctionConfiguration {
    FunctionConfiguration {
        key_value: [("default".to_owned(), "counts".to_owned())].into(),
        ..FunctionConfiguration::default()
    }
}

async fn deploy(
    client: &Client,
    name: &str,
    component: &'static str,
    configuration: FunctionConfiguration,
) {
    let code = client.upload(guest(component)).await.unwrap();
    let deploy = Deploy {
        app: None,
        functions: vec![DeployFunction {
            name: name.parse().unwrap(),
            code,
            configuration,
        }],
        routes: Vec::new(),
        distributions: Vec::new(),
    };
    client.deploy(&deploy).await.unwrap();
}

/// A node in the test's own process, with pauses between attempts that a test can wait for.
struct Bench {
    client: Client,
    api: std::net::SocketAddr,
    data: TempDir,
    _serving: DropGuard,
}

impl Bench {
    async fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let program = support::program();
        let mut config = NodeConfig::new(data.path().to_owned(), program);
        config.http.set_port(0);
        config.api.set_port(0);
        config.engine = EngineSettings {
            slots: 50,
            ..config.engine
        };
        config.events.retry = RetryPolicy {
            after_errors: vec![Duration::from_millis(50), Duration::from_millis(100)],
            first_back_off: Duration::from_millis(50),
            longest_back_off: Duration::from_millis(100),
            max_age: Duration::from_secs(60),
        };
        let node = Box::pin(Node::bind(config)).await.unwrap();
        let api = node.api_addr();
        let shutdown = CancellationToken::new();
        tokio::spawn(node.run(shutdown.clone()));
        let token = Client::token(data.path()).unwrap();
        Self {
            client: Client::new(&api.to_string(), token).unwrap(),
            api,
            data,
            _serving: shutdown.drop_guard(),
        }
    }

    async fn deploy(&self, name: &str, configuration: FunctionConfiguration) {
        deploy(&self.client, name, "event_probe.wasm", configuration).await;
    }

    /// Hands an event over, and gives its id.
    async fn later(&self, name: &str, event: &Value) -> String {
        later(&self.client, name, event).await.unwrap()
    }

    async fn count(&self, name: &str, key: &str) -> u64 {
        count(&self.client, name, key).await
    }

    /// The log's lines about an invocation, once one of them has `end` in it.
    async fn log(&self, name: &str, request_id: &str, end: &str) -> Vec<LogLine> {
        let asked = Instant::now();
        loop {
            let lines = self.client.logs(name, 1000, false).await.unwrap();
            let lines: Vec<LogLine> = lines.try_collect().await.unwrap();
            let of_id: Vec<LogLine> = lines
                .into_iter()
                .filter(|line| line.request_id.as_deref() == Some(request_id))
                .collect();
            if of_id.iter().any(|line| line.message.contains(end)) {
                return of_id;
            }
            assert!(asked.elapsed() < PATIENCE, "no `{end}` in {of_id:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn status_of(&self, name: &str, body: Vec<u8>) -> u16 {
        let token = std::fs::read_to_string(self.data.path().join("api-token")).unwrap();
        let url = format!(
            "http://{}/2015-03-31/functions/{name}/invocations",
            self.api
        );
        let request = reqwest::Client::new()
            .post(url)
            .bearer_auth(token.trim())
            .header("x-amz-invocation-type", "Event")
            .body(body);
        request.send().await.unwrap().status().as_u16()
    }

    async fn metrics(&self) -> String {
        let token = std::fs::read_to_string(self.data.path().join("api-token")).unwrap();
        let url = format!("http://{}/metrics", self.api);
        let request = reqwest::Client::new().get(url).bearer_auth(token.trim());
        request.send().await.unwrap().text().await.unwrap()
    }
}

/// Hands an event over. None if the node did not say that it has it.
async fn later(client: &Client, name: &str, event: &Value) -> Option<String> {
    let event = Bytes::from(event.to_string());
    let invoked = client.invoke(name, event, "Event", false).await.ok()?;
    assert_eq!(invoked.payload, "", "nothing is answered yet");
    Some(invoked.request_id.unwrap())
}

/// How often a key was counted.
async fn count(client: &Client, name: &str, key: &str) -> u64 {
    let event = json!({"do": "count", "key": key, "by": 0}).to_string();
    let invoked = client.invoke(name, event.into(), "RequestResponse", false);
    let payload = invoked.await.unwrap().payload;
    serde_json::from_slice(&payload).unwrap_or_else(|_| panic!("{payload:?}"))
}

fn reports(lines: &[LogLine]) -> Vec<&str> {
    lines
        .iter()
        .filter(|line| line.message.starts_with("REPORT"))
        .map(|line| line.message.split("Outcome: ").nth(1).unwrap().trim())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_acknowledged_and_run_under_the_id_that_the_caller_got() {
    let bench = Bench::start().await;
    bench.deploy("probe", counting()).await;
    assert_eq!(bench.status_of("probe", b"{}".to_vec()).await, 202);
    let id = bench
        .later("probe", &json!({"do": "count", "key": "once"}))
        .await;
    let lines = bench.log("probe", &id, "REPORT").await;
    assert_eq!(reports(&lines), ["ok"]);
    assert_eq!(bench.count("probe", "once").await, 1);

    let context = bench.later("probe", &json!({"do": "log"})).await;
    let lines = bench.log("probe", &context, "REPORT").await;
    assert!(
        lines
            .iter()
            .any(|line| line.message == "to standard output")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_fails_is_tried_again_and_then_the_event_is_dropped() {
    let bench = Bench::start().await;
    bench.deploy("probe", counting()).await;
    let event = json!({"do": "fail-until", "key": "third", "attempt": 3});
    let third = bench.later("probe", &event).await;
    let event = json!({"do": "fail-until", "key": "never", "attempt": 99});
    let never = bench.later("probe", &event).await;
    let crash = bench.later("probe", &json!({"do": "panic"})).await;

    let lines = bench.log("probe", &third, "Outcome: ok").await;
    assert_eq!(reports(&lines), ["function_error", "function_error", "ok"]);
    assert!(
        lines
            .iter()
            .any(|line| line.message == "ProbeError: attempt 2 fails on purpose"),
        "{lines:#?}"
    );
    for (id, word) in [(never, "function_error"), (crash, "trap")] {
        let lines = bench.log("probe", &id, "dropped").await;
        assert_eq!(reports(&lines), [word; 3]);
        let message =
            format!("the event was dropped: its retries are used up, the last attempt: {word}");
        assert_eq!(lines.last().unwrap().message, message);
    }
    assert_eq!(bench.count("probe", "never").await, 3);
    let metrics = bench.metrics().await;
    let dropped = "wharf_async_events_dropped_total{function=\"probe\",reason=\"retries\"} 2";
    assert!(metrics.contains(dropped), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_run_is_not_taken_over() {
    let bench = Bench::start().await;
    bench.deploy("probe", counting()).await;
    let text = |length: usize| format!("\"{}\"", "x".repeat(length - 2)).into_bytes();
    for (name, body, status) in [
        ("probe", b"{\"cut\": ".to_vec(), 400),
        ("probe", vec![0xff], 400),
        ("probe", text(1 << 20), 202),
        ("probe", text((1 << 20) + 1), 413),
        ("nobody", b"{}".to_vec(), 404),
    ] {
        let length = body.len();
        assert_eq!(
            bench.status_of(name, body).await,
            status,
            "{name}, {length} bytes"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_wait_for_a_function_that_is_throttled_and_one_that_is_removed_gets_none() {
    let bench = Bench::start().await;
    let off = FunctionConfiguration {
        concurrency: Some(0),
        ..counting()
    };
    bench.deploy("waits", off.clone()).await;
    bench.deploy("gone", off).await;
    let event = |key: &str| json!({"do": "count", "key": key});
    let id = bench.later("waits", &event("waits")).await;
    bench.later("gone", &event("gone")).await;
    bench.log("waits", &id, "throttled").await;
    bench.client.remove("gone").await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;

    bench.deploy("waits", counting()).await;
    bench.deploy("gone", counting()).await;
    let lines = bench.log("waits", &id, "REPORT").await;
    assert_eq!(reports(&lines), ["ok"]);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(bench.count("waits", "waits").await, 1);
    assert_eq!(bench.count("gone", "gone").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_prints_the_request_id() {
    let bench = Bench::start().await;
    bench.deploy("probe", counting()).await;
    let output = Command::new(support::program())
        .args([
            "invoke",
            "probe",
            "--async",
            "--payload",
            "{\"do\": \"echo\"}",
        ])
        .args(["--api", &format!("http://{}", bench.api), "--data"])
        .arg(bench.data.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let id = String::from_utf8(output.stdout).unwrap();
    bench.log("probe", id.trim_end(), "Outcome: ok").await;
}

/// A node in a process of its own, which can be killed.
struct Process(Child);

impl Process {
    /// Starts one, and gives a client of its API.
    fn start(data: &Path) -> (Self, Client) {
        let mut child = Command::new(support::program())
            .args(["serve", "--http", "127.0.0.1:0", "--api", "127.0.0.1:0"])
            .args(["--slots", "50", "--log", "warn", "--data"])
            .arg(data)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let api = lines
            .by_ref()
            .map(Result::unwrap)
            .find_map(|line| line.trim().strip_prefix("API ").map(str::to_owned));
        // Read on, so that the node does not wait for a reader.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        let token = Client::token(data).unwrap();
        (
            Self(child),
            Client::new(api.unwrap().trim(), token).unwrap(),
        )
    }

    /// `kill -9`.
    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_event_is_run_although_the_node_is_killed_in_the_middle_of_ten_thousand()
{
    const EVENTS: usize = 10_000;
    let key = |number: usize| format!("event-{number}");
    let data = tempfile::tempdir().unwrap();
    let (process, client) = Process::start(data.path());
    // Narrow, so that most events wait when the node dies. Nobody waits for the leases of the others: they last longer
    // than this test.
    let configuration = |concurrency| FunctionConfiguration {
        timeout: Some(Duration::from_secs(300)),
        concurrency,
        ..counting()
    };
    deploy(&client, "probe", "event_probe.wasm", configuration(Some(2))).await;

    // Callers go on while the node dies: what it said before counts.
    let acknowledged = AtomicUsize::new(0);
    let half = tokio::sync::Notify::new();
    let sending = stream::iter(0..EVENTS)
        .map(async |number| {
            let event = json!({"do": "count", "key": key(number)});
            let id = later(&client, "probe", &event).await;
            if id.is_some() && acknowledged.fetch_add(1, Relaxed) + 1 == EVENTS / 2 {
                half.notify_one();
            }
            id.map(|_| number)
        })
        .buffer_unordered(32)
        .filter_map(async |number| number)
        .collect::<HashSet<usize>>();
    let killing = async {
        half.notified().await;
        process.kill();
    };
    let (before, ()) = tokio::join!(sending, killing);
    let left = left_in(data.path()).await;
    assert!(left >= EVENTS / 10, "only {left} were left");

    let restarted = Instant::now();
    let (_process, client) = Process::start(data.path());
    deploy(&client, "probe", "event_probe.wasm", configuration(None)).await;
    deploy(&client, "reader", "event_probe.wasm", configuration(None)).await;
    let after = stream::iter((0..EVENTS).filter(|number| !before.contains(number)))
        .map(async |number| {
            let event = json!({"do": "count", "key": key(number)});
            later(&client, "probe", &event).await.unwrap()
        })
        .buffer_unordered(32)
        .count()
        .await;
    assert_eq!(before.len() + after, EVENTS, "all were acknowledged");
    let keys: Vec<String> = (0..EVENTS).map(key).collect();
    let asked = json!({"do": "absent", "keys": keys}).to_string();
    loop {
        let asked = client.invoke("reader", asked.clone().into(), "RequestResponse", false);
        let payload = asked.await.unwrap().payload;
        let absent: Vec<String> =
            serde_json::from_slice(&payload).unwrap_or_else(|_| panic!("{payload:?}"));
        if absent.is_empty() {
            break;
        }
        let waited = restarted.elapsed();
        assert!(waited < 3 * PATIENCE, "{} were not run", absent.len());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    println!(
        "{} acknowledged before, of which {left} or some begun were left; all run {:?} after the restart",
        before.len(),
        restarted.elapsed(),
    );
}

/// How many events are in the queue of a node that is not there any more. Looks at a copy: to open the store changes it.
async fn left_in(data: &Path) -> usize {
    let copy = tempfile::tempdir().unwrap();
    for file in ["wharf.db", "wharf.db-wal", "node-key"] {
        std::fs::copy(data.join(file), copy.path().join(file)).unwrap();
    }
    let folder = DataFolder::open(copy.path()).unwrap();
    let store = Sqlite::open(&folder, KeyValueLimits::default()).unwrap();
    let counts = store.counts(0).await.unwrap();
    usize::try_from(counts.due + counts.delayed + counts.leased).unwrap()
}
