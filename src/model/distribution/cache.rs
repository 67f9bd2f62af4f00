//! What a behaviour says about caching.
//!
//! An origin's response speaks first: a policy fills in what it leaves out, and sets bounds. No policy makes a response
//! shared that its origin calls `private` or `no-store`.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::model::ByteSize;

/// How the responses of a behaviour are cached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CachePolicy {
    /// Without, nothing is stored and nothing served from the cache.
    pub enabled: bool,
    /// How long responses are fresh.
    pub ttl: Ttl,
    /// Which parts of a request tell one stored response from another.
    pub key: KeyPolicy,
    /// How long responses of these statuses are fresh that do not say so themselves.
    #[serde(with = "seconds::by_status")]
    pub negative: BTreeMap<u16, Duration>,
    /// How long after it is stale a response that says nothing about it is served while it is revalidated (RFC 5861).
    #[serde(with = "seconds")]
    pub stale_while_revalidate: Duration,
    /// How long after it is stale a response that says nothing about it is served when the origin fails (RFC 5861).
    #[serde(with = "seconds")]
    pub stale_if_error: Duration,
    /// Larger ones stream through and are not stored.
    pub max_object: ByteSize,
    /// Whether `Cache-Control` and `Pragma` of requests are passed over: a client can then neither force a request to
    /// the origin, nor forbid storing, nor ask for what is stale.
    pub ignore_client: bool,
    /// Whether clients see `Cache-Tag` and `Surrogate-Key`.
    pub expose_tags: bool,
}

impl Default for CachePolicy {
    fn default() -> Self {
        Self {
            enabled: true,
            ttl: Ttl::default(),
            key: KeyPolicy::default(),
            negative: BTreeMap::new(),
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            max_object: ByteSize::mb(1024),
            ignore_client: false,
            expose_tags: false,
        }
    }
}

/// How long responses are fresh, in whole seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ttl {
    /// The least for a response that is stored and may be used without asking the origin.
    #[serde(with = "seconds")]
    pub minimum: Duration,
    /// For responses that do not say it themselves. Zero leaves it to the heuristic of RFC 9111 section 4.2.2.
    #[serde(with = "seconds")]
    pub default: Duration,
    /// The most.
    #[serde(with = "seconds")]
    pub maximum: Duration,
}

impl Default for Ttl {
    fn default() -> Self {
        Self {
            minimum: Duration::ZERO,
            default: Duration::ZERO,
            maximum: Duration::from_secs(365 * 24 * 60 * 60),
        }
    }
}

/// Which parts of a request tell one stored response from another, beside scheme, authority and path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeyPolicy {
    /// Names of header fields, in lower case.
    pub headers: BTreeSet<String>,
    /// Parameters of the query.
    pub query: Parts,
    /// Cookies.
    pub cookies: Parts,
}

impl Default for KeyPolicy {
    fn default() -> Self {
        Self {
            headers: BTreeSet::new(),
            query: Parts::All,
            cookies: Parts::None,
        }
    }
}

/// Some of the named parts of something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Parts {
    /// Every one.
    All,
    /// Not one.
    None,
    /// Those with these names.
    Only(BTreeSet<String>),
    /// Those without these names.
    Except(BTreeSet<String>),
}

impl Parts {
    /// Whether the part of this name is one of them.
    pub fn contains(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::Only(names) => names.contains(name),
            Self::Except(names) => !names.contains(name),
        }
    }
}

/// Durations as whole seconds.
mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        duration: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(duration.as_secs())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_secs)
    }

    pub(super) mod by_status {
        use std::{collections::BTreeMap, time::Duration};

        use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

        pub(in super::super) fn serialize<S: Serializer>(
            durations: &BTreeMap<u16, Duration>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            serializer.collect_map(
                durations
                    .iter()
                    .map(|(status, duration)| (status, duration.as_secs())),
            )
        }

        pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<BTreeMap<u16, Duration>, D::Error> {
            // Keys are texts in JSON, and only serde_json's own reader takes one for a number: a flattened document has another.
            let seconds = BTreeMap::<String, u64>::deserialize(deserializer)?;
            seconds
                .into_iter()
                .map(|(status, seconds)| {
                    let status = status.parse().map_err(D::Error::custom)?;
                    Ok((status, Duration::from_secs(seconds)))
                })
                .collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_written_in_whole_seconds_and_read_back() {
        let policy = CachePolicy {
            negative: [(404, Duration::from_secs(10))].into(),
            stale_if_error: Duration::from_secs(60),
            key: KeyPolicy {
                query: Parts::Only(["q".to_owned()].into()),
                ..KeyPolicy::default()
            },
            ..CachePolicy::default()
        };
        let text = serde_json::to_string(&policy).unwrap();
        assert!(text.contains(r#""negative":{"404":10}"#), "{text}");
        assert!(text.contains(r#""stale_if_error":60"#), "{text}");
        assert!(text.contains(r#""query":{"only":["q"]}"#), "{text}");
        assert_eq!(serde_json::from_str::<CachePolicy>(&text).unwrap(), policy);
    }

    #[test]
    fn what_a_document_leaves_out_is_the_default() {
        assert_eq!(
            serde_json::from_str::<CachePolicy>("{}").unwrap(),
            CachePolicy::default()
        );
    }

    #[test]
    fn parts_are_chosen_by_name() {
        let names = || ["a".to_owned()].into();
        for (parts, a, b) in [
            (Parts::All, true, true),
            (Parts::None, false, false),
            (Parts::Only(names()), true, false),
            (Parts::Except(names()), false, true),
        ] {
            assert_eq!((parts.contains("a"), parts.contains("b")), (a, b));
        }
    }
}
