//! `wharf distributions`: the sites that a node fronts.

use std::fmt;

use serde::Serialize;

use super::{output::Output, remote::RemoteArgs};
use crate::control::api::DistributionSummary;

/// List the distributions of a node, or remove one
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wharf distributions                  name, app and hosts of each
  wharf distributions --output json    with origins and behaviours, one JSON document a distribution
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
        let DistributionSummary { app, distribution } = &self.0;
        let hosts: Vec<String> = distribution.hosts.iter().map(ToString::to_string).collect();
        let (name, app) = (distribution.name.to_string(), app.as_deref().unwrap_or("-"));
        write!(formatter, "{name:<24} {app:<16} {}", hosts.join(" "))
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
