//! The body of a large response, in a file of its own.
//!
//! The bytes come first, then a checksum of each block of them: a reader proves every block before it gives one byte of
//! it away, and the file can be read from anywhere. Whether the file is as long as it should be is known when it is
//! opened; a block that was changed on the disk is found when it is read.

use std::{
    fs::File,
    io::{self, Write as _},
    ops::Range,
    os::unix::fs::FileExt as _,
    path::Path,
    sync::Arc,
};

use bytes::Bytes;
use tempfile::NamedTempFile;

/// What has a checksum of its own.
pub(super) const BLOCK: u64 = 64 << 10;

/// The most that is read at once.
const MOST_READ: u64 = 4 * BLOCK;

/// The length of a checksum.
const SUM: u64 = 16;

type Sum = [u8; 16];

/// The body of a stored response.
#[derive(Debug)]
pub(in crate::edge::cache) struct BodyFile {
    file: File,
    length: u64,
    /// Names the file, with the digest of the key.
    pub(in crate::edge::cache) version: u64,
}

impl BodyFile {
    /// Opens a file of a body of that length, or none if it has another; the first block is read for proof.
    pub(super) fn open(path: &Path, length: u64, version: u64) -> io::Result<Option<Self>> {
        let file = File::open(path)?;
        let opened = Self {
            file,
            length,
            version,
        };
        if opened.file.metadata()?.len() != size(length) {
            return Ok(None);
        }
        Ok(opened.read(0, 1).is_ok().then_some(opened))
    }

    pub(in crate::edge::cache) const fn length(&self) -> u64 {
        self.length
    }

    /// Some of the bytes from there on: at least one, unless that is the end, and at most so many. An error if they are
    /// not what was written.
    pub(in crate::edge::cache) fn read(&self, at: u64, most: u64) -> io::Result<Bytes> {
        let end = at.saturating_add(most.min(MOST_READ)).min(self.length);
        if at >= end {
            return Ok(Bytes::new());
        }
        let first = at / BLOCK;
        let last = (end - 1) / BLOCK;
        let start = first * BLOCK;
        let stop = ((last + 1) * BLOCK).min(self.length);
        let bytes = self.exactly(start..stop)?;
        let sums_at = self.length + first * SUM;
        let sums = self.exactly(sums_at..sums_at + (last + 1 - first) * SUM)?;
        let block = usize::try_from(BLOCK).unwrap_or(usize::MAX);
        let proved = bytes
            .chunks(block)
            .zip(sums.chunks(size_of::<Sum>()))
            .all(|(block, sum)| sum_of(&blake3::hash(block)) == *sum);
        if !proved {
            return Err(io::Error::from(io::ErrorKind::InvalidData));
        }
        let within = |at: u64| usize::try_from(at - start).unwrap_or(usize::MAX);
        Ok(Bytes::from(bytes).slice(within(at)..within(end)))
    }

    fn exactly(&self, range: Range<u64>) -> io::Result<Vec<u8>> {
        let length = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, range.start)?;
        Ok(bytes)
    }
}

/// How long the file of a body is.
pub(super) fn size(length: u64) -> u64 {
    length.saturating_add(length.div_ceil(BLOCK).saturating_mul(SUM))
}

fn sum_of(hash: &blake3::Hash) -> Sum {
    let (sum, _) = hash
        .as_bytes()
        .split_first_chunk()
        .expect("a hash has 32 bytes");
    *sum
}

/// A body that is being written. It has no name among the bodies yet; dropping it removes the file.
#[derive(Debug)]
pub(in crate::edge::cache) struct Spool {
    file: NamedTempFile,
    sums: Vec<u8>,
    hasher: Box<blake3::Hasher>,
    /// Bytes in the block that the hasher has.
    in_block: u64,
    written: u64,
}

impl Spool {
    pub(super) fn new(folder: &Path) -> io::Result<Self> {
        Ok(Self {
            file: NamedTempFile::new_in(folder)?,
            sums: Vec::new(),
            hasher: Box::default(),
            in_block: 0,
            written: 0,
        })
    }

    pub(in crate::edge::cache) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.written += bytes.len() as u64;
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = usize::try_from(BLOCK - self.in_block).unwrap_or(usize::MAX);
            let (some, after) = rest.split_at(room.min(rest.len()));
            self.hasher.update(some);
            self.in_block += some.len() as u64;
            rest = after;
            if self.in_block == BLOCK {
                self.end_block();
            }
        }
        Ok(())
    }

    /// The file, for reading what is written while more is.
    pub(in crate::edge::cache) fn reader(&self) -> io::Result<Arc<File>> {
        Ok(Arc::new(self.file.reopen()?))
    }

    /// The length of the body so far.
    pub(in crate::edge::cache) const fn written(&self) -> u64 {
        self.written
    }

    /// Ends the file. It is whole then, but has no name yet.
    pub(super) fn finish(mut self) -> io::Result<NamedTempFile> {
        if self.in_block > 0 {
            self.end_block();
        }
        self.file.write_all(&self.sums)?;
        Ok(self.file)
    }

    fn end_block(&mut self) {
        self.sums
            .extend_from_slice(&sum_of(&self.hasher.finalize()));
        self.hasher.reset();
        self.in_block = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(folder: &Path, bytes: &[u8], step: usize) -> std::path::PathBuf {
        let mut spool = Spool::new(folder).unwrap();
        for some in bytes.chunks(step) {
            spool.write(some).unwrap();
        }
        assert_eq!(spool.written(), bytes.len() as u64);
        let path = folder.join("body");
        spool.finish().unwrap().persist(&path).unwrap();
        path
    }

    fn body(length: u64) -> Vec<u8> {
        (0..length)
            .map(|n| u8::try_from(n % 251).unwrap())
            .collect()
    }

    #[test]
    fn a_body_is_read_from_anywhere_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        for length in [1, BLOCK - 1, BLOCK, BLOCK + 1, 9 * BLOCK + 5] {
            let bytes = body(length);
            let path = written(folder.path(), &bytes, 10_007);
            let file = BodyFile::open(&path, length, 1).unwrap().unwrap();
            for start in [0, length / 3, length - 1] {
                let (mut at, mut read) = (start, Vec::new());
                while at < length {
                    let some = file.read(at, u64::MAX).unwrap();
                    assert!(!some.is_empty());
                    at += some.len() as u64;
                    read.extend_from_slice(&some);
                }
                assert_eq!(read, bytes[usize::try_from(start).unwrap()..]);
            }
            assert!(file.read(length, 1).unwrap().is_empty());
            assert_eq!(file.read(0, 1).unwrap(), bytes[..1]);
        }
    }

    #[test]
    fn a_body_of_another_length_is_not_opened_and_a_changed_block_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let length = 2 * BLOCK + 1;
        let path = written(folder.path(), &body(length), 1 << 20);
        assert!(BodyFile::open(&path, length - 1, 1).unwrap().is_none());
        let file = File::options().write(true).open(&path).unwrap();
        file.write_all_at(b"x", BLOCK + 7).unwrap();
        let opened = BodyFile::open(&path, length, 1).unwrap().unwrap();
        assert!(opened.read(0, BLOCK).is_ok());
        assert!(opened.read(BLOCK, 1).is_err());
        assert!(opened.read(2 * BLOCK, 1).is_ok());
        file.write_all_at(b"x", 7).unwrap();
        assert!(BodyFile::open(&path, length, 1).unwrap().is_none());
        file.set_len(length).unwrap();
        assert!(BodyFile::open(&path, length, 1).unwrap().is_none());
    }
}
