//! The tables, and how a file of an older format becomes one of the present.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior};

use super::sealed;
use crate::store::{DataFolder, Error, Sealer, secret::KeyName};

/// Says that a SQLite file is ours (`PRAGMA application_id`): `whrf`.
const APPLICATION: u32 = u32::from_be_bytes(*b"whrf");

/// What makes a file of one format one of the next.
enum Step {
    /// More tables.
    Sql(&'static str),
    /// More tables, and what stood in clear text and should not is sealed.
    Seal(&'static str),
    /// The file is written anew, so that what is no more in its tables is no more in the file either.
    Rewrite,
}

/// What each format adds to the one before. A released one is never changed: the next one is appended.
///
/// The number of those that a file went through is its `PRAGMA user_version`.
const MIGRATIONS: &[Step] = &[Step::Sql("
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
"), Step::Sql("
    -- document is a `store::Resource` in JSON
    CREATE TABLE document (
        kind TEXT NOT NULL,
        key TEXT NOT NULL,
        revision INTEGER NOT NULL,
        document TEXT NOT NULL,
        PRIMARY KEY (kind, key)
    ) STRICT, WITHOUT ROWID;
"), Step::Seal("
    -- what of the document is kept encrypted (`sealed.rs`)
    ALTER TABLE deployment ADD COLUMN secret TEXT;

    -- the key that it is encrypted with (`store::secret::KeyName`)
    CREATE TABLE node_key (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        name TEXT NOT NULL
    ) STRICT;

    -- What changed since a revision (`changes.rs`). Of what was removed only the fact is left, and only for those who
    -- know a revision that is not older than catalog.oldest.
    ALTER TABLE catalog ADD COLUMN oldest INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE routes ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX deployment_by_revision ON deployment (revision);
    CREATE INDEX deployment_by_app ON deployment (document ->> '$.app');
    CREATE INDEX document_by_revision ON document (revision);
    -- kind is a document's, or `@deployment` or `@routes`
    CREATE TABLE removed (
        kind TEXT NOT NULL,
        key TEXT NOT NULL,
        revision INTEGER NOT NULL,
        PRIMARY KEY (kind, key)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX removed_by_revision ON removed (revision);
    -- The catalog's revision rises at the end of a change.
    CREATE TRIGGER deployment_removed AFTER DELETE ON deployment BEGIN
        REPLACE INTO removed
        VALUES ('@deployment', OLD.name || '/' || OLD.version, (SELECT revision + 1 FROM catalog));
    END;
    CREATE TRIGGER routes_removed AFTER DELETE ON routes BEGIN
        REPLACE INTO removed VALUES ('@routes', OLD.app, (SELECT revision + 1 FROM catalog));
    END;
    CREATE TRIGGER document_removed AFTER DELETE ON document BEGIN
        REPLACE INTO removed VALUES (OLD.kind, OLD.key, (SELECT revision + 1 FROM catalog));
    END;
"), Step::Rewrite];

/// The newest format this program knows.
pub(super) fn known() -> u32 {
    u32::try_from(MIGRATIONS.len()).expect("formats can be counted")
}

/// Brings a file to the present format, in one transaction a step, and gives what opens the sealed things in it.
///
/// A new file is made ours; one that somebody else made, or a newer Wharf, is not touched.
pub(super) fn run(
    connection: &mut Connection,
    file: &Path,
    data: &DataFolder,
) -> Result<Sealer, Error> {
    let found = format(connection, file)?;
    let sealer = Sealer::of(data, key_name(connection)?.as_ref())?;
    for (format, step) in (1..=known()).zip(MIGRATIONS) {
        if format <= found {
            continue;
        }
        if matches!(step, Step::Rewrite)
            && found > 0
            && let Err(error) = rewrite(connection)
        {
            // A disk that is full keeps no node from serving: it is tried again at the next start.
            tracing::warn!(%error, "values that are encrypted now may still stand in unused parts of the database");
            break;
        }
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        match step {
            Step::Sql(sql) => transaction.execute_batch(sql)?,
            Step::Seal(sql) => {
                transaction.execute_batch(sql)?;
                remember(&transaction, &sealer)?;
                sealed::seal_all(&transaction, &sealer)?;
            }
            Step::Rewrite => {}
        }
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.pragma_update(None, "user_version", format)?;
        transaction.commit()?;
    }
    if key_name(connection)?.is_none() {
        // One that was made to forget what was sealed in it.
        remember(connection, &sealer)?;
    }
    Ok(sealer)
}

/// Writes down which key a file is sealed with.
fn remember(connection: &Connection, sealer: &Sealer) -> Result<(), Error> {
    let name = sealer.name().as_str();
    connection.execute("REPLACE INTO node_key VALUES (1, ?1)", [name])?;
    Ok(())
}

/// The format of a file: 0 of one that is empty.
pub(super) fn format(connection: &Connection, file: &Path) -> Result<u32, Error> {
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
    if found > known() {
        return Err(Error::Newer {
            file: file.to_owned(),
            found,
            known: known(),
        });
    }
    Ok(found)
}

/// The key that a file was sealed with. One of an early format, or a new one, has none.
pub(super) fn key_name(connection: &Connection) -> Result<Option<KeyName>, Error> {
    let table = "SELECT count(*) FROM sqlite_schema WHERE name = 'node_key'";
    let tables: u32 = connection.query_row(table, [], |row| row.get(0))?;
    if tables == 0 {
        return Ok(None);
    }
    let name = connection
        .query_row("SELECT name FROM node_key", [], |row| row.get(0))
        .optional()?;
    Ok(name.map(KeyName::new))
}

fn rewrite(connection: &Connection) -> Result<(), Error> {
    connection.execute_batch("VACUUM")?;
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Makes a file of an early format, as its Wharf did.
    pub(in super::super) fn first(connection: &Connection, format: u32) {
        for step in MIGRATIONS.iter().take(format as usize) {
            let Step::Sql(sql) = step else {
                panic!("a step that takes more than SQL");
            };
            connection.execute_batch(sql).unwrap();
        }
        connection
            .pragma_update(None, "application_id", APPLICATION)
            .unwrap();
        connection
            .pragma_update(None, "user_version", format)
            .unwrap();
    }
}
