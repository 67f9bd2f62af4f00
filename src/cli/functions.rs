//! `wharf functions`: what a node serves.

use std::fmt;

use serde::Serialize;

use super::{output::Output, remote::RemoteArgs};
use crate::control::api::FunctionSummary;

/// List the functions of a node, or remove one
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wharf functions                    name, kind, size, app and URL of each
  wharf functions --output json      with configurations, one JSON document a function
  wharf functions --remove hello     remove one; what is in flight on it ends by itself")]
pub(crate) struct FunctionsArgs {
    /// Remove this function
    #[arg(long, value_name = "NAME")]
    remove: Option<String>,

    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Serialize)]
#[serde(transparent)]
struct Listed(FunctionSummary);

impl fmt::Display for Listed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FunctionSummary {
            name,
            kind,
            code_size,
            app,
            ..
        } = &self.0;
        let (kind, size) = (kind.to_string(), code_size.div_ceil(1024));
        let app = app.as_deref().unwrap_or("-");
        let place = self.0.place();
        write!(
            formatter,
            "{name:<24} {kind:<16} {size:>8} KB  {app:<16} {place}"
        )
    }
}

pub(crate) async fn run(args: FunctionsArgs, output: &Output) -> anyhow::Result<()> {
    let client = args.remote.client()?;
    if let Some(name) = args.remove {
        client.remove(&name).await?;
        output.status("Removed", name);
        return Ok(());
    }
    let functions = client.functions().await?;
    if functions.is_empty() {
        output.status(
            "Empty",
            "no function is deployed; deploy one with `wharf deploy`",
        );
    }
    functions
        .into_iter()
        .try_for_each(|function| output.result(&Listed(function)))
}
