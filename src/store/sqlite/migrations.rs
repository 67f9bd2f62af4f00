//! The tables, and how a file of an older format becomes one of the present.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use crate::store::Error;

/// Says that a SQLite file is ours (`PRAGMA application_id`): `whrf`.
const APPLICATION: u32 = u32::from_be_bytes(*b"whrf");

/// What each format adds to the one before. A released one is never changed: the next one is appended.
///
/// The number of those that a file went through is its `PRAGMA user_version`.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE catalog (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        revision INTEGER NOT NULL
    ) STRICT;
    INSERT INTO catalog VALUES (1, 0);

    -- version 0 is $LATEST; document is a `model::Deployment` in JSON
    CREATE TABLE deployment (
        name TEXT NOT NULL,
        version INTEGER NOT NULL,
        revision INTEGER NOT NULL,
        document TEXT NOT NULL,
        PRIMARY KEY (name, version)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE routes (
        app TEXT PRIMARY KEY,
        document TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;

    -- bytes is what the entries count together (`KeyValueLimits::store`)
    CREATE TABLE key_value_store (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        bytes INTEGER NOT NULL
    ) STRICT;

    CREATE TABLE key_value (
        id INTEGER PRIMARY KEY,
        store INTEGER NOT NULL,
        key TEXT NOT NULL,
        value BLOB NOT NULL,
        UNIQUE (store, key)
    ) STRICT;
    -- ends with the id, as every index does: a page of keys is read from it in the order of creation
    CREATE INDEX key_value_by_store ON key_value (store);

    -- due_ms of a leased event is when the lease runs out; attempt tells leases of one event apart; errors is how many of
    -- the attempts the function itself failed
    CREATE TABLE event (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        target TEXT NOT NULL,
        body BLOB NOT NULL,
        enqueued_ms INTEGER NOT NULL,
        due_ms INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        errors INTEGER NOT NULL,
        leased INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX event_by_target ON event (target, due_ms, leased);
", "
    -- document is a `store::Resource` in JSON
    CREATE TABLE document (
        kind TEXT NOT NULL,
        key TEXT NOT NULL,
        revision INTEGER NOT NULL,
        document TEXT NOT NULL,
        PRIMARY KEY (kind, key)
    ) STRICT, WITHOUT ROWID;
"];

/// Brings a file to the present format, in one transaction a step.
///
/// A new file is made ours; one that somebody else made, or a newer Wharf, is not touched.
pub(super) fn run(connection: &mut Connection, file: &Path) -> Result<(), Error> {
    let application: u32 =
        connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let tables: u32 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if application != APPLICATION && tables != 0 {
        return Err(Error::Foreign {
            file: file.to_owned(),
        });
    }
    let found: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let known = u32::try_from(MIGRATIONS.len()).expect("formats can be counted");
    if found > known {
        return Err(Error::Newer {
            file: file.to_owned(),
            found,
            known,
        });
    }
    for (format, migration) in (1..=known).zip(MIGRATIONS) {
        if format > found {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction.execute_batch(migration)?;
            transaction.pragma_update(None, "application_id", APPLICATION)?;
            transaction.pragma_update(None, "user_version", format)?;
            transaction.commit()?;
        }
    }
    Ok(())
}
