//! Who may use the API: whoever has the node's [`Token`], or signs as one of its users ([`Credentials`]).
//!
//! A signature covers the body, so a signed request is read to its end before it is let on, up to its route's limit. What
//! can be judged without the body is judged first: a body is read only for who names an access key of this node, a time
//! that is now, and a signature in the right form; where the body's digest is announced, only for a signature that holds.

mod credentials;
mod refusal;
mod sigv4;
mod token;
mod url;

use axum::{body::Body, extract::Request};
use bytes::{Bytes, BytesMut};
use http::{header, request::Parts};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

pub use credentials::{CREDENTIALS_FILE, Credentials, CredentialsError};
pub use refusal::Refusal;
pub use token::{TOKEN_FILE, Token};
pub use url::UrlRefusal;

use super::Error;
use crate::model::Digest;
use sigv4::Claim;

/// The service that a call is signed for.
fn service(head: &Parts) -> &'static str {
    let target = head.headers.get("x-amz-target");
    match target.is_some_and(|target| target.as_bytes().starts_with(b"Logs_20140328.")) {
        true => "logs",
        false => "lambda",
    }
}

/// The paths of the Lambda API, whose clients want to be refused as Lambda refuses.
const LAMBDA: &str = "/2015-03-31/";

/// What opens the API of a node.
#[derive(Debug)]
pub struct Access {
    /// The token, which may do everything.
    pub token: Token,
    /// The users, who may do everything as well: there are no policies yet.
    pub credentials: Credentials,
    /// The region that calls are signed for.
    pub region: String,
}

impl Access {
    /// Lets a request on, or says why not. A body that was read on the way is in the request again.
    pub(super) async fn admit(&self, request: Request, limit: usize) -> Result<Request, Error> {
        if self.token.authorizes(request.headers()) {
            return Ok(request);
        }
        let (head, body) = request.into_parts();
        let Some(claim) = Claim::of(&head)? else {
            return Err(match head.uri.path().starts_with(LAMBDA) {
                false => Error::Unauthorized,
                true if head.headers.contains_key(header::AUTHORIZATION) => {
                    Refusal::Unrecognized.into()
                }
                true => Refusal::Missing.into(),
            });
        };
        let user = self.credentials.find(&claim.key_id);
        let user = user.ok_or(Refusal::Unrecognized)?;
        claim.check(Timestamp::now(), &self.region, service(&head))?;
        if let Some(announced) = &claim.payload {
            claim.verify(&head, &user.secret, announced)?;
        }
        let (bytes, digest) = read(body, limit).await?;
        match &claim.payload {
            Some(announced) if *announced == digest => {}
            Some(_) => {
                return Err(Refusal::invalid(
                    "The SHA-256 of the body is not the one in x-amz-content-sha256.",
                )
                .into());
            }
            None => claim.verify(&head, &user.secret, &digest)?,
        }
        tracing::debug!(user = user.name, method = %head.method, path = head.uri.path(), "a signed call");
        Ok(Request::from_parts(head, Body::from(bytes)))
    }
}

/// A body, and its digest, computed as it comes.
async fn read(mut body: Body, limit: usize) -> Result<(Bytes, Digest), Error> {
    let mut hasher = Sha256::new();
    let mut bytes = BytesMut::new();
    // What announces itself as too large is not read at all.
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limit {
        return Err(Error::TooLarge(limit));
    }
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Error::broken_off())?;
        let Some(data) = frame.data_ref() else {
            continue;
        };
        if data.len() > limit - bytes.len() {
            return Err(Error::TooLarge(limit));
        }
        hasher.update(data);
        bytes.extend_from_slice(data);
    }
    let digest = Digest::from_array(hasher.finalize().into());
    Ok((bytes.freeze(), digest))
}
