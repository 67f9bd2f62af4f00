//! `wharf backup`: the state of a running node, in a file.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use futures::{Stream, TryStreamExt as _};
use serde::Serialize;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::{output::Output, remote::RemoteArgs};
use crate::{
    control::client::ClientError,
    store::archive::{self, Manifest},
};

/// Write the state of a running node to a file
///
/// In it are functions and their code, routes, what functions keep, and events that wait: all as they were at one moment.
/// The node goes on meanwhile. Logs are not in it, and compiled code is made again.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wharf backup node.tar                      the values of environment variables in it are encrypted
  wharf backup node.tar --with-key           and can be read by whoever has the file
  wharf backup - | zstd | ssh vault 'cat > node.tar.zst'
  wharf restore node.tar --data /var/lib/wharf")]
pub(crate) struct BackupArgs {
    /// Where to write it; `-` is standard output
    file: PathBuf,

    /// Put the node's key in it too; without it, keep a copy of DATA/node-key elsewhere
    #[arg(long)]
    with_key: bool,

    /// Put the API's token and access keys in it too
    #[arg(long)]
    with_credentials: bool,

    /// Replace the file if it is there
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Serialize)]
struct Written {
    file: PathBuf,
    bytes: u64,
    created_ms: u64,
    functions: u64,
    files: usize,
    with_key: bool,
    /// Which key its secrets are sealed with.
    key: Option<String>,
}

impl fmt::Display for Written {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (file, functions) = (self.file.display(), self.functions);
        let size = self.bytes.div_ceil(1024);
        write!(formatter, "{file}: {functions} functions, {size} KB")
    }
}

pub(crate) async fn run(args: BackupArgs, output: &Output) -> anyhow::Result<()> {
    let stdout = args.file == Path::new("-");
    ensure!(
        stdout || args.force || !args.file.exists(),
        "{} is there already; give another name, or --force",
        args.file.display()
    );
    let client = args.remote.client()?;
    output.status("Copying", "the database of the node");
    let (size, bytes) = client.backup(args.with_key, args.with_credentials).await?;
    if stdout {
        receive(size, bytes, &mut tokio::io::stdout(), output).await?;
        output.status("Written", format_args!("{} KB", size.div_ceil(1024)));
        return Ok(());
    }
    let Some(name) = args.file.file_name() else {
        bail!("{} is no file", args.file.display());
    };
    let folder = match args.file.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    // With mode 600, as there may be secrets in it, and gone if this fails.
    let part = tempfile::Builder::new()
        .prefix(name)
        .suffix(".part")
        .tempfile_in(folder)
        .with_context(|| format!("write to {}", folder.display()))?;
    let mut file = tokio::fs::File::from_std(part.reopen().context("open the file")?);
    receive(size, bytes, &mut file, output).await?;
    file.sync_all().await.context("write to disk")?;
    output.status("Verifying", "what was written");
    let checked = tokio::task::spawn_blocking(move || {
        let manifest = archive::verify(io::BufReader::new(part.reopen()?));
        anyhow::Ok((part, manifest.context("the backup is not good")?))
    });
    let (part, manifest) = checked.await.context("verify the backup")??;
    part.persist(&args.file)
        .with_context(|| format!("write {}", args.file.display()))?;
    if !manifest.has_key() {
        output.status(
            "Note",
            "the node's key is not in it; without a copy of DATA/node-key its secrets cannot be read",
        );
    }
    output.result(&written(args.file, size, &manifest))
}

fn written(file: PathBuf, bytes: u64, manifest: &Manifest) -> Written {
    Written {
        file,
        bytes,
        created_ms: manifest.created_ms,
        functions: manifest.functions,
        files: manifest.files.len(),
        with_key: manifest.has_key(),
        key: manifest.key.clone(),
    }
}

/// Writes what comes, to its end.
async fn receive(
    size: u64,
    bytes: impl Stream<Item = Result<bytes::Bytes, ClientError>>,
    to: &mut (impl AsyncWrite + Unpin),
    output: &Output,
) -> anyhow::Result<()> {
    let progress = output.progress(size);
    let mut bytes = std::pin::pin!(bytes);
    while let Some(chunk) = bytes.try_next().await? {
        to.write_all(&chunk).await.context("write the backup")?;
        progress.inc(chunk.len() as u64);
    }
    to.flush().await.context("write the backup")?;
    progress.finish_and_clear();
    Ok(())
}
