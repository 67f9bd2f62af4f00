//! What hooks answer, of any bytes. The first line is what a hook makes of a request: method, scheme, authority, path and query, with a
//! space between; the second a status. Each line that follows changes the header fields of both, until an empty one: `name: value` adds
//! one, `=name: value` puts it in the place of those of its name, `-name` removes them, `!` removes all. What is after that is the
//! answer's body.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wharf::runtime::hook::invariants::{self, Change, Said};

fuzz_target!(|input: &[u8]| {
    let mut lines = input.splitn(3, |byte| *byte == b'\n');
    let (Some(said), Some(status), Some(rest)) = (lines.next(), lines.next(), lines.next()) else {
        return;
    };
    let mut changes = Vec::new();
    let mut body = None;
    let mut rest = Some(rest);
    while let Some(text) = rest {
        let mut parts = text.splitn(2, |byte| *byte == b'\n');
        let line = parts.next().unwrap_or_default();
        rest = parts.next();
        if line.is_empty() {
            body = rest.take();
            break;
        }
        changes.extend(change(line));
    }
    if let Ok(said) = str::from_utf8(said) {
        let mut words = said.splitn(5, ' ');
        let scheme = |scheme| match scheme {
            "http" => Some(false),
            "https" => Some(true),
            _ => None,
        };
        if let (Some(method), Some(secure), Some(authority), Some(path)) = (
            words.next(),
            words.next().and_then(scheme),
            words.next(),
            words.next(),
        ) {
            let query = words.next();
            let said = Said {
                method,
                secure,
                authority,
                path,
                query,
            };
            invariants::request(said, &changes);
        }
    }
    if let Some(status) = str::from_utf8(status)
        .ok()
        .and_then(|text| text.parse().ok())
    {
        invariants::response(status, &changes, body);
    }
});

fn change(line: &[u8]) -> Option<Change<'_>> {
    if line == b"!" {
        return Some(Change::Clear);
    }
    if let Some(name) = line.strip_prefix(b"-") {
        return str::from_utf8(name).ok().map(Change::Remove);
    }
    let (sets, field) = match line.strip_prefix(b"=") {
        Some(field) => (true, field),
        None => (false, line),
    };
    let colon = field.iter().position(|byte| *byte == b':')?;
    let name = str::from_utf8(&field[..colon]).ok()?;
    let value = field[colon + 1..].trim_ascii();
    Some(match sets {
        true => Change::Set(name, value),
        false => Change::Append(name, value),
    })
}
