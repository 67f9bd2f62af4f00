//! The letters of a pattern, read from left to right.

use super::{InvalidPattern, text::Comparison, text::Regexes, text::Value};

/// How deep parentheses nest.
const MAX_DEPTH: usize = 32;

/// A pattern, and how far it is read.
#[derive(Debug)]
pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    regexes: Regexes,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            at: 0,
            depth: 0,
            regexes: Regexes::default(),
        }
    }

    /// What is still to be read.
    pub(super) fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    pub(super) fn space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    /// Takes `token` if it is next, after any space.
    pub(super) fn eat(&mut self, token: &str) -> bool {
        self.space();
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    /// Takes a word in any case if it is next, and is a word of its own.
    pub(super) fn eat_word(&mut self, word: &str) -> bool {
        self.space();
        let rest = self.rest();
        let found = rest
            .get(..word.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(word))
            && !rest[word.len()..].starts_with(|next: char| next.is_alphanumeric());
        if found {
            self.at += word.len();
        }
        found
    }

    /// Takes characters for as long as they satisfy `wanted`.
    pub(super) fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest
            .find(|character| !wanted(character))
            .unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    pub(super) fn is_done(&mut self) -> bool {
        self.space();
        self.rest().is_empty()
    }

    /// That the pattern does not go on as it must.
    pub(super) fn wrong(&self, expected: &str) -> InvalidPattern {
        InvalidPattern(format!(
            "expected {expected} at character {}",
            self.text[..self.at].chars().count() + 1
        ))
    }

    pub(super) fn open(&mut self) -> Result<(), InvalidPattern> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(InvalidPattern(format!(
                "parentheses nest deeper than {MAX_DEPTH}"
            )));
        }
        Ok(())
    }

    pub(super) fn close(&mut self) {
        self.depth -= 1;
    }

    /// A comparison's sign.
    pub(super) fn comparison(&mut self) -> Option<Comparison> {
        for (sign, comparison) in [
            ("!=", Comparison::NotEqual),
            ("<=", Comparison::AtMost),
            (">=", Comparison::AtLeast),
            ("=", Comparison::Equal),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
        ] {
            if self.eat(sign) {
                return Some(comparison);
            }
        }
        None
    }

    /// What something is compared with: a number, a text with wildcards, a regular expression. A text without quotes ends
    /// at a space, a parenthesis, `&&`, `||` or one of `ends`.
    pub(super) fn value(&mut self, ends: &[char]) -> Result<Value, InvalidPattern> {
        self.space();
        if self.rest().starts_with('"') {
            return Ok(Value::text(&self.quoted()?));
        }
        if self.rest().starts_with('%') {
            let source = self.regex_source()?;
            return self.regexes.compile(source).map(Value::Regex);
        }
        let rest = self.rest();
        let end = rest
            .char_indices()
            .find(|(at, character)| {
                character.is_whitespace()
                    || matches!(character, '(' | ')')
                    || ends.contains(character)
                    || rest[*at..].starts_with("&&")
                    || rest[*at..].starts_with("||")
            })
            .map_or(rest.len(), |(at, _)| at);
        if end == 0 {
            return Err(self.wrong("a value"));
        }
        self.at += end;
        Ok(Value::bare(&rest[..end]))
    }

    /// A text in double quotes, in which a backslash makes a quote or a backslash plain.
    pub(super) fn quoted(&mut self) -> Result<String, InvalidPattern> {
        let mut text = String::new();
        let mut characters = self.rest().char_indices().skip(1);
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => {
                    self.at += at + 1;
                    return Ok(text);
                }
                '\\' => match characters.next() {
                    Some((_, plain @ ('"' | '\\'))) => text.push(plain),
                    Some((_, other)) => text.extend(['\\', other]),
                    None => break,
                },
                other => text.push(other),
            }
        }
        Err(self.wrong("a text with a quote at its end"))
    }

    /// A regular expression between percent signs.
    pub(super) fn regex_source(&mut self) -> Result<&'a str, InvalidPattern> {
        let rest = &self.rest()[1..];
        let Some(end) = rest.find('%') else {
            return Err(self.wrong("a regular expression with `%` at its end"));
        };
        self.at += end + 2;
        Ok(&rest[..end])
    }

    /// The pattern's regular expressions: there may be few.
    pub(super) fn regexes(&mut self) -> &mut Regexes {
        &mut self.regexes
    }
}
