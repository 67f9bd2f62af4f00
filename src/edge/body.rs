//! The body of a distribution's answer.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::{
    cache::{self, Failure},
    forward::{self, Forwarded},
    origin::Tunnel,
};
use crate::{
    model::{CacheResult, Outcome},
    telemetry::metrics::DistributionMetrics,
};

/// The body of an answer. Counts what it hands on.
pub struct Body {
    inner: Inner,
    /// What the cache had to do with the answer.
    cache: Option<CacheResult>,
    metrics: Arc<DistributionMetrics>,
}

enum Inner {
    /// In memory: of a hook, of the gate, or stored.
    Whole(Option<Bytes>),
    /// Past the cache.
    Forwarded(Box<Forwarded>),
    /// As it comes through the cache, or from its disk. In a box: the answer to a request is moved around a lot.
    Cached(Box<cache::Body<Forwarded>>),
}

/// Why a body breaks off.
#[derive(Debug, thiserror::Error)]
#[error("send the answer")]
pub struct BodyError(#[source] cache::BodyError);

impl BodyError {
    /// How the request ended.
    pub fn outcome(&self) -> Outcome {
        match &self.0 {
            cache::BodyError::Forwarded(error) => forward::outcome(&**error),
            cache::BodyError::Shared(Failure::Origin(error)) => forward::outcome(&**error),
            cache::BodyError::Shared(Failure::Length) => Outcome::OriginBadResponse,
            cache::BodyError::Shared(Failure::Slow) => Outcome::Cancelled,
            cache::BodyError::Shared(Failure::Disk(_)) => Outcome::Internal,
        }
    }
}

impl Body {
    fn new(inner: Inner, metrics: &Arc<DistributionMetrics>) -> Self {
        Self {
            inner,
            cache: None,
            metrics: Arc::clone(metrics),
        }
    }

    pub(super) fn made(bytes: Bytes, metrics: &Arc<DistributionMetrics>) -> Self {
        Self::new(Inner::Whole(Some(bytes)), metrics)
    }

    pub(super) fn forwarded(body: Forwarded, metrics: &Arc<DistributionMetrics>) -> Self {
        Self::new(Inner::Forwarded(Box::new(body)), metrics)
    }

    pub(super) fn cached(body: cache::Body<Forwarded>, metrics: &Arc<DistributionMetrics>) -> Self {
        let cache = body.handled().map(|handled| handled.result);
        let inner = match body.into_whole() {
            Ok(bytes) => Inner::Whole(bytes),
            Err(body) => Inner::Cached(Box::new(body)),
        };
        Self {
            cache,
            ..Self::new(inner, metrics)
        }
    }

    /// The origin's end of a WebSocket: of an answer with the status 101.
    pub fn into_tunnel(self) -> Option<Tunnel> {
        match self.inner {
            Inner::Forwarded(body) => body.into_body().into_tunnel(),
            Inner::Whole(_) | Inner::Cached(_) => None,
        }
    }

    /// Sends this instead.
    pub(super) fn replace(&mut self, bytes: Bytes) {
        self.inner = Inner::Whole(Some(bytes));
    }

    pub(super) fn cache(&self) -> Option<CacheResult> {
        self.cache
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = match &mut self.inner {
            Inner::Whole(bytes) => bytes.take().map(|bytes| Ok(Frame::data(bytes))),
            Inner::Forwarded(body) => {
                let broken = |error| BodyError(cache::BodyError::Forwarded(Box::new(error)));
                ready!(Pin::new(body).poll_frame(context)).map(|frame| frame.map_err(broken))
            }
            Inner::Cached(body) => {
                ready!(Pin::new(body).poll_frame(context)).map(|frame| frame.map_err(BodyError))
            }
        };
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.metrics.viewer_bytes.add(data.len() as u64);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Whole(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Inner::Forwarded(body) => body.is_end_stream(),
            Inner::Cached(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64)
            }
            Inner::Forwarded(body) => body.size_hint(),
            Inner::Cached(body) => body.size_hint(),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self.inner {
            Inner::Whole(_) => "Whole",
            Inner::Forwarded(_) => "Forwarded",
            Inner::Cached(_) => "Cached",
        })
    }
}
