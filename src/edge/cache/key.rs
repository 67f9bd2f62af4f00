//! What tells one stored response from another.
//!
//! A key is the distribution, what answers a miss there, the scheme, the authority, the path and what the policy chooses of query, headers and
//! cookies; the key of a part (206) adds which it is, the key of a variant the fields that its resource varies by. Every part stands with its length, so that
//! no two different requests have the same bytes. Responses are found by the digest of the bytes, and the bytes are
//! compared before one is used.
//!
//! The path and the query are compared byte by byte: whether `%7E` is `~` is the origin's business. Names of parameters
//! are decoded before the policy is asked: a parameter written in another way is no way around the key. What the policy
//! leaves out of the key is still sent to the origin.
//!
//! There is no method in it: only responses to GET are stored.

use std::{borrow::Cow, fmt};

use http::{
    HeaderMap, Uri,
    header::{COOKIE, HOST},
};
use percent_encoding::percent_decode_str;

use super::{
    range::Part,
    vary::{self, Vary},
};
use crate::model::{KeyPolicy, Parts};

/// The digest of a key: where a response is found.
pub(super) type Digest = [u8; 32];

/// Hashes digests for tables. They are hashes already, but of what clients choose: with a seed, nobody finds many for one place.
pub(super) type DigestHasher = foldhash::quality::RandomState;

/// The key of a resource, or of one of its variants.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) digest: Digest,
    pub(super) bytes: Box<[u8]>,
}

impl Key {
    fn new(bytes: Vec<u8>) -> Self {
        Self {
            digest: *blake3::hash(&bytes).as_bytes(),
            bytes: bytes.into(),
        }
    }

    pub(super) fn of_bytes(bytes: &[u8]) -> Self {
        Self::new(bytes.to_vec())
    }

    /// The key of a request. `chosen` is what a hook gave to stand for path, query, headers and cookies.
    pub(super) fn of_request(
        distribution: &str,
        source: &str,
        policy: &KeyPolicy,
        chosen: Option<&str>,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Self {
        let mut bytes = Vec::with_capacity(192);
        put(&mut bytes, distribution.as_bytes());
        put(&mut bytes, source.as_bytes());
        put(&mut bytes, scheme(uri).as_bytes());
        put(&mut bytes, authority(uri, headers).as_bytes());
        if let Some(chosen) = chosen {
            bytes.push(CHOSEN);
            put(&mut bytes, chosen.as_bytes());
            return Self::new(bytes);
        }
        bytes.push(REQUEST);
        put(&mut bytes, uri.path().as_bytes());
        match query(uri, &policy.query) {
            Some(query) => put_some(&mut bytes, query.as_bytes()),
            None => bytes.push(0),
        }
        for name in &policy.headers {
            let value = http::HeaderName::try_from(name)
                .ok()
                .and_then(|name| vary::normalized(&name, headers));
            bytes.push(HEADER);
            put(&mut bytes, name.as_bytes());
            put_optional(&mut bytes, value.as_deref());
        }
        if policy.cookies != Parts::None {
            for (name, value) in cookies(headers, &policy.cookies) {
                bytes.push(COOKIES);
                put(&mut bytes, name);
                put(&mut bytes, value);
            }
        }
        Self::new(bytes)
    }

    /// The key of a part of the resource, which is stored by itself.
    pub(super) fn part(&self, part: Part) -> Self {
        let mut bytes = self.bytes.to_vec();
        bytes.push(PART);
        put(&mut bytes, part.to_string().as_bytes());
        Self::new(bytes)
    }

    /// The key of the variant that answers a request with these headers.
    pub(super) fn variant(&self, vary: &Vary, headers: &HeaderMap) -> Self {
        if vary.is_empty() {
            return self.clone();
        }
        let mut bytes = self.bytes.to_vec();
        for name in vary.names() {
            bytes.push(VARIES);
            put(&mut bytes, name.as_str().as_bytes());
            put_optional(&mut bytes, vary::normalized(name, headers).as_deref());
        }
        Self::new(bytes)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Key({})", self.bytes.escape_ascii())
    }
}

const REQUEST: u8 = 1;
const CHOSEN: u8 = 2;
const HEADER: u8 = 3;
const COOKIES: u8 = 4;
const VARIES: u8 = 5;
const PART: u8 = 6;

fn put(bytes: &mut Vec<u8>, part: &[u8]) {
    bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
    bytes.extend_from_slice(part);
}

fn put_some(bytes: &mut Vec<u8>, part: &[u8]) {
    bytes.push(1);
    put(bytes, part);
}

fn put_optional(bytes: &mut Vec<u8>, part: Option<&[u8]>) {
    match part {
        Some(part) => put_some(bytes, part),
        None => bytes.push(0),
    }
}

/// The URL that a request is stored under, without what its policy leaves out of the query: for purging.
pub(super) fn url(policy: &KeyPolicy, uri: &Uri, headers: &HeaderMap) -> String {
    let mut url = [scheme(uri), "://", &authority(uri, headers), uri.path()].concat();
    if let Some(query) = query(uri, &policy.query) {
        url.extend(["?", &query]);
    }
    url
}

/// A URL as [`url`] writes it, from what a person or a `Location` field says.
pub(super) fn normal_url(text: &str) -> Option<String> {
    let text = text.split('#').next().unwrap_or_default();
    let uri: Uri = text.parse().ok()?;
    uri.authority()?;
    Some(url(&KeyPolicy::default(), &uri, &HeaderMap::new()))
}

pub(super) fn scheme(uri: &Uri) -> &str {
    match uri.scheme() {
        Some(scheme) => scheme.as_str(),
        None => "http",
    }
}

/// The authority, or `Host`: in lower case, without the port that the scheme means anyway.
pub(super) fn authority<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Cow<'a, str> {
    let authority = match uri.authority() {
        Some(authority) => authority.as_str(),
        None => headers
            .get(HOST)
            .and_then(|host| host.to_str().ok())
            .unwrap_or_default(),
    };
    let port = if scheme(uri) == "https" {
        ":443"
    } else {
        ":80"
    };
    let authority = authority.strip_suffix(port).unwrap_or(authority);
    // The listener has lowered it.
    match authority.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => authority.to_ascii_lowercase().into(),
        false => authority.into(),
    }
}

/// The query, or the parameters of it that the policy chooses, in the order in which they were sent.
fn query<'a>(uri: &'a Uri, parts: &Parts) -> Option<Cow<'a, str>> {
    let query = uri.query()?;
    match parts {
        Parts::All => return Some(query.into()),
        Parts::None => return None,
        Parts::Only(_) | Parts::Except(_) => {}
    }
    let mut chosen = query
        .split('&')
        .filter(|parameter| {
            // Some origins take `;` for `&`, so nothing that has one is left out.
            parameter.contains(';') || parts.contains(&parameter_name(parameter))
        })
        .peekable();
    chosen.peek()?;
    Some(chosen.collect::<Vec<_>>().join("&").into())
}

fn parameter_name(parameter: &str) -> String {
    let name = parameter.split('=').next().unwrap_or_default();
    let name = name.replace('+', " ");
    percent_decode_str(&name).decode_utf8_lossy().into_owned()
}

/// The cookies that the policy chooses, in the order in which they were sent.
fn cookies<'a>(
    headers: &'a HeaderMap,
    parts: &'a Parts,
) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
    headers
        .get_all(COOKIE)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b';'))
        .map(|pair| {
            let equals = pair.iter().position(|byte| *byte == b'=');
            let (name, value) = pair.split_at(equals.unwrap_or(pair.len()));
            (name.trim_ascii(), value.trim_ascii())
        })
        .filter(|(name, _)| parts.contains(&String::from_utf8_lossy(name)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn key(policy: &KeyPolicy, uri: &str, lines: &[(&'static str, &str)]) -> Key {
        let headers: HeaderMap = lines
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
        Key::of_request("site", "", policy, None, &uri.parse().unwrap(), &headers)
    }

    #[test]
    fn a_part_is_neither_the_whole_nor_another_part_nor_a_variant() {
        let uri: Uri = "http://a/x".parse().unwrap();
        let whole = Key::of_request(
            "d",
            "",
            &KeyPolicy::default(),
            None,
            &uri,
            &HeaderMap::new(),
        );
        let mut keys = vec![whole.clone()];
        for part in [
            Part::From(5),
            Part::Last(5),
            Part::Between(5, 5),
            Part::Between(5, 55),
        ] {
            keys.push(whole.part(part));
        }
        for (at, key) in keys.iter().enumerate() {
            assert!(keys[..at].iter().all(|other| other != key), "{key:?}");
        }
    }

    #[test]
    fn scheme_authority_path_and_query_tell_responses_apart() {
        let policy = KeyPolicy::default();
        let urls = [
            "http://a/x",
            "https://a/x",
            "http://b/x",
            "http://a:8080/x",
            "http://a/X",
            "http://a/x/",
            "http://a/x?",
            "http://a/x?q",
            "http://a/x?q=",
            "http://a/x?Q",
            "http://a/%78",
        ];
        for (one, first) in urls.iter().enumerate() {
            for (two, second) in urls.iter().enumerate() {
                let same = key(&policy, first, &[]) == key(&policy, second, &[]);
                assert_eq!(same, one == two, "{first} {second}");
            }
        }
    }

    /// RFC 9110 section 4.2.3.
    #[test]
    fn the_case_of_a_host_and_the_usual_port_do_not_count() {
        let policy = KeyPolicy::default();
        let same = |one, two| assert_eq!(key(&policy, one, &[]), key(&policy, two, &[]));
        same("http://A.Example:80/x", "http://a.example/x");
        same("https://a.example:443/x", "https://a.example/x");
        assert_eq!(
            key(&policy, "/x", &[("host", "A")]),
            key(&policy, "http://a/x", &[])
        );
        assert_ne!(
            key(&policy, "https://a:80/", &[]),
            key(&policy, "https://a/", &[])
        );
    }

    #[test]
    fn distributions_and_keys_of_hooks_never_meet() {
        let (uri, headers) = (Uri::from_static("http://a/x"), HeaderMap::new());
        let of = |distribution, chosen| {
            Key::of_request(
                distribution,
                "",
                &KeyPolicy::default(),
                chosen,
                &uri,
                &headers,
            )
        };
        let keys = [
            of("a", None),
            of("b", None),
            of("a", Some("/x")),
            of("a", Some("")),
            of("b", Some("/x")),
        ];
        for (one, first) in keys.iter().enumerate() {
            for (two, second) in keys.iter().enumerate() {
                assert_eq!(first == second, one == two);
            }
        }
    }

    #[test]
    fn the_policy_chooses_parameters_however_they_are_written() {
        let only = |set: &[&str]| KeyPolicy {
            query: Parts::Only(names(set)),
            ..KeyPolicy::default()
        };
        let except = |set: &[&str]| KeyPolicy {
            query: Parts::Except(names(set)),
            ..KeyPolicy::default()
        };
        for (policy, uri, expected) in [
            (only(&["q"]), "http://a/x?q=1&utm=2", "http://a/x?q=1"),
            (only(&["q"]), "http://a/x?%71=1&utm=2", "http://a/x?%71=1"),
            (
                only(&["a b"]),
                "http://a/x?a+b=1&a%20b=2",
                "http://a/x?a+b=1&a%20b=2",
            ),
            (only(&["q"]), "http://a/x?utm=2", "http://a/x"),
            (only(&["q"]), "http://a/x?utm=2;q=1", "http://a/x?utm=2;q=1"),
            (only(&["q"]), "http://a/x?q=2&q=1", "http://a/x?q=2&q=1"),
            (
                except(&["utm"]),
                "http://a/x?b=1&u%74m=2&a",
                "http://a/x?b=1&a",
            ),
            (
                KeyPolicy {
                    query: Parts::None,
                    ..KeyPolicy::default()
                },
                "http://a/x?b",
                "http://a/x",
            ),
        ] {
            assert_eq!(
                url(&policy, &uri.parse().unwrap(), &HeaderMap::new()),
                expected
            );
        }
    }

    #[test]
    fn chosen_headers_and_cookies_tell_responses_apart_and_others_do_not() {
        let policy = KeyPolicy {
            headers: names(&["x-country"]),
            cookies: Parts::Only(names(&["lang"])),
            ..KeyPolicy::default()
        };
        let of = |lines| key(&policy, "http://a/x", lines);
        let plain = of(&[]);
        assert_eq!(plain, of(&[("x-other", "1"), ("cookie", "session=1")]));
        assert_ne!(plain, of(&[("x-country", "")]));
        assert_ne!(of(&[("x-country", "de")]), of(&[("x-country", "at")]));
        assert_ne!(plain, of(&[("cookie", "lang=de")]));
        assert_eq!(
            of(&[("cookie", "session=1; lang=de")]),
            of(&[("cookie", "lang=de;session=2")])
        );
        assert_ne!(
            of(&[("cookie", "lang=de")]),
            of(&[("x-country", "lang=de")])
        );
    }

    #[test]
    fn a_variant_has_the_fields_that_its_resource_varies_by() {
        let base = key(&KeyPolicy::default(), "http://a/x", &[]);
        let vary: Vary = [http::header::ACCEPT_ENCODING].into_iter().collect();
        let variant = |value: &str| {
            let headers = [(
                http::header::ACCEPT_ENCODING,
                HeaderValue::try_from(value).unwrap(),
            )];
            base.variant(&vary, &headers.into_iter().collect())
        };
        assert_eq!(variant("gzip, br"), variant("br,gzip"));
        assert_ne!(variant("gzip"), variant("br"));
        assert_ne!(variant(""), base.variant(&vary, &HeaderMap::new()));
        assert_eq!(base.variant(&Vary::default(), &HeaderMap::new()), base);
    }

    #[test]
    fn a_url_that_a_person_writes_is_the_one_that_is_stored() {
        for (text, expected) in [
            (
                "http://A.Example:80/x?q=1#top",
                Some("http://a.example/x?q=1"),
            ),
            ("https://a", Some("https://a/")),
            ("/x", None),
            ("not a url", None),
        ] {
            assert_eq!(normal_url(text).as_deref(), expected);
        }
    }

    type Parts3 = (String, String, Option<String>, Vec<(bool, String)>);

    fn request() -> impl Strategy<Value = Parts3> {
        (
            "[ab]{0,2}",
            "/[ab/%]{0,2}",
            prop::option::of("[ab&=]{0,3}"),
            prop::collection::vec((any::<bool>(), "[ab]{0,2}"), 0..3),
        )
    }

    proptest! {
        /// Against comparing what the requests are made of.
        #[test]
        fn different_requests_have_different_keys_and_equal_ones_the_same(
            one in request(), two in request(),
        ) {
            let policy = KeyPolicy { headers: names(&["x-a", "x-b"]), ..KeyPolicy::default() };
            let key = |(distribution, path, query, fields): &Parts3| {
                let query = query.as_ref().map_or(String::new(), |query| format!("?{query}"));
                let uri: Uri = format!("http://a{path}{query}").parse().unwrap();
                let mut headers = HeaderMap::new();
                for (first, value) in fields {
                    let name = if *first { "x-a" } else { "x-b" };
                    headers.insert(name, value.parse().unwrap());
                }
                let means = (
                    distribution.clone(),
                    path.clone(),
                    uri.query().map(str::to_owned),
                    headers.get("x-a").cloned(),
                    headers.get("x-b").cloned(),
                );
                (Key::of_request(distribution, "", &policy, None, &uri, &headers), means)
            };
            let ((first, means), (second, other)) = (key(&one), key(&two));
            prop_assert_eq!(first == second, means == other);
            prop_assert_eq!(first.digest == second.digest, means == other);
        }
    }
}
