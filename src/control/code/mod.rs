//! Where a function's code comes from, and what is made of it before it is compiled.
//!
//! Bytes come in a request, [from S3](S3) or [from a registry](Registries). [`Package`] finds the component in them, and
//! [`Layers`] adds what the function's layers bring: files under `/opt`, and components for what it imports. All of it was
//! made by strangers: sizes, paths and times are bounded everywhere, and only child processes read a component.

mod archive;
mod fetch;
mod layers;
mod oci;
mod package;
mod s3;

pub use archive::{ArchiveError, MAX_UNZIPPED};
pub use layers::{LayerContent, Layers, MAX_LAYERS, Prepared};
pub use oci::{Image, ImageError, Registries, RegistrySettings};
pub use package::{MAX_UPLOAD, Package, PackageError};
pub use s3::{S3, S3Error, S3Settings};

use crate::{runtime::LinkError, store};

/// Where code comes from on a node.
pub struct Sources {
    /// What functions share.
    pub layers: Layers,
    /// Packages in S3.
    pub s3: S3,
    /// Components in registries.
    pub registries: Registries,
}

/// Why a function or a layer has no code.
#[derive(Debug, thiserror::Error)]
pub enum CodeError {
    /// What was uploaded holds none.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// A function and its layers hold too much.
    #[error(
        "Function code combined with layers exceeds the maximum allowed size of {MAX_UNZIPPED} bytes. The actual size \
         is {actual} bytes."
    )]
    TooLargeTogether {
        /// How much that is.
        actual: u64,
    },
    /// It is not in S3, or cannot be had from there.
    #[error(transparent)]
    S3(#[from] S3Error),
    /// It is in no registry, or cannot be had from there.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// What was asked for cannot be.
    #[error("{0}")]
    Invalid(String),
    /// The function and its layers cannot be linked.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The store fails.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl CodeError {
    /// What Lambda calls such an error. The message is for the caller, unless it is a `ServiceException`, whose causes
    /// concern the node alone.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Package(PackageError::TooLarge { .. }) => "RequestEntityTooLargeException",
            Self::Package(_)
            | Self::TooLargeTogether { .. }
            | Self::S3(_)
            | Self::Image(_)
            | Self::Invalid(_)
            | Self::Link(LinkError::Invalid(_) | LinkError::Limit(_)) => {
                "InvalidParameterValueException"
            }
            Self::Link(LinkError::Crashed(_) | LinkError::System { .. }) | Self::Store(_) => {
                "ServiceException"
            }
        }
    }
}
