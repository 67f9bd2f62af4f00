//! What is stored, while it is purged, after a restart, and after the node was killed in the midst of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use futures::future::join_all;
use tokio::time::{sleep, timeout};

use super::{
    origins::folder,
    server::{Server, Step, answer},
    site::{HOST, Setup, Site},
};
use crate::process::{Node, PATIENCE, Reply};

const FRESH: &str = "cache-control: max-age=600\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn after_a_purge_nobody_gets_what_was_there_before() {
    let version = Arc::new(AtomicU64::new(1));
    let current = Arc::clone(&version);
    let server = Server::start(move |heard, _| {
        let number = current.load(SeqCst);
        let fields = format!("{FRESH}cache-tag: all\r\n");
        let mut steps = answer(&fields, &format!("{number}\n"));
        if heard.target.starts_with("/slow") {
            // What was asked for before a purge, and comes after it.
            steps.insert(0, Step::Wait(Duration::from_millis(30)));
        }
        steps
    })
    .await;
    let site = Site::of(&server.url()).await;
    let (purged, stop, asked) = (AtomicU64::new(1), AtomicU64::new(0), AtomicU64::new(0));
    let node = &site.node;
    let clients = (0..16).map(|client| {
        let (purged, stop, asked) = (&purged, &stop, &asked);
        async move {
            let paths = ["/page", "/slow/page", "/page?b"];
            for number in client.. {
                if stop.load(SeqCst) == 1 {
                    return;
                }
                let least = purged.load(SeqCst);
                let path = paths[number % paths.len()];
                let reply = node.get_at(HOST, path).await;
                let got: u64 = reply.text().trim().parse().unwrap();
                assert!(
                    got >= least,
                    "{path}: {got} after {least} was purged: {reply:?}"
                );
                asked.fetch_add(1, SeqCst);
            }
        }
    });
    let purges = async {
        let ways: [&[&str]; 4] = [
            &["--all"],
            &["--tag", "all"],
            &["--prefix", "/"],
            &["--url", "/page", "--url", "/page?b", "--url", "/slow/page"],
        ];
        for round in 0..12 {
            let before = asked.load(SeqCst);
            while asked.load(SeqCst) < before + 100 {
                sleep(Duration::from_millis(1)).await;
            }
            let next = version.fetch_add(1, SeqCst) + 1;
            site.purge(ways[round % ways.len()]).await;
            purged.store(next, SeqCst);
        }
        stop.store(1, SeqCst);
    };
    timeout(2 * PATIENCE, async {
        tokio::join!(join_all(clients), purges)
    })
    .await
    .unwrap();
    // And it is a cache all the while: three objects a purge, and those that a purge overtook.
    let (asked, heard) = (asked.load(SeqCst), server.heard().len());
    assert!(
        asked >= 1200 && heard < 300,
        "{heard} of {asked} reached the server"
    );
}

/// RFC 5861 §3.
#[tokio::test(flavor = "multi_thread")]
async fn a_soft_purge_makes_stale_what_a_hard_one_takes_away() {
    let count = AtomicU64::new(0);
    let server = Server::start(move |_, _| {
        let number = count.fetch_add(1, SeqCst) + 1;
        let fields = "cache-control: max-age=600, stale-while-revalidate=600\r\n";
        answer(fields, &format!("{number}\n"))
    })
    .await;
    let site = Site::of(&server.url()).await;
    let get = async || site.node.get_at(HOST, "/page").await;
    assert_eq!(get().await.text(), "1\n");
    let fresh = get().await;
    assert!(fresh.header("cache-status").contains("hit"), "{fresh:?}");
    assert_eq!(site.purge(&["--url", "/page", "--soft"]).await, 1);
    let stale = get().await;
    assert_eq!(stale.text(), "1\n", "{stale:?}");
    timeout(PATIENCE, async {
        while get().await.text() != "2\n" {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
    assert_eq!(site.purge(&["--url", "/page"]).await, 1);
    assert_eq!(get().await.text(), "3\n");
}

/// The body of a path: its length is in it, and every byte follows from it.
fn body(path: &str) -> Vec<u8> {
    let (_, length) = path.rsplit_once('-').unwrap();
    let length: usize = length.parse().unwrap();
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        bytes.extend_from_slice(path.as_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A server of such bodies, in pieces.
async fn bodies() -> Server {
    Server::start(|heard, _| {
        let body = body(&heard.target);
        let length = body.len();
        let head = format!(
            "HTTP/1.1 200 OK\r\n{FRESH}etag: \"{length}\"\r\ncontent-length: {length}\r\n\r\n"
        );
        let pieces = body.chunks(length / 3 + 1).map(<[u8]>::to_vec);
        let pieces =
            pieces.flat_map(|piece| [Step::send(piece), Step::Wait(Duration::from_millis(2))]);
        [Step::send(head)].into_iter().chain(pieces).collect()
    })
    .await
}

/// Paths whose bodies are stored in each way that there is: with their heads, in files, in memory or not.
fn paths(count: usize) -> Vec<String> {
    let lengths = [10, 1000, 20_000, 100_000, 300_000, 1_500_000];
    (0..count)
        .map(|number| format!("/{number}-{}", lengths[number % lengths.len()]))
        .collect()
}

async fn get(node: &Node, path: &str) -> Reply {
    let reply = node.get_at(HOST, path).await;
    assert_eq!(reply.status.as_u16(), 200, "{path}: {reply:?}");
    assert!(
        reply.body == body(path),
        "{path}: {} bytes of something else",
        reply.body.len()
    );
    reply
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_is_served_after_a_restart_without_asking_the_server() {
    let server = bodies().await;
    // Less memory than what is stored.
    let settings = ["--cache-memory", "4 MB", "--cache-disk", "64 MB"];
    let setup = Setup {
        node: &settings,
        ..Setup::default()
    };
    let site = Site::with(&server.url(), setup).await;
    let paths = paths(60);
    // Not more at a time than there is room for what is being written: an eighth of the disk.
    for some in paths.chunks(4) {
        join_all(some.iter().map(|path| get(&site.node, path))).await;
    }
    // They are written behind the answers; the end waits for that.
    let site = site.again(Node::stop, &settings).await;
    for path in &paths {
        let reply = get(&site.node, path).await;
        assert!(
            reply.header("cache-status").starts_with("wharf; hit"),
            "{path}: {reply:?}"
        );
    }
    // Parts and conditions too.
    let range = site.node.request("GET", "/5-1500000").header("host", HOST);
    let part = Reply::of(range.header("range", "bytes=1000000-1000003")).await;
    assert_eq!(
        (part.status.as_u16(), &part.body[..]),
        (206, &body("/5-1500000")[1_000_000..1_000_004])
    );
    assert_eq!(server.heard().len(), paths.len());
    assert!(folder(&site.cache()) <= 64 << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_killed_while_it_stores_serves_nothing_that_is_not_whole() {
    let server = bodies().await;
    let settings = ["--cache-memory", "4 MB", "--cache-disk", "16 MB"];
    let setup = Setup {
        node: &settings,
        ..Setup::default()
    };
    let mut site = Site::with(&server.url(), setup).await;
    let (mut hits, paths) = (0, paths(90));
    for round in 0..5_u64 {
        // In another order each time, and for another while.
        let begun = {
            let node = &site.node;
            let requests = paths
                .iter()
                .cycle()
                .skip(usize::try_from(round).unwrap() * 17)
                .take(paths.len());
            join_all(requests.map(|path| async move {
                let request = node.request("GET", path).header("host", HOST);
                let _ = timeout(Duration::from_millis(40 + 60 * round), request.send()).await;
            }))
            .await
        };
        drop(begun);
        site = site.again(Node::kill, &settings).await;
        let stored = folder(&site.cache());
        assert!(stored <= 17 << 20, "{} KB on disk", stored >> 10);
        // Some are stored, which are whole.
        for path in paths
            .iter()
            .skip(usize::try_from(round).unwrap())
            .step_by(3)
        {
            let reply = get(&site.node, path).await;
            hits += usize::from(reply.header("cache-status").starts_with("wharf; hit"));
        }
    }
    assert!(hits > 0, "nothing outlived the node");
    let stored = folder(&site.cache());
    assert!(stored <= 17 << 20, "{} KB on disk", stored >> 10);
}
