//! Log lines as JSON documents, as Lambda writes them for a function whose `LogFormat` is `JSON`.
//!
//! What the function printed becomes `{timestamp, level, message, requestId}`; a line that is a JSON object already stays
//! as it is. Of the node's lines START and REPORT become `platform.start` and `platform.report`, and END is left out.

use std::borrow::Cow;

use serde::{Deserialize, Serialize, de::IgnoredAny};

use super::record::{Level, Report};
use crate::model::{ApplicationLevel, Outcome, SystemLevel};

/// How much a line of a function matters: what was said with it, what its own JSON says, or INFO.
pub(super) fn application_level(level: Option<Level>, line: &[u8]) -> ApplicationLevel {
    match level {
        Some(Level::Trace) => ApplicationLevel::Trace,
        Some(Level::Debug) => ApplicationLevel::Debug,
        Some(Level::Info) => ApplicationLevel::Info,
        Some(Level::Warn) => ApplicationLevel::Warn,
        Some(Level::Error) => ApplicationLevel::Error,
        Some(Level::Critical) => ApplicationLevel::Fatal,
        None => own_level(line).unwrap_or(ApplicationLevel::Info),
    }
}

/// What a line that is a JSON object says of itself.
fn own_level(line: &[u8]) -> Option<ApplicationLevel> {
    #[derive(Deserialize)]
    struct Line<'a> {
        #[serde(borrow)]
        level: Option<Cow<'a, str>>,
    }
    if !line.starts_with(b"{") {
        return None;
    }
    let line: Line<'_> = serde_json::from_slice(line).ok()?;
    Some(match &*line.level?.to_ascii_uppercase() {
        "TRACE" => ApplicationLevel::Trace,
        "DEBUG" => ApplicationLevel::Debug,
        "INFO" => ApplicationLevel::Info,
        "WARN" | "WARNING" => ApplicationLevel::Warn,
        "ERROR" => ApplicationLevel::Error,
        "FATAL" | "CRITICAL" => ApplicationLevel::Fatal,
        _ => return None,
    })
}

/// How much a line of the node about a function matters.
pub(super) fn system_level(level: Option<Level>) -> SystemLevel {
    match level {
        Some(Level::Trace | Level::Debug) => SystemLevel::Debug,
        Some(Level::Info) | None => SystemLevel::Info,
        Some(Level::Warn | Level::Error | Level::Critical) => SystemLevel::Warn,
    }
}

/// How much the end of an invocation matters.
pub(super) fn report_level(outcome: Outcome) -> SystemLevel {
    match status(outcome) {
        "success" => SystemLevel::Info,
        _ => SystemLevel::Warn,
    }
}

/// A line that the function printed.
pub(super) fn line(ms: u64, id: &str, level: Option<Level>, message: &str) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Line<'a> {
        timestamp: String,
        level: ApplicationLevel,
        message: &'a str,
        request_id: &'a str,
    }
    // What came through `wasi:logging` has its level beside it, not in it.
    let is_object = level.is_none()
        && message.starts_with('{')
        && serde_json::from_str::<IgnoredAny>(message).is_ok();
    if is_object {
        return message.to_owned();
    }
    text(&Line {
        timestamp: time(ms),
        level: application_level(level, &[]),
        message,
        request_id: id,
    })
}

/// Lambda's `platform.*` documents.
#[derive(Serialize)]
struct Platform<'a, T> {
    time: String,
    r#type: &'a str,
    record: T,
}

pub(super) fn start(ms: u64, id: &str, version: &str) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Start<'a> {
        request_id: &'a str,
        version: &'a str,
    }
    text(&Platform {
        time: time(ms),
        r#type: "platform.start",
        record: Start {
            request_id: id,
            version,
        },
    })
}

pub(super) fn report(report: &Report<'_>) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Record<'a> {
        request_id: &'a str,
        status: &'a str,
        metrics: Metrics,
        outcome: Outcome,
        start: &'a str,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Metrics {
        duration_ms: f64,
        billed_duration_ms: u64,
        #[serde(rename = "memorySizeMB")]
        memory_size: u32,
        #[serde(rename = "maxMemoryUsedMB")]
        max_memory_used: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        init_duration_ms: Option<f64>,
        cpu_ms: f64,
        fuel: u64,
    }
    text(&Platform {
        time: time(report.ms),
        r#type: "platform.report",
        record: Record {
            request_id: &report.id,
            status: status(report.outcome),
            metrics: Metrics {
                duration_ms: milliseconds(report.duration_us),
                billed_duration_ms: report.billed_ms,
                memory_size: report.memory_mb,
                max_memory_used: report.peak_memory.div_ceil(1 << 20),
                init_duration_ms: report.init_us.map(milliseconds),
                cpu_ms: milliseconds(report.cpu_us),
                fuel: report.fuel,
            },
            outcome: report.outcome,
            start: if report.cold { "cold" } else { "warm" },
        },
    })
}

pub(super) fn dropped(ms: u64, count: u64) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Dropped<'a> {
        reason: &'a str,
        dropped_records: u64,
    }
    text(&Platform {
        time: time(ms),
        r#type: "platform.logsDropped",
        record: Dropped {
            reason: "they came faster than they could be written",
            dropped_records: count,
        },
    })
}

/// Lambda's word for how an invocation ended (Telemetry API, `Status`).
fn status(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Ok => "success",
        Outcome::Timeout => "timeout",
        Outcome::FunctionError => "error",
        Outcome::NoRoute
        | Outcome::BadRequest
        | Outcome::Forbidden
        | Outcome::Throttled
        | Outcome::Overloaded
        | Outcome::Trap
        | Outcome::BadResponse
        | Outcome::ResponseTooLarge
        | Outcome::OutOfMemory
        | Outcome::OutOfFuel
        | Outcome::OutOfCpu
        | Outcome::Cancelled
        | Outcome::OriginUnreachable
        | Outcome::OriginTimeout
        | Outcome::OriginBadResponse
        | Outcome::Internal => "failure",
    }
}

fn time(ms: u64) -> String {
    let ms = i64::try_from(ms).unwrap_or(i64::MAX);
    let at = jiff::Timestamp::from_millisecond(ms).unwrap_or_default();
    format!("{at:.3}")
}

/// Milliseconds with three decimals.
fn milliseconds(micros: u64) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a duration is far below 2^53 microseconds"
    )]
    let micros = micros as f64;
    micros / 1000.0
}

/// Nothing here can fail to be written as JSON.
fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::super::{Direction, Key, LogLimits, Logs, OutputCapture, Query};
    use super::*;
    use crate::model::{
        ByteSize, FunctionName, InvocationRecord, LogFormat, LoggingConfig, RequestId, Start,
        Version,
    };

    fn open(folder: &std::path::Path) -> Logs {
        Logs::open(folder, LogLimits::default()).unwrap()
    }

    fn hello() -> FunctionName {
        "hello".parse().unwrap()
    }

    fn record(request_id: RequestId, outcome: Outcome) -> InvocationRecord {
        InvocationRecord {
            request_id,
            outcome,
            duration: Duration::from_micros(1_234),
            init: None,
            cpu: Duration::from_micros(900),
            fuel: 4_711,
            peak_memory: 3 << 20,
            start: Start::Warm,
            host_calls: 0,
            bytes_in: 0,
            bytes_out: 0,
        }
    }

    /// All messages of the function's group.
    fn said(logs: &Logs) -> Vec<String> {
        let query = Query {
            direction: Direction::Forward(Key::at(0)),
            from_ms: 0,
            until_ms: u64::MAX,
            limit: 10_000,
            stream: &|_| true,
            search: None,
        };
        let name = "/aws/lambda/hello".parse().unwrap();
        let events = logs.read(&name, &query).unwrap().events;
        events.into_iter().map(|event| event.message).collect()
    }

    /// What an invocation leaves that prints something of every kind.
    fn json_log(
        application: Option<ApplicationLevel>,
        system: Option<SystemLevel>,
    ) -> Vec<serde_json::Value> {
        let folder = tempfile::tempdir().unwrap();
        let logs = open(folder.path());
        let logging = LoggingConfig {
            log_format: LogFormat::Json,
            application_level: application,
            system_level: system,
            log_group: None,
        };
        let log = logs.function_with(&hello(), &logging);
        let mut capture = OutputCapture::new(Arc::clone(&log));
        for outcome in [Outcome::Ok, Outcome::Timeout] {
            let id = RequestId::generate();
            capture.begin(id, Version::Latest, ByteSize::kb(256));
            capture.stdout(
                b"plain\n{\"level\":\"debug\",\"n\":1}\n{\"level\":\"ERROR\",\"n\":2}\n{broken\n",
            );
            capture.log(Level::Critical, "db", "{\"x\":1}");
            capture.end();
            log.platform(id, Version::Latest, Level::Error, "why");
            log.report(Version::Latest, ByteSize::mb(128), record(id, outcome));
        }
        said(&logs)
            .iter()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn a_json_log_has_a_document_a_line() {
        let lines = json_log(Some(ApplicationLevel::Trace), Some(SystemLevel::Debug));
        assert_eq!(lines.len(), 16, "{lines:#?}");
        assert_eq!(lines[0]["type"], "platform.start");
        assert_eq!(lines[0]["record"]["version"], "$LATEST");
        assert_eq!(lines[1]["message"], "plain");
        assert_eq!(lines[1]["level"], "INFO");
        assert_eq!(lines[1]["requestId"], lines[0]["record"]["requestId"]);
        let time = lines[1]["timestamp"].as_str().unwrap();
        assert!(time.ends_with('Z') && time.len() == 24, "{time}");
        assert_eq!(lines[2], serde_json::json!({"level": "debug", "n": 1}));
        assert_eq!(lines[4]["message"], "{broken");
        assert_eq!(
            (&lines[5]["level"], &lines[5]["message"]),
            (&"FATAL".into(), &"db: {\"x\":1}".into())
        );
        assert_eq!(lines[6]["message"], "why");
        assert_eq!(lines[7]["type"], "platform.report");
        assert_eq!(lines[7]["record"]["status"], "success");
        assert_eq!(lines[7]["record"]["metrics"]["durationMs"], 1.234);
        assert_eq!(lines[7]["record"]["metrics"]["memorySizeMB"], 128);
        assert_eq!(lines[15]["record"]["status"], "timeout");
    }

    #[test]
    fn lines_below_the_levels_are_left_out() {
        // INFO is what both are if nothing is said.
        assert_eq!(json_log(None, None).len(), 14);
        let lines = json_log(Some(ApplicationLevel::Error), Some(SystemLevel::Warn));
        // Two lines of the function and the node's, twice; of the reports that of the one that failed.
        assert_eq!(lines.len(), 7, "{lines:#?}");
        assert!(lines.iter().all(|line| line["type"] != "platform.start"));
        assert_eq!(lines[6]["record"]["status"], "timeout");
        assert_eq!(json_log(Some(ApplicationLevel::Fatal), None).len(), 8);
    }

    #[test]
    fn what_is_left_out_costs_nothing_of_the_budget() {
        let folder = tempfile::tempdir().unwrap();
        let logs = open(folder.path());
        let logging = LoggingConfig {
            log_format: LogFormat::Json,
            ..LoggingConfig::default()
        };
        let mut capture = OutputCapture::new(logs.function_with(&hello(), &logging));
        capture.begin(RequestId::generate(), Version::Latest, ByteSize::kb(1));
        for _ in 0..1000 {
            capture.log(Level::Debug, "", "something long that nobody wants to read");
        }
        capture.log(Level::Error, "", "the end");
        capture.end();
        let lines = said(&logs);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[1].contains("the end"));
    }
}
