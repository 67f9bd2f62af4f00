//! The live tail: what is said in some groups, told as it is said.
//!
//! An update comes every second, or as soon as it is full. A client that reads too slowly makes the log's writer drop
//! lines for it, never wait; then an event says how many, and the update that has it says that it is not complete.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::body::Body;
use bytes::Bytes;
use futures::stream;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant as Moment, timeout_at},
};

use super::{CloudWatchLogs, events::parse, invalid, pattern::Pattern};
use crate::{
    control::aws::{Call, Error, event_stream},
    model::{LogGroupName, RequestId},
    telemetry::logs::{Live, LiveLine},
};

/// How often an update comes.
const INTERVAL: Duration = Duration::from_secs(1);

/// The most events of an update.
const MAX_EVENTS: usize = 500;

/// How long a tail goes on (CloudWatch Logs quota).
const MAX_SESSION: Duration = Duration::from_secs(3 * 3600);

const CONTENT_TYPE: &str = "application/json";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Start {
    log_group_identifiers: Vec<String>,
    #[serde(default)]
    log_stream_names: Vec<String>,
    #[serde(default)]
    log_stream_name_prefixes: Vec<String>,
    log_event_filter_pattern: Option<String>,
}

impl CloudWatchLogs {
    pub(super) async fn start_live_tail(&self, call: Call) -> Result<Body, Error> {
        let request_id = call.request_id;
        let start: Start = call.read()?;
        let streams = !start.log_stream_names.is_empty();
        let prefixes = !start.log_stream_name_prefixes.is_empty();
        if streams && prefixes {
            return Err(invalid(
                "LogStreamNames and LogStreamNamePrefixes cannot be specified together.",
            ));
        }
        if (streams || prefixes) && start.log_group_identifiers.len() > 1 {
            return Err(invalid("Log streams can be named for one log group only."));
        }
        let mut groups = HashMap::new();
        for arn in &start.log_group_identifiers {
            let group = self.group_of_arn(arn)?;
            groups.insert(group, arn.as_str().into());
        }
        let pattern = start.log_event_filter_pattern.as_deref();
        let pattern = pattern.map(parse).transpose()?;
        let permit = Arc::clone(&self.live).try_acquire_owned().map_err(|_| {
            Error::new(
                "LimitExceededException",
                format!("There are {} live tails already.", super::MAX_LIVE),
            )
        })?;
        let names: Vec<LogGroupName> = groups.keys().cloned().collect();
        let live = self.run(move |logs| logs.follow(&names)).await?;
        let begin = json!({
            "requestId": request_id,
            "sessionId": RequestId::generate(),
            "logGroupIdentifiers": start.log_group_identifiers,
            "logStreamNames": start.log_stream_names,
            "logStreamNamePrefixes": start.log_stream_name_prefixes,
            "logEventFilterPattern": start.log_event_filter_pattern.unwrap_or_default(),
        });
        let session = Session {
            live,
            groups,
            streams: start.log_stream_names,
            prefixes: start.log_stream_name_prefixes,
            pattern,
            ends: Instant::now() + MAX_SESSION,
            state: State::New(begin),
            _permit: permit,
        };
        let messages = stream::unfold(session, async |mut session| {
            let message = session.next().await?;
            Some((Ok::<_, std::convert::Infallible>(message), session))
        });
        Ok(Body::from_stream(messages))
    }
}

/// A live tail.
struct Session {
    live: Live,
    /// The groups, and how the caller named them.
    groups: HashMap<LogGroupName, Arc<str>>,
    streams: Vec<String>,
    prefixes: Vec<String>,
    pattern: Option<Pattern>,
    ends: Instant,
    state: State,
    _permit: OwnedSemaphorePermit,
}

enum State {
    /// Nothing was said yet.
    New(Value),
    /// The stream has begun, the session not.
    Begun(Value),
    Running,
    Ended,
}

impl Session {
    /// The next message of the stream. None at its end.
    async fn next(&mut self) -> Option<Bytes> {
        match std::mem::replace(&mut self.state, State::Running) {
            State::New(begin) => {
                self.state = State::Begun(begin);
                Some(message("initial-response", &json!({})))
            }
            State::Begun(begin) => Some(message("sessionStart", &begin)),
            State::Running if Instant::now() >= self.ends => {
                self.state = State::Ended;
                let over =
                    json!({ "message": "The session has ended: it was open for three hours." });
                Some(event_stream::exception("SessionTimeoutException", &over))
            }
            State::Running => self.update().await,
            State::Ended => None,
        }
    }

    async fn update(&mut self) -> Option<Bytes> {
        let until = Moment::now() + INTERVAL;
        let mut results = Vec::new();
        let mut dropped = false;
        while results.len() < MAX_EVENTS {
            let Ok(line) = timeout_at(until, self.live.next()).await else {
                break;
            };
            let Some(line) = line else {
                // The groups were deleted.
                self.state = State::Ended;
                if results.is_empty() {
                    return None;
                }
                break;
            };
            dropped |= line.group.is_none();
            if self.wants(&line) {
                results.push(self.result(line));
            }
        }
        Some(message(
            "sessionUpdate",
            &json!({
                "sessionMetadata": { "sampled": dropped },
                "sessionResults": results,
            }),
        ))
    }

    /// What is said of the tail itself is always wanted.
    fn wants(&self, line: &LiveLine) -> bool {
        let unnamed = self.streams.is_empty() && self.prefixes.is_empty();
        let named = || {
            self.streams.iter().any(|name| **name == *line.stream)
                || self
                    .prefixes
                    .iter()
                    .any(|prefix| line.stream.starts_with(prefix))
        };
        let matches = |pattern: &Pattern| pattern.matches(&line.line.message);
        line.group.is_none() || ((unnamed || named()) && self.pattern.as_ref().is_none_or(matches))
    }

    fn result(&self, line: LiveLine) -> Value {
        let group = match &line.group {
            Some(group) => self.groups.get(group),
            None => self.groups.values().next(),
        };
        json!({
            "logStreamName": &*line.stream,
            "logGroupIdentifier": group.map(|group| &**group).unwrap_or_default(),
            "message": line.line.message,
            "timestamp": line.line.timestamp,
            "ingestionTime": line.ingested,
        })
    }
}

fn message(event_type: &'static str, document: &Value) -> Bytes {
    event_stream::message(event_type, CONTENT_TYPE, document.to_string().into())
}
