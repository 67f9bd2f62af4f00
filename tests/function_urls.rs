//! Function URLs: who may call them, what pages of other origins may do, and how answers come.

use std::time::{Duration, Instant};

use crate::support::{Node, Reply, aws, guests};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use wharf::{
    model::{ByteSize, FunctionConfiguration, FunctionUrl, UrlConfig, url_host, url_id},
    store::{Catalog, Change, Changes, DataFolder, KeyValueLimits, Sqlite},
};

/// How ARNs begin on these nodes.
const ARN: &str = "arn:aws:lambda:us-east-1:000000000000";

/// A node with `probe` (events) and `web` (HTTP, answers of 64 KB at most), and these URLs: function, alias, configuration.
async fn node(urls: &[(&str, Option<&str>, Value)]) -> Node {
    let node = Node::start().await;
    let small = FunctionConfiguration {
        response: ByteSize::kb(64),
        ..FunctionConfiguration::default()
    };
    let usual = FunctionConfiguration::default();
    node.function("probe", guests::EVENT_PROBE, usual).await;
    node.function("web", guests::HOSTILE, small).await;
    with_urls(node, urls).await
}

/// The same node with these URLs.
async fn with_urls(node: Node, urls: &[(&str, Option<&str>, Value)]) -> Node {
    let data = node.stop().await;
    {
        let folder = DataFolder::open(data.path()).unwrap();
        let store = Sqlite::open(&folder, KeyValueLimits::default()).unwrap();
        let put = |(function, alias, url): &(&str, Option<&str>, Value)| {
            let url: FunctionUrl = serde_json::from_value(url.clone()).unwrap();
            Change::put(&UrlConfig {
                function: function.parse().unwrap(),
                alias: alias.map(str::to_owned),
                url,
                created_ms: 1,
                modified_ms: 1,
            })
            .unwrap()
        };
        let anybody = |(function, alias, url): &(&str, Option<&str>, Value)| {
            let qualifier = alias.unwrap_or_default();
            let resource = match alias {
                Some(alias) => format!("{ARN}:function:{function}:{alias}"),
                None => format!("{ARN}:function:{function}"),
            };
            let statement = json!({
                "Sid": "url",
                "Effect": "Allow",
                "Principal": "*",
                "Action": "lambda:InvokeFunctionUrl",
                "Resource": resource,
                "Condition": {"StringEquals": {"lambda:FunctionUrlAuthType": url["AuthType"]}},
            });
            Change::Put {
                kind: "permissions",
                key: format!("{function}/{qualifier}"),
                document: json!({
                    "function": function,
                    "qualifier": qualifier,
                    "statements": {"url": statement},
                }),
                expected: None,
            }
        };
        let open = urls.iter().filter(|(_, _, url)| url["AuthType"] == "NONE");
        let changes: Vec<Change> = urls.iter().map(put).chain(open.map(anybody)).collect();
        store.apply(Changes::from(changes)).await.unwrap();
    }
    Node::start_in(data, |_| {}).await
}

/// The host of a function's URL.
fn host(node: &Node, function: &str, alias: Option<&str>) -> String {
    let id = url_id("000000000000", &function.parse().unwrap(), alias);
    let host = url_host(&id, "us-east-1", "localhost");
    format!("{host}:{}", node.http.port())
}

fn call(node: &Node, method: Method, function: &str, path: &str) -> RequestBuilder {
    let host = host(node, function, None);
    node.request(method, path).header("host", host)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_answers_for_its_function() {
    let open = json!({"AuthType": "NONE"});
    let node = node(&[("probe", None, open.clone()), ("web", None, open)]).await;
    let post = call(&node, Method::POST, "probe", "/a/b?q=1").header("content-type", "text/plain");
    let event = Reply::of(post.body("hi")).await.json();
    let id = url_id("000000000000", &"probe".parse().unwrap(), None);
    let context = &event["requestContext"];
    assert_eq!(context["apiId"], json!(id));
    assert_eq!(context["domainPrefix"], json!(id));
    assert_eq!(context["accountId"], "anonymous");
    assert_eq!(context.get("authorizer"), None);
    assert_eq!(event["rawPath"], "/a/b");
    assert_eq!(event["headers"]["host"], json!(host(&node, "probe", None)));
    assert_eq!(event["body"], "hi");
    let hello = Reply::of(call(&node, Method::GET, "web", "/")).await;
    assert_eq!(hello.text(), "hello\n");
    assert_eq!(hello.header("access-control-allow-origin"), "");

    let other = node.request(Method::GET, "/").header(
        "host",
        format!("{}.lambda-url.us-east-1.localhost", "a".repeat(32)),
    );
    assert_eq!(Reply::of(other).await.error(), "no_route");
    let by_name = node
        .request(Method::GET, "/")
        .header("host", "web.localhost");
    assert_eq!(Reply::of(by_name).await.text(), "hello\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_has_a_url_of_its_own() {
    let node = node(&[]).await;
    let version = json!({"FunctionName": "probe"});
    let alias = json!({"FunctionName": "probe", "Name": "live", "FunctionVersion": "1"});
    let made = aws::call(
        &node,
        json!([
            {"operation": "publish_version", "parameters": version},
            {"operation": "create_alias", "parameters": alias},
        ]),
    )
    .await;
    assert_eq!(made[1]["FunctionVersion"], "1", "{made:?}");
    let open = json!({"AuthType": "NONE"});
    let node = with_urls(
        node,
        &[
            ("probe", None, open.clone()),
            ("probe", Some("live"), open.clone()),
            ("probe", Some("gone"), open),
        ],
    )
    .await;
    let version = async |alias| {
        let request = node.request(Method::POST, "/");
        let request = request.header("host", host(&node, "probe", alias));
        let request = request.header("content-type", "application/json");
        Reply::of(request.body("{\"do\":\"context\"}")).await
    };
    for (alias, wanted) in [(None, "$LATEST"), (Some("live"), "1")] {
        let context = version(alias).await.json();
        assert_eq!(context["given"]["function_version"], wanted, "{context}");
    }
    assert_eq!(version(Some("gone")).await.error(), "no_route");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_with_aws_iam_is_for_who_signs() {
    let signed_only = json!({"AuthType": "AWS_IAM", "Cors": {"AllowOrigins": ["*"]}});
    let node = node(&[
        ("probe", None, signed_only.clone()),
        ("web", None, signed_only),
    ])
    .await;
    let url = format!("http://{}/a?b=c%20d", host(&node, "probe", None));
    let echo = format!("http://{}/echo", host(&node, "web", None));
    let headers = json!({"content-type": "text/plain"});
    let post = |more: Value| {
        let mut wanted =
            json!({"method": "POST", "url": url, "headers": headers, "body": "{\"n\":1}"});
        let wanted_map = wanted.as_object_mut().unwrap();
        wanted_map.extend(more.as_object().unwrap().clone());
        wanted
    };
    let digest = wharf::model::Digest::of(b"{\"n\":1}").to_string();
    let hashed = json!({"headers": {"content-type": "text/plain", "X-Amz-Content-SHA256": digest}});
    let signed = aws::sign(
        &node,
        json!([
            post(json!({})),
            post(hashed),
            {"method": "GET", "url": url, "expires": 60},
            {"method": "POST", "url": echo, "body": "hi"},
            post(json!({"service": "execute-api"})),
            post(json!({"key_id": "AKIAIOSFODNN7EXAMPLE"})),
            post(json!({"late": -600})),
        ]),
    )
    .await;
    // The name is the node's, and nobody else needs to know it.
    let send = async |signed: &aws::Signed| {
        let (_, rest) = signed.url.split_once("://").unwrap();
        let (host, path) = rest.split_once('/').unwrap();
        let local = format!("http://{}/{path}", node.http);
        let signed = signed.clone().with("host", host);
        let whole = signed.url.clone();
        signed.url(&whole, &local).send(&node).await
    };
    for request in &signed[..3] {
        let event = send(request).await.json();
        let iam = &event["requestContext"]["authorizer"]["iam"];
        assert_eq!(iam["accountId"], "000000000000", "{event}");
        assert_eq!(event["requestContext"]["accountId"], "000000000000");
        for member in ["accessKey", "callerId", "userArn", "userId"] {
            assert!(iam[member].is_string(), "{member}: {iam}");
        }
        assert_eq!(event["headers"].get("authorization"), None);
        assert_eq!(event["rawPath"], "/a");
    }
    let echoed = send(&signed[3]).await;
    assert_eq!(echoed.text(), "hi");
    assert_eq!(echoed.header("x-echo-authorization"), "");

    let refused = |reply: &Reply, status: u16, error: &str| {
        assert_eq!(
            (reply.status(), reply.header("x-amzn-errortype")),
            (status, error),
            "{reply:?}"
        );
    };
    let unsigned = call(&node, Method::GET, "web", "/").header("origin", "https://a.example");
    let unsigned = Reply::of(unsigned).await;
    refused(&unsigned, 403, "AccessDeniedException");
    assert_eq!(unsigned.json(), json!({"Message": "Forbidden"}));
    assert_eq!(unsigned.header("access-control-allow-origin"), "*");
    let token = std::fs::read_to_string(node.data().join(wharf::control::TOKEN_FILE)).unwrap();
    let token = call(&node, Method::GET, "web", "/").bearer_auth(token.trim());
    refused(&Reply::of(token).await, 403, "AccessDeniedException");
    for (request, error) in [
        (
            signed[0].clone().body("{\"n\":2}"),
            "InvalidSignatureException",
        ),
        (
            signed[1].clone().body("{\"n\":2}"),
            "InvalidSignatureException",
        ),
        (
            signed[0].clone().url("/a?", "/b?"),
            "InvalidSignatureException",
        ),
        (
            signed[2].clone().url("b=c", "b=d"),
            "InvalidSignatureException",
        ),
        (signed[4].clone(), "InvalidSignatureException"),
        (signed[5].clone(), "UnrecognizedClientException"),
        (signed[6].clone(), "InvalidSignatureException"),
    ] {
        refused(&send(&request).await, 403, error);
    }
    let mut large = signed[0].clone();
    large.body = "x".repeat((6 << 20) + 1);
    refused(&send(&large).await, 413, "RequestEntityTooLargeException");

    // Nobody signs a preflight.
    let preflight = call(&node, Method::OPTIONS, "web", "/")
        .header("origin", "https://a.example")
        .header("access-control-request-method", "GET");
    let preflight = Reply::of(preflight).await;
    assert_eq!(preflight.status(), 200);
    assert_eq!(preflight.header("access-control-allow-origin"), "*");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_origins_may_do_what_the_configuration_says() {
    let cors = json!({
        "AllowOrigins": ["https://a.example"],
        "AllowMethods": ["PUT"],
        "AllowHeaders": ["x-one"],
        "ExposeHeaders": ["x-two"],
        "AllowCredentials": true,
        "MaxAge": 60,
    });
    let node = node(&[("web", None, json!({"AuthType": "NONE", "Cors": cors}))]).await;
    let from = |origin: &str, method: Method, path: &str| {
        call(&node, method, "web", path).header("origin", origin)
    };
    let preflight = from("https://a.example", Method::OPTIONS, "/trap")
        .header("access-control-request-method", "PUT");
    let preflight = Reply::of(preflight).await;
    assert_eq!(preflight.status(), 200);
    for (field, value) in [
        ("allow-origin", "https://a.example"),
        ("allow-methods", "PUT"),
        ("allow-headers", "x-one"),
        ("allow-credentials", "true"),
        ("max-age", "60"),
    ] {
        assert_eq!(preflight.header(&format!("access-control-{field}")), value);
    }
    let hello = Reply::of(from("https://a.example", Method::GET, "/")).await;
    assert_eq!(hello.text(), "hello\n");
    assert_eq!(
        hello.header("access-control-allow-origin"),
        "https://a.example"
    );
    assert_eq!(hello.header("access-control-expose-headers"), "x-two");
    assert_eq!(hello.header("vary"), "Origin");
    let trap = Reply::of(from("https://a.example", Method::GET, "/trap")).await;
    assert_eq!(trap.error(), "trap");
    assert_eq!(
        trap.header("access-control-allow-origin"),
        "https://a.example"
    );
    let stranger = Reply::of(from("https://b.example", Method::GET, "/")).await;
    assert_eq!(stranger.text(), "hello\n");
    assert_eq!(stranger.header("access-control-allow-origin"), "");
    let without = Reply::of(call(&node, Method::OPTIONS, "web", "/")).await;
    assert_eq!(without.text(), "hello\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_sent_whole_or_as_it_is_made() {
    let buffered = json!({"AuthType": "NONE", "InvokeMode": "BUFFERED"});
    let streamed = json!({"AuthType": "NONE", "InvokeMode": "RESPONSE_STREAM"});
    let node = node(&[("web", None, buffered)]).await;
    let get = async |path: &str| Reply::of(call(&node, Method::GET, "web", path)).await;
    let body = get("/body?bytes=60000").await;
    assert_eq!(
        (body.text().len(), body.header("content-length")),
        (60_000, "60000")
    );
    // Nothing of it was sent, so its failure can be told.
    for (path, error) in [
        ("/body?bytes=70000", "response_too_large"),
        ("/trap-after", "trap"),
        ("/hang-after", "timeout"),
    ] {
        let reply = get(path).await;
        assert_eq!(reply.error(), error, "{reply:?}");
        assert!(reply.complete);
    }
    let head = Reply::of(call(&node, Method::HEAD, "web", "/")).await;
    assert_eq!((head.status(), head.text()), (200, ""));

    let node = with_urls(node, &[("web", None, streamed)]).await;
    let started = Instant::now();
    let request = call(&node, Method::GET, "web", "/slow-body?bytes=10&ms=100");
    let mut response = request.send().await.unwrap();
    assert!(response.chunk().await.unwrap().is_some());
    let first = started.elapsed();
    while response.chunk().await.unwrap().is_some() {}
    assert!(first + Duration::from_millis(500) < started.elapsed());
    let large = Reply::of(call(&node, Method::GET, "web", "/body?bytes=1000000")).await;
    assert_eq!(large.text().len(), 1_000_000);
    let cut = Reply::of(call(&node, Method::GET, "web", "/hang-after")).await;
    assert_eq!((cut.status(), cut.complete), (200, false), "{cut:?}");
}
