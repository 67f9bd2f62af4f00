//! Writing to the disk tier.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::FileExt as _,
    path::Path,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use bytes::Bytes;

use super::{
    BodyFile, Disk, INLINE, Record, Spool, body,
    format::{self, Body, MARKED_AT},
};
use crate::edge::cache::{
    clock::Moment,
    key::{Digest, Key},
    purge::Generation,
    stored::{Head, Varying},
};

/// What is stored.
#[derive(Debug)]
pub(in crate::edge::cache) enum Document<'a> {
    /// A response whose body is in memory.
    Whole(&'a Head, &'a Bytes),
    /// A response whose body was just written.
    Spooled(&'a Head, Spool),
    /// A response whose body has been there before.
    Refreshed(&'a Head, &'a BodyFile),
    Varying(&'a Varying),
}

impl Document<'_> {
    fn key(&self) -> &Key {
        match self {
            Self::Whole(head, _) | Self::Spooled(head, _) | Self::Refreshed(head, _) => &head.key,
            Self::Varying(varying) => &varying.key,
        }
    }
}

impl Disk {
    /// Begins to write a body.
    pub(in crate::edge::cache) fn spool(&self) -> io::Result<Spool> {
        Spool::new(&self.folder.join("tmp"))
    }

    /// Takes room for what is being written, until it is [given back](Self::unreserve). False if there is none.
    pub(in crate::edge::cache) fn reserve(&self, bytes: u64) -> bool {
        let before = self.spooling.fetch_add(bytes, Relaxed);
        let fits = before.saturating_add(bytes) <= self.most_spooling;
        if !fits {
            self.unreserve(bytes);
        }
        fits
    }

    pub(in crate::edge::cache) fn unreserve(&self, bytes: u64) {
        self.spooling.fetch_sub(bytes, Relaxed);
    }

    /// Stores a response, unless it was purged since that generation. Blocks. Errors are counted.
    pub(in crate::edge::cache) fn store(&self, document: Document<'_>, asked: Generation) {
        let digest = document.key().digest;
        if self.try_store(document, asked).is_err() {
            self.failures.fetch_add(1, Relaxed);
            // What is there is older than what it would not take.
            self.forget(&digest);
        }
        self.records.run_pending_tasks();
        self.sweep();
    }

    fn try_store(&self, document: Document<'_>, asked: Generation) -> io::Result<()> {
        let (mut body, mut body_length) = (None, 0);
        let received = match &document {
            Document::Varying(varying) => varying.received,
            Document::Whole(head, _)
            | Document::Spooled(head, _)
            | Document::Refreshed(head, _) => head.freshness.received,
        };
        let (key, label, version, bytes, counters) = match document {
            Document::Varying(varying) => {
                let (_, counters) = self.registry.of(&varying.label.distribution);
                let bytes = format::encode_varying(varying);
                (
                    &varying.key,
                    &varying.label,
                    varying.version,
                    bytes,
                    counters,
                )
            }
            Document::Whole(head, content) => {
                let length = content.len() as u64;
                body_length = length;
                let place = if length <= INLINE {
                    Body::Inline(content)
                } else {
                    let mut spool = self.spool()?;
                    spool.write(content)?;
                    body = Some((head.version, Some(spool.finish()?)));
                    Body::File(head.version)
                };
                let bytes = format::encode_response(head, length, place);
                (
                    &head.key,
                    &head.label,
                    head.version,
                    bytes,
                    Arc::clone(&head.counters),
                )
            }
            Document::Spooled(head, spool) => {
                body_length = spool.written();
                body = Some((head.version, Some(spool.finish()?)));
                let bytes = format::encode_response(head, body_length, Body::File(head.version));
                (
                    &head.key,
                    &head.label,
                    head.version,
                    bytes,
                    Arc::clone(&head.counters),
                )
            }
            Document::Refreshed(head, file) => {
                body_length = file.length();
                body = Some((file.version, None));
                let bytes = format::encode_response(head, body_length, Body::File(file.version));
                (
                    &head.key,
                    &head.label,
                    head.version,
                    bytes,
                    Arc::clone(&head.counters),
                )
            }
        };
        let mut head_file = tempfile::NamedTempFile::new_in(self.folder.join("tmp"))?;
        head_file.write_all(&bytes)?;
        let size = bytes.len() as u64 + body.as_ref().map_or(0, |_| body::size(body_length));
        let record = Record {
            version,
            body: body.as_ref().map(|(version, _)| *version),
            size,
            received,
            marked: Arc::default(),
            counters,
        };
        let _writing = self.log.writing();
        let (urls, tags) = (label.urls(), Some(&*label.tags));
        if self
            .log
            .hold()
            .was_purged(asked, &label.distribution, urls, tags)
        {
            return Ok(());
        }
        let digest = key.digest;
        let _stripe = self.stripe(&digest);
        let current = self.records.get(&digest);
        if current.is_some_and(|current| current.received > received) {
            return Ok(());
        }
        match body {
            // Its body went away with an older head.
            Some((version, None)) if !self.body_path(&digest, version).exists() => return Ok(()),
            Some((version, Some(file))) => persist(file, &self.body_path(&digest, version))?,
            Some((_, None)) | None => {}
        }
        if let Err(error) = persist(head_file, &self.head_path(&digest)) {
            self.doom(digest, record);
            return Err(error);
        }
        record.counters.disk.stored(body_length);
        self.insert(digest, label, record);
        Ok(())
    }

    /// Marks a response stale. Blocks.
    pub(in crate::edge::cache) fn mark(&self, digest: &Digest, now: Moment) {
        let _stripe = self.stripe(digest);
        if self.records.contains_key(digest) {
            self.write_mark(digest, now);
        }
    }

    /// Marks that version of a response stale, and no other. Blocks.
    pub(in crate::edge::cache) fn mark_version(&self, digest: &Digest, version: u64, now: Moment) {
        let _stripe = self.stripe(digest);
        let current = self.records.get(digest);
        if current.is_some_and(|current| current.version == version) {
            self.write_mark(digest, now);
        }
    }

    /// Its stripe is held.
    fn write_mark(&self, digest: &Digest, now: Moment) {
        let marked = File::options()
            .read(true)
            .write(true)
            .open(self.head_path(digest))
            .and_then(|file| {
                let mut mark = [0; 8];
                file.read_exact_at(&mut mark, MARKED_AT)?;
                if u64::from_be_bytes(mark) == 0 {
                    mark = now.as_millis().max(1).to_be_bytes();
                    file.write_all_at(&mark, MARKED_AT)?;
                }
                Ok(Moment::from_millis(u64::from_be_bytes(mark)))
            });
        match marked {
            // It may be one of an earlier run.
            Ok(marked) => self.note_mark(digest, marked),
            // What cannot be marked must not be taken for fresh.
            Err(_) => self.records.invalidate(digest),
        }
    }
}

fn persist(file: tempfile::NamedTempFile, path: &Path) -> io::Result<()> {
    let parent = path
        .parent()
        .expect("a file lies in a folder of two letters");
    match file.persist(path) {
        Err(error) if error.error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(parent)?;
            error.file.persist(path).map_err(|error| error.error)?;
        }
        persisted => {
            persisted.map_err(|error| error.error)?;
        }
    }
    Ok(())
}
