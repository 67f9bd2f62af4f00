//! All tests that go through a door of the host, in one program: it is linked once, the guests are built once, and what
//! waits for one test waits beside all others.
//!
//! ```text
//! $ cargo test --test integration hooks::
//! ```
//!
//! What two files want is in `support` (a node in the tests' own process) or in `process` (the program `wharf` in a process
//! of its own).

#![allow(
    clippy::unwrap_used,
    reason = "what fails in a test's own work fails the test"
)]

mod architecture;
mod async_invoke;
mod aws;
mod bad_input;
mod bodies;
mod browser;
mod cli;
mod cloudwatch_logs;
mod code;
mod compatibility;
mod distribution;
mod edge;
mod examples;
mod flows;
mod full_disk;
mod function_urls;
mod hooks;
mod hostile;
mod http3;
mod iam;
mod ingress;
mod kill;
mod lambda_async;
mod lambda_functions;
mod lambda_invoke;
mod lambda_layers;
mod lambda_mappings;
mod lambda_urls;
mod languages;
mod observability;
mod process;
mod scale;
mod support;
mod templates;
mod tls;
mod tunnels;
