//! What holds whatever anybody writes into a request, a response or a URL. Fuzz targets call this with bytes of any kind, and the
//! tests beside it with generated ones; what does not hold panics.

use std::time::Duration;

use http::{
    HeaderMap, HeaderValue, StatusCode, Uri,
    header::{AGE, AUTHORIZATION, CONNECTION, SET_COOKIE, TRANSFER_ENCODING},
};

use super::{
    clock::Moment,
    directives::{Demands, Directives, Scoped},
    freshness::Reuse,
    key::{self, Key},
    range::{self, Multipart, Wanted},
    storable::judge,
    stored::storable_fields,
    vary,
};
use crate::model::{CachePolicy, KeyPolicy};

/// Judges a response to a request with these fields. What is stored may be: it is nobody's alone, it is fresh for no longer than the
/// policy allows, and once it is stale it stays so.
pub fn response(request: &HeaderMap, status: StatusCode, response: &HeaderMap) {
    let policy = CachePolicy::default();
    let now = Moment::from_millis(784_111_777_000);
    let directives = Directives::of_response(response);
    let demands = Demands::of_request(request);
    let judged = judge(request, &demands, (status, response), &policy, (now, now));
    let Ok(storable) = judged else {
        return;
    };
    assert!(![206, 304, 416].contains(&status.as_u16()));
    assert!(!directives.no_store || directives.must_understand);
    assert!(directives.private != Scoped::Whole && !demands.no_store);
    let for_all = directives.public || directives.s_maxage.is_some();
    assert!(for_all || directives.must_revalidate || !request.contains_key(AUTHORIZATION));
    let (fields, hidden) = storable_fields(response, &storable, now, false);
    assert!(for_all || !fields.contains_key(SET_COOKIE));
    for name in storable
        .withheld
        .iter()
        .chain(&[AGE, CONNECTION, TRANSFER_ENCODING])
    {
        assert!(!fields.contains_key(name), "{name}");
    }
    assert!(hidden.keys().all(|name| !fields.contains_key(name)));

    let freshness = storable.freshness;
    assert!(freshness.lifetime <= policy.ttl.maximum);
    let anybody = Demands::default();
    let (mut reuse, mut on_error) = (Reuse::Yes, true);
    for seconds in (0..34).map(|exponent| (1 << exponent) - 1) {
        let then = now.plus(Duration::from_secs(seconds));
        let next = freshness.reuse(then, &anybody, None);
        let order = |reuse| match reuse {
            Reuse::Yes => 0,
            Reuse::WhileRevalidating => 1,
            Reuse::No => 2,
        };
        assert!(order(next) >= order(reuse), "it is fresh again");
        let is_young = freshness.age(then) < freshness.lifetime;
        assert_eq!(next == Reuse::Yes, is_young && !freshness.validate);
        assert!(
            on_error || !freshness.on_error(then, &anybody, None),
            "it may be served again"
        );
        if directives.must_revalidate || directives.proxy_revalidate {
            assert!(next != Reuse::WhileRevalidating);
        }
        (reuse, on_error) = (next, freshness.on_error(then, &anybody, None));
    }
}

/// Finds the parts of a response of `length` bytes that a `Range` field asks for: few, in order, apart from each other, within it,
/// and of the length that is announced.
pub fn range(field: &HeaderValue, length: u64) {
    // No response is longer: a file has no more bytes.
    let length = length.min(i64::MAX.unsigned_abs());
    let Wanted::Ranges(ranges) = range::wanted(field, length) else {
        return;
    };
    assert!((1..=16).contains(&ranges.len()));
    assert!(
        ranges
            .iter()
            .all(|range| range.start < range.end && range.end <= length)
    );
    assert!(ranges.windows(2).all(|two| two[0].end < two[1].start));
    if let (Some(first), [only]) = (range::first_byte(field), ranges.as_slice()) {
        assert_eq!(only.start, first);
    }
    for part in &ranges {
        let text = range::content_range(part, length);
        let text = text.to_str().expect("digits");
        let numbers = text
            .strip_prefix("bytes ")
            .and_then(|rest| rest.split_once('/'));
        let (place, whole) = numbers.expect("two parts");
        let (first, last) = place.split_once('-').expect("two numbers");
        let number = |text: &str| text.parse::<u64>().expect("a number");
        assert_eq!(
            (number(first), number(last) + 1, number(whole)),
            (part.start, part.end, length)
        );
    }
    let bytes: u64 = ranges.iter().map(|range| range.end - range.start).sum();
    let multipart = Multipart::new("boundary", None, ranges, length);
    let frame = multipart
        .parts
        .iter()
        .map(|(head, _)| head.len())
        .sum::<usize>()
        + multipart.end.len();
    assert_eq!(multipart.length(), bytes + frame as u64);
}

/// Makes the keys of two requests for one URL, under a policy and a response's `Vary`. They are the same just where the fields that
/// choose are, and normalising what is normal changes nothing.
pub fn keys(uri: &Uri, policy: &KeyPolicy, response: &HeaderMap, requests: [&HeaderMap; 2]) {
    let Some(vary) = vary::Vary::of_response(response) else {
        return;
    };
    for headers in requests {
        for name in vary.names() {
            let Some(normal) = vary::normalized(name, headers) else {
                continue;
            };
            let Ok(value) = HeaderValue::from_bytes(&normal) else {
                panic!("no value of a field: {}", normal.escape_ascii());
            };
            let again: HeaderMap = [(name.clone(), value)].into_iter().collect();
            assert_eq!(
                vary::normalized(name, &again).as_deref(),
                Some(normal.trim_ascii())
            );
        }
        // A URL that is written out is the one that it was.
        let url = key::url(policy, uri, headers);
        let is_absolute = uri.scheme().is_some() && uri.host().is_some_and(|host| !host.is_empty());
        if is_absolute && policy == &KeyPolicy::default() {
            assert_eq!(key::normal_url(&url).as_deref(), Some(&*url));
        }
    }
    let [one, two] = requests.map(|headers| {
        let base = Key::of_request("site", "", policy, None, uri, headers);
        base.variant(&vary, headers)
    });
    let chosen = |headers: &HeaderMap| -> Vec<Option<Vec<u8>>> {
        let names = policy.headers.iter().filter_map(|name| name.parse().ok());
        let names = names.chain(vary.names().iter().cloned());
        names.map(|name| vary::normalized(&name, headers)).collect()
    };
    // Where the URI has no authority, `Host` chooses too; cookies are the key's to compare.
    if uri.authority().is_some() && policy.cookies == KeyPolicy::default().cookies {
        assert_eq!(one == two, chosen(requests[0]) == chosen(requests[1]));
    }
    assert_eq!(one == two, one.digest == two.digest);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Lines = Vec<(&'static str, String)>;

    /// Fields that caches read, with values that are nearly right.
    fn lines(names: &'static [&'static str], value: &'static str) -> impl Strategy<Value = Lines> {
        prop::collection::vec((prop::sample::select(names), value), 0..6)
    }

    fn headers(lines: &Lines) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
                headers.append(*name, value);
            }
        }
        headers
    }

    const CONTROL: &str = "((s-)?max-?age|no-(cache|store)|private|public|must-(revalidate|understand)|proxy-revalidate\
                           |stale-(while-revalidate|if-error)|min-fresh|max-stale)?(=(\"?[0-9]{0,12}\"?|\"(set-cookie|age|[ -~]{0,4})\"?))?,?[ -~]{0,6}";

    proptest! {
        #[test]
        fn what_is_stored_may_be(
            asked in lines(&["cache-control", "authorization", "pragma"], CONTROL),
            status in 100_u16..600,
            said in lines(
                &["cache-control", "cdn-cache-control", "wharf-cdn-cache-control", "set-cookie", "vary", "age", "connection"],
                CONTROL,
            ),
            dates in lines(&["date", "expires", "last-modified"], "(Sun, 06 Nov 19(94|93) 08:49:(37|47) GMT|0|[ -~]{0,9})"),
            age in "[0-9]{0,12}",
        ) {
            let status = StatusCode::from_u16(status).unwrap();
            let mut said = [said, dates].concat();
            said.push(("age", age));
            response(&headers(&asked), status, &headers(&said));
        }

        #[test]
        fn ranges_lie_within(
            field in "(bytes|Bytes|lines) ?= ?([0-9]{0,20} ?-[0-9]{0,3},? ?){0,5}[ -~]{0,2}",
            length in prop_oneof![0_u64..200, Just(u64::MAX), any::<u64>()],
        ) {
            range(&HeaderValue::from_bytes(field.as_bytes()).unwrap(), length);
        }

        #[test]
        fn keys_are_as_what_chooses(
            path in "/[ab%/;]{0,3}(\\?[a=&;%]{0,4})?",
            vary in lines(&["vary"], "(accept(-encoding|-language)?|x-a|cookie|\\*)?,?[a-z, -]{0,3}"),
            one in lines(&["accept", "accept-encoding", "accept-language", "x-a", "cookie"], "[a-bA ,;=q01.*\"\\\\-]{0,9}"),
            two in lines(&["accept", "accept-encoding", "accept-language", "x-a", "cookie"], "[a-bA ,;=q01.*\"\\\\-]{0,9}"),
            keyed in prop::collection::btree_set("(x-a|accept)", 0..2),
        ) {
            let uri: Uri = format!("http://a{path}").parse().unwrap();
            let policy = KeyPolicy { headers: keyed, ..KeyPolicy::default() };
            let (one, two) = (headers(&one), headers(&two));
            keys(&uri, &policy, &headers(&vary), [&one, &two]);
            keys(&uri, &policy, &headers(&vary), [&one, &one]);
        }
    }
}
