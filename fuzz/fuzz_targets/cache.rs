//! What the cache reads of requests and responses of any bytes. The first line is a URL, the second a `Range`, the third a status;
//! each line that follows is a header field, `name: value`, of the response, or after `< ` and `> ` of one request and another.
//! Lines `key: name` name fields of the cache key.

#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use libfuzzer_sys::fuzz_target;
use wharf::{edge::cache::invariants, model::KeyPolicy};

fuzz_target!(|input: &[u8]| {
    let mut lines = input.split(|byte| *byte == b'\n');
    let (Some(url), Some(range), Some(status)) = (lines.next(), lines.next(), lines.next()) else {
        return;
    };
    let [mut response, mut one, mut two] = [const { Vec::new() }; 3];
    let mut policy = KeyPolicy::default();
    for line in lines.take(100) {
        match line {
            [b'<', b' ', line @ ..] => one.push(line),
            [b'>', b' ', line @ ..] => two.push(line),
            [b'k', b'e', b'y', b':', b' ', name @ ..] => {
                policy.headers.extend(String::from_utf8(name.to_vec()));
            }
            line => response.push(line),
        }
    }
    let [response, one, two] = [response, one, two].map(|lines| headers(&lines));
    if let Ok(range) = HeaderValue::from_bytes(range) {
        for length in [0, 1, 10, 1000, u64::MAX] {
            invariants::range(&range, length);
        }
    }
    if let Ok(status) = StatusCode::from_bytes(status) {
        invariants::response(&one, status, &response);
    }
    if let Ok(uri) = Uri::try_from(url) {
        invariants::keys(&uri, &policy, &response, [&one, &two]);
    }
});

fn headers(lines: &[&[u8]]) -> HeaderMap {
    let fields = lines.iter().filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
        Some((name, value))
    });
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(name, value);
    }
    headers
}
