//! Whether an input is what its shape says.
//!
//! All that is wrong is said at once, in the words of AWS's services: `2 validation errors detected: Value 'x' at
//! 'functionName' failed to satisfy constraint: …`. A value whose type is wrong is a `SerializationException`, as nothing
//! more can be said of it.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::{
    Error,
    model::{Kind, Model, Shape},
};

/// The most problems that are told.
const MOST: usize = 20;

/// The longest value that is repeated to the caller.
const LONGEST: usize = 200;

/// How deep structures may lie in one another; the models' lie less deep.
const DEEPEST: usize = 32;

/// Checks an input, and takes members out of it that are null, which is to say not there. `name` is the error that says
/// what is wrong.
pub(super) fn input(
    model: &Model,
    shape: &str,
    input: &mut Map<String, Value>,
    name: &'static str,
) -> Result<(), Error> {
    let mut check = Check {
        model,
        problems: Vec::new(),
    };
    check.structure(model.shape(shape), input, "", 0)?;
    let problems = check.problems;
    if problems.is_empty() {
        return Ok(());
    }
    let are = match problems.len() {
        1 => "error",
        _ => "errors",
    };
    let message = format!(
        "{} validation {are} detected: {}",
        problems.len(),
        problems.join("; ")
    );
    Err(Error::new(name, message))
}

struct Check<'a> {
    model: &'a Model,
    problems: Vec<String>,
}

impl Check<'_> {
    fn structure(
        &mut self,
        shape: &Shape,
        members: &mut Map<String, Value>,
        path: &str,
        depth: usize,
    ) -> Result<(), Error> {
        if depth > DEEPEST {
            return Err(Error::serialization("The document is nested too deeply."));
        }
        members.retain(|_, value| !value.is_null());
        for name in &shape.required {
            if !members.contains_key(name) {
                self.problem(&Value::Null, &join(path, name), "Member must not be null");
            }
        }
        for (name, value) in members {
            let Some(member) = shape.members.get(name) else {
                let place = join(path, name);
                self.say(format!(
                    "'{place}' is no member that this version of Wharf knows"
                ));
                continue;
            };
            let inner = self.model.shape(&member.shape);
            self.value(inner, value, &join(path, name), depth + 1)?;
        }
        Ok(())
    }

    fn value(
        &mut self,
        shape: &Shape,
        value: &mut Value,
        path: &str,
        depth: usize,
    ) -> Result<(), Error> {
        let wrong = |wanted: &str, value: &Value| {
            Err(Error::serialization(format!(
                "{} at '{path}' can not be converted to {wanted}",
                kind(value)
            )))
        };
        match (shape.kind, value) {
            (Kind::Structure, Value::Object(members)) => {
                self.structure(shape, members, path, depth)?;
            }
            (Kind::List, Value::Array(items)) => {
                self.length(shape, items.len(), path, || Value::Array(Vec::new()));
                let member = shape.member.as_ref().map(|member| &member.shape);
                if let Some(inner) = member.map(|name| self.model.shape(name)) {
                    for (number, item) in (1..).zip(items) {
                        let place = format!("{path}.{number}.member");
                        self.value(inner, item, &place, depth + 1)?;
                    }
                }
            }
            (Kind::Map, Value::Object(entries)) => {
                self.length(shape, entries.len(), path, || Value::Object(Map::new()));
                let part = |member: &Option<super::model::Member>| {
                    member
                        .as_ref()
                        .map(|member| self.model.shape(&member.shape))
                };
                let (key, inner) = (part(&shape.key), part(&shape.value));
                for (name, entry) in entries {
                    if let Some(key) = key {
                        self.text(key, name, path);
                    }
                    if let Some(inner) = inner {
                        self.value(inner, entry, &join(path, name), depth + 1)?;
                    }
                }
            }
            (Kind::String, Value::String(text)) => self.text(shape, text, path),
            (Kind::Blob, Value::String(_)) | (Kind::Boolean, Value::Bool(_)) => {}
            (Kind::Integer | Kind::Long, Value::Number(number)) if !number.is_f64() => {
                self.number(shape, number, path);
            }
            (Kind::Float | Kind::Double | Kind::Timestamp, Value::Number(number)) => {
                self.number(shape, number, path);
            }
            (Kind::Timestamp, Value::String(text)) if text.parse::<jiff::Timestamp>().is_ok() => {}
            (Kind::Structure | Kind::Map, value) => return wrong("a structure", value),
            (Kind::List, value) => return wrong("a list", value),
            (Kind::String | Kind::Blob, value) => return wrong("a String", value),
            (Kind::Boolean, value) => return wrong("a Boolean", value),
            (Kind::Integer | Kind::Long, value) => return wrong("an Integer", value),
            (Kind::Float | Kind::Double, value) => return wrong("a Double", value),
            (Kind::Timestamp, value) => return wrong("a Timestamp", value),
        }
        Ok(())
    }

    fn text(&mut self, shape: &Shape, text: &str, path: &str) {
        let shown = || Value::String(if shape.sensitive { "***" } else { text }.to_owned());
        self.length(shape, text.chars().count(), path, shown);
        if let Some(values) = &shape.values
            && !values.iter().any(|value| value == text)
        {
            let set = values.join(", ");
            self.problem(
                &shown(),
                path,
                &format!("Member must satisfy enum value set: [{set}]"),
            );
        }
        if let Some((pattern, false)) = shape.matches(text) {
            let wanted = format!("Member must satisfy regular expression pattern: {pattern}");
            self.problem(&shown(), path, &wanted);
        }
    }

    fn length(&mut self, shape: &Shape, length: usize, path: &str, shown: impl Fn() -> Value) {
        #[expect(
            clippy::cast_precision_loss,
            reason = "lengths are far below 2 to the 52"
        )]
        let length = length as f64;
        if let Some(min) = shape.min.filter(|min| length < *min) {
            let wanted = format!("Member must have length greater than or equal to {min}");
            self.problem(&shown(), path, &wanted);
        }
        if let Some(max) = shape.max.filter(|max| length > *max) {
            let wanted = format!("Member must have length less than or equal to {max}");
            self.problem(&shown(), path, &wanted);
        }
    }

    fn number(&mut self, shape: &Shape, number: &serde_json::Number, path: &str) {
        let value = number.as_f64().unwrap_or(f64::INFINITY);
        let shown = Value::String(number.to_string());
        if let Some(min) = shape.min.filter(|min| value < *min) {
            let wanted = format!("Member must have value greater than or equal to {min}");
            self.problem(&shown, path, &wanted);
        }
        if let Some(max) = shape.max.filter(|max| value > *max) {
            let wanted = format!("Member must have value less than or equal to {max}");
            self.problem(&shown, path, &wanted);
        }
    }

    fn problem(&mut self, value: &Value, path: &str, constraint: &str) {
        let mut text = String::from("Value ");
        // Writing to a string cannot fail.
        let _ = match value {
            Value::String(value) => {
                let shown: String = value.chars().take(LONGEST).collect();
                write!(text, "'{shown}'")
            }
            Value::Null => write!(text, "null"),
            other => write!(text, "'{other}'"),
        };
        let _ = write!(
            text,
            " at '{path}' failed to satisfy constraint: {constraint}"
        );
        self.say(text);
    }

    fn say(&mut self, problem: String) {
        if self.problems.len() < MOST {
            self.problems.push(problem);
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a Boolean",
        Value::Number(_) => "a Number",
        Value::String(_) => "a String",
        Value::Array(_) => "a list",
        Value::Object(_) => "a structure",
    }
}

/// A member's place, in lower camel case as the services write it.
fn join(path: &str, name: &str) -> String {
    let mut letters = name.chars();
    let first = letters.next().map(|letter| letter.to_ascii_lowercase());
    let name: String = first.into_iter().chain(letters).collect();
    match path {
        "" => name,
        path => format!("{path}.{name}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::model::LAMBDA, *};

    fn check(input: Value) -> Result<Value, String> {
        let Value::Object(mut members) = input else {
            unreachable!("the cases are objects")
        };
        super::input(
            &LAMBDA,
            "CreateFunctionRequest",
            &mut members,
            "ValidationException",
        )
        .map(|()| Value::Object(members))
        .map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_wrong_is_said_in_lambdas_words() {
        let base =
            json!({"FunctionName": "a", "Role": "arn:aws:iam::000000000000:role/r", "Code": {}});
        let with = |more: Value| {
            let mut input = base.clone();
            let members = input.as_object_mut().unwrap();
            members.extend(more.as_object().unwrap().clone());
            input
        };
        let with_null = with(json!({"Description": null}));
        assert_eq!(check(with_null).unwrap(), base);
        for (more, said) in [
            (
                json!({"FunctionName": "a b"}),
                "ValidationException: 1 validation error detected: Value 'a b' at 'functionName' failed to satisfy constraint: Member must satisfy regular expression pattern: (",
            ),
            (
                json!({"FunctionName": ""}),
                "2 validation errors detected: Value '' at 'functionName' failed to satisfy constraint: Member must have length greater than or equal to 1; ",
            ),
            (
                json!({"MemorySize": 64}),
                "Value '64' at 'memorySize' failed to satisfy constraint: Member must have value greater than or equal to 128",
            ),
            (
                json!({"Timeout": 0}),
                "Value '0' at 'timeout' failed to satisfy constraint: Member must have value greater than or equal to 1",
            ),
            (
                json!({"Timeout": "3"}),
                "SerializationException: a String at 'timeout' can not be converted to an Integer",
            ),
            (
                json!({"Timeout": 1.5}),
                "SerializationException: a Number at 'timeout' can not be converted to an Integer",
            ),
            (
                json!({"PackageType": "Tar"}),
                "Member must satisfy enum value set: [Zip, Image]",
            ),
            (
                json!({"Architectures": ["arm64", "x86_64"]}),
                "at 'architectures' failed to satisfy constraint: Member must have length less than or equal to 1",
            ),
            (
                json!({"Environment": {"Variables": {"1": "a"}}}),
                "at 'environment.variables' failed to satisfy constraint: Member must satisfy regular expression pattern",
            ),
            (
                json!({"Environment": {"Variables": ["a"]}}),
                "SerializationException: a list at 'environment.variables' can not be converted to a structure",
            ),
            (
                json!({"Role": null}),
                "Value null at 'role' failed to satisfy constraint: Member must not be null",
            ),
            (
                json!({"New": 1}),
                "'new' is no member that this version of Wharf knows",
            ),
        ] {
            let error = check(with(more.clone())).unwrap_err();
            assert!(error.contains(said), "{more}: {error}");
        }
    }
}
