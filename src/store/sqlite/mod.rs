//! The embedded store: one SQLite file in the data folder.
//!
//! [`writer`] makes all changes, on one thread, many changes a transaction; [`reader`] reads beside it, as write-ahead
//! logging allows. What they change and read is in [`catalog`], [`key_value`] and [`queue`], what the tables look like
//! in [`migrations`]. What [`sealed`] names is in the file only encrypted.

mod catalog;
mod changes;
mod copy;
mod key_value;
mod migrations;
mod queue;
mod reader;
mod sealed;
mod writer;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags};
use tokio::sync::watch;

pub(super) use self::copy::{Contents, contents, forget_secrets};
use self::{reader::Reader, writer::Writer};
use super::{DataFolder, Error, KeyValueLimits, Sealer};

/// The file's name in the data folder.
pub(super) const FILE: &str = "wharf.db";

/// The embedded store: [`Catalog`](super::Catalog), [`KeyValue`](super::KeyValue) and [`Queue`](super::Queue) in one
/// SQLite file.
///
/// Dropping it waits for the changes that were begun.
#[derive(Debug)]
pub struct Sqlite {
    // In this order: the writer ends before the folder is free for another node.
    writer: Writer,
    reader: Reader,
    limits: KeyValueLimits,
    revision: watch::Sender<u64>,
    arrivals: watch::Sender<u64>,
    sealer: Arc<Sealer>,
    file: PathBuf,
    _data: Arc<DataFolder>,
}

impl Sqlite {
    /// Opens the file in a data folder, makes it if there is none, and brings it to the present format. Events that were
    /// leased when it was last open are due.
    pub fn open(data: &Arc<DataFolder>, limits: KeyValueLimits) -> Result<Self, Error> {
        let file = data.path().join(FILE);
        let mut connection = connect(&file, OpenFlags::default())?;
        let sealer = migrations::run(&mut connection, &file, data)?;
        // A disk that is full keeps no node from serving, and the leases run out by themselves.
        if let Err(error) = queue::end_leases(&connection) {
            tracing::warn!(%error, "events that were begun wait for their leases to run out");
        }
        if let Err(error) = changes::forget_all(&connection) {
            tracing::warn!(%error, "what was removed from the catalog is remembered longer than it need be");
        }
        let revision = catalog::revision(&connection)?;
        Ok(Self {
            writer: Writer::start(connection)?,
            reader: Reader::new(file.clone()),
            limits,
            revision: watch::Sender::new(revision),
            arrivals: watch::Sender::new(0),
            sealer: Arc::new(sealer),
            file,
            _data: Arc::clone(data),
        })
    }

    /// What encrypts with the node's key, for what others keep in documents.
    pub fn sealer(&self) -> &Arc<Sealer> {
        &self.sealer
    }
}

/// A connection as every connection here is.
fn connect(file: &Path, flags: OpenFlags) -> Result<Connection, Error> {
    let connection = Connection::open_with_flags(file, flags)?;
    // Readers and the writer do not wait for each other; what may wait is a checkpoint, or a person with a SQLite shell.
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(64);
    // With WAL, FULL means that a commit is on disk when it returns (https://sqlite.org/pragma.html#pragma_synchronous).
    connection.execute_batch(
        "PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA journal_size_limit = 67108864;
         PRAGMA temp_store = MEMORY;",
    )?;
    Ok(connection)
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Corrupt {
                what: "the database".to_owned(),
                source: Some(Arc::new(error)),
            },
            _ => Self::Database(Arc::new(error)),
        }
    }
}

/// SQLite's integers have a sign. Ours that come here are times, revisions and lengths, which fit.
fn to_sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The way back; what [`to_sql`] wrote is never below 0.
fn from_sql(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::store::KEY_FILE;

    /// A store in a folder of its own.
    pub(super) fn open(folder: &Path) -> Sqlite {
        Sqlite::open(
            &DataFolder::open(folder).unwrap(),
            KeyValueLimits::default(),
        )
        .unwrap()
    }

    /// What a machine that lost power, or a node that was killed, would find: the files as they are now.
    pub(super) fn killed(folder: &Path) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        for file in [FILE.to_owned(), format!("{FILE}-wal"), KEY_FILE.to_owned()] {
            if let Err(error) = std::fs::copy(folder.join(&file), copy.path().join(&file)) {
                assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
            }
        }
        copy
    }

    #[test]
    fn a_file_of_a_newer_wharf_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        drop(open(folder.path()));
        let file = folder.path().join(FILE);
        Connection::open(&file)
            .unwrap()
            .pragma_update(None, "user_version", 99)
            .unwrap();
        let data = DataFolder::open(folder.path()).unwrap();
        let error = Sqlite::open(&data, KeyValueLimits::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "`{}` was written by a newer Wharf (format 99; this one knows up to 4)",
                file.display()
            )
        );
    }

    #[test]
    fn somebody_elses_database_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(FILE);
        Connection::open(&file)
            .unwrap()
            .execute_batch("CREATE TABLE recipes (name TEXT)")
            .unwrap();
        let data = DataFolder::open(folder.path()).unwrap();
        let error = Sqlite::open(&data, KeyValueLimits::default()).unwrap_err();
        assert!(matches!(error, Error::Foreign { .. }), "{error}");
    }

    #[test]
    fn a_file_that_is_no_database_is_said_to_be_corrupt() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), "not a database".repeat(100)).unwrap();
        let data = DataFolder::open(folder.path()).unwrap();
        let error = Sqlite::open(&data, KeyValueLimits::default()).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    }
}
