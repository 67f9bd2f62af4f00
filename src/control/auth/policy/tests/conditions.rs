//! Conditions, each against one request.

use super::*;

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
