//! Wharf: an edge host that runs WebAssembly components as functions.
//!
//! This page is the map of the source: who stands where, and what happens to a request. Why things are as they are is in
//! `docs/decisions/`.
//!
//! # Layers
//!
//! A module uses those below it, never one above and never a neighbour. Neighbours meet in [`node`], the only place that
//! knows all parts. `tests/architecture.rs` keeps it so.
//!
//! ```text
//! main → cli → node → { ingress, control, events, acme } → edge → invoke → { runtime, router } → { store, telemetry, dial, tls } → { model, boxed }
//! ```
//!
//! | module | what it is | and it alone |
//! | --- | --- | --- |
//! | [`cli`] | one file a verb; turns flags, environment and files into values, and errors into exit codes | reads settings, prints |
//! | [`node`] | binds everything, wires it, runs, drains | |
//! | [`ingress`] | HTTP in and out: listener, TLS, connection, deadlines, [`request`](ingress::DataPlane) | speaks HTTP to clients (hyper, h3) |
//! | [`control`] | the API: who may call it, deploy, invoke, logs, health, metrics; and its client | has axum |
//! | [`events`] | asynchronous invocation: takes events from the queue, runs them, tries again | |
//! | [`acme`] | automatic certificates: an account, orders, renewals | orders certificates |
//! | [`edge`] | a distribution's way: behaviours, hooks, cache, origins | |
//! | [`invoke`] | the one door to run a function: admission, limits, report | |
//! | [`router`] | which target serves an authority, method and path; pure | |
//! | [`runtime`] | engine, compiler, prepared components, pool, instances, limits, what guests import | has wasmtime |
//! | [`store`] | durable state: catalog, key-value, queue, blobs | has a database (SQLite) |
//! | [`dial`] | names to addresses, and which of those are dialled | |
//! | [`tls`] | certificates and their keys, as values | reads X.509 |
//! | [`telemetry`] | functions' logs, the access log, metrics, what the node says | |
//! | [`model`] | plain values: names, sizes, configuration, outcomes, records | |
//! | `boxed` | futures in boxes, without a copy | |
//!
//! # Life of a request
//!
//! 1. The listener of [`ingress`] accepts; nothing that a client does stops it. TLS and the connection run in a task of
//!    their own, under deadlines.
//! 2. [`DataPlane`](ingress::DataPlane) is the table of contents of the data plane: the request gets an id, is made
//!    unambiguous ([`sanitize`](ingress::sanitize)), and the [`Router`](router::Router) finds its target.
//! 3. [`Invoke`](invoke::Invoke) admits it, or refuses it for want of concurrency. A function that takes events gets the
//!    request as JSON.
//! 4. [`Runtime`](runtime::Runtime) has a warm instance ready, or makes one in microseconds from a prepared component, and
//!    calls it under its limits: fuel, processor time, wall-clock time, memory. Compiling is never done here, but when a
//!    function is deployed, in a child process.
//!
//!    A distribution has another way: [`Edge`](edge::Edge) chooses the behaviour, runs its hooks through the same door, and asks
//!    the cache, and on a miss an origin or a function.
//! 5. The answer streams back. When its last byte is sent, or the client has gone, the instance ends and the
//!    invocation's one record goes to the function's log and metrics; the request's line goes to the access log.
//!
//! However it ends, the [`Outcome`](model::Outcome) is one word, the same in body, header, log and metric.
//!
//! # Control and data
//!
//! [`control`] writes the catalog, whole changes at a time, in the [`store`]. [`node`] follows the catalog and turns it into two
//! immutable snapshots, functions and routes, that it swaps in. A request keeps what it started with, and never waits for
//! a lock, for the store or for the control plane; when the store fails, what was served is served on.

pub mod acme;
mod boxed;
pub mod cli;
pub mod control;
pub mod dial;
pub mod edge;
pub mod events;
pub mod ingress;
pub mod invoke;
pub mod model;
pub mod node;
pub mod router;
pub mod runtime;
pub mod store;
pub mod telemetry;
pub mod tls;
