use std::{fs, sync::atomic::Ordering};

use super::*;
use crate::model::{InvocationRecord, Outcome, RequestId, Start, Version};

fn open(folder: &std::path::Path) -> Logs {
    Logs::open(folder, LogLimits::default()).unwrap()
}

fn hello() -> FunctionName {
    "hello".parse().unwrap()
}

fn record(request_id: RequestId) -> InvocationRecord {
    InvocationRecord {
        request_id,
        outcome: Outcome::Ok,
        duration: Duration::from_micros(1_234),
        init: None,
        cpu: Duration::from_micros(900),
        fuel: 4_711,
        peak_memory: 3 << 20,
        start: Start::Warm,
        host_calls: 0,
        bytes_in: 0,
        bytes_out: 0,
    }
}

/// The files that have the lines of a group, oldest first.
fn segments(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut segments: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|is| is == "jsonl"))
        .collect();
    segments.sort();
    segments
}

async fn all(logs: &Logs, from: TailFrom) -> Vec<LogLine> {
    let mut tail = logs.tail(&hello(), from, false);
    let mut lines = Vec::new();
    while let Some(line) = tail.next().await {
        lines.push(line);
    }
    lines
}

fn messages(lines: &[LogLine]) -> Vec<&str> {
    lines.iter().map(|line| line.message.as_str()).collect()
}

#[tokio::test]
async fn an_invocation_leaves_the_lines_that_lambda_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let logs = open(folder.path());
    let log = logs.function(&hello());
    let id = RequestId::generate();
    log.report(
        Version::Latest,
        ByteSize::mb(128),
        InvocationRecord {
            init: Some(Duration::from_micros(10_020)),
            start: Start::Cold,
            ..record(id)
        },
    );
    let lines = all(&logs, TailFrom::Last(10)).await;
    assert_eq!(
        messages(&lines),
        [
            format!("START RequestId: {id} Version: $LATEST"),
            format!("END RequestId: {id}"),
            format!(
                "REPORT RequestId: {id}\tDuration: 1.23 ms\tBilled Duration: 12 ms\tMemory Size: 128 MB\t\
                 Max Memory Used: 3 MB\tInit Duration: 10.02 ms\tCPU: 0.90 ms\tFuel: 4711\tStart: cold\tOutcome: ok\t"
            ),
        ]
    );
}

#[tokio::test]
async fn output_comes_between_start_and_end_and_carries_its_request_id() {
    let folder = tempfile::tempdir().unwrap();
    let logs = open(folder.path());
    let log = logs.function(&hello());
    let mut capture = OutputCapture::new(Arc::clone(&log));
    let id = RequestId::generate();
    capture.begin(id, Version::Published(3), ByteSize::kb(256));
    capture.stdout(b"first\nsec");
    capture.stderr(b"oh");
    capture.stdout(b"ond\n\nlast");
    capture.log(Level::Warn, "db", "slow\nvery");
    capture.end();
    capture.stdout(b"nobody's\n");
    log.report(Version::Published(3), ByteSize::mb(128), record(id));

    let lines = all(&logs, TailFrom::Last(100)).await;
    assert_eq!(
        messages(&lines)[1..7],
        ["first", "second", "", "db: slow\nvery", "last", "oh"]
    );
    assert_eq!(
        lines[0].message,
        format!("START RequestId: {id} Version: 3")
    );
    assert!(lines[7].message.starts_with("END"));
    assert!(lines[8].message.starts_with("REPORT"));
    assert_eq!(lines.len(), 9);
    let id = id.to_string();
    assert!(
        lines
            .iter()
            .all(|line| line.request_id.as_ref() == Some(&id))
    );
    assert_eq!(lines[4].level, Some(Level::Warn));
    assert_eq!(lines[6].stream, Stream::Stderr);
}

#[tokio::test]
async fn an_invocation_that_floods_its_log_is_cut_and_told_once() {
    let folder = tempfile::tempdir().unwrap();
    let logs = open(folder.path());
    let mut capture = OutputCapture::new(logs.function(&hello()));
    for flood in [&b"0123456789\n"[..], b"0123456789", b"\n", "é".as_bytes()] {
        capture.begin(RequestId::generate(), Version::Latest, ByteSize::kb(1));
        for _ in 0..10_000 {
            capture.stdout(flood);
        }
        capture.end();
    }
    let lines = all(&logs, TailFrom::Last(10_000)).await;
    let told = lines
        .iter()
        .filter(|line| line.message.starts_with("truncated: "));
    assert_eq!(told.count(), 4);
    let printed: usize = lines
        .iter()
        .filter(|line| line.stream == Stream::Stdout)
        .map(|line| line.message.len())
        .sum();
    assert!(printed <= 4 * 1024 + 8, "{printed}");
}

#[tokio::test]
async fn a_line_without_an_end_is_cut_between_characters() {
    let folder = tempfile::tempdir().unwrap();
    let logs = open(folder.path());
    let mut capture = OutputCapture::new(logs.function(&hello()));
    capture.begin(RequestId::generate(), Version::Latest, ByteSize::mb(1));
    let text = format!("x{}", "é".repeat(MAX_LINE));
    for piece in text.as_bytes().chunks(777) {
        capture.stdout(piece);
    }
    capture.end();
    let lines = all(&logs, TailFrom::Last(100)).await;
    let printed: String = lines[1..]
        .iter()
        .map(|line| line.message.as_str())
        .collect();
    assert_eq!(printed, text);
    assert!(lines.iter().all(|line| line.message.len() <= MAX_LINE));
}

#[tokio::test]
async fn a_log_survives_a_restart_and_a_torn_line() {
    let folder = tempfile::tempdir().unwrap();
    let say = |text: &str| {
        let logs = open(folder.path());
        let id = RequestId::generate();
        logs.function(&hello())
            .platform(id, Version::Latest, Level::Error, text);
    };
    say("before");
    let segment = segments(&folder.path().join("hello")).remove(0);
    let mut torn = fs::read(&segment).unwrap();
    torn.extend_from_slice(b"{\"kind\":\"line\",\"ms\":12");
    fs::write(&segment, torn).unwrap();
    say("after");
    let logs = open(folder.path());
    let lines = all(&logs, TailFrom::Since(0)).await;
    let said: Vec<_> = messages(&lines)
        .into_iter()
        .filter(|message| !message.starts_with("START"))
        .collect();
    assert_eq!(said, ["before", "after"]);
}

#[tokio::test]
async fn a_reader_that_follows_gets_what_was_and_what_comes_once_each() {
    let folder = tempfile::tempdir().unwrap();
    let logs = open(folder.path());
    let log = logs.function(&hello());
    let id = RequestId::generate();
    let say = |number: u32| log.platform(id, Version::Latest, Level::Info, number.to_string());
    for number in 0..50 {
        say(number);
    }
    let mut tail = logs.tail(&hello(), TailFrom::Last(20), true);
    let mut next = 30;
    while next < 60 {
        let line = tail.next().await.unwrap();
        if line.message.starts_with("START") {
            continue;
        }
        assert_eq!(line.message, next.to_string());
        next += 1;
        if next >= 50 {
            say(next);
        }
    }
}

#[tokio::test]
async fn a_slow_reader_is_told_how_much_it_missed() {
    let folder = tempfile::tempdir().unwrap();
    let logs = open(folder.path());
    let log = logs.function(&hello());
    let mut tail = logs.tail(&hello(), TailFrom::Last(0), true);
    // The reader is there when its history has ended: ask for the first line, then be slow.
    let id = RequestId::generate();
    loop {
        log.platform(id, Version::Latest, Level::Info, "ready?");
        let line = tokio::time::timeout(Duration::from_millis(200), tail.next()).await;
        if line.is_ok() {
            break;
        }
    }
    for number in 0..20_000 {
        log.platform(id, Version::Latest, Level::Info, number.to_string());
        if number % 5_000 == 0 {
            logs.flush();
        }
    }
    logs.flush();
    let (mut read, mut missed) = (0, 0);
    while let Ok(Some(line)) = tokio::time::timeout(Duration::from_millis(500), tail.next()).await {
        match line.message.split_once(" log entries were dropped") {
            Some((count, _)) => missed += count.parse::<u64>().unwrap(),
            None => read += u64::from(line.message.parse::<u32>().is_ok()),
        }
    }
    assert!(missed > 0);
    assert_eq!(read + missed, 20_000);
}

#[tokio::test]
async fn what_comes_faster_than_it_is_written_is_dropped_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let logs = open(folder.path());
    let log = logs.function(&hello());
    // Hold the disk, so that nothing is written meanwhile.
    let disk = lock(&logs.shared.disk);
    for _ in 0..BUFFERED_ENTRIES + 17 {
        log.report(
            Version::Latest,
            ByteSize::mb(128),
            record(RequestId::generate()),
        );
    }
    drop(disk);
    let lines = all(&logs, TailFrom::Last(1)).await;
    assert_eq!(messages(&lines), ["17 log entries were dropped here"]);
    assert_eq!(logs.stats().dropped.load(Ordering::Relaxed), 17);
}

#[test]
fn a_group_never_takes_more_disk_than_it_may() {
    let folder = tempfile::tempdir().unwrap();
    let limits = LogLimits {
        function: ByteSize::kb(64),
        total: ByteSize::kb(100),
        ..LogLimits::default()
    };
    let logs = Logs::open(folder.path(), limits).unwrap();
    let on_disk = |name: &str| -> u64 {
        fs::read_dir(folder.path().join(name))
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .sum()
    };
    for name in ["one", "two", "three"] {
        let log = logs.function(&name.parse().unwrap());
        for _ in 0..50 {
            for _ in 0..50 {
                let id = RequestId::generate();
                log.platform(id, Version::Latest, Level::Info, "x".repeat(100));
            }
            logs.flush();
        }
        assert!(on_disk(name) <= 80 << 10, "{}", on_disk(name));
    }
    let total = on_disk("one") + on_disk("two") + on_disk("three");
    assert!(total <= 120 << 10, "{total}");
}

#[tokio::test]
async fn a_disk_that_fails_costs_lines_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let logs = open(folder.path());
    fs::write(
        folder.path().join("hello"),
        "a file where the folder should be",
    )
    .unwrap();
    let log = logs.function(&hello());
    for _ in 0..3 {
        log.report(
            Version::Latest,
            ByteSize::mb(128),
            record(RequestId::generate()),
        );
        logs.flush();
    }
    assert_eq!(logs.stats().disk_errors.load(Ordering::Relaxed), 3);
    assert!(all(&logs, TailFrom::Last(9)).await.is_empty());
    fs::remove_file(folder.path().join("hello")).unwrap();
    log.report(
        Version::Latest,
        ByteSize::mb(128),
        record(RequestId::generate()),
    );
    assert_eq!(all(&logs, TailFrom::Last(9)).await.len(), 3);
}

#[tokio::test]
async fn the_log_of_a_removed_function_stays_and_its_readers_end() {
    let folder = tempfile::tempdir().unwrap();
    let logs = open(folder.path());
    let report = || {
        logs.function(&hello()).report(
            Version::Latest,
            ByteSize::mb(128),
            record(RequestId::generate()),
        );
    };
    report();
    let mut tail = logs.tail(&hello(), TailFrom::Last(1), true);
    assert!(tail.next().await.unwrap().message.starts_with("REPORT"));
    logs.forget(&hello());
    assert_eq!(tail.next().await, None);
    assert_eq!(all(&logs, TailFrom::Last(9)).await.len(), 3);
    report();
    assert_eq!(all(&logs, TailFrom::Last(9)).await.len(), 6);
}

/// Prints what the request path pays. Run it with `--ignored --nocapture`, optimised.
#[test]
#[ignore = "a measurement"]
fn what_a_report_costs() {
    let folder = tempfile::tempdir().unwrap();
    let logs = open(folder.path());
    let log = logs.function(&hello());
    let metrics = crate::telemetry::metrics::Metrics::new().function(&hello());
    let template = record(RequestId::generate());
    for round in 0..3 {
        let (mut log_time, mut metrics_time) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..20 {
            let start = std::time::Instant::now();
            for _ in 0..2_500 {
                log.report(Version::Latest, ByteSize::mb(128), template.clone());
            }
            log_time += start.elapsed();
            let start = std::time::Instant::now();
            for _ in 0..2_500 {
                metrics.record(&template);
            }
            metrics_time += start.elapsed();
            std::thread::sleep(Duration::from_millis(60));
        }
        println!(
            "round {round}: log {} ns, metrics {} ns an invocation",
            log_time.as_nanos() / 50_000,
            metrics_time.as_nanos() / 50_000
        );
        let start = std::time::Instant::now();
        for _ in 0..2_500 {
            log.report(Version::Latest, ByteSize::mb(128), template.clone());
        }
        logs.flush();
        println!(
            "encode and write: {} ns an invocation",
            start.elapsed().as_nanos() / 2_500
        );
    }
}
