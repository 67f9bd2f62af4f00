//! What documents say of requests, as a table.

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
fn conditions_hold_or_do_not() {
    for (operator, key, value, expected) in [
        ("StringEquals", "aws:username", json!("ann"), true),
        ("StringEquals", "AWS:UserName", json!(["bob", "ann"]), true),
        ("StringEquals", "aws:username", json!("Ann"), false),
        ("StringEquals", "aws:username", json!("a*"), false),
        ("StringEqualsIgnoreCase", "aws:username", json!("ANN"), true),
        ("StringLike", "aws:username", json!("a?n*"), true),
        ("StringLike", "aws:username", json!("${aws:username}"), true),
        ("StringNotEquals", "aws:username", json!("bob"), true),
        (
            "StringNotEquals",
            "aws:username",
            json!(["ann", "bob"]),
            false,
        ),
        ("StringNotLike", "aws:username", json!("a*"), false),
        (
            "StringNotEqualsIgnoreCase",
            "aws:username",
            json!("ANN"),
            false,
        ),
        // What the request does not say equals nothing.
        ("StringEquals", "aws:absent", json!("a"), false),
        ("StringNotEquals", "aws:absent", json!("a"), true),
        ("StringEqualsIfExists", "aws:absent", json!("a"), true),
        ("StringEqualsIfExists", "aws:username", json!("bob"), false),
        ("Null", "aws:absent", json!(true), true),
        ("Null", "aws:absent", json!("false"), false),
        ("Null", "aws:username", json!("true"), false),
        ("Null", "aws:username", json!(false), true),
        ("NumericEquals", "lambda:MemorySize", json!(512), true),
        ("NumericEquals", "lambda:MemorySize", json!("512.0"), true),
        (
            "NumericNotEquals",
            "lambda:MemorySize",
            json!([512, 1]),
            false,
        ),
        ("NumericLessThan", "lambda:MemorySize", json!(512), false),
        (
            "NumericLessThanEquals",
            "lambda:MemorySize",
            json!(512),
            true,
        ),
        (
            "NumericGreaterThan",
            "lambda:MemorySize",
            json!("511.5"),
            true,
        ),
        (
            "NumericGreaterThanEquals",
            "lambda:MemorySize",
            json!(513),
            false,
        ),
        ("NumericEquals", "aws:username", json!(1), false),
        (
            "DateLessThan",
            "aws:CurrentTime",
            json!("2026-11-25T01:30:01Z"),
            true,
        ),
        (
            "DateGreaterThan",
            "aws:CurrentTime",
            json!("2026-11-25"),
            true,
        ),
        (
            "DateLessThan",
            "aws:CurrentTime",
            json!("2026-11-25T02:30:00+02:00"),
            false,
        ),
        ("DateEquals", "aws:CurrentTime", json!(1_795_570_200), true),
        (
            "DateGreaterThanEquals",
            "aws:EpochTime",
            json!("2026-11"),
            true,
        ),
        ("DateNotEquals", "aws:CurrentTime", json!("2026"), true),
        (
            "DateLessThanEquals",
            "aws:CurrentTime",
            json!("2026-11-25T01:30Z"),
            true,
        ),
        ("Bool", "aws:SecureTransport", json!(true), true),
        ("Bool", "aws:SecureTransport", json!("False"), false),
        (
            "BoolIfExists",
            "aws:MultiFactorAuthPresent",
            json!("true"),
            true,
        ),
        ("BinaryEquals", "x:Bytes", json!("QmluYXJ5"), true),
        ("BinaryEquals", "x:Bytes", json!("QQ=="), false),
        ("IpAddress", "aws:SourceIp", json!("203.0.113.0/24"), true),
        ("IpAddress", "aws:SourceIp", json!("203.0.113.7"), true),
        (
            "IpAddress",
            "aws:SourceIp",
            json!(["2001:db8::/32", "203.0.113.8/31"]),
            false,
        ),
        ("IpAddress", "aws:SourceIp", json!("0.0.0.0/0"), true),
        ("IpAddress", "aws:SourceIp", json!("::/0"), false),
        (
            "NotIpAddress",
            "aws:SourceIp",
            json!("203.0.112.0/23"),
            false,
        ),
        ("ArnLike", "aws:SourceArn", json!("arn:aws:s3:::ph*"), true),
        (
            "ArnEquals",
            "aws:SourceArn",
            json!("arn:aws:s3:*:*:photos"),
            true,
        ),
        (
            "ArnLike",
            "aws:SourceArn",
            json!("arn:aws:*:photos:*:*"),
            false,
        ),
        (
            "ArnNotLike",
            "aws:SourceArn",
            json!("arn:aws:sns:*:*:*"),
            true,
        ),
        (
            "ArnNotEquals",
            "aws:SourceArn",
            json!("arn:aws:s3:::photos"),
            false,
        ),
        ("ArnLike", "aws:username", json!("arn:*:*:*:*:*"), false),
        (
            "ForAnyValue:StringEquals",
            "aws:TagKeys",
            json!(["team", "owner"]),
            true,
        ),
        (
            "ForAllValues:StringEquals",
            "aws:TagKeys",
            json!(["team", "owner"]),
            false,
        ),
        (
            "ForAllValues:StringLike",
            "aws:TagKeys",
            json!(["team", "st*"]),
            true,
        ),
        (
            "ForAnyValue:StringNotEquals",
            "aws:TagKeys",
            json!("team"),
            true,
        ),
        (
            "ForAllValues:StringNotEquals",
            "aws:TagKeys",
            json!("team"),
            false,
        ),
        ("ForAllValues:StringEquals", "aws:absent", json!("a"), true),
        ("ForAnyValue:StringEquals", "aws:absent", json!("a"), false),
        (
            "ForAnyValue:StringEqualsIfExists",
            "aws:absent",
            json!("a"),
            true,
        ),
        ("ForAnyValue:Null", "aws:TagKeys", json!("false"), true),
    ] {
        let condition = json!({operator: {key: value}});
        let found = invoke(
            json!({"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": condition}),
        );
        let expected = if expected { Allowed } else { ImplicitlyDenied };
        assert_eq!(found, expected, "{condition}");
    }
    // All operators and all keys.
    for (condition, expected) in [
        (
            json!({"StringEquals": {"aws:username": "ann"}, "Bool": {"aws:SecureTransport": "true"}}),
            Allowed,
        ),
        (
            json!({"StringEquals": {"aws:username": "ann"}, "Bool": {"aws:SecureTransport": "false"}}),
            ImplicitlyDenied,
        ),
        (
            json!({"StringEquals": {"aws:username": "ann", "aws:absent": "a"}}),
            ImplicitlyDenied,
        ),
        (json!({}), Allowed),
    ] {
        let found = invoke(
            json!({"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": condition}),
        );
        assert_eq!(found, expected, "{condition}");
    }
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

#[test]
fn what_is_wrong_with_a_document_is_said() {
    let allow = json!({"Effect": "Allow", "Action": "lambda:*", "Resource": "*"});
    let with = |name: &str, value: Value| {
        let mut statement = allow.clone();
        statement[name] = value;
        json!({"Version": "2012-10-17", "Statement": statement})
    };
    let without = |name: &str| {
        let mut statement = allow.clone();
        statement.as_object_mut().unwrap().remove(name);
        json!({"Version": "2012-10-17", "Statement": [statement]})
    };
    let said = |document: &Value, kind| parse(document, kind).unwrap_err().to_string();
    for (document, message) in [
        (
            json!({"Statement": allow}),
            "Policy document must be version 2012-10-17 or greater.",
        ),
        (
            json!({"Version": "2008-10-17", "Statement": allow}),
            "Policy document must be version 2012-10-17 or greater.",
        ),
        (
            json!({"Version": "2012-10-17", "Statement": []}),
            "Syntax errors in policy: it has no statement.",
        ),
        (
            with("Effect", json!("allow")),
            "Syntax errors in policy: unknown variant `allow`, expected `Allow` or `Deny`",
        ),
        (
            with("Actoin", json!("*")),
            "Syntax errors in policy: unknown field `Actoin`, expected one of",
        ),
        (
            with("NotAction", json!("a:b")),
            "Syntax errors in policy: a statement has both `Action` and `NotAction`.",
        ),
        (
            without("Effect"),
            "Syntax errors in policy: missing field `Effect`",
        ),
        (without("Action"), "Policy statement must contain actions."),
        (
            without("Resource"),
            "Policy statement must contain resources.",
        ),
        (
            with("Action", json!([])),
            "Policy statement must contain actions.",
        ),
        (
            with("Resource", json!([])),
            "Policy statement must contain resources.",
        ),
        (
            with("Action", json!("InvokeFunction")),
            "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.",
        ),
        (
            with("Action", json!("a:b:c")),
            "Actions/Condition can contain only one colon.",
        ),
        (with("Action", json!("lam*:b")), "Vendor lam* is not valid"),
        (
            with("Resource", json!("hello")),
            "Resource hello must be in ARN format or \"*\".",
        ),
        (
            with("Resource", json!("arn:aws:s3:::${user}")),
            "Invalid policy variable: `arn:aws:s3:::${user}`",
        ),
        (
            with("Sid", json!("a b")),
            "Statement IDs (SID) must be alpha-numeric.",
        ),
        (
            json!({"Version": "2012-10-17", "Statement": [with("Sid", json!("a"))["Statement"], with("Sid", json!("a"))["Statement"]]}),
            "Statement IDs (SID) in a single policy must be unique.",
        ),
        (
            with("Principal", json!("*")),
            "Policy document should not specify a principal.",
        ),
        (
            with("Condition", json!({"StringEqual": {"aws:a": "b"}})),
            "Invalid Condition type : StringEqual.",
        ),
        (
            with(
                "Condition",
                json!({"ForSomeValues:StringEquals": {"aws:a": "b"}}),
            ),
            "Invalid Condition type : ForSomeValues:StringEquals.",
        ),
        (
            with("Condition", json!({"NullIfExists": {"aws:a": "true"}})),
            "Invalid Condition type : NullIfExists.",
        ),
        (
            with("Condition", json!({"NumericEquals": {"aws:a": "b"}})),
            "Invalid value of the condition NumericEquals: `b` is no number.",
        ),
        (
            with("Condition", json!({"NumericEquals": {"aws:a": "NaN"}})),
            "Invalid value of the condition NumericEquals: `NaN` is no number.",
        ),
        (
            with("Condition", json!({"DateEquals": {"aws:a": "soon"}})),
            "Invalid value of the condition DateEquals: `soon` is no date.",
        ),
        (
            with("Condition", json!({"Bool": {"aws:a": "yes"}})),
            "Invalid value of the condition Bool: `yes` is neither true nor false.",
        ),
        (
            with("Condition", json!({"IpAddress": {"aws:a": "1.2.3.4/33"}})),
            "Invalid value of the condition IpAddress: `1.2.3.4/33` is neither",
        ),
        (
            with("Condition", json!({"ArnLike": {"aws:a": "arn:aws"}})),
            "Invalid value of the condition ArnLike: `arn:aws` is no ARN",
        ),
        (
            with("Condition", json!({"Bool": {"secure": "true"}})),
            "Actions/Conditions must be prefaced by a vendor",
        ),
        (
            with("Condition", json!({"Bool": "true"})),
            "Syntax errors in policy: invalid type: string \"true\", expected an object",
        ),
        (
            with("Condition", json!({"StringEquals": {"aws:a": null}})),
            "Syntax errors in policy: invalid type: null",
        ),
    ] {
        let found = said(&document, Kind::Identity);
        assert!(found.starts_with(message), "{document}: {found}");
    }
    let of_resource = |principal: Value| {
        let mut document = with("Principal", principal);
        document["Id"] = json!("default");
        document
    };
    for (principal, message) in [
        (
            json!("ann"),
            "Syntax errors in policy: invalid value: string \"ann\"",
        ),
        (json!({}), "Missing required field Principal"),
        (
            json!({"AWS": "arn:aws:iam::123456789012:user/*"}),
            "Invalid principal in policy: \"AWS\":\"arn:aws:iam::123456789012:user/*\"",
        ),
        (
            json!({"AWS": "1234"}),
            "Invalid principal in policy: \"AWS\":\"1234\"",
        ),
        (
            json!({"Service": "*"}),
            "Invalid principal in policy: \"Service\":\"*\"",
        ),
        (
            json!({"Nobody": "a"}),
            "Invalid principal in policy: \"Nobody\":\"a\"",
        ),
    ] {
        let found = said(&of_resource(principal.clone()), Kind::Resource);
        assert!(found.starts_with(message), "{principal}: {found}");
    }
    assert_eq!(
        said(&with("Sid", json!("a")), Kind::Resource),
        "Missing required field Principal"
    );
    let trust = |action: &str, more: &str| {
        let document = json!({"Version": "2012-10-17", "Statement": {
            "Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": action, more: "*"}});
        said(&document, Kind::Trust)
    };
    assert_eq!(
        trust("sts:AssumeRole", "Resource"),
        "Has prohibited field Resource"
    );
    assert!(trust("lambda:*", "Sid").starts_with("Statement IDs"));
    for action in ["lambda:*", "*"] {
        let document = json!({"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Principal": "*", "Action": action}});
        assert_eq!(
            said(&document, Kind::Trust),
            "AssumeRole policy may only specify STS AssumeRole actions."
        );
    }
}

#[test]
fn what_is_there_twice_is_refused() {
    for inside in [
        r#""Effect": "Deny", "Effect": "Allow""#,
        r#""Effect": "Allow", "Condition": {"Bool": {"aws:a": "true"}, "Bool": {"aws:b": "true"}}"#,
        r#""Effect": "Allow", "Condition": {"Bool": {"aws:a": "true", "AWS:A": "false"}}"#,
        r#""Effect": "Allow", "Condition": {}, "Condition": {}"#,
    ] {
        let text = format!(
            r#"{{"Version": "2012-10-17", "Statement": {{{inside}, "Action": "*", "Resource": "*"}}}}"#
        );
        let found = Policy::parse(&text, Kind::Identity)
            .unwrap_err()
            .to_string();
        assert!(
            found.contains("duplicate field") || found.contains("is there twice"),
            "{text}: {found}"
        );
    }
}

#[test]
fn nothing_a_document_has_takes_the_reader_down() {
    let deep = format!("{}{}", "[".repeat(60_000), "]".repeat(60_000));
    let nested = format!(r#"{{"Version": "2012-10-17", "Statement": {deep}}}"#);
    for text in [
        "",
        "null",
        "[]",
        "\"a\"",
        "{",
        "{}",
        &deep,
        &nested,
        "\u{0}",
        &"\u{1F600}".repeat(9),
    ] {
        let found = Policy::parse(text, Kind::Identity).unwrap_err();
        assert!(matches!(found, Malformed::Syntax(_)), "{found}");
    }
    let long = "x".repeat(200_000);
    assert_eq!(
        Policy::parse(&long, Kind::Identity).unwrap_err(),
        Malformed::TooLong
    );
    // As much as fits, of what costs most.
    let pattern = format!("arn:aws:lambda:*:*:{}x", "*a".repeat(50));
    let resources: Vec<&str> = std::iter::repeat_n(pattern.as_str(), 1000).collect();
    let policy = identity(json!({"Effect": "Allow", "Action": "*", "Resource": resources}));
    let arn = format!("arn:aws:lambda:r:123456789012:{}", "a".repeat(2000));
    let began = std::time::Instant::now();
    assert_eq!(
        decide_as(&user(ANN), &[policy], None, "lambda:Get", &arn),
        ImplicitlyDenied
    );
    assert!(began.elapsed() < std::time::Duration::from_secs(20));
}

#[test]
fn the_size_of_a_document_is_without_its_white_space() {
    assert_eq!(Policy::size("{ \"a\":\n\t\"é\" }"), 9);
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
