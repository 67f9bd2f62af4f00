//! From a JSON event to a typed call, and from its result to JSON or an error the caller can read.

use std::{any::type_name, error::Error, fmt};

use serde::{Serialize, de::DeserializeOwned};

use crate::{bindings::imports::wharf::function::types as wit, context::Context};

/// An error of a function as its caller sees it: Lambda's error document.
///
/// Any error a function returns becomes one, with the name of its type and its causes. Return this type itself to choose
/// what the caller sees.
///
/// ```
/// use wharf_sdk::FunctionError;
///
/// fn charge(cents: i64) -> Result<(), FunctionError> {
///     if cents <= 0 {
///         return Err(FunctionError::new("InvalidAmount", format!("{cents} is not an amount")));
///     }
///     Ok(())
/// }
///
/// assert_eq!(charge(0).unwrap_err().error_type, "InvalidAmount");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionError {
    /// The kind of error: `errorType`.
    pub error_type: String,
    /// What went wrong, in words: `errorMessage`.
    pub message: String,
    /// Where it went wrong or what caused it, a line each: `trace`.
    pub trace: Vec<String>,
}

impl FunctionError {
    /// An error of a kind, without a trace.
    pub fn new(error_type: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            error_type: error_type.into(),
            message: message.into(),
            trace: Vec::new(),
        }
    }

    /// What an error of the type `E` looks like to the caller.
    fn of<E: Into<Box<dyn Error>>>(error: E) -> Self {
        let error: Box<dyn Error> = error.into();
        let error = match error.downcast::<Self>() {
            Ok(chosen) => return *chosen,
            Err(error) => error,
        };
        let causes = std::iter::successors(error.source(), |&cause| cause.source());
        Self {
            error_type: short_type_name(type_name::<E>()).to_owned(),
            message: error.to_string(),
            trace: causes.map(|cause| format!("caused by: {cause}")).collect(),
        }
    }
}

impl fmt::Display for FunctionError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.error_type, self.message)
    }
}

impl Error for FunctionError {}

impl From<wit::FunctionError> for FunctionError {
    fn from(error: wit::FunctionError) -> Self {
        Self {
            error_type: error.error_type,
            message: error.error_message,
            trace: error.trace,
        }
    }
}

impl From<FunctionError> for wit::FunctionError {
    fn from(error: FunctionError) -> Self {
        Self {
            error_type: error.error_type,
            error_message: error.message,
            trace: error.trace,
        }
    }
}

/// Runs a function that does not wait.
pub fn call<T, A, E>(
    event: &str,
    context: wit::InvocationContext,
    function: impl FnOnce(T, Context) -> Result<A, E>,
) -> Result<String, wit::FunctionError>
where
    T: DeserializeOwned,
    A: Serialize,
    E: Into<Box<dyn Error>>,
{
    let event = read_event(event)?;
    write_answer(function(event, context.into()))
}

/// Runs an async function to its end.
pub fn call_async<T, A, E, F>(
    event: &str,
    context: wit::InvocationContext,
    function: impl FnOnce(T, Context) -> F,
) -> Result<String, wit::FunctionError>
where
    T: DeserializeOwned,
    A: Serialize,
    E: Into<Box<dyn Error>>,
    F: Future<Output = Result<A, E>>,
{
    let event = read_event(event)?;
    write_answer(wstd::runtime::block_on(function(event, context.into())))
}

/// The names are those of Lambda's own runtimes.
fn read_event<T: DeserializeOwned>(event: &str) -> Result<T, FunctionError> {
    serde_json::from_str(event).map_err(|error| {
        FunctionError::new(
            "Runtime.UnmarshalError",
            format!("the event is not what the function takes: {error}"),
        )
    })
}

fn write_answer<A, E>(result: Result<A, E>) -> Result<String, wit::FunctionError>
where
    A: Serialize,
    E: Into<Box<dyn Error>>,
{
    let answer = result.map_err(FunctionError::of)?;
    serde_json::to_string(&answer).map_err(|error| {
        FunctionError::new(
            "Runtime.MarshalError",
            format!("the answer is no JSON: {error}"),
        )
        .into()
    })
}

/// `OrderError` of `order::OrderError<T>`; `Error` where the type says nothing of the kind of error.
fn short_type_name(name: &str) -> &str {
    let path = name.split('<').next().unwrap_or(name);
    match path.rsplit("::").next().unwrap_or(path) {
        "Box" | "String" | "&str" => "Error",
        name => name,
    }
}

#[cfg(test)]
mod tests {
    use std::num::ParseIntError;

    use super::*;

    fn context() -> wit::InvocationContext {
        wit::InvocationContext {
            request_id: "5d6a3a53-0000-4000-8000-000000000000".into(),
            function_name: "double".into(),
            function_version: "$LATEST".into(),
            invoked_function_arn: String::new(),
            memory_limit_mb: 128,
            deadline_ms: 0,
            traceparent: None,
            client_context: None,
        }
    }

    fn double(number: String) -> Result<i64, ParseIntError> {
        Ok(number.parse::<i64>()? * 2)
    }

    #[test]
    fn an_event_is_read_and_the_answer_written_as_json() {
        let answer = call("\"21\"", context(), |event, _| double(event));
        assert_eq!(answer.unwrap(), "42");
    }

    #[test]
    fn the_context_is_handed_on() {
        let answer = call("null", context(), |(), context| {
            Ok::<_, std::convert::Infallible>(context.function_name)
        });
        assert_eq!(answer.unwrap(), "\"double\"");
    }

    #[test]
    fn an_async_function_is_run_to_its_end() {
        let answer = call_async("\"21\"", context(), async |event, _| double(event));
        assert_eq!(answer.unwrap(), "42");
    }

    #[test]
    fn an_error_carries_the_name_of_its_type() {
        let error = call("\"x\"", context(), |event, _| double(event)).unwrap_err();
        assert_eq!(error.error_type, "ParseIntError");
        assert_eq!(error.error_message, "invalid digit found in string");
    }

    #[test]
    fn the_causes_of_an_error_are_its_trace() {
        let error = call("\"x\"", context(), |event, _| {
            use anyhow::Context as _;
            double(event).context("double the number")
        })
        .unwrap_err();
        assert_eq!(error.error_type, "Error");
        assert_eq!(error.error_message, "double the number");
        assert_eq!(error.trace, ["caused by: invalid digit found in string"]);
    }

    #[test]
    fn a_function_may_choose_what_its_caller_sees() {
        let error = call("null", context(), |(), _| {
            Err::<(), _>(FunctionError::new("SoldOut", "none left"))
        });
        assert_eq!(error.unwrap_err().error_type, "SoldOut");
        let error = call("null", context(), |(), _| Err::<(), _>("none left"));
        assert_eq!(error.unwrap_err().error_type, "Error");
    }

    #[test]
    fn an_event_of_another_shape_is_an_unmarshal_error() {
        for event in ["{}", "", "\"x", "[1]"] {
            let error = call(event, context(), |event, _| double(event)).unwrap_err();
            assert_eq!(error.error_type, "Runtime.UnmarshalError", "{event}");
        }
    }

    #[test]
    fn a_type_is_named_without_its_path_and_parameters() {
        for (name, short) in [
            ("order::OrderError", "OrderError"),
            ("a::Tagged<b::C>", "Tagged"),
            ("alloc::boxed::Box<dyn core::error::Error>", "Error"),
            ("&str", "Error"),
        ] {
            assert_eq!(short_type_name(name), short);
        }
    }
}
