//! From an [`Entry`] to its line.
//!
//! What a client sent is never more than text in its place. In JSON, controls and what some readers take for the end of a line
//! are written `\u00XX`, and bytes that are not UTF-8 become U+FFFD. In Apache's formats a quote and a backslash get a
//! backslash before them, and what is not printable ASCII is written `\n`, `\t`, … or `\xhh`, as Apache does. Texts that are
//! longer than their bounds are cut, and end in `...`.

use std::{
    fmt::{self, Write as _},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::{StatusCode, Uri, Version};
use jiff::Timestamp;

use super::{AccessFormat, Entry};
use crate::model::address_text;

/// The most bytes of a target: as long as one may be that is served.
const TARGET: usize = 16 << 10;

/// The most bytes of a host.
const HOST: usize = 256;

/// The most bytes of any other text.
const TEXT: usize = 2048;

/// What ends a text that was cut.
const CUT: &str = "...";

/// What lines are written with: a buffer that is used again, and the last second as text.
#[derive(Debug, Default)]
pub(super) struct Pen {
    line: Vec<u8>,
    json: Clock,
    apache: Clock,
}

impl Pen {
    /// The line of an entry, with its end.
    pub(super) fn line(&mut self, format: AccessFormat, entry: &Entry<'_>) -> &[u8] {
        // One that was long should not stay so.
        self.line.clear();
        self.line.shrink_to(4 * TEXT);
        match format {
            AccessFormat::Json => self.json(entry),
            AccessFormat::Common => self.common(entry),
            AccessFormat::Combined => {
                self.common(entry);
                let line = &mut self.line;
                line.push(b' ');
                quoted(line, entry.referer);
                line.push(b' ');
                quoted(line, entry.user_agent);
            }
        }
        self.line.push(b'\n');
        &self.line
    }

    fn json(&mut self, entry: &Entry<'_>) {
        let line = &mut self.line;
        let since = since(entry.time);
        line.extend_from_slice(b"{\"time\":\"");
        line.extend_from_slice(self.json.text(since.as_secs(), "%Y-%m-%dT%H:%M:%S"));
        let millis = 1000 + since.subsec_millis();
        line.push(b'.');
        line.extend_from_slice(&itoa::Buffer::new().format(millis).as_bytes()[1..]);
        line.extend_from_slice(b"Z\",\"client\":\"");
        line.extend_from_slice(address_text(entry.client).as_bytes());
        line.push(b'"');
        let mut object = Object(line);
        object.text("method", entry.method.as_str().as_bytes(), HOST);
        object.key("target");
        object.0.push(b'"');
        target(entry, |part, left| json(object.0, part, left));
        object.0.push(b'"');
        object.word("protocol", protocol(entry.protocol));
        object.text("host", entry.host, HOST);
        if let Some(status) = entry.status {
            object.number("status", status.as_u16().into());
        }
        object.word("outcome", entry.outcome.code());
        object.number("bytes", entry.bytes);
        object.time("duration_us", Some(entry.duration));
        object.time("first_byte_us", entry.first_byte);
        object.key("request_id");
        object.0.push(b'"');
        let id = entry.request_id;
        object
            .0
            .extend_from_slice(id.encode(&mut [0; 36]).as_bytes());
        object.0.push(b'"');
        for (key, text) in [
            ("function", entry.function),
            ("distribution", entry.distribution),
            ("behaviour", entry.behaviour),
        ] {
            if let Some(text) = text {
                object.text(key, text.as_bytes(), TEXT);
            }
        }
        if let Some(cache) = entry.cache {
            object.word("cache", cache.code());
        }
        if let Some(origin) = entry.origin {
            object.text("origin", origin.as_bytes(), TEXT);
        }
        object.time("origin_us", entry.origin_time);
        if let Some(tls) = entry.tls {
            object.word("tls", tls);
        }
        for (key, text) in [("referer", entry.referer), ("user_agent", entry.user_agent)] {
            if let Some(text) = text {
                object.text(key, text, TEXT);
            }
        }
        object.0.push(b'}');
    }

    /// `%h %l %u %t "%r" %>s %b`, as Apache's manual has it.
    fn common(&mut self, entry: &Entry<'_>) {
        let line = &mut self.line;
        line.extend_from_slice(address_text(entry.client).as_bytes());
        line.extend_from_slice(b" - - [");
        let second = since(entry.time).as_secs();
        line.extend_from_slice(self.apache.text(second, "%d/%b/%Y:%H:%M:%S +0000"));
        line.extend_from_slice(b"] \"");
        apache(line, entry.method.as_str().as_bytes(), HOST);
        line.push(b' ');
        target(entry, |part, left| apache(line, part, left));
        line.push(b' ');
        line.extend_from_slice(protocol(entry.protocol).as_bytes());
        line.extend_from_slice(b"\" ");
        match entry.status.as_ref().map(StatusCode::as_str) {
            Some(status) => line.extend_from_slice(status.as_bytes()),
            None => line.push(b'-'),
        }
        line.push(b' ');
        match entry.bytes {
            0 => line.push(b'-'),
            bytes => number(line, bytes),
        }
    }
}

/// The members of a JSON object after its first.
struct Object<'a>(&'a mut Vec<u8>);

impl Object<'_> {
    fn key(&mut self, key: &str) {
        self.0.extend_from_slice(b",\"");
        self.0.extend_from_slice(key.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    fn text(&mut self, key: &str, text: &[u8], most: usize) {
        self.key(key);
        self.0.push(b'"');
        json(self.0, text, most);
        self.0.push(b'"');
    }

    /// A text of ours, which needs no escape.
    fn word(&mut self, key: &str, word: &str) {
        self.key(key);
        self.0.push(b'"');
        self.0.extend_from_slice(word.as_bytes());
        self.0.push(b'"');
    }

    fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        number(self.0, value);
    }

    fn time(&mut self, key: &str, time: Option<Duration>) {
        if let Some(time) = time {
            self.number(key, u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
        }
    }
}

/// A text in quotes, as Apache writes it; `-` is none.
fn quoted(line: &mut Vec<u8>, text: Option<&[u8]>) {
    line.push(b'"');
    match text {
        Some(text) => drop(apache(line, text, TEXT)),
        None => line.push(b'-'),
    }
    line.push(b'"');
}

/// Writes a text into a JSON string, at most so many bytes of it. Answers how many it had.
fn json(line: &mut Vec<u8>, text: &[u8], most: usize) -> usize {
    let (text, is_cut) = cut(text, most);
    // Usual texts are plain from one end to the other.
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    let plain = text.iter().position(|byte| !is_plain(byte));
    let (plain, rest) = text.split_at(plain.unwrap_or(text.len()));
    line.extend_from_slice(plain);
    for chunk in rest.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' | '\\' => {
                    line.push(b'\\');
                    put(line, format_args!("{character}"));
                }
                // Ends of lines to some, orders to a terminal.
                _ if character.is_control() || matches!(character, '\u{2028}' | '\u{2029}') => {
                    put(line, format_args!("\\u{:04x}", u32::from(character)));
                }
                _ => put(line, format_args!("{character}")),
            }
        }
        if !chunk.invalid().is_empty() {
            line.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    if is_cut {
        line.extend_from_slice(CUT.as_bytes());
    }
    text.len()
}

/// Writes a text as Apache's `ap_escape_logitem` does, at most so many bytes of it. Answers how many it had.
fn apache(line: &mut Vec<u8>, text: &[u8], most: usize) -> usize {
    let (text, is_cut) = cut(text, most);
    for byte in text {
        match byte {
            b'"' | b'\\' => line.extend_from_slice(&[b'\\', *byte]),
            b' '..=b'~' => line.push(*byte),
            0x08 => line.extend_from_slice(b"\\b"),
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' => line.extend_from_slice(b"\\r"),
            b'\t' => line.extend_from_slice(b"\\t"),
            0x0b => line.extend_from_slice(b"\\v"),
            _ => put(line, format_args!("\\x{byte:02x}")),
        }
    }
    if is_cut {
        line.extend_from_slice(CUT.as_bytes());
    }
    text.len()
}

fn cut(text: &[u8], most: usize) -> (&[u8], bool) {
    match text.split_at_checked(most) {
        Some((text, rest)) if !rest.is_empty() => (text, true),
        _ => (text, false),
    }
}

/// Hands the parts of a target on as it was written, each with how much of it is still taken. HTTP/2 has its parts in fields
/// of their own, and there it is the path, as others log it.
fn target(entry: &Entry<'_>, mut write: impl FnMut(&[u8], usize) -> usize) {
    let uri: &Uri = entry.target;
    let path = uri.path_and_query().map_or("", |path| path.as_str());
    let whole = entry.protocol < Version::HTTP_2 || path.is_empty();
    let scheme = uri.scheme_str().filter(|_| whole);
    let authority = uri.authority().filter(|_| whole);
    let mut left = TARGET;
    for part in [
        scheme.unwrap_or(""),
        scheme.map_or("", |_| "://"),
        authority.map_or("", |authority| authority.as_str()),
        path,
    ] {
        if !part.is_empty() && left > 0 {
            left -= write(part.as_bytes(), left);
        }
    }
}

/// As Apache calls them, and `SERVER_PROTOCOL`.
fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}

fn number(line: &mut Vec<u8>, number: u64) {
    line.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn put(line: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    use std::io::Write as _;
    // Writing to a vector does not fail.
    let _ = line.write_fmt(text);
}

fn since(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A second as text, kept until it is another one.
#[derive(Debug, Default)]
struct Clock {
    second: Option<u64>,
    text: String,
}

impl Clock {
    fn text(&mut self, second: u64, format: &str) -> &[u8] {
        if self.second != Some(second) {
            self.text.clear();
            let time = i64::try_from(second).ok();
            let time = time.and_then(|second| Timestamp::from_second(second).ok());
            // No time that a clock shows is out of range.
            let time = time.unwrap_or(Timestamp::UNIX_EPOCH);
            let _ = write!(self.text, "{}", time.strftime(format));
            self.second = Some(second);
        }
        self.text.as_bytes()
    }
}
