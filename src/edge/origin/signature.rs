//! How this node signs the messages that it forwards, and knows those that it has signed before.

use http::{HeaderMap, HeaderValue, Version};

pub(super) use crate::model::hop::CDN_LOOP;

/// This node, as it signs messages.
#[derive(Debug)]
pub(super) struct Signature {
    id: Box<str>,
    cdn_loop: HeaderValue,
    via: [HeaderValue; 3],
}

impl Signature {
    /// None if the name is no token (RFC 9110 §5.6.2), or a host with a port.
    pub(super) fn new(id: &str) -> Option<Self> {
        let fits = !id.is_empty()
            && id
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:".contains(&byte));
        let value = |text: String| HeaderValue::try_from(text).ok();
        Some(Self {
            id: fits.then(|| id.into())?,
            cdn_loop: value(id.to_owned())?,
            via: [
                value(format!("1.0 {id}"))?,
                value(format!("1.1 {id}"))?,
                value(format!("2.0 {id}"))?,
            ],
        })
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// This node's element of `CDN-Loop`.
    pub(super) fn cdn_loop(&self) -> HeaderValue {
        self.cdn_loop.clone()
    }

    /// An element of `Via` for a message that came as this version (RFC 9110 §7.6.3).
    pub(super) fn via(&self, version: Version) -> HeaderValue {
        let [old, one, two] = &self.via;
        match version {
            Version::HTTP_2 | Version::HTTP_3 => two,
            Version::HTTP_09 | Version::HTTP_10 => old,
            _ => one,
        }
        .clone()
    }
}

/// Whether `CDN-Loop` (RFC 8586) has this id: the request has come through before.
pub fn is_loop(headers: &HeaderMap, id: &str) -> bool {
    headers
        .get_all(CDN_LOOP)
        .iter()
        .any(|value| names(value.as_bytes(), id.as_bytes()))
}

/// Whether an element of a list begins with the id. What is quoted in its parameters is no element.
fn names(list: &[u8], id: &[u8]) -> bool {
    let is_named = |element: &[u8]| {
        let name = element.split(|byte| *byte == b';').next();
        name.is_some_and(|name| name.trim_ascii().eq_ignore_ascii_case(id))
    };
    let mut quoted = false;
    let mut escaped = false;
    let mut elements = list.split(|byte| {
        let separates = *byte == b',' && !quoted;
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
        separates
    });
    if elements.any(is_named) {
        return true;
    }
    // A client may open a quote, and who joins lines (RFC 9110 §5.3) puts the id behind it. One that never closes quotes nothing.
    quoted && list.split(|byte| *byte == b',').any(is_named)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8586 §2.
    #[test]
    fn a_request_that_was_here_before_is_a_loop() {
        for (values, expected) in [
            (&["node-7"][..], true),
            (&["NODE-7"], true),
            (&["other, node-7"], true),
            (&["other", "node-7"], true),
            (&["other;v=\"1,2\", node-7 ; v=1"], true),
            (&["node-70"], false),
            (&["my-node-7"], false),
            (&["other; by=node-7"], false),
            (&["other; by=\", node-7\""], false),
            (&["other; by=\"\\\", node-7\""], false),
            (&["other; by=\", node-7"], true),
            (&["other; by=\"\\, node-7"], true),
            (&["other; by=\", node-70"], false),
            (&["other; by=\"node-7"], false),
            (&[""], false),
            (&[], false),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CDN_LOOP, HeaderValue::from_static(value));
            }
            assert_eq!(is_loop(&headers, "node-7"), expected, "{values:?}");
        }
    }

    #[test]
    fn a_node_is_named_by_a_token_or_a_host() {
        assert!(Signature::new("edge.test:443").is_some());
        for bad in ["", "a b", "a,b", "a;b", "\"a\"", "a\r\nb", "ä"] {
            assert!(Signature::new(bad).is_none(), "{bad}");
        }
    }
}
