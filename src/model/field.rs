//! Header fields that are no part of what a message says.

/// Whether a field, its name in lower case, is for one connection or frames a message: nothing that an event, a hook or
/// what they answer can say.
pub fn is_for_one_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "expect"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "http2-settings"
    )
}
