//! What is refused, and how it is said.

use super::*;

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
