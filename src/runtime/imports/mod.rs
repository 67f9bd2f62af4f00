//! What the node offers to guests, a file an interface.

pub(super) mod function;
