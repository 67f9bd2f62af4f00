//! Many requests for the same response at once.

use tokio::{
    sync::{Semaphore, oneshot},
    task::JoinSet,
};

use super::*;
use crate::edge::cache::fill::FRAME;

const FRESH: &[(&str, &str)] = &[("cache-control", "max-age=60")];

/// An origin that answers when the gate opens.
fn gated(
    answer: impl Fn(&Parts) -> Response<Scripted> + Send + Sync + 'static,
) -> (Arc<Semaphore>, Origin) {
    let gate = Arc::new(Semaphore::new(0));
    let (opened, answer) = (Arc::clone(&gate), Arc::new(answer));
    let origin = Origin::new(move |parts: Parts| {
        let (gate, answer) = (Arc::clone(&opened), Arc::clone(&answer));
        async move {
            gate.acquire().await.unwrap().forget();
            Ok(answer(&parts))
        }
    });
    (gate, origin)
}

fn crowd(
    site: &Site,
    count: usize,
    fields: &'static [(&'static str, &'static str)],
) -> JoinSet<Got> {
    let mut crowd = JoinSet::new();
    for _ in 0..count {
        let site = site.clone();
        crowd.spawn(async move { site.get_with("/x", fields).await });
    }
    crowd
}

/// RFC 9111 section 4: collapsed requests.
#[tokio::test]
async fn a_thousand_simultaneous_misses_reach_the_origin_once_and_all_get_the_whole_body() {
    let (gate, origin) = gated(|_| response(200, FRESH, vec![b'x'; 100_000]));
    let site = Site::new(origin).await;
    let crowd = crowd(&site, 1000, &[]);
    until(|| site.origin.count() == 1).await;
    gate.add_permits(1000);
    let got = crowd.join_all().await;
    assert_eq!(site.origin.count(), 1);
    assert!(got.iter().all(|got| got.body == vec![b'x'; 100_000]));
    let collapsed = got.iter().filter(|got| got.cache().contains("collapsed"));
    let hits = got.iter().filter(|got| got.is_hit());
    assert_eq!(collapsed.count() + hits.count(), 999);
}

#[tokio::test]
async fn everyone_who_waits_gets_the_first_bytes_before_the_origin_sent_the_last() {
    let (sender, body) = streamed();
    let body = Mutex::new(Some(body));
    let site = Site::new(Origin::new(move |_| {
        let body = body.lock().unwrap().take().unwrap();
        std::future::ready(Ok(with_body(200, FRESH, body)))
    }))
    .await;
    let mut first = site.begin(Method::GET, "/x", &[]).await.unwrap();
    send(&sender, "one ");
    let mut second = site.begin(Method::GET, "/x", &[]).await.unwrap();
    for response in [&mut first, &mut second] {
        let frame = response.body_mut().frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "one ");
    }
    send(&sender, "two");
    drop(sender);
    assert_eq!(got(first).await.text(), "two");
    assert_eq!(got(second).await.text(), "two");
    assert!(site.get("/x").await.is_hit());
}

#[tokio::test]
async fn a_response_that_is_for_one_client_is_never_shared_with_those_who_wait() {
    for fields in [
        &[("cache-control", "private, max-age=60")][..],
        &[("cache-control", "no-store")],
        &[("cache-control", "max-age=60"), ("set-cookie", "a=b")],
        &[("cache-control", "max-age=60"), ("vary", "*")],
    ] {
        let served = AtomicU64::new(0);
        let (gate, origin) =
            gated(move |_| response(200, fields, served.fetch_add(1, SeqCst).to_string()));
        let site = Site::new(origin).await;
        let crowd = crowd(&site, 50, &[]);
        until(|| site.origin.count() == 1).await;
        gate.add_permits(1000);
        let got = crowd.join_all().await;
        let mut bodies: Vec<&str> = got.iter().map(Got::text).collect();
        bodies.sort_unstable();
        bodies.dedup();
        assert_eq!(bodies.len(), 50, "{fields:?}");
    }
}

/// Hit for miss: who waits for nothing should not wait.
#[tokio::test]
async fn requests_for_what_cannot_be_shared_do_not_wait_for_each_other_for_a_while() {
    let (gate, origin) = gated(|_| response(200, &[("cache-control", "private")], "me"));
    let site = Site::new(origin).await;
    gate.add_permits(1);
    site.get("/x").await;
    let waiting = crowd(&site, 10, &[]);
    until(|| site.origin.count() == 11).await;
    gate.add_permits(10);
    waiting.join_all().await;
    site.advance(10);
    let _waiting = crowd(&site, 10, &[]);
    until(|| site.origin.count() == 12).await;
    tokio::task::yield_now().await;
    assert_eq!(site.origin.count(), 12);
}

/// RFC 9111 section 4.1.
#[tokio::test]
async fn those_who_wait_for_another_variant_get_their_own_and_fetch_it_once() {
    let (gate, origin) = gated(|parts| {
        let language = parts.headers["accept-language"].to_str().unwrap();
        response(
            200,
            &[("cache-control", "max-age=60"), ("vary", "accept-language")],
            language.to_owned(),
        )
    });
    let site = Site::new(origin).await;
    let english = crowd(&site, 20, &[("accept-language", "en")]);
    until(|| site.origin.count() == 1).await;
    let german = crowd(&site, 20, &[("accept-language", "de")]);
    tokio::task::yield_now().await;
    gate.add_permits(100);
    assert!(
        english
            .join_all()
            .await
            .iter()
            .all(|got| got.text() == "en")
    );
    assert!(german.join_all().await.iter().all(|got| got.text() == "de"));
    assert_eq!(site.origin.count(), 2);
}

#[tokio::test]
async fn a_response_that_is_stale_when_it_comes_is_not_shared() {
    let (gate, origin) = gated(|_| {
        response(
            200,
            &[("cache-control", "max-age=0"), ("etag", "\"a\"")],
            "hello",
        )
    });
    let site = Site::new(origin).await;
    let crowd = crowd(&site, 5, &[]);
    until(|| site.origin.count() == 1).await;
    gate.add_permits(100);
    crowd.join_all().await;
    assert_eq!(site.origin.count(), 5);
}

#[tokio::test]
async fn everyone_who_waits_gets_the_error_of_the_only_attempt() {
    let (opened, gate) = oneshot::channel::<()>();
    let gate = Mutex::new(Some(gate));
    let site = Site::new(Origin::new(move |_| {
        let gate = gate.lock().unwrap().take().unwrap();
        async move {
            let _ = gate.await;
            Err(io::Error::other("unreachable"))
        }
    }))
    .await;
    let mut crowd = JoinSet::new();
    for _ in 0..10 {
        let site = site.clone();
        crowd.spawn(async move { site.begin(Method::GET, "/x", &[]).await.is_err() });
    }
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    drop(opened);
    assert!(crowd.join_all().await.into_iter().all(|failed| failed));
    assert_eq!(site.origin.count(), 1);
}

/// Who has used up what is his own takes nothing from the others: neither with nor without a stale response that would do.
#[tokio::test]
async fn an_error_that_is_of_the_first_alone_is_not_for_those_who_wait() {
    let fields = [("cache-control", "max-age=60, stale-if-error=600")];
    for is_stored in [false, true] {
        let gate = Arc::new(Semaphore::new(0));
        let (opened, asked) = (Arc::clone(&gate), AtomicU64::new(u64::from(!is_stored)));
        let site = Site::new(Origin::new(move |_| {
            let (gate, asked) = (Arc::clone(&opened), asked.fetch_add(1, SeqCst));
            async move {
                match asked {
                    0 => Ok(response(200, &fields, "old")),
                    1 => {
                        gate.acquire().await.unwrap().forget();
                        Err(io::Error::from(io::ErrorKind::OutOfMemory))
                    }
                    _ => Ok(response(200, &fields, "new")),
                }
            }
        }))
        .await;
        if is_stored {
            assert_eq!(site.get("/x").await.text(), "old");
            site.advance(61);
        }
        let first = site.clone();
        let first = tokio::spawn(async move {
            let response = first.begin(Method::GET, "/x", &[]).await.ok()?;
            Some(got(response).await.text().to_owned())
        });
        let leads = 1 + usize::from(is_stored);
        until(|| site.origin.count() == leads).await;
        let crowd = crowd(&site, 10, &[]);
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(site.origin.count(), leads, "the others wait");
        gate.add_permits(1);
        let first = first.await.unwrap();
        assert_eq!(first.as_deref(), is_stored.then_some("old"));
        assert!(crowd.join_all().await.iter().all(|got| got.text() == "new"));
    }
}

/// Each piece takes more than its byte.
#[tokio::test]
async fn a_body_of_single_bytes_reaches_the_bound_by_its_frames() {
    let (sender, body) = streamed();
    let body = Mutex::new(Some(body));
    let origin = Origin::new(move |_| {
        let body = body.lock().unwrap().take().unwrap();
        std::future::ready(Ok(with_body(200, FRESH, body)))
    });
    // A fourth of it is for bodies on their way.
    let config = CacheConfig {
        memory: ByteSize::mb(1),
        ..config(None)
    };
    let site = Site::open(origin, config).await;
    let filling = || site.cache.0.filling.load(SeqCst);
    let response = site.begin(Method::GET, "/x", &[]).await.unwrap();
    (0..3).for_each(|_| send(&sender, "x"));
    until(|| filling() == 3 * (1 + FRAME)).await;
    (3..2000).for_each(|_| send(&sender, "x"));
    drop(sender);
    assert_eq!(got(response).await.body.len(), 2000);
    site.settle().await;
    assert_eq!(filling(), 0);
    assert_eq!(site.counts().memory.stored_objects, 0, "it did not fit");
}

#[tokio::test]
async fn a_download_goes_on_when_its_client_goes_away() {
    let (sender, body) = streamed();
    let body = Mutex::new(Some(body));
    let site = Site::new(Origin::new(move |_| {
        let body = body.lock().unwrap().take().unwrap();
        std::future::ready(Ok(with_body(200, FRESH, body)))
    }))
    .await;
    drop(site.begin(Method::GET, "/x", &[]).await.unwrap());
    send(&sender, "hel");
    let waiter = site.begin(Method::GET, "/x", &[]).await.unwrap();
    send(&sender, "lo");
    drop(waiter);
    drop(sender);
    site.settle().await;
    let got = site.get("/x").await;
    assert!(got.is_hit() && got.text() == "hello");
}

#[tokio::test(start_paused = true)]
async fn a_download_that_nobody_reads_does_not_go_on_for_ever() {
    let (sender, body) = streamed();
    let body = Mutex::new(Some(body));
    let site = Site::new(Origin::new(move |_| {
        let body = body.lock().unwrap().take().unwrap();
        std::future::ready(Ok(with_body(200, FRESH, body)))
    }))
    .await;
    drop(site.begin(Method::GET, "/x", &[]).await.unwrap());
    tokio::time::sleep(Duration::from_secs(59)).await;
    assert!(!sender.is_closed());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(sender.is_closed());
}

/// RFC 9111 section 3.3.
#[tokio::test]
async fn a_response_that_is_cut_off_is_an_error_for_all_and_never_stored() {
    for (length, fails) in [("9", false), ("2", false), ("5", true)] {
        let site = Site::new(Origin::new(move |_| {
            let (sender, body) = streamed();
            send(&sender, "hel");
            if fails {
                sender
                    .unbounded_send(Err(io::Error::other("reset")))
                    .unwrap();
            }
            let fields = [("cache-control", "max-age=60"), ("content-length", length)];
            std::future::ready(Ok(with_body(200, &fields, body)))
        }))
        .await;
        for count in 1..3 {
            let response = site.begin(Method::GET, "/x", &[]).await.unwrap();
            assert!(response.into_body().collect().await.is_err(), "{length}");
            site.settle().await;
            assert_eq!(site.origin.count(), count);
        }
        assert_eq!(site.counts().memory.stored_objects, 0);
    }
}

/// Without a disk there is only a window: the slowest reader holds the others up for a while, and is cut off then.
#[tokio::test(start_paused = true)]
async fn a_slow_reader_holds_the_others_up_for_a_bounded_time_only() {
    let chunk = || Bytes::from(vec![b'x'; 256 << 10]);
    let site = Site::new(Origin::new(move |_| {
        let (sender, body) = streamed();
        for _ in 0..40 {
            send(&sender, chunk());
        }
        std::future::ready(Ok(with_body(200, FRESH, body)))
    }))
    .await;
    let mut slow = site.begin(Method::GET, "/x", &[]).await.unwrap();
    let fast = site.begin(Method::GET, "/x", &[]).await.unwrap();
    slow.body_mut().frame().await.unwrap().unwrap();
    let begun = tokio::time::Instant::now();
    assert_eq!(got(fast).await.body.len(), 40 * (256 << 10));
    let took = begun.elapsed();
    assert!(
        took >= Duration::from_secs(5),
        "it waited for the slow one: {took:?}"
    );
    assert!(took < Duration::from_secs(400), "{took:?}");
    assert!(slow.into_body().collect().await.is_err());
    assert_eq!(
        site.counts().memory.stored_objects,
        0,
        "it is too large for memory"
    );
    assert_eq!(site.origin.count(), 1);
}

#[tokio::test]
async fn a_part_of_a_response_on_its_way_is_served_as_soon_as_it_came() {
    let (sender, body) = streamed();
    let body = Mutex::new(Some(body));
    let site = Site::new(Origin::new(move |_| {
        let body = body.lock().unwrap().take().unwrap();
        let fields = [("cache-control", "max-age=60"), ("content-length", "10")];
        std::future::ready(Ok(with_body(200, &fields, body)))
    }))
    .await;
    let whole = site.begin(Method::GET, "/x", &[]).await.unwrap();
    send(&sender, "01234");
    let part = site.get_with("/x", &[("range", "bytes=1-3")]).await;
    assert_eq!((part.status, part.text()), (206, "123"));
    send(&sender, "56789");
    drop(sender);
    assert_eq!(got(whole).await.text(), "0123456789");
}

/// RFC 9111 section 4: a revalidation is worth waiting for too.
#[tokio::test]
async fn a_stale_response_is_revalidated_once_for_all_who_ask() {
    let (gate, origin) = gated(|parts| {
        let fields = [("cache-control", "max-age=60"), ("etag", "\"a\"")];
        let known = parts.headers.contains_key("if-none-match");
        response(if known { 304 } else { 200 }, &fields, "hello")
    });
    let site = Site::new(origin).await;
    gate.add_permits(1);
    site.get("/x").await;
    site.advance(61);
    let crowd = crowd(&site, 100, &[]);
    until(|| site.origin.count() == 2).await;
    gate.add_permits(100);
    assert!(
        crowd
            .join_all()
            .await
            .iter()
            .all(|got| got.text() == "hello")
    );
    assert_eq!(site.origin.count(), 2);
}

/// RFC 9111 section 5.2.2.4: what must be validated is validated for each request.
#[tokio::test]
async fn what_must_be_validated_each_time_is_not_shared_by_those_who_wait() {
    let (gate, origin) = gated(|parts| {
        let fields = [("cache-control", "no-cache"), ("etag", "\"a\"")];
        let known = parts.headers.contains_key("if-none-match");
        response(if known { 304 } else { 200 }, &fields, "hello")
    });
    let site = Site::new(origin).await;
    gate.add_permits(100);
    site.get("/x").await;
    let got = crowd(&site, 5, &[]).join_all().await;
    assert!(got.iter().all(|got| got.text() == "hello"));
    assert_eq!(site.origin.count(), 6);
    assert_eq!(site.origin.last().headers["if-none-match"], "\"a\"");
}

/// What is not for sharing is asked for as the client asks for it.
#[tokio::test]
async fn parts_and_conditions_go_forward_as_they_are_where_nothing_is_stored() {
    let site = Site::new(Origin::new(async |parts: Parts| {
        Ok(if parts.headers.contains_key("range") {
            response(206, &[("cache-control", "private")], "h")
        } else {
            response(200, &[("cache-control", "private")], "hello")
        })
    }))
    .await;
    let range = [("range", "bytes=0-0")];
    for count in [2, 3] {
        let got = site.get_with("/x", &range).await;
        assert_eq!(
            (got.status, got.text(), got.cache()),
            (206, "h", "fwd=partial; fwd-status=206")
        );
        assert_eq!(site.origin.count(), count, "the first finds out");
    }
}

/// RFC 9111 section 3.5: whoever has credentials asks for himself.
#[tokio::test]
async fn requests_with_credentials_do_not_wait_for_others() {
    let (gate, origin) = gated(|_| response(200, FRESH, "hello"));
    let site = Site::new(origin).await;
    let crowd = crowd(&site, 5, &[("authorization", "Basic x")]);
    until(|| site.origin.count() == 5).await;
    gate.add_permits(5);
    crowd.join_all().await;
}

#[tokio::test]
async fn a_part_that_came_is_served_and_one_that_will_not_come_soon_is_asked_for_by_itself() {
    let (sender, body) = streamed();
    let body = Mutex::new(Some(body));
    let origin = Origin::new(move |parts: Parts| {
        std::future::ready(Ok(if parts.headers.contains_key("range") {
            response(
                206,
                &[("content-range", "bytes 8000000-8000000/9000000")],
                "y",
            )
        } else {
            let body = body.lock().unwrap().take().unwrap();
            let fields = [
                ("cache-control", "max-age=60"),
                ("content-length", "9000000"),
            ];
            with_body(200, &fields, body)
        }))
    });
    let disk = tempfile::tempdir().unwrap();
    let site = Site::open(origin, config(Some(disk.path()))).await;
    let mut whole = site.begin(Method::GET, "/x", &[]).await.unwrap();
    send(&sender, vec![b'x'; 5_000_000]);
    whole.body_mut().frame().await.unwrap().unwrap();
    for (range, body, count) in [
        ("bytes=3000000-3000000", "x", 1),
        ("bytes=8000000-8000000", "y", 2),
        ("bytes=-1", "y", 3),
    ] {
        let part = site.get_with("/x", &[("range", range)]).await;
        assert_eq!((part.status, part.text()), (206, body), "{range}");
        assert_eq!(site.origin.count(), count, "{range}");
    }
}

/// Where there is but a window of a body, who comes late finds its beginning gone.
#[tokio::test]
async fn who_comes_when_the_beginning_is_gone_goes_forward_himself() {
    const MB: usize = 1 << 20;
    let (sender, body) = streamed();
    let first = Mutex::new(Some(body));
    let fields = [("cache-control", "max-age=60")];
    let site = Site::new(Origin::new(move |_| {
        let body = first.lock().unwrap().take();
        std::future::ready(Ok(match body {
            Some(body) => with_body(200, &fields, body),
            None => response(200, &fields, "another"),
        }))
    }))
    .await;
    let mut body = site
        .begin(Method::GET, "/x", &[])
        .await
        .unwrap()
        .into_body();
    let mut read = 0;
    for _ in 0..4 {
        send(&sender, vec![b'x'; MB]);
        let until = read + MB;
        while read < until {
            let frame = body.frame().await.unwrap().unwrap();
            read += frame.into_data().unwrap().len();
        }
    }
    assert_eq!(site.get("/x").await.text(), "another");
    assert_eq!(site.origin.count(), 2);
    drop(sender);
    assert!(body.frame().await.is_none());
    assert_eq!(read, 4 * MB);
}

/// RFC 9111 section 4.3.3: an answer to one request says nothing of how the others are to wait.
#[tokio::test]
async fn a_refusal_does_not_keep_the_others_from_waiting_for_each_other() {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let opened = Arc::clone(&gate);
    let site = Site::new(Origin::new(move |parts: Parts| {
        let gate = Arc::clone(&opened);
        async move {
            if parts.headers.contains_key("x-much") {
                return Ok(response(400, &[("cache-control", "no-store")], "no"));
            }
            let fields = [("cache-control", "max-age=10")];
            if parts.headers.contains_key("x-slow") {
                gate.acquire().await.unwrap().forget();
            }
            Ok(response(200, &fields, "hello"))
        }
    }))
    .await;
    site.get("/x").await;
    let asks = [("cache-control", "no-cache"), ("x-much", "too much")];
    assert_eq!(site.get_with("/x", &asks).await.status, 400);
    site.advance(11);
    // The pass would last for ten seconds from the refusal on.
    assert_eq!(site.get_with("/x", &asks).await.status, 400);
    let waiting: Vec<_> = (0..5)
        .map(|_| {
            let site = site.clone();
            tokio::spawn(async move { site.get_with("/x", &[("x-slow", "1")]).await })
        })
        .collect();
    until(|| site.origin.count() >= 4).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    gate.add_permits(10);
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap().text(), "hello");
    }
    assert_eq!(site.origin.count(), 4);
}
