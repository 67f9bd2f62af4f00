//! Filter patterns, checked: EventBridge's language, as far as Lambda has it (Developer Guide, "Filter rule syntax").

use serde_json::Value;

/// How deep a pattern goes.
const DEEPEST: usize = 32;

/// Whether a text is a pattern.
pub(super) fn is_pattern(text: &str) -> bool {
    match serde_json::from_str::<Value>(text) {
        Ok(pattern) => is_object(&pattern, DEEPEST),
        Err(_) => false,
    }
}

/// An object whose members are objects, or lists of what a value may be.
fn is_object(pattern: &Value, depth: usize) -> bool {
    let Value::Object(members) = pattern else {
        return false;
    };
    depth > 0
        && !members.is_empty()
        && members.iter().all(|(name, member)| match member {
            Value::Array(alternatives) if name == "$or" => {
                alternatives.len() > 1 && alternatives.iter().all(|one| is_object(one, depth - 1))
            }
            Value::Array(values) => !values.is_empty() && values.iter().all(is_value),
            Value::Object(_) => is_object(member, depth - 1),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
        })
}

/// What a value may be: itself, or a rule.
fn is_value(value: &Value) -> bool {
    let rule = match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return true,
        Value::Array(_) => return false,
        Value::Object(rule) => rule,
    };
    let mut rules = rule.iter();
    let (Some((name, operand)), None) = (rules.next(), rules.next()) else {
        return false;
    };
    let is_plain = |value: &Value| value.is_string() || value.is_number();
    match name.as_str() {
        "prefix" | "suffix" => {
            let ignores_case = |rule: &serde_json::Map<String, Value>| {
                rule.len() == 1 && rule.get("equals-ignore-case").is_some_and(Value::is_string)
            };
            operand.is_string() || operand.as_object().is_some_and(ignores_case)
        }
        "equals-ignore-case" | "wildcard" | "cidr" => operand.is_string(),
        "exists" => operand.is_boolean(),
        "anything-but" => match operand {
            Value::Array(values) => !values.is_empty() && values.iter().all(is_plain),
            Value::Object(_) => is_value(operand),
            operand => is_plain(operand),
        },
        "numeric" => operand.as_array().is_some_and(|operand| is_range(operand)),
        _ => false,
    }
}

/// `[">", 0, "<=", 10]`: a comparison, or a lower and an upper one.
fn is_range(operand: &[Value]) -> bool {
    let comparison = |pair: &[Value]| match pair {
        [Value::String(operator), Value::Number(_)] => Some(operator.clone()),
        _ => None,
    };
    let operators: Option<Vec<String>> = operand.chunks(2).map(comparison).collect();
    let operators = operators.unwrap_or_default();
    let operators: Vec<&str> = operators.iter().map(String::as_str).collect();
    matches!(
        operators[..],
        ["=" | "<" | "<=" | ">" | ">="] | [">" | ">=", "<" | "<="]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_told_from_what_is_none() {
        for pattern in [
            r#"{"body": {"state": ["on", null, 3, true]}}"#,
            r#"{"a": [{"prefix": "x"}], "b": [{"suffix": {"equals-ignore-case": "y"}}]}"#,
            r#"{"a": [{"numeric": [">", 0, "<=", 10.5]}], "b": [{"exists": false}]}"#,
            r#"{"a": [{"anything-but": ["x", 1]}], "b": [{"anything-but": {"prefix": "x"}}]}"#,
            r#"{"$or": [{"a": [1]}, {"b": [2]}]}"#,
        ] {
            assert!(is_pattern(pattern), "{pattern}");
        }
        for pattern in [
            "",
            "{}",
            "[]",
            "{\"a\": ",
            r#"{"a": "x"}"#,
            r#"{"a": []}"#,
            r#"{"a": [["x"]]}"#,
            r#"{"a": [{"like": "x"}]}"#,
            r#"{"a": [{"exists": "yes"}]}"#,
            r#"{"a": [{"numeric": ["<", 0, ">", 1]}]}"#,
            r#"{"a": [{"numeric": [">"]}]}"#,
            r#"{"a": [{"numeric": []}]}"#,
            r#"{"a": [{"prefix": "x", "suffix": "y"}]}"#,
        ] {
            assert!(!is_pattern(pattern), "{pattern}");
        }
        let deep = "{\"a\":".repeat(100) + "[1]" + &"}".repeat(100);
        assert!(!is_pattern(&deep));
    }
}
