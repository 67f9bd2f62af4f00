//! Event source mappings and code signing configurations, as AWS's clients see them: stored, listed, held against what
//! Lambda says, and honest about what is not run. And what Wharf does not have, which is said.

use crate::support::{Node, aws, guests::EVENT_PROBE};
use serde_json::{Value, json};
use wharf::model::FunctionConfiguration;

const ARN: &str = "arn:aws:lambda:us-east-1:000000000000:function";
const SQS: &str = "arn:aws:sqs:us-east-1:000000000000:orders";
const KINESIS: &str = "arn:aws:kinesis:us-east-1:000000000000:stream/clicks";
const DYNAMODB: &str =
    "arn:aws:dynamodb:us-east-1:000000000000:table/t/stream/2024-01-01T00:00:00.000";
const MSK: &str = "arn:aws:kafka:us-east-1:000000000000:cluster/c/0b1a-2";
const MQ: &str = "arn:aws:mq:us-east-1:000000000000:broker:b:b-1";
const DOCUMENTDB: &str = "arn:aws:rds:us-east-1:000000000000:cluster:docs";

const INVALID: &str = "InvalidParameterValueException";
const NOT_FOUND: &str = "ResourceNotFoundException";
const CONFLICT: &str = "ResourceConflictException";

async fn node() -> Node {
    let node = Node::start().await;
    for name in ["work", "other"] {
        node.function(name, EVENT_PROBE, FunctionConfiguration::default())
            .await;
    }
    node
}

fn call(operation: &str, parameters: Value) -> Value {
    json!({"operation": operation, "parameters": parameters})
}

/// A mapping to `work`, with further members.
fn create(source: &str, members: Value) -> Value {
    let mut parameters = json!({"FunctionName": "work", "EventSourceArn": source});
    parameters
        .as_object_mut()
        .unwrap()
        .extend(members.as_object().unwrap().clone());
    call("create_event_source_mapping", parameters)
}

#[track_caller]
fn assert_error(answer: &Value, code: &str, message: &str) {
    assert_eq!(answer["code"], code, "{answer}");
    let said = answer["message"].as_str().unwrap();
    assert!(said.contains(message), "{said}\nhas not: {message}");
}

#[track_caller]
fn assert_done(answers: &[Value]) {
    for answer in answers {
        assert!(answer.get("code").is_none(), "{answer}");
    }
}

/// An answer without what differs each time.
#[track_caller]
fn plain(answer: &Value) -> Value {
    let mut answer = answer.as_object().unwrap().clone();
    answer.remove("ResponseMetadata");
    let uuid = answer.remove("UUID").unwrap();
    let uuid = uuid.as_str().unwrap();
    assert_eq!(uuid.len(), 36);
    let arn = answer.remove("EventSourceMappingArn").unwrap();
    let expected = format!("arn:aws:lambda:us-east-1:000000000000:event-source-mapping:{uuid}");
    assert_eq!(arn, expected);
    assert!(answer.remove("LastModified").unwrap().is_string());
    Value::Object(answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mapping_is_stored_and_says_that_it_is_not_run() {
    let node = node().await;
    let of = |index: usize| json!({"$answer": [index, "UUID"]});
    let filter = json!({"Filters": [{"Pattern": r#"{"body": {"state": ["on"]}}"#}]});
    let answers = aws::call(
        &node,
        json!([
            create(
                SQS,
                json!({"FilterCriteria": filter, "ScalingConfig": {"MaximumConcurrency": 5}})
            ),
            create(
                KINESIS,
                json!({"StartingPosition": "LATEST", "Enabled": false})
            ),
            call("get_event_source_mapping", json!({"UUID": of(0)})),
            call(
                "update_event_source_mapping",
                json!({"UUID": of(0), "BatchSize": 5, "FunctionName": "other", "Enabled": false})
            ),
            call("get_event_source_mapping", json!({"UUID": of(0)})),
            // The place that it had is free.
            create(SQS, json!({})),
            call("delete_event_source_mapping", json!({"UUID": of(1)})),
            call("get_event_source_mapping", json!({"UUID": of(1)})),
            create(KINESIS, json!({"StartingPosition": "TRIM_HORIZON"})),
        ]),
    )
    .await;
    let not_run =
        |what: &str| format!("Wharf does not poll {what} yet; the mapping is stored and not run.");
    let created = json!({
        "EventSourceArn": SQS,
        "FunctionArn": format!("{ARN}:work"),
        "BatchSize": 10,
        "MaximumBatchingWindowInSeconds": 0,
        "FunctionResponseTypes": [],
        "FilterCriteria": filter,
        "ScalingConfig": {"MaximumConcurrency": 5},
        "State": "Disabled",
        "StateTransitionReason": not_run("SQS queues"),
        "LastProcessingResult": "No records processed",
    });
    assert_eq!(plain(&answers[0]), created);
    assert_eq!(answers[0]["ResponseMetadata"]["HTTPStatusCode"], 202);
    assert_eq!(plain(&answers[2]), created);
    assert_eq!(
        plain(&answers[1]),
        json!({
            "EventSourceArn": KINESIS,
            "FunctionArn": format!("{ARN}:work"),
            "StartingPosition": "LATEST",
            "BatchSize": 100,
            "MaximumBatchingWindowInSeconds": 0,
            "ParallelizationFactor": 1,
            "DestinationConfig": {"OnFailure": {}},
            "MaximumRecordAgeInSeconds": -1,
            "BisectBatchOnFunctionError": false,
            "MaximumRetryAttempts": -1,
            "TumblingWindowInSeconds": 0,
            "FunctionResponseTypes": [],
            "State": "Disabled",
            "StateTransitionReason": "User action",
            "LastProcessingResult": "No records processed",
        })
    );
    let mut changed = created.clone();
    changed["BatchSize"] = 5.into();
    changed["FunctionArn"] = format!("{ARN}:other").into();
    changed["StateTransitionReason"] = "User action".into();
    assert_eq!(plain(&answers[3]), changed);
    assert_eq!(plain(&answers[4]), changed);
    assert_done(&answers[5..7]);
    assert_eq!(answers[6]["State"], "Deleting");
    assert_error(
        &answers[7],
        NOT_FOUND,
        "The resource you requested does not exist.",
    );
    assert_eq!(
        answers[8]["StateTransitionReason"],
        not_run("Kinesis streams")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn mappings_are_listed_by_function_and_by_source_page_by_page() {
    let node = node().await;
    let mut calls = vec![
        call("publish_version", json!({"FunctionName": "work"})),
        call(
            "create_event_source_mapping",
            json!({"FunctionName": "other", "EventSourceArn": SQS}),
        ),
        call(
            "create_event_source_mapping",
            json!({"FunctionName": "work:1", "EventSourceArn": SQS}),
        ),
    ];
    calls.extend((0..5).map(|number| create(&format!("{SQS}{number}"), json!({}))));
    calls.push(create(SQS, json!({})));
    assert_done(&aws::call(&node, calls.into()).await);
    let list = |parameters: Value, page: u32| json!({"operation": "list_event_source_mappings", "parameters": parameters, "paginate": {"PageSize": page}});
    let answers = aws::call(
        &node,
        json!([
            list(json!({}), 3),
            list(json!({"FunctionName": "work"}), 2),
            list(json!({"FunctionName": format!("{ARN}:work:1")}), 100),
            list(json!({"EventSourceArn": SQS}), 1),
            list(json!({"EventSourceArn": SQS, "FunctionName": "other"}), 100),
            list(json!({"FunctionName": "nobody"}), 100),
            call("list_event_source_mappings", json!({"MaxItems": 3})),
            call("list_event_source_mappings", json!({"Marker": "%"})),
        ]),
    )
    .await;
    let counts = answers[..7].iter().map(|answer| {
        let mappings = answer["EventSourceMappings"].as_array().unwrap();
        let mut uuids: Vec<_> = mappings.iter().map(|one| one["UUID"].as_str()).collect();
        uuids.sort_unstable();
        uuids.dedup();
        uuids.len()
    });
    assert_eq!(counts.collect::<Vec<_>>(), [8, 6, 1, 3, 1, 0, 3]);
    assert!(answers[6]["NextMarker"].is_string());
    assert_error(&answers[7], INVALID, "Invalid marker value.");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mapping_outlives_its_function_and_says_so() {
    let node = node().await;
    let created = aws::call(&node, json!([create(SQS, json!({}))])).await;
    let delete = call("delete_function", json!({"FunctionName": "work"}));
    let get = call(
        "get_event_source_mapping",
        json!({"UUID": created[0]["UUID"]}),
    );
    let answers = aws::call(&node, json!([delete, get])).await;
    assert_eq!(
        answers[1]["LastProcessingResult"],
        "PROBLEM: Function not found"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn mappings_and_code_signing_configurations_have_tags() {
    let node = node().await;
    let publisher = "arn:aws:signer:us-east-1:000000000000:/signing-profiles/p/abcdefghij";
    let publishers = json!({"SigningProfileVersionArns": [publisher]});
    let tags = json!({"team": "shop"});
    let mapping = json!({"$answer": [0, "EventSourceMappingArn"]});
    let config = json!({"$answer": [1, "CodeSigningConfig", "CodeSigningConfigArn"]});
    let of = |operation: &str, arn: &Value, more: Value| {
        let mut parameters = json!({"Resource": arn});
        parameters
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        call(operation, parameters)
    };
    let answers = aws::call(
        &node,
        json!([
            create(SQS, json!({"Tags": tags})),
            call("create_code_signing_config", json!({"AllowedPublishers": publishers, "Tags": tags})),
            of("tag_resource", &mapping, json!({"Tags": {"cost": "7"}})),
            of("untag_resource", &mapping, json!({"TagKeys": ["team"]})),
            of("list_tags", &mapping, json!({})),
            of("tag_resource", &config, json!({"Tags": {"team": "till"}})),
            of("list_tags", &config, json!({})),
            of("list_tags", &"arn:aws:lambda:us-east-1:000000000000:event-source-mapping:00000000-0000-4000-8000-000000000000".into(), json!({})),
        ]),
    )
    .await;
    assert_done(&answers[..7]);
    assert_eq!(answers[4]["Tags"], json!({"cost": "7"}));
    assert_eq!(answers[6]["Tags"], json!({"team": "till"}));
    assert_error(
        &answers[7],
        NOT_FOUND,
        "The resource you requested does not exist.",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_mappings_of_a_source_to_a_function_are_one_too_many() {
    let node = node().await;
    let kafka = |topic: &str, servers: Value| {
        call(
            "create_event_source_mapping",
            json!({
                "FunctionName": "work",
                "Topics": [topic],
                "SelfManagedEventSource": {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": servers}},
                "SourceAccessConfigurations": [{"Type": "VPC_SUBNET", "URI": "subnet:subnet-1"}],
            }),
        )
    };
    let stream = json!({"StartingPosition": "LATEST"});
    let answers = aws::call(
        &node,
        json!([
            create(SQS, json!({})),
            create(SQS, json!({"BatchSize": 1})),
            create(KINESIS, stream.clone()),
            create(KINESIS, stream),
            kafka("one", json!(["a:9092", "b:9092"])),
            kafka("two", json!(["a:9092", "b:9092"])),
            kafka("one", json!(["b:9092", "a:9092"])),
            call(
                "create_event_source_mapping",
                json!({"FunctionName": "other", "EventSourceArn": SQS})
            ),
            call(
                "update_event_source_mapping",
                json!({"UUID": {"$answer": [7, "UUID"]}, "FunctionName": "work"})
            ),
        ]),
    )
    .await;
    for place in [0, 2, 4, 5, 7] {
        assert_done(&answers[place..=place]);
    }
    let with = |place: usize| {
        let uuid = answers[place]["UUID"].as_str().unwrap();
        format!(" Please update or delete the existing mapping with UUID {uuid}")
    };
    let sqs = format!(
        "An event source mapping with SQS arn (\" {SQS} \") and function (\" work \") already exists.{}",
        with(0)
    );
    assert_error(&answers[1], CONFLICT, &sqs);
    let kinesis = format!(
        "The event source arn (\" {KINESIS} \") and function (\" work \") provided mapping already exists.{}",
        with(2)
    );
    assert_error(&answers[3], CONFLICT, &kinesis);
    assert_error(&answers[6], CONFLICT, &with(4));
    assert_error(&answers[8], CONFLICT, &sqs);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mapping_that_lambda_would_not_take_is_refused() {
    let node = node().await;
    let fifo = format!("{SQS}.fifo");
    let stream = |more: Value| {
        let mut members = json!({"StartingPosition": "LATEST"});
        members
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        members
    };
    let filter = |pattern: &str| json!({"FilterCriteria": {"Filters": [{"Pattern": pattern}]}});
    let access = json!([{"Type": "BASIC_AUTH", "URI": "arn:aws:secretsmanager:us-east-1:000000000000:secret:s"}]);
    let unsupported = |member: &str| {
        format!("Unsupported {member} parameter for given event source mapping type.")
    };
    let bare = |parameters: Value| call("create_event_source_mapping", parameters);
    let cases = [
        (bare(json!({"FunctionName": "work"})), "Unrecognized event source.".to_owned()),
        (create("arn:aws:s3:us-east-1:000000000000:bucket", json!({})), "Unrecognized event source.".to_owned()),
        (bare(json!({"FunctionName": "nobody", "EventSourceArn": SQS})), "Function does not exist".to_owned()),
        (bare(json!({"FunctionName": "work:live", "EventSourceArn": SQS})), "Function does not exist".to_owned()),
        (create(SQS, json!({"BatchSize": 11})), "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10".to_owned()),
        (create(&fifo, json!({"BatchSize": 11})), "Batch size 11 is not supported".to_owned()),
        (create(&fifo, json!({"MaximumBatchingWindowInSeconds": 1})), "Batching window is not supported for FIFO queues.".to_owned()),
        (create(SQS, json!({"StartingPosition": "LATEST"})), unsupported("StartingPosition")),
        (create(SQS, json!({"ParallelizationFactor": 2})), unsupported("ParallelizationFactor")),
        (create(SQS, json!({"DestinationConfig": {"OnFailure": {"Destination": SQS}}})), unsupported("DestinationConfig")),
        (create(KINESIS, json!({})), "Value null at 'startingPosition' failed to satisfy constraint: Member must not be null.".to_owned()),
        (create(KINESIS, json!({"StartingPosition": "AT_TIMESTAMP"})), "StartingPositionTimestamp must be provided".to_owned()),
        (create(KINESIS, stream(json!({"StartingPositionTimestamp": 1_700_000_000}))), "only valid when StartingPosition is AT_TIMESTAMP".to_owned()),
        (create(KINESIS, json!({"StartingPosition": "AT_TIMESTAMP", "StartingPositionTimestamp": 99_999_999_999_u64})), "must not be in the future".to_owned()),
        (create(DYNAMODB, json!({"StartingPosition": "AT_TIMESTAMP", "StartingPositionTimestamp": 1_700_000_000})), format!("Unsupported starting position for arn type: {DYNAMODB}")),
        (create(KINESIS, stream(json!({"DestinationConfig": {"OnSuccess": {"Destination": SQS}}}))), unsupported("DestinationConfig")),
        (create(KINESIS, stream(json!({"DestinationConfig": {"OnFailure": {"Destination": format!("{ARN}:other")}}}))), "is invalid.".to_owned()),
        (create(KINESIS, stream(json!({"MaximumRecordAgeInSeconds": 5}))), "MaximumRecordAgeInSeconds has to be -1".to_owned()),
        (create(KINESIS, stream(json!({"Topics": ["t1"]}))), unsupported("Topics")),
        (create(MSK, stream(json!({}))), "Required 'topics' parameter is missing.".to_owned()),
        (create(MSK, json!({"Topics": ["t1"]})), "'startingPosition'".to_owned()),
        (create(MSK, stream(json!({"Topics": ["t1"], "ProvisionedPollerConfig": {"MinimumPollers": 3, "MaximumPollers": 2}}))), "MinimumPollers must not be greater".to_owned()),
        (create(MQ, json!({"SourceAccessConfigurations": access})), "Required 'queues' parameter is missing.".to_owned()),
        (create(MQ, json!({"Queues": ["q"]})), "Required 'sourceAccessConfigurations' parameter is missing.".to_owned()),
        (create(DOCUMENTDB, stream(json!({"SourceAccessConfigurations": access, "DocumentDBEventSourceConfig": {}}))), "Required 'databaseName' parameter is missing.".to_owned()),
        (create(SQS, filter("{")), "Invalid filter pattern definition.".to_owned()),
        (create(SQS, filter(r#"{"body": "on"}"#)), "Invalid filter pattern definition.".to_owned()),
        (create(SQS, json!({"KMSKeyArn": "arn:aws:kms:us-east-1:000000000000:key/k"})), "Wharf cannot honour KMSKeyArn".to_owned()),
    ];
    let calls: Vec<&Value> = cases.iter().map(|(call, _)| call).collect();
    let answers = aws::call(&node, json!(calls)).await;
    for (answer, (call, message)) in answers.iter().zip(&cases) {
        assert_eq!(answer["code"], INVALID, "{call} {answer}");
        assert_error(answer, INVALID, message);
    }
    let uuid = "00000000-0000-4000-8000-000000000000";
    let by_uuid = |operation: &str| call(operation, json!({"UUID": uuid}));
    let answers = aws::call(
        &node,
        json!([
            by_uuid("get_event_source_mapping"),
            by_uuid("update_event_source_mapping"),
            by_uuid("delete_event_source_mapping"),
            {"operation": "create_event_source_mapping", "config": {"parameter_validation": false},
             "parameters": {"EventSourceArn": SQS, "FunctionName": "work", "BatchSize": 0, "MaximumBatchingWindowInSeconds": 301}},
            // What changes is held against the rest.
            create(SQS, json!({})),
            call("update_event_source_mapping", json!({"UUID": {"$answer": [4, "UUID"]}, "BatchSize": 11})),
        ]),
    )
    .await;
    for answer in &answers[..3] {
        assert_error(
            answer,
            NOT_FOUND,
            "The resource you requested does not exist.",
        );
    }
    let message =
        "2 validation errors detected: Value '0' at 'batchSize' failed to satisfy constraint";
    assert_error(&answers[3], "ValidationException", message);
    assert_error(&answers[5], INVALID, "Maximum batch window in seconds");
}

#[tokio::test(flavor = "multi_thread")]
async fn code_signing_that_warns_is_kept_and_what_enforces_is_refused() {
    let node = node().await;
    let publisher = "arn:aws:signer:us-east-1:000000000000:/signing-profiles/p/abcdefghij";
    let publishers = json!({"SigningProfileVersionArns": [publisher]});
    let policy = |policy: &str| json!({"UntrustedArtifactOnDeployment": policy});
    let config = |policies: Value| {
        call(
            "create_code_signing_config",
            json!({"AllowedPublishers": publishers, "Description": "d", "CodeSigningPolicies": policies}),
        )
    };
    let first = json!({"$answer": [0, "CodeSigningConfig", "CodeSigningConfigArn"]});
    let of = |operation: &str| call(operation, json!({"CodeSigningConfigArn": first}));
    let tie = |name: &str, arn: &Value| {
        call(
            "put_function_code_signing_config",
            json!({"FunctionName": name, "CodeSigningConfigArn": arn}),
        )
    };
    let function = |operation: &str, name: &str| call(operation, json!({"FunctionName": name}));
    let missing = "arn:aws:lambda:us-east-1:000000000000:code-signing-config:csc-00000000000000000";
    let answers = aws::call(
        &node,
        json!([
            config(policy("Warn")),
            call("create_code_signing_config", json!({"AllowedPublishers": publishers})),
            config(policy("Enforce")),
            call("update_code_signing_config", json!({"CodeSigningConfigArn": first, "Description": "changed"})),
            of("get_code_signing_config"),
            call("update_code_signing_config", json!({"CodeSigningConfigArn": first, "CodeSigningPolicies": policy("Enforce")})),
            {"operation": "list_code_signing_configs", "parameters": {}, "paginate": {"PageSize": 1}},
            tie("work", &first),
            tie("other", &first),
            function("get_function_code_signing_config", "work"),
            {"operation": "list_functions_by_code_signing_config", "parameters": {"CodeSigningConfigArn": first}, "paginate": {"PageSize": 1}},
            of("delete_code_signing_config"),
            function("delete_function_code_signing_config", "work"),
            function("delete_function", "other"),
            of("list_functions_by_code_signing_config"),
            of("delete_code_signing_config"),
            of("get_code_signing_config"),
            call("get_code_signing_config", json!({"CodeSigningConfigArn": missing})),
            tie("work", &missing.into()),
            tie("nobody", &json!({"$answer": [1, "CodeSigningConfig", "CodeSigningConfigArn"]})),
            function("get_function_code_signing_config", "nobody"),
        ]),
    )
    .await;
    let created = &answers[0]["CodeSigningConfig"];
    let id = created["CodeSigningConfigId"].as_str().unwrap();
    let arn = format!("arn:aws:lambda:us-east-1:000000000000:code-signing-config:{id}");
    assert_eq!(created["CodeSigningConfigArn"], arn);
    assert_eq!(created["AllowedPublishers"], publishers);
    assert_eq!(created["CodeSigningPolicies"], policy("Warn"));
    assert_eq!(
        answers[1]["CodeSigningConfig"]["CodeSigningPolicies"],
        policy("Warn")
    );
    let enforce = "Wharf cannot honour UntrustedArtifactOnDeployment Enforce";
    assert_error(&answers[2], INVALID, enforce);
    assert_eq!(answers[4]["CodeSigningConfig"]["Description"], "changed");
    assert_error(&answers[5], INVALID, enforce);
    assert_eq!(
        answers[6]["CodeSigningConfigs"].as_array().unwrap().len(),
        2
    );
    assert_eq!(answers[9]["CodeSigningConfigArn"], arn);
    assert_eq!(answers[9]["FunctionName"], "work");
    let tied = ["other", "work"].map(|name| format!("{ARN}:{name}"));
    assert_eq!(answers[10]["FunctionArns"], json!(tied));
    assert_error(
        &answers[11],
        CONFLICT,
        "Cannot delete the code signing configuration",
    );
    assert_done(&answers[12..16]);
    assert_eq!(answers[14]["FunctionArns"], json!([]));
    let gone = format!("The Lambda code signing configuration {arn} can not be found.");
    assert_error(&answers[16], NOT_FOUND, &gone);
    let gone = format!("The Lambda code signing configuration {missing} can not be found.");
    assert_error(&answers[17], NOT_FOUND, &gone);
    let gone = format!("Check that the provided configuration is not deleted: {missing}.");
    assert_error(&answers[18], "CodeSigningConfigNotFoundException", &gone);
    for answer in &answers[19..] {
        assert_error(
            answer,
            NOT_FOUND,
            &format!("Function not found: {ARN}:nobody"),
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_wharf_does_not_have_says_so() {
    let node = node().await;
    let runtime = |update: &str| {
        call(
            "put_runtime_management_config",
            json!({"FunctionName": "work", "UpdateRuntimeOn": update}),
        )
    };
    let provider = json!({"CapacityProviderName": "p"});
    let answers = aws::call(
        &node,
        json!([
            call(
                "get_runtime_management_config",
                json!({"FunctionName": "work"})
            ),
            runtime("Auto"),
            runtime("FunctionUpdate"),
            call(
                "get_runtime_management_config",
                json!({"FunctionName": "nobody"})
            ),
            call("list_capacity_providers", json!({})),
            call("get_capacity_provider", provider),
            call(
                "get_function_scaling_config",
                json!({"FunctionName": "work", "Qualifier": "1"})
            ),
            call(
                "list_durable_executions_by_function",
                json!({"FunctionName": "work"})
            ),
            call(
                "get_resource_policy",
                json!({"ResourceArn": format!("{ARN}:work")})
            ),
        ]),
    )
    .await;
    for answer in &answers[..2] {
        assert_done(std::slice::from_ref(answer));
        assert_eq!(answer["UpdateRuntimeOn"], "Auto");
        assert_eq!(answer["FunctionArn"], format!("{ARN}:work"));
    }
    assert_error(
        &answers[2],
        INVALID,
        "Wharf cannot honour UpdateRuntimeOn FunctionUpdate",
    );
    assert_error(&answers[3], NOT_FOUND, "Function not found");
    for (answer, reason) in answers[4..].iter().zip([
        "Wharf does not support ListCapacityProviders: it has no capacity providers",
        "Wharf does not support GetCapacityProvider: it has no capacity providers",
        "Wharf does not support GetFunctionScalingConfig: the scaling of execution environments",
        "Wharf does not support ListDurableExecutionsByFunction: it has no durable executions",
        "Wharf does not support GetResourcePolicy: a function's policy is read with GetPolicy",
    ]) {
        assert_error(answer, INVALID, reason);
    }
}
