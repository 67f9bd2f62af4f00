//! The log of one function, line by line, as `wharf logs` shows it.

use std::{convert::Infallible, sync::Arc};

use axum::{
    body::Body,
    extract::{Path, Query, State, rejection::QueryRejection},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures::stream;
use http::header;
use serde::Deserialize;

use super::pattern::Pattern;
use crate::{
    control::{Api, Error},
    telemetry::logs::TailFrom,
};

/// Lines to begin with where nothing is said.
const LAST: usize = 100;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::control) struct Wanted {
    last: Option<usize>,
    #[serde(default)]
    follow: bool,
    /// Milliseconds since 1970-01-01T00:00:00Z.
    since: Option<u64>,
    /// In CloudWatch's language.
    filter: Option<String>,
}

/// Answers with the lines that are there and, if wanted, those to come: a JSON document each.
pub(in crate::control) async fn lines(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    query: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Error> {
    let Query(wanted) = query.map_err(|error| Error::Invalid(error.body_text()))?;
    let from = match (wanted.since, wanted.last) {
        (Some(_), Some(_)) => {
            return Err(Error::Invalid(
                "`since` and `last` both say where to begin: leave one out".to_owned(),
            ));
        }
        (Some(since), None) => TailFrom::Since(since),
        (None, last) => TailFrom::Last(last.unwrap_or(LAST)),
    };
    let filter = wanted.filter.as_deref().map(Pattern::parse).transpose();
    let filter = filter.map_err(|error| Error::Invalid(format!("no filter: {error}")))?;
    let tail = api.control.tail(&name, from, wanted.follow)?;
    let lines = stream::unfold((tail, filter), async |(mut tail, filter)| {
        loop {
            let line = tail.next().await?;
            // What is said of the log itself belongs to no invocation, and is always told.
            let wanted = filter
                .as_ref()
                .is_none_or(|filter| line.request_id.is_none() || filter.matches(&line.message));
            if wanted {
                let mut json = serde_json::to_vec(&line).ok()?;
                json.push(b'\n');
                return Some((Ok::<_, Infallible>(Bytes::from(json)), (tail, filter)));
            }
        }
    });
    Ok((
        [(header::CONTENT_TYPE, "application/x-ndjson")],
        Body::from_stream(lines),
    )
        .into_response())
}
