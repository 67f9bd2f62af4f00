//! `wharf serve`: a node.

use std::{
    fmt, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Deserializer, de::Error as _};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::output::Output;
use crate::{
    acme::AcmeSettings,
    control::code::{RegistrySettings, S3Settings},
    ingress::{CertificateSource, TlsConfig},
    model::{ByteSize, Network, Vpc, parse_duration},
    node::{Node, NodeConfig},
    telemetry::{
        access::{AccessFormat, AccessLogSettings, Destination},
        subscriber::{self, Format},
    },
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

    /// Where functions answer with TLS, with the certificates of --certificates and those that distributions bring
    #[arg(long, env = "WHARF_HTTPS", value_name = "ADDR")]
    https: Option<SocketAddr>,

    /// A folder of certificates, read again when they change: NAME.crt or NAME.pem (the chain) and NAME.key, NAME.ocsp if there
    /// is an OCSP response, or folders as certbot and Kubernetes make them
    #[arg(long, env = "WHARF_CERTIFICATES", value_name = "DIR")]
    certificates: Option<PathBuf>,

    /// Answer HTTP/3 too, at the port of --https in UDP, and tell the clients of --https so
    #[arg(long, env = "WHARF_HTTP3")]
    http3: bool,

    /// Get certificates for distributions that want automatic ones, and agree to the terms of service of the authority
    #[arg(long, env = "WHARF_ACME_AGREE")]
    acme_agree: bool,

    /// The ACME directory of the authority [default: Let's Encrypt's]
    #[arg(long, env = "WHARF_ACME_DIRECTORY", value_name = "URL", value_parser = directory)]
    acme_directory: Option<Url>,

    /// A mail address that the authority may write to; may be given again
    #[arg(long = "acme-contact", env = "WHARF_ACME_CONTACTS", value_name = "ADDRESS", value_delimiter = ',', value_parser = contact)]
    acme_contacts: Vec<String>,

    /// Authorities that the directory's own certificate may be from, beside the public ones (PEM)
    #[arg(long, env = "WHARF_ACME_CA", value_name = "FILE")]
    acme_ca: Option<PathBuf>,

    /// A proxy or load balancer before the node, or a network of them, that says in X-Forwarded-For and X-Forwarded-Proto for
    /// whom it speaks; may be given again
    #[arg(
        long = "trusted-proxy",
        env = "WHARF_TRUSTED_PROXIES",
        value_name = "NETWORK",
        value_delimiter = ','
    )]
    trusted_proxies: Vec<Network>,

    /// Where the API answers [default: 127.0.0.1:9080]
    #[arg(long, env = "WHARF_API", value_name = "ADDR")]
    api: Option<SocketAddr>,

    /// Serve the API at an address that is not loopback, in clear text
    #[arg(long, env = "WHARF_API_PUBLIC")]
    api_public: bool,

    /// Take functions only with roles that are here and that Lambda may assume; otherwise roles are only recorded
    #[arg(long, env = "WHARF_CHECK_ROLES")]
    check_roles: bool,

    /// The region that AWS clients sign their calls for, and that stands in ARNs [default: us-east-1]
    #[arg(long, env = "WHARF_REGION", value_name = "REGION", value_parser = region)]
    region: Option<String>,

    /// The account that stands in ARNs: twelve digits [default: 000000000000]
    #[arg(long, env = "WHARF_ACCOUNT", value_name = "ID", value_parser = account)]
    account: Option<String>,

    /// A domain under which every function answers as NAME.DOMAIN, beside NAME.localhost
    #[arg(long, env = "WHARF_DOMAIN", value_name = "DOMAIN")]
    domain: Option<String>,

    /// Invocations at one moment [default: 1000]
    #[arg(long, env = "WHARF_CONCURRENCY", value_name = "N")]
    concurrency: Option<u32>,

    /// Instances at one moment, busy and waiting together [default: twice the concurrency]
    #[arg(long, env = "WHARF_SLOTS", value_name = "N", value_parser = slots)]
    slots: Option<u32>,

    /// Compiled code kept in memory, such as `512 MB` [default: 1 GB]
    #[arg(long, env = "WHARF_COMPONENT_CACHE", value_name = "SIZE")]
    component_cache: Option<ByteSize>,

    /// Answers of distributions that are kept in memory, such as `512 MB` [default: 256 MB]
    #[arg(long, env = "WHARF_CACHE_MEMORY", value_name = "SIZE")]
    cache_memory: Option<ByteSize>,

    /// Answers of distributions that are kept on disk, in the data folder; 0 keeps none there. One answer takes at most an
    /// eighth of it [default: 1 GB]
    #[arg(long, env = "WHARF_CACHE_DISK", value_name = "SIZE")]
    cache_disk: Option<ByteSize>,

    /// A database of the countries of addresses (MaxMind's format, such as GeoLite2-Country.mmdb), for hooks and access rules
    #[arg(long, env = "WHARF_COUNTRIES", value_name = "FILE")]
    countries: Option<PathBuf>,

    /// Where packages are fetched from that are given as S3Bucket and S3Key, such as `https://s3.example.com`
    #[arg(long, env = "WHARF_S3_ENDPOINT", value_name = "URL", value_parser = endpoint)]
    s3_endpoint: Option<Url>,

    /// The region that requests to S3 are signed for [default: the node's region]
    #[arg(long, env = "WHARF_S3_REGION", value_name = "REGION", value_parser = region)]
    s3_region: Option<String>,

    /// The access key for S3: a credentials file as AWS clients read it, its profile `default`
    #[arg(long, env = "WHARF_S3_CREDENTIALS", value_name = "FILE")]
    s3_credentials: Option<PathBuf>,

    /// A registry that may be called though it is not public, or in clear text, such as `http://registry.internal:5000`
    #[arg(long = "registry", env = "WHARF_REGISTRIES", value_name = "URL", value_delimiter = ',', value_parser = endpoint)]
    registries: Vec<Url>,

    /// Users and passwords for registries, as `docker login` writes them: its `config.json`
    #[arg(long, env = "WHARF_REGISTRY_CREDENTIALS", value_name = "FILE")]
    registry_credentials: Option<PathBuf>,

    /// A file that gets a line for each request; `-` is standard output
    #[arg(long, env = "WHARF_ACCESS_LOG", value_name = "FILE")]
    access_log: Option<PathBuf>,

    /// What such a line is like: `json`, `common` or `combined` [default: json]
    #[arg(long, env = "WHARF_ACCESS_LOG_FORMAT", value_name = "FORMAT")]
    access_log_format: Option<AccessFormat>,

    /// How long requests in flight may go on at the end, such as `30 s` [default: 30 s]
    #[arg(long, env = "WHARF_GRACE", value_name = "TIME", value_parser = parse_duration)]
    grace: Option<Duration>,

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
    http3: Option<bool>,
    acme_agree: Option<bool>,
    #[serde(default, deserialize_with = "directory_in_file")]
    acme_directory: Option<Url>,
    #[serde(default, deserialize_with = "contacts_in_file")]
    acme_contacts: Vec<String>,
    acme_ca: Option<PathBuf>,
    #[serde(default)]
    trusted_proxies: Vec<Network>,
    api: Option<SocketAddr>,
    api_public: Option<bool>,
    #[serde(default, deserialize_with = "region_in_file")]
    region: Option<String>,
    #[serde(default, deserialize_with = "account_in_file")]
    account: Option<String>,
    check_roles: Option<bool>,
    domain: Option<String>,
    concurrency: Option<u32>,
    #[serde(default, deserialize_with = "slots_in_file")]
    slots: Option<u32>,
    #[serde(default, deserialize_with = "parsed")]
    component_cache: Option<ByteSize>,
    #[serde(default, deserialize_with = "parsed")]
    cache_memory: Option<ByteSize>,
    #[serde(default, deserialize_with = "parsed")]
    cache_disk: Option<ByteSize>,
    countries: Option<PathBuf>,
    #[serde(default, deserialize_with = "endpoint_in_file")]
    s3_endpoint: Option<Url>,
    #[serde(default, deserialize_with = "region_in_file")]
    s3_region: Option<String>,
    s3_credentials: Option<PathBuf>,
    #[serde(default, deserialize_with = "endpoints_in_file")]
    registries: Vec<Url>,
    registry_credentials: Option<PathBuf>,
    access_log: Option<PathBuf>,
    #[serde(default, deserialize_with = "parsed")]
    access_log_format: Option<AccessFormat>,
    #[serde(default, deserialize_with = "duration")]
    grace: Option<Duration>,
    vpc: Option<Vpc>,
    log: Option<String>,
    #[serde(default, deserialize_with = "parsed")]
    log_format: Option<Format>,
}

// What is wrong with a value is found where it is read, so that the message has the file, the line and the key.

fn parsed<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: fmt::Display>,
{
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(D::Error::custom)
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration(&text).map(Some).map_err(D::Error::custom)
}

fn endpoint_in_file<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Url>, D::Error> {
    let text = String::deserialize(deserializer)?;
    endpoint(&text).map(Some).map_err(D::Error::custom)
}

fn endpoints_in_file<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Url>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let endpoints = texts.iter().map(|text| endpoint(text));
    endpoints
        .collect::<Result<_, _>>()
        .map_err(D::Error::custom)
}

/// The address of a service, without a path: whoever names one has more in mind than is done with it.
fn endpoint(text: &str) -> Result<Url, String> {
    let url: Url = text
        .parse()
        .map_err(|error| format!("`{text}` is not an address: {error}"))?;
    let plain = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    match plain {
        true => Ok(url),
        false => Err(format!(
            "`{text}` is not https://HOST or http://HOST, with a port or without"
        )),
    }
}

fn directory_in_file<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Url>, D::Error> {
    let text = String::deserialize(deserializer)?;
    directory(&text).map(Some).map_err(D::Error::custom)
}

/// The address of an ACME directory. What is said there is believed, so it is not asked in clear text.
fn directory(text: &str) -> Result<Url, String> {
    let url: Option<Url> = text.parse().ok();
    url.filter(|url| url.scheme() == "https" && url.has_host())
        .ok_or_else(|| format!("`{text}` is not https://HOST/PATH"))
}

fn contacts_in_file<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let contacts = texts.iter().map(|text| contact(text));
    contacts.collect::<Result<_, _>>().map_err(D::Error::custom)
}

fn contact(text: &str) -> Result<String, String> {
    let is_sound = |part: &str| {
        let mut characters = part.chars();
        !part.is_empty() && characters.all(|it| it.is_ascii_graphic() && !"@,?&:".contains(it))
    };
    match text.split_once('@') {
        Some((user, host)) if is_sound(user) && is_sound(host) => Ok(text.to_owned()),
        _ => Err(format!(
            "`{text}` is not a mail address, such as ops@example.com"
        )),
    }
}

fn slots_in_file<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let slots = u32::deserialize(deserializer)?;
    check_slots(slots).map(Some).map_err(D::Error::custom)
}

fn slots(text: &str) -> Result<u32, String> {
    check_slots(
        text.parse()
            .map_err(|_| format!("`{text}` is not a number"))?,
    )
}

/// As many as the engine can reserve address space for.
fn check_slots(slots: u32) -> Result<u32, String> {
    if (2..=5_000).contains(&slots) {
        Ok(slots)
    } else {
        Err(format!("slots are from 2 to 5,000, not {slots}"))
    }
}

fn region_in_file<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(deserializer)?;
    region(&text).map(Some).map_err(D::Error::custom)
}

/// What may stand in an ARN, and in a signature.
fn region(text: &str) -> Result<String, String> {
    let valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if (1..=32).contains(&text.len()) && text.bytes().all(valid) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "a region is up to 32 lower-case letters, digits and `-`, such as us-east-1, not `{text}`"
        ))
    }
}

fn account_in_file<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(deserializer)?;
    account(&text).map(Some).map_err(D::Error::custom)
}

fn account(text: &str) -> Result<String, String> {
    if text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit()) {
        Ok(text.to_owned())
    } else {
        Err(format!("an account is twelve digits, not `{text}`"))
    }
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
        let http3 = self.http3 || file.http3 == Some(true);
        let https = match self.https.or(file.https) {
            Some(address) => {
                let files = certificates.map(CertificateSource::Folder);
                let tls = TlsConfig::new(files);
                Some((address, TlsConfig { http3, ..tls }))
            }
            None if http3 => {
                bail!(
                    "--http3 is for --https: there is no HTTP/3 in clear text, name an address for TLS"
                )
            }
            None if certificates.is_some() => {
                bail!("--certificates are for --https: name its address")
            }
            None => None,
        };
        let agreed = self.acme_agree || file.acme_agree == Some(true);
        let contacts = match self.acme_contacts.is_empty() {
            true => file.acme_contacts,
            false => self.acme_contacts,
        };
        let (directory, ca) = (
            self.acme_directory.or(file.acme_directory),
            self.acme_ca.or(file.acme_ca),
        );
        let acme = match agreed {
            true if https.is_none() => {
                bail!("--acme-agree is for certificates of --https: name its address")
            }
            true => {
                let default = AcmeSettings::new();
                Some(AcmeSettings {
                    directory: directory.unwrap_or(default.directory),
                    contacts,
                    ca,
                    ..default
                })
            }
            false if directory.is_some() || ca.is_some() || !contacts.is_empty() => bail!(
                "--acme-directory, --acme-contact and --acme-ca want --acme-agree: say that you agree to the terms of service \
                 of the authority"
            ),
            false => None,
        };
        let api = self.api.or(file.api).unwrap_or(default.api);
        ensure!(
            api.ip().is_loopback() || self.api_public || file.api_public == Some(true),
            "the API at {api} would send its token in clear text where others can read it; use a loopback address, or say \
             --api-public if the network is yours alone"
        );
        let component_cache = self.component_cache.or(file.component_cache);
        let concurrency = self
            .concurrency
            .or(file.concurrency)
            .unwrap_or(default.concurrency);
        let slots = self
            .slots
            .or(file.slots)
            .unwrap_or(concurrency.saturating_mul(2));
        let slots = check_slots(slots)
            .map_err(anyhow::Error::msg)
            .context("twice the concurrency is no number of slots; give one")?;
        let region = self.region.or(file.region).unwrap_or(default.region);
        let s3_credentials = self.s3_credentials.or(file.s3_credentials);
        let s3_region = self.s3_region.or(file.s3_region);
        let s3 = match self.s3_endpoint.or(file.s3_endpoint) {
            Some(endpoint) => Some(S3Settings {
                endpoint,
                region: s3_region.unwrap_or_else(|| region.clone()),
                credentials: s3_credentials,
            }),
            None if s3_credentials.is_some() || s3_region.is_some() => {
                bail!("--s3-credentials and --s3-region are for --s3-endpoint: name its address")
            }
            None => None,
        };
        let registries = RegistrySettings {
            named: match self.registries.is_empty() {
                true => file.registries,
                false => self.registries,
            },
            credentials: self.registry_credentials.or(file.registry_credentials),
        };
        let mut cache = default.cache;
        if let Some(memory) = self.cache_memory.or(file.cache_memory) {
            cache.memory = memory;
        }
        if let Some(capacity) = self.cache_disk.or(file.cache_disk) {
            cache.disk = cache.disk.filter(|_| capacity.as_u64() > 0);
            if let Some(disk) = &mut cache.disk {
                disk.capacity = capacity;
            }
        }
        let format = self.access_log_format.or(file.access_log_format);
        let access_log = match self.access_log.or(file.access_log) {
            Some(path) => Some(AccessLogSettings {
                destination: match path.as_os_str() == "-" {
                    true => Destination::Output,
                    false => Destination::File(path),
                },
                format: format.unwrap_or_default(),
            }),
            None if format.is_some() => {
                bail!("--access-log-format is for --access-log: name its file")
            }
            None => None,
        };
        let log = self.log.or(file.log).unwrap_or_else(|| "info".to_owned());
        let log_format = self.log_format.or(file.log_format).unwrap_or_default();
        let config = NodeConfig {
            http: self.http.or(file.http).unwrap_or(default.http),
            https,
            trusted_proxies: match self.trusted_proxies.is_empty() {
                true => file.trusted_proxies,
                false => self.trusted_proxies,
            },
            api,
            region,
            account: self.account.or(file.account).unwrap_or(default.account),
            check_roles: self.check_roles || file.check_roles == Some(true),
            domain: self.domain.or(file.domain),
            vpc: file.vpc.unwrap_or_default(),
            cache,
            countries: self.countries.or(file.countries),
            concurrency,
            engine: crate::runtime::EngineSettings {
                slots,
                ..default.engine
            },
            access_log,
            component_cache: component_cache.map_or(default.component_cache, ByteSize::as_u64),
            grace: self.grace.or(file.grace).unwrap_or(default.grace),
            s3,
            registries,
            acme,
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
    let shutdown = shutdown()?;
    let node = Box::pin(Node::bind(config)).await?;
    announce(&node, output);
    node.run(shutdown).await;
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

/// Tells where the node answers, and what AWS clients need to call it.
pub(crate) fn announce(node: &Node, output: &Output) {
    output.status("Serving", format_args!("http://{}", node.http_addr()));
    if let Some(https) = node.https_addr() {
        output.status("Serving", format_args!("https://{https}"));
    }
    let api = node.api_addr();
    output.status("API", format_args!("http://{api}"));
    // For whoever runs a client elsewhere, or in another folder.
    let file = node.credentials_file();
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    output.status(
        "AWS",
        format_args!(
            "AWS_ENDPOINT_URL=http://{api} AWS_SHARED_CREDENTIALS_FILE={}",
            file.display()
        ),
    );
}

/// Cancelled by the first interrupt, from now on. The second ends the process: whoever sends it does not want to wait.
pub(crate) fn shutdown() -> anyhow::Result<CancellationToken> {
    let token = CancellationToken::new();
    let cancel = token.clone();
    // Before anybody is told that there is a node to interrupt.
    let first = Interrupt::listen().context("listen for interrupts")?;
    tokio::spawn(async move {
        first.came().await;
        cancel.cancel();
        // A terminal that repeats the key, or a supervisor that signals the group and the process, means it once.
        tokio::time::sleep(Duration::from_millis(100)).await;
        if let Ok(second) = Interrupt::listen() {
            second.came().await;
            force_exit();
        }
    });
    Ok(token)
}

#[expect(
    clippy::exit,
    reason = "the second signal: there is nothing left to do"
)]
fn force_exit() -> ! {
    std::process::exit(1)
}

/// The signals that ask a process to end.
struct Interrupt {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupt {
    /// Those that come from now on.
    fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn came(mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
