//! Header fields that are for one connection (RFC 9110 section 7.6.1) or of those who hand a message on, and not part of what it
//! says.

use http::{HeaderMap, HeaderName, header};

/// The networks that a request came through (RFC 8586).
pub const CDN_LOOP: HeaderName = HeaderName::from_static("cdn-loop");

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

/// Whether a field of a request, its name in lower case, says whom it has passed. To take it out is to hide a loop (RFC 8586
/// section 2, RFC 9110 section 7.6.3).
pub fn is_of_the_way(name: &str) -> bool {
    matches!(name, "cdn-loop" | "via")
}

/// Whether a field, its name in lower case, is one by which a proxy says for whom it speaks, or is [taken](is_taken_for) for one.
pub fn is_forwarding(name: &str) -> bool {
    const PREFIX: &str = "x-forwarded-";
    name.get(..PREFIX.len())
        .is_some_and(|start| is_taken_for(start, PREFIX))
        || is_taken_for(name, "x-real-ip")
        || name == "forwarded"
}

/// Whether a server may take a name for `known`, both in lower case: CGI and its kin make one variable of `-` and `_` (RFC 3875
/// section 4.1.18).
pub fn is_taken_for(name: &str, known: &str) -> bool {
    let alike = |(byte, known): (u8, u8)| byte == known || (byte == b'_' && known == b'-');
    name.len() == known.len() && name.bytes().zip(known.bytes()).all(alike)
}

/// Puts `CDN-Loop` and `Via` of the request as it was `before` in the place of what a function made of them. To take them out is
/// to hide a loop (RFC 8586 section 2).
pub fn restore(headers: &mut HeaderMap, before: &HeaderMap) {
    for name in [CDN_LOOP, header::VIA] {
        headers.remove(&name);
        for value in before.get_all(&name) {
            headers.append(name.clone(), value.clone());
        }
    }
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

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_forwarding_field_is_known_by_its_name_and_by_what_cgi_takes_for_it() {
        for (name, expected) in [
            ("forwarded", true),
            ("x-forwarded-for", true),
            ("x_forwarded_for", true),
            ("x-forwarded_proto", true),
            ("x-real-ip", true),
            ("x_real_ip", true),
            ("x-forwarded", false),
            ("x-forwarder-for", false),
            ("forwarded-for", false),
            ("x-real-ips", false),
            ("accept", false),
            ("", false),
        ] {
            assert_eq!(is_forwarding(name), expected, "{name}");
        }
        assert!(
            !is_taken_for("a-b", "a_b"),
            "only a hyphen has another spelling"
        );
    }

    /// RFC 8586 section 2.
    #[test]
    fn the_way_of_a_request_is_neither_lost_nor_made_up() {
        let map = |fields: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for &(name, value) in fields {
                let value = HeaderValue::from_static(value);
                headers.append(HeaderName::from_static(name), value);
            }
            headers
        };
        let came = [("cdn-loop", "a"), ("cdn-loop", "b"), ("via", "1.1 a")];
        for (before, returned) in [
            (&came[..], &came[..]),
            (&came, &[]),
            (&came, &[("cdn-loop", "c"), ("via", "1.1 c")]),
            (&[], &came),
            (&[], &[]),
        ] {
            let mut headers = map(returned);
            headers.insert("x-kept", HeaderValue::from_static("1"));
            restore(&mut headers, &map(before));
            let mut expected = map(before);
            expected.insert("x-kept", HeaderValue::from_static("1"));
            assert_eq!(headers, expected, "{returned:?}");
        }
    }
}
