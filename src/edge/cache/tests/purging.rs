//! Taking stored responses away.

use super::{
    super::{
        directives::Demands,
        key::Key,
        serve::{Exchange, Sought},
    },
    *,
};

const FIELDS: &[(&str, &str)] = &[
    ("cache-control", "max-age=60, stale-while-revalidate=30"),
    ("cache-tag", "news, sport"),
    ("vary", "accept-encoding"),
];

async fn is_stored(site: &Site, path: &str) -> bool {
    let got = site
        .get_with(path, &[("cache-control", "only-if-cached")])
        .await;
    got.status == 200
}

#[tokio::test]
async fn a_hard_purge_takes_what_it_names_and_nothing_else() {
    let site = Site::new(Origin::fixed(FIELDS, "hello")).await;
    let url = |path: &str| Purge::Url(format!("http://site.example{path}"));
    let prefix = |path: &str| Purge::Prefix(format!("http://site.example{path}"));
    for (purge, left) in [
        (url("/a/x"), [false, true, true]),
        (url("/a/x?q=1"), [false, false, true]),
        (prefix("/a/"), [false, false, true]),
        (Purge::Tag("sport".into()), [false; 3]),
        (Purge::Tag("spor".into()), [true; 3]),
        (Purge::All, [false; 3]),
    ] {
        let paths = ["/a/x", "/a/x?q=1", "/b"];
        for path in paths {
            site.get(path).await;
        }
        assert_eq!(
            site.cache.purge("other", &purge, PurgeMode::Hard).await,
            Purged::default()
        );
        site.cache.purge("site", &purge, PurgeMode::Hard).await;
        for (path, left) in paths.iter().zip(left) {
            assert_eq!(is_stored(&site, path).await, left, "{path} after {purge:?}");
        }
    }
}

#[tokio::test]
async fn a_hard_purge_of_a_url_takes_all_its_variants() {
    let site = Site::new(Origin::fixed(FIELDS, "hello")).await;
    let brotli = [
        ("accept-encoding", "br"),
        ("cache-control", "only-if-cached"),
    ];
    site.get("/x").await;
    site.get_with("/x", &brotli[..1]).await;
    assert_eq!(site.get_with("/x", &brotli).await.status, 200);
    let purge = Purge::Url("http://site.example/x".into());
    site.cache.purge("site", &purge, PurgeMode::Hard).await;
    assert_eq!(site.get_with("/x", &brotli).await.status, 504);
    assert!(!is_stored(&site, "/x").await);
    site.cache.statistics();
    assert_eq!(site.cache.0.index.len(), 0);
}

#[tokio::test]
async fn what_is_purged_softly_is_served_while_it_is_revalidated() {
    let site = Site::new(Origin::fixed(FIELDS, "hello")).await;
    site.get("/x").await;
    site.cache
        .purge("site", &Purge::Tag("news".into()), PurgeMode::Soft)
        .await;
    site.advance(3);
    // RFC 9211 section 2.4: nothing is left of its freshness.
    assert_eq!(site.get("/x").await.cache(), "hit; ttl=-3");
    site.settle().await;
    assert_eq!(site.origin.count(), 2);
    assert_eq!(site.counts().stale, 1);
    site.cache.purge("site", &Purge::All, PurgeMode::Soft).await;
    site.advance(30);
    assert!(
        !site.get("/x").await.is_hit(),
        "the window began with the purge"
    );
}

#[tokio::test]
async fn a_purge_keeps_out_what_was_asked_for_before_it() {
    for (purge, how) in [
        (Purge::All, PurgeMode::Hard),
        (Purge::All, PurgeMode::Soft),
        (Purge::Tag("news".into()), PurgeMode::Hard),
        (Purge::Url("http://site.example/x".into()), PurgeMode::Hard),
    ] {
        let bodies = Mutex::new(Vec::new());
        let mut senders = Vec::new();
        for _ in 0..2 {
            let (sender, body) = streamed();
            senders.push(sender);
            bodies.lock().unwrap().push(body);
        }
        let site = Site::new(Origin::new(move |_| {
            let body = bodies.lock().unwrap().pop().unwrap();
            std::future::ready(Ok(with_body(200, FIELDS, body)))
        }))
        .await;
        let old = site.begin(Method::GET, "/x", &[]).await.unwrap();
        site.cache.purge("site", &purge, how).await;
        let new = site.begin(Method::GET, "/x", &[]).await.unwrap();
        send(&senders[1], "old");
        send(&senders[0], "new");
        drop(senders);
        assert_eq!(got(new).await.text(), "new", "it did not join the older");
        assert_eq!(got(old).await.text(), "old");
        site.settle().await;
        assert_eq!(site.get("/x").await.text(), "new", "{purge:?} {how:?}");
        assert_eq!(site.origin.count(), 2);
    }
}

/// What cannot be purged by all of its tags is not stored.
#[tokio::test]
async fn a_response_is_purged_by_each_of_its_many_tags() {
    for (count, stored) in [(1024, true), (1025, false)] {
        let tags: Vec<String> = (0..count).map(|number| format!("t{number:04}")).collect();
        let tags: &'static str = tags.join(",").leak();
        let fields = vec![("cache-control", "max-age=60"), ("cache-tag", tags)].leak();
        let site = Site::new(Origin::fixed(fields, "hello")).await;
        site.get("/x").await;
        assert_eq!(is_stored(&site, "/x").await, stored, "{count}");
        let last = Purge::Tag(format!("t{:04}", count - 1));
        site.cache.purge("site", &last, PurgeMode::Hard).await;
        assert!(!is_stored(&site, "/x").await);
    }
}

/// RFC 5861 section 3: how long it may be served stale counts from when it became so.
#[tokio::test]
async fn a_second_mark_does_not_begin_anew() {
    let fields = &[
        ("cache-control", "max-age=600, stale-while-revalidate=30"),
        ("etag", "\"a\""),
    ];
    let folder = tempfile::tempdir().unwrap();
    for disk in [None, Some(folder.path())] {
        let site = Site::open(Origin::fixed(fields, "hello"), config(disk)).await;
        site.get("/x").await;
        site.settle().await;
        let soft = async || site.cache.purge("site", &Purge::All, PurgeMode::Soft).await;
        soft().await;
        site.advance(31);
        soft().await;
        let got = site.get("/x").await;
        assert!(!got.is_hit(), "{got:?}");
        site.close().await;
    }
}

#[tokio::test]
async fn a_purge_of_something_else_keeps_nothing_out() {
    let (sender, body) = streamed();
    let body = Mutex::new(Some(body));
    let site = Site::new(Origin::new(move |_| {
        let body = body.lock().unwrap().take().unwrap();
        std::future::ready(Ok(with_body(200, FIELDS, body)))
    }))
    .await;
    let begun = site.begin(Method::GET, "/x", &[]).await.unwrap();
    site.cache
        .purge("site", &Purge::Tag("weather".into()), PurgeMode::Hard)
        .await;
    site.cache
        .purge("other", &Purge::All, PurgeMode::Hard)
        .await;
    send(&sender, "hello");
    drop(sender);
    got(begun).await;
    assert!(site.get("/x").await.is_hit());
}

#[tokio::test]
async fn a_revalidation_that_began_before_a_purge_makes_nothing_fresh() {
    for how in [PurgeMode::Hard, PurgeMode::Soft] {
        let gate = Arc::new(tokio::sync::Semaphore::new(0));
        let opened = Arc::clone(&gate);
        let site = Site::new(Origin::new(move |parts: Parts| {
            let gate = Arc::clone(&opened);
            async move {
                let fields = [("etag", "\"a\""), ("cache-control", "max-age=60")];
                if !parts.headers.contains_key("if-none-match") {
                    return Ok(response(200, &fields, "hello"));
                }
                gate.acquire().await.unwrap().forget();
                Ok(response(304, &fields, ""))
            }
        }))
        .await;
        site.get("/x").await;
        site.advance(61);
        let revalidating = tokio::spawn({
            let site = site.clone();
            async move { site.get("/x").await }
        });
        until(|| site.origin.count() == 2).await;
        site.cache.purge("site", &Purge::All, how).await;
        gate.add_permits(10);
        assert_eq!(revalidating.await.unwrap().text(), "hello");
        assert!(!site.get("/x").await.is_hit(), "{how:?}");
        assert_eq!(site.origin.count(), 3);
    }
}

/// A request that found it, and goes forward after the purge.
#[tokio::test]
async fn what_was_found_before_a_purge_is_not_made_fresh_after_it() {
    let site = Site::new(Origin::new(async |parts: Parts| {
        let fields = [("etag", "\"a\""), ("cache-control", "max-age=60")];
        let is_known = parts.headers.contains_key("if-none-match");
        Ok(match is_known {
            true => response(304, &fields, ""),
            false => response(200, &fields, "hello"),
        })
    }))
    .await;
    site.get("/x").await;
    site.advance(61);
    let request = Request::get("http://site.example/x");
    let (parts, body) = request.body(Empty::new()).unwrap().into_parts();
    let exchange = Exchange {
        scope: Scope {
            distribution: "site",
            source: "",
            policy: &site.policy,
            key: None,
            asked: None,
        },
        demands: Demands::default(),
        now: site.cache.0.clock.now(),
    };
    let key = Key::of_request(
        "site",
        "",
        &site.policy.key,
        None,
        &parts.uri,
        &parts.headers,
    );
    let sought = Sought::new(&site.cache.0, key);
    let found = site.cache.find(&exchange, sought, None, &parts).await;
    site.cache.purge("site", &Purge::All, PurgeMode::Hard).await;
    let (cache, origin) = (&site.cache, site.origin.clone());
    let answered = cache.get(&exchange, found, parts, body, origin).await;
    assert_eq!(got(answered.unwrap()).await.text(), "hello");
    assert!(!site.get("/x").await.is_hit());
}

/// Asks for `/` as a viewer for whom a hook makes another URL of it.
async fn front(site: &Site, method: Method, url: &str) -> Got {
    let viewers = Uri::from_static("http://site.example/");
    let begun = site.begin_as(method, url, &[], Some(&viewers)).await;
    got(begun.unwrap()).await
}

#[tokio::test]
async fn what_a_hook_chose_the_url_of_is_purged_by_what_the_viewer_asked_for_too() {
    let (a, b) = ("http://site.example/a/", "http://site.example/b/");
    for fields in [FIELDS, &FIELDS[..1]] {
        let folder = tempfile::tempdir().unwrap();
        let origin = Origin::fixed(fields, "hello");
        for (purge, left) in [
            (Purge::Url("/".into()), [false, false]),
            (Purge::Url("http://SITE.example".into()), [false, false]),
            (Purge::Url("/b/".into()), [true, false]),
            (Purge::Url("/c/".into()), [true, true]),
        ] {
            let site = Site::open(origin.clone(), config(Some(folder.path()))).await;
            for url in [a, b] {
                front(&site, Method::GET, url).await;
                assert!(front(&site, Method::GET, url).await.is_hit());
            }
            site.settle().await;
            site.close().await;
            // What is on disk is known by both, too.
            let site = Site::open(origin.clone(), config(Some(folder.path()))).await;
            site.cache.purge("site", &purge, PurgeMode::Hard).await;
            for (path, left) in ["/a/", "/b/"].iter().zip(left) {
                assert_eq!(is_stored(&site, path).await, left, "{path} after {purge:?}");
            }
            site.close().await;
        }
    }
}

/// RFC 9111 section 4.4: the target is what the viewer asked for; the origin knows it by what a hook made of that.
#[tokio::test]
async fn an_unsafe_request_invalidates_what_the_viewer_asked_for_and_what_a_hook_made_of_it() {
    let (a, b) = ("http://site.example/a/", "http://site.example/b/");
    for (target, viewers) in [(a, true), (a, false)] {
        let site = Site::new(Origin::fixed(FIELDS, "hello")).await;
        for url in [a, b] {
            front(&site, Method::GET, url).await;
        }
        match viewers {
            true => front(&site, Method::POST, target).await,
            false => site.send(Method::POST, target, &[]).await,
        };
        assert!(!is_stored(&site, "/a/").await);
        assert_eq!(is_stored(&site, "/b/").await, !viewers);
    }
}

#[tokio::test]
async fn a_purge_by_what_the_viewer_asked_for_keeps_out_what_was_asked_for_before_it() {
    let (sender, body) = streamed();
    let body = Mutex::new(Some(body));
    let site = Site::new(Origin::new(move |_| {
        let body = body.lock().unwrap().take();
        let body = body.unwrap_or_else(|| response(200, &[], "new").into_body());
        std::future::ready(Ok(with_body(200, &FIELDS[..1], body)))
    }))
    .await;
    let (url, viewers) = (
        "http://site.example/a/",
        Uri::from_static("http://site.example/"),
    );
    let old = site.begin_as(Method::GET, url, &[], Some(&viewers)).await;
    let purge = Purge::Url("/".into());
    site.cache.purge("site", &purge, PurgeMode::Hard).await;
    send(&sender, "old");
    drop(sender);
    assert_eq!(got(old.unwrap()).await.text(), "old");
    site.settle().await;
    assert_eq!(front(&site, Method::GET, url).await.text(), "new");
}
