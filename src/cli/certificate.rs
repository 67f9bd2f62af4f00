//! The certificates of an app's distributions: read beside its manifest, and checked.

use std::path::Path;

use anyhow::{Context as _, anyhow};
use jiff::Timestamp;

use crate::{
    control::api::DeployDistribution,
    model::{Certificate, CertificateFiles, Distribution, Manifest, PrivateKey},
    tls::Pair,
};

/// The distributions of an app, with the certificates that they bring.
///
/// # Errors
///
/// A file cannot be read, or a certificate is of no use for the hosts of its distribution.
pub(super) async fn distributions(manifest: &Manifest) -> anyhow::Result<Vec<DeployDistribution>> {
    let mut distributions = Vec::with_capacity(manifest.distributions.len());
    for (name, distribution) in &manifest.distributions {
        let mut distribution = distribution.clone();
        let mut private_key = None;
        if let Some(files) = manifest.certificates.get(name) {
            let key = format!("distributions.{name}.certificate");
            let (chain, key) = read(&key, files, &distribution).await?;
            distribution.certificate = Some(Certificate::Chain(chain));
            private_key = Some(key);
        }
        distributions.push(DeployDistribution {
            distribution,
            private_key,
        });
    }
    Ok(distributions)
}

async fn read(
    key: &str,
    files: &CertificateFiles,
    distribution: &Distribution,
) -> anyhow::Result<(String, PrivateKey)> {
    let chain = text(&format!("{key}.chain"), &files.chain).await?;
    let private_key = text(&format!("{key}.key"), &files.key).await?;
    let checked = Pair::from_pem(chain.as_bytes(), private_key.as_bytes())
        .and_then(|pair| pair.check(&distribution.hosts, Timestamp::now()));
    checked.map_err(|error| {
        let (part, file) = match error.is_of_key() {
            true => ("key", &files.key),
            false => ("chain", &files.chain),
        };
        anyhow!(error).context(format!("{key}.{part}: use {}", file.display()))
    })?;
    Ok((chain, PrivateKey::from(private_key)))
}

async fn text(key: &str, file: &Path) -> anyhow::Result<String> {
    tokio::fs::read_to_string(file)
        .await
        .with_context(|| format!("{key}: read {}", file.display()))
}
