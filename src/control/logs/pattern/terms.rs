//! Words and phrases: `ERROR "timed out" -debug`, `?ERROR ?WARN`.
//!
//! A term is found anywhere in a message, in the middle of a word too, and its case counts. All terms must be there and
//! none of those with a minus. Of terms with a question mark one must be there; beside terms of the other two kinds they
//! are ignored, as CloudWatch does.

use regex::bytes::Regex;

use super::{InvalidPattern, scanner::Scanner};

#[derive(Debug, Default)]
pub(super) struct Terms {
    all: Vec<Term>,
    none: Vec<Term>,
    any: Vec<Term>,
}

#[derive(Debug)]
enum Term {
    Text(String),
    Regex(Regex),
}

impl Term {
    fn is_in(&self, message: &str) -> bool {
        match self {
            Self::Text(text) => message.contains(text.as_str()),
            Self::Regex(regex) => regex.is_match(message.as_bytes()),
        }
    }
}

impl Terms {
    pub(super) fn matches(&self, message: &str) -> bool {
        if self.all.is_empty() && self.none.is_empty() {
            return self.any.iter().any(|term| term.is_in(message));
        }
        self.all.iter().all(|term| term.is_in(message))
            && !self.none.iter().any(|term| term.is_in(message))
    }
}

pub(super) fn parse(text: &str) -> Result<Terms, InvalidPattern> {
    let mut scanner = Scanner::new(text);
    let mut terms = Terms::default();
    while !scanner.is_done() {
        let list = if scanner.eat("-") {
            &mut terms.none
        } else if scanner.eat("?") {
            &mut terms.any
        } else {
            &mut terms.all
        };
        list.push(term(&mut scanner)?);
    }
    Ok(terms)
}

fn term(scanner: &mut Scanner<'_>) -> Result<Term, InvalidPattern> {
    let term = match scanner.rest().chars().next() {
        Some('"') => Term::Text(scanner.quoted()?),
        Some('%') => {
            let source = scanner.regex_source()?;
            Term::Regex(scanner.regexes().compile(source)?)
        }
        _ => {
            let word =
                scanner.take_while(|character| character.is_alphanumeric() || character == '_');
            if word.is_empty() {
                return Err(scanner.wrong("a word, or a text in double quotes"));
            }
            Term::Text(word.to_owned())
        }
    };
    if !scanner.rest().is_empty() && !scanner.rest().starts_with(char::is_whitespace) {
        return Err(scanner.wrong(
            "a space: a term with other characters than letters, digits and `_` stands in double quotes,",
        ));
    }
    Ok(term)
}
