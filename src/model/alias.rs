//! Names for versions, and what is true of a function whatever its version.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{Digest, FunctionName, Version};

/// A name for a version of a function, which may send a part of the invocations to another one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alias {
    /// The function.
    pub function: FunctionName,
    /// The alias: letters, digits, `-` and `_`, not digits alone.
    pub name: String,
    /// What it stands for.
    pub version: Version,
    /// Another version, and its share of the invocations: 0 to 1.
    #[serde(default)]
    pub additional: Option<(Version, f64)>,
    /// What it is for, in words.
    #[serde(default)]
    pub description: String,
}

impl Alias {
    /// The version for an invocation that drew `number`, which is from 0 up to, not including, 1.
    pub fn pick(&self, number: f64) -> Version {
        match self.additional {
            Some((version, share)) if number < share => version,
            Some(_) | None => self.version,
        }
    }
}

/// What is true of a function whatever its version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionSettings {
    /// The function.
    pub name: FunctionName,
    /// Its tags.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// Reserved concurrency, of all versions together; 0 switches the function off. It goes before the one of its
    /// configuration.
    #[serde(default)]
    pub concurrency: Option<u32>,
    /// The last version that was published; numbers are not used again.
    #[serde(default)]
    pub last_version: u32,
    /// Whether the function may call itself through others again and again (Lambda API, `RecursiveLoop`).
    #[serde(default)]
    pub recursive_loop: RecursiveLoop,
}

impl FunctionSettings {
    /// What is true of a function of which nothing was said.
    pub fn new(name: FunctionName) -> Self {
        Self {
            name,
            tags: BTreeMap::new(),
            concurrency: None,
            last_version: 0,
            recursive_loop: RecursiveLoop::default(),
        }
    }
}

/// What happens to a function that is invoked again and again by what it invoked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RecursiveLoop {
    /// The chain ends after 16 invocations.
    #[default]
    Terminate,
    /// It may go on.
    Allow,
}

/// Instances that are kept ready for a version or an alias (Lambda API, `PutProvisionedConcurrencyConfig`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvisionedConcurrency {
    /// The function.
    pub function: FunctionName,
    /// The version or alias.
    pub qualifier: Qualifier,
    /// How many.
    pub instances: u32,
    /// When it was set: milliseconds since 1970-01-01T00:00:00Z.
    pub modified_ms: u64,
}

/// Which of a function's versions is meant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Qualifier {
    /// A version.
    Version(Version),
    /// What an alias stands for.
    Alias(String),
}

impl Default for Qualifier {
    fn default() -> Self {
        Self::Version(Version::Latest)
    }
}

/// A text that is neither a version nor the name of an alias.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither a version nor the name of an alias")]
pub struct InvalidQualifier(String);

impl FromStr for Qualifier {
    type Err = InvalidQualifier;

    fn from_str(text: &str) -> Result<Self, InvalidQualifier> {
        let invalid = || InvalidQualifier(text.chars().take(80).collect());
        if text == "$LATEST" {
            return Ok(Self::Version(Version::Latest));
        }
        if text.is_empty() || text.len() > 128 {
            return Err(invalid());
        }
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            let number = text.parse().ok().filter(|number| *number > 0);
            let number = number.ok_or_else(invalid)?;
            return Ok(Self::Version(Version::Published(number)));
        }
        let named = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        match text.bytes().all(named) {
            true => Ok(Self::Alias(text.to_owned())),
            false => Err(invalid()),
        }
    }
}

impl TryFrom<String> for Qualifier {
    type Error = InvalidQualifier;

    fn try_from(text: String) -> Result<Self, InvalidQualifier> {
        text.parse()
    }
}

impl From<Qualifier> for String {
    fn from(qualifier: Qualifier) -> Self {
        qualifier.to_string()
    }
}

impl fmt::Display for Qualifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => version.fmt(formatter),
            Self::Alias(name) => name.fmt(formatter),
        }
    }
}

/// What Lambda's API knows of a deployment beside what runs it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LambdaSettings {
    /// What the code came in; none for a component that came as it is.
    pub package: Option<Package>,
    /// Members of the configuration that are stored and given back as they came (`Role`, `Handler`, `Runtime`…).
    pub members: serde_json::Map<String, serde_json::Value>,
    /// The layers, in the function's order: later ones go before earlier ones.
    pub layers: Vec<AttachedLayer>,
    /// The folder with the layers' files, which the function sees as `/opt`.
    pub opt: Option<Digest>,
    /// The folder with what came in the package beside the component, which the function sees as `/var/task`.
    pub task: Option<Digest>,
}

impl LambdaSettings {
    /// The folders that it refers to: of each layer, and what is mounted.
    pub fn folders(&self) -> impl Iterator<Item = Digest> {
        let layers = self.layers.iter().map(|layer| layer.digest);
        layers.chain(self.opt).chain(self.task)
    }
}

/// A version of a layer, as a function has it. It stays when the version is deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachedLayer {
    /// The ARN of the version.
    pub arn: String,
    /// The SHA-256 of its zip.
    pub digest: Digest,
    /// The size of that in bytes.
    pub size: u64,
}

/// What a function's code came in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// The SHA-256 of the zip, the component or the image's component as it came.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// The image and what its name stood for when it was deployed: `HOST/NAME@sha256:…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<(String, String)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_qualifier_is_a_version_or_an_alias() {
        for (text, qualifier) in [
            ("$LATEST", Some(Qualifier::Version(Version::Latest))),
            ("7", Some(Qualifier::Version(Version::Published(7)))),
            ("live", Some(Qualifier::Alias("live".to_owned()))),
            ("1a", Some(Qualifier::Alias("1a".to_owned()))),
            ("0", None),
            ("", None),
            ("$OLDEST", None),
            ("99999999999", None),
        ] {
            assert_eq!(text.parse().ok(), qualifier, "{text}");
            if let Some(qualifier) = qualifier {
                assert_eq!(qualifier.to_string(), text);
            }
        }
    }

    #[test]
    fn an_alias_sends_its_share_elsewhere() {
        let mut alias = Alias {
            function: "f".parse().unwrap(),
            name: "live".to_owned(),
            version: Version::Published(1),
            additional: Some((Version::Published(2), 0.25)),
            description: String::new(),
        };
        let drawn = |alias: &Alias| {
            let numbers = (0..1000).map(|number| f64::from(number) / 1000.0);
            numbers
                .filter(|number| alias.pick(*number) == Version::Published(2))
                .count()
        };
        assert_eq!(drawn(&alias), 250);
        alias.additional = Some((Version::Published(2), 1.0));
        assert_eq!(drawn(&alias), 1000);
        alias.additional = None;
        assert_eq!(drawn(&alias), 0);
    }
}
