//! The folder of a group: how it is called, and what is set of the group.
//!
//! The group `/aws/lambda/NAME` has the folder `NAME`; any other has its own name with `+` for `/`, behind an `@`, so that no
//! two are the same. A name that no folder can have is cut, and told apart by a digest. What is set of a group (retention,
//! tags, streams without events) stands in `group.json` there, and is replaced as a whole. Without that file, or with one
//! that does not read, the group is as if nothing had been set.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    path::Path,
};

use serde::{Deserialize, Serialize};

use super::now_ms;
use crate::model::LogGroupName;

const META_FILE: &str = "group.json";

/// The longest name of a folder. Every file system takes 255.
const MAX_FOLDER: usize = 240;

/// What a folder is called while it is being deleted.
pub(super) const DELETED: &str = ".deleted-";

/// What is set of a group.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Meta {
    /// The group's name, which its folder does not always tell.
    pub(super) name: Option<LogGroupName>,
    pub(super) created_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) retention_days: Option<u32>,
    /// Whether somebody made it, and it is not only there because a function wrote.
    pub(super) made: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) tags: BTreeMap<String, String>,
    /// Streams that somebody made, and when.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) streams: BTreeMap<String, u64>,
    /// Streams that were deleted, up to which segment and where in it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) deleted: BTreeMap<String, (u64, u64)>,
}

impl Meta {
    pub(super) fn new(name: &LogGroupName) -> Self {
        Self {
            name: Some(name.clone()),
            created_ms: now_ms(),
            ..Self::default()
        }
    }

    /// What is set of the group in `folder`, and its name. None if that cannot be known.
    pub(super) fn read(folder: &Path) -> Option<(LogGroupName, Self)> {
        let file = fs::read(folder.join(META_FILE));
        let meta = match &file {
            Ok(text) => serde_json::from_slice(text).unwrap_or_else(|error| {
                tracing::warn!(folder = %folder.display(), %error, "what is set of a log group is lost");
                Self::default()
            }),
            Err(_) => Self::default(),
        };
        let called = folder.file_name()?.to_str()?;
        let name = name_of(called).or_else(|| {
            let name = meta.name.clone()?;
            (folder_of(&name) == called).then_some(name)
        })?;
        Some((name, meta))
    }

    /// Writes it to the folder, which is made if it is missing. After a crash there is this or what was there before;
    /// `durable` makes sure that it is this.
    pub(super) fn write(&self, folder: &Path, durable: bool) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        serde_json::to_writer(&mut file, self)?;
        file.flush()?;
        if durable {
            file.as_file().sync_all()?;
        }
        file.persist(folder.join(META_FILE))
            .map_err(|error| error.error)?;
        Ok(())
    }

    /// Whether nobody set anything: then the group may go with its last line.
    pub(super) fn is_bare(&self) -> bool {
        !self.made
            && self.retention_days.is_none()
            && self.tags.is_empty()
            && self.streams.is_empty()
    }

    /// Whether what stands there was in a stream when that was deleted.
    pub(super) fn is_deleted(&self, stream: &str, segment: u64, offset: u64) -> bool {
        self.deleted
            .get(stream)
            .is_some_and(|end| (segment, offset) < *end)
    }
}

/// The folder of a group.
pub(super) fn folder_of(name: &LogGroupName) -> String {
    if let Some(function) = name.function() {
        return function.as_str().to_owned();
    }
    let mut folder = format!("@{}", name.as_str().replace('/', "+"));
    if folder.len() > MAX_FOLDER {
        let digest = blake3::hash(name.as_str().as_bytes()).to_hex();
        folder.truncate(MAX_FOLDER - 33);
        folder.push('~');
        folder.push_str(&digest[..32]);
    }
    folder
}

/// The group of a folder whose name tells it.
fn name_of(folder: &str) -> Option<LogGroupName> {
    match folder.strip_prefix('@') {
        Some(name) if !name.contains('~') => {
            let name: LogGroupName = name.replace('+', "/").parse().ok()?;
            (folder_of(&name) == folder).then_some(name)
        }
        Some(_) => None,
        None => folder
            .parse()
            .ok()
            .map(|name| LogGroupName::of_function(&name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_has_a_folder_of_its_own_that_tells_its_name() {
        let long = "/".repeat(512);
        let names = [
            "/aws/lambda/hello",
            "hello",
            "/hello",
            "aws/lambda/hello",
            "/aws/lambda/a.b",
            "/aws/lambda/",
            ".",
            "..",
            "a/../b",
            &long,
            &long[1..],
        ];
        let mut folders = std::collections::HashSet::new();
        for name in names {
            let name: LogGroupName = name.parse().unwrap();
            let folder = folder_of(&name);
            assert!(
                folder.len() <= MAX_FOLDER && !folder.contains('/'),
                "{folder}"
            );
            assert!(folder != "." && folder != "..");
            if name.as_str().len() < 200 {
                assert_eq!(name_of(&folder).as_ref(), Some(&name));
            }
            assert!(folders.insert(folder), "{name}");
        }
    }

    #[test]
    fn what_is_set_survives_and_garbage_does_no_harm() {
        let root = tempfile::tempdir().unwrap();
        for name in ["/app/x".to_owned(), "y".repeat(500)] {
            let name: LogGroupName = name.parse().unwrap();
            let folder = root.path().join(folder_of(&name));
            let mut meta = Meta::new(&name);
            meta.retention_days = Some(3);
            meta.write(&folder, true).unwrap();
            assert_eq!(Meta::read(&folder), Some((name, meta)));
        }
        let folder = root.path().join("@+app+x");
        fs::write(folder.join(META_FILE), "{\"retention_days\":").unwrap();
        let (name, meta) = Meta::read(&folder).unwrap();
        assert_eq!((name.as_str(), meta), ("/app/x", Meta::default()));
        assert_eq!(Meta::read(&root.path().join("@a~b")), None);
        assert_eq!(Meta::read(&root.path().join(".deleted-x")), None);
    }
}
