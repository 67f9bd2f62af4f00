//! What guests import, a file an interface.

pub(crate) mod filesystem;
pub(crate) mod stdio;
pub(crate) mod wasi;
