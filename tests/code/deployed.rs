//! Functions are deployed from S3 and from registries, by AWS's own client.

use serde_json::{Value, json};
use wharf::control::code::S3Settings;

use super::servers::{KEY, REGION, Registry, S3Server, SECRET};
use crate::support::{Node, aws, guests, zips};

const ROLE: &str = "arn:aws:iam::000000000000:role/any";

fn call(operation: &str, parameters: Value) -> Value {
    json!({"operation": operation, "parameters": parameters})
}

fn wait(waiter: &str, name: &str) -> Value {
    json!({"operation": waiter, "parameters": {"FunctionName": name}, "wait": {"Delay": 1}})
}

fn invoke(name: &str, event: Value) -> Value {
    call(
        "invoke",
        json!({"FunctionName": name, "Payload": event.to_string()}),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_and_layers_come_from_s3() {
    let probe = guests::GREET_PROBE.bytes();
    let package = zips::zip(&[("main.wasm", &probe)]);
    let layer = zips::zip(&[("greeter.wasm", &guests::GREETER.bytes())]);
    let server = S3Server::start(&[
        ("code", "function.zip", &package),
        ("code", "layer.zip", &layer),
        ("code", "function.zip", b"newer, and no zip"),
    ])
    .await;
    let folder = tempfile::tempdir().unwrap();
    let credentials = folder.path().join("credentials");
    let text = format!("[default]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n");
    std::fs::write(&credentials, text).unwrap();
    let node = Node::start_with(|config| {
        config.s3 = Some(S3Settings {
            endpoint: server.endpoint.parse().unwrap(),
            region: REGION.to_owned(),
            credentials: Some(credentials),
        });
    })
    .await;
    let create = |key: &str, version: Option<&str>| {
        let mut code = json!({"S3Bucket": "code", "S3Key": key});
        if let Some(version) = version {
            code["S3ObjectVersion"] = json!(version);
        }
        call(
            "create_function",
            json!({
                "FunctionName": "f", "Role": ROLE, "Runtime": "provided.al2023", "Handler": "main", "Code": code,
                "Layers": ["arn:aws:lambda:us-east-1:000000000000:layer:greeter:1"],
            }),
        )
    };
    let answers = aws::call(
        &node,
        json!([
            call("publish_layer_version",
                 json!({"LayerName": "greeter", "Content": {"S3Bucket": "code", "S3Key": "layer.zip"}})),
            create("none.zip", None),
            create("function.zip", None),
            create("function.zip", Some(&server.versions[0])),
            wait("function_active_v2", "f"),
            invoke("f", json!({"do": "greet", "name": "S3"})),
        ]),
    )
    .await;
    assert_eq!(answers[0]["Content"]["CodeSize"], layer.len());
    for (answer, message) in [
        (
            &answers[1],
            "Error occurred while GetObject. S3 Error Code: NoSuchKey. S3 Error Message: The specified key does not exist.",
        ),
        (
            &answers[2],
            "Could not unzip uploaded file. Please check your file, then try to upload again.",
        ),
    ] {
        assert_eq!(answer["code"], "InvalidParameterValueException");
        assert_eq!(answer["message"], message);
    }
    assert_eq!(answers[3]["CodeSize"], package.len());
    assert_eq!(
        answers[5]["Payload"], "\"Hello, S3! (1)\"",
        "{}",
        answers[5]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_resolved_when_it_is_deployed_and_not_again() {
    let registry = Registry::start(false).await;
    let event = guests::EVENT_PROBE.bytes();
    let first = registry
        .push("team/probe", "1", &[("application/wasm", &event)])
        .await;
    let node = Node::start().await;
    let image = format!("{}/team/probe:1", registry.host);
    let create = |uri: &str| {
        call(
            "create_function",
            json!({"FunctionName": "f", "Role": ROLE, "PackageType": "Image", "Code": {"ImageUri": uri}}),
        )
    };
    let get = || call("get_function", json!({"FunctionName": "f"}));
    let answers = aws::call(
        &node,
        json!([
            create(&format!("{}/team/none:1", registry.host)),
            create(&image),
            wait("function_active_v2", "f"),
            get(),
            invoke("f", json!({"do": "answer", "with": 1})),
        ]),
    )
    .await;
    assert_eq!(answers[0]["code"], "InvalidParameterValueException");
    let message = answers[0]["message"].as_str().unwrap();
    assert!(
        message.ends_with("does not exist. Provide a valid source image."),
        "{message}"
    );
    let resolved = format!("{}/team/probe@sha256:{first}", registry.host);
    assert_eq!(answers[3]["Code"]["ImageUri"], image);
    assert_eq!(answers[3]["Code"]["ResolvedImageUri"], resolved);
    let configuration = &answers[3]["Configuration"];
    assert_eq!(configuration["CodeSha256"], first.to_string());
    assert_eq!(configuration["CodeSize"], 0);
    assert_eq!(answers[4]["Payload"], "1");

    // The tag moves on. The function does when it is told to.
    let command = guests::COMMAND_PROBE.bytes();
    let second = registry
        .push("team/probe", "1", &[("application/wasm", &command)])
        .await;
    let answers = aws::call(
        &node,
        json!([
            get(),
            call(
                "update_function_code",
                json!({"FunctionName": "f", "ImageUri": image})
            ),
            wait("function_updated_v2", "f"),
            get(),
            invoke("f", json!({"do": "echo"})),
        ]),
    )
    .await;
    assert_eq!(answers[0]["Code"]["ResolvedImageUri"], resolved);
    let resolved = format!("{}/team/probe@sha256:{second}", registry.host);
    assert_eq!(answers[3]["Code"]["ResolvedImageUri"], resolved);
    assert_eq!(answers[4]["Payload"], r#"{"do":"echo"}"#);
}
