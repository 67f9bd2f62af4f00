//! What changed in the catalog since a revision.
//!
//! Every row has the revision that wrote it. Of what was removed a row is left in `removed`, for as long as the process
//! lives, or until the catalog has gone [`REMEMBERED`] revisions further: who asks for what is older gets everything.

use rusqlite::{Connection, params};

use super::{
    catalog::{self, columns as document_columns, parse, whole},
    from_sql, sealed, to_sql,
};
use crate::{
    model::{FunctionName, Version},
    store::{Delta, Error, Sealer},
};

/// How far back it is told what was removed.
const REMEMBERED: u64 = 1 << 16;

/// How many changes come between two times of forgetting.
const FORGET_EVERY: u64 = 1 << 12;

pub(super) fn since(
    connection: &Connection,
    sealer: &Sealer,
    since: u64,
    kinds: &'static [&'static str],
) -> Result<Delta, Error> {
    let revision = catalog::revision(connection)?;
    let oldest: i64 = connection
        .prepare_cached("SELECT oldest FROM catalog")?
        .query_row([], |row| row.get(0))?;
    let complete = since == 0 || since < from_sql(oldest);
    // Everything was written by a revision above this one, even what an early Wharf wrote without one.
    let after = if complete { -1 } else { to_sql(since) };
    let mut delta = Delta {
        revision,
        complete,
        deployments: connection
            .prepare_cached(
                "SELECT document, secret FROM deployment WHERE revision > ?1 ORDER BY name, version",
            )?
            .query_map([after], sealed::columns)?
            .map(|row| sealed::join(sealer, row?))
            .collect::<Result<_, Error>>()?,
        routes: connection
            .prepare_cached("SELECT document, app FROM routes WHERE revision > ?1")?
            .query_map([after], |row| Ok((row.get(0)?, row.get(1)?)))?
            .map(|row| {
                let (text, app): (String, String) = row?;
                Ok((app, Some(parse(&text)?)))
            })
            .collect::<Result<_, Error>>()?,
        ..Delta::default()
    };
    for kind in kinds {
        let documents = connection
            .prepare_cached(
                "SELECT key, revision, document FROM document \
                 WHERE kind = ?1 AND revision > ?2 ORDER BY key",
            )?
            .query_map(params![kind, after], document_columns)?
            .map(|row| whole(row?))
            .collect::<Result<Vec<_>, Error>>()?;
        if !documents.is_empty() {
            delta.documents.insert(kind, documents);
        }
    }
    if !complete {
        removed(connection, after, kinds, &mut delta)?;
    }
    Ok(delta)
}

/// What was removed and is not there again.
fn removed(
    connection: &Connection,
    after: i64,
    kinds: &'static [&'static str],
    delta: &mut Delta,
) -> Result<(), Error> {
    let mut statement =
        connection.prepare_cached("SELECT kind, key FROM removed WHERE revision > ?1")?;
    let mut rows = statement.query([after])?;
    while let Some(row) = rows.next()? {
        let (kind, key): (String, String) = (row.get(0)?, row.get(1)?);
        match kind.as_str() {
            "@deployment" => {
                let (name, version) = deployment_key(&key)?;
                let again =
                    |it: &crate::model::Deployment| it.name == name && it.version == version;
                if !delta.deployments.iter().any(again) {
                    delta.removed.push((name, version));
                }
            }
            "@routes" => {
                delta.routes.entry(key).or_insert(None);
            }
            kind => {
                let Some(kind) = kinds.iter().find(|known| **known == kind) else {
                    continue;
                };
                let present = delta.documents.get(kind).map_or(&[][..], Vec::as_slice);
                let again = present.binary_search_by(|document| document.key.cmp(&key));
                if again.is_err() {
                    delta.deleted.entry(kind).or_default().push(key);
                }
            }
        }
    }
    Ok(())
}

fn deployment_key(key: &str) -> Result<(FunctionName, Version), Error> {
    let read = || {
        let (name, version) = key.rsplit_once('/')?;
        let version = match version.parse().ok()? {
            0 => Version::Latest,
            number => Version::Published(number),
        };
        Some((name.parse().ok()?, version))
    };
    read().ok_or_else(|| Error::Corrupt {
        what: "the list of what was removed".to_owned(),
        source: None,
    })
}

/// Forgets all that was removed: nobody knows a revision yet.
pub(super) fn forget_all(connection: &Connection) -> Result<(), Error> {
    connection.execute_batch("DELETE FROM removed; UPDATE catalog SET oldest = revision;")?;
    Ok(())
}

/// Forgets what was removed long ago, now and then.
pub(super) fn forget(connection: &Connection, revision: u64) -> Result<(), Error> {
    if !revision.is_multiple_of(FORGET_EVERY) || revision <= REMEMBERED {
        return Ok(());
    }
    let oldest = to_sql(revision - REMEMBERED);
    connection.execute("DELETE FROM removed WHERE revision <= ?1", [oldest])?;
    connection.execute("UPDATE catalog SET oldest = max(oldest, ?1)", [oldest])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::{super::tests::*, *};
    use crate::{
        model::{Deployment, Digest, FunctionConfiguration, Kind, LambdaSettings},
        store::{Catalog, Change, Snapshot},
    };

    const KINDS: &[&str] = &["alias", "layer"];

    /// What somebody knows who reads the changes only.
    #[derive(Debug, Default, PartialEq)]
    struct Known {
        revision: u64,
        deployments: BTreeMap<(FunctionName, Version), Deployment>,
        routes: BTreeMap<String, Value>,
        documents: BTreeMap<(&'static str, String), Value>,
    }

    impl Known {
        fn learn(&mut self, delta: Delta) {
            if delta.complete {
                *self = Self::default();
                assert!(delta.removed.is_empty() && delta.deleted.is_empty());
            }
            self.revision = delta.revision;
            for key in delta.removed {
                assert!(!delta.complete);
                self.deployments.remove(&key);
            }
            for deployment in delta.deployments {
                let key = (deployment.name.clone(), deployment.version);
                self.deployments.insert(key, deployment);
            }
            for (app, routes) in delta.routes {
                match routes {
                    Some(routes) => self.routes.insert(app, routes),
                    None => self.routes.remove(&app),
                };
            }
            for (kind, keys) in delta.deleted {
                for key in keys {
                    self.documents.remove(&(kind, key));
                }
            }
            for (kind, documents) in delta.documents {
                for document in documents {
                    self.documents.insert((kind, document.key), document.value);
                }
            }
        }

        fn of(snapshot: Snapshot) -> Self {
            let mut known = Self::default();
            let documents = snapshot.documents;
            known.learn(Delta {
                revision: snapshot.revision,
                complete: true,
                deployments: snapshot.deployments,
                routes: snapshot
                    .routes
                    .into_iter()
                    .map(|(app, routes)| (app, Some(routes)))
                    .collect(),
                documents,
                ..Delta::default()
            });
            known
        }
    }

    fn deploy(name: &str, version: Version, code: u8) -> Change {
        let configuration = FunctionConfiguration {
            environment: [("CODE".to_owned(), code.to_string())].into(),
            ..FunctionConfiguration::default()
        };
        Change::Deploy {
            deployment: Box::new(Deployment {
                name: name.parse().unwrap(),
                version,
                code: Digest::of(&[code]),
                code_size: 1,
                kind: Kind::HttpP2,
                configuration,
                app: None,
                modified_ms: 1,
                revision: 0,
                lambda: LambdaSettings::default(),
            }),
            expected: None,
        }
    }

    fn change() -> impl Strategy<Value = Change> {
        let name = || prop::sample::select(vec!["a", "a-b", "b"]);
        let version = || {
            prop::sample::select(vec![
                Version::Latest,
                Version::Published(1),
                Version::Published(10),
            ])
        };
        let kind = || prop::sample::select(vec!["alias", "layer", "other"]);
        let app = || name().prop_map(str::to_owned);
        prop_oneof![
            (name(), version(), 0..9_u8)
                .prop_map(|(name, version, code)| deploy(name, version, code)),
            (name(), version()).prop_map(|(name, version)| Change::Remove {
                name: name.parse().unwrap(),
                version
            }),
            (app(), 0..9_u8).prop_map(|(app, path)| Change::Route {
                app,
                routes: json!([path])
            }),
            app().prop_map(|app| Change::Unroute { app }),
            (kind(), app(), 0..9_u8).prop_map(|(kind, key, value)| Change::Put {
                kind,
                key,
                document: json!(value),
                expected: None
            }),
            (kind(), app()).prop_map(|(kind, key)| Change::Delete {
                kind,
                key,
                expected: None
            }),
            (kind(), app()).prop_map(|(kind, prefix)| Change::DeleteAll { kind, prefix }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

        /// Whenever somebody looks, however much happened in between.
        #[test]
        fn who_follows_the_changes_knows_the_catalog(
            steps in prop::collection::vec((prop::collection::vec(change(), 1..4), any::<bool>()), 1..20)
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let folder = tempfile::tempdir().unwrap();
                let store = open(folder.path());
                let mut known = Known::default();
                for (changes, look) in steps {
                    store.apply(changes.into()).await.unwrap();
                    if look {
                        let delta = store.changes(known.revision, KINDS).await.unwrap();
                        known.learn(delta);
                        let snapshot = store.snapshot(KINDS).await.unwrap();
                        assert_eq!(known, Known::of(snapshot));
                    }
                }
            });
        }
    }

    #[tokio::test]
    async fn who_looks_again_is_told_what_changed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let many = (0..100).map(|number| deploy(&format!("f{number}"), Version::Latest, 0));
        let known = store.apply(many.collect::<Vec<_>>().into()).await.unwrap();
        let remove = Change::Remove {
            name: "f7".parse().unwrap(),
            version: Version::Latest,
        };
        let now = vec![deploy("f3", Version::Latest, 1), remove];
        store.apply(now.into()).await.unwrap();
        let delta = store.changes(known, &[]).await.unwrap();
        assert!(!delta.complete);
        let changed: Vec<_> = delta
            .deployments
            .iter()
            .map(|it| it.name.as_str())
            .collect();
        assert_eq!(changed, ["f3"]);
        assert_eq!(delta.removed, [("f7".parse().unwrap(), Version::Latest)]);
        let nothing = store.changes(delta.revision, &[]).await.unwrap();
        let expected = Delta {
            revision: delta.revision,
            ..Delta::default()
        };
        assert_eq!(nothing, expected);
    }

    #[tokio::test]
    async fn what_was_removed_too_long_ago_is_told_by_telling_everything() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let changes = vec![
            deploy("a", Version::Latest, 0),
            deploy("b", Version::Latest, 0),
        ];
        let known = store.apply(changes.into()).await.unwrap();
        let remove = Change::Remove {
            name: "a".parse().unwrap(),
            version: Version::Latest,
        };
        store.apply(vec![remove].into()).await.unwrap();
        // Many changes later, at the next of those that look for what to forget.
        store
            .writer
            .write(|connection| {
                let later = to_sql(2 * REMEMBERED - 1);
                connection.execute("UPDATE catalog SET revision = ?1", [later])?;
                Ok(())
            })
            .await
            .unwrap();
        store.apply(vec![].into()).await.unwrap();
        let left = |connection: &Connection| {
            let count =
                connection.query_row("SELECT count(*) FROM removed", [], |row| row.get(0))?;
            Ok::<u32, Error>(count)
        };
        assert_eq!(store.reader.read(left).await.unwrap(), 0);
        let delta = store.changes(known, &[]).await.unwrap();
        assert!(delta.complete);
        assert_eq!(delta.deployments.len(), 1);
    }
}
