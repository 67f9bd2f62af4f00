//! What a route answers with.

use std::{fmt, fmt::Write as _, str::FromStr};

use http::{HeaderMap, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};

use super::{super::FunctionName, path::is_parameter_name};
use super::{Parameters, PathPattern};

/// What a request gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// What this function answers.
    Function(FunctionName),
    /// The same response each time.
    Respond {
        /// The status, 200 to 599.
        #[serde(with = "status")]
        status: StatusCode,
        /// The header fields.
        #[serde(with = "headers")]
        headers: HeaderMap,
        /// The body.
        body: String,
    },
    /// The advice to ask elsewhere.
    Redirect {
        /// Where.
        to: RedirectTarget,
        /// How: 301, 302, 303, 307 or 308.
        status: RedirectStatus,
    },
}

/// The status of a redirect.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct RedirectStatus(StatusCode);

impl RedirectStatus {
    /// 302: for now, and nobody remembers it.
    pub const FOUND: Self = Self(StatusCode::FOUND);

    /// The status code.
    pub fn code(self) -> StatusCode {
        self.0
    }
}

impl TryFrom<u16> for RedirectStatus {
    type Error = InvalidRedirect;

    fn try_from(code: u16) -> Result<Self, InvalidRedirect> {
        match (code, StatusCode::from_u16(code)) {
            (301 | 302 | 303 | 307 | 308, Ok(status)) => Ok(Self(status)),
            _ => Err(InvalidRedirect(format!(
                "{code} is not the status of a redirect: 301, 302, 303, 307 or 308"
            ))),
        }
    }
}

impl From<RedirectStatus> for u16 {
    fn from(status: RedirectStatus) -> Self {
        status.0.as_u16()
    }
}

impl fmt::Debug for RedirectStatus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_u16().fmt(formatter)
    }
}

/// Where a redirect goes: a path (`/new/{id}`) or a URL (`https://example.com/{rest}`), in which `{name}` stands for a
/// parameter of the route's path.
///
/// A client cannot choose the host it is sent to: the host of a target has no parameters, and a path stays a path
/// whatever the parameters are (`//evil.example` would be a host).
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RedirectTarget {
    text: Box<str>,
    pieces: Box<[Piece]>,
    has_query: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Piece {
    Text(Box<str>),
    Parameter { name: Box<str>, in_query: bool },
}

impl RedirectTarget {
    /// The parameter that the target uses although `path` does not have it.
    pub fn unknown_parameter(&self, path: &PathPattern) -> Option<&str> {
        self.pieces.iter().find_map(|piece| match piece {
            Piece::Parameter { name, .. } if !path.has_parameter(name) => Some(&**name),
            Piece::Parameter { .. } | Piece::Text(_) => None,
        })
    }

    /// The `Location` for a request: parameters filled in, and the request's query kept if the target has none.
    pub fn location(&self, parameters: &Parameters<'_, '_>, query: Option<&str>) -> HeaderValue {
        let mut location = String::with_capacity(self.text.len() + 32);
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => location.push_str(text),
                Piece::Parameter { name, in_query } => {
                    let value = parameters.get(name).unwrap_or_default();
                    push_encoded(&mut location, value, *in_query);
                }
            }
        }
        if self.text.starts_with('/') {
            let path = location.trim_start_matches('/').len();
            location.drain(1..location.len() - path);
        }
        if let (Some(query), false) = (query, self.has_query) {
            let fragment = location.find('#').unwrap_or(location.len());
            let fragment = location.split_off(fragment);
            location.push('?');
            for byte in query.bytes() {
                push_byte(&mut location, byte, byte.is_ascii_graphic() && byte != b'#');
            }
            location.push_str(&fragment);
        }
        HeaderValue::try_from(location).expect("only visible ASCII was written")
    }
}

fn push_encoded(location: &mut String, value: &str, in_query: bool) {
    for byte in value.bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"-._~%/:@".contains(&byte);
        // In a query, `&`, `=` and `+` would be more than a value.
        let plain = plain || (!in_query && b"!$&'()*+,;=".contains(&byte));
        push_byte(location, byte, plain);
    }
}

fn push_byte(location: &mut String, byte: u8, plain: bool) {
    if plain {
        location.push(char::from(byte));
    } else {
        write!(location, "%{byte:02X}").expect("a String takes every write");
    }
}

/// Why a text or number is no target or status of a redirect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidRedirect(String);

impl FromStr for RedirectTarget {
    type Err = InvalidRedirect;

    fn from_str(text: &str) -> Result<Self, InvalidRedirect> {
        let pieces = parse(text).map_err(|problem| {
            let text: String = text.chars().take(80).collect();
            InvalidRedirect(format!("`{text}` cannot be redirected to: {problem}"))
        })?;
        Ok(Self {
            text: text.into(),
            pieces: pieces.into(),
            has_query: text.contains('?'),
        })
    }
}

fn parse(text: &str) -> Result<Vec<Piece>, String> {
    if let Some(letter) = text.chars().find(|letter| !letter.is_ascii_graphic()) {
        return Err(format!("percent-encode `{}`", letter.escape_default()));
    }
    if text.contains(['\\', '"', '<', '>', '^', '`', '|']) {
        return Err("percent-encode what is not a letter of a URL".to_owned());
    }
    let url = ["https://", "http://"]
        .iter()
        .find_map(|scheme| text.strip_prefix(scheme));
    match url {
        Some(url) => {
            let end = url.find(['/', '?', '#']).unwrap_or(url.len());
            if url[..end].contains(['{', '}']) {
                return Err("the host has no parameters, or a client could choose it".to_owned());
            }
            if url[..end].parse::<http::uri::Authority>().is_err() {
                return Err("a host follows `//`".to_owned());
            }
        }
        None if text.starts_with("//") || !text.starts_with('/') => {
            return Err(
                "write a path that begins with one `/`, or an http or https URL".to_owned(),
            );
        }
        None => {}
    }
    let mut pieces = Vec::new();
    let mut remaining = text;
    let mut in_query = false;
    while !remaining.is_empty() {
        let (before, after) = match remaining.split_once('{') {
            Some((before, after)) => (before, Some(after)),
            None => (remaining, None),
        };
        if before.contains('}') {
            return Err("a `}` has no `{` before it".to_owned());
        }
        if !before.is_empty() {
            in_query = in_query || before.contains('?');
            pieces.push(Piece::Text(before.into()));
        }
        let Some(after) = after else { break };
        let Some((name, after)) = after.split_once('}') else {
            return Err("a `{` has no `}` after it".to_owned());
        };
        if !is_parameter_name(name) {
            return Err(format!(
                "`{{{name}}}` is not a parameter: write its name alone, as in `{{rest}}`"
            ));
        }
        pieces.push(Piece::Parameter {
            name: name.into(),
            in_query,
        });
        remaining = after;
    }
    Ok(pieces)
}

impl TryFrom<String> for RedirectTarget {
    type Error = InvalidRedirect;

    fn try_from(text: String) -> Result<Self, InvalidRedirect> {
        text.parse()
    }
}

impl From<RedirectTarget> for String {
    fn from(target: RedirectTarget) -> Self {
        target.text.into()
    }
}

impl fmt::Display for RedirectTarget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl fmt::Debug for RedirectTarget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "\"{self}\"")
    }
}

mod status {
    use http::StatusCode;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(
        status: &StatusCode,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_u16(status.as_u16())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<StatusCode, D::Error> {
        StatusCode::from_u16(u16::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// A list of pairs, as a field may be there twice.
pub(in crate::model) mod headers {
    use http::{HeaderMap, HeaderName, HeaderValue};
    use serde::{Deserialize, Deserializer, Serializer, de::Error, ser::Error as _};

    pub(in crate::model) fn serialize<S: Serializer>(
        headers: &HeaderMap,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let pairs = headers
            .iter()
            .map(|(name, value)| Ok((name.as_str(), value.to_str().map_err(S::Error::custom)?)))
            .collect::<Result<Vec<_>, _>>()?;
        serializer.collect_seq(pairs)
    }

    pub(in crate::model) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<HeaderMap, D::Error> {
        let mut headers = HeaderMap::new();
        for (name, value) in Vec::<(String, String)>::deserialize(deserializer)? {
            let name: HeaderName = name.parse().map_err(D::Error::custom)?;
            let value: HeaderValue = value.parse().map_err(D::Error::custom)?;
            headers.append(name, value);
        }
        Ok(headers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(to: &str, pattern: &str, path: &str, query: Option<&str>) -> String {
        let pattern: PathPattern = pattern.parse().unwrap();
        let target: RedirectTarget = to.parse().unwrap();
        assert_eq!(target.unknown_parameter(&pattern), None);
        let location = target.location(&pattern.parameters(path), query);
        location.to_str().unwrap().to_owned()
    }

    #[test]
    fn a_target_is_filled_from_the_path() {
        assert_eq!(location("/new", "/old", "/old", None), "/new");
        assert_eq!(
            location("/people/{id}", "/users/{id}", "/users/7", None),
            "/people/7"
        );
        assert_eq!(
            location("https://b.example/{rest}", "/{*rest}", "/x/y", None),
            "https://b.example/x/y"
        );
        assert_eq!(location("/{b}-{a}#{b}", "/{a}/{b}", "/1/2", None), "/2-1#2");
    }

    #[test]
    fn the_query_is_kept_unless_the_target_has_its_own() {
        assert_eq!(location("/b", "/a", "/a", Some("x=1&y=2")), "/b?x=1&y=2");
        assert_eq!(location("/b#c", "/a", "/a", Some("x=1")), "/b?x=1#c");
        assert_eq!(location("/b?y=2", "/a", "/a", Some("x=1")), "/b?y=2");
    }

    #[test]
    fn a_client_cannot_choose_the_host_or_add_to_the_query() {
        for path in ["//evil.example", "///evil.example"] {
            assert_eq!(location("/{rest}", "/{*rest}", path, None), "/evil.example");
        }
        assert_eq!(
            location("/{rest}/{id}", "/{id}/{*rest}", "/evil.example/", None),
            "/evil.example"
        );
        assert_eq!(
            location("/{rest}", "/{*rest}", "/\\evil.example", None),
            "/%5Cevil.example"
        );
        assert_eq!(
            location("/s?q={id}", "/{id}", "/a&admin=1", None),
            "/s?q=a%26admin%3D1"
        );
        assert_eq!(
            location("/{id}", "/{id}", "/a\r\nb: é", None),
            "/a%0D%0Ab:%20%C3%A9"
        );
    }

    #[test]
    fn what_cannot_be_redirected_to_says_why() {
        let check = |text: &str, problem: &str| {
            let error = text.parse::<RedirectTarget>().unwrap_err().to_string();
            assert!(error.contains(problem), "{text}: {error}");
        };
        check("", "begins with one `/`");
        check("//a.example", "begins with one `/`");
        check("javascript:alert(1)", "begins with one `/`");
        check("https://", "a host follows");
        check("https://{id}.example/", "has no parameters");
        check("/{*rest}", "write its name alone");
        check("/{a", "no `}` after");
        check("/a}", "no `{` before");
        check("/a b", "percent-encode ` `");
        check("/a\\b", "percent-encode");
        assert!(RedirectStatus::try_from(200).is_err());
        assert!(RedirectStatus::try_from(304).is_err());
        let target: RedirectTarget = "/{x}".parse().unwrap();
        assert_eq!(
            target.unknown_parameter(&"/{y}".parse().unwrap()),
            Some("x")
        );
    }
}
