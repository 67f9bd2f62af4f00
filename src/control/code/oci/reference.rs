//! The name of an image.

use std::fmt;

use crate::model::Digest;

/// The name of an image: `HOST[:PORT]/REPOSITORY[:TAG][@sha256:DIGEST]` (OCI Distribution Specification 1.1, "Pull").
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference {
    /// The registry: a host, and a port unless it is that of its protocol.
    pub(super) registry: String,
    /// What the registry calls it.
    pub(super) repository: String,
    /// The tag; `latest` if there is neither a tag nor a digest.
    pub(super) tag: Option<String>,
    /// The digest of its manifest. With one, the tag says nothing.
    pub(super) digest: Option<Digest>,
}

impl Reference {
    /// Reads a name. None if it is none, or names no registry.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => {
                let hex = digest.strip_prefix("sha256:")?;
                (name, Some(hex.parse().ok()?))
            }
            None => (text, None),
        };
        let (registry, path) = name.split_once('/')?;
        // As everywhere: without a dot or a port it would be the first part of a repository.
        if !registry.contains(['.', ':']) && registry != "localhost" {
            return None;
        }
        let (repository, tag) = match path.rsplit_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (path, None),
        };
        let valid = is_registry(registry)
            && repository.len() <= 255
            && repository.split('/').all(is_part)
            && tag.is_none_or(is_tag);
        let tag = match (tag, digest) {
            (None, None) => Some("latest"),
            (tag, _) => tag,
        };
        valid.then(|| Self {
            registry: registry.to_ascii_lowercase(),
            repository: repository.to_owned(),
            tag: tag.map(str::to_owned),
            digest,
        })
    }

    /// What a registry is asked for.
    pub(super) fn wanted(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => format!("sha256:{digest}"),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }

    /// The same with the digest that was found, in place of a tag.
    pub(super) fn pinned(&self, digest: &Digest) -> String {
        format!("{}/{}@sha256:{digest}", self.registry, self.repository)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.registry, self.repository)
    }
}

/// A host and maybe a port, with nothing in it that means something in an address.
fn is_registry(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) if address.parse::<std::net::Ipv6Addr>().is_ok() => (
                "v6",
                port.strip_prefix(':').or((port.is_empty()).then_some("1")),
            ),
            _ => return false,
        },
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, Some("1")),
        },
    };
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
    !host.is_empty()
        && host.bytes().all(valid)
        && port.is_some_and(|port| port.parse::<u16>().is_ok())
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_part(part: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let between = |separator: &str| {
        matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-')
    };
    part.bytes().next().is_some_and(word)
        && part.bytes().last().is_some_and(word)
        && part
            .split(|character: char| character.is_ascii_lowercase() || character.is_ascii_digit())
            .all(between)
}

/// `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`
fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=128).contains(&tag.len())
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|byte| word(byte) || b".-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_registries_mean_it() {
        let digest = Digest::of(b"");
        for (text, registry, repository, wanted) in [
            ("ghcr.io/a/b", "ghcr.io", "a/b", "latest".to_owned()),
            ("ghcr.io/a/b:1.0", "ghcr.io", "a/b", "1.0".to_owned()),
            (
                "localhost:5000/a",
                "localhost:5000",
                "a",
                "latest".to_owned(),
            ),
            ("localhost/a:t", "localhost", "a", "t".to_owned()),
            ("[::1]:5000/a:t", "[::1]:5000", "a", "t".to_owned()),
            (
                "Reg.io/a__b/c--d.e",
                "reg.io",
                "a__b/c--d.e",
                "latest".to_owned(),
            ),
            (
                &format!("reg.io/a:1@sha256:{digest}"),
                "reg.io",
                "a",
                format!("sha256:{digest}"),
            ),
        ] {
            let reference = Reference::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(
                (
                    reference.registry.as_str(),
                    reference.repository.as_str(),
                    reference.wanted()
                ),
                (registry, repository, wanted),
                "{text}"
            );
        }
    }

    #[test]
    fn what_could_lead_elsewhere_is_no_name() {
        for text in [
            "",
            "a",
            "library/a",
            "reg.io",
            "reg.io/",
            "reg.io/..",
            "reg.io/a/../b",
            "reg.io/A",
            "reg.io/a//b",
            "reg.io/a?x",
            "reg.io/a%2f",
            "reg.io/a:",
            "reg.io/a:-x",
            "reg.io/a:x/y",
            "reg.io/a@sha256:12",
            "reg.io/a@md5:d41d8cd98f00b204e9800998ecf8427e",
            "user@reg.io/a",
            "user:pass@reg.io/a",
            "reg.io:port/a",
            "reg.io:99999/a",
            "[::1/a",
            "[::1]x/a",
            "reg.io#/a",
            "https://reg.io/a",
            "reg.io/a_-b",
        ] {
            assert_eq!(Reference::parse(text), None, "{text}");
        }
    }
}
