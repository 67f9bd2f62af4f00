//! `wharf serve`: a node.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::output::Output;
use crate::{
    ingress::{CertificateSource, TlsConfig},
    model::{ByteSize, parse_duration},
    node::{Node, NodeConfig},
    telemetry::subscriber::{self, Format},
};

/// Run a node
///
/// It serves what was deployed to its data folder, and takes deployments at its API. A flag goes before an environment
/// variable, that before the configuration file. The first interrupt (Ctrl-C, SIGTERM) ends it in peace: requests in flight
/// are answered. The second ends it at once.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wharf serve                                       serve ./.wharf at 127.0.0.1:8080, its API at 127.0.0.1:9080
  wharf serve --data /var/lib/wharf --http 0.0.0.0:80
  wharf serve --https 0.0.0.0:443 --certificates /etc/wharf/certificates
  wharf serve --config /etc/wharf/node.toml         the same settings, in a file")]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
}

/// How a node is set up, as flags and environment variables.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct NodeArgs {
    /// The folder of everything that outlives the process [default: .wharf]
    #[arg(long, env = "WHARF_DATA", value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,

    /// Where functions answer [default: 127.0.0.1:8080]
    #[arg(long, env = "WHARF_HTTP", value_name = "ADDR")]
    http: Option<SocketAddr>,

    /// Where functions answer with TLS; wants --certificates
    #[arg(long, env = "WHARF_HTTPS", value_name = "ADDR")]
    https: Option<SocketAddr>,

    /// A folder of certificates: NAME.crt (the chain) and NAME.key, read again when they change
    #[arg(long, env = "WHARF_CERTIFICATES", value_name = "DIR")]
    certificates: Option<PathBuf>,

    /// Where the API answers [default: 127.0.0.1:9080]
    #[arg(long, env = "WHARF_API", value_name = "ADDR")]
    api: Option<SocketAddr>,

    /// Serve the API at an address that is not loopback, in clear text
    #[arg(long, env = "WHARF_API_PUBLIC")]
    api_public: bool,

    /// A domain under which every function answers as NAME.DOMAIN, beside NAME.localhost
    #[arg(long, env = "WHARF_DOMAIN", value_name = "DOMAIN")]
    domain: Option<String>,

    /// Invocations at one moment [default: 1000]
    #[arg(long, env = "WHARF_CONCURRENCY", value_name = "N")]
    concurrency: Option<u32>,

    /// Instances at one moment, busy and waiting together [default: twice the concurrency]
    #[arg(long, env = "WHARF_SLOTS", value_name = "N")]
    slots: Option<u32>,

    /// Compiled code kept in memory, such as `512 MB` [default: 1 GB]
    #[arg(long, env = "WHARF_COMPONENT_CACHE", value_name = "SIZE")]
    component_cache: Option<ByteSize>,

    /// How long requests in flight may go on at the end, such as `30 s` [default: 30 s]
    #[arg(long, env = "WHARF_GRACE", value_name = "TIME")]
    grace: Option<String>,

    /// A configuration file (TOML) with these settings, `-` in names written `_`
    #[arg(long, env = "WHARF_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    /// What the node says on standard error, such as `info` or `wharf=debug` [default: info]
    #[arg(long, env = "WHARF_LOG", value_name = "FILTER")]
    log: Option<String>,

    /// How it says it: `text` or `json` [default: text]
    #[arg(long, env = "WHARF_LOG_FORMAT", value_name = "FORMAT")]
    log_format: Option<Format>,
}

/// The same settings in a file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeFile {
    data: Option<PathBuf>,
    http: Option<SocketAddr>,
    https: Option<SocketAddr>,
    certificates: Option<PathBuf>,
    api: Option<SocketAddr>,
    api_public: Option<bool>,
    domain: Option<String>,
    concurrency: Option<u32>,
    slots: Option<u32>,
    component_cache: Option<String>,
    grace: Option<String>,
    log: Option<String>,
    log_format: Option<String>,
}

/// Where a node's data is when nobody says so.
pub(crate) const DATA: &str = ".wharf";

impl NodeArgs {
    /// The settings, each from the first place that has it, checked; and what the node says, and how.
    pub(crate) fn resolve(self) -> anyhow::Result<(NodeConfig, String, Format)> {
        let file = match &self.config {
            Some(path) => read(path)?,
            None => NodeFile::default(),
        };
        let data = self.data.or(file.data).unwrap_or_else(|| DATA.into());
        let program = std::env::current_exe().context("find this program")?;
        let default = NodeConfig::new(data, program);
        let certificates = self.certificates.or(file.certificates);
        let https = match (self.https.or(file.https), certificates) {
            (Some(address), Some(folder)) => {
                Some((address, TlsConfig::new(CertificateSource::Folder(folder))))
            }
            (Some(_), None) => {
                bail!("--https wants certificates: name their folder with --certificates")
            }
            (None, Some(_)) => bail!("--certificates are for --https: name its address"),
            (None, None) => None,
        };
        let api = self.api.or(file.api).unwrap_or(default.api);
        ensure!(
            api.ip().is_loopback() || self.api_public || file.api_public == Some(true),
            "the API at {api} would send its token in clear text where others can read it; use a loopback address, or say \
             --api-public if the network is yours alone"
        );
        let component_cache = match (self.component_cache, file.component_cache) {
            (Some(size), _) => size,
            (None, Some(text)) => text.parse().context("component_cache")?,
            (None, None) => ByteSize::bytes(default.component_cache),
        };
        let grace = match self.grace.or(file.grace) {
            Some(text) => parse_duration(&text).context("grace")?,
            None => default.grace,
        };
        let concurrency = self
            .concurrency
            .or(file.concurrency)
            .unwrap_or(default.concurrency);
        let slots = self
            .slots
            .or(file.slots)
            .unwrap_or(concurrency.saturating_mul(2));
        ensure!(
            (2..=20_000).contains(&slots),
            "slots: {slots} is not from 2 to 20,000"
        );
        let log = self.log.or(file.log).unwrap_or_else(|| "info".to_owned());
        let log_format = match (self.log_format, file.log_format) {
            (Some(format), _) => format,
            (None, Some(text)) => text.parse().context("log_format")?,
            (None, None) => Format::default(),
        };
        let config = NodeConfig {
            http: self.http.or(file.http).unwrap_or(default.http),
            https,
            api,
            domain: self.domain.or(file.domain),
            concurrency,
            engine: crate::runtime::EngineSettings {
                slots,
                ..default.engine
            },
            component_cache: component_cache.as_u64(),
            grace,
            ..default
        };
        Ok((config, log, log_format))
    }
}

fn read(path: &Path) -> anyhow::Result<NodeFile> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("{} is not a configuration", path.display()))
}

pub(crate) async fn run(args: ServeArgs, output: &Output) -> anyhow::Result<()> {
    let (config, log, log_format) = args.node.resolve()?;
    subscriber::init(log_format, &log)?;
    raise_file_limit();
    let node = Box::pin(Node::bind(config)).await?;
    announce(&node, output);
    node.run(shutdown()).await;
    output.status("Stopped", "every request was answered or its time was up");
    Ok(())
}

/// Lets the process have as many files open as the system allows it: connections, and what functions open.
pub(crate) fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

/// Tells where the node answers.
pub(crate) fn announce(node: &Node, output: &Output) {
    output.status("Serving", format_args!("http://{}", node.http_addr()));
    if let Some(https) = node.https_addr() {
        output.status("Serving", format_args!("https://{https}"));
    }
    output.status("API", format_args!("http://{}", node.api_addr()));
}

/// Cancelled by the first interrupt. The second ends the process: whoever sends it does not want to wait.
pub(crate) fn shutdown() -> CancellationToken {
    let token = CancellationToken::new();
    let cancel = token.clone();
    tokio::spawn(async move {
        interrupt().await;
        cancel.cancel();
        interrupt().await;
        force_exit();
    });
    token
}

#[expect(
    clippy::exit,
    reason = "the second signal: there is nothing left to do"
)]
fn force_exit() -> ! {
    std::process::exit(1)
}

async fn interrupt() {
    use tokio::signal::unix::{SignalKind, signal};
    // Where signals cannot be had, the process ends at them as it would by default.
    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    // A terminal that repeats the key, or a supervisor that signals the group and the process, means it once.
    tokio::time::sleep(Duration::from_millis(100)).await;
}
