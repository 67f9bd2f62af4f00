//! How an invocation or a request ended, one word each.

use std::fmt;

use http::StatusCode;
use serde::{Deserialize, Serialize};

/// How an invocation or a request ended. The word is the same in the body, the `x-wharf-error` header, the log, the span
/// and the metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The function answered.
    Ok,
    /// The function answered with an error of its own (Lambda's `Unhandled`).
    FunctionError,
    /// Nothing is served at this authority and path.
    NoRoute,
    /// The request is malformed or breaks a rule of the listener.
    BadRequest,
    /// The client may not ask for it.
    Forbidden,
    /// The function's concurrency is used up, or the client asks too often.
    Throttled,
    /// The node's concurrency or instance slots are used up.
    Overloaded,
    /// The component trapped: a panic, an `unreachable`, an access out of bounds, a stack overflow.
    Trap,
    /// The component returned without an answer, or with one that is not HTTP or not JSON.
    BadResponse,
    /// The function's answer is larger than an answer may be.
    ResponseTooLarge,
    /// The function wanted more memory than it may have, in the guest or in the host on its behalf.
    OutOfMemory,
    /// The function executed more instructions than it may.
    OutOfFuel,
    /// The function used more processor time than it may.
    OutOfCpu,
    /// The function's wall-clock time was up.
    Timeout,
    /// The client went away before the answer was complete.
    Cancelled,
    /// An origin could not be reached.
    OriginUnreachable,
    /// An origin did not answer in time.
    OriginTimeout,
    /// An origin broke off before it had answered, or its answer is not HTTP, invalid or not whole.
    OriginBadResponse,
    /// The node failed.
    Internal,
}

/// Whose fault an outcome is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nobody's: it worked.
    None,
    /// Who sent the request.
    Client,
    /// The function.
    Guest,
    /// The server behind this node.
    Origin,
    /// This node.
    Host,
}

impl Outcome {
    /// Every outcome, for metrics and documentation.
    pub const ALL: [Self; 19] = [
        Self::Ok,
        Self::FunctionError,
        Self::NoRoute,
        Self::BadRequest,
        Self::Forbidden,
        Self::Throttled,
        Self::Overloaded,
        Self::Trap,
        Self::BadResponse,
        Self::ResponseTooLarge,
        Self::OutOfMemory,
        Self::OutOfFuel,
        Self::OutOfCpu,
        Self::Timeout,
        Self::Cancelled,
        Self::OriginUnreachable,
        Self::OriginTimeout,
        Self::OriginBadResponse,
        Self::Internal,
    ];

    /// The word.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::FunctionError => "function_error",
            Self::NoRoute => "no_route",
            Self::BadRequest => "bad_request",
            Self::Forbidden => "forbidden",
            Self::Throttled => "throttled",
            Self::Overloaded => "overloaded",
            Self::Trap => "trap",
            Self::BadResponse => "bad_response",
            Self::ResponseTooLarge => "response_too_large",
            Self::OutOfMemory => "out_of_memory",
            Self::OutOfFuel => "out_of_fuel",
            Self::OutOfCpu => "out_of_cpu",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
            Self::OriginUnreachable => "origin_unreachable",
            Self::OriginTimeout => "origin_timeout",
            Self::OriginBadResponse => "origin_bad_response",
            Self::Internal => "internal",
        }
    }

    /// The status an HTTP client sees.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Ok => StatusCode::OK,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::Throttled => StatusCode::TOO_MANY_REQUESTS,
            Self::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
            Self::FunctionError
            | Self::Trap
            | Self::BadResponse
            | Self::ResponseTooLarge
            | Self::OutOfMemory
            | Self::OutOfFuel
            | Self::OutOfCpu
            | Self::OriginUnreachable
            | Self::OriginBadResponse => StatusCode::BAD_GATEWAY,
            Self::Timeout | Self::OriginTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::Cancelled | Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Whose fault it is.
    pub const fn fault(self) -> Fault {
        match self {
            Self::Ok => Fault::None,
            Self::NoRoute
            | Self::BadRequest
            | Self::Forbidden
            | Self::Throttled
            | Self::Cancelled => Fault::Client,
            Self::FunctionError
            | Self::Trap
            | Self::BadResponse
            | Self::ResponseTooLarge
            | Self::OutOfMemory
            | Self::OutOfFuel
            | Self::OutOfCpu
            | Self::Timeout => Fault::Guest,
            Self::OriginUnreachable | Self::OriginTimeout | Self::OriginBadResponse => {
                Fault::Origin
            }
            Self::Overloaded | Self::Internal => Fault::Host,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_is_one_word_that_serde_writes_too() {
        for outcome in Outcome::ALL {
            assert_eq!(serde_json::to_value(outcome).unwrap(), outcome.code());
        }
    }
}
