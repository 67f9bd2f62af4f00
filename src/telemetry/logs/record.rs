//! What is stored of a log, and the lines that are made of it.

use std::{borrow::Cow, fmt::Write as _, time::Duration};

use serde::{Deserialize, Serialize};

use super::Entry;
use crate::model::{Outcome, Start};

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
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Record<'a> {
    /// An invocation had something to say before its end.
    Start {
        ms: u64,
        id: Cow<'a, str>,
        version: Cow<'a, str>,
    },
    Line {
        ms: u64,
        id: Cow<'a, str>,
        stream: Stream,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        level: Option<Level>,
        message: Cow<'a, str>,
    },
    Report(Report<'a>),
    /// Lines were lost here.
    Dropped {
        ms: u64,
        count: u64,
    },
}

/// The end of an invocation.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Report<'a> {
    ms: u64,
    id: Cow<'a, str>,
    version: Cow<'a, str>,
    /// Whether a [`Record::Start`] came before.
    started: bool,
    outcome: Outcome,
    duration_us: u64,
    billed_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    init_us: Option<u64>,
    cpu_us: u64,
    fuel: u64,
    memory_mb: u32,
    peak_memory: u64,
    cold: bool,
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

    /// The lines a reader sees.
    pub(super) fn lines(&self, mut each: impl FnMut(LogLine)) {
        match self {
            Self::Start { ms, id, version } => each(start(*ms, id, version)),
            Self::Line {
                ms,
                id,
                stream,
                level,
                message,
            } => each(LogLine {
                timestamp: *ms,
                request_id: Some(id.to_string()),
                stream: *stream,
                level: *level,
                message: message.to_string(),
            }),
            Self::Report(report) => {
                if !report.started {
                    let start_ms = report.ms.saturating_sub(report.duration_us / 1000);
                    each(start(start_ms, &report.id, &report.version));
                }
                each(platform(
                    report.ms,
                    Some(&report.id),
                    format!("END RequestId: {}", report.id),
                ));
                each(platform(report.ms, Some(&report.id), report.line()));
            }
            Self::Dropped { ms, count } => each(dropped(*ms, *count)),
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

fn start(ms: u64, id: &str, version: &str) -> LogLine {
    platform(
        ms,
        Some(id),
        format!("START RequestId: {id} Version: {version}"),
    )
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
