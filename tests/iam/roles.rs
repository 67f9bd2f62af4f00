//! Roles and policies: made, listed, given to functions.

use super::*;

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
async fn a_node_that_checks_roles_wants_one_that_lambda_may_assume() {
    let node = Node::start_with(|config| config.check_roles = true).await;
    let component = node.data().join("probe.wasm");
    fs::write(&component, guests::EVENT_PROBE.bytes()).unwrap();
    let make = |role: &str| {
        lambda(
            "create_function",
            json!({
                "FunctionName": "made", "Role": format!("arn:aws:iam::{ACCOUNT}:role/{role}"),
                "Runtime": "provided.al2023", "Handler": "probe", "Code": {"ZipFile": {"$file": component}},
            }),
        )
    };
    let role = |name: &str, trust: String| {
        let parameters = json!({"RoleName": name, "AssumeRolePolicyDocument": trust});
        iam("create_role", parameters)
    };
    let answers = aws::call(
        &node,
        json!([
            make("runs"),
            role("other", trust(json!({"Service": "ec2.amazonaws.com"}))),
            make("other"),
            role("runs", lambda_trust()),
            make("path/runs"),
            make("runs"),
        ]),
    )
    .await;
    let refused = "InvalidParameterValueException";
    assert_eq!(
        codes(&answers),
        [refused, "", refused, "", refused, ""],
        "{answers:#?}"
    );
    let message = "The role defined for the function cannot be assumed by Lambda.";
    assert_eq!(answers[0]["message"], message);
}
