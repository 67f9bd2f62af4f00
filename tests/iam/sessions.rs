//! Temporary credentials.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_role_is_assumed_by_whom_it_trusts_for_what_it_may() {
    let node = node_with_probe().await;
    let arn = format!("arn:aws:iam::{ACCOUNT}:role/deploy");
    let assume = |more: Value| {
        let mut parameters = json!({"RoleArn": arn, "RoleSessionName": "ci"});
        parameters
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        sts("assume_role", parameters)
    };
    let ann = json!({"AWS": format!("arn:aws:iam::{ACCOUNT}:user/ann")});
    let answers = aws::call(
        &node,
        json!([
            iam("create_user", json!({"UserName": "ann"})),
            iam("create_access_key", json!({"UserName": "ann"})),
            iam("create_role", json!({"RoleName": "deploy", "AssumeRolePolicyDocument": lambda_trust()})),
            with_key(assume(json!({})), 1),
            iam("update_assume_role_policy", json!({"RoleName": "deploy", "PolicyDocument": trust(ann)})),
            with_key(assume(json!({})), 1),
            in_session(sts("get_caller_identity", json!({})), 5),
            in_session(invoke(), 5),
            iam("put_role_policy", json!({"RoleName": "deploy", "PolicyName": "p", "PolicyDocument": allow("lambda:*", "*")})),
            in_session(invoke(), 5),
            with_key(assume(json!({"Policy": allow("lambda:Get*", "*")})), 1),
            in_session(invoke(), 10),
            in_session(lambda("get_function_configuration", json!({"FunctionName": "probe"})), 10),
            with_key(assume(json!({"DurationSeconds": 7200})), 1),
            with_key(assume(json!({"Tags": [{"Key": "a", "Value": "b"}]})), 1),
            in_session(sts("get_session_token", json!({})), 5),
            // What the root may: all of it, also in a session.
            sts("get_session_token", json!({"DurationSeconds": 900})),
            in_session(invoke(), 16),
            with_key(sts("get_session_token", json!({})), 1),
            in_session(sts("get_caller_identity", json!({})), 18),
            in_session(invoke(), 18),
            // Another role of the name is another role.
            iam("delete_role_policy", json!({"RoleName": "deploy", "PolicyName": "p"})),
            iam("delete_role", json!({"RoleName": "deploy"})),
            iam("create_role", json!({"RoleName": "deploy", "AssumeRolePolicyDocument": lambda_trust()})),
            in_session(sts("get_caller_identity", json!({})), 5),
        ]),
    )
    .await;
    let mut expected = vec![""; answers.len()];
    (expected[3], expected[7], expected[11]) = (
        "AccessDenied",
        "AccessDeniedException",
        "AccessDeniedException",
    );
    (expected[13], expected[14], expected[15]) =
        ("ValidationError", "ValidationError", "AccessDenied");
    (expected[20], expected[24]) = ("AccessDeniedException", "InvalidClientTokenId");
    assert_eq!(codes(&answers), expected, "{answers:#?}");
    let session = format!("arn:aws:sts::{ACCOUNT}:assumed-role/deploy/ci");
    assert_eq!(answers[5]["AssumedRoleUser"]["Arn"], session);
    assert_eq!(answers[6]["Arn"], session);
    let message = answers[7]["message"].as_str().unwrap();
    assert!(
        message.starts_with(&format!("User: {session} is not")),
        "{message}"
    );
    assert_eq!(
        answers[19]["Arn"],
        format!("arn:aws:iam::{ACCOUNT}:user/ann")
    );

    // A token is for its key and as it was given.
    let credentials = &answers[16]["Credentials"];
    let text = |member: &str| credentials[member].as_str().unwrap();
    let token = text("SessionToken");
    let mut altered = token.to_owned().into_bytes();
    let middle = altered.len() / 2;
    altered[middle] = if altered[middle] == b'A' { b'B' } else { b'A' };
    let altered = String::from_utf8(altered).unwrap();
    let other = answers[18]["Credentials"]["SessionToken"].as_str().unwrap();
    let call = |token: Option<&str>| {
        let mut call = invoke();
        call["client"] = json!({"aws_access_key_id": text("AccessKeyId"), "aws_secret_access_key": text("SecretAccessKey")});
        if let Some(token) = token {
            call["client"]["aws_session_token"] = token.into();
        }
        call
    };
    let calls = [
        Some(token),
        None,
        Some(""),
        Some(&altered),
        Some(other),
        Some(&token[..20]),
    ];
    let answers = aws::call(&node, calls.map(call).into_iter().collect()).await;
    let refused = "UnrecognizedClientException";
    assert_eq!(
        codes(&answers),
        ["", refused, refused, refused, refused, refused],
        "{answers:#?}"
    );
}
