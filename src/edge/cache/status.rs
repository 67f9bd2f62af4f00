//! How the cache handled a request: `Cache-Status` (RFC 9211).

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::model::CacheResult;

/// The field.
pub(super) const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// Why a request went forward (RFC 9211 section 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// The cache is not to handle it.
    Bypass,
    /// Its method.
    Method,
    /// Nothing is stored for its key.
    UriMiss,
    /// What is stored for its key is for other requests.
    VaryMiss,
    /// It does not want what is stored.
    Request,
    /// What is stored is stale.
    Stale,
    /// It wants a part that the cache does not fetch the whole for.
    Partial,
}

impl Why {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Request => "request",
            Self::Stale => "stale",
            Self::Partial => "partial",
        }
    }
}

/// How a request was handled.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Handling {
    /// Without, it was answered from the cache.
    pub(super) forward: Option<Why>,
    pub(super) forward_status: Option<StatusCode>,
    /// Remaining freshness in seconds.
    pub(super) ttl: Option<i64>,
    pub(super) stored: bool,
    /// What it was answered with was stored before, and its origin said that it is still good.
    pub(super) revalidated: bool,
    pub(super) collapsed: bool,
    /// What it was answered with is stale.
    pub(super) stale: bool,
    /// A word: a token of RFC 9651.
    pub(super) detail: Option<&'static str>,
}

/// How a request was handled, for who counts and records it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handled {
    /// In a word.
    pub result: CacheResult,
    /// Whether it waited for the origin.
    pub forwarded: bool,
}

impl Handling {
    pub(super) fn hit(ttl: i64) -> Self {
        Self {
            ttl: Some(ttl),
            stale: ttl <= 0,
            ..Self::default()
        }
    }

    pub(super) fn forward(why: Why) -> Self {
        Self {
            forward: Some(why),
            ..Self::default()
        }
    }

    /// The same, but that what is stored was served because the origin failed.
    pub(super) fn on_error(self) -> Self {
        Self {
            detail: Some("stale-if-error"),
            stale: true,
            ..self
        }
    }

    pub(super) fn handled(&self) -> Handled {
        let result = match self.forward {
            _ if self.stale => CacheResult::Stale,
            _ if self.collapsed => CacheResult::Collapsed,
            None => CacheResult::Hit,
            Some(Why::Bypass | Why::Method) => CacheResult::Bypass,
            Some(_) if self.revalidated => CacheResult::Revalidated,
            Some(_) => CacheResult::Miss,
        };
        Handled {
            result,
            forwarded: self.forward.is_some(),
        }
    }

    /// Adds this cache to those that the response passed: it is the nearest to the client, so it stands last.
    pub(super) fn write(&self, headers: &mut HeaderMap) {
        headers.append(CACHE_STATUS, self.value());
    }

    fn value(&self) -> HeaderValue {
        let mut text = String::with_capacity(64);
        text.push_str("wharf");
        match self.forward {
            None => text.push_str("; hit"),
            Some(why) => text.extend(["; fwd=", why.as_str()]),
        }
        if let Some(status) = &self.forward_status {
            text.extend(["; fwd-status=", status.as_str()]);
        }
        if let Some(ttl) = self.ttl {
            text.extend(["; ttl=", itoa::Buffer::new().format(ttl)]);
        }
        if self.stored {
            text.push_str("; stored");
        }
        if self.collapsed {
            text.push_str("; collapsed");
        }
        if let Some(detail) = self.detail {
            text.extend(["; detail=", detail]);
        }
        HeaderValue::try_from(text).expect("words and digits are a valid field")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9211 section 2.
    #[test]
    fn what_is_written_is_a_structured_list_with_this_cache_last() {
        let mut headers = HeaderMap::new();
        headers.insert(CACHE_STATUS, "Origin; hit".parse().unwrap());
        Handling::hit(-3).write(&mut headers);
        Handling {
            forward_status: Some(StatusCode::OK),
            stored: true,
            collapsed: true,
            detail: Some("vary-any"),
            ..Handling::forward(Why::UriMiss)
        }
        .write(&mut headers);
        let lines: Vec<&str> = headers
            .get_all(CACHE_STATUS)
            .iter()
            .map(|line| line.to_str().unwrap())
            .collect();
        assert_eq!(
            lines[1..],
            [
                "wharf; hit; ttl=-3",
                "wharf; fwd=uri-miss; fwd-status=200; stored; collapsed; detail=vary-any"
            ]
        );
        let list: sfv::List = sfv::Parser::new(&lines.join(",")).parse().unwrap();
        assert_eq!(list.len(), 3);
    }
}
