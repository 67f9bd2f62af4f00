//! `wharf distributions`: the sites that a node fronts.

use std::fmt;

use serde::Serialize;

use super::{output::Output, remote::RemoteArgs};
use crate::control::api::DistributionSummary;

/// List the distributions of a node, or remove one
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wharf distributions                  name, app and hosts of each, what it did, and how the servers of its origins are
  wharf distributions --output json    all that is known, one JSON document a distribution
  wharf distributions --remove site    remove one, and what the cache has of it")]
pub(crate) struct DistributionsArgs {
    /// Remove this distribution
    #[arg(long, value_name = "NAME")]
    remove: Option<String>,

    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Serialize)]
#[serde(transparent)]
struct Listed(DistributionSummary);

impl fmt::Display for Listed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DistributionSummary {
            app,
            distribution,
            status,
        } = &self.0;
        let hosts: Vec<String> = distribution.hosts.iter().map(ToString::to_string).collect();
        let (name, app) = (distribution.name.to_string(), app.as_deref().unwrap_or("-"));
        write!(formatter, "{name:<24} {app:<16} {}", hosts.join(" "))?;
        let Some(status) = status else {
            return write!(formatter, "\n  not served: the node's log says why");
        };
        let from_cache = status.from_cache * 100;
        write!(
            formatter,
            "\n  {} requests, {} % from the cache; {} to viewers, {} from origins",
            status.requests,
            from_cache.checked_div(status.requests).unwrap_or(0),
            bytes(status.viewer_bytes),
            bytes(status.origin_bytes),
        )?;
        for (name, origin) in &status.origins {
            for server in &origin.servers {
                write!(
                    formatter,
                    "\n  {name}: {} is {}, {} requests, {} failed",
                    server.url,
                    server.state.replace('_', " "),
                    server.requests,
                    server.failures,
                )?;
                if let Some(time) = server.first_byte_us {
                    write!(formatter, ", {}.{} ms", time / 1000, time % 1000 / 100)?;
                }
                if server.waiting > 0 {
                    write!(formatter, ", {} wait", server.waiting)?;
                }
            }
        }
        Ok(())
    }
}

/// A number of bytes in the largest unit that it has at least ten of.
pub(super) fn bytes(bytes: u64) -> String {
    let units = [("GB", 30), ("MB", 20), ("KB", 10)];
    let unit = units.iter().find(|(_, bits)| bytes >> bits >= 10);
    match unit {
        Some((unit, bits)) => format!("{} {unit}", bytes >> bits),
        None => format!("{bytes} bytes"),
    }
}

pub(crate) async fn run(args: DistributionsArgs, output: &Output) -> anyhow::Result<()> {
    let client = args.remote.client()?;
    if let Some(name) = args.remove {
        client.remove_distribution(&name).await?;
        output.status("Removed", name);
        return Ok(());
    }
    let distributions = client.distributions().await?;
    if distributions.is_empty() {
        output.status("Empty", "no distribution is deployed");
    }
    distributions
        .into_iter()
        .try_for_each(|distribution| output.result(&Listed(distribution)))
}
