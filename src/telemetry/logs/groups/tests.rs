use std::{fs, path::Path};

use super::{
    super::{Direction, Key, Level, LogLimits, OutputCapture, TailFrom},
    *,
};
use crate::model::{
    ApplicationLevel, ByteSize, FunctionName, InvocationRecord, LogFormat, LoggingConfig, Outcome,
    RequestId, Start, SystemLevel, Version,
};

const HOUR: u64 = 3600 * 1000;

fn open(folder: &Path) -> Logs {
    Logs::open(folder, LogLimits::default()).unwrap()
}

fn group(name: &str) -> LogGroupName {
    name.parse().unwrap()
}

fn hello() -> FunctionName {
    "hello".parse().unwrap()
}

fn record(request_id: RequestId, outcome: Outcome) -> InvocationRecord {
    InvocationRecord {
        request_id,
        outcome,
        duration: std::time::Duration::from_micros(1_234),
        init: None,
        cpu: std::time::Duration::from_micros(900),
        fuel: 4_711,
        peak_memory: 3 << 20,
        start: Start::Warm,
        host_calls: 0,
        bytes_in: 0,
        bytes_out: 0,
    }
}

/// Everything but what to choose.
fn every(direction: Direction, limit: usize) -> Query<'static> {
    Query {
        direction,
        from_ms: 0,
        until_ms: u64::MAX,
        limit,
        stream: &|_| true,
        search: None,
    }
}

fn messages(page: &Page) -> Vec<String> {
    let events = page.events.iter();
    events.map(|event| event.message.clone()).collect()
}

/// All messages of a group, in its order.
fn said(logs: &Logs, name: &str) -> Vec<String> {
    let query = every(Direction::Forward(Key::at(0)), 10_000);
    messages(&logs.read(&group(name), &query).unwrap())
}

/// A group `/app` with a stream `s`.
fn with_stream(logs: &Logs) -> LogGroupName {
    let name = group("/app");
    logs.create_group(&name, BTreeMap::new()).unwrap();
    logs.create_stream(&name, "s").unwrap();
    name
}

fn put(logs: &Logs, stream: &str, events: &[(u64, &str)]) {
    let events: Vec<(u64, String)> = events
        .iter()
        .map(|(ms, message)| (*ms, (*message).to_owned()))
        .collect();
    logs.put(&group("/app"), stream, &events).unwrap();
}

#[test]
fn groups_and_streams_are_made_listed_and_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let logs = open(folder.path());
    let name = with_stream(&logs);
    let again = logs.create_group(&name, BTreeMap::new());
    assert!(matches!(again, Err(LogsError::GroupExists)));
    let again = logs.create_stream(&name, "s");
    assert!(matches!(again, Err(LogsError::StreamExists)));
    put(&logs, "s", &[(now_ms(), "one")]);
    logs.set_retention(&name, Some(3)).unwrap();
    let tag = |tags: &mut BTreeMap<String, String>| {
        tags.insert("team".to_owned(), "edge".to_owned());
        Ok::<_, LogsError>(())
    };
    logs.set_tags(&name, tag).unwrap();
    drop(logs);

    // It is all there after a restart.
    let logs = open(folder.path());
    let [summary] = &logs.groups()[..] else {
        panic!("one group")
    };
    assert_eq!(summary.name, name);
    assert_eq!(summary.retention_days, Some(3));
    assert_eq!(summary.tags["team"], "edge");
    assert!(summary.bytes > 0 && summary.created_ms + HOUR > now_ms());
    let streams = logs.streams(&name).unwrap();
    assert_eq!((streams.len(), &*streams[0].name), (1, "s"));
    assert!(streams[0].events.is_some());
    assert_eq!(said(&logs, "/app"), ["one"]);

    logs.delete_group(&name).unwrap();
    assert!(matches!(logs.streams(&name), Err(LogsError::NoGroup)));
    assert!(logs.groups().is_empty());
    drop(logs);
    assert!(open(folder.path()).groups().is_empty());
}

#[test]
fn what_is_not_there_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let logs = open(folder.path());
    let none = group("/none");
    assert!(matches!(logs.delete_group(&none), Err(LogsError::NoGroup)));
    assert!(matches!(logs.put(&none, "s", &[]), Err(LogsError::NoGroup)));
    assert!(matches!(logs.follow(&[none]), Err(LogsError::NoGroup)));
    let name = with_stream(&logs);
    assert!(matches!(
        logs.put(&name, "t", &[]),
        Err(LogsError::NoStream)
    ));
    assert!(matches!(
        logs.delete_stream(&name, "t"),
        Err(LogsError::NoStream)
    ));
}

#[test]
fn a_functions_streams_are_called_as_lambda_calls_them() {
    let folder = tempfile::tempdir().unwrap();
    let logs = open(folder.path());
    let own = logs.function(&hello());
    let elsewhere = LoggingConfig {
        log_group: Some(group("/shared")),
        ..LoggingConfig::default()
    };
    let shared = logs.function_with(&hello(), &elsewhere);
    for (log, version) in [
        (&own, Version::Latest),
        (&own, Version::Published(12)),
        (&shared, Version::Latest),
    ] {
        log.platform(RequestId::generate(), version, Level::Info, "x");
        let id = RequestId::generate();
        log.report(version, ByteSize::mb(128), record(id, Outcome::Ok));
    }
    let today = jiff::Timestamp::now().strftime("%Y/%m/%d").to_string();
    let names = |name: &str| -> Vec<String> {
        let streams = logs.streams(&group(name)).unwrap();
        streams
            .iter()
            .map(|stream| stream.name.to_string())
            .collect()
    };
    let (own, shared) = (names("/aws/lambda/hello"), names("/shared"));
    let node = own[0].rsplit(']').next().unwrap();
    assert!(node.len() == 32 && node.bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert_eq!(
        own,
        [
            format!("{today}/[$LATEST]{node}"),
            format!("{today}/[12]{node}")
        ]
    );
    assert_eq!(shared, [format!("{today}/hello[$LATEST]{node}")]);
    // And the same after a restart, when they are found out from the files.
    drop(logs);
    let logs = open(folder.path());
    let found = logs.streams(&group("/aws/lambda/hello")).unwrap();
    assert_eq!(*found[0].name, own[0]);
    assert_eq!(found.len(), 2);
}

#[tokio::test]
async fn functions_that_share_a_group_are_read_apart() {
    let folder = tempfile::tempdir().unwrap();
    let logs = open(folder.path());
    let logging = LoggingConfig {
        log_group: Some(group("/shared")),
        ..LoggingConfig::default()
    };
    for name in ["one", "two"] {
        let log = logs.function_with(&name.parse().unwrap(), &logging);
        log.platform(RequestId::generate(), Version::Latest, Level::Info, name);
    }
    let mut tail = logs.tail(&"two".parse().unwrap(), TailFrom::Last(10), false);
    assert!(tail.next().await.unwrap().message.starts_with("START"));
    assert_eq!(tail.next().await.unwrap().message, "two");
    assert_eq!(tail.next().await, None);
    assert_eq!(said(&logs, "/shared").len(), 4);
}

#[test]
fn pages_go_both_ways_and_stand_still_when_nothing_is_new() {
    let folder = tempfile::tempdir().unwrap();
    // Small segments: a page goes over several.
    let limits = LogLimits {
        function: ByteSize::kb(64),
        ..LogLimits::default()
    };
    let logs = Logs::open(folder.path(), limits).unwrap();
    let name = with_stream(&logs);
    let start = now_ms() - HOUR;
    // Not in the order of time, and some at the same.
    for batch in [3_u64, 1, 0, 2, 4] {
        let texts: Vec<(u64, String)> = (0..50)
            .map(|number| {
                (
                    start + batch * 25 + number / 2,
                    format!("{batch}-{number:02} {}", "x".repeat(100)),
                )
            })
            .collect();
        logs.put(&name, "s", &texts).unwrap();
    }
    let whole = logs
        .read(&name, &every(Direction::Forward(Key::at(0)), 10_000))
        .unwrap();
    assert_eq!(whole.events.len(), 250);
    assert!(whole.events.is_sorted_by_key(|event| event.timestamp));
    assert!(!whole.more);

    let mut forward = Vec::new();
    let mut key = Key::at(0);
    loop {
        let page = logs
            .read(&name, &every(Direction::Forward(key), 7))
            .unwrap();
        if page.events.is_empty() {
            assert_eq!((page.forward, page.more), (key, false));
            break;
        }
        key = page.forward;
        forward.extend(page.events);
    }
    assert_eq!(forward, whole.events);

    let mut backward = Vec::new();
    let mut key = Key::at(u64::MAX);
    loop {
        let page = logs
            .read(&name, &every(Direction::Backward(key), 7))
            .unwrap();
        if page.events.is_empty() {
            assert_eq!(page.backward, key);
            break;
        }
        // Turning round gives the same page, and its keys survive being written down.
        let back = logs
            .read(
                &name,
                &every(Direction::Forward(page.backward), page.events.len()),
            )
            .unwrap();
        assert_eq!(back.events, page.events);
        key = page.backward.to_string().parse().unwrap();
        backward.splice(0..0, page.events);
    }
    assert_eq!(backward, whole.events);

    // What comes later is found from where the last page ended.
    let end = whole.forward;
    put(&logs, "s", &[(now_ms(), "new")]);
    let page = logs
        .read(&name, &every(Direction::Forward(end), 7))
        .unwrap();
    assert_eq!(messages(&page), ["new"]);
    for broken in ["", "1", &"x".repeat(56), &"9".repeat(57)] {
        assert!(broken.parse::<Key>().is_err());
    }
}

#[test]
fn a_page_is_chosen_by_time_stream_and_message() {
    let folder = tempfile::tempdir().unwrap();
    let logs = open(folder.path());
    let name = with_stream(&logs);
    logs.create_stream(&name, "t").unwrap();
    let start = now_ms() - HOUR;
    put(
        &logs,
        "s",
        &[(start, "a ERROR"), (start + 1, "b"), (start + 2, "c ERROR")],
    );
    put(&logs, "t", &[(start, "d ERROR"), (start + 3, "e ERROR")]);
    let error = |message: &str| message.contains("ERROR");
    let query = Query {
        search: Some(&error),
        ..every(Direction::Forward(Key::at(0)), 10)
    };
    let page = logs.read(&name, &query).unwrap();
    assert_eq!(
        messages(&page),
        ["a ERROR", "d ERROR", "c ERROR", "e ERROR"]
    );
    let only = |stream: &str| stream == "t";
    let page = logs
        .read(
            &name,
            &Query {
                stream: &only,
                ..query
            },
        )
        .unwrap();
    assert_eq!(messages(&page), ["d ERROR", "e ERROR"]);
    let page = logs
        .read(
            &name,
            &Query {
                from_ms: start + 1,
                until_ms: start + 3,
                search: None,
                ..query
            },
        )
        .unwrap();
    assert_eq!(messages(&page), ["b", "c ERROR"]);
    let ids: std::collections::HashSet<String> = page
        .events
        .iter()
        .map(|event| event.key.to_string())
        .collect();
    assert_eq!(ids.len(), 2);
}

#[test]
fn a_search_that_finds_little_comes_back_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let logs = open(folder.path());
    let name = with_stream(&logs);
    let text = "x".repeat(1000);
    let mut now = now_ms() - HOUR;
    for _ in 0..45 {
        let batch: Vec<(u64, String)> = (0..1000)
            .map(|number| (now + number, text.clone()))
            .collect();
        logs.put(&name, "s", &batch).unwrap();
        now += 1000;
    }
    put(&logs, "s", &[(now, "needle")]);
    let (mut key, mut pages) = (Key::at(0), 0);
    let found = loop {
        let query = Query {
            search: Some(&|message| message == "needle"),
            ..every(Direction::Forward(key), 100)
        };
        let page = logs.read(&name, &query).unwrap();
        pages += 1;
        if !page.more {
            break page;
        }
        assert!(page.events.is_empty() && page.forward > key);
        key = page.forward;
    };
    assert_eq!(messages(&found), ["needle"]);
    assert!(pages > 1);
}

#[test]
fn a_page_is_bounded_in_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let logs = open(folder.path());
    let name = with_stream(&logs);
    let text = "x".repeat(200_000);
    let now = now_ms();
    for number in 0..8 {
        put(&logs, "s", &[(now + number, &text)]);
    }
    let page = logs
        .read(&name, &every(Direction::Forward(Key::at(0)), 100))
        .unwrap();
    assert_eq!((page.events.len(), page.more), (5, true));
    let rest = logs
        .read(&name, &every(Direction::Forward(page.forward), 100))
        .unwrap();
    assert_eq!((rest.events.len(), rest.more), (3, false));
}

#[test]
fn events_are_not_seen_after_their_time() {
    let folder = tempfile::tempdir().unwrap();
    let logs = open(folder.path());
    let name = with_stream(&logs);
    let now = now_ms();
    put(
        &logs,
        "s",
        &[
            (now - 50 * HOUR, "old"),
            (now - 30 * HOUR, "older than a day"),
            (now, "new"),
        ],
    );
    assert_eq!(said(&logs, "/app").len(), 3);
    logs.set_retention(&name, Some(2)).unwrap();
    assert_eq!(said(&logs, "/app"), ["older than a day", "new"]);
    logs.set_retention(&name, Some(1)).unwrap();
    assert_eq!(said(&logs, "/app"), ["new"]);
    let (first, _) = logs.streams(&name).unwrap()[0].events.unwrap();
    assert!(first >= now - 24 * HOUR);
    logs.set_retention(&name, None).unwrap();
    assert_eq!(said(&logs, "/app").len(), 3);
}

#[test]
fn files_go_with_their_retention_and_a_group_that_nobody_made_with_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let old = now_ms() - 30 * 24 * HOUR;
    for (name, meta) in [
        ("hello", format!(r#"{{"created_ms":{old}}}"#)),
        (
            "@app",
            format!(r#"{{"created_ms":{old},"made":true,"retention_days":1}}"#),
        ),
        ("@kept", r#"{"made":true,"retention_days":400}"#.to_owned()),
    ] {
        let folder = folder.path().join(name);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("group.json"), meta).unwrap();
        let segment = folder.join(format!("{old}.jsonl"));
        let line =
            format!(r#"{{"kind":"event","ms":{old},"ingested":{old},"to":"s","message":"m"}}"#);
        fs::write(&segment, format!("{line}\n")).unwrap();
        let file = fs::File::open(&segment).unwrap();
        let modified = std::time::UNIX_EPOCH + std::time::Duration::from_millis(old);
        file.set_modified(modified).unwrap();
    }
    let logs = open(folder.path());
    let groups = logs.groups();
    let names: Vec<(&str, bool)> = groups
        .iter()
        .map(|group| (group.name.as_str(), group.bytes > 0))
        .collect();
    assert_eq!(names, [("app", false), ("kept", true)]);
    assert_eq!(said(&logs, "kept"), ["m"]);
    assert!(!folder.path().join("hello").exists());
}

#[test]
fn a_deleted_stream_is_gone_from_the_disk_too_and_may_begin_anew() {
    let folder = tempfile::tempdir().unwrap();
    let logs = open(folder.path());
    let name = with_stream(&logs);
    logs.create_stream(&name, "t").unwrap();
    let now = now_ms();
    put(&logs, "s", &[(now, "secret one")]);
    put(&logs, "t", &[(now + 1, "stays")]);
    put(&logs, "s", &[(now + 2, "secret two")]);
    let before = logs
        .read(&name, &every(Direction::Forward(Key::at(now + 1)), 1))
        .unwrap();
    logs.delete_stream(&name, "s").unwrap();
    assert_eq!(said(&logs, "/app"), ["stays"]);
    // The others stand where they stood.
    let after = logs
        .read(&name, &every(Direction::Forward(Key::at(0)), 1))
        .unwrap();
    assert_eq!(after.events, before.events);
    for entry in fs::read_dir(folder.path().join("@+app")).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        assert!(!text.contains("secret"), "{text}");
    }
    assert!(!logs.has_stream(&name, "s").unwrap());
    logs.create_stream(&name, "s").unwrap();
    put(&logs, "s", &[(now, "again")]);
    assert_eq!(said(&logs, "/app"), ["again", "stays"]);
    drop(logs);
    assert_eq!(said(&open(folder.path()), "/app"), ["again", "stays"]);
}

#[test]
fn a_stream_whose_wiping_was_cut_short_stays_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let logs = open(folder.path());
    let name = with_stream(&logs);
    put(&logs, "s", &[(now_ms(), "secret")]);
    let segment = fs::read_dir(folder.path().join("@+app"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|is| is == "jsonl"))
        .unwrap();
    let text = fs::read(&segment).unwrap();
    logs.delete_stream(&name, "s").unwrap();
    drop(logs);
    fs::write(segment, text).unwrap();
    let logs = open(folder.path());
    assert!(said(&logs, "/app").is_empty());
    assert!(logs.streams(&name).unwrap().is_empty());
}

#[test]
fn garbage_in_the_folder_costs_what_it_replaced_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let logs = open(folder.path());
    let name = with_stream(&logs);
    put(&logs, "s", &[(now_ms(), "before")]);
    drop(logs);
    let group = folder.path().join("@+app");
    for file in fs::read_dir(&group).unwrap() {
        let path = file.unwrap().path();
        let mut text = fs::read(&path).unwrap();
        text.extend_from_slice(b"\xff\xfe\0garbage\n{\"kind\":\"event\",\"ms\":18446744073709551615,\"ingested\":1,\"to\":\"s\",\"message\":\"never\"}\n");
        text.extend(vec![0; 9 << 20]);
        fs::write(&path, text).unwrap();
    }
    fs::write(group.join("notes.txt"), "hello").unwrap();
    fs::write(group.join(".tmpAbC"), "half").unwrap();
    fs::write(group.join("99999999999999999999999.jsonl"), "{}").unwrap();
    fs::create_dir_all(folder.path().join(".deleted-1/x")).unwrap();
    fs::create_dir(folder.path().join("@a b")).unwrap();
    fs::write(folder.path().join(".node"), "not a name").unwrap();
    let logs = open(folder.path());
    put(&logs, "s", &[(now_ms(), "after")]);
    assert_eq!(said(&logs, "/app"), ["before", "after"]);
    assert_eq!(logs.groups().len(), 1);
    assert!(logs.streams(&name).is_ok());
    assert!(!folder.path().join(".deleted-1").exists() && !group.join(".tmpAbC").exists());
}

#[test]
fn a_disk_that_fails_refuses_what_somebody_puts() {
    let folder = tempfile::tempdir().unwrap();
    let logs = open(folder.path());
    let name = with_stream(&logs);
    let path = folder.path().join("@+app");
    let aside = folder.path().join("aside");
    fs::rename(&path, &aside).unwrap();
    fs::write(&path, "a file where the folder should be").unwrap();
    let refused = logs.put(&name, "s", &[(now_ms(), "lost".to_owned())]);
    assert!(matches!(refused, Err(LogsError::Disk(_))));
    assert!(matches!(
        logs.set_retention(&name, Some(1)),
        Err(LogsError::Disk(_))
    ));
    assert_eq!(logs.groups()[0].retention_days, None);
    fs::remove_file(&path).unwrap();
    fs::rename(&aside, &path).unwrap();
    put(&logs, "s", &[(now_ms(), "kept")]);
    assert_eq!(said(&logs, "/app"), ["kept"]);
}

#[tokio::test]
async fn who_follows_groups_hears_them_all_until_they_are_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let logs = open(folder.path());
    let app = with_stream(&logs);
    let own = LogGroupName::of_function(&hello());
    logs.create_group(&own, BTreeMap::new()).unwrap();
    let mut live = logs.follow(&[app.clone(), own.clone()]).unwrap();
    put(&logs, "s", &[(now_ms(), "put")]);
    logs.function(&hello())
        .platform(RequestId::generate(), Version::Latest, Level::Info, "said");
    logs.flush();
    let first = live.next().await.unwrap();
    assert_eq!((first.group.as_ref(), &*first.stream), (Some(&app), "s"));
    assert_eq!(first.line.message, "put");
    let start = live.next().await.unwrap();
    assert!(start.stream.contains("/[$LATEST]"), "{start:?}");
    assert_eq!(live.next().await.unwrap().line.message, "said");
    logs.delete_group(&app).unwrap();
    logs.delete_group(&own).unwrap();
    assert!(live.next().await.is_none());
}

/// What an invocation leaves that prints something of every kind.
fn json_log(
    application: Option<ApplicationLevel>,
    system: Option<SystemLevel>,
) -> Vec<serde_json::Value> {
    let folder = tempfile::tempdir().unwrap();
    let logs = open(folder.path());
    let logging = LoggingConfig {
        log_format: LogFormat::Json,
        application_level: application,
        system_level: system,
        log_group: None,
    };
    let log = logs.function_with(&hello(), &logging);
    let mut capture = OutputCapture::new(Arc::clone(&log));
    for outcome in [Outcome::Ok, Outcome::Timeout] {
        let id = RequestId::generate();
        capture.begin(id, Version::Latest, ByteSize::kb(256));
        capture.stdout(
            b"plain\n{\"level\":\"debug\",\"n\":1}\n{\"level\":\"ERROR\",\"n\":2}\n{broken\n",
        );
        capture.log(Level::Critical, "db", "{\"x\":1}");
        capture.end();
        log.platform(id, Version::Latest, Level::Error, "why");
        log.report(Version::Latest, ByteSize::mb(128), record(id, outcome));
    }
    said(&logs, "/aws/lambda/hello")
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_json_log_has_a_document_a_line() {
    let lines = json_log(Some(ApplicationLevel::Trace), Some(SystemLevel::Debug));
    assert_eq!(lines.len(), 16, "{lines:#?}");
    assert_eq!(lines[0]["type"], "platform.start");
    assert_eq!(lines[0]["record"]["version"], "$LATEST");
    assert_eq!(lines[1]["message"], "plain");
    assert_eq!(lines[1]["level"], "INFO");
    assert_eq!(lines[1]["requestId"], lines[0]["record"]["requestId"]);
    let time = lines[1]["timestamp"].as_str().unwrap();
    assert!(time.ends_with('Z') && time.len() == 24, "{time}");
    assert_eq!(lines[2], serde_json::json!({"level": "debug", "n": 1}));
    assert_eq!(lines[4]["message"], "{broken");
    assert_eq!(
        (&lines[5]["level"], &lines[5]["message"]),
        (&"FATAL".into(), &"db: {\"x\":1}".into())
    );
    assert_eq!(lines[6]["message"], "why");
    assert_eq!(lines[7]["type"], "platform.report");
    assert_eq!(lines[7]["record"]["status"], "success");
    assert_eq!(lines[7]["record"]["metrics"]["durationMs"], 1.234);
    assert_eq!(lines[7]["record"]["metrics"]["memorySizeMB"], 128);
    assert_eq!(lines[15]["record"]["status"], "timeout");
}

#[test]
fn lines_below_the_levels_are_left_out() {
    // INFO is what both are if nothing is said.
    assert_eq!(json_log(None, None).len(), 14);
    let lines = json_log(Some(ApplicationLevel::Error), Some(SystemLevel::Warn));
    // Two lines of the function and the node's, twice; of the reports that of the one that failed.
    assert_eq!(lines.len(), 7, "{lines:#?}");
    assert!(lines.iter().all(|line| line["type"] != "platform.start"));
    assert_eq!(lines[6]["record"]["status"], "timeout");
    assert_eq!(json_log(Some(ApplicationLevel::Fatal), None).len(), 8);
}

#[test]
fn what_is_left_out_costs_nothing_of_the_budget() {
    let folder = tempfile::tempdir().unwrap();
    let logs = open(folder.path());
    let logging = LoggingConfig {
        log_format: LogFormat::Json,
        ..LoggingConfig::default()
    };
    let mut capture = OutputCapture::new(logs.function_with(&hello(), &logging));
    capture.begin(RequestId::generate(), Version::Latest, ByteSize::kb(1));
    for _ in 0..1000 {
        capture.log(Level::Debug, "", "something long that nobody wants to read");
    }
    capture.log(Level::Error, "", "the end");
    capture.end();
    let lines = said(&logs, "/aws/lambda/hello");
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[1].contains("the end"));
}
