//! `wharf purge`: what the cache of a distribution gives up.

use std::fmt;

use serde::Serialize;

use super::{output::Output, remote::RemoteArgs};
use crate::control::api::{PurgeRequest, Purged};

/// Have the cache give up answers of a distribution
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wharf purge site --url /index.html                what is stored for it, on every host, whatever the variant
  wharf purge site --prefix https://example.com/a/  what is stored for URLs that begin so
  wharf purge site --tag news --soft                what its origin tagged, which may be served while it is fetched again
  wharf purge site --all                            everything")]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true).args(["urls", "prefixes", "tags", "all"]))]
pub(crate) struct PurgeArgs {
    /// The distribution
    #[arg(value_name = "NAME")]
    distribution: String,

    /// What is stored for this URL, or was fetched for it where a hook made another URL of it; one that begins with `/` is meant
    /// on every host
    #[arg(long = "url", value_name = "URL")]
    urls: Vec<String>,

    /// What is stored for URLs that begin so
    #[arg(long = "prefix", value_name = "URL")]
    prefixes: Vec<String>,

    /// What its origin gave this tag (`Cache-Tag`, `Surrogate-Key`)
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,

    /// Everything
    #[arg(long, conflicts_with_all = ["urls", "prefixes", "tags"])]
    all: bool,

    /// Only mark it stale, so that it may be served while it is fetched again, or when the origin fails
    #[arg(long)]
    soft: bool,

    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Serialize)]
#[serde(transparent)]
struct Done(Purged);

impl fmt::Display for Done {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0.objects)
    }
}

pub(crate) async fn run(args: PurgeArgs, output: &Output) -> anyhow::Result<()> {
    let client = args.remote.client()?;
    let request = PurgeRequest {
        urls: args.urls,
        prefixes: args.prefixes,
        tags: args.tags,
        all: args.all,
        soft: args.soft,
    };
    let purged = client.purge(&args.distribution, &request).await?;
    output.status(
        "Purged",
        format_args!("stored answers of {}", args.distribution),
    );
    output.result(&Done(purged))
}
