//! The `traceparent` of a request (W3C Trace Context, level 1).
//!
//! A valid one is passed on as it came, an invalid one is dropped together with its `tracestate`, as the recommendation wants.
//! Where there is none, [`start`] makes one out of the request id, so that what an origin says of a request is found by the id
//! in its log line and in its answer. That costs an allocation and a header, so it is done for requests that go to an origin.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::RequestId;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Whether `headers` have a valid `traceparent`. If not, nothing of a trace is left in them.
pub fn propagate(headers: &mut HeaderMap) -> bool {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let valid = match (values.next(), values.next()) {
        (Some(value), None) => is_valid(value.as_bytes()),
        (None, None) if !headers.contains_key(TRACESTATE) => return false,
        _ => false,
    };
    if !valid {
        headers.remove(TRACEPARENT);
        headers.remove(TRACESTATE);
    }
    valid
}

/// Begins a trace named after the request: its id is the trace id, half of it the span's. It is not sampled until somebody
/// decides so. One that is there already goes on.
pub fn start(headers: &mut HeaderMap, id: RequestId) {
    if headers.contains_key(TRACEPARENT) {
        return;
    }
    let mut buffer = [0; 36];
    let id = id.encode(&mut buffer);
    let mut value = Vec::with_capacity(55);
    value.extend_from_slice(b"00-");
    value.extend(id.bytes().filter(|byte| *byte != b'-'));
    let (from, to) = (value.len() - 16, value.len());
    value.push(b'-');
    value.extend_from_within(from..to);
    value.extend_from_slice(b"-00");
    if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(value)) {
        headers.insert(TRACEPARENT, value);
    }
}

/// `version "-" trace-id "-" parent-id "-" trace-flags`, all lower-case hexadecimal, the ids not all zero. A version above 00
/// may have more fields after these; version ff is forbidden.
fn is_valid(value: &[u8]) -> bool {
    let hex = |field: &[u8]| {
        field
            .iter()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let id = |field: &[u8]| hex(field) && field.iter().any(|byte| *byte != b'0');
    let Some((head, more)) = value.split_at_checked(55) else {
        return false;
    };
    let version = &head[..2];
    hex(version)
        && version != b"ff"
        && head[2] == b'-'
        && id(&head[3..35])
        && head[35] == b'-'
        && id(&head[36..52])
        && head[52] == b'-'
        && hex(&head[53..])
        && (more.is_empty() || (version != b"00" && more[0] == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_valid_traceparent_is_passed_on_and_any_other_is_dropped() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        for (value, valid) in [
            (good.to_owned(), true),
            (good.replacen("00", "cc", 1) + "-more", true),
            (good.replacen("00", "ff", 1), false),
            (good.to_owned() + "-more", false),
            (good.to_uppercase(), false),
            (
                good.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
                false,
            ),
            (good.replace("00f067aa0ba902b7", &"0".repeat(16)), false),
            (good.replace('-', "_"), false),
            (good[..54].to_owned(), false),
            (String::new(), false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(TRACEPARENT, value.parse().unwrap());
            headers.insert(TRACESTATE, HeaderValue::from_static("a=b"));
            assert_eq!(propagate(&mut headers), valid, "{value}");
            assert_eq!(headers.len(), if valid { 2 } else { 0 }, "{value}");
        }
        let mut twice = HeaderMap::new();
        twice.append(TRACEPARENT, good.parse().unwrap());
        twice.append(TRACEPARENT, good.parse().unwrap());
        assert!(!propagate(&mut twice));
        assert!(twice.is_empty());
    }

    #[test]
    fn a_trace_that_starts_here_is_valid_and_named_after_the_request() {
        let mut headers = HeaderMap::new();
        let id = RequestId::generate();
        start(&mut headers, id);
        let value = headers[TRACEPARENT].to_str().unwrap().to_owned();
        assert_eq!(value[3..35], id.to_string().replace('-', ""));
        assert!(propagate(&mut headers));
        start(&mut headers, RequestId::generate());
        assert_eq!(headers[TRACEPARENT], value, "it goes on");
    }
}
