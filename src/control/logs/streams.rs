//! Log streams: made, listed, deleted, put into.

use std::{cmp::Reverse, sync::Arc};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{CloudWatchLogs, after, bad_token, groups::named, invalid, token};
use crate::{
    control::aws::{Call, Error},
    telemetry::logs::StreamSummary,
};

/// The most streams of a page.
const MAX_STREAMS: usize = 50;

/// The largest batch that is put, counted as the events' messages and 26 bytes each.
const MAX_BATCH: usize = 1_048_576;

const HOUR: u64 = 3_600_000;

/// What used to order the calls of PutLogEvents. Clients hand it back; nobody looks at it.
const SEQUENCE_TOKEN: &str = "49600000000000000000000000000000000000000000000000000000";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Describe {
    log_group_name: Option<String>,
    log_group_identifier: Option<String>,
    log_stream_name_prefix: Option<String>,
    order_by: Option<String>,
    #[serde(default)]
    descending: bool,
    next_token: Option<String>,
    limit: Option<usize>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Put {
    log_group_name: String,
    log_stream_name: String,
    log_events: Vec<InputEvent>,
    entity: Option<Value>,
}

#[derive(Deserialize)]
struct InputEvent {
    timestamp: u64,
    message: String,
}

impl CloudWatchLogs {
    pub(super) async fn create_stream(&self, call: Call) -> Result<Value, Error> {
        let (name, stream) = (named(&call)?, stream_named(&call));
        self.run(move |logs| logs.create_stream(&name, &stream))
            .await?;
        Ok(Value::Null)
    }

    pub(super) async fn delete_stream(&self, call: Call) -> Result<Value, Error> {
        let (name, stream) = (named(&call)?, stream_named(&call));
        self.run(move |logs| logs.delete_stream(&name, &stream))
            .await?;
        Ok(Value::Null)
    }

    pub(super) async fn describe_streams(&self, call: Call) -> Result<Value, Error> {
        let describe: Describe = call.read()?;
        let name = self.group(describe.log_group_name, describe.log_group_identifier)?;
        let by_time = describe.order_by.as_deref() == Some("LastEventTime");
        if by_time && describe.log_stream_name_prefix.is_some() {
            return Err(invalid(
                "Cannot order by LastEventTime with a logStreamNamePrefix.",
            ));
        }
        // A page goes on after a place in the order: a time, 0 where that does not count, and a name.
        let place = |stream: &StreamSummary| {
            let time = stream.events.map_or(0, |(_, last)| last);
            (if by_time { time } else { 0 }, Arc::clone(&stream.name))
        };
        let after = match after(describe.next_token.as_deref())? {
            None => None,
            Some(text) => {
                let (time, name) = text.split_once(' ').ok_or_else(bad_token)?;
                let time: u64 = time.parse().map_err(|_| bad_token())?;
                Some((time, Arc::from(name)))
            }
        };
        let group = name.clone();
        let mut streams = self.run(move |logs| logs.streams(&group)).await?;
        if let Some(prefix) = &describe.log_stream_name_prefix {
            streams.retain(|stream| stream.name.starts_with(prefix));
        }
        match describe.descending {
            true => streams.sort_by_key(|stream| Reverse(place(stream))),
            false => streams.sort_by_key(place),
        }
        if let Some(after) = after {
            streams.retain(|stream| match describe.descending {
                true => place(stream) < after,
                false => place(stream) > after,
            });
        }
        let limit = describe.limit.unwrap_or(MAX_STREAMS);
        let more = streams.len() > limit;
        streams.truncate(limit);
        let documents: Vec<Value> = streams
            .iter()
            .map(|stream| {
                let arn = format!("{}{name}:log-stream:{}", self.arn, stream.name);
                let mut document = json!({
                    "logStreamName": &*stream.name,
                    "creationTime": stream.created_ms,
                    "arn": arn,
                    "uploadSequenceToken": SEQUENCE_TOKEN,
                    // As in CloudWatch, which does not count it any more.
                    "storedBytes": 0,
                });
                if let Some((first, last)) = stream.events {
                    document["firstEventTimestamp"] = first.into();
                    document["lastEventTimestamp"] = last.into();
                }
                if let Some(ingested) = stream.ingested_ms {
                    document["lastIngestionTime"] = ingested.into();
                }
                document
            })
            .collect();
        let mut answer = json!({ "logStreams": documents });
        if let Some(last) = streams.last().filter(|_| more) {
            let (time, name) = place(last);
            answer["nextToken"] = token(&format!("{time} {name}")).into();
        }
        Ok(answer)
    }

    pub(super) async fn put_events(&self, call: Call) -> Result<Value, Error> {
        let put: Put = call.read()?;
        let name = super::name_of(&put.log_group_name)?;
        let events = put.log_events;
        let size: usize = events.iter().map(|event| event.message.len() + 26).sum();
        if size > MAX_BATCH {
            return Err(invalid(format!(
                "Upload too large: {size} bytes exceeds limit of {MAX_BATCH}"
            )));
        }
        if !events.is_sorted_by_key(|event| event.timestamp) {
            return Err(invalid(
                "Log events in a single PutLogEvents request must be in chronological order.",
            ));
        }
        let (first, last) = match &events[..] {
            [] => return Err(invalid("The batch has no log events.")),
            [first, .., last] => (first.timestamp, last.timestamp),
            [only] => (only.timestamp, only.timestamp),
        };
        if last - first > 24 * HOUR {
            return Err(invalid(
                "The batch of log events in a single PutLogEvents request cannot span more than 24 hours.",
            ));
        }
        let now = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or_default();
        let group = name.clone();
        let kept_from = self.run(move |logs| logs.kept_from(&group)).await?;
        let index = |before: u64| events.partition_point(|event| event.timestamp < before);
        let too_old = index(now.saturating_sub(14 * 24 * HOUR));
        let expired = index(kept_from);
        let too_new = index(now + 2 * HOUR);
        let total = events.len();
        let accepted: Vec<(u64, String)> = events
            .into_iter()
            .map(|event| (event.timestamp, event.message))
            .take(too_new)
            .skip(too_old.max(expired))
            .collect();
        self.run(move |logs| logs.put(&name, &put.log_stream_name, &accepted))
            .await?;
        let mut answer = json!({ "nextSequenceToken": SEQUENCE_TOKEN });
        let mut rejected = json!({});
        if too_old > 0 {
            rejected["tooOldLogEventEndIndex"] = too_old.into();
        }
        if expired > too_old {
            rejected["expiredLogEventEndIndex"] = expired.into();
        }
        if too_new < total {
            rejected["tooNewLogEventStartIndex"] = too_new.into();
        }
        if rejected
            .as_object()
            .is_some_and(|rejected| !rejected.is_empty())
        {
            answer["rejectedLogEventsInfo"] = rejected;
        }
        if put.entity.is_some() {
            // Groups here have no entities.
            answer["rejectedEntityInfo"] = json!({ "errorType": "UnsupportedLogGroupType" });
        }
        Ok(answer)
    }
}

fn stream_named(call: &Call) -> String {
    call.text("logStreamName").unwrap_or_default().to_owned()
}
