//! From the bytes that somebody uploaded to the component of a function.

use bytes::Bytes;

use super::archive::{Archive, ArchiveError, Entry, MAX_UNZIPPED};

/// The largest package that is sent within a request (Lambda quota: 50 MB zipped).
pub const MAX_UPLOAD: usize = 50 << 20;

/// How WebAssembly begins: the magic number, then the version, and the layer that tells modules from components.
const MAGIC: &[u8] = b"\0asm";
const PREAMBLE: usize = 8;

/// The most components that are named where there are too many.
const NAMED: usize = 10;

/// Why a package holds no function.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// There is nothing.
    #[error("Uploaded file must be a non-empty zip")]
    Empty,
    /// It was sent within a request and is larger than that may be.
    #[error("Request must be smaller than 70167211 bytes for the {operation} operation")]
    TooLarge {
        /// The operation, such as `CreateFunction`.
        operation: String,
    },
    /// The archive is not taken.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// It is a module of WebAssembly, or has only such.
    #[error(
        "{what} is a WebAssembly module and not a component: build it for a target that makes components, such as \
         wasm32-wasip2, or make one of it with `wasm-tools component new`"
    )]
    Module {
        /// The file, as in `` `main.wasm` ``.
        what: String,
    },
    /// It has no component.
    #[error(
        "The package holds no WebAssembly component: upload one, or a zip with one in a file *.wasm"
    )]
    NoComponent,
    /// It has several, and the handler names none of them.
    #[error(
        "The package holds more than one WebAssembly component ({}), and Handler names none of them: set it to the \
         path of one",
        names(.found)
    )]
    Ambiguous {
        /// Their paths.
        found: Vec<String>,
    },
}

fn names(found: &[String]) -> String {
    let mut names = found[..found.len().min(NAMED)].join(", ");
    if found.len() > NAMED {
        names.push_str(", …");
    }
    names
}

/// A function's package: its component, and what came with it.
pub struct Package {
    /// The component. Whether it can be run is not known yet.
    pub component: Bytes,
    /// The bytes of everything in the package, unpacked.
    pub unzipped: u64,
    /// The archive and the component's path in it, where there is more than the component.
    pub(super) rest: Option<(Archive, String)>,
}

impl std::fmt::Debug for Package {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Package")
            .field("component", &self.component.len())
            .field("unzipped", &self.unzipped)
            .finish_non_exhaustive()
    }
}

impl Package {
    /// Whether a package that is sent within a request of `operation` is small enough.
    ///
    /// # Errors
    ///
    /// It is not.
    pub fn check_upload(bytes: &[u8], operation: &str) -> Result<(), PackageError> {
        if bytes.len() > MAX_UPLOAD {
            return Err(PackageError::TooLarge {
                operation: operation.to_owned(),
            });
        }
        Ok(())
    }

    /// Finds the component in a package, which is a component or a zip that holds one. Where it holds several, `handler`
    /// chooses: by a path, with or without `.wasm`; by a file's name; or, as in `main.handler`, by what is before the dot. A
    /// `bootstrap.wasm` is chosen where the handler names none.
    ///
    /// It unpacks and takes its time: not for a thread that serves others.
    ///
    /// # Errors
    ///
    /// There is no component, or more than one, or the archive is not taken.
    pub fn open(bytes: Bytes, handler: Option<&str>) -> Result<Self, PackageError> {
        if bytes.is_empty() {
            return Err(PackageError::Empty);
        }
        if bytes.starts_with(MAGIC) {
            return Self::bare(bytes);
        }
        let mut archive = Archive::open(bytes)?;
        let mut found = components(&mut archive)?;
        let path = match found.components.len() {
            0 => {
                return Err(match found.modules.pop() {
                    Some(module) => PackageError::Module {
                        what: format!("`{module}`"),
                    },
                    None => PackageError::NoComponent,
                });
            }
            1 => found.components.remove(0),
            _ => match choose(&found.components, handler) {
                Some(path) => path.to_owned(),
                None => {
                    return Err(PackageError::Ambiguous {
                        found: found.components,
                    });
                }
            },
        };
        let unzipped = archive.unzipped();
        let component = archive.read(&path)?;
        let alone = archive
            .entries()
            .all(|(other, entry)| other == path || *entry == Entry::Folder);
        Ok(Self {
            component,
            unzipped,
            rest: (!alone).then_some((archive, path)),
        })
    }

    fn bare(component: Bytes) -> Result<Self, PackageError> {
        let unzipped = component.len() as u64;
        if unzipped > MAX_UNZIPPED {
            return Err(ArchiveError::TooLarge.into());
        }
        if !is_component(&component) {
            return Err(PackageError::Module {
                what: "The uploaded file".to_owned(),
            });
        }
        Ok(Self {
            component,
            unzipped,
            rest: None,
        })
    }

    /// Whether there is more in it than the component.
    pub fn has_files(&self) -> bool {
        self.rest.is_some()
    }
}

/// What an archive has of WebAssembly.
#[derive(Default)]
pub(super) struct Found {
    pub(super) components: Vec<String>,
    pub(super) modules: Vec<String>,
}

/// Looks how the files begin that are named `*.wasm`.
pub(super) fn components(archive: &mut Archive) -> Result<Found, ArchiveError> {
    let named: Vec<String> = archive
        .entries()
        .filter(|(path, entry)| path.ends_with(".wasm") && matches!(entry, Entry::File { .. }))
        .map(|(path, _)| path.to_owned())
        .collect();
    let mut found = Found::default();
    for path in named {
        if archive.begins(&path, b"\0asm\x01\0\0\0")? {
            found.modules.push(path);
        } else if archive.begins(&path, MAGIC)? {
            found.components.push(path);
        }
    }
    Ok(found)
}

/// Whether it says that it is a component. Its version is left to the compiler, which knows those there are.
fn is_component(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC) && bytes.get(4..PREAMBLE) != Some(&[1, 0, 0, 0])
}

/// The one that a handler names.
fn choose<'a>(components: &'a [String], handler: Option<&str>) -> Option<&'a str> {
    let only = |matches: &dyn Fn(&str) -> bool| {
        let mut matching = components.iter().filter(|path| matches(path));
        matching.next().filter(|_| matching.next().is_none())
    };
    let file = |path: &str, name: &str| {
        let file = path.rsplit('/').next().unwrap_or(path);
        file == name || file.strip_suffix(".wasm") == Some(name)
    };
    let handler = handler.unwrap_or_default().trim_start_matches("./");
    let before_the_dot = handler.split('.').next().unwrap_or_default();
    let named = only(&|path| path == handler)
        .or_else(|| only(&|path| path.strip_suffix(".wasm") == Some(handler)))
        .or_else(|| only(&|path| file(path, handler)))
        .or_else(|| only(&|path| path.strip_suffix(".wasm") == Some(before_the_dot)))
        .or_else(|| only(&|path| file(path, before_the_dot)))
        .or_else(|| only(&|path| path == "bootstrap.wasm"));
    named.map(String::as_str)
}
