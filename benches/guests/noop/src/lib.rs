//! Takes events and does nothing: what is left is the cost of an invocation.
//!
//! Its answer is a response over HTTP, so that the harness can ask whether it is there.

wit_bindgen::generate!({
    path: "../../../wit",
    world: "wharf:function/event-function@0.1.0",
    generate_all,
});

use exports::wharf::function::handler::{FunctionError, Guest, InvocationContext};

struct Noop;

export!(Noop);

impl Guest for Noop {
    fn handle(_: String, _: InvocationContext) -> Result<String, FunctionError> {
        Ok(r#"{"statusCode": 200, "body": "Hello, world!\n"}"#.into())
    }
}
