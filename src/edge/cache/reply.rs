//! From a response that the cache has to the one that a client gets.
//!
//! The client's conditions are about responses with a status of 200, or the parts of one (206), and its ranges about those with 200
//! only (RFC 9110 sections 13.2.1 and 14.2): a part that is stored by itself is what was asked for.

use http::{
    HeaderMap, HeaderValue, Method, Response, StatusCode,
    header::{ACCEPT_RANGES, AGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE},
};

use super::{
    body::{Body, Source},
    range::{self, Multipart, Wanted},
    status::Handling,
    validator,
};

/// A response that the cache has, or is getting.
pub(super) struct Representation<S> {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// In seconds; none leaves the field as the origin sent it.
    pub(super) age: Option<u64>,
    pub(super) length: Option<u64>,
    pub(super) source: S,
}

/// Answers a request with it.
pub(super) fn reply<B, S: FnOnce() -> Source>(
    method: &Method,
    request: &HeaderMap,
    representation: Representation<S>,
    handling: &Handling,
) -> Response<Body<B>> {
    let mut response = answer(method, request, representation, handling);
    response.body_mut().set_handled(handling.handled());
    response
}

fn answer<B, S: FnOnce() -> Source>(
    method: &Method,
    request: &HeaderMap,
    representation: Representation<S>,
    handling: &Handling,
) -> Response<Body<B>> {
    let Representation {
        status,
        mut headers,
        age,
        length,
        source,
    } = representation;
    handling.write(&mut headers);
    if let Some(age) = age {
        headers.insert(AGE, HeaderValue::from(age));
    }
    if matches!(status, StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
        if validator::is_not_modified(request, &headers) {
            validator::strip_for_not_modified(&mut headers);
            return respond(StatusCode::NOT_MODIFIED, headers, Body::empty());
        }
        if !headers.contains_key(ACCEPT_RANGES) && length.is_some() {
            headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        }
    }
    if method == Method::HEAD {
        return respond(status, headers, Body::empty());
    }
    if status == StatusCode::OK
        && let (Some(field), Some(length)) = (request.get(RANGE), length)
        && validator::range_applies(request, &headers)
    {
        return match range::wanted(field, length) {
            Wanted::Whole => respond(status, headers, Body::all(source(), Some(length))),
            Wanted::Ranges(ranges) => partial(headers, ranges, length, source()),
            Wanted::Unsatisfiable => {
                headers.insert(CONTENT_RANGE, range::unsatisfied(length));
                headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
                headers.remove(CONTENT_TYPE);
                respond(StatusCode::RANGE_NOT_SATISFIABLE, headers, Body::empty())
            }
        };
    }
    respond(status, headers, Body::all(source(), length))
}

/// RFC 9110 section 15.3.7.
fn partial<B>(
    mut headers: HeaderMap,
    mut ranges: Vec<std::ops::Range<u64>>,
    length: u64,
    source: Source,
) -> Response<Body<B>> {
    // Of the content, which is another one here (RFC 9530 section 2); `Repr-Digest` is of the whole in any case.
    headers.remove("content-digest");
    headers.remove("content-md5");
    let body = if let [range] = ranges.as_mut_slice() {
        let range = std::mem::take(range);
        headers.insert(CONTENT_RANGE, range::content_range(&range, length));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(range.end - range.start));
        Body::part(source, range)
    } else {
        let boundary = format!("wharf-{:016x}", super::stored::version());
        let parts = Multipart::new(&boundary, headers.get(CONTENT_TYPE), ranges, length);
        headers.insert(CONTENT_LENGTH, HeaderValue::from(parts.length()));
        headers.insert(CONTENT_TYPE, parts.content_type.clone());
        Body::parts(source, parts)
    };
    respond(StatusCode::PARTIAL_CONTENT, headers, body)
}

pub(super) fn respond<B>(
    status: StatusCode,
    headers: HeaderMap,
    body: Body<B>,
) -> Response<Body<B>> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
