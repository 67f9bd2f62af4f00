//! Documents that are none, and what is said of them.

use super::*;

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
    // Many of what costs most: 20 million steps, and never the product of the stars.
    let pattern = format!("arn:aws:lambda:*:*:{}x", "*a".repeat(50));
    let resources: Vec<&str> = std::iter::repeat_n(pattern.as_str(), 100).collect();
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
