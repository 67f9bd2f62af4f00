//! Sizes in bytes, as people write them.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A number of bytes. Written `128 MB`, `512KB`, `1 GB` or as a plain number of bytes.
///
/// As in Lambda, a KB is 1,024 bytes, a MB 1,048,576 and a GB 1,073,741,824; `KiB`, `MiB` and `GiB` mean the same.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ByteSize(u64);

impl ByteSize {
    /// So many bytes.
    pub const fn bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// So many times 1,024 bytes.
    pub const fn kb(kb: u64) -> Self {
        Self(kb << 10)
    }

    /// So many times 1,048,576 bytes.
    pub const fn mb(mb: u64) -> Self {
        Self(mb << 20)
    }

    /// The number of bytes.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The number of bytes, for a machine whose addresses hold it.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    /// Whole megabytes of 1,048,576 bytes, rounded up.
    pub fn as_mb(self) -> u32 {
        u32::try_from(self.0.div_ceil(1 << 20)).unwrap_or(u32::MAX)
    }
}

/// Why a text is no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a size: write a number and B, KB, MB or GB, such as `128 MB`")]
pub struct ParseSizeError(String);

impl FromStr for ByteSize {
    type Err = ParseSizeError;

    fn from_str(text: &str) -> Result<Self, ParseSizeError> {
        let error = || ParseSizeError(text.chars().take(40).collect());
        let trimmed = text.trim();
        let unit_at = trimmed
            .find(|letter: char| !letter.is_ascii_digit())
            .unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(unit_at);
        let shift = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "kb" | "kib" | "k" => 10,
            "mb" | "mib" | "m" => 20,
            "gb" | "gib" | "g" => 30,
            _ => return Err(error()),
        };
        let number: u64 = number.parse().map_err(|_| error())?;
        number.checked_mul(1 << shift).map(Self).ok_or_else(error)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(30, "GB"), (20, "MB"), (10, "KB")] {
            if self.0 != 0 && self.0.is_multiple_of(1 << shift) {
                return write!(formatter, "{} {unit}", self.0 >> shift);
            }
        }
        write!(formatter, "{} B", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("17", 17),
            ("17 B", 17),
            ("1kb", 1024),
            ("128 MB", 128 << 20),
            ("2GiB", 2 << 30),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize::bytes(bytes)), "{text}");
        }
        for text in ["", "MB", "1.5 MB", "-1", "1 TB", "99999999999 GB", "1 MB x"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_size_prints_in_its_largest_whole_unit() {
        for text in ["0 B", "17 B", "3 KB", "128 MB", "2 GB"] {
            assert_eq!(text.parse::<ByteSize>().unwrap().to_string(), text);
        }
    }
}
