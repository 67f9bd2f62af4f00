//! The canonical request: what is signed, written so that both sides get the same bytes.
//!
//! Source: AWS IAM User Guide, "Create a signed AWS API request". Two of its rules are kept more strictly. The path is
//! taken as it was sent: dot segments and empty segments are not folded, so a signature is for the path that is routed.
//! And a header field that is signed must be there.

use http::{HeaderMap, HeaderName, header, request::Parts};

use super::super::Refusal;
use crate::model::Digest;

/// The canonical request of `head`, with the header fields of `signed` and a body of that digest.
pub(super) fn request(
    head: &Parts,
    signed: &[String],
    payload: &Digest,
) -> Result<Vec<u8>, Refusal> {
    let mut canonical = Vec::with_capacity(1024);
    let mut line = |text: &[u8]| {
        canonical.extend_from_slice(text);
        canonical.push(b'\n');
    };
    line(head.method.as_str().as_bytes());
    line(path(head.uri.path()).as_bytes());
    line(query(head.uri.query().unwrap_or_default()).as_bytes());
    for name in signed {
        line(&field(head, name)?);
    }
    line(b"");
    line(signed.join(";").as_bytes());
    canonical.extend_from_slice(payload.to_string().as_bytes());
    Ok(canonical)
}

/// The path, encoded once more than it was sent, as every service but S3 wants it.
pub(super) fn path(sent: &str) -> String {
    let mut canonical = String::with_capacity(sent.len() + 16);
    for (index, segment) in sent.split('/').enumerate() {
        if index > 0 {
            canonical.push('/');
        }
        encode(segment.as_bytes(), &mut canonical);
    }
    canonical
}

/// The parameters, encoded, in order of name and value, without the signature itself.
pub(super) fn query(sent: &str) -> String {
    let mut parameters: Vec<(String, String)> = parameters(sent)
        .filter(|(name, _)| name != b"X-Amz-Signature")
        .map(|(name, value)| (encoded(&name), encoded(&value)))
        .collect();
    parameters.sort();
    let mut canonical = String::with_capacity(sent.len() + 16);
    for (name, value) in parameters {
        if !canonical.is_empty() {
            canonical.push('&');
        }
        canonical.push_str(&name);
        canonical.push('=');
        canonical.push_str(&value);
    }
    canonical
}

/// The parameters of a query, decoded. `+` is a space: botocore signs `%20` and sends `+`.
pub(super) fn parameters(query: &str) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(value))
        })
}

/// `name:value`, the values of a repeated field parted by commas, and white space folded.
fn field(head: &Parts, name: &str) -> Result<Vec<u8>, Refusal> {
    let mut line = format!("{name}:").into_bytes();
    if name == "host" {
        line.extend_from_slice(host(head).ok_or_else(|| missing(name))?);
        return Ok(line);
    }
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| missing(name))?;
    let values = head.headers.get_all(&name);
    if values.iter().next().is_none() {
        return Err(missing(name.as_str()));
    }
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            line.push(b',');
        }
        let words = value.as_bytes().split(|byte| matches!(byte, b' ' | b'\t'));
        let words: Vec<&[u8]> = words.filter(|word| !word.is_empty()).collect();
        line.extend_from_slice(&words.join(&b' '));
    }
    Ok(line)
}

fn missing(name: &str) -> Refusal {
    let name: String = name.chars().take(100).collect();
    Refusal::Incomplete(format!(
        "'{name}' is named as a SignedHeader, but it does not exist in the HTTP request."
    ))
}

/// The host that was asked. The listener has it in the URI alone, in lower case.
fn host(head: &Parts) -> Option<&[u8]> {
    match head.uri.authority() {
        Some(authority) => Some(authority.as_str().as_bytes()),
        None => only(&head.headers, header::HOST.as_str()),
    }
}

/// The value of a field that is there once.
pub(super) fn only<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Some(value.as_bytes()),
        _ => None,
    }
}

fn encoded(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    encode(bytes, &mut text);
    text
}

/// Percent-encodes everything but RFC 3986's unreserved characters.
fn encode(bytes: &[u8], text: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(byte.into());
            }
            _ => {
                text.push('%');
                text.push(DIGITS[usize::from(byte >> 4)].into());
                text.push(DIGITS[usize::from(byte & 15)].into());
            }
        }
    }
}

/// Undoes the encoding of a query. A `%` that encodes nothing is itself.
fn decoded(text: &str) -> Vec<u8> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let text = text.as_bytes();
    let mut bytes = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let pair = (digit(text.get(at + 1)), digit(text.get(at + 2)));
        match (byte, pair) {
            (b'%', (Some(high), Some(low))) => {
                bytes.push(u8::try_from(high << 4 | low).expect("two digits are a byte"));
                at += 3;
            }
            _ => {
                bytes.push(if byte == b'+' { b' ' } else { byte });
                at += 1;
            }
        }
    }
    bytes
}
