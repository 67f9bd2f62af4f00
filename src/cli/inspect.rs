//! `wharf inspect`: what is in a component?

use std::{fmt, path::PathBuf};

use anyhow::{Context as _, anyhow};
use serde::Serialize;

use super::output::Output;
use crate::{
    model::Kind,
    runtime::{Inspection, inspect},
};

/// Look into a component: what it exports and imports, how it would be called, whether it can be run
///
/// The exit code is 1 if it cannot be run here; what is missing is said.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wharf inspect hello.wasm
  wharf inspect hello.wasm --output json")]
pub(crate) struct InspectArgs {
    /// The component
    file: PathBuf,
}

#[derive(Serialize)]
#[serde(transparent)]
struct Shown<'a>(&'a Inspection);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inspection {
            digest,
            size,
            compiled_size,
            kind,
            problem,
            exports,
            imports,
            memories,
            initial_memory,
        } = self.0;
        writeln!(formatter, "digest    sha256:{digest}")?;
        writeln!(
            formatter,
            "size      {} KB, {} KB compiled",
            size.div_ceil(1024),
            compiled_size.div_ceil(1024)
        )?;
        match (kind, problem) {
            (Some(Kind::Hook(points)), _) => writeln!(formatter, "called    at {points}")?,
            (Some(kind), _) => writeln!(formatter, "called    as {kind}")?,
            (None, Some(problem)) => writeln!(formatter, "called    not at all: {problem}")?,
            (None, None) => writeln!(formatter, "called    not at all")?,
        }
        match (memories, initial_memory) {
            (Some(memories), Some(bytes)) => {
                writeln!(
                    formatter,
                    "memories  {memories}, the largest {} KB at the start",
                    bytes >> 10
                )?;
            }
            (Some(memories), None) => writeln!(formatter, "memories  {memories}")?,
            (None, _) => writeln!(formatter, "memories  not known before it runs")?,
        }
        for export in exports {
            writeln!(formatter, "exports   {export}")?;
        }
        for (position, import) in imports.iter().enumerate() {
            write!(formatter, "imports   {import}")?;
            if position + 1 < imports.len() {
                writeln!(formatter)?;
            }
        }
        Ok(())
    }
}

pub(crate) async fn run(args: InspectArgs, output: &Output) -> anyhow::Result<()> {
    let path = args.file.display();
    let bytes = tokio::fs::read(&args.file)
        .await
        .with_context(|| format!("read {path}"))?;
    let inspected = tokio::task::spawn_blocking(move || inspect(&bytes))
        .await
        .context("inspect")?;
    let inspection = inspected.map_err(|problem| anyhow!("{path}: {problem}"))?;
    output.result(&Shown(&inspection))?;
    match inspection.problem {
        None => Ok(()),
        Some(problem) => Err(anyhow!("{path}: {problem}")),
    }
}
