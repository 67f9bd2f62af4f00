//! What one instance holds in its `/tmp`, and how much more it may.
//!
//! Sizes are never taken from what a guest says: every call that changes the size of a file is made here, one after
//! another, and the size before it is read from the file itself. So `bytes` is the sum over the files that exist, each
//! rounded up to a block, holes counted as if they were full; a file with two names counts once; a file that lost its
//! last name counts until its last handle is closed.
//!
//! Names are counted apart, because an empty file or a folder takes an inode. A count that is wrong is too high: a name
//! whose disappearance could not be seen stays counted until the folder goes.

use std::{
    fs::File,
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use rustix::io::Errno;

use super::blocking;

/// Files, folders and links in one `/tmp`.
pub(super) const MAX_ENTRIES: usize = 10_000;

/// Files and folders that an instance holds open, granted ones included: each takes a file descriptor of the node.
pub(super) const MAX_HANDLES: usize = 256;

/// What a file takes at least, as on ext4 and xfs.
const BLOCK: u64 = 4096;

/// The account of one instance.
#[derive(Debug)]
pub(super) struct Quota {
    limit: u64,
    /// Who waits to change a size waits here, not on a thread: one instance keeps one thread busy.
    turn: tokio::sync::Mutex<()>,
    /// Held while a size changes, as long as the disk takes.
    resizing: Mutex<()>,
    /// Held for moments only: what is not on a blocking thread looks here too.
    account: Mutex<Account>,
}

#[derive(Debug, Default)]
struct Account {
    bytes: u64,
    entries: usize,
    handles: Vec<Handle>,
    orphans: Vec<Orphan>,
}

/// A file or folder that the guest has open, or had.
#[derive(Debug)]
struct Handle {
    /// Of a file in `/tmp`.
    inode: Option<u64>,
    file: Weak<File>,
}

/// A file without a name whose bytes are still there.
#[derive(Debug)]
struct Orphan {
    inode: u64,
    file: Arc<File>,
}

impl Quota {
    /// An empty `/tmp` that may hold `limit` bytes.
    pub(super) fn new(limit: u64) -> Self {
        Self {
            limit,
            turn: tokio::sync::Mutex::default(),
            resizing: Mutex::default(),
            account: Mutex::default(),
        }
    }

    /// Does what changes a size, on a thread that may block, after those who asked before.
    pub(super) fn in_turn<R: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> io::Result<R> + Send + 'static,
    ) -> impl Future<Output = io::Result<R>> + Send + 'static {
        let quota = Arc::clone(self);
        async move {
            let _turn = quota.turn.lock().await;
            let quota = Arc::clone(&quota);
            blocking(move || work(&quota)).await
        }
    }

    /// Writes at `offset`, or nothing if not all of it fits. Blocks on the disk.
    pub(super) fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let _resizing = self.resize();
        let before = file.metadata()?.len();
        self.write_from(file, bytes, offset, before)
    }

    /// Writes at the end. Blocks on the disk.
    pub(super) fn append(&self, file: &File, bytes: &[u8]) -> io::Result<usize> {
        let _resizing = self.resize();
        let before = file.metadata()?.len();
        self.write_from(file, bytes, before, before)
    }

    fn write_from(&self, file: &File, bytes: &[u8], offset: u64, before: u64) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let end = offset
            .checked_add(bytes.len() as u64)
            .ok_or(Errno::FBIG)?
            .max(before);
        self.charge(before, end)?;
        let result = file.write_at(bytes, offset);
        let after = match &result {
            Ok(written) => (offset + *written as u64).max(before),
            Err(_) => before,
        };
        self.refund(end, after);
        result
    }

    /// Cuts a file, or lengthens it by a hole. Blocks on the disk.
    pub(super) fn set_size(&self, file: &File, size: u64) -> io::Result<()> {
        let _resizing = self.resize();
        let before = file.metadata()?.len();
        self.charge(before, size)?;
        match file.set_len(size) {
            Ok(()) => {
                self.refund(before, size);
                Ok(())
            }
            Err(error) => {
                self.refund(size, before);
                Err(error)
            }
        }
    }

    /// Takes on what a file needs to grow from one size to another, if it grows.
    fn charge(&self, before: u64, after: u64) -> io::Result<()> {
        let growth = blocks(after).saturating_sub(blocks(before));
        if growth == 0 {
            return Ok(());
        }
        let mut account = self.lock();
        if account.bytes.saturating_add(growth) > self.limit {
            account.bury();
        }
        if account.bytes.saturating_add(growth) > self.limit {
            return Err(Errno::NOSPC.into());
        }
        account.bytes += growth;
        Ok(())
    }

    /// Gives back what a file does not need now that it is smaller than it was, or than it was to be.
    fn refund(&self, before: u64, after: u64) {
        let less = blocks(before).saturating_sub(blocks(after));
        if less > 0 {
            let mut account = self.lock();
            account.bytes = account.bytes.saturating_sub(less);
        }
    }

    /// Counts a name that is about to be made; [`release_entry`](Self::release_entry) takes it back if it was not.
    pub(super) fn reserve_entry(&self) -> io::Result<()> {
        let mut account = self.lock();
        if account.entries >= MAX_ENTRIES {
            return Err(Errno::NOSPC.into());
        }
        account.entries += 1;
        Ok(())
    }

    /// A name is gone, or was not made.
    pub(super) fn release_entry(&self) {
        let mut account = self.lock();
        account.entries = account.entries.saturating_sub(1);
    }

    /// Whether the instance may open one more.
    pub(super) fn admits_handle(&self) -> bool {
        let mut account = self.lock();
        if account.handles.len() >= MAX_HANDLES {
            account
                .handles
                .retain(|handle| handle.file.strong_count() > 0);
        }
        account.handles.len() < MAX_HANDLES
    }

    /// The guest opened a file or folder. Streams share its [`Arc`], so that it counts until the last of them is closed.
    pub(super) fn opened(&self, file: &Arc<File>, in_tmp: bool) {
        let inode = in_tmp
            .then(|| file.metadata().ok().map(|metadata| metadata.ino()))
            .flatten();
        self.lock().handles.push(Handle {
            inode,
            file: Arc::downgrade(file),
        });
    }

    /// A name of `file` was replaced or removed; it had `names` names before. Answers whether it has fewer now.
    pub(super) fn unnamed(&self, file: Arc<File>, names: u64) -> bool {
        let Ok(metadata) = file.metadata() else {
            return false;
        };
        if metadata.nlink() == 0 {
            let mut account = self.lock();
            account.orphans.push(Orphan {
                inode: metadata.ino(),
                file,
            });
            account.bury();
        }
        metadata.nlink() < names
    }

    fn resize(&self) -> MutexGuard<'_, ()> {
        self.resizing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is charged now: bytes, and names.
    #[cfg(test)]
    fn used(&self) -> (u64, usize) {
        let mut account = self.lock();
        account.bury();
        (account.bytes, account.entries)
    }
}

impl Account {
    /// Takes files off the account that have neither a name nor a handle left.
    fn bury(&mut self) {
        let Self {
            bytes,
            handles,
            orphans,
            ..
        } = self;
        orphans.retain(|orphan| {
            let held = handles
                .iter()
                .any(|handle| handle.inode == Some(orphan.inode) && handle.file.strong_count() > 0);
            if held {
                return true;
            }
            // A size that cannot be read stays charged.
            if let Ok(metadata) = orphan.file.metadata() {
                *bytes = bytes.saturating_sub(blocks(metadata.len()));
            }
            false
        });
    }
}

/// A size in whole blocks.
fn blocks(size: u64) -> u64 {
    size.div_ceil(BLOCK).saturating_mul(BLOCK)
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use proptest::prelude::*;

    use super::*;

    fn open(folder: &Path, quota: &Quota, name: &str) -> Arc<File> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(folder.join(name))
            .unwrap();
        let file = Arc::new(file);
        quota.opened(&file, true);
        file
    }

    fn unlink(folder: &Path, quota: &Quota, name: &str) {
        let peek = Arc::new(File::open(folder.join(name)).unwrap());
        let names = peek.metadata().unwrap().nlink();
        fs::remove_file(folder.join(name)).unwrap();
        quota.unnamed(peek, names);
    }

    fn is_full(result: io::Result<impl Sized>) -> bool {
        result.is_err_and(|error| error.raw_os_error() == Some(Errno::NOSPC.raw_os_error()))
    }

    #[test]
    fn what_would_pass_the_quota_is_refused_and_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let quota = Quota::new(16 << 10);
        let file = open(folder.path(), &quota, "a");
        assert_eq!(quota.write_at(&file, &[1; 16 << 10], 0).unwrap(), 16 << 10);
        assert!(is_full(quota.append(&file, b"x")));
        assert!(is_full(quota.write_at(&file, b"x", 1 << 40)));
        assert!(is_full(quota.set_size(&file, (16 << 10) + 1)));
        assert_eq!(file.metadata().unwrap().len(), 16 << 10);
        // Writing over what is there takes nothing more.
        quota.write_at(&file, &[2; 4096], 4096).unwrap();
        quota.set_size(&file, 0).unwrap();
        assert_eq!(quota.used().0, 0);
        quota.append(&file, b"x").unwrap();
        assert_eq!(quota.used().0, BLOCK);
    }

    #[test]
    fn a_hole_counts_as_if_it_were_full() {
        let folder = tempfile::tempdir().unwrap();
        let quota = Quota::new(1 << 20);
        let file = open(folder.path(), &quota, "a");
        quota.set_size(&file, 1 << 20).unwrap();
        let other = open(folder.path(), &quota, "b");
        assert!(is_full(quota.append(&other, b"x")));
        assert!(quota.write_at(&file, b"x", u64::MAX).is_err());
    }

    #[test]
    fn a_file_without_a_name_counts_until_its_last_handle_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let quota = Quota::new(8192);
        let file = open(folder.path(), &quota, "a");
        let stream = Arc::clone(&file);
        quota.append(&file, &[0; 8192]).unwrap();
        unlink(folder.path(), &quota, "a");
        drop(file);
        let next = open(folder.path(), &quota, "b");
        assert!(is_full(quota.append(&next, b"x")));
        drop(stream);
        quota.append(&next, &[0; 8192]).unwrap();
    }

    #[test]
    fn a_file_with_two_names_counts_once_and_until_both_are_gone() {
        let folder = tempfile::tempdir().unwrap();
        let quota = Quota::new(8192);
        let file = open(folder.path(), &quota, "a");
        quota.append(&file, &[0; 8192]).unwrap();
        drop(file);
        fs::hard_link(folder.path().join("a"), folder.path().join("b")).unwrap();
        unlink(folder.path(), &quota, "a");
        assert_eq!(quota.used().0, 8192);
        unlink(folder.path(), &quota, "b");
        assert_eq!(quota.used().0, 0);
    }

    #[test]
    fn a_file_that_is_written_after_its_name_is_gone_still_counts() {
        let folder = tempfile::tempdir().unwrap();
        let quota = Quota::new(64 << 10);
        let file = open(folder.path(), &quota, "a");
        unlink(folder.path(), &quota, "a");
        quota.append(&file, &[0; 32 << 10]).unwrap();
        assert_eq!(quota.used().0, 32 << 10);
        drop(file);
        assert_eq!(quota.used().0, 0);
    }

    #[test]
    fn handles_are_counted_as_long_as_something_uses_them() {
        let folder = tempfile::tempdir().unwrap();
        let quota = Quota::new(0);
        let held: Vec<_> = (0..MAX_HANDLES)
            .map(|_| open(folder.path(), &quota, "a"))
            .collect();
        assert!(!quota.admits_handle());
        drop(held);
        assert!(quota.admits_handle());
    }

    #[test]
    fn names_are_counted() {
        let quota = Quota::new(0);
        for _ in 0..MAX_ENTRIES {
            quota.reserve_entry().unwrap();
        }
        assert!(is_full(quota.reserve_entry()));
        quota.release_entry();
        quota.reserve_entry().unwrap();
    }

    #[derive(Debug, Clone)]
    enum Step {
        Open(u8),
        Close(u8),
        Write(u8, u16, u16),
        Size(u8, u16),
        Unlink(u8),
        Rename(u8, u8),
        Link(u8, u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        let name = 0..4_u8;
        prop_oneof![
            name.clone().prop_map(Step::Open),
            name.clone().prop_map(Step::Close),
            (name.clone(), any::<u16>(), 0..9000_u16)
                .prop_map(|(name, offset, len)| Step::Write(name, offset, len)),
            (name.clone(), any::<u16>()).prop_map(|(name, size)| Step::Size(name, size)),
            name.clone().prop_map(Step::Unlink),
            (name.clone(), name.clone()).prop_map(|(from, to)| Step::Rename(from, to)),
            (name.clone(), name).prop_map(|(from, to)| Step::Link(from, to)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// The account against what a walk over all files finds.
        #[test]
        fn the_account_is_what_is_there(steps in proptest::collection::vec(step(), 1..60)) {
            let folder = tempfile::tempdir().unwrap();
            let path = |name: u8| folder.path().join(name.to_string());
            let quota = Quota::new(150_000);
            let mut handles: Vec<(u8, Arc<File>)> = Vec::new();
            for step in steps {
                match step {
                    Step::Open(name) => {
                        handles.push((name, open(folder.path(), &quota, &name.to_string())));
                    }
                    Step::Close(name) => {
                        if let Some(at) = handles.iter().position(|(other, _)| *other == name) {
                            handles.remove(at);
                        }
                    }
                    Step::Write(name, offset, len) => {
                        for (_, file) in handles.iter().filter(|(other, _)| *other == name) {
                            let _ = quota.write_at(file, &vec![1; len.into()], offset.into());
                        }
                    }
                    Step::Size(name, size) => {
                        for (_, file) in handles.iter().filter(|(other, _)| *other == name) {
                            let _ = quota.set_size(file, size.into());
                        }
                    }
                    Step::Unlink(name) => {
                        if path(name).exists() {
                            unlink(folder.path(), &quota, &name.to_string());
                        }
                    }
                    Step::Rename(from, to) => {
                        let peek = File::open(path(to)).ok().map(Arc::new);
                        if fs::rename(path(from), path(to)).is_ok()
                            && let Some(peek) = peek
                        {
                            quota.unnamed(peek, 1);
                        }
                    }
                    Step::Link(from, to) => {
                        let _ = fs::hard_link(path(from), path(to));
                    }
                }
                let mut files: std::collections::HashMap<u64, u64> = handles
                    .iter()
                    .map(|(_, file)| file.metadata().unwrap())
                    .map(|metadata| (metadata.ino(), metadata.len()))
                    .collect();
                for entry in fs::read_dir(folder.path()).unwrap() {
                    let metadata = entry.unwrap().metadata().unwrap();
                    files.insert(metadata.ino(), metadata.len());
                }
                let there: u64 = files.values().map(|size| blocks(*size)).sum();
                prop_assert_eq!(quota.used().0, there);
                prop_assert!(there <= 150_000);
            }
        }
    }
}
