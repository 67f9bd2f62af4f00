//! A stored response.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{
        AGE, CONNECTION, CONTENT_LENGTH, DATE, ETAG, LAST_MODIFIED, TE, TRAILER, TRANSFER_ENCODING,
        UPGRADE,
    },
};

use super::{
    clock::Moment,
    directives::{Demands, OURS},
    disk::{BodyFile, Disk},
    freshness::{Freshness, Reuse},
    index::Label,
    key::Key,
    recoded::Recoded,
    statistics::Counters,
    status::CACHE_STATUS,
    storable::Storable,
    vary::Vary,
};

/// Fields that name the tags of a response, for purging.
const CACHE_TAG: HeaderName = HeaderName::from_static("cache-tag");
const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");

/// What clients do not see: the field that is for this cache only, and the tags.
static HIDDEN: [HeaderName; 3] = [OURS, CACHE_TAG, SURROGATE_KEY];

/// The most tags of a response that is stored: what has more could not be purged by all of them.
const MOST_TAGS: usize = 1024;

/// All of a stored response but its body.
#[derive(Debug, Clone)]
pub(super) struct Head {
    /// Of the variant.
    pub(super) key: Key,
    pub(super) label: Label,
    pub(super) status: StatusCode,
    /// As clients get them, but for the age.
    pub(super) headers: HeaderMap,
    /// Fields that clients do not get, and a later 304 builds on.
    pub(super) hidden: HeaderMap,
    /// Without, it is stored as the origin sent it.
    pub(super) recoded: Option<Recoded>,
    pub(super) freshness: Freshness,
    /// No two stored responses have the same.
    pub(super) version: u64,
    pub(super) counters: Arc<Counters>,
}

/// A stored response, whole.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) head: Head,
    pub(super) content: Content,
    pub(super) length: u64,
    /// When it was marked stale, in milliseconds; 0 if it was not.
    marked: AtomicU64,
}

#[cfg(test)]
impl Head {
    /// Of an empty answer that is not fresh.
    pub(super) fn example(key: Key) -> Self {
        let (headers, now) = (HeaderMap::new(), Moment::default());
        let directives = super::directives::Directives::default();
        let policy = crate::model::CachePolicy::default();
        let freshness = Freshness::new(StatusCode::OK, &headers, &directives, &policy, now, now);
        Self {
            key,
            label: Label {
                distribution: "site".into(),
                url: "http://a/".into(),
                asked: None,
                tags: [].into(),
            },
            status: StatusCode::OK,
            headers,
            hidden: HeaderMap::new(),
            recoded: None,
            freshness,
            version: 1,
            counters: Arc::new(Counters::default()),
        }
    }
}

/// Where the body is.
#[derive(Debug, Clone)]
pub(super) enum Content {
    Memory(Bytes),
    /// With the disk that has it.
    File(Arc<BodyFile>, Arc<Disk>),
}

/// That a resource has variants, and by which fields they are chosen.
#[derive(Debug)]
pub(super) struct Varying {
    /// Of the resource.
    pub(super) key: Key,
    pub(super) label: Label,
    pub(super) vary: Vary,
    pub(super) version: u64,
    /// When the response came that says so. What is read from disk does not know it: it is older than what comes.
    pub(super) received: Moment,
}

impl Head {
    /// The validators by which the origin knows the response.
    pub(super) fn validators(&self) -> HeaderMap {
        let mut validators = HeaderMap::new();
        for name in [ETAG, LAST_MODIFIED] {
            if let Some(value) = self.headers.get(&name) {
                validators.insert(name, value.clone());
            }
        }
        if let Some(recoded) = &self.recoded {
            recoded.undo(&mut validators);
        }
        validators
    }
}

impl Stored {
    pub(super) fn new(head: Head, content: Content, length: u64, marked: Option<Moment>) -> Self {
        Self {
            head,
            content,
            length,
            marked: AtomicU64::new(marked.map_or(0, Moment::as_millis)),
        }
    }

    /// When it was marked stale.
    pub(super) fn marked(&self) -> Option<Moment> {
        match self.marked.load(SeqCst) {
            0 => None,
            millis => Some(Moment::from_millis(millis)),
        }
    }

    /// Marks it stale. It stays so from the first mark on: a second would let it be served for longer (RFC 5861 section 3).
    pub(super) fn mark(&self, now: Moment) {
        mark(&self.marked, now);
    }

    /// For how many more seconds it is fresh; not more than 0 when it is stale, also by a mark.
    pub(super) fn ttl(&self, now: Moment) -> i64 {
        self.head.freshness.ttl(now, self.marked())
    }

    pub(super) fn reuse(&self, now: Moment, demands: &Demands) -> Reuse {
        self.head.freshness.reuse(now, demands, self.marked())
    }

    pub(super) fn on_error(&self, now: Moment, demands: &Demands) -> bool {
        self.head.freshness.on_error(now, demands, self.marked())
    }
}

/// Notes when a response was marked, if it was not before, and gives the time that holds.
pub(super) fn mark(marked: &AtomicU64, now: Moment) -> Moment {
    let now = now.as_millis().max(1);
    let before = marked.compare_exchange(0, now, SeqCst, SeqCst);
    Moment::from_millis(before.map_or_else(|earlier| earlier, |_| now))
}

/// A number that no other stored response has, not even one of an earlier run.
pub(super) fn version() -> u64 {
    // Without random bytes the time is unique enough: versions tell responses of one key apart.
    getrandom::u64().unwrap_or_else(|_| {
        Moment::from(std::time::SystemTime::now()).as_millis() ^ u64::from(std::process::id())
    })
}

/// The fields of a response that are stored, RFC 9111 section 3.1: those that clients get, and those that they do not.
/// `Cache-Status` says how an earlier request was handled, so it is not stored.
pub(super) fn storable_fields(
    headers: &HeaderMap,
    storable: &Storable,
    received: Moment,
    expose_tags: bool,
) -> (HeaderMap, HeaderMap) {
    let mut fields = headers.clone();
    strip_hop_by_hop(&mut fields);
    for name in &storable.withheld {
        fields.remove(name);
    }
    fields.remove(CACHE_STATUS);
    fields.remove(AGE);
    if !fields.contains_key(DATE) {
        fields.insert(DATE, received.to_http_date());
    }
    let mut hidden = HeaderMap::new();
    for name in hidden_names(expose_tags) {
        for value in fields.get_all(name) {
            hidden.append(name, value.clone());
        }
        fields.remove(name);
    }
    (compact(&fields), compact(&hidden))
}

/// The same fields, their values in one piece of memory: as they came they are parts of what was read from the origin, all of
/// which they would keep.
fn compact(fields: &HeaderMap) -> HeaderMap {
    let length = fields.values().map(HeaderValue::len).sum();
    let mut bytes = BytesMut::with_capacity(length);
    for value in fields.values() {
        bytes.extend_from_slice(value.as_bytes());
    }
    let mut rest = bytes.freeze();
    let mut compact = HeaderMap::with_capacity(fields.keys_len());
    for (name, value) in fields {
        let copy = HeaderValue::from_maybe_shared(rest.split_to(value.len()))
            .expect("a value's bytes are a value");
        compact.append(name, copy);
    }
    compact
}

/// Leaves out what is between origin and cache: the field that is for this cache only, and the tags.
pub(in crate::edge) fn strip_for_client(fields: &mut HeaderMap, expose_tags: bool) {
    for name in hidden_names(expose_tags) {
        fields.remove(name);
    }
}

fn hidden_names(expose_tags: bool) -> &'static [HeaderName] {
    let names: &[HeaderName] = &HIDDEN;
    if expose_tags { &names[..1] } else { names }
}

/// RFC 9110 section 7.6.1.
fn strip_hop_by_hop(fields: &mut HeaderMap) {
    let named: Vec<HeaderName> = fields
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        .collect();
    for name in named {
        fields.remove(name);
    }
    for name in [CONNECTION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE] {
        fields.remove(name);
    }
    for name in [
        "keep-alive",
        "proxy-connection",
        "proxy-authenticate",
        "proxy-authentication-info",
        "proxy-authorization",
    ] {
        fields.remove(name);
    }
}

/// Says how long the body is, now that it is known.
pub(super) fn set_length(fields: &mut HeaderMap, status: StatusCode, length: u64) {
    // RFC 9110 section 8.6: a 204 has no such field.
    if status == StatusCode::NO_CONTENT {
        fields.remove(CONTENT_LENGTH);
    } else {
        fields.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
}

/// The tags of a response: those of `Cache-Tag` stand between commas or spaces, those of `Surrogate-Key` between spaces.
pub(super) fn tags(headers: &HeaderMap) -> Arc<[Arc<str>]> {
    let texts = |name: HeaderName| {
        let lines = headers.get_all(name).iter();
        lines
            .map(|line| String::from_utf8_lossy(line.as_bytes()).into_owned())
            .collect::<Vec<_>>()
    };
    let mut tags: Vec<Arc<str>> = Vec::new();
    for line in texts(CACHE_TAG) {
        tags.extend(line.split([',', ' ', '\t']).map(Arc::from));
    }
    for line in texts(SURROGATE_KEY) {
        tags.extend(line.split([' ', '\t']).map(Arc::from));
    }
    tags.retain(|tag| !tag.is_empty());
    tags.sort_unstable();
    tags.dedup();
    tags.into()
}

/// Whether a response has more tags than it may be stored with.
pub(super) fn has_too_many_tags(headers: &HeaderMap) -> bool {
    let is_tagged = headers.contains_key(CACHE_TAG) || headers.contains_key(SURROGATE_KEY);
    is_tagged && tags(headers).len() > MOST_TAGS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_stand_between_commas_and_spaces() {
        let mut headers = HeaderMap::new();
        headers.append("cache-tag", "b, a c,,b".parse().unwrap());
        headers.append("surrogate-key", "d,e f".parse().unwrap());
        let tags: Vec<_> = tags(&headers).iter().map(ToString::to_string).collect();
        assert_eq!(tags, ["a", "b", "c", "d,e", "f"]);
    }

    #[test]
    fn stored_fields_keep_nothing_of_what_was_read() {
        let read = Bytes::from(vec![b'x'; 64 << 10]);
        let mut fields = HeaderMap::new();
        for at in [0, 100, 200] {
            let value = HeaderValue::from_maybe_shared(read.slice(at..at + 9)).unwrap();
            fields.append("x-value", value);
        }
        let stored = compact(&fields);
        assert_eq!(stored, fields);
        drop(fields);
        assert!(read.is_unique());
    }

    /// RFC 9110 section 7.6.1.
    #[test]
    fn what_is_for_one_connection_is_not_stored() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "x-one, close"),
            ("x-one", "1"),
            ("keep-alive", "1"),
            ("transfer-encoding", "chunked"),
            ("x-two", "2"),
        ] {
            headers.append(name, value.parse().unwrap());
        }
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers.keys().collect::<Vec<_>>(), ["x-two"]);
    }
}
