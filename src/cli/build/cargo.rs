//! Components from Rust, by cargo.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
};

use super::{Group, Output, ended_well};

/// rustc makes components for this target by itself.
const TARGET: &str = "wasm32-wasip2";

/// Builds the package in `folder`, and gives its component.
pub(super) async fn build(folder: &Path, output: &Output) -> anyhow::Result<PathBuf> {
    let manifest = folder.join("Cargo.toml");
    ensure!(
        manifest.is_file(),
        "{} has no Cargo.toml: say with `build` how it is built, or with `component` where the component is",
        folder.display()
    );
    add_target(folder, output).await?;

    let arguments = ["build", "--release", "--target", TARGET];
    let mut cargo = Command::new("cargo");
    cargo
        .args(arguments)
        .arg("--message-format=json-render-diagnostics")
        .current_dir(folder)
        .stdout(Stdio::piped());
    let mut group = Group::spawn(&mut cargo).map_err(|error| not_started("cargo", error))?;
    let stdout = group
        .child()
        .stdout
        .take()
        .context("read what cargo says")?;
    let mut lines = BufReader::new(stdout).lines();
    let mut components = Vec::new();
    while let Some(line) = lines.next_line().await.context("read what cargo says")? {
        // Build scripts' own lines and messages of other kinds are nothing to us.
        if let Ok(message) = serde_json::from_str::<Message>(&line)
            && let Some(component) = message.component(&manifest)
        {
            components.push(component);
        }
    }
    let status = group.wait().await?;
    ended_well(&format!("cargo {}", arguments.join(" ")), status)?;
    match components.as_slice() {
        [component] => Ok(component.clone()),
        [] => bail!(
            "{} makes no component: write `crate-type = [\"cdylib\"]` below `[lib]`, or have a `src/main.rs`",
            manifest.display()
        ),
        several => bail!(
            "{} makes {} components: say with `component` which one it is",
            manifest.display(),
            several.len()
        ),
    }
}

/// A message of cargo's: `cargo build --message-format=json` documents them.
#[derive(Deserialize)]
struct Message {
    reason: String,
    #[serde(default)]
    manifest_path: PathBuf,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

impl Message {
    /// The component that the message says was made by the package of `manifest`.
    fn component(self, manifest: &Path) -> Option<PathBuf> {
        // Cargo resolves links in some places and not in others.
        let same = |path: &Path| {
            let both = (path.canonicalize(), manifest.canonicalize());
            path == manifest || matches!(both, (Ok(path), Ok(manifest)) if path == manifest)
        };
        (self.reason == "compiler-artifact" && same(&self.manifest_path))
            .then_some(self.filenames)?
            .into_iter()
            .find(|file| {
                file.extension()
                    .is_some_and(|extension| extension == "wasm")
            })
    }
}

/// Adds the target to the toolchain that builds in `folder`, if it is missing.
async fn add_target(folder: &Path, output: &Output) -> anyhow::Result<()> {
    let found = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", TARGET])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| not_started("rustc", error))?;
    ended_well("rustc --print target-libdir", found.status)?;
    let libraries = String::from_utf8(found.stdout).context("read what rustc says")?;
    if Path::new(libraries.trim()).is_dir() {
        return Ok(());
    }
    output.status("Adding", format_args!("the Rust target {TARGET}"));
    let mut rustup = Command::new("rustup");
    rustup
        .args(["target", "add", TARGET])
        .current_dir(folder)
        .stdout(std::io::stderr());
    let mut group = Group::spawn(&mut rustup).map_err(|error| match error.kind() {
        ErrorKind::NotFound => anyhow::anyhow!(
            "the Rust target {TARGET} is missing, and there is no rustup to add it: \
             add it the way Rust was installed, or install rustup (https://rustup.rs)"
        ),
        _ => not_started("rustup", error),
    })?;
    let status = group.wait().await?;
    ended_well(&format!("rustup target add {TARGET}"), status)
}

fn not_started(program: &str, error: std::io::Error) -> anyhow::Error {
    match error.kind() {
        ErrorKind::NotFound => anyhow::anyhow!(
            "there is no {program}: install Rust (https://rustup.rs), or say with `component` where the component is"
        ),
        _ => anyhow::Error::new(error).context(format!("start {program}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_component_is_the_packages_own_artifact() {
        let manifest = Path::new("/nowhere/app/Cargo.toml");
        let component = |json: &str| {
            serde_json::from_str::<Message>(json)
                .unwrap()
                .component(manifest)
        };
        assert_eq!(
            component(
                r#"{"reason":"compiler-artifact","manifest_path":"/nowhere/app/Cargo.toml","filenames":["/t/app.rlib","/t/app.wasm"]}"#
            ),
            Some("/t/app.wasm".into())
        );
        for other in [
            r#"{"reason":"compiler-artifact","manifest_path":"/nowhere/dependency/Cargo.toml","filenames":["/t/x.wasm"]}"#,
            r#"{"reason":"compiler-artifact","manifest_path":"/nowhere/app/Cargo.toml","filenames":["/t/build-script"]}"#,
            r#"{"reason":"build-finished","success":true}"#,
        ] {
            assert_eq!(component(other), None, "{other}");
        }
    }
}
