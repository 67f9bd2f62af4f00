//! The rules of RFC 9111 and its companions, one after the other.

use futures::FutureExt as _;

use super::{
    super::range::{self, Wanted},
    *,
};

const FRESH: &[(&str, &str)] = &[
    ("cache-control", "max-age=60"),
    ("etag", "\"a\""),
    ("content-type", "text/plain"),
];

/// RFC 9111 section 4.
#[tokio::test]
async fn a_fresh_response_is_served_without_asking_the_origin_and_says_its_age() {
    let site = Site::new(Origin::fixed(FRESH, "hello")).await;
    let first = site.get("/x").await;
    assert_eq!((first.status, first.text()), (200, "hello"));
    assert_eq!(first.cache(), "fwd=uri-miss; fwd-status=200; stored");
    site.advance(59);
    let second = site.get("/x").await;
    assert_eq!((second.text(), second.field("age")), ("hello", "59"));
    assert_eq!(second.cache(), "hit; ttl=1");
    assert_eq!(second.field("content-length"), "5");
    assert_eq!(site.origin.count(), 1);
    site.advance(1);
    assert!(!site.get("/x").await.is_hit());
    let counts = site.counts();
    assert_eq!((counts.hits, counts.misses), (1, 2));
    assert_eq!(counts.memory.stored_objects, 2);
}

/// RFC 9111 section 4.2.4 lets a client or a policy take what is stale; what nobody ever called fresh may be meant for one client.
#[tokio::test]
async fn what_was_never_fresh_is_given_to_nobody_else() {
    let site = Site::new(Origin::new(async |parts: Parts| {
        Ok(match parts.headers.contains_key("x-bad") {
            true => response(500, &[], ""),
            false => {
                let cookie = parts.headers["cookie"].to_str().unwrap();
                let body = if cookie == "a" { "a" } else { "b" };
                response(200, &[("etag", "\"1\"")], body)
            }
        })
    }))
    .await;
    let hour = std::time::Duration::from_secs(3600);
    let lenient = site.clone().with_policy(|policy| {
        policy.stale_if_error = hour;
        policy.stale_while_revalidate = hour;
    });
    for site in [site, lenient] {
        for more in [
            ("cache-control", "max-stale"),
            ("cache-control", "stale-if-error=60"),
            ("x-none", "1"),
            ("x-bad", "1"),
        ] {
            site.get_with("/x", &[("cookie", "a")]).await;
            let got = site.get_with("/x", &[("cookie", "b"), more]).await;
            assert_ne!(got.text(), "a", "{more:?}");
        }
    }
}

/// What clients make up would fill memory for what is on disk.
#[tokio::test]
async fn what_has_a_very_long_url_is_not_stored() {
    let site = Site::new(Origin::fixed(FRESH, "hello")).await;
    for (length, is_stored) in [(8_000, true), (9_000, false)] {
        let path = format!("/?{}", "q".repeat(length));
        let first = site.get(&path).await;
        assert_eq!(first.cache().contains("too-large"), !is_stored, "{length}");
        assert_eq!(site.get(&path).await.is_hit(), is_stored, "{length}");
    }
}

/// The origin, or who configures a policy, may say that a page that is always revalidated does where the origin fails.
#[tokio::test]
async fn what_is_called_stale_from_the_start_is_there_where_a_policy_lets_it() {
    let fields = &[("etag", "\"1\""), ("cache-control", "max-age=0")];
    let site = Site::new(Origin::new(async |parts: Parts| {
        Ok(match parts.headers.contains_key("x-bad") {
            true => response(503, &[], ""),
            false => response(200, fields, "hello"),
        })
    }))
    .await
    .with_policy(|policy| policy.stale_if_error = std::time::Duration::from_secs(60));
    site.get("/x").await;
    let got = site.get_with("/x", &[("x-bad", "1")]).await;
    assert_eq!((got.status, got.text()), (200, "hello"));
}

/// RFC 9111 section 4.3: validation.
#[tokio::test]
async fn a_stale_response_is_revalidated_and_takes_the_fields_of_the_304() {
    let site = Site::new(Origin::new(async |parts: Parts| {
        Ok(if parts.headers.contains_key("if-none-match") {
            assert_eq!(parts.headers["if-none-match"], "\"a\"");
            response(304, &[("x-new", "1"), ("cache-control", "max-age=10")], "")
        } else {
            response(200, FRESH, "hello")
        })
    }))
    .await;
    site.get("/x").await;
    site.advance(61);
    let revalidated = site.get_with("/x", &[("if-none-match", "\"other\"")]).await;
    assert_eq!((revalidated.status, revalidated.text()), (200, "hello"));
    assert_eq!(revalidated.cache(), "fwd=stale; fwd-status=304; stored");
    assert_eq!(
        (revalidated.field("x-new"), revalidated.field("age")),
        ("1", "0")
    );
    assert_eq!(revalidated.field("content-type"), "text/plain");
    site.advance(9);
    assert_eq!(site.get("/x").await.cache(), "hit; ttl=1");
    // Each is counted once, as what the metrics call it.
    let counts = site.counts();
    assert_eq!((counts.misses, counts.revalidated, counts.hits), (1, 1, 1));
}

/// RFC 9111 section 4.3.4: a 304 about another response selects none.
#[tokio::test]
async fn a_304_about_something_else_makes_the_cache_ask_for_the_whole() {
    let site = Site::new(Origin::new(async |parts: Parts| {
        Ok(if parts.headers.contains_key("if-none-match") {
            response(304, &[("etag", "\"other\"")], "")
        } else {
            response(200, FRESH, "hello")
        })
    }))
    .await;
    site.get("/x").await;
    site.advance(61);
    assert_eq!(site.get("/x").await.text(), "hello");
    assert_eq!(site.origin.count(), 3);
}

/// RFC 9111 section 4.3.2.
#[tokio::test]
async fn a_client_that_has_the_response_gets_304_from_the_cache() {
    let site = Site::new(Origin::fixed(FRESH, "hello")).await;
    // Even the first: the origin is asked for the whole, so that it can be stored.
    let first = site.get_with("/x", &[("if-none-match", "W/\"a\"")]).await;
    assert_eq!((first.status, first.text()), (304, ""));
    assert!(!site.origin.last().headers.contains_key("if-none-match"));
    site.settle().await;
    let second = site.get_with("/x", &[("if-none-match", "\"a\"")]).await;
    assert_eq!((second.status, second.field("etag")), (304, "\"a\""));
    assert!(second.is_hit() && !second.headers.contains_key("content-type"));
    assert_eq!(
        site.get_with("/x", &[("if-none-match", "\"b\"")])
            .await
            .status,
        200
    );
    assert_eq!(site.origin.count(), 1);
}

/// RFC 9111 section 4.3.2: `If-Match` is for the origin.
#[tokio::test]
async fn conditions_that_are_for_the_origin_are_not_answered_here() {
    let site = Site::new(Origin::fixed(FRESH, "hello")).await;
    site.get("/x").await;
    let got = site.get_with("/x", &[("if-match", "\"b\"")]).await;
    assert_eq!(got.cache(), "fwd=bypass; fwd-status=200");
    assert_eq!(site.origin.last().headers["if-match"], "\"b\"");
}

/// RFC 9111 section 4.1.
#[tokio::test]
async fn each_variant_is_stored_and_served_to_those_who_choose_it() {
    let site = Site::new(Origin::new(async |parts: Parts| {
        let br = parts
            .headers
            .get("accept-encoding")
            .is_some_and(|value| value == "br");
        let fields = [("cache-control", "max-age=60"), ("vary", "Accept-Encoding")];
        Ok(response(200, &fields, if br { "br" } else { "plain" }))
    }))
    .await;
    assert_eq!(site.get("/x").await.text(), "plain");
    let other = site.get_with("/x", &[("accept-encoding", "br")]).await;
    assert_eq!(
        (other.text(), other.cache()),
        ("br", "fwd=vary-miss; fwd-status=200; stored")
    );
    for _ in 0..2 {
        assert_eq!(site.get("/x").await.text(), "plain");
        let other = site
            .get_with("/x", &[("accept-encoding", " BR ;q=0.5")])
            .await;
        assert!(other.is_hit() && other.text() == "br");
    }
    assert_eq!(site.origin.count(), 2);
}

/// RFC 9111 section 4.1: `Vary: *`.
#[tokio::test]
async fn what_varies_by_anything_is_never_reused() {
    let site = Site::new(Origin::fixed(
        &[("cache-control", "max-age=60"), ("vary", "*")],
        "hello",
    ))
    .await;
    for _ in 0..2 {
        assert_eq!(
            site.get("/x").await.cache(),
            "fwd=uri-miss; fwd-status=200; detail=vary-any"
        );
    }
    assert_eq!(site.origin.count(), 2);
}

/// RFC 9111 section 3, and the reasons of `storable`.
#[tokio::test]
async fn what_may_not_be_stored_goes_to_its_client_only() {
    for (fields, detail) in [
        (&[("cache-control", "no-store")][..], "no-store"),
        (&[("cache-control", "private, max-age=60")], "private"),
        (
            &[("cache-control", "max-age=60"), ("set-cookie", "a=b")],
            "set-cookie",
        ),
        (
            &[
                ("wharf-cdn-cache-control", "no-store"),
                ("cache-control", "max-age=60"),
            ],
            "no-store",
        ),
    ] {
        let site = Site::new(Origin::fixed(fields, "hello")).await;
        for count in 1..3 {
            let got = site.get("/x").await;
            assert_eq!(
                got.cache(),
                format!("fwd=uri-miss; fwd-status=200; detail={detail}")
            );
            assert_eq!((got.text(), site.origin.count()), ("hello", count));
            assert!(!got.headers.contains_key("wharf-cdn-cache-control"));
        }
    }
}

/// RFC 9111 sections 5.2.2.4 and 5.2.2.7.
#[tokio::test]
async fn fields_that_are_for_one_client_are_not_stored_with_the_rest() {
    let fields = &[
        (
            "cache-control",
            "max-age=60, private=\"x-user\", no-cache=\"set-cookie\"",
        ),
        ("x-user", "me"),
        ("set-cookie", "a=b"),
        ("cache-status", "upstream; hit"),
    ];
    let site = Site::new(Origin::fixed(fields, "hello")).await;
    let first = site.get("/x").await;
    assert_eq!(
        (first.field("x-user"), first.field("set-cookie")),
        ("me", "a=b")
    );
    let second = site.get("/x").await;
    assert!(second.is_hit());
    assert_eq!(
        (second.field("x-user"), second.field("set-cookie")),
        ("", "")
    );
}

/// RFC 9111 section 3.5.
#[tokio::test]
async fn a_response_to_credentials_is_shared_only_where_the_origin_allows_it() {
    for (control, hit) in [("max-age=60", false), ("max-age=60, public", true)] {
        let site = Site::new(Origin::new(move |_| {
            std::future::ready(Ok(response(200, &[("cache-control", control)], "secret")))
        }))
        .await;
        site.get_with("/x", &[("authorization", "Basic x")]).await;
        assert_eq!(site.get("/x").await.is_hit(), hit, "{control}");
    }
}

/// RFC 9111 section 5.2.1.
#[tokio::test]
async fn a_client_can_demand_a_new_response_unless_the_policy_passes_it_over() {
    let site = Site::new(Origin::fixed(FRESH, "hello")).await;
    site.get("/x").await;
    site.advance(10);
    for demand in ["no-cache", "max-age=5", "min-fresh=55"] {
        let fields = [("cache-control", demand)];
        let ignored = site
            .clone()
            .with_policy(|policy| policy.ignore_client = true);
        assert!(ignored.get_with("/x", &fields).await.is_hit(), "{demand}");
    }
    let got = site.get_with("/x", &[("cache-control", "no-cache")]).await;
    assert_eq!(got.cache(), "fwd=request; fwd-status=200; stored");
    assert_eq!(site.origin.last().headers["if-none-match"], "\"a\"");
}

/// RFC 9111 section 5.2.1.7.
#[tokio::test]
async fn only_if_cached_never_goes_forward() {
    let site = Site::new(Origin::fixed(FRESH, "hello")).await;
    let only = [("cache-control", "only-if-cached")];
    let got = site.get_with("/x", &only).await;
    assert_eq!((got.status, site.origin.count()), (504, 0));
    // RFC 9211 section 2: it is made here, and of nothing that is stored.
    assert!(!got.headers.contains_key("cache-status"), "{got:?}");
    assert_eq!(site.cache.counts("site"), Counts::default());
    site.get("/x").await;
    assert!(site.get_with("/x", &only).await.is_hit());
}

/// RFC 5861 section 3.
#[tokio::test]
async fn a_stale_response_is_served_while_one_request_revalidates_it() {
    let fields = &[
        ("cache-control", "max-age=10, stale-while-revalidate=30"),
        ("etag", "\"a\""),
    ];
    let site = Site::new(Origin::fixed(fields, "hello")).await;
    site.get("/x").await;
    site.advance(15);
    for _ in 0..3 {
        let got = site.get("/x").await;
        assert_eq!((got.text(), got.cache()), ("hello", "hit; ttl=-5"));
    }
    site.settle().await;
    assert_eq!(site.origin.count(), 2);
    assert_eq!(site.get("/x").await.cache(), "hit; ttl=10");
    site.advance(40);
    assert!(!site.get("/x").await.is_hit());
}

/// RFC 5861 section 4.
#[tokio::test]
async fn a_stale_response_is_served_when_the_origin_fails() {
    let broken = Arc::new(AtomicU64::new(0));
    let state = Arc::clone(&broken);
    let site = Site::new(Origin::new(move |_| {
        let fields = [("cache-control", "max-age=10, stale-if-error=100")];
        std::future::ready(match state.load(SeqCst) {
            0 => Ok(response(200, &fields, "hello")),
            1 => Ok(response(503, &[], "down")),
            2 => Ok(response(404, &[], "gone")),
            _ => Err(io::Error::other("unreachable")),
        })
    }))
    .await;
    site.get("/x").await;
    site.advance(20);
    broken.store(1, SeqCst);
    let got = site.get("/x").await;
    assert_eq!((got.status, got.text()), (200, "hello"));
    assert_eq!(
        got.cache(),
        "fwd=stale; fwd-status=503; detail=stale-if-error"
    );
    broken.store(3, SeqCst);
    assert_eq!(
        site.get("/x").await.cache(),
        "fwd=stale; detail=stale-if-error"
    );
    site.advance(100);
    assert!(site.begin(Method::GET, "/x", &[]).await.is_err());
    // The directive of a request.
    let asks = [("cache-control", "stale-if-error=200")];
    assert_eq!(site.get_with("/x", &asks).await.text(), "hello");
    broken.store(1, SeqCst);
    assert_eq!(site.get("/x").await.status, 503);
    broken.store(2, SeqCst);
    assert_eq!(site.get("/x").await.status, 404);
}

/// RFC 5861 section 4: HEAD is answered as GET is.
#[tokio::test]
async fn a_stale_response_answers_head_when_the_origin_fails() {
    let broken = Arc::new(AtomicU64::new(0));
    let state = Arc::clone(&broken);
    let site = Site::new(Origin::new(move |_| {
        let fields = [("cache-control", "max-age=10, stale-if-error=100")];
        std::future::ready(match state.load(SeqCst) {
            0 => Ok(response(200, &fields, "hello")),
            1 => Ok(response(503, &[], "")),
            _ => Err(io::Error::other("unreachable")),
        })
    }))
    .await;
    site.get("/x").await;
    site.advance(20);
    for (state, said) in [(1, "fwd=stale; fwd-status=503;"), (2, "fwd=stale;")] {
        broken.store(state, SeqCst);
        let head = site.send(Method::HEAD, "/x", &[]).await;
        assert_eq!((head.status, head.text()), (200, ""));
        assert_eq!(head.field("content-length"), "5");
        assert_eq!(head.cache(), format!("{said} detail=stale-if-error"));
    }
    let counts = site.counts();
    assert_eq!((counts.stale, counts.misses), (2, 1));
    site.advance(100);
    assert!(site.begin(Method::HEAD, "/x", &[]).await.is_err());
    broken.store(1, SeqCst);
    assert_eq!(site.send(Method::HEAD, "/x", &[]).await.status, 503);
}

/// RFC 9111 section 5.2.2.2.
#[tokio::test]
async fn what_must_be_revalidated_is_not_served_when_the_origin_fails() {
    let site = Site::new(Origin::new(async |parts: Parts| {
        if parts.headers.contains_key("if-none-match") {
            return Err(io::Error::other("unreachable"));
        }
        let fields = [
            ("etag", "\"a\""),
            ("cache-control", "max-age=10, must-revalidate"),
        ];
        Ok(response(200, &fields, "hello"))
    }))
    .await
    .with_policy(|policy| policy.stale_if_error = Duration::from_secs(1000));
    site.get("/x").await;
    site.advance(11);
    let got = site
        .begin(Method::GET, "/x", &[("cache-control", "max-stale")])
        .await;
    assert!(got.is_err());
}

/// RFC 9111 section 3, RFC 9110 section 15.1: of a status that says nothing of caching, the policy of the cache may. Errors are kept
/// for as long, and no longer.
#[tokio::test]
async fn an_error_is_cached_for_as_long_as_the_policy_says() {
    let site = Site::new(Origin::new(async |_| Ok(response(503, &[], "down"))))
        .await
        .with_policy(|policy| policy.negative = [(503, Duration::from_secs(5))].into());
    site.get("/x").await;
    site.advance(4);
    assert!(site.get("/x").await.is_hit());
    site.advance(1);
    assert!(!site.get("/x").await.is_hit());
}

/// RFC 9110 section 14.2.
#[tokio::test]
async fn parts_are_served_from_the_whole() {
    let digests = [
        ("content-digest", "sha-256=:AA==:"),
        ("repr-digest", "sha-256=:AA==:"),
    ];
    let fields: Vec<_> = FRESH.iter().chain(&digests).copied().collect();
    let site = Site::new(Origin::fixed(fields.leak(), "0123456789")).await;
    site.get("/x").await;
    for (field, status, content_range, body) in [
        ("bytes=2-4", 206, "bytes 2-4/10", "234"),
        ("bytes=-3", 206, "bytes 7-9/10", "789"),
        ("bytes=4-,2-5", 206, "bytes 2-9/10", "23456789"),
        ("bytes=20-", 416, "bytes */10", ""),
        ("lines=1-2", 200, "", "0123456789"),
    ] {
        let got = site.get_with("/x", &[("range", field)]).await;
        assert_eq!(
            (got.status, got.field("content-range")),
            (status, content_range),
            "{field}"
        );
        assert_eq!(
            (got.text(), got.field("content-length")),
            (body, &*body.len().to_string())
        );
        assert!(got.is_hit());
        // RFC 9530 sections 2 and 3: the content is another one, the representation is not.
        assert_eq!(
            got.field("content-digest").is_empty(),
            status == 206,
            "{field}"
        );
        assert!(!got.field("repr-digest").is_empty());
    }
    let got = site.get_with("/x", &[("range", "bytes=0-1,8-")]).await;
    assert_eq!(got.status, 206);
    assert!(
        got.field("content-type")
            .starts_with("multipart/byteranges; boundary=wharf-")
    );
    assert_eq!(got.field("content-length"), got.body.len().to_string());
    assert!(
        got.text()
            .contains("Content-Range: bytes 8-9/10\r\n\r\n89\r\n--")
    );
    for (condition, status) in [("\"a\"", 206), ("W/\"a\"", 200), ("\"b\"", 200)] {
        let got = site
            .get_with("/x", &[("range", "bytes=0-1"), ("if-range", condition)])
            .await;
        assert_eq!(got.status, status, "{condition}");
    }
}

/// An origin of three million digits, which sends the parts that it is asked for.
fn digits() -> Origin {
    Origin::new(async |parts: Parts| {
        let whole = "0123456789".repeat(300_000);
        let fields = [("cache-control", "max-age=60"), ("etag", "\"a\"")];
        if parts.headers.contains_key("if-none-match") {
            return Ok(response(304, &fields, ""));
        }
        let field = parts.headers.get("range");
        let range = match field.map(|field| range::wanted(field, whole.len() as u64)) {
            Some(Wanted::Ranges(ranges)) => ranges[0].clone(),
            _ => {
                let length = whole.len().to_string();
                let fields = [&fields[..], &[("content-length", &length)]].concat();
                return Ok(response(200, &fields, whole));
            }
        };
        let (first, last) = (range.start, range.end - 1);
        let place = format!("bytes {first}-{last}/{}", whole.len());
        let part = &whole[usize::try_from(first).unwrap()..=usize::try_from(last).unwrap()];
        let length = part.len().to_string();
        let own = [("content-range", &*place), ("content-length", &*length)];
        Ok(response(206, &[fields, own].concat(), part.to_owned()))
    })
}

/// RFC 9111 section 3.3.
#[tokio::test]
async fn a_part_far_off_is_stored_by_itself_until_the_whole_is() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::open(digits(), config(Some(folder.path()))).await;
    let far = [("range", "bytes=2000005-2000009")];
    let got = site.get_with("/x", &far).await;
    assert_eq!(
        (got.status, got.text(), got.cache()),
        (206, "56789", "fwd=partial; fwd-status=206; stored")
    );
    assert_eq!(site.origin.last().headers["range"], far[0].1);
    site.settle().await;
    let got = site.get_with("/x", &far).await;
    assert_eq!(
        (got.status, got.text(), got.cache()),
        (206, "56789", "hit; ttl=60")
    );
    assert_eq!(got.field("content-range"), "bytes 2000005-2000009/3000000");
    let known = [far[0], ("if-none-match", "\"a\"")];
    let got = site.get_with("/x", &known).await;
    assert_eq!(
        (got.status, got.is_hit(), got.field("content-range")),
        (304, true, "")
    );
    assert_eq!(site.origin.count(), 1);

    // Another part is another response, and the last bytes are one too.
    for (field, text) in [("bytes=2000006-2000009", "6789"), ("bytes=-3", "789")] {
        let range = [("range", field)];
        assert_eq!(site.get_with("/x", &range).await.text(), text);
        site.settle().await;
        assert!(site.get_with("/x", &range).await.is_hit(), "{field}");
    }
    assert_eq!(site.origin.count(), 3);
    // Who wants the part only if it is of the response that he has, is not told from this one.
    let only = [far[0], ("if-range", "\"a\"")];
    assert_eq!(
        site.get_with("/x", &only).await.cache(),
        "fwd=partial; fwd-status=206"
    );

    // Stale, it is asked about, and the part with it.
    site.advance(61);
    let got = site.get_with("/x", &far).await;
    assert_eq!(
        (got.status, got.text(), got.cache()),
        (206, "56789", "fwd=stale; fwd-status=304; stored")
    );
    assert_eq!(site.origin.last().headers["range"], far[0].1);
    assert!(site.get_with("/x", &far).await.is_hit());

    // A range at the beginning fetches the whole, which has every part.
    let got = site.get_with("/x", &[("range", "bytes=2-3")]).await;
    assert_eq!(
        (got.status, got.text(), got.cache()),
        (206, "23", "fwd=uri-miss; fwd-status=200; stored")
    );
    site.settle().await;
    let asked = site.origin.count();
    let got = site
        .get_with("/x", &[("range", "bytes=2500000-2500001")])
        .await;
    assert_eq!((got.text(), got.is_hit()), ("01", true));
    assert_eq!(site.origin.count(), asked);
    // All of it is of one URL.
    let purged = Purge::Url("http://site.example/x".to_owned());
    let purged = site.cache.purge("site", &purged, PurgeMode::Hard).await;
    assert_eq!(purged.objects, 4);
    assert!(!site.get_with("/x", &far).await.is_hit());
}

/// RFC 9111 section 3.3: a part is not a whole, and not another part.
#[tokio::test]
async fn what_is_not_the_part_that_was_asked_for_is_not_stored() {
    let place = ("content-range", "bytes 2000000-2000004/9000000");
    let length = ("content-length", "5");
    for (status, fields) in [
        (200, vec![length]),
        (404, vec![length]),
        (206, vec![length]),
        (206, vec![place]),
        (206, vec![place, ("content-length", "4")]),
        (
            206,
            vec![length, ("content-range", "bytes 2000000-2000004/*")],
        ),
        (
            206,
            vec![length, ("content-range", "bytes 2000001-2000005/9000000")],
        ),
        (
            206,
            vec![length, ("content-range", "bytes 2000000-2000003/9000000")],
        ),
        (
            206,
            vec![length, ("content-range", "bytes 2000000-2000004/2000002")],
        ),
        (
            206,
            vec![length, ("content-range", "bytes=2000000-2000004/9000000")],
        ),
    ] {
        let said = format!("{status} {fields:?}");
        let site = Site::new(Origin::new(move |_| {
            let fields = [&[("cache-control", "max-age=60")], &fields[..]].concat();
            std::future::ready(Ok(response(status, &fields, "56789")))
        }))
        .await;
        let far = [("range", "bytes=2000000-2000004")];
        for _ in 0..2 {
            let got = site.get_with("/x", &far).await;
            assert_eq!((got.status, got.text()), (status, "56789"), "{said}");
            assert!(
                got.cache().starts_with("fwd=partial"),
                "{said}: {}",
                got.cache()
            );
            site.settle().await;
        }
        assert_eq!(site.origin.count(), 2, "{said}");
        assert!(!site.get("/x").await.is_hit(), "{said}");
    }
}

/// RFC 9111 section 4.3.5.
#[tokio::test]
async fn head_is_answered_from_a_stored_get_and_updates_it() {
    let site = Site::new(Origin::new(async |parts: Parts| {
        let head = parts.method == Method::HEAD;
        let changed = parts.uri.path() == "/changed" && head;
        let mut fields = vec![("cache-control", "max-age=60"), ("content-length", "5")];
        fields.push(("etag", if changed { "\"b\"" } else { "\"a\"" }));
        Ok(response(200, &fields, if head { "" } else { "hello" }))
    }))
    .await;
    let head = async |path| site.send(Method::HEAD, path, &[]).await;
    assert_eq!(head("/x").await.cache(), "fwd=uri-miss; fwd-status=200");
    for path in ["/x", "/changed"] {
        site.get(path).await;
        let got = head(path).await;
        assert_eq!((got.text(), got.field("content-length")), ("", "5"));
        assert!(got.is_hit());
    }
    site.advance(61);
    for path in ["/x", "/changed"] {
        assert_eq!(head(path).await.cache(), "fwd=stale; fwd-status=200");
    }
    let updated = site.get("/x").await;
    assert_eq!((updated.text(), updated.cache()), ("hello", "hit; ttl=60"));
    let changed = site.get("/changed").await;
    assert_eq!(changed.cache(), "fwd=stale; fwd-status=200; stored");
}

/// RFC 9111 section 4.4.
#[tokio::test]
async fn an_unsafe_request_invalidates_what_it_changed_and_what_it_names_of_the_same_origin() {
    let site = Site::new(Origin::new(async |parts: Parts| {
        Ok(match (parts.method.is_safe(), parts.uri.path()) {
            (true, _) => response(200, FRESH, "hello"),
            (false, "/fails") => response(500, &[("location", "/a")], ""),
            (false, _) => response(
                201,
                &[
                    ("location", "/b"),
                    ("content-location", "http://other.example/c"),
                ],
                "",
            ),
        })
    }))
    .await;
    let paths = ["/a", "/b", "http://other.example/c", "/fails"];
    for path in paths {
        site.get(path).await;
    }
    assert_eq!(
        site.send(Method::POST, "/fails", &[]).await.cache(),
        "fwd=method; fwd-status=500"
    );
    let hits = async || {
        let mut hits = Vec::new();
        for path in paths {
            hits.push(
                site.get_with(path, &[("cache-control", "only-if-cached")])
                    .await
                    .status
                    == 200,
            );
        }
        hits
    };
    assert_eq!(hits().await, [true; 4], "an error changes nothing");
    site.send(Method::PUT, "/a", &[]).await;
    assert_eq!(hits().await, [false, false, true, true]);
}

/// A response is for the distribution that it was stored for, and for its hooks' keys.
#[tokio::test]
async fn nothing_is_shared_between_distributions() {
    let site = Site::new(Origin::fixed(FRESH, "hello")).await;
    let request = || {
        Request::get("http://site.example/x")
            .body(Empty::new())
            .unwrap()
    };
    for (distribution, key, hit) in [
        ("a", None, false),
        ("a", None, true),
        ("b", None, false),
        ("a", Some("/x"), false),
        ("a", Some("/x"), true),
    ] {
        let scope = Scope {
            distribution,
            source: "",
            policy: &site.policy,
            key,
            asked: None,
        };
        let got = got(site
            .cache
            .serve(scope, request(), || site.origin.clone())
            .await
            .unwrap())
        .await;
        assert_eq!(got.is_hit(), hit, "{distribution} {key:?}");
    }
}

#[tokio::test]
async fn a_policy_that_is_off_stores_nothing_and_serves_nothing() {
    let site = Site::new(Origin::fixed(FRESH, "hello")).await;
    site.get("/x").await;
    let off = site.clone().with_policy(|policy| policy.enabled = false);
    assert_eq!(off.get("/x").await.cache(), "fwd=bypass; fwd-status=200");
    assert_eq!(site.counts().bypass, 1);
}

/// A hit neither waits nor makes a way to the origin.
#[tokio::test]
async fn what_is_fresh_in_memory_is_answered_at_once() {
    let site = Site::new(Origin::fixed(FRESH, "hello")).await;
    site.get("/x").await;
    let scope = Scope {
        distribution: "site",
        source: "",
        policy: &site.policy,
        key: None,
        asked: None,
    };
    let request = Request::get("http://site.example/x")
        .body(Empty::new())
        .unwrap();
    let forward = || -> Origin { panic!("a way to the origin was made") };
    let served = site.cache.serve(scope, request, forward);
    let response = served.now_or_never().expect("it waits").unwrap();
    assert_eq!(got(response).await.text(), "hello");
}

/// Statuses and tags.
#[tokio::test]
async fn tags_are_for_the_cache_unless_the_policy_shows_them() {
    let fields = &[
        ("cache-control", "max-age=60"),
        ("cache-tag", "a"),
        ("surrogate-key", "b"),
    ];
    for (expose, tag) in [(false, ""), (true, "a")] {
        let site = Site::new(Origin::fixed(fields, "hello"))
            .await
            .with_policy(|policy| policy.expose_tags = expose);
        for _ in 0..2 {
            assert_eq!(site.get("/x").await.field("cache-tag"), tag);
        }
    }
}
