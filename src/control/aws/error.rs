//! An error of an operation, before a protocol writes it.

use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::{control::auth::Denied, store};

/// What went wrong, by the name the service's model has for it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{name}: {message}")]
pub(in crate::control) struct Error {
    /// The name of the error's shape.
    pub(in crate::control) name: Cow<'static, str>,
    /// For the caller.
    pub(in crate::control) message: String,
    /// What the error has beside its message.
    pub(in crate::control) members: Map<String, Value>,
}

impl Error {
    /// An error of the model, or one that every service has.
    pub(in crate::control) fn new(name: &'static str, message: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            message: message.into(),
            members: Map::new(),
        }
    }

    /// Adds a member.
    pub(in crate::control) fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.members.insert(member.to_owned(), value.into());
        self
    }

    /// A value has the wrong type, or the body is not what the protocol wants.
    pub(super) fn serialization(message: impl Into<String>) -> Self {
        Self::new("SerializationException", message)
    }

    /// The operation is in the model, and Wharf does not have it.
    pub(in crate::control) fn unsupported(operation: &str, why: &str) -> Self {
        Self::new(
            "InvalidParameterValueException",
            format!("Wharf does not support {operation}: {why}"),
        )
        .with("Type", "User")
    }

    /// The node failed. Its log has the cause, which is for nobody else.
    pub(in crate::control) fn internal(cause: &dyn std::fmt::Display) -> Self {
        tracing::error!(error = %cause, "a call of the API failed");
        Self::new(
            "ServiceException",
            "The node failed; its log has the cause.",
        )
        .with("Type", "Service")
    }
}

impl From<Denied> for Error {
    fn from(denied: Denied) -> Self {
        Self::new("AccessDeniedException", denied.to_string())
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::Conflict { .. } => Self::new(
                "ResourceConflictException",
                "The resource was changed by another call at the same time. Read it again and try once more.",
            )
            .with("Type", "User"),
            store::Error::Full => Self::new(
                "ServiceException",
                "The node's disk is full: nothing was changed.",
            )
            .with("Type", "Service"),
            error => Self::internal(&error),
        }
    }
}
