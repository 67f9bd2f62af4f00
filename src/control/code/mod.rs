//! Where a function's code comes from, and what is made of it before it is compiled.
//!
//! Bytes come in a request, [from S3](S3) or [from a registry](Registries). [`Package`] finds the component in them, and
//! [`Layers`] adds what the function's layers bring: files under `/opt`, and components for what it imports. All of it was
//! made by strangers: sizes, paths and times are bounded everywhere, and only the compiler reads a component.

mod archive;
mod package;

pub use archive::{ArchiveError, MAX_UNZIPPED};
pub use package::{MAX_UPLOAD, Package, PackageError};
