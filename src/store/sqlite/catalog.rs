//! The catalog's tables.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use tokio::sync::watch;

use super::{Sqlite, changes, from_sql, sealed, to_sql};
use crate::{
    model::{Deployment, Digest, FunctionName, Version},
    store::{Catalog, Change, Changes, Delta, Document, Error, Sealer, Snapshot},
};

#[async_trait::async_trait]
impl Catalog for Sqlite {
    async fn snapshot(&self, kinds: &'static [&'static str]) -> Result<Snapshot, Error> {
        let sealer = Arc::clone(&self.sealer);
        self.reader
            .read(move |connection| {
                let of_kind = |kind: &&'static str| {
                    Ok((*kind, documents(connection, kind, "", None, NO_LIMIT)?))
                };
                Ok(Snapshot {
                    revision: revision(connection)?,
                    deployments: deployments(connection, &sealer)?,
                    routes: routes(connection)?,
                    documents: kinds.iter().map(of_kind).collect::<Result<_, Error>>()?,
                })
            })
            .await
    }

    async fn deployments(&self) -> Result<Vec<Deployment>, Error> {
        let sealer = Arc::clone(&self.sealer);
        self.reader
            .read(move |connection| deployments(connection, &sealer))
            .await
    }

    async fn deployment(
        &self,
        name: &FunctionName,
        version: Version,
    ) -> Result<Option<Deployment>, Error> {
        let (name, sealer) = (name.clone(), Arc::clone(&self.sealer));
        self.reader
            .read(move |connection| {
                connection
                    .prepare_cached(
                        "SELECT document, secret FROM deployment WHERE name = ?1 AND version = ?2",
                    )?
                    .query_row(params![name.as_str(), number(version)], sealed::columns)
                    .optional()?
                    .map(|row| sealed::join(&sealer, row))
                    .transpose()
            })
            .await
    }

    async fn versions(&self, name: &FunctionName) -> Result<Vec<Deployment>, Error> {
        let (name, sealer) = (name.clone(), Arc::clone(&self.sealer));
        self.reader
            .read(move |connection| {
                connection
                    .prepare_cached(
                        "SELECT document, secret FROM deployment WHERE name = ?1 ORDER BY version",
                    )?
                    .query_map([name.as_str()], sealed::columns)?
                    .map(|row| sealed::join(&sealer, row?))
                    .collect()
            })
            .await
    }

    async fn of_app(&self, app: &str) -> Result<Vec<Deployment>, Error> {
        let (app, sealer) = (app.to_owned(), Arc::clone(&self.sealer));
        self.reader
            .read(move |connection| {
                connection
                    .prepare_cached(
                        "SELECT document, secret FROM deployment WHERE name IN \
                         (SELECT name FROM deployment WHERE document ->> '$.app' = ?1 AND version = 0) \
                         ORDER BY name, version",
                    )?
                    .query_map([app], sealed::columns)?
                    .map(|row| sealed::join(&sealer, row?))
                    .collect()
            })
            .await
    }

    async fn functions(
        &self,
        after: Option<&FunctionName>,
        limit: usize,
    ) -> Result<Vec<Deployment>, Error> {
        let after = after.map_or(String::new(), ToString::to_string);
        let sealer = Arc::clone(&self.sealer);
        self.reader
            .read(move |connection| {
                connection
                    .prepare_cached(
                        "SELECT document, secret FROM deployment WHERE name > ?1 AND version = 0 \
                         ORDER BY name LIMIT ?2",
                    )?
                    .query_map(params![after, rows(limit)], sealed::columns)?
                    .map(|row| sealed::join(&sealer, row?))
                    .collect()
            })
            .await
    }

    async fn document(&self, kind: &'static str, key: &str) -> Result<Option<Document>, Error> {
        let key = key.to_owned();
        self.reader
            .read(move |connection| {
                connection
                    .prepare_cached(
                        "SELECT key, revision, document FROM document WHERE kind = ?1 AND key = ?2",
                    )?
                    .query_row(params![kind, key], columns)
                    .optional()?
                    .map(whole)
                    .transpose()
            })
            .await
    }

    async fn documents(
        &self,
        kind: &'static str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Document>, Error> {
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        self.reader
            .read(move |connection| documents(connection, kind, &prefix, after.as_deref(), limit))
            .await
    }

    async fn changes(&self, since: u64, kinds: &'static [&'static str]) -> Result<Delta, Error> {
        let sealer = Arc::clone(&self.sealer);
        self.reader
            .read(move |connection| changes::since(connection, &sealer, since, kinds))
            .await
    }

    async fn blobs(&self) -> Result<HashSet<Digest>, Error> {
        self.reader.read(blobs).await
    }

    async fn apply(&self, changes: Changes) -> Result<u64, Error> {
        let sealer = Arc::clone(&self.sealer);
        let revision = self
            .writer
            .write(move |connection| apply(connection, &sealer, changes))
            .await?;
        // Changes of one transaction are told to their callers one after another; the last word is the highest number.
        self.revision.send_if_modified(|known| {
            let newer = revision > *known;
            *known = revision.max(*known);
            newer
        });
        Ok(revision)
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }
}

pub(super) fn revision(connection: &Connection) -> Result<u64, Error> {
    let revision = connection
        .prepare_cached("SELECT revision FROM catalog")?
        .query_row([], |row| row.get(0))?;
    Ok(from_sql(revision))
}

fn apply(
    connection: &Connection,
    sealer: &Sealer,
    Changes { expected, changes }: Changes,
) -> Result<u64, Error> {
    let found = revision(connection)?;
    check(expected, found, || "the catalog".to_owned())?;
    let revision = found + 1;
    for change in changes {
        match change {
            Change::Deploy {
                mut deployment,
                expected,
            } => {
                let key = params![deployment.name.as_str(), number(deployment.version)];
                let found: Option<i64> = connection
                    .prepare_cached(
                        "SELECT revision FROM deployment WHERE name = ?1 AND version = ?2",
                    )?
                    .query_row(key, |row| row.get(0))
                    .optional()?;
                check(expected, found.map_or(0, from_sql), || {
                    format!("function `{}`", deployment.name)
                })?;
                deployment.revision = revision;
                let key = (deployment.name.to_string(), number(deployment.version));
                let (document, secret) = sealed::split(sealer, *deployment)?;
                connection
                    .prepare_cached("REPLACE INTO deployment VALUES (?1, ?2, ?3, ?4, ?5)")?
                    .execute(params![key.0, key.1, to_sql(revision), document, secret])?;
            }
            Change::Remove { name, version } => {
                connection
                    .prepare_cached("DELETE FROM deployment WHERE name = ?1 AND version = ?2")?
                    .execute(params![name.as_str(), number(version)])?;
            }
            Change::Route { app, routes } => {
                connection
                    .prepare_cached("REPLACE INTO routes VALUES (?1, ?2, ?3)")?
                    .execute(params![app, to_json(&routes)?, to_sql(revision)])?;
            }
            Change::Unroute { app } => {
                connection
                    .prepare_cached("DELETE FROM routes WHERE app = ?1")?
                    .execute([app])?;
            }
            Change::Put {
                kind,
                key,
                document,
                expected,
            } => {
                check_document(connection, kind, &key, expected)?;
                connection
                    .prepare_cached("REPLACE INTO document VALUES (?1, ?2, ?3, ?4)")?
                    .execute(params![kind, key, to_sql(revision), to_json(&document)?])?;
            }
            Change::Delete {
                kind,
                key,
                expected,
            } => {
                check_document(connection, kind, &key, expected)?;
                connection
                    .prepare_cached("DELETE FROM document WHERE kind = ?1 AND key = ?2")?
                    .execute(params![kind, key])?;
            }
            Change::DeleteAll { kind, prefix } => {
                connection
                    .prepare_cached(
                        "DELETE FROM document WHERE kind = ?1 AND key >= ?2 AND key < ?2 || char(1114111)",
                    )?
                    .execute(params![kind, prefix])?;
            }
        }
    }
    connection
        .prepare_cached("UPDATE catalog SET revision = ?1")?
        .execute([to_sql(revision)])?;
    changes::forget(connection, revision)?;
    Ok(revision)
}

fn check(expected: Option<u64>, found: u64, what: impl FnOnce() -> String) -> Result<(), Error> {
    match expected {
        Some(expected) if expected != found => Err(Error::Conflict {
            what: what(),
            expected,
            found,
        }),
        _ => Ok(()),
    }
}

fn check_document(
    connection: &Connection,
    kind: &str,
    key: &str,
    expected: Option<u64>,
) -> Result<(), Error> {
    if expected.is_none() {
        return Ok(());
    }
    let found: Option<i64> = connection
        .prepare_cached("SELECT revision FROM document WHERE kind = ?1 AND key = ?2")?
        .query_row(params![kind, key], |row| row.get(0))
        .optional()?;
    check(expected, found.map_or(0, from_sql), || {
        format!("{kind} `{key}`")
    })
}

/// All there are.
const NO_LIMIT: usize = usize::MAX;

fn documents(
    connection: &Connection,
    kind: &str,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<Document>, Error> {
    // From the prefix to the last key that begins so: none has a character above U+10FFFF.
    let mut statement = connection.prepare_cached(
        "SELECT key, revision, document FROM document \
         WHERE kind = ?1 AND key >= ?2 AND key < ?2 || char(1114111) \
         AND (?3 IS NULL OR key > ?3) ORDER BY key LIMIT ?4",
    )?;
    statement
        .query_map(params![kind, prefix, after, rows(limit)], columns)?
        .map(|row| whole(row?))
        .collect()
}

/// A limit as SQLite takes it.
fn rows(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

pub(super) fn columns(row: &Row<'_>) -> rusqlite::Result<(String, i64, String)> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
}

pub(super) fn whole((key, revision, text): (String, i64, String)) -> Result<Document, Error> {
    Ok(Document {
        value: parse(&text)?,
        key,
        revision: from_sql(revision),
    })
}

fn deployments(connection: &Connection, sealer: &Sealer) -> Result<Vec<Deployment>, Error> {
    connection
        .prepare_cached("SELECT document, secret FROM deployment ORDER BY name, version")?
        .query_map([], sealed::columns)?
        .map(|row| sealed::join(sealer, row?))
        .collect()
}

/// Code that is deployed, and what documents name as theirs.
pub(super) fn blobs(connection: &Connection) -> Result<HashSet<Digest>, Error> {
    connection
        .prepare_cached(
            "SELECT document ->> '$.code' FROM deployment \
             UNION \
             SELECT document ->> '$.lambda.package.digest' FROM deployment \
             WHERE document ->> '$.lambda.package.digest' IS NOT NULL \
             UNION \
             SELECT layer.value ->> '$.digest' \
             FROM deployment, json_each(deployment.document, '$.lambda.layers') AS layer \
             UNION \
             SELECT blob.value FROM document, json_each(document.document, '$.blobs') AS blob",
        )?
        .query_map([], document)?
        .map(|digest| {
            let digest = digest?;
            digest.parse().map_err(|error| Error::Corrupt {
                what: format!("`{digest}`, which the catalog has for a digest,"),
                source: Some(Arc::new(error)),
            })
        })
        .collect()
}

fn routes(connection: &Connection) -> Result<BTreeMap<String, serde_json::Value>, Error> {
    connection
        .prepare_cached("SELECT document, app FROM routes")?
        .query_map([], |row| Ok((row.get(1)?, document(row)?)))?
        .map(|row| {
            let (app, text) = row?;
            Ok((app, parse(&text)?))
        })
        .collect()
}

/// A version as a number that sorts as versions do.
pub(super) fn number(version: Version) -> u32 {
    match version {
        Version::Latest => 0,
        Version::Published(number) => number,
    }
}

fn document(row: &Row<'_>) -> rusqlite::Result<String> {
    row.get(0)
}

pub(super) fn parse<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|error| Error::Corrupt {
        what: "a document of the catalog".to_owned(),
        source: Some(Arc::new(error)),
    })
}

pub(super) fn to_json<T: serde::Serialize>(value: &T) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| Error::Database(Arc::new(error)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::tests::*, *};
    use crate::{
        model::{Digest, FunctionConfiguration, Kind},
        store::Resource,
    };

    fn deploy(name: &str, code: &[u8], expected: Option<u64>) -> Change {
        Change::Deploy {
            deployment: Box::new(Deployment {
                name: name.parse().unwrap(),
                version: Version::Latest,
                code: Digest::of(code),
                code_size: 1,
                kind: Kind::HttpP2,
                configuration: FunctionConfiguration::default(),
                app: Some("shop".to_owned()),
                modified_ms: 1,
                revision: 0,
                lambda: crate::model::LambdaSettings::default(),
            }),
            expected,
        }
    }

    fn route(app: &str) -> Change {
        Change::Route {
            app: app.to_owned(),
            routes: json!([{"path": "/", "function": "cart"}]),
        }
    }

    #[tokio::test]
    async fn an_app_is_deployed_as_a_whole_and_is_there_after_a_kill() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let mut watch = store.watch();
        assert_eq!(*watch.borrow_and_update(), 0);
        let revision = store
            .apply(
                vec![
                    deploy("cart", b"1", None),
                    deploy("pay", b"1", None),
                    route("shop"),
                ]
                .into(),
            )
            .await
            .unwrap();
        assert_eq!(revision, 1);
        assert_eq!(*watch.borrow_and_update(), 1);

        let snapshot = store.snapshot(&[]).await.unwrap();
        assert_eq!(snapshot.revision, 1);
        assert_eq!(snapshot.routes["shop"][0]["function"], "cart");
        let names: Vec<_> = snapshot
            .deployments
            .iter()
            .map(|it| it.name.as_str())
            .collect();
        assert_eq!(names, ["cart", "pay"]);
        assert!(snapshot.deployments.iter().all(|it| it.revision == 1));

        let killed = killed(folder.path());
        assert_eq!(open(killed.path()).snapshot(&[]).await.unwrap(), snapshot);
        drop(store);
        let store = open(folder.path());
        assert_eq!(store.snapshot(&[]).await.unwrap(), snapshot);
        assert_eq!(*store.watch().borrow(), 1);
    }

    #[tokio::test]
    async fn a_conflict_leaves_everything_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        store
            .apply(vec![deploy("cart", b"1", Some(0))].into())
            .await
            .unwrap();
        let before = store.snapshot(&[]).await.unwrap();

        let again = vec![
            route("shop"),
            deploy("pay", b"1", None),
            deploy("cart", b"2", Some(0)),
        ];
        let error = store.apply(again.into()).await.unwrap_err();
        assert_eq!(error.to_string(), "function `cart` has revision 1, not 0");
        let stale = Changes {
            expected: Some(0),
            changes: vec![route("shop")],
        };
        let error = store.apply(stale).await.unwrap_err();
        assert_eq!(error.to_string(), "the catalog has revision 1, not 0");
        assert_eq!(store.snapshot(&[]).await.unwrap(), before);
        assert_eq!(*store.watch().borrow(), 1);

        store
            .apply(vec![deploy("cart", b"2", Some(1))].into())
            .await
            .unwrap();
        let cart = store
            .deployment(&"cart".parse().unwrap(), Version::Latest)
            .await
            .unwrap();
        assert_eq!(cart.unwrap().code, Digest::of(b"2"));
    }

    #[tokio::test]
    async fn what_was_removed_is_gone_and_removing_it_again_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        store
            .apply(vec![deploy("cart", b"1", None), route("shop")].into())
            .await
            .unwrap();
        let remove = vec![
            Change::Remove {
                name: "cart".parse().unwrap(),
                version: Version::Latest,
            },
            Change::Unroute {
                app: "shop".to_owned(),
            },
        ];
        store.apply(remove.clone().into()).await.unwrap();
        store.apply(remove.into()).await.unwrap();
        let snapshot = store.snapshot(&[]).await.unwrap();
        assert_eq!((snapshot.deployments.len(), snapshot.routes.len()), (0, 0));
        assert_eq!(snapshot.revision, 3);
    }

    #[tokio::test]
    async fn of_writers_that_read_the_same_revision_one_wins() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let writers = (0..20u8).map(|code| {
            let change = deploy("cart", &[code], Some(0));
            store.apply(vec![change].into())
        });
        let results = futures::future::join_all(writers).await;
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
        assert_eq!(store.snapshot(&[]).await.unwrap().revision, 1);
    }

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Note {
        name: String,
        text: String,
    }

    impl Resource for Note {
        const KIND: &'static str = "note";

        fn key(&self) -> String {
            self.name.clone()
        }
    }

    fn note(name: &str, text: &str) -> Note {
        Note {
            name: name.to_owned(),
            text: text.to_owned(),
        }
    }

    #[tokio::test]
    async fn documents_are_found_by_key_and_by_prefix_page_after_page() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let catalog: &dyn Catalog = &store;
        let names = ["a/1", "a/2", "a/3", "a%", "b/1"];
        let changes = names.map(|name| Change::put(&note(name, "x")).unwrap());
        catalog.apply(changes.to_vec().into()).await.unwrap();
        let other = Change::Put {
            kind: "other",
            key: "a/1".to_owned(),
            document: json!(7),
            expected: Some(0),
        };
        catalog.apply(vec![other].into()).await.unwrap();

        let found = catalog.get::<Note>("a/2").await.unwrap().unwrap();
        assert_eq!((found.revision, found.value), (1, note("a/2", "x")));
        assert!(catalog.get::<Note>("a").await.unwrap().is_none());
        let keys = async |prefix, after, limit| {
            let found = catalog.list::<Note>(prefix, after, limit).await.unwrap();
            found
                .into_iter()
                .map(|note| note.value.name)
                .collect::<Vec<_>>()
        };
        assert_eq!(keys("a/", None, 2).await, ["a/1", "a/2"]);
        assert_eq!(keys("a/", Some("a/2"), 2).await, ["a/3"]);
        assert_eq!(keys("", None, 9).await, ["a%", "a/1", "a/2", "a/3", "b/1"]);

        let gone = Change::DeleteAll {
            kind: "note",
            prefix: "a/".to_owned(),
        };
        catalog.apply(vec![gone].into()).await.unwrap();
        assert_eq!(keys("", None, 9).await, ["a%", "b/1"]);
        let snapshot = catalog.snapshot(&["other", "note"]).await.unwrap();
        assert_eq!(snapshot.documents["other"][0].value, 7);
        assert_eq!(snapshot.resources::<Note>().len(), 2);
    }

    #[tokio::test]
    async fn of_writers_of_a_document_that_read_the_same_revision_one_wins() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let catalog: &dyn Catalog = &store;
        let write = async |text, expected| {
            let change = Change::put_expecting(&note("a", text), expected).unwrap();
            catalog.apply(vec![change].into()).await
        };
        assert_eq!(write("1", 0).await.unwrap(), 1);
        let error = write("2", 0).await.unwrap_err();
        assert_eq!(error.to_string(), "note `a` has revision 1, not 0");
        assert_eq!(write("2", 1).await.unwrap(), 2);
        let delete = Change::Delete {
            kind: "note",
            key: "a".to_owned(),
            expected: Some(1),
        };
        assert!(catalog.apply(vec![delete].into()).await.is_err());
        let found = catalog.get::<Note>("a").await.unwrap().unwrap();
        assert_eq!(found.value.text, "2");
    }
}
