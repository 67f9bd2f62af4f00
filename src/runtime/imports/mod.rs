//! What the node offers to guests, a file an interface.

pub(crate) mod config;
pub(crate) mod filesystem;
pub(crate) mod function;
pub(crate) mod handler;
pub(crate) mod key_value;
mod key_value_draft2;
pub(crate) mod logging;
pub(crate) mod outbound;
pub(crate) mod stdio;
pub(crate) mod wasi;
