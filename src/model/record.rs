//! What one invocation leaves behind.

use std::{fmt, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Outcome;

/// The id of one invocation or request: a version 4 UUID.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId(uuid::Uuid);

impl RequestId {
    /// A new one.
    pub fn generate() -> Self {
        Self(uuid::Uuid::new_v4())
    }

    /// Writes the id, 36 characters, without allocating.
    pub fn encode<'a>(&self, buffer: &'a mut [u8; 36]) -> &'a str {
        self.0.hyphenated().encode_lower(buffer)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.encode(&mut [0; 36]))
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self}")
    }
}

impl Serialize for RequestId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.encode(&mut [0; 36]))
    }
}

impl<'de> Deserialize<'de> for RequestId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let id = uuid::Uuid::try_parse(&text).map_err(serde::de::Error::custom)?;
        Ok(Self(id))
    }
}

/// How the instance of an invocation came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// Made ahead, or used before: it was ready.
    Warm,
    /// Made while the request waited.
    Cold,
}

/// The receipt of one invocation: what it used and how it ended.
#[derive(Debug, Clone, Serialize)]
pub struct InvocationRecord {
    /// The id in the log lines and in the response.
    pub request_id: RequestId,
    /// How it ended.
    pub outcome: Outcome,
    /// From admission to the last byte of the answer.
    #[serde(rename = "duration_us", serialize_with = "micros")]
    pub duration: Duration,
    /// Making the instance, on a cold start.
    #[serde(rename = "init_us", serialize_with = "optional_micros")]
    pub init: Option<Duration>,
    /// Thread CPU time spent on the guest and its host calls.
    #[serde(rename = "cpu_us", serialize_with = "micros")]
    pub cpu: Duration,
    /// Units of fuel used, about one an instruction.
    pub fuel: u64,
    /// The most bytes of memories and tables the instance had together.
    pub peak_memory: u64,
    /// Whether the instance was ready.
    pub start: Start,
    /// Calls to metered host interfaces: outbound requests, key-value operations, calls of other functions.
    pub host_calls: u64,
    /// Bytes of request body or event that the function was given.
    pub bytes_in: u64,
    /// Bytes of response body or answer.
    pub bytes_out: u64,
}

impl InvocationRecord {
    /// The duration that is billed: whole milliseconds, rounded up, as in Lambda's REPORT line.
    pub fn billed(&self) -> Duration {
        let micros = self.duration.as_micros() + self.init.unwrap_or_default().as_micros();
        Duration::from_millis(u64::try_from(micros.div_ceil(1000)).unwrap_or(u64::MAX))
    }
}

fn micros<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}

fn optional_micros<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => micros(duration, serializer),
        None => serializer.serialize_none(),
    }
}
