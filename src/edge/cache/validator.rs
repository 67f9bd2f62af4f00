//! Validators and conditional requests: RFC 9110 sections 8.8 and 13, RFC 9111 section 4.3.
//!
//! The client's conditions are evaluated against stored responses with a status of 200 only. `If-Match` and
//! `If-Unmodified-Since` are the origin's to evaluate (RFC 9111 section 4.3.2): requests that have them are not answered
//! from here.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, DATE,
        ETAG, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE,
        LAST_MODIFIED, RANGE,
    },
};

use super::clock::Moment;

/// Fields of a stored response that a 304 does not change (RFC 9111 section 3.2).
const KEPT: [HeaderName; 4] = [
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_RANGE,
    CONTENT_TYPE,
];

/// An entity tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct EntityTag<'a> {
    weak: bool,
    opaque: &'a [u8],
}

impl<'a> EntityTag<'a> {
    fn parse(text: &'a [u8]) -> Option<Self> {
        let (tag, rest) = Self::take(text.trim_ascii())?;
        rest.is_empty().then_some(tag)
    }

    /// The tag at the beginning, and what follows it.
    fn take(text: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (weak, quoted) = match text.strip_prefix(b"W/") {
            Some(quoted) => (true, quoted),
            None => (false, text),
        };
        let opaque = quoted.strip_prefix(b"\"")?;
        let end = opaque.iter().position(|byte| *byte == b'"')?;
        let tag = Self {
            weak,
            opaque: &opaque[..end],
        };
        Some((tag, &opaque[end + 1..]))
    }

    /// RFC 9110 section 8.8.3.2: good enough for a cache, as the representations mean the same.
    fn weakly(self, other: Self) -> bool {
        self.opaque == other.opaque
    }

    /// The same bytes.
    fn strongly(self, other: Self) -> bool {
        !self.weak && !other.weak && self.opaque == other.opaque
    }
}

fn entity_tag(headers: &HeaderMap) -> Option<EntityTag<'_>> {
    EntityTag::parse(headers.get(ETAG)?.as_bytes())
}

/// Whether the conditions of a request are the origin's to evaluate.
pub(super) fn is_for_the_origin(request: &HeaderMap) -> bool {
    request.contains_key(IF_MATCH) || request.contains_key(IF_UNMODIFIED_SINCE)
}

/// Whether a client that sent these conditions has this response already: RFC 9111 section 4.3.2.
pub(super) fn is_not_modified(request: &HeaderMap, stored: &HeaderMap) -> bool {
    if request.contains_key(IF_NONE_MATCH) {
        return request
            .get_all(IF_NONE_MATCH)
            .iter()
            .any(|value| lists(value, stored));
    }
    let Some(since) = request.get(IF_MODIFIED_SINCE).and_then(Moment::parse) else {
        return false;
    };
    let modified = stored.get(LAST_MODIFIED).or_else(|| stored.get(DATE));
    modified
        .and_then(Moment::parse)
        .is_some_and(|modified| modified <= since)
}

/// Whether an `If-None-Match` lists the tag of a stored response.
fn lists(value: &HeaderValue, stored: &HeaderMap) -> bool {
    let mut rest = value.as_bytes().trim_ascii();
    if rest == b"*" {
        return true;
    }
    let Some(stored) = entity_tag(stored) else {
        return false;
    };
    while let Some((tag, after)) = EntityTag::take(rest) {
        if tag.weakly(stored) {
            return true;
        }
        rest = after.trim_ascii_start();
        rest = rest.strip_prefix(b",").unwrap_or(rest).trim_ascii_start();
    }
    false
}

/// Whether the range of a request is about this response: RFC 9110 section 13.1.5.
pub(super) fn range_applies(request: &HeaderMap, stored: &HeaderMap) -> bool {
    let Some(condition) = request.get(IF_RANGE) else {
        return true;
    };
    if let Some(tag) = EntityTag::parse(condition.as_bytes()) {
        return entity_tag(stored).is_some_and(|stored| stored.strongly(tag));
    }
    let date = |name: HeaderName| stored.get(name).and_then(Moment::parse);
    let (Some(condition), Some(modified)) = (Moment::parse(condition), date(LAST_MODIFIED)) else {
        return false;
    };
    // RFC 9110 section 8.8.2.2: a date is a strong validator when the response was made at least a second later.
    let strong = date(DATE).is_some_and(|date| date.since(modified).as_secs() >= 1);
    strong && condition == modified
}

/// Makes of a client's request the one that fetches the whole response, or asks whether the stored one is still good.
pub(super) fn condition(request: &mut HeaderMap, stored: Option<&HeaderMap>) {
    for name in [IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_RANGE, RANGE] {
        request.remove(name);
    }
    let Some(stored) = stored else {
        return;
    };
    for (validator, condition) in [(ETAG, IF_NONE_MATCH), (LAST_MODIFIED, IF_MODIFIED_SINCE)] {
        if let Some(value) = stored.get(validator) {
            request.insert(condition, value.clone());
        }
    }
}

/// Whether there is anything to revalidate a stored response by.
pub(super) fn has_validator(stored: &HeaderMap) -> bool {
    stored.contains_key(ETAG) || stored.contains_key(LAST_MODIFIED)
}

/// Whether a 304, or the response to HEAD, is about this stored response: RFC 9111 sections 4.3.4 and 4.3.5.
pub(super) fn is_about(update: &HeaderMap, stored: &HeaderMap) -> bool {
    if let Some(tag) = entity_tag(update) {
        return entity_tag(stored).is_some_and(|stored| {
            if tag.weak {
                stored.weakly(tag)
            } else {
                stored.strongly(tag)
            }
        });
    }
    match update.get(LAST_MODIFIED) {
        Some(modified) => stored.get(LAST_MODIFIED) == Some(modified),
        None => true,
    }
}

/// The fields of a stored response after a 304, or a response to HEAD, about it: RFC 9111 section 3.2.
pub(super) fn updated(stored: &HeaderMap, update: &HeaderMap) -> HeaderMap {
    let mut fields = stored.clone();
    for name in update.keys() {
        if KEPT.contains(name) {
            continue;
        }
        fields.remove(name);
        for value in update.get_all(name) {
            fields.append(name, value.clone());
        }
    }
    fields
}

/// Leaves out what a 304 does not say about the representation: RFC 9110 section 15.4.5.
pub(super) fn strip_for_not_modified(fields: &mut HeaderMap) {
    for name in [
        CONTENT_ENCODING,
        CONTENT_LANGUAGE,
        CONTENT_LENGTH,
        CONTENT_RANGE,
        CONTENT_TYPE,
    ] {
        fields.remove(name);
    }
    if fields.contains_key(ETAG) {
        fields.remove(LAST_MODIFIED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    const OLD: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const NEW: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    /// RFC 9110 section 13.1.2: the weak comparison.
    #[test]
    fn a_client_that_has_the_tag_has_the_response() {
        let stored = headers(&[("etag", "\"a,b\"")]);
        for (value, expected) in [
            ("\"a,b\"", true),
            ("W/\"a,b\"", true),
            ("\"x\", W/\"a,b\"", true),
            ("\"x\" ,\"y\"", false),
            ("*", true),
            ("\"a\"", false),
            ("a,b", false),
            ("\"unfinished", false),
            ("", false),
        ] {
            let request = headers(&[("if-none-match", value)]);
            assert_eq!(is_not_modified(&request, &stored), expected, "{value}");
        }
        let weak = headers(&[("etag", "W/\"a\"")]);
        assert!(is_not_modified(
            &headers(&[("if-none-match", "\"a\"")]),
            &weak
        ));
    }

    /// RFC 9110 section 13.1.3.
    #[test]
    fn a_date_counts_where_there_is_no_tag() {
        let stored = headers(&[("last-modified", OLD), ("etag", "\"a\"")]);
        let is = |lines: &[(&'static str, &str)]| is_not_modified(&headers(lines), &stored);
        assert!(is(&[("if-modified-since", OLD)]));
        assert!(is(&[("if-modified-since", NEW)]));
        assert!(!is(&[("if-modified-since", "yesterday")]));
        assert!(!is(&[
            ("if-modified-since", NEW),
            ("if-none-match", "\"b\"")
        ]));
        assert!(!is(&[]));
        let newer = headers(&[("last-modified", NEW)]);
        assert!(!is_not_modified(
            &headers(&[("if-modified-since", OLD)]),
            &newer
        ));
        let dated = headers(&[("date", OLD)]);
        assert!(is_not_modified(
            &headers(&[("if-modified-since", OLD)]),
            &dated
        ));
    }

    /// RFC 9110 section 13.1.5: the strong comparison.
    #[test]
    fn a_range_is_sent_only_of_the_very_same_bytes() {
        let stored = headers(&[("etag", "\"a\""), ("last-modified", OLD), ("date", NEW)]);
        let weak = headers(&[("etag", "W/\"a\""), ("last-modified", OLD), ("date", OLD)]);
        for (value, strong_applies, weak_applies) in [
            ("\"a\"", true, false),
            ("W/\"a\"", false, false),
            ("\"b\"", false, false),
            (OLD, true, false),
            (NEW, false, false),
            ("nonsense", false, false),
        ] {
            let request = headers(&[("if-range", value)]);
            assert_eq!(range_applies(&request, &stored), strong_applies, "{value}");
            assert_eq!(range_applies(&request, &weak), weak_applies, "{value}");
        }
        assert!(range_applies(&headers(&[]), &weak));
    }

    /// RFC 9111 section 4.3.1.
    #[test]
    fn a_revalidation_has_the_conditions_of_the_stored_response_and_none_of_the_client() {
        let mut request = headers(&[
            ("if-none-match", "\"client\""),
            ("range", "bytes=0-1"),
            ("if-range", "\"client\""),
            ("accept", "*/*"),
        ]);
        let stored = headers(&[("etag", "\"a\""), ("last-modified", OLD)]);
        condition(&mut request, Some(&stored));
        let expected = [
            ("if-none-match", "\"a\""),
            ("if-modified-since", OLD),
            ("accept", "*/*"),
        ];
        assert_eq!(request, headers(&expected));
        condition(&mut request, None);
        assert_eq!(request, headers(&[("accept", "*/*")]));
    }

    /// RFC 9111 section 4.3.4.
    #[test]
    fn a_304_with_another_validator_is_about_another_response() {
        let stored = headers(&[("etag", "\"a\""), ("last-modified", OLD)]);
        for (update, expected) in [
            (&[("etag", "\"a\"")][..], true),
            (&[("etag", "W/\"a\"")], true),
            (&[("etag", "\"b\"")], false),
            (&[("last-modified", OLD)], true),
            (&[("last-modified", NEW)], false),
            (&[], true),
        ] {
            assert_eq!(is_about(&headers(update), &stored), expected, "{update:?}");
        }
        let weak = headers(&[("etag", "W/\"a\"")]);
        assert!(!is_about(&headers(&[("etag", "\"a\"")]), &weak));
    }

    /// RFC 9111 section 3.2.
    #[test]
    fn a_304_updates_all_fields_but_those_that_describe_the_stored_bytes() {
        let stored = headers(&[
            ("content-length", "5"),
            ("content-type", "a/b"),
            ("x-a", "1"),
            ("x-b", "1"),
        ]);
        let update = headers(&[
            ("content-length", "0"),
            ("content-type", "c/d"),
            ("x-a", "2"),
            ("x-a", "3"),
        ]);
        assert_eq!(
            updated(&stored, &update),
            headers(&[
                ("content-length", "5"),
                ("content-type", "a/b"),
                ("x-a", "2"),
                ("x-a", "3"),
                ("x-b", "1")
            ])
        );
    }
}
