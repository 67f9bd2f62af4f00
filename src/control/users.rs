//! The paths of `wharf users`.

use axum::{
    Extension, Json,
    extract::{Path, State},
};
use http::StatusCode;

use super::{
    Body, Caller, Error, MAX_DOCUMENT, Shared,
    api::{AddUser, AddedUser, UserSummary},
    aws, body_error,
    policy::Context,
};

pub(super) async fn list(State(api): Shared) -> Result<Json<Vec<UserSummary>>, Error> {
    Ok(Json(api.iam.user_summaries().await?))
}

pub(super) async fn add(
    State(api): Shared,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    body: Body,
) -> Result<Json<AddedUser>, Error> {
    // Beside iam:CreateUser, which the path stands for.
    let arn = format!("arn:aws:iam::{}:user/{name}", caller.identity.account);
    for action in [
        "iam:AttachUserPolicy",
        "iam:PutUserPolicy",
        "iam:CreateAccessKey",
    ] {
        caller
            .authorize(action, std::slice::from_ref(&arn), &Context::default())
            .map_err(aws::Error::from)?;
    }
    let bytes = axum::body::to_bytes(body, MAX_DOCUMENT)
        .await
        .map_err(|error| body_error(&error, MAX_DOCUMENT))?;
    let user: AddUser = serde_json::from_slice(&bytes)
        .map_err(|error| Error::Invalid(format!("not a user: {error}")))?;
    Ok(Json(api.iam.add_user(&name, user).await?))
}

pub(super) async fn remove(
    State(api): Shared,
    Path(name): Path<String>,
) -> Result<StatusCode, Error> {
    api.iam.remove_user_of(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// An error of IAM's, on a path of the node's own.
impl From<aws::Error> for Error {
    fn from(error: aws::Error) -> Self {
        match &*error.name {
            "AccessDeniedException" => Self::Refused(super::Refusal::Forbidden(error.message)),
            "ServiceException" => Self::Internal,
            "ConcurrentModificationException" => Self::Conflict,
            _ => Self::Invalid(error.message),
        }
    }
}
