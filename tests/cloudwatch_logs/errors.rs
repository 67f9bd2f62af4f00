//! What is wrong, and how it is told.

use serde_json::{Value, json};

use super::{ARN, logs, messages, now_ms, op};
use crate::support::Node;

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
