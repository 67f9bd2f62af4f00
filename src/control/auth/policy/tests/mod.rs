//! What documents say of requests, as tables.

mod conditions;
mod documents;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use Decision::{Allowed, ExplicitlyDenied, ImplicitlyDenied};

const ANN: &str = "arn:aws:iam::123456789012:user/ann";
const FUNCTION: &str = "arn:aws:lambda:eu-central-1:123456789012:function:hello";

fn user(arn: &str) -> Principal {
    Principal::Aws {
        account: arn.split(':').nth(4).unwrap().to_owned(),
        arns: vec![arn.to_owned()],
    }
}

fn context() -> Context {
    Context::default()
        .with("aws:username", "ann")
        .with("aws:SourceIp", "203.0.113.7")
        .with("aws:SecureTransport", "true")
        .with("aws:CurrentTime", "2026-11-25T01:30:00Z")
        .with("aws:EpochTime", "1795570200")
        .with("aws:TagKeys", "team")
        .with("aws:TagKeys", "stage")
        .with("aws:SourceArn", "arn:aws:s3:::photos")
        .with("lambda:MemorySize", "512")
        .with("x:Bytes", "QmluYXJ5")
}

fn parse(document: &Value, kind: Kind) -> Result<Policy, Malformed> {
    Policy::parse(&document.to_string(), kind)
}

fn identity(statements: Value) -> Arc<Policy> {
    let document = json!({"Version": "2012-10-17", "Statement": statements});
    Arc::new(parse(&document, Kind::Identity).unwrap_or_else(|error| panic!("{document}: {error}")))
}

fn decide_as(
    principal: &Principal,
    policies: &[Arc<Policy>],
    resource: Option<&Policy>,
    action: &str,
    arn: &str,
) -> Decision {
    let context = context();
    let request = Request {
        principal,
        action,
        resource: arn,
        context: &context,
    };
    evaluate(policies, resource, request)
}

/// What a user's statements say of invoking a function.
fn invoke(statements: Value) -> Decision {
    decide_as(
        &user(ANN),
        &[identity(statements)],
        None,
        "lambda:InvokeFunction",
        FUNCTION,
    )
}

#[test]
fn a_statement_allows_what_it_names_and_nothing_else() {
    let allow = |action: &str, resource: &str| json!({"Effect": "Allow", "Action": action, "Resource": resource});
    for (statements, expected) in [
        (allow("*", "*"), Allowed),
        (allow("lambda:*", "*"), Allowed),
        (allow("lambda:InvokeFunction", FUNCTION), Allowed),
        // Actions are the same in any case, resources are not.
        (allow("LAMBDA:invokefunction", FUNCTION), Allowed),
        (
            allow("lambda:InvokeFunction", &FUNCTION.replace("hello", "Hello")),
            ImplicitlyDenied,
        ),
        (
            allow("lambda:Invoke*", "arn:aws:lambda:*:*:function:h?llo"),
            Allowed,
        ),
        (allow("lambda:Get*", "*"), ImplicitlyDenied),
        (allow("lambda:Invoke", "*"), ImplicitlyDenied),
        (allow("iam:InvokeFunction", "*"), ImplicitlyDenied),
        (
            allow("lambda:InvokeFunction", &format!("{FUNCTION}:*")),
            ImplicitlyDenied,
        ),
        (allow("lambda:InvokeFunction", "arn:aws:lambda"), Allowed),
        (
            allow(
                "lambda:InvokeFunction",
                "arn:aws:lambda:*:*:function:${aws:username}*",
            ),
            ImplicitlyDenied,
        ),
        (json!([allow("lambda:Get*", "*"), allow("*", "*")]), Allowed),
        (
            json!({"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}),
            Allowed,
        ),
        (
            json!({"Effect": "Allow", "NotAction": ["iam:*", "lambda:Inv*"], "Resource": "*"}),
            ImplicitlyDenied,
        ),
        (
            json!({"Effect": "Allow", "Action": "*", "NotResource": "arn:*:other"}),
            Allowed,
        ),
        (
            json!({"Effect": "Allow", "Action": "*", "NotResource": FUNCTION}),
            ImplicitlyDenied,
        ),
    ] {
        assert_eq!(invoke(statements.clone()), expected, "{statements}");
    }
    assert_eq!(
        decide_as(&user(ANN), &[], None, "lambda:InvokeFunction", FUNCTION),
        ImplicitlyDenied
    );
}

#[test]
fn a_denial_wins_wherever_it_stands() {
    let all = json!({"Effect": "Allow", "Action": "*", "Resource": "*"});
    let deny =
        json!({"Effect": "Deny", "Action": "lambda:Invoke*", "Resource": "arn:*:function:hello"});
    assert_eq!(invoke(json!([all, deny])), ExplicitlyDenied);
    assert_eq!(invoke(json!([deny, all])), ExplicitlyDenied);
    let apart = [identity(deny.clone()), identity(all.clone())];
    let decide = |action| decide_as(&user(ANN), &apart, None, action, FUNCTION);
    assert_eq!(decide("lambda:InvokeFunction"), ExplicitlyDenied);
    assert_eq!(decide("lambda:GetFunction"), Allowed);
}

#[test]
fn a_variable_that_the_request_lacks_never_opens_anything() {
    let all = json!({"Effect": "Allow", "Action": "*", "Resource": "*"});
    let element = |effect: &str, element: &str| json!({"Effect": effect, "Action": "*", element: "arn:aws:s3:::${aws:absent}/*"});
    let condition = |effect: &str, operator: &str| {
        let condition = json!({operator: {"aws:username": "${aws:absent}"}});
        json!({"Effect": effect, "Action": "*", "Resource": "*", "Condition": condition})
    };
    for (statement, expected) in [
        (element("Allow", "Resource"), ImplicitlyDenied),
        (element("Allow", "NotResource"), ImplicitlyDenied),
        (condition("Allow", "StringEquals"), ImplicitlyDenied),
        (condition("Allow", "StringNotEquals"), ImplicitlyDenied),
    ] {
        assert_eq!(invoke(statement.clone()), expected, "{statement}");
    }
    for (statement, expected) in [
        (element("Deny", "Resource"), Allowed),
        (element("Deny", "NotResource"), ExplicitlyDenied),
        (condition("Deny", "StringEquals"), Allowed),
        (condition("Deny", "StringNotEquals"), ExplicitlyDenied),
    ] {
        assert_eq!(invoke(json!([all, statement])), expected, "{statement}");
    }
}

#[test]
fn a_resource_says_who_may_use_it() {
    let role = Principal::Aws {
        account: "123456789012".to_owned(),
        arns: vec![
            "arn:aws:sts::123456789012:assumed-role/deploy/ci".to_owned(),
            "arn:aws:iam::123456789012:role/deploy".to_owned(),
        ],
    };
    let ann = user(ANN);
    let stranger = user("arn:aws:iam::999999999999:user/eve");
    let root = user("arn:aws:iam::123456789012:root");
    let s3 = Principal::Service("s3.amazonaws.com".to_owned());
    let policy = |principal: Value, more: Value| {
        let mut statement = json!({"Effect": "Allow", "Principal": principal, "Action": "lambda:InvokeFunction", "Resource": FUNCTION});
        statement
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        parse(
            &json!({"Version": "2012-10-17", "Statement": statement}),
            Kind::Resource,
        )
        .unwrap()
    };
    let nothing: &[Arc<Policy>] = &[];
    let all = &[identity(
        json!({"Effect": "Allow", "Action": "*", "Resource": "*"}),
    )][..];
    let no = json!({});
    for (principal, more, who, own, expected) in [
        // Within the account either is enough, if the resource names who asks and not the account alone.
        (json!({"AWS": ANN}), no.clone(), &ann, nothing, Allowed),
        (
            json!({"AWS": ANN}),
            no.clone(),
            &role,
            nothing,
            ImplicitlyDenied,
        ),
        (
            json!({"AWS": "arn:aws:iam::123456789012:role/deploy"}),
            no.clone(),
            &role,
            nothing,
            Allowed,
        ),
        (
            json!({"AWS": "123456789012"}),
            no.clone(),
            &ann,
            nothing,
            ImplicitlyDenied,
        ),
        (
            json!({"AWS": "123456789012"}),
            no.clone(),
            &ann,
            all,
            Allowed,
        ),
        (
            json!({"AWS": "arn:aws:iam::123456789012:root"}),
            no.clone(),
            &root,
            nothing,
            Allowed,
        ),
        (
            json!({"AWS": "999999999999"}),
            no.clone(),
            &ann,
            all,
            Allowed,
        ),
        // Between accounts it takes both.
        (
            json!({"AWS": "999999999999"}),
            no.clone(),
            &stranger,
            all,
            Allowed,
        ),
        (
            json!({"AWS": "999999999999"}),
            no.clone(),
            &stranger,
            nothing,
            ImplicitlyDenied,
        ),
        (
            json!({"AWS": "123456789012"}),
            no.clone(),
            &stranger,
            all,
            ImplicitlyDenied,
        ),
        // Services and strangers have no policies of their own.
        (
            json!({"Service": "s3.amazonaws.com"}),
            no.clone(),
            &s3,
            nothing,
            Allowed,
        ),
        (
            json!({"Service": "sns.amazonaws.com"}),
            no.clone(),
            &s3,
            nothing,
            ImplicitlyDenied,
        ),
        (
            json!({"Service": "s3.amazonaws.com"}),
            json!({"Condition": {"ArnLike": {"AWS:SourceArn": "arn:aws:s3:::photos"}}}),
            &s3,
            nothing,
            Allowed,
        ),
        (
            json!({"Service": "s3.amazonaws.com"}),
            json!({"Condition": {"ArnLike": {"AWS:SourceArn": "arn:aws:s3:::other"}}}),
            &s3,
            nothing,
            ImplicitlyDenied,
        ),
        (
            json!("*"),
            no.clone(),
            &Principal::Anonymous,
            nothing,
            Allowed,
        ),
        (
            json!({"AWS": "*"}),
            no.clone(),
            &Principal::Anonymous,
            nothing,
            Allowed,
        ),
        (
            json!({"AWS": ANN}),
            no.clone(),
            &Principal::Anonymous,
            nothing,
            ImplicitlyDenied,
        ),
        // A denial is for the whole account.
        (
            json!({"AWS": "123456789012"}),
            json!({"Effect": "Deny"}),
            &ann,
            all,
            ExplicitlyDenied,
        ),
        (
            json!({"Federated": "accounts.google.com"}),
            no.clone(),
            &ann,
            nothing,
            ImplicitlyDenied,
        ),
    ] {
        let resource = policy(principal.clone(), more);
        let found = decide_as(who, own, Some(&resource), "lambda:InvokeFunction", FUNCTION);
        assert_eq!(found, expected, "{principal} {who:?}");
    }
    let others = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Deny", "NotPrincipal": {"AWS": [ANN, "123456789012"]}, "Action": "*", "Resource": "*"},
    ]});
    let others = parse(&others, Kind::Resource).unwrap();
    let decide = |who| decide_as(who, all, Some(&others), "lambda:InvokeFunction", FUNCTION);
    assert_eq!(
        (decide(&ann), decide(&stranger)),
        (Allowed, ExplicitlyDenied)
    );
}

#[test]
fn a_role_is_assumed_by_whom_it_trusts() {
    let trust = |principal: Value| {
        let document = json!({"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}});
        parse(&document, Kind::Trust).unwrap()
    };
    let all = &[identity(
        json!({"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*"}),
    )][..];
    let never = &[identity(
        json!({"Effect": "Deny", "Action": "sts:*", "Resource": "*"}),
    )][..];
    for (principal, own, expected) in [
        (json!({"AWS": ANN}), &[][..], Allowed),
        (json!({"AWS": ANN}), never, ExplicitlyDenied),
        (json!({"AWS": "123456789012"}), &[][..], ImplicitlyDenied),
        (json!({"AWS": "123456789012"}), all, Allowed),
        // What a user's own policies allow is not enough.
        (
            json!({"Service": "lambda.amazonaws.com"}),
            all,
            ImplicitlyDenied,
        ),
    ] {
        let (ann, context) = (user(ANN), context());
        let request = Request {
            principal: &ann,
            action: "sts:AssumeRole",
            resource: "arn:aws:iam::123456789012:role/deploy",
            context: &context,
        };
        assert_eq!(
            evaluate_trust(own, &trust(principal.clone()), request),
            expected,
            "{principal}"
        );
    }
}

/// One statement in the obvious form: what it names, as indices of small worlds.
#[derive(Debug, Clone)]
struct Simple {
    allow: bool,
    action: usize,
    resource: usize,
    user: usize,
}

const ACTIONS: [&str; 4] = [
    "*",
    "lambda:*",
    "lambda:InvokeFunction",
    "lambda:GetFunction",
];
const RESOURCES: [&str; 3] = [
    "*",
    FUNCTION,
    "arn:aws:lambda:eu-central-1:123456789012:function:other",
];
const USERS: [&str; 3] = ["", "ann", "bob"];

proptest! {
    /// Deny if one denies, allow if one allows, deny otherwise: on statements whose parts can be compared by hand.
    #[test]
    fn decisions_are_what_the_obvious_way_finds(
        statements in prop::collection::vec(
            (any::<bool>(), 0..4_usize, 0..3_usize, 0..3_usize)
                .prop_map(|(allow, action, resource, user)| Simple { allow, action, resource, user }),
            1..6,
        ),
        split in 0..6_usize,
        action in 2..4_usize,
        resource in 1..3_usize,
    ) {
        let applies = |simple: &Simple| {
            (simple.action < 2 || simple.action == action)
                && (simple.resource == 0 || simple.resource == resource)
                && (simple.user == 0 || USERS[simple.user] == "ann")
        };
        let slow = match () {
            () if statements.iter().any(|simple| !simple.allow && applies(simple)) => ExplicitlyDenied,
            () if statements.iter().any(|simple| simple.allow && applies(simple)) => Allowed,
            () => ImplicitlyDenied,
        };
        let documents: Vec<Value> = statements
            .iter()
            .map(|simple| {
                let mut statement = json!({
                    "Effect": if simple.allow { "Allow" } else { "Deny" },
                    "Action": ACTIONS[simple.action],
                    "Resource": [RESOURCES[simple.resource]],
                });
                if simple.user > 0 {
                    statement["Condition"] = json!({"StringEquals": {"aws:username": USERS[simple.user]}});
                }
                statement
            })
            .collect();
        let (first, second) = documents.split_at(split.min(documents.len()));
        let policies: Vec<Arc<Policy>> = [first, second]
            .into_iter()
            .filter(|part| !part.is_empty())
            .map(|part| identity(json!(part)))
            .collect();
        let found = decide_as(&user(ANN), &policies, None, ACTIONS[action], RESOURCES[resource]);
        prop_assert_eq!(found, slow);
    }
}
