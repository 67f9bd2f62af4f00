use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use super::*;

fn read(event: &Value) -> Result<HttpEvent, InvalidEvent> {
    request(&event.to_string(), "probe.localhost")
}

fn body_of(event: HttpEvent) -> Bytes {
    let body = futures::executor::block_on(event.request.into_body().collect());
    body.unwrap().to_bytes()
}

/// An event of format 2.0 with something changed.
fn v2(change: Value) -> Value {
    let mut event = json!({
        "version": "2.0",
        "rawPath": "/a",
        "requestContext": {"http": {"method": "GET"}},
    });
    let (Value::Object(event_map), Value::Object(change)) = (&mut event, change) else {
        panic!("both are objects");
    };
    event_map.extend(change);
    event
}

#[test]
fn an_event_of_a_function_url_is_its_request() {
    let event = read(&json!({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/a b/c?d",
        "rawQueryString": "x=1&x=2&y=%20",
        "cookies": ["one=1", "two=2"],
        "headers": {
            "Content-Type": "text/plain",
            "Host": "ABC.lambda-url.us-east-1.on.aws:443",
            "Content-Length": 99,
            "transfer-encoding": "chunked",
            "x-flag": true,
        },
        "requestContext": {
            "http": {"method": "POST", "sourceIp": "192.0.2.7"},
            "domainName": "other.example",
        },
        "body": "aGk=",
        "isBase64Encoded": true,
    }))
    .unwrap();
    let request = &event.request;
    assert_eq!(event.form, Form::V2);
    assert_eq!(request.method(), "POST");
    assert_eq!(
        request.uri(),
        "https://abc.lambda-url.us-east-1.on.aws:443/a%20b/c%3Fd?x=1&x=2&y=%20"
    );
    let mut fields: Vec<_> = request
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    fields.sort_unstable();
    assert_eq!(
        fields,
        [
            ("content-length", "2"),
            ("content-type", "text/plain"),
            ("cookie", "one=1; two=2"),
            ("x-flag", "true"),
            ("x-forwarded-for", "192.0.2.7"),
        ]
    );
    assert_eq!(body_of(event), "hi");
}

#[test]
fn an_event_of_a_rest_api_is_its_request() {
    let event = read(&json!({
        "httpMethod": "PUT",
        "path": "/a",
        "headers": {"x-tag": "b"},
        "multiValueHeaders": {"x-tag": ["a", "b"], "x-forwarded-proto": ["http"]},
        "queryStringParameters": {"q": "2"},
        "multiValueQueryStringParameters": {"q": ["1 &", "2"]},
        "requestContext": {"domainName": "api.example", "identity": {"sourceIp": "::1"}},
        "body": null,
    }))
    .unwrap();
    assert_eq!(
        event.form,
        Form::V1 {
            multiple: true,
            balancer: false
        }
    );
    let request = &event.request;
    assert_eq!(request.uri(), "http://api.example/a?q=1+%26&q=2");
    let tags: Vec<_> = request.headers().get_all("x-tag").iter().collect();
    assert_eq!(tags, ["a", "b"]);
    assert_eq!(request.headers()[FORWARDED_FOR], "::1");
    assert_eq!(body_of(event), "");
}

#[test]
fn a_load_balancer_gives_parameters_as_they_were_sent() {
    let event = read(&json!({
        "httpMethod": "GET",
        "path": "/",
        "headers": {"host": "lb.example"},
        "queryStringParameters": {"q": "a%20b"},
        "requestContext": {"elb": {"targetGroupArn": "arn"}},
    }))
    .unwrap();
    assert_eq!(
        event.form,
        Form::V1 {
            multiple: false,
            balancer: true
        }
    );
    assert_eq!(event.request.uri(), "https://lb.example/?q=a%20b");
}

#[test]
fn what_an_event_leaves_out_has_a_default() {
    let event = read(&json!({"requestContext": {"http": {"method": "GET"}}})).unwrap();
    assert_eq!(event.request.uri(), "https://probe.localhost/");
    assert!(event.request.headers().is_empty());
    let by_parameters = read(&v2(json!({"queryStringParameters": {"a": 1}}))).unwrap();
    assert_eq!(by_parameters.request.uri(), "https://probe.localhost/a?a=1");
}

#[test]
fn an_event_that_is_no_request_says_why() {
    let many = |count: usize| -> serde_json::Map<String, Value> {
        (0..count).map(|i| (format!("h{i}"), json!("x"))).collect()
    };
    for (event, why) in [
        (json!({}), "neither `requestContext.http.method`"),
        (
            json!({"do": "echo"}),
            "neither `requestContext.http.method`",
        ),
        (json!([1]), "not the event of an HTTP request"),
        (json!("text"), "not the event of an HTTP request"),
        (json!({"requestContext": {"http": {}}}), "`method`"),
        (json!({"httpMethod": ["GET"]}), "not the event"),
        (json!({"httpMethod": "G T"}), "`G T` is not a method"),
        (json!({"httpMethod": ""}), "is not a method"),
        (json!({"httpMethod": "CONNECT"}), "is not a method"),
        (json!({"httpMethod": "GET\r\nx: y"}), "is not a method"),
        (v2(json!({"rawPath": "a"})), "path and query are none"),
        (v2(json!({"rawPath": ""})), "path and query are none"),
        (
            v2(json!({"rawPath": "//[", "headers": {"host": "a b"}})),
            "is not a host",
        ),
        (
            v2(json!({"rawPath": format!("/{}", "a".repeat(20_000))})),
            "longer than",
        ),
        (
            v2(json!({"headers": {"a b": "x"}})),
            "`a b` is not a header field",
        ),
        (v2(json!({"headers": {"": "x"}})), "is not a header field"),
        (
            v2(json!({"headers": {"a": "x\r\ny: z"}})),
            "`a` is not a header field",
        ),
        (
            v2(json!({"headers": {"a": "x\u{0}"}})),
            "`a` is not a header field",
        ),
        (v2(json!({"headers": {"a": ["x"]}})), "expected a text"),
        (v2(json!({"headers": {"a": null}})), "expected a text"),
        (v2(json!({"headers": ["a"]})), "expected an object"),
        (v2(json!({"headers": many(101)})), "more than 100"),
        (
            v2(json!({"headers": {"a": "x".repeat(70_000)}})),
            "more than 100 fields or 65536",
        ),
        (
            v2(json!({"cookies": ["a\nb"]})),
            "`cookie` is not a header field",
        ),
        (v2(json!({"cookies": "a"})), "expected a list"),
        (
            v2(json!({"headers": {"host": "user@example.com"}})),
            "is not a host",
        ),
        (v2(json!({"headers": {"host": "a:99999"}})), "is not a host"),
        (
            v2(json!({"headers": {"host": "a\r\nx: y"}})),
            "is not a host",
        ),
        (
            v2(json!({"headers": {"host": "a", "Host": "b"}})),
            "is not a host",
        ),
        (
            v2(json!({"body": "%", "isBase64Encoded": true})),
            "not base64",
        ),
        (v2(json!({"body": {"a": 1}})), "expected a string"),
        (v2(json!({"isBase64Encoded": "yes"})), "expected a boolean"),
    ] {
        let error = read(&event).unwrap_err().to_string();
        assert!(error.contains(why), "{event}: {error}");
    }
    let twice = r#"{"httpMethod": "GET", "httpMethod": "PUT"}"#;
    let error = request(twice, "a").unwrap_err().to_string();
    assert!(error.contains("duplicate"), "{error}");
    let deep = format!("{{\"httpMethod\": {}", "[".repeat(1 << 20));
    assert!(request(&deep, "a").is_err());
    let listed =
        json!({"httpMethod": "GET", "multiValueHeaders": {"a": vec!["x"; 60], "b": vec!["x"; 60]}});
    assert!(matches!(read(&listed), Err(InvalidEvent::HeadTooLarge)));
}

#[test]
fn a_path_with_a_line_break_stays_a_path() {
    let event = read(&v2(
        json!({"rawPath": "/a\r\nx: y#z", "rawQueryString": "q\n#"}),
    ))
    .unwrap();
    assert_eq!(
        event.request.uri(),
        "https://probe.localhost/a%0D%0Ax:%20y%23z?q%0A%23"
    );
}
