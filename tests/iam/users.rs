//! Users: what they may do, and where they come from.

use super::*;

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
async fn wharf_users_makes_lists_and_removes_users() {
    let node = node_with_probe().await;
    let wharf = async |arguments: &[&str]| {
        let output = Command::new(support::program())
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
