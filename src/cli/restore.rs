//! `wharf restore`: a backup, as the data folder of a node that is started then.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde::Serialize;

use super::output::Output;
use crate::store::{
    KEY_FILE,
    archive::{self, Key, Restored},
};

/// Restore a backup into an empty data folder
///
/// No node may run on the folder. A backup that is cut off or was changed is refused, and the folder is left as it was.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wharf restore node.tar --data /var/lib/wharf --key /safe/node-key
  zstd -dc node.tar.zst | wharf restore - --data /var/lib/wharf")]
pub(crate) struct RestoreArgs {
    /// The backup; `-` is standard input
    file: PathBuf,

    /// The data folder: empty, or not there yet
    #[arg(long, env = "WHARF_DATA", value_name = "DIR")]
    data: PathBuf,

    /// The node's key, if it is not in the backup
    #[arg(long, value_name = "FILE", conflicts_with = "forget_secrets")]
    key: Option<PathBuf>,

    /// Where the node's key is lost: restore everything but what it had encrypted, the values of environment variables and
    /// of `config`
    #[arg(long)]
    forget_secrets: bool,
}

#[derive(Serialize)]
struct Done {
    data: PathBuf,
    created_ms: u64,
    functions: u64,
    files: usize,
    bytes: u64,
    has_key: bool,
}

impl fmt::Display for Done {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (data, functions) = (self.data.display(), self.functions);
        let size = self.bytes.div_ceil(1024);
        write!(formatter, "{data}: {functions} functions, {size} KB")
    }
}

pub(crate) async fn run(args: RestoreArgs, output: &Output) -> anyhow::Result<()> {
    let key = match args.key {
        Some(file) => Key::File(file),
        None if args.forget_secrets => Key::Forgotten,
        None => Key::Archived,
    };
    let forgotten = key == Key::Forgotten;
    let progress = match std::fs::metadata(&args.file) {
        Ok(metadata) if metadata.is_file() => output.progress(metadata.len()),
        _ => indicatif::ProgressBar::hidden(),
    };
    output.status("Restoring", args.file.display());
    let (file, data) = (args.file.clone(), args.data.clone());
    let restoring = tokio::task::spawn_blocking(move || {
        let archive: Box<dyn Read> = if file == Path::new("-") {
            Box::new(io::stdin())
        } else {
            Box::new(File::open(&file).with_context(|| format!("open {}", file.display()))?)
        };
        let archive = io::BufReader::new(progress.wrap_read(archive));
        let restored = archive::restore(archive, &data, &key);
        progress.finish_and_clear();
        restored.with_context(|| format!("restore {}", file.display()))
    });
    let Restored { manifest, has_key } = restoring.await.context("restore the backup")??;
    if forgotten {
        output.status(
            "Forgot",
            "the values of environment variables: deploy again",
        );
    } else if !has_key {
        let file = args.data.join(KEY_FILE);
        output.status(
            "Note",
            format_args!(
                "the node does not start before its key is at {}",
                file.display()
            ),
        );
    }
    output.result(&Done {
        created_ms: manifest.created_ms,
        functions: manifest.functions,
        files: manifest.files.len(),
        bytes: manifest.size(),
        data: args.data,
        has_key,
    })
}
