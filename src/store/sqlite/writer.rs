//! All changes, on one thread, many of them a transaction.
//!
//! A commit costs a sync of the disk, however much it commits. So whatever waits while one runs goes into the next
//! together: under load a change costs a part of a sync, and alone it waits for nobody.
//!
//! Changes in a transaction do not see whom they share it with: each has a savepoint, and one that fails undoes itself
//! alone. Nobody is told of success before the commit, so a commit that fails is everybody's failure.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::store::Error;

/// The most changes of one transaction, and the most that wait for the next.
const BATCH: usize = 256;

/// The thread that makes all changes.
///
/// Dropping it waits for the changes that were begun.
#[derive(Debug)]
pub(super) struct Writer {
    /// None only while dropping.
    jobs: Option<mpsc::Sender<Box<dyn Job>>>,
    /// None only while dropping.
    thread: Option<thread::JoinHandle<()>>,
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "tests count commits: time would not tell")
    )]
    commits: Arc<AtomicU64>,
}

impl Writer {
    pub(super) fn start(connection: Connection) -> Result<Self, Error> {
        let (jobs, waiting) = mpsc::channel(BATCH);
        let commits = Arc::new(AtomicU64::new(0));
        let thread = thread::Builder::new()
            .name("wharf-store".to_owned())
            .spawn({
                let commits = Arc::clone(&commits);
                move || run(&connection, waiting, &commits)
            })
            .map_err(|error| Error::io("start the store's thread", error))?;
        Ok(Self {
            jobs: Some(jobs),
            thread: Some(thread),
            commits,
        })
    }

    /// Makes a change. When this returns `Ok`, it is on disk.
    ///
    /// A change that was handed over is made even if the caller stops waiting.
    pub(super) async fn write<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<R, Error> + Send + 'static,
    ) -> Result<R, Error> {
        let (reply, done) = oneshot::channel();
        let jobs = self.jobs.as_ref().expect("taken only by `drop`");
        jobs.send(Box::new(Change::Waiting(work, reply)))
            .await
            .map_err(|_| Error::Closed)?;
        done.await.unwrap_or(Err(Error::Closed))
    }

    /// How many transactions were committed.
    #[cfg(test)]
    pub(super) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the store's thread panicked");
        }
    }
}

/// A change, whatever it answers.
trait Job: Send {
    /// Makes the change and keeps its result. False if it failed and is to be undone.
    fn run(&mut self, connection: &Connection) -> bool;

    /// Tells the caller, after the commit.
    fn finish(self: Box<Self>, commit: Result<(), Error>);
}

enum Change<F, R> {
    Waiting(F, oneshot::Sender<Result<R, Error>>),
    Made(Result<R, Error>, oneshot::Sender<Result<R, Error>>),
    /// Only while it runs.
    Running,
}

impl<F, R> Job for Change<F, R>
where
    F: FnOnce(&Connection) -> Result<R, Error> + Send,
    R: Send,
{
    fn run(&mut self, connection: &Connection) -> bool {
        match std::mem::replace(self, Self::Running) {
            Self::Waiting(work, reply) => {
                let result = work(connection);
                let keep = result.is_ok();
                *self = Self::Made(result, reply);
                keep
            }
            other => {
                *self = other;
                false
            }
        }
    }

    fn finish(self: Box<Self>, commit: Result<(), Error>) {
        let (result, reply) = match *self {
            Self::Waiting(_, reply) => (commit.and(Err(Error::Closed)), reply),
            Self::Made(result, reply) => (result.and_then(|value| commit.map(|()| value)), reply),
            Self::Running => return,
        };
        // An error here means that the caller no longer waits.
        let _ = reply.send(result);
    }
}

fn run(connection: &Connection, mut waiting: mpsc::Receiver<Box<dyn Job>>, commits: &AtomicU64) {
    let mut batch = Vec::with_capacity(BATCH);
    while waiting.blocking_recv_many(&mut batch, BATCH) != 0 {
        let commit = commit(connection, &mut batch);
        match &commit {
            Ok(()) => {
                commits.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                tracing::error!(%error, changes = batch.len(), "changes could not be committed");
                undo(connection);
            }
        }
        for job in batch.drain(..) {
            job.finish(commit.clone());
        }
    }
}

fn commit(connection: &Connection, batch: &mut [Box<dyn Job>]) -> Result<(), Error> {
    let execute = |sql| -> Result<(), Error> {
        connection.prepare_cached(sql)?.execute([])?;
        Ok(())
    };
    execute("BEGIN IMMEDIATE")?;
    for job in batch {
        execute("SAVEPOINT change")?;
        let keep = job.run(connection);
        if connection.is_autocommit() {
            // A full disk, an I/O error: SQLite has rolled the whole transaction back.
            return Err(Error::Database(Arc::new(RolledBack)));
        }
        if !keep {
            execute("ROLLBACK TO change")?;
        }
        execute("RELEASE change")?;
    }
    execute("COMMIT")
}

/// Leaves no transaction open, whatever happened in it.
fn undo(connection: &Connection) {
    if !connection.is_autocommit()
        && let Err(error) = connection.execute_batch("ROLLBACK")
    {
        tracing::error!(%error, "a transaction could not be rolled back");
    }
}

/// Another change of the same transaction met an error that undid all of them.
#[derive(Debug, thiserror::Error)]
#[error("another change undid the transaction")]
struct RolledBack;

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, sync_channel};

    use super::*;

    fn start() -> Writer {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch("CREATE TABLE number (value INTEGER PRIMARY KEY)")
            .unwrap();
        Writer::start(connection).unwrap()
    }

    fn insert(value: i64) -> impl FnOnce(&Connection) -> Result<(), Error> + Send {
        move |connection| {
            connection.execute("INSERT INTO number VALUES (?1)", [value])?;
            Ok(())
        }
    }

    /// Keeps the writer busy until it is told.
    fn wait(told: Receiver<()>) -> impl FnOnce(&Connection) -> Result<(), Error> + Send {
        move |_| {
            told.recv().unwrap();
            Ok(())
        }
    }

    async fn numbers(writer: &Writer) -> Vec<i64> {
        writer
            .write(|connection| {
                let mut statement =
                    connection.prepare("SELECT value FROM number ORDER BY value")?;
                let rows = statement.query_map([], |row| row.get(0))?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn changes_that_wait_together_are_committed_together() {
        let writer = start();
        let (release, held) = sync_channel::<()>(0);
        let hold = writer.write(wait(held));
        let changes = futures::future::join_all((0..100).map(|value| writer.write(insert(value))));
        // `join!` polls in order: by its turn, the last has everything before it handed over.
        let (held, made, ()) = tokio::join!(hold, changes, async { release.send(()).unwrap() });
        held.unwrap();
        assert!(made.iter().all(Result::is_ok));
        assert!(writer.commits() <= 3, "{} commits", writer.commits());
        assert_eq!(numbers(&writer).await, (0..100).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_change_that_fails_undoes_itself_alone() {
        let writer = start();
        let (release, held) = sync_channel::<()>(0);
        let (_, first, half, again, last, ()) = tokio::join!(
            writer.write(wait(held)),
            writer.write(insert(1)),
            writer.write(|connection| {
                insert(2)(connection)?;
                Err::<(), _>(Error::Full)
            }),
            writer.write(insert(1)),
            writer.write(insert(3)),
            async { release.send(()).unwrap() },
        );
        first.unwrap();
        assert!(matches!(half, Err(Error::Full)));
        assert!(matches!(again, Err(Error::Database(_))));
        last.unwrap();
        assert_eq!(numbers(&writer).await, [1, 3]);
    }

    #[tokio::test]
    async fn a_change_that_takes_the_transaction_along_is_nobodys_success() {
        let writer = start();
        let (release, held) = sync_channel::<()>(0);
        let (_, first, rollback, last, ()) = tokio::join!(
            writer.write(wait(held)),
            writer.write(insert(1)),
            writer.write(|connection| Ok(connection.execute_batch("ROLLBACK")?)),
            writer.write(insert(2)),
            async { release.send(()).unwrap() },
        );
        assert!(first.is_err() && rollback.is_err() && last.is_err());
        writer.write(insert(4)).await.unwrap();
        assert_eq!(numbers(&writer).await, [4]);
    }

    #[tokio::test]
    async fn dropping_the_writer_makes_the_changes_that_were_handed_over() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("db");
        let connection = Connection::open(&file).unwrap();
        connection
            .execute_batch("CREATE TABLE number (value INTEGER PRIMARY KEY)")
            .unwrap();
        let writer = Writer::start(connection).unwrap();
        let jobs = writer.jobs.as_ref().unwrap();
        let (reply, _) = oneshot::channel();
        jobs.try_send(Box::new(Change::Waiting(insert(7), reply)))
            .map_err(|_| "full")
            .unwrap();
        drop(writer);
        let count: i64 = Connection::open(&file)
            .unwrap()
            .query_row("SELECT count(*) FROM number", [], |row| row.get(0))
            .unwrap();
        assert_eq!(count, 1);
    }
}
