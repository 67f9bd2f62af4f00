//! Values configured for the function (`wasi:config/store`).
//!
//! ```no_run
//! let limit: u32 = match wharf_sdk::config::get("limit")? {
//!     Some(limit) => limit.parse()?,
//!     None => 100,
//! };
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```

use std::{collections::BTreeMap, fmt};

use crate::bindings::imports::wasi::config0_2_0_rc_1::store;

/// The value of a key, or `None` if it is not configured.
pub fn get(key: &str) -> Result<Option<String>, Error> {
    store::get(key).map_err(Error::from)
}

/// Every configured key and value.
pub fn get_all() -> Result<BTreeMap<String, String>, Error> {
    Ok(store::get_all()?.into_iter().collect())
}

/// Why a value could not be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The source behind the node failed.
    Upstream(String),
    /// Reading failed.
    Io(String),
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Upstream(message) => {
                write!(formatter, "the source of configuration failed: {message}")
            }
            Self::Io(message) => write!(formatter, "reading configuration failed: {message}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::Upstream(message) => Self::Upstream(message),
            store::Error::Io(message) => Self::Io(message),
        }
    }
}
