//! TLS: certificates by server name, replaced while the node runs.
//!
//! A handshake reads an immutable snapshot of the certificates: those that are published, which are for the hosts of
//! distributions, and those of files. A task looks at the files every few seconds and makes another snapshot when they
//! change. A pair that cannot be read keeps the certificate it had, with a line in the log: a bad file on disk takes nothing
//! down. At the start it is an error. An OCSP response beside a pair is stapled while it is of use, and else left out, with a
//! line in the log.
//!
//! There is no early data (0-RTT): it can be replayed, and a function cannot know. Sessions are resumed by tickets, whose keys
//! live in memory and rotate, so a restart means full handshakes.

use std::{
    collections::HashMap,
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use quinn::crypto::rustls::QuicServerConfig;
use rustls::{
    AlertDescription,
    crypto::ring,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

use crate::{
    model::{CertificateFiles, HostPattern},
    tls::{ALPN, Challenges, Pair, PairError, provider},
};

/// TLS for a listener.
#[derive(Debug, Clone)]
pub struct TlsConfig {
    /// Where certificates are; none where all of them are [published](Certificates::publish).
    pub files: Option<CertificateSource>,
    /// How often the files are looked at for changes; 5 s by default.
    pub poll: Duration,
    /// Answers to who validates a host (RFC 8737).
    pub challenges: Arc<Challenges>,
    /// Whether there is HTTP/3 too, at the same port of UDP; no by default.
    pub http3: bool,
}

impl TlsConfig {
    /// TLS with the certificates of `files`, looked at every 5 s.
    pub fn new(files: impl Into<Option<CertificateSource>>) -> Self {
        Self {
            files: files.into(),
            poll: Duration::from_secs(5),
            challenges: Arc::default(),
            http3: false,
        }
    }
}

/// Where the certificates of a listener are.
///
/// A certificate serves the DNS names that stand in it, `*.` names included. A client that asks for another name, or for none,
/// gets the default: the pair named `default` in a folder, else the first.
#[derive(Debug, Clone)]
pub enum CertificateSource {
    /// A folder, read in the order of its names: `NAME.crt` or `NAME.pem` with `NAME.key`, and sub-folders with
    /// `fullchain.pem` and `privkey.pem` (certbot) or `tls.crt` and `tls.key` (Kubernetes). An OCSP response in DER stands
    /// beside the chain, by its name with `.ocsp`.
    Folder(PathBuf),
    /// These pairs.
    Files(Vec<CertificateFiles>),
}

/// A certificate for some hosts alone.
#[derive(Debug, Clone)]
pub struct HostCertificate {
    /// The hosts. Of the certificate's names those that are among them are served.
    pub hosts: Vec<HostPattern>,
    /// The certificate.
    pub pair: Arc<Pair>,
}

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The folder cannot be read.
    #[error("read the certificates' folder {}", .0.display())]
    Folder(PathBuf, #[source] io::Error),
    /// There is no certificate.
    #[error("no pair of a certificate and a key is there")]
    Empty,
    /// A file cannot be read.
    #[error("read {}", .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// A file is to blame for a pair that is none.
    #[error("use {}", .0.display())]
    Unusable(PathBuf, #[source] PairError),
    /// The node cannot make keys for tickets, or has no protocol version.
    #[error("set TLS up")]
    Setup(#[source] rustls::Error),
}

/// The certificates of a listener, as they are now.
#[derive(Debug)]
pub struct Certificates {
    source: Option<CertificateSource>,
    /// What the snapshot is made of. Held while it is made, and not by handshakes.
    parts: Mutex<Parts>,
    snapshot: ArcSwap<Snapshot>,
}

#[derive(Debug, Clone, Default)]
struct Parts {
    files: Vec<FilePair>,
    seen: Fingerprint,
    /// Whether all that was seen is in use. What is not may be of use the next time, though nothing of its file changes: who may
    /// read it, what time it is.
    whole: bool,
    published: Vec<HostCertificate>,
}

#[derive(Debug)]
struct Snapshot {
    names: HashMap<Box<str>, Arc<CertifiedKey>>,
    default: Option<Arc<CertifiedKey>>,
}

#[derive(Debug, Clone)]
struct FilePair {
    files: CertificateFiles,
    pair: Pair,
    /// Why the OCSP response that is there is not stapled.
    unstapled: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

/// What the files looked like: who they are, when they were written, how long they are.
type Fingerprint = Vec<(PathBuf, Option<(SystemTime, u64)>)>;

impl Certificates {
    /// Reads the certificates; every problem with them is an error now.
    pub(super) fn load(source: Option<CertificateSource>) -> Result<Arc<Self>, TlsError> {
        let mut parts = Parts::default();
        if let Some(source) = &source {
            let files = source.files()?;
            parts.seen = fingerprint(&files);
            parts.files = files
                .into_iter()
                .map(FilePair::load)
                .collect::<Result<_, _>>()?;
            parts.whole = parts.files.iter().all(FilePair::is_whole);
            parts.files.iter().for_each(FilePair::warn);
            if parts.files.is_empty() {
                return Err(TlsError::Empty);
            }
        }
        Ok(Arc::new(Self {
            source,
            snapshot: ArcSwap::from_pointee(parts.snapshot()),
            parts: Mutex::new(parts),
        }))
    }

    /// Makes these the certificates beside those of files. Where two are for a name, the first serves it, and before any of
    /// a file. Connections that are open keep what they have.
    pub fn publish(&self, certificates: Vec<HostCertificate>) {
        self.change(|parts| parts.published = certificates);
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        let snapshot = self.snapshot.load();
        snapshot.default.is_none() && snapshot.names.is_empty()
    }

    /// What QUIC shakes hands with (RFC 9001): TLS 1.3 with these certificates. A client for whose name there is none gets the
    /// alert that rustls has for it.
    pub(super) fn for_quic(self: &Arc<Self>) -> Result<Arc<QuicServerConfig>, TlsError> {
        let mut config = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TlsError::Setup)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h3".to_vec()];
        // Not those of TCP: a ticket also says which version of HTTP it is for.
        config.ticketer = ring::Ticketer::new().map_err(TlsError::Setup)?;
        let config = QuicServerConfig::try_from(config)
            .map_err(|error| TlsError::Setup(rustls::Error::General(error.to_string())))?;
        Ok(Arc::new(config))
    }

    /// Looks at the files again and again; never ends.
    pub(super) async fn watch(self: Arc<Self>, poll: Duration) {
        loop {
            tokio::time::sleep(poll).await;
            let certificates = Arc::clone(&self);
            let look = move || {
                certificates.reload();
                // Also of a pair that is kept because it cannot be read any more.
                certificates.unstaple(Timestamp::now());
            };
            if let Err(error) = tokio::task::spawn_blocking(look).await {
                tracing::error!(%error, "reloading certificates failed");
            }
        }
    }

    /// Reads the files again if they changed.
    fn reload(&self) {
        let Some(source) = &self.source else {
            return;
        };
        let before = self.parts().clone();
        let files = match source.files() {
            Ok(files) => files,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "certificates kept"
                );
                return;
            }
        };
        // Taken before the files are read: what changes in between is seen the next time.
        let seen = fingerprint(&files);
        let again = seen == before.seen;
        if again && before.whole {
            return;
        }
        let mut whole = true;
        let files: Vec<FilePair> = files
            .into_iter()
            .filter_map(|files| match FilePair::load(files.clone()) {
                Ok(pair) => {
                    whole &= pair.is_whole();
                    if !again {
                        pair.warn();
                    }
                    Some(pair)
                }
                Err(error) => {
                    whole = false;
                    let kept = before.files.iter().find(|pair| pair.files == files);
                    // It is said once, and not each time that it is tried.
                    if !again {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            kept = kept.is_some(),
                            "certificate not loaded"
                        );
                    }
                    kept.cloned()
                }
            })
            .collect();
        if files.is_empty() {
            tracing::warn!("certificates kept: no usable pair is there any more");
            return;
        }
        if whole || !again {
            tracing::info!(certificates = files.len(), "certificates reloaded");
        }
        self.change(|parts| {
            parts.files = files;
            parts.seen = seen;
            parts.whole = whole;
        });
    }

    /// Takes away what is stapled and out of date.
    fn unstaple(&self, now: Timestamp) {
        let is_late = |files: &FilePair| files.pair.is_stapled_too_long(now);
        if !self.parts().files.iter().any(is_late) {
            return;
        }
        tracing::warn!("an OCSP response is out of date and not stapled any more");
        self.change(|parts| {
            for files in &mut parts.files {
                if is_late(files) {
                    files.pair = files.pair.unstapled();
                }
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut Parts)) {
        let mut parts = self.parts();
        change(&mut parts);
        self.snapshot.store(Arc::new(parts.snapshot()));
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        // A panic between two of its lines leaves parts that are as good.
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.snapshot
            .load()
            .find(client_hello.server_name())
            .cloned()
    }
}

impl Parts {
    /// Where two have a name, the first serves it; before those that have it by a `*.` host only, who has the host itself.
    fn snapshot(&self) -> Snapshot {
        let published = self.published.iter();
        let own = published
            .clone()
            .map(|HostCertificate { hosts, pair }| (pair.hosts_within(hosts), pair.certified()));
        let below = published
            .map(|HostCertificate { hosts, pair }| (pair.names_below(hosts), pair.certified()));
        let files = self.files.iter().map(|FilePair { pair, .. }| {
            (pair.names().map(Into::into).collect(), pair.certified())
        });
        let mut names = HashMap::new();
        for (served, certified) in own.chain(below).chain(files) {
            for name in served {
                names.entry(name).or_insert_with(|| Arc::clone(certified));
            }
        }
        let is_default = |pair: &&FilePair| {
            let stem = pair.files.chain.file_stem();
            stem.is_some_and(|stem| stem == "default")
        };
        let default = self.files.iter().find(is_default).or(self.files.first());
        Snapshot {
            names,
            default: default.map(|default| Arc::clone(default.pair.certified())),
        }
    }
}

impl Snapshot {
    /// The certificate for a name, which rustls gives in lower case: its own, or that of `*.` and what follows its first
    /// label, or the default.
    fn find(&self, name: Option<&str>) -> Option<&Arc<CertifiedKey>> {
        let named = |name: &str| {
            self.names.get(name).or_else(|| {
                let (_, parent) = name.split_once('.')?;
                self.names.get(format!("*.{parent}").as_str())
            })
        };
        name.and_then(named).or(self.default.as_ref())
    }
}

impl FilePair {
    fn load(files: CertificateFiles) -> Result<Self, TlsError> {
        let read =
            |path: &PathBuf| fs::read(path).map_err(|error| TlsError::Read(path.clone(), error));
        let pair = Pair::from_pem(&read(&files.chain)?, &read(&files.key)?).map_err(|error| {
            let blamed = match error.is_of_key() {
                true => &files.key,
                false => &files.chain,
            };
            TlsError::Unusable(blamed.clone(), error)
        })?;
        let stapled = staple(&pair, &files.staple());
        let (pair, unstapled) = match stapled {
            Ok(stapled) => (stapled.unwrap_or(pair), None),
            Err(error) => (pair, Some(error.into())),
        };
        Ok(Self {
            files,
            pair,
            unstapled,
        })
    }

    /// Whether all its files are in use.
    fn is_whole(&self) -> bool {
        self.unstapled.is_none()
    }

    fn warn(&self) {
        if let Some(error) = &self.unstapled {
            let file = self.files.staple();
            tracing::warn!(file = %file.display(), %error, "an OCSP response is not stapled");
        }
    }
}

/// The pair with the OCSP response in a file, if there is one.
fn staple(
    pair: &Pair,
    file: &Path,
) -> Result<Option<Pair>, Box<dyn std::error::Error + Send + Sync>> {
    match fs::read(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
        Ok(response) => Ok(Some(pair.clone().stapled(response, Timestamp::now())?)),
    }
}

/// What shakes hands with the clients of a listener.
#[derive(Debug)]
pub(super) struct Acceptor {
    certificates: Arc<Certificates>,
    config: Arc<rustls::ServerConfig>,
    challenges: Arc<Challenges>,
}

impl Acceptor {
    pub(super) fn new(
        certificates: Arc<Certificates>,
        challenges: Arc<Challenges>,
    ) -> Result<Self, TlsError> {
        let mut config = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&certificates) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ticketer = ring::Ticketer::new().map_err(TlsError::Setup)?;
        Ok(Self {
            certificates,
            config: Arc::new(config),
            challenges,
        })
    }

    /// Shakes hands with a client. One for whose name there is no certificate gets an alert that says so. With one that only
    /// validates a host the handshake is all there is.
    pub(super) async fn accept(
        &self,
        stream: TcpStream,
    ) -> io::Result<Option<TlsStream<TcpStream>>> {
        let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream).await?;
        let hello = start.client_hello();
        let name = hello.server_name();
        let validates = hello
            .alpn()
            .is_some_and(|mut offered| offered.any(|it| it == ALPN));
        if validates && let Some(config) = name.and_then(|name| self.challenges.to_hello(name)) {
            start.into_stream(config).await?.shutdown().await?;
            return Ok(None);
        }
        if self.certificates.snapshot.load().find(name).is_some() {
            let stream = start.into_stream(Arc::clone(&self.config)).await?;
            return Ok(Some(stream));
        }
        // RFC 6066, section 3, and RFC 8446, section 9.2. rustls would say `access_denied`.
        let (alert, problem) = match name {
            Some(name) => (
                AlertDescription::UnrecognisedName,
                format!("there is no certificate for `{name}`"),
            ),
            None => (
                AlertDescription::MissingExtension,
                "there is no certificate for a client that names no host".to_owned(),
            ),
        };
        let mut stream = start.io;
        // An alert in clear text, as nothing is agreed yet: TLS 1.2 as all records say, 2 bytes, fatal (RFC 8446, section 6).
        stream
            .write_all(&[21, 3, 3, 0, 2, 2, u8::from(alert)])
            .await?;
        stream.shutdown().await?;
        Err(io::Error::new(io::ErrorKind::InvalidInput, problem))
    }
}

impl CertificateSource {
    /// The pairs that are there now, in order.
    fn files(&self) -> Result<Vec<CertificateFiles>, TlsError> {
        let folder = match self {
            Self::Files(files) => return Ok(files.clone()),
            Self::Folder(folder) => folder,
        };
        let unreadable = |error| TlsError::Folder(folder.clone(), error);
        let mut entries = fs::read_dir(folder)
            .map_err(unreadable)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<io::Result<Vec<_>>>()
            .map_err(unreadable)?;
        entries.sort();
        Ok(entries.iter().filter_map(|path| pair_at(path)).collect())
    }
}

/// The pair that a folder's entry stands for, if it does.
fn pair_at(path: &Path) -> Option<CertificateFiles> {
    if path.is_dir() {
        return [("fullchain.pem", "privkey.pem"), ("tls.crt", "tls.key")]
            .into_iter()
            .map(|(chain, key)| CertificateFiles {
                chain: path.join(chain),
                key: path.join(key),
            })
            .find(|pair| pair.chain.exists() && pair.key.exists());
    }
    let extension = path.extension()?;
    if extension != "crt" && extension != "pem" {
        return None;
    }
    let key = path.with_extension("key");
    key.exists().then(|| CertificateFiles {
        chain: path.to_owned(),
        key,
    })
}

fn fingerprint(files: &[CertificateFiles]) -> Fingerprint {
    files
        .iter()
        .flat_map(|pair| [pair.chain.clone(), pair.key.clone(), pair.staple()])
        .map(|path| {
            let written = fs::metadata(&path)
                .and_then(|metadata| Ok((metadata.modified()?, metadata.len())))
                .ok();
            (path, written)
        })
        .collect()
}

/// What was agreed in the handshake of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsInfo {
    /// The version: 1.2 or 1.3.
    pub version: TlsVersion,
    /// The name the client asked for (SNI), in lower case.
    pub server_name: Option<String>,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2.
    V1_2,
    /// TLS 1.3.
    V1_3,
}

impl TlsVersion {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V1_2 => "TLSv1.2",
            Self::V1_3 => "TLSv1.3",
        }
    }
}

impl fmt::Display for TlsVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl TlsInfo {
    pub(super) fn of(session: &rustls::ServerConnection) -> Self {
        Self {
            version: match session.protocol_version() {
                Some(rustls::ProtocolVersion::TLSv1_3) => TlsVersion::V1_3,
                // There is no other: rustls knows nothing older.
                _ => TlsVersion::V1_2,
            },
            server_name: session.server_name().map(str::to_owned),
        }
    }
}
