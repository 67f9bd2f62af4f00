//! Automatic certificates: an account with an authority, orders, renewals (RFC 8555).
//!
//! Which distributions want a certificate stands in the catalog, and what they get is written there, its key encrypted; the
//! node serves what the catalog has. So a certificate outlives the process, is in a backup, and is in force the moment that
//! it was given.
//!
//! One order is placed at a time. One that fails is placed again later and later, and the certificate that there is, if any,
//! stays in force. Nothing here is on the way of a request.
//!
//! Not here: `dns-01`, and so wildcards; renewal information (RFC 9773); external account binding.

mod client;
mod order;

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use instant_acme::{Account, AccountCredentials, LetsEncrypt, NewAccount};
use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use serde::{Deserialize, Serialize};
use url::Url;

use self::{
    client::Http,
    order::{Issued, OrderError, Proof, obtain},
};
use crate::{
    model::{Certificate, DeployedDistribution, DistributionName, IssuedCertificate},
    store::{Catalog, Change, Changes, Resource, Sealer, Stored},
    tls::{Challenges, Facts},
};

/// The longest wait after a failure.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// The longest sleep: whoever sets the clock does not have to start the node again.
const NAP: Duration = Duration::from_secs(60 * 60);

/// Where certificates come from. Whoever sets this has agreed to the terms of service of the authority.
#[derive(Debug, Clone)]
pub struct AcmeSettings {
    /// The directory of the authority.
    pub directory: Url,
    /// Where the authority may write to: mail addresses.
    pub contacts: Vec<String>,
    /// Authorities that the directory's own certificate may be from, beside the public ones: a PEM file.
    pub ca: Option<PathBuf>,
    /// The wait after a failure; it doubles with each, up to a day. 30 min by default.
    pub retry: Duration,
}

impl AcmeSettings {
    /// Let's Encrypt, without a contact.
    pub fn new() -> Self {
        Self {
            directory: LetsEncrypt::Production
                .url()
                .parse()
                .expect("the address of a service is a URL"),
            contacts: Vec::new(),
            ca: None,
            retry: Duration::from_secs(30 * 60),
        }
    }
}

impl Default for AcmeSettings {
    fn default() -> Self {
        Self::new()
    }
}

/// Gets certificates for the distributions that want automatic ones.
pub struct Acme {
    settings: AcmeSettings,
    catalog: Arc<dyn Catalog>,
    sealer: Arc<Sealer>,
    challenges: Arc<Challenges>,
    http: Http,
    account: Option<Account>,
    failed: HashMap<DistributionName, Failed>,
}

/// Orders that failed one after another; none, if the last was filled.
#[derive(Debug, Clone, Copy)]
struct Failed {
    times: u32,
    /// When another is placed at the earliest.
    again: Timestamp,
    /// The revision of the distribution: deployed again, it is tried again.
    revision: u64,
}

/// An account, as the catalog keeps it.
#[derive(Debug, Serialize, Deserialize)]
struct StoredAccount {
    directory: String,
    contacts: Vec<String>,
    /// Its address and key, encrypted.
    sealed: String,
}

impl Resource for StoredAccount {
    const KIND: &'static str = "acme-account";

    fn key(&self) -> String {
        self.directory.clone()
    }
}

impl StoredAccount {
    fn context(directory: &str) -> String {
        format!("acme-account/{directory}")
    }
}

impl Acme {
    /// Certificates from an authority, which finds its `challenges` answered by the listeners.
    ///
    /// # Errors
    ///
    /// The file of authorities cannot be read, or holds none.
    pub fn new(
        settings: AcmeSettings,
        catalog: Arc<dyn Catalog>,
        sealer: Arc<Sealer>,
        challenges: Arc<Challenges>,
    ) -> anyhow::Result<Self> {
        let mut ca: Vec<CertificateDer<'static>> = Vec::new();
        if let Some(path) = &settings.ca {
            ca = CertificateDer::pem_file_iter(path)
                .and_then(Iterator::collect)
                .with_context(|| format!("read {}", path.display()))?;
            anyhow::ensure!(!ca.is_empty(), "{} holds no certificate", path.display());
        }
        Ok(Self {
            http: Http::new(&ca).context("set up TLS for ACME")?,
            settings,
            catalog,
            sealer,
            challenges,
            account: None,
            failed: HashMap::new(),
        })
    }

    /// Orders and renews certificates; never ends.
    pub async fn run(mut self) {
        let mut changes = self.catalog.watch();
        loop {
            changes.mark_unchanged();
            let sleep = match self.round().await {
                Ok(next) => next.map_or(NAP, |next| wait(next, Timestamp::now())),
                Err(error) => {
                    tracing::error!(error = %format!("{error:#}"), "cannot see which certificates are wanted");
                    Duration::from_secs(60)
                }
            };
            tokio::select! {
                changed = changes.changed() => if changed.is_err() {
                    return;
                },
                () = tokio::time::sleep(sleep) => {}
            }
        }
    }

    /// Places the first order that is due, and says when to look again.
    async fn round(&mut self) -> anyhow::Result<Option<Timestamp>> {
        let catalog = Arc::clone(&self.catalog);
        let placed = catalog.list::<DeployedDistribution>("", None, usize::MAX);
        let issued = catalog.list::<IssuedCertificate>("", None, usize::MAX);
        let (placed, issued) = (placed.await?, issued.await?);
        let issued: BTreeMap<_, _> = issued
            .into_iter()
            .map(|stored| (stored.value.distribution.clone(), stored.value))
            .collect();
        let mut next: Option<Timestamp> = None;
        for stored in placed {
            let distribution = &stored.value.distribution;
            if distribution.certificate != Some(Certificate::Automatic) {
                continue;
            }
            let name = &distribution.name;
            let present = issued.get(name).and_then(|issued| {
                let facts = Facts::from_pem(issued.chain.as_bytes()).ok()?;
                let from_here = issued.directory == self.settings.directory.as_str();
                let good = facts.check(&distribution.hosts, Timestamp::now()).is_ok();
                let context = IssuedCertificate::key_context(name);
                let opens = self.sealer.open(&context, &issued.sealed_key).is_ok();
                (from_here && good && opens).then_some(facts)
            });
            let renewal = present.as_ref().map(Facts::renewal);
            let mut due = renewal.unwrap_or_default().max(self.http.closed_until());
            if let Some(failed) = self.failed.get(name)
                && failed.revision == stored.revision
            {
                due = due.max(failed.again);
            }
            if due <= Timestamp::now() {
                self.order(&stored, present.as_ref().map(Facts::expires))
                    .await;
                // That took its time: what is wanted may be another by now.
                return Ok(Some(Timestamp::now()));
            }
            next = Some(next.map_or(due, |next| next.min(due)));
        }
        Ok(next)
    }

    /// Places an order and keeps what comes of it. `expires`: when what is in force does.
    async fn order(&mut self, stored: &Stored<DeployedDistribution>, expires: Option<Timestamp>) {
        let distribution = &stored.value.distribution;
        let name = &distribution.name;
        let hosts = distribution.hosts.iter().filter(|host| !host.is_address());
        let hosts: Vec<String> = hosts.map(ToString::to_string).collect();
        self.http.begin();
        let error = match Box::pin(self.attempt(stored, &hosts)).await {
            Ok(facts) => {
                // Whatever its dates are to this clock, it is not ordered again at once.
                let third = facts.lifetime().unsigned_abs() / 3;
                let again = later(Timestamp::now(), self.settings.retry.min(third));
                let revision = stored.revision;
                let given = Failed {
                    times: 0,
                    again,
                    revision,
                };
                self.failed.insert(name.clone(), given);
                tracing::info!(
                    distribution = %name,
                    ?hosts,
                    expires = %facts.expires(),
                    "a certificate was given"
                );
                return;
            }
            Err(error) => error,
        };
        let before = self.failed.get(name);
        let before = before.filter(|failed| failed.revision == stored.revision);
        let times = before.map_or(1, |failed| failed.times.saturating_add(1));
        let now = Timestamp::now();
        let left = expires.map(|expires| expires.duration_since(now));
        let wait = back_off(self.settings.retry, times, left);
        // The directory may know better.
        let again = later(now, wait).max(self.http.retry_after());
        tracing::warn!(
            distribution = %name,
            ?hosts,
            error = %format!("{error:#}"),
            times,
            again = %again,
            "no certificate was given; what there is stays in force"
        );
        let revision = stored.revision;
        self.failed.insert(
            name.clone(),
            Failed {
                times,
                again,
                revision,
            },
        );
    }

    async fn attempt(
        &mut self,
        stored: &Stored<DeployedDistribution>,
        hosts: &[String],
    ) -> anyhow::Result<Facts> {
        let issued = self.prove(hosts).await?;
        let facts = Facts::from_pem(issued.chain.as_bytes());
        let checked = facts.and_then(|facts| {
            facts.check(&stored.value.distribution.hosts, Timestamp::now())?;
            Ok(facts)
        });
        // Else the next look would find it of no use, and order again at once.
        let facts = checked.context("use the certificate that was given")?;
        self.keep(stored, issued).await?;
        Ok(facts)
    }

    /// Shows that the hosts are this node's: in clear text, and if that fails in a TLS handshake.
    async fn prove(&mut self, hosts: &[String]) -> anyhow::Result<Issued> {
        let account = self.account().await?;
        let first = match obtain(&account, hosts, Proof::Http, &self.challenges).await {
            Ok(issued) => return Ok(issued),
            Err(error) => error,
        };
        if !first.is_of_proof() {
            self.forget(&first).await?;
            return Err(first.into());
        }
        let second = obtain(&account, hosts, Proof::TlsAlpn, &self.challenges).await;
        second.map_err(|second| anyhow::Error::from(second).context(first))
    }

    /// The account with the authority, made at the first order.
    async fn account(&mut self) -> anyhow::Result<Account> {
        if let Some(account) = &self.account {
            return Ok(account.clone());
        }
        let directory = self.settings.directory.to_string();
        let context = StoredAccount::context(&directory);
        let contacts: Vec<String> = self
            .settings
            .contacts
            .iter()
            .map(|contact| format!("mailto:{contact}"))
            .collect();
        let contact: Vec<&str> = contacts.iter().map(String::as_str).collect();
        let builder = || Account::builder_with_http(Box::new(self.http.clone()));
        let stored = self.catalog.get::<StoredAccount>(&directory).await?;
        // One whose key cannot be read is of no use.
        let kept = stored.and_then(|Stored { value, .. }| {
            let opened = self.sealer.open(&context, &value.sealed).ok()?;
            let credentials: AccountCredentials = serde_json::from_slice(&opened).ok()?;
            Some((value, credentials))
        });
        let (account, sealed) = match kept {
            Some((stored, credentials)) => {
                let account = builder().from_credentials(credentials).await;
                let account = account.context("find the directory")?;
                if stored.contacts == contacts {
                    self.account = Some(account.clone());
                    return Ok(account);
                }
                if let Err(error) = account.update_contacts(&contact).await {
                    // The next start tries again.
                    tracing::warn!(%error, "the directory was not told the contacts");
                    self.account = Some(account.clone());
                    return Ok(account);
                }
                (account, stored.sealed)
            }
            None => {
                let wanted = NewAccount {
                    contact: &contact,
                    terms_of_service_agreed: true,
                    only_return_existing: false,
                };
                let made = order::patiently(|| async {
                    let made = builder().create(&wanted, directory.clone(), None).await;
                    Ok(made?)
                });
                let (account, credentials) = made.await.context("make an account")?;
                let credentials = serde_json::to_vec(&credentials)?;
                tracing::info!(directory, id = account.id(), "an account was made");
                (account, self.sealer.seal(&context, &credentials)?)
            }
        };
        let stored = StoredAccount {
            directory,
            contacts,
            sealed,
        };
        self.write(Change::put(&stored)?).await?;
        self.account = Some(account.clone());
        Ok(account)
    }

    /// Forgets the account if the directory does not know it any more.
    async fn forget(&mut self, error: &OrderError) -> anyhow::Result<()> {
        if error.is_of_account() {
            self.account = None;
            let directory = self.settings.directory.as_str();
            self.write(Change::delete::<StoredAccount>(directory))
                .await?;
        }
        Ok(())
    }

    /// Writes down a certificate, unless its distribution wants none any more.
    async fn keep(
        &self,
        stored: &Stored<DeployedDistribution>,
        issued: Issued,
    ) -> anyhow::Result<()> {
        let name = &stored.value.distribution.name;
        let now = self
            .catalog
            .get::<DeployedDistribution>(name.as_str())
            .await?;
        let certificate = now.and_then(|now| now.value.distribution.certificate);
        if certificate != Some(Certificate::Automatic) {
            return Ok(());
        }
        let context = IssuedCertificate::key_context(name);
        let issued = IssuedCertificate {
            distribution: name.clone(),
            directory: self.settings.directory.to_string(),
            chain: issued.chain,
            sealed_key: self.sealer.seal(&context, issued.key.as_bytes())?,
        };
        self.write(Change::put(&issued)?).await
    }

    async fn write(&self, change: Change) -> anyhow::Result<()> {
        self.catalog.apply(Changes::from(vec![change])).await?;
        Ok(())
    }
}

/// How long to wait after so many failures in a row: longer and longer, but at most a quarter of the time that a certificate has
/// `left`, or `first` where that is more.
fn back_off(first: Duration, times: u32, left: Option<SignedDuration>) -> Duration {
    let factor = 1_u32.checked_shl(times.saturating_sub(1));
    let wait = first
        .saturating_mul(factor.unwrap_or(u32::MAX))
        .min(LONGEST);
    let part = left.map(|left| Duration::try_from(left / 4).unwrap_or_default());
    part.map_or(wait, |part| wait.min(part.max(first)))
}

fn later(now: Timestamp, wait: Duration) -> Timestamp {
    SignedDuration::try_from(wait)
        .ok()
        .and_then(|wait| now.checked_add(wait).ok())
        .unwrap_or(Timestamp::MAX)
}

/// How long to sleep until then, but no longer than a while.
fn wait(until: Timestamp, now: Timestamp) -> Duration {
    let until = until.duration_since(now);
    Duration::try_from(until).unwrap_or_default().min(NAP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_followed_by_longer_and_longer_waits() {
        let minutes = |times| back_off(AcmeSettings::new().retry, times, None).as_secs() / 60;
        assert_eq!([1, 2, 3, 6].map(minutes), [30, 60, 120, 960]);
        assert_eq!([7, 33, 64, u32::MAX].map(minutes), [1440; 4]);
    }

    #[test]
    fn a_wait_is_not_over_the_end_of_a_certificate() {
        let left = |hours| Some(SignedDuration::from_hours(hours));
        let minutes =
            |times, hours| back_off(AcmeSettings::new().retry, times, left(hours)).as_secs() / 60;
        assert_eq!(
            [240, 8, 4, 1, 0, -5].map(|hours| minutes(5, hours)),
            [480, 120, 60, 30, 30, 30]
        );
        assert_eq!(minutes(1, 8), 30);
    }

    #[test]
    fn a_sleep_is_until_the_time_or_a_while() {
        let now = Timestamp::from_second(1_000).unwrap();
        let at = |seconds| wait(Timestamp::from_second(seconds).unwrap(), now).as_secs();
        assert_eq!([1_010, 1_000, 10].map(at), [10, 0, 0]);
        assert_eq!(at(1_000_000), 3600);
        assert_eq!(wait(Timestamp::MIN, now), Duration::ZERO);
    }
}
