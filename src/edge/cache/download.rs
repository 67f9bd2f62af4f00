//! The body of a response on its way into the cache.
//!
//! It is in memory while it is small. Then it goes to disk, a batch at a time; and where there is no disk, no room, or it
//! becomes larger than what is stored, nowhere: those who read it get all of it nevertheless. It is stored when it is
//! whole, and before who reads it hears that it is: a request after a response finds it.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use tokio::task::{coop::consume_budget, spawn_blocking};

use super::{
    Comes, Forward, Shared,
    disk::{Disk, Document, Spool},
    fill::{self, Failure, Fill},
    memory::Slot,
    purge::Generation,
    stored::{self, Content, Stored},
};

/// How much is written to disk at once, by what it takes in memory.
const BATCH: u64 = 256 << 10;

/// A body on its way into the cache.
pub(super) struct Download {
    shared: Arc<Shared>,
    fill: Arc<Fill>,
    asked: Generation,
    most: u64,
    way: Way,
    /// What it holds of the room for bodies that are not whole yet.
    held: u64,
    /// What it holds of the disk's room for what is being written.
    reserved: u64,
}

/// Where a body is kept while it comes.
enum Way {
    /// In memory, all of it.
    Memory,
    /// On disk.
    Disk(Arc<Disk>, Spool, Arc<std::fs::File>),
    /// Nowhere: it is too large, or there is no room. Only a window of it is in memory.
    Window,
}

impl Download {
    /// A download that is stored unless it becomes larger than `most`.
    pub(super) fn new(shared: Arc<Shared>, fill: Arc<Fill>, asked: Generation, most: u64) -> Self {
        Self {
            shared,
            fill,
            asked,
            most,
            way: Way::Memory,
            held: 0,
            reserved: 0,
        }
    }

    pub(super) async fn run<F: Forward>(mut self, body: F::Body) {
        let end = self.receive::<F>(body).await;
        match end {
            Ok(()) => self.finish().await,
            Err(failure) => self.fill.end(Err(failure)),
        }
    }

    async fn receive<F: Forward>(&mut self, body: F::Body) -> Result<(), Failure> {
        let fill = Arc::clone(&self.fill);
        let abandoned = fill.abandoned(self.shared.finish);
        let (mut abandoned, mut body) = (std::pin::pin!(abandoned), std::pin::pin!(body));
        loop {
            let frame = tokio::select! {
                biased;
                frame = body.frame() => frame,
                () = &mut abandoned => return Err(Failure::Slow),
            };
            let Some(frame) = frame else {
                break;
            };
            let frame = frame.map_err(|error| Failure::Origin(Arc::from(error.into())))?;
            let Ok(bytes) = frame.into_data() else {
                // Trailers are not stored.
                continue;
            };
            self.take(bytes).await?;
        }
        match fill.length {
            Some(length) if length != fill.received() => Err(Failure::Length),
            _ => Ok(()),
        }
    }

    async fn take(&mut self, bytes: Bytes) -> Result<(), Failure> {
        let length = bytes.len() as u64;
        let received = self.fill.received() + length;
        if self.fill.length.is_some_and(|length| received > length) {
            return Err(Failure::Length);
        }
        let weight = fill::weight(&bytes);
        self.fill.push(bytes);
        if matches!(self.way, Way::Memory) {
            self.held += weight;
            let before = self.shared.filling.fetch_add(weight, Relaxed);
            if received > self.shared.memory_object || before + weight > self.shared.most_filling {
                self.leave_memory();
            }
        }
        if received > self.most {
            self.release();
            self.way = Way::Window;
        }
        match &self.way {
            // A body that never waits would keep its readers from running.
            Way::Memory => consume_budget().await,
            Way::Disk(_, spool, _) if self.fill.weight_from(spool.written()) < BATCH => {
                consume_budget().await;
            }
            Way::Disk(..) => self.write().await,
            Way::Window => {
                if !self.fill.advance().await {
                    return Err(Failure::Slow);
                }
            }
        }
        Ok(())
    }

    /// Goes on on disk, or nowhere.
    fn leave_memory(&mut self) {
        self.release();
        let spool = self.shared.disk.as_ref().and_then(|disk| {
            let spool = disk.spool().and_then(|spool| Ok((spool.reader()?, spool)));
            match spool {
                Ok((file, spool)) => Some(Way::Disk(Arc::clone(disk), spool, file)),
                Err(_) => {
                    disk.count_failure();
                    None
                }
            }
        });
        self.way = spool.unwrap_or(Way::Window);
    }

    /// Gives back what it holds of memory and disk.
    fn release(&mut self) {
        self.shared.filling.fetch_sub(self.held, Relaxed);
        self.held = 0;
        if let Some(disk) = &self.shared.disk {
            disk.unreserve(self.reserved);
        }
        self.reserved = 0;
    }

    /// Writes what came since the last time. What cannot be written is not stored.
    async fn write(&mut self) {
        let Way::Disk(disk, mut spool, file) = std::mem::replace(&mut self.way, Way::Window) else {
            return;
        };
        let pending = self.fill.since(spool.written());
        let length = pending.iter().map(|bytes| bytes.len() as u64).sum();
        if !disk.reserve(length) {
            return self.release();
        }
        self.reserved += length;
        let work = spawn_blocking(move || {
            let written = pending.iter().try_for_each(|bytes| spool.write(bytes));
            (spool, written)
        });
        match work.await {
            Ok((spool, Ok(()))) => {
                self.fill.wrote(&file, spool.written());
                self.way = Way::Disk(disk, spool, file);
            }
            Ok((_, Err(_))) | Err(_) => {
                disk.count_failure();
                self.release();
            }
        }
    }

    /// Stores a body that is whole, and ends it.
    async fn finish(mut self) {
        if let Way::Disk(..) = &self.way {
            self.write().await;
        }
        let length = self.fill.received();
        let mut head = self.fill.head.clone();
        stored::set_length(&mut head.headers, head.status, length);
        match std::mem::replace(&mut self.way, Way::Window) {
            Way::Memory => {
                let content = Content::Memory(self.fill.whole());
                let slot = Slot::Response(Arc::new(Stored::new(head, content, length, None)));
                if self.shared.keep(&slot, self.asked, Comes::FromOrigin) {
                    self.shared.write(slot, self.asked);
                }
            }
            Way::Disk(disk, spool, _) => {
                let asked = self.asked;
                self.shared.memory.remove(&head.key.digest);
                let work = spawn_blocking(move || {
                    disk.store(Document::Spooled(&head, spool), asked);
                });
                // Stored or not: the readers have it all.
                let _ = work.await;
            }
            Way::Window => {}
        }
        self.fill.end(Ok(()));
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.release();
        // Who reads it still does not wait for ever; a proper end came before.
        self.fill.end(Err(Failure::Length));
    }
}
