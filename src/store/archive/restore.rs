//! From an archive to a folder that a node can be started on.

use std::{
    cell::Cell,
    collections::HashSet,
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    rc::Rc,
};

use super::{
    ArchiveError, CREDENTIALS, FORMAT, Hashing, MANIFEST, MAX_MANIFEST, Manifest, SEAL, place,
};
use crate::{
    model::Digest,
    store::{
        DataFolder, Error, KEY_FILE,
        folder::{self, LOCK, RESTORING},
        secret, sqlite,
    },
};

/// How the folder gets the key that the archive's secrets are sealed with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Key {
    /// From the archive, if it is in it; else somebody has to put it there.
    #[default]
    Archived,
    /// From this file.
    File(PathBuf),
    /// Not at all: what is sealed is forgotten, and the node makes itself another key.
    Forgotten,
}

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// What was in the archive.
    pub manifest: Manifest,
    /// Whether the folder has the key that its secrets are sealed with, or needs none.
    pub has_key: bool,
}

/// Reads an archive to its end, and says what is in it.
///
/// # Errors
///
/// It is not whole, or not one that this program can restore.
pub fn verify(archive: impl Read) -> Result<Manifest, ArchiveError> {
    read(archive, |_, content| {
        io::copy(content, &mut io::sink()).map_err(cut_off)?;
        Ok(())
    })
}

/// Restores an archive into a folder that is empty or not there yet. Blocks on the disk.
///
/// # Errors
///
/// The archive is not whole, or not one that this program can restore; the key is not its key; the folder is not empty.
/// The folder is then as it was.
pub fn restore(archive: impl Read, data: &Path, key: &Key) -> Result<Restored, ArchiveError> {
    let made = !data.exists();
    if !made && !is_empty(data).map_err(ArchiveError::io("look into the folder"))? {
        return Err(ArchiveError::NotEmpty {
            folder: data.to_owned(),
        });
    }
    let staging = data.join(RESTORING);
    // What a restore left that was killed.
    remove(&staging)?;
    let locked = DataFolder::open(data)?;
    let restored = folder::create(&staging)
        .map_err(ArchiveError::io("make a folder"))
        .and_then(|()| unpack(archive, &staging, key))
        .and_then(|restored| {
            put_in_place(&staging, data).map_err(ArchiveError::io("move what was restored"))?;
            Ok(restored)
        });
    if restored.is_err() {
        // What was moved before a move failed was not here before. What cannot be removed cannot be helped.
        let ours = [RESTORING, LOCK, sqlite::FILE, KEY_FILE, "blobs"];
        for name in ours.iter().chain(CREDENTIALS) {
            let _ = remove(&data.join(name));
        }
        drop(locked);
        if made {
            let _ = fs::remove_dir(data);
        }
    }
    restored
}

fn unpack(archive: impl Read, staging: &Path, key: &Key) -> Result<Restored, ArchiveError> {
    let manifest = read(archive, |path, content| {
        let to = staging.join(path);
        let write = || ArchiveError::io(format!("write `{path}`"));
        if let Some(parent) = to.parent() {
            folder::create(parent).map_err(write())?;
        }
        let mut options = File::options();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&to)
            .map_err(write())?;
        let mut buffer = vec![0; 64 << 10];
        loop {
            match content.read(&mut buffer).map_err(cut_off)? {
                0 => return Ok(()),
                read => file.write_all(&buffer[..read]).map_err(write())?,
            }
        }
    })?;
    let database = staging.join(sqlite::FILE);
    let contents = sqlite::contents(&database)?;
    let there: HashSet<Digest> = manifest
        .files
        .iter()
        .filter_map(|file| place(&file.path).flatten())
        .collect();
    if let Some(digest) = contents.blobs.difference(&there).next() {
        return Err(ArchiveError::Missing { digest: *digest });
    }
    if let Key::File(file) = key {
        let given = secret::read(file).and_then(|key| key.ok_or(secret::KeyError::Missing));
        let given = given.map_err(|error| Error::key(file.clone(), error))?;
        // The file that was archived, if one was, is the same or not the right one.
        remove(&staging.join(KEY_FILE))?;
        secret::write(staging, &given).map_err(ArchiveError::io("write the key"))?;
    }
    let has_key = match key {
        Key::Forgotten => {
            remove(&staging.join(KEY_FILE))?;
            sqlite::forget_secrets(&database)?;
            true
        }
        Key::Archived | Key::File(_) => secret::check(staging, contents.key.as_deref())?,
    };
    // All files at once: thousands of them synced one after another take minutes.
    sync_all(staging).map_err(ArchiveError::io("write what was restored to disk"))?;
    Ok(Restored { manifest, has_key })
}

/// Gives what was unpacked its place, the database last: without it there is no node.
fn put_in_place(staging: &Path, data: &Path) -> io::Result<()> {
    let mut names: Vec<_> = fs::read_dir(staging)?
        .map(|entry| Ok(entry?.file_name()))
        .collect::<io::Result<_>>()?;
    names.sort_by_key(|name| name == sqlite::FILE);
    for name in names {
        fs::rename(staging.join(&name), data.join(&name))?;
    }
    folder::sync(data)?;
    fs::remove_dir(staging)?;
    folder::sync(data)
}

fn sync_all(folder: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(File::open(folder)?)?)
}

/// Whether there is nothing in a folder but what a restore leaves that was killed.
fn is_empty(folder: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        if name != RESTORING && name != LOCK {
            return Ok(false);
        }
    }
    Ok(true)
}

fn remove(path: &Path) -> Result<(), ArchiveError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(ArchiveError::io(format!(
            "remove `{}`",
            path.display()
        ))(error)),
        _ => Ok(()),
    }
}

/// Goes through an archive. `take` gets each file with its path, which has a place in a data folder; what it does counts
/// only if all of the archive turns out to be good.
fn read(
    archive: impl Read,
    mut take: impl FnMut(&str, &mut dyn Read) -> Result<(), ArchiveError>,
) -> Result<Manifest, ArchiveError> {
    let ended = Rc::new(Cell::new(false));
    let mut archive = tar::Archive::new(Watched {
        inner: archive,
        ended: Rc::clone(&ended),
    });
    // What is wrong with a header tells little: whether there was more to read tells what happened.
    let header = |error: io::Error| match error.kind() {
        _ if ended.get() => ArchiveError::Truncated,
        io::ErrorKind::Other | io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
            ArchiveError::Altered {
                path: "a header".to_owned(),
            }
        }
        _ => ArchiveError::io("read the archive")(error),
    };
    let mut entries = archive.entries().map_err(header)?;
    let list = match entries.next() {
        Some(Ok(mut entry)) if is_file(&entry, MANIFEST) => contents(&mut entry, MAX_MANIFEST)?,
        Some(_) | None => return Err(ArchiveError::Foreign),
    };
    let manifest = parse(&list)?;
    let mut wanted = manifest.files.iter();
    let mut sealed = false;
    for entry in entries {
        let mut entry = entry.map_err(header)?;
        if !sealed {
            let seal = format!("{}  {MANIFEST}\n", Digest::of(&list));
            if !is_file(&entry, SEAL) || contents(&mut entry, 1024)? != seal.as_bytes() {
                return Err(ArchiveError::Altered {
                    path: MANIFEST.to_owned(),
                });
            }
            sealed = true;
            continue;
        }
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let unexpected = || ArchiveError::Unexpected { path: path.clone() };
        let file = wanted.next().ok_or_else(unexpected)?;
        if !is_file(&entry, &file.path) || entry.size() != file.size {
            return Err(unexpected());
        }
        let promised = place(&file.path).ok_or_else(unexpected)?;
        let mut content = Hashing::new(&mut entry);
        take(&file.path, &mut content)?;
        let read = content.finish();
        if read.0 < file.size {
            return Err(ArchiveError::Truncated);
        }
        if read != (file.size, file.sha256) || promised.is_some_and(|digest| digest != read.1) {
            return Err(ArchiveError::Altered { path });
        }
    }
    if !sealed || wanted.next().is_some() {
        return Err(ArchiveError::Truncated);
    }
    Ok(manifest)
}

fn parse(list: &[u8]) -> Result<Manifest, ArchiveError> {
    #[derive(serde::Deserialize)]
    struct Format {
        wharf_backup: u32,
    }
    // The format first: what else is in a newer one is not known here.
    let Format { wharf_backup } =
        serde_json::from_slice(list).map_err(|_| ArchiveError::Foreign)?;
    if wharf_backup > FORMAT {
        return Err(ArchiveError::Newer {
            found: wharf_backup,
            known: FORMAT,
        });
    }
    let altered = || ArchiveError::Altered {
        path: MANIFEST.to_owned(),
    };
    let manifest: Manifest = serde_json::from_slice(list).map_err(|_| altered())?;
    let mut paths = HashSet::new();
    match manifest.files.iter().all(|file| paths.insert(&file.path)) {
        true if paths.contains(&sqlite::FILE.to_owned()) => Ok(manifest),
        _ => Err(altered()),
    }
}

fn is_file<R: Read>(entry: &tar::Entry<'_, R>, path: &str) -> bool {
    entry.header().entry_type() == tar::EntryType::Regular
        && *entry.path_bytes() == *path.as_bytes()
}

/// The whole of a small file.
fn contents<R: Read>(entry: &mut tar::Entry<'_, R>, limit: u64) -> Result<Vec<u8>, ArchiveError> {
    let size = entry.size();
    if size > limit {
        return Err(ArchiveError::Unexpected {
            path: String::from_utf8_lossy(&entry.path_bytes()).into_owned(),
        });
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes).map_err(cut_off)?;
    match bytes.len() as u64 == size {
        true => Ok(bytes),
        false => Err(ArchiveError::Truncated),
    }
}

/// Says whether it was read to its end.
struct Watched<R> {
    inner: R,
    ended: Rc<Cell<bool>>,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        if read == 0 && !buffer.is_empty() {
            self.ended.set(true);
        }
        Ok(read)
    }
}

/// Why the content of a file could not be read.
fn cut_off(error: io::Error) -> ArchiveError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => ArchiveError::Truncated,
        _ => ArchiveError::io("read the archive")(error),
    }
}
