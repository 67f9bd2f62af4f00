//! Origins: the servers that a distribution stands before.

use std::{collections::BTreeSet, ops::RangeInclusive, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

/// A named origin: one or more servers that give the same answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Origin {
    /// At least one of them is no backup.
    pub servers: Vec<OriginServer>,
    /// The `Host` that is sent; none for the server's own authority.
    pub host: Option<String>,
    /// Sends the viewer's authority as `Host` instead. The name that TLS verifies stays the server's.
    pub forward_host: bool,
    /// What is spoken; found out by default.
    pub protocol: OriginProtocol,
    /// How servers are verified.
    pub tls: OriginTls,
    /// How long servers may take.
    pub timeouts: OriginTimeouts,
    /// Further attempts of a request that may be sent again; 1 by default.
    pub retries: u32,
    /// Connections, or requests at one moment where connections are shared, for each server; 1024 by default. As many more
    /// requests wait as long as a connection may take.
    pub connections: u32,
    /// Asks each server how it is; none by default.
    pub health: Option<HealthCheck>,
    /// What happens to a server that fails.
    pub ejection: Ejection,
    /// Statuses that send a GET, HEAD or OPTIONS request on to the backup servers; none by default.
    pub failover: BTreeSet<u16>,
    /// Fields that every request gets, in place of those that it has.
    pub headers: Vec<(String, String)>,
    /// Whether the servers may be at private addresses; false by default.
    pub private: bool,
}

impl Default for Origin {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            host: None,
            forward_host: false,
            protocol: OriginProtocol::default(),
            tls: OriginTls::default(),
            timeouts: OriginTimeouts::default(),
            retries: 1,
            connections: 1024,
            health: None,
            ejection: Ejection::default(),
            failover: BTreeSet::new(),
            headers: Vec::new(),
            private: false,
        }
    }
}

/// One server of an origin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginServer {
    /// `http(s)://HOST[:PORT][/BASE]`; the base goes before every path.
    pub url: String,
    /// Its share among the servers that are well; 1 by default, 1000 at most. 0 for a server that gets nothing.
    #[serde(default = "one")]
    pub weight: u32,
    /// Whether it serves only when the others cannot.
    #[serde(default)]
    pub backup: bool,
}

fn one() -> u32 {
    1
}

/// The protocol that is spoken with an origin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OriginProtocol {
    /// What TLS agrees on (ALPN), HTTP/1.1 on clear text.
    #[default]
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, on clear text with prior knowledge (RFC 9113 §3.3).
    Http2,
}

/// How an origin's servers are verified. That they are cannot be switched off.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct OriginTls {
    /// The name that is asked for and verified; none for the host of the server's URL.
    pub server_name: Option<String>,
    /// Certificates (PEM) that are trusted beside the web's.
    pub ca: Option<PathBuf>,
}

/// How long an origin's servers may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct OriginTimeouts {
    /// For a connection, TLS included, and for a turn when all are in use; 3 s by default.
    pub connect: Duration,
    /// From the end of the request to the head of the answer; 30 s by default.
    pub first_byte: Duration,
    /// Between two pieces of the request that are taken, or of the answer that are waited for; 30 s by default.
    pub idle: Duration,
}

impl Default for OriginTimeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            first_byte: Duration::from_secs(30),
            idle: Duration::from_secs(30),
        }
    }
}

/// A question to each server, asked over and over on a connection of its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct HealthCheck {
    /// What is asked for, after the server's base; `/` by default.
    pub path: String,
    /// From one question to the next; 10 s by default.
    pub interval: Duration,
    /// For the head of the answer, connecting included; 2 s by default.
    pub timeout: Duration,
    /// So many good answers in a row bring a server back; 2 by default.
    pub healthy: u32,
    /// So many bad ones take it out; 3 by default.
    pub unhealthy: u32,
    /// The good statuses; 200 to 399 by default.
    pub statuses: RangeInclusive<u16>,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            path: "/".to_owned(),
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(2),
            healthy: 2,
            unhealthy: 3,
            statuses: 200..=399,
        }
    }
}

/// What happens to a server whose connections fail, that is too slow or that does not speak HTTP. A status is no failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Ejection {
    /// So many failures in a row take it out; 5 by default. 0 for never.
    pub failures: u32,
    /// For how long the first time; 10 s by default. Doubled each time that it fails again.
    pub duration: Duration,
    /// And at most; 5 min by default.
    pub maximum: Duration,
}

impl Default for Ejection {
    fn default() -> Self {
        Self {
            failures: 5,
            duration: Duration::from_secs(10),
            maximum: Duration::from_secs(300),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_says_only_what_differs_from_the_defaults() {
        let origin: Origin =
            serde_json::from_str(r#"{"servers": [{"url": "https://a.test"}]}"#).unwrap();
        let expected = Origin {
            servers: vec![OriginServer {
                url: "https://a.test".to_owned(),
                weight: 1,
                backup: false,
            }],
            ..Origin::default()
        };
        assert_eq!(origin, expected);
        let written = serde_json::to_string(&origin).unwrap();
        assert_eq!(serde_json::from_str::<Origin>(&written).unwrap(), origin);
    }
}
