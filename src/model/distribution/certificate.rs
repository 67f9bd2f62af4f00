//! What a distribution presents to its viewers over TLS.

use std::{fmt, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::DistributionName;

/// What a distribution presents to viewers over TLS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Certificate {
    /// A certificate, and those between it and an authority: PEM. The private key is never beside it.
    Chain(String),
    /// One that an authority gives the node, and gives again before it ends (ACME, RFC 8555).
    Automatic,
}

/// A certificate that an authority gave for a distribution, as the catalog keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuedCertificate {
    /// The distribution.
    pub distribution: DistributionName,
    /// The directory of the authority: a URL.
    pub directory: String,
    /// The certificate, and those between it and the authority: PEM.
    pub chain: String,
    /// The private key, PEM, encrypted for [`key_context`](Self::key_context).
    pub sealed_key: String,
}

impl IssuedCertificate {
    /// What the private key is encrypted for.
    pub fn key_context(name: &DistributionName) -> String {
        format!("issued-key/{name}")
    }
}

/// A private key: PEM. What it is, is not shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PrivateKey(String);

impl PrivateKey {
    /// The PEM.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for PrivateKey {
    fn from(pem: String) -> Self {
        Self(pem)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PrivateKey(…)")
    }
}

/// A certificate chain and its key, both PEM.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CertificateFiles {
    /// The chain, the server's own certificate first.
    pub chain: PathBuf,
    /// The private key: PKCS #8, PKCS #1 or SEC1.
    pub key: PathBuf,
}

impl CertificateFiles {
    /// Where an OCSP response for the certificate is, if there is one: DER.
    pub fn staple(&self) -> PathBuf {
        self.chain.with_extension("ocsp")
    }
}
