//! What a function answered over HTTP, made safe to send: it frames nothing and ends the exchange.

use http::{HeaderValue, StatusCode, header, response};

use crate::model::hop;

/// Why what a function answered is no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidResponse {
    /// 101 and its kind end no exchange.
    #[error("an informational status is no answer")]
    Informational,
    /// The length cannot be known.
    #[error("the answer's Content-Length is not one number")]
    ContentLength,
}

/// Makes the head of a response safe to send, or says why it is none.
///
/// hyper adds `date`, frames the body, and sends none for HEAD, 204 and 304; a `Content-Length` that the answer has for HEAD is
/// kept.
pub fn check(head: &mut response::Parts) -> Result<(), InvalidResponse> {
    if head.status.is_informational() {
        return Err(InvalidResponse::Informational);
    }
    // One pass over the names, so that a usual answer costs no look-ups.
    let (mut for_one_hop, mut framed) = (false, false);
    for name in head.headers.keys() {
        framed |= name == header::CONTENT_LENGTH;
        for_one_hop |= hop::is_for_one(name.as_str());
    }
    if for_one_hop {
        hop::strip(&mut head.headers);
    }
    if framed {
        let mut values = head.headers.get_all(header::CONTENT_LENGTH).iter();
        let one = values.next().is_some_and(is_number) && values.next().is_none();
        if !one {
            return Err(InvalidResponse::ContentLength);
        }
        // RFC 9110 §8.6.
        if head.status == StatusCode::NO_CONTENT {
            head.headers.remove(header::CONTENT_LENGTH);
        }
    }
    Ok(())
}

fn is_number(value: &HeaderValue) -> bool {
    let digits = value.as_bytes();
    !digits.is_empty() && digits.len() <= 19 && digits.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use http::Response;

    use super::*;

    #[test]
    fn an_answer_frames_nothing_and_ends_the_exchange() {
        let check = |status: u16, fields: &[(&str, &str)]| {
            let mut builder = Response::builder().status(status);
            for (name, value) in fields {
                builder = builder.header(*name, *value);
            }
            let (mut head, ()) = builder.body(()).unwrap().into_parts();
            super::check(&mut head).map(|()| {
                let mut names: Vec<_> = head.headers.keys().map(|name| name.to_string()).collect();
                names.sort();
                names.join(" ")
            })
        };
        let length = ("content-length", "5");
        let invalid = Err(InvalidResponse::ContentLength);
        assert_eq!(
            check(200, &[length, ("x", "1")]).unwrap(),
            "content-length x"
        );
        assert_eq!(check(304, &[length]).unwrap(), "content-length");
        assert_eq!(check(204, &[length]).unwrap(), "");
        assert_eq!(
            check(
                200,
                &[
                    ("connection", "x"),
                    ("x", ""),
                    ("transfer-encoding", "chunked"),
                    ("upgrade", "a")
                ]
            ),
            Ok(String::new())
        );
        assert_eq!(check(200, &[length, length]), invalid);
        assert_eq!(check(200, &[("content-length", "+5")]), invalid);
        assert_eq!(check(200, &[("content-length", "5, 5")]), invalid);
        assert_eq!(check(101, &[]), Err(InvalidResponse::Informational));
    }
}
