//! Whether a response may be stored and shared: RFC 9111 sections 3 and 3.5.
//!
//! Nothing that its origin calls `private` or `no-store` is ever stored, and no policy changes that. A response that sets
//! a cookie is most likely for one client, so it is stored only where the origin says that it is for all (`public` or
//! `s-maxage`), or that the cookie is not (`private="set-cookie"` or `no-cache="set-cookie"`: stored without it).

use http::{
    HeaderMap, HeaderName, StatusCode,
    header::{AUTHORIZATION, CONTENT_LENGTH, ETAG, LAST_MODIFIED, SET_COOKIE},
};

use super::{
    clock::Moment,
    directives::{Demands, Directives, Scoped},
    freshness::{Freshness, is_explicit, is_heuristically_cacheable},
    vary::Vary,
};
use crate::model::CachePolicy;

/// How a response is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Storable {
    pub(super) freshness: Freshness,
    pub(super) vary: Vary,
    /// Fields that are not stored: they are for whom the response was made.
    pub(super) withheld: Vec<HeaderName>,
}

/// Why a response is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    Status,
    NoStore,
    RequestNoStore,
    Private,
    Authorization,
    SetCookie,
    VaryAny,
    /// It would be of no use: it is stale, and there is nothing to revalidate it by.
    Useless,
    TooLarge,
}

impl Refusal {
    /// The word in `Cache-Status`.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::NoStore => "no-store",
            Self::RequestNoStore => "request-no-store",
            Self::Private => "private",
            Self::Authorization => "authorization",
            Self::SetCookie => "set-cookie",
            Self::VaryAny => "vary-any",
            Self::Useless => "not-fresh",
            Self::TooLarge => "too-large",
        }
    }

    /// Whether the next response will most likely be refused too: then nobody should wait for it. What the request is
    /// to blame for says nothing about the next.
    pub(super) const fn is_lasting(self) -> bool {
        !matches!(self, Self::RequestNoStore | Self::Authorization)
    }
}

/// Says how the response to a GET request is stored.
pub(super) fn judge(
    request: &HeaderMap,
    demands: &Demands,
    (status, headers): (StatusCode, &HeaderMap),
    policy: &CachePolicy,
    (requested, received): (Moment, Moment),
) -> Result<Storable, Refusal> {
    let directives = Directives::of_response(headers);
    let understood = is_understood(status);
    if status.is_informational()
        || matches!(
            status,
            StatusCode::PARTIAL_CONTENT
                | StatusCode::NOT_MODIFIED
                | StatusCode::RANGE_NOT_SATISFIABLE
        )
        || (directives.must_understand && !understood)
    {
        return Err(Refusal::Status);
    }
    // RFC 9111 section 5.2.2.3: who understands the status passes `no-store` over.
    if directives.no_store && !directives.must_understand {
        return Err(Refusal::NoStore);
    }
    if directives.private == Scoped::Whole {
        return Err(Refusal::Private);
    }
    // After what the origin forbids: that is so for the next request too.
    if demands.no_store {
        return Err(Refusal::RequestNoStore);
    }
    let for_all = directives.public || directives.s_maxage.is_some();
    if request.contains_key(AUTHORIZATION) && !for_all && !directives.must_revalidate {
        return Err(Refusal::Authorization);
    }
    let withheld: Vec<HeaderName> = [&directives.private, &directives.no_cache]
        .into_iter()
        .flat_map(|scoped| scoped.fields().iter().cloned())
        .collect();
    if headers.contains_key(SET_COOKIE) && !for_all && !withheld.contains(&SET_COOKIE) {
        return Err(Refusal::SetCookie);
    }
    if !directives.public
        && !is_explicit(headers, &directives)
        && !is_heuristically_cacheable(status)
        && !policy.negative.contains_key(&status.as_u16())
    {
        return Err(Refusal::Status);
    }
    let vary = Vary::of_response(headers).ok_or(Refusal::VaryAny)?;
    let freshness = Freshness::new(status, headers, &directives, policy, requested, received);
    if !is_useful(&freshness, headers) {
        return Err(Refusal::Useless);
    }
    if length(headers).is_some_and(|length| length > policy.max_object.as_u64()) {
        return Err(Refusal::TooLarge);
    }
    Ok(Storable {
        freshness,
        vary,
        withheld,
    })
}

/// The length that a response announces.
pub(super) fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn is_useful(freshness: &Freshness, headers: &HeaderMap) -> bool {
    if headers.contains_key(ETAG) || headers.contains_key(LAST_MODIFIED) {
        return true;
    }
    let windows = freshness
        .stale_while_revalidate
        .max(freshness.stale_if_error);
    !freshness.validate && freshness.lifetime.saturating_add(windows) > freshness.initial_age
}

/// The final statuses of RFC 9110 whose rules for caches are kept here.
fn is_understood(status: StatusCode) -> bool {
    status.canonical_reason().is_some()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Moment = Moment::from_millis(1_000_000_000_000);

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    fn judged(
        request: &[(&'static str, &str)],
        status: u16,
        response: &[(&'static str, &str)],
    ) -> Result<Storable, Refusal> {
        let request = headers(request);
        let status = StatusCode::from_u16(status).unwrap();
        judge(
            &request,
            &Demands::of_request(&request),
            (status, &headers(response)),
            &CachePolicy {
                negative: [(503, Duration::from_secs(1))].into(),
                ..CachePolicy::default()
            },
            (NOW, NOW),
        )
    }

    fn refusal(status: u16, response: &[(&'static str, &str)]) -> Option<Refusal> {
        judged(&[], status, response).err()
    }

    /// RFC 9111 section 3.
    #[test]
    fn what_the_origin_does_not_want_shared_is_not_stored() {
        for (status, control, expected) in [
            (200, "max-age=9", None),
            (200, "max-age=9, no-store", Some(Refusal::NoStore)),
            (200, "max-age=9, private", Some(Refusal::Private)),
            (200, "max-age=9, private=\"x-user\"", None),
            (206, "max-age=9", Some(Refusal::Status)),
            (304, "max-age=9", Some(Refusal::Status)),
            (302, "foo", Some(Refusal::Status)),
            (302, "max-age=9", None),
            (302, "public, stale-if-error=9", None),
            (503, "foo", None),
            (500, "foo", Some(Refusal::Status)),
            (200, "foo", Some(Refusal::Useless)),
            (200, "no-cache, max-age=9", Some(Refusal::Useless)),
        ] {
            let lines = [("cache-control", control)];
            assert_eq!(refusal(status, &lines), expected, "{status} {control}");
        }
        assert_eq!(
            refusal(200, &[("etag", "\"a\""), ("cache-control", "no-cache")]),
            None
        );
    }

    /// RFC 9111 section 5.2.2.3.
    #[test]
    fn must_understand_is_kept_where_the_status_is_understood() {
        let control = [("cache-control", "no-store, must-understand, max-age=9")];
        assert_eq!(refusal(200, &control), None);
        assert_eq!(refusal(299, &control), Some(Refusal::Status));
    }

    /// RFC 9111 section 3.5.
    #[test]
    fn a_response_to_credentials_is_stored_only_where_the_origin_allows_it() {
        let authorized = [("authorization", "Basic x")];
        for (control, expected) in [
            ("max-age=9", Some(Refusal::Authorization)),
            ("max-age=9, proxy-revalidate", Some(Refusal::Authorization)),
            ("max-age=9, public", None),
            ("max-age=9, must-revalidate", None),
            ("s-maxage=9", None),
        ] {
            let judged = judged(&authorized, 200, &[("cache-control", control)]);
            assert_eq!(judged.err(), expected, "{control}");
        }
    }

    /// RFC 9111 section 7.3 leaves it to the origin; this cache does not trust that it thought of it.
    #[test]
    fn a_response_that_sets_a_cookie_is_stored_only_where_the_origin_says_so() {
        for (control, expected) in [
            ("max-age=9", Some(Refusal::SetCookie)),
            ("max-age=9, private=\"x\"", Some(Refusal::SetCookie)),
            ("max-age=9, public", None),
            ("s-maxage=9", None),
            ("max-age=9, no-cache=\"Set-Cookie\"", None),
            ("max-age=9, private=\"Set-Cookie\"", None),
        ] {
            let lines = [("set-cookie", "a=b"), ("cache-control", control)];
            assert_eq!(refusal(200, &lines), expected, "{control}");
        }
    }

    /// RFC 9111 section 5.2.1.5.
    #[test]
    fn a_client_can_forbid_storing_what_its_origin_does_not() {
        for (control, expected) in [
            ("max-age=9", Refusal::RequestNoStore),
            ("max-age=9, private", Refusal::Private),
            ("max-age=9, no-store", Refusal::NoStore),
        ] {
            let asked = [("cache-control", "no-store")];
            let judged = judged(&asked, 200, &[("cache-control", control)]);
            assert_eq!(judged.err(), Some(expected), "{control}");
        }
    }

    /// RFC 9111 section 4.1.
    #[test]
    fn what_varies_by_anything_is_not_stored() {
        let lines = [("vary", "accept, *"), ("cache-control", "max-age=9")];
        assert_eq!(refusal(200, &lines), Some(Refusal::VaryAny));
    }

    #[test]
    fn what_is_larger_than_the_policy_allows_is_not_stored() {
        let lines = [
            ("content-length", "1073741825"),
            ("cache-control", "max-age=9"),
        ];
        assert_eq!(refusal(200, &lines), Some(Refusal::TooLarge));
    }

    /// RFC 9111 sections 5.2.2.4 and 5.2.2.7.
    #[test]
    fn fields_that_are_for_one_client_are_withheld() {
        let control = "max-age=9, private=\"x-user\", no-cache=\"set-cookie\"";
        let storable = judged(&[], 200, &[("cache-control", control)]).unwrap();
        assert_eq!(storable.withheld, ["x-user", "set-cookie"]);
    }
}
