//! Lists, a page at a time.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{Call, Error};

/// How many items a page has where nothing is said (IAM API Reference, `MaxItems`).
const DEFAULT: u64 = 100;

/// The page of `items` that a call asks for. They are in the order of their keys, and a page begins after the key that the
/// last one ended with, so that what is made or removed meanwhile moves nothing.
pub(super) fn page(call: &Call, member: &str, items: Vec<(String, Value)>) -> Result<Value, Error> {
    let most = call.input.get("MaxItems").and_then(Value::as_u64);
    let most = usize::try_from(most.unwrap_or(DEFAULT)).unwrap_or(usize::MAX);
    let after = call.text("Marker").map(|marker| {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(marker).ok();
        let key = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
        key.ok_or_else(|| Error::new("ValidationException", "Invalid Marker."))
    });
    let after = after.transpose()?;
    let mut rest = items
        .into_iter()
        .skip_while(|(key, _)| after.as_ref().is_some_and(|after| key <= after));
    let mut last = String::new();
    let found: Vec<Value> = rest
        .by_ref()
        .take(most)
        .map(|(key, value)| {
            last = key;
            value
        })
        .collect();
    let mut answer = json!({member: found, "IsTruncated": false});
    if rest.next().is_some() {
        answer["IsTruncated"] = true.into();
        answer["Marker"] = BASE64_URL_SAFE_NO_PAD.encode(last).into();
    }
    Ok(answer)
}
