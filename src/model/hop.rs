//! Header fields that are for one connection (RFC 9110 section 7.6.1), and not part of what a message says.

use http::{HeaderMap, HeaderName, header};

/// Whether a field, its name in lower case, is for one hop. `Expect` is: hyper has answered it. `Trailer` is not: it describes
/// the message.
pub fn is_for_one(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "te"
            | "transfer-encoding"
            | "upgrade"
            | "expect"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-authentication-info"
            | "http2-settings"
    )
}

/// Whether a field, its name in lower case, is for one hop or frames a message: nothing that an event, a hook or what they
/// answer can say.
pub fn is_framing(name: &str) -> bool {
    is_for_one(name) || name == "trailer"
}

/// Whether a field, its name in lower case, is one by which a proxy says for whom it speaks.
pub fn is_forwarding(name: &str) -> bool {
    name.starts_with("x-forwarded-") || matches!(name, "forwarded" | "x-real-ip")
}

/// Takes out the fields for this hop, and those that `Connection` names.
pub fn strip(headers: &mut HeaderMap) {
    let stripped: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        // The framing is hyper's: a length is not taken away from a message by naming it here. Nor is what the proxy before
        // this node wrote, by a client whose `Connection` it hands on.
        .filter(|name| *name != header::CONTENT_LENGTH && !is_forwarding(name.as_str()))
        .collect();
    for name in stripped {
        headers.remove(name);
    }
    remove_named(headers, is_for_one);
}

/// Removes the fields whose names are `unwanted`.
pub fn remove_named(headers: &mut HeaderMap, unwanted: impl Fn(&str) -> bool) {
    let names: Vec<HeaderName> = headers
        .keys()
        .filter(|name| unwanted(name.as_str()))
        .cloned()
        .collect();
    for name in names {
        headers.remove(name);
    }
}

/// Whether `TE` says that who asks takes trailers (RFC 9110 section 10.1.4).
pub fn accepts_trailers(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::TE)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}
