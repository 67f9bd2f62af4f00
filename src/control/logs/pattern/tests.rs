use std::time::{Duration, Instant};

use super::*;

#[track_caller]
fn check(pattern: &str, matching: &[&str], others: &[&str]) {
    let parsed = Pattern::parse(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
    for message in matching {
        assert!(parsed.matches(message), "{pattern} should match {message}");
    }
    for message in others {
        assert!(
            !parsed.matches(message),
            "{pattern} should not match {message}"
        );
    }
}

#[test]
fn terms_are_found_anywhere_and_case_counts() {
    check("", &["", "anything"], &[]);
    check("  ", &["", "anything"], &[]);
    check(
        "ERROR",
        &["[ERROR] fatal", "Exiting with ERRORCODE: -1"],
        &["error", ""],
    );
    check(
        "ERROR Exception",
        &["[ERROR] Caught IllegalArgumentException", "Exception ERROR"],
        &["[ERROR] no", "Exception"],
    );
    check("\"timed out\"", &["Task timed out after"], &["timed  out"]);
    check(r#""say \"hi\"""#, &[r#"they say "hi" to"#], &["say hi"]);
    check("ERROR -Exiting", &["[ERROR] x"], &["Exiting with ERROR"]);
    check("-\"a b\"", &["", "ab"], &["a b"]);
    check("?ERROR ?WARN", &["WARN", "an ERROR"], &["INFO", ""]);
    // As documented: beside others, optional terms do not count.
    check("INFO ?ERROR ?WARN", &["INFO", "INFO WARN"], &["ERROR"]);
    check("日本", &["こんにちは日本"], &["x"]);
}

#[test]
fn regular_expressions_stand_between_percent_signs() {
    check(
        "%AUTHORIZED%",
        &["UNAUTHORIZED REQUEST", "AUTHORIZED"],
        &["authorized"],
    );
    check(r"%\d{1,3}\.\d{1,3}%", &["at 10.1"], &["at 10a1"]);
    check("%^[hc]at$%", &["cat"], &["a cat", "cats"]);
    check("ERROR -%5[0-9]{2}%", &["ERROR 404"], &["ERROR 500", "404"]);
    check("%^a.*b$%", &["ab", "a é b"], &["a b c"]);
    check("?%a+b% ?c", &["xaab", "c"], &["x"]);
    check(
        "{ $.path = %^/v[12]/% }",
        &[r#"{"path":"/v1/x"}"#],
        &[r#"{"path":"/v3/x"}"#, "{}"],
    );
    check("[a != %x%, b]", &["a b"], &["axa b"]);
}

#[test]
fn json_documents_are_looked_into() {
    let document = r#"{"level":"ERROR","n":3,"user":{"id":1,"email":"john@example.com"},"users":[{"id":2},{"id":5}],
        "ok":true,"gone":null,"a.b":{"c-d":"x"},"ip":"123.123.0.7","latency":1.5e3,"text":"404"}"#;
    for matching in [
        r#"{ $.level = "ERROR" }"#,
        "{$.level=ERROR}",
        r#"{ $.level = "ERR*" && $.n >= 3 }"#,
        r#"{ $.level = "*RR*" }"#,
        r#"{ $.level != "INFO" }"#,
        "{ $.n = 3 }",
        "{ $.n = 3.0 && $.n < 4 && $.n <= 3 && $.n > -1 && $.n != 2 }",
        "{ $.latency = 1500 && $.latency < 1e4 }",
        "{ $.user.id = 1 }",
        "{ $.users[1].id = 5 }",
        "{ $.users[*].id = 5 }",
        "{ $.*.id = 1 }",
        "{ $.ok IS TRUE }",
        "{ $.ok = true }",
        "{ $.gone IS NULL }",
        "{ $.missing NOT EXISTS }",
        "{ $.user.id.deeper NOT EXISTS }",
        "{ $.['a.b'].c-d = x }",
        r#"{ $["a.b"]['c-d'] = "x" }"#,
        "{ $.ip = 123.123.* }",
        "{ $.user = \"*\" }",
        "{ ($.n = 9 || $.n = 3) && $.level = ERROR }",
        "{ $.n = 3 || $.n = 9 && $.level = INFO }",
        r#"{ $.text = "404" }"#,
        "{ $.user.email = \"john@*.com\" }",
    ] {
        check(matching, &[document], &["no JSON", ""]);
    }
    for other in [
        r#"{ $.level = "error" }"#,
        r#"{ $.level = "ERRO" }"#,
        "{ $.n > 3 }",
        "{ $.level > 3 }",
        "{ $.users[2].id = 5 }",
        "{ $.users[*].id = 7 }",
        "{ $.users.id = 5 }",
        "{ $.ok IS FALSE }",
        "{ $.missing IS NULL }",
        "{ $.missing != 1 }",
        "{ $.missing != \"x\" }",
        "{ $.gone NOT EXISTS }",
        "{ $.ip != 123.123.* }",
        "{ ($.n = 3 || $.n = 9) && $.level = INFO }",
        "{ $.text = 404 }",
        "{ $.user = \"x*\" }",
        "{ $.level != \"*\" }",
    ] {
        check(other, &[], &[document, "no JSON"]);
    }
    check("{ $[0] = 1 }", &["[1]"], &["{}", "[2]"]);
}

#[test]
fn words_parted_by_spaces_are_fields() {
    let access =
        r#"127.0.0.1 - frank [10/Oct/2000:13:25:15 -0700] "GET /index.html HTTP/1.0" 404 1534"#;
    for matching in [
        "[ip, user, name, time, request, status, bytes]",
        "[ip, user, name, time, request, status = 4*, bytes > 1000]",
        "[..., bytes]",
        "[ip, ...]",
        "[...]",
        "[ip, ..., status = 404, bytes]",
        "[ip=%^127%, ..., request=*index.html*, status_code, bytes]",
        "[ip, user, name = frank, ...]",
        "[ip, ..., status = 4* || status = 5*, bytes >= 1534 && bytes<1.6e3]",
        r#"[ip, ..., request = "GET /index.html HTTP/1.0", s, b]"#,
        "[ip, user, name, time != *2001*, ...]",
    ] {
        check(matching, &[access], &[]);
    }
    for other in [
        "[ip, user]",
        "[ip, ..., status = 5*, bytes]",
        "[a, b, c, d, e, f, g, h]",
        "[a, b, c, d, e, f, g, h, ...]",
        "[..., bytes > 1534]",
        "[..., status > 0, bytes < 0]",
        "[ip > 1, ...]",
        "[ip, user != -, ...]",
    ] {
        check(other, &[], &[access]);
    }
    check("[a = \"x y\", b]", &["\"x y\" z", "[x y]  z "], &["x y"]);
    check("[a, b]", &["\"open end", "[x y"], &["\"open end\""]);
}

#[test]
fn what_is_no_pattern_is_told_why() {
    for (pattern, why) in [
        ("a.b", "double quotes"),
        ("\"open", "quote at its end"),
        ("a -", "a word"),
        ("%open", "`%` at its end"),
        ("%(a)%", "`(` is not supported"),
        ("%something!%", "`!` is not supported"),
        ("%é%", "`é` is not supported"),
        ("%[a%", "not a regular expression"),
        ("%a{1000}{1000}{1000}%", "not a regular expression"),
        ("%a% %b% %c%", "more than 2"),
        ("{ }", "a selector"),
        ("{ $ = 1 }", "`.` and a name"),
        ("{ $.a }", "a comparison"),
        ("{ $.a = }", "a value"),
        ("{ $.a = 1", "`&&`, `||` or `}`"),
        ("{ $.a = 1 } x", "nothing more"),
        ("{ $.a > x }", "a number"),
        ("{ $.a IS 1 }", "`NULL`"),
        ("{ $.a NOT }", "`EXISTS`"),
        ("{ $.a[x] = 1 }", "an index"),
        ("{ $.a[99999999999999999999999] = 1 }", "an index"),
        ("{ $.*.* = 1 }", "one wildcard"),
        (
            "{ $.a[*] = 1 || $.b[*] = 1 || $.c[*] = 1 || $.d[*] = 1 }",
            "a pattern 3",
        ),
        ("{ ($.a = 1 }", "`)`"),
        ("[", "a name"),
        ("[a", "`,` or `]`"),
        ("[a, ..., ...]", "no second"),
        ("[a = 1 || b = 2]", "the same name"),
        ("[a > x]", "a number"),
        ("[a] b", "nothing more"),
        (&"x".repeat(MAX_PATTERN + 1), "longer than 1024"),
        (&format!("{{ {} }}", "(".repeat(500)), "nest deeper"),
    ] {
        let error = Pattern::parse(pattern).unwrap_err().to_string();
        assert!(error.contains(why), "{pattern}: {error}");
    }
    assert!(Pattern::parse(&"é".repeat(MAX_PATTERN)).is_ok());
}

/// Each pattern is one that a careless matcher takes minutes or gigabytes for.
#[test]
fn a_hostile_pattern_costs_no_more_than_any_other() {
    let letters = "a".repeat(256 << 10);
    let array = format!("{{\"a\":[{}1]}}", "{\"a\":1},".repeat(20_000));
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let stars = "a*".repeat(500);
    for (pattern, message) in [
        (format!("[x = {stars}b]"), &letters),
        (format!("{{ $.a = \"{stars}b\" }}"), &letters),
        ("%a*a*a*a*a*a*a*a*a*a*b%".to_owned(), &letters),
        ("%[a-z]{1,500}[a-z]{1,200}b%".to_owned(), &letters),
        ("{ $.a[*].a = 2 }".to_owned(), &array),
        ("{ $.a = 1 }".to_owned(), &deep),
        (format!("[{}...]", "a, ".repeat(300)), &array),
    ] {
        let start = Instant::now();
        if let Ok(parsed) = Pattern::parse(&pattern) {
            assert!(!parsed.matches(message), "{pattern}");
        }
        assert!(start.elapsed() < Duration::from_secs(5), "{pattern}");
    }
}
