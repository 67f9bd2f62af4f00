//! AWS Signature Version 4, the side that verifies.
//!
//! A request says in its `Authorization` field, or in parameters of its query (presigned), who signed it and how: a
//! [`Claim`]. [`Claim::check`] holds it against the clock, the region and the service, [`Claim::verify`] against the user's
//! secret. The signature covers method, path, query, body, the host and every `x-amz-*` field; one that is there and not
//! signed is refused, because whoever stands between could have added it. Other fields are covered if the client says so.
//!
//! Pure: no clock, no files. A signed request can be sent again while its time lasts, as with AWS; what holds against that
//! is TLS.
//!
//! Lambda signs whole bodies. `UNSIGNED-PAYLOAD` and `STREAMING-…` are S3's, and refused (CloudFront Developer Guide,
//! "Restrict access to an AWS Lambda function URL origin": Lambda does not support unsigned payloads; no operation of the
//! service model has them either).

mod canonical;
#[cfg(test)]
mod tests;

use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, header, request::Parts};
use jiff::{SignedDuration, Timestamp, civil::DateTime, tz::TimeZone};
use sha2::Sha256;

use super::Refusal;
use crate::model::Digest;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// How far the client's clock may be from ours. In most cases AWS allows five minutes (IAM User Guide, "AWS Signature
/// Version 4 for API requests"); some services allow fifteen.
const SKEW: SignedDuration = SignedDuration::from_mins(5);

/// How long a presigned request may be good: seven days (`X-Amz-Expires`, Amazon S3 API Reference, "Authenticating
/// requests: using query parameters").
const LONGEST: i64 = 604_800;

/// The longest `Authorization` field. Clients send a few hundred bytes; a hundred signed names are four thousand.
const MAX_AUTHORIZATION: usize = 8 << 10;

/// The longest access key id (IAM API Reference, `AccessKey`).
const MAX_KEY_ID: usize = 128;

/// What a request says of its signature. Nothing of it is known to be true.
#[derive(Debug)]
pub(super) struct Claim {
    /// The access key that it was signed with.
    pub(super) key_id: String,
    /// The digest of the body, where a header field announces it.
    pub(super) payload: Option<Digest>,
    /// The token of temporary credentials, if the key is one of those.
    pub(super) token: Option<String>,
    day: String,
    region: String,
    service: String,
    time: String,
    /// Seconds from `time` on, if it is presigned.
    expires: Option<i64>,
    signed: Vec<String>,
    signature: Digest,
}

/// The parts of a claim as they were sent, from either form.
struct Sent {
    token: Option<String>,
    credential: String,
    signed: String,
    signature: String,
    time: String,
    expires: Option<String>,
}

impl Claim {
    /// What the request says. `None` if it says nothing of a signature.
    pub(super) fn of(head: &Parts) -> Result<Option<Self>, Refusal> {
        let field = authorization(&head.headers)?;
        let query = head.uri.query().unwrap_or_default();
        let presigned = canonical::parameters(query)
            .any(|(name, _)| matches!(&*name, b"X-Amz-Algorithm" | b"X-Amz-Signature"));
        let sent = match (field, presigned) {
            (None, false) => return Ok(None),
            (Some(_), true) => {
                return Err(Refusal::incomplete(
                    "A request is signed in its Authorization header or in its query, not in both.",
                ));
            }
            (Some(field), false) => Sent::field(field, &head.headers)?,
            (None, true) => Sent::query(query)?,
        };
        Self::read(sent, &head.headers).map(Some)
    }

    fn read(sent: Sent, headers: &HeaderMap) -> Result<Self, Refusal> {
        let scope: Vec<&str> = sent.credential.split('/').collect();
        let [key_id, day, region, service, "aws4_request"] = scope[..] else {
            return Err(Refusal::incomplete(
                "Credential must have exactly 5 slash-delimited elements, KEY/YYYYMMDD/REGION/SERVICE/aws4_request.",
            ));
        };
        if key_id.is_empty() || key_id.len() > MAX_KEY_ID {
            return Err(Refusal::Unrecognized);
        }
        let signed: Vec<String> = sent.signed.split(';').map(str::to_owned).collect();
        if signed.windows(2).any(|pair| pair[0] >= pair[1])
            || signed
                .iter()
                .any(|name| name.bytes().any(|byte| byte.is_ascii_uppercase()))
        {
            return Err(Refusal::incomplete(
                "SignedHeaders must be in lower case and in order, each once.",
            ));
        }
        let is_signed = |name: &str| signed.iter().any(|signed| signed == name);
        if !is_signed(header::HOST.as_str()) {
            return Err(Refusal::incomplete("'Host' must be a SignedHeader."));
        }
        if let Some(name) = headers
            .keys()
            .map(header::HeaderName::as_str)
            .find(|name| name.starts_with("x-amz-") && !is_signed(name))
        {
            return Err(Refusal::invalid(format!(
                "The header {name} is in the request and not among its SignedHeaders."
            )));
        }
        let signature = digest(&sent.signature).ok_or_else(|| {
            Refusal::incomplete("Signature must be 64 hexadecimal digits, in lower case.")
        })?;
        let expires = sent.expires.map(|text| {
            let seconds = text
                .parse()
                .ok()
                .filter(|seconds| (1..=LONGEST).contains(seconds));
            seconds.ok_or_else(|| {
                Refusal::incomplete("X-Amz-Expires must be from 1 to 604800 seconds.")
            })
        });
        Ok(Self {
            key_id: key_id.to_owned(),
            payload: payload(headers)?,
            token: sent.token,
            day: day.to_owned(),
            region: region.to_owned(),
            service: service.to_owned(),
            time: sent.time,
            expires: expires.transpose()?,
            signed,
            signature,
        })
    }

    /// Holds the claim against the clock, and against what it may be for: a region and a service of these.
    pub(super) fn check(
        &self,
        now: Timestamp,
        regions: &[&str],
        services: &[&str],
    ) -> Result<(), Refusal> {
        if !regions.contains(&self.region.as_str()) {
            return Err(Refusal::invalid(format!(
                "Credential should be scoped to a valid region: '{}'.",
                regions.join("' or '")
            )));
        }
        if !services.contains(&self.service.as_str()) {
            return Err(Refusal::invalid(format!(
                "Credential should be scoped to correct service: '{}'.",
                services.join("' or '")
            )));
        }
        let signed_at = time(&self.time).ok_or_else(|| {
            Refusal::incomplete(
                "Date must be in ISO-8601 'basic format': X-Amz-Date: YYYYMMDDTHHMMSSZ.",
            )
        })?;
        if !self.time.starts_with(&self.day) || self.day.len() != 8 {
            return Err(Refusal::invalid(format!(
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '{}'.",
                &self.time[..8]
            )));
        }
        let age = now.duration_since(signed_at);
        let oldest = self.expires.map_or(SKEW, SignedDuration::from_secs);
        if age > oldest {
            return Err(Refusal::invalid(format!(
                "Signature expired: {} is more than {} s before {}.",
                self.time,
                oldest.as_secs(),
                now.strftime("%Y%m%dT%H%M%SZ"),
            )));
        }
        if age < -SKEW {
            return Err(Refusal::invalid(format!(
                "Signature not yet current: {} is still later than {} + 5 min.",
                self.time,
                now.strftime("%Y%m%dT%H%M%SZ"),
            )));
        }
        Ok(())
    }

    /// Holds the claim against the user's secret: whether `head`, with a body of that digest, is what was signed. Takes the
    /// same time wherever the signatures differ.
    pub(super) fn verify(
        &self,
        head: &Parts,
        secret: &str,
        payload: &Digest,
    ) -> Result<(), Refusal> {
        let canonical = canonical::request(head, &self.signed, payload)?;
        let Self {
            time,
            day,
            region,
            service,
            ..
        } = self;
        let to_sign = format!(
            "{ALGORITHM}\n{time}\n{day}/{region}/{service}/aws4_request\n{}",
            Digest::of(&canonical)
        );
        let mut key = keyed(format!("AWS4{secret}").as_bytes());
        for part in [day, region, service, "aws4_request"] {
            key.update(part.as_bytes());
            key = keyed(&key.finalize().into_bytes());
        }
        key.update(to_sign.as_bytes());
        key.verify_slice(self.signature.as_bytes())
            .map_err(|_| Refusal::mismatch())
    }
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes a key of any length")
}

/// The `Authorization` field, if it is there and of ours. Another scheme is for somebody else to judge.
fn authorization(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if !value.as_bytes().starts_with(b"AWS4-") {
        return Ok(None);
    }
    if values.next().is_some() {
        return Err(Refusal::incomplete(
            "The request has more than one Authorization header.",
        ));
    }
    if value.len() > MAX_AUTHORIZATION {
        return Err(Refusal::Incomplete(format!(
            "The Authorization header is longer than {MAX_AUTHORIZATION} bytes."
        )));
    }
    value
        .to_str()
        .map(Some)
        .map_err(|_| Refusal::incomplete("The Authorization header is not ASCII."))
}

impl Sent {
    /// Out of `AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…`.
    fn field(value: &str, headers: &HeaderMap) -> Result<Self, Refusal> {
        let (algorithm, parameters) = value.split_once(' ').unwrap_or((value, ""));
        if algorithm != ALGORITHM {
            return Err(Refusal::unsupported());
        }
        let [mut credential, mut signed, mut signature] = [const { None::<String> }; 3];
        for parameter in parameters.split(',').map(str::trim) {
            let Some((name, value)) = parameter.split_once('=') else {
                return Err(Refusal::incomplete(
                    "The Authorization header has something that is not a key=value pair (missing equal-sign).",
                ));
            };
            let slot = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed,
                "Signature" => &mut signature,
                _ => continue,
            };
            if slot.replace(value.to_owned()).is_some() {
                return Err(Refusal::Incomplete(format!(
                    "Authorization header has '{name}' more than once."
                )));
            }
        }
        let wanted = |slot: Option<String>, name| {
            slot.ok_or_else(|| {
                Refusal::Incomplete(format!("Authorization header requires '{name}' parameter."))
            })
        };
        // AWS takes `Date` as well. No client of today sends it, and one clock is enough.
        let time = canonical::only(headers, "x-amz-date")
            .and_then(|time| std::str::from_utf8(time).ok())
            .ok_or_else(|| {
                Refusal::incomplete(
                    "Authorization header requires existence of one 'X-Amz-Date' header.",
                )
            })?;
        let token = headers.contains_key("x-amz-security-token").then(|| {
            canonical::only(headers, "x-amz-security-token")
                .and_then(|token| String::from_utf8(token.to_vec()).ok())
                .ok_or(Refusal::Unrecognized)
        });
        Ok(Self {
            token: token.transpose()?,
            credential: wanted(credential, "Credential")?,
            signed: wanted(signed, "SignedHeaders")?,
            signature: wanted(signature, "Signature")?,
            time: time.to_owned(),
            expires: None,
        })
    }

    /// Out of `X-Amz-Algorithm=…&X-Amz-Credential=…`.
    fn query(query: &str) -> Result<Self, Refusal> {
        let wanted = |name: &str| {
            let mut values =
                canonical::parameters(query).filter(|(found, _)| found == name.as_bytes());
            let (value, again) = (values.next(), values.next());
            if again.is_some() {
                return Err(Refusal::Incomplete(format!(
                    "The query has '{name}' more than once."
                )));
            }
            value
                .and_then(|(_, value)| String::from_utf8(value).ok())
                .ok_or_else(|| {
                    Refusal::Incomplete(format!(
                        "AWS query-string parameters must include '{name}'."
                    ))
                })
        };
        if wanted("X-Amz-Algorithm")? != ALGORITHM {
            return Err(Refusal::unsupported());
        }
        let tokens = canonical::parameters(query).any(|(name, _)| name == b"X-Amz-Security-Token");
        Ok(Self {
            token: tokens.then(|| wanted("X-Amz-Security-Token")).transpose()?,
            credential: wanted("X-Amz-Credential")?,
            signed: wanted("X-Amz-SignedHeaders")?,
            signature: wanted("X-Amz-Signature")?,
            time: wanted("X-Amz-Date")?,
            expires: Some(wanted("X-Amz-Expires")?),
        })
    }
}

/// The digest in `x-amz-content-sha256`. That it is signed is seen to where all `x-amz-*` fields are.
fn payload(headers: &HeaderMap) -> Result<Option<Digest>, Refusal> {
    const NAME: &str = "x-amz-content-sha256";
    if !headers.contains_key(NAME) {
        return Ok(None);
    }
    canonical::only(headers, NAME)
        .and_then(|value| digest(std::str::from_utf8(value).ok()?))
        .map(Some)
        .ok_or_else(|| {
            Refusal::invalid(
                "x-amz-content-sha256 must be the SHA-256 of the body: 64 hexadecimal digits, in lower case. Unsigned \
                 and streaming payloads (UNSIGNED-PAYLOAD, STREAMING-…) are not supported.",
            )
        })
}

fn digest(text: &str) -> Option<Digest> {
    (text.len() == 64).then(|| text.parse().ok()).flatten()
}

/// `20150830T123600Z`.
fn time(text: &str) -> Option<Timestamp> {
    let digits = |range| {
        text.get(range)
            .is_some_and(|part: &str| part.bytes().all(|byte| byte.is_ascii_digit()))
    };
    if text.len() != 16 || !digits(0..8) || !digits(9..15) {
        return None;
    }
    let time = DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?;
    TimeZone::UTC.to_timestamp(time).ok()
}
