//! Names of distributions and origins.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use super::super::name::is_name;

/// The name of a distribution: the same letters as in a [`FunctionName`](super::super::FunctionName).
///
/// Cheap to clone: a name travels with every request.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DistributionName(Arc<str>);

impl DistributionName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a text is no name of a distribution.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the name of a distribution: 1 to 64 letters, digits, `-` or `_`")]
pub struct InvalidDistributionName(String);

impl FromStr for DistributionName {
    type Err = InvalidDistributionName;

    fn from_str(text: &str) -> Result<Self, InvalidDistributionName> {
        if is_name(text) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidDistributionName(text.chars().take(80).collect()))
        }
    }
}

impl TryFrom<String> for DistributionName {
    type Error = InvalidDistributionName;

    fn try_from(text: String) -> Result<Self, InvalidDistributionName> {
        text.parse()
    }
}

impl From<DistributionName> for String {
    fn from(name: DistributionName) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl std::borrow::Borrow<str> for DistributionName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DistributionName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for DistributionName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", &*self.0)
    }
}
