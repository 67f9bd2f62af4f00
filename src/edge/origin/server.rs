//! One server: its connections, its health and its numbers.
//!
//! It outlives the configuration that named it as long as the next one names it in the same way. A request takes a slot, then a
//! connection that is kept or a new one. There are as many slots as connections; whoever finds none waits for one, if not too many
//! wait already and not longer than a connection may take.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::Semaphore,
    task::AbortHandle,
    time::{Instant, interval, timeout},
};

use super::{
    OriginError, ServerState,
    check::{self, Check},
    circuit::Circuit,
    connect::Dialer,
    health::Health,
    lease::{Connection, Http1, Http2, KEEP, Lease},
    timer::Timer,
};
use crate::model::distribution::Ejection;

/// How long hyper may take from the last byte of an answer to be ready for the next request.
const SETTLE: Duration = Duration::from_millis(50);

/// See the [module](self).
pub(super) struct Server {
    url: Box<str>,
    dialer: Arc<Dialer>,
    slots: Semaphore,
    connections: u32,
    waiting: AtomicU32,
    /// Kept connections, the most recently used one last.
    idle: Mutex<Vec<Idle>>,
    shared: Mutex<Vec<SharedConnection>>,
    /// Held while dialling what may turn out to be shared, so that those who come meanwhile share it.
    dialling: tokio::sync::Mutex<()>,
    /// Whether the last connection was HTTP/1.1 though it might have been HTTP/2.
    speaks_http1: AtomicBool,
    pub(super) health: Health,
    circuit: Circuit,
    numbers: Numbers,
    tasks: Mutex<Vec<AbortHandle>>,
}

struct Idle {
    connection: Http1,
    timer: Timer,
    since: Instant,
}

struct SharedConnection {
    root: Http2,
    /// Since when the sweeper has seen nobody on it.
    unused: Option<Instant>,
}

#[derive(Debug, Default)]
struct Numbers {
    requests: AtomicU64,
    failures: AtomicU64,
    answers: AtomicU64,
    latency: AtomicU64,
    dials: AtomicU64,
}

/// What a server did since it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerStatistics {
    /// Its URL.
    pub url: String,
    /// How it stands.
    pub state: ServerState,
    /// Requests that got a connection to it, repeated ones each time.
    pub requests: u64,
    /// Failures: of connections, timeouts, and answers that are none or broke off.
    pub failures: u64,
    /// Heads of answers.
    pub answers: u64,
    /// The time from each request to the head of its answer, all together.
    pub latency: Duration,
    /// Connections that were dialled, in vain or not.
    pub dials: u64,
    /// Slots in use: connections, or requests on shared ones.
    pub in_use: u32,
    /// HTTP/1.1 connections that wait for a request, and HTTP/2 connections.
    pub kept: u32,
    /// Requests that wait for a slot.
    pub waiting: u32,
}

impl Server {
    /// To be called in a tokio runtime: what is kept is swept, and the server checked, until it is dropped.
    pub(super) fn new(
        url: &str,
        dialer: Dialer,
        connections: u32,
        ejection: Ejection,
        check: Option<Check>,
    ) -> Arc<Self> {
        let server = Arc::new(Self {
            url: url.into(),
            dialer: Arc::new(dialer),
            slots: Semaphore::new(connections as usize),
            connections,
            waiting: AtomicU32::new(0),
            idle: Mutex::default(),
            shared: Mutex::default(),
            dialling: tokio::sync::Mutex::default(),
            speaks_http1: AtomicBool::new(false),
            health: Health::new(ejection),
            circuit: Circuit::new(ejection.failures),
            numbers: Numbers::default(),
            tasks: Mutex::default(),
        });
        let mut tasks = vec![tokio::spawn(sweep(Arc::downgrade(&server))).abort_handle()];
        if let Some(check) = check {
            let dialer = Arc::clone(&server.dialer);
            let checking = check::run(check, dialer, Arc::downgrade(&server));
            tasks.push(tokio::spawn(checking).abort_handle());
        }
        *lock(&server.tasks) = tasks;
        server
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// A connection for one request; a new one if `fresh`. To make it may take the time that it is given, and `until` then at most.
    pub(super) async fn acquire(
        self: &Arc<Self>,
        fresh: bool,
        until: Option<Instant>,
    ) -> Result<Lease, OriginError> {
        let slot = self.slot().await?;
        self.numbers.requests.fetch_add(1, Relaxed);
        if !fresh {
            while let Some(mut idle) = self.pop() {
                if idle.connection.is_ready(SETTLE).await {
                    return Ok(slot.with(Connection::Http1(idle.connection), Some(idle.timer)));
                }
            }
            if let Some(place) = self.place() {
                return Ok(slot.with(Connection::Http2(place), None));
            }
        }
        let may_share = self.dialer.may_speak_http2() && !self.speaks_http1.load(Relaxed);
        let mut turn = None;
        if may_share {
            // Who tries has the turn; the others need not wait to learn that it is in vain.
            if self.circuit.is_on_trial() {
                return Err(OriginError::CircuitOpen);
            }
            turn = timeout(self.dialer.timeout(), self.dialling.lock())
                .await
                .ok();
            if let (false, Some(place)) = (fresh, self.place()) {
                return Ok(slot.with(Connection::Http2(place), None));
            }
            if self.speaks_http1.load(Relaxed) {
                turn = None;
            }
        }
        let connection = self.dial(self.dialer.dial(until)).await?;
        match &connection {
            Connection::Http2(first) => {
                lock(&self.shared).push(SharedConnection {
                    root: first.root(),
                    unused: None,
                });
            }
            Connection::Http1(_) => {
                if may_share {
                    self.speaks_http1.store(true, Relaxed);
                }
            }
        }
        drop(turn);
        Ok(slot.with(connection, None))
    }

    /// A connection that can become another protocol's. It is not kept if it does not: it was dialled though there may be others
    /// at rest, and it speaks HTTP/1.1 where the origin may not.
    pub(super) async fn acquire_upgradable(
        self: &Arc<Self>,
        until: Option<Instant>,
    ) -> Result<Lease, OriginError> {
        let slot = self.slot().await?;
        self.numbers.requests.fetch_add(1, Relaxed);
        let connection = self.dial(self.dialer.dial_upgradable(until)).await?;
        Ok(slot.with(connection, None).once())
    }

    async fn slot(self: &Arc<Self>) -> Result<Lease, OriginError> {
        let permit = match self.slots.try_acquire() {
            Ok(permit) => permit,
            Err(_) => {
                let _waiting = Waiting::begin(self).ok_or(OriginError::Overloaded)?;
                match timeout(self.dialer.timeout(), self.slots.acquire()).await {
                    Ok(Ok(permit)) => permit,
                    Ok(Err(_)) | Err(_) => return Err(OriginError::Overloaded),
                }
            }
        };
        // The lease gives it back.
        permit.forget();
        Ok(Lease::of_slot(Arc::clone(self)))
    }

    pub(super) fn release(&self) {
        self.slots.add_permits(1);
    }

    async fn dial(
        &self,
        dialled: impl Future<Output = Result<Connection, OriginError>>,
    ) -> Result<Connection, OriginError> {
        let attempt = self.circuit.begin().ok_or(OriginError::CircuitOpen)?;
        self.make_room();
        self.numbers.dials.fetch_add(1, Relaxed);
        let dialled = dialled.await;
        attempt.end(dialled.is_ok());
        dialled.inspect_err(|error| self.failed(error))
    }

    fn pop(&self) -> Option<Idle> {
        loop {
            let mut kept = lock(&self.idle).pop()?;
            if kept.connection.is_open() {
                return Some(kept);
            }
        }
    }

    /// Closes the connection that was idle for longest if, with the slots that are taken, there are more than there may be: who
    /// dials has a slot already, and may have left those that are kept alone.
    fn make_room(&self) {
        let mut idle = lock(&self.idle);
        let is_full = idle.len() > self.slots.available_permits();
        let oldest = is_full.then(|| idle.remove(0));
        // To close it takes a call of the system's.
        drop(idle);
        drop(oldest);
    }

    fn place(&self) -> Option<Http2> {
        let mut shared = lock(&self.shared);
        if shared.is_empty() {
            return None;
        }
        shared.retain(|connection| !connection.root.is_spent());
        shared
            .iter()
            .find_map(|connection| connection.root.another())
    }

    pub(super) fn keep(&self, mut connection: Http1, timer: Timer) {
        if !connection.is_open() {
            return;
        }
        connection.reused = true;
        lock(&self.idle).push(Idle {
            connection,
            timer,
            since: Instant::now(),
        });
    }

    pub(super) fn answered(&self, latency: Duration) {
        let latency = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.numbers.answers.fetch_add(1, Relaxed);
        self.numbers.latency.fetch_add(latency, Relaxed);
    }

    pub(super) fn succeeded(&self) {
        self.health.succeeded();
    }

    pub(super) fn failed(&self, error: &OriginError) {
        if !error.blames_server() {
            return;
        }
        self.numbers.failures.fetch_add(1, Relaxed);
        tracing::debug!(
            server = &*self.url,
            error = error as &dyn std::error::Error,
            "origin server failed"
        );
        if self.health.failed() {
            tracing::warn!(server = &*self.url, "origin server ejected");
        }
    }

    pub(super) fn statistics(&self) -> ServerStatistics {
        let state = if self.health.is_unhealthy() {
            ServerState::Unhealthy
        } else if self.circuit.is_open() {
            ServerState::CircuitOpen
        } else if self.health.is_ejected() {
            ServerState::Ejected
        } else {
            ServerState::Healthy
        };
        let free = u32::try_from(self.slots.available_permits()).unwrap_or(u32::MAX);
        let kept = lock(&self.idle).len() + lock(&self.shared).len();
        ServerStatistics {
            url: self.url.to_string(),
            state,
            requests: self.numbers.requests.load(Relaxed),
            failures: self.numbers.failures.load(Relaxed),
            answers: self.numbers.answers.load(Relaxed),
            latency: Duration::from_micros(self.numbers.latency.load(Relaxed)),
            dials: self.numbers.dials.load(Relaxed),
            in_use: self.connections.saturating_sub(free),
            kept: u32::try_from(kept).unwrap_or(u32::MAX),
            waiting: self.waiting.load(Relaxed),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for task in lock(&self.tasks).iter() {
            task.abort();
        }
    }
}

/// One that waits for a slot. As many may wait as there are slots.
struct Waiting<'a>(&'a Server);

impl<'a> Waiting<'a> {
    fn begin(server: &'a Server) -> Option<Self> {
        let waiting = Self(server);
        let before = server.waiting.fetch_add(1, Relaxed);
        (before < server.connections).then_some(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}

/// Closes what nobody has used for long.
async fn sweep(server: Weak<Server>) {
    let mut tick = interval(KEEP / 4);
    loop {
        let now = tick.tick().await;
        let Some(server) = server.upgrade() else {
            return;
        };
        lock(&server.idle)
            .retain_mut(|idle| now.duration_since(idle.since) < KEEP && idle.connection.is_open());
        lock(&server.shared).retain_mut(|shared| {
            if shared.root.is_unused() {
                let since = *shared.unused.get_or_insert(now);
                return !shared.root.is_spent() && now.duration_since(since) < KEEP;
            }
            shared.unused = None;
            !shared.root.is_spent()
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic between two of its lines leaves no entry half made.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
