//! What a user does with a node, with the real program: every test starts `wharf` and asks it from outside.

#![expect(
    clippy::unwrap_used,
    reason = "what fails in a test's own work fails the test"
)]

mod backup;
mod deploy;
mod distribution;
mod inspect;
mod invoke;
mod manifest;
#[path = "../process/mod.rs"]
mod process;
mod restart;
mod serve;
mod up;
