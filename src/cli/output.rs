//! What the program says: results on standard output, the rest on standard error.

use std::{
    fmt,
    io::{self, IsTerminal as _, Write as _},
};

use anyhow::Context as _;
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Text,
    /// One JSON document a result, one line each
    Json,
}

/// Where the program says things.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    format: Format,
    quiet: bool,
    styled: bool,
}

impl Output {
    pub(crate) fn new(format: Format, quiet: bool) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            format,
            quiet,
            styled: !plain && io::stderr().is_terminal(),
        }
    }

    /// Writes a result, with a newline, to standard output.
    pub(crate) fn result<T: Serialize + fmt::Display>(&self, result: &T) -> anyhow::Result<()> {
        match self.format {
            Format::Text => self.raw(format_args!("{result}\n")),
            Format::Json => {
                let json = serde_json::to_string(result).context("write the result as JSON")?;
                self.raw(format_args!("{json}\n"))
            }
        }
    }

    /// Writes to standard output as it is, whatever the format: what is asked for has one of its own.
    pub(crate) fn raw(&self, text: impl fmt::Display) -> anyhow::Result<()> {
        let mut stdout = io::stdout().lock();
        write!(stdout, "{text}")
            .and_then(|()| stdout.flush())
            .context("write the result")
    }

    /// Tells on standard error what is being done: `verb` in a word, such as `Building`.
    pub(crate) fn status(&self, verb: &str, what: impl fmt::Display) {
        if self.quiet {
            return;
        }
        if self.styled {
            say(format_args!("\x1b[1;32m{verb:>10}\x1b[0m {what}"));
        } else {
            say(format_args!("{verb:>10} {what}"));
        }
    }

    /// Passes a line of another program on to standard error, in its name.
    pub(crate) fn said(&self, who: &str, line: &str) {
        if !self.quiet {
            say(format_args!("{who:>10} | {}", line.trim_end()));
        }
    }

    /// Shows on standard error, if that is a terminal, how many of `total` bytes are done.
    pub(crate) fn progress(&self, total: u64) -> ProgressBar {
        if self.quiet {
            return ProgressBar::hidden();
        }
        let style = ProgressStyle::with_template(
            "{bar:40} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
        );
        let bar = ProgressBar::new(total);
        match style {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        }
    }

    /// Tells on standard error why it failed, and why that was so.
    pub(crate) fn error(&self, error: &anyhow::Error) {
        match self.format {
            Format::Json => {
                let causes: Vec<String> = error.chain().skip(1).map(ToString::to_string).collect();
                say(serde_json::json!({ "error": error.to_string(), "causes": causes }));
            }
            Format::Text => {
                if self.styled {
                    say(format_args!("\x1b[1;31merror\x1b[0m: {error}"));
                } else {
                    say(format_args!("error: {error}"));
                }
                for cause in error.chain().skip(1) {
                    say(format_args!("  because: {cause}"));
                }
            }
        }
    }
}

/// A line on standard error. If nobody listens there, nobody can be told.
fn say(line: impl fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}
