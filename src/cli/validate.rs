//! `wharf validate`: is the manifest right?

use std::{fmt, path::PathBuf};

use serde::Serialize;

use super::{app, certificate, output::Output};
use crate::model::{DistributionName, FunctionName, RoutePattern, manifest_schema};

/// Check the manifest of an app
///
/// Every problem is shown with its line and what to do. The certificates of distributions are read and checked too. Nothing
/// is built, and no node is asked.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wharf validate                              check ./wharf.toml
  wharf validate shop --output json           check shop/wharf.toml, and list what it has
  wharf validate --schema > wharf.schema.json write the schema for an editor")]
pub(crate) struct ValidateArgs {
    /// The folder of the app, or its manifest
    #[arg(default_value = ".")]
    path: PathBuf,

    /// Write the JSON schema of manifests instead
    #[arg(long, conflicts_with = "path")]
    schema: bool,
}

/// What a right manifest has.
#[derive(Serialize)]
struct Validated {
    manifest: PathBuf,
    name: FunctionName,
    functions: Vec<FunctionName>,
    routes: Vec<RoutePattern>,
    distributions: Vec<DistributionName>,
}

impl fmt::Display for Validated {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |count: usize, noun: &str| match count {
            1 => format!("1 {noun}"),
            count => format!("{count} {noun}s"),
        };
        write!(
            formatter,
            "{} is right: {} with {}, {} and {}",
            self.manifest.display(),
            self.name,
            count(self.functions.len(), "function"),
            count(self.routes.len(), "route"),
            count(self.distributions.len(), "distribution"),
        )
    }
}

pub(crate) async fn run(args: ValidateArgs, output: &Output) -> anyhow::Result<()> {
    if args.schema {
        return output.raw(format_args!("{:#}\n", manifest_schema()));
    }
    let manifest = app::load(&args.path).await?;
    certificate::distributions(&manifest).await?;
    output.result(&Validated {
        manifest: app::manifest_path(&args.path),
        name: manifest.name,
        functions: manifest.functions.into_keys().collect(),
        routes: manifest
            .routes
            .into_iter()
            .map(|route| route.pattern)
            .collect(),
        distributions: manifest.distributions.into_keys().collect(),
    })
}
