//! The invocation that runs now.
//!
//! An event function is given its [`Context`] as a second parameter; any other asks for it here.
//!
//! ```
//! use wharf_sdk::Context;
//!
//! #[wharf_sdk::function]
//! fn whoami(_event: serde_json::Value, context: Context) -> Result<String, std::convert::Infallible> {
//!     Ok(format!("{} {}", context.function_name, context.function_version))
//! }
//!
//! // A test makes a context of its own.
//! let context = Context { function_name: "whoami".into(), ..Context::default() };
//! assert_eq!(whoami(serde_json::Value::Null, context).unwrap(), "whoami $LATEST");
//! ```

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::bindings::imports::wharf::function::{context, types};

/// The facts of one invocation, as in Lambda's context object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// The id of this invocation: a UUID, the one in the log lines and in the `x-amzn-requestid` header.
    pub request_id: String,
    /// The name of the function.
    pub function_name: String,
    /// The version that runs: `$LATEST` or a number.
    pub function_version: String,
    /// The ARN the caller used, with its qualifier if it gave one.
    pub invoked_function_arn: String,
    /// The memory the function may use, in MB of 1,048,576 bytes.
    pub memory_limit_mb: u32,
    /// When the invocation will be stopped.
    pub deadline: SystemTime,
    /// The W3C trace context (`traceparent`) of the caller, if there was one.
    pub traceparent: Option<String>,
    /// The caller's client context, a JSON document, if it sent one.
    pub client_context: Option<String>,
}

impl Context {
    /// The time until the deadline by this function's clock; zero when the time is up.
    pub fn remaining(&self) -> Duration {
        self.deadline
            .duration_since(SystemTime::now())
            .unwrap_or_default()
    }
}

/// A context for tests: `$LATEST` of a function without a name, with 128 MB and 3 seconds from now, as by default.
impl Default for Context {
    fn default() -> Self {
        Self {
            request_id: "00000000-0000-4000-8000-000000000000".to_owned(),
            function_name: String::new(),
            function_version: "$LATEST".to_owned(),
            invoked_function_arn: String::new(),
            memory_limit_mb: 128,
            deadline: SystemTime::now() + Duration::from_secs(3),
            traceparent: None,
            client_context: None,
        }
    }
}

impl From<types::InvocationContext> for Context {
    fn from(context: types::InvocationContext) -> Self {
        Self {
            request_id: context.request_id,
            function_name: context.function_name,
            function_version: context.function_version,
            invoked_function_arn: context.invoked_function_arn,
            memory_limit_mb: context.memory_limit_mb,
            deadline: UNIX_EPOCH + Duration::from_millis(context.deadline_ms),
            traceparent: context.traceparent,
            client_context: context.client_context,
        }
    }
}

/// The context of the invocation that runs now, for any kind of function.
pub fn current() -> Context {
    context::get().into()
}

/// The time until this invocation is stopped, by the node's clock; zero when the time is up.
pub fn remaining_time() -> Duration {
    Duration::from_millis(context::remaining_time_ms())
}

/// Units of fuel, about one an instruction, until this invocation is stopped.
pub fn remaining_fuel() -> u64 {
    context::remaining_fuel()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_that_remains_is_never_negative() {
        let late = Context {
            deadline: UNIX_EPOCH,
            ..Context::default()
        };
        assert_eq!(late.remaining(), Duration::ZERO);
        assert!(Context::default().remaining() > Duration::from_secs(2));
    }
}
