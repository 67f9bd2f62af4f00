//! The body of a response: in memory, in a file, on its way, or passed on as it comes.

use std::{
    collections::VecDeque,
    fs::File,
    io,
    ops::Range,
    os::unix::fs::FileExt as _,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::task::{JoinHandle, spawn_blocking};

use super::{
    BoxError,
    disk::{BodyFile, Disk},
    fill::{At, Failure, FillReader},
    key::Digest,
    range::Multipart,
    status::Handled,
};

/// The most that is read from a file at once.
const MOST_READ: u64 = 256 << 10;

pin_project! {
    /// The body of a response that came through the cache. `B` is the origin's.
    #[derive(Debug)]
    pub struct Body<B> {
        #[pin]
        inner: Inner<B>,
        handled: Option<Handled>,
    }
}

pin_project! {
    #[project = InnerProjection]
    #[derive(Debug)]
    enum Inner<B> {
        Whole { bytes: Option<Bytes> },
        Sections { sections: Sections },
        Forwarded { #[pin] body: B },
    }
}

/// Why a body did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// A response that is passed on as it comes.
    #[error("read the origin's response")]
    Forwarded(#[source] BoxError),
    /// A response that is or was shared.
    #[error(transparent)]
    Shared(Failure),
}

/// Where the bytes of a response are.
#[derive(Debug)]
pub(super) enum Source {
    Memory(Bytes),
    File(StoredFile),
    Fill(FillReader),
}

/// A body file, and whom to tell that it is damaged.
#[derive(Debug, Clone)]
pub(super) struct StoredFile {
    pub(super) file: Arc<BodyFile>,
    pub(super) disk: Arc<Disk>,
    pub(super) digest: Digest,
    /// Of the response.
    pub(super) version: u64,
}

impl StoredFile {
    fn read(&self, at: u64, most: u64) -> io::Result<Bytes> {
        self.file.read(at, most).inspect_err(|_| {
            self.disk.count_corrupt();
            self.disk.remove_version(&self.digest, self.version);
        })
    }
}

/// Some parts of a body, with what is between them.
#[derive(Debug)]
struct Sections {
    source: Source,
    left: VecDeque<Section>,
    /// Bytes that are left, if it is known.
    remaining: Option<u64>,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
}

#[derive(Debug)]
enum Section {
    Text(Bytes),
    Body(Range<u64>),
}

impl<B> Body<B> {
    pub(super) fn empty() -> Self {
        Self::whole(Bytes::new())
    }

    pub(super) fn whole(bytes: Bytes) -> Self {
        let bytes = (!bytes.is_empty()).then_some(bytes);
        Self {
            inner: Inner::Whole { bytes },
            handled: None,
        }
    }

    /// The bytes, if they are all here: nothing if there are none.
    pub(in crate::edge) fn into_whole(self) -> Result<Option<Bytes>, Self> {
        match self.inner {
            Inner::Whole { bytes } => Ok(bytes),
            inner => Err(Self { inner, ..self }),
        }
    }

    pub(super) fn forwarded(body: B) -> Self {
        Self {
            inner: Inner::Forwarded { body },
            handled: None,
        }
    }

    /// What the cache had to do with the request.
    pub fn handled(&self) -> Option<Handled> {
        self.handled
    }

    pub(super) fn set_handled(&mut self, handled: Handled) {
        self.handled = Some(handled);
    }

    /// All of a body whose length may not be known yet.
    pub(super) fn all(source: Source, length: Option<u64>) -> Self {
        match source {
            Source::Memory(bytes) => Self::whole(bytes),
            source => Self::sections(source, [Section::Body(0..u64::MAX)], length),
        }
    }

    /// One part of a body. It lies within it.
    pub(super) fn part(source: Source, range: Range<u64>) -> Self {
        let length = range.end - range.start;
        match source {
            Source::Memory(bytes) => {
                let place = |at| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
                Self::whole(bytes.slice(place(range.start)..place(range.end)))
            }
            source => Self::sections(source, [Section::Body(range)], Some(length)),
        }
    }

    /// Several parts of a body, each with its head.
    pub(super) fn parts(source: Source, multipart: Multipart) -> Self {
        let length = multipart.length();
        let parts = multipart
            .parts
            .into_iter()
            .flat_map(|(head, range)| [Section::Text(head), Section::Body(range)]);
        let end = [Section::Text(multipart.end)];
        Self::sections(source, parts.chain(end), Some(length))
    }

    fn sections(
        source: Source,
        sections: impl IntoIterator<Item = Section>,
        remaining: Option<u64>,
    ) -> Self {
        let sections = Sections {
            source,
            left: sections.into_iter().collect(),
            remaining,
            reading: None,
        };
        Self {
            inner: Inner::Sections { sections },
            handled: None,
        }
    }
}

impl Sections {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Failure>>> {
        loop {
            if self.remaining == Some(0) {
                return Poll::Ready(None);
            }
            let bytes = match self.left.front_mut() {
                None => return Poll::Ready(None),
                Some(Section::Text(text)) => {
                    let text = std::mem::take(text);
                    self.left.pop_front();
                    text
                }
                Some(Section::Body(range)) if range.is_empty() => {
                    self.left.pop_front();
                    continue;
                }
                Some(Section::Body(range)) => {
                    let range = range.clone();
                    match ready!(self.poll_body(context, &range)) {
                        Ok(None) => {
                            self.left.clear();
                            // Who announced a length sends it, or fails.
                            let short = self.remaining.is_some_and(|left| left > 0);
                            return Poll::Ready(short.then_some(Err(Failure::Length)));
                        }
                        Ok(Some(bytes)) => {
                            let at = range.start + bytes.len() as u64;
                            if let Some(Section::Body(range)) = self.left.front_mut() {
                                range.start = at;
                            }
                            bytes
                        }
                        Err(failure) => {
                            self.left.clear();
                            return Poll::Ready(Some(Err(failure)));
                        }
                    }
                }
            };
            if let Some(remaining) = &mut self.remaining {
                *remaining = remaining.saturating_sub(bytes.len() as u64);
            }
            return Poll::Ready(Some(Ok(bytes)));
        }
    }

    /// Some bytes at the beginning of a range, or none if the body ends before.
    fn poll_body(
        &mut self,
        context: &mut Context<'_>,
        range: &Range<u64>,
    ) -> Poll<Result<Option<Bytes>, Failure>> {
        if let Some(reading) = &mut self.reading {
            let read = ready!(Pin::new(reading).poll(context));
            self.reading = None;
            let read = read.unwrap_or_else(|error| Err(io::Error::other(error)));
            let read = read.map_err(|error| Failure::Disk(Arc::new(error)));
            return Poll::Ready(read.map(|bytes| (!bytes.is_empty()).then_some(bytes)));
        }
        let (at, most) = (range.start, (range.end - range.start).min(MOST_READ));
        let reading = match &self.source {
            Source::Memory(bytes) => {
                let place = |at| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
                let some = bytes.slice(place(at)..place(range.end));
                return Poll::Ready(Ok((!some.is_empty()).then_some(some)));
            }
            Source::File(file) => {
                let file = file.clone();
                spawn_blocking(move || file.read(at, most))
            }
            Source::Fill(reader) => {
                let most_there = range.end - range.start;
                match ready!(reader.poll_at(context, at, most_there))? {
                    At::Bytes(bytes) => return Poll::Ready(Ok(Some(bytes))),
                    At::End => return Poll::Ready(Ok(None)),
                    At::File(file, written) => {
                        let most = most.min(written - at);
                        spawn_blocking(move || read_at(&file, at, most))
                    }
                }
            }
        };
        self.reading = Some(reading);
        self.poll_body(context, range)
    }
}

fn read_at(file: &File, at: u64, most: u64) -> io::Result<Bytes> {
    let mut bytes = vec![0; usize::try_from(most).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, at)?;
    Ok(bytes.into())
}

impl<B> http_body::Body for Body<B>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.project().inner.project() {
            InnerProjection::Whole { bytes } => {
                Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes))))
            }
            InnerProjection::Sections { sections } => sections
                .poll(context)
                .map(|some| some.map(|read| read.map(Frame::data).map_err(BodyError::Shared))),
            InnerProjection::Forwarded { body } => body.poll_frame(context).map(|some| {
                some.map(|frame| frame.map_err(|error| BodyError::Forwarded(error.into())))
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Whole { bytes } => bytes.is_none(),
            Inner::Sections { sections } => sections.remaining == Some(0),
            Inner::Forwarded { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Whole { bytes } => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Inner::Sections { sections } => match sections.remaining {
                Some(remaining) => SizeHint::with_exact(remaining),
                None => SizeHint::default(),
            },
            Inner::Forwarded { body } => body.size_hint(),
        }
    }
}
