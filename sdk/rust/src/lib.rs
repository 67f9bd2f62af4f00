//! Write functions for a [Wharf](https://github.com/wharf-edge/wharf) node in Rust.
//!
//! A function is a WebAssembly component: a library of crate type `cdylib`, built for `wasm32-wasip2`, with one function
//! that says how it is called.
//!
//! ```toml
//! [lib]
//! crate-type = ["cdylib"]
//!
//! [dependencies]
//! wharf-sdk = "0.1"
//! ```
//!
//! # HTTP functions
//!
//! [`http`](macro@http) makes one async function the whole of an HTTP server: the node calls it for every request.
//!
//! ```
//! use wharf_sdk::http::{Body, Error, Request, Response};
//!
//! #[wharf_sdk::http]
//! async fn hello(_request: Request<Body>) -> Result<Response<Body>, Error> {
//!     Ok(Response::new("Hello, world!\n".into()))
//! }
//! ```
//!
//! # Event functions
//!
//! [`function`](macro@function) makes a function that takes a JSON event and answers with JSON: what a Lambda handler is.
//!
//! ```
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Deserialize)]
//! struct Greet { name: String }
//!
//! #[derive(Serialize)]
//! struct Greeting { text: String }
//!
//! #[wharf_sdk::function]
//! fn greet(event: Greet) -> Result<Greeting, std::convert::Infallible> {
//!     Ok(Greeting { text: format!("Hello, {}!", event.name) })
//! }
//!
//! // It is still a plain function, so it is tested as one.
//! let greeting = greet(Greet { name: "Ada".into() }).unwrap();
//! assert_eq!(greeting.text, "Hello, Ada!");
//! ```
//!
//! # Request hooks
//!
//! [`viewer_request`], [`origin_request`], [`origin_response`] and [`viewer_response`] make a function that sees the heads of
//! requests or responses on their way through a distribution: see [`hook`].
//!
//! # What the node offers
//!
//! [`context`] tells about the invocation, [`invoke`] calls another function, [`key_value`] keeps data, [`config`] has
//! configured values, and [`log`] writes leveled messages; standard output and standard error go to the function's log too.
//! Each is imported only by a function that uses it. Off the node, in a native test, calling one of them panics: keep
//! what is worth testing apart from where its data come from.

mod answer;
mod bindings;
pub mod config;
pub mod context;
pub mod hook;
pub mod http;
pub mod invoke;
pub mod key_value;
pub mod log;

#[doc(hidden)]
pub mod __private;

pub use answer::FunctionError;
pub use context::Context;
pub use wharf_sdk_macros::{
    function, http, origin_request, origin_response, viewer_request, viewer_response,
};
