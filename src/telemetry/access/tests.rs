use std::{
    fs::{self, File},
    io::Read as _,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const USUAL: &str = "/a?b=c";

/// A request that has all there is.
fn with<'a>(
    target: &'a Uri,
    host: &'a [u8],
    referer: Option<&'a [u8]>,
    user_agent: Option<&'a [u8]>,
) -> Entry<'a> {
    Entry {
        time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_000_000_000_007),
        client: "2001:db8::1".parse().unwrap(),
        method: &Method::GET,
        target,
        protocol: Version::HTTP_11,
        host,
        referer,
        user_agent,
        tls: Some("TLSv1.3"),
        request_id: serde_json::from_str("\"6f1d2c3b-0a98-4765-8432-10fedcba9876\"").unwrap(),
        status: Some(StatusCode::OK),
        outcome: Outcome::Ok,
        bytes: 1234,
        first_byte: Some(Duration::from_micros(250)),
        duration: Duration::from_millis(2),
        function: None,
        distribution: Some("site"),
        behaviour: Some("/a*"),
        cache: Some(CacheResult::Miss),
        origin: Some("main"),
        origin_time: Some(Duration::from_micros(200)),
    }
}

fn line(format: AccessFormat, entry: &Entry<'_>) -> String {
    String::from_utf8(Pen::default().line(format, entry).to_vec()).unwrap()
}

#[test]
fn a_json_line_has_everything_that_is_known() {
    let target = Uri::from_static(USUAL);
    let entry = with(&target, b"site.example", None, Some(b"curl/8"));
    let document: Value = serde_json::from_str(&line(AccessFormat::Json, &entry)).unwrap();
    let expected = json!({
        "time": "2001-09-09T01:46:40.007Z",
        "client": "2001:db8::1",
        "method": "GET",
        "target": "/a?b=c",
        "protocol": "HTTP/1.1",
        "host": "site.example",
        "status": 200,
        "outcome": "ok",
        "bytes": 1234,
        "duration_us": 2000,
        "first_byte_us": 250,
        "request_id": "6f1d2c3b-0a98-4765-8432-10fedcba9876",
        "distribution": "site",
        "behaviour": "/a*",
        "cache": "miss",
        "origin": "main",
        "origin_us": 200,
        "tls": "TLSv1.3",
        "user_agent": "curl/8",
    });
    assert_eq!(document, expected);
}

#[test]
fn the_other_formats_are_apaches() {
    let target = Uri::from_static(USUAL);
    let mut entry = with(&target, b"", Some(b"https://a.example/\"x\\"), None);
    let common = "2001:db8::1 - - [09/Sep/2001:01:46:40 +0000] \"GET /a?b=c HTTP/1.1\" 200 1234";
    assert_eq!(line(AccessFormat::Common, &entry), format!("{common}\n"));
    assert_eq!(
        line(AccessFormat::Combined, &entry),
        format!("{common} \"https://a.example/\\\"x\\\\\" \"-\"\n")
    );
    (entry.status, entry.bytes, entry.protocol) = (None, 0, Version::HTTP_2);
    let target = Uri::from_static("https://site.example/a?b=c");
    entry.target = &target;
    let gone = line(AccessFormat::Common, &entry);
    assert!(gone.ends_with("\"GET /a?b=c HTTP/2.0\" - -\n"), "{gone}");
    // To a proxy, as it was written.
    entry.protocol = Version::HTTP_11;
    let gone = line(AccessFormat::Common, &entry);
    assert!(gone.contains("\"GET https://site.example/a?b=c HTTP/1.1\""));
}

#[test]
fn apache_writes_what_is_not_printable_as_c_does() {
    let target = Uri::from_static("/");
    let entry = with(
        &target,
        b"",
        Some(b"a\tb\x01\x7f\xff"),
        Some("é\n".as_bytes()),
    );
    let line = line(AccessFormat::Combined, &entry);
    let end = r#" "a\tb\x01\x7f\xff" "\xc3\xa9\n""#;
    assert!(line.trim_end().ends_with(end), "{line}");
}

#[test]
fn long_texts_are_cut_and_say_so() {
    let path = format!("/{}", "a".repeat(20_000));
    let target: Uri = path.parse().unwrap();
    let long = vec![b'x'; 5000];
    let entry = with(&target, &long, Some(&long), Some(&long));
    let text = line(AccessFormat::Json, &entry);
    let document: Value = serde_json::from_str(&text).unwrap();
    let length = |key: &str| document[key].as_str().unwrap().len();
    assert_eq!(length("target"), (16 << 10) + 3);
    assert_eq!((length("host"), length("user_agent")), (256 + 3, 2048 + 3));
    assert!(document["referer"].as_str().unwrap().ends_with("xx..."));
    // Where a character is cut in the middle, it is none.
    let long = "é".repeat(2000);
    let long = &long.as_bytes()[1..];
    let entry = with(&target, b"", Some(long), None);
    let document: Value = serde_json::from_str(&line(AccessFormat::Json, &entry)).unwrap();
    assert!(
        document["referer"]
            .as_str()
            .unwrap()
            .starts_with("\u{fffd}é")
    );
}

proptest! {
    /// The one promise that whoever reads the log relies on.
    #[test]
    fn whatever_a_client_sends_is_text_in_its_place(
        host in prop::collection::vec(any::<u8>(), 0..40),
        referer in prop::collection::vec(any::<u8>(), 0..200),
        agent in "\\PC{0,20}[\n\r\"\\\\\u{85}\u{2028}\u{2029}\u{9b}]{0,3}\\PC{0,20}",
    ) {
        let target = Uri::from_static(USUAL);
        let entry = with(&target, &host, Some(&referer), Some(agent.as_bytes()));
        let text = line(AccessFormat::Json, &entry);
        let text = text.strip_suffix('\n').unwrap();
        let breaks = |character: char| {
            character.is_control() || matches!(character, '\u{2028}' | '\u{2029}')
        };
        prop_assert!(!text.contains(breaks), "{text:?}");
        let document: Value = serde_json::from_str(text).unwrap();
        prop_assert_eq!(&document["user_agent"], &agent);
        prop_assert_eq!(&document["referer"], &*String::from_utf8_lossy(&referer));
        prop_assert_eq!(&document["distribution"], "site");

        let text = line(AccessFormat::Combined, &entry);
        let text = text.strip_suffix('\n').unwrap();
        prop_assert!(text.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{text:?}");
        // Whoever reads it finds three texts: those of quotes that no backslash stands before.
        let mut quotes = 0;
        let mut bytes = text.bytes();
        while let Some(byte) = bytes.next() {
            match byte {
                b'\\' => drop(bytes.next()),
                b'"' => quotes += 1,
                _ => {}
            }
        }
        prop_assert_eq!(quotes, 6);
    }
}

fn open(path: &Path) -> AccessLog {
    AccessLog::open(&AccessLogSettings {
        destination: Destination::File(path.to_owned()),
        format: AccessFormat::Common,
    })
    .unwrap()
}

fn write(log: &AccessLog, path: &str) {
    log.write(&with(&path.parse().unwrap(), b"", None, None));
}

/// Waits until a file has so many lines.
fn lines(path: &Path, count: usize) -> Vec<String> {
    let started = Instant::now();
    loop {
        let text = fs::read_to_string(path).unwrap_or_default();
        let lines: Vec<_> = text.lines().map(str::to_owned).collect();
        if lines.len() == count {
            return lines;
        }
        assert!(started.elapsed() < Duration::from_secs(10), "{lines:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_file_that_was_moved_away_is_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let log = open(&path);
    write(&log, "/one");
    assert!(lines(&path, 1)[0].contains("/one"));
    // As logrotate does with `nocreate`, and with `create`.
    let moved = folder.path().join("access.log.1");
    fs::rename(&path, &moved).unwrap();
    write(&log, "/two");
    assert!(lines(&path, 1)[0].contains("/two"));
    fs::rename(&path, &moved).unwrap();
    File::create(&path).unwrap();
    write(&log, "/three");
    assert!(lines(&path, 1)[0].contains("/three"));
    assert!(lines(&moved, 1)[0].contains("/two"));
    // With `copytruncate`.
    File::options()
        .write(true)
        .truncate(true)
        .open(&path)
        .unwrap();
    write(&log, "/four");
    assert!(lines(&path, 1)[0].contains("/four"));
    write(&log, "/five");
    drop(log);
    assert_eq!(
        lines(&path, 2).len(),
        2,
        "what is left is written at the end"
    );
}

#[test]
fn while_the_path_is_no_file_lines_go_where_they_went() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("logs/access.log");
    let error = AccessLog::open(&AccessLogSettings {
        destination: Destination::File(path.clone()),
        format: AccessFormat::Json,
    });
    let error = error.unwrap_err().to_string();
    assert!(error.contains(&*path.to_string_lossy()), "{error}");

    fs::create_dir(folder.path().join("logs")).unwrap();
    let log = open(&path);
    write(&log, "/one");
    lines(&path, 1);
    let moved = folder.path().join("moved");
    fs::rename(folder.path().join("logs"), &moved).unwrap();
    write(&log, "/two");
    lines(&moved.join("access.log"), 2);
    assert_eq!(log.lost(), 0);
}

#[test]
fn lines_that_cannot_be_written_are_counted() {
    let log = open(Path::new("/dev/full"));
    for _ in 0..3 {
        write(&log, "/");
    }
    log.close();
    assert_eq!(log.lost(), 3);
}

#[test]
fn a_destination_that_takes_nothing_holds_nobody_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &path, fifo, mode, 0).unwrap();
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap();
    let mut options = File::options();
    let mut reader = options.read(true).custom_flags(flags).open(&path).unwrap();
    let log = open(&path);
    let long = format!("/{}", "a".repeat(16_000));
    let started = Instant::now();
    for _ in 0..2000 {
        write(&log, &long);
    }
    assert!(started.elapsed() < Duration::from_secs(5));
    // Now somebody reads, to the end.
    let mut read = Vec::new();
    let lost = std::thread::scope(|scope| {
        let closing = scope.spawn(|| {
            log.close();
            let lost = log.lost();
            drop(log);
            lost
        });
        loop {
            match reader.read_to_end(&mut read) {
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) => panic!("{error}"),
            }
        }
        closing.join().unwrap()
    });
    let whole = read.iter().filter(|byte| **byte == b'\n').count();
    assert!((1000..2000).contains(&whole), "{whole}");
    assert_eq!(whole as u64 + lost, 2000);
}

#[test]
fn a_format_is_one_of_three() {
    for (text, format) in [
        ("json", AccessFormat::Json),
        ("common", AccessFormat::Common),
        ("combined", AccessFormat::Combined),
    ] {
        assert_eq!(text.parse(), Ok(format));
    }
    let error = "clf".parse::<AccessFormat>().unwrap_err().to_string();
    assert!(error.contains("`clf`") && error.contains("combined"));
}
