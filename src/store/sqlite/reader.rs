//! Reads, beside the writer and beside each other.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use rusqlite::{Connection, OpenFlags};
use tokio::sync::Semaphore;

use super::connect;
use crate::store::Error;

/// The most reads at one moment. They wait for the disk rather than compute, but seldom.
const CONNECTIONS: usize = 4;

/// Connections that only read. They are opened when first needed, and lent to one read at a time.
#[derive(Debug)]
pub(super) struct Reader {
    shared: Arc<Shared>,
    permits: Arc<Semaphore>,
}

#[derive(Debug)]
struct Shared {
    file: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl Reader {
    pub(super) fn new(file: PathBuf) -> Self {
        Self {
            shared: Arc::new(Shared {
                file,
                idle: Mutex::default(),
            }),
            permits: Arc::new(Semaphore::new(CONNECTIONS)),
        }
    }

    /// Runs `work` in one read transaction: all that it reads is of one moment.
    pub(super) async fn read<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<R, Error> + Send + 'static,
    ) -> Result<R, Error> {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(|_| Error::Closed)?;
        let shared = Arc::clone(&self.shared);
        tokio::task::spawn_blocking(move || {
            // Rides along, so that a read whose caller went away still counts.
            let _permit = permit;
            let mut connection = shared.take()?;
            let transaction = connection.transaction()?;
            let result = work(&transaction);
            drop(transaction);
            shared.put_back(connection);
            result
        })
        .await
        .unwrap_or(Err(Error::Closed))
    }
}

impl Shared {
    fn take(&self) -> Result<Connection, Error> {
        let idle = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        match idle {
            Some(connection) => Ok(connection),
            None => connect(
                &self.file,
                OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
            ),
        }
    }

    fn put_back(&self, connection: Connection) {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(connection);
    }
}
