//! Layers by Lambda's API, with AWS's own client.

use crate::support::{Node, Reply, aws, eventually, guests, zips};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use reqwest::Method;
use serde_json::{Value, json};
use wharf::model::Digest;

const ROLE: &str = "arn:aws:iam::000000000000:role/any";
const LAYER: &str = "arn:aws:lambda:us-east-1:000000000000:layer";

fn blob(bytes: &[u8]) -> Value {
    json!({"$base64": BASE64_STANDARD.encode(bytes)})
}

fn sha256(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(Digest::of(bytes).as_bytes())
}

fn publish(name: &str, zip: &[u8]) -> Value {
    json!({"operation": "publish_layer_version", "parameters": {"LayerName": name, "Content": {"ZipFile": blob(zip)}}})
}

fn call(operation: &str, parameters: Value) -> Value {
    json!({"operation": operation, "parameters": parameters})
}

fn greeting() -> Bytes {
    zips::zip(&[
        ("greeter.wasm", &guests::GREETER.bytes()),
        ("word", b"Salut"),
    ])
}

fn create(name: &str, package: &[u8], layers: Value) -> Value {
    call(
        "create_function",
        json!({
            "FunctionName": name, "Role": ROLE, "Runtime": "provided.al2023", "Handler": "bootstrap",
            "Code": {"ZipFile": blob(package)}, "Layers": layers,
        }),
    )
}

fn invoke(name: &str, event: Value) -> Value {
    call(
        "invoke",
        json!({"FunctionName": name, "Payload": event.to_string()}),
    )
}

fn active(name: &str) -> Value {
    json!({"operation": "function_active_v2", "parameters": {"FunctionName": name}, "wait": {"Delay": 1}})
}

fn updated(name: &str) -> Value {
    json!({"operation": "function_updated_v2", "parameters": {"FunctionName": name}, "wait": {"Delay": 1}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_is_published_read_listed_and_deleted() {
    let node = Node::start().await;
    let (one, two) = (zips::zip(&[("a", b"1")]), zips::zip(&[("a", b"2")]));
    let mut described = publish("tools", &one);
    described["parameters"]["Description"] = json!("what it is for");
    described["parameters"]["LicenseInfo"] = json!("MIT");
    described["parameters"]["CompatibleRuntimes"] = json!(["provided.al2023", "python3.12"]);
    described["parameters"]["CompatibleArchitectures"] = json!(["x86_64"]);
    let version = |name: &str, number: i64| json!({"LayerName": name, "VersionNumber": number});
    let answers = aws::call(
        &node,
        json!([
            described,
            publish(&format!("{LAYER}:tools"), &two),
            call("get_layer_version", version("tools", 1)),
            call(
                "get_layer_version_by_arn",
                json!({"Arn": format!("{LAYER}:tools:2")})
            ),
            call("list_layer_versions", json!({"LayerName": "tools"})),
            call("delete_layer_version", version("tools", 2)),
            call("delete_layer_version", version("tools", 2)),
            call("get_layer_version", version("tools", 2)),
            publish("tools", &two),
            call("list_layers", json!({})),
        ]),
    )
    .await;
    let first = &answers[0];
    assert_eq!(first["ResponseMetadata"]["HTTPStatusCode"], 201);
    assert_eq!(first["Version"], 1);
    assert_eq!(first["LayerArn"], format!("{LAYER}:tools"));
    assert_eq!(first["LayerVersionArn"], format!("{LAYER}:tools:1"));
    assert_eq!(first["Description"], "what it is for");
    assert_eq!(first["LicenseInfo"], "MIT");
    assert_eq!(
        first["CompatibleRuntimes"],
        json!(["provided.al2023", "python3.12"])
    );
    assert_eq!(first["CompatibleArchitectures"], json!(["x86_64"]));
    assert_eq!(first["Content"]["CodeSha256"], sha256(&one));
    assert_eq!(first["Content"]["CodeSize"], one.len());
    assert_eq!(answers[1]["Version"], 2);

    let got = &answers[2];
    for member in [
        "Version",
        "LayerVersionArn",
        "Description",
        "CreatedDate",
        "LicenseInfo",
    ] {
        assert_eq!(got[member], first[member], "{member}");
    }
    let location = got["Content"]["Location"].as_str().unwrap();
    let downloaded = Reply::of(node.web.request(Method::GET, location)).await;
    assert_eq!((downloaded.status(), downloaded.body), (200, one));
    assert_eq!(answers[3]["Content"]["CodeSha256"], sha256(&two));

    let listed = |answer: &Value, list: &str| -> Vec<Value> {
        let items = answer[list].as_array().unwrap().iter();
        items.map(|item| item["Version"].clone()).collect()
    };
    assert_eq!(listed(&answers[4], "LayerVersions"), [2, 1]);
    for deleted in &answers[5..7] {
        assert_eq!(deleted["ResponseMetadata"]["HTTPStatusCode"], 204);
    }
    assert_eq!(answers[7]["code"], "ResourceNotFoundException");
    assert_eq!(
        answers[7]["message"],
        "The resource you requested does not exist."
    );
    // A number is never used again.
    assert_eq!(answers[8]["Version"], 3);
    let layers = answers[9]["Layers"].as_array().unwrap();
    assert_eq!(layers.len(), 1);
    assert_eq!(layers[0]["LayerName"], "tools");
    assert_eq!(layers[0]["LatestMatchingVersion"]["Version"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_filtered_and_paginated() {
    let node = Node::start().await;
    let zip = zips::zip(&[("a", b"")]);
    let mut calls = Vec::new();
    // `a-b` stands between `a` and its versions in the alphabet.
    for (name, runtime, architecture) in [
        ("a", "python3.12", "x86_64"),
        ("a", "nodejs22.x", "arm64"),
        ("a-b", "python3.12", "arm64"),
        ("a", "python3.12", "x86_64"),
        ("c", "nodejs22.x", "x86_64"),
    ] {
        let mut publish = publish(name, &zip);
        publish["parameters"]["CompatibleRuntimes"] = json!([runtime]);
        publish["parameters"]["CompatibleArchitectures"] = json!([architecture]);
        calls.push(publish);
    }
    let paged = |operation: &str, parameters: Value| json!({"operation": operation, "parameters": parameters, "paginate": {"PageSize": 1}});
    let published = calls.len();
    calls.extend([
        paged("list_layers", json!({})),
        paged("list_layers", json!({"CompatibleRuntime": "nodejs22.x"})),
        paged(
            "list_layers",
            json!({"CompatibleRuntime": "python3.12", "CompatibleArchitecture": "arm64"}),
        ),
        paged("list_layer_versions", json!({"LayerName": "a"})),
        paged(
            "list_layer_versions",
            json!({"LayerName": "a", "CompatibleArchitecture": "x86_64"}),
        ),
        paged("list_layer_versions", json!({"LayerName": "nothing"})),
        call("list_layers", json!({"Marker": "?"})),
        call("list_layers", json!({"MaxItems": 51})),
    ]);
    let answers = aws::call(&node, Value::Array(calls)).await;
    let layers = |answer: &Value| -> Vec<String> {
        let items = answer["Layers"].as_array().unwrap().iter();
        items
            .map(|item| {
                let latest = &item["LatestMatchingVersion"]["Version"];
                format!("{}:{latest}", item["LayerName"].as_str().unwrap())
            })
            .collect()
    };
    let versions = |answer: &Value| -> Vec<u64> {
        let items = answer["LayerVersions"].as_array().unwrap().iter();
        items
            .map(|item| item["Version"].as_u64().unwrap())
            .collect()
    };
    let answers = &answers[published..];
    assert_eq!(layers(&answers[0]), ["a:3", "a-b:1", "c:1"]);
    assert_eq!(layers(&answers[1]), ["a:2", "c:1"]);
    assert_eq!(layers(&answers[2]), ["a-b:1"]);
    assert_eq!(versions(&answers[3]), [3, 2, 1]);
    assert_eq!(versions(&answers[4]), [3, 1]);
    assert!(versions(&answers[5]).is_empty());
    assert_eq!(answers[6]["code"], "InvalidParameterValueException");
    assert_eq!(answers[7]["status"], 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_is_given_its_layers_and_keeps_what_is_deleted() {
    let node = Node::start().await;
    let package = zips::zip(&[
        ("bootstrap.wasm", &guests::GREET_PROBE.bytes()),
        ("notes.txt", b"in the package"),
    ]);
    let other = zips::zip(&[("word", b"Moin"), ("extra", b"x")]);
    let (greeter, words) = (format!("{LAYER}:greeter:1"), format!("{LAYER}:words:1"));
    let greet = || invoke("greets", json!({"do": "greet", "name": "Ada"}));
    let configure = |layers: Value| {
        call(
            "update_function_configuration",
            json!({"FunctionName": "greets", "Layers": layers}),
        )
    };
    let answers = aws::call(
        &node,
        json!([
            publish("greeter", &greeting()),
            publish("words", &other),
            create("greets", &package, json!([greeter])),
            active("greets"),
            greet(),
            invoke(
                "greets",
                json!({"do": "read", "path": "/var/task/notes.txt"})
            ),
            call(
                "get_function_configuration",
                json!({"FunctionName": "greets"})
            ),
            configure(json!([greeter, words])),
            updated("greets"),
            greet(),
            call(
                "delete_layer_version",
                json!({"LayerName": "greeter", "VersionNumber": 1})
            ),
            call(
                "delete_layer_version",
                json!({"LayerName": "words", "VersionNumber": 1})
            ),
            greet(),
            call(
                "update_function_code",
                json!({"FunctionName": "greets", "ZipFile": blob(&package)})
            ),
            updated("greets"),
            greet(),
        ]),
    )
    .await;
    assert_eq!(
        answers[2]["Layers"],
        json!([{"Arn": greeter, "CodeSize": greeting().len()}])
    );
    // The package's digest, whatever it was linked with.
    assert_eq!(answers[2]["CodeSha256"], sha256(&package));
    assert_eq!(
        answers[4]["Payload"], "\"Salut, Ada! (1)\"",
        "{}",
        answers[4]
    );
    assert_eq!(answers[5]["Payload"], "\"in the package\"");
    assert_eq!(answers[6]["Layers"], answers[2]["Layers"]);
    assert_eq!(answers[7]["Layers"].as_array().unwrap().len(), 2);
    for answer in [9, 12, 15] {
        let payload = answers[answer]["Payload"].as_str().unwrap();
        assert!(payload.starts_with("\"Moin, Ada!"), "{answer}: {payload}");
    }

    // Nor does a restart take anything, or a backup without what layers unpack to.
    let data = node.stop().await;
    std::fs::remove_dir_all(data.path().join("layers")).unwrap();
    let node = Node::start_in(data, |_| {}).await;
    let answers = aws::call(
        &node,
        json!([
            greet(),
            invoke(
                "greets",
                json!({"do": "read", "path": "/var/task/notes.txt"})
            ),
            configure(json!([])),
            json!({"operation": "function_updated_v2", "parameters": {"FunctionName": "greets"},
                   "wait": {"Delay": 1, "MaxAttempts": 20}}),
            call(
                "get_function_configuration",
                json!({"FunctionName": "greets"})
            ),
        ]),
    )
    .await;
    let payload = answers[0]["Payload"].as_str().unwrap();
    assert!(payload.starts_with("\"Moin, Ada!"), "{payload}");
    assert_eq!(answers[1]["Payload"], "\"in the package\"");
    // Without the layer its import has nobody.
    assert_eq!(answers[3]["code"], "WaiterError");
    let reason = answers[4]["LastUpdateStatusReason"].as_str().unwrap();
    assert!(reason.contains("acme:greet/hello"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_function_uses_any_more_is_removed_from_disk() {
    let node = Node::start_with(|config| {
        config.unused = std::time::Duration::from_millis(200);
    })
    .await;
    let layer = greeting();
    let answers = aws::call(
        &node,
        json!([
            publish("greeter", &layer),
            create(
                "greets",
                &guests::GREET_PROBE.bytes(),
                json!([format!("{LAYER}:greeter:1")])
            ),
            active("greets"),
            call(
                "delete_layer_version",
                json!({"LayerName": "greeter", "VersionNumber": 1})
            ),
        ]),
    )
    .await;
    assert_eq!(answers[2]["waited"], "function_active_v2");
    let name = Digest::of(&layer).to_string();
    let folder = node
        .data()
        .join("layers/sha256")
        .join(&name[..2])
        .join(&name[2..]);
    let blob = node
        .data()
        .join("blobs/sha256")
        .join(&name[..2])
        .join(&name[2..]);
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert!(folder.exists() && blob.exists(), "a function has it");
    aws::call(
        &node,
        json!([call("delete_function", json!({"FunctionName": "greets"}))]),
    )
    .await;
    eventually(async || (!folder.exists() && !blob.exists()).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_layer_cannot_be_is_refused_in_lambdas_words() {
    let node = Node::start().await;
    let zip = zips::zip(&[("a", b"")]);
    let probe = guests::EVENT_PROBE.bytes();
    let many: Vec<String> = (1..=6)
        .map(|number| format!("{LAYER}:l{number}:1"))
        .collect();
    let answers = aws::call(
        &node,
        json!([
            publish("tools", b"no zip"),
            publish("tools", b""),
            call(
                "publish_layer_version",
                json!({"LayerName": "tools", "Content": {}})
            ),
            call(
                "publish_layer_version",
                json!({"LayerName": "tools", "Content": {"S3Bucket": "code", "S3Key": "a"}})
            ),
            publish("arn:aws:lambda:us-east-1:111111111111:layer:tools", &zip),
            call(
                "get_layer_version",
                json!({"LayerName": "tools", "VersionNumber": 0})
            ),
            call(
                "get_layer_version",
                json!({"LayerName": "tools", "VersionNumber": 1})
            ),
            publish("tools", &zip),
            publish("tools", &zip),
            create("f", &probe, json!([format!("{LAYER}:tools:9")])),
            create(
                "f",
                &probe,
                json!([format!("{LAYER}:tools:1"), format!("{LAYER}:tools:2")])
            ),
            create(
                "f",
                &probe,
                json!(["arn:aws:lambda:eu-west-1:000000000000:layer:tools:1"])
            ),
            create(
                "f",
                &probe,
                json!(["arn:aws:lambda:us-east-1:111111111111:layer:tools:1"])
            ),
            create("f", &probe, json!(many)),
            publish("tools", &zips::zip(&[])),
        ]),
    )
    .await;
    let invalid = "InvalidParameterValueException";
    for (index, code, message) in [
        (
            0,
            invalid,
            "Could not unzip uploaded file. Please check your file, then try to upload again.",
        ),
        (1, invalid, "Uploaded file must be a non-empty zip"),
        (
            2,
            invalid,
            "Please provide a source for the layer's content",
        ),
        (3, invalid, "--s3-endpoint"),
        (4, "AccessDeniedException", "is not authorized"),
        (5, invalid, "Layer Version Cannot be less than 1."),
        (
            6,
            "ResourceNotFoundException",
            "The resource you requested does not exist.",
        ),
        (
            9,
            invalid,
            &format!("Layer version {LAYER}:tools:9 does not exist."),
        ),
        (
            10,
            invalid,
            "Two different versions of the same layer are not allowed",
        ),
        (
            11,
            invalid,
            "Layers are not in the same region as the function. Layers are expected to be in region us-east-1.",
        ),
        (12, "AccessDeniedException", "layer:tools:1"),
        (13, invalid, "Cannot reference more than 5 layers."),
        (14, invalid, "Uploaded file must be a non-empty zip"),
    ] {
        let answer = &answers[index];
        assert_eq!(answer["code"], code, "{index}: {answer}");
        assert!(
            answer["message"].as_str().unwrap().contains(message),
            "{answer}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn permissions_of_a_version_are_added_read_and_removed() {
    let node = Node::start().await;
    let with = |more: Value| {
        let mut parameters = json!({"LayerName": "tools", "VersionNumber": 1});
        parameters
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        parameters
    };
    let add = |more: Value| {
        let mut parameters = with(more);
        parameters["Action"] = json!("lambda:GetLayerVersion");
        call("add_layer_version_permission", parameters)
    };
    let answers = aws::call(
        &node,
        json!([
            call("get_layer_version_policy", with(json!({}))),
            publish("tools", &zips::zip(&[("a", b"")])),
            call("get_layer_version_policy", with(json!({}))),
            add(json!({"StatementId": "all", "Principal": "*", "OrganizationId": "o-0123456789"})),
            add(json!({"StatementId": "one", "Principal": "123456789012",
                       "RevisionId": {"$answer": [3, "RevisionId"]}})),
            add(json!({"StatementId": "one", "Principal": "123456789012"})),
            add(json!({"StatementId": "two", "Principal": "*", "RevisionId": {"$answer": [3, "RevisionId"]}})),
            call("get_layer_version_policy", with(json!({}))),
            call("remove_layer_version_permission",
                 with(json!({"StatementId": "one", "RevisionId": {"$answer": [7, "RevisionId"]}}))),
            call("remove_layer_version_permission", with(json!({"StatementId": "one"}))),
            call("get_layer_version_policy", with(json!({}))),
            call("delete_layer_version", with(json!({}))),
            call("get_layer_version_policy", with(json!({}))),
            add(json!({"StatementId": "x", "Principal": "everybody"})),
        ]),
    )
    .await;
    let document = |answer: &Value, member: &str| -> Value {
        serde_json::from_str(answer[member].as_str().unwrap()).unwrap()
    };
    assert_eq!(
        answers[0]["message"],
        format!("Layer version {LAYER}:tools:1 does not exist.")
    );
    assert_eq!(answers[2]["code"], "ResourceNotFoundException");
    assert_eq!(
        answers[2]["message"],
        "No policy is associated with the given resource."
    );
    assert_eq!(answers[3]["ResponseMetadata"]["HTTPStatusCode"], 201);
    let all = json!({
        "Sid": "all", "Effect": "Allow", "Principal": "*", "Action": "lambda:GetLayerVersion",
        "Resource": format!("{LAYER}:tools:1"),
        "Condition": {"StringEquals": {"aws:PrincipalOrgID": "o-0123456789"}},
    });
    assert_eq!(document(&answers[3], "Statement"), all);
    assert_eq!(
        document(&answers[4], "Statement")["Principal"],
        json!({"AWS": "arn:aws:iam::123456789012:root"})
    );
    assert_eq!(answers[5]["code"], "ResourceConflictException");
    assert_eq!(answers[6]["code"], "PreconditionFailedException");
    assert_eq!(answers[6]["status"], 412);
    let policy = document(&answers[7], "Policy");
    assert_eq!(policy["Statement"].as_array().unwrap().len(), 2);
    assert_eq!(answers[7]["RevisionId"], answers[4]["RevisionId"]);
    assert_eq!(answers[8]["ResponseMetadata"]["HTTPStatusCode"], 204);
    assert_eq!(
        answers[9]["message"],
        "Statement one is not found in resource policy."
    );
    assert_eq!(document(&answers[10], "Policy")["Statement"], json!([all]));
    assert_eq!(answers[12]["code"], "ResourceNotFoundException");
    assert_eq!(answers[13]["status"], 400);
}
