//! What a listener counts. Telemetry reads it; nothing here is written on the way of a request.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A number that only grows, or a level that goes up and down.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    pub(super) fn increment(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// One more, until the guard is dropped.
    pub(super) fn hold(&self) -> Held<'_> {
        self.increment();
        Held(self)
    }
}

/// One of a level.
pub(super) struct Held<'a>(&'a Counter);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

/// The counters of one [`Server`](super::Server), from its start.
#[derive(Debug, Default)]
pub struct ListenerStats {
    /// Connections accepted.
    pub accepted: Counter,
    /// Connections open now (a level).
    pub active: Counter,
    /// Connections that are WebSockets now (a level).
    pub tunnels: Counter,
    /// Calls of `accept` that failed, such as for want of file descriptors.
    pub accept_errors: Counter,
    /// TLS and QUIC handshakes that failed.
    pub handshake_failures: Counter,
    /// TLS and QUIC handshakes that were not done in time.
    pub handshake_timeouts: Counter,
    /// Connections, and streams of HTTP/3, closed because the head of a request did not come in time.
    pub head_timeouts: Counter,
    /// Connections closed because no request came for long; not a failure.
    pub idle_closes: Counter,
    /// Requests whose bodies made no progress in time.
    pub body_timeouts: Counter,
    /// Connections and streams of HTTP/2 and HTTP/3 closed because their clients did not read.
    pub write_timeouts: Counter,
    /// Connections ended by an error: malformed HTTP, a protocol violation, a reset.
    pub protocol_errors: Counter,
}
