//! The source of an app, as far as a change of it matters.
//!
//! Whether to build again is decided by what stands in the files, not by what the operating system says of them: a build
//! touches files of its own, editors write in several steps, and an event may come late or not at all.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Folders whose changes are never the source's.
const IGNORED: [&str; 5] = ["target", "node_modules", ".git", ".wharf", "__pycache__"];

/// The files of an app's source at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Source(BTreeMap<PathBuf, blake3::Hash>);

impl Source {
    /// Reads what is in `folders` and below. What cannot be read is not there.
    pub(super) fn read(folders: &BTreeSet<PathBuf>) -> Self {
        let mut source = Self::default();
        for folder in folders {
            for folder in with_folders_below(folder) {
                source.read_folder(&folder);
            }
        }
        source
    }

    fn read_folder(&mut self, folder: &Path) {
        let Ok(entries) = fs::read_dir(folder) else {
            return;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            if is_source(&path)
                && path.is_file()
                && let Ok(bytes) = fs::read(&path)
            {
                self.0.insert(path, blake3::hash(&bytes));
            }
        }
    }

    /// Takes in the files that are new in `now`.
    pub(super) fn adopt(&mut self, now: &Self) {
        for (path, hash) in &now.0 {
            self.0.entry(path.clone()).or_insert(*hash);
        }
    }

    /// The files that are new, different or gone in `now`.
    pub(super) fn changes(&self, now: &Self) -> BTreeSet<PathBuf> {
        let paths = self.0.keys().chain(now.0.keys());
        paths
            .filter(|path| self.0.get(*path) != now.0.get(*path))
            .cloned()
            .collect()
    }
}

/// A folder and all below it that can hold source.
pub(super) fn with_folders_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![folder.to_owned()];
    let mut next = 0;
    while let Some(folder) = found.get(next) {
        next += 1;
        let Ok(entries) = fs::read_dir(folder) else {
            continue;
        };
        let below: Vec<PathBuf> = entries
            .flatten()
            // A link's folder is another's, and may be above this one.
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.path())
            .filter(|path| !IGNORED.contains(&name(path)))
            .collect();
        found.extend(below);
    }
    found
}

/// Whether a file is source, by its name: not an editor's own, not a lock file, not what builds make.
pub(super) fn is_source(path: &Path) -> bool {
    let name = name(path);
    !(name.starts_with('.')
        || name.ends_with('~')
        || name.ends_with(".wasm")
        || name == "Cargo.lock"
        || IGNORED.contains(&name))
}

fn name(path: &Path) -> &str {
    path.file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_in_source_files_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            path
        };
        let folders = BTreeSet::from([folder.path().to_owned()]);
        let source = write("src/lib.rs", "one");
        let gone = write("src/deep/er.rs", "one");
        let before = Source::read(&folders);
        for same in [
            "src/lib.rs",
            "target/x",
            ".git/x",
            "a.wasm",
            "Cargo.lock",
            ".x.swp",
            "x~",
        ] {
            write(same, "one");
        }
        assert_eq!(before.changes(&Source::read(&folders)), BTreeSet::new());
        write("src/lib.rs", "two");
        fs::remove_file(&gone).unwrap();
        let new = write("src/deep/new.rs", "");
        let mut now = before.clone();
        now.adopt(&Source::read(&folders));
        assert_eq!(before.changes(&now), BTreeSet::from([new.clone()]));
        let changes = before.changes(&Source::read(&folders));
        assert_eq!(changes, BTreeSet::from([source, gone, new]));
    }
}
