//! A certificate chain with its private key.

use std::{
    fmt,
    ops::Deref,
    sync::{Arc, LazyLock},
};

use jiff::{SignedDuration, Timestamp};
use rustls::{
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject as _},
    sign::CertifiedKey,
};
use x509_parser::{
    error::X509Error,
    extensions::GeneralName,
    prelude::{FromDer as _, X509Certificate},
};

use super::{StapleError, ocsp};
use crate::model::HostPattern;

static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(ring::default_provider()));

/// What does the cryptography of every listener.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::clone(&PROVIDER)
}

/// A certificate, those between it and an authority, and its private key.
#[derive(Clone)]
pub struct Pair {
    facts: Facts,
    certified: Arc<CertifiedKey>,
    /// Until when what is stapled is in force; none if nothing is, or for ever.
    stapled_until: Option<Timestamp>,
}

/// What stands in a certificate.
#[derive(Clone)]
pub struct Facts {
    names: Vec<Box<str>>,
    not_before: Timestamp,
    not_after: Timestamp,
}

/// Why a chain and a key are of no use.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    /// The chain is not PEM.
    #[error("the chain is not PEM")]
    Chain(#[source] pem::Error),
    /// The chain is empty.
    #[error("it holds no certificate: a chain is PEM, the server's own certificate first")]
    NoCertificate,
    /// The certificate is malformed.
    #[error("the first certificate of the chain is malformed")]
    Certificate(#[source] X509Error),
    /// The key is not there.
    #[error("it holds no private key: a key is PEM, as PKCS #8, PKCS #1 or SEC1")]
    NoKey(#[source] pem::Error),
    /// The key is of a kind that is not known, or malformed.
    #[error("the private key cannot be used")]
    Key(#[source] rustls::Error),
    /// The key is of another certificate.
    #[error("the private key is not that of the first certificate in the chain")]
    OtherKey,
    /// The certificate is not valid any more.
    #[error("the certificate expired at {0}")]
    Expired(Timestamp),
    /// The certificate is not valid yet.
    #[error("the certificate is not valid before {0}")]
    NotYet(Timestamp),
    /// The certificate is for other hosts.
    #[error("the certificate is not for the host `{host}`: its names are {names}")]
    Host {
        /// The host that it lacks.
        host: HostPattern,
        /// Those it has.
        names: String,
    },
}

impl PairError {
    /// Whether the key is to blame, and not the chain.
    pub fn is_of_key(&self) -> bool {
        match self {
            Self::NoKey(_) | Self::Key(_) | Self::OtherKey => true,
            Self::Chain(_)
            | Self::NoCertificate
            | Self::Certificate(_)
            | Self::Expired(_)
            | Self::NotYet(_)
            | Self::Host { .. } => false,
        }
    }
}

impl Pair {
    /// Reads a chain, the server's own certificate first, and its key, both PEM.
    ///
    /// # Errors
    ///
    /// One is malformed, or they are not each other's. Whether the certificate is valid now, and for whom, is asked with
    /// [`check`](Facts::check).
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, PairError> {
        let chain = certificates(chain)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(PairError::NoKey)?;
        let facts = Facts::of(&chain)?;
        let certified =
            CertifiedKey::from_der(chain, key, &PROVIDER).map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => PairError::OtherKey,
                error => PairError::Key(error),
            })?;
        Ok(Self {
            facts,
            certified: Arc::new(certified),
            stapled_until: None,
        })
    }

    /// The same with an OCSP response (RFC 6960), in DER, which clients that ask for it get with the certificate.
    ///
    /// # Errors
    ///
    /// It is not of this certificate, does not say that it is good, or not for now.
    pub fn stapled(self, response: Vec<u8>, now: Timestamp) -> Result<Self, StapleError> {
        let own = self.certified.end_entity_cert();
        let own = own.map_err(|_| StapleError::Other)?;
        let stapled_until = ocsp::check(&response, own, now)?;
        let mut certified = CertifiedKey::clone(&self.certified);
        certified.ocsp = Some(response);
        Ok(Self {
            facts: self.facts,
            certified: Arc::new(certified),
            stapled_until,
        })
    }

    /// Whether what is stapled to it is out of date.
    pub fn is_stapled_too_long(&self, now: Timestamp) -> bool {
        self.stapled_until.is_some_and(|until| until <= now)
    }

    /// The same with nothing stapled to it.
    pub fn unstapled(&self) -> Self {
        let mut certified = CertifiedKey::clone(&self.certified);
        certified.ocsp = None;
        Self {
            facts: self.facts.clone(),
            certified: Arc::new(certified),
            stapled_until: None,
        }
    }

    /// What rustls presents.
    pub fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }
}

impl Deref for Pair {
    type Target = Facts;

    fn deref(&self) -> &Facts {
        &self.facts
    }
}

impl Facts {
    /// What stands in the first certificate of a chain in PEM.
    ///
    /// # Errors
    ///
    /// There is none, or it is malformed.
    pub fn from_pem(chain: &[u8]) -> Result<Self, PairError> {
        Self::of(&certificates(chain)?)
    }

    fn of(chain: &[CertificateDer<'_>]) -> Result<Self, PairError> {
        let own = chain.first().ok_or(PairError::NoCertificate)?;
        Self::read(own).map_err(PairError::Certificate)
    }

    fn read(certificate: &CertificateDer<'_>) -> Result<Self, X509Error> {
        let (_, certificate) = X509Certificate::from_der(certificate)?;
        let names = certificate.subject_alternative_name()?;
        let names = names.iter().flat_map(|names| &names.value.general_names);
        let time = |seconds| Timestamp::from_second(seconds).map_err(|_| X509Error::InvalidDate);
        let validity = certificate.validity();
        Ok(Self {
            names: names
                .filter_map(|name| match name {
                    GeneralName::DNSName(name) => Some(name.to_ascii_lowercase().into()),
                    _ => None,
                })
                .collect(),
            not_before: time(validity.not_before.timestamp())?,
            // RFC 5280, section 4.1.2.5: the last second of the year 9999, which is no time here, is no end.
            not_after: time(validity.not_after.timestamp()).unwrap_or(Timestamp::MAX),
        })
    }

    /// Whether it is valid now, and for all these hosts.
    ///
    /// A host that is an address is passed over: clients do not name one in a handshake (RFC 6066, section 3).
    ///
    /// # Errors
    ///
    /// The first thing that stands against it.
    pub fn check(&self, hosts: &[HostPattern], now: Timestamp) -> Result<(), PairError> {
        if now > self.not_after {
            return Err(PairError::Expired(self.not_after));
        }
        if now < self.not_before {
            return Err(PairError::NotYet(self.not_before));
        }
        let mut named = hosts.iter().filter(|host| !host.is_address());
        match named.find(|host| !self.covers(host)) {
            None => Ok(()),
            Some(host) => Err(PairError::Host {
                host: host.clone(),
                names: self.names.join(", "),
            }),
        }
    }

    /// The DNS names that stand in it, in lower case.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(AsRef::as_ref)
    }

    /// Those of these hosts that it is for, `*.` names included.
    pub fn hosts_within(&self, hosts: &[HostPattern]) -> Vec<Box<str>> {
        let own = hosts.iter().filter(|host| self.covers(host));
        own.map(|host| host.to_string().into()).collect()
    }

    /// Those of its names that are below one of these hosts that is a `*.` name.
    pub fn names_below(&self, hosts: &[HostPattern]) -> Vec<Box<str>> {
        let below = self.names.iter().filter(|name| {
            hosts.iter().any(|host| {
                let label = name.strip_suffix(host.name());
                host.is_wildcard() && label.is_some_and(|label| label.ends_with('.'))
            })
        });
        below.cloned().collect()
    }

    /// Whether it is for a host. A `*.` in it stands for one label (RFC 9525, section 6.3), so for a `*.` host it is enough
    /// for the hosts right below.
    fn covers(&self, host: &HostPattern) -> bool {
        let has = |wanted: &str| self.names.iter().any(|name| **name == *wanted);
        let parent = host.name().split_once('.').map(|(_, parent)| parent);
        has(&host.to_string())
            || !host.is_wildcard() && parent.is_some_and(|parent| has(&format!("*.{parent}")))
    }

    /// When another should be had: at two thirds of its time.
    pub fn renewal(&self) -> Timestamp {
        self.not_after - self.lifetime() / 3
    }

    /// For how long it is valid.
    pub fn lifetime(&self) -> SignedDuration {
        self.not_after.duration_since(self.not_before)
    }

    /// When it ends to be valid.
    pub fn expires(&self) -> Timestamp {
        self.not_after
    }
}

impl fmt::Debug for Pair {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "Pair({} until {})",
            self.names.join(" "),
            self.not_after
        )
    }
}

/// The certificates of a chain in PEM.
fn certificates(chain: &[u8]) -> Result<Vec<CertificateDer<'static>>, PairError> {
    CertificateDer::pem_slice_iter(chain)
        .collect::<Result<_, _>>()
        .map_err(PairError::Chain)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn made(names: &[&str]) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2026, 4, 1);
        let certificate = params.self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn hosts(texts: &[&str]) -> Vec<HostPattern> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_pair_is_for_its_names_and_its_time() {
        let (chain, key) = made(&["www.example.com", "*.cdn.example.com"]);
        let pair = Pair::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
        let check = |texts: &[&str], now: &str| {
            let checked = pair.check(&hosts(texts), now.parse().unwrap());
            checked.map_err(|error| error.to_string())
        };
        let within = "2026-02-01T00:00:00Z";
        assert_eq!(check(&["WWW.example.com"], within), Ok(()));
        assert_eq!(
            check(
                &[
                    "a.cdn.example.com",
                    "*.cdn.example.com",
                    "127.0.0.1",
                    "[::1]"
                ],
                within
            ),
            Ok(())
        );
        for host in [
            "example.com",
            "cdn.example.com",
            "a.b.cdn.example.com",
            "*.www.example.com",
        ] {
            let problem = check(&["www.example.com", host], within).unwrap_err();
            assert!(problem.contains(&format!("`{host}`")), "{problem}");
            assert!(problem.contains("*.cdn.example.com"), "{problem}");
        }
        let problem = check(&[], "2026-04-01T00:00:01Z").unwrap_err();
        assert_eq!(problem, "the certificate expired at 2026-04-01T00:00:00Z");
        let problem = check(&[], "2025-12-31T00:00:00Z").unwrap_err();
        assert_eq!(
            problem,
            "the certificate is not valid before 2026-01-01T00:00:00Z"
        );
        // 90 days, of which 60.
        assert_eq!(pair.renewal().to_string(), "2026-03-02T00:00:00Z");
    }

    #[test]
    fn a_pair_serves_only_names_that_are_among_the_hosts() {
        let (chain, key) = made(&[
            "www.example.com",
            "*.cdn.example.com",
            "a.b.cdn.example.com",
        ]);
        let pair = Pair::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
        let within = |texts: &[&str]| {
            let hosts = hosts(texts);
            let mut names = [pair.hosts_within(&hosts), pair.names_below(&hosts)].concat();
            names.sort();
            names.dedup();
            names.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            within(&["www.example.com", "other.example.com"]),
            ["www.example.com"]
        );
        assert_eq!(within(&["x.cdn.example.com"]), ["x.cdn.example.com"]);
        assert_eq!(
            within(&["*.cdn.example.com"]),
            ["*.cdn.example.com", "a.b.cdn.example.com"]
        );
        assert_eq!(within(&["*.example.com"]).len(), 3);
        assert_eq!(within(&["*.dn.example.com", "*.com.example"]), [""; 0]);
    }

    #[test]
    fn what_is_no_pair_says_which_of_the_two_is_to_blame() {
        let (chain, key) = made(&["a.example"]);
        let (_, other) = made(&["a.example"]);
        let problem = |chain: &str, key: &str| {
            let error = Pair::from_pem(chain.as_bytes(), key.as_bytes()).unwrap_err();
            (error.is_of_key(), error.to_string())
        };
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (chain, key, is_of_key, said) in [
            ("", &*key, false, "holds no certificate"),
            ("nonsense", &key, false, "holds no certificate"),
            (&key, &key, false, "holds no certificate"),
            ("-----BEGIN CERTIFICATE-----\nAA", &key, false, "not PEM"),
            (broken, &key, false, "malformed"),
            (&chain, "", true, "no private key"),
            (&chain, &chain, true, "no private key"),
            (&chain, &other, true, "is not that of the first"),
        ] {
            let (blamed, problem) = problem(chain, key);
            assert!(problem.contains(said), "{problem}");
            assert_eq!(blamed, is_of_key, "{problem}");
        }
        let pair = Pair::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
        assert_eq!(
            format!("{pair:?}"),
            "Pair(a.example until 2026-04-01T00:00:00Z)"
        );
    }
}
