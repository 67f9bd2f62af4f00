//! Request hooks: what they see, what they may answer, and what becomes of those that misbehave.
//!
//! Hooks stand in distributions; here they are called through the one door that these go through, `Invoke`. What each path
//! makes the probe do is in `tests/guests/README.md`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::support::{self, Node, Reply, eventually, guests, zips};
use base64::{Engine as _, prelude::BASE64_STANDARD as BASE64};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, request::Parts};
use reqwest::Method;
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;
use tempfile::TempDir;
use wharf::{
    control::api::{Deploy, DeployFunction},
    invoke::{Function, Invoke},
    model::{
        Answer, ByteSize, Deployment, Digest, FunctionConfiguration, Isolation, Kind,
        LambdaSettings, Outcome, RequestId, Route, RoutePattern, Version, Vpc,
        hook::{
            Client, Forward, HeaderChanges, HookResponse, Point, Points, Replace, RequestAction,
            ResponseAction, ResponseHead, Seen,
        },
    },
    runtime::{CompileLimits, EngineSettings, Runtime, RuntimeSettings},
    store::{Blobs, DataFolder, KeyValue, KeyValueLimits, Sqlite},
    telemetry::{
        logs::{LogLimits, Logs, TailFrom},
        metrics::Metrics,
    },
};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// What a node has below its listeners.
struct Door {
    runtime: Runtime,
    invoke: Arc<Invoke>,
    blobs: Arc<Blobs>,
    store: Arc<Sqlite>,
    logs: Arc<Logs>,
    metrics: Arc<Metrics>,
    _data: TempDir,
}

impl Door {
    fn open() -> Self {
        let data = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(data.path()).unwrap();
        let store = Arc::new(Sqlite::open(&folder, KeyValueLimits::default()).unwrap());
        let blobs = Arc::new(Blobs::open(&folder).unwrap());
        let logs = Arc::new(Logs::open(data.path().join("logs"), LogLimits::default()).unwrap());
        let metrics = Arc::new(Metrics::new());
        let settings = RuntimeSettings {
            engine: EngineSettings {
                slots: 20,
                ..EngineSettings::default()
            },
            components: 64 << 20,
            slot_wait: Duration::from_secs(1),
            artifacts: data.path().join("artifacts"),
            compiler: support::program(),
            compile: CompileLimits::default(),
            tmp: data.path().join("tmp"),
            arn_prefix: "arn:aws:lambda:us-east-1:000000000000".to_owned(),
            vpc: Vpc::default(),
        };
        let node_metrics = metrics.node().clone();
        let runtime = Runtime::start(settings, store.clone(), node_metrics, blobs.clone()).unwrap();
        let invoke = Invoke::new(runtime.clone(), 100, logs.clone(), metrics.clone());
        Self {
            runtime,
            invoke,
            blobs,
            store,
            logs,
            metrics,
            _data: data,
        }
    }

    async fn hook(&self, configuration: FunctionConfiguration) -> Hook<'_> {
        let code = self.blobs.put(guests::HOOK_PROBE.bytes()).await.unwrap();
        let kind = self.runtime.compile(&self.blobs.path(&code), &code).await;
        self.deployed(code, kind.unwrap(), configuration)
    }

    fn deployed(&self, code: Digest, kind: Kind, configuration: FunctionConfiguration) -> Hook<'_> {
        let concurrency = configuration.concurrency;
        let deployment = Deployment {
            name: "probe".parse().unwrap(),
            version: Version::Latest,
            code,
            code_size: 1,
            kind,
            configuration,
            app: None,
            modified_ms: 1,
            revision: 1,
            lambda: LambdaSettings::default(),
        };
        let function = self.invoke.function(deployment, Vec::new(), concurrency);
        Hook {
            door: self,
            function: function.unwrap(),
        }
    }
}

/// What a hook is shown of a request.
fn seen(head: &Parts) -> Seen<'_> {
    Seen {
        request: head.into(),
        client: Client {
            address: [192, 0, 2, 1].into(),
            tls_version: Some("TLSv1.3"),
            country: Some("NZ"),
        },
        body: None,
    }
}

/// The probe, as one function.
struct Hook<'a> {
    door: &'a Door,
    function: Arc<Function>,
}

impl Hook<'_> {
    async fn on_request(&self, point: Point, head: &Parts) -> Result<RequestAction, Outcome> {
        let id = RequestId::generate();
        let seen = seen(head);
        (self.door.invoke)
            .hook_request(&self.function, point, id, seen)
            .await
    }

    /// The viewer-request hook, asked for a path.
    async fn ask(&self, path: &str) -> Result<RequestAction, Outcome> {
        self.on_request(Point::ViewerRequest, &request(path)).await
    }

    /// The same, where it answers itself: with what body.
    async fn text(&self, path: &str) -> String {
        match self.ask(path).await {
            Ok(RequestAction::Respond(response)) => {
                String::from_utf8(response.body.unwrap().into()).unwrap()
            }
            other => panic!("{path}: {other:?}"),
        }
    }

    async fn on_response(
        &self,
        point: Point,
        path: &str,
        response: Response<()>,
    ) -> Result<ResponseAction, Outcome> {
        let id = RequestId::generate();
        let (request, response) = (request(path), response.into_parts().0);
        let head = ResponseHead::from(&response);
        (self.door.invoke)
            .hook_response(&self.function, point, id, seen(&request), head)
            .await
    }

    /// Everything that its log has, as text.
    async fn log(&self) -> String {
        let logs = self.door.logs.clone();
        tokio::task::spawn_blocking(move || logs.flush())
            .await
            .unwrap();
        let name = &self.function.deployment().name;
        let mut tail = self.door.logs.tail(name, TailFrom::Last(10_000), false);
        let mut text = String::new();
        while let Some(line) = tail.next().await {
            text.push_str(&line.message);
            text.push('\n');
        }
        text
    }
}

/// The head of a request as the listener hands it on.
fn request(path: &str) -> Parts {
    let request = Request::get(format!("https://example.com{path}"))
        .header("accept", "text/html")
        .header("cookie", "a=1; variant=b")
        .header("x-forwarded-for", "192.0.2.1");
    request.body(()).unwrap().into_parts().0
}

fn forwarded(action: Result<RequestAction, Outcome>) -> Forward {
    match action {
        Ok(RequestAction::Forward(forward)) => *forward,
        other => panic!("{other:?}"),
    }
}

fn responded(action: Result<RequestAction, Outcome>) -> HookResponse {
    match action {
        Ok(RequestAction::Respond(response)) => *response,
        other => panic!("{other:?}"),
    }
}

/// The fields of a head, changed.
fn changed(mut headers: HeaderMap, changes: HeaderChanges) -> HeaderMap {
    changes.apply(&mut headers);
    headers
}

fn replaced(action: Result<ResponseAction, Outcome>) -> Replace {
    match action {
        Ok(ResponseAction::Replace(response)) => *response,
        other => panic!("{other:?}"),
    }
}

/// Time enough for a machine that is busy with other tests.
fn patient() -> FunctionConfiguration {
    FunctionConfiguration {
        timeout: Some(Duration::from_secs(20)),
        ..FunctionConfiguration::default()
    }
}

fn reuse(requests: u32, age: Duration) -> FunctionConfiguration {
    FunctionConfiguration {
        isolation: Isolation::Reuse { requests, age },
        ..patient()
    }
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(flavor = "multi_thread")]
async fn a_request_hook_lets_a_request_pass_changes_it_or_answers_it() {
    let door = Door::open();
    let hook = door.hook(patient()).await;
    let all: Points = Point::ALL.into_iter().collect();
    assert_eq!(hook.function.deployment().kind, Kind::Hook(all));

    let next = hook.ask("/any?a=b").await;
    assert!(matches!(next, Ok(RequestAction::Next)), "{next:?}");

    let response = responded(hook.ask("/hook/respond").await);
    assert_eq!(response.status, 418);
    assert_eq!(response.headers["content-type"], "text/plain");
    assert_eq!(response.body.unwrap(), "made by the hook\n");
    let redirect = responded(hook.ask("/hook/redirect").await);
    assert_eq!((redirect.status.as_u16(), redirect.body), (301, None));
    assert_eq!(redirect.headers["location"], "/");

    let before = || request("/").headers;
    let rewritten = forwarded(hook.ask("/hook/rewrite?a=b").await);
    assert_eq!(rewritten.uri, "https://example.com/rewritten?a=b");
    assert_eq!((rewritten.origin, rewritten.cache_key), (None, None));
    let fields = changed(before(), rewritten.headers);
    assert_eq!(fields["x-client"], "192.0.2.1");
    assert_eq!(fields["accept"], "text/html");
    let elsewhere = forwarded(hook.ask("/hook/origin").await);
    assert_eq!(elsewhere.origin.as_deref(), Some("other"));
    assert_eq!(elsewhere.cache_key.as_deref(), Some("key"));
    let cookie = forwarded(hook.ask("/hook/cookie").await);
    assert_eq!(changed(before(), cookie.headers)["x-variant"], "b");
    assert_eq!(hook.text("/hook/country").await, "192.0.2.1 TLSv1.3 NZ");

    let seen = hook
        .on_request(Point::OriginRequest, &request("/any"))
        .await;
    let fields = changed(before(), forwarded(seen).headers);
    assert_eq!(fields["x-origin-request"], "seen");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_a_hook_hands_on_untouched_is_the_request_that_came() {
    let door = Door::open();
    let hook = door.hook(patient()).await;
    let uri = "http://[2001:db8::1]:8443/hook/same";
    for query in ["", "?", "?a=%20b&c=|", "?a?b"] {
        let request = Request::builder()
            .method("PROPFIND")
            .uri(format!("{uri}{query}"))
            .header("accept", "a")
            .header("accept", "b")
            .header("content-length", "17")
            .header("te", "trailers")
            .header("x-bytes", HeaderValue::from_bytes(b"\xff \t").unwrap());
        let head = request.body(()).unwrap().into_parts().0;
        let same = forwarded(hook.on_request(Point::ViewerRequest, &head).await);
        assert_eq!(same.method, head.method);
        assert_eq!(same.uri, head.uri);
        assert_eq!(same.headers, HeaderChanges::default());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_hook_lets_a_response_pass_or_replaces_it() {
    let door = Door::open();
    let hook = door.hook(patient()).await;
    let response = || {
        let response = Response::builder().status(206).header("etag", "\"1\"");
        response.header("content-length", "5").body(()).unwrap()
    };
    let before = || response().into_parts().0.headers;
    let next = hook.on_response(Point::ViewerResponse, "/hook/untouched", response());
    assert!(matches!(next.await, Ok(ResponseAction::Next)));
    for (point, field) in [
        (Point::OriginResponse, "x-origin-response"),
        (Point::ViewerResponse, "x-viewer-response"),
    ] {
        let seen = replaced(hook.on_response(point, "/", response()).await);
        assert_eq!((seen.status.as_u16(), seen.body), (206, None));
        let expected = [("etag", "\"1\""), (field, "seen"), ("content-length", "5")];
        let expected: HeaderMap = expected
            .into_iter()
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
            .collect();
        assert_eq!(changed(before(), seen.headers), expected);
    }
    let known = hook.on_response(Point::ViewerResponse, "/hook/client", response());
    let known = replaced(known.await);
    let fields = changed(before(), known.headers);
    assert_eq!(fields["x-client"], "192.0.2.1 TLSv1.3 NZ");
    // A body of its own has a length of its own.
    let own = hook.on_response(Point::ViewerResponse, "/hook/replace", response());
    let own = replaced(own.await);
    assert_eq!(own.status.as_u16(), 503);
    assert_eq!(own.body.unwrap(), "replaced\n");
    let fields = changed(before(), own.headers);
    assert_eq!(fields.len(), 1, "{fields:?}");
    assert_eq!(fields["content-length"], "9");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_hook_may_not_answer_is_a_bad_response_and_the_log_says_what() {
    let door = Door::open();
    let fuel = Some(1_000_000_000);
    let hook = door.hook(FunctionConfiguration { fuel, ..patient() }).await;
    for (what, reason) in [
        ("status", "status 199 is not from 200 to 599"),
        ("status-600", "status 600 is not"),
        (
            "body-of-204",
            "a response with status 204 No Content has no body",
        ),
        ("name", "header field `a b` has no valid name"),
        ("newline", "header field `a` has a value that"),
        ("fields", "300 header fields are more than 256"),
        (
            "field-bytes",
            "the header fields have more than 65536 bytes",
        ),
        ("fields-more", "303 header fields are more than 256"),
        ("changes", "513 changes to header fields are more than 512"),
        ("body", "the body is 1048577 bytes, and 1048576 is the most"),
        ("path", "path `rewritten` is not one"),
        ("path-control", r"path `/a\r\nb` is not one"),
        ("path-query", "path `/a?b` is not one"),
        ("path-dots", "path `/a/%2e./b` has a segment"),
        ("query", "query `a#b` is not one"),
        ("method", "method `GE T` is not"),
        ("authority", "authority `user@host` is not"),
        ("host", "header field `host`: the authority says which host"),
    ] {
        let action = hook.ask(&format!("/hook/bad/{what}")).await;
        let Err(outcome) = action else {
            panic!("{what}: {action:?}");
        };
        assert_eq!(outcome, Outcome::BadResponse, "{what}");
        let log = hook.log().await;
        let line = format!("bad_response: {reason}");
        assert!(log.contains(&line), "{what}: {log}");
    }
    // More than a hook may hand over at all is not looked at.
    let huge = hook.ask("/hook/bad/huge").await;
    assert_eq!(huge.unwrap_err(), Outcome::Trap);
    let log = hook.log().await;
    assert!(log.contains("too much data is being copied"), "{log}");

    let hops = responded(hook.ask("/hook/bad/hops").await);
    assert_eq!(hops.headers.len(), 1, "{:?}", hops.headers);
    assert_eq!(hops.headers["x-stays"], "1");
}

/// A component whose one hook answers with the bytes that `data` puts at 0, and allocates where `realloc` says.
fn crooked(data: &str, realloc: u32) -> Bytes {
    let module = format!(
        r#"(module
            (memory (export "memory") 32)
            {data}
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const {realloc}))
            (func (export "wharf:edge/viewer-request@0.1.0#handle") (param i32) (result i32)
                (i32.const 0)))"#
    );
    let mut module = wat::parse_str(module).unwrap();
    let mut resolve = Resolve::default();
    let wit = concat!(env!("CARGO_MANIFEST_DIR"), "/wit/deps/wharf-edge");
    let (package, _) = resolve.push_dir(wit).unwrap();
    let world = resolve.select_world(&[package], Some("viewer-request-hook"));
    embed_component_metadata(&mut module, &resolve, world.unwrap(), StringEncoding::UTF8).unwrap();
    let encoder = ComponentEncoder::default().module(&module).unwrap();
    encoder.validate(true).encode().unwrap().into()
}

/// Numbers as they lie in a guest's memory, from `at` on.
fn words(at: u32, words: &[u32]) -> String {
    let bytes = words.iter().flat_map(|word| word.to_le_bytes());
    let bytes: String = bytes.map(|byte| format!("\\{byte:02x}")).collect();
    format!(r#"(data (i32.const {at}) "{bytes}")"#)
}

#[tokio::test]
async fn what_is_not_even_an_answer_ends_the_instance_and_takes_the_node_little() {
    /// The case `respond`, status 200, then the fields: where and how many; no body.
    const RESPOND: [u32; 2] = [2, 200];
    let door = Door::open();
    // So many fields, each of them the same.
    let fields = |count: u32, field: [u32; 4]| {
        let answer = words(0, &[RESPOND[0], RESPOND[1], 1024, count, 0]);
        answer + &words(1024, &field.repeat(count as usize))
    };
    let name = |bytes: &str| format!(r#"(data (i32.const 512) "{bytes}")"#);
    for (what, component, outcome, line) in [
        (
            "an action that is none",
            crooked(&words(0, &[7]), 65536),
            Outcome::Trap,
            "trap",
        ),
        (
            "fields beyond its memory",
            crooked(&words(0, &[2, 200, 1 << 30, 5]), 65536),
            Outcome::Trap,
            "trap",
        ),
        (
            "a head that has no place",
            crooked(&words(0, &[0]), u32::MAX - 8),
            Outcome::Trap,
            "trap",
        ),
        (
            "a name that is no text",
            crooked(&(name(r"\ff") + &fields(1, [512, 1, 512, 1])), 1 << 20),
            Outcome::Trap,
            "trap",
        ),
        (
            "a megabyte, a thousand times over",
            crooked(
                &(name("a") + &fields(1000, [512, 1, 65536, 1 << 20])),
                1 << 20,
            ),
            Outcome::Trap,
            "too much data is being copied",
        ),
        (
            "fields by the ten thousand",
            crooked(&(name("a") + &fields(50_000, [512, 1, 512, 1])), 1 << 20),
            Outcome::BadResponse,
            "50000 header fields are more than 256",
        ),
    ] {
        let code = door.blobs.put(component).await.unwrap();
        let kind = door.runtime.compile(&door.blobs.path(&code), &code).await;
        let hook = door.deployed(code, kind.unwrap(), reuse(1000, HOUR));
        let started = Instant::now();
        assert_eq!(hook.ask("/").await.unwrap_err(), outcome, "{what}");
        assert!(started.elapsed() < Duration::from_secs(2), "{what}");
        // What answered in form is used again, what did not is gone.
        let kept = usize::from(outcome == Outcome::BadResponse);
        assert_eq!(hook.function.idle(), kept, "{what}");
        let log = hook.log().await;
        assert!(log.contains(line), "{what}: {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_has_tight_limits_unless_its_configuration_gives_it_others() {
    let door = Door::open();
    let hook = door.hook(FunctionConfiguration::default()).await;
    let limits = hook.function.deployment().limits();
    assert_eq!(limits.timeout, Duration::from_millis(10));
    assert_eq!((limits.fuel, limits.memory), (1_000_000, ByteSize::mb(16)));

    let patient = door.hook(patient()).await;
    assert_eq!(
        patient.ask("/hook/loop").await.unwrap_err(),
        Outcome::OutOfFuel
    );
    assert_eq!(patient.ask("/hook/trap").await.unwrap_err(), Outcome::Trap);
    let more_fuel = FunctionConfiguration {
        fuel: Some(1 << 50),
        ..FunctionConfiguration::default()
    };
    let busy = door.hook(more_fuel.clone()).await;
    let started = Instant::now();
    let stopped = busy.ask("/hook/loop").await.unwrap_err();
    assert!(
        matches!(stopped, Outcome::Timeout | Outcome::OutOfCpu),
        "{stopped}"
    );
    assert!(started.elapsed() < Duration::from_secs(5));
    let hungry = door
        .hook(FunctionConfiguration {
            timeout: Some(Duration::from_secs(20)),
            ..more_fuel
        })
        .await;
    let stopped = hungry.ask("/hook/memory").await.unwrap_err();
    assert_eq!(stopped, Outcome::OutOfMemory);

    let log = patient.log().await;
    assert!(log.contains("this hook panics on purpose"), "{log}");
    for outcome in ["out_of_fuel", "trap", "out_of_memory"] {
        assert!(log.contains(&format!("Outcome: {outcome}")), "{log}");
    }
    let text = door.metrics.encode();
    let trapped = r#"wharf_requests_total{function="probe",outcome="trap"} 1"#;
    assert!(text.contains(trapped), "{text}");
}

// On one thread, where no instance is made ahead while these ask: which one answers is known.
#[tokio::test]
async fn nothing_of_one_request_is_there_for_the_next_unless_the_environment_is_reused() {
    let door = Door::open();
    let fresh = door.hook(patient()).await;
    for _ in 0..5 {
        assert_eq!(fresh.text("/hook/state").await, "1");
    }
    let reused = door.hook(reuse(3, HOUR)).await;
    let mut calls = Vec::new();
    for _ in 0..7 {
        calls.push(reused.text("/hook/state").await);
    }
    assert_eq!(calls, ["1", "2", "3", "1", "2", "3", "1"]);
    let old = door.hook(reuse(1000, Duration::from_millis(50))).await;
    assert_eq!(old.text("/hook/state").await, "1");
    assert_eq!(old.text("/hook/state").await, "2");
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(old.text("/hook/state").await, "1");
}

#[tokio::test]
async fn an_instance_that_failed_is_not_used_again() {
    let door = Door::open();
    for what in ["/hook/trap", "/hook/loop", "/hook/bad/huge"] {
        let hook = door.hook(reuse(1000, HOUR)).await;
        assert_eq!(hook.text("/hook/state").await, "1");
        assert_eq!(hook.text("/hook/state").await, "2");
        hook.ask(what).await.unwrap_err();
        assert_eq!(hook.text("/hook/state").await, "1", "after {what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_reads_the_stores_and_values_that_it_was_granted() {
    let door = Door::open();
    let granted = FunctionConfiguration {
        key_value: [("default".to_owned(), "flags".to_owned())].into(),
        config: [("flag".to_owned(), "of the configuration".to_owned())].into(),
        ..patient()
    };
    let value = b"of the store".to_vec();
    door.store.set("flags", "flag", value).await.unwrap();
    let hook = door.hook(granted).await;
    assert_eq!(hook.text("/hook/key-value").await, "of the store");
    assert_eq!(hook.text("/hook/config").await, "of the configuration");
    let other = door.hook(patient()).await;
    let refused = other.text("/hook/key-value").await;
    assert!(!refused.contains("of the store"), "{refused}");
    assert_eq!(other.text("/hook/config").await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_is_held_to_its_concurrency_and_asked_only_for_what_it_has() {
    let door = Door::open();
    let off = FunctionConfiguration {
        concurrency: Some(0),
        ..patient()
    };
    let hook = door.hook(off).await;
    assert_eq!(hook.ask("/").await.unwrap_err(), Outcome::Throttled);

    let hook = door.hook(patient()).await;
    let none = hook.on_request(Point::ViewerResponse, &request("/")).await;
    assert_eq!(none.unwrap_err(), Outcome::Internal);
    let deployment = hook.function.deployment();
    let only = Kind::Hook([Point::OriginRequest].into_iter().collect());
    let one = door.deployed(deployment.code, only, patient());
    assert_eq!(one.ask("/").await.unwrap_err(), Outcome::Internal);
    let log = one.log().await;
    assert!(
        log.contains("internal: it has no hook viewer-request"),
        "{log}"
    );
    assert_eq!(one.function.in_flight(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_is_deployed_like_a_function_and_invoked_by_nobody() {
    let node = Node::start().await;
    let bytes = guests::HOOK_PROBE.bytes();
    let hook = node
        .try_function("probe", bytes.clone(), FunctionConfiguration::default())
        .await
        .unwrap();
    let functions = node.client.functions().await.unwrap();
    let all: Points = Point::ALL.into_iter().collect();
    assert_eq!(functions[0].kind, Kind::Hook(all));
    assert_eq!(functions[0].url, None);
    let timeout = functions[0].configuration.timeout;
    assert_eq!(timeout, Some(Duration::from_millis(10)));

    let reply = hook.get("/").await;
    assert_eq!((reply.status(), reply.error()), (404, "no_route"));
    for kind in ["RequestResponse", "Event", "DryRun"] {
        let refused = node.client.invoke("probe", "{}".into(), kind, false).await;
        let said = refused.unwrap_err().to_string();
        assert!(said.contains("it is a request hook"), "{kind}: {said}");
    }

    let code = node.client.upload(bytes).await.unwrap();
    let route = Route {
        pattern: RoutePattern {
            host: None,
            path: "/".parse().unwrap(),
            methods: Vec::new(),
        },
        answer: Answer::Function("hook".parse().unwrap()),
    };
    let deploy = Deploy {
        app: Some("site".to_owned()),
        functions: vec![DeployFunction {
            name: "hook".parse().unwrap(),
            code,
            configuration: FunctionConfiguration::default(),
        }],
        distributions: Vec::new(),
        routes: vec![route],
    };
    let said = node.client.deploy(&deploy).await.unwrap_err().to_string();
    assert!(
        said.contains("a route leads to `hook`, which answers no requests"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn lambdas_api_deploys_a_hook_which_has_its_own_limits_and_is_not_invoked() {
    let node = Node::start().await;
    let zip = zips::zip(&[("bootstrap.wasm", &guests::HOOK_PROBE.bytes())]);
    let create = json!({
        "FunctionName": "probe",
        "Role": "arn:aws:iam::000000000000:role/any",
        "Runtime": "provided.al2023",
        "Handler": "bootstrap",
        "Code": {"ZipFile": BASE64.encode(zip)},
    });
    let functions = "/2015-03-31/functions";
    let created = node.authorized(Method::POST, functions).json(&create);
    let created = Reply::of(created).await;
    assert_eq!(created.status(), 201, "{created:?}");
    let configuration = eventually(async || {
        let path = format!("{functions}/probe/configuration");
        let found = Reply::of(node.authorized(Method::GET, &path)).await.json();
        (found["State"] != "Pending").then_some(found)
    })
    .await;
    assert_eq!(configuration["State"], "Active", "{configuration}");
    assert_eq!(configuration["MemorySize"], 16);
    assert_eq!(configuration["Timeout"], 1, "10 ms, in whole seconds");

    for kind in ["RequestResponse", "Event", "DryRun"] {
        let path = format!("{functions}/probe/invocations");
        let call = node.authorized(Method::POST, &path).body("{}");
        let refused = Reply::of(call.header("x-amz-invocation-type", kind)).await;
        assert_eq!(refused.status(), 400, "{refused:?}");
        let said = refused.text();
        assert!(said.contains("it is a request hook"), "{kind}: {said}");
    }
}

/// Whatever would invoke a hook is refused when it is made, and says what hooks are for.
#[tokio::test(flavor = "multi_thread")]
async fn a_hook_has_no_url_no_events_and_no_source_of_them() {
    let node = Node::start().await;
    let configuration = FunctionConfiguration::default;
    node.function("probe", guests::HOOK_PROBE, configuration())
        .await;
    node.function("other", guests::HELLO, configuration()).await;
    let functions = "2015-03-31/functions/probe";
    let published = node.authorized(Method::POST, &format!("/{functions}/versions"));
    assert_eq!(Reply::of(published.json(&json!({}))).await.status(), 201);
    let alias = node.authorized(Method::POST, &format!("/{functions}/aliases"));
    let alias = alias.json(&json!({"Name": "live", "FunctionVersion": "1"}));
    assert_eq!(Reply::of(alias).await.status(), 201, "an alias is a name");
    let url = json!({"AuthType": "NONE"});
    let retries = json!({"MaximumRetryAttempts": 1});
    let queue = "arn:aws:sqs:us-east-1:000000000000:work";
    let probe = "arn:aws:lambda:us-east-1:000000000000:function:probe";
    for (method, path, body) in [
        (
            Method::POST,
            "2021-10-31/functions/probe/url".to_owned(),
            url.clone(),
        ),
        (
            Method::POST,
            "2021-10-31/functions/probe/url?Qualifier=live".to_owned(),
            url,
        ),
        (
            Method::PUT,
            "2019-09-25/functions/probe/event-invoke-config".to_owned(),
            retries,
        ),
        (
            Method::PUT,
            "2019-09-25/functions/other/event-invoke-config".to_owned(),
            json!({"DestinationConfig": {"OnSuccess": {"Destination": probe}}}),
        ),
        (
            Method::POST,
            "2015-03-31/event-source-mappings".to_owned(),
            json!({"FunctionName": "probe", "EventSourceArn": queue}),
        ),
        (
            Method::POST,
            "2015-03-31/event-source-mappings".to_owned(),
            json!({"FunctionName": "probe:live", "EventSourceArn": queue}),
        ),
    ] {
        let call = node.authorized(method, &format!("/{path}")).json(&body);
        let refused = Reply::of(call).await;
        assert_eq!(refused.status(), 400, "{path}: {refused:?}");
        let said = refused.text();
        assert!(said.contains("it is a request hook"), "{path}: {said}");
        assert!(said.contains("a distribution"), "{path}: {said}");
    }
}

/// Prints what a call of a hook costs: a viewer-request hook that looks at a cookie and sets a header, on a request as a
/// browser sends it. The thread's processor time has what makes instances ahead, the process's what writes the log.
/// Run it with `--ignored --nocapture`, optimised.
#[tokio::test]
#[ignore = "a measurement"]
async fn what_a_call_costs() {
    const CALLS: u32 = 20_000;
    let door = Door::open();
    let head = Request::get("https://example.com/hook/cookie?page=2")
        .header("accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8")
        .header("accept-encoding", "gzip, deflate, br, zstd")
        .header("accept-language", "en-GB,en;q=0.5")
        .header("cookie", "session=0123456789abcdef; theme=dark; variant=b")
        .header("sec-fetch-dest", "document")
        .header("sec-fetch-mode", "navigate")
        .header("sec-fetch-site", "same-origin")
        .header(
            "user-agent",
            "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Firefox/145.0",
        )
        .header("x-forwarded-for", "192.0.2.1")
        .header("x-forwarded-proto", "https");
    let head = head.body(()).unwrap().into_parts().0;
    for (name, configuration) in [
        ("fresh", FunctionConfiguration::default()),
        (
            "reuse",
            FunctionConfiguration {
                isolation: Isolation::REUSE,
                ..FunctionConfiguration::default()
            },
        ),
    ] {
        let hook = door.hook(configuration).await;
        for round in 0..4 {
            let thread = cpu(ClockId::ThreadCPUTime);
            let process = cpu(ClockId::ProcessCPUTime);
            for _ in 0..CALLS {
                let action = hook.on_request(Point::ViewerRequest, &head).await;
                let fields = changed(head.headers.clone(), forwarded(action).headers);
                assert_eq!(fields["x-variant"], "b");
                tokio::task::yield_now().await;
            }
            let thread = cpu(ClockId::ThreadCPUTime) - thread;
            let process = cpu(ClockId::ProcessCPUTime) - process;
            if round > 0 {
                println!(
                    "{name}: {:?} of the thread, {:?} of the process",
                    thread / CALLS,
                    process / CALLS
                );
            }
        }
        let log = hook.log().await;
        let report = log.lines().rfind(|line| line.starts_with("REPORT"));
        println!("{}", report.unwrap_or_default());
    }
}

/// Processor time so far.
fn cpu(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    let (seconds, nanoseconds) = (time.tv_sec.cast_unsigned(), time.tv_nsec.cast_unsigned());
    Duration::from_secs(seconds) + Duration::from_nanos(nanoseconds)
}
