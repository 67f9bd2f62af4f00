//! Archives that are good, and the many that are not.

use std::{fs, path::Path};

use bytes::Bytes;
use serde_json::json;

use super::*;
use crate::{
    model::{Deployment, FunctionConfiguration, Kind, LambdaSettings, Version},
    store::{
        Blobs, Catalog, Change, DataFolder, KeyValueLimits, NewEvent, Queue, Sqlite,
        folder::{LOCK, RESTORING},
    },
};

/// A store with everything in it that a node has.
struct Fixture {
    folder: tempfile::TempDir,
    store: std::sync::Arc<Sqlite>,
    blobs: std::sync::Arc<Blobs>,
    backups: Backups,
}

fn open(folder: tempfile::TempDir) -> Fixture {
    let data = DataFolder::open(folder.path()).unwrap();
    let store = Sqlite::open(&data, KeyValueLimits::default()).unwrap();
    let (store, blobs) = (store.into(), Blobs::open(&data).unwrap().into());
    let backups = Backups::new(
        data,
        std::sync::Arc::clone(&store),
        std::sync::Arc::clone(&blobs),
    );
    Fixture {
        folder,
        store,
        blobs,
        backups,
    }
}

/// The component, the package and the layer of [`filled`], and what nothing refers to.
const BLOBS: [&[u8]; 4] = [b"component", b"package", b"layer", b"unused"];

async fn filled() -> Fixture {
    let fixture = open(tempfile::tempdir().unwrap());
    for blob in BLOBS {
        fixture.blobs.put(Bytes::from_static(blob)).await.unwrap();
    }
    let lambda = LambdaSettings {
        package: Some(crate::model::Package {
            digest: Digest::of(BLOBS[1]),
            size: 7,
            image: None,
        }),
        ..LambdaSettings::default()
    };
    let deployment = Deployment {
        name: "cart".parse().unwrap(),
        version: Version::Latest,
        code: Digest::of(BLOBS[0]),
        code_size: 9,
        kind: Kind::Event,
        configuration: FunctionConfiguration {
            environment: [("PASSWORD".to_owned(), "secret".to_owned())].into(),
            ..FunctionConfiguration::default()
        },
        app: None,
        modified_ms: 1,
        revision: 0,
        lambda,
    };
    let layer = Change::Put {
        kind: "layer-version",
        key: "files/1".to_owned(),
        document: json!({"blobs": [Digest::of(BLOBS[2])]}),
        expected: None,
    };
    let deploy = Change::Deploy {
        deployment: deployment.into(),
        expected: None,
    };
    fixture
        .store
        .apply(vec![deploy, layer].into())
        .await
        .unwrap();
    let event = NewEvent {
        target: "cart".to_owned(),
        body: b"event".to_vec(),
        enqueued_ms: 0,
        due_ms: 0,
    };
    fixture.store.enqueue(event).await.unwrap();
    for name in CREDENTIALS {
        fs::write(fixture.folder.path().join(name), "open sesame").unwrap();
    }
    fixture
}

async fn archive(fixture: &Fixture, include: Include) -> Vec<u8> {
    let backup = fixture.backups.begin(include, 7).await.unwrap();
    let mut bytes = Vec::new();
    let size = backup.size().unwrap();
    backup.write(&mut bytes).unwrap();
    assert_eq!(bytes.len() as u64, size);
    bytes
}

const ALL: Include = Include {
    key: true,
    credentials: true,
};

/// Restores into a folder that is not there yet, and that must not be there after an error.
fn refused(archive: &[u8]) -> ArchiveError {
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("data");
    let error = restore(archive, &data, &Key::Archived).unwrap_err();
    let left: Vec<_> = fs::read_dir(parent.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?} after {error}");
    error
}

fn files(folder: &Path) -> Vec<String> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap();
                files.push(name.to_str().unwrap().to_owned());
            }
        }
    }
    files.sort();
    files
}

#[tokio::test]
async fn what_was_archived_is_restored_and_what_nothing_refers_to_is_not() {
    let fixture = filled().await;
    let bytes = archive(&fixture, ALL).await;
    assert_eq!(verify(&bytes[..]).unwrap().functions, 1);
    let folder = tempfile::tempdir().unwrap();
    let restored = restore(&bytes[..], folder.path(), &Key::Archived).unwrap();
    assert!(restored.has_key && restored.manifest.has_key());
    assert_eq!(restored.manifest.created_ms, 7);
    let mut expected: Vec<String> = BLOBS[..3]
        .iter()
        .map(|blob| blob_path(&Digest::of(blob)))
        .collect();
    let others = ["wharf.db", "node-key", "credentials", "api-token", LOCK];
    expected.extend(others.map(str::to_owned));
    expected.sort();
    assert_eq!(files(folder.path()), expected);

    let again = open(folder);
    let snapshot = fixture.store.snapshot(&["layer-version"]).await.unwrap();
    assert_eq!(
        again.store.snapshot(&["layer-version"]).await.unwrap(),
        snapshot
    );
    let leased = again.store.lease("cart", 0, 1000, 9).await.unwrap();
    assert_eq!(leased.len(), 1);
    for blob in &BLOBS[..3] {
        let read = again.blobs.read(&Digest::of(blob)).await.unwrap();
        assert_eq!(read.unwrap(), *blob);
    }
}

#[tokio::test]
async fn secrets_are_in_it_only_if_they_are_asked_for() {
    let fixture = filled().await;
    let key = fs::read(fixture.folder.path().join(KEY_FILE)).unwrap();
    let has = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).any(|part| part == what);
    let bytes = archive(&fixture, Include::default()).await;
    for secret in [&key[..], b"open sesame", b"\"secret\""] {
        assert!(!has(&bytes, secret));
    }
    let bytes = archive(&fixture, ALL).await;
    assert!(has(&bytes, &key) && has(&bytes, b"open sesame"));
}

#[tokio::test]
async fn the_key_comes_from_the_archive_or_from_a_file_or_is_given_up() {
    let fixture = filled().await;
    let bytes = archive(&fixture, Include::default()).await;
    let environment = async |folder| {
        let name = "cart".parse().unwrap();
        let found = open(folder).store.deployment(&name, Version::Latest).await;
        found.unwrap().unwrap().configuration.environment
    };

    let folder = tempfile::tempdir().unwrap();
    let restored = restore(&bytes[..], folder.path(), &Key::Archived).unwrap();
    assert!(!restored.has_key);
    let data = DataFolder::open(folder.path()).unwrap();
    let error = Sqlite::open(&data, KeyValueLimits::default()).unwrap_err();
    assert!(matches!(error, Error::Key { .. }), "{error}");
    drop(data);
    let kept = fixture.folder.path().join(KEY_FILE);
    fs::copy(&kept, folder.path().join(KEY_FILE)).unwrap();
    assert_eq!(environment(folder).await["PASSWORD"], "secret");

    let folder = tempfile::tempdir().unwrap();
    let restored = restore(&bytes[..], folder.path(), &Key::File(kept)).unwrap();
    assert!(restored.has_key);
    assert_eq!(environment(folder).await["PASSWORD"], "secret");

    let folder = tempfile::tempdir().unwrap();
    let restored = restore(&bytes[..], folder.path(), &Key::Forgotten).unwrap();
    assert!(restored.has_key);
    let path = folder.path().to_owned();
    assert_eq!(environment(folder).await, [].into());
    assert!(!path.exists(), "the folder was the fixture's");

    let folder = tempfile::tempdir().unwrap();
    let other = open(tempfile::tempdir().unwrap());
    let other = Key::File(other.folder.path().join(KEY_FILE));
    let error = restore(&bytes[..], folder.path(), &other).unwrap_err();
    assert!(
        matches!(error, ArchiveError::Store(Error::Key { .. })),
        "{error}"
    );
    assert_eq!(files(folder.path()), [""; 0]);
}

#[tokio::test]
async fn a_restored_node_that_forgot_its_secrets_keeps_its_new_key() {
    let fixture = filled().await;
    let bytes = archive(&fixture, ALL).await;
    let folder = tempfile::tempdir().unwrap();
    restore(&bytes[..], folder.path(), &Key::Forgotten).unwrap();
    assert!(!folder.path().join(KEY_FILE).exists());
    let Fixture { folder, store, .. } = open(folder);
    let sealed = store.sealer().seal("a", b"1").unwrap();
    drop(store);
    let again = open(folder);
    assert_eq!(again.store.sealer().open("a", &sealed).unwrap(), b"1");
}

#[tokio::test]
async fn an_archive_that_is_cut_off_is_refused_and_nothing_is_left_of_it() {
    let bytes = archive(&filled().await, ALL).await;
    // All but the two empty blocks at its end, in which nothing stands.
    let end = bytes.len() - 1024;
    assert!(verify(&bytes[..end]).is_ok());
    for length in (0..end).step_by(509).chain([1, 511, 512, 513, end - 1]) {
        let error = refused(&bytes[..length]);
        // Of less than a header nobody can say what it was to be.
        let expected = match length {
            0..512 => matches!(error, ArchiveError::Foreign | ArchiveError::Truncated),
            _ => matches!(error, ArchiveError::Truncated),
        };
        assert!(expected, "{length}: {error}");
    }
}

#[tokio::test]
async fn an_archive_that_was_changed_is_refused_or_gives_the_same() {
    let bytes = archive(&filled().await, ALL).await;
    let expected = verify(&bytes[..]).unwrap();
    let mut harmless = 0;
    let positions: Vec<usize> = (0..bytes.len()).step_by(97).collect();
    for position in &positions {
        let mut changed = bytes.clone();
        changed[*position] ^= 0x10;
        match verify(&changed[..]) {
            // What fills the blocks up is nobody's.
            Ok(manifest) => {
                assert_eq!(manifest, expected);
                assert_eq!(bytes[*position], 0, "{position}");
                harmless += 1;
            }
            Err(_) => {
                if position % 5 == 0 {
                    refused(&changed);
                }
            }
        }
    }
    assert!(
        harmless < positions.len() / 10,
        "{harmless} of {}",
        positions.len()
    );
}

/// An archive with these files after its list, whatever they are.
fn forged(manifest: &serde_json::Value, files: &[(&str, tar::EntryType, &[u8])]) -> Vec<u8> {
    let list = manifest.to_string().into_bytes();
    let seal = format!("{}  {MANIFEST}\n", Digest::of(&list));
    let mut archive = tar::Builder::new(Vec::new());
    let regular = tar::EntryType::Regular;
    let first = [
        (MANIFEST, regular, &list[..]),
        (SEAL, regular, seal.as_bytes()),
    ];
    for (path, kind, content) in first.iter().chain(files) {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_entry_type(*kind);
        // As it is: the crate would refuse to write what leads out.
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        if *kind == tar::EntryType::Symlink {
            header.set_link_name("/etc/passwd").unwrap();
        }
        header.set_cksum();
        archive.append(&header, *content).unwrap();
    }
    archive.into_inner().unwrap()
}

fn list(files: &[(&str, &[u8])]) -> serde_json::Value {
    let files: Vec<_> = files
        .iter()
        .map(|(path, content)| {
            json!({"path": path, "size": content.len(), "sha256": Digest::of(content)})
        })
        .collect();
    json!({
        "wharf_backup": FORMAT, "wharf": "1", "created_ms": 1, "functions": 0, "key": null, "files": files
    })
}

#[test]
fn nothing_leads_out_of_the_folder() {
    use tar::EntryType;
    for (path, kind) in [
        ("../escaped", EntryType::Regular),
        ("/tmp/escaped", EntryType::Regular),
        ("blobs/sha256/../../../escaped", EntryType::Regular),
        ("artifacts/key", EntryType::Regular),
        ("credentials", EntryType::Symlink),
        ("credentials", EntryType::Directory),
    ] {
        let listed = list(&[(path, b""), ("wharf.db", b"")]);
        let archive = forged(&listed, &[(path, kind, b"")]);
        let error = refused(&archive);
        assert!(
            matches!(error, ArchiveError::Unexpected { .. }),
            "{path}: {error}"
        );
    }
    // A blob that is not what its name says, though the list says so.
    let path = blob_path(&Digest::of(b"this"));
    let listed = list(&[(&path, b"that"), ("wharf.db", b"")]);
    let archive = forged(&listed, &[(&path, EntryType::Regular, b"that")]);
    assert!(matches!(refused(&archive), ArchiveError::Altered { .. }));
}

#[test]
fn what_is_no_backup_or_a_newer_one_is_said_to_be_so() {
    assert!(matches!(refused(b""), ArchiveError::Foreign));
    let text = b"once upon a time ".repeat(100);
    assert!(matches!(
        refused(&text),
        ArchiveError::Foreign | ArchiveError::Io { .. }
    ));
    let newer = forged(&json!({"wharf_backup": 2, "files": "elsewhere"}), &[]);
    let error = refused(&newer);
    assert_eq!(
        error.to_string(),
        "a newer Wharf wrote it (format 2; this one knows up to 1)"
    );
    let no_database = [(
        "wharf.db",
        tar::EntryType::Regular,
        &b"not a database at all"[..],
    )];
    let archive = forged(&list(&[("wharf.db", no_database[0].2)]), &no_database);
    assert!(matches!(refused(&archive), ArchiveError::Store(_)));
}

#[tokio::test]
async fn a_folder_with_something_in_it_is_left_alone() {
    let bytes = archive(&filled().await, ALL).await;
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("mine"), "mine").unwrap();
    let error = restore(&bytes[..], folder.path(), &Key::Archived).unwrap_err();
    assert!(matches!(error, ArchiveError::NotEmpty { .. }), "{error}");
    assert_eq!(files(folder.path()), ["mine"]);
}

#[tokio::test]
async fn no_node_starts_on_half_a_backup_and_it_can_be_restored_again() {
    let bytes = archive(&filled().await, ALL).await;
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join(RESTORING).join("blobs")).unwrap();
    let error = DataFolder::open(folder.path()).unwrap_err();
    assert!(matches!(error, Error::Unfinished { .. }), "{error}");
    restore(&bytes[..], folder.path(), &Key::Archived).unwrap();
    open(folder).store.snapshot(&[]).await.unwrap();
}

#[tokio::test]
async fn a_backup_is_of_one_moment_while_others_write() {
    let fixture = filled().await;
    let stop = tokio_util::sync::CancellationToken::new();
    let (store, stopped) = (std::sync::Arc::clone(&fixture.store), stop.clone());
    let writing = tokio::spawn(async move {
        let mut round = 0;
        while !stopped.is_cancelled() {
            round += 1;
            let put = |key: &str| Change::Put {
                kind: "round",
                key: key.to_owned(),
                document: json!(round),
                expected: None,
            };
            store
                .apply(vec![put("one"), put("other")].into())
                .await
                .unwrap();
        }
        round
    });
    let mut seen = 0;
    for _ in 0..5 {
        let bytes = archive(&fixture, ALL).await;
        let folder = tempfile::tempdir().unwrap();
        restore(&bytes[..], folder.path(), &Key::Archived).unwrap();
        let restored = open(folder);
        let documents = restored
            .store
            .documents("round", "", None, 9)
            .await
            .unwrap();
        if let [one, other] = &documents[..] {
            assert_eq!(one.value, other.value);
            let round = one.value.as_u64().unwrap();
            assert!(round >= seen);
            seen = round;
        }
    }
    stop.cancel();
    let rounds: u64 = writing.await.unwrap();
    assert!(seen > 0 && seen <= rounds, "{seen} of {rounds}");
}

#[tokio::test]
async fn a_blob_that_is_missing_or_damaged_makes_no_backup() {
    let fixture = filled().await;
    let component = Digest::of(BLOBS[0]);
    fs::write(fixture.blobs.path(&component), b"componenT").unwrap();
    let backup = fixture.backups.begin(ALL, 7).await.unwrap();
    let mut bytes = Vec::new();
    let error = backup.write(&mut bytes).unwrap_err();
    assert!(matches!(error, ArchiveError::Altered { .. }), "{error}");
    assert!(verify(&bytes[..]).is_err());
    fixture.blobs.remove(&component).await.unwrap();
    let error = fixture.backups.begin(ALL, 7).await.unwrap_err();
    assert!(matches!(error, ArchiveError::Missing { digest } if digest == component));
    assert!(!fixture.folder.path().join("backup").exists());
}

#[test]
fn a_path_is_one_of_a_few() {
    let digest = Digest::of(b"1");
    assert_eq!(place(&blob_path(&digest)), Some(Some(digest)));
    for path in ["wharf.db", "node-key", "credentials", "api-token"] {
        assert_eq!(place(path), Some(None), "{path}");
    }
    let name = digest.to_string();
    for path in [
        "",
        "/wharf.db",
        "./wharf.db",
        "../wharf.db",
        "wharf.db/",
        "wharf.db-wal",
        "artifacts/key",
        "blobs/sha256/../../wharf.db",
        &format!("blobs/sha256/{name}"),
        &format!("blobs/sha256//{name}"),
        &format!("blobs/sha256/{}/{}", &name[..3], &name[3..]),
        &blob_path(&digest).to_uppercase(),
        &format!("{}/", blob_path(&digest)),
    ] {
        assert_eq!(place(path), None, "{path}");
    }
}
