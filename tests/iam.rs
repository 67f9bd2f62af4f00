//! Who may call, and for what: IAM and STS with AWS's own clients, and what their policies do to calls of Lambda.

mod support;

use std::{fs, os::unix::fs::OpenOptionsExt as _, process::Stdio, time::Duration};

use reqwest::Method;
use serde_json::{Value, json};
use support::{Node, Reply, aws, guests};
use tokio::process::Command;
use wharf::{control::CREDENTIALS_FILE, model::FunctionConfiguration};

const ACCOUNT: &str = "000000000000";

async fn node_with_probe() -> Node {
    let node = Node::start().await;
    probe(&node).await;
    node
}

async fn probe(node: &Node) {
    node.function(
        "probe",
        guests::EVENT_PROBE,
        FunctionConfiguration::default(),
    )
    .await;
}

fn iam(operation: &str, parameters: Value) -> Value {
    json!({"service": "iam", "operation": operation, "parameters": parameters})
}

fn sts(operation: &str, parameters: Value) -> Value {
    json!({"service": "sts", "operation": operation, "parameters": parameters})
}

fn lambda(operation: &str, parameters: Value) -> Value {
    json!({"operation": operation, "parameters": parameters})
}

fn invoke() -> Value {
    lambda("invoke", json!({"FunctionName": "probe", "Payload": "{}"}))
}

/// The same call with the access key that the answer to call `number` has.
fn with_key(mut call: Value, number: usize) -> Value {
    call["client"] = json!({
        "aws_access_key_id": {"$answer": [number, "AccessKey", "AccessKeyId"]},
        "aws_secret_access_key": {"$answer": [number, "AccessKey", "SecretAccessKey"]},
    });
    call
}

/// The same call with the temporary credentials that the answer to call `number` has.
fn in_session(mut call: Value, number: usize) -> Value {
    call["client"] = json!({
        "aws_access_key_id": {"$answer": [number, "Credentials", "AccessKeyId"]},
        "aws_secret_access_key": {"$answer": [number, "Credentials", "SecretAccessKey"]},
        "aws_session_token": {"$answer": [number, "Credentials", "SessionToken"]},
    });
    call
}

fn policy(statement: Value) -> String {
    json!({"Version": "2012-10-17", "Statement": statement}).to_string()
}

fn allow(action: &str, resource: &str) -> String {
    policy(json!({"Effect": "Allow", "Action": action, "Resource": resource}))
}

fn trust(principal: Value) -> String {
    policy(json!({"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}))
}

fn lambda_trust() -> String {
    trust(json!({"Service": "lambda.amazonaws.com"}))
}

/// The codes of errors, empty where there is none.
fn codes(answers: &[Value]) -> Vec<&str> {
    answers
        .iter()
        .map(|answer| answer["code"].as_str().unwrap_or_default())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_first_makes_a_role_works_unchanged() {
    let node = Node::start().await;
    let component = node.data().join("probe.wasm");
    fs::write(&component, guests::EVENT_PROBE.bytes()).unwrap();
    let managed = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole";
    let role = json!({"RoleName": "runs-probe"});
    let answers = aws::call(
        &node,
        json!([
            iam("create_role", json!({
                "RoleName": "runs-probe",
                "AssumeRolePolicyDocument": lambda_trust(),
                "Description": "for the probe",
                "Tags": [{"Key": "team", "Value": "edge"}],
            })),
            iam("attach_role_policy", json!({"RoleName": "runs-probe", "PolicyArn": managed})),
            iam("put_role_policy", json!({"RoleName": "runs-probe", "PolicyName": "more", "PolicyDocument": allow("s3:GetObject", "*")})),
            {"service": "iam", "operation": "role_exists", "parameters": role, "wait": {"Delay": 1, "MaxAttempts": 3}},
            lambda("create_function", json!({
                "FunctionName": "probe", "Role": {"$answer": [0, "Role", "Arn"]}, "Runtime": "provided.al2023",
                "Handler": "probe", "Code": {"ZipFile": {"$file": component}},
            })),
            {"operation": "function_active_v2", "parameters": {"FunctionName": "probe"}, "wait": {"Delay": 1}},
            invoke(),
            iam("get_role", role.clone()),
            iam("list_attached_role_policies", role.clone()),
            iam("list_role_policies", role.clone()),
            iam("get_role_policy", json!({"RoleName": "runs-probe", "PolicyName": "more"})),
            iam("delete_role", role.clone()),
            iam("detach_role_policy", json!({"RoleName": "runs-probe", "PolicyArn": managed})),
            iam("delete_role", role.clone()),
            iam("delete_role_policy", json!({"RoleName": "runs-probe", "PolicyName": "more"})),
            iam("list_instance_profiles_for_role", role.clone()),
            iam("delete_role", role.clone()),
            iam("get_role", role),
        ]),
    )
    .await;
    let found = codes(&answers);
    let mut expected = vec![""; answers.len()];
    (expected[11], expected[13], expected[17]) =
        ("DeleteConflict", "DeleteConflict", "NoSuchEntity");
    assert_eq!(found, expected, "{answers:#?}");
    let arn = format!("arn:aws:iam::{ACCOUNT}:role/runs-probe");
    assert_eq!(answers[4]["Role"], arn);
    assert_eq!(answers[6]["StatusCode"], 200);
    let role = &answers[7]["Role"];
    assert_eq!(
        (&role["Arn"], &role["Description"], &role["Path"]),
        (&json!(arn), &json!("for the probe"), &json!("/"))
    );
    let statement = &role["AssumeRolePolicyDocument"]["Statement"];
    assert_eq!(
        statement["Principal"]["Service"], "lambda.amazonaws.com",
        "{role}"
    );
    assert_eq!(role["Tags"], json!([{"Key": "team", "Value": "edge"}]));
    assert!(
        role["RoleId"].as_str().unwrap().starts_with("AROA"),
        "{role}"
    );
    assert_eq!(
        answers[8]["AttachedPolicies"][0]["PolicyName"],
        "AWSLambdaBasicExecutionRole"
    );
    assert_eq!(answers[9]["PolicyNames"], json!(["more"]));
    assert_eq!(
        answers[10]["PolicyDocument"]["Statement"]["Action"],
        "s3:GetObject"
    );
    assert_eq!(
        answers[11]["message"],
        "Cannot delete entity, must detach all policies first."
    );
    assert_eq!(
        answers[17]["message"],
        "The role with name runs-probe cannot be found."
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_may_do_what_their_policies_say_and_nothing_else() {
    let node = node_with_probe().await;
    let put = |name: &str, document: String| {
        iam(
            "put_user_policy",
            json!({"UserName": "ann", "PolicyName": name, "PolicyDocument": document}),
        )
    };
    let own = format!("arn:aws:lambda:*:{ACCOUNT}:function:pro*");
    let key = 1;
    let configuration = || {
        lambda(
            "get_function_configuration",
            json!({"FunctionName": "probe"}),
        )
    };
    let status = |status: &str| {
        iam(
            "update_access_key",
            json!({
                "UserName": "ann", "AccessKeyId": {"$answer": [key, "AccessKey", "AccessKeyId"]}, "Status": status,
            }),
        )
    };
    let full = "arn:aws:iam::aws:policy/AdministratorAccess";
    let answers = aws::call(
        &node,
        json!([
            iam("create_user", json!({"UserName": "ann"})),
            iam("create_access_key", json!({"UserName": "ann"})),
            with_key(sts("get_caller_identity", json!({})), key),
            with_key(configuration(), key),
            with_key(iam("create_user", json!({"UserName": "eve"})), key),
            put("own", allow("lambda:Get*", &own)),
            with_key(configuration(), key),
            with_key(invoke(), key),
            put("own", allow("lambda:*", &own)),
            with_key(invoke(), key),
            with_key(lambda("list_functions", json!({})), key),
            iam("attach_user_policy", json!({"UserName": "ann", "PolicyArn": full})),
            with_key(lambda("list_functions", json!({})), key),
            put("not", policy(json!({"Effect": "Deny", "Action": "lambda:List*", "Resource": "*"}))),
            with_key(lambda("list_functions", json!({})), key),
            with_key(iam("get_user", json!({})), key),
            status("Inactive"),
            with_key(invoke(), key),
            status("Active"),
            with_key(invoke(), key),
            iam("list_access_keys", json!({"UserName": "ann"})),
            iam("delete_access_key", json!({"UserName": "ann", "AccessKeyId": {"$answer": [key, "AccessKey", "AccessKeyId"]}})),
            with_key(invoke(), key),
            with_key(sts("get_caller_identity", json!({})), key),
        ]),
    )
    .await;
    let mut expected = vec![""; answers.len()];
    (expected[3], expected[4], expected[7], expected[10]) = (
        "AccessDeniedException",
        "AccessDenied",
        "AccessDeniedException",
        "AccessDeniedException",
    );
    (expected[14], expected[17], expected[22], expected[23]) = (
        "AccessDeniedException",
        "UnrecognizedClientException",
        "UnrecognizedClientException",
        "InvalidClientTokenId",
    );
    assert_eq!(codes(&answers), expected, "{answers:#?}");
    let arn = format!("arn:aws:iam::{ACCOUNT}:user/ann");
    assert_eq!(answers[2]["Arn"], arn);
    assert_eq!(answers[2]["UserId"], answers[0]["User"]["UserId"]);
    assert_eq!(answers[3]["status"], 403);
    assert_eq!(
        answers[3]["message"],
        format!(
            "User: {arn} is not authorized to perform: lambda:GetFunctionConfiguration on resource: \
             arn:aws:lambda:us-east-1:{ACCOUNT}:function:probe because no identity-based policy allows the \
             lambda:GetFunctionConfiguration action"
        )
    );
    let denied = answers[14]["message"].as_str().unwrap();
    assert!(
        denied.ends_with("with an explicit deny in an identity-based policy"),
        "{denied}"
    );
    assert_eq!(answers[15]["User"]["UserName"], "ann");
    let keys = &answers[20]["AccessKeyMetadata"];
    assert_eq!(
        (keys.as_array().unwrap().len(), &keys[0]["Status"]),
        (1, &json!("Active"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_iam_refuses_it_refuses_in_iams_words() {
    let node = Node::start().await;
    let role = |name: &str| json!({"RoleName": name, "AssumeRolePolicyDocument": lambda_trust()});
    let with = |mut parameters: Value, member: &str, value: Value| {
        parameters[member] = value;
        parameters
    };
    let create = |name: &str, document: String| {
        iam(
            "create_policy",
            json!({"PolicyName": name, "PolicyDocument": document}),
        )
    };
    let local = format!("arn:aws:iam::{ACCOUNT}:policy/local");
    let attach = |arn: &str| {
        iam(
            "attach_role_policy",
            json!({"RoleName": "role", "PolicyArn": arn}),
        )
    };
    let huge = policy(json!((0..200).map(|number| json!({"Sid": format!("s{number}"), "Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"})).collect::<Vec<_>>()));
    let cases = [
        (iam("create_role", role("role")), "", ""),
        (
            iam("create_role", role("ROLE")),
            "EntityAlreadyExists",
            "Role with name ROLE already exists.",
        ),
        (
            iam("get_role", json!({"RoleName": "Role"})),
            "NoSuchEntity",
            "The role with name Role cannot be found.",
        ),
        (
            iam(
                "create_role",
                with(role("other"), "AssumeRolePolicyDocument", json!("{")),
            ),
            "MalformedPolicyDocument",
            "Syntax errors in policy: EOF while parsing an object at line 1 column 1.",
        ),
        (
            iam(
                "create_role",
                with(
                    role("other"),
                    "AssumeRolePolicyDocument",
                    json!(allow("sts:AssumeRole", "*")),
                ),
            ),
            "MalformedPolicyDocument",
            "Missing required field Principal",
        ),
        (
            iam(
                "create_role",
                with(
                    role("other"),
                    "PermissionsBoundary",
                    json!("arn:aws:iam::aws:policy/ReadOnlyAccess"),
                ),
            ),
            "InvalidInput",
            "Wharf does not support PermissionsBoundary of CreateRole.",
        ),
        (
            iam("create_role", role("a b")),
            "ValidationError",
            "1 validation error detected: Value 'a b' at 'roleName' failed to satisfy constraint: Member must satisfy regular \
             expression pattern: [\\w+=,.@-]+",
        ),
        (
            iam(
                "put_role_policy",
                json!({"RoleName": "role", "PolicyName": "p", "PolicyDocument": allow("GetObject", "*")}),
            ),
            "MalformedPolicyDocument",
            "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.",
        ),
        (
            iam(
                "put_role_policy",
                json!({"RoleName": "role", "PolicyName": "p", "PolicyDocument": huge}),
            ),
            "LimitExceeded",
            "Maximum policy size of 10240 bytes exceeded for role role",
        ),
        (
            iam(
                "get_role_policy",
                json!({"RoleName": "role", "PolicyName": "p"}),
            ),
            "NoSuchEntity",
            "The role policy with name p cannot be found.",
        ),
        (
            create("big", huge.clone()),
            "LimitExceeded",
            "Cannot exceed quota for PolicySize: 6144",
        ),
        (create("local", allow("s3:*", "*")), "", ""),
        (
            create("Local", allow("s3:*", "*")),
            "EntityAlreadyExists",
            "A policy called Local already exists. Duplicate names are not allowed.",
        ),
        (
            attach("arn:aws:iam::aws:policy/Nothing"),
            "NoSuchEntity",
            "Policy arn:aws:iam::aws:policy/Nothing does not exist or is not attachable.",
        ),
        (attach(&local), "", ""),
        (
            iam("delete_policy", json!({"PolicyArn": local})),
            "DeleteConflict",
            "Cannot delete a policy attached to entities.",
        ),
        (
            iam(
                "get_policy_version",
                json!({"PolicyArn": local, "VersionId": "v2"}),
            ),
            "NoSuchEntity",
            "",
        ),
        (
            iam(
                "detach_role_policy",
                json!({"RoleName": "role", "PolicyArn": "arn:aws:iam::aws:policy/ReadOnlyAccess"}),
            ),
            "NoSuchEntity",
            "Policy arn:aws:iam::aws:policy/ReadOnlyAccess was not found.",
        ),
        (
            iam("create_access_key", json!({"UserName": "nobody"})),
            "NoSuchEntity",
            "The user with name nobody cannot be found.",
        ),
        (
            iam("create_access_key", json!({})),
            "ValidationError",
            "Must specify userName when calling with non-User credentials",
        ),
        (iam("create_user", json!({"UserName": "ann"})), "", ""),
        (iam("create_access_key", json!({"UserName": "ann"})), "", ""),
        (iam("create_access_key", json!({"UserName": "ann"})), "", ""),
        (
            iam("create_access_key", json!({"UserName": "ann"})),
            "LimitExceeded",
            "Cannot exceed quota for AccessKeysPerUser: 2",
        ),
        (
            iam("delete_user", json!({"UserName": "ann"})),
            "DeleteConflict",
            "Cannot delete entity, must delete access keys first.",
        ),
        (
            sts(
                "assume_role",
                json!({"RoleArn": format!("arn:aws:iam::{ACCOUNT}:role/nobody"), "RoleSessionName": "test"}),
            ),
            "AccessDenied",
            "User: arn:aws:iam::000000000000:root is not authorized to perform: sts:AssumeRole on resource: \
             arn:aws:iam::000000000000:role/nobody",
        ),
        (
            sts(
                "decode_authorization_message",
                json!({"EncodedMessage": "x"}),
            ),
            "InvalidParameterValueException",
            "",
        ),
    ];
    let calls: Vec<&Value> = cases.iter().map(|(call, _, _)| call).collect();
    let answers = aws::call(&node, json!(calls)).await;
    for ((call, code, message), answer) in cases.iter().zip(answers) {
        assert_eq!(
            answer["code"].as_str().unwrap_or_default(),
            *code,
            "{call} {answer}"
        );
        if !message.is_empty() {
            assert_eq!(answer["message"], *message, "{call}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_in_pages_to_the_end() {
    let node = Node::start().await;
    let mut calls: Vec<Value> = (0..7)
        .map(|number| {
            let path = if number < 3 { "/team/" } else { "/" };
            iam("create_role", json!({"RoleName": format!("role-{number}"), "Path": path, "AssumeRolePolicyDocument": lambda_trust()}))
        })
        .collect();
    let paginate = |operation: &str, parameters: Value| {
        let mut call = iam(operation, parameters);
        call["paginate"] = json!({"PageSize": 3});
        call
    };
    calls.extend([
        iam(
            "create_policy",
            json!({"PolicyName": "mine", "PolicyDocument": allow("s3:*", "*")}),
        ),
        paginate("list_roles", json!({})),
        paginate("list_roles", json!({"PathPrefix": "/team/"})),
        iam("list_roles", json!({"MaxItems": 2})),
        paginate("list_policies", json!({})),
        paginate("list_policies", json!({"Scope": "Local"})),
        iam("list_policies", json!({"OnlyAttached": true})),
        iam("list_roles", json!({"Marker": "%"})),
        iam(
            "get_policy",
            json!({"PolicyArn": "arn:aws:iam::aws:policy/AdministratorAccess"}),
        ),
        iam(
            "get_policy_version",
            json!({"PolicyArn": "arn:aws:iam::aws:policy/AdministratorAccess", "VersionId": "v1"}),
        ),
    ]);
    let answers = aws::call(&node, json!(calls)).await;
    let names = |answer: &Value| -> Vec<String> {
        let roles = answer["Roles"].as_array().unwrap();
        roles
            .iter()
            .map(|role| role["RoleName"].as_str().unwrap().to_owned())
            .collect()
    };
    let all: Vec<String> = (0..7).map(|number| format!("role-{number}")).collect();
    assert_eq!(names(&answers[8]), all);
    assert_eq!(names(&answers[9]), all[..3]);
    assert_eq!(
        (names(&answers[10]), &answers[10]["IsTruncated"]),
        (all[..2].to_vec(), &json!(true))
    );
    let policies = answers[11]["Policies"].as_array().unwrap();
    assert!(policies.len() > 10, "{policies:?}");
    assert_eq!(answers[12]["Policies"][0]["PolicyName"], "mine");
    assert_eq!(answers[13]["Policies"], json!([]));
    assert_eq!(answers[14]["code"], "ValidationError");
    assert_eq!(answers[15]["Policy"]["PolicyName"], "AdministratorAccess");
    assert_eq!(
        answers[16]["PolicyVersion"]["Document"]["Statement"][0]["Action"],
        "*"
    );
}

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

#[tokio::test(flavor = "multi_thread")]
async fn a_function_may_let_in_whom_their_policies_do_not() {
    let node = node_with_probe().await;
    let permission = |id: &str, principal: &str| {
        lambda(
            "add_permission",
            json!({
                "FunctionName": "probe", "StatementId": id, "Action": "lambda:InvokeFunction", "Principal": principal,
            }),
        )
    };
    let ann = format!("arn:aws:iam::{ACCOUNT}:user/ann");
    let answers = aws::call(
        &node,
        json!([
            iam("create_user", json!({"UserName": "ann"})),
            iam("create_access_key", json!({"UserName": "ann"})),
            permission("account", ACCOUNT),
            with_key(invoke(), 1),
            permission("ann", &ann),
            with_key(invoke(), 1),
            with_key(lambda("get_function", json!({"FunctionName": "probe"})), 1),
            lambda(
                "remove_permission",
                json!({"FunctionName": "probe", "StatementId": "ann"})
            ),
            with_key(invoke(), 1),
        ]),
    )
    .await;
    let denied = "AccessDeniedException";
    assert_eq!(
        codes(&answers),
        ["", "", "", denied, "", "", denied, "", denied],
        "{answers:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_is_passed_by_who_may() {
    let node = Node::start().await;
    let component = node.data().join("probe.wasm");
    fs::write(&component, guests::EVENT_PROBE.bytes()).unwrap();
    let make = lambda(
        "create_function",
        json!({
            "FunctionName": "made", "Role": format!("arn:aws:iam::{ACCOUNT}:role/runs"), "Runtime": "provided.al2023",
            "Handler": "probe", "Code": {"ZipFile": {"$file": component}},
        }),
    );
    let put = |name: &str, document: String| {
        iam(
            "put_user_policy",
            json!({"UserName": "ann", "PolicyName": name, "PolicyDocument": document}),
        )
    };
    let answers = aws::call(
        &node,
        json!([
            iam("create_user", json!({"UserName": "ann"})),
            iam("create_access_key", json!({"UserName": "ann"})),
            put("lambda", allow("lambda:*", "*")),
            with_key(make.clone(), 1),
            put("pass", policy(json!({
                "Effect": "Allow", "Action": "iam:PassRole", "Resource": format!("arn:aws:iam::{ACCOUNT}:role/r*"),
                "Condition": {"StringEquals": {"iam:PassedToService": "lambda.amazonaws.com"}},
            }))),
            with_key(make, 1),
        ]),
    )
    .await;
    assert_eq!(
        codes(&answers),
        ["", "", "", "AccessDeniedException", "", ""],
        "{answers:#?}"
    );
    let message = answers[3]["message"].as_str().unwrap();
    assert!(
        message.contains(&format!(
            "iam:PassRole on resource: arn:aws:iam::{ACCOUNT}:role/runs "
        )),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_credentials_file_is_read_again_when_it_changes() {
    let node = node_with_probe().await;
    let path = node.data().join(CREDENTIALS_FILE);
    let first = fs::read_to_string(&path).unwrap();
    let profile = |policy: &str| {
        format!(
            "{first}[ci]\naws_access_key_id = CICICICICICICICICICI\naws_secret_access_key = secret\nregion = us-east-1\n{policy}\n"
        )
    };
    let write = async |text: &str| {
        let new = path.with_extension("test");
        let file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new);
        std::io::Write::write_all(&mut file.unwrap(), text.as_bytes()).unwrap();
        fs::rename(new, &path).unwrap();
        tokio::time::sleep(Duration::from_millis(1100)).await;
    };
    let mut as_ci = invoke();
    as_ci["profile"] = "ci".into();
    let call = async || {
        aws::call(&node, json!([as_ci, iam("list_users", json!({})), {"service": "sts", "operation": "get_caller_identity", "profile": "ci"}])).await
    };
    write(&profile("")).await;
    let answers = call().await;
    assert_eq!(
        codes(&answers),
        ["AccessDeniedException", "", ""],
        "{answers:#?}"
    );
    assert_eq!(answers[1]["Users"][0]["UserName"], "ci");
    assert_eq!(answers[2]["Arn"], format!("arn:aws:iam::{ACCOUNT}:user/ci"));
    fs::write(
        node.data().join("ci.json"),
        allow("lambda:InvokeFunction", "*:probe")
            .replace("*:probe", "arn:aws:lambda:*:*:function:probe"),
    )
    .unwrap();
    write(&profile("wharf_policy = ci.json")).await;
    assert_eq!(codes(&call().await), ["", "", ""]);
    // A file that is of no use changes nothing.
    write(&profile("wharf_policy = nothing.json")).await;
    assert_eq!(codes(&call().await), ["", "", ""]);
    let changed = aws::call(
        &node,
        json!([
            iam("create_access_key", json!({"UserName": "ci"})),
            iam("create_user", json!({"UserName": "CI"})),
            iam("get_user", json!({"UserName": "ci"})),
        ]),
    )
    .await;
    assert_eq!(
        codes(&changed),
        ["UnmodifiableEntity", "EntityAlreadyExists", ""],
        "{changed:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_let_in_is_told_so_in_xml() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::start_in(data, |config| "eu-central-1".clone_into(&mut config.region)).await;
    let identity = |client: Value| json!({"service": "sts", "operation": "get_caller_identity", "client": client});
    let wrong = json!({"aws_access_key_id": "AKIAIOSFODNN7EXAMPLE", "aws_secret_access_key": "x"});
    let file = fs::read_to_string(node.data().join(CREDENTIALS_FILE)).unwrap();
    let own = file
        .lines()
        .find_map(|line| line.strip_prefix("aws_access_key_id = "))
        .unwrap();
    let answers = aws::call(
        &node,
        json!([
            identity(json!({})),
            // IAM and STS are everywhere, and signed for us-east-1 by some clients; Lambda is where it is.
            identity(json!({"region_name": "us-east-1"})),
            {"service": "iam", "operation": "list_roles", "client": {"region_name": "us-east-1"}},
            {"operation": "list_functions", "client": {"region_name": "us-east-1"}},
            identity(json!({"region_name": "us-west-2"})),
            identity(wrong),
            identity(json!({"aws_access_key_id": own, "aws_secret_access_key": "wrong"})),
            {"service": "sts", "operation": "get_caller_identity", "unsigned": true},
        ]),
    )
    .await;
    let mismatch = "SignatureDoesNotMatch";
    assert_eq!(
        codes(&answers),
        [
            "",
            "",
            "",
            "InvalidSignatureException",
            mismatch,
            "InvalidClientTokenId",
            mismatch,
            "MissingAuthenticationToken"
        ],
        "{answers:#?}"
    );
    assert_eq!(answers[0]["Arn"], format!("arn:aws:iam::{ACCOUNT}:root"));
    let form = "Action=GetCallerIdentity&Version=2011-06-15";
    let request = node.api_request(Method::POST, "/").body(form);
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    let reply = Reply::of(request).await;
    assert_eq!(
        (reply.status(), reply.header("content-type")),
        (403, "text/xml")
    );
    assert!(
        reply
            .text()
            .contains("<Code>MissingAuthenticationToken</Code>"),
        "{}",
        reply.text()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nodes_own_paths_are_for_who_may_as_well() {
    let node = node_with_probe().await;
    let answers = aws::call(
        &node,
        json!([
            iam("create_user", json!({"UserName": "ann"})),
            iam("create_access_key", json!({"UserName": "ann"})),
            iam("attach_user_policy", json!({"UserName": "ann", "PolicyArn": "arn:aws:iam::aws:policy/AWSLambda_FullAccess"})),
        ]),
    )
    .await;
    let key = &answers[1]["AccessKey"];
    let url = |path: &str| format!("http://{}{path}", node.api);
    let signed = aws::sign_as(
        &node,
        key["AccessKeyId"].as_str().unwrap(),
        key["SecretAccessKey"].as_str().unwrap(),
        json!([
            {"method": "GET", "url": url("/wharf/v1/functions")},
            {"method": "GET", "url": url("/wharf/v1/functions/probe/logs?last=1&follow=false")},
            {"method": "POST", "url": url("/wharf/v1/deployments"), "body": "{}"},
            {"method": "GET", "url": url("/wharf/v1/backup")},
            {"method": "PUT", "url": url("/wharf/v1/users/eve"), "body": r#"{"policies": [{"attached": "AdministratorAccess"}]}"#},
            {"method": "DELETE", "url": url("/wharf/v1/functions/probe")},
            {"method": "GET", "url": url("/wharf/v1/whatever-comes")},
        ]),
    )
    .await;
    let mut found = Vec::new();
    for request in signed {
        found.push(request.send(&node).await.status());
    }
    assert_eq!(found, [200, 200, 403, 403, 403, 403, 404]);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_outlive_the_node_and_their_secrets_are_not_in_its_database() {
    let node = node_with_probe().await;
    let answers = aws::call(
        &node,
        json!([
            iam("create_user", json!({"UserName": "ann"})),
            iam("create_access_key", json!({"UserName": "ann"})),
            iam("attach_user_policy", json!({"UserName": "ann", "PolicyArn": "arn:aws:iam::aws:policy/AdministratorAccess"})),
        ]),
    )
    .await;
    let key = &answers[1]["AccessKey"];
    let secret = key["SecretAccessKey"].as_str().unwrap();
    let mut call = invoke();
    call["client"] =
        json!({"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": secret});
    let data = node.stop().await;
    for entry in fs::read_dir(data.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let bytes = fs::read(&path).unwrap();
            let found = bytes
                .windows(secret.len())
                .any(|window| window == secret.as_bytes());
            assert!(!found, "{}", path.display());
        }
    }
    let again = Node::start_in(data, |_| {}).await;
    let answers = aws::call(&again, json!([call])).await;
    assert_eq!(answers[0]["StatusCode"], 200, "{answers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_aws_command_line_makes_roles_and_asks_who_it_is() {
    let node = Node::start().await;
    let identity = aws::cli(&node, &["sts", "get-caller-identity"]).await;
    assert_eq!(
        identity,
        json!({"UserId": ACCOUNT, "Account": ACCOUNT, "Arn": format!("arn:aws:iam::{ACCOUNT}:root")})
    );
    let trust = lambda_trust();
    let made = aws::cli(
        &node,
        &[
            "iam",
            "create-role",
            "--role-name",
            "r",
            "--assume-role-policy-document",
            &trust,
        ],
    )
    .await;
    assert_eq!(made["Role"]["RoleName"], "r");
    let linked = aws::cli(
        &node,
        &[
            "iam",
            "create-service-linked-role",
            "--aws-service-name",
            "lambda.amazonaws.com",
        ],
    )
    .await;
    assert_eq!(
        linked["Role"]["Path"],
        "/aws-service-role/lambda.amazonaws.com/"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn wharf_users_makes_lists_and_removes_users() {
    let node = node_with_probe().await;
    let wharf = async |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_wharf"))
            .args(["--output", "json", "users"])
            .args([
                "--api",
                &format!("http://{}", node.api),
                "--data",
                node.data().to_str().unwrap(),
            ])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .await
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let lines = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<Value> = lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        (output.status.success(), lines, said)
    };
    let own = node.data().join("own policy.json");
    fs::write(&own, allow("lambda:Get*", "*")).unwrap();
    let (done, made, said) = wharf(&[
        "add",
        "ann",
        "--policy",
        "AWSLambdaRole",
        "--policy",
        own.to_str().unwrap(),
    ])
    .await;
    assert!(done, "{said}");
    let made = &made[0];
    assert_eq!(made["arn"], format!("arn:aws:iam::{ACCOUNT}:user/ann"));
    let client = json!({"aws_access_key_id": made["access_key_id"], "aws_secret_access_key": made["secret_access_key"]});
    let as_ann = |mut call: Value| {
        call["client"] = client.clone();
        call
    };
    let calls = || {
        json!([
            as_ann(invoke()),
            as_ann(lambda(
                "get_function_configuration",
                json!({"FunctionName": "probe"})
            )),
            as_ann(lambda("list_functions", json!({}))),
        ])
    };
    assert_eq!(
        codes(&aws::call(&node, calls()).await),
        ["", "", "AccessDeniedException"]
    );
    let (_, listed, _) = wharf(&["list"]).await;
    assert_eq!(listed.len(), 1);
    assert_eq!(
        listed[0]["policies"],
        json!([
            "arn:aws:iam::aws:policy/service-role/AWSLambdaRole",
            "own-policy"
        ])
    );
    // What is wrong leaves nothing behind.
    let (done, _, said) = wharf(&["add", "bob", "--policy", "Nothing"]).await;
    assert!(
        !done && said.contains("There is no policy `Nothing` here"),
        "{said}"
    );
    let (done, _, said) = wharf(&["add", "ann"]).await;
    assert!(
        !done && said.contains("User with name ann already exists."),
        "{said}"
    );
    let (done, _, said) = wharf(&["remove", "ann"]).await;
    assert!(done, "{said}");
    assert_eq!(wharf(&["list"]).await.1, Vec::<Value>::new());
    let refused = aws::call(&node, calls()).await;
    assert_eq!(codes(&refused), ["UnrecognizedClientException"; 3]);
}
