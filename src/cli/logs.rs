//! `wharf logs`: what a function said.

use std::{fmt, pin::pin};

use futures::StreamExt as _;
use serde::Serialize;

use super::{output::Output, remote::RemoteArgs};
use crate::telemetry::logs::LogLine;

/// Show the log of a function
///
/// What it printed, line by line with the id of the request, between the START, END and REPORT lines that Lambda writes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wharf logs hello                    the last 100 lines
  wharf logs hello --last 1000        more of them
  wharf logs hello --follow           and those to come, until interrupted
  wharf logs hello --output json      with times, streams and levels")]
pub(crate) struct LogsArgs {
    /// The function
    name: String,

    /// How many lines to begin with
    #[arg(long, default_value_t = 100, value_name = "N")]
    last: usize,

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
    let mut lines = pin!(client.logs(&args.name, args.last, args.follow).await?);
    while let Some(line) = lines.next().await {
        output.result(&Shown(line?))?;
    }
    Ok(())
}
