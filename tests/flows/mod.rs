//! What a user does with a node, with the real program: every test starts `wharf` and asks it from outside.

mod backup;
mod deploy;
mod distribution;
mod inspect;
mod invoke;
mod manifest;
mod restart;
mod serve;
mod up;
