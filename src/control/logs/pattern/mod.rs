//! CloudWatch's language for picking log events, as FilterLogEvents, StartLiveTail and `aws logs tail --filter-pattern`
//! speak it.
//!
//! | pattern | matches |
//! | --- | --- |
//! | (empty) | everything |
//! | `ERROR "timed out" -debug` | messages that contain the first two and not the third: see [`terms`] |
//! | `?ERROR ?WARN` | messages that contain one of them |
//! | `%5[0-9]{2}%` | messages in which the regular expression is found: see [`text`] |
//! | `{ $.level = "ERROR" && $.n >= 3 }` | JSON documents with such values: see [`json`] |
//! | `[ip, ..., status = 4*, bytes > 1000]` | messages of words parted by spaces: see [`fields`] |
//!
//! A pattern comes from a stranger and is held against megabytes of another stranger's text. So a pattern is at most
//! [`MAX_PATTERN`] long, a regular expression is of the kind that is matched in linear time, and nothing here takes longer
//! than the pattern's conditions times the message's length.

mod fields;
mod json;
mod scanner;
mod terms;
mod text;

#[cfg(test)]
mod tests;

/// The longest pattern (CloudWatch Logs API, `FilterPattern`).
pub(super) const MAX_PATTERN: usize = 1024;

/// What picks log events.
#[derive(Debug)]
pub(super) struct Pattern(Kind);

#[derive(Debug)]
enum Kind {
    Everything,
    Terms(terms::Terms),
    Json(json::Condition),
    Fields(fields::Fields),
}

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct InvalidPattern(String);

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    ///
    /// It is too long, or not of the language.
    pub(super) fn parse(text: &str) -> Result<Self, InvalidPattern> {
        if text.chars().count() > MAX_PATTERN {
            return Err(InvalidPattern(format!(
                "the pattern is longer than {MAX_PATTERN} characters"
            )));
        }
        let text = text.trim();
        Ok(Self(match text.chars().next() {
            None => Kind::Everything,
            Some('{') => Kind::Json(json::parse(text)?),
            Some('[') => Kind::Fields(fields::parse(text)?),
            Some(_) => Kind::Terms(terms::parse(text)?),
        }))
    }

    /// Whether the message is one of those the pattern is for.
    pub(super) fn matches(&self, message: &str) -> bool {
        match &self.0 {
            Kind::Everything => true,
            Kind::Terms(terms) => terms.matches(message),
            Kind::Json(condition) => serde_json::from_str(message)
                .is_ok_and(|document: serde_json::Value| condition.holds(&document)),
            Kind::Fields(fields) => fields.matches(message),
        }
    }
}
