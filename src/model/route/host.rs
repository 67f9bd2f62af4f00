//! Patterns of hosts.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

/// Hosts: one by its name (`example.com`), or all under a name (`*.example.com`).
///
/// Kept in lower case and without a trailing dot, as [`crate::router`] compares them. `*` stands for one label or
/// more, so `*.example.com` has `a.example.com` and `a.b.example.com`, but not `example.com`.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostPattern {
    name: Box<str>,
    wildcard: bool,
}

impl HostPattern {
    /// The host, or what follows `*.`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is the hosts under the name, and not the name itself.
    pub fn is_wildcard(&self) -> bool {
        self.wildcard
    }

    /// Whether it is an IP address, and no name.
    pub fn is_address(&self) -> bool {
        self.name.starts_with('[') || self.name.parse::<Ipv4Addr>().is_ok()
    }
}

/// Why a text is no pattern of hosts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a host: {problem}")]
pub struct InvalidHost {
    text: String,
    problem: &'static str,
}

impl FromStr for HostPattern {
    type Err = InvalidHost;

    fn from_str(text: &str) -> Result<Self, InvalidHost> {
        let lower = text.to_ascii_lowercase();
        let (wildcard, name) = match lower.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, lower.as_str()),
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        match problem(name, wildcard) {
            None => Ok(Self {
                name: name.into(),
                wildcard,
            }),
            Some(problem) => Err(InvalidHost {
                text: text.chars().take(80).collect(),
                problem,
            }),
        }
    }
}

fn problem(name: &str, wildcard: bool) -> Option<&'static str> {
    if name.is_empty() || name == "*" {
        return Some("leave `host` out to match every host");
    }
    if name.contains('/') {
        return Some("write the host alone, without scheme and path");
    }
    if name.contains('*') {
        return Some("`*` stands for whole labels at the front, as in `*.example.com`");
    }
    if let Some(address) = name.strip_prefix('[') {
        let address = address.strip_suffix(']').map(str::parse::<Ipv6Addr>);
        return (wildcard || !matches!(address, Some(Ok(_))))
            .then_some("between brackets stands an IPv6 address, without a port after it");
    }
    if name.contains(':') {
        return Some("leave the port out: every port counts");
    }
    if !name.is_ascii() {
        return Some("write it in its ASCII form, which begins with `xn--`");
    }
    let label_fits = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    if name.len() > 253 || !name.split('.').all(label_fits) {
        return Some("labels of 1 to 63 letters, digits, `-` or `_` with dots between are wanted");
    }
    None
}

impl TryFrom<String> for HostPattern {
    type Error = InvalidHost;

    fn try_from(text: String) -> Result<Self, InvalidHost> {
        text.parse()
    }
}

impl From<HostPattern> for String {
    fn from(host: HostPattern) -> Self {
        host.to_string()
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.wildcard {
            formatter.write_str("*.")?;
        }
        formatter.write_str(&self.name)
    }
}

impl fmt::Debug for HostPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_kept_as_it_is_compared() {
        for (text, kept) in [
            ("example.com", "example.com"),
            ("Example.COM.", "example.com"),
            ("*.Example.com", "*.example.com"),
            ("localhost", "localhost"),
            ("127.0.0.1", "127.0.0.1"),
            ("[::1]", "[::1]"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ] {
            assert_eq!(text.parse::<HostPattern>().unwrap().to_string(), kept);
        }
    }

    #[test]
    fn what_is_not_a_host_says_what_to_write() {
        let check = |text: &str, problem: &str| {
            let error = text.parse::<HostPattern>().unwrap_err().to_string();
            assert!(error.contains(problem), "{text}: {error}");
        };
        check("", "leave `host` out");
        check("*", "leave `host` out");
        check("*.", "leave `host` out");
        check("https://example.com", "without scheme");
        check("example.com/a", "without scheme");
        check("example.com:80", "leave the port out");
        check("[::1]:80", "without a port");
        check("*.[::1]", "IPv6");
        check("a.*.com", "at the front");
        check("*a.com", "at the front");
        check("bücher.example", "xn--");
        check("a..b", "labels of 1 to 63");
        check("a b", "labels of 1 to 63");
        check(&"a".repeat(64), "labels of 1 to 63");
        check(&["a"; 128].join("."), "labels of 1 to 63");
    }
}
