//! `wharf logs`: what a function said.

use std::{fmt, pin::pin, time::Duration};

use anyhow::Context as _;
use futures::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{output::Output, remote::RemoteArgs};
use crate::{
    model::parse_duration,
    telemetry::logs::{LogLine, TailFrom},
};

/// Show the log of a function
///
/// What it printed, line by line with the id of the request, between the START, END and REPORT lines that Lambda writes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wharf logs hello                    the last 100 lines
  wharf logs hello --last 1000        more of them
  wharf logs hello --follow           and those to come, until interrupted
  wharf logs hello --since 10min      what was said in the last ten minutes
  wharf logs hello --filter ERROR     the lines with a word, or in which a pattern is found
  wharf logs hello --output json      with times, streams and levels")]
pub(crate) struct LogsArgs {
    /// The function
    name: String,

    /// How many lines to begin with: 100, or with a filter all that are kept of the last 100,000
    #[arg(long, value_name = "N", conflicts_with = "since")]
    last: Option<usize>,

    /// Begin with the lines of this time: `30s`, `10min`, `2h`
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    since: Option<Duration>,

    /// Only lines that a filter pattern of CloudWatch Logs picks: `ERROR -debug`, `?WARN ?ERROR`, `%5[0-9]{2}%`,
    /// `{ $.level = "ERROR" }`
    #[arg(long, value_name = "PATTERN")]
    filter: Option<String>,

    /// Go on with the lines to come
    #[arg(long, short)]
    follow: bool,

    #[command(flatten)]
    remote: RemoteArgs,
}

/// A line for people, or for programs.
#[derive(Serialize)]
#[serde(transparent)]
pub(crate) struct Shown(pub(crate) LogLine);

impl fmt::Display for Shown {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = i64::try_from(self.0.timestamp).unwrap_or(i64::MAX);
        let at = jiff::Timestamp::from_millisecond(at).unwrap_or_default();
        write!(
            formatter,
            "{} {}",
            at.strftime("%H:%M:%S%.3f"),
            self.0.message
        )
    }
}

pub(crate) async fn run(args: LogsArgs, output: &Output) -> anyhow::Result<()> {
    let client = args.remote.client()?;
    let from = match args.since {
        Some(since) => {
            let since = SignedDuration::try_from(since).context("read `--since`")?;
            let from = Timestamp::now().saturating_sub(since)?.as_millisecond();
            TailFrom::Since(u64::try_from(from).unwrap_or_default())
        }
        None if args.filter.is_some() => TailFrom::Last(args.last.unwrap_or(100_000)),
        None => TailFrom::Last(args.last.unwrap_or(100)),
    };
    let lines = client.logs_from(&args.name, from, args.follow, args.filter.as_deref());
    let mut lines = pin!(lines.await?);
    while let Some(line) = lines.next().await {
        output.result(&Shown(line?))?;
    }
    Ok(())
}
