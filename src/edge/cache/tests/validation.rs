//! Age, validators and conditions: RFC 9111 sections 4.2 and 4.3, RFC 9110 sections 8.8 and 13.

use super::*;

/// The date at which the tests begin, and one an hour before it.
const NOW: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const EARLIER: &str = "Sun, 06 Nov 1994 07:49:37 GMT";

/// An origin that answers the first request with these, and the others with what follows.
fn origin(
    first: &'static [(&str, &str)],
    then: impl Fn(&Parts) -> Response<Scripted> + Send + Sync + 'static,
) -> Origin {
    let asked = AtomicU64::new(0);
    Origin::new(move |parts| {
        let answer = match asked.fetch_add(1, SeqCst) {
            0 => response(200, first, "hello"),
            _ => then(&parts),
        };
        std::future::ready(Ok(answer))
    })
}

/// RFC 9111 section 4.2.3: what was old when it came is older now.
#[tokio::test]
async fn a_response_brings_its_age_along() {
    for fields in [
        &[("cache-control", "max-age=60"), ("age", "50")][..],
        // By its date; a clock that is wrong makes nothing younger than it says.
        &[("cache-control", "max-age=3610"), ("date", EARLIER)],
        &[
            ("cache-control", "max-age=3610"),
            ("date", EARLIER),
            ("age", "7"),
        ],
        &[("expires", "Sun, 06 Nov 1994 08:49:47 GMT"), ("date", NOW)],
    ] {
        let site = Site::new(Origin::fixed(fields, "hello")).await;
        site.get("/x").await;
        let hit = site.get("/x").await;
        assert_eq!(hit.cache(), "hit; ttl=10", "{fields:?}");
        site.advance(9);
        assert!(site.get("/x").await.is_hit(), "{fields:?}");
        site.advance(1);
        assert!(!site.get("/x").await.is_hit(), "{fields:?}");
    }
}

/// RFC 9111 section 4.3.4: a 304 says how old it is itself; the age of what it updates does not count any more.
#[tokio::test]
async fn what_was_old_is_as_fresh_as_the_304_says() {
    let first = &[
        ("cache-control", "max-age=60"),
        ("age", "50"),
        ("etag", "\"a\""),
        ("date", NOW),
    ];
    for (update, hit) in [(&[][..], "hit; ttl=60"), (&[("age", "20")], "hit; ttl=40")] {
        let site = Site::new(origin(first, move |_| response(304, update, ""))).await;
        site.get("/x").await;
        site.advance(11);
        assert_eq!(
            site.get("/x").await.cache(),
            "fwd=stale; fwd-status=304; stored"
        );
        assert_eq!(site.get("/x").await.cache(), hit);
    }
}

/// RFC 9111 section 4.3.1: all the validators that there are.
#[tokio::test]
async fn a_revalidation_asks_by_date_where_there_is_no_tag() {
    for (fields, tag, date) in [
        (
            &[("last-modified", EARLIER), ("cache-control", "max-age=10")][..],
            None,
            Some(EARLIER),
        ),
        (
            &[("etag", "W/\"a\""), ("cache-control", "max-age=10")],
            Some("W/\"a\""),
            None,
        ),
        (
            &[
                ("etag", "\"a\""),
                ("last-modified", EARLIER),
                ("cache-control", "max-age=10"),
            ],
            Some("\"a\""),
            Some(EARLIER),
        ),
    ] {
        let site = Site::new(origin(fields, |_| response(304, &[], ""))).await;
        site.get("/x").await;
        site.advance(11);
        // Nothing of the client's own condition goes to the origin.
        let own = [
            ("if-none-match", "\"b\""),
            ("if-modified-since", "Sun, 06 Nov 1994 01:00:00 GMT"),
            ("range", "bytes=0-1"),
        ];
        let got = site.get_with("/x", &own).await;
        assert_eq!((got.status, got.text()), (206, "he"), "{fields:?}");
        let asked = site.origin.last().headers;
        let field = |name| asked.get(name).map(|value| value.to_str().unwrap());
        assert_eq!(
            (
                field("if-none-match"),
                field("if-modified-since"),
                field("range")
            ),
            (tag, date, None)
        );
    }
}

/// RFC 9111 section 4.3.3: an error says nothing about what is stored, and another answer takes its place.
#[tokio::test]
async fn a_failed_revalidation_leaves_what_is_stored_and_a_new_answer_replaces_it() {
    let state = Arc::new(AtomicU64::new(503));
    let status = Arc::clone(&state);
    let first = &[("cache-control", "max-age=10"), ("etag", "\"a\"")];
    let site = Site::new(origin(first, move |parts| match status.load(SeqCst) {
        503 => response(503, &[], "down"),
        404 => response(404, &[("cache-control", "no-store")], "gone"),
        _ if parts.headers.contains_key("if-none-match") => response(304, &[], ""),
        _ => response(200, &[("cache-control", "max-age=10")], "new"),
    }))
    .await;
    site.get("/x").await;
    site.advance(11);
    assert_eq!(site.get("/x").await.status, 503);
    state.store(200, SeqCst);
    assert_eq!(
        site.get("/x").await.cache(),
        "fwd=stale; fwd-status=304; stored"
    );
    site.advance(11);
    state.store(404, SeqCst);
    assert_eq!(site.get("/x").await.status, 404);
    // Not even a failure brings it back.
    let lenient = site
        .clone()
        .with_policy(|policy| policy.stale_if_error = Duration::from_secs(1000));
    state.store(503, SeqCst);
    assert_eq!(lenient.get("/x").await.status, 503);
    state.store(200, SeqCst);
    assert_eq!(site.get("/x").await.text(), "new");
}

/// RFC 9111 section 5.4: `Pragma: no-cache` counts where there is no `Cache-Control`.
#[tokio::test]
async fn pragma_is_heeded_where_nothing_newer_is_said() {
    let site = Site::new(Origin::fixed(&[("cache-control", "max-age=60")], "hello")).await;
    site.get("/x").await;
    let pragma = ("pragma", "no-cache");
    assert!(
        site.get_with("/x", &[pragma, ("cache-control", "max-age=60")])
            .await
            .is_hit()
    );
    let got = site.get_with("/x", &[pragma]).await;
    assert_eq!(got.cache(), "fwd=request; fwd-status=200; stored");
}

/// RFC 9111 sections 5.2.1.1 to 5.2.1.3.
#[tokio::test]
async fn a_client_may_take_what_is_stale_or_want_what_stays_fresh() {
    let site = Site::new(Origin::fixed(
        &[("cache-control", "max-age=60"), ("etag", "\"a\"")],
        "hello",
    ))
    .await;
    site.get("/x").await;
    site.advance(65);
    for (demand, hit) in [
        ("max-stale=10", true),
        ("max-stale", true),
        ("max-stale=4", false),
    ] {
        // Without asking the origin: the last of these does.
        let fields = [("cache-control", demand)];
        assert_eq!(site.get_with("/x", &fields).await.is_hit(), hit, "{demand}");
    }
    for (demand, hit) in [
        ("min-fresh=60", true),
        ("max-age=0", true),
        ("min-fresh=61", false),
    ] {
        let fields = [("cache-control", demand)];
        assert_eq!(site.get_with("/x", &fields).await.is_hit(), hit, "{demand}");
    }
}

/// RFC 9111 section 4.2.2: a tenth of the time since it was changed, at most a day, and only where the status allows a guess.
#[tokio::test]
async fn freshness_is_guessed_where_the_origin_says_nothing() {
    for (status, fields, fresh) in [
        (200, &[("last-modified", EARLIER)][..], 360),
        (404, &[("last-modified", EARLIER)], 360),
        (
            200,
            &[("last-modified", "Tue, 06 Nov 1984 08:49:37 GMT")],
            24 * 60 * 60,
        ),
    ] {
        let site = Site::new(Origin::new(move |_| {
            std::future::ready(Ok(response(status, fields, "hello")))
        }))
        .await;
        site.get("/x").await;
        site.advance(fresh - 1);
        assert!(site.get("/x").await.is_hit(), "{status} {fields:?}");
        site.advance(1);
        assert!(!site.get("/x").await.is_hit(), "{status} {fields:?}");
    }
    for (status, fields) in [
        (200, &[][..]),
        (500, &[("last-modified", EARLIER)]),
        (302, &[("last-modified", EARLIER)]),
        (200, &[("last-modified", EARLIER), ("expires", "0")]),
        (
            200,
            &[
                ("last-modified", EARLIER),
                ("cache-control", "max-age=never"),
            ],
        ),
    ] {
        let site = Site::new(Origin::new(move |_| {
            std::future::ready(Ok(response(status, fields, "hello")))
        }))
        .await;
        site.get("/x").await;
        assert!(!site.get("/x").await.is_hit(), "{status} {fields:?}");
    }
}

/// RFC 9213 section 2.2: a targeted field takes the place of `Cache-Control` and of `Expires`, and goes on to the caches behind.
#[tokio::test]
async fn what_is_said_to_this_kind_of_cache_counts_before_what_is_said_to_all() {
    for (fields, ttl) in [
        (
            &[
                ("cdn-cache-control", "max-age=60"),
                ("cache-control", "no-store"),
            ][..],
            60,
        ),
        (&[("cdn-cache-control", "max-age=60"), ("expires", "0")], 60),
        (
            &[
                ("wharf-cdn-cache-control", "max-age=30"),
                ("cdn-cache-control", "max-age=60"),
                ("cache-control", "max-age=90"),
            ],
            30,
        ),
        // What is no dictionary is as if it were not there.
        (
            &[
                ("cdn-cache-control", "max-age=;"),
                ("cache-control", "max-age=90"),
            ],
            90,
        ),
        (
            &[("cdn-cache-control", ""), ("cache-control", "max-age=90")],
            90,
        ),
    ] {
        let site = Site::new(Origin::fixed(fields, "hello")).await;
        let first = site.get("/x").await;
        assert_eq!(
            site.get("/x").await.cache(),
            format!("hit; ttl={ttl}"),
            "{fields:?}"
        );
        for (name, value) in fields {
            let shown = if name.starts_with("wharf-") {
                ""
            } else {
                value
            };
            assert_eq!(first.field(name), shown);
        }
    }
}

/// RFC 9110 section 13.2.2: `If-None-Match` before `If-Modified-Since`, and both before a range.
#[tokio::test]
async fn conditions_are_weighed_in_their_order() {
    let fields = &[
        ("cache-control", "max-age=60"),
        ("etag", "\"a\""),
        ("last-modified", EARLIER),
        ("date", NOW),
    ];
    let site = Site::new(Origin::fixed(fields, "0123456789")).await;
    site.get("/x").await;
    let (same, other, since) = (
        ("if-none-match", "\"a\""),
        ("if-none-match", "\"b\""),
        ("if-modified-since", NOW),
    );
    let part = ("range", "bytes=0-1");
    for (conditions, status) in [
        (&[same][..], 304),
        (&[other, since], 200),
        (&[since], 304),
        (&[("if-modified-since", EARLIER)], 304),
        (
            &[("if-modified-since", "Sun, 06 Nov 1994 07:49:36 GMT")],
            200,
        ),
        (&[("if-modified-since", "yesterday")], 200),
        (&[same, part], 304),
        (&[other, since, part], 206),
        (&[part, ("if-range", EARLIER)], 206),
        (&[part, ("if-range", NOW)], 200),
        (&[part, ("if-range", "Sun, 06 Nov 1994 07:49:36 GMT")], 200),
    ] {
        let got = site.get_with("/x", conditions).await;
        assert_eq!((got.status, got.is_hit()), (status, true), "{conditions:?}");
    }
    assert_eq!(site.origin.count(), 1);
}

/// RFC 9110 section 14.2: a range is of a GET, and of what is answered with 200.
#[tokio::test]
async fn a_range_is_passed_over_where_it_has_no_meaning() {
    let site = Site::new(Origin::new(async |parts: Parts| {
        let status = if parts.uri.path() == "/gone" {
            410
        } else {
            200
        };
        Ok(response(
            status,
            &[("cache-control", "max-age=60"), ("content-length", "10")],
            "0123456789",
        ))
    }))
    .await;
    let part = [("range", "bytes=0-1")];
    for path in ["/x", "/gone"] {
        site.get(path).await;
    }
    let head = site.send(Method::HEAD, "/x", &part).await;
    assert_eq!(
        (head.status, head.field("content-length"), head.text()),
        (200, "10", "")
    );
    let gone = site.get_with("/gone", &part).await;
    assert_eq!(
        (gone.status, gone.text(), gone.is_hit()),
        (410, "0123456789", true)
    );
}

/// RFC 9111 section 4.1: all the lines of a request's field, and of `Vary`.
#[tokio::test]
async fn variants_are_chosen_by_all_lines_of_a_field() {
    let fields = &[
        ("cache-control", "max-age=60"),
        ("vary", "X-One"),
        ("vary", "x-two, accept-language"),
    ];
    let site = Site::new(Origin::fixed(fields, "hello")).await;
    for (request, hit) in [
        (&[("x-one", "1")][..], false),
        (&[("x-one", "1")], true),
        (&[("x-one", "1"), ("x-two", "2")], false),
        (&[("x-two", "1")], false),
        (&[("x-one", "1"), ("x-one", "2")], false),
        (&[("x-one", "1,2")], true),
        (&[("x-one", "2"), ("x-one", "1")], false),
        (&[("x-one", "1"), ("x-other", "2")], true),
        (&[("x-one", "1"), ("accept-language", "de, en")], false),
        (&[("x-one", "1"), ("accept-language", "DE,en")], true),
    ] {
        assert_eq!(
            site.get_with("/x", request).await.is_hit(),
            hit,
            "{request:?}"
        );
    }
}

/// RFC 9111 section 4.4: every unsafe method, those that nobody knows too, and references however they are written.
#[tokio::test]
async fn whatever_may_have_changed_something_invalidates_it_with_its_variants() {
    let site = Site::new(Origin::new(async |parts: Parts| {
        let path = parts.uri.path();
        Ok(match (parts.method.is_safe(), path) {
            (true, _) => response(
                200,
                &[("cache-control", "max-age=60"), ("vary", "x-one")],
                "hello",
            ),
            (false, "/a/relative") => response(204, &[("content-location", "x")], ""),
            (false, "/a/absolute") => {
                response(303, &[("location", "http://SITE.example:80/a/x")], "")
            }
            (false, "/a/port") => {
                response(201, &[("location", "http://site.example:8080/a/x")], "")
            }
            (false, "/a/scheme") => response(201, &[("location", "https://site.example/a/x")], ""),
            (false, "/a/host") => {
                response(201, &[("location", "http://site.example.evil/a/x")], "")
            }
            (false, "/a/user") => {
                response(201, &[("location", "http://site.example@evil/a/x")], "")
            }
            (false, _) => response(200, &[], ""),
        })
    }))
    .await;
    for (method, path, gone) in [
        ("POST", "/a/x", true),
        ("DELETE", "/a/x", true),
        ("PATCH", "/a/x", true),
        ("FROB", "/a/x", true),
        // A policy may have left a parameter out.
        ("POST", "/a/x?q", true),
        ("POST", "/a/xy", false),
        ("OPTIONS", "/a/x", false),
        ("PUT", "/a/relative", true),
        ("PUT", "/a/absolute", true),
        ("PUT", "/a/port", false),
        ("PUT", "/a/scheme", false),
        ("PUT", "/a/host", false),
        ("PUT", "/a/user", false),
    ] {
        for variant in ["1", "2"] {
            site.get_with("/a/x", &[("x-one", variant)]).await;
        }
        site.send(method.parse().unwrap(), path, &[]).await;
        for variant in ["1", "2"] {
            let only = [("x-one", variant), ("cache-control", "only-if-cached")];
            let status = site.get_with("/a/x", &only).await.status;
            assert_eq!(status == 504, gone, "{method} {path}");
        }
    }
}

/// What this node made of a response: other bytes, with a weak tag.
const CODED: &[(&str, &str)] = &[
    ("cache-control", "max-age=10"),
    ("content-encoding", "gzip"),
    ("etag", "W/\"a\""),
    ("vary", "x-one"),
    ("vary", "accept-encoding"),
];

/// RFC 9111 section 4.3.4, RFC 9110 section 8.8.1: the origin's tag stays strong, whatever this node made of its response.
#[tokio::test]
async fn what_was_compressed_here_is_revalidated_by_the_tag_of_the_origin() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::new(async |parts: Parts| {
        Ok(match parts.headers.get("if-none-match") {
            // What a 304 says of other fields is of what the origin sent.
            Some(tag) if tag == "\"a\"" => {
                let fields = [
                    ("cache-control", "max-age=10"),
                    ("etag", "\"a\""),
                    ("vary", "x-one"),
                    ("content-digest", "sha-256=:AAAA:"),
                ];
                response(304, &fields, "")
            }
            Some(tag) => panic!("{tag:?} is not the origin's"),
            None => recoded(CODED, Some("\"a\"")),
        })
    });
    let site = Site::open(origin.clone(), config(Some(folder.path()))).await;
    let check = async |site: &Site, asked: usize| {
        site.advance(11);
        let got = site.get_with("/x", &[("if-none-match", "W/\"b\"")]).await;
        assert_eq!(got.cache(), "fwd=stale; fwd-status=304; stored");
        assert_eq!((got.status, got.text()), (200, "coded"));
        assert_eq!(got.field("etag"), "W/\"a\"");
        assert_eq!(got.field("content-digest"), "");
        assert!(site.get("/x").await.is_hit());
        assert_eq!(site.origin.count(), asked);
    };
    site.get("/x").await;
    for asked in [2, 3] {
        check(&site, asked).await;
    }
    let now = site.now();
    site.settle().await;
    site.close().await;
    // It is known after a restart, too.
    let site = Site::open(origin, config(Some(folder.path()))).await;
    site.advance(now);
    check(&site, 4).await;
}

/// RFC 9111 section 4.3.4: another tag is of another response.
#[tokio::test]
async fn what_was_compressed_here_is_replaced_when_the_origin_has_another() {
    for (tag, other) in [("\"a\"", "\"b\""), ("\"a\"", "W/\"b\"")] {
        let site = Site::new(Origin::new(move |parts: Parts| {
            std::future::ready(Ok(if parts.headers.contains_key("if-none-match") {
                response(304, &[("etag", other)], "")
            } else {
                recoded(CODED, Some(tag))
            }))
        }))
        .await;
        site.get("/x").await;
        site.advance(11);
        let got = site.get("/x").await;
        assert_eq!(got.cache(), "fwd=stale; fwd-status=200; stored", "{other}");
        assert_eq!(site.origin.count(), 3);
    }
}

/// RFC 9111 section 4.1: what this node may compress varies by `Accept-Encoding`, also after a 304 that does not know.
#[tokio::test]
async fn what_may_be_compressed_here_keeps_its_variants_when_it_is_revalidated() {
    let fields = &[
        ("cache-control", "max-age=10"),
        ("etag", "\"a\""),
        ("vary", "x-one, accept-encoding"),
    ];
    let site = Site::new(Origin::new(async |parts: Parts| {
        Ok(if parts.headers.contains_key("if-none-match") {
            let update = [("etag", "\"a\""), ("vary", "x-one")];
            response(304, &[&update[..], &fields[..1]].concat(), "")
        } else {
            recoded(fields, None)
        })
    }))
    .await;
    site.get("/x").await;
    site.advance(11);
    let got = site.get("/x").await;
    assert_eq!(got.cache(), "fwd=stale; fwd-status=304; stored");
    assert!(site.get("/x").await.is_hit());
}

/// RFC 9111 section 4.3.5.
#[tokio::test]
async fn head_updates_what_was_compressed_here() {
    let site = Site::new(Origin::new(async |parts: Parts| {
        let is_head = parts.method == Method::HEAD;
        Ok(match parts.uri.path() {
            // Its answer to HEAD does not say its length, so that it is not known whether it is worth compressing.
            "/plain" if is_head => {
                let fields = [("cache-control", "max-age=10"), ("etag", "\"a\"")];
                response(200, &fields, "")
            }
            _ => recoded(CODED, Some("\"a\"")),
        })
    }))
    .await;
    for path in ["/coded", "/plain"] {
        site.get(path).await;
        site.advance(11);
        site.send(Method::HEAD, path, &[]).await;
        let got = site.get(path).await;
        assert_eq!((got.text(), got.field("etag")), ("coded", "W/\"a\""));
        assert!(got.is_hit(), "{path}: {got:?}");
    }
}

/// RFC 9111 section 4.3.5: what a response to HEAD does not match is stale, and not gone.
#[tokio::test]
async fn head_makes_stale_what_it_does_not_match() {
    for (update, status) in [
        (&[][..], 304),
        (&[("etag", "\"b\"")], 304),
        (&[("etag", "\"a\""), ("content-length", "6")], 304),
    ] {
        let first = &[("cache-control", "max-age=60"), ("etag", "\"a\"")];
        let site = Site::new(origin(first, move |parts| match parts.method {
            Method::HEAD => response(200, update, ""),
            _ => response(status, &[], ""),
        }))
        .await;
        site.get("/x").await;
        let now = [("cache-control", "no-cache")];
        site.send(Method::HEAD, "/x", &now).await;
        let got = site.get("/x").await;
        assert_eq!(
            (got.text(), got.cache()),
            ("hello", "fwd=stale; fwd-status=304; stored"),
            "{update:?}"
        );
    }
}

/// RFC 9111 section 4.3.5: what a response to HEAD says of storing holds for what is stored.
#[tokio::test]
async fn head_takes_away_what_may_not_be_stored_any_more() {
    for (field, kept) in [
        ("max-age=60", true),
        ("no-store", false),
        ("private", false),
    ] {
        let first = &[("cache-control", "max-age=60"), ("etag", "\"a\"")];
        let site = Site::new(origin(first, move |_| {
            response(200, &[("cache-control", field), ("etag", "\"a\"")], "")
        }))
        .await;
        site.get("/x").await;
        let now = [("cache-control", "no-cache")];
        site.send(Method::HEAD, "/x", &now).await;
        assert_eq!(site.get("/x").await.is_hit(), kept, "{field}");
    }
}

/// RFC 9111 section 4.3.3: only what the origin has instead takes the place of what is stored.
#[tokio::test]
async fn a_refusal_takes_nothing_away_from_those_who_were_not_refused() {
    for (status, kept) in [
        (200, false),
        (301, false),
        (404, false),
        (410, false),
        (400, true),
        (401, true),
        (403, true),
        (429, true),
        (431, true),
        (501, true),
        (505, true),
    ] {
        let first = &[("cache-control", "max-age=60"), ("etag", "\"a\"")];
        let no_store = [("cache-control", "no-store")];
        let site = Site::new(origin(first, move |_| response(status, &no_store, "no"))).await;
        site.get("/x").await;
        let asks = [("cache-control", "no-cache"), ("x-much", "too much")];
        let refused = site.get_with("/x", &asks).await;
        assert_eq!((refused.status, refused.text()), (status, "no"));
        let got = site.get("/x").await;
        assert_eq!(got.is_hit(), kept, "{status}: {got:?}");
    }
}

/// RFC 9111 sections 5.2.1.5 and 3.5: what one client forbids, and who it is, is no matter of what is stored already. Section 4.3.4:
/// that client's answer is as old as the 304 says.
#[tokio::test]
async fn a_304_for_one_whose_answer_is_not_stored_takes_nothing_away_from_the_others() {
    for (asks, detail) in [
        (
            &[("cache-control", "no-cache, no-store")][..],
            "request-no-store",
        ),
        (
            &[("cache-control", "no-cache"), ("authorization", "Basic x")],
            "authorization",
        ),
    ] {
        let first = &[("cache-control", "max-age=60"), ("etag", "\"a\"")];
        let update = [("age", "7"), ("x-new", "1")];
        let site = Site::new(origin(first, move |_| response(304, &update, ""))).await;
        site.get("/x").await;
        site.advance(30);
        let got = site.get_with("/x", asks).await;
        assert_eq!(
            got.cache(),
            format!("fwd=request; fwd-status=304; detail={detail}")
        );
        assert_eq!((got.status, got.text()), (200, "hello"));
        assert_eq!((got.field("age"), got.field("x-new")), ("7", "1"));
        assert_eq!(site.counts().revalidated, 1);
        let hit = site.get("/x").await;
        assert_eq!((hit.cache(), hit.field("age")), ("hit; ttl=30", "30"));
        assert_eq!(hit.field("x-new"), "", "{detail}");
    }
}

/// RFC 9111 section 3: what its origin does not want stored any more goes, whoever heard of it first.
#[tokio::test]
async fn a_304_that_forbids_storing_takes_away_what_is_stored() {
    for asks in ["no-cache", "no-cache, no-store"] {
        for forbids in ["no-store", "private"] {
            let first = &[("cache-control", "max-age=60"), ("etag", "\"a\"")];
            let site = Site::new(origin(first, move |parts| {
                let fields = [("cache-control", forbids)];
                match parts.headers.contains_key("if-none-match") {
                    true => response(304, &fields, ""),
                    false => response(200, &fields, "mine"),
                }
            }))
            .await;
            site.get("/x").await;
            let got = site.get_with("/x", &[("cache-control", asks)]).await;
            assert_eq!(
                (got.text(), got.cache()),
                (
                    "hello",
                    &*format!("fwd=request; fwd-status=304; detail={forbids}")
                )
            );
            assert_eq!(site.get("/x").await.text(), "mine", "{asks}: {forbids}");
        }
    }
}

/// RFC 5861 section 3: a revalidation that is turned away is tried again, with what is stored still there.
#[tokio::test]
async fn what_is_stale_stays_when_the_origin_has_no_time_to_revalidate_it() {
    let first = &[("cache-control", "max-age=10, stale-while-revalidate=60")];
    let site = Site::new(origin(first, |_| response(429, &[], "later"))).await;
    site.get("/x").await;
    site.advance(11);
    for asked in 2..5 {
        let got = site.get("/x").await;
        assert_eq!((got.text(), got.cache()), ("hello", "hit; ttl=-1"));
        until(|| site.origin.count() == asked && site.cache.0.flights.is_empty()).await;
    }
}
