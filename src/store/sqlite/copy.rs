//! The database as it was at one moment, in a file of its own, and what is in such a file.

use std::{collections::HashSet, path::Path};

use rusqlite::{Connection, OpenFlags};

use super::{Sqlite, catalog, connect, migrations};
use crate::{model::Digest, store::Error};

/// What is in a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) struct Contents {
    /// Deployed functions, all versions of one counted once.
    pub(in crate::store) functions: u64,
    /// The name of the key that it was sealed with.
    pub(in crate::store) key: Option<String>,
    /// The blobs that it refers to.
    pub(in crate::store) blobs: HashSet<Digest>,
}

impl Sqlite {
    /// Writes a copy of the database, as it is at one moment, to a file that is not there yet. Others read and write
    /// meanwhile. Blocks on the disk.
    pub(in crate::store) fn copy_to(&self, copy: &Path) -> Result<(), Error> {
        let connection = connect(&self.file, OpenFlags::default())?;
        let path = copy.to_str().ok_or_else(|| Error::Io {
            what: format!("copy the database to `{}`", copy.display()),
            source: std::sync::Arc::new(std::io::ErrorKind::InvalidFilename.into()),
        })?;
        connection.execute("VACUUM INTO ?1", [path])?;
        Ok(())
    }
}

/// What is in a file that was copied. That it is whole is checked.
pub(in crate::store) fn contents(file: &Path) -> Result<Contents, Error> {
    let connection = Connection::open_with_flags(
        file,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    if migrations::format(&connection, file)? == 0 {
        return Err(Error::Foreign {
            file: file.to_owned(),
        });
    }
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict != "ok" {
        return Err(Error::Corrupt {
            what: format!("`{}` ({verdict})", file.display()),
            source: None,
        });
    }
    let functions: i64 =
        connection.query_row("SELECT count(DISTINCT name) FROM deployment", [], |row| {
            row.get(0)
        })?;
    Ok(Contents {
        functions: super::from_sql(functions),
        key: migrations::key_name(&connection)?.map(|name| name.as_str().to_owned()),
        blobs: catalog::blobs(&connection)?,
    })
}

/// Forgets what is sealed in a copy, and with which key: the node that is started on it makes itself another.
pub(in crate::store) fn forget_secrets(file: &Path) -> Result<(), Error> {
    let connection = Connection::open(file)?;
    connection.execute_batch(
        "BEGIN; UPDATE deployment SET secret = NULL; DELETE FROM node_key; COMMIT; VACUUM;",
    )?;
    Ok(())
}
