//! What becomes of events: retries, age, destinations and dead letters, configured with AWS's clients and seen in what
//! other functions are given.

use std::time::Duration;

use crate::support::{Node, aws, eventually, guests::EVENT_PROBE};
use serde_json::{Value, json};
use wharf::{events::retry::RetryPolicy, model::FunctionConfiguration};

const ARN: &str = "arn:aws:lambda:us-east-1:000000000000:function";

/// A node whose pauses between attempts a test can wait for.
async fn node() -> Node {
    Node::start_with(|config| {
        config.events.retry = RetryPolicy {
            after_errors: vec![Duration::from_millis(50), Duration::from_millis(100)],
            first_back_off: Duration::from_millis(50),
            longest_back_off: Duration::from_millis(100),
            ..RetryPolicy::default()
        };
    })
    .await
}

/// A function that does as its events say.
async fn worker(node: &Node, name: &str) {
    let configuration = FunctionConfiguration {
        key_value: [("default".to_owned(), "counts".to_owned())].into(),
        ..FunctionConfiguration::default()
    };
    node.function(name, EVENT_PROBE, configuration).await;
}

/// A function that writes to its log what it is given.
async fn witness(node: &Node, name: &str) {
    let configuration = FunctionConfiguration {
        environment: [("DO".to_owned(), "print".to_owned())].into(),
        ..FunctionConfiguration::default()
    };
    node.function(name, EVENT_PROBE, configuration).await;
}

/// What a witness was given, once it is so much.
async fn given(node: &Node, name: &str, count: usize) -> Vec<Value> {
    use futures::TryStreamExt as _;
    eventually(async || {
        let lines = node.client.logs(name, 1000, false).await.unwrap();
        let lines: Vec<wharf::telemetry::logs::LogLine> = lines.try_collect().await.unwrap();
        let given: Vec<Value> = lines
            .iter()
            .filter_map(|line| line.message.strip_prefix("given: "))
            .map(|text| serde_json::from_str(text).unwrap())
            .collect();
        (given.len() >= count).then_some(given)
    })
    .await
}

/// Hands an event over, and gives its id.
async fn later(node: &Node, name: &str, event: &Value) -> String {
    let invoked = node
        .client
        .invoke(name, event.to_string().into(), "Event", false)
        .await;
    invoked.unwrap().request_id.unwrap()
}

fn call(operation: &str, parameters: Value) -> Value {
    json!({"operation": operation, "parameters": parameters})
}

fn put(parameters: Value) -> Value {
    call("put_function_event_invoke_config", parameters)
}

fn destination(kind: &str, arn: &str) -> Value {
    json!({kind: {"Destination": arn}})
}

#[track_caller]
fn assert_error(answer: &Value, code: &str, message: &str) {
    assert_eq!(answer["code"], code, "{answer}");
    let said = answer["message"].as_str().unwrap();
    assert!(said.contains(message), "{said}");
}

/// All answers are, but for these.
#[track_caller]
fn assert_done(answers: &[Value]) {
    for answer in answers {
        assert!(answer.get("code").is_none(), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_becomes_of_events_is_put_changed_read_listed_and_deleted() {
    let node = node().await;
    worker(&node, "work").await;
    witness(&node, "told").await;
    let name = |name: &str| json!({"FunctionName": name});
    let told = format!("{ARN}:told");
    let answers = aws::call(
        &node,
        json!([
            put(json!({"FunctionName": "work", "MaximumRetryAttempts": 1, "DestinationConfig": destination("OnSuccess", &told)})),
            call("update_function_event_invoke_config", json!({"FunctionName": "work", "MaximumEventAgeInSeconds": 60,
                "DestinationConfig": destination("OnFailure", &format!("{told}:$LATEST"))})),
            call("get_function_event_invoke_config", json!({"FunctionName": format!("{ARN}:work"), "Qualifier": "$LATEST"})),
            // What is put replaces all.
            put(json!({"FunctionName": "work:$LATEST", "MaximumEventAgeInSeconds": 21600})),
            call("update_function_event_invoke_config", json!({"FunctionName": "work", "MaximumRetryAttempts": 0})),
            call("publish_version", name("work")),
            call("create_alias", json!({"FunctionName": "work", "Name": "live", "FunctionVersion": "1"})),
            put(json!({"FunctionName": "work", "Qualifier": "live", "MaximumRetryAttempts": 2})),
            put(json!({"FunctionName": "work", "Qualifier": "1", "MaximumRetryAttempts": 1})),
            call("list_function_event_invoke_configs", json!({"FunctionName": "work", "MaxItems": 2})),
            {"operation": "list_function_event_invoke_configs", "parameters": name("work"), "paginate": {"PageSize": 1}},
            call("delete_alias", json!({"FunctionName": "work", "Name": "live"})),
            call("delete_function_event_invoke_config", json!({"FunctionName": "work", "Qualifier": "1"})),
            call("list_function_event_invoke_configs", name("work")),
        ]),
    )
    .await;
    assert_done(&answers);
    let config = |place: usize| {
        let mut config = answers[place].as_object().unwrap().clone();
        config.remove("ResponseMetadata");
        let modified = config.remove("LastModified").unwrap();
        assert!(modified.as_str().unwrap().starts_with("20"), "{modified}");
        Value::Object(config)
    };
    let latest = format!("{ARN}:work:$LATEST");
    assert_eq!(
        config(0),
        json!({
            "FunctionArn": latest,
            "MaximumRetryAttempts": 1,
            "DestinationConfig": {"OnSuccess": {"Destination": told}, "OnFailure": {}},
        })
    );
    let merged = json!({
        "FunctionArn": latest,
        "MaximumRetryAttempts": 1,
        "MaximumEventAgeInSeconds": 60,
        "DestinationConfig": {
            "OnSuccess": {"Destination": told},
            "OnFailure": {"Destination": format!("{told}:$LATEST")},
        },
    });
    assert_eq!(config(1), merged);
    assert_eq!(config(2), merged);
    assert_eq!(
        config(4),
        json!({
            "FunctionArn": latest,
            "MaximumRetryAttempts": 0,
            "MaximumEventAgeInSeconds": 21600,
            "DestinationConfig": {"OnSuccess": {}, "OnFailure": {}},
        })
    );
    assert_eq!(config(7)["FunctionArn"], format!("{ARN}:work:live"));
    let listed = |place: usize| {
        let configs = &answers[place]["FunctionEventInvokeConfigs"];
        let configs = configs.as_array().unwrap().iter();
        let arns = configs.map(|config| config["FunctionArn"].as_str().unwrap().to_owned());
        arns.collect::<Vec<_>>()
    };
    let all = ["$LATEST", "1", "live"].map(|qualifier| format!("{ARN}:work:{qualifier}"));
    assert_eq!(listed(9), all[..2]);
    assert!(answers[9]["NextMarker"].is_string());
    assert_eq!(listed(10), all);
    assert_eq!(listed(13), all[..1], "an alias takes its own along");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_cannot_be_kept_is_refused() {
    let node = node().await;
    worker(&node, "work").await;
    let sqs = "arn:aws:sqs:us-east-1:000000000000:queue";
    let to = |arn: &str| json!({"FunctionName": "work", "DestinationConfig": destination("OnFailure", arn)});
    let absent = |name: &str| json!({"FunctionName": name, "MaximumRetryAttempts": 1});
    let name = |name: &str| json!({"FunctionName": name});
    let answers = aws::call(
        &node,
        json!([
            put(name("work")),
            put(to(sqs)),
            put(to("arn:aws:lambda:eu-west-1:000000000000:function:told")),
            put(to(&format!("{ARN}:nobody"))),
            put(to(&format!("{ARN}:work"))),
            put(absent("nobody")),
            put(json!({"FunctionName": "work", "Qualifier": "live", "MaximumRetryAttempts": 1})),
            put(json!({"FunctionName": "work:1", "Qualifier": "2", "MaximumRetryAttempts": 1})),
            {"operation": "put_function_event_invoke_config", "config": {"parameter_validation": false},
             "parameters": {"FunctionName": "work", "MaximumRetryAttempts": 3, "MaximumEventAgeInSeconds": 59}},
            call("update_function_event_invoke_config", absent("work")),
            call("update_function_event_invoke_config", absent("nobody")),
            call("get_function_event_invoke_config", name("work")),
            call("get_function_event_invoke_config", json!({"FunctionName": "work", "Qualifier": "live"})),
            call("delete_function_event_invoke_config", name("work")),
            call("list_function_event_invoke_configs", name("nobody")),
            call("list_function_event_invoke_configs", json!({"FunctionName": "work", "Marker": "%"})),
            call("update_function_configuration", json!({"FunctionName": "work", "DeadLetterConfig": {"TargetArn": sqs}})),
        ]),
    )
    .await;
    const INVALID: &str = "InvalidParameterValueException";
    const NOT_FOUND: &str = "ResourceNotFoundException";
    let without = format!("The function {ARN}:work:$LATEST doesn't have an EventInvokeConfig");
    let live = format!("The function {ARN}:work:live doesn't have an EventInvokeConfig");
    let refused = format!(
        "The provided destination config DestinationConfig(onSuccess=null, onFailure=OnFailure(destination={sqs})) is \
         invalid. Wharf sends invocation records to functions of this node"
    );
    let nobody = format!("The destination ARN {ARN}:nobody is invalid.");
    for (answer, (code, message)) in answers.iter().zip([
        (
            INVALID,
            "You must specify at least one of error handling or destination setting.",
        ),
        (INVALID, refused.as_str()),
        (
            INVALID,
            "(destination=arn:aws:lambda:eu-west-1:000000000000:function:told)) is invalid.",
        ),
        (INVALID, nobody.as_str()),
        (
            INVALID,
            "You can't specify the function as a destination for itself.",
        ),
        (NOT_FOUND, "The function doesn't exist."),
        (NOT_FOUND, "The function doesn't exist."),
        (
            INVALID,
            "The derived qualifier from the function name does not match the specified qualifier.",
        ),
        ("ValidationException", "2 validation errors detected: "),
        (NOT_FOUND, without.as_str()),
        (NOT_FOUND, "The function doesn't exist."),
        (NOT_FOUND, without.as_str()),
        (NOT_FOUND, live.as_str()),
        (NOT_FOUND, without.as_str()),
        (NOT_FOUND, "The function doesn't exist."),
        (INVALID, "Invalid marker value."),
        (
            INVALID,
            "is not supported: Wharf sends dead letters to functions of this node",
        ),
    ]) {
        assert_error(answer, code, message);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_gets_lambdas_record_of_each_end() {
    let node = node().await;
    worker(&node, "work").await;
    witness(&node, "done").await;
    witness(&node, "failed").await;
    let destinations = json!({
        "OnSuccess": {"Destination": format!("{ARN}:done")},
        "OnFailure": {"Destination": format!("{ARN}:failed")},
    });
    let config = json!({"FunctionName": "work", "DestinationConfig": destinations});
    assert_done(&aws::call(&node, json!([put(config)])).await);

    let event = json!({"do": "fail-until", "key": "second", "attempt": 2});
    let second = later(&node, "work", &event).await;
    let mut record = given(&node, "done", 1).await.remove(0)["event"].take();
    let timestamp = record["timestamp"].take();
    let timestamp = timestamp.as_str().unwrap();
    assert_eq!(timestamp.len(), "2019-11-14T18:16:05.568Z".len());
    assert!(timestamp.parse::<jiff::Timestamp>().is_ok(), "{timestamp}");
    let context = |id: &str, condition: &str, invocations: u32| {
        json!({
            "requestId": id,
            "functionArn": format!("{ARN}:work:$LATEST"),
            "condition": condition,
            "approximateInvokeCount": invocations,
        })
    };
    assert_eq!(
        record,
        json!({
            "version": "1.0",
            "timestamp": null,
            "requestContext": context(&second, "Success", 2),
            "requestPayload": event,
            "responseContext": {"statusCode": 200, "executedVersion": "$LATEST"},
            "responsePayload": 2,
        })
    );

    let event = json!({"do": "error", "type": "OutOfStock", "message": "none left"});
    let error = later(&node, "work", &event).await;
    let mut record = given(&node, "failed", 1).await.remove(0)["event"].take();
    record["timestamp"].take();
    assert_eq!(
        record,
        json!({
            "version": "1.0",
            "timestamp": null,
            "requestContext": context(&error, "RetriesExhausted", 3),
            "requestPayload": event,
            "responseContext": {
                "statusCode": 200,
                "executedVersion": "$LATEST",
                "functionError": "Unhandled",
            },
            "responsePayload": {
                "errorType": "OutOfStock",
                "errorMessage": "none left",
                "trace": ["first line", "second line"],
            },
        })
    );

    // A function that the host had to stop answers as with Lambda, too.
    let panic = later(&node, "work", &json!({"do": "panic"})).await;
    let record = given(&node, "failed", 2).await.remove(1)["event"].take();
    assert_eq!(record["responsePayload"]["errorType"], "Runtime.ExitError");
    let message = record["responsePayload"]["errorMessage"].as_str().unwrap();
    assert!(message.contains(&panic), "{message}");
    assert_eq!(given(&node, "done", 1).await.len(), 1);
    let dropped = node.metric("wharf_async_events_dropped_total{function=\"work\"");
    assert_eq!(dropped.await, 2.0);
    // An attempt each, and its retries: 2, 3 and 3.
    let attempts = node.metric("wharf_async_event_age_seconds_count{function=\"work\"");
    assert_eq!(attempts.await, 8.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_is_configured_for_itself_and_leads_to_what_it_stands_for_at_each_attempt() {
    let node = node().await;
    worker(&node, "first").await;
    worker(&node, "next").await;
    witness(&node, "done").await;
    witness(&node, "other").await;
    let success = |name: &str, qualifier: &str, arn: String| {
        let destination = destination("OnSuccess", &arn);
        put(json!({"FunctionName": name, "Qualifier": qualifier, "DestinationConfig": destination}))
    };
    let publish = |description: &str| {
        call(
            "publish_version",
            json!({"FunctionName": "next", "Description": description}),
        )
    };
    let alias = |operation: &str, version: &str| {
        call(
            operation,
            json!({"FunctionName": "next", "Name": "live", "FunctionVersion": version}),
        )
    };
    let answers = aws::call(
        &node,
        json!([
            publish("one"),
            alias("create_alias", "1"),
            success("first", "$LATEST", format!("{ARN}:next:live")),
            success("next", "live", format!("{ARN}:done")),
            // Not the configuration of the version or of the unqualified function.
            success("next", "1", format!("{ARN}:other")),
            success("next", "$LATEST", format!("{ARN}:other")),
        ]),
    )
    .await;
    assert_done(&answers);
    later(&node, "first", &json!({"do": "echo"})).await;
    let record = given(&node, "done", 1).await.remove(0)["event"].take();
    let arn = format!("{ARN}:next:live");
    assert_eq!(record["requestContext"]["functionArn"], arn);
    assert_eq!(record["responseContext"]["executedVersion"], "1");
    // The record of a record: what `next` was given is what `first` had done.
    let inner = &record["requestPayload"]["requestContext"];
    assert_eq!(inner["functionArn"], format!("{ARN}:first:$LATEST"));

    let changed = call(
        "update_function_configuration",
        json!({"FunctionName": "next", "Description": "changed"}),
    );
    let answers = aws::call(
        &node,
        json!([
            changed,
            {"operation": "function_updated_v2", "parameters": {"FunctionName": "next"}, "wait": {}},
            publish("two"),
            alias("update_alias", "2"),
        ]),
    )
    .await;
    assert_done(&answers);
    later(&node, "first", &json!({"do": "echo"})).await;
    let record = given(&node, "done", 2).await.remove(1)["event"].take();
    assert_eq!(record["responseContext"]["executedVersion"], "2");

    // An alias that is gone is nobody to tell.
    let gone = call(
        "delete_alias",
        json!({"FunctionName": "next", "Name": "live"}),
    );
    assert_done(&aws::call(&node, json!([gone])).await);
    later(&node, "first", &json!({"do": "echo"})).await;
    let failures = eventually(async || {
        let failures = node.metric("wharf_destination_delivery_failures_total{function=\"first\"");
        Some(failures.await).filter(|failures| *failures > 0.0)
    });
    assert_eq!(failures.await, 1.0);
    assert_eq!(given(&node, "done", 2).await.len(), 2);
    let others = node.client.logs("other", 10, false).await.unwrap();
    let others: Vec<_> = futures::TryStreamExt::try_collect(others).await.unwrap();
    assert!(others.is_empty(), "{others:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_target_gets_the_event_and_why_it_comes() {
    let node = node().await;
    worker(&node, "work").await;
    witness(&node, "morgue").await;
    let dead_letters = call(
        "update_function_configuration",
        json!({"FunctionName": "work", "DeadLetterConfig": {"TargetArn": format!("{ARN}:morgue")}}),
    );
    let once = json!({"FunctionName": "work", "MaximumRetryAttempts": 0});
    let wait = json!({"operation": "function_updated_v2", "parameters": {"FunctionName": "work"}, "wait": {}});
    assert_done(&aws::call(&node, json!([dead_letters, wait, put(once)])).await);

    let event = json!({"do": "error", "message": "none left"});
    let id = later(&node, "work", &event).await;
    let letter = given(&node, "morgue", 1).await.remove(0);
    assert_eq!(letter["event"], event);
    let context: Value = serde_json::from_str(letter["client_context"].as_str().unwrap()).unwrap();
    assert_eq!(
        context,
        json!({"custom": {"RequestID": id, "ErrorCode": "200", "ErrorMessage": "none left"}})
    );

    // Switched off, the function passes on at once what it would have to keep.
    let off = json!({"FunctionName": "work", "ReservedConcurrentExecutions": 0});
    assert_done(&aws::call(&node, json!([call("put_function_concurrency", off)])).await);
    let id = later(&node, "work", &json!({"do": "echo"})).await;
    let letter = given(&node, "morgue", 2).await.remove(1);
    let context = letter["client_context"].as_str().unwrap();
    assert!(context.contains(&id), "{context}");
    assert!(
        context.contains("the function's concurrency is 0"),
        "{context}"
    );

    node.client.remove("morgue").await.unwrap();
    later(&node, "work", &json!({"do": "echo"})).await;
    let errors = eventually(async || {
        let errors = node.metric("wharf_dead_letter_errors_total{function=\"work\"");
        Some(errors.await).filter(|errors| *errors > 0.0)
    });
    assert_eq!(errors.await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_that_tell_each_other_in_a_circle_come_to_an_end() {
    let node = node().await;
    // They answer `null`: what is echoed would double the record at each turn.
    for name in ["ping", "pong"] {
        witness(&node, name).await;
    }
    let circle = |from: &str, to: &str| {
        let destination = destination("OnSuccess", &format!("{ARN}:{to}"));
        put(json!({"FunctionName": from, "DestinationConfig": destination}))
    };
    let answers = aws::call(
        &node,
        json!([circle("ping", "pong"), circle("pong", "ping")]),
    );
    assert_done(&answers.await);
    let runs = async || {
        let ping = node.metric("wharf_requests_total{function=\"ping\"").await;
        ping + node.metric("wharf_requests_total{function=\"pong\"").await
    };
    later(&node, "ping", &json!({})).await;
    let dropped = eventually(async || {
        let dropped = node.metric("wharf_recursive_invocations_dropped_total");
        Some(dropped.await).filter(|dropped| *dropped > 0.0)
    });
    assert_eq!(dropped.await, 1.0);
    assert_eq!(runs().await, 17.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_too_large_is_a_failure_and_the_event_is_done() {
    let node = node().await;
    worker(&node, "work").await;
    witness(&node, "told").await;
    let destination = destination("OnSuccess", &format!("{ARN}:told"));
    let config = json!({"FunctionName": "work", "DestinationConfig": destination});
    assert_done(&aws::call(&node, json!([put(config)])).await);
    later(
        &node,
        "work",
        &json!({"do": "big-answer", "bytes": 2 << 20}),
    )
    .await;
    let failures = eventually(async || {
        let failures = node.metric("wharf_destination_delivery_failures_total{function=\"work\"");
        Some(failures.await).filter(|failures| *failures > 0.0)
    });
    assert_eq!(failures.await, 1.0);
    assert_eq!(
        node.metric("wharf_requests_total{function=\"work\",outcome=\"ok\"")
            .await,
        1.0
    );
}
