//! What the node and its functions leave behind for people to read: logs, metrics, traces.
//!
//! Four audiences, kept apart. [`logs`] holds what functions say, a group per function, for whoever wrote the function.
//! [`access`] has a line for each request, for whoever wants to know who was there. [`metrics`] holds numbers about all of
//! it, for dashboards and alarms. [`subscriber`] writes what the node itself says to stderr, for whoever runs the node.
//!
//! Nothing here can fail a request: when a disk is full or a reader is slow, telemetry loses lines, says how many, and
//! the function is served.

pub mod access;
mod batch;
pub mod logs;
pub mod metrics;
pub mod subscriber;
