//! An event function (`wharf:function/handler`) whose event chooses what it does: `{"do": "echo", …}`.
//!
//! It speaks the interface by hand, not through the SDK, so that it can also answer what the SDK never would.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use serde_json::{Value, json};
use wasi::keyvalue0_2_0_draft::{atomics, store};
use wharf::function::{
    context,
    invoke::{InvokeError, invoke},
};

wit_bindgen::generate!({
    path: "../../../wit",
    inline: "
        package wharf:probe;
        world probe {
            include wharf:function/event-function@0.1.0;
            include wasi:keyvalue/imports@0.2.0-draft;
        }
    ",
    world: "wharf:probe/probe",
    generate_all,
});

use exports::wharf::function::handler::{FunctionError, Guest, InvocationContext};

struct Probe;

export!(Probe);

impl Guest for Probe {
    fn handle(event: String, context: InvocationContext) -> Result<String, FunctionError> {
        let parameters: Value = serde_json::from_str(&event).map_err(|error| FunctionError {
            error_type: "Runtime.UnmarshalError".into(),
            error_message: error.to_string(),
            trace: Vec::new(),
        })?;
        // Over HTTP, the request's body is the event.
        let parameters = match parameters["body"].as_str().map(serde_json::from_str) {
            Some(Ok(parameters)) => parameters,
            _ => parameters,
        };
        let number = |key: &str, default| parameters[key].as_u64().unwrap_or(default);
        let text = |key: &str, default| parameters[key].as_str().unwrap_or(default).to_owned();
        // Whatever the event says: it may be for another function first, or the record of an invocation.
        let what = std::env::var("DO").unwrap_or_else(|_| text("do", "echo"));
        match what.as_str() {
            "echo" => Ok(event),
            "answer" => Ok(parameters["with"].to_string()),
            "context" => Ok(describe(&context).to_string()),
            "state" => Ok(json!({ "invocations": count_invocations() }).to_string()),
            "log" => {
                println!("to standard output");
                eprintln!("to standard error");
                Ok("null".into())
            }
            // A line of the log that says what was given.
            "print" => {
                let given = json!({"event": parameters, "client_context": context.client_context});
                println!("given: {given}");
                Ok("null".into())
            }
            "sleep" => {
                std::thread::sleep(Duration::from_millis(number("ms", 100)));
                Ok("null".into())
            }
            "error" => Err(FunctionError {
                error_type: text("type", "ProbeError"),
                error_message: text("message", "on purpose"),
                trace: vec!["first line".into(), "second line".into()],
            }),
            // Counts in the bucket `default`, which outlives the instance and the node.
            "count" => {
                std::thread::sleep(Duration::from_millis(number("ms", 0)));
                add(&text("key", "count"), number("by", 1)).map(|count| count.to_string())
            }
            // Which of the keys were never counted.
            "absent" => {
                let bucket = store::open("default").map_err(|error| key_value(&error))?;
                let mut absent = Vec::new();
                for key in parameters["keys"].as_array().into_iter().flatten() {
                    let counted = bucket.exists(key.as_str().unwrap_or_default());
                    if !counted.map_err(|error| key_value(&error))? {
                        absent.push(key.clone());
                    }
                }
                Ok(json!(absent).to_string())
            }
            "fail-until" => match add(&text("key", "count"), 1)? {
                attempt if attempt < number("attempt", 1) => Err(FunctionError {
                    error_type: "ProbeError".into(),
                    error_message: format!("attempt {attempt} fails on purpose"),
                    trace: Vec::new(),
                }),
                attempt => Ok(attempt.to_string()),
            },
            "big-error" => Err(FunctionError {
                error_type: "ProbeError".into(),
                error_message: "x".repeat(size(number("bytes", 7 << 20))),
                trace: Vec::new(),
            }),
            "panic" => panic!("this function panics on purpose"),
            "exit" => std::process::exit(3),
            "loop" => loop {
                std::hint::black_box(());
            },
            "memory" => {
                let mut held = Vec::new();
                loop {
                    held.push(vec![1_u8; 1 << 20]);
                }
            }
            // Not answers, though they are texts.
            "bad-json" => Ok("{\"cut\": ".into()),
            "no-json" => Ok(String::new()),
            "two-documents" => Ok("1 2".into()),
            "big-answer" => Ok(format!(
                "\"{}\"",
                "x".repeat(size(number("bytes", 7 << 20)))
            )),
            "deep-answer" => {
                let depth = size(number("depth", 1_000_000));
                Ok("[".repeat(depth) + &"]".repeat(depth))
            }
            "invoke" => answer(invoke(
                &text("function", &context.function_name),
                &parameters["event"].to_string(),
            )),
            // Calls itself for ever: the host counts the hops.
            "recurse" => answer(invoke(&text("function", &context.function_name), &event)),
            other => Err(FunctionError {
                error_type: "UnknownProbe".into(),
                error_message: other.to_owned(),
                trace: Vec::new(),
            }),
        }
    }
}

fn describe(given: &InvocationContext) -> Value {
    let value = |context: &InvocationContext| {
        json!({
            "request_id": context.request_id,
            "function_name": context.function_name,
            "function_version": context.function_version,
            "invoked_function_arn": context.invoked_function_arn,
            "memory_limit_mb": context.memory_limit_mb,
            "deadline_ms": context.deadline_ms,
            "traceparent": context.traceparent,
            "client_context": context.client_context,
        })
    };
    json!({
        "given": value(given),
        "asked": value(&context::get()),
        "remaining_time_ms": context::remaining_time_ms(),
        "remaining_fuel": context::remaining_fuel(),
    })
}

/// How many events this instance has handled.
fn count_invocations() -> u64 {
    static INVOCATIONS: AtomicU64 = AtomicU64::new(0);
    INVOCATIONS.fetch_add(1, Ordering::Relaxed) + 1
}

/// Adds to a number in the bucket `default`, and gives the new one.
fn add(key: &str, by: u64) -> Result<u64, FunctionError> {
    store::open("default")
        .and_then(|bucket| atomics::increment(&bucket, key, by))
        .map_err(|error| key_value(&error))
}

fn key_value(error: &store::Error) -> FunctionError {
    FunctionError {
        error_type: "KeyValueError".into(),
        error_message: format!("{error:?}"),
        trace: Vec::new(),
    }
}

/// Hands on the answer of another function; an error becomes one of the kind `InvokeError`, so that a test sees which.
fn answer(result: Result<String, InvokeError>) -> Result<String, FunctionError> {
    result.map_err(|error| match error {
        // An error from the end of a chain comes through as it is.
        InvokeError::Function(error) => error,
        error => FunctionError {
            error_type: "InvokeError".into(),
            error_message: format!("{error:?}"),
            trace: Vec::new(),
        },
    })
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
