//! Bodies that hooks are given: their beginning is read ahead and kept, and the rest goes past as it comes.
//!
//! What is kept is bounded for each hook by the distribution, and for all requests together by [`Room`]. It leaves the room
//! when it is sent on: a slow reader holds what it was not sent, and nothing of what it was.

use std::{
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::model::hook::SeenBody;

/// The most bytes that are kept at one moment, of all requests together.
const ROOM: usize = 128 << 20;

/// Where bodies that are read ahead are kept. A clone is the same room.
#[derive(Debug, Clone)]
pub(super) struct Room(Arc<Semaphore>);

impl Room {
    pub(super) fn new() -> Self {
        Self::of(ROOM)
    }

    fn of(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes)))
    }

    /// Takes so many bytes of it. Nobody waits: those who have a part of what they need would wait for each other.
    fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes).ok()?;
        Arc::clone(&self.0).try_acquire_many_owned(bytes).ok()
    }
}

/// Why a body was not read ahead.
#[derive(Debug)]
pub(super) enum AheadError<E> {
    /// It breaks off.
    Body(E),
    /// There is no room.
    Full,
}

/// A body, the beginning of which may have been read.
pub(super) struct Ahead<B> {
    /// What was read, and was not sent on.
    read: BytesMut,
    /// The room that takes.
    held: Option<OwnedSemaphorePermit>,
    /// What came after it, in one piece.
    next: Option<Bytes>,
    trailers: Option<HeaderMap>,
    /// What was not read yet.
    rest: Option<B>,
}

impl<B> Ahead<B> {
    /// A body of which nothing was read.
    pub(super) fn new(body: B) -> Self {
        Self {
            read: BytesMut::new(),
            held: None,
            next: None,
            trailers: None,
            rest: Some(body),
        }
    }

    /// The body as it came, if nothing of it was read.
    pub(super) fn untouched(self) -> Result<B, Box<Self>> {
        match self {
            Self {
                read,
                next: None,
                trailers: None,
                rest: Some(body),
                ..
            } if read.is_empty() => Ok(body),
            touched => Err(Box::new(touched)),
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Ahead<B> {
    /// Reads until so many bytes and what comes after them are there, or the body is. Gives these.
    pub(super) async fn read(
        &mut self,
        limit: usize,
        room: &Room,
    ) -> Result<SeenBody<'_>, AheadError<B::Error>> {
        while self.read.len() < limit || (self.read.len() == limit && self.next.is_none()) {
            if let Some(mut next) = self.next.take() {
                let taken = next.split_to(next.len().min(limit - self.read.len()));
                self.keep(&taken, room).ok_or(AheadError::Full)?;
                self.next = Some(next).filter(|next| !next.is_empty());
                continue;
            }
            let Some(rest) = &mut self.rest else { break };
            match rest.frame().await {
                None => self.rest = None,
                Some(Err(error)) => return Err(AheadError::Body(error)),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.next = Some(data).filter(|data| !data.is_empty()),
                    Err(frame) => self.trailers = frame.into_trailers().ok(),
                },
            }
        }
        let shown = self.read.len().min(limit);
        Ok(SeenBody {
            data: &self.read[..shown],
            truncated: shown < self.read.len() || self.next.is_some(),
        })
    }

    fn keep(&mut self, data: &[u8], room: &Room) -> Option<()> {
        let taken = room.take(data.len())?;
        match &mut self.held {
            Some(held) => held.merge(taken),
            None => self.held = Some(taken),
        }
        self.read.extend_from_slice(data);
        Some(())
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Ahead<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if !self.read.is_empty() {
            self.held = None;
            let read = mem::take(&mut self.read).freeze();
            return Poll::Ready(Some(Ok(Frame::data(read))));
        }
        if let Some(next) = self.next.take() {
            return Poll::Ready(Some(Ok(Frame::data(next))));
        }
        if let Some(trailers) = self.trailers.take() {
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        match &mut self.rest {
            Some(rest) => Pin::new(rest).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.read.is_empty()
            && self.next.is_none()
            && self.trailers.is_none()
            && self.rest.as_ref().is_none_or(B::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let read = (self.read.len() + self.next.as_ref().map_or(0, Bytes::len)) as u64;
        let rest = (self.rest.as_ref()).map_or_else(|| SizeHint::with_exact(0), B::size_hint);
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(read));
        if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(read)) {
            hint.set_upper(upper);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::StreamBody;
    use proptest::prelude::*;

    use super::*;

    type Part = Result<Frame<Bytes>, &'static str>;

    fn body(parts: Vec<Part>) -> Ahead<impl Body<Data = Bytes, Error = &'static str> + Unpin> {
        Ahead::new(StreamBody::new(futures::stream::iter(parts)))
    }

    fn data(text: &str) -> Part {
        Ok(Frame::data(Bytes::copy_from_slice(text.as_bytes())))
    }

    fn trailers() -> Part {
        let fields = [(http::header::ETAG, "a".parse().unwrap())];
        Ok(Frame::trailers(fields.into_iter().collect()))
    }

    proptest! {
        /// Whatever is read ahead, in whatever pieces it comes: what is shown is the beginning, and what goes on is all of it.
        #[test]
        fn nothing_is_lost_and_nothing_is_shown_twice(
            pieces in proptest::collection::vec("[a-z]{0,5}", 0..6),
            limits in proptest::collection::vec(1_usize..20, 0..4),
            has_trailers: bool,
        ) {
            let whole = pieces.concat();
            let mut parts: Vec<Part> = pieces.iter().map(|piece| data(piece)).collect();
            parts.extend(has_trailers.then(trailers));
            let room = Room::of(100);
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let mut body = body(parts);
                for limit in limits {
                    let seen = body.read(limit, &room).await.unwrap();
                    let shown = limit.min(whole.len());
                    assert_eq!(seen.data, &whole.as_bytes()[..shown]);
                    assert_eq!(seen.truncated, shown < whole.len());
                    let kept = 100 - room.0.available_permits();
                    assert!(kept >= shown, "{kept} are less than {shown}");
                }
                let collected = body.collect().await.unwrap();
                assert_eq!(collected.trailers().is_some(), has_trailers);
                assert_eq!(collected.to_bytes(), whole.as_bytes());
            });
            prop_assert_eq!(room.0.available_permits(), 100);
        }
    }

    #[tokio::test]
    async fn what_breaks_off_is_no_body_and_what_has_no_room_is_not_kept() {
        let room = Room::of(10);
        let mut broken = body(vec![data("abc"), Err("it breaks off")]);
        let error = broken.read(5, &room).await.unwrap_err();
        assert!(matches!(error, AheadError::Body("it breaks off")));
        assert_eq!(room.0.available_permits(), 7);
        let mut large = body(vec![data("01234567")]);
        assert!(matches!(large.read(9, &room).await, Err(AheadError::Full)));
        drop(broken);
        let mut again = body(vec![data("01234567"), data("89ab")]);
        assert_eq!(again.read(10, &room).await.unwrap().data, b"0123456789");
        // Its length is known as before.
        assert_eq!(again.size_hint().lower(), 12);
        assert!(!again.is_end_stream());
        drop(again);
        assert_eq!(room.0.available_permits(), 10);
    }

    #[tokio::test]
    async fn a_body_that_nobody_read_is_handed_on_as_it_came() {
        let unread = body(vec![data("abc")]);
        assert!(unread.untouched().is_ok());
        let mut read = body(vec![data("abc")]);
        read.read(1, &Room::new()).await.unwrap();
        assert!(read.untouched().is_err());
    }
}
