//! Answers to an authority that asks whether a host is this node's (RFC 8555, section 8; RFC 8737).
//!
//! Whoever orders a certificate gives them here; the listeners take them from here. They are few, and there for as long as
//! an order takes.

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;

/// Where a listener in clear text is asked, followed by a token (RFC 8555, section 8.3).
const WELL_KNOWN: &str = "/.well-known/acme-challenge/";

/// The protocol that a validating client asks for, and no other (RFC 8737, section 6.2).
pub const ALPN: &[u8] = b"acme-tls/1";

/// The answers that are to be given now.
#[derive(Debug, Default)]
pub struct Challenges(ArcSwap<Answers>);

#[derive(Debug, Default, Clone)]
struct Answers {
    http: HashMap<String, String>,
    tls: HashMap<String, Arc<rustls::ServerConfig>>,
}

/// An answer that is given until this is dropped.
#[derive(Debug)]
pub struct Answer {
    challenges: Arc<Challenges>,
    key: Key,
}

#[derive(Debug)]
enum Key {
    Token(String),
    Host(String),
}

impl Challenges {
    /// Answers whoever asks for a token over HTTP.
    pub fn over_http(self: &Arc<Self>, token: &str, answer: &str) -> Answer {
        self.change(|answers| {
            answers.http.insert(token.to_owned(), answer.to_owned());
        });
        self.answer(Key::Token(token.to_owned()))
    }

    /// Shakes hands in this way with who validates a host over TLS.
    pub fn over_tls(self: &Arc<Self>, host: &str, config: Arc<rustls::ServerConfig>) -> Answer {
        self.change(|answers| {
            answers.tls.insert(host.to_owned(), config.clone());
        });
        self.answer(Key::Host(host.to_owned()))
    }

    /// The answer to a request for this path, if it asks for a token that is known.
    pub fn to_path(&self, path: &str) -> Option<String> {
        let token = path.strip_prefix(WELL_KNOWN)?;
        self.0.load().http.get(token).cloned()
    }

    /// How to shake hands with a client that validates this host.
    pub fn to_hello(&self, host: &str) -> Option<Arc<rustls::ServerConfig>> {
        self.0.load().tls.get(host).cloned()
    }

    fn change(&self, change: impl Fn(&mut Answers)) {
        self.0.rcu(|answers| {
            let mut answers = Answers::clone(answers);
            change(&mut answers);
            answers
        });
    }

    fn answer(self: &Arc<Self>, key: Key) -> Answer {
        Answer {
            challenges: Arc::clone(self),
            key,
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.challenges.change(|answers| match &self.key {
            Key::Token(token) => {
                answers.http.remove(token);
            }
            Key::Host(host) => {
                answers.tls.remove(host);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_given_for_its_token_while_it_is_held() {
        let challenges = Arc::<Challenges>::default();
        let held = challenges.over_http("abc", "abc.thumb");
        let other = challenges.over_http("def", "def.thumb");
        let path = "/.well-known/acme-challenge/abc";
        assert_eq!(challenges.to_path(path).as_deref(), Some("abc.thumb"));
        for path in [
            "/",
            "/.well-known/acme-challenge/",
            "/.well-known/acme-challenge/ab",
            "/.well-known/acme-challenge/abc/",
            "/x/.well-known/acme-challenge/abc",
        ] {
            assert_eq!(challenges.to_path(path), None, "{path}");
        }
        drop(held);
        assert_eq!(challenges.to_path(path), None);
        drop(other);
        assert!(challenges.0.load().http.is_empty());
    }
}
