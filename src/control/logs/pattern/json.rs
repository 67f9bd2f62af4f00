//! JSON documents: `{ ($.level = "ERROR" || $.user.id = 1) && $.tags[0] != "b*" }`.
//!
//! A condition holds if a value that its selector names satisfies it; a value that is not there satisfies nothing but
//! `NOT EXISTS`. A number is compared with numbers. A text, in quotes or not, is compared with strings, and with the
//! spelling of numbers, `true` and `false`; `"*"` is satisfied by whatever is there.

use serde_json::Value as Json;

use super::{
    InvalidPattern,
    scanner::Scanner,
    text::{Comparison, Value},
};

/// The most selectors with a wildcard in one pattern; one selector has one at most (CloudWatch Logs quota).
const MAX_WILDCARDS: usize = 3;

#[derive(Debug)]
pub(super) enum Condition {
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Test(Vec<Step>, Test),
}

/// A step from a value into it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Name(String),
    Index(usize),
    Every,
}

#[derive(Debug)]
pub(super) enum Test {
    Compare(Comparison, Value),
    Is(Json),
    NotExists,
}

impl Condition {
    pub(super) fn holds(&self, document: &Json) -> bool {
        match self {
            Self::All(conditions) => conditions.iter().all(|one| one.holds(document)),
            Self::Any(conditions) => conditions.iter().any(|one| one.holds(document)),
            Self::Test(steps, test) => match test {
                Test::NotExists => !some(document, steps, &mut |_| true),
                Test::Is(wanted) => some(document, steps, &mut |value| value == wanted),
                Test::Compare(comparison, wanted) => some(document, steps, &mut |value| {
                    compare(value, *comparison, wanted)
                }),
            },
        }
    }
}

/// Whether one of the values that the steps lead to satisfies `test`.
fn some(value: &Json, steps: &[Step], test: &mut dyn FnMut(&Json) -> bool) -> bool {
    let Some((step, steps)) = steps.split_first() else {
        return test(value);
    };
    let next = match step {
        Step::Name(name) => value.as_object().and_then(|object| object.get(name)),
        Step::Index(index) => value.as_array().and_then(|array| array.get(*index)),
        Step::Every => {
            return match value {
                Json::Array(values) => values.iter().any(|value| some(value, steps, test)),
                Json::Object(values) => values.values().any(|value| some(value, steps, test)),
                Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => false,
            };
        }
    };
    next.is_some_and(|value| some(value, steps, test))
}

fn compare(value: &Json, comparison: Comparison, wanted: &Value) -> bool {
    let equal = match wanted {
        Value::Number(wanted) => {
            return value
                .as_f64()
                .is_some_and(|number| comparison.holds(number, *wanted));
        }
        Value::Text(wanted) if wanted.is_anything() => true,
        Value::Text(wanted) => match value {
            Json::String(text) => wanted.matches(text),
            Json::Number(_) | Json::Bool(_) => wanted.matches(&value.to_string()),
            Json::Null | Json::Array(_) | Json::Object(_) => return false,
        },
        Value::Regex(regex) => match value {
            Json::String(text) => regex.is_match(text.as_bytes()),
            Json::Number(_) | Json::Bool(_) => regex.is_match(value.to_string().as_bytes()),
            Json::Null | Json::Array(_) | Json::Object(_) => return false,
        },
    };
    equal == (comparison == Comparison::Equal)
}

pub(super) fn parse(text: &str) -> Result<Condition, InvalidPattern> {
    let mut scanner = Scanner::new(text);
    scanner.eat("{");
    let mut wildcards = 0;
    let condition = any(&mut scanner, &mut wildcards)?;
    if !scanner.eat("}") {
        return Err(scanner.wrong("`&&`, `||` or `}`"));
    }
    if !scanner.is_done() {
        return Err(scanner.wrong("nothing more"));
    }
    Ok(condition)
}

fn any(scanner: &mut Scanner<'_>, wildcards: &mut usize) -> Result<Condition, InvalidPattern> {
    let mut conditions = vec![all(scanner, wildcards)?];
    while scanner.eat("||") {
        conditions.push(all(scanner, wildcards)?);
    }
    Ok(Condition::Any(conditions))
}

fn all(scanner: &mut Scanner<'_>, wildcards: &mut usize) -> Result<Condition, InvalidPattern> {
    let mut conditions = vec![one(scanner, wildcards)?];
    while scanner.eat("&&") {
        conditions.push(one(scanner, wildcards)?);
    }
    Ok(Condition::All(conditions))
}

fn one(scanner: &mut Scanner<'_>, wildcards: &mut usize) -> Result<Condition, InvalidPattern> {
    if scanner.eat("(") {
        scanner.open()?;
        let condition = any(scanner, wildcards)?;
        if !scanner.eat(")") {
            return Err(scanner.wrong("`)`"));
        }
        scanner.close();
        return Ok(condition);
    }
    let steps = selector(scanner)?;
    match steps.iter().filter(|step| **step == Step::Every).count() {
        0 => {}
        1 if *wildcards < MAX_WILDCARDS => *wildcards += 1,
        _ => {
            return Err(InvalidPattern(format!(
                "a selector has one wildcard at most, a pattern {MAX_WILDCARDS}"
            )));
        }
    }
    let test = test(scanner)?;
    Ok(Condition::Test(steps, test))
}

fn test(scanner: &mut Scanner<'_>) -> Result<Test, InvalidPattern> {
    if scanner.eat_word("NOT") {
        return match scanner.eat_word("EXISTS") {
            true => Ok(Test::NotExists),
            false => Err(scanner.wrong("`EXISTS`")),
        };
    }
    if scanner.eat_word("IS") {
        for (word, value) in [
            ("NULL", Json::Null),
            ("TRUE", Json::Bool(true)),
            ("FALSE", Json::Bool(false)),
        ] {
            if scanner.eat_word(word) {
                return Ok(Test::Is(value));
            }
        }
        return Err(scanner.wrong("`NULL`, `TRUE` or `FALSE`"));
    }
    let Some(comparison) = scanner.comparison() else {
        return Err(scanner.wrong("a comparison, `IS` or `NOT EXISTS`"));
    };
    let value = scanner.value(&['}'])?;
    if comparison.orders() && !matches!(value, Value::Number(_)) {
        return Err(scanner.wrong("a number before this, which alone is less or greater,"));
    }
    Ok(Test::Compare(comparison, value))
}

/// `$`, and after it `.name`, `.*`, `.['name']`, `[0]` or `[*]`.
fn selector(scanner: &mut Scanner<'_>) -> Result<Vec<Step>, InvalidPattern> {
    if !scanner.eat("$") {
        return Err(scanner.wrong("a selector like `$.name`"));
    }
    let mut steps = Vec::new();
    loop {
        if scanner.rest().starts_with('[') || scanner.rest().starts_with(".[") {
            scanner.eat(".");
            scanner.eat("[");
            steps.push(bracket(scanner)?);
        } else if scanner.rest().starts_with('.') {
            scanner.eat(".");
            if scanner.rest().starts_with('*') {
                scanner.eat("*");
                steps.push(Step::Every);
                continue;
            }
            let name = scanner.take_while(|character| {
                character.is_alphanumeric() || "_-@:#/".contains(character)
            });
            if name.is_empty() {
                return Err(scanner.wrong("a name"));
            }
            steps.push(Step::Name(name.to_owned()));
        } else if steps.is_empty() {
            return Err(scanner.wrong("`.` and a name"));
        } else {
            return Ok(steps);
        }
    }
}

fn bracket(scanner: &mut Scanner<'_>) -> Result<Step, InvalidPattern> {
    let step = if scanner.eat("*") {
        Step::Every
    } else if let Some(quote) = ['\'', '"']
        .into_iter()
        .find(|quote| scanner.rest().starts_with(*quote))
    {
        scanner.eat(quote.encode_utf8(&mut [0; 4]));
        let name = scanner.take_while(|character| character != quote);
        if !scanner.eat(quote.encode_utf8(&mut [0; 4])) {
            return Err(scanner.wrong("a quote"));
        }
        Step::Name(name.to_owned())
    } else {
        let digits = scanner.take_while(|character| character.is_ascii_digit());
        let index = digits.parse().map_err(|_| scanner.wrong("an index"))?;
        Step::Index(index)
    };
    match scanner.eat("]") {
        true => Ok(step),
        false => Err(scanner.wrong("`]`")),
    }
}
