//! Bodies that hooks are given: their beginning is read ahead and kept, and the rest goes past as it comes.
//!
//! What is kept is bounded for each hook by the distribution, and for all requests together by [`Room`], of which a client and a
//! distribution get a part. It leaves the room when all of it was sent on.

use std::{
    collections::HashMap,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, Weak},
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::rate::customer;
use crate::model::hook::SeenBody;

/// The most bytes that are kept at one moment, of all requests together.
const ROOM: usize = 128 << 20;

/// The most of a distribution, and of a client: who sends or reads slowly holds up nobody but himself.
const OF_DISTRIBUTION: usize = ROOM / 2;
const OF_CLIENT: usize = ROOM / 8;

/// So many clients are remembered before those that hold nothing are looked for.
const CLIENTS: usize = 1024;

/// What is sent on at once.
const PIECE: usize = 16 << 10;

/// Where bodies that are read ahead are kept.
#[derive(Debug)]
pub(super) struct Room {
    all: Arc<Semaphore>,
    clients: Mutex<Clients>,
}

impl Room {
    pub(super) fn new() -> Self {
        Self::of(ROOM)
    }

    fn of(bytes: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(bytes)),
            clients: Mutex::default(),
        }
    }

    /// What a client has of it at a distribution.
    pub(super) fn share<'a>(&'a self, distribution: &'a Part, client: IpAddr) -> Share<'a> {
        Share {
            room: self,
            distribution,
            client,
        }
    }
}

/// What clients have of the [`Room`]. Who holds something of it is never forgotten: he would get as much again.
#[derive(Debug, Default)]
struct Clients {
    parts: HashMap<IpAddr, Weak<Semaphore>>,
    /// When there are so many, those that hold nothing are forgotten.
    most: usize,
}

impl Clients {
    fn part(&mut self, client: IpAddr) -> Arc<Semaphore> {
        if let Some(part) = self.parts.get(&client).and_then(Weak::upgrade) {
            return part;
        }
        if self.parts.len() >= self.most {
            self.parts.retain(|_, part| part.strong_count() > 0);
            // Twice as many: so looking through them costs each of them the same, however many there are.
            self.most = CLIENTS.max(2 * self.parts.len());
            self.parts.shrink_to(self.most);
        }
        let part = Arc::new(Semaphore::new(OF_CLIENT));
        self.parts.insert(client, Arc::downgrade(&part));
        part
    }
}

/// What a distribution has of the [`Room`].
#[derive(Debug)]
pub(super) struct Part(Arc<Semaphore>);

impl Part {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(OF_DISTRIBUTION)))
    }
}

/// What a client has of the [`Room`] at a distribution.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share<'a> {
    room: &'a Room,
    distribution: &'a Part,
    client: IpAddr,
}

impl Share<'_> {
    /// Takes so many bytes of it.
    fn take<E>(&self, bytes: usize) -> Result<Held, AheadError<E>> {
        let mut clients = (self.room.clients.lock()).unwrap_or_else(PoisonError::into_inner);
        let client = clients.part(customer(self.client));
        drop(clients);
        Held::take(&client, &self.distribution.0, &self.room.all, bytes)
    }
}

/// Bytes of the room that are taken.
struct Held {
    client: OwnedSemaphorePermit,
    distribution: OwnedSemaphorePermit,
    all: OwnedSemaphorePermit,
}

impl Held {
    /// Nobody waits: those who have a part of what they need would wait for each other.
    fn take<E>(
        client: &Arc<Semaphore>,
        distribution: &Arc<Semaphore>,
        all: &Arc<Semaphore>,
        bytes: usize,
    ) -> Result<Self, AheadError<E>> {
        let bytes = u32::try_from(bytes).map_err(|_| AheadError::Full)?;
        let of = |part: &Arc<Semaphore>| Arc::clone(part).try_acquire_many_owned(bytes);
        Ok(Self {
            client: of(client).map_err(|_| AheadError::Spent)?,
            distribution: of(distribution).map_err(|_| AheadError::Full)?,
            all: of(all).map_err(|_| AheadError::Full)?,
        })
    }

    /// Takes so many more, from where it has the others: permits of two semaphores do not go together.
    fn extend<E>(&mut self, bytes: usize) -> Result<(), AheadError<E>> {
        let more = Self::take(
            self.client.semaphore(),
            self.distribution.semaphore(),
            self.all.semaphore(),
            bytes,
        )?;
        self.client.merge(more.client);
        self.distribution.merge(more.distribution);
        self.all.merge(more.all);
        Ok(())
    }
}

/// Why a body was not read ahead.
#[derive(Debug)]
pub(super) enum AheadError<E> {
    /// It breaks off.
    Body(E),
    /// The client holds all that it may.
    Spent,
    /// There is no room, whoever asks.
    Full,
}

/// A body, the beginning of which may have been read.
pub(super) struct Ahead<B> {
    /// What was read, and was not sent on.
    read: BytesMut,
    /// The room that takes.
    held: Option<Held>,
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
        room: Share<'_>,
    ) -> Result<SeenBody<'_>, AheadError<B::Error>> {
        while self.read.len() < limit || (self.read.len() == limit && self.next.is_none()) {
            if let Some(mut next) = self.next.take() {
                let taken = next.split_to(next.len().min(limit - self.read.len()));
                self.keep(&taken, room)?;
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

    fn keep(&mut self, data: &[u8], room: Share<'_>) -> Result<(), AheadError<B::Error>> {
        match &mut self.held {
            Some(held) => held.extend(data.len())?,
            None => self.held = Some(room.take(data.len())?),
        }
        self.read.extend_from_slice(data);
        Ok(())
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
            // Who takes a piece may keep it for long, and all pieces are of the same memory.
            let piece = self.read.len().min(PIECE);
            let piece = self.read.split_to(piece).freeze();
            if self.read.is_empty() {
                self.held = None;
            }
            return Poll::Ready(Some(Ok(Frame::data(piece))));
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

    type Sent = Result<Frame<Bytes>, &'static str>;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn body(parts: Vec<Sent>) -> Ahead<impl Body<Data = Bytes, Error = &'static str> + Unpin> {
        Ahead::new(StreamBody::new(futures::stream::iter(parts)))
    }

    fn data(text: &str) -> Sent {
        Ok(Frame::data(Bytes::copy_from_slice(text.as_bytes())))
    }

    fn trailers() -> Sent {
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
            let mut parts: Vec<Sent> = pieces.iter().map(|piece| data(piece)).collect();
            parts.extend(has_trailers.then(trailers));
            let (room, part) = (Room::of(100), Part::new());
            let share = room.share(&part, CLIENT);
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let mut body = body(parts);
                for limit in limits {
                    let seen = body.read(limit, share).await.unwrap();
                    let shown = limit.min(whole.len());
                    assert_eq!(seen.data, &whole.as_bytes()[..shown]);
                    assert_eq!(seen.truncated, shown < whole.len());
                    let kept = 100 - room.all.available_permits();
                    assert!(kept >= shown, "{kept} are less than {shown}");
                }
                let collected = body.collect().await.unwrap();
                assert_eq!(collected.trailers().is_some(), has_trailers);
                assert_eq!(collected.to_bytes(), whole.as_bytes());
            });
            prop_assert_eq!(room.all.available_permits(), 100);
        }
    }

    #[tokio::test]
    async fn what_breaks_off_is_no_body_and_what_has_no_room_is_not_kept() {
        let (room, part) = (Room::of(10), Part::new());
        let share = room.share(&part, CLIENT);
        let mut broken = body(vec![data("abc"), Err("it breaks off")]);
        let error = broken.read(5, share).await.unwrap_err();
        assert!(matches!(error, AheadError::Body("it breaks off")));
        assert_eq!(room.all.available_permits(), 7);
        let mut large = body(vec![data("01234567")]);
        assert!(matches!(large.read(9, share).await, Err(AheadError::Full)));
        drop(broken);
        let mut again = body(vec![data("01234567"), data("89ab")]);
        assert_eq!(again.read(10, share).await.unwrap().data, b"0123456789");
        // Its length is known as before.
        assert_eq!(again.size_hint().lower(), 12);
        assert!(!again.is_end_stream());
        drop(again);
        assert_eq!(room.all.available_permits(), 10);
    }

    #[tokio::test]
    async fn a_body_that_nobody_read_is_handed_on_as_it_came() {
        let unread = body(vec![data("abc")]);
        assert!(unread.untouched().is_ok());
        let mut read = body(vec![data("abc")]);
        let (room, part) = (Room::new(), Part::new());
        let share = room.share(&part, CLIENT);
        read.read(1, share).await.unwrap();
        assert!(read.untouched().is_err());
    }

    #[tokio::test]
    async fn a_client_holds_what_it_did_not_take_and_leaves_room_for_others() {
        let (room, [one, two]) = (Room::new(), [Part::new(), Part::new()]);
        let large = || body(vec![Ok(Frame::data(Bytes::from(vec![7; 1 << 20])))]);
        let client = |last| IpAddr::from([192, 0, 2, last]);
        let mut held = Vec::new();
        let mut fill = async |part, client| {
            let before = held.len();
            loop {
                let mut body = large();
                match body.read(1 << 20, room.share(part, client)).await {
                    Ok(_) => held.push(body),
                    Err(AheadError::Spent | AheadError::Full) => return held.len() - before,
                    Err(AheadError::Body(error)) => panic!("{error}"),
                }
            }
        };
        assert_eq!(fill(&one, client(1)).await, 16);
        assert_eq!(fill(&two, client(1)).await, 0);
        let others = [2, 3, 4, 5].map(client);
        let mut filled = Vec::new();
        for other in others {
            filled.push(fill(&one, other).await);
        }
        assert_eq!(filled, [16, 16, 16, 0]);
        assert_eq!(fill(&two, client(5)).await, 16);
        // All but the last piece is not enough: they are of one memory.
        let mut first = held.swap_remove(0);
        let pieces = (1 << 20) / PIECE;
        for _ in 1..pieces {
            first.frame().await.unwrap().unwrap();
        }
        let again = large()
            .read(1 << 20, room.share(&one, client(1)))
            .await
            .err();
        assert!(matches!(again, Some(AheadError::Spent)));
        first.frame().await.unwrap().unwrap();
        let mut again = large();
        assert!(
            again
                .read(1 << 20, room.share(&one, client(1)))
                .await
                .is_ok()
        );
    }

    #[tokio::test]
    async fn however_many_clients_come_between_two_pieces_a_body_holds_what_one_client_may() {
        let (room, part) = (Room::new(), Part::new());
        let share = room.share(&part, CLIENT);
        let mut body = body(vec![data("abc"), data("def")]);
        assert_eq!(body.read(2, share).await.unwrap().data, b"ab");
        for number in 0..20_000_u32 {
            let other = room.share(&part, IpAddr::from(((10 << 24) | number).to_be_bytes()));
            for _ in 0..3 {
                other.take::<()>(1).unwrap();
            }
        }
        assert_eq!(body.read(6, share).await.unwrap().data, b"abcdef");
        let error = share.take::<()>(OF_CLIENT - 5).err();
        assert!(matches!(error, Some(AheadError::Spent)));
        share.take::<()>(OF_CLIENT - 6).unwrap();
        // Who holds nothing costs nothing for long.
        assert!(room.clients.lock().unwrap().parts.len() <= CLIENTS);
    }
}
