//! Wharf: an edge host that runs WebAssembly components as functions.
//!
//! The modules stand in the order a request meets them, and a module uses only those further down
//! (`tests/architecture.rs` keeps it so):
//!
//! ```text
//! main → cli → node → { ingress, control, events, workflow } → edge → invoke → { runtime, router } → store → { model, telemetry }
//! ```

pub mod cli;
pub mod control;
pub mod ingress;
pub mod invoke;
pub mod model;
pub mod node;
pub mod router;
pub mod runtime;
pub mod store;
pub mod telemetry;
