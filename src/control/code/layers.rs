//! Layers: files that functions share under `/opt`, and components that give them what they import.
//!
//! A layer is unpacked once, when it is published, and laid over others once, when a function is deployed with that list
//! of layers. An invocation finds a folder that is there. Layers are named by the digest of their zip here; which name and
//! version that is for users, and who may use it, is not known in this file.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    CodeError,
    archive::{Archive, ArchiveError, MAX_UNZIPPED, UnpackError},
    package::{self, Package, PackageError},
};
use crate::{
    model::{Digest, FileGrant},
    runtime::Runtime,
    store::{self, Blobs, Folders},
};

/// The most layers of a function (Lambda quota).
pub const MAX_LAYERS: usize = 5;

/// The most components of a layer.
const MAX_COMPONENTS: usize = 50;

/// Where a function sees the files of its layers.
const OPT: &str = "/opt";
/// Where it sees those of its package (Lambda: `LAMBDA_TASK_ROOT`).
const TASK: &str = "/var/task";

/// What is in the folder of a layer: what is known of it, and its files.
const CONTENT: &str = "layer.json";
const FILES: &str = "files";

/// What a layer holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerContent {
    /// The SHA-256 of its zip: its name here, and the digest of the blob with the zip.
    pub digest: Digest,
    /// The bytes of the zip.
    pub size: u64,
    /// The bytes of its files.
    pub unzipped: u64,
    /// The paths of its components.
    pub components: Vec<String>,
}

/// A function's component and its layers, ready to be compiled and mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// The component to compile, among the blobs. It is the package's own where no layer has a part in it.
    pub code: Digest,
    /// Its bytes.
    pub code_size: u64,
    /// The folder for `/opt`, if there are layers.
    pub opt: Option<Digest>,
    /// The folder for `/var/task`, if the package holds more than its component.
    pub task: Option<Digest>,
}

/// The layers of a node. Cheap to clone.
#[derive(Clone)]
pub struct Layers {
    folders: Folders,
    blobs: Arc<Blobs>,
    runtime: Runtime,
}

impl Layers {
    /// Those in `folders`, whose zips are in `blobs`, linked by `runtime`.
    pub fn new(folders: Folders, blobs: Arc<Blobs>, runtime: Runtime) -> Self {
        Self {
            folders,
            blobs,
            runtime,
        }
    }

    /// Takes a layer: keeps its zip and unpacks it. When this returns, both are on disk. To publish the same again costs
    /// reading it.
    ///
    /// # Errors
    ///
    /// The archive is not taken, or the disk fails.
    pub async fn publish(&self, zip: Bytes) -> Result<LayerContent, CodeError> {
        let folders = self.folders.clone();
        let bytes = zip.clone();
        let (content, archive) = blocking(move || {
            let digest = Digest::of(&bytes);
            match content(&folders, &digest)? {
                Some(content) => Ok((content, None)),
                None => open(digest, bytes).map(|(content, archive)| (content, Some(archive))),
            }
        })
        .await?;
        // Before the folder, which says that all of it is here.
        if archive.is_some() || !self.blobs.contains(&content.digest).await? {
            self.blobs.put(zip).await?;
        }
        let Some(mut archive) = archive else {
            return Ok(content);
        };
        let folders = self.folders.clone();
        blocking(move || {
            folders.make(&content.digest, |folder| {
                unpack(&mut archive, folder, |_| true)?;
                let json = serde_json::to_vec(&content).map_err(std::io::Error::from);
                json.and_then(|json| fs::write(folder.join(CONTENT), json))
                    .map_err(disk)
            })?;
            Ok(content)
        })
        .await
    }

    /// What a published layer holds, or none if it is not here. Where only its zip is left, it is unpacked again.
    ///
    /// # Errors
    ///
    /// The disk fails.
    pub async fn find(&self, layer: Digest) -> Result<Option<LayerContent>, CodeError> {
        let folders = self.folders.clone();
        if let Some(content) = blocking(move || content(&folders, &layer)).await? {
            return Ok(Some(content));
        }
        match self.blobs.read(&layer).await? {
            Some(zip) => self.publish(zip).await.map(Some),
            None => Ok(None),
        }
    }

    /// Puts a function's component among the blobs, linked with the components of its layers, and its files and theirs
    /// into folders. `layers` are in the function's order: later ones go before earlier ones. What is unchanged is there
    /// already and costs little.
    ///
    /// # Errors
    ///
    /// There are too many layers or they are too large together, one is not here, they do not fit the function, or the
    /// disk fails.
    pub async fn prepare(
        &self,
        package: Package,
        layers: &[Digest],
    ) -> Result<Prepared, CodeError> {
        if layers.len() > MAX_LAYERS {
            return Err(CodeError::Invalid(format!(
                "Cannot reference more than {MAX_LAYERS} layers."
            )));
        }
        let contents = self.contents(layers).await?;
        let actual = contents.iter().map(|content| content.unzipped);
        let actual = package.unzipped + actual.sum::<u64>();
        if actual > MAX_UNZIPPED {
            return Err(CodeError::TooLargeTogether { actual });
        }
        let Package {
            component, rest, ..
        } = package;
        let (code, code_size) = self.link(component, &contents).await?;
        let (opt, task) = self.unpack(rest, layers).await?;
        Ok(Prepared {
            code,
            code_size,
            opt,
            task,
        })
    }

    /// The folders for `/opt` and `/var/task`.
    async fn unpack(
        &self,
        rest: Option<(Archive, String)>,
        layers: &[Digest],
    ) -> Result<(Option<Digest>, Option<Digest>), CodeError> {
        let (folders, layers) = (self.folders.clone(), layers.to_vec());
        blocking(move || {
            let task = rest
                .map(|(archive, component)| task(&folders, archive, &component))
                .transpose()?;
            Ok((merge(&folders, &layers)?, task))
        })
        .await
    }

    /// Makes the folders of a function again, as [`prepare`](Self::prepare) did, out of what is among the blobs.
    ///
    /// # Errors
    ///
    /// Something is not there, or the disk fails.
    pub async fn mend(
        &self,
        package: Digest,
        handler: Option<String>,
        layers: &[Digest],
    ) -> Result<(), CodeError> {
        let bytes = self.blobs.read(&package).await?.ok_or_else(|| {
            CodeError::Invalid(format!("The package {package} is not on this node"))
        })?;
        self.contents(layers).await?;
        let package = blocking(move || Ok(Package::open(bytes, handler.as_deref())?)).await?;
        self.unpack(package.rest, layers).await?;
        Ok(())
    }

    /// Whether a folder is there. Asks the disk.
    pub fn is_here(&self, folder: &Digest) -> bool {
        self.folders.contains(folder)
    }

    async fn contents(&self, layers: &[Digest]) -> Result<Vec<LayerContent>, CodeError> {
        let mut contents = Vec::with_capacity(layers.len());
        for layer in layers {
            contents.push(self.find(*layer).await?.ok_or_else(|| {
                CodeError::Invalid(format!("The layer {layer} is not on this node"))
            })?);
        }
        Ok(contents)
    }

    /// The component to compile, and its size.
    async fn link(
        &self,
        component: Bytes,
        layers: &[LayerContent],
    ) -> Result<(Digest, u64), CodeError> {
        let parts = layers.iter().flat_map(|layer| {
            let files = self.folders.path(&layer.digest).join(FILES);
            let part = move |path: &String| (format!("the layer's `{path}`"), files.join(path));
            layer.components.iter().map(part)
        });
        let parts: Vec<(String, PathBuf)> = parts.collect();
        if !parts.is_empty() {
            let scratch = self.folders.scratch()?;
            let (function, output) = (scratch.path().join("function"), scratch.path().join("out"));
            let failed = |error| disk_at(scratch.path(), error);
            tokio::fs::write(&function, &component)
                .await
                .map_err(failed)?;
            if self.runtime.link(&function, &parts, &output).await? {
                let linked = Bytes::from(tokio::fs::read(&output).await.map_err(failed)?);
                let size = linked.len() as u64;
                return Ok((self.blobs.put(linked).await?, size));
            }
        }
        let (code, size) = (Digest::of(&component), component.len() as u64);
        if !self.blobs.contains(&code).await? {
            self.blobs.put(component).await?;
        }
        Ok((code, size))
    }

    /// What lets a function see the folders that [`prepare`](Self::prepare) named.
    pub fn grants(&self, opt: Option<&Digest>, task: Option<&Digest>) -> Vec<FileGrant> {
        let grant = |(digest, mount): (&Digest, &str)| FileGrant {
            source: self.folders.path(digest).join(FILES),
            mount: mount.to_owned(),
            writable: false,
        };
        let opt = opt.map(|digest| (digest, OPT));
        let task = task.map(|digest| (digest, TASK));
        opt.into_iter().chain(task).map(grant).collect()
    }

    /// Removes the folders that are not in `used` and were made or asked for the last time before `before`. All of them
    /// can be made again from the blobs.
    ///
    /// # Errors
    ///
    /// The disk fails.
    pub async fn sweep(
        &self,
        used: HashSet<Digest>,
        before: SystemTime,
    ) -> Result<(), store::Error> {
        let folders = self.folders.clone();
        let swept = tokio::task::spawn_blocking(move || folders.sweep(&used, before)).await;
        swept.map_err(|_| store::Error::Closed)?
    }
}

/// A layer that is not here yet.
fn open(digest: Digest, zip: Bytes) -> Result<(LayerContent, Archive), CodeError> {
    let size = zip.len() as u64;
    let mut archive = Archive::open(zip)?;
    if archive.entries().next().is_none() {
        return Err(PackageError::Empty.into());
    }
    let components = package::components(&mut archive)?.components;
    if components.len() > MAX_COMPONENTS {
        return Err(CodeError::Invalid(format!(
            "A layer may hold at most {MAX_COMPONENTS} WebAssembly components, and this one holds {}",
            components.len()
        )));
    }
    let content = LayerContent {
        digest,
        size,
        unzipped: archive.unzipped(),
        components,
    };
    Ok((content, archive))
}

fn content(folders: &Folders, layer: &Digest) -> Result<Option<LayerContent>, CodeError> {
    if !folders.touch(layer)? {
        return Ok(None);
    }
    let path = folders.path(layer).join(CONTENT);
    match fs::read(&path) {
        Ok(json) => serde_json::from_slice(&json).map(Some).map_err(|error| {
            store::Error::Corrupt {
                what: format!("`{}`", path.display()),
                source: Some(Arc::new(error)),
            }
            .into()
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(disk_at(&path, error)),
    }
}

/// The folder of a list of layers.
fn merge(folders: &Folders, layers: &[Digest]) -> Result<Option<Digest>, CodeError> {
    match layers {
        [] => Ok(None),
        [only] => Ok(Some(*only)),
        several => {
            let names: Vec<String> = several.iter().map(Digest::to_string).collect();
            let digest = Digest::of(format!("{OPT} {}", names.join(" ")).as_bytes());
            let sources = several.iter().map(|layer| folders.path(layer).join(FILES));
            let sources: Vec<PathBuf> = sources.collect();
            folders.merge(&digest, Path::new(FILES), &sources)?;
            Ok(Some(digest))
        }
    }
}

/// The folder of what a package holds beside its component.
fn task(folders: &Folders, mut archive: Archive, component: &str) -> Result<Digest, CodeError> {
    // The same zip has other files beside another component of it.
    let name = format!("{TASK} {} {component}", Digest::of(archive.bytes()));
    let digest = Digest::of(name.as_bytes());
    folders.make(&digest, |folder| {
        unpack(&mut archive, folder, |path| path != component)
    })?;
    Ok(digest)
}

fn unpack(
    archive: &mut Archive,
    folder: &Path,
    wanted: impl Fn(&str) -> bool,
) -> Result<(), CodeError> {
    let files = folder.join(FILES);
    fs::create_dir(&files).map_err(disk)?;
    archive.unpack(&files, wanted).map_err(|error| match error {
        UnpackError::Archive(error) => error.into(),
        UnpackError::Disk(error) => disk(error),
    })
}

fn disk(error: std::io::Error) -> CodeError {
    store::Error::io("unpack an archive", error).into()
}

fn disk_at(path: &Path, error: std::io::Error) -> CodeError {
    store::Error::io(format!("use `{}`", path.display()), error).into()
}

/// Runs what unpacks, or waits for a disk, where it holds up nobody.
async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> Result<R, CodeError> + Send + 'static,
) -> Result<R, CodeError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err(store::Error::Closed.into()))
}

impl From<ArchiveError> for CodeError {
    fn from(error: ArchiveError) -> Self {
        Self::Package(error.into())
    }
}
