//! Why an origin gave no answer, or not the whole of one.

use std::{error::Error as StdError, time::Duration};

use http::StatusCode;

use super::body::Upload;
use crate::{model::Outcome, telemetry::metrics::OriginFailure};

pub(super) type BoxError = Box<dyn StdError + Send + Sync>;

/// Why an origin gave no answer, or broke one off.
#[derive(Debug, thiserror::Error)]
pub enum OriginError {
    /// The request has come through this node before (RFC 8586).
    #[error("the request has come through this node before")]
    Loop,
    /// A request that no origin is asked, such as CONNECT.
    #[error("the request cannot be forwarded: {0}")]
    InvalidRequest(&'static str),
    /// All connections are in use, and so is the patience for one.
    #[error("all connections to the origin are in use")]
    Overloaded,
    /// The last connections failed and another is being tried.
    #[error("the origin could not be connected to just now")]
    CircuitOpen,
    /// No connection could be made: the name, the network, TLS, or a private address.
    #[error("connect to the origin")]
    Unreachable(#[source] BoxError),
    /// No connection within this time.
    #[error("connecting to the origin took more than {0:?}")]
    ConnectTimeout(Duration),
    /// No head of an answer within this time.
    #[error("the origin did not answer within {0:?}")]
    FirstByteTimeout(Duration),
    /// Nothing read or written for this time.
    #[error("the origin made no progress for {0:?}")]
    IdleTimeout(Duration),
    /// The connection failed, or what came is not HTTP, or it ended too early.
    #[error("exchange messages with the origin")]
    Failed(#[source] hyper::Error),
    /// An answer that is HTTP in form and none in meaning.
    #[error("the origin's answer is invalid: {0}")]
    InvalidResponse(&'static str),
    /// The request's body failed on its way here.
    #[error("read the request's body")]
    RequestBody(#[source] BoxError),
}

impl OriginError {
    /// How the request ended.
    pub const fn outcome(&self) -> Outcome {
        match self {
            Self::Loop | Self::InvalidRequest(_) | Self::RequestBody(_) => Outcome::BadRequest,
            Self::Overloaded => Outcome::Overloaded,
            Self::CircuitOpen | Self::Unreachable(_) => Outcome::OriginUnreachable,
            Self::Failed(_) | Self::InvalidResponse(_) => Outcome::OriginBadResponse,
            Self::ConnectTimeout(_) | Self::FirstByteTimeout(_) | Self::IdleTimeout(_) => {
                Outcome::OriginTimeout
            }
        }
    }

    /// The status, which may say more than the outcome's.
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::Loop => StatusCode::LOOP_DETECTED,
            // Who is still there to read it has sent what is no body.
            Self::RequestBody(_) => StatusCode::BAD_REQUEST,
            _ => self.outcome().status(),
        }
    }

    /// What it counts as, if it is the origin that failed.
    pub const fn failure(&self) -> Option<OriginFailure> {
        Some(match self {
            Self::Loop | Self::InvalidRequest(_) | Self::RequestBody(_) => return None,
            Self::Overloaded => OriginFailure::NoConnection,
            Self::CircuitOpen => OriginFailure::CircuitOpen,
            Self::Unreachable(_) => OriginFailure::Connect,
            Self::ConnectTimeout(_) => OriginFailure::ConnectTimeout,
            Self::FirstByteTimeout(_) => OriginFailure::FirstByteTimeout,
            Self::IdleTimeout(_) => OriginFailure::IdleTimeout,
            Self::Failed(_) => OriginFailure::Broken,
            Self::InvalidResponse(_) => OriginFailure::Invalid,
        })
    }

    /// Whether the server is to blame: it could not be reached, was too slow, or does not speak HTTP.
    pub(super) const fn blames_server(&self) -> bool {
        match self {
            Self::Loop
            | Self::InvalidRequest(_)
            | Self::Overloaded
            | Self::CircuitOpen
            | Self::RequestBody(_) => false,
            Self::Unreachable(_)
            | Self::ConnectTimeout(_)
            | Self::FirstByteTimeout(_)
            | Self::IdleTimeout(_)
            | Self::Failed(_)
            | Self::InvalidResponse(_) => true,
        }
    }

    /// What hyper says of an exchange. If the request's body failed, that is the cause, whatever became of it on the connection.
    pub(super) fn of_exchange(error: hyper::Error, upload: Option<&Upload>) -> Self {
        if error.is_user() || upload.is_some_and(Upload::has_failed) {
            Self::RequestBody(error.into())
        } else {
            Self::Failed(error)
        }
    }
}

/// What of an origin's configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{key}: {message}")]
pub struct OriginConfigError {
    /// The key at fault, such as `servers[1].url`.
    pub key: String,
    /// What is wrong with it.
    pub message: String,
    #[source]
    source: Option<BoxError>,
}

impl OriginConfigError {
    pub(super) fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            message: message.into(),
            source: None,
        }
    }

    pub(super) fn because(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }
}
