//! From a running node to an archive.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, Write},
    sync::Arc,
};

use super::{
    ArchiveError, CREDENTIALS, Entry, FORMAT, Hashing, Include, MANIFEST, Manifest, SEAL, blob_path,
};
use crate::{
    model::Digest,
    store::{Blobs, DataFolder, Error, Hold, KEY_FILE, Sqlite, folder, sqlite},
};

/// Where a copy of the database stands while it is made. What a killed node left there goes at the next backup.
const FOLDER: &str = "backup";

/// Makes backups of a node while it runs.
#[derive(Debug, Clone)]
pub struct Backups {
    data: Arc<DataFolder>,
    store: Arc<Sqlite>,
    blobs: Arc<Blobs>,
    /// One at a time: each takes the room of the database on the disk.
    one: Arc<tokio::sync::Mutex<()>>,
}

/// A backup, ready to be written. Until it is dropped, the blobs that it refers to are kept.
#[derive(Debug)]
pub struct Backup {
    manifest: Manifest,
    /// The first files of the manifest. The others are blobs, and opened when it is their turn: there may be thousands.
    opened: Vec<File>,
    blobs: Arc<Blobs>,
    _kept: Hold,
}

impl Backups {
    /// Backups of these stores, which are all in the folder `data`.
    pub fn new(data: Arc<DataFolder>, store: Arc<Sqlite>, blobs: Arc<Blobs>) -> Self {
        Self {
            data,
            store,
            blobs,
            one: Arc::default(),
        }
    }

    /// Takes a copy of the state as it is now. The node goes on meanwhile, and what changes from now on is not in it.
    ///
    /// # Errors
    ///
    /// The disk is full (the copy of the database needs as much as the database), or something is missing or damaged.
    pub async fn begin(&self, include: Include, created_ms: u64) -> Result<Backup, ArchiveError> {
        let one = Arc::clone(&self.one).lock_owned().await;
        // Before the copy: what it refers to is there then, and stays.
        let kept = self.blobs.hold().await;
        let backups = self.clone();
        tokio::task::spawn_blocking(move || {
            let _one = one;
            backups.copy(include, created_ms, kept)
        })
        .await
        .unwrap_or(Err(Error::Closed.into()))
    }

    fn copy(&self, include: Include, created_ms: u64, kept: Hold) -> Result<Backup, ArchiveError> {
        let (database, contents) = self.database()?;
        let mut manifest = Manifest {
            wharf_backup: FORMAT,
            wharf: env!("CARGO_PKG_VERSION").to_owned(),
            created_ms,
            functions: contents.functions,
            key: contents.key,
            files: Vec::new(),
        };
        let mut opened = Vec::new();
        let mut add = |path: &str, mut file: File| {
            let read = || ArchiveError::io(format!("read `{path}`"));
            let (size, sha256) = digest_of(&mut file).map_err(read())?;
            file.rewind().map_err(read())?;
            let path = path.to_owned();
            manifest.files.push(Entry { path, size, sha256 });
            opened.push(file);
            Ok::<_, ArchiveError>(())
        };
        add(sqlite::FILE, database)?;
        let key = include.key.then_some(KEY_FILE);
        let credentials = CREDENTIALS.iter().filter(|_| include.credentials).copied();
        for name in key.into_iter().chain(credentials) {
            let file = File::open(self.data.path().join(name))
                .map_err(ArchiveError::io(format!("open `{name}`")))?;
            add(name, file)?;
        }
        let mut blobs: Vec<Digest> = contents.blobs.into_iter().collect();
        blobs.sort_unstable();
        for digest in blobs {
            let size = match fs::metadata(self.blobs.path(&digest)) {
                Ok(metadata) => metadata.len(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(ArchiveError::Missing { digest });
                }
                Err(error) => return Err(ArchiveError::io(format!("look for {digest}"))(error)),
            };
            manifest.files.push(Entry {
                path: blob_path(&digest),
                size,
                sha256: digest,
            });
        }
        Ok(Backup {
            manifest,
            opened,
            blobs: Arc::clone(&self.blobs),
            _kept: kept,
        })
    }

    /// A copy of the database, open and without a name any more, and what is in it.
    fn database(&self) -> Result<(File, sqlite::Contents), ArchiveError> {
        let parent = self.data.path().join(FOLDER);
        let failed = || ArchiveError::io(format!("use `{}`", parent.display()));
        match fs::remove_dir_all(&parent) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed()(error)),
            _ => {}
        }
        folder::create(&parent).map_err(failed())?;
        let copy = parent.join(sqlite::FILE);
        let copied = self
            .store
            .copy_to(&copy)
            .and_then(|()| sqlite::contents(&copy));
        let opened = copied
            .map_err(ArchiveError::from)
            .and_then(|contents| Ok((File::open(&copy).map_err(failed())?, contents)));
        fs::remove_dir_all(&parent).map_err(failed())?;
        opened
    }
}

impl Backup {
    /// What is in it.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// How many bytes [`write`](Self::write) writes.
    ///
    /// # Errors
    ///
    /// The manifest cannot be written as JSON.
    pub fn size(&self) -> Result<u64, ArchiveError> {
        let list = self.list()?;
        let sizes = [list.len() as u64, seal(&list).len() as u64];
        let files = self.manifest.files.iter().map(|file| file.size);
        let blocks = sizes.into_iter().chain(files);
        Ok(END
            + blocks
                .map(|size| BLOCK + size.next_multiple_of(BLOCK))
                .sum::<u64>())
    }

    /// Writes the archive. Blocks on the disk and on `out`.
    ///
    /// # Errors
    ///
    /// `out` takes no more, or a blob is damaged: what was written then is no whole archive.
    pub fn write(self, out: impl Write) -> Result<(), ArchiveError> {
        let mut archive = tar::Builder::new(out);
        let written = || ArchiveError::io("write the archive");
        let list = self.list()?;
        append(&mut archive, MANIFEST, list.len() as u64, &list[..]).map_err(written())?;
        let seal = seal(&list);
        append(&mut archive, SEAL, seal.len() as u64, seal.as_bytes()).map_err(written())?;
        let mut opened = self.opened.into_iter();
        for entry in &self.manifest.files {
            let file = match opened.next() {
                Some(file) => file,
                None => File::open(self.blobs.path(&entry.sha256)).map_err(written())?,
            };
            let mut source = Hashing::new(file.take(entry.size));
            append(&mut archive, &entry.path, entry.size, &mut source).map_err(written())?;
            if source.finish() != (entry.size, entry.sha256) {
                return Err(ArchiveError::Altered {
                    path: entry.path.clone(),
                });
            }
        }
        let mut out = archive.into_inner().map_err(written())?;
        out.flush().map_err(written())
    }

    fn list(&self) -> Result<Vec<u8>, ArchiveError> {
        serde_json::to_vec_pretty(&self.manifest)
            .map_err(|error| ArchiveError::io("write the list")(error.into()))
    }
}

/// A tar is made of blocks of this size: one a header, and as many as a file needs.
const BLOCK: u64 = 512;

/// Two blocks of nothing.
const END: u64 = 2 * BLOCK;

/// What `sha256sum` says of the manifest.
fn seal(list: &[u8]) -> String {
    format!("{}  {MANIFEST}\n", Digest::of(list))
}

fn append(
    archive: &mut tar::Builder<impl Write>,
    path: &str,
    size: u64,
    data: impl io::Read,
) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o600);
    header.set_entry_type(tar::EntryType::Regular);
    // Longer paths would take more blocks than `size` counts; ours have less than 100 bytes.
    header.set_path(path)?;
    header.set_cksum();
    archive.append(&header, data)
}

fn digest_of(file: &mut File) -> io::Result<(u64, Digest)> {
    let mut hashing = Hashing::new(file);
    io::copy(&mut hashing, &mut io::sink())?;
    Ok(hashing.finish())
}
