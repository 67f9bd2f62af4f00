//! Conditions: `{"StringLike": {"aws:username": ["ann", "b*"]}}`.
//!
//! Source: IAM User Guide, "IAM JSON policy elements: Condition operators" and "Conditions with multiple context keys or
//! values". All operators and all keys must hold, of the values of a key one must; with a negated operator none may.
//! What a request does not say equals nothing: a positive operator does not hold then, a negated one does.

use std::net::IpAddr;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use jiff::{Timestamp, civil, tz::TimeZone};

use super::{
    Context, Effect, Malformed,
    pattern::{Pattern, Reading, Syntax},
};
use crate::model::Network;

/// One key, held against values.
#[derive(Debug, Clone)]
pub(super) struct Condition {
    /// In lower case.
    key: String,
    quantifier: Quantifier,
    if_exists: bool,
    negated: bool,
    test: Test,
}

/// Which of a request's values must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quantifier {
    /// The one that is there.
    Single,
    Any,
    All,
}

/// What a value must be.
#[derive(Debug, Clone)]
enum Test {
    Text(Vec<Pattern>),
    Arn(Vec<[Pattern; 6]>),
    Number(Order, Vec<f64>),
    Date(Order, Vec<Timestamp>),
    Bool(Vec<bool>),
    Binary(Vec<Vec<u8>>),
    Network(Vec<Network>),
    /// Whether the key is to be absent.
    Null(Vec<bool>),
}

#[derive(Debug, Clone, Copy)]
enum Order {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Condition {
    /// Reads an operator's condition on one key. `variables` are those of the policy's version.
    pub(super) fn parse(
        operator: &str,
        key: &str,
        values: &[String],
        variables: bool,
    ) -> Result<Self, Malformed> {
        let unknown = || Malformed::ConditionType(operator.chars().take(80).collect());
        let (quantifier, rest) = match operator.split_once(':') {
            None => (Quantifier::Single, operator),
            Some(("ForAnyValue", rest)) => (Quantifier::Any, rest),
            Some(("ForAllValues", rest)) => (Quantifier::All, rest),
            Some(_) => return Err(unknown()),
        };
        let (name, if_exists) = match rest.strip_suffix("IfExists") {
            Some(name) => (name, true),
            None => (rest, false),
        };
        if !key.contains(':') {
            return Err(Malformed::Vendor);
        }
        let (test, negated) =
            test(name, values, variables)
                .ok_or_else(unknown)?
                .map_err(|problem| Malformed::ConditionValue {
                    operator: operator.to_owned(),
                    problem,
                })?;
        if if_exists && matches!(test, Test::Null(_)) {
            return Err(unknown());
        }
        Ok(Self {
            key: key.to_ascii_lowercase(),
            quantifier,
            if_exists,
            negated,
            test,
        })
    }

    /// Whether it holds. Where a value has a variable that the request lacks, a statement that allows does not apply; for
    /// one that denies the value equals nothing, so that what was to keep somebody out does.
    pub(super) fn holds(&self, context: &Context, effect: Effect) -> bool {
        let found = context.all(&self.key);
        if let Test::Null(absent) = &self.test {
            return absent.contains(&found.is_empty());
        }
        if found.is_empty() {
            return self.if_exists
                || match self.quantifier {
                    Quantifier::Single => self.negated,
                    Quantifier::Any => false,
                    Quantifier::All => true,
                };
        }
        let holds = |value: &String| match self.test.accepts(value, context) {
            Some(accepted) => accepted != self.negated,
            None => self.negated && effect == Effect::Deny,
        };
        match (self.quantifier, self.negated) {
            (Quantifier::Any, _) | (Quantifier::Single, false) => found.iter().any(holds),
            (Quantifier::All, _) | (Quantifier::Single, true) => found.iter().all(holds),
        }
    }
}

/// What an operator tests, and whether it is negated. `None`: there is no such operator.
fn test(name: &str, values: &[String], variables: bool) -> Option<Result<(Test, bool), String>> {
    let text = |syntax, fold| {
        let reading = Reading {
            syntax,
            variables,
            fold,
        };
        read(values, |value| Pattern::parse(value, reading)).map(Test::Text)
    };
    let number = |order| {
        read(values, |value| {
            let number = value.parse().ok().filter(|number: &f64| number.is_finite());
            number.ok_or_else(|| format!("`{value}` is no number"))
        })
        .map(|values| Test::Number(order, values))
    };
    let date = |order| {
        read(values, |value| {
            time(value).ok_or_else(|| format!("`{value}` is no date"))
        })
        .map(|values| Test::Date(order, values))
    };
    let arn = || read(values, |value| arn(value, variables)).map(Test::Arn);
    let network = || {
        read(values, |text| {
            text.parse()
                .map_err(|_| format!("`{text}` is neither an address nor a network"))
        })
        .map(Test::Network)
    };
    let truth = || {
        read(values, |value| {
            truth(value).ok_or_else(|| format!("`{value}` is neither true nor false"))
        })
    };
    let (test, negated) = match name {
        "StringEquals" => (text(Syntax::Plain, false), false),
        "StringNotEquals" => (text(Syntax::Plain, false), true),
        "StringEqualsIgnoreCase" => (text(Syntax::Plain, true), false),
        "StringNotEqualsIgnoreCase" => (text(Syntax::Plain, true), true),
        "StringLike" => (text(Syntax::Wild, false), false),
        "StringNotLike" => (text(Syntax::Wild, false), true),
        "NumericEquals" => (number(Order::Equal), false),
        "NumericNotEquals" => (number(Order::Equal), true),
        "NumericLessThan" => (number(Order::Less), false),
        "NumericLessThanEquals" => (number(Order::LessOrEqual), false),
        "NumericGreaterThan" => (number(Order::Greater), false),
        "NumericGreaterThanEquals" => (number(Order::GreaterOrEqual), false),
        "DateEquals" => (date(Order::Equal), false),
        "DateNotEquals" => (date(Order::Equal), true),
        "DateLessThan" => (date(Order::Less), false),
        "DateLessThanEquals" => (date(Order::LessOrEqual), false),
        "DateGreaterThan" => (date(Order::Greater), false),
        "DateGreaterThanEquals" => (date(Order::GreaterOrEqual), false),
        "Bool" => (truth().map(Test::Bool), false),
        "BinaryEquals" => (
            read(values, |value| {
                let bytes = BASE64_STANDARD.decode(value);
                bytes.map_err(|_| format!("`{value}` is not base64"))
            })
            .map(Test::Binary),
            false,
        ),
        "IpAddress" => (network(), false),
        "NotIpAddress" => (network(), true),
        "ArnEquals" | "ArnLike" => (arn(), false),
        "ArnNotEquals" | "ArnNotLike" => (arn(), true),
        "Null" => (truth().map(Test::Null), false),
        _ => return None,
    };
    Some(test.map(|test| (test, negated)))
}

fn read<T>(values: &[String], read: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    values.iter().map(|value| read(value)).collect()
}

impl Test {
    /// Whether a request's value is one of the wanted. `None` if one cannot be made out for want of a variable, and none of
    /// the others is it.
    fn accepts(&self, value: &str, context: &Context) -> Option<bool> {
        match self {
            Self::Text(patterns) => any(patterns, |pattern| pattern.matches(value, context)),
            Self::Arn(patterns) => any(patterns, |segments| {
                let found: Vec<&str> = value.splitn(6, ':').collect();
                if found.len() != segments.len() {
                    return Some(false);
                }
                let mut all = Some(true);
                for (segment, text) in segments.iter().zip(found) {
                    match segment.matches(text, context) {
                        Some(true) => {}
                        Some(false) => return Some(false),
                        None => all = None,
                    }
                }
                all
            }),
            Self::Number(order, wanted) => {
                let found = value.parse::<f64>();
                Some(
                    found
                        .is_ok_and(|found| wanted.iter().any(|wanted| order.holds(&found, wanted))),
                )
            }
            Self::Date(order, wanted) => Some(
                time(value)
                    .is_some_and(|found| wanted.iter().any(|wanted| order.holds(&found, wanted))),
            ),
            Self::Bool(wanted) => Some(truth(value).is_some_and(|found| wanted.contains(&found))),
            Self::Binary(wanted) => Some(
                BASE64_STANDARD
                    .decode(value)
                    .is_ok_and(|found| wanted.contains(&found)),
            ),
            Self::Network(wanted) => Some(
                value
                    .parse::<IpAddr>()
                    .is_ok_and(|found| wanted.iter().any(|network| network.contains(found))),
            ),
            Self::Null(_) => Some(false),
        }
    }
}

/// Whether one matches; `None` if none does and one could not be made out.
fn any<T>(patterns: &[T], matches: impl Fn(&T) -> Option<bool>) -> Option<bool> {
    let mut found = Some(false);
    for pattern in patterns {
        match matches(pattern) {
            Some(true) => return Some(true),
            Some(false) => {}
            None => found = None,
        }
    }
    found
}

impl Order {
    fn holds<T: PartialOrd>(self, found: &T, wanted: &T) -> bool {
        match self {
            Self::Equal => found == wanted,
            Self::Less => found < wanted,
            Self::LessOrEqual => found <= wanted,
            Self::Greater => found > wanted,
            Self::GreaterOrEqual => found >= wanted,
        }
    }
}

/// The six components, each a pattern of its own.
fn arn(text: &str, variables: bool) -> Result<[Pattern; 6], String> {
    let reading = Reading {
        syntax: Syntax::Wild,
        variables,
        fold: false,
    };
    let segments: Result<Vec<Pattern>, String> = segments(text)
        .into_iter()
        .map(|segment| Pattern::parse(segment, reading))
        .collect();
    segments?
        .try_into()
        .map_err(|_| format!("`{text}` is no ARN: it has less than six parts"))
}

/// The parts between the first five colons, but those within `${…}`. A `*` alone is any ARN.
fn segments(text: &str) -> Vec<&str> {
    if text == "*" {
        return vec!["*"; 6];
    }
    let (mut parts, mut from, mut inside) = (Vec::new(), 0, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' if text[..at].ends_with('$') => inside = true,
            b'}' => inside = false,
            b':' if !inside && parts.len() < 5 => {
                parts.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts
}

fn truth(text: &str) -> Option<bool> {
    match text {
        _ if text.eq_ignore_ascii_case("true") => Some(true),
        _ if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

/// `2013-06-30T00:00:00Z`, its shorter forms, or the seconds since 1970.
fn time(text: &str) -> Option<Timestamp> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) && text.len() != 4 {
        return Timestamp::from_second(text.parse().ok()?).ok();
    }
    if let Ok(time) = text.parse() {
        return Some(time);
    }
    let day: civil::Date = match text.len() {
        4 => format!("{text}-01-01").parse().ok()?,
        7 => format!("{text}-01").parse().ok()?,
        10 => text.parse().ok()?,
        _ => return None,
    };
    TimeZone::UTC
        .to_timestamp(day.to_datetime(civil::Time::midnight()))
        .ok()
}
