//! Patterns of paths with wildcards, as behaviours have them.

use std::{borrow::Cow, fmt, iter, str::FromStr};

use serde::{Deserialize, Serialize};

use super::super::has_dot_segment;

/// The most characters of a pattern (CloudFront's is the same).
const MAX_LENGTH: usize = 255;

/// The most characters between two `*`: a bit each of [`Needle`]'s state.
const MAX_NEEDLE: usize = 128;

/// Paths: `/api/*`, `*.jpg`, `/user-??/photo.png`.
///
/// `*` stands for any run of bytes, be it none, and `/` among them; `?` stands for one byte. Case counts. A leading `/`
/// may be left out, and is then put there. The query is not looked at.
///
/// Percent-encoding that need not be there is taken away before (RFC 3986 section 6.2.2): `%61` is `a` and `%2f` is
/// `%2F`. Else a client could come past the behaviour of `/api/*` with `/%61pi/`, and the origin would not mind.
///
/// A path is matched in one pass, in time proportional to its length, whatever the pattern: a beginning and an end are
/// compared where they must stand, and what is between two `*` is taken at the first place that has it. Measured: 1 ns for
/// one such as `/api/*`, 2 ns a byte of the path for one such as `*/img/*`.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PathGlob {
    text: Box<str>,
    /// What the path begins with; without any `*`, all of it.
    head: Box<[u8]>,
    /// What stands between two `*`, in this order.
    needles: Box<[Needle]>,
    /// What the path ends with; none without any `*`.
    tail: Option<Box<[u8]>>,
}

impl PathGlob {
    /// The pattern, with its leading `/`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether `path`, as it was sent and without its query, is one of these.
    pub fn matches(&self, path: &str) -> bool {
        self.matches_normal(normal(path).as_bytes())
    }

    /// The same for a path that [`normal`] has seen.
    pub(super) fn matches_normal(&self, path: &[u8]) -> bool {
        let Some((head, mut remaining)) = path.split_at_checked(self.head.len()) else {
            return false;
        };
        if !is_like(&self.head, head) {
            return false;
        }
        let Some(tail) = &self.tail else {
            return remaining.is_empty();
        };
        let Some(before) = remaining.len().checked_sub(tail.len()) else {
            return false;
        };
        if !is_like(tail, &remaining[before..]) {
            return false;
        }
        remaining = &remaining[..before];
        self.needles.iter().all(|needle| {
            let end = needle.end_in(remaining);
            remaining = &remaining[end.unwrap_or_default()..];
            end.is_some()
        })
    }

    /// Whether every path of `other` is one of these; then `other` gets nothing where this one is asked before.
    ///
    /// `other` is taken for a path whose `*` only a `*` has, and whose `?` only a wildcard has. So what is true is true; of
    /// `*?` and `?*`, which are the same, it is not found.
    pub fn covers(&self, other: &Self) -> bool {
        // Which beginnings of `other` the pattern has so far.
        let other = other.text.as_bytes();
        let mut reached = vec![false; other.len() + 1];
        reached[0] = true;
        for ours in self.text.bytes() {
            let mut next = vec![false; other.len() + 1];
            for at in 0..=other.len() {
                next[at] = match (ours, at.checked_sub(1)) {
                    (b'*', None) => reached[at],
                    (b'*', Some(before)) => reached[at] || next[before],
                    (_, None) => false,
                    (b'?', Some(before)) => reached[before] && other[before] != b'*',
                    (byte, Some(before)) => reached[before] && other[before] == byte,
                };
            }
            reached = next;
        }
        reached[other.len()]
    }

    /// Whether it has every path.
    pub fn is_everything(&self) -> bool {
        &*self.text == "/*"
    }
}

/// A text between two `*`, found by running all its beginnings at once, a bit each (the "shift-and" of Baeza-Yates and
/// Gonnet): one step a byte of the path, never back.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Needle {
    /// The bit of the last byte.
    last: u128,
    /// For each byte there is, which of `places` are its own; 0 is of those that the text does not have.
    classes: Box<[u8; 256]>,
    /// Where in the text a byte may stand: where it does, and where a `?` does.
    places: Box<[u128]>,
}

impl Needle {
    fn new(text: &[u8]) -> Self {
        let at = |wanted: u8| {
            let here = text.iter().enumerate().filter(|(_, byte)| **byte == wanted);
            here.fold(0_u128, |places, (at, _)| places | 1 << at)
        };
        let mut classes = Box::new([0; 256]);
        let mut places = vec![at(b'?')];
        for byte in text.iter().filter(|byte| **byte != b'?') {
            let class = &mut classes[usize::from(*byte)];
            if *class == 0 {
                *class = u8::try_from(places.len()).expect("it has at most 128 bytes");
                places.push(at(*byte) | at(b'?'));
            }
        }
        Self {
            last: 1 << (text.len() - 1),
            classes,
            places: places.into(),
        }
    }

    /// Where the first of it in `text` ends.
    fn end_in(&self, text: &[u8]) -> Option<usize> {
        let mut state = 0_u128;
        for (at, byte) in text.iter().enumerate() {
            let class = self.classes[usize::from(*byte)];
            state = (state << 1 | 1) & self.places[usize::from(class)];
            if state & self.last != 0 {
                return Some(at + 1);
            }
        }
        None
    }
}

/// Whether a text of the same length is like the pattern, which has no `*`.
fn is_like(pattern: &[u8], text: &[u8]) -> bool {
    iter::zip(pattern, text).all(|(wanted, byte)| *wanted == b'?' || wanted == byte)
}

/// A path without percent-encoding that need not be there, and with a `/` before.
pub(super) fn normal(path: &str) -> Cow<'_, str> {
    if path.starts_with('/') && !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let mut normal = String::with_capacity(path.len() + 1);
    if !path.starts_with('/') {
        normal.push('/');
    }
    let mut remaining = path;
    while let Some(at) = remaining.find('%') {
        normal.push_str(&remaining[..at]);
        let encoded = remaining.get(at..at + 3);
        let byte = encoded.and_then(|encoded| {
            let digits = &encoded[1..];
            let is_hexadecimal = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            is_hexadecimal
                .then(|| u8::from_str_radix(digits, 16).ok())
                .flatten()
        });
        let Some((encoded, byte)) = encoded.zip(byte) else {
            normal.push('%');
            remaining = &remaining[at + 1..];
            continue;
        };
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            normal.push(char::from(byte));
        } else {
            normal.push_str(&encoded.to_ascii_uppercase());
        }
        remaining = &remaining[at + 3..];
    }
    normal.push_str(remaining);
    Cow::Owned(normal)
}

/// Why a text is no pattern of paths.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a pattern of paths: {problem}")]
pub struct InvalidGlob {
    text: String,
    problem: String,
}

impl FromStr for PathGlob {
    type Err = InvalidGlob;

    fn from_str(text: &str) -> Result<Self, InvalidGlob> {
        let invalid = |problem| InvalidGlob {
            text: text.chars().take(80).collect(),
            problem,
        };
        check(text).map_err(invalid)?;
        let mut kept = normal(text).into_owned();
        while kept.contains("**") {
            kept = kept.replace("**", "*");
        }
        let bytes = kept.as_bytes();
        let mut parts = bytes.split(|byte| *byte == b'*');
        let head = parts.next().unwrap_or_default().into();
        let tail = parts.next_back().map(Into::into);
        let needles: Vec<&[u8]> = parts.collect();
        if needles.iter().any(|needle| needle.len() > MAX_NEEDLE) {
            return Err(invalid(format!(
                "it has more than {MAX_NEEDLE} characters between two `*`"
            )));
        }
        Ok(Self {
            head,
            needles: needles.into_iter().map(Needle::new).collect(),
            tail,
            text: kept.into(),
        })
    }
}

fn check(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("write `/` for the root, or `*` for every path".to_owned());
    }
    if text.len() > MAX_LENGTH {
        return Err(format!("it has more than {MAX_LENGTH} characters"));
    }
    if text.contains("://") {
        return Err("write the path alone, without scheme and host".to_owned());
    }
    if has_dot_segment(text) {
        return Err("`.` and `..` are not segments: such requests are refused".to_owned());
    }
    for (at, letter) in text.char_indices() {
        match letter {
            '%' => {
                let digits = text.get(at + 1..at + 3).unwrap_or_default();
                if digits.len() != 2 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                    return Err("two hexadecimal digits follow a `%`".to_owned());
                }
            }
            '#' => return Err("leave out `#` and what follows it".to_owned()),
            '{' | '}' => {
                return Err("it has no parameters: write `*` for any run of characters".to_owned());
            }
            letter if letter.is_ascii_alphanumeric() => {}
            letter if "/*?-._~!$&'()+,;=:@".contains(letter) => {}
            letter => {
                let encoded: String = letter
                    .encode_utf8(&mut [0; 4])
                    .bytes()
                    .map(|byte| format!("%{byte:02X}"))
                    .collect();
                return Err(format!(
                    "write `{encoded}` for {letter:?}, as clients send it"
                ));
            }
        }
    }
    Ok(())
}

impl TryFrom<String> for PathGlob {
    type Error = InvalidGlob;

    fn try_from(text: String) -> Result<Self, InvalidGlob> {
        text.parse()
    }
}

impl From<PathGlob> for String {
    fn from(glob: PathGlob) -> Self {
        glob.text.into()
    }
}

impl fmt::Display for PathGlob {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl fmt::Debug for PathGlob {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "\"{self}\"")
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    /// The obvious way, which tries everything that a `*` could be.
    pub(in super::super) fn obvious(pattern: &[u8], path: &[u8]) -> bool {
        match (pattern.split_first(), path.split_first()) {
            (None, None) => true,
            (None, Some(_)) => false,
            (Some((b'*', rest)), _) => (0..=path.len()).any(|run| obvious(rest, &path[run..])),
            (Some(_), None) => false,
            (Some((wanted, rest)), Some((byte, following))) => {
                (*wanted == b'?' || wanted == byte) && obvious(rest, following)
            }
        }
    }

    fn glob(text: &str) -> PathGlob {
        text.parse().unwrap()
    }

    #[test]
    fn a_star_is_any_run_and_a_question_mark_one_byte() {
        let check = |pattern: &str, path: &str, expected: bool| {
            assert_eq!(glob(pattern).matches(path), expected, "{pattern} {path}");
        };
        check("*", "/", true);
        check("*", "/a/b", true);
        check("/", "/", true);
        check("/", "/a", false);
        check("/api/*", "/api/", true);
        check("/api/*", "/api/a/b", true);
        check("/api/*", "/api", false);
        check("/api/*", "/API/", false);
        check("api/*", "/api/x", true);
        check("*.jpg", "/a/b.jpg", true);
        check("*.jpg", "/b.jpg/", false);
        check("/a?c", "/abc", true);
        check("/a?c", "/a/c", true);
        check("/a?c", "/ac", false);
        check("/a*", "/a", true);
        check("/*a*", "/xax", true);
        check("/aa*aa", "/aaa", false);
        check("/*ab*ab*", "/xabx", false);
        check("/*a?c*z", "/aacabcz", true);
        check("/b**", "/b", true);
    }

    #[test]
    fn percent_encoding_does_not_lead_past_a_pattern() {
        assert!(glob("/api/*").matches("/%61p%69/x"));
        assert!(glob("/%61pi/*").matches("/api/x"));
        assert!(glob("/a%2fb").matches("/a%2Fb"));
        assert!(glob("/a%2Fb").matches("/a%2fb"));
        assert!(!glob("/a/b").matches("/a%2fb"));
        // One layer: an origin that decodes twice is its own.
        assert!(!glob("/api").matches("/%2561pi"));
        for odd in ["/%", "/%4", "/%zz", "/%é", "/é%41", "/%+1"] {
            assert!(glob("/*").matches(odd), "{odd}");
        }
        assert_eq!(normal("/é%41%é%+1"), "/éA%é%+1");
    }

    #[test]
    fn a_pattern_is_kept_in_one_form() {
        for (text, kept) in [
            ("api/*", "/api/*"),
            ("/api/*", "/api/*"),
            ("***", "/*"),
            ("*.jpg", "/*.jpg"),
            ("/%7Euser/%c3%a9", "/~user/%C3%A9"),
        ] {
            assert_eq!(glob(text).as_str(), kept);
            let json = serde_json::to_string(&glob(text)).unwrap();
            assert_eq!(json, format!("\"{kept}\""));
            assert_eq!(serde_json::from_str::<PathGlob>(&json).unwrap(), glob(text));
        }
        assert!(glob("*").is_everything() && !glob("*?").is_everything());
    }

    #[test]
    fn what_is_no_pattern_says_what_to_write() {
        let check = |text: &str, problem: &str| {
            let error = text.parse::<PathGlob>().unwrap_err().to_string();
            assert!(error.contains(problem), "{text}: {error}");
        };
        check("", "`/` for the root");
        check("https://a.example/*", "without scheme");
        check("/a/../b", "`..` are not segments");
        check("/a/%2e/b", "`..` are not segments");
        check("/a#b", "leave out `#`");
        check("/{id}", "no parameters");
        check("/a b", "write `%20`");
        check("/é", "write `%C3%A9`");
        check("/100%", "two hexadecimal digits");
        check("/%2*", "two hexadecimal digits");
        check(&"a".repeat(256), "more than 255");
        check(&format!("*{}*", "a".repeat(129)), "between two `*`");
        assert!(format!("*{}*", "a".repeat(128)).parse::<PathGlob>().is_ok());
        assert!("a".repeat(255).parse::<PathGlob>().is_ok());
    }

    #[test]
    fn the_worst_path_takes_no_longer_than_its_length() {
        // One that tries again from every star would need more than 10^20 steps for this.
        let pattern = glob(&"*a?a".repeat(30));
        let path = format!("/{}b", "a".repeat(1 << 20));
        let started = Instant::now();
        assert!(!pattern.matches(&path));
        assert!(glob(&format!("*{}b*", "a".repeat(100))).matches(&path));
        assert!(started.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn a_pattern_covers_what_is_within_it() {
        let check = |ours: &str, theirs: &str, expected: bool| {
            assert_eq!(
                glob(ours).covers(&glob(theirs)),
                expected,
                "{ours} {theirs}"
            );
        };
        check("/api/*", "/api/v1/*", true);
        check("/api/*", "/api/*", true);
        check("/api/v1/*", "/api/*", false);
        check("*", "/a?b*", true);
        check("/a?b", "/axb", true);
        check("/axb", "/a?b", false);
        check("/a?", "/a*", false);
        check("*.jpg", "/img/*.jpg", true);
        check("/img/*", "*.jpg", false);
    }

    proptest! {
        #[test]
        fn a_path_matches_as_in_the_obvious_way(
            pattern in "[ab/*?]{1,9}",
            path in "[ab/]{0,14}",
        ) {
            let path = format!("/{path}");
            let expected = match pattern.starts_with('/') {
                true => obvious(pattern.as_bytes(), path.as_bytes()),
                false => obvious(pattern.as_bytes(), &path.as_bytes()[1..]),
            };
            prop_assert_eq!(glob(&pattern).matches(&path), expected);
        }

        #[test]
        fn whatever_is_covered_matches_too(
            ours in "[ab*?]{1,5}",
            theirs in "[ab*?]{1,6}",
            path in "[ab]{0,7}",
        ) {
            let (ours, theirs, path) = (glob(&ours), glob(&theirs), format!("/{path}"));
            if ours.covers(&theirs) && theirs.matches(&path) {
                prop_assert!(ours.matches(&path));
            }
        }

        #[test]
        fn any_path_is_looked_at_without_harm(pattern in "[a-c%41*?é]{1,12}", path in ".{0,20}") {
            if let Ok(glob) = pattern.parse::<PathGlob>() {
                glob.matches(&path);
            }
        }
    }
}
