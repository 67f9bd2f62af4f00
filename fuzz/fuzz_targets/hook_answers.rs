//! What hooks answer, of any bytes. The first line is what a hook makes of a request: method, scheme, authority, path and query, with a
//! space between; the second a status. Each line that follows is a header field of both, `name: value`, until an empty one; what is
//! after that is the answer's body.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wharf::runtime::hook::invariants::{self, Said};

fuzz_target!(|input: &[u8]| {
    let mut lines = input.splitn(3, |byte| *byte == b'\n');
    let (Some(said), Some(status), Some(rest)) = (lines.next(), lines.next(), lines.next()) else {
        return;
    };
    let mut fields = Vec::new();
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
        if let Some(colon) = line.iter().position(|byte| *byte == b':')
            && let Ok(name) = str::from_utf8(&line[..colon])
        {
            fields.push((name, line[colon + 1..].trim_ascii()));
        }
    }
    if let Ok(said) = str::from_utf8(said) {
        let mut words = said.splitn(5, ' ');
        if let (Some(method), Some(scheme), Some(authority), Some(path)) =
            (words.next(), words.next(), words.next(), words.next())
        {
            let query = words.next();
            let said = Said {
                method,
                scheme,
                authority,
                path,
                query,
            };
            invariants::request(said, &fields);
        }
    }
    if let Some(status) = str::from_utf8(status)
        .ok()
        .and_then(|text| text.parse().ok())
    {
        invariants::response(status, &fields, body);
    }
});
