//! What is stored of a log, and the lines that are made of it.

use std::{borrow::Cow, fmt::Write as _, time::Duration};

use serde::{Deserialize, Serialize};

use super::{function::Entry, json};
use crate::model::{LogFormat, Outcome, Start};

/// Where a line comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// The function's standard output.
    Stdout,
    /// The function's standard error.
    Stderr,
    /// `wasi:logging`.
    Log,
    /// The node, about the function.
    Platform,
}

/// How much a line matters, in the words of `wasi:logging`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the words say it")]
pub enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    Critical,
}

/// One line of a function's log, as a reader sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub timestamp: u64,
    /// The invocation it belongs to. A line about the log itself belongs to none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Where it comes from.
    pub stream: Stream,
    /// How much it matters, where that was said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    /// The line, without a line break at its end.
    pub message: String,
}

/// One line of a segment.
///
/// Whose a record is stands in it only where the group does not tell: `function` in another's group, a `version` that is
/// not `$LATEST`, a format that is not text.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Record<'a> {
    /// An invocation had something to say before its end.
    Start {
        ms: u64,
        id: Cow<'a, str>,
        version: Cow<'a, str>,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        function: Option<Cow<'a, str>>,
        #[serde(skip_serializing_if = "is_text", default)]
        format: LogFormat,
    },
    Line {
        ms: u64,
        id: Cow<'a, str>,
        #[serde(skip_serializing_if = "is_latest", default = "latest")]
        version: Cow<'a, str>,
        stream: Stream,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        level: Option<Level>,
        message: Cow<'a, str>,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        function: Option<Cow<'a, str>>,
        #[serde(skip_serializing_if = "is_text", default)]
        format: LogFormat,
    },
    Report(Report<'a>),
    /// Lines were lost here.
    Dropped {
        ms: u64,
        count: u64,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        function: Option<Cow<'a, str>>,
        #[serde(skip_serializing_if = "is_text", default)]
        format: LogFormat,
    },
    /// What somebody put there (CloudWatch Logs API, PutLogEvents).
    Event {
        ms: u64,
        /// When it came.
        ingested: u64,
        /// The log stream that it was put in.
        to: Cow<'a, str>,
        message: Cow<'a, str>,
    },
}

/// The end of an invocation.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Report<'a> {
    pub(super) ms: u64,
    pub(super) id: Cow<'a, str>,
    pub(super) version: Cow<'a, str>,
    /// Whether a [`Record::Start`] came before.
    pub(super) started: bool,
    pub(super) outcome: Outcome,
    pub(super) duration_us: u64,
    pub(super) billed_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) init_us: Option<u64>,
    pub(super) cpu_us: u64,
    pub(super) fuel: u64,
    pub(super) memory_mb: u32,
    pub(super) peak_memory: u64,
    pub(super) cold: bool,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) function: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "is_text", default)]
    pub(super) format: LogFormat,
}

/// Whose a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin<'a> {
    /// A function's: its name, unless the group tells it, and the version.
    Function(Option<&'a str>, &'a str),
    /// Of the log stream that somebody named.
    Put(&'a str),
}

impl Record<'_> {
    /// Appends the record and a line break. Nothing in a record can fail to be written as JSON.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let before = out.len();
        match serde_json::to_writer(&mut *out, self) {
            Ok(()) => out.push(b'\n'),
            Err(_) => out.truncate(before),
        }
    }

    /// When it was said: milliseconds since 1970-01-01T00:00:00Z.
    pub(super) fn ms(&self) -> u64 {
        match self {
            Self::Start { ms, .. }
            | Self::Line { ms, .. }
            | Self::Dropped { ms, .. }
            | Self::Event { ms, .. } => *ms,
            Self::Report(report) => report.ms,
        }
    }

    /// When it came here.
    pub(super) fn ingested(&self) -> u64 {
        match self {
            Self::Event { ingested, .. } => *ingested,
            Self::Start { .. } | Self::Line { .. } | Self::Dropped { .. } | Self::Report(_) => {
                self.ms()
            }
        }
    }

    pub(super) fn origin(&self) -> Origin<'_> {
        match self {
            Self::Start {
                function, version, ..
            }
            | Self::Line {
                function, version, ..
            } => Origin::Function(function.as_deref(), version),
            Self::Report(report) => Origin::Function(report.function.as_deref(), &report.version),
            Self::Dropped { function, .. } => Origin::Function(function.as_deref(), LATEST),
            Self::Event { to, .. } => Origin::Put(to),
        }
    }

    /// The lines a reader sees.
    pub(super) fn lines(&self, mut each: impl FnMut(LogLine)) {
        match self {
            Self::Start {
                ms,
                id,
                version,
                format,
                ..
            } => each(start(*ms, *ms, id, version, *format)),
            Self::Line {
                ms,
                id,
                stream,
                level,
                message,
                format,
                ..
            } => each(LogLine {
                timestamp: *ms,
                request_id: Some(id.to_string()),
                stream: *stream,
                level: *level,
                message: match format {
                    LogFormat::Text => message.to_string(),
                    LogFormat::Json => json::line(*ms, id, *level, message),
                },
            }),
            Self::Report(report) => {
                let id = Some(&*report.id);
                if !report.started {
                    let began = report.ms.saturating_sub(report.duration_us / 1000);
                    let (id, version) = (&report.id, &report.version);
                    each(start(began, report.ms, id, version, report.format));
                }
                match report.format {
                    LogFormat::Text => {
                        let end = format!("END RequestId: {}", report.id);
                        each(platform(report.ms, id, end));
                        each(platform(report.ms, id, report.line()));
                    }
                    LogFormat::Json => each(platform(report.ms, id, json::report(report))),
                }
            }
            Self::Dropped {
                ms, count, format, ..
            } => {
                let mut line = dropped(*ms, *count);
                if *format == LogFormat::Json {
                    line.message = json::dropped(*ms, *count);
                }
                each(line);
            }
            Self::Event { ms, message, .. } => each(LogLine {
                timestamp: *ms,
                request_id: None,
                stream: Stream::Log,
                level: None,
                message: message.to_string(),
            }),
        }
    }
}

impl<'a> Report<'a> {
    /// What is kept of a [`Entry::Report`]; `id` and `version` are its own, written.
    pub(super) fn of(
        entry: &Entry,
        id: &'a str,
        version: &'a str,
        started: bool,
        function: Option<&'a str>,
        format: LogFormat,
    ) -> Option<Record<'a>> {
        let Entry::Report {
            at_ms,
            memory,
            record,
            ..
        } = entry
        else {
            return None;
        };
        Some(Record::Report(Self {
            ms: *at_ms,
            id: id.into(),
            version: version.into(),
            started,
            outcome: record.outcome,
            duration_us: micros(record.duration),
            billed_ms: micros(record.billed()) / 1000,
            init_us: record.init.map(micros),
            cpu_us: micros(record.cpu),
            fuel: record.fuel,
            memory_mb: memory.as_mb(),
            peak_memory: record.peak_memory,
            cold: record.start == Start::Cold,
            function: function.map(Cow::Borrowed),
            format,
        }))
    }

    /// Lambda's `REPORT` line, and after its fields ours, in the same style.
    fn line(&self) -> String {
        let mut line = format!(
            "REPORT RequestId: {}\tDuration: {} ms\tBilled Duration: {} ms\tMemory Size: {} MB\tMax Memory Used: {} MB\t",
            self.id,
            Milliseconds(self.duration_us),
            self.billed_ms,
            self.memory_mb,
            self.peak_memory.div_ceil(1 << 20),
        );
        // Writing to a string cannot fail.
        if let Some(init) = self.init_us {
            let _ = write!(line, "Init Duration: {} ms\t", Milliseconds(init));
        }
        let _ = write!(
            line,
            "CPU: {} ms\tFuel: {}\tStart: {}\tOutcome: {}\t",
            Milliseconds(self.cpu_us),
            self.fuel,
            if self.cold { "cold" } else { "warm" },
            self.outcome,
        );
        line
    }
}

/// Microseconds, printed as milliseconds with two decimals.
struct Milliseconds(u64);

impl std::fmt::Display for Milliseconds {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hundredths = self.0.saturating_add(5) / 10;
        write!(formatter, "{}.{:02}", hundredths / 100, hundredths % 100)
    }
}

/// The version of a record that names none.
pub(super) const LATEST: &str = "$LATEST";

fn latest() -> Cow<'static, str> {
    LATEST.into()
}

fn is_latest(version: &str) -> bool {
    version == LATEST
}

fn is_text(format: &LogFormat) -> bool {
    *format == LogFormat::Text
}

/// That an invocation began. A reader who reads on from the newest line that it saw must not miss this one for standing
/// there late, so `said_ms` is its time.
fn start(began_ms: u64, said_ms: u64, id: &str, version: &str, format: LogFormat) -> LogLine {
    let message = match format {
        LogFormat::Text => format!("START RequestId: {id} Version: {version}"),
        LogFormat::Json => json::start(began_ms, id, version),
    };
    platform(said_ms, Some(id), message)
}

/// Says that lines were lost.
pub(super) fn dropped(ms: u64, count: u64) -> LogLine {
    let mut line = platform(ms, None, format!("{count} log entries were dropped here"));
    line.level = Some(Level::Warn);
    line
}

fn platform(ms: u64, id: Option<&str>, message: String) -> LogLine {
    LogLine {
        timestamp: ms,
        request_id: id.map(str::to_owned),
        stream: Stream::Platform,
        level: None,
        message,
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
