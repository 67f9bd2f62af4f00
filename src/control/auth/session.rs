//! Temporary credentials: an access key, a secret, and a token that says whose they are and until when.
//!
//! The node keeps nothing of them. The token is sealed with the node's key, secret and all: whoever sends it with a call
//! brings what the call is verified with, and nobody else can make one. What a session may do is looked up with each call,
//! so a role that is changed or removed is so for its sessions too.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Refusal,
    credentials::{new_id, new_secret},
};
use crate::store::{self, Sealer};

/// What tokens are sealed for.
const CONTEXT: &str = "session-token";

/// The longest token that is looked at. Ours have a few hundred bytes, and a policy of 2,048 at most.
const LONGEST: usize = 8192;

/// Temporary credentials.
#[derive(Serialize, Deserialize)]
pub(in crate::control) struct Session {
    pub(in crate::control) key_id: String,
    pub(in crate::control) secret: String,
    pub(in crate::control) issued: Timestamp,
    pub(in crate::control) expires: Timestamp,
    pub(in crate::control) whose: Whose,
}

/// Who acts in a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::control) enum Whose {
    /// The account's root.
    Root,
    /// A user.
    User {
        /// Their name.
        name: String,
        /// Their id: another user of the name is another user.
        id: String,
    },
    /// Somebody in a role.
    Role {
        /// The role's name.
        role: String,
        /// Its id: another role of the name is another role.
        id: String,
        /// What the session is called.
        session: String,
        /// What it may do of what the role may.
        policy: Option<String>,
    },
}

impl Session {
    /// Begins a session.
    pub(in crate::control) fn begin(
        whose: Whose,
        now: Timestamp,
        seconds: i64,
    ) -> std::io::Result<Self> {
        let expires = now + jiff::SignedDuration::from_secs(seconds);
        Ok(Self {
            // Not of the letters of a user's keys, as AWS's `ASIA…` are not `AKIA…`.
            key_id: new_id("WHARFSESSION", 8)?,
            secret: new_secret()?,
            issued: now,
            expires,
            whose,
        })
    }

    /// The token.
    pub(in crate::control) fn token(&self, sealer: &Sealer) -> Result<String, store::Error> {
        let json = serde_json::to_vec(self).expect("texts and times are JSON");
        sealer.seal(CONTEXT, &json)
    }

    /// The session of a token that is sent with an access key.
    pub(super) fn open(
        token: &str,
        key_id: &str,
        sealer: &Sealer,
        now: Timestamp,
    ) -> Result<Self, Refusal> {
        if token.len() > LONGEST {
            return Err(Refusal::Unrecognized);
        }
        let json = sealer
            .open(CONTEXT, token)
            .map_err(|_| Refusal::Unrecognized)?;
        let session: Self = serde_json::from_slice(&json).map_err(|_| Refusal::Unrecognized)?;
        if session.key_id != key_id {
            return Err(Refusal::Unrecognized);
        }
        if session.expires <= now {
            return Err(Refusal::Expired);
        }
        Ok(session)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::{DataFolder, KeyValueLimits, Sqlite};

    #[test]
    fn a_token_is_good_for_its_key_and_its_time() {
        let data = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(data.path()).unwrap();
        let store = Sqlite::open(&folder, KeyValueLimits::default()).unwrap();
        let sealer: Arc<Sealer> = store.sealer().clone();
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let begun = at("2026-11-25T12:00:00Z");
        let session = Session::begin(Whose::Root, begun, 900).unwrap();
        let token = session.token(&sealer).unwrap();
        assert!(!token.contains(&session.secret));
        let open = |token: &str, key_id: &str, now| {
            let opened = Session::open(token, key_id, &sealer, at(now));
            opened.map(|session| session.secret)
        };
        let key = session.key_id.as_str();
        assert_eq!(key.len(), 20);
        assert_eq!(
            open(&token, key, "2026-11-25T12:14:59Z"),
            Ok(session.secret.clone())
        );
        assert_eq!(
            open(&token, key, "2026-11-25T12:15:00Z"),
            Err(Refusal::Expired)
        );
        let long = "a".repeat(LONGEST + 1);
        for (token, key) in [
            (token.as_str(), "WHARFSESSIONAAAAAAAA"),
            (&token[..token.len() - 4], key),
            ("", key),
            ("v1.00000000.AAAA", key),
            (long.as_str(), key),
        ] {
            assert_eq!(
                open(token, key, "2026-11-25T12:00:00Z"),
                Err(Refusal::Unrecognized)
            );
        }
        // What is sealed for another use is no token.
        let other = sealer.seal("access-key/X", b"{}").unwrap();
        assert_eq!(
            open(&other, key, "2026-11-25T12:00:00Z"),
            Err(Refusal::Unrecognized)
        );
    }
}
