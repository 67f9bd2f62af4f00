//! How long a stored response may be used: RFC 9111 section 4.2, and RFC 5861.
//!
//! All of it is decided once, when the response comes, under the policy of that moment. Using a stored response is then a
//! comparison of numbers.
//!
//! A response that must be revalidated is never served stale, whatever the policy or the client says. `s-maxage` forbids
//! it too (RFC 9111 section 5.2.2.10), except where the same response has a `stale-while-revalidate` or `stale-if-error`:
//! whoever writes both means shared caches.

use std::time::Duration;

use http::{
    HeaderMap, StatusCode,
    header::{AGE, DATE, EXPIRES, LAST_MODIFIED},
};

use super::{
    clock::Moment,
    directives::{Demands, Directives, Scoped, seconds},
};
use crate::model::CachePolicy;

/// The share of its age that an unchanged response is expected to stay so (RFC 9111 section 4.2.2).
const HEURISTIC_SHARE: u32 = 10;

/// The longest freshness that is guessed.
const LONGEST_GUESS: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a stored response may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Freshness {
    /// From its generation on.
    pub(super) lifetime: Duration,
    /// Its age when it came.
    pub(super) initial_age: Duration,
    /// When it came.
    pub(super) received: Moment,
    /// It is never used without asking the origin.
    pub(super) validate: bool,
    /// No client may have it stale.
    pub(super) strict: bool,
    pub(super) stale_while_revalidate: Duration,
    pub(super) stale_if_error: Duration,
}

/// Whether a stored response answers a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reuse {
    /// It does.
    Yes,
    /// It is stale and does, but the origin is to be asked meanwhile.
    WhileRevalidating,
    /// The origin must be asked first.
    No,
}

impl Freshness {
    /// Of a response to a request that was sent at `requested`.
    pub(super) fn new(
        status: StatusCode,
        headers: &HeaderMap,
        directives: &Directives,
        policy: &CachePolicy,
        requested: Moment,
        received: Moment,
    ) -> Self {
        let date = headers.get(DATE).and_then(Moment::parse);
        let date = date.unwrap_or(received);
        let lifetime = lifetime(status, headers, directives, policy, date);
        let revalidates = directives.must_revalidate || directives.proxy_revalidate;
        let shared = directives.s_maxage.is_some();
        // What nobody ever called fresh may be meant for one client: it is good for being revalidated, and no more.
        let was_fresh = !lifetime.is_zero();
        let is_meant = was_fresh || said(headers, directives, date).is_some();
        let stale = |said: Option<Duration>, policy: Duration| match said {
            _ if revalidates => Duration::ZERO,
            Some(said) => said,
            None if shared || !is_meant => Duration::ZERO,
            None => policy,
        };
        Self {
            lifetime,
            initial_age: initial_age(headers, date, requested, received),
            received,
            validate: directives.no_cache == Scoped::Whole,
            strict: revalidates || shared || !was_fresh,
            stale_while_revalidate: stale(
                directives.stale_while_revalidate,
                policy.stale_while_revalidate,
            ),
            stale_if_error: stale(directives.stale_if_error, policy.stale_if_error),
        }
    }

    /// RFC 9111 section 4.2.3.
    pub(super) fn age(&self, now: Moment) -> Duration {
        self.initial_age.saturating_add(now.since(self.received))
    }

    /// For how many more seconds it is fresh; not more than 0 when it is stale.
    pub(super) fn ttl(&self, now: Moment, marked: Option<Moment>) -> i64 {
        let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        let by_age = seconds(self.lifetime).saturating_sub(seconds(self.age(now)));
        let by_mark = marked.map_or(i64::MAX, |marked| -seconds(now.since(marked)));
        by_age.min(by_mark)
    }

    /// For how long it has been stale, or none if it is fresh. A response that was marked stale is so from then on.
    fn stale_for(&self, now: Moment, marked: Option<Moment>) -> Option<Duration> {
        let age = self.age(now);
        let by_age = (age >= self.lifetime).then(|| age.saturating_sub(self.lifetime));
        let by_mark = marked.map(|marked| now.since(marked));
        by_age.max(by_mark)
    }

    /// Whether it answers a request with these demands.
    pub(super) fn reuse(&self, now: Moment, demands: &Demands, marked: Option<Moment>) -> Reuse {
        if self.validate || demands.no_cache {
            return Reuse::No;
        }
        let age = self.age(now);
        if demands.max_age.is_some_and(|most| age > most) {
            return Reuse::No;
        }
        match self.stale_for(now, marked) {
            None => {
                let left = self.lifetime.saturating_sub(age);
                match demands.min_fresh {
                    Some(least) if left < least => Reuse::No,
                    _ => Reuse::Yes,
                }
            }
            Some(_) if demands.min_fresh.is_some() => Reuse::No,
            Some(by) if !self.strict && demands.max_stale.is_some_and(|most| by <= most) => {
                Reuse::Yes
            }
            Some(by) if by < self.stale_while_revalidate => Reuse::WhileRevalidating,
            Some(_) => Reuse::No,
        }
    }

    /// Whether it may be served to who has these demands because the origin failed.
    pub(super) fn on_error(&self, now: Moment, demands: &Demands, marked: Option<Moment>) -> bool {
        let asked = demands.stale_if_error.filter(|_| !self.strict);
        let window = self.stale_if_error.max(asked.unwrap_or_default());
        let stale_for = self.stale_for(now, marked);
        !self.validate && stale_for.is_none_or(|by| by < window)
    }
}

/// RFC 9111 section 4.2.1.
fn lifetime(
    status: StatusCode,
    headers: &HeaderMap,
    directives: &Directives,
    policy: &CachePolicy,
    date: Moment,
) -> Duration {
    let said = said(headers, directives, date);
    let lifetime = said.unwrap_or_else(|| unsaid(status, headers, directives, policy, date));
    let least = if is_error(status) {
        Duration::ZERO
    } else {
        policy.ttl.minimum
    };
    lifetime.max(least).min(policy.ttl.maximum)
}

/// The lifetime that a response gives itself.
fn said(headers: &HeaderMap, directives: &Directives, date: Moment) -> Option<Duration> {
    let expires = || {
        let expires = (!directives.targeted).then(|| headers.get(EXPIRES))??;
        // What is no date is in the past (RFC 9111 section 5.3).
        Some(Moment::parse(expires).map_or(Duration::ZERO, |expires| expires.since(date)))
    };
    directives.s_maxage.or(directives.max_age).or_else(expires)
}

/// The lifetime of a response that does not say it.
fn unsaid(
    status: StatusCode,
    headers: &HeaderMap,
    directives: &Directives,
    policy: &CachePolicy,
    date: Moment,
) -> Duration {
    if let Some(negative) = policy.negative.get(&status.as_u16()) {
        return *negative;
    }
    if !directives.public && !is_heuristically_cacheable(status) {
        return Duration::ZERO;
    }
    if !policy.ttl.default.is_zero() && !is_error(status) {
        return policy.ttl.default;
    }
    headers
        .get(LAST_MODIFIED)
        .and_then(Moment::parse)
        .map_or(Duration::ZERO, |modified| {
            (date.since(modified) / HEURISTIC_SHARE).min(LONGEST_GUESS)
        })
}

/// RFC 9111 section 4.2.3: the corrected initial age.
fn initial_age(headers: &HeaderMap, date: Moment, requested: Moment, received: Moment) -> Duration {
    let apparent = received.since(date);
    let said = headers
        .get(AGE)
        .and_then(|age| seconds(age.to_str().ok()?.split(',').next()))
        .unwrap_or_default();
    apparent.max(said.saturating_add(received.since(requested)))
}

/// Whether the response says how long it is fresh.
pub(super) fn is_explicit(headers: &HeaderMap, directives: &Directives) -> bool {
    said(headers, directives, Moment::default()).is_some()
}

/// RFC 9110 section 15.1, without 206, which is not stored.
pub(super) fn is_heuristically_cacheable(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501
    )
}

fn is_error(status: StatusCode) -> bool {
    status.is_client_error() || status.is_server_error()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Moment = Moment::from_millis(784_111_777_000);

    fn at(seconds: u64) -> Moment {
        NOW.plus(Duration::from_secs(seconds))
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    fn of(status: u16, lines: &[(&'static str, &str)], policy: &CachePolicy) -> Freshness {
        let headers = headers(lines);
        let directives = Directives::of_response(&headers);
        let status = StatusCode::from_u16(status).unwrap();
        Freshness::new(status, &headers, &directives, policy, NOW, NOW)
    }

    fn lifetime_of(status: u16, lines: &[(&'static str, &str)], policy: &CachePolicy) -> u64 {
        of(status, lines, policy).lifetime.as_secs()
    }

    const DATE: (&str, &str) = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
    const EXPIRES: (&str, &str) = ("expires", "Sun, 06 Nov 1994 08:50:37 GMT");
    const TEN_HOURS_OLD: (&str, &str) = ("last-modified", "Sat, 05 Nov 1994 22:49:37 GMT");

    /// RFC 9111 section 4.2.1.
    #[test]
    fn s_maxage_goes_before_max_age_and_that_before_expires() {
        let policy = CachePolicy::default();
        for (lines, seconds) in [
            (
                &[("cache-control", "max-age=5, s-maxage=7"), EXPIRES][..],
                7,
            ),
            (&[("cache-control", "max-age=5"), EXPIRES, DATE], 5),
            (&[EXPIRES, DATE], 60),
            (&[EXPIRES], 60),
            (&[("expires", "0"), TEN_HOURS_OLD], 0),
            (&[("cdn-cache-control", "public"), EXPIRES, DATE], 0),
            (
                &[
                    ("cdn-cache-control", "max-age=3"),
                    ("cache-control", "s-maxage=9"),
                ],
                3,
            ),
        ] {
            assert_eq!(lifetime_of(200, lines, &policy), seconds, "{lines:?}");
        }
    }

    /// RFC 9111 section 4.2.2.
    #[test]
    fn freshness_is_guessed_from_last_modified_for_cacheable_statuses_only() {
        let policy = CachePolicy::default();
        let old = ("last-modified", "Sun, 06 Nov 1904 08:49:37 GMT");
        for (status, lines, seconds) in [
            (200, &[TEN_HOURS_OLD, DATE][..], 3600),
            (404, &[TEN_HOURS_OLD, DATE], 3600),
            (200, &[DATE], 0),
            (
                200,
                &[("last-modified", "Mon, 06 Nov 2034 08:49:37 GMT"), DATE],
                0,
            ),
            (302, &[TEN_HOURS_OLD, DATE], 0),
            (
                302,
                &[TEN_HOURS_OLD, DATE, ("cache-control", "public")],
                3600,
            ),
            (200, &[old, DATE], 0),
            (
                200,
                &[("last-modified", "Tue, 06 Nov 1984 08:49:37 GMT"), DATE],
                24 * 3600,
            ),
        ] {
            assert_eq!(
                lifetime_of(status, lines, &policy),
                seconds,
                "{status} {lines:?}"
            );
        }
    }

    /// RFC 9111 sections 3 and 4.2.2, RFC 9110 section 15.1: a cache decides how long what does not say is fresh, where its status
    /// allows that, and errors are kept for no longer than asked for.
    #[test]
    fn the_policy_fills_in_and_sets_bounds() {
        let seconds = Duration::from_secs;
        let policy = CachePolicy {
            ttl: crate::model::Ttl {
                minimum: seconds(10),
                default: seconds(100),
                maximum: seconds(1000),
            },
            negative: [(404, seconds(3)), (503, seconds(1))].into(),
            ..CachePolicy::default()
        };
        for (status, control, lifetime) in [
            (200, "max-age=0", 10),
            (200, "max-age=5000", 1000),
            (200, "public", 100),
            (302, "foo", 10),
            (404, "foo", 3),
            (404, "max-age=1", 1),
            (410, "foo", 0),
            (503, "foo", 1),
            (500, "foo", 0),
        ] {
            let lines = [("cache-control", control)];
            assert_eq!(
                lifetime_of(status, &lines, &policy),
                lifetime,
                "{status} {control}"
            );
        }
    }

    /// RFC 9111 section 4.2.3.
    #[test]
    fn age_counts_the_way_to_the_cache_and_the_stay_in_it() {
        let age = |lines: &[(&'static str, &str)], delay| {
            let headers = headers(lines);
            let policy = CachePolicy::default();
            let directives = Directives::default();
            let freshness = Freshness::new(
                StatusCode::OK,
                &headers,
                &directives,
                &policy,
                NOW,
                at(delay),
            );
            freshness.age(at(delay + 100)).as_secs()
        };
        assert_eq!(age(&[], 0), 100);
        assert_eq!(age(&[DATE], 4), 104);
        assert_eq!(age(&[DATE, ("age", "30")], 4), 134);
        assert_eq!(
            age(
                &[("date", "Sun, 06 Nov 1994 08:48:37 GMT"), ("age", "30")],
                4
            ),
            164
        );
        assert_eq!(age(&[("age", "x")], 0), 100);
        assert_eq!(age(&[("age", "-1")], 0), 100);
        assert_eq!(age(&[("age", "30, 40")], 0), 130);
        // RFC 9111 section 1.2.2: what is too large is 2^31, and not nothing.
        for huge in ["2147483648", "2147483649", "99999999999999999999999"] {
            assert_eq!(age(&[("age", huge)], 0), (1 << 31) + 100, "{huge}");
        }
        assert_eq!(age(&[("date", "Sun, 06 Nov 1994 09:48:37 GMT")], 0), 100);
    }

    fn reuse(control: &str, after: u64, demands: Demands) -> Reuse {
        let freshness = of(200, &[("cache-control", control)], &CachePolicy::default());
        freshness.reuse(at(after), &demands, None)
    }

    /// RFC 9111 section 4.2: a response is fresh while its age is below its lifetime.
    #[test]
    fn a_response_is_fresh_until_its_age_reaches_its_lifetime() {
        let none = Demands::default();
        assert_eq!(reuse("max-age=10", 9, none), Reuse::Yes);
        assert_eq!(reuse("max-age=10", 10, none), Reuse::No);
        assert_eq!(reuse("max-age=10, no-cache", 0, none), Reuse::No);
        assert_eq!(reuse("max-age=10, no-cache=\"x\"", 0, none), Reuse::Yes);
    }

    /// RFC 5861 section 3.
    #[test]
    fn a_stale_response_is_served_while_it_is_revalidated_within_its_window_only() {
        let none = Demands::default();
        let control = "max-age=10, stale-while-revalidate=5";
        assert_eq!(reuse(control, 14, none), Reuse::WhileRevalidating);
        assert_eq!(reuse(control, 15, none), Reuse::No);
        let both = "s-maxage=10, stale-while-revalidate=5";
        assert_eq!(reuse(both, 14, none), Reuse::WhileRevalidating);
        for must in ["must-revalidate", "proxy-revalidate", "no-cache"] {
            assert_eq!(
                reuse(&format!("{control}, {must}"), 14, none),
                Reuse::No,
                "{must}"
            );
        }
    }

    /// RFC 9111 sections 5.2.2.2, 5.2.2.8 and 5.2.2.10.
    #[test]
    fn no_policy_makes_stale_what_must_be_revalidated() {
        let policy = CachePolicy {
            stale_while_revalidate: Duration::from_secs(5),
            stale_if_error: Duration::from_secs(5),
            ..CachePolicy::default()
        };
        for (control, window) in [
            ("max-age=10", 5),
            ("max-age=10, stale-while-revalidate=0, stale-if-error=0", 0),
            ("s-maxage=10", 0),
            ("max-age=10, must-revalidate", 0),
            ("max-age=10, proxy-revalidate", 0),
        ] {
            let freshness = of(200, &[("cache-control", control)], &policy);
            assert_eq!(
                freshness.stale_while_revalidate.as_secs(),
                window,
                "{control}"
            );
            let on_error = |seconds| freshness.on_error(at(seconds), &Demands::default(), None);
            assert_eq!(on_error(14), window > 0, "{control}");
            assert!(!on_error(15), "{control}");
        }
    }

    /// RFC 5861 section 4: the directive of a request.
    #[test]
    fn a_client_may_take_what_is_staler_when_the_origin_fails() {
        let asks = Demands {
            stale_if_error: Some(Duration::from_secs(5)),
            ..Demands::default()
        };
        for (control, stale) in [
            ("max-age=10", 15),
            ("max-age=10, stale-if-error=3", 15),
            ("max-age=10, stale-if-error=9", 19),
            // RFC 9111 sections 5.2.2.2 and 5.2.2.10: nobody may have it.
            ("max-age=10, must-revalidate", 10),
            ("s-maxage=10", 10),
        ] {
            let freshness = of(200, &[("cache-control", control)], &CachePolicy::default());
            let on_error = |seconds| freshness.on_error(at(seconds), &asks, None);
            assert!(on_error(stale - 1) && !on_error(stale), "{control}");
        }
    }

    /// RFC 9111 section 5.2.1.
    #[test]
    fn a_client_may_ask_for_fresher_or_staler_responses() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        let none = Demands::default();
        for (control, after, demands, expected) in [
            (
                "max-age=10",
                5,
                Demands {
                    max_age: seconds(4),
                    ..none
                },
                Reuse::No,
            ),
            (
                "max-age=10",
                4,
                Demands {
                    max_age: seconds(4),
                    ..none
                },
                Reuse::Yes,
            ),
            (
                "max-age=10",
                5,
                Demands {
                    min_fresh: seconds(6),
                    ..none
                },
                Reuse::No,
            ),
            (
                "max-age=10",
                5,
                Demands {
                    min_fresh: seconds(5),
                    ..none
                },
                Reuse::Yes,
            ),
            (
                "max-age=10",
                12,
                Demands {
                    max_stale: seconds(2),
                    ..none
                },
                Reuse::Yes,
            ),
            (
                "max-age=10",
                13,
                Demands {
                    max_stale: seconds(2),
                    ..none
                },
                Reuse::No,
            ),
            (
                "s-maxage=10",
                12,
                Demands {
                    max_stale: seconds(2),
                    ..none
                },
                Reuse::No,
            ),
            (
                "max-age=10",
                0,
                Demands {
                    no_cache: true,
                    ..none
                },
                Reuse::No,
            ),
        ] {
            assert_eq!(
                reuse(control, after, demands),
                expected,
                "{control} {after} {demands:?}"
            );
        }
    }

    #[test]
    fn a_response_that_was_marked_stale_is_so_from_then_on() {
        let control = "max-age=100, stale-while-revalidate=5";
        let freshness = of(200, &[("cache-control", control)], &CachePolicy::default());
        let none = Demands::default();
        let reuse = |now| freshness.reuse(at(now), &none, Some(at(10)));
        assert_eq!(reuse(10), Reuse::WhileRevalidating);
        assert_eq!(reuse(15), Reuse::No);
        // RFC 9211 section 2.4: what is left of its freshness.
        for (now, marked, ttl) in [
            (10, Some(at(10)), 0),
            (14, Some(at(10)), -4),
            (110, Some(at(109)), -10),
            (10, None, 90),
        ] {
            assert_eq!(freshness.ttl(at(now), marked), ttl, "{now} {marked:?}");
        }
    }

    /// A response and when it came, in seconds.
    #[derive(Debug, Clone)]
    struct Said {
        status: u16,
        s_maxage: Option<u64>,
        max_age: Option<u64>,
        /// From the date of the response on; what is no date is none.
        expires: Option<Option<u64>>,
        /// Before the beginning.
        modified: Option<u64>,
        flags: Flags,
        windows: [Option<u64>; 2],
        age: Option<u64>,
        dated: bool,
        requested: u64,
        delay: u64,
    }

    #[derive(Debug, Clone, Copy)]
    struct Flags {
        public: bool,
        must_revalidate: bool,
        no_cache: bool,
    }

    fn said() -> impl Strategy<Value = Said> {
        let maybe = || prop::option::of(0_u64..1000);
        let flags = prop::array::uniform3(prop::bool::weighted(0.2));
        let lifetimes = (
            maybe(),
            maybe(),
            prop::option::of(maybe()),
            0_u64..1_500_000,
        );
        let rest = (maybe(), any::<bool>(), 0_u64..1000, 0_u64..100);
        let statuses = prop::sample::select(vec![200_u16, 302, 404, 503]);
        let windows = prop::array::uniform2(prop::option::of(0_u64..500));
        (statuses, lifetimes, any::<bool>(), flags, windows, rest).prop_map(
            |(status, lifetimes, is_dated, flags, windows, rest)| {
                let (s_maxage, max_age, expires, modified) = lifetimes;
                let [public, must_revalidate, no_cache] = flags;
                let (age, dated, requested, delay) = rest;
                Said {
                    status,
                    s_maxage,
                    max_age,
                    expires,
                    modified: is_dated.then_some(modified),
                    flags: Flags {
                        public,
                        must_revalidate,
                        no_cache,
                    },
                    windows,
                    age,
                    dated,
                    requested,
                    delay,
                }
            },
        )
    }

    impl Said {
        fn received(&self) -> u64 {
            self.requested + self.delay
        }

        fn headers(&self) -> HeaderMap {
            let mut control = vec!["x".to_owned()];
            for (name, value) in [
                ("s-maxage", self.s_maxage),
                ("max-age", self.max_age),
                ("stale-while-revalidate", self.windows[0]),
                ("stale-if-error", self.windows[1]),
            ] {
                control.extend(value.map(|value| format!("{name}={value}")));
            }
            for (name, is_said) in [
                ("public", self.flags.public),
                ("must-revalidate", self.flags.must_revalidate),
                ("no-cache", self.flags.no_cache),
            ] {
                control.extend(is_said.then(|| name.to_owned()));
            }
            let mut headers = headers(&[("cache-control", &control.join(", "))]);
            if let Some(expires) = self.expires {
                let date = if self.dated { 0 } else { self.received() };
                let value = expires.map(|after| at(date + after).to_http_date());
                headers.insert("expires", value.unwrap_or_else(|| "soon".parse().unwrap()));
            }
            if let Some(before) = self.modified {
                let modified = Moment::from_millis(NOW.as_millis() - before * 1000);
                headers.insert(LAST_MODIFIED, modified.to_http_date());
            }
            if let Some(age) = self.age {
                headers.insert(AGE, age.into());
            }
            if self.dated {
                headers.insert("date", at(0).to_http_date());
            }
            headers
        }

        /// RFC 9111 sections 4.2.1 and 4.2.2, in milliseconds.
        fn lifetime(&self, policy: &Policy) -> u64 {
            let is_error = self.status >= 400;
            let seconds = match self.explicit() {
                Some(seconds) => seconds * 1000,
                None if self.status == 404 && policy.negative.is_some() => {
                    policy.negative.unwrap() * 1000
                }
                None if !self.flags.public && ![200, 404].contains(&self.status) => 0,
                None if policy.default > 0 && !is_error => policy.default * 1000,
                None => {
                    let date = if self.dated { 0 } else { self.received() };
                    let unchanged = self.modified.map_or(0, |before| before + date);
                    (unchanged * 1000 / 10).min(24 * 60 * 60 * 1000)
                }
            };
            let least = if is_error { 0 } else { policy.minimum * 1000 };
            seconds.max(least).min(policy.maximum * 1000)
        }

        /// The lifetime that it says, in seconds.
        fn explicit(&self) -> Option<u64> {
            let expires = self.expires.map(Option::unwrap_or_default);
            self.s_maxage.or(self.max_age).or(expires)
        }

        /// RFC 9111 section 4.2.3, in milliseconds.
        fn age(&self, stay: u64) -> u64 {
            let apparent = if self.dated { self.received() } else { 0 };
            let corrected = self.age.unwrap_or(0) + self.delay;
            (apparent.max(corrected) + stay) * 1000
        }
    }

    /// What a policy says, in seconds.
    #[derive(Debug, Clone)]
    struct Policy {
        minimum: u64,
        default: u64,
        maximum: u64,
        negative: Option<u64>,
        windows: [u64; 2],
    }

    fn policy() -> impl Strategy<Value = Policy> {
        let bounds = (0_u64..200, 0_u64..500, 200_u64..2000);
        let windows = prop::array::uniform2(0_u64..500);
        (bounds, prop::option::of(0_u64..500), windows).prop_map(
            |((minimum, default, maximum), negative, windows)| Policy {
                minimum,
                default,
                maximum,
                negative,
                windows,
            },
        )
    }

    impl From<&Policy> for CachePolicy {
        fn from(policy: &Policy) -> Self {
            let seconds = Duration::from_secs;
            Self {
                ttl: crate::model::Ttl {
                    minimum: seconds(policy.minimum),
                    default: seconds(policy.default),
                    maximum: seconds(policy.maximum),
                },
                negative: policy
                    .negative
                    .map(|time| (404, seconds(time)))
                    .into_iter()
                    .collect(),
                stale_while_revalidate: seconds(policy.windows[0]),
                stale_if_error: seconds(policy.windows[1]),
                ..Self::default()
            }
        }
    }

    fn demands() -> impl Strategy<Value = (bool, [Option<u64>; 4])> {
        let maybe = prop::option::weighted(0.3, 0_u64..1500);
        (prop::bool::weighted(0.1), prop::array::uniform4(maybe))
    }

    proptest! {
        /// Against the rules of RFC 9111 sections 4.2 and 5.2 and of RFC 5861, one after the other, in whole numbers without limits.
        #[test]
        fn freshness_is_the_arithmetic_of_the_rfc(
            said in said(), policy in policy(), demands in demands(), stay in 0_u64..2000,
        ) {
            let (no_cache, [max_age, min_fresh, max_stale, if_error]) = demands;
            let headers = said.headers();
            let freshness = Freshness::new(
                StatusCode::from_u16(said.status).unwrap(), &headers, &Directives::of_response(&headers),
                &CachePolicy::from(&policy), at(said.requested), at(said.received()),
            );
            let now = at(said.received() + stay);
            let (lifetime, age) = (said.lifetime(&policy), said.age(stay));
            prop_assert_eq!(freshness.lifetime.as_millis(), u128::from(lifetime));
            prop_assert_eq!(freshness.age(now).as_millis(), u128::from(age));
            let ttl = i64::try_from(lifetime / 1000).unwrap() - i64::try_from(age / 1000).unwrap();
            prop_assert_eq!(freshness.ttl(now, None), ttl);

            // RFC 9111 section 4.2.4: what is stale is served only where nobody forbids it.
            let must = said.flags.must_revalidate;
            let strict = must || said.s_maxage.is_some() || lifetime == 0;
            let window = |place: usize| match said.windows[place] {
                _ if must => 0,
                Some(window) => window * 1000,
                None if said.s_maxage.is_some() => 0,
                None if lifetime == 0 && said.explicit().is_none() => 0,
                None => policy.windows[place] * 1000,
            };
            let (is_fresh, by) = (age < lifetime, age.saturating_sub(lifetime));
            let refused = said.flags.no_cache || no_cache
                || max_age.is_some_and(|most| age > most * 1000)
                || min_fresh.is_some_and(|least| !is_fresh || lifetime - age < least * 1000);
            let expected = if refused {
                Reuse::No
            } else if is_fresh || (!strict && max_stale.is_some_and(|most| by <= most * 1000)) {
                Reuse::Yes
            } else if by < window(0) {
                Reuse::WhileRevalidating
            } else {
                Reuse::No
            };
            let seconds = |seconds: Option<u64>| seconds.map(Duration::from_secs);
            let demands = Demands {
                no_cache,
                max_age: seconds(max_age),
                min_fresh: seconds(min_fresh),
                max_stale: seconds(max_stale),
                stale_if_error: seconds(if_error),
                ..Demands::default()
            };
            prop_assert_eq!(freshness.reuse(now, &demands, None), expected);
            let asked = if strict { 0 } else { if_error.unwrap_or(0) * 1000 };
            let on_error = !said.flags.no_cache && (is_fresh || by < window(1).max(asked));
            prop_assert_eq!(freshness.on_error(now, &demands, None), on_error);
        }
    }
}
