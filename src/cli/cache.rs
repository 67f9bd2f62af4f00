//! `wharf cache`: what the cache of a node holds and did.

use std::fmt;

use serde::Serialize;

use super::{distributions::bytes, output::Output, remote::RemoteArgs};
use crate::control::api::CacheSummary;

/// Show what the cache holds, and what it did for each distribution since the node started
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wharf cache                  a line for each distribution
  wharf cache --output json    all numbers, as one JSON document")]
pub(crate) struct CacheArgs {
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Serialize)]
#[serde(transparent)]
struct Shown(CacheSummary);

impl fmt::Display for Shown {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CacheSummary { memory, disk, .. } = &self.0;
        write!(
            formatter,
            "memory: {} in {} answers, disk: {} in {}",
            bytes(memory.bytes),
            memory.objects,
            bytes(disk.bytes),
            disk.objects
        )?;
        for (count, what) in [
            (self.0.corrupt, "files were damaged, and removed"),
            (self.0.disk_failures, "answers could not be written to disk"),
        ] {
            if count > 0 {
                write!(formatter, "\n{count} {what}")?;
            }
        }
        for (name, counts) in &self.0.distributions {
            // As in the PromQL of docs/operations.md: without the origin having been asked for it.
            let served = counts.hits + counts.stale + counts.collapsed;
            let asked = served + counts.revalidated + counts.misses;
            let share = (served * 100).checked_div(asked).unwrap_or(0);
            write!(
                formatter,
                "\n{name:<24} {share:>3} % of {asked}: {} hits, {} stale, {} collapsed, {} misses, {} revalidated; {} bypass, {} evicted",
                counts.hits,
                counts.stale,
                counts.collapsed,
                counts.misses,
                counts.revalidated,
                counts.bypass,
                counts.evicted
            )?;
        }
        Ok(())
    }
}

pub(crate) async fn run(args: CacheArgs, output: &Output) -> anyhow::Result<()> {
    let client = args.remote.client()?;
    output.result(&Shown(client.cache().await?))
}
