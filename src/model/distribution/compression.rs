//! Which answers are compressed on their way to the viewer.

use serde::{Deserialize, Serialize};

use super::super::ByteSize;

/// Types that get smaller. Images, sound, films and archives are compressed already.
const TYPES: [&str; 14] = [
    "text/*",
    "application/atom+xml",
    "application/javascript",
    "application/json",
    "application/ld+json",
    "application/manifest+json",
    "application/rss+xml",
    "application/wasm",
    "application/xhtml+xml",
    "application/xml",
    "font/otf",
    "font/ttf",
    "image/bmp",
    "image/svg+xml",
];

/// Which answers are compressed, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Compression {
    /// The codings, the preferred first; of those that the viewer likes equally well the first is taken. Empty: nothing is
    /// compressed, which is the default.
    pub codings: Vec<Coding>,
    /// Smaller answers stay as they are; 1 KB by default.
    pub minimum: ByteSize,
    /// The media types, in lower case, such as `application/json` or `text/*`.
    pub types: Vec<String>,
}

impl Default for Compression {
    fn default() -> Self {
        Self {
            codings: Vec::new(),
            minimum: ByteSize::kb(1),
            types: TYPES.map(str::to_owned).into(),
        }
    }
}

impl Compression {
    /// What is done where compression is asked for and nothing more is said.
    pub fn on() -> Self {
        Self {
            codings: vec![Coding::Br, Coding::Zstd, Coding::Gzip],
            ..Self::default()
        }
    }

    /// Whether answers with this `Content-Type` are compressed. A stream of events is only where it is named, as a
    /// compressor that waits for more would hold events back.
    pub fn takes(&self, content_type: &str) -> bool {
        let (essence, _) = content_type.split_once(';').unwrap_or((content_type, ""));
        let essence = essence.trim().to_ascii_lowercase();
        self.types
            .iter()
            .any(|wanted| match wanted.strip_suffix('*') {
                Some(kind) => essence.starts_with(kind) && essence != "text/event-stream",
                None => *wanted == essence,
            })
    }
}

/// A content coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Coding {
    /// Brotli (RFC 7932).
    Br,
    /// Zstandard (RFC 8878).
    Zstd,
    /// gzip (RFC 1952).
    Gzip,
}

impl Coding {
    /// Its name in `Accept-Encoding` and `Content-Encoding`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Br => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_taken_by_its_name_or_its_kind() {
        let mut compression = Compression::on();
        for taken in [
            "text/html",
            "Text/HTML; charset=utf-8",
            "application/json",
            "image/svg+xml",
        ] {
            assert!(compression.takes(taken), "{taken}");
        }
        for left in [
            "",
            "image/png",
            "application/json5",
            "text",
            "text/event-stream",
        ] {
            assert!(!compression.takes(left), "{left}");
        }
        compression.types.push("text/event-stream".to_owned());
        assert!(compression.takes("text/event-stream"));
    }
}
