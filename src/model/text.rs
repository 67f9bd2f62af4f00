//! Texts as people write them: durations, and names that are nearly right.

use std::time::Duration;

/// Why a text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a duration: write a number and ms, s, min, h or d, such as `3 s`")]
pub struct ParseDurationError(String);

/// Reads `250 ms`, `3 s`, `5 min`, `6 h` or `7 d`. One number, one unit: a limit that needs more is better said in a smaller unit.
pub fn parse_duration(text: &str) -> Result<Duration, ParseDurationError> {
    let error = || ParseDurationError(text.chars().take(40).collect());
    let trimmed = text.trim();
    let unit_at = trimmed
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(unit_at);
    let number: u64 = number.parse().map_err(|_| error())?;
    let milliseconds: u64 = match unit.trim() {
        "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(error()),
    };
    number
        .checked_mul(milliseconds)
        .map(Duration::from_millis)
        .ok_or_else(error)
}

/// The known name that was probably meant.
pub(super) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let alike = |known: &&&str| strsim::jaro_winkler(name, known);
    known
        .iter()
        .max_by(|a, b| alike(a).total_cmp(&alike(b)))
        .filter(|best| alike(best) > 0.8)
        .copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, ms) in [
            ("250 ms", 250),
            ("3s", 3_000),
            ("5 min", 300_000),
            ("6 h", 21_600_000),
            ("365 d", 31_536_000_000),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(ms)),
                "{text}"
            );
        }
        for text in [
            "",
            "3",
            "s",
            "1.5 s",
            "-1 s",
            "3 days",
            "99999999999999999 h",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
