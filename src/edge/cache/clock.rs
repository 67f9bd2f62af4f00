//! What time it is.
//!
//! Freshness is arithmetic on moments of one clock. Tests set it; nothing here sleeps.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::HeaderValue;

/// A moment, in milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Moment(u64);

impl Moment {
    pub(super) const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    pub(super) const fn as_millis(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; nothing if it is not after it.
    pub(super) const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    pub(super) fn plus(self, duration: Duration) -> Self {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(millis))
    }

    /// The moment of a date of HTTP (RFC 9110 section 5.6.7).
    pub(super) fn parse(value: &HeaderValue) -> Option<Self> {
        let time = httpdate::parse_http_date(value.to_str().ok()?).ok()?;
        Some(time.into())
    }

    /// The date of HTTP: whole seconds.
    pub(super) fn to_http_date(self) -> HeaderValue {
        // The last second of the year 9999: HTTP cannot write later ones.
        const LAST: u64 = 253_402_300_799;
        let seconds = (self.0 / 1000).min(LAST);
        let text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds));
        HeaderValue::try_from(text).expect("a date of HTTP is ASCII")
    }
}

impl From<SystemTime> for Moment {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(0).plus(since)
    }
}

/// Tells the time.
#[derive(Debug, Clone, Default)]
pub enum Clock {
    /// The system's.
    #[default]
    System,
    /// One that stands still until it is set: milliseconds since 1970-01-01T00:00:00Z.
    Manual(Arc<AtomicU64>),
}

impl Clock {
    pub(super) fn now(&self) -> Moment {
        match self {
            Self::System => SystemTime::now().into(),
            Self::Manual(millis) => Moment(millis.load(Relaxed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_three_forms_of_a_date_are_read_and_the_first_is_written() {
        let fixed = "Sun, 06 Nov 1994 08:49:37 GMT";
        for text in [
            fixed,
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            let moment = Moment::parse(&HeaderValue::from_static(text)).unwrap();
            assert_eq!(moment.as_millis(), 784_111_777_000);
            assert_eq!(moment.to_http_date(), fixed);
        }
        for text in ["", "0", "-1", "yesterday"] {
            assert_eq!(Moment::parse(&HeaderValue::from_static(text)), None);
        }
    }

    #[test]
    fn moments_do_not_overflow() {
        let last = Moment::from_millis(u64::MAX);
        assert_eq!(last.plus(Duration::MAX), last);
        assert_eq!(Moment::default().since(last), Duration::ZERO);
        last.to_http_date();
    }
}
