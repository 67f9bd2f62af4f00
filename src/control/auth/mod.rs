//! Who may use the API, and for what: whoever has the node's [`Token`], or signs with an access key of it ([`Identities`]).
//!
//! [`Access::admit`] finds out who calls, and leaves the [`Caller`] in the request; what they may do is for who knows what
//! the request is for: a [`Subject`] is held against their policies ([`policy`]).
//!
//! A signature covers the body, so a signed request is read to its end before it is let on, up to its route's limit. What
//! can be judged without the body is judged first: a body is read only for who names an access key of this node, a time
//! that is now, and a signature in the right form; where the body's digest is announced, only for a signature that holds.

mod caller;
mod credentials;
mod identities;
mod managed;
pub mod policy;
mod refusal;
mod session;
mod sigv4;
mod subject;
mod token;
mod url;

use std::sync::Arc;

use axum::{body::Body, extract::Request};
use bytes::{Bytes, BytesMut};
use http::{header, request::Parts};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use caller::{Caller, Denied, Identity, IdentityKind, Peer};
pub use credentials::{CREDENTIALS_FILE, Credentials, CredentialsError};
pub use identities::Identities;
pub use refusal::Refusal;
pub use token::{TOKEN_FILE, Token};
pub use url::UrlRefusal;

pub(super) use credentials::{is_name, new_id, new_secret};
pub(super) use managed::{MANAGED, Managed, by_arn as managed_by_arn};
pub(super) use session::{Session, Whose};
pub(super) use subject::Subject;

use super::Error;
use crate::model::Digest;
use caller::Circumstances;
use sigv4::Claim;

/// The paths of the Lambda API, whose clients want to be refused as Lambda refuses.
const LAMBDA: &str = "/2015-03-31/";

/// Where AWS's clients think that services are which are everywhere, such as IAM.
const GLOBAL: &str = "us-east-1";

/// Bytes of all bodies that wait for their signature to be judged, or to be answered: some uploads of the largest packages at
/// one moment. An access key's id, which is all it takes to have a body read, is no secret.
const BODIES: usize = 512 << 20;

/// What opens the API of a node.
#[derive(Debug)]
pub struct Access {
    /// The token, which may do everything.
    pub token: Token,
    /// Everybody who has access keys.
    pub identities: Arc<Identities>,
    /// The region that calls are signed for.
    pub region: String,
    /// Room for the bodies of signed requests.
    pub bodies: Bodies,
}

/// Room for the bodies of signed requests, in bytes.
#[derive(Debug)]
pub struct Bodies(Arc<Semaphore>);

impl Default for Bodies {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(BODIES)))
    }
}

/// The room that a body takes, for as long as this is kept.
#[derive(Debug, Clone)]
struct Held(
    #[expect(dead_code, reason = "it is kept, and not looked at")] Arc<OwnedSemaphorePermit>,
);

impl Bodies {
    /// Room for `bytes` more. Nobody waits for it: who does would keep what it has.
    fn take(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Error> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let room = self.0.clone().try_acquire_many_owned(bytes);
        room.map_err(|_| {
            Error::Unavailable(
                "it has no room for the body among those that it reads now; try again".to_owned(),
            )
        })
    }
}

/// What a request may be signed for.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    /// One of these services.
    pub(super) services: Vec<&'static str>,
    /// Whether they are everywhere, and so signed for `us-east-1` too.
    pub(super) global: bool,
    /// Whether its clients are AWS's, who want to be refused as AWS refuses.
    pub(super) aws: bool,
}

impl Scope {
    /// What the node's own paths are signed for.
    pub(super) fn own() -> Self {
        Self {
            services: vec!["lambda"],
            global: false,
            aws: false,
        }
    }
}

impl Access {
    /// Lets a request on, or says why not. The [`Caller`] is among its extensions then. A body that was read on the way is
    /// in the request again.
    pub(super) async fn admit(
        &self,
        request: Request,
        limit: usize,
        scope: &Scope,
    ) -> Result<Request, Error> {
        let (mut head, body) = request.into_parts();
        if self.token.authorizes(&head.headers) {
            let root = Arc::new(Identity::root(self.identities.account()));
            self.introduce(&mut head, root);
            return Ok(Request::from_parts(head, body));
        }
        let Some(claim) = Claim::of(&head)? else {
            return Err(match scope.aws || head.uri.path().starts_with(LAMBDA) {
                false => Error::Unauthorized,
                true if head.headers.contains_key(header::AUTHORIZATION) => {
                    Refusal::Unrecognized.into()
                }
                true => Refusal::Missing.into(),
            });
        };
        let (head, bytes, _) = self.signed(&claim, head, body, limit, scope).await?;
        Ok(Request::from_parts(head, Body::from(bytes)))
    }

    /// Holds a request against its signature, and reads it to its end.
    async fn signed(
        &self,
        claim: &Claim,
        mut head: Parts,
        body: Body,
        limit: usize,
        scope: &Scope,
    ) -> Result<(Parts, Bytes, Caller), Error> {
        let token = claim.token.as_deref();
        let found = self.identities.find(&claim.key_id, token).await?;
        let mut regions = vec![self.region.as_str()];
        if scope.global && self.region != GLOBAL {
            regions.push(GLOBAL);
        }
        claim.check(Timestamp::now(), &regions, &scope.services)?;
        if let Some(announced) = &claim.payload {
            claim.verify(&head, &found.secret, announced)?;
        }
        let (bytes, digest, held) = read(body, limit, &self.bodies).await?;
        head.extensions.insert(Held(Arc::new(held)));
        match &claim.payload {
            Some(announced) if *announced == digest => {}
            Some(_) => {
                return Err(Refusal::invalid(
                    "The SHA-256 of the body is not the one in x-amz-content-sha256.",
                )
                .into());
            }
            None => claim.verify(&head, &found.secret, &digest)?,
        }
        tracing::debug!(caller = found.identity.arn, method = %head.method, path = head.uri.path(), "a signed call");
        let caller = self.introduce(&mut head, found.identity);
        Ok((head, bytes, caller))
    }

    /// Leaves in a request who makes it.
    fn introduce(&self, head: &mut Parts, identity: Arc<Identity>) -> Caller {
        let agent = head.headers.get(header::USER_AGENT);
        let caller = Caller {
            identity,
            circumstances: Circumstances {
                now: Timestamp::now(),
                peer: head.extensions.get::<Peer>().copied(),
                agent: agent.and_then(|agent| Some(agent.to_str().ok()?.to_owned())),
                region: self.region.clone(),
            },
        };
        head.extensions.insert(caller.clone());
        caller
    }
}

/// A body, its digest, computed as it comes, and the room that it takes.
async fn read(
    mut body: Body,
    limit: usize,
    room: &Bodies,
) -> Result<(Bytes, Digest, OwnedSemaphorePermit), Error> {
    let mut hasher = Sha256::new();
    let mut bytes = BytesMut::new();
    // What announces itself as too large is not read at all.
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limit {
        return Err(Error::TooLarge(limit));
    }
    let mut held = room.take(0)?;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Error::broken_off())?;
        let Some(data) = frame.data_ref() else {
            continue;
        };
        if data.len() > limit - bytes.len() {
            return Err(Error::TooLarge(limit));
        }
        held.merge(room.take(data.len())?);
        hasher.update(data);
        bytes.extend_from_slice(data);
    }
    let digest = Digest::from_array(hasher.finalize().into());
    Ok((bytes.freeze(), digest, held))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bodies_take_no_more_room_than_there_is_and_give_it_back() {
        let room = Bodies(Arc::new(Semaphore::new(10)));
        let body = |size| Body::from(vec![0; size]);
        let (_, _, held) = read(body(6), 100, &room).await.unwrap();
        let refused = read(body(5), 100, &room).await;
        assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
        drop(refused);
        assert!(read(body(4), 100, &room).await.is_ok());
        drop(held);
        assert!(read(body(10), 100, &room).await.is_ok());
        let large = read(body(10), 9, &room).await;
        assert!(matches!(large, Err(Error::TooLarge(9))), "{large:?}");
    }
}
