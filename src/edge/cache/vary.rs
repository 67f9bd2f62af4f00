//! Which fields of a request chose the response: RFC 9111 section 4.1.
//!
//! Two requests get the same stored response when the chosen fields are the same after normalising. Normalising only
//! brings together what means the same to every origin: `Accept-Encoding` becomes the set of codings that the client
//! takes, and lists of languages and media types lose their optional white space. No coding is left out of the set, not
//! even one nobody knows: the origin may have chosen it.

use http::{
    HeaderMap, HeaderName,
    header::{ACCEPT, ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE, COOKIE, VARY},
};

/// Content codings in the order in which they stand in a key.
const CODINGS: [&str; 6] = ["br", "zstd", "gzip", "deflate", "compress", "identity"];

/// The names of the fields that choose among the responses of a resource, in order, each once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Vary(Box<[HeaderName]>);

impl Vary {
    /// None where no request can be known to match: `*`, and what is no name.
    pub(super) fn of_response(headers: &HeaderMap) -> Option<Self> {
        let mut names = Vec::new();
        for line in headers.get_all(VARY) {
            for name in line.as_bytes().split(|byte| *byte == b',') {
                let name = name.trim_ascii();
                if name == b"*" {
                    return None;
                }
                if !name.is_empty() {
                    names.push(HeaderName::from_bytes(name).ok()?);
                }
            }
        }
        Some(names.into_iter().collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn names(&self) -> &[HeaderName] {
        &self.0
    }
}

impl FromIterator<HeaderName> for Vary {
    fn from_iter<I: IntoIterator<Item = HeaderName>>(names: I) -> Self {
        let mut names: Vec<HeaderName> = names.into_iter().collect();
        names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        names.dedup();
        Self(names.into())
    }
}

/// The value of a request's field as it counts for choosing; none if it is not there.
pub(super) fn normalized(name: &HeaderName, headers: &HeaderMap) -> Option<Vec<u8>> {
    let mut lines = headers.get_all(name).iter();
    let mut value = lines.next()?.as_bytes().trim_ascii().to_vec();
    let separator: &[u8] = if *name == COOKIE { b"; " } else { b"," };
    for line in lines {
        value.extend_from_slice(separator);
        value.extend_from_slice(line.as_bytes().trim_ascii());
    }
    if *name == ACCEPT_ENCODING {
        value = codings(&value);
    } else if *name == ACCEPT_LANGUAGE || *name == ACCEPT_CHARSET {
        value = without_white_space(&value).to_ascii_lowercase();
    } else if *name == ACCEPT {
        value = without_white_space(&value);
    }
    Some(value)
}

/// The codings that a client takes, in one order and without weights: whatever the origin chose among them, it takes.
/// `!identity` says that it does not take the representation as it is.
fn codings(value: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(value).to_ascii_lowercase();
    let mut taken = Vec::new();
    let (mut identity, mut others) = (None, None);
    for member in text.split(',') {
        let mut parts = member.split(';').map(str::trim);
        let coding = match parts.next().unwrap_or_default() {
            "x-gzip" => "gzip",
            "x-compress" => "compress",
            coding => coding,
        };
        let takes = !parts.any(is_zero_weight);
        match coding {
            "" => {}
            "identity" => identity = Some(takes),
            "*" => others = Some(takes),
            coding if takes => taken.push(coding),
            _ => {}
        }
    }
    if others == Some(true) {
        taken.push("*");
    }
    if !identity.or(others).unwrap_or(true) {
        taken.push("!identity");
    }
    let rank = |coding: &str| CODINGS.iter().position(|known| *known == coding);
    taken.sort_unstable_by_key(|coding| (rank(coding).unwrap_or(CODINGS.len()), *coding));
    taken.dedup();
    taken.join(",").into_bytes()
}

/// Whether a parameter is `q=0`, written in any way.
fn is_zero_weight(parameter: &str) -> bool {
    let Some((name, weight)) = parameter.split_once('=') else {
        return false;
    };
    let weight = weight.trim();
    name.trim() == "q" && weight.starts_with('0') && weight.bytes().all(|b| b == b'0' || b == b'.')
}

/// A list without the white space that its syntax allows. What is quoted keeps it.
fn without_white_space(value: &[u8]) -> Vec<u8> {
    let mut quoted = false;
    let mut escaped = false;
    let mut kept = Vec::with_capacity(value.len());
    for byte in value {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b' ' | b'\t' if !quoted => continue,
            _ => {}
        }
        kept.push(*byte);
    }
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(name: &HeaderName, lines: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name, line.parse().unwrap());
        }
        normalized(name, &headers).map(|value| String::from_utf8(value).unwrap())
    }

    /// RFC 9110 section 12.5.5.
    #[test]
    fn the_names_of_a_vary_are_a_set_and_a_star_matches_nothing() {
        let vary = |lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(VARY, line.parse().unwrap());
            }
            Vary::of_response(&headers).map(|vary| {
                let names = vary.names().iter().map(|name| name.as_str().to_owned());
                names.collect::<Vec<_>>().join(" ")
            })
        };
        assert_eq!(vary(&[]).as_deref(), Some(""));
        assert_eq!(vary(&["B, a,,b", "A"]).as_deref(), Some("a b"));
        assert_eq!(vary(&["a", "*"]), None);
        assert_eq!(vary(&["not a name"]), None);
    }

    #[test]
    fn accept_encoding_is_the_set_of_codings_that_the_client_takes() {
        for (lines, expected) in [
            (&["gzip, deflate, br"][..], Some("br,gzip,deflate")),
            (
                &["br;q=1.0 ,GZIP;q=0.2", "deflate"],
                Some("br,gzip,deflate"),
            ),
            (&["x-gzip"], Some("gzip")),
            (&["gzip;q=0, br"], Some("br")),
            (&["gzip; q=0.000"], Some("")),
            (&["gzip;q=0.01"], Some("gzip")),
            (&["dcb, gzip"], Some("gzip,dcb")),
            (&["identity;q=0, gzip"], Some("gzip,!identity")),
            (&["*;q=0, gzip"], Some("gzip,!identity")),
            (&["*;q=0, identity, gzip"], Some("gzip")),
            (&["*"], Some("*")),
            (&[""], Some("")),
            (&[], None),
        ] {
            assert_eq!(
                header(&ACCEPT_ENCODING, lines).as_deref(),
                expected,
                "{lines:?}"
            );
        }
    }

    /// RFC 9111 section 4.1.
    #[test]
    fn lists_lose_the_white_space_that_means_nothing() {
        assert_eq!(
            header(&ACCEPT_LANGUAGE, &["EN, de ; q=0.5"]).unwrap(),
            "en,de;q=0.5"
        );
        assert_eq!(
            header(&ACCEPT, &["text/html ; a=\"b \\\" c\", */*"]).unwrap(),
            "text/html;a=\"b \\\" c\",*/*"
        );
        let other = HeaderName::from_static("x-other");
        assert_eq!(header(&other, &[" a  b "]).unwrap(), "a  b");
        assert_eq!(header(&COOKIE, &["a=b", "c=d"]).unwrap(), "a=b; c=d");
    }

    fn coding() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec![
            "br", "zstd", "gzip", "deflate", "compress", "dcb", "foo",
        ])
    }

    proptest! {
        /// Against the sets that the lists were written from.
        #[test]
        fn two_lists_of_codings_match_when_their_sets_are_the_same(
            one in prop::collection::vec((coding(), 0..=10_u32, " {0,2}", any::<bool>()), 0..5),
            two in prop::collection::vec((coding(), 0..=10_u32, " {0,2}", any::<bool>()), 0..5),
        ) {
            let set = |list: &[(&'static str, u32, String, bool)]| {
                let taken = list.iter().filter(|(_, weight, ..)| *weight > 0);
                taken.map(|(coding, ..)| *coding).collect::<std::collections::BTreeSet<_>>()
            };
            let text = |list: &[(&'static str, u32, String, bool)]| {
                let members = list.iter().map(|(coding, weight, space, upper)| {
                    let coding = if *upper { coding.to_uppercase() } else { (*coding).to_owned() };
                    format!("{space}{coding}{space};{space}q={}", f64::from(*weight) / 10.0)
                });
                header(&ACCEPT_ENCODING, &[&members.collect::<Vec<_>>().join(",")]).unwrap()
            };
            prop_assert_eq!(text(&one) == text(&two), set(&one) == set(&two));
        }
    }
}
