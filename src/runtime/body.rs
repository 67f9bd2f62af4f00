//! The body of a function's HTTP answer.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::task::AbortHandle;
use wasmtime_wasi_http::WasiBody;

use super::account::Account;
use crate::model::Outcome;

/// The most chunks that are gathered when the guest has already ended. What it left in its channel is at most this.
const READY_CHUNKS: usize = 4;

/// The body of a function's HTTP answer: complete, or a stream that the guest is still writing.
///
/// Dropping a stream before its end stops the guest: its client has gone away. A stream whose guest failed ends with an
/// error and never as if it were complete.
pub struct GuestBody(Inner);

enum Inner {
    Complete(Option<Bytes>),
    Stream {
        body: WasiBody,
        account: Arc<Account>,
        /// The task that runs the guest, unless the guest has ended.
        guest: Option<AbortHandle>,
        /// Whether the client wants a body: the answer to HEAD is complete without.
        wanted: bool,
        ended: bool,
    },
}

/// Why a body ended early: the outcome of its invocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the response is incomplete: {0}")]
pub struct IncompleteBody(pub Outcome);

impl GuestBody {
    /// A body whose guest has ended: everything it will ever say is in its channel.
    ///
    /// # Errors
    ///
    /// It is known to be incomplete before anything of it was sent.
    pub(super) fn of_ended_guest(
        mut body: WasiBody,
        account: Arc<Account>,
    ) -> Result<Self, Outcome> {
        let mut first: Option<Bytes> = None;
        let mut rest: Vec<u8> = Vec::new();
        for _ in 0..READY_CHUNKS {
            match body.frame().now_or_never() {
                Some(None) => {
                    let complete = match (first, rest.is_empty()) {
                        (Some(first), true) => Some(first),
                        (None, _) => None,
                        (Some(_), false) => Some(Bytes::from(rest)),
                    };
                    account.count_out(complete.as_ref().map_or(0, Bytes::len));
                    return Ok(Self(Inner::Complete(complete)));
                }
                Some(Some(Ok(frame))) if frame.is_data() => {
                    let Ok(data) = frame.into_data() else { break };
                    match &first {
                        None => first = Some(data),
                        Some(before) => {
                            if rest.is_empty() {
                                rest.extend_from_slice(before);
                            }
                            rest.extend_from_slice(&data);
                        }
                    }
                }
                Some(Some(Err(error))) => {
                    tracing::debug!(%error, request_id = %account.request_id, "response body failed");
                    account.fail(Outcome::BadResponse);
                    return Err(account.outcome());
                }
                // Trailers, or more to come: a stream after all, with what was read in front.
                other => {
                    let before = if rest.is_empty() {
                        first
                    } else {
                        Some(Bytes::from(rest))
                    };
                    let body = prepend(before, other.flatten(), body);
                    return Ok(Self::stream(body, account, None, true));
                }
            }
        }
        let before = if rest.is_empty() {
            first
        } else {
            Some(Bytes::from(rest))
        };
        Ok(Self::stream(
            prepend(before, None, body),
            account,
            None,
            true,
        ))
    }

    /// A body that the guest is still writing in a task of its own.
    pub(super) fn stream(
        body: WasiBody,
        account: Arc<Account>,
        guest: Option<AbortHandle>,
        wanted: bool,
    ) -> Self {
        Self(Inner::Stream {
            body,
            account,
            guest,
            wanted,
            ended: false,
        })
    }
}

impl GuestBody {
    /// Notes that the rest of the answer is not wanted, and why. To be followed by a drop.
    pub fn give_up(&self, why: Outcome) {
        if let Inner::Stream { account, .. } = &self.0 {
            account.fail(why);
        }
    }

    /// All of the body, if it is at most `limit` bytes.
    pub(super) async fn whole(mut self, limit: usize, account: &Account) -> Result<Bytes, Outcome> {
        let mut first = Bytes::new();
        let mut rest = BytesMut::new();
        while let Some(frame) = self.frame().await {
            let frame = frame.map_err(|IncompleteBody(outcome)| outcome)?;
            // What is no data are trailers, which only HTTP has.
            let Ok(data) = frame.into_data() else {
                continue;
            };
            if data.len() > limit - first.len().max(rest.len()) {
                let why = format!("it is more than {limit} bytes");
                return Err(account.refuse_as(Outcome::ResponseTooLarge, &why));
            }
            if first.is_empty() && rest.is_empty() {
                first = data;
                continue;
            }
            if rest.is_empty() {
                rest.extend_from_slice(&first);
            }
            rest.extend_from_slice(&data);
        }
        Ok(match rest.is_empty() {
            true => first,
            false => rest.freeze(),
        })
    }
}

type FrameResult = Result<Frame<Bytes>, wasmtime_wasi_http::Error>;

/// A body that first gives what was already read of it.
fn prepend(data: Option<Bytes>, frame: Option<FrameResult>, body: WasiBody) -> WasiBody {
    let read = futures::stream::iter(
        data.map(|data| Ok(Frame::data(data)))
            .into_iter()
            .chain(frame),
    );
    let rest = http_body_util::BodyStream::new(body);
    http_body_util::StreamBody::new(futures::StreamExt::chain(read, rest)).boxed_unsync()
}

impl Body for GuestBody {
    type Data = Bytes;
    type Error = IncompleteBody;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, IncompleteBody>>> {
        match &mut self.0 {
            Inner::Complete(data) => Poll::Ready(data.take().map(|data| Ok(Frame::data(data)))),
            Inner::Stream {
                body,
                account,
                ended,
                ..
            } => {
                let frame = std::task::ready!(Pin::new(&mut *body).poll_frame(context));
                Poll::Ready(match frame {
                    Some(Ok(frame)) => {
                        account.count_out(frame.data_ref().map_or(0, Bytes::len));
                        Some(Ok(frame))
                    }
                    Some(Err(error)) => {
                        tracing::debug!(%error, request_id = %account.request_id, "response body failed");
                        account.fail(Outcome::BadResponse);
                        *ended = true;
                        Some(Err(IncompleteBody(account.outcome())))
                    }
                    // The guest's failure closes its channel; the account was told before.
                    None => {
                        *ended = true;
                        // That the guest writes another length than it announced is said in a channel that is full where
                        // the body is read slowly, and then is not said. What was announced is still expected.
                        let is_short = account.has_sent() && body.size_hint().lower() > 0;
                        if is_short && account.outcome() == Outcome::Ok {
                            account.fail(Outcome::BadResponse);
                        }
                        match account.outcome() {
                            Outcome::Ok => None,
                            outcome => Some(Err(IncompleteBody(outcome))),
                        }
                    }
                })
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Complete(data) => data.is_none(),
            Inner::Stream { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Complete(data) => {
                SizeHint::with_exact(data.as_ref().map_or(0, Bytes::len) as u64)
            }
            Inner::Stream { .. } => SizeHint::default(),
        }
    }
}

impl Drop for GuestBody {
    fn drop(&mut self) {
        if let Inner::Stream {
            account,
            guest: Some(guest),
            wanted,
            ended: false,
            ..
        } = &self.0
        {
            if *wanted {
                account.fail(Outcome::Cancelled);
            }
            guest.abort();
        }
    }
}

impl std::fmt::Debug for GuestBody {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match &self.0 {
            Inner::Complete(_) => "complete",
            Inner::Stream { .. } => "stream",
        })
    }
}
