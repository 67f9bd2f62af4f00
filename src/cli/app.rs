//! The app a verb is about: its manifest, found and read.

use std::{
    io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

use crate::model::Manifest;

/// The name of a manifest.
pub(crate) const MANIFEST: &str = "wharf.toml";

/// The manifest at `path`: a folder that has a `wharf.toml`, or such a file by any name.
pub(crate) async fn load(path: &Path) -> anyhow::Result<Manifest> {
    let path = manifest_path(path);
    let text = match tokio::fs::read_to_string(&path).await {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => bail!(
            "there is no {}: name the folder of an app, or make one with `wharf new`",
            path.display()
        ),
        Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
    };
    let absolute = std::path::absolute(&path).context("find the current folder")?;
    let folder = absolute.parent().unwrap_or(&absolute);
    Ok(Manifest::parse(&text, &path, folder)?)
}

/// The manifest's own path, for a path to it or to its folder.
pub(crate) fn manifest_path(path: &Path) -> PathBuf {
    if !path.is_dir() {
        path.to_owned()
    } else if path == Path::new(".") {
        MANIFEST.into()
    } else {
        path.join(MANIFEST)
    }
}
