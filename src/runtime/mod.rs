//! All of wasmtime.

mod bindings;
mod imports;
