//! What a value is compared with: numbers, texts with wildcards, regular expressions.

use regex::bytes::{Regex, RegexBuilder};

use super::InvalidPattern;

/// The most regular expressions of one pattern (CloudWatch Logs quota).
const MAX_REGEXES: usize = 2;

/// What a compiled regular expression may take, in bytes. `[a-z]{1,1000}{1,1000}` would take a lot more.
const REGEX_SIZE: usize = 1 << 20;

/// How a value is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

impl Comparison {
    pub(super) fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Self::Equal => left == right,
            Self::NotEqual => left != right,
            Self::Less => left < right,
            Self::AtMost => left <= right,
            Self::Greater => left > right,
            Self::AtLeast => left >= right,
        }
    }

    /// Whether it is one that orders, which only numbers have.
    pub(super) fn orders(self) -> bool {
        match self {
            Self::Equal | Self::NotEqual => false,
            Self::Less | Self::AtMost | Self::Greater | Self::AtLeast => true,
        }
    }
}

/// What is on the right of a comparison.
#[derive(Debug)]
pub(super) enum Value {
    Number(f64),
    Text(Wildcard),
    Regex(Regex),
}

impl Value {
    /// A text in quotes.
    pub(super) fn text(text: &str) -> Self {
        Self::Text(Wildcard::new(text))
    }

    /// A text without quotes: a number if it reads as one.
    pub(super) fn bare(text: &str) -> Self {
        match number(text) {
            Some(number) => Self::Number(number),
            None => Self::text(text),
        }
    }
}

/// A decimal number, `1e3` among them. Neither `inf` nor `NaN` is one.
pub(super) fn number(text: &str) -> Option<f64> {
    let plain = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    plain
        .then(|| text.parse().ok())
        .flatten()
        .filter(|number: &f64| number.is_finite())
}

/// A text in which `*` stands for any characters.
#[derive(Debug)]
pub(super) struct Wildcard {
    /// What stands between the stars.
    parts: Vec<String>,
}

impl Wildcard {
    fn new(text: &str) -> Self {
        Self {
            parts: text.split('*').map(str::to_owned).collect(),
        }
    }

    /// Whether it is nothing but a star: then anything that is there matches.
    pub(super) fn is_anything(&self) -> bool {
        self.parts.len() > 1 && self.parts.iter().all(String::is_empty)
    }

    /// Looks for one part after the other. The first place where a part is found is as good as any, so nothing is tried
    /// twice.
    pub(super) fn matches(&self, text: &str) -> bool {
        let [first, middle @ .., last] = &*self.parts else {
            return self.parts.iter().all(|only| only == text);
        };
        let Some(mut rest) = text.strip_prefix(first.as_str()) else {
            return false;
        };
        for part in middle {
            match rest.find(part.as_str()) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        rest.ends_with(last.as_str())
    }
}

/// The regular expressions of a pattern while it is read.
#[derive(Debug, Default)]
pub(super) struct Regexes(usize);

impl Regexes {
    /// CloudWatch takes the plain operators, no groups, and of other characters letters, digits and some signs.
    pub(super) fn compile(&mut self, source: &str) -> Result<Regex, InvalidPattern> {
        self.0 += 1;
        if self.0 > MAX_REGEXES {
            return Err(InvalidPattern(format!(
                "more than {MAX_REGEXES} regular expressions"
            )));
        }
        let mut escaped = false;
        for character in source.chars() {
            let plain = character.is_ascii_alphanumeric() || " :_#=@/;,-".contains(character);
            let operator = "^$?[]{}|\\*+.".contains(character);
            if !(plain || operator || (escaped && character.is_ascii_punctuation())) {
                return Err(InvalidPattern(format!(
                    "`{character}` is not supported in a regular expression"
                )));
            }
            escaped = character == '\\' && !escaped;
        }
        RegexBuilder::new(source)
            .unicode(false)
            .size_limit(REGEX_SIZE)
            .dfa_size_limit(REGEX_SIZE)
            .build()
            .map_err(|_| InvalidPattern(format!("`{source}` is not a regular expression")))
    }
}
