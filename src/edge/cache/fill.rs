//! A response that is on its way from the origin, read by everyone who waits for it.
//!
//! Each reader has a place of its own, and readers do not wait for each other. A small body stays in memory until it is
//! whole. A larger one goes to disk as it comes: the end of it is in memory too, and who is behind that reads the file. Only
//! where there is no disk, or no room on it, is there no more than a [window](WINDOW): then the origin is read as slowly as the
//! slowest reader reads. Others do not wait for that one longer than [`PATIENCE`] at a time: a reader that is still behind then is
//! cut off. One that nobody waits for may take its time.
//!
//! A response that is not whole ends in an error for everyone who reads it.

use std::{
    collections::{HashMap, VecDeque},
    fs::File,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::Notify;

use super::stored::Head;

/// How much of a body is kept in memory when it is not kept there whole, with what its [pieces](FRAME) take.
pub(super) const WINDOW: u64 = 1 << 20;

/// What a piece of a body takes beside its bytes: its entry, and the rest of the buffer that it is a part of. A body may come
/// in pieces of one byte.
pub(super) const FRAME: u64 = 256;

/// How long the slowest reader may hold up the others where there is only a window.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Why a body did not come to its end.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Failure {
    /// The origin's body failed.
    #[error("read the origin's response")]
    Origin(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// The origin's body has another length than it announced.
    #[error("the origin's response has another length than it announced")]
    Length,
    /// The reader was slower than the others can wait for.
    #[error("the response was read too slowly")]
    Slow,
    /// What was stored cannot be read.
    #[error("read what was stored")]
    Disk(#[source] Arc<io::Error>),
}

/// A response that is on its way.
#[derive(Debug)]
pub(super) struct Fill {
    /// As it is stored.
    pub(super) head: Head,
    /// The length that the origin announced.
    pub(super) length: Option<u64>,
    state: Mutex<State>,
    /// Readers moved, came or went.
    moved: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Each with the place of its first byte, in order and without gaps.
    chunks: VecDeque<(u64, Bytes)>,
    /// Bytes that came.
    total: u64,
    file: Option<Arc<File>>,
    /// Bytes that the file has.
    written: u64,
    end: Option<Result<(), Failure>>,
    readers: HashMap<u64, Reading>,
    next_reader: u64,
}

#[derive(Debug)]
struct Reading {
    at: u64,
    waker: Option<Waker>,
}

/// What a piece of a body takes in memory. An empty one is not kept.
pub(super) fn weight(bytes: &Bytes) -> u64 {
    match bytes.len() as u64 {
        0 => 0,
        length => length + FRAME,
    }
}

impl State {
    /// The first byte that is in memory.
    fn base(&self) -> u64 {
        self.chunks.front().map_or(self.total, |(at, _)| *at)
    }

    /// The end of the first piece that is in memory.
    fn first_end(&self) -> Option<u64> {
        let first = self.chunks.front();
        first.map(|(at, bytes)| at + bytes.len() as u64)
    }

    /// What is there from that place on, with what the pieces take that begin there.
    fn weight_from(&self, at: u64) -> u64 {
        let before = self.chunks.partition_point(|(start, _)| *start < at);
        let frames = (self.chunks.len() - before) as u64;
        self.total.saturating_sub(at) + frames * FRAME
    }

    /// Forgets what ends before that place, and leaves a window.
    fn trim(&mut self, to: u64) {
        while let Some(end) = self.first_end()
            && end <= to
            && self.weight_from(end) >= WINDOW
        {
            self.chunks.pop_front();
        }
    }

    fn wake_all(&mut self) -> Vec<Waker> {
        let readers = self.readers.values_mut();
        readers.filter_map(|reader| reader.waker.take()).collect()
    }
}

/// What is at a place of a body.
#[derive(Debug)]
pub(super) enum At {
    Bytes(Bytes),
    /// It is in the file, which is written up to here.
    File(Arc<File>, u64),
    End,
}

impl Fill {
    pub(super) fn new(head: Head, length: Option<u64>) -> Self {
        Self {
            head,
            length,
            state: Mutex::default(),
            moved: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that came so far.
    pub(super) fn received(&self) -> u64 {
        self.lock().total
    }

    /// What came from that place on takes so much in memory.
    pub(super) fn weight_from(&self, at: u64) -> u64 {
        self.lock().weight_from(at)
    }

    /// Adds what came.
    pub(super) fn push(&self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        let mut state = self.lock();
        let at = state.total;
        state.total += bytes.len() as u64;
        state.chunks.push_back((at, bytes));
        let wakers = state.wake_all();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Ends it. Only the first end counts.
    pub(super) fn end(&self, end: Result<(), Failure>) {
        let mut state = self.lock();
        state.end.get_or_insert(end);
        let wakers = state.wake_all();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// All of the body, which was never trimmed.
    pub(super) fn whole(&self) -> Bytes {
        let state = self.lock();
        if let (1, Some((_, only))) = (state.chunks.len(), state.chunks.front()) {
            // A copy has no more than it needs: what came may be a piece of something larger.
            return Bytes::copy_from_slice(only);
        }
        let mut whole = Vec::with_capacity(usize::try_from(state.total).unwrap_or_default());
        for (_, bytes) in &state.chunks {
            whole.extend_from_slice(bytes);
        }
        whole.into()
    }

    /// What came from that place on, without leaving memory.
    pub(super) fn since(&self, at: u64) -> Vec<Bytes> {
        let state = self.lock();
        let first = state.chunks.partition_point(|(start, _)| *start < at);
        state
            .chunks
            .range(first..)
            .map(|(_, bytes)| bytes.clone())
            .collect()
    }

    /// Notes that the file has the body up to there, and keeps a window of it in memory.
    pub(super) fn wrote(&self, file: &Arc<File>, written: u64) {
        let mut state = self.lock();
        state.file.get_or_insert_with(|| Arc::clone(file));
        state.written = written;
        state.trim(written);
    }

    /// Waits until all readers are within the window, and forgets what is before it. Who holds up others for too long is cut
    /// off. False if nobody reads any more.
    pub(super) async fn advance(&self) -> bool {
        let mut deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let moved = self.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            let waits = {
                let mut state = self.lock();
                if state.readers.is_empty() {
                    return false;
                }
                // Who reads the file needs what is behind it.
                let places = state.readers.values().map(|reader| reader.at);
                let slowest = places.min().unwrap_or(state.total).max(state.written);
                while state.first_end().is_some_and(|end| end <= slowest) {
                    state.chunks.pop_front();
                }
                // A piece that reaches into the window stays as a whole.
                let next = state.first_end().unwrap_or(state.total);
                state.weight_from(next) >= WINDOW
            };
            if !waits {
                return true;
            }
            if tokio::time::timeout_at(deadline, moved).await.is_err() {
                if self.cut() {
                    return true;
                }
                deadline = tokio::time::Instant::now() + PATIENCE;
            }
        }
    }

    /// Forgets what is before the window, if somebody reads within it and so waits for who needs that. False if nobody does.
    fn cut(&self) -> bool {
        let mut state = self.lock();
        let is_within = |reader: &Reading| state.weight_from(reader.at) <= WINDOW;
        if !state.readers.values().any(is_within) {
            return false;
        }
        let to = state.total;
        state.trim(to);
        let wakers = state.wake_all();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        true
    }

    /// Returns when nobody has read for so long.
    pub(super) async fn abandoned(&self, patience: Duration) {
        loop {
            let moved = self.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            if self.lock().readers.is_empty() {
                if tokio::time::timeout(patience, moved).await.is_err() {
                    return;
                }
            } else {
                moved.await;
            }
        }
    }
}

/// A place in a body that is on its way. While it lives, somebody reads.
#[derive(Debug)]
pub(super) struct FillReader {
    fill: Arc<Fill>,
    id: u64,
}

impl FillReader {
    /// A reader who begins at that place; none if what comes after it is gone by now, as there is but a window.
    pub(super) fn join(fill: &Arc<Fill>, at: u64) -> Option<Self> {
        let mut state = fill.lock();
        let (base, written) = (state.base(), state.written);
        if at < base && written < base {
            return None;
        }
        let id = state.next_reader;
        state.next_reader += 1;
        state.readers.insert(id, Reading { at, waker: None });
        drop(state);
        fill.moved.notify_waiters();
        Some(Self {
            fill: Arc::clone(fill),
            id,
        })
    }

    /// What is at that place, at most so many bytes.
    pub(super) fn poll_at(
        &self,
        context: &Context<'_>,
        at: u64,
        most: u64,
    ) -> Poll<Result<At, Failure>> {
        let mut state = self.fill.lock();
        let moved = state
            .readers
            .get(&self.id)
            .is_some_and(|reader| reader.at != at);
        let found = if at < state.base() {
            match &state.file {
                Some(file) if at < state.written => {
                    Poll::Ready(Ok(At::File(Arc::clone(file), state.written)))
                }
                _ => Poll::Ready(Err(Failure::Slow)),
            }
        } else if at < state.total {
            let index = state.chunks.partition_point(|(start, _)| *start <= at) - 1;
            let (start, bytes) = &state.chunks[index];
            let from = usize::try_from(at - start).unwrap_or(usize::MAX);
            let most = usize::try_from(most).unwrap_or(usize::MAX);
            let to = bytes.len().min(from.saturating_add(most));
            Poll::Ready(Ok(At::Bytes(bytes.slice(from..to))))
        } else {
            match &state.end {
                Some(Ok(())) => Poll::Ready(Ok(At::End)),
                Some(Err(failure)) => Poll::Ready(Err(failure.clone())),
                None => Poll::Pending,
            }
        };
        if let Some(reader) = state.readers.get_mut(&self.id) {
            reader.at = at;
            reader.waker = found.is_pending().then(|| context.waker().clone());
        }
        drop(state);
        if moved {
            self.fill.moved.notify_waiters();
        }
        found
    }
}

impl Drop for FillReader {
    fn drop(&mut self) {
        self.fill.lock().readers.remove(&self.id);
        self.fill.moved.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::time::{Instant, advance};

    use super::*;
    use crate::edge::cache::key::Key;

    const PIECE: usize = 300 << 10;

    fn reads(reader: &FillReader, at: u64) -> Poll<Result<At, Failure>> {
        reader.poll_at(&Context::from_waker(Waker::noop()), at, u64::MAX)
    }

    fn fill(pieces: usize) -> Arc<Fill> {
        fill_of(pieces, PIECE)
    }

    fn fill_of(pieces: usize, length: usize) -> Arc<Fill> {
        let fill = Fill::new(Head::example(Key::of_bytes(b"one")), None);
        (0..pieces).for_each(|_| fill.push(Bytes::from(vec![7; length])));
        Arc::new(fill)
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_nobody_waits_for_may_take_its_time() {
        let fill = fill(8);
        let reader = FillReader::join(&fill, 0).unwrap();
        let waiting = Arc::clone(&fill);
        let advanced = tokio::spawn(async move { waiting.advance().await });
        let (mut at, began) = (0, Instant::now());
        while !advanced.is_finished() {
            assert!(began.elapsed() < PATIENCE * 100);
            let Poll::Ready(Ok(At::Bytes(bytes))) = reads(&reader, at) else {
                panic!("cut off at {at}");
            };
            at += bytes.len() as u64;
            advance(PATIENCE * 3).await;
        }
        assert!(began.elapsed() > PATIENCE * 9);
        assert!(advanced.await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_holds_others_up_is_cut_off_and_they_are_not() {
        let fill = fill(8);
        let (slow, quick) = (
            FillReader::join(&fill, 0).unwrap(),
            FillReader::join(&fill, 0).unwrap(),
        );
        let from = 8 * PIECE as u64 - (WINDOW - 8 * FRAME);
        assert!(matches!(reads(&quick, from), Poll::Ready(Ok(At::Bytes(_)))));
        assert!(fill.advance().await);
        assert!(matches!(reads(&slow, 0), Poll::Ready(Err(Failure::Slow))));
        assert!(matches!(reads(&quick, from), Poll::Ready(Ok(At::Bytes(_)))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_of_single_bytes_fills_the_window_by_its_frames() {
        const FRAMES: u64 = WINDOW / (FRAME + 1) + 10;
        let fill = fill_of(usize::try_from(FRAMES).unwrap(), 1);
        let reader = FillReader::join(&fill, 0).unwrap();
        let waits = tokio::time::timeout(PATIENCE * 3, fill.advance()).await;
        assert!(waits.is_err());
        let bytes = reads(&reader, 20);
        assert!(matches!(bytes, Poll::Ready(Ok(At::Bytes(_)))));
        assert!(fill.advance().await);
        // Who reads its end is held up by who does not, as in a body of large pieces.
        let quick = FillReader::join(&fill, FRAMES).unwrap();
        (0..20).for_each(|_| fill.push(Bytes::from_static(b"x")));
        assert!(fill.advance().await);
        assert!(matches!(
            reads(&reader, 20),
            Poll::Ready(Err(Failure::Slow))
        ));
        let bytes = reads(&quick, FRAMES);
        assert!(matches!(bytes, Poll::Ready(Ok(At::Bytes(_)))));
    }

    #[test]
    fn no_more_is_kept_of_single_bytes_that_are_on_disk_than_fits_into_the_window() {
        let fill = fill_of(10_000, 1);
        let pushed = fill.received();
        assert_eq!(
            fill.weight_from(0),
            pushed * weight(&Bytes::from_static(b"x"))
        );
        fill.wrote(&Arc::new(tempfile::tempfile().unwrap()), pushed);
        let kept = fill.since(0).len() as u64;
        assert!(kept * FRAME < WINDOW + 2 * FRAME, "{kept}");
        assert!(kept * (FRAME + 1) >= WINDOW, "{kept}");
    }
}
