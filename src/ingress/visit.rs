//! What the access log tells of a request, gathered from its head to the last byte of its answer.
//!
//! A [`Visit`] comes with a request, is told where it leads, and rides in the body of its answer. Its line is written when it is
//! dropped, so there is one whatever happens: an answer, a failure, a client that goes away before either. Without an access
//! log it is nothing and costs nothing.

use std::{
    error::Error,
    fmt,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use http_body::{Body, Frame, SizeHint};

use super::{ConnectionInfo, RequestBody, body::with_rest};
use crate::{
    edge::{self, Distribution, Observed},
    invoke::Function,
    model::{Outcome, RequestId},
    runtime::IncompleteBody,
    telemetry::access::{AccessLog, Entry},
};

/// The most bytes of a body that are handed on at once. hyper asks for more when it has room again: so of an answer that its
/// client did not take, the line tells how much it took, but for this and what the kernel holds.
const PIECE: usize = 64 * 1024;

/// See the [module](self). In a box: it is moved around with the answer.
pub(super) struct Visit(Option<Box<Record>>);

struct Record {
    log: Arc<AccessLog>,
    connection: Arc<ConnectionInfo>,
    client: IpAddr,
    id: RequestId,
    time: SystemTime,
    started: Instant,
    method: Method,
    target: Uri,
    protocol: Version,
    host: Option<HeaderValue>,
    referer: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
    led: Led,
    status: Option<StatusCode>,
    first_byte: Option<Duration>,
    /// How it ended, if that is known before its end.
    outcome: Option<Outcome>,
    /// Bytes of the body that were handed on, and how many there are, if that is known.
    bytes: u64,
    length: Option<u64>,
    ended: bool,
    /// What of a piece of the body was not handed on yet.
    rest: Bytes,
}

/// Where a request led.
enum Led {
    Nowhere,
    Function(Arc<Function>),
    Distribution(Arc<Distribution>, Arc<Observed>),
}

impl fmt::Debug for Visit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.0.as_ref().map(|record| record.id);
        formatter.debug_tuple("Visit").field(&id).finish()
    }
}

impl Visit {
    /// A request that came.
    pub(super) fn begin(
        log: Option<&Arc<AccessLog>>,
        request: &Request<RequestBody>,
        connection: &Arc<ConnectionInfo>,
        id: RequestId,
        started: Instant,
    ) -> Self {
        let Some(log) = log else {
            return Self(None);
        };
        let field = |name| request.headers().get(name).cloned();
        Self(Some(Box::new(Record {
            log: Arc::clone(log),
            connection: Arc::clone(connection),
            client: connection.peer.ip().to_canonical(),
            id,
            time: SystemTime::now(),
            started,
            method: request.method().clone(),
            target: request.uri().clone(),
            protocol: request.version(),
            host: field(header::HOST),
            referer: field(header::REFERER),
            user_agent: field(header::USER_AGENT),
            led: Led::Nowhere,
            status: None,
            first_byte: None,
            outcome: None,
            bytes: 0,
            length: None,
            ended: false,
            rest: Bytes::new(),
        })))
    }

    /// It was sent by this client, which may be behind proxies.
    pub(super) fn came_from(&mut self, client: IpAddr) {
        if let Some(record) = &mut self.0 {
            record.client = client;
        }
    }

    /// It leads to a function.
    pub(super) fn leads_to(&mut self, function: &Arc<Function>) {
        if let Some(record) = &mut self.0 {
            record.led = Led::Function(Arc::clone(function));
        }
    }

    /// It leads to a distribution, which tells here what becomes of it.
    pub(super) fn observe(&mut self, distribution: &Arc<Distribution>) -> Option<Arc<Observed>> {
        let record = self.0.as_mut()?;
        let observed = Arc::<Observed>::default();
        record.led = Led::Distribution(Arc::clone(distribution), Arc::clone(&observed));
        Some(observed)
    }

    /// It is answered with a failure.
    pub(super) fn failed(&mut self, outcome: Outcome) {
        if let Some(record) = &mut self.0 {
            record.outcome = Some(outcome);
        }
    }

    /// There is an answer. The visit rides in its body.
    pub(super) fn ride<B: Body>(mut self, response: Response<B>) -> Response<Visited<B>> {
        if let Some(record) = &mut self.0 {
            let status = response.status();
            record.status = Some(status);
            record.first_byte = Some(record.started.elapsed());
            let bodiless = record.method == Method::HEAD
                || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
            let told = || {
                let length = response.headers().get(header::CONTENT_LENGTH)?;
                length.to_str().ok()?.parse().ok()
            };
            record.length = match bodiless || response.body().is_end_stream() {
                true => Some(0),
                false => response.body().size_hint().exact().or_else(told),
            };
        }
        response.map(|body| Visited { body, visit: self })
    }

    /// The answer was followed by so many bytes of another protocol.
    pub(super) fn sent(&mut self, bytes: u64) {
        if let Some(record) = &mut self.0 {
            record.bytes = bytes;
        }
    }
}

impl Record {
    fn entry(&self) -> Entry<'_> {
        // Who knows the length does not ask for more.
        let is_whole = self.ended || self.length.is_some_and(|length| self.bytes >= length);
        let outcome = match (self.outcome, self.status) {
            (Some(outcome), _) => outcome,
            (None, Some(_)) if is_whole => Outcome::Ok,
            (None, _) => Outcome::Cancelled,
        };
        let authority = self.target.authority().map(|authority| authority.as_str());
        let mut entry = Entry {
            time: self.time,
            client: self.client,
            method: &self.method,
            target: &self.target,
            protocol: self.protocol,
            // RFC 9112 §3.2.2: of two, the target's counts.
            host: match (authority, &self.host) {
                (Some(authority), _) => authority.as_bytes(),
                (None, Some(host)) => host.as_bytes(),
                (None, None) => b"",
            },
            referer: self.referer.as_ref().map(HeaderValue::as_bytes),
            user_agent: self.user_agent.as_ref().map(HeaderValue::as_bytes),
            tls: self.connection.tls.as_ref().map(|tls| tls.version.name()),
            request_id: self.id,
            status: self.status,
            outcome,
            bytes: self.bytes,
            first_byte: self.first_byte,
            duration: self.started.elapsed(),
            function: None,
            distribution: None,
            behaviour: None,
            cache: None,
            origin: None,
            origin_time: None,
        };
        match &self.led {
            Led::Nowhere => {}
            Led::Function(function) => {
                entry.function = Some(function.deployment().name.as_str());
            }
            Led::Distribution(distribution, observed) => {
                entry.distribution = Some(distribution.name());
                let behaviour = observed.behaviour();
                entry.behaviour = behaviour.map(|behaviour| distribution.path(behaviour));
                entry.cache = observed.cache();
                entry.function = observed.function();
                if let Some((origin, time)) = observed.origin() {
                    (entry.origin, entry.origin_time) = (Some(origin), time);
                }
            }
        }
        entry
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.log.write(&self.entry());
    }
}

/// The body of an answer, and the visit that it ends.
pub struct Visited<B> {
    body: B,
    visit: Visit,
}

impl<B> Body for Visited<B>
where
    B: Body<Data = Bytes, Error = Box<dyn Error + Send + Sync>> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let Self { body, visit } = self.get_mut();
        let Some(record) = &mut visit.0 else {
            return Pin::new(body).poll_frame(context);
        };
        if record.rest.is_empty() {
            match ready!(Pin::new(&mut *body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => record.rest = data,
                    Err(trailers) => {
                        record.ended = true;
                        return Poll::Ready(Some(Ok(trailers)));
                    }
                },
                Some(Err(error)) => {
                    record.outcome = record.outcome.or(Some(outcome(&*error)));
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    record.ended = true;
                    return Poll::Ready(None);
                }
            }
        }
        let piece = record.rest.split_to(record.rest.len().min(PIECE));
        record.bytes += piece.len() as u64;
        record.ended = record.rest.is_empty() && body.is_end_stream();
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream() && self.rest() == 0
    }

    fn size_hint(&self) -> SizeHint {
        with_rest(self.body.size_hint(), self.rest())
    }
}

impl<B> Visited<B> {
    /// The body, and the visit apart from it.
    pub(super) fn into_parts(self) -> (B, Visit) {
        (self.body, self.visit)
    }

    fn rest(&self) -> u64 {
        self.visit.0.as_ref().map_or(0, |record| record.rest.len()) as u64
    }
}

/// How a request ended whose answer broke off with this.
fn outcome(error: &(dyn Error + 'static)) -> Outcome {
    if let Some(IncompleteBody(outcome)) = error.downcast_ref() {
        return *outcome;
    }
    let error = error.downcast_ref::<edge::BodyError>();
    error.map_or(Outcome::Internal, edge::BodyError::outcome)
}
