//! Cache directives: `Cache-Control` (RFC 9111 section 5.2) and the targeted fields that take its place (RFC 9213).
//!
//! Reading never fails. A directive that is not understood is passed over; a freshness that is not a number is none, so
//! that a mistake makes a response stale and not fresh.

use std::time::Duration;

use http::{
    HeaderMap, HeaderName,
    header::{CACHE_CONTROL, PRAGMA},
};
use sfv::{BareItem, Dictionary, ListEntry, Parser};

/// The targeted field of this cache.
pub(super) const OURS: HeaderName = HeaderName::from_static("wharf-cdn-cache-control");

/// The targeted fields that this cache obeys, the most specific first.
static TARGETED: [HeaderName; 2] = [OURS, HeaderName::from_static("cdn-cache-control")];

/// What a larger number of seconds is taken for (RFC 9111 section 1.2.2).
const MOST_SECONDS: u64 = 1 << 31;

/// A directive that speaks of the whole response, or of some of its fields.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Scoped {
    #[default]
    Absent,
    Whole,
    Fields(Vec<HeaderName>),
}

/// What a response says about caching it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Directives {
    /// It is said in a targeted field: `Cache-Control` and `Expires` do not count.
    pub(super) targeted: bool,
    pub(super) no_store: bool,
    pub(super) no_cache: Scoped,
    pub(super) private: Scoped,
    pub(super) public: bool,
    pub(super) must_revalidate: bool,
    pub(super) proxy_revalidate: bool,
    pub(super) must_understand: bool,
    pub(super) max_age: Option<Duration>,
    pub(super) s_maxage: Option<Duration>,
    pub(super) stale_while_revalidate: Option<Duration>,
    pub(super) stale_if_error: Option<Duration>,
}

impl Directives {
    /// Those of a response: the first targeted field that is valid and not empty, else `Cache-Control`.
    pub(super) fn of_response(headers: &HeaderMap) -> Self {
        TARGETED
            .iter()
            .find_map(|name| Self::of_targeted(headers, name))
            .unwrap_or_else(|| {
                let mut directives = Self::default();
                each(headers, &CACHE_CONTROL, |name, value| {
                    directives.add(name, value);
                });
                directives
            })
    }

    fn of_targeted(headers: &HeaderMap, name: &HeaderName) -> Option<Self> {
        if !headers.contains_key(name) {
            return None;
        }
        let lines: Vec<&[u8]> = headers.get_all(name).iter().map(|v| v.as_bytes()).collect();
        let dictionary: Dictionary = Parser::new(&lines.join(&b","[..])).parse().ok()?;
        if dictionary.is_empty() {
            return None;
        }
        let mut directives = Self {
            targeted: true,
            ..Self::default()
        };
        for (name, entry) in &dictionary {
            // A list, and a type that the directive does not have, are passed over.
            let ListEntry::Item(item) = entry else {
                continue;
            };
            match &item.bare_item {
                BareItem::Boolean(true) => directives.add(name.as_str(), None),
                BareItem::Integer(number) => {
                    directives.add(name.as_str(), Some(&number.to_string()));
                }
                BareItem::String(text) if takes_fields(name.as_str()) => {
                    directives.add(name.as_str(), Some(text.as_str()));
                }
                BareItem::Token(token) if takes_fields(name.as_str()) => {
                    directives.add(name.as_str(), Some(token.as_str()));
                }
                _ => {}
            }
        }
        Some(directives)
    }

    /// Of a directive that is there twice the first counts (RFC 9111 section 4.2.1).
    fn add(&mut self, name: &str, value: Option<&str>) {
        match name {
            "no-store" => self.no_store = true,
            "no-cache" => self.no_cache.add(value),
            "private" => self.private.add(value),
            "public" => self.public = true,
            "must-revalidate" => self.must_revalidate = true,
            "proxy-revalidate" => self.proxy_revalidate = true,
            "must-understand" => self.must_understand = true,
            "max-age" => self.max_age = self.max_age.or(Some(freshness(value))),
            "s-maxage" => self.s_maxage = self.s_maxage.or(Some(freshness(value))),
            "stale-while-revalidate" => {
                self.stale_while_revalidate = self.stale_while_revalidate.or(seconds(value));
            }
            "stale-if-error" => self.stale_if_error = self.stale_if_error.or(seconds(value)),
            _ => {}
        }
    }
}

impl Scoped {
    /// The whole response outweighs some of its fields.
    fn add(&mut self, value: Option<&str>) {
        let names = value.map(|names| {
            names
                .split(',')
                .map(str::trim)
                .filter(|name| !name.is_empty())
                .map(|name| HeaderName::try_from(name.to_ascii_lowercase()))
                .collect::<Result<Vec<_>, _>>()
        });
        match (names, &mut *self) {
            (_, Self::Whole) => {}
            (Some(Ok(names)), Self::Fields(fields)) if !names.is_empty() => fields.extend(names),
            (Some(Ok(names)), Self::Absent) if !names.is_empty() => *self = Self::Fields(names),
            // No names, or such as no field has.
            _ => *self = Self::Whole,
        }
    }

    pub(super) fn fields(&self) -> &[HeaderName] {
        match self {
            Self::Fields(fields) => fields,
            Self::Absent | Self::Whole => &[],
        }
    }
}

/// What a request says about answering it from a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Demands {
    pub(super) no_store: bool,
    pub(super) no_cache: bool,
    pub(super) only_if_cached: bool,
    pub(super) max_age: Option<Duration>,
    pub(super) min_fresh: Option<Duration>,
    /// How stale a response may be.
    pub(super) max_stale: Option<Duration>,
    /// How stale it may be when the origin fails (RFC 5861 section 4).
    pub(super) stale_if_error: Option<Duration>,
}

impl Demands {
    pub(super) fn of_request(headers: &HeaderMap) -> Self {
        let mut demands = Self::default();
        if !headers.contains_key(CACHE_CONTROL) {
            each(headers, &PRAGMA, |name, _| {
                demands.no_cache |= name == "no-cache";
            });
            return demands;
        }
        each(headers, &CACHE_CONTROL, |name, value| match name {
            "no-store" => demands.no_store = true,
            "no-cache" => demands.no_cache = true,
            "only-if-cached" => demands.only_if_cached = true,
            "max-age" => demands.max_age = demands.max_age.or(Some(freshness(value))),
            "stale-if-error" => {
                demands.stale_if_error = demands.stale_if_error.or(seconds(value));
            }
            "min-fresh" => demands.min_fresh = demands.min_fresh.or(seconds(value)),
            "max-stale" => {
                let most = match value {
                    None => Some(Duration::MAX),
                    value => seconds(value),
                };
                demands.max_stale = demands.max_stale.or(most);
            }
            _ => {}
        });
        demands
    }
}

fn takes_fields(name: &str) -> bool {
    matches!(name, "no-cache" | "private")
}

/// A freshness that cannot be read is none at all: the response is stale.
fn freshness(value: Option<&str>) -> Duration {
    seconds(value).unwrap_or_default()
}

/// A number of seconds (RFC 9111 section 1.2.2); none if it is no number.
pub(super) fn seconds(value: Option<&str>) -> Option<Duration> {
    let digits = value?.trim();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // Only too many digits make it fail.
    let seconds = digits.parse().unwrap_or(MOST_SECONDS).min(MOST_SECONDS);
    Some(Duration::from_secs(seconds))
}

/// Calls `found` with each directive of a field: its name in lower case, and its argument without quotes.
fn each(headers: &HeaderMap, field: &HeaderName, mut found: impl FnMut(&str, Option<&str>)) {
    for line in headers.get_all(field) {
        let mut rest = line.as_bytes();
        while let Some((name, value, after)) = next(rest) {
            rest = after;
            let name = String::from_utf8_lossy(name).to_ascii_lowercase();
            if !name.is_empty() {
                found(&name, value.as_deref());
            }
        }
    }
}

type Directive<'a> = (&'a [u8], Option<String>, &'a [u8]);

/// The first directive, and what is after its comma.
fn next(text: &[u8]) -> Option<Directive<'_>> {
    if text.is_empty() {
        return None;
    }
    let end = text
        .iter()
        .position(|byte| matches!(byte, b'=' | b','))
        .unwrap_or(text.len());
    let (name, rest) = (text[..end].trim_ascii(), &text[end..]);
    let Some(argument) = rest.strip_prefix(b"=") else {
        return Some((name, None, rest.strip_prefix(b",").unwrap_or(rest)));
    };
    let (value, rest) = match argument.trim_ascii_start().strip_prefix(b"\"") {
        Some(quoted) => unquote(quoted),
        None => {
            let end = argument.iter().position(|byte| *byte == b',');
            let (value, rest) = argument.split_at(end.unwrap_or(argument.len()));
            (value.trim_ascii().to_vec(), rest)
        }
    };
    let rest = match rest.iter().position(|byte| *byte == b',') {
        Some(comma) => &rest[comma + 1..],
        None => &[],
    };
    let value = String::from_utf8_lossy(&value).into_owned();
    Some((name, Some(value), rest))
}

/// The text of a quoted string whose first quote is passed, and what follows it.
fn unquote(text: &[u8]) -> (Vec<u8>, &[u8]) {
    let (mut value, mut at) = (Vec::new(), 0);
    while let Some(byte) = text.get(at) {
        at += 1;
        match byte {
            b'"' => break,
            b'\\' => {
                value.extend(text.get(at));
                at += 1;
            }
            byte => value.push(*byte),
        }
    }
    (value, text.get(at..).unwrap_or_default())
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

    fn response(value: &str) -> Directives {
        Directives::of_response(&headers(&[("cache-control", value)]))
    }

    fn secs(seconds: u64) -> Option<Duration> {
        Some(Duration::from_secs(seconds))
    }

    /// RFC 9111 section 5.2.
    #[test]
    fn directives_have_no_case_and_arguments_may_be_quoted() {
        let directives = response("Max-Age=\"60\" , PUBLIC,, s-maxage = 5 ,foo=\"a, no-store\"");
        assert_eq!(
            (directives.max_age, directives.s_maxage),
            (secs(60), secs(5))
        );
        assert!(directives.public && !directives.no_store);
    }

    /// RFC 9111 section 4.2.1.
    #[test]
    fn a_freshness_that_is_no_number_is_stale_and_the_first_of_two_counts() {
        for (value, seconds) in [
            ("max-age=1, max-age=9", 1),
            ("max-age=abc", 0),
            ("max-age", 0),
            ("max-age=-1", 0),
            ("max-age=1.5", 0),
            ("max-age=99999999999999999999999", MOST_SECONDS),
            ("max-age=\"7", 7),
            ("max-age=\"7\\", 7),
        ] {
            assert_eq!(response(value).max_age, secs(seconds), "{value}");
        }
        assert_eq!(response("stale-if-error=x").stale_if_error, None);
    }

    /// RFC 9111 sections 5.2.2.4 and 5.2.2.7.
    #[test]
    fn no_cache_and_private_may_speak_of_fields() {
        let directives = response("private=\"Set-Cookie, x-user\", no-cache=set-cookie");
        assert_eq!(
            directives.private.fields(),
            ["set-cookie", "x-user"].map(HeaderName::from_static)
        );
        assert_eq!(directives.no_cache.fields(), ["set-cookie"]);
        for whole in [
            "private",
            "private=\"\"",
            "private=\"a\", private",
            "private=\"a b\"",
        ] {
            assert_eq!(response(whole).private, Scoped::Whole, "{whole}");
        }
    }

    /// RFC 9213 section 2.2.
    #[test]
    fn the_most_specific_targeted_field_that_is_valid_takes_the_place_of_cache_control() {
        let both = |ours: &str, cdn: &str| {
            Directives::of_response(&headers(&[
                ("cache-control", "no-store"),
                ("cdn-cache-control", cdn),
                ("wharf-cdn-cache-control", ours),
            ]))
        };
        for (ours, cdn, max_age, no_store) in [
            ("max-age=1", "max-age=2", secs(1), false),
            ("max-age=1, &", "max-age=2", secs(2), false),
            ("", "max-age=2", secs(2), false),
            ("", "", None, true),
            ("max-age=\"1\"", "max-age=2", None, false),
            ("max-age=1.5, no-store", "max-age=2", None, true),
            ("max-age=1, no-store=?0", "", secs(1), false),
            ("max-age=1, max-age=3", "", secs(3), false),
            ("max-age=1;ext=2", "", secs(1), false),
            ("max-age=-1", "", secs(0), false),
        ] {
            let directives = both(ours, cdn);
            assert_eq!(
                (directives.max_age, directives.no_store),
                (max_age, no_store),
                "{ours} / {cdn}"
            );
        }
        let fields = both("max-age=1, private=\"set-cookie\"", "");
        assert_eq!(fields.private.fields(), ["set-cookie"]);
    }

    /// RFC 9213 section 2.1: a targeted field is one structured field, whatever its lines.
    #[test]
    fn the_lines_of_a_targeted_field_are_one_dictionary() {
        let directives = Directives::of_response(&headers(&[
            ("cdn-cache-control", "max-age=5"),
            ("cdn-cache-control", "must-revalidate"),
        ]));
        assert!(directives.targeted && directives.must_revalidate);
        assert_eq!(directives.max_age, secs(5));
    }

    /// RFC 9111 sections 5.2.1 and 5.4, RFC 5861 section 4.
    #[test]
    fn a_request_says_what_it_accepts() {
        let demands = |lines: &[(&'static str, &str)]| Demands::of_request(&headers(lines));
        let all = demands(&[(
            "cache-control",
            "no-cache, no-store, only-if-cached, max-age=1, min-fresh=2, max-stale=3, stale-if-error=4",
        )]);
        assert!(all.no_cache && all.no_store && all.only_if_cached);
        assert_eq!(
            (all.max_age, all.min_fresh, all.max_stale),
            (secs(1), secs(2), secs(3))
        );
        assert_eq!(all.stale_if_error, secs(4));
        let any = demands(&[("cache-control", "max-stale")]);
        assert_eq!(any.max_stale, Some(Duration::MAX));
        assert!(demands(&[("pragma", "no-cache")]).no_cache);
        assert!(!demands(&[("pragma", "no-cache"), ("cache-control", "max-age=1")]).no_cache);
        assert_eq!(demands(&[]), Demands::default());
    }

    proptest::proptest! {
        #[test]
        fn reading_never_fails(value in "[ -~]{0,60}") {
            let lines = [("cache-control", value.as_str()), ("cdn-cache-control", value.as_str())];
            Directives::of_response(&headers(&lines));
            Demands::of_request(&headers(&lines));
        }
    }
}
