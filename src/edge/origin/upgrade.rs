//! WebSocket: an HTTP/1.1 connection that becomes a tunnel (RFC 6455 §4, RFC 9110 §7.8).
//!
//! A tunnel has a connection of its own, which takes a slot of its server as long as it lasts. After the 101 nothing is looked
//! at: bytes are copied both ways until both ends are done, one fails, or nothing came for the idle time.

use std::{
    io,
    pin::{Pin, pin},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional},
    time::{Instant, sleep},
};

use super::{
    Member, Origin, OriginBody, OriginError, Viewer, body::RequestBody, choose::Tried,
    lease::Lease, message::Message,
};
use crate::model::{Outcome, hop};

const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
const UPGRADE: HeaderValue = HeaderValue::from_static("upgrade");

/// What an origin says to an upgrade.
#[derive(Debug)]
pub enum Upgrade {
    /// 101, to be sent to the viewer, and the tunnel to be joined with its connection after that.
    Switched(Response<()>, Tunnel),
    /// An answer like any other.
    Declined(Response<OriginBody>),
}

/// The origin's end of a tunnel.
pub struct Tunnel {
    upgraded: Upgraded,
    idle: Duration,
    lease: Lease,
}

impl std::fmt::Debug for Tunnel {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Tunnel").finish_non_exhaustive()
    }
}

impl Origin {
    /// Asks for a WebSocket. The request is a GET of HTTP/1.1 whose `Upgrade` named `websocket`; whether the hop-by-hop fields
    /// that say so are still there does not matter. It is sent once: another server is asked only where nothing of it was sent.
    pub async fn upgrade(
        &self,
        request: Request<()>,
        viewer: &Viewer,
    ) -> Result<Upgrade, OriginError> {
        let (mut head, ()) = request.into_parts();
        if head.method != Method::GET {
            return Err(OriginError::InvalidRequest("a WebSocket begins with GET"));
        }
        self.prepare(&mut head, viewer)?;
        let message = Message::new(head, RequestBody::Empty)?;
        let host = self.forwarded_host(viewer);
        let (member, mut lease) = self.upgradable(viewer.until).await?;
        let mut request = member.target.address(message, host.as_ref(), false)?;
        let headers = request.headers_mut();
        headers.insert(header::CONNECTION, UPGRADE);
        headers.insert(header::UPGRADE, WEBSOCKET);
        let mut response = match lease.exchange(request, self.timeouts, None).await {
            Ok(response) => response,
            Err(lost) => return Err(lost.error),
        };
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(Upgrade::Declined(self.answer(response, lease)?));
        }
        let is_websocket = response
            .headers()
            .get(header::UPGRADE)
            .is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"));
        if !is_websocket {
            let error = OriginError::InvalidResponse("an upgrade that nobody asked for");
            lease.fail(&error);
            return Err(error);
        }
        let upgraded = match hyper::upgrade::on(&mut response).await {
            Ok(upgraded) => upgraded,
            Err(error) => {
                let error = OriginError::Failed(error);
                lease.fail(&error);
                return Err(error);
            }
        };
        // However the tunnel ends, which may be in hours.
        lease.succeeded();
        let (mut head, _) = response.into_parts();
        hop::strip(&mut head.headers);
        head.headers.remove(header::CONTENT_LENGTH);
        head.headers.insert(header::CONNECTION, UPGRADE);
        head.headers.insert(header::UPGRADE, WEBSOCKET);
        let mut switched = Response::new(());
        *switched.status_mut() = head.status;
        *switched.headers_mut() = head.headers;
        let tunnel = Tunnel {
            upgraded,
            idle: self.timeouts.idle,
            lease,
        };
        Ok(Upgrade::Switched(switched, tunnel))
    }

    /// A connection that may become a tunnel, to the first server that has one. Those before it were sent nothing, so that the
    /// request may go to a backup too.
    async fn upgradable(&self, until: Option<Instant>) -> Result<(&Member, Lease), OriginError> {
        let mut left = self.retries;
        let mut tried = Tried::default();
        let mut index = self.first().ok_or(OriginError::CircuitOpen)?;
        loop {
            let until = until.filter(|_| left == self.retries);
            tried.insert(index);
            let member = &self.members[index];
            let error = match member.server.acquire_upgradable(until).await {
                Ok(lease) => return Ok((member, lease)),
                Err(error) => error,
            };
            let next = match left {
                0 => None,
                _ => self.next(index, tried, true, &error),
            };
            index = next.ok_or(error)?;
            self.retried.fetch_add(1, Relaxed);
            left -= 1;
        }
    }
}

impl Tunnel {
    /// Copies bytes between the viewer's end and the origin's, until both are done. `traffic` counts them.
    ///
    /// # Errors
    ///
    /// One end failed, or nothing came from either for the origin's idle time.
    pub async fn join(
        self,
        viewer: impl AsyncRead + AsyncWrite + Unpin,
        traffic: &Traffic,
    ) -> Result<(), TunnelError> {
        let Self {
            upgraded,
            idle,
            lease,
        } = self;
        let (viewer_failed, origin_failed) = (AtomicBool::new(false), AtomicBool::new(false));
        let mut viewer = Counted {
            inner: viewer,
            bytes: &traffic.from_viewer,
            failed: &viewer_failed,
        };
        let mut origin = Counted {
            inner: TokioIo::new(upgraded),
            bytes: &traffic.from_origin,
            failed: &origin_failed,
        };
        let mut copied = pin!(copy_bidirectional(&mut viewer, &mut origin));
        let result = loop {
            let before = traffic.both();
            tokio::select! {
                result = &mut copied => break result.map(drop).map_err(Some),
                () = sleep(idle) => {
                    if traffic.both() == before {
                        break Err(None);
                    }
                }
            }
        };
        let result = result.map_err(|error| match error {
            None => TunnelError::Idle(idle),
            Some(error) if origin_failed.load(Relaxed) => TunnelError::Origin(error),
            Some(error) => TunnelError::Viewer(error),
        });
        match result {
            Ok(()) => lease.complete(),
            Err(_) => drop(lease),
        }
        result
    }
}

/// Why a tunnel broke off.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// The viewer's end failed.
    #[error("the viewer's end of the tunnel failed")]
    Viewer(#[source] io::Error),
    /// The origin's end failed.
    #[error("the origin's end of the tunnel failed")]
    Origin(#[source] io::Error),
    /// Nothing came from either end for this time.
    #[error("nothing came through the tunnel for {0:?}")]
    Idle(Duration),
}

impl TunnelError {
    /// How the request ended that the tunnel is of.
    pub const fn outcome(&self) -> Outcome {
        match self {
            Self::Viewer(_) => Outcome::Cancelled,
            Self::Origin(_) => Outcome::OriginBadResponse,
            Self::Idle(_) => Outcome::OriginTimeout,
        }
    }
}

/// The bytes that went through a tunnel so far.
#[derive(Debug, Default)]
pub struct Traffic {
    from_viewer: AtomicU64,
    from_origin: AtomicU64,
}

impl Traffic {
    /// Those that the viewer sent.
    pub fn from_viewer(&self) -> u64 {
        self.from_viewer.load(Relaxed)
    }

    /// Those that the origin sent.
    pub fn from_origin(&self) -> u64 {
        self.from_origin.load(Relaxed)
    }

    fn both(&self) -> u64 {
        self.from_viewer().wrapping_add(self.from_origin())
    }
}

/// A stream whose bytes are counted as they are read, and of which it is known whether it failed.
struct Counted<'a, T> {
    inner: T,
    bytes: &'a AtomicU64,
    failed: &'a AtomicBool,
}

impl<T> Counted<'_, T> {
    fn note<R>(&self, done: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if matches!(done, Poll::Ready(Err(_))) {
            self.failed.store(true, Relaxed);
        }
        done
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Counted<'_, T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(context, buffer);
        let bytes = buffer.filled().len() - before;
        self.bytes.fetch_add(bytes as u64, Relaxed);
        self.note(read)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Counted<'_, T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.note(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(context);
        self.note(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut_down = Pin::new(&mut self.inner).poll_shutdown(context);
        self.note(shut_down)
    }
}
