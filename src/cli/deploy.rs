//! `wharf deploy`: an app, or one component, to a running node.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr as _,
};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use serde::Serialize;

use super::{
    app,
    build::{self, BuiltFunction},
    certificate,
    output::Output,
    remote::RemoteArgs,
};
use crate::{
    control::{
        api::{Deploy, DeployFunction, FunctionSummary},
        client::Client,
    },
    model::{FunctionConfiguration, FunctionName, Manifest},
};

/// Deploy an app, or one component, to a running node
///
/// An app is deployed as one: its functions are built, uploaded and compiled, then all of them and its routes are served
/// from one moment on. Functions that the manifest has no more are removed. What is in flight on the old ones ends there.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wharf deploy                                    build and deploy the app in this folder
  wharf deploy shop --api http://127.0.0.1:9080   another folder, another node
  wharf deploy --wasm hello.wasm --name hello     one component, with the default configuration")]
pub(crate) struct DeployArgs {
    /// The folder of the app, or its manifest
    #[arg(default_value = ".", conflicts_with = "wasm")]
    path: PathBuf,

    /// A component to deploy without a manifest
    #[arg(long, value_name = "FILE", requires = "name")]
    wasm: Option<PathBuf>,

    /// The name of the function that it becomes
    #[arg(long, value_name = "NAME", requires = "wasm")]
    name: Option<String>,

    #[command(flatten)]
    remote: RemoteArgs,
}

/// A function that is served now.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Served(FunctionSummary);

impl fmt::Display for Served {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}\t{}", self.0.name, self.0.place())
    }
}

pub(crate) async fn run(args: DeployArgs, output: &Output) -> anyhow::Result<()> {
    let client = args.remote.client()?;
    let served = match (args.wasm, args.name) {
        (Some(wasm), Some(name)) => {
            let name = FunctionName::from_str(&name)?;
            let code = upload(&client, &name, &wasm, output).await?;
            let function = DeployFunction {
                name,
                code,
                configuration: FunctionConfiguration::default(),
            };
            let deploy = Deploy {
                app: None,
                functions: vec![function],
                routes: Vec::new(),
                distributions: Vec::new(),
            };
            client.deploy(&deploy).await?.functions
        }
        _ => {
            let manifest = app::load(&args.path).await?;
            let built = build::build(&manifest, output).await?;
            deploy(&client, &manifest, &built, output).await?
        }
    };
    served
        .into_iter()
        .try_for_each(|function| output.result(&Served(function)))
}

/// Deploys an app that is built.
pub(crate) async fn deploy(
    client: &Client,
    manifest: &Manifest,
    built: &[BuiltFunction],
    output: &Output,
) -> anyhow::Result<Vec<FunctionSummary>> {
    // What is wrong with them is said before anything is uploaded.
    let distributions = certificate::distributions(manifest).await?;
    let mut functions = Vec::with_capacity(built.len());
    for built in built {
        let function = manifest
            .functions
            .get(&built.name)
            .context("a function was built that the manifest does not have")?;
        let code = upload(client, &built.name, &built.component, output).await?;
        let mut configuration = function.configuration.clone();
        configuration.secrets.clone_from(&function.secrets);
        functions.push(DeployFunction {
            name: built.name.clone(),
            code,
            configuration,
        });
    }
    let deploy = Deploy {
        app: Some(manifest.name.to_string()),
        functions,
        routes: manifest.routes.clone(),
        distributions,
    };
    output.status("Compiling", &manifest.name);
    let deployed = client.deploy(&deploy).await?;
    for warning in &deployed.warnings {
        output.status("Warning", warning);
    }
    Ok(deployed.functions)
}

async fn upload(
    client: &Client,
    name: &FunctionName,
    wasm: &Path,
    output: &Output,
) -> anyhow::Result<crate::model::Digest> {
    let component = tokio::fs::read(wasm)
        .await
        .with_context(|| format!("read {}", wasm.display()))?;
    ensure!(!component.is_empty(), "{} is empty", wasm.display());
    output.status(
        "Uploading",
        format_args!("{name} ({} KB)", component.len().div_ceil(1024)),
    );
    Ok(client.upload(Bytes::from(component)).await?)
}
