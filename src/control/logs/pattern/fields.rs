//! Messages of words parted by spaces: `[ip, user, ..., status = 4* || status = 5*, bytes > 1000]`.
//!
//! What stands in brackets or double quotes in a message is one word. The pattern names every word of a message, in order;
//! `...`, once, stands for any number of them.

use super::{
    InvalidPattern,
    scanner::Scanner,
    text::{Comparison, Value, number},
};

#[derive(Debug)]
pub(super) struct Fields {
    /// Those before `...`, or all.
    head: Vec<Field>,
    /// Those after it, if it is there.
    tail: Option<Vec<Field>>,
}

/// Alternatives, each a list of what must hold. None at all is a word of which nothing is asked.
#[derive(Debug)]
struct Field(Vec<Vec<(Comparison, Value)>>);

impl Field {
    fn matches(&self, word: &str) -> bool {
        self.0.is_empty()
            || self.0.iter().any(|all| {
                all.iter()
                    .all(|(comparison, value)| compare(word, *comparison, value))
            })
    }
}

impl Fields {
    pub(super) fn matches(&self, message: &str) -> bool {
        let words = words(message);
        let tail = self.tail.as_deref().unwrap_or_default();
        let named = self.head.len() + tail.len();
        let fits = match self.tail {
            Some(_) => words.len() >= named,
            None => words.len() == named,
        };
        let matches = |fields: &[Field], words: &[&str]| {
            fields
                .iter()
                .zip(words)
                .all(|(field, word)| field.matches(word))
        };
        fits && matches(&self.head, &words) && matches(tail, &words[words.len() - tail.len()..])
    }
}

fn words(message: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = message.trim_start();
    while !rest.is_empty() {
        let closing = match rest.as_bytes()[0] {
            b'"' => Some('"'),
            b'[' => Some(']'),
            _ => None,
        };
        let quoted = closing.and_then(|closing| rest[1..].split_once(closing));
        let (word, after) = match quoted {
            Some(quoted) => quoted,
            None => rest.split_once(char::is_whitespace).unwrap_or((rest, "")),
        };
        words.push(word);
        rest = after.trim_start();
    }
    words
}

fn compare(word: &str, comparison: Comparison, value: &Value) -> bool {
    let equal = match value {
        Value::Number(wanted) => {
            return match number(word) {
                Some(number) => comparison.holds(number, *wanted),
                None => comparison == Comparison::NotEqual,
            };
        }
        Value::Text(wanted) => wanted.matches(word),
        Value::Regex(regex) => regex.is_match(word.as_bytes()),
    };
    equal == (comparison == Comparison::Equal)
}

pub(super) fn parse(text: &str) -> Result<Fields, InvalidPattern> {
    let mut scanner = Scanner::new(text);
    scanner.eat("[");
    let mut fields = Fields {
        head: Vec::new(),
        tail: None,
    };
    loop {
        if scanner.eat("...") {
            if fields.tail.replace(Vec::new()).is_some() {
                return Err(scanner.wrong("no second `...`"));
            }
        } else {
            let field = field(&mut scanner)?;
            fields.tail.as_mut().unwrap_or(&mut fields.head).push(field);
        }
        if scanner.eat("]") {
            break;
        }
        if !scanner.eat(",") {
            return Err(scanner.wrong("`,` or `]`"));
        }
    }
    match scanner.is_done() {
        true => Ok(fields),
        false => Err(scanner.wrong("nothing more")),
    }
}

/// A name, or what must hold of it: `status = 4* || status = 5*`.
fn field(scanner: &mut Scanner<'_>) -> Result<Field, InvalidPattern> {
    let name = name(scanner)?;
    let Some(first) = condition(scanner)? else {
        return Ok(Field(Vec::new()));
    };
    let mut alternatives = vec![vec![first]];
    loop {
        let or = scanner.eat("||");
        if !or && !scanner.eat("&&") {
            return Ok(Field(alternatives));
        }
        if self::name(scanner)? != name {
            return Err(
                scanner.wrong("the same name as before in the conditions of one word, not this")
            );
        }
        let Some(condition) = condition(scanner)? else {
            return Err(scanner.wrong("a comparison"));
        };
        match alternatives.last_mut() {
            Some(last) if !or => last.push(condition),
            _ => alternatives.push(vec![condition]),
        }
    }
}

fn name<'a>(scanner: &mut Scanner<'a>) -> Result<&'a str, InvalidPattern> {
    scanner.space();
    let name =
        scanner.take_while(|character| character.is_alphanumeric() || "_-@:#/".contains(character));
    match name.is_empty() {
        true => Err(scanner.wrong("a name")),
        false => Ok(name),
    }
}

fn condition(scanner: &mut Scanner<'_>) -> Result<Option<(Comparison, Value)>, InvalidPattern> {
    let Some(comparison) = scanner.comparison() else {
        return Ok(None);
    };
    let value = scanner.value(&[',', ']'])?;
    if comparison.orders() && !matches!(value, Value::Number(_)) {
        return Err(scanner.wrong("a number before this, which alone is less or greater,"));
    }
    Ok(Some((comparison, value)))
}
