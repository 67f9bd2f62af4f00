//! What guests do on purpose, and what comes of it: each misbehaviour has its outcome, and a hello beside it keeps
//! answering while it goes on and after.
//!
//! The guests and what each of their paths does are in `tests/guests/README.md`.

use std::time::Duration;

use crate::support::{Function, Node, Reply, eventually, guests};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use wharf::model::{ByteSize, FunctionConfiguration, Isolation};

/// A function that is well-behaved, asked again and again while others are not.
struct Bystander {
    stop: CancellationToken,
    asking: JoinHandle<u32>,
}

impl Bystander {
    async fn on(node: &Node) -> Self {
        let hello = node
            .function("hello", guests::HELLO, FunctionConfiguration::default())
            .await;
        assert_eq!(hello.get("/").await.text(), "hello\n");
        let request = hello.request(reqwest::Method::GET, "/");
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let asking = tokio::spawn(async move {
            let mut answers = 0;
            while !stopped.is_cancelled() {
                let request = request.try_clone().unwrap();
                let reply = tokio::time::timeout(Duration::from_secs(2), Reply::of(request)).await;
                assert_eq!(reply.unwrap().text(), "hello\n");
                answers += 1;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            answers
        });
        Self { stop, asking }
    }

    /// It has answered all the time.
    async fn was_not_harmed(self) {
        self.stop.cancel();
        assert!(self.asking.await.unwrap() > 0);
    }
}

/// Short limits, so that what runs into them does so soon.
fn tight() -> FunctionConfiguration {
    FunctionConfiguration {
        timeout: Some(Duration::from_millis(700)),
        memory: Some(ByteSize::mb(16)),
        // More than any machine burns in that time: a fast one is through the default in less.
        fuel: Some(1 << 50),
        ..FunctionConfiguration::default()
    }
}

/// The same with time enough for a machine that is busy with other tests.
fn patient() -> FunctionConfiguration {
    FunctionConfiguration {
        timeout: Some(Duration::from_secs(20)),
        ..tight()
    }
}

fn fuel(fuel: u64) -> FunctionConfiguration {
    FunctionConfiguration {
        fuel: Some(fuel),
        ..patient()
    }
}

/// One case: what is asked of the guest, and what comes of it.
struct Case {
    path: &'static str,
    status: u16,
    /// The word in the record; also that of the header, if the status is not 200.
    outcome: &'static str,
    /// Whether the body came to its end.
    complete: bool,
}

const fn fails(path: &'static str, status: u16, outcome: &'static str) -> Case {
    Case {
        path,
        status,
        outcome,
        complete: true,
    }
}

/// The head was sent before it failed: the body ends early, and not as if it were complete.
const fn breaks_off(path: &'static str, outcome: &'static str) -> Case {
    Case {
        path,
        status: 200,
        outcome,
        complete: false,
    }
}

/// Tries all, and says of all that are not as they should be.
async fn try_all(function: &Function<'_>, cases: &[Case]) {
    let mut wrong = Vec::new();
    for case in cases {
        let reply = function.get(case.path).await;
        let report = function.report(&reply).await;
        let word = if case.status == 200 { "" } else { case.outcome };
        if (reply.status(), reply.error(), reply.complete) != (case.status, word, case.complete)
            || report.outcome() != case.outcome
        {
            wrong.push(format!("{}: {reply:?}\n    {}", case.path, report.0));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_failure_has_its_outcome_and_harms_nobody_else() {
    let node = Node::start().await;
    let bystander = Bystander::on(&node).await;
    let hostile = node.function("hostile", guests::HOSTILE, patient()).await;
    try_all(
        &hostile,
        &[
            fails("/trap", 502, "trap"),
            fails("/panic", 502, "trap"),
            fails("/exit", 502, "trap"),
            fails("/recursion", 502, "trap"),
            fails("/random", 502, "trap"),
            fails("/memory", 502, "out_of_memory"),
            fails("/handles", 502, "out_of_memory"),
            fails("/fields", 502, "out_of_memory"),
            fails("/no-answer", 502, "bad_response"),
            fails("/error", 502, "function_error"),
            fails("/unfinished", 502, "bad_response"),
            fails("/too-short", 502, "bad_response"),
            fails("/too-long", 502, "bad_response"),
        ],
    )
    .await;
    let panicked = hostile.get("/panic").await;
    let log = hostile.log_of(&panicked).await;
    let said = |words| log.iter().any(|line| line.message.contains(words));
    assert!(said("this function panics on purpose"), "{log:?}");
    assert!(said("trap: "), "the log has the cause: {log:?}");

    let hostile = node.function("hostile", guests::HOSTILE, tight()).await;
    try_all(
        &hostile,
        &[
            fails("/never", 504, "timeout"),
            fails("/sleep?ms=2000", 504, "timeout"),
            breaks_off("/hang-after", "timeout"),
            breaks_off("/slow-body?bytes=50&ms=100", "timeout"),
            breaks_off("/endless", "timeout"),
        ],
    )
    .await;
    assert_eq!(hostile.get("/").await.text(), "hello\n");
    bystander.was_not_harmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_traps_after_its_head_has_no_complete_answer() {
    let node = Node::start().await;
    let hostile = node.function("hostile", guests::HOSTILE, tight()).await;
    for _ in 0..10 {
        // Whether the head is out before the trap is a race; that the body is cut short is not.
        let reply = hostile.get("/trap-after").await;
        assert!(
            reply.error() == "trap" || (reply.status() == 200 && !reply.complete),
            "{reply:?}"
        );
        assert_eq!(hostile.report(&reply).await.outcome(), "trap");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_loop_meets_whichever_limit_is_lowest() {
    let node = Node::start().await;
    let bystander = Bystander::on(&node).await;
    let cpu = FunctionConfiguration {
        cpu: Some(Duration::from_millis(100)),
        ..patient()
    };
    for (configuration, status, outcome) in [
        (tight(), 504, "timeout"),
        (fuel(1_000_000), 502, "out_of_fuel"),
        (cpu, 502, "out_of_cpu"),
    ] {
        let function = node.function("loop", guests::HOSTILE, configuration).await;
        try_all(
            &function,
            &[
                fails("/loop", status, outcome),
                fails("/host-calls", status, outcome),
            ],
        )
        .await;
        // What has its answer keeps it; the record says how it ended.
        let reply = function.get("/loop-after").await;
        assert_eq!(reply.status(), 200);
        assert_eq!(function.report(&reply).await.outcome(), outcome);
    }
    bystander.was_not_harmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_into_the_host_are_held_to_processor_time_within_a_margin() {
    let node = Node::start().await;
    let bystander = Bystander::on(&node).await;
    let hostile = node.function("hostile", guests::HOSTILE, tight()).await;
    for path in ["/host-calls", "/heavy-host-calls?bytes=65536", "/fields"] {
        let reply = hostile.get(path).await;
        let report = hostile.report(&reply).await;
        assert!(
            ["timeout", "out_of_cpu", "out_of_memory"].contains(&reply.error()),
            "{path}: {reply:?}"
        );
        // Limits are looked at when the guest yields, which calls into the host do not make it do: hence the margin, and
        // no promise of the deadline. Processor time, because the machine may be busy with other tests; of the first turn, which these
        // calls make long, it is the time that passed, so that they have a part in it all the same.
        let cpu = report.number("CPU");
        assert!(cpu < 3000.0, "{path}: {cpu} ms, and 700 ms are allowed");
    }
    bystander.was_not_harmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memories_and_tables_are_bounded_together_from_the_first_page() {
    let node = Node::start().await;
    let bystander = Bystander::on(&node).await;
    for guest in [guests::TABLE_BOMB, guests::INITIAL_MEMORY] {
        let function = node.function("bomb", guest, tight()).await;
        try_all(&function, &[fails("/", 502, "out_of_memory")]).await;
    }
    let refused = node
        .try_function("bomb", guests::MANY_MEMORIES.bytes(), tight())
        .await;
    let refused = refused.err().unwrap().to_string();
    assert!(
        refused.contains("exceeds the configured maximum"),
        "{refused}"
    );
    let hostile = node.function("hostile", guests::HOSTILE, tight()).await;
    let reply = hostile.get("/memory-refused").await;
    let pages = reply.json()["pages"].as_u64().unwrap();
    assert!((240..=256).contains(&pages), "{pages} pages of 64 KiB");
    let report = hostile.report(&reply).await;
    assert_eq!(report.outcome(), "ok");
    assert!(report.number("Max Memory Used") <= 16.0);
    bystander.was_not_harmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_at_the_start_ends_at_the_limits_and_is_never_warm() {
    let node = Node::start().await;
    let bystander = Bystander::on(&node).await;
    let warm = FunctionConfiguration {
        pool: wharf::model::Pool { min: 2 },
        ..tight()
    };
    for (configuration, status, outcome) in [
        (tight(), 504, "timeout"),
        (fuel(20_000_000), 502, "out_of_fuel"),
        (warm, 504, "timeout"),
    ] {
        let function = node
            .function("start", guests::START_LOOP, configuration)
            .await;
        try_all(&function, &[fails("/", status, outcome)]).await;
    }
    node.client.remove("start").await.unwrap();
    bystander.was_not_harmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_stream_within_the_deadline_and_stop_with_their_reader() {
    let node = Node::start().await;
    let bystander = Bystander::on(&node).await;
    let patient = FunctionConfiguration {
        timeout: Some(Duration::from_secs(20)),
        ..tight()
    };
    let hostile = node.function("hostile", guests::HOSTILE, patient).await;
    assert_eq!(
        hostile.get("/slow-body?bytes=5&ms=50").await.text(),
        "....."
    );
    assert_eq!(
        hostile.get("/body?bytes=5000000").await.body.len(),
        5_000_000
    );
    assert_eq!(hostile.get("/loop-after").await.status(), 200);

    // A client that reads a little and goes.
    let request = hostile.request(reqwest::Method::GET, "/endless");
    let mut response = request.send().await.unwrap();
    assert!(response.chunk().await.unwrap().is_some());
    drop(response);
    hostile.reported("cancelled").await;

    // A client that goes before there is an answer.
    let request = hostile.request(reqwest::Method::GET, "/never").send();
    assert!(
        tokio::time::timeout(Duration::from_millis(300), request)
            .await
            .is_err()
    );
    let cancelled = async || {
        let reports = hostile.reports().await;
        let cancelled = reports.iter().filter(|one| one.outcome() == "cancelled");
        (cancelled.count() == 2).then_some(())
    };
    eventually(cancelled).await;
    bystander.was_not_harmed().await;
    // Nothing of them is left.
    eventually(async || (node.client.node().await.unwrap().in_flight == 0).then_some(())).await;
    eventually(async || (node.client.node().await.unwrap().free_slots == 100).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_holds_a_guest_no_longer_than_its_deadline() {
    let node = Node::start().await;
    let hostile = node.function("hostile", guests::HOSTILE, tight()).await;
    let request = hostile.request(reqwest::Method::GET, "/endless");
    let mut response = request.send().await.unwrap();
    // The guest is gone, while what it wrote still waits to be read.
    eventually(async || (node.client.node().await.unwrap().free_slots == 100).then_some(())).await;
    let incomplete = loop {
        match response.chunk().await {
            Ok(Some(_)) => {}
            Ok(None) => break false,
            Err(_) => break true,
        }
    };
    assert!(incomplete);
    hostile.reported("timeout").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_http_is_refused_to_the_guest_or_instead_of_its_answer() {
    let node = Node::start().await;
    let hostile = node
        .function("hostile", guests::HOSTILE, FunctionConfiguration::default())
        .await;

    let split = hostile.get("/split").await;
    assert!(split.headers.get("x-injected").is_none(), "{split:?}");
    assert!(split.headers.get("upgrade").is_none(), "{split:?}");
    assert!(split.headers.get("keep-alive").is_none(), "{split:?}");
    let refused = split.json()["refused"].as_array().unwrap().len();
    assert!(refused >= 9, "{split:?}");

    assert_eq!(hostile.get("/status?code=418").await.status(), 418);
    for code in [0, 99, 1000, 70_000] {
        let reply = hostile.get(&format!("/status?code={code}")).await;
        assert_eq!(reply.json()["refused"], code);
    }
    // Statuses that would change how the connection goes on.
    for code in [100, 101, 103] {
        let reply = hostile.get(&format!("/status?code={code}")).await;
        let found = (reply.status(), reply.error());
        let log = hostile.log_of(&reply).await;
        assert_eq!(found, (502, "bad_response"), "{code}: {log:?}");
        assert_eq!(hostile.report(&reply).await.outcome(), "bad_response");
    }
    // wasi:http 0.2 has no word for fields that are too large: the guest ends there.
    let huge = hostile.get("/huge-headers").await;
    assert_eq!((huge.status(), huge.error()), (502, "trap"));
    let log = hostile.log_of(&huge).await;
    let said = |words| log.iter().any(|line| line.message.contains(words));
    assert!(said("total size of fields exceeds limit"), "{log:?}");
    assert_eq!(hostile.get("/").await.text(), "hello\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_log_is_cut_with_one_line_that_says_so() {
    let node = Node::start().await;
    let bystander = Bystander::on(&node).await;
    let hostile = node.function("hostile", guests::HOSTILE, patient()).await;
    let reply = hostile.get("/log-flood").await;
    assert_eq!(reply.text(), "logged\n");
    let lines = hostile.log_of(&reply).await;
    let printed = lines.iter().filter(|line| line.message.starts_with("xxx"));
    let printed: usize = printed.map(|line| line.message.len()).sum();
    assert!(
        (200 << 10..=256 << 10).contains(&printed),
        "{printed} bytes"
    );
    let truncated = lines
        .iter()
        .filter(|line| line.message.starts_with("truncated: "));
    assert_eq!(truncated.count(), 1);
    bystander.was_not_harmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_private_is_reached_unless_it_was_granted() {
    let node = Node::start().await;
    let port = node.http.port();
    let closed = node.function("closed", guests::HOSTILE, tight()).await;
    for host in [
        "127.0.0.1",
        "127.1.2.3",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "169.254.169.254",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "0.0.0.0",
        "[::]",
        "[fe80::1]",
        "[fd00::1]",
        "localhost",
        "hello.localhost",
        "LOCALHOST.",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "user@127.0.0.1",
    ] {
        let reply = closed
            .get(&format!("/fetch?url=http://{host}:{port}/"))
            .await;
        assert!(reply.json()["error"].is_string(), "{host}: {reply:?}");
    }
    let reports = closed.log().await;
    assert!(
        reports
            .iter()
            .any(|line| line.message.contains("outbound request to 127.0.0.1")),
        "the function's log says why"
    );

    // A place beside the node, and a name for it.
    let (host, port) = ("localhost".to_owned(), origin().await);
    let open = FunctionConfiguration {
        outbound: vec![wharf::model::OutboundGrant { host, port }],
        ..patient()
    };
    let open = node.function("open", guests::HOSTILE, open).await;
    let url = format!("http://localhost:{port}/");
    let reply = open.get(&format!("/fetch?url={url}")).await;
    assert_eq!(reply.json()["body"], "hello\n", "{reply:?}");
    let other = open
        .get(&format!("/fetch?url=http://127.0.0.1:{port}/"))
        .await;
    assert!(other.json()["error"].is_string(), "only what was granted");

    let flood = open.get(&format!("/outbound-flood?url={url}")).await.json();
    assert_eq!(flood["answered"], 50, "{flood}");
    assert_eq!(flood["refused"], 250, "{flood}");
}

/// A server that is not a node's: `hello` to whoever connects. Gives its port.
async fn origin() -> u16 {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 4096];
                while stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhello\n";
                    if stream.write_all(answer).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_the_node_is_seen_from_inside() {
    let node = Node::start().await;
    let configuration = FunctionConfiguration {
        environment: [("GREETING".to_owned(), "hi".to_owned())].into(),
        tmp: ByteSize::mb(2),
        ..FunctionConfiguration::default()
    };
    let hostile = node
        .function("hostile", guests::HOSTILE, configuration)
        .await;
    for path in [
        "/etc/passwd",
        "/proc/self/environ",
        "/",
        "..",
        "../../../../etc/passwd",
        "/tmp/../../etc/passwd",
        "/tmp/../etc/hostname",
    ] {
        let seen = hostile.get(&format!("/files?path={path}")).await.json();
        assert!(seen["read"]["error"].is_string(), "{path}: {seen}");
        assert!(seen["link"]["error"].is_string(), "{path}: {seen}");
        let listed = &seen["list"]["ok"];
        assert!(
            listed.is_null() || *listed == serde_json::json!(["tmp"]),
            "{path}: {seen}"
        );
    }
    let sockets = hostile.get("/sockets").await.json();
    let errors = sockets.as_object().unwrap().values();
    assert_eq!(
        errors.filter(|one| one["error"].is_string()).count(),
        6,
        "{sockets}"
    );
    let seen = hostile.get("/environment").await.json();
    assert_eq!(seen["variables"], serde_json::json!({"GREETING": "hi"}));
    assert_eq!(seen["arguments"], serde_json::json!(["hostile"]));

    let written = hostile.get("/tmp-write?bytes=1000000").await.json();
    assert_eq!(written["written"], 1_000_000, "{written}");
    let written = hostile.get("/tmp-write?bytes=10000000").await.json();
    assert!(written["written"].as_u64().unwrap() <= 2 << 20, "{written}");
    assert!(written["result"]["error"].is_string(), "{written}");

    let clock = hostile.get("/clock?ms=10").await.json();
    assert!(clock["slept_us"].as_u64().unwrap() >= 10_000, "{clock}");
    let refused = hostile.get("/kv-flood").await.json();
    assert_eq!(refused["values"], 0, "no store was granted: {refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_value_store_takes_so_much_and_no_more() {
    let node = Node::start().await;
    let bystander = Bystander::on(&node).await;
    let configuration = FunctionConfiguration {
        key_value: [("default".to_owned(), "store".to_owned())].into(),
        timeout: Some(Duration::from_secs(50)),
        ..FunctionConfiguration::default()
    };
    let hostile = node
        .function("hostile", guests::HOSTILE, configuration)
        .await;
    let flood = hostile.get("/kv-flood?bytes=2000000").await.json();
    assert_eq!(flood["values"], 0, "a value may have 1 MB: {flood}");
    let flood = hostile.get("/kv-flood?bytes=1000000").await.json();
    let bytes = flood["values"].as_u64().unwrap() * 1_000_000;
    assert!((200_000_000..=256 << 20).contains(&bytes), "{flood}");
    assert!(flood["refused"].is_string(), "{flood}");
    bystander.was_not_harmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn state_outlives_a_request_only_where_that_was_asked_for() {
    // One slot: there is one instance at a time, so its count says which one answered.
    let one_slot = || Node::start_with(|config| config.engine.slots = 1);
    let requests = async |function: &Function<'_>| -> Vec<u64> {
        let mut seen = Vec::new();
        for _ in 0..7 {
            // With one slot, a request may be shed while the instance that was made ahead waits: see
            // `who_waits_for_an_instance_gets_one_that_comes_back`. No instance counts such a request.
            let reply = eventually(async || {
                let reply = function.get("/state").await;
                (reply.error() != "overloaded").then_some(reply)
            });
            let reply = reply.await;
            let count = reply.json()["requests"].as_u64();
            seen.push(count.unwrap_or_else(|| panic!("{reply:?}")));
        }
        seen
    };
    let reuse = |requests| FunctionConfiguration {
        isolation: Isolation::Reuse {
            requests,
            age: Duration::from_secs(60),
        },
        ..tight()
    };
    let node = one_slot().await;
    let fresh = node.function("fresh", guests::HOSTILE, tight()).await;
    assert_eq!(requests(&fresh).await, [1; 7]);

    let node = one_slot().await;
    let three = node.function("three", guests::HOSTILE, reuse(3)).await;
    assert_eq!(requests(&three).await, [1, 2, 3, 1, 2, 3, 1]);

    // A failure ends an instance, and so does a refused growth that it survived.
    let node = one_slot().await;
    let many = node.function("many", guests::HOSTILE, reuse(1000)).await;
    for failure in ["/trap", "/sleep?ms=2000", "/memory", "/memory-refused"] {
        assert_eq!(
            requests(&many).await,
            [1, 2, 3, 4, 5, 6, 7],
            "before {failure}"
        );
        eventually(async || {
            let reply = many.get(failure).await;
            (reply.error() != "overloaded").then_some(())
        })
        .await;
    }
    assert_eq!(requests(&many).await, [1, 2, 3, 4, 5, 6, 7]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_when_all_is_in_use_is_told_to_come_again() {
    let node = Node::start_with(|config| config.concurrency = 3).await;
    let slow = FunctionConfiguration {
        concurrency: Some(2),
        ..FunctionConfiguration::default()
    };
    let slow = node.function("slow", guests::HOSTILE, slow).await;
    let other = node
        .function("other", guests::HOSTILE, FunctionConfiguration::default())
        .await;
    let asleep = |function: &Function<'_>| {
        let request = function.request(reqwest::Method::GET, "/sleep?ms=1500");
        tokio::spawn(Reply::of(request))
    };
    let inside = async |count| {
        eventually(async || (node.client.node().await.unwrap().in_flight == count).then_some(()))
            .await;
    };
    let mut sleeping = vec![asleep(&slow), asleep(&slow)];
    inside(2).await;
    let reply = slow.get("/").await;
    assert_eq!((reply.status(), reply.error()), (429, "throttled"));
    assert_eq!(reply.header("retry-after"), "1");
    assert_eq!(other.get("/").await.text(), "hello\n");

    sleeping.push(asleep(&other));
    inside(3).await;
    let reply = other.get("/").await;
    assert_eq!((reply.status(), reply.error()), (503, "overloaded"));
    assert_eq!(reply.header("retry-after"), "1");
    for sleeping in sleeping {
        assert_eq!(sleeping.await.unwrap().text(), "slept\n");
    }
    assert_eq!(slow.get("/").await.text(), "hello\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn invocations_wait_a_moment_for_an_instance_and_are_then_shed() {
    let node = Node::start_with(|config| config.engine.slots = 4).await;
    let slow = node
        .function("slow", guests::HOSTILE, FunctionConfiguration::default())
        .await;
    let ask = |path: &str| tokio::spawn(Reply::of(slow.request(reqwest::Method::GET, path)));
    // Four sleep; four more wait, and get the instances' places when those are done.
    let waited: Vec<_> = (0..8).map(|_| ask("/sleep?ms=400")).collect();
    for reply in waited {
        assert_eq!(reply.await.unwrap().text(), "slept\n");
    }
    let busy: Vec<_> = (0..4).map(|_| ask("/sleep?ms=2500")).collect();
    eventually(async || (node.client.node().await.unwrap().free_slots == 0).then_some(())).await;
    let reply = slow.get("/").await;
    assert_eq!((reply.status(), reply.error()), (503, "overloaded"));
    assert_eq!(reply.header("retry-after"), "1");
    for reply in busy {
        assert_eq!(reply.await.unwrap().text(), "slept\n");
    }
    assert_eq!(slow.get("/").await.text(), "hello\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_an_instance_gets_one_that_comes_back() {
    let node = Node::start_with(|config| config.engine.slots = 4).await;
    let reuse = FunctionConfiguration {
        isolation: Isolation::REUSE,
        timeout: Some(Duration::from_secs(20)),
        ..FunctionConfiguration::default()
    };
    let slow = node.function("slow", guests::HOSTILE, reuse).await;
    let ask = || Reply::of(slow.request(reqwest::Method::GET, "/sleep?ms=400"));
    let waited: Vec<_> = (0..8).map(|_| tokio::spawn(ask())).collect();
    let mut answers = Vec::new();
    for reply in waited {
        answers.push(reply.await.unwrap().error().to_owned());
    }
    assert_eq!(answers, [""; 8], "instances wait while requests are shed");
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_instances_of_one_function_make_room_for_another() {
    let node = Node::start_with(|config| config.engine.slots = 4).await;
    let reuse = FunctionConfiguration {
        isolation: Isolation::REUSE,
        timeout: Some(Duration::from_secs(20)),
        ..FunctionConfiguration::default()
    };
    let greedy = node.function("greedy", guests::HOSTILE, reuse).await;
    let other = node.function("other", guests::HELLO, patient()).await;
    let ask = || Reply::of(greedy.request(reqwest::Method::GET, "/sleep?ms=300"));
    futures::future::join_all((0..4).map(|_| ask())).await;
    let reply = other.get("/").await;
    assert_eq!((reply.status(), reply.error()), (200, ""));
}

/// Invokes with each event: the answer's `errorType` (empty for an answer), and the outcome in the log.
async fn try_events(function: &Function<'_>, cases: &[(serde_json::Value, &str, &str)]) {
    let mut wrong = Vec::new();
    for (event, error, outcome) in cases {
        let answer = function.invoke(event.clone()).await;
        let document: serde_json::Value =
            serde_json::from_slice(&answer.payload).unwrap_or_default();
        let found = match &answer.function_error {
            Some(_) => document["errorType"].as_str().unwrap_or("none").to_owned(),
            None => String::new(),
        };
        let log = answer.log.unwrap();
        if found != *error || !log.contains(&format!("Outcome: {outcome}\t")) {
            let most = answer.payload.len().min(200);
            let payload = String::from_utf8_lossy(&answer.payload[..most]).into_owned();
            wrong.push(format!("{event}: {found} {payload}\n    {log}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_of_events_are_held_to_the_same_limits() {
    use serde_json::json;
    let node = Node::start().await;
    let bystander = Bystander::on(&node).await;
    let roomy = FunctionConfiguration {
        memory: Some(ByteSize::mb(64)),
        ..patient()
    };
    let probe = node.function("probe", guests::EVENT_PROBE, roomy).await;
    try_events(
        &probe,
        &[
            (json!({"do": "echo"}), "", "ok"),
            (json!({"do": "panic"}), "Runtime.ExitError", "trap"),
            (json!({"do": "exit"}), "Runtime.ExitError", "trap"),
            (
                json!({"do": "memory"}),
                "Runtime.OutOfMemory",
                "out_of_memory",
            ),
            (json!({"do": "error"}), "ProbeError", "function_error"),
            (
                json!({"do": "bad-json"}),
                "Runtime.BadResponse",
                "bad_response",
            ),
            (
                json!({"do": "no-json"}),
                "Runtime.BadResponse",
                "bad_response",
            ),
            (
                json!({"do": "two-documents"}),
                "Runtime.BadResponse",
                "bad_response",
            ),
            (
                json!({"do": "big-answer"}),
                "Function.ResponseSizeTooLarge",
                "response_too_large",
            ),
            (
                json!({"do": "big-error"}),
                "Function.ResponseSizeTooLarge",
                "response_too_large",
            ),
            (json!({"do": "recurse"}), "InvokeError", "function_error"),
        ],
    )
    .await;
    // Whatever it is taken for, the node outlives it.
    probe.invoke(json!({"do": "deep-answer"})).await;
    let probe = node
        .function("probe", guests::EVENT_PROBE, fuel(20_000_000))
        .await;
    try_events(
        &probe,
        &[(json!({"do": "loop"}), "Runtime.OutOfFuel", "out_of_fuel")],
    )
    .await;
    let probe = node.function("probe", guests::EVENT_PROBE, tight()).await;
    try_events(
        &probe,
        &[
            (
                json!({"do": "sleep", "ms": 2000}),
                "Sandbox.Timedout",
                "timeout",
            ),
            (json!({"do": "loop"}), "Sandbox.Timedout", "timeout"),
        ],
    )
    .await;
    bystander.was_not_harmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_no_response_is_recorded_as_what_the_client_sees() {
    use serde_json::json;
    let node = Node::start().await;
    let probe = node
        .function(
            "probe",
            guests::EVENT_PROBE,
            FunctionConfiguration::default(),
        )
        .await;
    let post = async |answer: serde_json::Value| {
        let event = json!({"do": "answer", "with": answer}).to_string();
        let request = probe.request(reqwest::Method::POST, "/").body(event);
        Reply::of(request.header("content-type", "application/json")).await
    };
    assert_eq!(post(json!({"statusCode": 418})).await.status(), 418);
    let cases = [
        (json!({"statusCode": 99}), "not between 200 and 599"),
        (
            json!({"statusCode": 200, "headers": {"a b": "c"}}),
            "`a b` is not a header field",
        ),
        (
            json!({"statusCode": 200, "headers": {"content-length": "six"}}),
            "Content-Length is not one number",
        ),
    ];
    for (answer, why) in &cases {
        let reply = post(answer.clone()).await;
        let found = (reply.status(), reply.error());
        assert_eq!(found, (502, "bad_response"), "{answer}");
        assert_eq!(probe.report(&reply).await.outcome(), "bad_response");
        let log = probe.log_of(&reply).await;
        let said = format!("{log:?}");
        assert!(
            said.contains("bad_response: ") && said.contains(why),
            "{said}"
        );
    }
    for (outcome, count) in [("ok", 1.0), ("bad_response", 3.0)] {
        let name = format!("wharf_requests_total{{function=\"probe\",outcome=\"{outcome}\"}}");
        assert_eq!(node.metric(&name).await, count, "{outcome}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_are_held_to_the_same_limits() {
    use serde_json::json;
    let node = Node::start().await;
    let bystander = Bystander::on(&node).await;
    let command = node
        .function("command", guests::COMMAND_PROBE, patient())
        .await;
    try_events(
        &command,
        &[
            (json!({"do": "echo"}), "", "ok"),
            (json!({"do": "standard-error"}), "", "ok"),
            (
                json!({"do": "nothing"}),
                "Runtime.BadResponse",
                "bad_response",
            ),
            (
                json!({"do": "bad-json"}),
                "Runtime.BadResponse",
                "bad_response",
            ),
            (json!({"do": "exit"}), "Runtime.ExitError", "function_error"),
            (
                json!({"do": "exit-now"}),
                "Runtime.ExitError",
                "function_error",
            ),
            (json!({"do": "panic"}), "Runtime.ExitError", "trap"),
            (
                json!({"do": "flood"}),
                "Function.ResponseSizeTooLarge",
                "response_too_large",
            ),
        ],
    )
    .await;
    let command = node
        .function("command", guests::COMMAND_PROBE, tight())
        .await;
    try_events(
        &command,
        &[
            (
                json!({"do": "sleep", "ms": 2000}),
                "Sandbox.Timedout",
                "timeout",
            ),
            (json!({"do": "loop"}), "Sandbox.Timedout", "timeout"),
        ],
    )
    .await;
    bystander.was_not_harmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http_0_3_is_held_to_the_same_limits() {
    let node = Node::start().await;
    let bystander = Bystander::on(&node).await;
    let function = node.function("p3", guests::P3_HELLO, tight()).await;
    try_all(
        &function,
        &[
            fails("/sleep?ms=2000", 504, "timeout"),
            fails("/never", 504, "timeout"),
            fails("/loop", 504, "timeout"),
            breaks_off("/hang-after", "timeout"),
            breaks_off("/endless", "timeout"),
        ],
    )
    .await;
    let function = node.function("p3", guests::P3_HELLO, patient()).await;
    assert_eq!(function.get("/").await.text(), "hello\n");
    assert_eq!(function.post("/echo", "echo").await.text(), "echo");
    try_all(
        &function,
        &[
            fails("/trap", 502, "trap"),
            fails("/panic", 502, "trap"),
            fails("/memory", 502, "out_of_memory"),
            fails("/error", 502, "function_error"),
        ],
    )
    .await;
    let request = function.request(reqwest::Method::GET, "/endless");
    let mut response = request.send().await.unwrap();
    assert!(response.chunk().await.unwrap().is_some());
    drop(response);
    function.reported("cancelled").await;
    let function = node
        .function("p3", guests::P3_HELLO, fuel(20_000_000))
        .await;
    try_all(&function, &[fails("/loop", 502, "out_of_fuel")]).await;
    assert_eq!(function.get("/").await.text(), "hello\n");
    bystander.was_not_harmed().await;
}
