//! Events: found by group, stream, time and pattern; what a function's configuration says of them.

use serde_json::{Value, json};

use super::{ARN, GROUP, invoke, list, logs, messages, node_with_probe, now_ms, op};
use crate::support::{Node, aws};

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
            op("filter_log_events", json!({"logGroupIdentifier": format!("{ARN}{GROUP}"), "endTime": start - 1})),
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
