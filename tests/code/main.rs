//! Where a function's code comes from, and what its layers add to it.

#![expect(
    clippy::unwrap_used,
    reason = "what fails in a test's own work fails the test"
)]

mod deployed;
mod layers;
mod packages;
mod registry;
mod s3;
mod servers;
#[path = "../support/mod.rs"]
mod support;
