//! Requests to elsewhere.

use serde_json::{Value, json};
use wasip2::{
    http::{
        outgoing_handler,
        types::{ErrorCode, Fields, FutureIncomingResponse, OutgoingBody, OutgoingRequest, Scheme},
    },
    io::streams::StreamError,
};

/// The most of a body that is reported.
const EXCERPT: u64 = 1024;

/// One GET: its status and the beginning of its body, or the error.
pub(crate) fn fetch(url: &str) -> Value {
    match send(url).and_then(|response| receive(&response)) {
        Ok((status, body)) => json!({ "status": status, "body": body }),
        Err(error) => json!({ "error": format!("{error:?}") }),
    }
}

/// So many GETs at once: how many were answered, and each kind of error with its count.
pub(crate) fn flood(url: &str, count: u64) -> Value {
    let mut errors = std::collections::BTreeMap::<String, u64>::new();
    let mut answered = 0;
    let started: Vec<_> = (0..count).map(|_| send(url)).collect();
    for response in started {
        match response.and_then(|response| receive(&response)) {
            Ok(_) => answered += 1,
            Err(error) => *errors.entry(format!("{error:?}")).or_default() += 1,
        }
    }
    json!({ "answered": answered, "refused": count - answered, "errors": errors })
}

/// Starts a GET. A URL is taken apart without judgement: that is the host's to do.
fn send(url: &str) -> Result<FutureIncomingResponse, ErrorCode> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let path = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(path);
    let invalid = |()| ErrorCode::HttpRequestUriInvalid;

    let request = OutgoingRequest::new(Fields::new());
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.to_owned()),
    };
    request.set_scheme(Some(&scheme)).map_err(invalid)?;
    request.set_authority(Some(authority)).map_err(invalid)?;
    let path = if path.is_empty() { "/" } else { path };
    request.set_path_with_query(Some(path)).map_err(invalid)?;
    let body = request.body().expect("the body is taken once");
    let response = outgoing_handler::handle(request, None)?;
    OutgoingBody::finish(body, None)?;
    Ok(response)
}

/// Waits for the response: its status and the beginning of its body.
fn receive(response: &FutureIncomingResponse) -> Result<(u16, String), ErrorCode> {
    response.subscribe().block();
    let response = response
        .get()
        .expect("it is ready")
        .expect("it is taken once")?;
    let body = response.consume().expect("the body is taken once");
    let stream = body.stream().expect("the stream is taken once");
    let mut excerpt = Vec::new();
    while (excerpt.len() as u64) < EXCERPT {
        match stream.blocking_read(EXCERPT - excerpt.len() as u64) {
            Ok(piece) => excerpt.extend(piece),
            Err(StreamError::Closed) => break,
            Err(StreamError::LastOperationFailed(error)) => {
                let code = wasip2::http::types::http_error_code(&error);
                return Err(code.unwrap_or(ErrorCode::HttpResponseIncomplete));
            }
        }
    }
    Ok((
        response.status(),
        String::from_utf8_lossy(&excerpt).into_owned(),
    ))
}
