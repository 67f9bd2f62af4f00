//! Zip archives that strangers made.
//!
//! What an archive says of itself is not believed: [`Archive::open`] refuses entries that lead elsewhere, overlap, are
//! there twice or have a form that is not read here, and holds the announced sizes against the limit; reading an entry
//! ends where its announced size ends. So what comes out is never more than was announced, and always below one folder.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{self, Cursor, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use bytes::Bytes;
use zip::{CompressionMethod, ZipArchive, result::ZipError};

/// The most bytes that code and its layers may have unzipped (Lambda quota: 250 MB).
pub const MAX_UNZIPPED: u64 = 262_144_000;

/// The most entries of an archive: what the format could say before it was extended.
const MAX_ENTRIES: usize = 65_535;

/// The longest path of an entry. The system takes 4,096 bytes, with the folder that it is below.
const MAX_PATH: usize = 1024;

/// The longest name of a file or folder (Linux, `NAME_MAX`).
const MAX_NAME: usize = 255;

/// How each entry of a central directory begins (APPNOTE.TXT, 4.3.12).
const CENTRAL_HEADER: &[u8] = b"PK\x01\x02";

/// The kinds of files in a mode (`inode(7)`).
const TYPE: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;
const FOLDER: u32 = 0o040_000;
const LINK: u32 = 0o120_000;

/// Why an archive is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It is none, or is damaged.
    #[error("Could not unzip uploaded file. Please check your file, then try to upload again.")]
    Unreadable(#[source] ZipError),
    /// It would be unpacked to something that nobody wants.
    #[error(
        "Could not unzip uploaded file. Please check your file, then try to upload again. ({0})"
    )]
    Refused(String),
    /// It holds too much.
    #[error("Unzipped size must be smaller than {MAX_UNZIPPED} bytes")]
    TooLarge,
}

impl From<ZipError> for ArchiveError {
    fn from(error: ZipError) -> Self {
        Self::Unreadable(error)
    }
}

impl From<io::Error> for ArchiveError {
    fn from(error: io::Error) -> Self {
        Self::Unreadable(error.into())
    }
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    Folder,
    File {
        index: usize,
        size: u64,
        executable: bool,
    },
    /// A symbolic link, and where it leads.
    Link(String),
}

/// An archive whose entries were looked at.
pub(super) struct Archive {
    bytes: Bytes,
    zip: ZipArchive<Cursor<Bytes>>,
    entries: BTreeMap<String, Entry>,
    unzipped: u64,
}

impl Archive {
    /// Looks at every entry. Nothing but the targets of links is unpacked.
    pub(super) fn open(bytes: Bytes) -> Result<Self, ArchiveError> {
        let refused = |why: &str| Err(ArchiveError::Refused(why.to_owned()));
        // Before a list of them is made, of which each entry takes more memory than it took in the archive.
        let headers = bytes
            .windows(CENTRAL_HEADER.len())
            .filter(|window| *window == CENTRAL_HEADER);
        if headers.take(MAX_ENTRIES + 1).count() > MAX_ENTRIES {
            return refused("it has more than 65,535 entries");
        }
        let mut zip = ZipArchive::new(Cursor::new(bytes.clone()))?;
        if zip.has_duplicate_names() {
            return refused("two entries have the same name");
        }
        let mut entries = BTreeMap::new();
        let mut unzipped = 0_u64;
        for index in 0..zip.len() {
            let (path, entry, size) = look(&mut zip, index)?;
            unzipped = unzipped.saturating_add(size);
            if unzipped > MAX_UNZIPPED {
                return Err(ArchiveError::TooLarge);
            }
            if path.is_empty() {
                continue;
            }
            if entries.contains_key(&path) {
                return Err(ArchiveError::Refused(format!("`{path}` is there twice")));
            }
            entries.insert(path, entry);
        }
        // Entries that share their bytes are how a small archive becomes a large one.
        if zip.has_overlapping_entries()? {
            return refused("its entries overlap");
        }
        for (path, entry) in &entries {
            check_parents(path, &entries)?;
            if let Entry::Link(target) = entry {
                check_target(path, target)?;
            }
        }
        Ok(Self {
            bytes,
            zip,
            entries,
            unzipped,
        })
    }

    /// The archive itself.
    pub(super) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The bytes of all entries, unpacked.
    pub(super) fn unzipped(&self) -> u64 {
        self.unzipped
    }

    /// Each path with what is there, in their order.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries
            .iter()
            .map(|(path, entry)| (path.as_str(), entry))
    }

    /// Whether the file at `path` begins with `prefix`.
    pub(super) fn begins(&mut self, path: &str, prefix: &[u8]) -> Result<bool, ArchiveError> {
        let Some(Entry::File { index, .. }) = self.entries.get(path) else {
            return Ok(false);
        };
        let mut begin = Vec::with_capacity(prefix.len());
        let file = self.zip.by_index(*index)?;
        file.take(prefix.len() as u64).read_to_end(&mut begin)?;
        Ok(begin == prefix)
    }

    /// The file at `path`, unpacked into memory.
    pub(super) fn read(&mut self, path: &str) -> Result<Bytes, ArchiveError> {
        let Some(Entry::File { index, size, .. }) = self.entries.get(path) else {
            return Err(ArchiveError::Refused(format!("`{path}` is no file")));
        };
        let (index, size) = (*index, *size);
        let mut bytes = Vec::new();
        self.copy(index, size, path, &mut bytes)?;
        Ok(bytes.into())
    }

    /// Unpacks what `wanted` says into a folder that is there and empty. What is written is for its owner to read.
    pub(super) fn unpack(
        &mut self,
        folder: &Path,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<(), UnpackError> {
        let entries = std::mem::take(&mut self.entries);
        let unpacked = self.unpack_entries(&entries, folder, wanted);
        self.entries = entries;
        unpacked
    }

    fn unpack_entries(
        &mut self,
        entries: &BTreeMap<String, Entry>,
        folder: &Path,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<(), UnpackError> {
        let mut links = Vec::new();
        for (path, entry) in entries.iter().filter(|(path, _)| wanted(path)) {
            let place = folder.join(path);
            if let Some(parent) = place.parent() {
                fs::create_dir_all(parent)?;
            }
            match entry {
                Entry::Folder => fs::create_dir_all(&place)?,
                Entry::File {
                    index,
                    size,
                    executable,
                } => {
                    let mut file = OpenOptions::new()
                        .write(true)
                        .create_new(true)
                        .mode(if *executable { 0o500 } else { 0o400 })
                        .open(&place)?;
                    self.copy(*index, *size, path, &mut file)?;
                }
                Entry::Link(target) => links.push((place, target)),
            }
        }
        // Last: so nothing was written through one.
        for (place, target) in links {
            std::os::unix::fs::symlink(target, place)?;
        }
        Ok(())
    }

    fn copy<W: io::Write>(
        &mut self,
        index: usize,
        size: u64,
        path: &str,
        to: &mut W,
    ) -> Result<(), CopyError> {
        let file = self.zip.by_index(index).map_err(ArchiveError::from)?;
        // One byte more than was announced tells whether there is more. At the end the checksum is compared.
        let mut file = file.take(size + 1);
        let mut buffer = vec![0; 64 << 10];
        let mut copied = 0;
        loop {
            let read = file.read(&mut buffer).map_err(ArchiveError::from)?;
            copied += read as u64;
            if read == 0 && copied == size {
                return Ok(());
            }
            if read == 0 || copied > size {
                let why = format!("`{path}` has another size than it says");
                return Err(ArchiveError::Refused(why).into());
            }
            to.write_all(&buffer[..read]).map_err(CopyError::Write)?;
        }
    }
}

/// Why an archive was not unpacked.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnpackError {
    /// It is the archive's fault.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// It is the disk's.
    #[error(transparent)]
    Disk(#[from] io::Error),
}

impl From<CopyError> for UnpackError {
    fn from(error: CopyError) -> Self {
        match error {
            CopyError::Archive(error) => Self::Archive(error),
            CopyError::Write(error) => Self::Disk(error),
        }
    }
}

enum CopyError {
    Archive(ArchiveError),
    Write(io::Error),
}

impl From<ArchiveError> for CopyError {
    fn from(error: ArchiveError) -> Self {
        Self::Archive(error)
    }
}

impl From<CopyError> for ArchiveError {
    fn from(error: CopyError) -> Self {
        match error {
            CopyError::Archive(error) => error,
            CopyError::Write(error) => error.into(),
        }
    }
}

/// The path, the kind and the announced size of an entry.
fn look(
    zip: &mut ZipArchive<Cursor<Bytes>>,
    index: usize,
) -> Result<(String, Entry, u64), ArchiveError> {
    let entry = zip.by_index_data(index)?;
    let name = entry.name()?.into_owned();
    let refused = |why: &str| Err(ArchiveError::Refused(format!("`{name}` {why}")));
    if entry.encrypted() {
        return refused("is encrypted");
    }
    if !matches!(
        entry.compression(),
        CompressionMethod::Stored | CompressionMethod::Deflated
    ) {
        return refused("is neither stored nor deflated");
    }
    let path = path(&name)?;
    let (size, mode) = (entry.size(), entry.unix_mode().unwrap_or(0));
    let kind = match mode & TYPE {
        _ if entry.is_dir() => Entry::Folder,
        LINK => Entry::Link(target(zip, index)?),
        FOLDER => Entry::Folder,
        0 | REGULAR => Entry::File {
            index,
            size,
            executable: mode & 0o111 != 0,
        },
        _ => return refused("is neither a file nor a folder nor a link"),
    };
    Ok((path, kind, size))
}

/// Where a link leads.
fn target(zip: &mut ZipArchive<Cursor<Bytes>>, index: usize) -> Result<String, ArchiveError> {
    let mut bytes = Vec::new();
    let file = zip.by_index(index)?;
    file.take(MAX_PATH as u64 + 1).read_to_end(&mut bytes)?;
    match String::from_utf8(bytes) {
        Ok(target) if target.len() <= MAX_PATH => Ok(target),
        _ => Err(ArchiveError::Refused("the target of a link".to_owned())),
    }
}

/// The path that an entry's name stands for; empty for the archive itself.
fn path(name: &str) -> Result<String, ArchiveError> {
    let refused = |why: &str| {
        let name: String = name.chars().take(200).collect();
        Err(ArchiveError::Refused(format!(
            "the path {name:?} of an entry {why}"
        )))
    };
    if name.starts_with('/') {
        return refused("is absolute");
    }
    if name.contains(['\\', '\0']) {
        return refused("has a backslash or a zero");
    }
    if name.len() > MAX_PATH {
        return refused("is too long");
    }
    let mut path = String::with_capacity(name.len());
    for part in name.trim_end_matches('/').split('/') {
        match part {
            "." => continue,
            "" if name.trim_end_matches('/').is_empty() => continue,
            ".." => return refused("leads out of the archive"),
            "" => return refused("has an empty part"),
            _ if part.len() > MAX_NAME => return refused("has a part that is too long"),
            _ => {}
        }
        if !path.is_empty() {
            path.push('/');
        }
        path.push_str(part);
    }
    Ok(path)
}

/// Whether what an entry is below are folders, as far as the archive says.
fn check_parents(path: &str, entries: &BTreeMap<String, Entry>) -> Result<(), ArchiveError> {
    let mut parent = path;
    while let Some((above, _)) = parent.rsplit_once('/') {
        parent = above;
        if entries
            .get(parent)
            .is_some_and(|entry| *entry != Entry::Folder)
        {
            return Err(ArchiveError::Refused(format!(
                "`{path}` is below `{parent}`, which is no folder"
            )));
        }
    }
    Ok(())
}

/// Whether a link leads nowhere but below the folder that the archive is unpacked to.
///
/// It may go up only at its beginning. A link itself lies in folders and never below a link, so going up from it as often
/// as it has folders above leads to the top at most; and going down again meets folders, files, or links that do the
/// same. That holds too where several archives are laid over each other, because each link stays as deep as it was.
fn check_target(path: &str, target: &str) -> Result<(), ArchiveError> {
    let mut depth = path.split('/').count() - 1;
    let mut down = false;
    let inside = !target.is_empty()
        && !target.starts_with('/')
        && !target.contains('\0')
        && target.split('/').all(|part| match part {
            ".." if down || depth == 0 => false,
            ".." => {
                depth -= 1;
                true
            }
            "" | "." => true,
            _ => {
                down = true;
                true
            }
        });
    if inside {
        Ok(())
    } else {
        Err(ArchiveError::Refused(format!(
            "the link `{path}` may lead outside"
        )))
    }
}
