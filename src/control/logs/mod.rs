//! CloudWatch Logs' API: what functions said, and what others put here, as AWS's own clients read it.
//!
//! The groups, streams and events are those of [`telemetry::logs`](crate::telemetry::logs); here is how they are asked for.
//! [`groups`], [`streams`] and [`events`] each have the operations on one thing, [`live`] the one that goes on, and
//! [`pattern`] the language in which events are picked. [`lines`](mod@lines) is what `wharf logs` reads. Everything else of the service is refused by name.
//! `docs/cloudwatch-logs.md` lists what there is, and where it differs.

mod events;
mod groups;
mod lines;
mod live;
mod pattern;
mod streams;

pub(super) use lines::lines;

use std::{future::ready, sync::Arc};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::{
    auth::Subject,
    aws::{
        Answer, Call, Error, Service,
        model::{LOGS, Model},
    },
};
use crate::{
    model::{Arns, LogGroupName},
    telemetry::logs::{Logs, LogsError},
};

/// The most live tails at one moment (CloudWatch Logs quota).
const MAX_LIVE: usize = 15;

/// CloudWatch Logs' API on a node.
pub(in crate::control) struct CloudWatchLogs {
    logs: Arc<Logs>,
    /// What the ARNs of groups begin with: `arn:aws:logs:REGION:ACCOUNT:log-group:`.
    arn: Arc<str>,
    account: Arc<str>,
    live: Arc<Semaphore>,
}

impl CloudWatchLogs {
    pub(in crate::control) fn new(logs: Arc<Logs>, arns: &Arns) -> Self {
        Self {
            logs,
            arn: arns.of("logs", "log-group:").into(),
            account: arns.account.as_str().into(),
            live: Arc::new(Semaphore::new(MAX_LIVE)),
        }
    }

    async fn document(&self, call: Call) -> Result<Value, Error> {
        match call.operation.name.as_str() {
            "CreateLogGroup" => self.create_group(call).await,
            "DeleteLogGroup" => self.delete_group(call).await,
            "DescribeLogGroups" => self.describe_groups(call).await,
            "PutRetentionPolicy" => self.put_retention(call).await,
            "DeleteRetentionPolicy" => self.delete_retention(call).await,
            "TagResource" => self.tag_resource(call).await,
            "UntagResource" => self.untag_resource(call).await,
            "ListTagsForResource" => self.list_tags_for_resource(call).await,
            "TagLogGroup" => self.tag_group(call).await,
            "UntagLogGroup" => self.untag_group(call).await,
            "ListTagsLogGroup" => self.list_tags_of_group(call).await,
            "CreateLogStream" => self.create_stream(call).await,
            "DeleteLogStream" => self.delete_stream(call).await,
            "DescribeLogStreams" => self.describe_streams(call).await,
            "PutLogEvents" => self.put_events(call).await,
            "GetLogEvents" => self.get_events(call).await,
            "FilterLogEvents" => self.filter_events(call).await,
            // There is no way to make one, so there is none.
            "DescribeSubscriptionFilters" => self.none_of(call, "subscriptionFilters").await,
            "DescribeMetricFilters" => self.none_of(call, "metricFilters").await,
            other => Err(Error::new(
                "InvalidOperationException",
                format!(
                    "Wharf does not support {other}: of CloudWatch Logs it has groups and streams, events and their \
                     filters, retention, tags and the live tail."
                ),
            )),
        }
    }

    /// The answer of an operation that lists what cannot be made here, of a group if one is named.
    async fn none_of(&self, call: Call, member: &str) -> Result<Value, Error> {
        if let Some(name) = call.text("logGroupName") {
            let name = name_of(name)?;
            self.run(move |logs| logs.has_stream(&name, "")).await?;
        }
        Ok(json!({ member: [] }))
    }

    /// Does something with the logs, which reads or writes files, where it may.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Logs) -> Result<T, LogsError> + Send + 'static,
    ) -> Result<T, Error> {
        let logs = Arc::clone(&self.logs);
        let done = tokio::task::spawn_blocking(move || work(&logs)).await;
        done.map_err(|panic| Error::internal(&panic))?
            .map_err(|error| error.into())
    }

    /// The group that `logGroupName` or `logGroupIdentifier` names.
    fn group(
        &self,
        name: Option<String>,
        identifier: Option<String>,
    ) -> Result<LogGroupName, Error> {
        match (name, identifier) {
            (Some(name), None) => name_of(&name),
            (None, Some(identifier)) if identifier.starts_with("arn:") => {
                self.group_of_arn(identifier.strip_suffix(":*").unwrap_or(&identifier))
            }
            (None, Some(identifier)) => name_of(&identifier),
            (Some(_), Some(_)) => Err(invalid(
                "LogGroupName and LogGroupIdentifier cannot be specified together.",
            )),
            (None, None) => Err(invalid(
                "Either LogGroupName or LogGroupIdentifier must be specified.",
            )),
        }
    }

    /// The group of an ARN without `:*` at its end.
    fn group_of_arn(&self, arn: &str) -> Result<LogGroupName, Error> {
        let parts: Vec<&str> = arn.splitn(7, ':').collect();
        let ["arn", _, "logs", _, _, "log-group", name] = parts[..] else {
            return Err(invalid(format!("`{arn}` is not the ARN of a log group.")));
        };
        let name = name_of(name)?;
        // One of another account or region is none that is here.
        match arn.starts_with(&*self.arn) {
            true => Ok(name),
            false => Err(LogsError::NoGroup.into()),
        }
    }
}

impl Service for CloudWatchLogs {
    fn model(&self) -> &'static Model {
        &LOGS
    }

    fn invalid(&self) -> &'static str {
        INVALID
    }

    fn subject<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Option<Subject>, Error>> {
        let Call {
            operation,
            input,
            caller,
            ..
        } = call;
        let subject = Subject::of_logs(&operation.name, input, caller);
        Box::pin(ready(Ok(Some(subject))))
    }

    fn answer(&self, call: Call) -> BoxFuture<'_, Result<Answer, Error>> {
        Box::pin(async {
            match call.operation.name.as_str() {
                "StartLiveTail" => self.start_live_tail(call).await.map(Answer::Stream),
                _ => self.document(call).await.map(Answer::from),
            }
        })
    }
}

const INVALID: &str = "InvalidParameterException";

fn invalid(message: impl Into<String>) -> Error {
    Error::new(INVALID, message)
}

fn name_of(text: &str) -> Result<LogGroupName, Error> {
    text.parse().map_err(|_| {
        let shown: String = text.chars().take(200).collect();
        invalid(format!(
            "1 validation error detected: Value '{shown}' at 'logGroupName' failed to satisfy constraint: Member must \
             satisfy regular expression pattern: [\\.\\-_/#A-Za-z0-9]+"
        ))
    })
}

impl From<LogsError> for Error {
    fn from(error: LogsError) -> Self {
        match error {
            LogsError::NoGroup => Self::new(
                "ResourceNotFoundException",
                "The specified log group does not exist.",
            ),
            LogsError::NoStream => Self::new(
                "ResourceNotFoundException",
                "The specified log stream does not exist.",
            ),
            LogsError::GroupExists => Self::new(
                "ResourceAlreadyExistsException",
                "The specified log group already exists",
            ),
            LogsError::StreamExists => Self::new(
                "ResourceAlreadyExistsException",
                "The specified log stream already exists",
            ),
            LogsError::TooMany(most) => Self::new(
                "LimitExceededException",
                format!("Resource limit exceeded: there are {most} already."),
            ),
            LogsError::Disk(cause) => {
                tracing::error!(error = %cause, "logs cannot be written");
                Self::new(
                    "ServiceUnavailableException",
                    "The node cannot write its logs; its own log has the cause. Try again later.",
                )
            }
        }
    }
}

/// Where a list goes on: after this.
fn token(last: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(last)
}

/// What a list goes on after.
fn after(token: Option<&str>) -> Result<Option<String>, Error> {
    let Some(token) = token else { return Ok(None) };
    BASE64_URL_SAFE_NO_PAD
        .decode(token)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .map(Some)
        .ok_or_else(bad_token)
}

fn bad_token() -> Error {
    invalid("The specified nextToken is invalid.")
}
