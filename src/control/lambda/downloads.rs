//! Links to code, for whoever was given one: `Code.Location` and `Content.Location` of Lambda's API.
//!
//! A link is signed with a key of this run of the node and good for ten minutes, as Lambda's are. It opens one blob.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::{control::verbs::now_ms, model::Digest};

/// How long a link is good.
const GOOD_MS: u64 = 600_000;

/// Signs links and checks them.
pub(in crate::control) struct Downloads([u8; 32]);

impl Downloads {
    /// With a key that nobody else has.
    pub(in crate::control) fn new() -> Self {
        let mut key = [0; 32];
        // Without randomness there would be no tokens and no node either.
        if let Err(error) = getrandom::fill(&mut key) {
            tracing::error!(%error, "there is no randomness, links to code will not work");
        }
        Self(key)
    }

    /// A link to a blob on this node's API, at the authority that the caller found it at.
    pub(in crate::control) fn link(&self, authority: &str, blob: &Digest) -> String {
        let expires = now_ms() + GOOD_MS;
        let signature = self.sign(blob, expires);
        format!("http://{authority}/wharf/v1/code/{blob}?expires={expires}&signature={signature}")
    }

    /// Whether a link was made here and is still good.
    pub(in crate::control) fn opens(&self, blob: &Digest, expires: u64, signature: &str) -> bool {
        let Ok(signature) = signature.parse::<Digest>() else {
            return false;
        };
        let right = self.mac(blob, expires).verify_slice(signature.as_bytes());
        right.is_ok() && now_ms() < expires && self.0 != [0; 32]
    }

    fn sign(&self, blob: &Digest, expires: u64) -> Digest {
        Digest::from_array(self.mac(blob, expires).finalize().into_bytes().into())
    }

    fn mac(&self, blob: &Digest, expires: u64) -> Hmac<Sha256> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(blob.as_bytes());
        mac.update(&expires.to_be_bytes());
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_opens_its_blob_until_it_expires_and_no_other() {
        let (downloads, others) = (Downloads::new(), Downloads::new());
        let blob = Digest::of(b"code");
        let expires = now_ms() + 1000;
        let signature = downloads.sign(&blob, expires).to_string();
        assert!(downloads.opens(&blob, expires, &signature));
        assert!(!downloads.opens(&Digest::of(b"other"), expires, &signature));
        assert!(!downloads.opens(&blob, expires + 1, &signature));
        assert!(!others.opens(&blob, expires, &signature));
        let past = now_ms() - 1;
        let signature = downloads.sign(&blob, past).to_string();
        assert!(!downloads.opens(&blob, past, &signature));
    }
}
