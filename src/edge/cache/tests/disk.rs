//! What is on disk: restarts, damage, bounds.

use std::{fs, sync::LazyLock};

use super::*;

const FRESH: &[(&str, &str)] = &[
    ("cache-control", "max-age=60"),
    ("etag", "\"a\""),
    ("cache-tag", "t"),
];

const LARGE: usize = 5 << 20;

fn large() -> Bytes {
    static LARGE_BODY: LazyLock<Bytes> =
        LazyLock::new(|| (0..LARGE).map(|n| u8::try_from(n % 249).unwrap()).collect());
    LARGE_BODY.clone()
}

/// An origin whose `/large` is larger than memory holds, and whose `/middle` has a file of its own.
fn origin() -> Origin {
    Origin::new(async |parts: Parts| {
        if parts.headers.contains_key("if-none-match") {
            return Ok(response(304, FRESH, ""));
        }
        Ok(match parts.uri.path() {
            "/large" => {
                let (sender, body) = streamed();
                for at in (0..LARGE).step_by(100_000) {
                    send(&sender, large().slice(at..LARGE.min(at + 100_000)));
                }
                with_body(200, FRESH, body)
            }
            "/middle" => response(200, FRESH, large().slice(..200_000)),
            _ => response(200, FRESH, "hello"),
        })
    })
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(read) = fs::read_dir(folder) else {
        return vec![folder.to_owned()];
    };
    read.flat_map(|entry| files(&entry.unwrap().path()))
        .collect()
}

async fn warm(folder: &Path) {
    let site = Site::open(origin(), config(Some(folder))).await;
    for path in ["/small", "/middle", "/large"] {
        site.get(path).await;
    }
    site.get_with("/small", &[("range", "bytes=0-0")]).await;
    site.settle().await;
    assert_eq!(site.counts().disk.stored_objects, 3);
    site.close().await;
}

#[tokio::test]
async fn what_is_stored_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    warm(folder.path()).await;
    let site = Site::open(origin(), config(Some(folder.path()))).await;
    assert_eq!(site.cache.statistics().disk_objects, 3);
    site.advance(10);
    for _ in 0..2 {
        for (path, body) in [
            ("/small", Bytes::from("hello")),
            ("/middle", large().slice(..200_000)),
            ("/large", large()),
        ] {
            let got = site.get(path).await;
            assert!(got.is_hit(), "{path}: {}", got.cache());
            assert!(got.body == body, "{path}");
            assert_eq!((got.field("age"), got.field("cache-tag")), ("10", ""));
        }
    }
    let part = site
        .get_with("/large", &[("range", "bytes=3000000-3000099,5000000-")])
        .await;
    assert_eq!(part.status, 206);
    assert!(
        part.body
            .windows(100)
            .any(|some| some == &large()[3_000_000..3_000_100])
    );
    assert_eq!(site.origin.count(), 0);
}

/// RFC 9111 section 4.3.4.
#[tokio::test]
async fn a_large_response_is_revalidated_without_being_fetched_or_written_again() {
    let folder = tempfile::tempdir().unwrap();
    warm(folder.path()).await;
    let site = Site::open(origin(), config(Some(folder.path()))).await;
    let bodies = files(&folder.path().join("bodies"));
    site.advance(61);
    assert_eq!(
        site.get("/large").await.cache(),
        "fwd=stale; fwd-status=304; stored"
    );
    site.settle().await;
    assert_eq!(files(&folder.path().join("bodies")), bodies);
    let got = site.get("/large").await;
    assert_eq!((got.cache(), got.body == large()), ("hit; ttl=60", true));
    site.close().await;
    let site = Site::open(origin(), config(Some(folder.path()))).await;
    site.advance(62);
    assert_eq!(site.get("/large").await.cache(), "hit; ttl=59");
}

#[tokio::test]
async fn what_a_killed_process_left_half_done_is_no_response_and_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    warm(folder.path()).await;
    let path = |name: &str| folder.path().join(name);
    let heads = files(&path("heads"));
    let bodies = files(&path("bodies"));
    assert_eq!((heads.len(), bodies.len()), (3, 2));
    // Killed while writing; before the head had its name; while the disk had no more of it.
    fs::write(path("tmp/half"), b"half").unwrap();
    let orphan = format!("bodies/ab/{}-{:016x}", "c".repeat(62), 1);
    fs::create_dir_all(path("bodies/ab")).unwrap();
    fs::create_dir_all(path("heads/ab")).unwrap();
    fs::write(path(&orphan), b"orphan").unwrap();
    fs::write(path("heads/ab/README"), b"not ours").unwrap();
    let torn = format!("heads/ab/{}", "d".repeat(62));
    fs::write(path(&torn), &fs::read(&heads[0]).unwrap()[..40]).unwrap();
    // A whole file in another's place.
    let misplaced = format!("heads/ab/{}", "e".repeat(62));
    fs::copy(&heads[0], path(&misplaced)).unwrap();

    let site = Site::open(origin(), config(Some(folder.path()))).await;
    for name in ["tmp/half", "heads/ab/README", &orphan, &torn, &misplaced] {
        assert!(!path(name).exists(), "{name}");
    }
    assert_eq!(
        (files(&path("heads")), files(&path("bodies"))),
        (heads, bodies)
    );
    assert_eq!(site.cache.statistics().disk_objects, 3);
}

#[tokio::test]
async fn a_file_that_was_changed_is_a_miss_and_never_a_wrong_answer() {
    for (path, part, at, fetched_by) in [
        ("/small", "heads", 70, 1),
        ("/small", "heads", -1, 1),
        ("/middle", "bodies", 5, 1),
        // Found while it is read: the first answer breaks off, the next is whole.
        ("/large", "bodies", 3_000_000, 2),
    ] {
        let folder = tempfile::tempdir().unwrap();
        {
            let site = Site::open(origin(), config(Some(folder.path()))).await;
            site.get(path).await;
            site.settle().await;
            site.close().await;
        }
        let file = &files(&folder.path().join(part))[0];
        let mut bytes = fs::read(file).unwrap();
        let at = usize::try_from(at).unwrap_or(bytes.len() - 1);
        bytes[at] ^= 1;
        fs::write(file, bytes).unwrap();

        let site = Site::open(origin(), config(Some(folder.path()))).await;
        let whole = if path == "/large" {
            large()
        } else {
            site.origin
                .send(Request::get(path).body(None).unwrap())
                .await
                .unwrap()
                .into_body()
                .collect()
                .await
                .unwrap()
                .to_bytes()
        };
        let before = site.origin.count();
        let mut requests = 0;
        loop {
            requests += 1;
            let response = site.begin(Method::GET, path, &[]).await.unwrap();
            match response.into_body().collect().await {
                Ok(body) => {
                    assert!(body.to_bytes() == whole, "{path} {at}");
                    break;
                }
                Err(_) => assert!(requests < fetched_by, "{path} {at}"),
            }
        }
        assert_eq!(
            (requests, site.origin.count() - before),
            (fetched_by, 1),
            "{path} {at}"
        );
        assert_eq!(site.cache.statistics().corrupt, 1);
        site.settle().await;
        assert!(site.get(path).await.is_hit());
    }
}

#[tokio::test]
async fn both_tiers_keep_their_bounds_and_evict() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(Some(folder.path()));
    config.memory = ByteSize::mb(2);
    config.disk.as_mut().unwrap().capacity = ByteSize::mb(8);
    let site = Site::open(origin(), config).await;
    for n in 0..60 {
        site.get(&format!("/small?{n}")).await;
        site.settle().await;
        assert_eq!(site.get(&format!("/middle?{n}")).await.status, 200);
        site.settle().await;
    }
    let statistics = site.cache.statistics();
    assert!(statistics.memory_bytes <= 2 << 20, "{statistics:?}");
    assert!(statistics.disk_bytes <= 8 << 20, "{statistics:?}");
    let used: u64 = files(folder.path())
        .iter()
        .map(|file| fs::metadata(file).unwrap().len())
        .sum();
    assert!(used <= 8 << 20, "{used}");
    assert!(used > 4 << 20, "{used}");
    let counts = site.counts();
    assert!(
        counts.disk.evicted_objects > 20 && counts.memory.evicted_objects > 20,
        "{counts:?}"
    );
    assert!(site.get("/middle?59").await.is_hit(), "the latest is there");
    site.cache.purge("site", &Purge::All, PurgeMode::Hard).await;
    site.cache.statistics();
    assert_eq!(
        site.cache.0.index.len(),
        0,
        "the index has no more than the tiers"
    );
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_of_what_goes_to_disk_holds_nobody_up() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::open(origin(), config(Some(folder.path()))).await;
    let slow = site.begin(Method::GET, "/large", &[]).await.unwrap();
    let begun = tokio::time::Instant::now();
    assert!(site.get("/large").await.body == large());
    site.settle().await;
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert!(got(slow).await.body == large(), "and loses nothing");
    assert!(site.get("/large").await.is_hit());
    assert_eq!(site.origin.count(), 1);
}

#[tokio::test]
async fn a_disk_that_fails_costs_hits_and_no_answers() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::open(origin(), config(Some(folder.path()))).await;
    fs::remove_dir_all(folder.path().join("tmp")).unwrap();
    for _ in 0..2 {
        assert_eq!(site.get("/small").await.text(), "hello");
        assert!(site.get("/large").await.body == large());
        site.settle().await;
    }
    assert!(site.get("/small").await.is_hit(), "memory has it");
    assert_eq!(site.origin.count(), 3);
    assert!(site.cache.statistics().disk_failures >= 3);
    assert_eq!(site.counts().disk.stored_objects, 0);
}

#[tokio::test]
async fn what_the_disk_has_no_room_for_streams_through() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(Some(folder.path()));
    config.disk.as_mut().unwrap().capacity = ByteSize::mb(16);
    let site = Site::open(origin(), config).await;
    for count in 1..3 {
        assert!(site.get("/large").await.body == large());
        site.settle().await;
        assert_eq!(site.origin.count(), count);
    }
    assert_eq!(files(folder.path()).len(), 1, "only the lock");
}

#[tokio::test]
async fn what_the_policy_calls_too_large_streams_through() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::open(origin(), config(Some(folder.path())))
        .await
        .with_policy(|policy| policy.max_object = ByteSize::mb(4));
    assert!(site.get("/large").await.body == large());
    site.settle().await;
    assert_eq!(files(folder.path()).len(), 1, "only the lock");
}

#[tokio::test]
async fn a_purge_holds_after_a_restart() {
    for how in [PurgeMode::Hard, PurgeMode::Soft] {
        let folder = tempfile::tempdir().unwrap();
        warm(folder.path()).await;
        {
            let site = Site::open(origin(), config(Some(folder.path()))).await;
            site.get("/small").await;
            let purged = site.cache.purge("site", &Purge::Tag("t".into()), how).await;
            assert_eq!(purged.objects, 3);
            site.close().await;
        }
        let site = Site::open(origin(), config(Some(folder.path()))).await;
        let (hard, stale) = (
            "fwd=uri-miss; fwd-status=200; stored",
            "fwd=stale; fwd-status=304; stored",
        );
        let expected = if how == PurgeMode::Hard { hard } else { stale };
        for path in ["/small", "/middle", "/large"] {
            assert_eq!(site.get(path).await.cache(), expected, "{path}");
        }
    }
}

#[tokio::test]
async fn a_folder_is_one_process_s_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let _site = Site::open(origin(), config(Some(folder.path()))).await;
    let error = Cache::open(config(Some(folder.path()))).await.unwrap_err();
    assert!(matches!(error, CacheError::InUse(_)), "{error}");
}

/// Variants are found again by what their resource varies by.
#[tokio::test]
async fn variants_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let fields = &[("cache-control", "max-age=60"), ("vary", "accept-language")];
    let open =
        async || Site::open(Origin::fixed(fields, "hello"), config(Some(folder.path()))).await;
    {
        let site = open().await;
        site.get_with("/x", &[("accept-language", "de")]).await;
        site.settle().await;
        site.close().await;
    }
    let site = open().await;
    assert!(
        site.get_with("/x", &[("accept-language", "DE")])
            .await
            .is_hit()
    );
    assert!(
        site.get_with("/x", &[("accept-language", "en")])
            .await
            .cache()
            .starts_with("fwd=vary-miss")
    );
}

/// RFC 9111 sections 4 and 4.1: the most recent response says by what a resource varies.
#[tokio::test]
async fn what_has_variants_by_now_is_not_found_on_disk_as_it_was_without() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::new(async |parts: Parts| {
        let fields = [("cache-control", "max-age=60"), ("vary", "accept-language")];
        Ok(match parts.headers.get("accept-language") {
            None => response(200, &fields[..1], "for all"),
            Some(_) => response(200, &fields, "for one"),
        })
    });
    let open = async || Site::open(origin.clone(), config(Some(folder.path()))).await;
    let german = ("accept-language", "de");
    {
        let site = open().await;
        site.get("/x").await;
        site.settle().await;
        site.advance(1);
        let anew = [("cache-control", "no-cache"), german];
        assert_eq!(site.get_with("/x", &anew).await.text(), "for one");
        site.settle().await;
        site.close().await;
    }
    let site = open().await;
    site.advance(1);
    let got = site.get_with("/x", &[german]).await;
    assert!(got.is_hit());
    assert_eq!(got.text(), "for one");
    let other = site.get_with("/x", &[("accept-language", "en")]).await;
    assert!(other.cache().starts_with("fwd=vary-miss"), "{other:?}");
}

#[tokio::test]
async fn what_was_asked_for_before_a_purge_does_not_get_to_disk() {
    for path in ["/small", "/large"] {
        let folder = tempfile::tempdir().unwrap();
        let senders = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&senders);
        let origin = Origin::new(move |_| {
            let (sender, body) = streamed();
            kept.lock().unwrap().push(sender);
            std::future::ready(Ok(with_body(200, FRESH, body)))
        });
        let site = Site::open(origin, config(Some(folder.path()))).await;
        let begun = site.begin(Method::GET, path, &[]).await.unwrap();
        let sender = senders.lock().unwrap().pop().unwrap();
        let size = if path == "/large" { LARGE } else { 5 };
        send(&sender, large().slice(..size - 1));
        site.cache.purge("site", &Purge::All, PurgeMode::Hard).await;
        send(&sender, large().slice(size - 1..size));
        drop(sender);
        assert!(got(begun).await.body == large().slice(..size));
        site.settle().await;
        assert_eq!(files(folder.path()).len(), 1, "only the lock: {path}");
    }
}

/// Two fetches of the same may end in another order than they began.
#[tokio::test]
async fn an_older_response_does_not_take_the_place_of_a_newer_one_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    {
        let site = Site::open(origin(), config(Some(folder.path()))).await;
        site.get("/small").await;
        site.settle().await;
        let shared = &site.cache.0;
        let disk = shared.disk.as_ref().unwrap();
        let uri = "http://site.example/small".parse().unwrap();
        let key = Key::of_request(
            "site",
            "",
            &site.policy.key,
            None,
            &uri,
            &http::HeaderMap::new(),
        );
        let Some(Slot::Response(stored)) = shared.memory.get(&key) else {
            panic!("it is in memory");
        };
        let mut older = stored.head.clone();
        older.freshness.received = Moment::from_millis(START - 1);
        let body = Bytes::from_static(b"older");
        disk.store(Document::Whole(&older, &body), shared.log.generation());
        let varying = stored::Varying {
            key: key.clone(),
            label: older.label,
            vary: [http::header::ACCEPT].into_iter().collect(),
            version: stored::version(),
            received: older.freshness.received,
        };
        disk.store(Document::Varying(&varying), shared.log.generation());
        // The same digest is no proof of the same key.
        let forged = Key {
            digest: key.digest,
            bytes: (*b"other").into(),
        };
        assert!(disk.load(&forged).is_none());
        site.close().await;
    }
    let site = Site::open(origin(), config(Some(folder.path()))).await;
    let got = site.get("/small").await;
    assert!(got.is_hit());
    assert_eq!(got.text(), "hello");
}

/// Who writes holds up purges, which wait without a thread of the runtime's, and nobody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_disk_that_hangs_keeps_purges_waiting_and_no_requests() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::open(origin(), config(Some(folder.path()))).await;
    let (writes, is_writing) = tokio::sync::oneshot::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let shared = Arc::clone(&site.cache.0);
    let hanging = std::thread::spawn(move || {
        let _writing = shared.log.writing();
        let _ = writes.send(());
        let _ = released.recv();
    });
    is_writing.await.unwrap();
    let purging = tokio::spawn({
        let site = site.clone();
        async move { site.cache.purge("site", &Purge::All, PurgeMode::Hard).await }
    });
    until(|| site.cache.0.log.generation() != Log::beginning()).await;
    let others = tokio::spawn({
        let site = site.clone();
        async move { site.get("/small").await.text().to_owned() }
    });
    let got = tokio::time::timeout(std::time::Duration::from_secs(20), others).await;
    assert_eq!(got.unwrap().unwrap(), "hello");
    assert!(!purging.is_finished());
    drop(release);
    hanging.join().unwrap();
    purging.await.unwrap();
    site.close().await;
}

/// A site with what an earlier run stored, which is not found yet.
async fn unscanned(folder: &Path) -> Site {
    let old = tempfile::tempdir().unwrap();
    warm(old.path()).await;
    let site = Site::open(origin(), config(Some(folder))).await;
    for file in files(old.path()) {
        let to = folder.join(file.strip_prefix(old.path()).unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(&file, to).unwrap();
    }
    site
}

#[tokio::test]
async fn what_is_found_after_a_purge_is_purged() {
    let folder = tempfile::tempdir().unwrap();
    let site = unscanned(folder.path()).await;
    let purge = Purge::Url("http://site.example/large".into());
    site.cache.purge("site", &purge, PurgeMode::Hard).await;
    site.cache.0.disk.as_ref().unwrap().scan();
    assert!(site.get("/small").await.is_hit());
    assert!(!site.get("/large").await.is_hit());
}

/// A node that is killed later does not find it either. Unsafe requests promise less, and do not wait.
#[tokio::test]
async fn a_purge_waits_until_all_is_found_that_an_earlier_run_stored() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = unscanned(folder.path()).await;
    let (scan, scanning) = watch::channel(());
    Arc::get_mut(&mut site.cache.0).unwrap().scanning = scanning;
    let before = site.cache.0.log.generation();
    let purging = tokio::spawn({
        let cache = site.cache.clone();
        async move { cache.purge("site", &Purge::All, PurgeMode::Hard).await }
    });
    until(|| site.cache.0.log.generation() != before).await;
    site.send(Method::POST, "/small", &[]).await;
    assert!(!purging.is_finished());
    let disk = Arc::clone(site.cache.0.disk.as_ref().unwrap());
    disk.scan();
    drop(scan);
    purging.await.unwrap();
    for part in ["heads", "bodies"] {
        assert!(files(&folder.path().join(part)).is_empty(), "{part}");
    }
}

/// Who reads from disk while it is purged was there after the purge was noted, and read what it takes.
#[tokio::test]
async fn what_was_read_from_disk_while_it_was_purged_does_not_come_back() {
    for how in [PurgeMode::Hard, PurgeMode::Soft] {
        let folder = tempfile::tempdir().unwrap();
        warm(folder.path()).await;
        let site = Site::open(origin(), config(Some(folder.path()))).await;
        let shared = &site.cache.0;
        let uri = "http://site.example/small".parse().unwrap();
        let (policy, headers) = (&site.policy.key, HeaderMap::new());
        let key = Key::of_request("site", "", policy, None, &uri, &headers);
        let slot = shared.disk.as_ref().unwrap().load(&key).unwrap();
        site.cache.purge("site", &Purge::All, how).await;
        let asked = shared.log.generation();
        let is_kept = shared.keep(&slot, asked, Comes::FromDisk);
        let Slot::Response(stored) = &slot else {
            panic!("it has no variants");
        };
        match how {
            PurgeMode::Hard => assert!(!is_kept && shared.memory.get(&key).is_none()),
            PurgeMode::Soft => assert!(is_kept && stored.marked().is_some()),
        }
    }
}
