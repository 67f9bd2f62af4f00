//! Lambda's API, called with boto3: what stands in `tests/aws/functions.py` and `tests/aws/concurrency.py`; and what needs a
//! node of its own.

use crate::support::{self, Node, Reply, aws, aws::promises, guests};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::Method;
use serde_json::{Value, json};
use wharf::model::{FunctionConfiguration, Vpc};

promises!("functions.py":
    a_function_is_created_active_and_found_as_it_was_described,
    a_handler_keeps_what_it_has_between_invocations,
    what_cannot_be_done_is_refused_and_nothing_is_made,
    a_component_that_cannot_run_fails_and_says_why,
    code_and_configuration_are_updated_with_preconditions,
    functions_are_listed_page_by_page,
    what_is_deleted_is_gone_with_all_that_belonged_to_it,
    versions_are_frozen_numbered_and_never_numbered_again,
    an_alias_leads_to_a_version_and_shares_by_weight,
);

promises!("concurrency.py":
    reserved_concurrency_throttles_and_zero_switches_off,
    provisioned_instances_are_made_ahead_for_versions_and_aliases,
    a_functions_recursion_ends,
    permissions_are_statements_of_a_policy,
    tags_are_kept,
);

#[tokio::test(flavor = "multi_thread")]
async fn a_vpc_opens_what_its_subnets_have_and_its_security_groups_let_out_to() {
    let origin = Node::start().await;
    let port = origin.http.port();
    let vpc = format!(
        r#"
        [subnets]
        subnet-here = ["127.0.0.0/8"]
        subnet-there = ["10.0.0.0/8"]
        [security_groups]
        sg-here = [{{ to = "127.0.0.1", port = {port} }}]
        sg-other = [{{ to = "127.0.0.1", port = 1 }}]
        "#
    );
    let vpc: Vpc = toml::from_str(&vpc).unwrap();
    let node = Node::start_with(|config| config.vpc = vpc).await;
    let configuration = FunctionConfiguration::default();
    let function = node
        .function("caller", guests::HOSTILE, configuration)
        .await;
    let reaches = async || {
        // By address, and by a name that is resolved.
        let mut reached = Vec::new();
        for host in ["127.0.0.1", "localhost"] {
            let url = format!("/fetch?url=http://{host}:{port}/");
            let reply = function.get(&url).await.json();
            reached.push(reply["status"] == 404);
        }
        assert_eq!(reached[0], reached[1]);
        reached[0]
    };
    let update = async |subnets: &[&str], groups: &[&str]| -> Value {
        let config = json!({"SubnetIds": subnets, "SecurityGroupIds": groups});
        let calls = json!([
            {"operation": "update_function_configuration", "parameters": {"FunctionName": "caller", "VpcConfig": config}},
            {"operation": "function_updated_v2", "parameters": {"FunctionName": "caller"}, "wait": {"Delay": 0.1}},
        ]);
        aws::call(&node, calls).await.swap_remove(0)
    };
    assert!(!reaches().await, "without a VPC nothing private is open");
    let updated = update(&["subnet-here"], &["sg-here", "sg-other"]).await;
    assert_eq!(updated["VpcConfig"]["SubnetIds"], json!(["subnet-here"]));
    assert!(reaches().await);
    for (subnets, groups) in [
        (["subnet-there"], ["sg-here"]),
        (["subnet-here"], ["sg-other"]),
    ] {
        update(&subnets, &groups).await;
        assert!(!reaches().await, "{subnets:?} {groups:?}");
    }
    for (subnets, groups, why) in [
        (
            &["subnet-none"][..],
            &["sg-here"][..],
            "The subnet ID 'subnet-none' does not exist",
        ),
        (
            &["subnet-here"],
            &["sg-none"],
            "The security group ID 'sg-none' does not exist",
        ),
        (&["subnet-here"], &[], "must coexist"),
    ] {
        let refused = update(subnets, groups).await;
        assert_eq!(
            refused["code"], "InvalidParameterValueException",
            "{refused}"
        );
        assert!(
            refused["message"].as_str().unwrap().contains(why),
            "{refused}"
        );
    }
    update(&["subnet-here"], &["sg-here"]).await;
    assert!(reaches().await);
    update(&[], &[]).await;
    assert!(
        !reaches().await,
        "an empty configuration takes it out of the VPC"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_a_deployment_comes_before_fails_and_says_why() {
    let node = Node::start().await;
    let deploy = |guest| node.function("raced", guest, FunctionConfiguration::default());
    // Both are compiled now, so that to deploy them again is quick.
    deploy(guests::P3_HELLO).await;
    deploy(guests::HOSTILE).await;
    let path = "/2015-03-31/functions/raced";
    let configuration = async || {
        let request = node.authorized(Method::GET, &format!("{path}/configuration"));
        Reply::of(request).await.json()
    };
    // Compiling takes far longer than what comes before it; were it ever quicker, the next one is for it.
    for attempt in 0..5_u8 {
        let mut code = guests::EVENT_PROBE.bytes().to_vec();
        // A custom section, so that it has to be compiled.
        code.extend([0, 3, 1, b'x', attempt]);
        let zip = BASE64_STANDARD.encode(code);
        let update = node
            .authorized(Method::PUT, &format!("{path}/code"))
            .json(&json!({"ZipFile": zip}));
        let updated = Reply::of(update).await.json();
        assert_eq!(updated["LastUpdateStatus"], "InProgress", "{updated}");
        deploy(if attempt % 2 == 0 {
            guests::P3_HELLO
        } else {
            guests::HOSTILE
        })
        .await;
        let ended = support::eventually(async || {
            let found = configuration().await;
            (found["LastUpdateStatus"] != "InProgress").then_some(found)
        })
        .await;
        if ended["LastUpdateStatus"] == "Failed" {
            let why = ended["LastUpdateStatusReason"].as_str().unwrap();
            assert!(why.contains("deployed in another way"), "{why}");
            assert_eq!(ended["State"], "Active");
            // It can be changed again.
            let update = node
                .authorized(Method::PUT, &format!("{path}/configuration"))
                .json(&json!({"Timeout": 9}));
            let updated = Reply::of(update).await.json();
            assert_eq!(updated["Timeout"], 9, "{updated}");
            return;
        }
    }
    panic!("no deployment came before an update that was being compiled");
}
