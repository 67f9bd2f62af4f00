//! Where a function's code comes from, and what its layers add to it.

mod deployed;
mod layers;
mod packages;
mod registry;
mod s3;
mod servers;
