//! The events' table.

use rusqlite::{Connection, params};
use tokio::sync::watch;

use super::{Sqlite, from_sql, to_sql};
use crate::store::{Counts, Due, Error, EventId, Lease, NewEvent, Queue};

#[async_trait::async_trait]
impl Queue for Sqlite {
    async fn enqueue(&self, event: NewEvent) -> Result<EventId, Error> {
        let id = self
            .writer
            .write(move |connection| insert(connection, &event))
            .await?;
        self.arrivals.send_modify(|count| *count += 1);
        Ok(id)
    }

    async fn due(&self) -> Result<Vec<Due>, Error> {
        self.reader
            .read(|connection| {
                // A step in the index a target, however many events each has.
                connection
                    .prepare_cached(
                        "WITH RECURSIVE present (target) AS (
                             SELECT min(target) FROM event
                             UNION ALL
                             SELECT (SELECT min(target) FROM event WHERE target > present.target)
                             FROM present WHERE present.target IS NOT NULL
                         )
                         SELECT target,
                                (SELECT min(due_ms) FROM event WHERE target = present.target)
                         FROM present WHERE target IS NOT NULL",
                    )?
                    .query_map([], |row| {
                        Ok(Due {
                            target: row.get(0)?,
                            due_ms: from_sql(row.get(1)?),
                        })
                    })?
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(Error::from)
            })
            .await
    }

    async fn lease(
        &self,
        target: &str,
        now_ms: u64,
        until_ms: u64,
        limit: usize,
    ) -> Result<Vec<Lease>, Error> {
        let target = target.to_owned();
        self.writer
            .write(move |connection| lease(connection, &target, now_ms, until_ms, limit))
            .await
    }

    async fn finish(&self, lease: &Lease, follow_ups: Vec<NewEvent>) -> Result<bool, Error> {
        let (EventId(id), attempt) = (lease.id, lease.attempt);
        let arrive = !follow_ups.is_empty();
        let finished = self
            .writer
            .write(move |connection| {
                let deleted = connection
                    .prepare_cached("DELETE FROM event WHERE id = ?1 AND attempt = ?2 AND leased")?
                    .execute(params![id, attempt])?;
                if deleted == 0 {
                    return Ok(false);
                }
                for event in &follow_ups {
                    insert(connection, event)?;
                }
                Ok(true)
            })
            .await?;
        if finished && arrive {
            self.arrivals.send_modify(|count| *count += 1);
        }
        Ok(finished)
    }

    async fn retry_at(&self, lease: &Lease, due_ms: u64, errors: u32) -> Result<bool, Error> {
        let (EventId(id), attempt) = (lease.id, lease.attempt);
        let given_back = self
            .writer
            .write(move |connection| {
                let updated = connection
                    .prepare_cached(
                        "UPDATE event SET due_ms = ?3, errors = ?4, leased = 0
                         WHERE id = ?1 AND attempt = ?2 AND leased",
                    )?
                    .execute(params![id, attempt, to_sql(due_ms), errors])?;
                Ok(updated != 0)
            })
            .await?;
        if given_back {
            self.arrivals.send_modify(|count| *count += 1);
        }
        Ok(given_back)
    }

    async fn counts(&self, now_ms: u64) -> Result<Counts, Error> {
        self.reader
            .read(move |connection| {
                let counts = connection
                    .prepare_cached(
                        "SELECT count(*) FILTER (WHERE due_ms <= ?1),
                                count(*) FILTER (WHERE due_ms > ?1 AND NOT leased),
                                count(*) FILTER (WHERE due_ms > ?1 AND leased)
                         FROM event",
                    )?
                    .query_row([to_sql(now_ms)], |row| {
                        Ok(Counts {
                            due: from_sql(row.get(0)?),
                            delayed: from_sql(row.get(1)?),
                            leased: from_sql(row.get(2)?),
                        })
                    })?;
                Ok(counts)
            })
            .await
    }

    fn arrivals(&self) -> watch::Receiver<u64> {
        self.arrivals.subscribe()
    }
}

fn insert(connection: &Connection, event: &NewEvent) -> Result<EventId, Error> {
    connection
        .prepare_cached(
            "INSERT INTO event (target, body, enqueued_ms, due_ms, attempt, errors, leased)
             VALUES (?1, ?2, ?3, ?4, 0, 0, 0)",
        )?
        .execute(params![
            event.target,
            event.body,
            to_sql(event.enqueued_ms),
            to_sql(event.due_ms),
        ])?;
    Ok(EventId(connection.last_insert_rowid()))
}

fn lease(
    connection: &Connection,
    target: &str,
    now_ms: u64,
    until_ms: u64,
    limit: usize,
) -> Result<Vec<Lease>, Error> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut due = connection
        .prepare_cached(
            "SELECT id, target, body, enqueued_ms, attempt, errors FROM event
             WHERE target = ?1 AND due_ms <= ?2 ORDER BY due_ms, id LIMIT ?3",
        )?
        .query_map(params![target, to_sql(now_ms), limit], |row| {
            Ok(Lease {
                id: EventId(row.get(0)?),
                target: row.get(1)?,
                body: row.get(2)?,
                enqueued_ms: from_sql(row.get(3)?),
                attempt: row.get(4)?,
                errors: row.get(5)?,
            })
        })?
        .collect::<Result<Vec<_>, _>>()?;
    let mut update = connection
        .prepare_cached("UPDATE event SET due_ms = ?2, attempt = ?3, leased = 1 WHERE id = ?1")?;
    for lease in &mut due {
        lease.attempt = lease.attempt.saturating_add(1);
        update.execute(params![lease.id.0, to_sql(until_ms), lease.attempt])?;
    }
    Ok(due)
}

/// Makes every leased event due: whoever had it is gone with the process that had the data folder before.
pub(super) fn end_leases(connection: &Connection) -> Result<(), Error> {
    // What is leased was due, and what is due came before. The inner query reads the index and no bodies.
    let ended = connection.execute(
        "UPDATE event SET due_ms = enqueued_ms, leased = 0
         WHERE id IN (SELECT id FROM event WHERE leased)",
        [],
    )?;
    if ended > 0 {
        tracing::info!(events = ended, "events that were begun are due again");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{super::tests::*, *};

    fn event(body: &str, due_ms: u64) -> NewEvent {
        NewEvent {
            target: "hello".to_owned(),
            body: body.as_bytes().to_vec(),
            enqueued_ms: 0,
            due_ms,
        }
    }

    fn bodies(leases: &[Lease]) -> Vec<&str> {
        leases
            .iter()
            .map(|lease| str::from_utf8(&lease.body).unwrap())
            .collect()
    }

    async fn due(store: &Sqlite) -> Vec<(String, u64)> {
        let due = store.due().await.unwrap();
        due.into_iter()
            .map(|due| (due.target, due.due_ms))
            .collect()
    }

    #[tokio::test]
    async fn each_target_is_asked_for_its_own_events() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        assert_eq!(due(&store).await, []);
        for (target, due_ms) in [("b", 7), ("a", 30), ("c", 1), ("b", 5), ("a", 20)] {
            let event = NewEvent {
                target: target.to_owned(),
                ..event(target, due_ms)
            };
            store.enqueue(event).await.unwrap();
        }
        let all = [("a", 20), ("b", 5), ("c", 1)].map(|(name, due)| (name.to_owned(), due));
        assert_eq!(due(&store).await, all);
        assert_eq!(store.lease("a", 10, 100, 10).await.unwrap(), []);
        assert_eq!(
            bodies(&store.lease("b", 10, 100, 10).await.unwrap()),
            ["b", "b"]
        );
        assert_eq!(
            due(&store).await[1],
            ("b".to_owned(), 100),
            "its leases run out then"
        );
    }

    #[tokio::test]
    async fn an_acknowledged_event_is_there_after_a_kill() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let mut arrivals = store.arrivals();
        arrivals.mark_unchanged();
        store.enqueue(event("one", 10)).await.unwrap();
        assert!(arrivals.has_changed().unwrap());

        let killed = killed(folder.path());
        let store = open(killed.path());
        assert_eq!(due(&store).await, [("hello".to_owned(), 10)]);
        assert_eq!(store.lease("hello", 9, 100, 10).await.unwrap(), []);
        let leases = store.lease("hello", 10, 100, 10).await.unwrap();
        assert_eq!(bodies(&leases), ["one"]);
        assert_eq!(leases[0].target, "hello");
    }

    #[tokio::test]
    async fn what_was_begun_before_a_kill_is_due_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        for (body, due) in [("begun", 10), ("waits", 10), ("later", 1000)] {
            store.enqueue(event(body, due)).await.unwrap();
        }
        let before = store.lease("hello", 10, 1_000_000, 1).await.unwrap();
        assert_eq!(bodies(&before), ["begun"]);

        let killed = killed(folder.path());
        let store = open(killed.path());
        let counts = store.counts(20).await.unwrap();
        assert_eq!((counts.due, counts.delayed, counts.leased), (2, 1, 0));
        assert!(
            !store.finish(&before[0], Vec::new()).await.unwrap(),
            "the lease is ended"
        );
        let leases = store.lease("hello", 20, 1_000_000, 10).await.unwrap();
        assert_eq!(bodies(&leases), ["begun", "waits"]);
        assert_eq!(leases[0].attempt, 2);
    }

    #[tokio::test]
    async fn an_event_is_with_one_worker_until_its_lease_runs_out() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        for (body, due) in [("late", 30), ("b", 10), ("c", 10), ("a", 5)] {
            store.enqueue(event(body, due)).await.unwrap();
        }
        let first = store.lease("hello", 20, 50, 2).await.unwrap();
        assert_eq!(bodies(&first), ["a", "b"]);
        assert_eq!(
            bodies(&store.lease("hello", 20, 50, 2).await.unwrap()),
            ["c"]
        );
        assert_eq!(store.lease("hello", 20, 50, 2).await.unwrap(), []);
        let counts = store.counts(20).await.unwrap();
        assert_eq!(
            counts,
            Counts {
                due: 0,
                delayed: 1,
                leased: 3
            }
        );

        let second = store.lease("hello", 50, 80, 2).await.unwrap();
        assert_eq!(bodies(&second), ["late", "b"]);
        assert_eq!(second[1].attempt, 2);
        assert!(
            !store.finish(&first[1], Vec::new()).await.unwrap(),
            "somebody else has it"
        );
        assert!(!store.retry_at(&first[1], 60, 3).await.unwrap());
        assert!(store.finish(&second[1], Vec::new()).await.unwrap());
        assert!(!store.finish(&second[1], Vec::new()).await.unwrap());
        assert_eq!(
            store.counts(50).await.unwrap(),
            Counts {
                due: 2,
                delayed: 0,
                leased: 1
            }
        );
    }

    #[tokio::test]
    async fn an_event_given_back_is_due_again_when_told() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        store.enqueue(event("one", 0)).await.unwrap();
        let lease = store.lease("hello", 0, 1000, 1).await.unwrap().remove(0);
        assert!(store.retry_at(&lease, 60, 3).await.unwrap());
        assert!(
            !store.finish(&lease, Vec::new()).await.unwrap(),
            "it was given back"
        );
        assert_eq!(due(&store).await, [("hello".to_owned(), 60)]);
        assert_eq!(store.lease("hello", 59, 1000, 1).await.unwrap(), []);
        let again = store.lease("hello", 60, 1000, 1).await.unwrap().remove(0);
        assert_eq!((again.attempt, again.errors), (2, 3));
    }

    #[tokio::test]
    async fn what_follows_from_an_event_is_there_when_the_event_is_gone_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        store.enqueue(event("first", 0)).await.unwrap();
        let stale = store.lease("hello", 0, 10, 1).await.unwrap().remove(0);
        let lease = store.lease("hello", 10, 1000, 1).await.unwrap().remove(0);
        let follow_up = |target: &str| NewEvent {
            target: target.to_owned(),
            ..event("next", 5)
        };
        assert!(!store.finish(&stale, vec![follow_up("a")]).await.unwrap());
        assert_eq!(due(&store).await, [("hello".to_owned(), 1000)]);

        let mut arrivals = store.arrivals();
        arrivals.mark_unchanged();
        let commits = store.writer.commits();
        let follow_ups = vec![follow_up("a"), follow_up("b")];
        assert!(store.finish(&lease, follow_ups).await.unwrap());
        assert_eq!(store.writer.commits(), commits + 1, "one transaction");
        assert!(arrivals.has_changed().unwrap());
        let killed = killed(folder.path());
        let all = [("a".to_owned(), 5), ("b".to_owned(), 5)];
        assert_eq!(due(&open(killed.path())).await, all);
    }

    #[tokio::test]
    async fn workers_at_once_share_the_events_out() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let before = store.writer.commits();
        let events = (0..100).map(|n| store.enqueue(event(&n.to_string(), 0)));
        for id in futures::future::join_all(events).await {
            id.unwrap();
        }
        let commits = store.writer.commits() - before;
        assert!(commits <= 25, "{commits} commits for 100 events");

        let workers = (0..10).map(|_| store.lease("hello", 0, 100, 10));
        let mut ids: Vec<_> = futures::future::join_all(workers)
            .await
            .into_iter()
            .flat_map(Result::unwrap)
            .map(|lease| lease.id)
            .collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 100);
    }
}
