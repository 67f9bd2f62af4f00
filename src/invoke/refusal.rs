//! What is not invoked as functions are: parts of a distribution.

use super::{Function, Invoke};
use crate::{
    model::Kind,
    runtime::{FunctionError, Invocation},
};

/// The kind of error that it is.
const NOT_INVOCABLE: &str = "Runtime.NotInvocable";

/// Why functions of a kind are invoked by nothing but a distribution; none where anybody may.
pub const fn why_not_invocable(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Hook(_) => Some(
            "it is a request hook, which nothing invokes but a distribution: name it at one of its points there",
        ),
        Kind::Middleware => Some(
            "it is a middleware, which nothing invokes but a distribution: name it in `hooks.transform` there",
        ),
        Kind::HttpP2 | Kind::HttpP3 | Kind::Event | Kind::CommandP2 | Kind::CommandP3 => None,
    }
}

impl Invoke {
    /// Records an invocation of what is not invoked.
    pub(super) fn refuse_event(
        &self,
        function: &Function,
        event: &str,
        invocation: &Invocation,
    ) -> FunctionError {
        let why = why_not_invocable(function.deployment().kind);
        let error = FunctionError {
            error_type: NOT_INVOCABLE.to_owned(),
            message: why.unwrap_or_default().to_owned(),
            trace: Vec::new(),
        };
        self.runtime
            .refuse(&function.runtime, invocation, event.len(), &error);
        error
    }
}
