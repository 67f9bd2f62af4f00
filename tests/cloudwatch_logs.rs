//! What functions say is found with AWS's own clients, as in CloudWatch Logs.

mod support;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use support::{Node, aws, guests};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout},
    time::timeout,
};
use wharf::model::FunctionConfiguration;

const PATIENCE: Duration = Duration::from_secs(60);

/// The default group of the function `probe`.
const GROUP: &str = "/aws/lambda/probe";

const ARN: &str = "arn:aws:logs:us-east-1:000000000000:log-group:";

async fn node_with_probe() -> Node {
    let node = Node::start().await;
    let configuration = FunctionConfiguration::default();
    node.function("probe", guests::EVENT_PROBE, configuration)
        .await;
    node
}

/// Calls of CloudWatch Logs.
async fn logs(node: &Node, calls: Vec<Value>) -> Vec<Value> {
    let calls: Vec<Value> = calls
        .into_iter()
        .map(|mut call| {
            if call.get("service").is_none() {
                call["service"] = "logs".into();
            }
            call
        })
        .collect();
    aws::call(node, calls.into()).await
}

fn op(operation: &str, parameters: Value) -> Value {
    json!({"operation": operation, "parameters": parameters})
}

fn paged(operation: &str, parameters: Value, page: u32) -> Value {
    json!({"operation": operation, "parameters": parameters, "paginate": {"PageSize": page}})
}

fn invoke(event: Value) -> Value {
    let parameters = json!({"FunctionName": "probe", "Payload": event.to_string()});
    json!({"service": "lambda", "operation": "invoke", "parameters": parameters})
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

fn list<'a>(answer: &'a Value, member: &str, part: &str) -> Vec<&'a Value> {
    let items = answer[member].as_array();
    let items = items.unwrap_or_else(|| panic!("no {member} in {answer}"));
    items.iter().map(|item| &item[part]).collect()
}

fn messages(answer: &Value) -> Vec<&str> {
    let messages = list(answer, "events", "message");
    messages
        .into_iter()
        .map(|message| message.as_str().unwrap())
        .collect()
}

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
async fn what_a_function_says_is_found_by_group_stream_time_and_pattern() {
    let node = node_with_probe().await;
    let start = now_ms();
    let answers = logs(
        &node,
        vec![
            invoke(json!({"do": "log"})),
            invoke(json!({"do": "error"})),
            op("describe_log_groups", json!({"logGroupNamePrefix": "/aws/lambda/p"})),
            op("describe_log_streams", json!({"logGroupName": GROUP})),
            op("filter_log_events", json!({"logGroupName": GROUP})),
            op("filter_log_events", json!({"logGroupName": GROUP, "filterPattern": "?output ?\"standard error\""})),
            op("filter_log_events", json!({"logGroupName": GROUP, "filterPattern": "%^to standard e%"})),
            op("filter_log_events", json!({"logGroupName": GROUP, "filterPattern": "[kind = REPORT, ..., outcome = function_error]"})),
            op("filter_log_events", json!({"logGroupIdentifier": format!("{ARN}{GROUP}:*"), "endTime": start - 1})),
            op("describe_log_groups", json!({"logGroupNamePattern": "lambda/pro"})),
            op("describe_log_groups", json!({"logGroupNamePattern": "lambda/x"})),
        ],
    )
    .await;
    let group = &answers[2]["logGroups"][0];
    assert_eq!(group["logGroupName"], GROUP);
    assert_eq!(group["arn"], format!("{ARN}{GROUP}:*"));
    assert!(group["storedBytes"].as_u64().unwrap() > 0);
    assert!(group["creationTime"].as_u64().unwrap() >= start - 60_000);
    assert_eq!(group.get("retentionInDays"), None);

    let stream = &answers[3]["logStreams"][0];
    let name = stream["logStreamName"].as_str().unwrap();
    let (day, rest) = name.split_once('[').unwrap();
    assert!(
        day.len() == 11 && rest.starts_with("$LATEST]") && rest.len() == 40,
        "{name}"
    );
    let time = |member: &str| stream[member].as_u64().unwrap();
    assert!(
        start <= time("firstEventTimestamp")
            && time("firstEventTimestamp") <= time("lastEventTimestamp")
    );
    assert!(time("lastIngestionTime") >= time("lastEventTimestamp"));

    let all = messages(&answers[4]);
    assert_eq!(all.len(), 8, "{all:?}");
    let heads: Vec<&str> = all
        .iter()
        .map(|message| message.split(' ').next().unwrap())
        .collect();
    assert_eq!(
        heads,
        [
            "START", "to", "to", "END", "REPORT", "START", "END", "REPORT"
        ]
    );
    assert!(
        list(&answers[4], "events", "logStreamName")
            .iter()
            .all(|stream| **stream == name)
    );
    assert_eq!(messages(&answers[5]).len(), 2);
    assert_eq!(messages(&answers[6]), ["to standard error"]);
    assert!(messages(&answers[8]).is_empty());
    assert_eq!(answers[9]["logGroups"].as_array().unwrap().len(), 1);
    assert_eq!(answers[10]["logGroups"].as_array().unwrap().len(), 0);

    // One page after the other, forward to the end, where the token stays what it is.
    let get = |more: Value| {
        let mut parameters = json!({"logGroupName": GROUP, "logStreamName": name, "limit": 3});
        parameters
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        op("get_log_events", parameters)
    };
    let token = |index: usize, member: &str| json!({"nextToken": {"$answer": [index, member]}});
    let pages = logs(
        &node,
        vec![
            get(json!({"startFromHead": true})),
            get(token(0, "nextForwardToken")),
            get(token(1, "nextForwardToken")),
            get(token(2, "nextForwardToken")),
            invoke(json!({"do": "answer"})),
            get(token(3, "nextForwardToken")),
            get(token(5, "nextBackwardToken")),
            get(json!({})),
            get(json!({"startTime": now_ms() + 3_600_000})),
        ],
    )
    .await;
    let texts: Vec<&str> = pages[..3].iter().flat_map(messages).collect();
    assert_eq!(texts, all);
    assert!(messages(&pages[3]).is_empty());
    assert_eq!(pages[3]["nextForwardToken"], pages[2]["nextForwardToken"]);
    assert_eq!(messages(&pages[5]).len(), 3);
    assert!(messages(&pages[5])[0].starts_with("START"));
    assert_eq!(messages(&pages[6]), all[5..]);
    // Without a direction the newest come, oldest first.
    assert_eq!(messages(&pages[7]), messages(&pages[5]));
    assert!(messages(&pages[8]).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_a_group_sees_every_line_once_as_it_comes() {
    let node = node_with_probe().await;
    logs(&node, vec![invoke(json!({"do": "log"}))]).await;
    let mut tail =
        Printing::start(aws::python(&node).args(["-c", include_str!("aws/tail.py"), GROUP]));
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
async fn groups_streams_and_events_are_made_and_deleted() {
    let node = Node::start().await;
    let now = now_ms();
    let group = json!({"logGroupName": "/app/web"});
    let stream = json!({"logGroupName": "/app/web", "logStreamName": "one"});
    let put = |events: Value| {
        op(
            "put_log_events",
            json!({"logGroupName": "/app/web", "logStreamName": "one", "logEvents": events}),
        )
    };
    let get = op(
        "get_log_events",
        json!({"logGroupName": "/app/web", "logStreamName": "one", "startFromHead": true}),
    );
    let answers = logs(
        &node,
        vec![
            op("create_log_group", json!({"logGroupName": "/app/web", "tags": {"team": "edge"}})),
            op("create_log_stream", stream.clone()),
            put(json!([{"timestamp": now - 5, "message": "a"}, {"timestamp": now, "message": "b\nc"}])),
            put(json!([{"timestamp": now - 10, "message": "earlier"}])),
            get.clone(),
            op("describe_log_streams", group.clone()),
            op("delete_log_stream", stream.clone()),
            get.clone(),
            op("filter_log_events", group.clone()),
            op("create_log_stream", stream.clone()),
            get.clone(),
            op("delete_log_group", group.clone()),
            op("describe_log_streams", group.clone()),
            op("create_log_group", group.clone()),
            op("describe_log_streams", group.clone()),
        ],
    )
    .await;
    assert!(answers[2]["nextSequenceToken"].is_string());
    assert_eq!(answers[2].get("rejectedLogEventsInfo"), None);
    assert_eq!(messages(&answers[4]), ["earlier", "a", "b\nc"]);
    assert_eq!(
        list(&answers[4], "events", "timestamp"),
        [&json!(now - 10), &json!(now - 5), &json!(now)]
    );
    assert_eq!(answers[5]["logStreams"][0]["lastEventTimestamp"], now);
    assert_eq!(
        answers[7]["message"],
        "The specified log stream does not exist."
    );
    assert!(messages(&answers[8]).is_empty());
    assert!(messages(&answers[10]).is_empty());
    assert_eq!(
        answers[12]["message"],
        "The specified log group does not exist."
    );
    assert_eq!(answers[14]["logStreams"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_outlives_its_function_and_the_node() {
    let node = node_with_probe().await;
    logs(
        &node,
        vec![
            invoke(json!({"do": "log"})),
            json!({"service": "lambda", "operation": "delete_function", "parameters": {"FunctionName": "probe"}}),
        ],
    )
    .await;
    let find = op("filter_log_events", json!({"logGroupName": GROUP}));
    let before = logs(&node, vec![find.clone()]).await;
    assert_eq!(messages(&before[0]).len(), 5);
    let data = node.stop().await;
    let node = Node::start_in(data, |_| {}).await;
    let after = logs(
        &node,
        vec![
            find.clone(),
            op("delete_log_group", json!({"logGroupName": GROUP})),
            find,
        ],
    )
    .await;
    assert_eq!(after[0]["events"], before[0]["events"]);
    assert_eq!(after[2]["code"], "ResourceNotFoundException");
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_go_on_where_a_page_ended() {
    let node = Node::start().await;
    let names: Vec<String> = (0..7).map(|number| format!("/list/{number}")).collect();
    let mut calls: Vec<Value> = names
        .iter()
        .map(|name| op("create_log_group", json!({"logGroupName": name})))
        .collect();
    let now = now_ms() - 100_000;
    let streams = ["d", "b", "a", "c", "empty"];
    for (number, stream) in (0..).zip(streams) {
        calls.push(op(
            "create_log_stream",
            json!({"logGroupName": "/list/0", "logStreamName": stream}),
        ));
        let events: Vec<Value> = (0..9)
            .map(|event| json!({"timestamp": now + number * 1000 + event, "message": format!("{stream}{event}")}))
            .collect();
        if stream != "empty" {
            calls.push(op(
                "put_log_events",
                json!({"logGroupName": "/list/0", "logStreamName": stream, "logEvents": events}),
            ));
        }
    }
    let made = calls.len();
    let in_group = |more: Value| {
        let mut parameters = json!({"logGroupName": "/list/0"});
        parameters
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        parameters
    };
    calls.extend([
        paged(
            "describe_log_groups",
            json!({"logGroupNamePrefix": "/list/"}),
            3,
        ),
        paged("describe_log_streams", in_group(json!({})), 2),
        paged(
            "describe_log_streams",
            in_group(json!({"descending": true})),
            2,
        ),
        paged(
            "describe_log_streams",
            in_group(json!({"orderBy": "LastEventTime"})),
            2,
        ),
        paged(
            "describe_log_streams",
            in_group(json!({"orderBy": "LastEventTime", "descending": true})),
            2,
        ),
        paged(
            "filter_log_events",
            in_group(json!({"logStreamNames": ["a", "b"]})),
            4,
        ),
        paged(
            "filter_log_events",
            in_group(json!({"logStreamNamePrefix": "d", "filterPattern": "-d0"})),
            3,
        ),
        paged(
            "describe_log_streams",
            in_group(json!({"logStreamNamePrefix": "em"})),
            1,
        ),
    ]);
    let answers = logs(&node, calls).await;
    let answers = &answers[made..];
    assert_eq!(
        list(&answers[0], "logGroups", "logGroupName"),
        names
            .iter()
            .map(|name| json!(name))
            .collect::<Vec<_>>()
            .iter()
            .collect::<Vec<_>>()
    );
    let names = |answer: usize| list(&answers[answer], "logStreams", "logStreamName");
    assert_eq!(names(1), ["a", "b", "c", "d", "empty"]);
    assert_eq!(names(2), ["empty", "d", "c", "b", "a"]);
    assert_eq!(names(3), ["empty", "d", "b", "a", "c"]);
    assert_eq!(names(4), ["c", "a", "b", "d", "empty"]);
    assert_eq!(names(7), ["empty"]);
    let wanted: Vec<String> = ["b", "a"]
        .iter()
        .flat_map(|stream| (0..9).map(move |event| format!("{stream}{event}")))
        .collect();
    assert_eq!(messages(&answers[5]), wanted);
    assert_eq!(messages(&answers[6]).len(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_and_tags_are_set_and_taken_back() {
    let node = Node::start().await;
    let group = json!({"logGroupName": "/app"});
    let arn = json!({"resourceArn": format!("{ARN}/app")});
    let with = |mut one: Value, more: Value| {
        one.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        one
    };
    let answers = logs(
        &node,
        vec![
            op("create_log_group", with(group.clone(), json!({"tags": {"a": "1"}}))),
            op("put_retention_policy", with(group.clone(), json!({"retentionInDays": 14}))),
            op("describe_log_groups", json!({})),
            op("put_retention_policy", with(group.clone(), json!({"retentionInDays": 2}))),
            op("delete_retention_policy", group.clone()),
            op("describe_log_groups", json!({})),
            op("tag_resource", with(arn.clone(), json!({"tags": {"b": "2", "c": "3"}}))),
            op("untag_resource", with(arn.clone(), json!({"tagKeys": ["a", "x"]}))),
            op("list_tags_for_resource", arn.clone()),
            op("tag_log_group", with(group.clone(), json!({"tags": {"d": "4"}}))),
            op("untag_log_group", with(group.clone(), json!({"tags": ["b"]}))),
            op("list_tags_log_group", group.clone()),
            op("tag_resource", with(arn.clone(), json!({"tags": {"aws:x": "2"}}))),
            op("tag_resource", with(arn.clone(), json!({"tags": (0..50).map(|n| (format!("t{n}"), json!("v"))).collect::<serde_json::Map<_, _>>()}))),
        ],
    )
    .await;
    assert_eq!(answers[2]["logGroups"][0]["retentionInDays"], 14);
    let message = answers[3]["message"].as_str().unwrap();
    assert!(
        message.contains("Member must satisfy enum value set: [1, 3, 5, 7,"),
        "{message}"
    );
    assert_eq!(answers[5]["logGroups"][0].get("retentionInDays"), None);
    assert_eq!(answers[8]["tags"], json!({"b": "2", "c": "3"}));
    assert_eq!(answers[11]["tags"], json!({"c": "3", "d": "4"}));
    assert_eq!(answers[12]["code"], "InvalidParameterException");
    assert_eq!(answers[13]["code"], "TooManyTagsException");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_told_in_cloudwatchs_words() {
    let node = Node::start().await;
    let now = now_ms();
    let day = 24 * 3_600_000;
    let stream = |more: Value| {
        let mut parameters = json!({"logGroupName": "/app", "logStreamName": "s"});
        parameters
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        parameters
    };
    let app = |more: Value| {
        let mut parameters = json!({"logGroupName": "/app"});
        parameters
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        parameters
    };
    let at = |ms: u64| json!({"timestamp": ms, "message": "m"});
    let cases = [
        (
            op("create_log_group", app(json!({}))),
            "ResourceAlreadyExistsException",
            "The specified log group already exists",
        ),
        (
            op("create_log_stream", stream(json!({}))),
            "ResourceAlreadyExistsException",
            "The specified log stream already exists",
        ),
        (
            op("create_log_group", json!({"logGroupName": "a b"})),
            "InvalidParameterException",
            "1 validation error detected: Value 'a b' at 'logGroupName' failed to satisfy constraint: Member must satisfy regular expression pattern:",
        ),
        (
            op(
                "create_log_group",
                json!({"logGroupName": "/x", "kmsKeyId": "arn:aws:kms:us-east-1:1:key/1"}),
            ),
            "InvalidParameterException",
            "kmsKeyId",
        ),
        (
            op(
                "create_log_group",
                json!({"logGroupName": "/x", "logGroupClass": "INFREQUENT_ACCESS"}),
            ),
            "InvalidParameterException",
            "logGroupClass",
        ),
        (
            op("delete_log_group", json!({"logGroupName": "/none"})),
            "ResourceNotFoundException",
            "The specified log group does not exist.",
        ),
        (
            op(
                "delete_log_stream",
                json!({"logGroupName": "/app", "logStreamName": "none"}),
            ),
            "ResourceNotFoundException",
            "The specified log stream does not exist.",
        ),
        (
            op(
                "create_log_stream",
                json!({"logGroupName": "/app", "logStreamName": "a:b"}),
            ),
            "InvalidParameterException",
            "at 'logStreamName' failed",
        ),
        (
            op("filter_log_events", json!({"logGroupName": "/none"})),
            "ResourceNotFoundException",
            "log group",
        ),
        (
            op(
                "filter_log_events",
                app(json!({"logStreamNames": ["none"]})),
            ),
            "ResourceNotFoundException",
            "log stream",
        ),
        (
            op(
                "filter_log_events",
                app(json!({"logStreamNames": ["s"], "logStreamNamePrefix": "s"})),
            ),
            "InvalidParameterException",
            "together",
        ),
        (
            op(
                "filter_log_events",
                app(json!({"filterPattern": "{ $.a }"})),
            ),
            "InvalidParameterException",
            "Invalid filter pattern: expected a comparison",
        ),
        (
            op("filter_log_events", app(json!({"nextToken": "x"}))),
            "InvalidParameterException",
            "The specified nextToken is invalid.",
        ),
        (
            op(
                "filter_log_events",
                json!({"logGroupIdentifier": "arn:aws:logs:eu-west-1:000000000000:log-group:/app"}),
            ),
            "ResourceNotFoundException",
            "log group",
        ),
        (
            op(
                "filter_log_events",
                json!({"logGroupIdentifier": "arn:aws:s3:::bucket"}),
            ),
            "InvalidParameterException",
            "not the ARN of a log group",
        ),
        (
            op("filter_log_events", json!({})),
            "InvalidParameterException",
            "Either",
        ),
        (
            op("get_log_events", stream(json!({"nextToken": "f/1"}))),
            "InvalidParameterException",
            "The specified nextToken is invalid.",
        ),
        (
            op(
                "get_log_events",
                stream(json!({"logGroupIdentifier": "/app"})),
            ),
            "InvalidParameterException",
            "together",
        ),
        (
            op(
                "get_log_events",
                json!({"logGroupName": "/app", "logStreamName": "none"}),
            ),
            "ResourceNotFoundException",
            "log stream",
        ),
        (
            op(
                "describe_log_streams",
                app(json!({"orderBy": "LastEventTime", "logStreamNamePrefix": "s"})),
            ),
            "InvalidParameterException",
            "Cannot order by LastEventTime with a logStreamNamePrefix.",
        ),
        (
            op("describe_log_groups", json!({"nextToken": "*"})),
            "InvalidParameterException",
            "The specified nextToken is invalid.",
        ),
        (
            op(
                "describe_log_groups",
                json!({"logGroupNamePrefix": "a", "logGroupNamePattern": "b"}),
            ),
            "InvalidParameterException",
            "mutually exclusive",
        ),
        (
            op(
                "put_log_events",
                stream(json!({"logEvents": [at(now), at(now - 1)]})),
            ),
            "InvalidParameterException",
            "chronological order",
        ),
        (
            op(
                "put_log_events",
                stream(json!({"logEvents": [at(now - day - 10), at(now)]})),
            ),
            "InvalidParameterException",
            "24 hours",
        ),
        (
            op(
                "put_log_events",
                stream(json!({"logEvents": [{"timestamp": now, "message": "x".repeat(1 << 20)}]})),
            ),
            "InvalidParameterException",
            "Upload too large: 1048602 bytes exceeds limit of 1048576",
        ),
        (
            op(
                "put_log_events",
                json!({"logGroupName": "/none", "logStreamName": "s", "logEvents": [at(now)]}),
            ),
            "ResourceNotFoundException",
            "log group",
        ),
        (
            op(
                "put_log_events",
                json!({"logGroupName": "/app", "logStreamName": "none", "logEvents": [at(now)]}),
            ),
            "ResourceNotFoundException",
            "log stream",
        ),
        (
            op(
                "list_tags_for_resource",
                json!({"resourceArn": format!("{ARN}/none")}),
            ),
            "ResourceNotFoundException",
            "log group",
        ),
        (
            op("describe_metric_filters", json!({"logGroupName": "/none"})),
            "ResourceNotFoundException",
            "log group",
        ),
        (
            op(
                "start_query",
                json!({"startTime": 0, "endTime": 1, "queryString": "fields @message"}),
            ),
            "InvalidOperationException",
            "Wharf does not support StartQuery",
        ),
        (
            op(
                "put_subscription_filter",
                app(
                    json!({"filterName": "f", "filterPattern": "", "destinationArn": "arn:aws:lambda:us-east-1:1:function:f"}),
                ),
            ),
            "InvalidOperationException",
            "Wharf does not support PutSubscriptionFilter",
        ),
    ];
    let mut calls = vec![
        op("create_log_group", app(json!({}))),
        op("create_log_stream", stream(json!({}))),
    ];
    calls.extend(cases.iter().map(|(call, ..)| call.clone()));
    calls.push(op("describe_subscription_filters", app(json!({}))));
    let mut last = op(
        "put_log_events",
        stream(json!({"logEvents": [at(now - 20 * day)]})),
    );
    calls.push(last.clone());
    last["parameters"]["logEvents"] = json!([at(now), at(now + 3 * 3_600_000)]);
    calls.push(last);
    calls.push(op("filter_log_events", app(json!({}))));
    let answers = logs(&node, calls).await;
    for ((call, code, message), answer) in cases.iter().zip(&answers[2..]) {
        assert_eq!(answer["code"], *code, "{call}: {answer}");
        let said = answer["message"].as_str().unwrap();
        assert!(said.contains(message), "{call}: {said}");
        assert_eq!(answer["status"], 400);
    }
    let [filters, old, new, kept] = &answers[answers.len() - 4..] else {
        panic!("four more")
    };
    assert_eq!(filters["subscriptionFilters"], json!([]));
    assert_eq!(
        old["rejectedLogEventsInfo"],
        json!({"tooOldLogEventEndIndex": 1})
    );
    assert_eq!(
        new["rejectedLogEventsInfo"],
        json!({"tooNewLogEventStartIndex": 1})
    );
    assert_eq!(messages(kept), ["m"]);
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
        python.args(["-c", include_str!("aws/live.py"), &parameters.to_string()]);
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

#[tokio::test(flavor = "multi_thread")]
async fn a_functions_logging_config_says_where_and_how_it_logs() {
    let node = node_with_probe().await;
    let update = |config: Value| {
        let parameters = json!({"FunctionName": "probe", "LoggingConfig": config});
        json!({"service": "lambda", "operation": "update_function_configuration", "parameters": parameters})
    };
    let updated = json!({"service": "lambda", "operation": "function_updated_v2", "parameters": {"FunctionName": "probe"}, "wait": {"Delay": 1}});
    let answers = logs(
        &node,
        vec![
            update(json!({"LogFormat": "JSON", "ApplicationLogLevel": "INFO", "SystemLogLevel": "INFO", "LogGroup": "/shared"})),
            updated.clone(),
            invoke(json!({"do": "log"})),
            op("filter_log_events", json!({"logGroupName": "/shared", "filterPattern": "{ $.message = \"to standard*\" }"})),
            op("filter_log_events", json!({"logGroupName": "/shared", "filterPattern": "{ $.type = \"platform.report\" && $.record.metrics.durationMs >= 0 }"})),
            op("describe_log_streams", json!({"logGroupName": "/shared"})),
            update(json!({"LogFormat": "JSON", "ApplicationLogLevel": "ERROR", "SystemLogLevel": "WARN", "LogGroup": "/quiet"})),
            updated,
            invoke(json!({"do": "log"})),
            invoke(json!({"do": "panic"})),
            op("filter_log_events", json!({"logGroupName": "/quiet"})),
        ],
    )
    .await;
    assert_eq!(messages(&answers[3]).len(), 2, "{answers:?}");
    let line: Value = serde_json::from_str(messages(&answers[3])[0]).unwrap();
    assert_eq!(
        (&line["level"], line["requestId"].is_string()),
        (&json!("INFO"), true)
    );
    assert_eq!(messages(&answers[4]).len(), 1);
    let stream = answers[5]["logStreams"][0]["logStreamName"]
        .as_str()
        .unwrap();
    assert!(stream.contains("/probe[$LATEST]"), "{stream}");
    let quiet = messages(&answers[10]);
    assert!(
        !quiet.is_empty() && !quiet.iter().any(|line| line.contains("to standard")),
        "{quiet:?}"
    );
    assert!(
        quiet
            .iter()
            .any(|line| line.contains("\"status\":\"failure\"")),
        "{quiet:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_aws_command_line_reads_logs() {
    let node = node_with_probe().await;
    logs(&node, vec![invoke(json!({"do": "log"}))]).await;
    let groups = aws::cli(&node, &["logs", "describe-log-groups"]).await;
    assert_eq!(groups["logGroups"][0]["logGroupName"], GROUP);
    let streams = aws::cli(
        &node,
        &[
            "logs",
            "describe-log-streams",
            "--log-group-name",
            GROUP,
            "--order-by",
            "LastEventTime",
            "--descending",
        ],
    )
    .await;
    let stream = streams["logStreams"][0]["logStreamName"].as_str().unwrap();
    let events = aws::cli(
        &node,
        &[
            "logs",
            "get-log-events",
            "--log-group-name",
            GROUP,
            "--log-stream-name",
            stream,
        ],
    )
    .await;
    assert_eq!(messages(&events).len(), 5);
    let found = aws::cli(
        &node,
        &[
            "logs",
            "filter-log-events",
            "--log-group-name",
            GROUP,
            "--filter-pattern",
            "\"standard error\"",
            "--max-items",
            "1",
        ],
    )
    .await;
    assert_eq!(messages(&found), ["to standard error"]);
}
