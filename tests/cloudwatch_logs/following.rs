//! Lines as they come: the tail that asks again and again, and the one that is told.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout},
    time::timeout,
};

use super::{ARN, GROUP, invoke, list, logs, node_with_probe, now_ms, op};
use crate::support::aws;

const PATIENCE: Duration = Duration::from_secs(60);

/// A program that prints until it is killed.
struct Printing {
    lines: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Printing {
    fn start(command: &mut tokio::process::Command) -> Self {
        let mut child = command.spawn().unwrap();
        Self {
            lines: BufReader::new(child.stdout.take().unwrap()).lines(),
            _child: child,
        }
    }

    async fn line(&mut self) -> String {
        let line = timeout(PATIENCE, self.lines.next_line());
        line.await.expect("a line").unwrap().expect("a line")
    }

    /// The next line that has this in it.
    async fn line_with(&mut self, text: &str) -> String {
        loop {
            let line = self.line().await;
            if line.contains(text) {
                return line;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_a_group_sees_every_line_once_as_it_comes() {
    let node = node_with_probe().await;
    logs(&node, vec![invoke(json!({"do": "log"}))]).await;
    let mut tail =
        Printing::start(aws::python(&node).args(["-c", include_str!("../aws/tail.py"), GROUP]));
    tail.line_with("to standard error").await;
    tail.line_with("REPORT").await;
    // Invocations that overlap, and some that say nothing until their end.
    let events = (0..40).map(|number| match number % 2 {
        0 => json!({"do": "log"}),
        _ => json!({"do": "sleep", "ms": number}),
    });
    let calls = events.map(|event| {
        let client = &node.client;
        async move {
            let event = event.to_string();
            client
                .invoke("probe", event.into(), "RequestResponse", false)
                .await
                .unwrap()
        }
    });
    futures::future::join_all(calls).await;
    let mut lines = Vec::new();
    while lines.len() < 20 * 5 + 20 * 3 {
        let line = tail.line().await;
        let (stream, message) = line.split_once(' ').unwrap();
        assert!(stream.contains("[$LATEST]"), "{line}");
        lines.push(message.to_owned());
    }
    let count = |head: &str| lines.iter().filter(|line| line.starts_with(head)).count();
    assert_eq!(
        (
            count("START"),
            count("END"),
            count("REPORT"),
            count("to standard")
        ),
        (40, 40, 40, 40)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_tail_tells_what_is_said_as_it_is_said() {
    let node = node_with_probe().await;
    logs(
        &node,
        vec![
            invoke(json!({"do": "answer"})),
            op("create_log_group", json!({"logGroupName": "/app"})),
            op(
                "create_log_stream",
                json!({"logGroupName": "/app", "logStreamName": "s"}),
            ),
        ],
    )
    .await;
    let tail = |parameters: Value| {
        let mut python = aws::python(&node);
        python.args([
            "-c",
            include_str!("../aws/live.py"),
            &parameters.to_string(),
        ]);
        Printing::start(&mut python)
    };
    let both = [format!("{ARN}{GROUP}"), format!("{ARN}/app")];
    let mut all = tail(json!({"logGroupIdentifiers": both}));
    let mut some = tail(
        json!({"logGroupIdentifiers": [both[0]], "logEventFilterPattern": "\"standard output\""}),
    );
    let mut other = tail(json!({"logGroupIdentifiers": [both[1]], "logStreamNamePrefixes": ["x"]}));
    let begin: Value = serde_json::from_str(&all.line_with("sessionStart").await).unwrap();
    assert_eq!(begin["logGroupIdentifiers"], json!(both));
    some.line_with("sessionStart").await;
    other.line_with("sessionStart").await;
    // The CLI prints the messages.
    let mut cli = Printing::start(
        aws::python(&node)
            .env("AWS_DISABLE_HOST_PREFIX_INJECTION", "true")
            .env("PYTHONUNBUFFERED", "1")
            .args([
                "-m",
                "awscli",
                "logs",
                "start-live-tail",
                "--log-group-identifiers",
                &both[0],
            ]),
    );
    let mut said = Vec::new();
    while !said.iter().any(|line: &Value| line["message"] == "put") {
        logs(
            &node,
            vec![
                invoke(json!({"do": "log"})),
                op("put_log_events", json!({"logGroupName": "/app", "logStreamName": "s", "logEvents": [{"timestamp": now_ms(), "message": "put"}]})),
            ],
        )
        .await;
        let update: Value =
            serde_json::from_str(&all.line_with("\"sessionResults\": [{").await).unwrap();
        assert_eq!(update["sessionMetadata"]["sampled"], false);
        said.extend(update["sessionResults"].as_array().unwrap().clone());
    }
    let line = |message: &str| said.iter().find(|line| line["message"] == message).unwrap();
    assert_eq!(line("put")["logStreamName"], "s");
    assert_eq!(line("put")["logGroupIdentifier"], both[1]);
    assert_eq!(line("to standard error")["logGroupIdentifier"], both[0]);
    assert!(line("to standard error")["ingestionTime"].as_u64().unwrap() <= now_ms());
    let picked: Value =
        serde_json::from_str(&some.line_with("\"sessionResults\": [{").await).unwrap();
    let picked = list(&picked, "sessionResults", "message");
    assert!(
        picked
            .iter()
            .all(|message| **message == "to standard output"),
        "{picked:?}"
    );
    let nothing: Value = serde_json::from_str(&other.line_with("sessionUpdate").await).unwrap();
    assert_eq!(nothing["sessionResults"], json!([]));
    logs(&node, vec![invoke(json!({"do": "log"}))]).await;
    cli.line_with("to standard output").await;
    let refused = logs(
        &node,
        vec![
            json!({"operation": "start_live_tail", "config": {"inject_host_prefix": false},
                   "parameters": {"logGroupIdentifiers": [format!("{ARN}/none")]}}),
            json!({"operation": "start_live_tail", "config": {"inject_host_prefix": false},
                   "parameters": {"logGroupIdentifiers": ["/app"]}}),
        ],
    )
    .await;
    assert_eq!(refused[0]["code"], "ResourceNotFoundException");
    assert_eq!(refused[1]["code"], "InvalidParameterException");
}
