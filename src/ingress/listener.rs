//! Where connections come in.
//!
//! Nothing a client does, and no shortage of the node's, can end the listener: [`Listener::accept`] returns no `Result`. It
//! takes no connection before there is a permit for it, so that what is too much waits in the kernel's backlog.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};

use super::ListenerStats;

/// Connections the kernel holds for us before we accept them. It caps this at `net.core.somaxconn`.
const BACKLOG: u32 = 4096;

/// How long `accept` waits after a failure; doubled with each that follows, up to the most.
const FIRST_WAIT: Duration = Duration::from_millis(10);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// A bound socket and the permits for its connections.
#[derive(Debug)]
pub(super) struct Listener {
    socket: TcpListener,
    permits: Arc<Semaphore>,
    stats: Arc<ListenerStats>,
}

impl Listener {
    /// Binds `address`, for at most `connections` at one moment. Port 0 takes any free port.
    pub(super) fn bind(
        address: SocketAddr,
        connections: usize,
        stats: Arc<ListenerStats>,
    ) -> io::Result<Self> {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        // A node that restarts binds its port although connections of the one before linger in TIME_WAIT.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok(Self {
            socket: socket.listen(BACKLOG)?,
            permits: Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS))),
            stats,
        })
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// The permits of its connections, one of which it always holds for the next.
    pub(super) fn permits(&self) -> Arc<Semaphore> {
        Arc::clone(&self.permits)
    }

    /// The next connection, with the permit that it keeps to its end.
    pub(super) async fn accept(&self) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        let mut wait = FIRST_WAIT;
        loop {
            let error = match self.socket.accept().await {
                Ok((stream, peer)) => {
                    self.stats.accepted.increment();
                    return (stream, peer, permit);
                }
                Err(error) => error,
            };
            self.stats.accept_errors.increment();
            if is_about_one_connection(&error) {
                tracing::debug!(%error, "connection lost before it was accepted");
                continue;
            }
            tracing::warn!(%error, ?wait, "accept failed, trying again");
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }
}

/// Whether only the connection that was to be accepted is lost, and the next may well succeed (accept(2), "Error handling").
fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
    )
}
