//! What guests do on purpose, and what comes of it: each misbehaviour has its outcome, and a hello beside it keeps
//! answering while it goes on and after.
//!
//! The guests and what each of their paths does are in `tests/guests/README.md`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::time::Duration;

use support::{
    Function, Node, Reply, eventually,
    guests::{self, Guest},
};
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
        timeout: Duration::from_millis(700),
        memory: ByteSize::mb(16),
        ..FunctionConfiguration::default()
    }
}

fn fuel(fuel: u64) -> FunctionConfiguration {
    FunctionConfiguration { fuel, ..tight() }
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
    let hostile = node.function("hostile", guests::HOSTILE, tight()).await;
    try_all(
        &hostile,
        &[
            fails("/loop", 504, "timeout"),
            fails("/host-calls", 504, "timeout"),
            fails("/never", 504, "timeout"),
            fails("/sleep?ms=2000", 504, "timeout"),
            fails("/trap", 502, "trap"),
            fails("/panic", 502, "trap"),
            fails("/exit", 502, "trap"),
            fails("/recursion", 502, "trap"),
            fails("/memory", 502, "out_of_memory"),
            fails("/handles", 502, "out_of_memory"),
            fails("/fields", 502, "out_of_memory"),
            fails("/no-answer", 502, "bad_response"),
            fails("/error", 502, "function_error"),
            breaks_off("/hang-after", "timeout"),
            breaks_off("/trap-after", "trap"),
            breaks_off("/unfinished", "bad_response"),
            breaks_off("/too-short", "bad_response"),
            breaks_off("/slow-body?bytes=50&ms=100", "timeout"),
        ],
    )
    .await;
    assert_eq!(hostile.get("/").await.text(), "hello\n");
    bystander.was_not_harmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_loop_meets_whichever_limit_is_lowest() {
    let node = Node::start().await;
    let bystander = Bystander::on(&node).await;
    let cpu = FunctionConfiguration {
        cpu: Some(Duration::from_millis(100)),
        ..tight()
    };
    for (configuration, status, outcome) in [
        (tight(), 504, "timeout"),
        (fuel(20_000_000), 502, "out_of_fuel"),
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
