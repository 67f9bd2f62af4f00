//! Events, page by page: of one stream in either direction, or of all that a pattern picks.

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{CloudWatchLogs, bad_token, invalid, pattern::Pattern};
use crate::{
    control::aws::{Call, Error},
    telemetry::logs::{Direction, Key, LogEvent, LogsError, MAX_PAGE, Query},
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Get {
    log_group_name: Option<String>,
    log_group_identifier: Option<String>,
    log_stream_name: String,
    #[serde(default)]
    start_time: u64,
    end_time: Option<u64>,
    next_token: Option<String>,
    limit: Option<usize>,
    #[serde(default)]
    start_from_head: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Filter {
    log_group_name: Option<String>,
    log_group_identifier: Option<String>,
    log_stream_names: Option<HashSet<String>>,
    log_stream_name_prefix: Option<String>,
    #[serde(default)]
    start_time: u64,
    end_time: Option<u64>,
    filter_pattern: Option<String>,
    next_token: Option<String>,
    limit: Option<usize>,
    start_from_head: Option<bool>,
}

impl CloudWatchLogs {
    pub(super) async fn get_events(&self, call: Call) -> Result<Value, Error> {
        let get: Get = call.read()?;
        let name = self.group(get.log_group_name, get.log_group_identifier)?;
        let until_ms = get.end_time.unwrap_or(u64::MAX);
        let token = get.next_token.as_deref().map(direction).transpose()?;
        let direction = token.unwrap_or(match get.start_from_head {
            true => Direction::Forward(Key::at(get.start_time)),
            false => Direction::Backward(Key::at(until_ms)),
        });
        let page = self
            .run(move |logs| {
                let stream = get.log_stream_name;
                if !logs.has_stream(&name, &stream)? {
                    return Err(LogsError::NoStream);
                }
                let query = Query {
                    direction,
                    from_ms: get.start_time,
                    until_ms,
                    limit: get.limit.unwrap_or(MAX_PAGE),
                    stream: &|name| name == stream,
                    search: None,
                };
                logs.read(&name, &query)
            })
            .await?;
        // What comes later is to be found from here, wherever a page without events would have ended.
        let (forward, backward) = match token.is_none() && page.events.is_empty() {
            true => (Key::at(get.start_time), Key::at(get.start_time)),
            false => (page.forward, page.backward),
        };
        let events: Vec<Value> = page
            .events
            .into_iter()
            .map(|event| {
                json!({
                    "timestamp": event.timestamp,
                    "message": event.message,
                    "ingestionTime": event.ingested,
                })
            })
            .collect();
        Ok(json!({
            "events": events,
            "nextForwardToken": format!("f/{forward}"),
            "nextBackwardToken": format!("b/{backward}"),
        }))
    }

    pub(super) async fn filter_events(&self, call: Call) -> Result<Value, Error> {
        let filter: Filter = call.read()?;
        let name = self.group(filter.log_group_name, filter.log_group_identifier)?;
        if filter.log_stream_names.is_some() && filter.log_stream_name_prefix.is_some() {
            return Err(invalid(
                "LogStreamNames and LogStreamNamePrefix cannot be specified together.",
            ));
        }
        if filter.start_from_head == Some(false) {
            return Err(invalid(
                "Wharf does not support startFromHead=false: the earliest events come first.",
            ));
        }
        let pattern = filter.filter_pattern.as_deref().map(parse).transpose()?;
        let start = match filter.next_token.as_deref() {
            Some(token) => token.parse().map_err(|_| bad_token())?,
            None => Key::at(filter.start_time),
        };
        // Here the end is inside.
        let until_ms = filter
            .end_time
            .map_or(u64::MAX, |end| end.saturating_add(1));
        let page = self
            .run(move |logs| {
                for stream in filter.log_stream_names.iter().flatten() {
                    if !logs.has_stream(&name, stream)? {
                        return Err(LogsError::NoStream);
                    }
                }
                let prefix = filter.log_stream_name_prefix.as_deref().unwrap_or("");
                let matches = pattern
                    .as_ref()
                    .map(|pattern| |message: &str| pattern.matches(message));
                let query = Query {
                    direction: Direction::Forward(start),
                    from_ms: filter.start_time,
                    until_ms,
                    limit: filter.limit.unwrap_or(MAX_PAGE),
                    stream: &|name| match &filter.log_stream_names {
                        Some(names) => names.contains(name),
                        None => name.starts_with(prefix),
                    },
                    search: matches.as_ref().map(|matches| matches as _),
                };
                logs.read(&name, &query)
            })
            .await?;
        let events: Vec<Value> = page.events.into_iter().map(filtered).collect();
        let mut answer = json!({ "events": events, "searchedLogStreams": [] });
        if page.more {
            answer["nextToken"] = page.forward.to_string().into();
        }
        Ok(answer)
    }
}

fn filtered(event: LogEvent) -> Value {
    json!({
        "logStreamName": &*event.stream,
        "timestamp": event.timestamp,
        "message": event.message,
        "ingestionTime": event.ingested,
        "eventId": event.key.to_string(),
    })
}

/// A pattern of a call.
pub(super) fn parse(text: &str) -> Result<Pattern, Error> {
    Pattern::parse(text).map_err(|error| invalid(format!("Invalid filter pattern: {error}.")))
}

/// What a token of GetLogEvents says: `f/` or `b/`, and a place.
fn direction(token: &str) -> Result<Direction, Error> {
    let key = |text: &str| text.parse().map_err(|_| bad_token());
    match token.split_once('/') {
        Some(("f", text)) => key(text).map(Direction::Forward),
        Some(("b", text)) => key(text).map(Direction::Backward),
        _ => Err(bad_token()),
    }
}
