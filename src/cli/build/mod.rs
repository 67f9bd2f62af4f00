//! `wharf build`: source to components.
//!
//! A build is another program's work: cargo, or the command that the manifest gives. It runs in a process group of its
//! own, which ends with the future that waits for it. What it says goes to standard error as it is.

mod cargo;

use std::{
    fmt,
    path::{Path, PathBuf},
    process::ExitStatus,
};

use anyhow::{Context as _, bail, ensure};
use serde::Serialize;
use tokio::process::Command;

use super::{app, group::Group, output::Output};
use crate::model::{Code, FunctionName, Manifest, ManifestFunction};

/// Build the components of an app
///
/// A function with a `build` command is built by it, a folder with a Cargo.toml by cargo for wasm32-wasip2 (the target
/// is added if it is missing). The components' paths are the result.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wharf build                     build the app in this folder
  wharf build shop --output json  build the app in shop, and give the paths as JSON")]
pub(crate) struct BuildArgs {
    /// The folder of the app, or its manifest
    #[arg(default_value = ".")]
    path: PathBuf,
}

/// A function whose component is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct BuiltFunction {
    /// The function.
    pub(crate) name: FunctionName,
    /// Its component, an absolute path.
    pub(crate) component: PathBuf,
}

impl fmt::Display for BuiltFunction {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}\t{}", self.name, self.component.display())
    }
}

pub(crate) async fn run(args: BuildArgs, output: &Output) -> anyhow::Result<()> {
    let manifest = app::load(&args.path).await?;
    // The build has a process group of its own, so that the terminal does not interrupt it: we do.
    let built = tokio::select! {
        built = build(&manifest, output) => built?,
        interrupt = tokio::signal::ctrl_c() => {
            interrupt.context("wait for an interrupt")?;
            bail!("the build was interrupted");
        }
    };
    built.iter().try_for_each(|built| output.result(built))
}

/// Builds every function of an app, one after another. Dropping the future ends what is running.
pub(crate) async fn build(
    manifest: &Manifest,
    output: &Output,
) -> anyhow::Result<Vec<BuiltFunction>> {
    let mut built = Vec::with_capacity(manifest.functions.len());
    for (name, function) in &manifest.functions {
        let component = build_function(name, function, output)
            .await
            .with_context(|| format!("the function `{name}` was not built"))?;
        built.push(BuiltFunction {
            name: name.clone(),
            component,
        });
    }
    Ok(built)
}

async fn build_function(
    name: &FunctionName,
    function: &ManifestFunction,
    output: &Output,
) -> anyhow::Result<PathBuf> {
    let component = match &function.code {
        Code::Component(component) => component.clone(),
        Code::Source {
            folder,
            command,
            component,
        } => {
            output.status("Building", name);
            ensure!(folder.is_dir(), "there is no folder {}", folder.display());
            let made = match command {
                Some(command) => {
                    run_command(folder, command).await?;
                    None
                }
                None => Some(cargo::build(folder, output).await?),
            };
            // The manifest's word goes before cargo's.
            component
                .clone()
                .or(made)
                .context("say with `component` which file the build makes")?
        }
    };
    ensure!(
        component.is_file(),
        "there is no component {}",
        component.display()
    );
    Ok(component)
}

/// Runs the manifest's own command in the source folder.
async fn run_command(folder: &Path, command: &str) -> anyhow::Result<()> {
    let mut shell = Command::new("sh");
    // What it prints is no result of ours.
    shell
        .args(["-c", command])
        .current_dir(folder)
        .stdout(std::io::stderr());
    let status = Group::spawn(&mut shell).context("start sh")?.wait().await?;
    ended_well(command, status)
}

fn ended_well(command: &str, status: ExitStatus) -> anyhow::Result<()> {
    ensure!(status.success(), "`{command}` failed: {status}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use super::*;
    use crate::cli::output::Format;

    async fn build_text(folder: &Path, text: &str) -> anyhow::Result<Vec<BuiltFunction>> {
        let manifest = Manifest::parse(text, Path::new("wharf.toml"), folder)?;
        build(&manifest, &Output::new(Format::Text, true)).await
    }

    fn function(build: &str) -> String {
        format!("name = 'a'\n[functions.f]\nbuild = \"{build}\"\ncomponent = 'f.wasm'")
    }

    #[tokio::test]
    async fn the_manifests_command_makes_the_component() {
        let folder = tempfile::tempdir().unwrap();
        let built = build_text(folder.path(), &function("echo said; printf x > f.wasm"))
            .await
            .unwrap();
        assert_eq!(built[0].component, folder.path().join("f.wasm"));
        assert_eq!(fs::read(&built[0].component).unwrap(), b"x");
    }

    #[tokio::test]
    async fn a_build_that_fails_or_makes_nothing_is_an_error_that_says_so() {
        let folder = tempfile::tempdir().unwrap();
        for (build, problem) in [
            ("exit 3", "`exit 3` failed: exit status: 3"),
            ("true", "there is no component"),
        ] {
            let error = build_text(folder.path(), &function(build))
                .await
                .unwrap_err();
            assert_eq!(error.to_string(), "the function `f` was not built");
            let cause = error.root_cause().to_string();
            assert!(cause.contains(problem), "{cause}");
        }
        let error = build_text(folder.path(), "name = 'a'\n[functions.f]").await;
        let cause = error.unwrap_err().root_cause().to_string();
        assert!(cause.contains("no Cargo.toml"), "{cause}");
    }

    #[tokio::test]
    async fn a_build_that_nobody_waits_for_ends_with_all_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let command = "(sleep 2; touch late) & touch early; wait";
        let manifest = function(command);
        let building = build_text(folder.path(), &manifest);
        let started = async {
            while !folder.path().join("early").exists() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            _ = building => panic!("the build did not wait"),
            () = started => {}
        }
        tokio::time::sleep(Duration::from_millis(2500)).await;
        assert!(!folder.path().join("late").exists());
    }
}
