//! TLS: certificates by server name, reloaded while the node runs.
//!
//! A handshake reads an immutable snapshot of the certificates. A task looks at the files every few seconds and swaps another
//! snapshot in when they change. A pair that cannot be read keeps the certificate it had, with a line in the log: a bad file on
//! disk takes nothing down. At the start it is an error.
//!
//! There is no early data (0-RTT): it can be replayed, and a function cannot know. Sessions are resumed by tickets, whose keys
//! live in memory and rotate, so a restart means full handshakes.

use std::{
    collections::HashMap,
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use rustls::{
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

/// TLS for a listener.
#[derive(Debug, Clone)]
pub struct TlsConfig {
    /// Where the certificates are.
    pub certificates: CertificateSource,
    /// How often the files are looked at for changes; 5 s by default.
    pub poll: Duration,
}

impl TlsConfig {
    /// TLS with the certificates of `certificates`, looked at every 5 s.
    pub fn new(certificates: CertificateSource) -> Self {
        Self {
            certificates,
            poll: Duration::from_secs(5),
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
    /// `fullchain.pem` and `privkey.pem` (certbot) or `tls.crt` and `tls.key` (Kubernetes).
    Folder(PathBuf),
    /// These pairs.
    Files(Vec<CertificateFiles>),
}

/// A certificate chain and its key, both PEM.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CertificateFiles {
    /// The chain, the server's own certificate first.
    pub chain: PathBuf,
    /// The private key: PKCS #8, PKCS #1 or SEC1.
    pub key: PathBuf,
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
    /// A file is not there, or not PEM.
    #[error("read {}", .0.display())]
    Read(PathBuf, #[source] rustls::pki_types::pem::Error),
    /// A file has no certificate.
    #[error("{} holds no certificate", .0.display())]
    NoCertificate(PathBuf),
    /// Certificate or key is malformed, or the key is another's.
    #[error("use {} with its key", .0.display())]
    Unusable(PathBuf, #[source] rustls::Error),
    /// The certificate's names cannot be read.
    #[error("read the names in {}", .0.display())]
    Names(PathBuf, #[source] webpki::Error),
    /// The node cannot make keys for tickets, or has no protocol version.
    #[error("set TLS up")]
    Setup(#[source] rustls::Error),
}

/// The certificates of a listener, as they are now.
#[derive(Debug)]
pub(super) struct Certificates {
    source: CertificateSource,
    provider: Arc<CryptoProvider>,
    snapshot: ArcSwap<Snapshot>,
}

#[derive(Debug)]
struct Snapshot {
    pairs: Vec<Pair>,
    names: HashMap<Box<str>, Arc<CertifiedKey>>,
    default: Arc<CertifiedKey>,
    seen: Fingerprint,
}

#[derive(Debug, Clone)]
struct Pair {
    files: CertificateFiles,
    names: Vec<Box<str>>,
    certificate: Arc<CertifiedKey>,
}

/// What the files looked like: who they are, when they were written, how long they are.
type Fingerprint = Vec<(PathBuf, Option<(SystemTime, u64)>)>;

impl Certificates {
    /// Reads the certificates; every problem with them is an error now.
    pub(super) fn load(source: CertificateSource) -> Result<Arc<Self>, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let files = source.files()?;
        let seen = fingerprint(&files);
        let pairs = files
            .into_iter()
            .map(|files| Pair::load(files, &provider))
            .collect::<Result<_, _>>()?;
        let snapshot = Snapshot::of(pairs, seen).ok_or(TlsError::Empty)?;
        Ok(Arc::new(Self {
            source,
            provider,
            snapshot: ArcSwap::from_pointee(snapshot),
        }))
    }

    /// What rustls needs to serve with these certificates.
    pub(super) fn server_config(self: &Arc<Self>) -> Result<Arc<rustls::ServerConfig>, TlsError> {
        let mut config = rustls::ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ticketer = ring::Ticketer::new().map_err(TlsError::Setup)?;
        Ok(Arc::new(config))
    }

    /// Looks at the files again and again; never ends.
    pub(super) async fn watch(self: Arc<Self>, poll: Duration) {
        loop {
            tokio::time::sleep(poll).await;
            let certificates = Arc::clone(&self);
            if let Err(error) = tokio::task::spawn_blocking(move || certificates.reload()).await {
                tracing::error!(%error, "reloading certificates failed");
            }
        }
    }

    /// Reads the files again if they changed.
    fn reload(&self) {
        let before = self.snapshot.load();
        let files = match self.source.files() {
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
        if seen == before.seen {
            return;
        }
        let pairs = files
            .into_iter()
            .filter_map(|files| match Pair::load(files.clone(), &self.provider) {
                Ok(pair) => Some(pair),
                Err(error) => {
                    let kept = before
                        .pairs
                        .iter()
                        .find(|pair| pair.files == files)
                        .cloned();
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        kept = kept.is_some(),
                        "certificate not loaded"
                    );
                    kept
                }
            })
            .collect();
        match Snapshot::of(pairs, seen) {
            Some(snapshot) => {
                tracing::info!(certificates = snapshot.pairs.len(), "certificates reloaded");
                self.snapshot.store(Arc::new(snapshot));
            }
            None => tracing::warn!("certificates kept: no usable pair is there any more"),
        }
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let snapshot = self.snapshot.load();
        let certificate = client_hello
            .server_name()
            .and_then(|name| snapshot.find(name))
            .unwrap_or(&snapshot.default);
        Some(Arc::clone(certificate))
    }
}

impl Snapshot {
    /// Nothing if there is no pair. Where two have a name, the first serves it.
    fn of(pairs: Vec<Pair>, seen: Fingerprint) -> Option<Self> {
        let default = pairs
            .iter()
            .find(|pair| {
                pair.files
                    .chain
                    .file_stem()
                    .is_some_and(|stem| stem == "default")
            })
            .or(pairs.first())?;
        let default = Arc::clone(&default.certificate);
        let mut names = HashMap::new();
        for pair in &pairs {
            for name in &pair.names {
                names
                    .entry(name.clone())
                    .or_insert_with(|| Arc::clone(&pair.certificate));
            }
        }
        Some(Self {
            pairs,
            names,
            default,
            seen,
        })
    }

    /// The certificate for a name, which rustls gives in lower case: its own, or that of `*.` and what follows its first label.
    fn find(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        self.names.get(name).or_else(|| {
            let (_, parent) = name.split_once('.')?;
            self.names.get(format!("*.{parent}").as_str())
        })
    }
}

impl Pair {
    fn load(files: CertificateFiles, provider: &CryptoProvider) -> Result<Self, TlsError> {
        let chain = CertificateDer::pem_file_iter(&files.chain)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| TlsError::Read(files.chain.clone(), error))?;
        let own = chain
            .first()
            .ok_or_else(|| TlsError::NoCertificate(files.chain.clone()))?;
        let names = webpki::EndEntityCert::try_from(own)
            .map_err(|error| TlsError::Names(files.chain.clone(), error))?
            .valid_dns_names()
            .map(|name| name.to_ascii_lowercase().into())
            .collect();
        let key = PrivateKeyDer::from_pem_file(&files.key)
            .map_err(|error| TlsError::Read(files.key.clone(), error))?;
        let certificate = CertifiedKey::from_der(chain, key, provider)
            .map_err(|error| TlsError::Unusable(files.chain.clone(), error))?;
        Ok(Self {
            files,
            names,
            certificate: Arc::new(certificate),
        })
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
        .flat_map(|pair| [&pair.chain, &pair.key])
        .map(|path| {
            let written = fs::metadata(path)
                .and_then(|metadata| Ok((metadata.modified()?, metadata.len())))
                .ok();
            (path.clone(), written)
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
