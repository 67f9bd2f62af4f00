//! Parts of a response: RFC 9110 section 14.
//!
//! Ranges that overlap or touch are sent as one, in the order in which they lie. A request with more than
//! [`MOST_RANGES`] gets the whole response, as section 14.2 allows: none is worth the work. So does one that cannot be
//! understood.

use std::{fmt, ops::Range};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue,
    header::{CONTENT_LENGTH, CONTENT_RANGE, IF_RANGE, RANGE},
};

/// The most ranges of one request.
const MOST_RANGES: usize = 16;

/// What a request asks for of a response of a known length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of it.
    Whole,
    /// These bytes: none of the ranges is empty, and each ends before the next begins.
    Ranges(Vec<Range<u64>>),
    /// Nothing that is there.
    Unsatisfiable,
}

/// What a `Range` field asks for.
pub(super) fn wanted(field: &HeaderValue, length: u64) -> Wanted {
    let Some(specs) = parse(field) else {
        return Wanted::Whole;
    };
    let mut ranges: Vec<Range<u64>> = specs
        .into_iter()
        .filter_map(|spec| spec.within(length))
        .collect();
    ranges.sort_unstable_by_key(|range| range.start);
    let mut joined: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    if joined.is_empty() {
        Wanted::Unsatisfiable
    } else {
        Wanted::Ranges(joined)
    }
}

/// Where the only range of a field begins, if it says so.
pub(super) fn first_byte(field: &HeaderValue) -> Option<u64> {
    match parse(field)?.as_slice() {
        [Part::From(first) | Part::Between(first, _)] => Some(*first),
        _ => None,
    }
}

/// The part that a request wants, if it is one and wanted whatever the response is by now.
pub(super) fn part(request: &HeaderMap) -> Option<Part> {
    let mut fields = request.get_all(RANGE).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else {
        return None;
    };
    match parse(field)?.as_slice() {
        [part] if !request.contains_key(IF_RANGE) => Some(*part),
        _ => None,
    }
}

/// One range of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    From(u64),
    /// Both included.
    Between(u64, u64),
    Last(u64),
}

impl Part {
    /// Whether the fields of a 206 are of this part, and all of it.
    pub(super) fn is_all_of(self, response: &HeaderMap) -> bool {
        let text = |name| response.get(name)?.to_str().ok();
        let range = text(CONTENT_RANGE).and_then(|field: &str| {
            let (range, length) = field.strip_prefix("bytes ")?.split_once('/')?;
            let (first, last) = range.split_once('-')?;
            let range = number(first)?..number(last)?.checked_add(1)?;
            (self.within(number(length)?)? == range).then_some(range)
        });
        let length = text(CONTENT_LENGTH).and_then(number);
        range.is_some_and(|range| length == Some(range.end - range.start))
    }

    fn within(self, length: u64) -> Option<Range<u64>> {
        let range = match self {
            Self::From(first) => first..length,
            Self::Between(first, last) => first..length.min(last.saturating_add(1)),
            Self::Last(count) => length.saturating_sub(count)..length,
        };
        (range.start < range.end).then_some(range)
    }
}

impl fmt::Display for Part {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::From(first) => write!(formatter, "{first}-"),
            Self::Between(first, last) => write!(formatter, "{first}-{last}"),
            Self::Last(count) => write!(formatter, "-{count}"),
        }
    }
}

/// The ranges of a field, or none if it is to be passed over.
fn parse(field: &HeaderValue) -> Option<Vec<Part>> {
    let (unit, set) = field.to_str().ok()?.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let mut specs = Vec::new();
    for spec in set
        .split(',')
        .map(str::trim)
        .filter(|spec| !spec.is_empty())
    {
        let (first, last) = spec.split_once('-')?;
        specs.push(match (first.trim(), last.trim()) {
            ("", count) => Part::Last(number(count)?),
            (first, "") => Part::From(number(first)?),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                if last < first {
                    return None;
                }
                Part::Between(first, last)
            }
        });
        if specs.len() > MOST_RANGES {
            return None;
        }
    }
    (!specs.is_empty()).then_some(specs)
}

/// A number; one too large is as good as the largest.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

/// The `Content-Range` of a part.
pub(super) fn content_range(range: &Range<u64>, length: u64) -> HeaderValue {
    let text = format!("bytes {}-{}/{length}", range.start, range.end - 1);
    HeaderValue::try_from(text).expect("digits are a valid field")
}

/// The `Content-Range` that says only how long the response is.
pub(super) fn unsatisfied(length: u64) -> HeaderValue {
    HeaderValue::try_from(format!("bytes */{length}")).expect("digits are a valid field")
}

/// The frame of a response in several parts: `multipart/byteranges` (RFC 9110 section 14.6).
#[derive(Debug, Clone)]
pub(super) struct Multipart {
    /// Each part's head, and its bytes.
    pub(super) parts: Vec<(Bytes, Range<u64>)>,
    pub(super) end: Bytes,
    pub(super) content_type: HeaderValue,
}

impl Multipart {
    pub(super) fn new(
        boundary: &str,
        content_type: Option<&HeaderValue>,
        ranges: Vec<Range<u64>>,
        length: u64,
    ) -> Self {
        let head = |range: &Range<u64>| {
            let mut head = format!("\r\n--{boundary}\r\n").into_bytes();
            if let Some(content_type) = content_type {
                head.extend_from_slice(b"Content-Type: ");
                head.extend_from_slice(content_type.as_bytes());
                head.extend_from_slice(b"\r\n");
            }
            let place = format!(
                "Content-Range: bytes {}-{}/{length}\r\n\r\n",
                range.start,
                range.end - 1
            );
            head.extend_from_slice(place.as_bytes());
            Bytes::from(head)
        };
        Self {
            parts: ranges
                .into_iter()
                .map(|range| (head(&range), range))
                .collect(),
            end: format!("\r\n--{boundary}--\r\n").into(),
            content_type: HeaderValue::try_from(format!(
                "multipart/byteranges; boundary={boundary}"
            ))
            .expect("a boundary is letters and digits"),
        }
    }

    /// The length of all of it.
    pub(super) fn length(&self) -> u64 {
        let parts = self
            .parts
            .iter()
            .map(|(head, range)| head.len() as u64 + (range.end - range.start));
        parts.sum::<u64>() + self.end.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(field: &str, length: u64) -> Wanted {
        wanted(&HeaderValue::try_from(field).unwrap(), length)
    }

    /// RFC 9110 section 14.1.2.
    #[test]
    fn ranges_count_from_the_beginning_or_from_the_end() {
        for (field, range) in [
            ("bytes=0-499", 0..500),
            ("bytes=500-999", 500..1000),
            ("bytes=-500", 500..1000),
            ("bytes=950-", 950..1000),
            ("Bytes = 999-99999999999999999999999", 999..1000),
            ("bytes=-5000", 0..1000),
            ("bytes=0-0,", 0..1),
            ("bytes=5-9,2-6", 2..10),
            ("bytes=0-4,5-9", 0..10),
            ("bytes=0-4,2000-", 0..5),
        ] {
            assert_eq!(of(field, 1000), Wanted::Ranges(vec![range]), "{field}");
        }
        assert_eq!(
            of("bytes=-1, 0-0", 1000),
            Wanted::Ranges(vec![0..1, 999..1000])
        );
    }

    /// RFC 9110 sections 14.2 and 15.5.17.
    #[test]
    fn what_is_not_there_is_unsatisfiable_and_what_is_not_understood_is_passed_over() {
        for field in ["bytes=1000-", "bytes=1000-1001,5000-", "bytes=-0"] {
            assert_eq!(of(field, 1000), Wanted::Unsatisfiable, "{field}");
        }
        assert_eq!(of("bytes=0-", 0), Wanted::Unsatisfiable);
        for field in [
            "bytes",
            "bytes=",
            "bytes=5-4",
            "bytes=a-b",
            "bytes=--1",
            "lines=0-1",
            "bytes=-",
            "bytes=+1-2",
        ] {
            assert_eq!(of(field, 1000), Wanted::Whole, "{field}");
        }
    }

    /// RFC 9110 section 17.15.
    #[test]
    fn very_many_ranges_are_not_worth_the_work() {
        let field = |count: u64| {
            let ranges: Vec<_> = (0..count)
                .map(|n| format!("{}-{}", n * 10, n * 10))
                .collect();
            format!("bytes={}", ranges.join(","))
        };
        assert!(matches!(of(&field(16), 1000), Wanted::Ranges(ranges) if ranges.len() == 16));
        assert_eq!(of(&field(17), 1000), Wanted::Whole);
    }

    #[test]
    fn the_length_of_several_parts_is_known_before() {
        let content_type = HeaderValue::from_static("text/plain");
        let multipart = Multipart::new("xyz", Some(&content_type), vec![0..2, 5..7], 10);
        let mut text = Vec::new();
        for (head, range) in &multipart.parts {
            text.extend_from_slice(head);
            text.extend(range.clone().map(|_| b'.'));
        }
        text.extend_from_slice(&multipart.end);
        assert_eq!(text.len() as u64, multipart.length());
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "\r\n--xyz\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-1/10\r\n\r\n..\
             \r\n--xyz\r\nContent-Type: text/plain\r\nContent-Range: bytes 5-6/10\r\n\r\n..\r\n--xyz--\r\n"
        );
    }

    proptest! {
        /// Against asking of every byte whether it is wanted.
        #[test]
        fn exactly_the_bytes_that_are_asked_for_are_sent_once(
            length in 0_u64..40,
            specs in prop::collection::vec((0_u8..3, 0_u64..50, 0_u64..50), 1..6),
        ) {
            let text = specs.iter().map(|(kind, a, b)| match kind {
                0 => format!("{a}-"),
                1 => format!("{}-{}", a.min(b), a.max(b)),
                _ => format!("-{a}"),
            });
            let field = format!("bytes={}", text.collect::<Vec<_>>().join(","));
            let asked = |byte: &u64| specs.iter().any(|(kind, a, b)| match kind {
                0 => byte >= a,
                1 => byte >= a.min(b) && byte <= a.max(b),
                _ => byte + a >= length,
            });
            let expected: Vec<u64> = (0..length).filter(asked).collect();
            let sent: Vec<u64> = match of(&field, length) {
                Wanted::Ranges(ranges) => ranges.into_iter().flatten().collect(),
                Wanted::Unsatisfiable => Vec::new(),
                Wanted::Whole => panic!("the field is valid"),
            };
            prop_assert_eq!(sent, expected);
        }
    }
}
