//! The life of an HTTP/3 connection, and of each request on it.
//!
//! A task a connection and a task a request, as with HTTP/2; the connection's deadlines and its end are those of
//! [`Connection::run`]. A request's task lasts until the client has acknowledged the last byte of the answer, since QUIC forgets
//! what is under way when a connection is closed.

use std::{
    net::SocketAddr,
    ops::RangeInclusive,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures::{FutureExt as _, future::OptionFuture};
use h3::{
    error::Code,
    ext,
    server::{RequestResolver, RequestStream},
};
use http::{HeaderValue, Request, Response, header, request, response};
use http_body::Body as _;
use pin_project_lite::pin_project;
use quinn::{crypto::rustls::HandshakeData, rustls::Error as HandshakeError};
use tokio::time::{sleep, timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    super::{
        ConnectionInfo, Handler, Protocol, RequestBody, TlsInfo, TlsVersion,
        body::{BoxError, ResponseBody, Source},
        connection::{Connection, Graceful, Shared},
        progress::{InFlight, Progress, Stage, StreamProgress},
    },
    HalfOpen,
    body::{self, Body},
    quic::{Accepted, Quic, SendStream, Stopped, varint},
};
use crate::model::hop;

/// Codes by which a client says that something was wrong; an unknown one says that nothing was (RFC 9114 section 8.1, RFC 9204
/// section 6).
const REPROACHES: [RangeInclusive<u64>; 2] = [0x101..=0x110, 0x200..=0x202];

/// How long a client may take to acknowledge what it got, beside the way (RFC 9000 section 18.2).
const ACKNOWLEDGED: Duration = Duration::from_millis(25);

/// How many streams without a request a connection may have had: h3 keeps some bytes of each.
const MOST_HEADLESS: usize = 10_000;

type Http3 = h3::server::Connection<Quic, Bytes>;

/// Serves one connection to its end.
pub(super) async fn serve<H: Handler>(
    shared: &Arc<Shared<H>>,
    incoming: quinn::Incoming,
    half_open: HalfOpen,
    local: SocketAddr,
    progress: &Arc<Progress>,
) {
    let stats = &shared.stats;
    let _active = stats.active.hold();
    let connection = Connection {
        shared,
        peer: incoming.remote_address(),
        local,
        progress,
    };
    let limits = &shared.config.limits;
    let begun = tokio::select! {
        begun = timeout(limits.deadlines.handshake, begin(incoming, limits.head.as_u64())) => begun,
        () = progress.reached(Stage::Draining) => return,
    };
    drop(half_open);
    let Begun {
        quic,
        accepted,
        requests,
        tls,
    } = match begun {
        Ok(Ok(begun)) => begun,
        Ok(Err(error)) => {
            stats.handshake_failures.increment();
            tracing::debug!(peer = %connection.peer, error = &*error, "handshake failed");
            return;
        }
        Err(_elapsed) => {
            stats.handshake_timeouts.increment();
            tracing::debug!(peer = %connection.peer, "handshake timed out");
            return;
        }
    };
    let requests_of_client = Requests {
        shared: Arc::clone(shared),
        info: connection.info(Protocol::Http3, Some(tls)),
        progress: Arc::clone(progress),
        connection: quic,
        cancelled: AtomicUsize::new(0),
        headless: AtomicUsize::new(0),
    };
    let leave = CancellationToken::new();
    let serving = Serving {
        serving: Arc::new(requests_of_client).serve(requests, accepted, leave.clone()),
        leave,
    };
    connection.run(pin!(serving), Protocol::Http3).await;
}

/// A connection that is made.
struct Begun {
    quic: quinn::Connection,
    accepted: Accepted,
    requests: Http3,
    tls: TlsInfo,
}

/// Shakes hands, and sends the settings.
async fn begin(incoming: quinn::Incoming, head: u64) -> Result<Begun, BoxError> {
    let quic = incoming.accept()?.await?;
    let handshake = quic
        .handshake_data()
        .and_then(|data| data.downcast::<HandshakeData>().ok())
        .ok_or(HandshakeError::HandshakeNotComplete)?;
    let tls = TlsInfo {
        // There is no other in QUIC (RFC 9001 section 4.2).
        version: TlsVersion::V1_3,
        server_name: handshake.server_name,
    };
    let connection = Quic::new(&quic, head);
    let accepted = connection.accepted();
    let requests = h3::server::builder()
        .max_field_section_size(head)
        .send_grease(false)
        .build(connection)
        .await?;
    Ok(Begun {
        quic,
        accepted,
        requests,
        tls,
    })
}

pin_project! {
    /// A connection that takes requests until it is told to leave, or ends.
    struct Serving<F> {
        #[pin]
        serving: F,
        leave: CancellationToken,
    }
}

impl<F: Future> Future for Serving<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.project().serving.poll(cx)
    }
}

impl<F> Graceful for Serving<F> {
    fn leave(self: Pin<&mut Self>) {
        self.leave.cancel();
    }
}

/// What the requests of one connection have in common.
struct Requests<H> {
    shared: Arc<Shared<H>>,
    info: Arc<ConnectionInfo>,
    progress: Arc<Progress>,
    connection: quinn::Connection,
    /// Requests that the client gave up before they were answered, less those that were answered; never below 0.
    cancelled: AtomicUsize,
    headless: AtomicUsize,
}

impl<H: Handler> Requests<H> {
    /// Takes requests until the client ends the connection; after `leave` no others, and until those that were taken are
    /// answered. Dropping it closes the connection.
    async fn serve(
        self: Arc<Self>,
        mut requests: Http3,
        accepted: Accepted,
        leave: CancellationToken,
    ) -> Result<(), quinn::ConnectionError> {
        let streams = TaskTracker::new();
        let mut leaving = false;
        let mut farewell = None;
        let ended = loop {
            tokio::select! {
                request = requests.accept() => match request {
                    // It came after the good-bye, which said so: dropping it says so again.
                    Ok(Some(request)) if leaving => drop(request),
                    Ok(Some(request)) => {
                        let Some(stopped) = accepted.take() else {
                            continue;
                        };
                        streams.spawn(Arc::clone(&self).answer(request, stopped));
                    }
                    Ok(None) => break Ok(()),
                    Err(error) => break Err(error),
                },
                () = leave.cancelled(), if !leaving => {
                    leaving = true;
                    streams.close();
                    // The next is the first that is not served (RFC 9114 section 5.2). By `shutdown(0)` h3 names the last that was
                    // taken, and its client might send that one again.
                    if let Err(error) = requests.shutdown(1).await {
                        break Err(error);
                    }
                }
                () = streams.wait(), if leaving && farewell.is_none() => {
                    // To close is to forget what was not acknowledged: the good-bye has to arrive.
                    let round_trips = self.connection.rtt() * 2 + ACKNOWLEDGED;
                    let linger = self.shared.config.limits.deadlines.linger;
                    farewell = Some(Box::pin(sleep(round_trips.min(linger))));
                }
                () = OptionFuture::from(farewell.as_mut()).map(drop), if farewell.is_some() => break Ok(()),
            }
        };
        let Err(error) = ended else {
            return Ok(());
        };
        match self.connection.close_reason() {
            // A client that leaves says that nothing is wrong, or by QUIC itself, or nothing at all.
            Some(quinn::ConnectionError::ApplicationClosed(close))
                if !REPROACHES
                    .iter()
                    .any(|codes| codes.contains(&close.error_code.into_inner())) =>
            {
                Ok(())
            }
            Some(quinn::ConnectionError::ConnectionClosed(close))
                if close.error_code == quinn::TransportErrorCode::NO_ERROR =>
            {
                Ok(())
            }
            Some(quinn::ConnectionError::TimedOut) => Ok(()),
            reason => {
                tracing::debug!(peer = %self.info.peer, %error, "HTTP/3 broke off");
                Err(reason.unwrap_or(quinn::ConnectionError::LocallyClosed))
            }
        }
    }

    /// The life of a request: read its head, answer it, see the answer off.
    async fn answer(self: Arc<Self>, request: RequestResolver<Quic, Bytes>, mut stopped: Stopped) {
        let Requests { shared, info, .. } = &*self;
        let deadlines = shared.config.limits.deadlines;
        let resolved = tokio::select! {
            resolved = timeout(deadlines.head, request.resolve_request()) => resolved,
            _ = &mut stopped => return self.headless(),
        };
        let (head, mut stream) = match resolved {
            Ok(Ok((request, stream))) => (request.into_parts().0, stream),
            Ok(Err(error)) => {
                self.headless();
                tracing::debug!(peer = %info.peer, %error, "no request");
                return;
            }
            Err(_elapsed) => {
                self.headless();
                shared.stats.head_timeouts.increment();
                tracing::debug!(peer = %info.peer, "no request in time");
                return;
            }
        };
        let Ok(length) = check(&head) else {
            self.cancelled();
            tracing::debug!(peer = %info.peer, "malformed request");
            stream.stop_stream(Code::H3_MESSAGE_ERROR);
            stream.stop_sending(Code::H3_MESSAGE_ERROR);
            return;
        };
        let (send, receive) = stream.split();
        let mut answer = Answer::new(send);
        let in_flight = InFlight::begin(&self.progress);
        let unacknowledged = in_flight.again();
        let body = Source::Http3(Box::new(Body::begin(receive, length).await));
        let body = RequestBody::new(body, deadlines.body, &shared.stats, &self.progress);
        let request = Request::from_parts(head, body);

        let (head, body) = tokio::select! {
            answered = shared.answer_on_stream(request, info) => answered,
            _ = &mut stopped => return self.cancelled(),
        };
        self.answered();
        let watched = Arc::<StreamProgress>::default();
        let body = ResponseBody::on_stream(body, Arc::clone(&watched), in_flight);
        let mut sent = Ok(());
        let sending = async { sent = answer.send(head, body, &watched).await };
        let in_time = tokio::select! {
            in_time = watched.watch(deadlines.write, sending) => in_time,
            // The client wants no more of it.
            _ = &mut stopped => return,
        };
        if !in_time {
            shared.stats.write_timeouts.increment();
            tracing::debug!(peer = %info.peer, "stream reset: its client does not read");
            return;
        }
        if let Err(error) = sent {
            tracing::debug!(peer = %info.peer, error = &*error, "answer broke off");
            return;
        }
        // Whoever takes longer for what is left may have it as long as the connection lasts.
        let _ = timeout(deadlines.write, stopped).await;
        drop(unacknowledged);
    }

    /// Counts a request that its client gave up. One that does little else makes work for nothing (CVE-2023-44487 in the manner of
    /// HTTP/3), and is left.
    fn cancelled(&self) {
        if self.cancelled.fetch_add(1, Relaxed) >= self.shared.config.limits.reset_streams {
            self.connection
                .close(varint(Code::H3_EXCESSIVE_LOAD), b"too many requests reset");
        }
    }

    /// Counts a stream that ended without the head of a request: as one that was given up, and for good, since h3 keeps a little of
    /// each until the connection ends.
    fn headless(&self) {
        self.cancelled();
        if self.headless.fetch_add(1, Relaxed) >= MOST_HEADLESS {
            self.connection.close(
                varint(Code::H3_EXCESSIVE_LOAD),
                b"too many streams without a request",
            );
        }
    }

    fn answered(&self) {
        let _ = self
            .cancelled
            .fetch_update(Relaxed, Relaxed, |cancelled| cancelled.checked_sub(1));
    }
}

/// A request that is malformed though h3 lets it pass.
struct Malformed;

/// The length that a request tells, if it is not malformed (RFC 9114 sections 4.1.2, 4.2 and 4.3). h3 has refused upper-case names,
/// characters that may not be, pseudo-header fields that are unknown or missing, and a `Host` that is not the `:authority`.
fn check(head: &request::Parts) -> Result<Option<u64>, Malformed> {
    const CONNECTION_SPECIFIC: [header::HeaderName; 5] = [
        header::CONNECTION,
        header::HeaderName::from_static("keep-alive"),
        header::HeaderName::from_static("proxy-connection"),
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ];
    let for_this_hop = CONNECTION_SPECIFIC
        .iter()
        .any(|name| head.headers.contains_key(name));
    let mut transfer = head.headers.get_all(header::TE).iter();
    let other_coding = transfer.any(|value| !value.as_bytes().eq_ignore_ascii_case(b"trailers"));
    // `:protocol` is for the extended CONNECT, which the settings do not offer (RFC 9220).
    let extended = head.extensions.get::<ext::Protocol>().is_some();
    if for_this_hop || other_coding || extended {
        return Err(Malformed);
    }
    body::length(&head.headers).map_err(|_| Malformed)
}

/// An answer that is reset unless it is finished: none that broke off looks as if it were complete.
struct Answer {
    stream: RequestStream<SendStream, Bytes>,
    finished: bool,
}

/// An answer's body is not as long as its `Content-Length` says.
#[derive(Debug, thiserror::Error)]
#[error("the answer is not as long as it says")]
struct WrongLength;

impl Answer {
    fn new(stream: RequestStream<SendStream, Bytes>) -> Self {
        Self {
            stream,
            finished: false,
        }
    }

    /// Sends the whole of it. The body is done with when the last of it is written, and not yet acknowledged.
    async fn send<B>(
        &mut self,
        mut head: response::Parts,
        body: ResponseBody<B>,
        watched: &StreamProgress,
    ) -> Result<(), BoxError>
    where
        B: http_body::Body<Data = Bytes, Error: Into<BoxError>>,
    {
        let mut body = pin!(body);
        // RFC 9114 section 4.2. What hyper does for the other versions is done here.
        hop::strip(&mut head.headers);
        if !head.headers.contains_key(header::DATE)
            && let Ok(now) = HeaderValue::from_str(&httpdate::fmt_http_date(SystemTime::now()))
        {
            head.headers.insert(header::DATE, now);
        }
        let told = match body.as_ref().get_ref().is_withheld() {
            true => None,
            false => {
                if let Some(length) = body.size_hint().exact().filter(|length| *length > 0) {
                    head.headers
                        .entry(header::CONTENT_LENGTH)
                        .or_insert_with(|| length.into());
                }
                body::length(&head.headers).map_err(|_| WrongLength)?
            }
        };
        let mut sent: u64 = 0;
        watched.given();
        let head = Response::from_parts(head, ());
        self.stream.send_response(head).await?;
        loop {
            // The body's own error might not be sent to another thread.
            let frame: Option<Result<_, BoxError>> =
                std::future::poll_fn(|cx| body.as_mut().poll_frame(cx).map_err(Into::into)).await;
            let Some(frame) = frame else {
                break;
            };
            match frame?.into_data() {
                Ok(data) => {
                    sent += data.len() as u64;
                    if told.is_some_and(|told| sent > told) {
                        return Err(WrongLength.into());
                    }
                    if !data.is_empty() {
                        self.stream.send_data(data).await?;
                    }
                }
                Err(frame) => {
                    let Ok(trailers) = frame.into_trailers() else {
                        continue;
                    };
                    watched.given();
                    self.stream.send_trailers(trailers).await?;
                    break;
                }
            }
        }
        if told.is_some_and(|told| sent != told) {
            return Err(WrongLength.into());
        }
        self.stream.finish().await?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if !self.finished {
            self.stream.stop_stream(Code::H3_INTERNAL_ERROR);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_for_one_hop_is_malformed() {
        for (name, value, malformed) in [
            ("connection", "close", true),
            ("keep-alive", "timeout=5", true),
            ("proxy-connection", "keep-alive", true),
            ("transfer-encoding", "chunked", true),
            ("upgrade", "websocket", true),
            ("te", "gzip", true),
            ("te", "trailers", false),
            ("te", "trailers, gzip", true),
            ("content-length", "x", true),
            ("content-length", "5", false),
            ("accept", "*/*", false),
        ] {
            let request = Request::builder().header(name, value).body(()).unwrap();
            let checked = check(&request.into_parts().0);
            assert_eq!(checked.is_err(), malformed, "{name}: {value}");
        }
    }
}
