//! Why a call is not let in, in the words that AWS clients know.
//!
//! Names and statuses: AWS Lambda API Reference, "Common Errors", and what its endpoint answers. The SDKs find the name in
//! `x-amzn-errortype`, and the words in the document's `message`.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode};
use serde_json::json;

use crate::model::RequestId;

/// Why a call is not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The call is neither signed nor has the token.
    #[error(
        "Missing Authentication Token: sign the request, or send the node's token as `Authorization: Bearer …`."
    )]
    Missing,
    /// What it says of its signature is not all there, or malformed.
    #[error("{0}")]
    Incomplete(String),
    /// Nobody here has that access key or token.
    #[error("The security token included in the request is invalid.")]
    Unrecognized,
    /// The session is over.
    #[error("The security token included in the request is expired")]
    Expired,
    /// The signature is not that of this call, or not of now.
    #[error("{0}")]
    Invalid(String),
    /// Who calls may not do that.
    #[error("{0}")]
    Forbidden(String),
}

impl Refusal {
    pub(in crate::control) fn status(&self) -> StatusCode {
        match self {
            Self::Incomplete(_) => StatusCode::BAD_REQUEST,
            Self::Missing
            | Self::Unrecognized
            | Self::Expired
            | Self::Invalid(_)
            | Self::Forbidden(_) => StatusCode::FORBIDDEN,
        }
    }

    /// The error's name.
    pub(in crate::control) fn code(&self) -> &'static str {
        match self {
            Self::Missing => "MissingAuthenticationTokenException",
            Self::Incomplete(_) => "IncompleteSignatureException",
            Self::Unrecognized => "UnrecognizedClientException",
            Self::Expired => "ExpiredTokenException",
            Self::Invalid(_) => "InvalidSignatureException",
            Self::Forbidden(_) => "AccessDeniedException",
        }
    }

    /// The error's name in the services whose answers are XML.
    pub(in crate::control) fn query_code(&self) -> &'static str {
        match self {
            Self::Missing => "MissingAuthenticationToken",
            Self::Incomplete(_) => "IncompleteSignature",
            Self::Unrecognized => "InvalidClientTokenId",
            Self::Expired => "ExpiredToken",
            Self::Invalid(_) => "SignatureDoesNotMatch",
            Self::Forbidden(_) => "AccessDenied",
        }
    }

    pub(super) fn incomplete(message: impl Into<String>) -> Self {
        Self::Incomplete(message.into())
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }

    pub(super) fn mismatch() -> Self {
        Self::invalid(
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access \
             Key and signing method.",
        )
    }

    pub(super) fn unsupported() -> Self {
        Self::incomplete("The signature's algorithm must be AWS4-HMAC-SHA256.")
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        // `__type` is where the clients of CloudWatch Logs look.
        let document = Json(json!({ "__type": self.code(), "message": self.to_string() }));
        let mut response = (self.status(), document).into_response();
        let headers = response.headers_mut();
        headers.insert("x-amzn-errortype", HeaderValue::from_static(self.code()));
        if let Ok(id) = HeaderValue::from_str(&RequestId::generate().to_string()) {
            headers.insert("x-amzn-requestid", id);
        }
        response
    }
}
