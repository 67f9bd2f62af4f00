//! What holds whatever a hook answers. A fuzz target calls this with texts of any kind, and the tests beside it with generated ones;
//! what does not hold panics.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderValue, Method, Request, header};

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
    /// Whether the scheme is https, or else http.
    pub secure: bool,
    /// Host and port.
    pub authority: &'a str,
    /// The path.
    pub path: &'a str,
    /// The query, without its `?`.
    pub query: Option<&'a str>,
}

/// What a hook says of header fields.
#[derive(Debug, Clone, Copy)]
pub enum Change<'a> {
    /// Removes all.
    Clear,
    /// Removes those of a name.
    Remove(&'a str),
    /// Puts one in the place of those of its name.
    Set(&'a str, &'a [u8]),
    /// Adds one.
    Append(&'a str, &'a [u8]),
}

/// Sends on a request to `https://example.com/` that a hook has rewritten. What is let through is what the hook said, and nothing that
/// could not be said in HTTP, or that would be read as another request further on.
pub fn request(said: Said<'_>, changes: &[Change<'_>]) {
    let before = Request::get("https://example.com/")
        .header(header::CONTENT_LENGTH, "7")
        .header(header::VIA, "1.1 before")
        .header("a", "before")
        .header("a", "too")
        .header("x-old", "1");
    let Ok((before, ())) = before.body(()).map(Request::into_parts) else {
        return;
    };
    let answer = wit::RequestAction::Forward(wit::ForwardedRequest {
        method: said.method.to_owned(),
        scheme: match said.secure {
            true => wit::Scheme::Https,
            false => wit::Scheme::Http,
        },
        authority: said.authority.to_owned(),
        path: said.path.to_owned(),
        query: said.query.map(str::to_owned),
        headers: changes.iter().map(in_wit).collect(),
        body: None,
        origin: None,
        cache_key: None,
    });
    let Ok(RequestAction::Forward(forward)) =
        request_action(answer, Point::ViewerRequest, RequestHead::from(&before))
    else {
        return;
    };
    let mut headers = before.headers.clone();
    forward.headers.apply(&mut headers);
    assert_eq!(forward.method.as_str(), said.method);
    assert_ne!(forward.method, Method::CONNECT);
    let uri = &forward.uri;
    let scheme = if said.secure { "https" } else { "http" };
    assert_eq!(uri.scheme_str(), Some(scheme));
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
    let is_kept = |name: &str| is_framing(name) || hop::is_of_the_way(name);
    assert_eq!(fields(&headers), changed(&before.headers, changes, is_kept));
    sendable(&headers);
}

/// Sends an answer that a hook made, or made of another one. What is let through is framed by who sends it.
pub fn response(status: u16, changes: &[Change<'_>], body: Option<&[u8]>) {
    let before = Request::get("https://example.com/").body(());
    let Ok((before, ())) = before.map(Request::into_parts) else {
        return;
    };
    // One of its own has the fields that are said, and no others.
    let said: Vec<_> = changes
        .iter()
        .filter_map(|change| match *change {
            Change::Clear | Change::Remove(_) => None,
            Change::Set(name, value) | Change::Append(name, value) => Some((name, value)),
        })
        .collect();
    let respond = wit::RequestAction::Respond(wit::NewResponse {
        status,
        headers: said
            .iter()
            .map(|(name, value)| owned(name, value))
            .collect(),
        body: body.map(<[u8]>::to_vec),
    });
    if let Ok(RequestAction::Respond(made)) =
        request_action(respond, Point::ViewerRequest, RequestHead::from(&before))
    {
        assert_eq!(made.status.as_u16(), status);
        assert!((200..=599).contains(&status));
        let said: Vec<_> = said
            .iter()
            .map(|(name, value)| Change::Append(name, value))
            .collect();
        let expected = changed(&HeaderMap::new(), &said, is_framing);
        assert_eq!(fields(&made.headers), expected);
        sendable(&made.headers);
    }
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(7));
    headers.insert(header::VIA, HeaderValue::from_static("1.1 before"));
    headers.insert("x-old", HeaderValue::from(1));
    let before = ResponseHead {
        status: http::StatusCode::OK,
        headers: &headers,
    };
    let replace = wit::ResponseAction::Replace(wit::ReplacedResponse {
        status,
        headers: changes.iter().map(in_wit).collect(),
        body: body.map(<[u8]>::to_vec),
    });
    if let Ok(ResponseAction::Replace(made)) = response_action(replace, before) {
        let mut expected = changed(&headers, changes, is_framing);
        if let Some(body) = body {
            // The length is that of the body which is sent.
            expected.remove("content-length");
            if !body.is_empty() {
                let length = body.len().to_string().into_bytes();
                expected.insert("content-length".to_owned(), vec![length]);
            }
        }
        let mut headers = headers.clone();
        made.headers.apply(&mut headers);
        assert_eq!(fields(&headers), expected);
        sendable(&headers);
    }
}

/// The fields may stand in a message, and are no more than a hook may make them.
fn sendable(sent: &HeaderMap) {
    assert!(sent.len() <= MAX_FIELDS);
    let bytes: usize = sent
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    assert!(bytes <= MAX_FIELD_BYTES);
    for value in sent.values() {
        assert!(!value.as_bytes().iter().any(|byte| b"\r\n\0".contains(byte)));
    }
}

/// Names in lower case, each with its values in their order.
type Fields = BTreeMap<String, Vec<Vec<u8>>>;

fn fields(headers: &HeaderMap) -> Fields {
    let mut fields = Fields::new();
    for (name, value) in headers {
        let values = fields.entry(name.as_str().to_owned()).or_default();
        values.push(value.as_bytes().to_vec());
    }
    fields
}

/// The fields that there are after changes, each made before the next.
fn changed(before: &HeaderMap, changes: &[Change<'_>], is_kept: impl Fn(&str) -> bool) -> Fields {
    let mut fields = fields(before);
    for change in changes {
        match *change {
            Change::Clear => fields.retain(|name, _| is_kept(name)),
            Change::Remove(name) | Change::Set(name, _) | Change::Append(name, _)
                if is_kept(&name.to_ascii_lowercase()) => {}
            Change::Remove(name) => {
                fields.remove(&name.to_ascii_lowercase());
            }
            Change::Set(name, value) => {
                fields.insert(name.to_ascii_lowercase(), vec![value.to_vec()]);
            }
            Change::Append(name, value) => {
                let values = fields.entry(name.to_ascii_lowercase()).or_default();
                values.push(value.to_vec());
            }
        }
    }
    fields
}

fn is_framing(name: &str) -> bool {
    hop::is_framing(name) || name == "content-length"
}

fn in_wit(change: &Change<'_>) -> wit::HeaderChange {
    match *change {
        Change::Clear => wit::HeaderChange::Clear,
        Change::Remove(name) => wit::HeaderChange::Remove(name.to_owned()),
        Change::Set(name, value) => wit::HeaderChange::Set(owned(name, value)),
        Change::Append(name, value) => wit::HeaderChange::Append(owned(name, value)),
    }
}

fn owned(name: &str, value: &[u8]) -> wit::Header {
    (
        name.to_owned(),
        value.iter().copied().map(char::from).collect(),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_let_through_is_what_was_said(
            method in "(GET|OPTIONS|CONNECT|get|[A-Z ]{0,3})",
            secure in any::<bool>(),
            authority in "(a|A\\.b|[a@:/\\[\\]1 -]{0,6}|\\[::1\\]:[0-9]{0,6})",
            path in "(\\*|/?[/a%.\\?# \r\n\u{e9}\u{7f}2eE-]{0,6})",
            query in proptest::option::of("[a=%?# \n\u{e9}]{0,4}"),
            changes in prop::collection::vec(
                (
                    0..5,
                    "(host|te|via|cdn-loop|trailer|content-length|connection|[a-cA :\u{e9}-]{0,3})",
                    prop::collection::vec(any::<u8>(), 0..4),
                ),
                0..5,
            ),
            status in prop_oneof![0_u16..700, Just(204), Just(304), Just(200)],
            body in prop::option::of(prop::collection::vec(any::<u8>(), 0..3)),
        ) {
            let changes: Vec<_> = changes
                .iter()
                .map(|(kind, name, value)| match kind {
                    0 => Change::Clear,
                    1 => Change::Remove(name),
                    2 => Change::Set(name, value),
                    _ => Change::Append(name, value),
                })
                .collect();
            let said = Said {
                method: &method,
                secure,
                authority: &authority,
                path: &path,
                query: query.as_deref(),
            };
            request(said, &changes);
            response(status, &changes, body.as_deref());
        }
    }
}
