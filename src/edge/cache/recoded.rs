//! Responses whose content coding was chosen between the origin and the cache.
//!
//! What is stored is then not what the origin sent: its tag is weak where the origin's is strong, and it varies by
//! `Accept-Encoding`. The origin still speaks of what it sent: it is asked by its own tag, and what a 304 says is made to fit
//! what is stored.

use http::{
    HeaderMap, HeaderName, HeaderValue, Response,
    header::{ACCEPT_ENCODING, CONTENT_ENCODING, ETAG, VARY},
};

/// What depends on each byte of the content, or of the representation, whose coding is part of it (RFC 9530 sections 2 and
/// 3), and the fields that these took the place of.
static DIGESTS: [HeaderName; 4] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-md5"),
];

/// That the coding of a response was chosen by this node; an extension of the response.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::edge) struct Recoded {
    /// The origin's tag, if the response has another.
    pub(in crate::edge) tag: Option<HeaderValue>,
}

impl Recoded {
    pub(super) fn of<B>(response: &Response<B>) -> Option<Self> {
        let recoded: &Self = response.extensions().get()?;
        // A copy: the value is a part of what was read from the origin, all of which it would keep.
        let copy = |tag: &HeaderValue| HeaderValue::from_bytes(tag.as_bytes()).ok();
        Some(Self {
            tag: recoded.tag.as_ref().and_then(copy),
        })
    }

    /// The fields of a response with the tag that its origin gave it.
    pub(super) fn undone<B>(response: &Response<B>) -> HeaderMap {
        let mut fields = response.headers().clone();
        if let Some(recoded) = response.extensions().get::<Self>() {
            recoded.undo(&mut fields);
        }
        fields
    }

    /// The fields with the tag that the origin gave.
    pub(super) fn undo(&self, fields: &mut HeaderMap) {
        if let Some(tag) = &self.tag {
            fields.insert(ETAG, tag.clone());
        }
    }

    /// Makes the fields of a stored response right again after the origin updated them.
    pub(super) fn redo(&self, stored: &HeaderMap, updated: &mut HeaderMap) {
        if self.tag.is_some() {
            match stored.get(ETAG) {
                Some(tag) => updated.insert(ETAG, tag.clone()),
                None => updated.remove(ETAG),
            };
        }
        vary(updated);
        if stored.contains_key(CONTENT_ENCODING) {
            strip_digests(updated);
        }
    }
}

/// Says that a response depends on `Accept-Encoding`.
pub(in crate::edge) fn vary(fields: &mut HeaderMap) {
    let said = fields
        .get_all(VARY)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|name| {
            let name = name.trim();
            name == "*" || name.eq_ignore_ascii_case(ACCEPT_ENCODING.as_str())
        });
    if !said {
        fields.append(VARY, HeaderValue::from_static("accept-encoding"));
    }
}

/// Leaves out digests of what is sent with another coding now.
pub(in crate::edge) fn strip_digests(fields: &mut HeaderMap) {
    for name in &DIGESTS {
        fields.remove(name);
    }
}
