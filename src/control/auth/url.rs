//! Who signed a request to a function URL.
//!
//! The node's token opens the API, not functions: a URL that wants a signature takes nothing else. The whole body is read and
//! held against what was signed before the function sees any of it.

use axum::body::Body;
use bytes::Bytes;
use http::{StatusCode, header, request::Parts};

use super::{Access, Caller, Claim, Error, IdentityKind, Scope};
use crate::model::UrlCaller;

/// Why a request to a function URL is not let in, as Lambda says it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}: {message}")]
pub struct UrlRefusal {
    /// The status.
    pub status: StatusCode,
    /// The error's name.
    pub error: &'static str,
    /// What is wrong, for the caller.
    pub message: String,
}

impl UrlRefusal {
    /// The caller is nobody, or may not.
    pub fn forbidden() -> Self {
        Self {
            status: StatusCode::FORBIDDEN,
            error: "AccessDeniedException",
            message: "Forbidden".to_owned(),
        }
    }
}

impl Access {
    /// Who signed a request, and the request without its signature; with its body, of at most `limit` bytes. Whether they
    /// may call the URL is for who knows its function.
    ///
    /// # Errors
    ///
    /// It is not signed, its signature does not hold, or its body is too large or broke off.
    pub async fn admit_to_url<B>(
        &self,
        head: Parts,
        body: B,
        limit: usize,
    ) -> Result<(Parts, Bytes, Caller, UrlCaller), UrlRefusal>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<axum::BoxError>,
    {
        let claim = Claim::of(&head).map_err(refused)?;
        let claim = claim.ok_or_else(UrlRefusal::forbidden)?;
        let scope = Scope::own();
        let signed = self.signed(&claim, head, Body::new(body), limit, &scope);
        let (mut head, body, caller) = signed.await.map_err(refused)?;
        // Whoever has it could send the request again.
        head.headers.remove(header::AUTHORIZATION);
        head.headers.remove("x-amz-security-token");
        let identity = &caller.identity;
        let caller_id = match &identity.kind {
            IdentityKind::Root => identity.account.clone(),
            IdentityKind::User { name } => name.clone(),
            IdentityKind::Session { role } => role.clone(),
        };
        let told = UrlCaller {
            access_key: claim.key_id,
            account_id: identity.account.clone(),
            caller_id,
            user_arn: identity.arn.clone(),
            user_id: identity.user_id.clone(),
        };
        Ok((head, body, caller, told))
    }
}

fn refused(error: impl Into<Error>) -> UrlRefusal {
    match error.into() {
        Error::Refused(refusal) => UrlRefusal {
            status: refusal.status(),
            error: refusal.code(),
            message: refusal.to_string(),
        },
        Error::TooLarge(limit) => UrlRefusal {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            error: "RequestEntityTooLargeException",
            message: format!("Request must be smaller than {limit} bytes"),
        },
        Error::Invalid(message) => UrlRefusal {
            status: StatusCode::BAD_REQUEST,
            error: "BadRequestException",
            message,
        },
        _ => UrlRefusal::forbidden(),
    }
}
