//! Functions that a request and its answer pass on their way through a distribution.

use serde::{Deserialize, Serialize};

use super::super::{ByteSize, FunctionName, hook::Point};

/// The hooks of a behaviour. At each point they run in their order, each on what the one before it made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Hooks {
    /// When a request has come, before the cache is asked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub viewer_request: Vec<Hook>,
    /// When the cache does not have the answer, before the origin is asked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub origin_request: Vec<Hook>,
    /// Middleware around what answers: each gets the request, asks what is behind it, and streams the answer on. The origin is
    /// behind the last, the hooks at the origin are before the first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub transform: Vec<FunctionName>,
    /// When the origin has answered, before the answer is stored.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub origin_response: Vec<Hook>,
    /// Before an answer is sent, wherever it is from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub viewer_response: Vec<Hook>,
}

impl Hooks {
    /// The hooks at a point.
    pub fn at(&self, point: Point) -> &[Hook] {
        match point {
            Point::ViewerRequest => &self.viewer_request,
            Point::OriginRequest => &self.origin_request,
            Point::OriginResponse => &self.origin_response,
            Point::ViewerResponse => &self.viewer_response,
        }
    }

    /// Whether one of them works on whole answers, so that the origin is not asked for parts: what a hook makes of a body is
    /// not to be had by asking for less of it.
    pub fn want_whole(&self) -> bool {
        !self.transform.is_empty() || self.origin_response.iter().any(|hook| hook.body.is_some())
    }
}

/// What a distribution has a function for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It answers.
    Answer,
    /// It is a hook at this point.
    Hook(Point),
    /// It is a middleware.
    Transform,
}

/// A function at a point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// The function.
    pub function: FunctionName,
    /// What becomes of the request when it fails.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// How much of the body it is given, at [`Point::OriginRequest`] and [`Point::OriginResponse`]; none of it by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<ByteSize>,
}

/// What becomes of a request whose hook traps, or is too slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// It fails too.
    #[default]
    Fail,
    /// It goes on as if the hook were not there.
    Bypass,
}
