//! A connection in use by one request.
//!
//! Who waits for an answer on HTTP/1.1 moves the connection's bytes himself, in his own task. Going to a task of the connection's and
//! back, often on another thread, would cost more than all else a request does here. Where a request has a body the connection
//! gets a task after all: both directions go on then, whether or not anybody reads the answer.
//!
//! A lease holds one of its server's slots from the dial to the last byte of the answer. It ends in one of three ways: complete, and
//! the connection is kept; failed, and the server is charged with it; or dropped, which is nobody's fault and, if an answer had
//! begun, to the server's credit. Except after the first, an HTTP/1.1 connection is closed, as nobody knows where in it the next
//! message begins.

use std::{
    error::Error,
    future::poll_fn,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1, http2},
};
use tokio::{
    task::{AbortHandle, coop::unconstrained},
    time::{Instant, timeout},
};

use super::{
    OriginError,
    body::{RequestBody, Upload},
    server::Server,
    timer::Timer,
};
use crate::model::distribution::OriginTimeouts;

/// Requests at one moment on one HTTP/2 connection; servers allow at least as many (RFC 9113 §6.5.2), usually.
pub(super) const STREAMS: u32 = 100;

/// How long a connection is kept that nobody uses. Servers close theirs after a minute or more, as a rule.
pub(super) const KEEP: Duration = Duration::from_secs(55);

/// Requests in a row without the head of an answer, after which an HTTP/2 connection gets no more. One may be slow by itself. A
/// peer may be stuck and still answer pings, so that the connection never ends of itself.
const SILENT: u32 = 3;

/// A connection, or a place on a shared one.
pub(super) enum Connection {
    Http1(Http1),
    Http2(Http2),
}

impl Connection {
    /// Sends one request and closes the connection when its answer has begun.
    pub(super) async fn ask(
        self,
        request: Request<RequestBody>,
    ) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::Http1(mut http1) => {
                http1.detach();
                http1.sender.send_request(request).await
            }
            Self::Http2(mut http2) => http2.sender.send_request(request).await,
        }
    }
}

/// An HTTP/1.1 connection.
pub(super) struct Http1 {
    sender: http1::SendRequest<RequestBody>,
    driver: Driver,
    pub(super) reused: bool,
}

/// Who moves a connection's bytes.
enum Driver {
    /// Whoever has the connection.
    Holder(Driven),
    /// A task of its own.
    Task(AbortHandle),
    /// Nobody: it is closed.
    Nobody,
}

/// A connection to be moved along until it ends.
type Driven = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

impl Http1 {
    /// A connection that its holder drives.
    pub(super) fn new(
        sender: http1::SendRequest<RequestBody>,
        connection: impl Future<Output = hyper::Result<()>> + Send + 'static,
    ) -> Self {
        Self {
            sender,
            driver: Driver::Holder(Box::pin(connection)),
            reused: false,
        }
    }

    /// Gives it a task of its own.
    pub(super) fn detach(&mut self) {
        if let Driver::Holder(connection) = std::mem::replace(&mut self.driver, Driver::Nobody) {
            self.driver = Driver::Task(tokio::spawn(drive(connection)).abort_handle());
        }
    }

    /// Moves its bytes as far as they go, and has its holder woken when they go further. False if that is not the holder's to do.
    fn drive(&mut self, context: &mut Context<'_>) -> bool {
        let Driver::Holder(connection) = &mut self.driver else {
            return false;
        };
        if let Poll::Ready(ended) = connection.as_mut().poll(context) {
            told(ended);
            self.driver = Driver::Nobody;
        }
        true
    }

    /// Whether it is open still, as far as is known without waiting.
    pub(super) fn is_open(&mut self) -> bool {
        // Nobody is to be woken for it while it is kept.
        self.drive(&mut Context::from_waker(Waker::noop()));
        !self.sender.is_closed()
    }

    /// Whether another request can be sent on it, at once or within `patience`.
    pub(super) async fn is_ready(&mut self, patience: Duration) -> bool {
        if self.sender.is_ready() {
            return true;
        }
        let ready = poll_fn(|context| {
            self.drive(context);
            self.sender.poll_ready(context)
        });
        matches!(timeout(patience, ready).await, Ok(Ok(())))
    }
}

/// Runs a connection to its end. What went wrong is told to the request that it went wrong for.
pub(super) async fn drive(connection: impl Future<Output = hyper::Result<()>>) {
    told(connection.await);
}

fn told(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(error = &error as &dyn Error, "connection to origin ended");
    }
}

/// A place on an HTTP/2 connection.
pub(super) struct Http2 {
    sender: http2::SendRequest<RequestBody>,
    /// The places on the connection that are taken.
    streams: Arc<AtomicU32>,
    /// Requests on the connection that were given up without an answer, since the last head that came on it.
    silent: Arc<AtomicU32>,
    reused: bool,
}

impl Http2 {
    pub(super) fn new(sender: http2::SendRequest<RequestBody>) -> Self {
        Self {
            sender,
            streams: Arc::new(AtomicU32::new(1)),
            silent: Arc::default(),
            reused: false,
        }
    }

    /// Another place on the same connection, if there is one. Callers hold a lock.
    pub(super) fn another(&self) -> Option<Self> {
        if self.streams.load(Relaxed) >= STREAMS || self.is_silent() || self.is_over() {
            return None;
        }
        self.streams.fetch_add(1, Relaxed);
        Some(Self {
            sender: self.sender.clone(),
            streams: Arc::clone(&self.streams),
            silent: Arc::clone(&self.silent),
            reused: true,
        })
    }

    /// What the pool keeps to hand out places; it takes up none itself.
    pub(super) fn root(&self) -> Self {
        Self {
            sender: self.sender.clone(),
            streams: Arc::clone(&self.streams),
            silent: Arc::clone(&self.silent),
            reused: true,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.sender.is_closed()
    }

    pub(super) fn is_unused(&self) -> bool {
        self.streams.load(Relaxed) == 0
    }

    /// Whether nobody will use it again.
    pub(super) fn is_spent(&self) -> bool {
        self.is_over() || (self.is_silent() && self.is_unused())
    }

    fn is_silent(&self) -> bool {
        self.silent.load(Relaxed) >= SILENT
    }

    /// Takes down what came of a request.
    fn note(&self, answer: &Result<Response<Incoming>, Lost>) {
        let timed_out = matches!(
            answer,
            Err(Lost {
                error: OriginError::FirstByteTimeout(_),
                ..
            })
        );
        // A load first: it is shared by all cores, a store is not.
        if timed_out {
            self.silent.fetch_add(1, Relaxed);
        } else if answer.is_ok() && self.silent.load(Relaxed) != 0 {
            self.silent.store(0, Relaxed);
        }
    }
}

/// A request that got no answer.
pub(super) struct Lost {
    pub(super) error: OriginError,
    /// The request, if nothing of it was sent.
    pub(super) message: Option<Request<RequestBody>>,
    /// Whether a kept connection may just have been closed, which is no fault of the server.
    pub(super) stale: bool,
}

/// The use of a connection, and of a slot.
pub(super) struct Lease {
    server: Arc<Server>,
    connection: Option<Connection>,
    pub(super) timer: Timer,
    upload: Option<Arc<Upload>>,
    /// Whether the connection is for one request alone.
    once: bool,
    /// Whether the server has begun an answer, and its health has heard nothing of it yet.
    answered: bool,
}

impl Lease {
    /// A slot that was acquired, still without a connection.
    pub(super) fn of_slot(server: Arc<Server>) -> Self {
        Self {
            server,
            connection: None,
            timer: Timer::new(Instant::now()),
            upload: None,
            once: false,
            answered: false,
        }
    }

    /// The same, but the connection is not kept afterwards.
    pub(super) fn once(mut self) -> Self {
        self.once = true;
        self
    }

    pub(super) fn with(mut self, connection: Connection, timer: Option<Timer>) -> Self {
        self.connection = Some(connection);
        if let Some(timer) = timer {
            self.timer = timer;
        }
        self
    }

    pub(super) fn is_http2(&self) -> bool {
        matches!(self.connection, Some(Connection::Http2(_)))
    }

    /// Whether it is for who waits to move the connection's bytes; else they move by themselves, and wake who waits.
    pub(super) fn is_driven_here(&self) -> bool {
        matches!(
            &self.connection,
            Some(Connection::Http1(Http1 {
                driver: Driver::Holder(_),
                ..
            }))
        )
    }

    /// Moves the connection's bytes as far as they go, and has `context` woken when they go further.
    pub(super) fn drive(&mut self, context: &mut Context<'_>) {
        if let Some(Connection::Http1(http1)) = &mut self.connection {
            http1.drive(context);
        }
    }

    pub(super) fn upload(&self) -> Option<&Upload> {
        self.upload.as_deref()
    }

    /// Sends a request and waits for the head of its answer: `until` then, if it is sooner than what the server may take. Where
    /// there is something to be sent, a viewer may take that time, and the server is not held to it.
    pub(super) async fn exchange(
        &mut self,
        request: Request<RequestBody>,
        mut timeouts: OriginTimeouts,
        until: Option<Instant>,
    ) -> Result<Response<Incoming>, Lost> {
        let upload = request.body().upload().cloned();
        let start = Instant::now();
        let patience = match &upload {
            None => {
                if let Some(until) = until {
                    timeouts.first_byte = timeouts.first_byte.min(until - start);
                }
                timeouts.first_byte
            }
            Some(upload) => {
                upload.begin();
                timeouts.idle.min(timeouts.first_byte)
            }
        };
        self.timer.set(start + patience);
        self.upload.clone_from(&upload);
        let upload = upload.as_deref();
        let timer = &mut self.timer;
        let (answer, reused) = match &mut self.connection {
            Some(Connection::Http1(http1)) => {
                if upload.is_some() {
                    http1.detach();
                }
                let sent = http1.sender.try_send_request(request);
                let drive = |context: &mut Context<'_>| http1.drive(context);
                let answer = wait(sent, drive, timer, upload, &timeouts).await;
                (answer, http1.reused)
            }
            Some(Connection::Http2(http2)) => {
                let sent = http2.sender.try_send_request(request);
                let answer = wait(sent, |_| false, timer, upload, &timeouts).await;
                http2.note(&answer);
                (answer, http2.reused)
            }
            None => {
                return Err(Lost {
                    error: OriginError::InvalidRequest("there is no connection for it"),
                    message: Some(request),
                    stale: false,
                });
            }
        };
        match answer {
            Ok(response) => {
                self.server.answered(start.elapsed());
                self.answered = true;
                Ok(response)
            }
            Err(mut lost) => {
                lost.stale &= reused;
                // Servers close on who sends nothing for long, which is the viewer then. A timeout is not about the viewer's moves,
                // whatever move came since; nor is what cannot be read.
                let closed = matches!(&lost.error, OriginError::Failed(error) if !error.is_parse());
                let is_viewers = closed && upload.is_some_and(Upload::waits_for_viewer);
                if !lost.stale && !is_viewers {
                    self.server.failed(&lost.error);
                }
                Err(lost)
            }
        }
    }

    /// The answer has come to its end.
    pub(super) fn complete(mut self) {
        self.succeeded();
        // An answer may come before the whole request is sent (RFC 9112 §9.3); the connection is then in between.
        let sent = self.upload.as_ref().is_none_or(|upload| upload.is_done());
        let Some(Connection::Http1(http1)) =
            self.connection.take_if(|connection| match connection {
                Connection::Http1(_) => sent && !self.once,
                Connection::Http2(_) => false,
            })
        else {
            return;
        };
        self.server.keep(http1, self.timer.take());
    }

    /// The answer broke off, or is none.
    pub(super) fn fail(mut self, error: &OriginError) {
        self.answered = false;
        self.server.failed(error);
    }

    /// The answer ended in a way that says nothing of the server, neither good nor bad.
    pub(super) fn leave(mut self) {
        self.answered = false;
    }

    /// The server is well, by the answer that it gave. An answer says so once.
    pub(super) fn succeeded(&mut self) {
        if std::mem::take(&mut self.answered) {
            self.server.succeeded();
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // It was well for as long as somebody listened. A trial would not end otherwise where nobody listens to the end.
        self.succeeded();
        match &self.connection {
            Some(Connection::Http1(Http1 {
                driver: Driver::Task(task),
                ..
            })) => task.abort(),
            // One that nobody drives is closed with it.
            Some(Connection::Http1(_)) => {}
            Some(Connection::Http2(http2)) => {
                http2.streams.fetch_sub(1, Relaxed);
            }
            None => {}
        }
        self.server.release();
    }
}

/// Waits for the head of an answer. `drive` is of its connection.
async fn wait(
    response: impl Future<Output = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>>,
    mut drive: impl FnMut(&mut Context<'_>) -> bool,
    timer: &mut Timer,
    upload: Option<&Upload>,
    timeouts: &OriginTimeouts,
) -> Result<Response<Incoming>, Lost> {
    // The connection counts what it does; that an answer has come is not counted again.
    let mut response = pin!(unconstrained(response));
    poll_fn(|context| {
        // What drives it sees at once what comes of it, and need not be woken.
        let answer = match drive(context) {
            true => response
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop())),
            false => response.as_mut().poll(context),
        };
        if let Poll::Ready(answer) = answer {
            return Poll::Ready(answer.map_err(|mut error| {
                let message = error.take_message();
                let error = error.into_error();
                Lost {
                    stale: message.is_some() || closed_before_answering(&error),
                    message,
                    error: OriginError::of_exchange(error, upload),
                }
            }));
        }
        loop {
            ready!(timer.poll(context));
            let (error, deadline) = missed(upload, timeouts);
            let now = Instant::now();
            if let Some(deadline) = deadline.filter(|deadline| *deadline > now) {
                // The request may be sent at any time from now on, and then the time for the answer begins.
                timer.set(deadline.min(now + timeouts.first_byte));
                continue;
            }
            return Poll::Ready(Err(Lost {
                error,
                message: None,
                stale: false,
            }));
        }
    })
    .await
}

/// What a deadline that has passed means, and the deadline that holds by what is known now.
fn missed(upload: Option<&Upload>, timeouts: &OriginTimeouts) -> (OriginError, Option<Instant>) {
    let OriginTimeouts {
        first_byte, idle, ..
    } = *timeouts;
    let Some(upload) = upload else {
        return (OriginError::FirstByteTimeout(first_byte), None);
    };
    let (deadline, is_answer) = upload.deadline(first_byte, idle);
    let error = match is_answer {
        true => OriginError::FirstByteTimeout(first_byte),
        false => OriginError::IdleTimeout(idle),
    };
    (error, Some(deadline))
}

/// Whether the connection ended in the way in which servers end those that they kept for long enough.
fn closed_before_answering(error: &hyper::Error) -> bool {
    use std::io::ErrorKind;
    if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        return true;
    }
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            return matches!(
                error.kind(),
                ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted
            );
        }
        cause = error.source();
    }
    false
}
