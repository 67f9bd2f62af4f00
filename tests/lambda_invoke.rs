//! Functions invoked through the Lambda API by AWS's own client: answers, errors, streams, and events that are HTTP requests.

use std::time::{Duration, Instant};

use crate::support::{self, Node, Reply, aws, guests};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use reqwest::Method;
use serde_json::{Value, json};
use wharf::model::{ByteSize, FunctionConfiguration};

async fn node_with_functions() -> Node {
    let node = Node::start().await;
    let usual = FunctionConfiguration::default;
    node.function("probe", guests::EVENT_PROBE, usual()).await;
    node.function("web", guests::HOSTILE, usual()).await;
    node
}

fn invoke(function: &str, event: &Value) -> Value {
    json!({
        "operation": "invoke",
        "parameters": {"FunctionName": function, "Payload": event.to_string()},
    })
}

fn stream(function: &str, event: &Value) -> Value {
    json!({
        "operation": "invoke_with_response_stream",
        "parameters": {"FunctionName": function, "Payload": event.to_string(), "LogType": "Tail"},
    })
}

/// The event of a request, in format 2.0.
fn request(method: &str, target: &str, body: Option<&str>) -> Value {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    json!({
        "version": "2.0",
        "rawPath": path,
        "rawQueryString": query,
        "headers": {"host": "web.example", "x-tag": "a", "content-type": "text/plain"},
        "requestContext": {"http": {"method": method, "sourceIp": "192.0.2.1"}},
        "body": body,
    })
}

fn payload(answer: &Value) -> Value {
    let text = answer["Payload"].as_str().unwrap();
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_speaks_http_answers_events_that_are_requests() {
    let node = node_with_functions().await;
    node.function("web3", guests::P3_HELLO, FunctionConfiguration::default())
        .await;
    let rest = json!({
        "httpMethod": "POST",
        "path": "/echo",
        "multiValueHeaders": {"host": ["rest.example"], "x-tag": ["a", "b"]},
        "multiValueQueryStringParameters": {"q": ["1", "2"]},
        "body": BASE64_STANDARD.encode([0xff, 0x00]),
        "isBase64Encoded": true,
    });
    let through = json!({"do": "invoke", "function": "web", "event": request("GET", "/", None)});
    let answers = aws::call(
        &node,
        json!([
            invoke("web", &request("PUT", "/echo?a=1", Some("hi"))),
            invoke("web", &rest),
            invoke("web", &request("GET", "/body?bytes=100000", None)),
            invoke("web", &request("GET", "/status?code=404", None)),
            invoke("web3", &request("POST", "/echo", Some("hi"))),
            invoke("probe", &through),
        ]),
    )
    .await;

    let echo = payload(&answers[0]);
    assert_eq!(answers[0].get("FunctionError"), None);
    assert_eq!(answers[0]["ExecutedVersion"], "$LATEST");
    assert_eq!(
        (&echo["statusCode"], &echo["body"]),
        (&json!(200), &json!("hi"))
    );
    let headers = &echo["headers"];
    assert_eq!(headers["x-echo-method"], "PUT");
    assert_eq!(headers["x-echo-target"], "/echo?a=1");
    assert_eq!(headers["x-echo-authority"], "web.example");
    assert_eq!(headers["x-echo-x-tag"], "a");
    assert_eq!(headers["x-echo-x-forwarded-for"], "192.0.2.1");

    let echo = payload(&answers[1]);
    assert_eq!(
        echo["multiValueHeaders"]["x-echo-target"],
        json!(["/echo?q=1&q=2"])
    );
    assert_eq!(
        (&echo["body"], &echo["isBase64Encoded"]),
        (&json!("/wA="), &json!(true))
    );
    assert_eq!(
        payload(&answers[2])["body"].as_str().unwrap().len(),
        100_000
    );
    assert_eq!(payload(&answers[3])["statusCode"], 404);
    assert_eq!(payload(&answers[4])["body"], "hi");
    let hello = payload(&answers[5]);
    assert_eq!(
        (&hello["statusCode"], &hello["body"]),
        (&json!(200), &json!("hello\n"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_no_request_is_an_error_of_the_function_and_harms_nobody() {
    let node = node_with_functions().await;
    let fields: serde_json::Map<String, Value> = (0..50_000)
        .map(|i| (format!("x-{i}"), json!("x")))
        .collect();
    let get = |headers: Value| {
        let mut event = request("GET", "/", None);
        event["headers"] = headers;
        event
    };
    let mut wrong_body = request("POST", "/", Some("%%%"));
    wrong_body["isBase64Encoded"] = json!(true);
    let events = [
        json!({"do": "echo"}),
        json!([]),
        json!(null),
        get(Value::Object(fields)),
        get(json!({"x-a": "b\r\nx-injected: c"})),
        get(json!({"x a": "b"})),
        get(json!({"x-a": {"b": "c"}})),
        get(json!({"host": "a b"})),
        request("GE T", "/", None),
        request("CONNECT", "/", None),
        request("GET", "no-slash", None),
        request("GET", &format!("/{}", "a".repeat(100_000)), None),
        wrong_body,
    ];
    let calls: Vec<Value> = events.iter().map(|event| invoke("web", event)).collect();
    for answer in aws::call(&node, Value::Array(calls)).await {
        assert_eq!(answer["FunctionError"], "Unhandled", "{answer}");
        let document = payload(&answer);
        assert_eq!(document["errorType"], "Runtime.InvalidEvent", "{document}");
        assert!(document["errorMessage"].as_str().unwrap().len() < 500);
    }
    let function = Web(&node);
    assert_eq!(function.reports("function_error").await, events.len());
    let hello = aws::call(&node, json!([invoke("web", &request("GET", "/", None))])).await;
    assert_eq!(payload(&hello[0])["body"], "hello\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_inside_is_told_as_lambda_tells_it() {
    let node = node_with_functions().await;
    let short = FunctionConfiguration {
        timeout: Some(Duration::from_secs(1)),
        ..FunctionConfiguration::default()
    };
    node.function("short", guests::EVENT_PROBE, short.clone())
        .await;
    node.function("short-web", guests::HOSTILE, short).await;
    let small = FunctionConfiguration {
        response: ByteSize::kb(64),
        ..FunctionConfiguration::default()
    };
    node.function("small", guests::HOSTILE, small).await;
    let get = |target| request("GET", target, None);
    let answers = aws::call(
        &node,
        json!([
            invoke(
                "probe",
                &json!({"do": "error", "type": "Mine", "message": "no"})
            ),
            invoke("short", &json!({"do": "sleep", "ms": 5000})),
            invoke("short-web", &get("/never")),
            invoke("probe", &json!({"do": "panic"})),
            invoke("probe", &json!({"do": "memory"})),
            invoke("web", &get("/trap")),
            invoke("web", &get("/trap-after")),
            invoke("web", &get("/no-answer")),
            invoke("web", &get("/error")),
            invoke("small", &get("/body?bytes=100000")),
            invoke("small", &get("/body?bytes=65500")),
            invoke("small", &get("/body?bytes=60000")),
            invoke("web", &get("/endless")),
        ]),
    )
    .await;
    let told = |index: usize| {
        let answer = &answers[index];
        assert_eq!(answer["FunctionError"], "Unhandled", "{answer}");
        assert_eq!(answer["StatusCode"], 200);
        payload(answer)
    };
    let id = |index: usize| {
        answers[index]["ResponseMetadata"]["RequestId"]
            .as_str()
            .unwrap()
    };
    assert_eq!(
        told(0),
        json!({"errorType": "Mine", "errorMessage": "no", "trace": ["first line", "second line"]})
    );
    for index in [1, 2] {
        let message = format!(
            "RequestId: {} Error: Task timed out after 1.00 seconds",
            id(index)
        );
        assert_eq!(
            told(index),
            json!({"errorType": "Sandbox.Timedout", "errorMessage": message})
        );
    }
    for (index, kind) in [
        (3, "Runtime.ExitError"),
        (4, "Runtime.OutOfMemory"),
        (5, "Runtime.ExitError"),
        (6, "Runtime.ExitError"),
        (7, "Runtime.BadResponse"),
        (8, "Runtime.ExitError"),
        (9, "Function.ResponseSizeTooLarge"),
        (10, "Function.ResponseSizeTooLarge"),
        (12, "Function.ResponseSizeTooLarge"),
    ] {
        assert_eq!(told(index)["errorType"], kind, "{index}: {answers:?}");
    }
    assert_eq!(
        payload(&answers[11])["body"].as_str().unwrap().len(),
        60_000
    );
    assert_eq!(Web(&node).reports("response_too_large").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_call_is_told_by_lambdas_names() {
    let node = node_with_functions().await;
    let off = FunctionConfiguration {
        concurrency: Some(0),
        ..FunctionConfiguration::default()
    };
    node.function("off", guests::EVENT_PROBE, off).await;
    let call = |parameters: Value| {
        let mut parameters = parameters;
        let named = parameters["FunctionName"].is_string();
        if !named {
            parameters["FunctionName"] = json!("probe");
        }
        json!({"operation": "invoke", "parameters": parameters})
    };
    let large = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
    let arn = "arn:aws:lambda:us-east-1:000000000000:function:probe";
    let cases = [
        (
            call(json!({"FunctionName": "nobody"})),
            404,
            "ResourceNotFoundException",
            "Function not found: arn:aws:lambda:us-east-1:000000000000:function:nobody".to_owned(),
        ),
        (
            call(json!({"Qualifier": "live"})),
            404,
            "ResourceNotFoundException",
            format!("Function not found: {arn}:live"),
        ),
        (
            call(json!({"FunctionName": "arn:aws:lambda:us-east-1:000000000001:function:probe"})),
            404,
            "ResourceNotFoundException",
            "Function not found".to_owned(),
        ),
        (
            call(json!({"FunctionName": "arn:aws:lambda:eu-west-1:000000000000:function:probe"})),
            404,
            "ResourceNotFoundException",
            "Function not found: arn:aws:lambda:eu-west-1:000000000000:function:probe".to_owned(),
        ),
        (
            call(json!({"FunctionName": format!("{arn}:$LATEST"), "Qualifier": "1"})),
            400,
            "InvalidParameterValueException",
            "The derived qualifier from the function name does not match the specified qualifier."
                .to_owned(),
        ),
        (
            call(json!({"FunctionName": "a b"})),
            400,
            "ValidationException",
            "1 validation error detected: Value 'a b' at 'functionName' failed".to_owned(),
        ),
        (
            call(json!({"InvocationType": "Later"})),
            400,
            "ValidationException",
            "at 'invocationType' failed".to_owned(),
        ),
        (
            call(json!({"Payload": "{"})),
            400,
            "InvalidRequestContentException",
            "Could not parse request body into json: ".to_owned(),
        ),
        (
            call(json!({"Payload": {"$base64": "/w=="}})),
            400,
            "InvalidRequestContentException",
            "Could not parse request body into json: ".to_owned(),
        ),
        (
            call(json!({"ClientContext": "%"})),
            400,
            "InvalidParameterValueException",
            "Client context must be a valid Base64-encoded JSON object.".to_owned(),
        ),
        (
            call(json!({"TenantId": "a"})),
            400,
            "InvalidParameterValueException",
            "The invoked function is not enabled for tenancy configuration.".to_owned(),
        ),
        (
            call(json!({"Payload": large((6 << 20) + 1)})),
            413,
            "RequestTooLargeException",
            "Request must be smaller than 6291456 bytes for the InvokeFunction operation"
                .to_owned(),
        ),
        (
            call(json!({"InvocationType": "Event", "Payload": large((1 << 20) + 1)})),
            413,
            "RequestTooLargeException",
            "1048577 byte payload is too large for the Event invocation type (limit 1048576 bytes)"
                .to_owned(),
        ),
        (
            call(json!({"FunctionName": "off"})),
            429,
            "TooManyRequestsException",
            "Rate Exceeded.".to_owned(),
        ),
    ];
    let calls: Vec<Value> = cases.iter().map(|(call, ..)| call.clone()).collect();
    let answers = aws::call(&node, Value::Array(calls)).await;
    for ((_, status, code, message), answer) in cases.iter().zip(&answers) {
        assert_eq!(
            (&answer["status"], &answer["code"]),
            (&json!(status), &json!(code)),
            "{answer}"
        );
        let said = answer["message"].as_str().unwrap();
        assert!(said.contains(message), "{said}");
    }
    let throttled = answers.last().unwrap();
    assert_eq!(
        throttled["Reason"],
        "ReservedFunctionConcurrentInvocationLimitExceeded"
    );

    let image = node
        .authorized(Method::POST, "/2015-03-31/functions/probe/invocations")
        .header("content-type", "image/png")
        .body("{}");
    let image = Reply::of(image).await;
    assert_eq!(
        (image.status(), image.header("x-amzn-errortype")),
        (415, "UnsupportedMediaTypeException")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_is_named_by_its_arn_or_a_part_of_it() {
    let node = node_with_functions().await;
    let arn = "arn:aws:lambda:us-east-1:000000000000:function:probe";
    let partial = "000000000000:function:probe";
    let names = [
        "probe",
        "probe:$LATEST",
        partial,
        "function:probe:$LATEST",
        arn,
        "arn:aws:lambda:us-east-1:000000000000:function:probe:$LATEST",
    ];
    let mut calls: Vec<Value> = names
        .iter()
        .map(|name| invoke(name, &json!({"n": 1})))
        .collect();
    calls.push(json!({
        "operation": "invoke",
        "parameters": {
            "FunctionName": arn, "Qualifier": "$LATEST", "Payload": "{\"do\": \"context\"}", "LogType": "Tail",
            "ClientContext": BASE64_STANDARD.encode("{\"custom\": {\"a\": 1}}"),
        },
    }));
    calls.push(json!({
        "operation": "invoke",
        "parameters": {"FunctionName": "probe", "InvocationType": "DryRun"},
    }));
    calls.push(json!({
        "operation": "invoke_async",
        "parameters": {"FunctionName": "probe", "InvokeArgs": "{\"do\": \"log\"}"},
    }));
    calls.push(json!({
        "operation": "invoke_async",
        "parameters": {"FunctionName": "nobody", "InvokeArgs": "{}"},
    }));
    let answers = aws::call(&node, Value::Array(calls)).await;
    for (name, answer) in names.iter().zip(&answers) {
        assert_eq!(payload(answer), json!({"n": 1}), "{name}");
        assert_eq!(answer["ExecutedVersion"], "$LATEST");
    }
    let context = &answers[names.len()];
    assert!(
        payload(context)["given"].to_string().contains("custom"),
        "{context}"
    );
    let log = BASE64_STANDARD.decode(context["LogResult"].as_str().unwrap());
    let log = String::from_utf8(log.unwrap()).unwrap();
    let id = context["ResponseMetadata"]["RequestId"].as_str().unwrap();
    assert!(log.contains(&format!("REPORT RequestId: {id}")), "{log}");
    assert_eq!(answers[names.len() + 1]["StatusCode"], 204);
    assert_eq!(answers[names.len() + 2]["Status"], 202);
    assert_eq!(
        answers[names.len() + 3]["code"],
        "ResourceNotFoundException"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_streamed_in_messages_that_botocore_reads() {
    let node = node_with_functions().await;
    let short = FunctionConfiguration {
        timeout: Some(Duration::from_secs(1)),
        ..FunctionConfiguration::default()
    };
    node.function("short", guests::HOSTILE, short).await;
    let get = |target| request("GET", target, None);
    let answers = aws::call(
        &node,
        json!([
            stream("web", &request("POST", "/echo", Some("hi"))),
            stream("web", &get("/body?bytes=8000000")),
            stream("probe", &json!({"n": 1})),
            stream("probe", &json!({"do": "error", "type": "Mine"})),
            stream("web", &json!({"do": "echo"})),
            stream("web", &get("/trap-after")),
            stream("short", &get("/hang-after")),
            stream("short", &get("/never")),
            stream("nobody", &get("/")),
            stream("web:nobody", &get("/")),
        ]),
    )
    .await;
    // Pieces put together, and what the end says.
    let read = |index: usize| {
        let events = answers[index]["EventStream"].as_array().unwrap();
        let (end, pieces) = events.split_last().unwrap();
        let pieces: Vec<&str> = pieces
            .iter()
            .map(|piece| piece["PayloadChunk"]["Payload"].as_str().unwrap())
            .collect();
        (pieces.concat(), end["InvokeComplete"].clone())
    };
    let (echo, end) = read(0);
    let (prelude, body) = echo.split_once("\0\0\0\0\0\0\0\0").unwrap();
    let prelude: Value = serde_json::from_str(prelude).unwrap();
    assert_eq!(prelude["statusCode"], 200);
    assert_eq!(prelude["headers"]["x-echo-method"], "POST");
    assert_eq!(body, "hi");
    assert_eq!(end.get("ErrorCode"), None);
    let log = BASE64_STANDARD.decode(end["LogResult"].as_str().unwrap());
    let log = String::from_utf8(log.unwrap()).unwrap();
    assert!(log.contains("REPORT RequestId: "), "{log}");
    assert_eq!(answers[0]["ExecutedVersion"], "$LATEST");

    let (large, end) = read(1);
    let (_, body) = large.split_once("\0\0\0\0\0\0\0\0").unwrap();
    assert_eq!((body.len(), end.get("ErrorCode")), (8_000_000, None));
    assert_eq!(read(2).0, "{\"n\":1}");

    for (index, begins, kind) in [
        (3, "", "Mine"),
        (4, "", "Runtime.InvalidEvent"),
        (5, "", "Runtime.ExitError"),
        (6, "partial\n", "Sandbox.Timedout"),
        (7, "", "Sandbox.Timedout"),
    ] {
        let (pieces, end) = read(index);
        assert!(pieces.ends_with(begins), "{pieces}");
        assert_eq!(end["ErrorCode"], "Unhandled", "{end}");
        let details: Value = serde_json::from_str(end["ErrorDetails"].as_str().unwrap()).unwrap();
        assert_eq!(details["errorType"], kind);
    }
    for answer in &answers[8..] {
        assert_eq!(answer["code"], "ResourceNotFoundException");
    }
    assert_eq!(Web(&node).reports("trap").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_streamed_answer_comes_as_it_is_made_and_ends_with_its_reader() {
    let node = node_with_functions().await;
    let post = |target: &str| {
        node.authorized(
            Method::POST,
            "/2021-11-15/functions/web/response-streaming-invocations",
        )
        .body(request("GET", target, None).to_string())
    };
    let started = Instant::now();
    let mut response = post("/slow-body?bytes=10&ms=100").send().await.unwrap();
    assert!(response.chunk().await.unwrap().is_some());
    let first = started.elapsed();
    while response.chunk().await.unwrap().is_some() {}
    let last = started.elapsed();
    assert!(
        first + Duration::from_millis(500) < last,
        "{first:?} {last:?}"
    );

    let mut response = post("/endless").send().await.unwrap();
    assert!(response.chunk().await.unwrap().is_some());
    drop(response);
    assert_eq!(Web(&node).reports("cancelled").await, 1);
}

/// The function that speaks HTTP, by its log.
struct Web<'a>(&'a Node);

impl Web<'_> {
    /// How many invocations ended so, once there is one.
    async fn reports(&self, outcome: &str) -> usize {
        use futures::TryStreamExt as _;
        support::eventually(async || {
            let lines = self.0.client.logs("web", 100_000, false).await.unwrap();
            let lines: Vec<wharf::telemetry::logs::LogLine> = lines.try_collect().await.unwrap();
            let ended = format!("Outcome: {outcome}");
            let count = lines
                .iter()
                .filter(|line| line.message.starts_with("REPORT") && line.message.contains(&ended))
                .count();
            (count > 0).then_some(count)
        })
        .await
    }
}
