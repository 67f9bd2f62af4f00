//! Patterns of paths.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The most segments of a pattern. It bounds how deep the router goes.
const MAX_SEGMENTS: usize = 64;

/// Paths: `/`, `/users/{id}`, `/files/{*rest}`.
///
/// A segment between slashes is a literal, a parameter `{name}`, which is one segment with something in it, or, as the
/// last, a rest `{*name}`, which is everything that follows the slash before it, be it nothing. So `/files/{*rest}`
/// has `/files/` and `/files/a/b`, but not `/files`.
///
/// A path is compared byte by byte as it was sent: `%61` is not `a`, `/a/` is not `/a`, `//` has an empty segment
/// between, and case counts.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PathPattern {
    text: Box<str>,
    segments: Box<[Segment]>,
}

/// What stands between two slashes of a pattern.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Segment {
    /// These bytes; nothing between two slashes, or after the last, is an empty literal.
    Literal(Box<str>),
    /// Any one segment that is not empty; its name.
    Parameter(Box<str>),
    /// All segments that follow; its name.
    Rest(Box<str>),
}

impl PathPattern {
    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The segments, at least one; `/` is one empty literal.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Whether two patterns differ in nothing but the names of their parameters: then they have the same paths.
    pub fn is_alike(&self, other: &Self) -> bool {
        let mut pairs = self.segments.iter().zip(&other.segments);
        self.segments.len() == other.segments.len()
            && pairs.all(|pair| match pair {
                (Segment::Literal(ours), Segment::Literal(theirs)) => ours == theirs,
                (Segment::Parameter(_), Segment::Parameter(_))
                | (Segment::Rest(_), Segment::Rest(_)) => true,
                _ => false,
            })
    }

    /// Whether `name` is a parameter of the pattern.
    pub fn has_parameter(&self, name: &str) -> bool {
        self.segments.iter().any(|segment| match segment {
            Segment::Literal(_) => false,
            Segment::Parameter(parameter) | Segment::Rest(parameter) => **parameter == *name,
        })
    }

    /// The parameters of a path that the pattern has. Nothing is computed before one is asked for.
    pub fn parameters<'pattern, 'path>(
        &'pattern self,
        path: &'path str,
    ) -> Parameters<'pattern, 'path> {
        Parameters {
            segments: &self.segments,
            path,
        }
    }
}

/// The parameters of a matched path: names of the pattern, values of the path as they were sent (percent-encoded).
#[derive(Debug, Clone, Copy, Default)]
pub struct Parameters<'pattern, 'path> {
    segments: &'pattern [Segment],
    path: &'path str,
}

impl<'pattern, 'path> Parameters<'pattern, 'path> {
    /// The value of the parameter `name`.
    pub fn get(&self, name: &str) -> Option<&'path str> {
        self.iter()
            .find(|(parameter, _)| *parameter == name)
            .map(|(_, value)| value)
    }

    /// The parameters in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&'pattern str, &'path str)> + use<'pattern, 'path> {
        let mut remaining = self.path.strip_prefix('/');
        self.segments.iter().filter_map(move |segment| {
            let path = remaining?;
            let value = match path.split_once('/') {
                Some((value, rest)) => {
                    remaining = Some(rest);
                    value
                }
                None => {
                    remaining = None;
                    path
                }
            };
            match segment {
                Segment::Literal(_) => None,
                Segment::Parameter(name) => Some((&**name, value)),
                Segment::Rest(name) => Some((&**name, path)),
            }
        })
    }
}

/// Whether a path means another path once it is decoded and its `.` and `..` are removed.
///
/// A client removes them before it sends (RFC 3986 section 5.2.4), so a path that still has them is made by hand, to be
/// one thing to the router and another to what it guards. As a function may decode first, `%2e` counts as a dot, and
/// `%2f`, `\` and `%5c` count as slashes.
pub fn has_dot_segment(path: &str) -> bool {
    let bytes = path.as_bytes();
    // Most paths have neither, and one look tells.
    if !bytes.iter().any(|byte| matches!(byte, b'.' | b'%')) {
        return false;
    }
    let mut dots = 0;
    let mut only_dots = true;
    let mut at = 0;
    while at < bytes.len() {
        let (byte, width) = decoded(&bytes[at..]);
        match byte {
            b'/' | b'\\' => {
                if only_dots && matches!(dots, 1 | 2) {
                    return true;
                }
                dots = 0;
                only_dots = true;
            }
            b'.' => dots += 1,
            _ => only_dots = false,
        }
        at += width;
    }
    only_dots && matches!(dots, 1 | 2)
}

/// The first byte, percent-decoded where it matters here, and how many bytes it takes.
fn decoded(bytes: &[u8]) -> (u8, usize) {
    match bytes {
        [b'%', b'2', b'e' | b'E', ..] => (b'.', 3),
        [b'%', b'2', b'f' | b'F', ..] => (b'/', 3),
        [b'%', b'5', b'c' | b'C', ..] => (b'\\', 3),
        _ => (bytes[0], 1),
    }
}

/// Why a text is no pattern of paths.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a path: {problem}")]
pub struct InvalidPath {
    text: String,
    problem: String,
}

impl FromStr for PathPattern {
    type Err = InvalidPath;

    fn from_str(text: &str) -> Result<Self, InvalidPath> {
        let segments = parse(text).map_err(|problem| InvalidPath {
            text: text.chars().take(80).collect(),
            problem,
        })?;
        Ok(Self {
            text: text.into(),
            segments: segments.into(),
        })
    }
}

fn parse(text: &str) -> Result<Vec<Segment>, String> {
    let Some(path) = text.strip_prefix('/') else {
        return Err("it begins with `/`".to_owned());
    };
    if has_dot_segment(path) {
        return Err("`.` and `..` are not segments: such requests are refused".to_owned());
    }
    let mut segments: Vec<Segment> = Vec::new();
    for part in path.split('/') {
        if let Some(Segment::Rest(name)) = segments.last() {
            return Err(format!("nothing can follow `{{*{name}}}`"));
        }
        if segments.len() == MAX_SEGMENTS {
            return Err(format!("it has more than {MAX_SEGMENTS} segments"));
        }
        let segment = parse_segment(part)?;
        if let Segment::Parameter(name) | Segment::Rest(name) = &segment {
            let taken = segments.iter().any(|earlier| match earlier {
                Segment::Literal(_) => false,
                Segment::Parameter(earlier) | Segment::Rest(earlier) => earlier == name,
            });
            if taken {
                return Err(format!("it has two parameters named `{name}`"));
            }
        }
        segments.push(segment);
    }
    Ok(segments)
}

fn parse_segment(part: &str) -> Result<Segment, String> {
    if let Some(name) = part.strip_prefix('{').and_then(|p| p.strip_suffix('}')) {
        let (name, rest) = match name.strip_prefix('*') {
            Some(name) => (name, true),
            None => (name, false),
        };
        if !is_parameter_name(name) {
            return Err(format!(
                "`{name}` is not the name of a parameter: a letter or `_`, then letters, digits or `_`"
            ));
        }
        return Ok(match rest {
            true => Segment::Rest(name.into()),
            false => Segment::Parameter(name.into()),
        });
    }
    for (at, letter) in part.char_indices() {
        match letter {
            '{' | '}' => {
                return Err(
                    "a parameter is a whole segment, as in `/users/{id}` or `/files/{*rest}`"
                        .to_owned(),
                );
            }
            '*' if part == "*" => {
                return Err(
                    "write `{name}` for one segment, or `{*name}` for all that follow".to_owned(),
                );
            }
            '%' => {
                let digits = part.get(at + 1..at + 3).unwrap_or_default();
                if digits.len() != 2 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                    return Err("two hexadecimal digits follow a `%`".to_owned());
                }
            }
            '?' | '#' => return Err(format!("leave out `{letter}` and what follows it")),
            letter if !is_path_letter(letter) => {
                let encoded: String = letter
                    .encode_utf8(&mut [0; 4])
                    .bytes()
                    .map(|byte| format!("%{byte:02X}"))
                    .collect();
                return Err(format!(
                    "write `{encoded}` for {letter:?}, as clients send it"
                ));
            }
            _ => {}
        }
    }
    Ok(Segment::Literal(part.into()))
}

/// `pchar` of RFC 3986, without `%`.
fn is_path_letter(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:@".contains(letter)
}

pub(super) fn is_parameter_name(name: &str) -> bool {
    name.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && name
            .bytes()
            .next()
            .is_some_and(|byte| !byte.is_ascii_digit())
}

impl TryFrom<String> for PathPattern {
    type Error = InvalidPath;

    fn try_from(text: String) -> Result<Self, InvalidPath> {
        text.parse()
    }
}

impl From<PathPattern> for String {
    fn from(path: PathPattern) -> Self {
        path.text.into()
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl fmt::Debug for PathPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_literals_parameters_and_a_rest() {
        let pattern: PathPattern = "/v1/users/{id}/{*rest}".parse().unwrap();
        assert_eq!(
            pattern.segments(),
            [
                Segment::Literal("v1".into()),
                Segment::Literal("users".into()),
                Segment::Parameter("id".into()),
                Segment::Rest("rest".into()),
            ]
        );
        assert_eq!(
            "/".parse::<PathPattern>().unwrap().segments(),
            [Segment::Literal("".into())]
        );
    }

    #[test]
    fn parameters_are_the_bytes_that_were_sent() {
        let pattern: PathPattern = "/users/{id}/{*rest}".parse().unwrap();
        let parameters = pattern.parameters("/users/a%2Fb/c//d");
        assert_eq!(parameters.get("id"), Some("a%2Fb"));
        assert_eq!(parameters.get("rest"), Some("c//d"));
        assert_eq!(parameters.get("users"), None);
        assert_eq!(
            pattern.parameters("/users/x/").iter().collect::<Vec<_>>(),
            [("id", "x"), ("rest", "")]
        );
        assert_eq!(Parameters::default().iter().count(), 0);
    }

    #[test]
    fn what_is_not_a_path_says_what_to_write() {
        let check = |text: &str, problem: &str| {
            let error = text.parse::<PathPattern>().unwrap_err().to_string();
            assert!(error.contains(problem), "{text}: {error}");
        };
        check("", "begins with `/`");
        check("users", "begins with `/`");
        check("/a/../b", "are not segments");
        check("/%2E", "are not segments");
        check("/*", "write `{name}` for one segment");
        check("/{*rest}/a", "nothing can follow `{*rest}`");
        check("/{*rest}/", "nothing can follow `{*rest}`");
        check("/img-{id}", "whole segment");
        check("/{a}{b}", "is not the name of a parameter");
        check("/{}", "is not the name of a parameter");
        check("/{*}", "is not the name of a parameter");
        check("/{1a}", "is not the name of a parameter");
        check("/{a}/{a}", "two parameters named `a`");
        check("/{a}/{*a}", "two parameters named `a`");
        check("/a b", "write `%20`");
        check("/é", "write `%C3%A9`");
        check("/a?b", "leave out `?`");
        check("/%2", "two hexadecimal digits");
        check("/%é0", "two hexadecimal digits");
        check(&"/a".repeat(65), "more than 64 segments");
    }

    #[test]
    fn dot_segments_are_seen_however_they_are_written() {
        for path in [
            "/.",
            "/..",
            "/a/../b",
            "/a/./b",
            "/a/%2e%2E/b",
            "/a/.%2e",
            "/..%2fb",
            "/a%2F..%5cb",
            "/a\\..\\b",
            "..",
            ".",
        ] {
            assert!(has_dot_segment(path), "{path}");
        }
        for path in [
            "",
            "/",
            "//",
            "/...",
            "/a.b/c",
            "/.well-known/x",
            "/a..",
            "/..a",
            "/%252e%252e/b",
            "/a%2fb",
            "/.%",
        ] {
            assert!(!has_dot_segment(path), "{path}");
        }
    }
}
