//! What the cache had to do with a request, one word each.

use std::fmt;

/// How the cache answered a request: what `Cache-Status` tells (RFC 9211), as one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CacheResult {
    /// From what is stored and fresh.
    Hit,
    /// From what is stored and stale: while it is fetched again, or because the origin fails.
    Stale,
    /// From what is stored, of which the origin was asked and said that it is still good.
    Revalidated,
    /// With the answer to another request.
    Collapsed,
    /// With what the origin was asked for, as nothing that is stored answers it.
    Miss,
    /// With what the origin was asked for, as it is not for the cache.
    Bypass,
}

impl CacheResult {
    /// Every one, for metrics.
    pub const ALL: [Self; 6] = [
        Self::Hit,
        Self::Stale,
        Self::Revalidated,
        Self::Collapsed,
        Self::Miss,
        Self::Bypass,
    ];

    /// The word.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Stale => "stale",
            Self::Revalidated => "revalidated",
            Self::Collapsed => "collapsed",
            Self::Miss => "miss",
            Self::Bypass => "bypass",
        }
    }
}

impl fmt::Display for CacheResult {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.code())
    }
}
