//! `wharf invoke`: a function, with an event.

use std::{fmt, io::Read as _, path::Path};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use serde::Serialize;

use super::{output::Output, remote::RemoteArgs};

/// Invoke a function with an event, and print what it answers
///
/// The exit code is 1 if the function answers with an error; the error document is printed all the same. With --async
/// nothing is waited for: the request id is printed as soon as the node has taken the event over, and the function's log
/// tells the rest.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wharf invoke order --payload '{\"items\": []}'   an event from the command line
  wharf invoke order --payload @event.json       from a file
  wharf invoke order --payload - < event.json    from standard input
  wharf invoke order --log                       with the end of its log
  wharf invoke order --async                     later and at least once; prints the request id")]
pub(crate) struct InvokeArgs {
    /// The function
    name: String,

    /// The event: JSON, @FILE, or - for standard input
    #[arg(long, short, default_value = "{}", value_name = "JSON|@FILE|-")]
    payload: String,

    /// Do not wait for the answer; print the request id
    #[arg(long = "async", conflicts_with = "log")]
    asynchronous: bool,

    /// Show the end of the invocation's log on standard error
    #[arg(long)]
    log: bool,

    #[command(flatten)]
    remote: RemoteArgs,
}

/// An event that the node has taken over.
#[derive(Serialize)]
struct Accepted {
    request_id: String,
}

impl fmt::Display for Accepted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.request_id)
    }
}

pub(crate) async fn run(args: InvokeArgs, output: &Output) -> anyhow::Result<()> {
    let event = match args.payload.strip_prefix('@') {
        Some(file) => read(Path::new(file))?,
        None if args.payload == "-" => {
            let mut event = Vec::new();
            std::io::stdin()
                .read_to_end(&mut event)
                .context("read standard input")?;
            event
        }
        None => args.payload.into_bytes(),
    };
    let kind = if args.asynchronous {
        "Event"
    } else {
        "RequestResponse"
    };
    let client = args.remote.client()?;
    let invoked = client
        .invoke(&args.name, Bytes::from(event), kind, args.log)
        .await?;
    if args.asynchronous {
        let request_id = invoked
            .request_id
            .context("the node's answer has no request id")?;
        return output.result(&Accepted { request_id });
    }
    for line in invoked.log.iter().flat_map(|log| log.lines()) {
        output.status("Log", line);
    }
    let answer = String::from_utf8_lossy(&invoked.payload);
    if !answer.is_empty() {
        output.raw(format_args!("{answer}\n"))?;
    }
    if let Some(error) = invoked.function_error {
        bail!("the function answered with an error ({error})");
    }
    Ok(())
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("read {}", file.display()))
}
