//! Why a request to the API failed.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{StatusCode, header};

use super::{Refusal, api::Problem};
use crate::{model::FunctionName, runtime::PrepareError, store};

/// Why a request to the API failed. Every message is for the caller; what concerns the node alone is in its log.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The caller did not say who it is, or not truly.
    #[error(
        "the API wants a token: `Authorization: Bearer …`; it is in the file `api-token` of the node's data folder; \
         or a signature of AWS clients"
    )]
    Unauthorized,
    /// Its signature does not hold, or it asks as AWS clients do and has none.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The request is malformed.
    #[error("{0}")]
    Invalid(String),
    /// The request is larger than it may be.
    #[error("the request is larger than {0} bytes")]
    TooLarge(usize),
    /// There is no such function.
    #[error("there is no function `{0}`")]
    NoFunction(String),
    /// There is no such distribution.
    #[error("there is no distribution `{0}`")]
    NoDistribution(String),
    /// There is no such path.
    #[error("the API has no `{0}`")]
    NoPath(String),
    /// The component was not uploaded.
    #[error("function `{0}`: its component is not on the node; upload it first")]
    NoCode(FunctionName),
    /// The component cannot be run.
    #[error("function `{function}`: {problem}")]
    Component {
        /// The function.
        function: FunctionName,
        /// What is wrong with it.
        problem: String,
    },
    /// Somebody else changed it meanwhile.
    #[error("it was changed meanwhile; try again")]
    Conflict,
    /// The node cannot do it now.
    #[error("the node is short of something: {0}")]
    Unavailable(String),
    /// The node failed.
    #[error("the node failed; its log has the cause")]
    Internal,
}

impl Error {
    fn status(&self) -> StatusCode {
        match self {
            Self::Refused(refusal) => refusal.status(),
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Invalid(_) | Self::NoCode(_) => StatusCode::BAD_REQUEST,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NoFunction(_) | Self::NoDistribution(_) | Self::NoPath(_) => {
                StatusCode::NOT_FOUND
            }
            Self::Component { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Conflict => StatusCode::CONFLICT,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn word(&self) -> &'static str {
        match self {
            Self::Unauthorized | Self::Refused(_) => "unauthorized",
            Self::Invalid(_) => "invalid",
            Self::TooLarge(_) => "too_large",
            Self::NoFunction(_) => "no_function",
            Self::NoDistribution(_) => "no_distribution",
            Self::NoPath(_) => "no_path",
            Self::NoCode(_) => "no_code",
            Self::Component { .. } => "component",
            Self::Conflict => "conflict",
            Self::Unavailable(_) => "unavailable",
            Self::Internal => "internal",
        }
    }

    /// The client did not send the whole body.
    pub(super) fn broken_off() -> Self {
        Self::Invalid("the request's body broke off".to_owned())
    }

    /// There is no function of that name, which is anything a caller sends.
    pub(super) fn no_function(name: &str) -> Self {
        Self::NoFunction(name.chars().take(80).collect())
    }

    /// What is wrong with a component, for who deploys it.
    pub(super) fn component(function: &FunctionName, error: &PrepareError) -> Self {
        Self::Component {
            function: function.clone(),
            problem: error.to_string(),
        }
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::Conflict { .. } => Self::Conflict,
            error => {
                tracing::error!(%error, "the store failed");
                Self::Unavailable(error.to_string())
            }
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        if let Self::Refused(refusal) = self {
            return refusal.into_response();
        }
        let problem = Problem {
            error: self.word().to_owned(),
            message: self.to_string(),
        };
        let mut response = (self.status(), Json(problem)).into_response();
        if matches!(self, Self::Unauthorized) {
            response.headers_mut().insert(
                header::WWW_AUTHENTICATE,
                http::HeaderValue::from_static("Bearer realm=\"wharf\""),
            );
        }
        response
    }
}
