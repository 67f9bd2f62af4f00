//! Calls to other functions of this node, in process (`wharf:function/invoke`).
//!
//! ```no_run
//! use serde::{Deserialize, Serialize};
//! use wharf_sdk::invoke::{self, invoke};
//!
//! #[derive(Serialize)]
//! struct Price { sku: String }
//!
//! #[derive(Deserialize)]
//! struct Quote { cents: u64 }
//!
//! let quote: Quote = match invoke("price", &Price { sku: "tea".into() }) {
//!     Ok(quote) => quote,
//!     Err(invoke::Error::Throttled) => Quote { cents: 0 },
//!     Err(error) => return Err(error),
//! };
//! # Ok::<_, invoke::Error>(())
//! ```

use std::fmt;

use serde::{Serialize, de::DeserializeOwned};

use crate::{FunctionError, bindings::imports::wharf::function::invoke as host};

/// Invokes an event function and waits for its answer.
///
/// `function` is a name, or `name:qualifier` with a version or an alias. The call runs inside what is left of this
/// function's time.
pub fn invoke<A: DeserializeOwned>(function: &str, event: &impl Serialize) -> Result<A, Error> {
    let event = serde_json::to_string(event).map_err(Error::Event)?;
    let answer = host::invoke(function, &event)?;
    serde_json::from_str(&answer).map_err(Error::Answer)
}

/// Why a call gave no answer.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// There is no function of that name, or this function may not invoke it.
    NotFound,
    /// The concurrency of the function, or of the node, is used up.
    Throttled,
    /// Functions have called each other too many times in one chain.
    TooManyHops,
    /// The function ran and answered with an error.
    Function(FunctionError),
    /// The function was stopped; the outcome's word, such as `timeout` or `out_of_memory`.
    Stopped(String),
    /// The event is larger than an invocation may carry.
    PayloadTooLarge,
    /// The node failed.
    Internal(String),
    /// The event cannot be written as JSON.
    Event(serde_json::Error),
    /// The answer is not what the caller takes.
    Answer(serde_json::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => {
                formatter.write_str("there is no such function, or it may not be invoked")
            }
            Self::Throttled => formatter.write_str("the function's concurrency is used up"),
            Self::TooManyHops => {
                formatter.write_str("functions have called each other too many times")
            }
            Self::Function(_) => formatter.write_str("the function answered with an error"),
            Self::Stopped(outcome) => write!(formatter, "the function was stopped: {outcome}"),
            Self::PayloadTooLarge => formatter.write_str("the event is too large"),
            Self::Internal(message) => write!(formatter, "the node failed: {message}"),
            Self::Event(_) => formatter.write_str("the event cannot be written as JSON"),
            Self::Answer(_) => {
                formatter.write_str("the answer is not of the type that was asked for")
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Function(error) => Some(error),
            Self::Event(error) | Self::Answer(error) => Some(error),
            Self::NotFound
            | Self::Throttled
            | Self::TooManyHops
            | Self::Stopped(_)
            | Self::PayloadTooLarge
            | Self::Internal(_) => None,
        }
    }
}

impl From<host::InvokeError> for Error {
    fn from(error: host::InvokeError) -> Self {
        match error {
            host::InvokeError::NotFound => Self::NotFound,
            host::InvokeError::Throttled => Self::Throttled,
            host::InvokeError::TooManyHops => Self::TooManyHops,
            host::InvokeError::Function(error) => Self::Function(error.into()),
            host::InvokeError::Stopped(outcome) => Self::Stopped(outcome),
            host::InvokeError::PayloadTooLarge => Self::PayloadTooLarge,
            host::InvokeError::Internal(message) => Self::Internal(message),
        }
    }
}
