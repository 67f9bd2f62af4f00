//! Who may ask, and how often.

use std::{collections::BTreeSet, fmt, net::IpAddr, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use super::super::Network;

/// Who may ask. Others get 403.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Access {
    /// The networks that may; empty means all.
    pub allow: Vec<Network>,
    /// The networks that may not, even if they are within one that may.
    pub deny: Vec<Network>,
    /// The countries that may, for nodes that know the country of an address.
    pub countries: Countries,
}

impl Access {
    /// Whether a client with this address may ask, wherever it is.
    pub fn admits(&self, address: IpAddr) -> bool {
        let has = |networks: &[Network]| networks.iter().any(|network| network.contains(address));
        !has(&self.deny) && (self.allow.is_empty() || has(&self.allow))
    }
}

/// Countries that may ask.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Countries {
    /// All.
    #[default]
    All,
    /// These.
    Only(BTreeSet<Country>),
    /// All but these.
    Except(BTreeSet<Country>),
}

impl Countries {
    /// Whether a client may ask that is in this country; none is an address of which nobody knows, which is in no country.
    pub fn admits(&self, country: Option<Country>) -> bool {
        match self {
            Self::All => true,
            Self::Only(these) => country.is_some_and(|country| these.contains(&country)),
            Self::Except(these) => country.is_none_or(|country| !these.contains(&country)),
        }
    }
}

/// A country by its two letters (ISO 3166-1 alpha-2), in upper case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Country([u8; 2]);

impl Country {
    /// The two letters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("they are ASCII letters")
    }
}

/// Why a text is no country.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a country: write its two letters, such as `DE`")]
pub struct InvalidCountry(String);

impl FromStr for Country {
    type Err = InvalidCountry;

    fn from_str(text: &str) -> Result<Self, InvalidCountry> {
        match text.as_bytes() {
            [first, second] if first.is_ascii_alphabetic() && second.is_ascii_alphabetic() => {
                Ok(Self([
                    first.to_ascii_uppercase(),
                    second.to_ascii_uppercase(),
                ]))
            }
            _ => Err(InvalidCountry(text.chars().take(40).collect())),
        }
    }
}

impl TryFrom<String> for Country {
    type Error = InvalidCountry;

    fn try_from(text: String) -> Result<Self, InvalidCountry> {
        text.parse()
    }
}

impl From<Country> for String {
    fn from(country: Country) -> Self {
        country.as_str().to_owned()
    }
}

impl fmt::Display for Country {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl fmt::Debug for Country {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// How often a client, which is an address, may ask. More gets 429.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimit {
    /// So many requests,
    pub requests: u32,
    /// in so much time;
    pub per: Duration,
    /// and so many at once after a quiet time.
    pub burst: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_denied_may_not_ask_even_if_allowed() {
        let access = |allow: &[&str], deny: &[&str]| {
            let networks =
                |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
            Access {
                allow: networks(allow),
                deny: networks(deny),
                countries: Countries::All,
            }
        };
        let admits = |access: &Access, address: &str| access.admits(address.parse().unwrap());
        assert!(admits(&access(&[], &[]), "192.0.2.1"));
        let office = access(&["10.0.0.0/8", "::1"], &["10.9.0.0/16"]);
        assert!(admits(&office, "10.1.1.1"));
        assert!(admits(&office, "::ffff:10.1.1.1"));
        assert!(admits(&office, "::1"));
        assert!(!admits(&office, "10.9.1.1"));
        assert!(!admits(&office, "192.0.2.1"));
        let others = access(&[], &["192.0.2.0/24"]);
        assert!(admits(&others, "192.0.3.1") && !admits(&others, "192.0.2.1"));
    }

    #[test]
    fn an_address_in_no_known_country_is_not_in_a_list() {
        let country = |text: &str| text.parse::<Country>().unwrap();
        let some = BTreeSet::from([country("de"), country("AT")]);
        let only = Countries::Only(some.clone());
        assert!(only.admits(Some(country("DE"))));
        assert!(!only.admits(Some(country("FR"))) && !only.admits(None));
        let except = Countries::Except(some);
        assert!(!except.admits(Some(country("DE"))));
        assert!(except.admits(Some(country("FR"))) && except.admits(None));
        assert!(Countries::All.admits(None));
        for bad in ["", "D", "DEU", "D1", "é"] {
            assert!(bad.parse::<Country>().is_err(), "{bad}");
        }
    }
}
