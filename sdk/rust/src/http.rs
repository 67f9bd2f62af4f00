//! HTTP in and out: requests, responses, bodies and a client.
//!
//! The types are those of [`wstd`], an async standard library for WASI 0.2; `Request` and `Response` are the `http` crate's.
//! [`wstd`] is there for what this module leaves out: timers, streams, tasks.
//!
//! ```no_run
//! use wharf_sdk::http::{Body, Client, Error, Request, Response};
//!
//! #[wharf_sdk::http]
//! async fn proxy(_request: Request<Body>) -> Result<Response<Body>, Error> {
//!     let request = Request::get("https://example.com/").body(Body::empty())?;
//!     let response = Client::new().send(request).await?;
//!     // The body is streamed: it is never in memory as a whole.
//!     Ok(Response::new(response.into_body()))
//! }
//! ```
//!
//! [`block_on`] runs an async function in a native test, as long as it asks nothing of the node:
//!
//! ```
//! use wharf_sdk::http::{Body, Error, Request, Response, block_on};
//!
//! #[wharf_sdk::http]
//! async fn shout(request: Request<Body>) -> Result<Response<Body>, Error> {
//!     let text = request.into_body().str_contents().await?.to_uppercase();
//!     Ok(Response::new(text.into()))
//! }
//!
//! block_on(async {
//!     let mut response = shout(Request::new("hello".into())).await.unwrap();
//!     assert_eq!(response.body_mut().str_contents().await.unwrap(), "HELLO");
//! });
//! ```

pub use wstd;
pub use wstd::{
    http::{
        Body, BodyExt, Client, Error, ErrorCode, HeaderMap, HeaderName, HeaderValue, Method,
        Request, Response, Result, StatusCode, Uri,
    },
    runtime::block_on,
};

use http::header::CONTENT_LENGTH;
use wstd::{
    __internal::wasip2::http::types::{IncomingRequest, ResponseOutparam},
    http::{request::try_from_incoming, server::Responder},
};

/// Runs an HTTP function for one request. Its error is the response's `internal-error`; the node answers for it.
#[doc(hidden)]
pub fn call<E, F>(
    request: IncomingRequest,
    response: ResponseOutparam,
    function: impl FnOnce(Request<Body>) -> F,
) where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
    F: Future<Output = std::result::Result<Response<Body>, E>>,
{
    let responder = Responder::new(response);
    block_on(async {
        let request = match try_from_incoming(request) {
            Ok(request) => request,
            Err(error) => return responder.fail(error),
        };
        match function(request).await {
            Ok(mut response) => {
                announce_length(&mut response);
                // The head is out, and the client may be gone: all that is left is to say so.
                if let Err(error) = responder.respond(response).await {
                    eprintln!("the response body was cut short: {error:#}");
                }
            }
            Err(error) => responder.fail(Error::from_boxed(error.into())),
        }
    });
}

/// Sets `content-length` where the body's length is known and the function has not said it, so that HTTP/1.1 needs no chunks.
fn announce_length(response: &mut Response<Body>) {
    // RFC 9110, 8.6: not in a 204; and in a 304 it would be the length of what is not sent.
    if matches!(
        response.status(),
        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
    ) {
        return;
    }
    if let Some(length) = response.body().content_length() {
        response
            .headers_mut()
            .entry(CONTENT_LENGTH)
            .or_insert(length.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn length(mut response: Response<Body>) -> Option<String> {
        announce_length(&mut response);
        let length = response.headers().get(CONTENT_LENGTH)?;
        Some(length.to_str().expect("a length is digits").to_owned())
    }

    #[test]
    fn a_body_of_known_length_says_it() {
        assert_eq!(length(Response::new("hello".into())).as_deref(), Some("5"));
        assert_eq!(length(Response::new(Body::empty())).as_deref(), Some("0"));
    }

    #[test]
    fn a_length_the_function_gives_stays() {
        let response = Response::builder()
            .header(CONTENT_LENGTH, 7)
            .body(Body::empty());
        assert_eq!(length(response.unwrap()).as_deref(), Some("7"));
    }

    #[test]
    fn a_response_that_has_no_body_has_no_length() {
        for status in [204, 304] {
            let response = Response::builder().status(status).body(Body::empty());
            assert_eq!(length(response.unwrap()), None, "{status}");
        }
    }
}
