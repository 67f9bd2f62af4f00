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
};
use crate::{
    model::{CacheResult, Outcome},
    telemetry::metrics::DistributionMetrics,
};

/// See the [module](self). Counts what it hands on.
pub struct Body {
    inner: Inner,
    /// What the cache had to do with the answer.
    cache: Option<CacheResult>,
    metrics: Arc<DistributionMetrics>,
}

enum Inner {
    /// Of a hook, or of the gate.
    Made(Option<Bytes>),
    /// Of the cache, or through it. In a box: the answer to a request is moved around a lot.
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
    pub(super) fn made(bytes: Bytes, metrics: &Arc<DistributionMetrics>) -> Self {
        Self {
            inner: Inner::Made(Some(bytes)),
            cache: None,
            metrics: Arc::clone(metrics),
        }
    }

    pub(super) fn cached(body: cache::Body<Forwarded>, metrics: &Arc<DistributionMetrics>) -> Self {
        Self {
            cache: body.handled().map(|handled| handled.result),
            inner: Inner::Cached(Box::new(body)),
            metrics: Arc::clone(metrics),
        }
    }

    /// Sends this instead.
    pub(super) fn replace(&mut self, bytes: Bytes) {
        self.inner = Inner::Made(Some(bytes));
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
            Inner::Made(bytes) => bytes.take().map(|bytes| Ok(Frame::data(bytes))),
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
            Inner::Made(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Inner::Cached(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Made(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Inner::Cached(body) => body.size_hint(),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self.inner {
            Inner::Made(_) => "Made",
            Inner::Cached(_) => "Cached",
        })
    }
}
