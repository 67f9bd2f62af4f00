//! What of a deployment is kept encrypted: the values of its environment variables and of `wasi:config`.
//!
//! A row has the deployment without them as `document`, and them as `secret`, sealed for that version of that function. Who
//! reads the catalog gets the whole.

use std::collections::BTreeMap;

use rusqlite::{Connection, Row, params};
use serde::{Deserialize, Serialize};

use super::catalog::{number, parse, to_json};
use crate::{
    model::Deployment,
    store::{Error, Sealer},
};

/// What is sealed, in JSON.
#[derive(Default, Serialize, Deserialize)]
struct Secret {
    environment: BTreeMap<String, String>,
    config: BTreeMap<String, String>,
}

/// The columns that a deployment is read from, in this order.
pub(super) const COLUMNS: &str = "document, secret";

/// A row of [`COLUMNS`], not looked at yet.
pub(super) type Columns = (String, Option<String>);

pub(super) fn columns(row: &Row<'_>) -> rusqlite::Result<Columns> {
    Ok((row.get(0)?, row.get(1)?))
}

/// The columns of a deployment.
pub(super) fn split(sealer: &Sealer, mut deployment: Deployment) -> Result<Columns, Error> {
    let configuration = &mut deployment.configuration;
    let secret = Secret {
        environment: std::mem::take(&mut configuration.environment),
        config: std::mem::take(&mut configuration.config),
    };
    let sealed = if secret.environment.is_empty() && secret.config.is_empty() {
        None
    } else {
        Some(sealer.seal(&context(&deployment), to_json(&secret)?.as_bytes())?)
    };
    Ok((to_json(&deployment)?, sealed))
}

/// The deployment of a row.
pub(super) fn join(sealer: &Sealer, (document, secret): Columns) -> Result<Deployment, Error> {
    let mut deployment: Deployment = parse(&document)?;
    if let Some(sealed) = secret {
        let opened = sealer.open(&context(&deployment), &sealed)?;
        let Secret {
            environment,
            config,
        } = parse(&String::from_utf8_lossy(&opened))?;
        deployment.configuration.environment = environment;
        deployment.configuration.config = config;
    }
    Ok(deployment)
}

/// The place that a deployment's secret is sealed for.
fn context(deployment: &Deployment) -> String {
    format!(
        "deployment/{}/{}",
        deployment.name,
        number(deployment.version)
    )
}

/// Seals what an earlier Wharf wrote in clear text.
pub(super) fn seal_all(connection: &Connection, sealer: &Sealer) -> Result<(), Error> {
    let rows: Vec<Columns> = connection
        .prepare(&format!(
            "SELECT {COLUMNS} FROM deployment WHERE secret IS NULL"
        ))?
        .query_map([], columns)?
        .collect::<Result<_, _>>()?;
    for row in rows {
        let deployment = join(sealer, row)?;
        let key = (deployment.name.to_string(), number(deployment.version));
        let (document, secret) = split(sealer, deployment)?;
        connection
            .prepare_cached(
                "UPDATE deployment SET document = ?3, secret = ?4 WHERE name = ?1 AND version = ?2",
            )?
            .execute(params![key.0, key.1, document, secret])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::{
        super::{FILE, connect, migrations, tests::*},
        *,
    };
    use crate::{
        model::{Digest, FunctionConfiguration, Kind, LambdaSettings, Version},
        store::{Catalog, Change, DataFolder, KEY_FILE, KeyValueLimits, Sqlite},
    };

    const VALUE: &str = "correct-horse-battery-staple";

    fn deployment(version: Version) -> Deployment {
        Deployment {
            name: "cart".parse().unwrap(),
            version,
            code: Digest::of(b"1"),
            code_size: 1,
            kind: Kind::HttpP2,
            configuration: FunctionConfiguration {
                environment: [("PASSWORD".to_owned(), VALUE.to_owned())].into(),
                config: [("token".to_owned(), VALUE.to_owned())].into(),
                ..FunctionConfiguration::default()
            },
            app: None,
            modified_ms: 1,
            revision: 1,
            lambda: LambdaSettings::default(),
        }
    }

    fn deploy(version: Version) -> Change {
        Change::Deploy {
            deployment: Box::new(deployment(version)),
            expected: None,
        }
    }

    /// Whether the value stands anywhere in the files of the database.
    fn in_clear(folder: &Path) -> bool {
        let mut seen = 0;
        let found = fs::read_dir(folder).unwrap().flatten().any(|file| {
            let bytes = fs::read(file.path()).unwrap();
            seen += bytes.len();
            bytes
                .windows(VALUE.len())
                .any(|part| part == VALUE.as_bytes())
        });
        assert!(seen > 4096);
        found
    }

    #[tokio::test]
    async fn values_are_in_no_file_and_come_back_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let versions = [Version::Latest, Version::Published(1)];
        store
            .apply(versions.map(deploy).to_vec().into())
            .await
            .unwrap();
        let expected = versions.map(deployment);
        assert_eq!(store.deployments().await.unwrap(), expected);
        assert!(!in_clear(folder.path()), "with a write-ahead log");
        drop(store);
        assert!(!in_clear(folder.path()), "without one");

        let store = open(folder.path());
        let name = "cart".parse().unwrap();
        assert_eq!(store.snapshot(&[]).await.unwrap().deployments, expected);
        assert_eq!(store.versions(&name).await.unwrap(), expected);
        assert_eq!(store.functions(None, 9).await.unwrap(), expected[..1]);
        let found = store
            .deployment(&name, Version::Published(1))
            .await
            .unwrap();
        assert_eq!(found.as_ref(), Some(&expected[1]));
        assert_eq!(store.changes(0, &[]).await.unwrap().deployments, expected);
    }

    #[tokio::test]
    async fn what_an_earlier_wharf_wrote_in_clear_text_is_sealed_and_gone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(FILE);
        let connection = connect(&file, Default::default()).unwrap();
        migrations::tests::first(&connection, 2);
        let long = format!("{VALUE}{}", "x".repeat(3000));
        let mut old = deployment(Version::Latest);
        old.configuration
            .environment
            .insert("LONG".to_owned(), long);
        for deployment in [&old, &deployment(Version::Published(7))] {
            connection
                .execute(
                    "REPLACE INTO deployment VALUES (?1, ?2, 1, ?3)",
                    params![
                        deployment.name.as_str(),
                        number(deployment.version),
                        to_json(deployment).unwrap()
                    ],
                )
                .unwrap();
        }
        // Written once more, so that it stands in parts of the file that nothing refers to.
        connection
            .execute_batch("DELETE FROM deployment WHERE version = 7")
            .unwrap();
        drop(connection);
        assert!(in_clear(folder.path()));

        let store = open(folder.path());
        assert_eq!(store.deployments().await.unwrap(), [old]);
        assert!(!in_clear(folder.path()));
        drop(store);
        assert!(!in_clear(folder.path()));
        let killed = killed(folder.path());
        assert_eq!(open(killed.path()).deployments().await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_secret_does_not_open_for_another_version() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let versions = [Version::Latest, Version::Published(1)];
        store
            .apply(versions.map(deploy).to_vec().into())
            .await
            .unwrap();
        store
            .writer
            .write(|connection| {
                connection.execute_batch(
                    "UPDATE deployment SET secret = (SELECT secret FROM deployment WHERE version = 0) \
                     WHERE version = 1",
                )?;
                Ok(())
            })
            .await
            .unwrap();
        let name = "cart".parse().unwrap();
        store.deployment(&name, Version::Latest).await.unwrap();
        let moved = store.deployment(&name, Version::Published(1)).await;
        assert!(matches!(moved, Err(Error::Sealed { .. })), "{moved:?}");
    }

    #[tokio::test]
    async fn a_node_without_its_key_does_not_start_and_makes_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        store
            .apply(vec![deploy(Version::Latest)].into())
            .await
            .unwrap();
        drop(store);
        let key = folder.path().join(KEY_FILE);
        let kept = fs::read(&key).unwrap();
        let refused = || {
            let data = DataFolder::open(folder.path()).unwrap();
            let error = Sqlite::open(&data, KeyValueLimits::default()).unwrap_err();
            assert!(error.to_string().contains(&key.display().to_string()));
            std::error::Error::source(&error).unwrap().to_string()
        };
        fs::remove_file(&key).unwrap();
        assert!(refused().contains("it is not there"));
        assert!(!key.exists());
        fs::write(&key, [1; 32]).unwrap();
        fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        assert!(refused().contains("not the key of this database"));
        fs::write(&key, kept).unwrap();
        assert_eq!(open(folder.path()).deployments().await.unwrap().len(), 1);
    }
}
