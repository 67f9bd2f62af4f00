//! Finding what an earlier run stored.
//!
//! The beginnings of the head files are read, one after the other; until a response is found it is a miss. What was purged
//! since the folder was opened is not found any more, and what was stored since is not found over it.

use std::{
    fs::{self, File},
    path::Path,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use super::{Disk, Record, body, format, read_meta};
use crate::edge::cache::{
    clock::Moment,
    disk::format::{Meta, Place},
    key::Digest,
    purge::Log,
};

impl Disk {
    /// Takes what an earlier run stored, and removes files that nothing refers to. Blocks.
    pub(in crate::edge::cache) fn scan(&self) {
        each_file(
            &self.folder.join("heads"),
            |folder, name, path| match digest(folder, name) {
                Some(digest) => self.find(&digest, path),
                None => remove(path),
            },
        );
        each_file(&self.folder.join("bodies"), |folder, name, path| {
            let named = name.split_once('-').and_then(|(name, version)| {
                Some((
                    digest(folder, name)?,
                    u64::from_str_radix(version, 16).ok()?,
                ))
            });
            let Some((digest, version)) = named else {
                return remove(path);
            };
            let _stripe = self.stripe(&digest);
            let current = self.records.get(&digest);
            if current.is_none_or(|current| current.body != Some(version)) {
                remove(path);
            }
        });
        self.records.run_pending_tasks();
        self.sweep();
    }

    fn find(&self, digest: &Digest, path: &Path) {
        let _writing = self.log.writing();
        let _stripe = self.stripe(digest);
        if self.records.contains_key(digest) {
            return;
        }
        let read = File::open(path).and_then(|file| {
            let size = file.metadata()?.len();
            Ok(read_meta(&file)?.map(|(_, meta)| (size, meta)))
        });
        let Ok(read) = read else {
            self.failures.fetch_add(1, Relaxed);
            return;
        };
        let found = read.and_then(|(size, meta)| {
            let meta = format::decode(&meta, &self.registry)?;
            let mut received = Moment::default();
            let (key, label, version, body, length) = match meta {
                Meta::Varying(varying) => (varying.key, varying.label, varying.version, None, 0),
                Meta::Response { head, length, body } => {
                    let body = match body {
                        Place::Inline(_) => None,
                        Place::File(version) => Some(version),
                    };
                    received = head.freshness.received;
                    (head.key, head.label, head.version, body, length)
                }
            };
            let (_, counters) = self.registry.of(&label.distribution);
            let size = size + body.map_or(0, |_| body::size(length));
            let record = Record {
                version,
                body,
                size,
                received,
                marked: Arc::default(),
                counters,
            };
            (key.digest == *digest).then_some((label, record))
        });
        let Some((label, record)) = found else {
            self.corrupt.fetch_add(1, Relaxed);
            return remove(path);
        };
        let (urls, tags) = (label.urls(), Some(&*label.tags));
        if self
            .log
            .hold()
            .was_purged(Log::beginning(), &label.distribution, urls, tags)
        {
            // Its body has no head then, and goes with the others that have none.
            return remove(path);
        }
        self.insert(*digest, &label, record);
    }
}

/// Calls `found` with each file two folders down: the names of both, and the path. What cannot be read is passed over.
fn each_file(folder: &Path, found: impl Fn(&str, &str, &Path)) {
    for folder in fs::read_dir(folder).into_iter().flatten().flatten() {
        let parent = folder.file_name();
        for file in fs::read_dir(folder.path()).into_iter().flatten().flatten() {
            let name = file.file_name();
            found(
                &parent.to_string_lossy(),
                &name.to_string_lossy(),
                &file.path(),
            );
        }
    }
}

fn digest(folder: &str, name: &str) -> Option<Digest> {
    let hash = blake3::Hash::from_hex(format!("{folder}{name}")).ok()?;
    Some(*hash.as_bytes())
}

/// What cannot be removed is no worse than what is there: it is not found.
fn remove(path: &Path) {
    let _ = fs::remove_file(path);
}
