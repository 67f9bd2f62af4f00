//! What the node says about itself: `tracing` events on stderr.
//!
//! Messages are constant and lower case, values are fields, and the result of a command never comes this way: stdout is
//! left to it.

use std::{fmt, io, str::FromStr};

use tracing_subscriber::{EnvFilter, fmt::format::FmtSpan};

/// How events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// One line an event, for people.
    #[default]
    Text,
    /// One JSON object an event, for collectors.
    Json,
}

impl FromStr for Format {
    type Err = InvalidFormat;

    fn from_str(text: &str) -> Result<Self, InvalidFormat> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(InvalidFormat(text.chars().take(40).collect())),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

/// Why a text is no [`Format`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a log format: `text` or `json`")]
pub struct InvalidFormat(String);

/// Why events cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The filter does not read as one.
    #[error("`{filter}` is not a log filter such as `info` or `wharf=debug,hyper=warn`")]
    Filter {
        /// The filter as given.
        filter: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// A subscriber was there already.
    #[error("events already have a subscriber")]
    Taken,
}

/// Sends the events that pass `filter` to stderr, from now until the process ends.
///
/// `filter` is in the syntax of [`EnvFilter`]: a level, or levels by module.
pub fn init(format: Format, filter: &str) -> Result<(), InitError> {
    let filter = EnvFilter::try_new(filter).map_err(|source| InitError::Filter {
        filter: filter.to_owned(),
        source,
    })?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        // Spans are of the level debug: when one ends, a line tells how long it took.
        .with_span_events(FmtSpan::CLOSE);
    match format {
        Format::Text => subscriber.with_target(false).try_init(),
        Format::Json => subscriber.json().flatten_event(true).try_init(),
    }
    .map_err(|_| InitError::Taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_reads_back_what_it_writes() {
        for format in [Format::Text, Format::Json] {
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        assert!("xml".parse::<Format>().is_err());
    }

    #[test]
    fn a_bad_filter_is_named() {
        let error = init(Format::Text, "wharf=loud").unwrap_err();
        assert!(error.to_string().contains("wharf=loud"), "{error}");
    }
}
