//! Functions that invoke functions, and the Lambda API.

use crate::process::{App, Node, Reply};

#[tokio::test]
async fn a_function_invokes_another_and_gets_its_answer_or_the_reason_why_not() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::serve(data.path()).await;
    let app = App::new(
        "name = 'a'\n\
         [functions.caller]\ncomponent = '{event_probe}'\n\
         [functions.callee]\ncomponent = '{event_probe}'\n\
         [functions.off]\ncomponent = '{event_probe}'\nconcurrency = 0\n\
         [functions.short]\ncomponent = '{event_probe}'\ntimeout = '200 ms'\n\
         [functions.command]\ncomponent = '{command-probe}'",
    );
    node.deploy(app.path()).await;
    let invoke = async |function: &str, event: &str| {
        let event = format!(r#"{{"do":"invoke","function":"{function}","event":{event}}}"#);
        node.invoke("caller", &event).await
    };
    assert_eq!(invoke("callee", r#"{"n":1}"#).await.unwrap(), "{\"n\":1}\n");
    assert_eq!(invoke("callee:$LATEST", "[1]").await.unwrap(), "[1]\n");
    assert_eq!(
        invoke("command", r#"{"n":2}"#).await.unwrap(),
        "{\"n\":2}\n"
    );
    let context = invoke("callee", r#"{"do":"context"}"#).await.unwrap();
    assert!(context.contains(r#""function_name":"callee""#), "{context}");

    for (function, event, reason) in [
        ("nobody", "{}", "NotFound"),
        ("off", "{}", "Throttled"),
        (
            "callee",
            r#"{"do":"error","type":"Mine"}"#,
            "\"errorType\":\"Mine\"",
        ),
        ("callee", r#"{"do":"panic"}"#, "InvokeError"),
        ("short", r#"{"do":"sleep","ms":5000}"#, "InvokeError"),
    ] {
        let error = invoke(function, event).await.unwrap_err();
        assert!(error.contains(reason), "{function}: {error}");
    }
    let endless = node.invoke("caller", r#"{"do":"recurse"}"#).await;
    let endless = endless.unwrap_err();
    assert!(endless.contains("TooManyHops"), "{endless}");
    assert_eq!(node.invoke("caller", "1").await.unwrap(), "1\n");
    node.stop().await;
}

#[tokio::test]
async fn a_lambda_client_invokes_a_function() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::serve(data.path()).await;
    let app = App::new("name = 'a'\n[functions.probe]\ncomponent = '{event_probe}'");
    node.deploy(app.path()).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let post = |function: &str, event: &'static str| {
        let path = format!("/2015-03-31/functions/{function}/invocations");
        let request = client.post(format!("http://{}{path}", node.api));
        request.bearer_auth(node.token()).body(event)
    };
    let reply = Reply::of(post("probe", r#"{"n":1}"#)).await;
    assert_eq!(
        (reply.status.as_u16(), reply.text().as_str()),
        (200, r#"{"n":1}"#)
    );
    assert_eq!(reply.header("x-amz-executed-version"), "$LATEST");
    assert_eq!(reply.header("x-amzn-requestid").len(), 36);
    let reply = Reply::of(post("probe", r#"{"do":"error"}"#)).await;
    assert_eq!(
        (reply.status.as_u16(), reply.header("x-amz-function-error")),
        (200, "Unhandled")
    );
    assert_eq!(reply.json()["errorType"], "ProbeError");
    let dry = post("probe", "{}").header("x-amz-invocation-type", "DryRun");
    assert_eq!(Reply::of(dry).await.status, 204);
    assert_eq!(Reply::of(post("nobody", "{}")).await.status, 404);
    let url = format!("http://{}/2015-03-31/functions/probe/invocations", node.api);
    let stranger = Reply::of(client.post(url)).await;
    assert_eq!(
        (
            stranger.status.as_u16(),
            stranger.header("x-amzn-errortype")
        ),
        (403, "MissingAuthenticationTokenException")
    );
    node.stop().await;
}
