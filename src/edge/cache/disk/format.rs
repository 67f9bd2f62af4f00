//! The file of a stored response.
//!
//! ```text
//! magic 8 · marked 8 · length of meta 4 · checksum of meta 32 · meta · body, if it is small
//! ```
//!
//! `marked` is when the response was marked stale, and the only part that is ever written again; no checksum has it, as
//! any value but 0 only makes a response staler. The meta has the checksum of the body behind it. Numbers are big-endian,
//! texts have their length before them.
//!
//! Whatever the bytes are, reading them gives what was written or nothing.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::edge::cache::{
    clock::Moment,
    freshness::Freshness,
    index::Label,
    key::Key,
    recoded::Recoded,
    statistics::Registry,
    stored::{Head, Varying},
    vary::Vary,
};

/// Changes with the layout: a file of another is a miss.
const MAGIC: &[u8; 8] = b"wharfc01";

/// Where `marked` is.
pub(super) const MARKED_AT: u64 = 8;

/// What is before the meta.
pub(super) const PREFIX: usize = 8 + 8 + 4 + 32;

/// The longest meta that is read.
pub(super) const MOST_META: usize = 4 << 20;

const RESPONSE: u8 = 1;
const VARYING: u8 = 2;

/// Beside the kind: what stands at the end of the meta. Files of earlier versions have none of it.
const RECODED: u8 = 1 << 4;
const WITH_TAG: u8 = 1 << 5;
const WITH_ASKED: u8 = 1 << 6;
const PARTS: u8 = RECODED | WITH_TAG | WITH_ASKED;

/// What a file says, without the body behind it.
#[derive(Debug)]
pub(super) enum Meta {
    Response {
        head: Box<Head>,
        length: u64,
        body: Place,
    },
    Varying(Varying),
}

/// Where the body of a response is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Behind the meta, with this checksum.
    Inline([u8; 32]),
    /// In the body file of this version.
    File(u64),
}

/// The beginning of a file: how long its meta is, and when the response was marked stale.
#[derive(Debug)]
pub(super) struct Prefix {
    pub(super) marked: Option<Moment>,
    pub(super) length: usize,
    sum: [u8; 32],
}

impl Prefix {
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        if reader.take(8)? != MAGIC {
            return None;
        }
        let marked = reader.number()?;
        let length = usize::try_from(u32::from_be_bytes(reader.array()?)).ok()?;
        (length <= MOST_META).then_some(())?;
        Some(Self {
            marked: (marked != 0).then(|| Moment::from_millis(marked)),
            length,
            sum: reader.array()?,
        })
    }

    pub(super) fn matches(&self, meta: &[u8]) -> bool {
        meta.len() == self.length && *blake3::hash(meta).as_bytes() == self.sum
    }
}

/// The whole file of a response.
pub(super) fn encode_response(head: &Head, length: u64, body: Body<'_>) -> Vec<u8> {
    let tag = head.recoded.as_ref().and_then(|one| one.tag.as_ref());
    let mut kind = RESPONSE;
    if head.recoded.is_some() {
        kind |= RECODED;
    }
    if tag.is_some() {
        kind |= WITH_TAG;
    }
    let asked = &head.label.asked;
    if asked.is_some() {
        kind |= WITH_ASKED;
    }
    let mut meta = vec![kind];
    put_common(&mut meta, &head.key, &head.label, head.version);
    meta.extend_from_slice(&head.status.as_u16().to_be_bytes());
    let freshness = &head.freshness;
    for duration in [
        freshness.lifetime,
        freshness.initial_age,
        freshness.stale_while_revalidate,
        freshness.stale_if_error,
    ] {
        put_number(&mut meta, millis(duration));
    }
    put_number(&mut meta, freshness.received.as_millis());
    meta.push(u8::from(freshness.validate) | u8::from(freshness.strict) << 1);
    put_fields(&mut meta, &head.headers);
    put_fields(&mut meta, &head.hidden);
    put_number(&mut meta, length);
    let inline: &[u8] = match body {
        Body::Inline(body) => {
            meta.push(0);
            meta.extend_from_slice(blake3::hash(body).as_bytes());
            body
        }
        Body::File(version) => {
            meta.push(1);
            put_number(&mut meta, version);
            &[]
        }
    };
    if let Some(tag) = tag {
        put(&mut meta, tag.as_bytes());
    }
    if let Some(asked) = asked {
        put(&mut meta, asked.as_bytes());
    }
    file(&meta, inline)
}

/// The body of a response that is written.
#[derive(Debug, Clone, Copy)]
pub(super) enum Body<'a> {
    Inline(&'a [u8]),
    File(u64),
}

/// The whole file that says by what a resource varies.
pub(super) fn encode_varying(varying: &Varying) -> Vec<u8> {
    let asked = &varying.label.asked;
    let kind = asked.as_ref().map_or(VARYING, |_| VARYING | WITH_ASKED);
    let mut meta = vec![kind];
    put_common(&mut meta, &varying.key, &varying.label, varying.version);
    let names = varying.vary.names();
    put_number(&mut meta, names.len() as u64);
    for name in names {
        put(&mut meta, name.as_str().as_bytes());
    }
    if let Some(asked) = asked {
        put(&mut meta, asked.as_bytes());
    }
    file(&meta, &[])
}

/// What a meta says.
pub(super) fn decode(meta: &[u8], registry: &Registry) -> Option<Meta> {
    let mut reader = Reader(meta);
    let kind = reader.byte()?;
    let (kind, parts) = (kind & !PARTS, kind & PARTS);
    let key = Key::of_bytes(reader.text()?);
    let (distribution, counters) = registry.of(reader.str()?);
    let url = reader.str()?.into();
    let tags = reader.list(|reader| reader.str().map(Arc::from))?;
    let mut label = Label {
        distribution,
        url,
        asked: None,
        tags: tags.into(),
    };
    let version = reader.number()?;
    let meta = match kind {
        RESPONSE => {
            let status = StatusCode::from_u16(u16::from_be_bytes(reader.array()?)).ok()?;
            let freshness = reader.freshness()?;
            let (headers, hidden) = (reader.fields()?, reader.fields()?);
            let length = reader.number()?;
            let body = match reader.byte()? {
                0 => Place::Inline(reader.array()?),
                1 => Place::File(reader.number()?),
                _ => return None,
            };
            let tag = match parts & WITH_TAG {
                0 => None,
                _ => Some(HeaderValue::from_bytes(reader.text()?).ok()?),
            };
            let recoded = (parts & RECODED != 0).then_some(Recoded { tag });
            label.asked = reader.asked(parts)?;
            let head = Box::new(Head {
                key,
                label,
                status,
                headers,
                hidden,
                recoded,
                freshness,
                version,
                counters,
            });
            Meta::Response { head, length, body }
        }
        VARYING => {
            let names = reader.list(|reader| HeaderName::from_bytes(reader.text()?).ok())?;
            label.asked = reader.asked(parts)?;
            Meta::Varying(Varying {
                key,
                label,
                vary: names.into_iter().collect::<Vary>(),
                version,
                received: Moment::default(),
            })
        }
        _ => return None,
    };
    reader.0.is_empty().then_some(meta)
}

/// The body behind a meta, if it is what was written.
pub(super) fn inline(bytes: Bytes, length: u64, sum: &[u8; 32]) -> Option<Bytes> {
    let whole = bytes.len() as u64 == length && blake3::hash(&bytes).as_bytes() == sum;
    whole.then_some(bytes)
}

fn file(meta: &[u8], body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(meta.len()).unwrap_or(u32::MAX);
    let mut file = Vec::with_capacity(PREFIX + meta.len() + body.len());
    file.extend_from_slice(MAGIC);
    file.extend_from_slice(&[0; 8]);
    file.extend_from_slice(&length.to_be_bytes());
    file.extend_from_slice(blake3::hash(meta).as_bytes());
    file.extend_from_slice(meta);
    file.extend_from_slice(body);
    file
}

fn put_common(meta: &mut Vec<u8>, key: &Key, label: &Label, version: u64) {
    put(meta, &key.bytes);
    put(meta, label.distribution.as_bytes());
    put(meta, label.url.as_bytes());
    put_number(meta, label.tags.len() as u64);
    for tag in label.tags.iter() {
        put(meta, tag.as_bytes());
    }
    put_number(meta, version);
}

fn put_fields(meta: &mut Vec<u8>, fields: &HeaderMap) {
    put_number(meta, fields.len() as u64);
    for (name, value) in fields {
        put(meta, name.as_str().as_bytes());
        put(meta, value.as_bytes());
    }
}

fn put(meta: &mut Vec<u8>, text: &[u8]) {
    put_number(meta, text.len() as u64);
    meta.extend_from_slice(text);
}

fn put_number(meta: &mut Vec<u8>, number: u64) {
    meta.extend_from_slice(&number.to_be_bytes());
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    fn number(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn duration(&mut self) -> Option<Duration> {
        self.number().map(Duration::from_millis)
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        self.take(length)
    }

    fn str(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.text()?).ok()
    }

    /// A list grows as it is read: a wrong count takes no memory.
    fn list<T>(&mut self, mut one: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.number()?;
        let mut list = Vec::new();
        for _ in 0..count {
            list.push(one(self)?);
        }
        Some(list)
    }

    fn field(&mut self) -> Option<(HeaderName, HeaderValue)> {
        let name = HeaderName::from_bytes(self.text()?).ok()?;
        Some((name, HeaderValue::from_bytes(self.text()?).ok()?))
    }

    fn fields(&mut self) -> Option<HeaderMap> {
        let mut fields = HeaderMap::new();
        for (name, value) in self.list(Self::field)? {
            fields.append(name, value);
        }
        Some(fields)
    }

    /// The URL that the viewer asked for, if there is one.
    fn asked(&mut self, parts: u8) -> Option<Option<Arc<str>>> {
        match parts & WITH_ASKED {
            0 => Some(None),
            _ => Some(Some(self.str()?.into())),
        }
    }

    fn freshness(&mut self) -> Option<Freshness> {
        let lifetime = self.duration()?;
        let initial_age = self.duration()?;
        let stale_while_revalidate = self.duration()?;
        let stale_if_error = self.duration()?;
        let received = Moment::from_millis(self.number()?);
        let flags = self.byte()?;
        Some(Freshness {
            lifetime,
            initial_age,
            received,
            validate: flags & 1 != 0,
            strict: flags & 2 != 0,
            stale_while_revalidate,
            stale_if_error,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(registry: &Registry) -> Head {
        let (distribution, counters) = registry.of("site");
        let mut headers = HeaderMap::new();
        headers.append("x-a", HeaderValue::from_bytes(b"\xff").unwrap());
        headers.append("x-a", HeaderValue::from_static("2"));
        Head {
            key: Key::of_bytes(b"a key"),
            label: Label {
                distribution,
                url: "http://a/".into(),
                asked: Some("http://b/".into()),
                tags: ["t".into(), "u".into()].into(),
            },
            status: StatusCode::NOT_FOUND,
            headers,
            hidden: [(http::header::AGE, HeaderValue::from_static("1"))]
                .into_iter()
                .collect(),
            recoded: Some(Recoded {
                tag: Some(HeaderValue::from_static("\"a\"")),
            }),
            freshness: Freshness {
                lifetime: Duration::from_secs(1),
                initial_age: Duration::from_millis(2),
                received: Moment::from_millis(3),
                validate: false,
                strict: true,
                stale_while_revalidate: Duration::from_secs(4),
                stale_if_error: Duration::from_secs(5),
            },
            version: 6,
            counters,
        }
    }

    fn read(file: &[u8], registry: &Registry) -> Option<Meta> {
        let prefix = Prefix::read(file)?;
        let meta = file.get(PREFIX..PREFIX + prefix.length)?;
        prefix.matches(meta).then_some(())?;
        decode(meta, registry)
    }

    #[test]
    fn a_response_is_read_as_it_was_written() {
        let registry = Registry::default();
        let head = head(&registry);
        let file = encode_response(&head, 5, Body::Inline(b"hello"));
        let Some(Meta::Response {
            head: other,
            length,
            body: Place::Inline(sum),
        }) = read(&file, &registry)
        else {
            panic!("it is a response");
        };
        assert_eq!((&other.key, &other.label), (&head.key, &head.label));
        assert_eq!((&other.headers, other.status), (&head.headers, head.status));
        assert_eq!(other.hidden, head.hidden);
        assert_eq!(other.recoded, head.recoded);
        assert_eq!((other.freshness, other.version), (head.freshness, 6));
        let body = Bytes::copy_from_slice(&file[file.len() - 5..]);
        assert_eq!(inline(body, length, &sum).unwrap(), "hello");
        assert_eq!(inline("hullo".into(), length, &sum), None);
        assert_eq!(inline("hell".into(), length, &sum), None);

        let file = encode_response(&head, 5, Body::File(7));
        let read = read(&file, &registry);
        assert!(matches!(
            read,
            Some(Meta::Response {
                body: Place::File(7),
                ..
            })
        ));
    }

    /// Such as earlier versions wrote all of them.
    #[test]
    fn a_response_as_its_origin_sent_it_has_nothing_more_to_say() {
        let registry = Registry::default();
        let mut head = head(&registry);
        for recoded in [None, Some(Recoded::default())] {
            head.recoded = recoded;
            head.label.asked = None;
            let file = encode_response(&head, 5, Body::File(7));
            assert_eq!(file[PREFIX] == RESPONSE, head.recoded.is_none());
            let Some(Meta::Response { head: other, .. }) = read(&file, &registry) else {
                panic!("it is a response");
            };
            assert_eq!(other.recoded, head.recoded);
            assert_eq!(other.label, head.label);
        }
    }

    #[test]
    fn what_a_resource_varies_by_is_read_as_it_was_written() {
        let registry = Registry::default();
        let Head { key, label, .. } = head(&registry);
        let vary: Vary = [http::header::ACCEPT].into_iter().collect();
        let varying = Varying {
            key,
            label,
            vary,
            version: 9,
            received: Moment::default(),
        };
        let Some(Meta::Varying(other)) = read(&encode_varying(&varying), &registry) else {
            panic!("it is a list of fields");
        };
        assert_eq!(other.label, varying.label);
        assert_eq!(
            (other.key, other.vary, other.version),
            (varying.key, varying.vary, 9)
        );
    }

    #[test]
    fn a_file_with_any_bit_changed_or_any_byte_missing_is_not_read() {
        let registry = Registry::default();
        let file = encode_response(&head(&registry), 0, Body::Inline(b""));
        for at in (0..file.len()).filter(|at| !(8..16).contains(at)) {
            let mut changed = file.clone();
            changed[at] ^= 1;
            assert!(read(&changed, &registry).is_none(), "byte {at}");
            assert!(read(&file[..at], &registry).is_none(), "{at} bytes");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_reading_panic(
            meta in prop::collection::vec(any::<u8>(), 0..200),
            at in 0_usize..300,
            value in any::<u8>(),
        ) {
            let registry = Registry::default();
            Prefix::read(&meta);
            decode(&meta, &registry);
            let mut file = encode_response(&head(&registry), 0, Body::Inline(b""));
            let at = (PREFIX + at).min(file.len() - 1);
            file[at] = value;
            decode(&file[PREFIX..], &registry);
        }
    }
}
