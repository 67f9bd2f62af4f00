//! All of wasmtime.

pub(crate) mod imports;
