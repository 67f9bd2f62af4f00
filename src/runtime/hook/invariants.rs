//! What holds whatever a hook answers. A fuzz target calls this with texts of any kind, and the tests beside it with generated ones;
//! what does not hold panics.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header};

use super::{
    super::bindings::hook::wit,
    answer::{MAX_FIELD_BYTES, MAX_FIELDS, request_action, response_action},
};
use crate::model::{
    has_dot_segment,
    hook::{Point, RequestAction, RequestHead, ResponseAction, ResponseHead},
    hop,
};

/// The head that a hook makes of a request, as it says it.
#[derive(Debug, Clone, Copy)]
pub struct Said<'a> {
    /// The method.
    pub method: &'a str,
    /// The scheme.
    pub scheme: &'a str,
    /// Host and port.
    pub authority: &'a str,
    /// The path.
    pub path: &'a str,
    /// The query, without its `?`.
    pub query: Option<&'a str>,
}

/// Sends on a request to `https://example.com/` that a hook has rewritten. What is let through is what the hook said, and nothing that
/// could not be said in HTTP, or that would be read as another request further on.
pub fn request(said: Said<'_>, fields: &[(&str, &[u8])]) {
    let before = Request::get("https://example.com/")
        .header(header::CONTENT_LENGTH, "7")
        .header(header::VIA, "1.1 before")
        .header("x-old", "1");
    let Ok((before, ())) = before.body(()).map(Request::into_parts) else {
        return;
    };
    let answer = wit::RequestAction::Forward(wit::ForwardedRequest {
        method: said.method.to_owned(),
        scheme: said.scheme.to_owned(),
        authority: said.authority.to_owned(),
        path: said.path.to_owned(),
        query: said.query.map(str::to_owned),
        headers: changes(fields),
        body: None,
        origin: None,
        cache_key: None,
    });
    let Ok(RequestAction::Forward(forward)) =
        request_action(answer, Point::ViewerRequest, RequestHead::from(&before))
    else {
        return;
    };
    let mut headers = before.headers;
    forward.headers.apply(&mut headers);
    assert_eq!(forward.method.as_str(), said.method);
    assert_ne!(forward.method, Method::CONNECT);
    let uri = &forward.uri;
    assert_eq!(uri.scheme_str(), Some(said.scheme));
    assert!(matches!(said.scheme, "http" | "https"));
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    assert_eq!(authority, said.authority.to_ascii_lowercase());
    assert!(!authority.is_empty() && !authority.contains(['@', '/', '?', '#', '\\']));
    assert_eq!((uri.path(), uri.query()), (said.path, said.query));
    assert!(!has_dot_segment(uri.path()));
    let is_asterisk = said.path == "*" && forward.method == Method::OPTIONS;
    assert!(is_asterisk || uri.path().starts_with('/'));
    let target = uri.path_and_query().map_or("", |target| target.as_str());
    assert!(!target.contains([' ', '#']) && !target.contains(|c: char| c.is_ascii_control()));
    // Who is sent this reads the same, as nothing of it is left that he could read in two ways.
    assert_eq!(
        target.split_once('?').map_or(target, |(path, _)| path),
        said.path
    );
    assert!(!headers.contains_key(header::HOST));
    assert_eq!(headers[header::CONTENT_LENGTH], "7");
    assert_eq!(headers[header::VIA], "1.1 before");
    said_and_sendable(fields, &headers);
}

/// Sends an answer that a hook made, or made of another one, of which it keeps nothing. What is let through is framed by who sends it.
pub fn response(status: u16, fields: &[(&str, &[u8])], body: Option<&[u8]>) {
    let before = Request::get("https://example.com/").body(());
    let Ok((before, ())) = before.map(Request::into_parts) else {
        return;
    };
    let respond = wit::RequestAction::Respond(wit::ResponseResult {
        status,
        headers: owned(fields),
        body: body.map(<[u8]>::to_vec),
    });
    if let Ok(RequestAction::Respond(made)) =
        request_action(respond, Point::ViewerRequest, RequestHead::from(&before))
    {
        assert_eq!(made.status.as_u16(), status);
        assert!((200..=599).contains(&status));
        assert!(!made.headers.contains_key(header::CONTENT_LENGTH));
        said_and_sendable(fields, &made.headers);
    }
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(7));
    headers.insert("x-old", HeaderValue::from(1));
    let before = ResponseHead {
        status: http::StatusCode::OK,
        headers: &headers,
    };
    let replace = wit::ResponseAction::Replace(wit::ReplacedResponse {
        status,
        headers: changes(fields),
        body: body.map(<[u8]>::to_vec),
    });
    if let Ok(ResponseAction::Replace(made)) = response_action(replace, before) {
        let mut headers = headers.clone();
        made.headers.apply(&mut headers);
        // The length is that of the body which stays, and of no other.
        let length = headers.get(header::CONTENT_LENGTH);
        assert_eq!(length.is_some_and(|length| length == "7"), body.is_none());
        assert_eq!(length.is_some(), body.is_none());
        said_and_sendable(fields, &headers);
    }
}

/// Each field was said, in this order among those of its name, and may stand in a message.
fn said_and_sendable(fields: &[(&str, &[u8])], sent: &HeaderMap) {
    assert!(sent.len() <= MAX_FIELDS);
    let bytes: usize = fields
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    assert!(bytes <= MAX_FIELD_BYTES);
    for name in sent.keys().filter(|name| !is_kept(name)) {
        assert!(!hop::is_framing(name.as_str()), "{name}");
        let said = fields
            .iter()
            .filter(|(said, _)| said.eq_ignore_ascii_case(name.as_str()))
            .map(|(_, value)| *value);
        assert!(said.eq(sent.get_all(name).iter().map(|value| value.as_bytes())));
        for value in sent.get_all(name) {
            assert!(!value.as_bytes().iter().any(|byte| b"\r\n\0".contains(byte)));
        }
    }
}

fn is_kept(name: &HeaderName) -> bool {
    [header::CONTENT_LENGTH, header::VIA].contains(name)
}

/// Says the fields instead of those there are.
fn changes(fields: &[(&str, &[u8])]) -> Vec<wit::HeaderChange> {
    let said = owned(fields).into_iter().map(wit::HeaderChange::Append);
    std::iter::once(wit::HeaderChange::Clear)
        .chain(said)
        .collect()
}

fn owned(fields: &[(&str, &[u8])]) -> Vec<(String, Vec<u8>)> {
    let field = |(name, value): &(&str, &[u8])| ((*name).to_owned(), value.to_vec());
    fields.iter().map(field).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_let_through_is_what_was_said(
            method in "(GET|OPTIONS|CONNECT|get|[A-Z ]{0,3})",
            authority in "(a|A\\.b|[a@:/\\[\\]1 -]{0,6}|\\[::1\\]:[0-9]{0,6})",
            path in "(\\*|/?[/a%.\\?# \r\n\u{e9}\u{7f}2eE-]{0,6})",
            query in proptest::option::of("[a=%?# \n\u{e9}]{0,4}"),
            name in "(host|te|trailer|content-length|connection|[a-cA :\u{e9}-]{0,3})",
            values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..4), 0..3),
            status in prop_oneof![0_u16..700, Just(204), Just(304), Just(200)],
            body in prop::option::of(prop::collection::vec(any::<u8>(), 0..3)),
        ) {
            let fields: Vec<_> = values.iter().map(|value| (name.as_str(), value.as_slice())).collect();
            let said = Said {
                method: &method,
                scheme: "https",
                authority: &authority,
                path: &path,
                query: query.as_deref(),
            };
            request(said, &fields);
            response(status, &fields, body.as_deref());
        }
    }
}
