//! AWS's own clients call the API with nothing but an endpoint and the node's credentials, and nobody else can.
//!
//! What attacks a signature is signed by botocore and changed on the way.

use std::{
    fs,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    time::Duration,
};

use crate::support::{
    Node, Reply,
    aws::{self, python, run, sign},
    guests,
};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use wharf::{control::CREDENTIALS_FILE, model::FunctionConfiguration};

const INVOCATIONS: &str = "/2015-03-31/functions/probe/invocations";

async fn node_with_probe() -> Node {
    let node = Node::start().await;
    node.function(
        "probe",
        guests::EVENT_PROBE,
        FunctionConfiguration::default(),
    )
    .await;
    node
}

#[tokio::test(flavor = "multi_thread")]
async fn boto3_invokes_functions() {
    let node = node_with_probe().await;
    let invoke = |parameters: Value| json!({"operation": "invoke", "parameters": parameters});
    let answers = aws::call(&node, json!([
            invoke(json!({"FunctionName": "probe", "Payload": r#"{"n": 1}"#})),
            // A path that is encoded, and signed encoded once more.
            invoke(json!({"FunctionName": "probe:$LATEST", "Payload": r#"{"é": 2}"#, "LogType": "Tail"})),
            invoke(json!({"FunctionName": "probe", "Payload": r#"{"do":"error"}"#})),
            invoke(json!({"FunctionName": "probe", "Payload": "{}", "InvocationType": "Event"})),
            invoke(json!({"FunctionName": "probe", "InvocationType": "DryRun"})),
            invoke(json!({"FunctionName": "probe", "ClientContext": "eyJhIjoxfQ==", "Payload": r#"{"do":"context"}"#})),
            invoke(json!({"FunctionName": "probe", "Payload": format!("\"{}\"", "x".repeat(1 << 20))})),
        ]),
    )
    .await;
    let payload = |answer: &Value| answer["Payload"].as_str().unwrap_or_default().to_owned();
    let status: Vec<_> = answers
        .iter()
        .map(|answer| answer["StatusCode"].clone())
        .collect();
    assert_eq!(status, [200, 200, 200, 202, 204, 200, 200], "{answers:?}");
    assert_eq!(payload(&answers[0]), r#"{"n": 1}"#);
    assert_eq!(payload(&answers[1]), r#"{"é": 2}"#);
    assert!(answers[1]["LogResult"].is_string(), "{}", answers[1]);
    assert_eq!(answers[2]["FunctionError"], "Unhandled");
    assert!(
        payload(&answers[5]).contains(r#"{\"a\":1}"#),
        "{}",
        answers[5]
    );
    assert_eq!(payload(&answers[6]).len(), (1 << 20) + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_aws_command_line_invokes_functions() {
    let node = node_with_probe().await;
    let mut aws = python(&node);
    aws.args([
        "-m",
        "awscli",
        "lambda",
        "invoke",
        "--function-name",
        "probe",
    ])
    .args(["--payload", r#"{"n": 1}"#, "answer.json"]);
    let output = run(&mut aws, "").await;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{stderr}");
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["StatusCode"], 200);
    let payload = fs::read_to_string(node.data().join("answer.json")).unwrap();
    assert_eq!(payload, r#"{"n": 1}"#);

    let mut wrong = python(&node);
    wrong
        .args([
            "-m",
            "awscli",
            "lambda",
            "invoke",
            "--function-name",
            "probe",
            "none.json",
        ])
        .args(["--region", "eu-west-1"]);
    let output = run(&mut wrong, "").await;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(stderr.contains("(InvalidSignatureException)"), "{stderr}");
    assert!(stderr.contains("valid region: 'us-east-1'"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn boto3_is_told_why_it_is_refused() {
    let node = node_with_probe().await;
    let call = |more: Value| {
        let mut call = json!({"operation": "invoke", "parameters": {"FunctionName": "probe"}});
        call.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        call
    };
    let keys = |id: &str, secret: &str| json!({"client": {"aws_access_key_id": id, "aws_secret_access_key": secret}});
    let file = fs::read_to_string(node.data().join(CREDENTIALS_FILE)).unwrap();
    let own = file
        .lines()
        .find_map(|line| line.strip_prefix("aws_access_key_id = "))
        .unwrap();
    let mut temporary = keys(own, "wrong");
    temporary["client"]["aws_session_token"] = "token".into();
    let answers = aws::call(
        &node,
        json!([
            call(keys(own, "wrong")),
            call(keys("AKIAIOSFODNN7EXAMPLE", "wrong")),
            call(temporary),
            call(json!({"client": {"region_name": "eu-west-1"}})),
            call(json!({"unsigned": true})),
        ]),
    )
    .await;
    let found: Vec<_> = answers
        .iter()
        .map(|answer| (answer["code"].as_str().unwrap(), &answer["status"]))
        .collect();
    let forbidden = json!(403);
    assert_eq!(
        found,
        [
            ("InvalidSignatureException", &forbidden),
            ("UnrecognizedClientException", &forbidden),
            ("UnrecognizedClientException", &forbidden),
            ("InvalidSignatureException", &forbidden),
            ("MissingAuthenticationTokenException", &forbidden),
        ],
        "{answers:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_opens_every_path_of_the_api() {
    let node = node_with_probe().await;
    let url = |path: &str| format!("http://{}{path}", node.api);
    let component = guests::EVENT_PROBE.bytes();
    let digest = wharf::model::Digest::of(&component);
    let signed = sign(
        &node,
        json!([
            {"method": "GET", "url": url("/wharf/v1/functions")},
            {"method": "GET", "url": url("/wharf/v1/functions/probe/logs?last=10&follow=false")},
            {"method": "GET", "url": url("/metrics")},
            {"method": "HEAD", "url": url(&format!("/wharf/v1/blobs/{digest}"))},
            {"method": "GET", "url": url("/wharf/v1/node"), "expires": 60},
        ]),
    )
    .await;
    for request in signed {
        assert_eq!(request.send(&node).await.status(), 200, "{request:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_signature_is_never_let_in() {
    let node = node_with_probe().await;
    let url = format!("http://{}{INVOCATIONS}", node.api);
    let invoke = |more: Value| {
        let headers = json!({"X-Amz-Invocation-Type": "RequestResponse"});
        let mut wanted = json!({"method": "POST", "url": url, "headers": headers, "body": "{}"});
        wanted
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        wanted
    };
    let hash = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"; // of `{}`
    let hashed = |hash: &str| json!({"headers": {"X-Amz-Content-SHA256": hash}});
    let node_url = format!("http://{}/wharf/v1/node", node.api);
    let signed = sign(
        &node,
        json!([
            invoke(json!({})),
            invoke(hashed(hash)),
            {"method": "GET", "url": node_url, "expires": 60},
            invoke(json!({"late": -290})),
            invoke(json!({"late": 290})),
            {"method": "GET", "url": node_url, "expires": 604_800, "late": -600_000},
            invoke(json!({"late": -310})),
            invoke(json!({"late": 310})),
            invoke(json!({"late": -86_400})),
            invoke(json!({"region": "eu-west-1"})),
            invoke(json!({"service": "s3"})),
            invoke(json!({"key_id": "AKIAIOSFODNN7EXAMPLE"})),
            invoke(hashed("UNSIGNED-PAYLOAD")),
            invoke(hashed("STREAMING-AWS4-HMAC-SHA256-PAYLOAD")),
            {"method": "GET", "url": node_url, "expires": 60, "late": -62},
            {"method": "GET", "url": node_url, "expires": 604_801},
            {"method": "GET", "url": node_url, "expires": 60, "late": 310},
        ]),
    )
    .await;
    let [plain, announced, presigned, rest @ ..] = &signed[..] else {
        panic!("what was signed");
    };
    // What is signed as it should be is let in.
    for request in [plain, announced, presigned].into_iter().chain(&rest[..3]) {
        assert_eq!(request.send(&node).await.status(), 200, "{request:?}");
    }
    // A fresh signature is good for as long as it lasts, as AWS's is.
    assert_eq!(plain.send(&node).await.status(), 200);

    let (plain, announced, presigned) =
        (|| plain.clone(), || announced.clone(), || presigned.clone());
    let [
        expired,
        future,
        old,
        region,
        service,
        key,
        unsigned,
        streaming,
        over,
        long,
        early,
    ] = &rest[3..]
    else {
        panic!("what was signed");
    };
    let (invalid, incomplete, unknown) = (
        (403, "InvalidSignatureException"),
        (400, "IncompleteSignatureException"),
        (403, "UnrecognizedClientException"),
    );
    let long_header = |bytes: usize| {
        plain().header("authorization", |value| {
            format!("{value}{}", "a".repeat(bytes))
        })
    };
    for (what, request, expected) in [
        ("expired", expired.clone(), invalid),
        ("of the future", future.clone(), invalid),
        ("of yesterday", old.clone(), invalid),
        ("another region", region.clone(), invalid),
        ("another service", service.clone(), invalid),
        ("an unknown key", key.clone(), unknown),
        ("an unsigned payload", unsigned.clone(), invalid),
        ("a chunked payload", streaming.clone(), invalid),
        ("a presigned request after its time", over.clone(), invalid),
        ("a presigned request for too long", long.clone(), incomplete),
        ("a presigned request of the future", early.clone(), invalid),
        (
            "another header",
            plain().header("x-amz-invocation-type", |_| "Event".to_owned()),
            invalid,
        ),
        (
            "a header less",
            plain().without("x-amz-invocation-type"),
            incomplete,
        ),
        (
            "a header more",
            plain().with("x-amz-log-type", "Tail"),
            invalid,
        ),
        (
            "a header more, presigned",
            presigned().with("x-amz-log-type", "Tail"),
            invalid,
        ),
        (
            "another date",
            plain().header("x-amz-date", |date| date.replace('Z', "X")),
            incomplete,
        ),
        ("another body", plain().body("{ }"), invalid),
        ("no body", plain().body(""), invalid),
        (
            "another body than announced",
            announced().body("[]"),
            invalid,
        ),
        (
            "another announced body",
            announced().header("x-amz-content-sha256", |hash| hash.replace('4', "5")),
            invalid,
        ),
        ("a body, presigned", presigned().body("{}"), invalid),
        (
            "another host",
            plain().with("host", "lambda.us-east-1.amazonaws.com"),
            invalid,
        ),
        ("another path", plain().url("probe", "other"), invalid),
        (
            "a query",
            plain().url("/invocations", "/invocations?Qualifier=1"),
            invalid,
        ),
        (
            "another query, presigned",
            presigned().url("Expires=60", "Expires=90"),
            invalid,
        ),
        (
            "another signature",
            plain().header("authorization", |value| {
                let (rest, last) = value.split_at(value.len() - 1);
                format!("{rest}{}", if last == "0" { "1" } else { "0" })
            }),
            invalid,
        ),
        (
            "no signature",
            plain().header("authorization", |value| {
                value.split(", Sig").next().unwrap().to_owned()
            }),
            incomplete,
        ),
        ("a huge header", long_header(20_000), incomplete),
        (
            "nothing",
            plain().without("authorization"),
            (403, "MissingAuthenticationTokenException"),
        ),
        (
            "a wrong token",
            plain().header("authorization", |_| "Bearer wrong".to_owned()),
            unknown,
        ),
        (
            "two signatures",
            presigned().with("authorization", "AWS4-HMAC-SHA256 Credential=a"),
            incomplete,
        ),
    ] {
        let reply = request.send(&node).await;
        let found = (reply.status(), reply.header("x-amzn-errortype"));
        assert_eq!(found, expected, "{what}: {reply:?}");
        assert!(reply.json()["message"].is_string(), "{what}: {reply:?}");
        assert_eq!(reply.header("x-amzn-requestid").len(), 36, "{what}");
    }
    // The listener's own limit of a head comes before.
    let enormous = long_header(200_000).send(&node).await;
    assert_eq!(enormous.status(), 431, "{enormous:?}");
    assert_eq!(enormous.header("x-amzn-errortype"), "", "{enormous:?}");
    // None of it reached the function but what was let in.
    let started = node.metric("wharf_requests_total").await;
    assert!((started - 5.0).abs() < 0.1, "{started}");
}

/// Who is refused is so before a byte of the body is read.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_not_read_for_a_stranger() {
    let node = node_with_probe().await;
    let url = format!("http://{}{INVOCATIONS}", node.api);
    let signed = sign(
        &node,
        json!([
            {"method": "POST", "url": url, "key_id": "AKIAIOSFODNN7EXAMPLE", "body": "{}"},
            {"method": "POST", "url": url, "headers": {"X-Amz-Content-SHA256": "0".repeat(64)}, "body": "{}"},
            {"method": "POST", "url": url, "body": "{}"},
        ]),
    )
    .await;
    let forged = signed[1]
        .clone()
        .header("x-amz-content-sha256", |hash| hash.replace('0', "1"));
    for (request, length, status) in [
        (&signed[0], 1 << 20, 403),
        (&forged, 1 << 20, 403),
        (&signed[2], (6 << 20) + 1, 413),
    ] {
        let mut head = format!(
            "POST {INVOCATIONS} HTTP/1.1\r\nhost: {}\r\ncontent-length: {length}\r\n",
            node.api
        );
        for (name, value) in &request.headers {
            if !name.eq_ignore_ascii_case("content-length") {
                head += &format!("{name}: {value}\r\n");
            }
        }
        let mut socket = TcpStream::connect(node.api).await.unwrap();
        socket
            .write_all(format!("{head}\r\n").as_bytes())
            .await
            .unwrap();
        let mut answer = [0; 12];
        let read = timeout(Duration::from_secs(10), socket.read_exact(&mut answer)).await;
        read.expect("an answer without a body").unwrap();
        assert_eq!(answer, format!("HTTP/1.1 {status}").as_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_profile_of_the_file_is_a_user() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join(CREDENTIALS_FILE);
    let file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path);
    let text = "[default]\naws_access_key_id = ONEONEONEONEONEONE01\naws_secret_access_key = one\nregion = eu-central-1\n\
                [ci]\naws_access_key_id = TWOTWOTWOTWOTWOTWO02\naws_secret_access_key = two\nregion = eu-central-1\n\
                wharf_policy = AWSLambda_FullAccess\n";
    std::io::Write::write_all(&mut file.unwrap(), text.as_bytes()).unwrap();
    let node = Node::start_in(data, |config| {
        "eu-central-1".clone_into(&mut config.region);
        "123456789012".clone_into(&mut config.account);
    })
    .await;
    node.function(
        "probe",
        guests::EVENT_PROBE,
        FunctionConfiguration::default(),
    )
    .await;
    let call = |profile: &str| {
        let payload = r#"{"do":"context"}"#;
        json!({"profile": profile, "operation": "invoke", "parameters": {"FunctionName": "probe", "Payload": payload}})
    };
    let answers = aws::call(&node, json!([call("default"), call("ci")])).await;
    for answer in answers {
        assert_eq!(answer["StatusCode"], 200, "{answer}");
        let context = answer["Payload"].as_str().unwrap();
        assert!(
            context.contains("arn:aws:lambda:eu-central-1:123456789012:function:probe"),
            "{context}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_credentials_are_made_once_and_for_their_owner_alone() {
    let node = Node::start().await;
    let path = node.data().join(CREDENTIALS_FILE);
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let made = fs::read_to_string(&path).unwrap();
    let data = node.stop().await;
    let again = Node::start_in(data, |_| {}).await;
    let path = again.data().join(CREDENTIALS_FILE);
    assert_eq!(fs::read_to_string(&path).unwrap(), made);
    let healthy = Reply::of(again.api_request(Method::GET, "/healthz")).await;
    assert_eq!(healthy.status(), 200);
}
