//! Groups and streams: made, listed page by page, set, deleted.

use serde_json::{Value, json};

use super::{ARN, list, logs, messages, now_ms, op, paged};
use crate::support::Node;

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
