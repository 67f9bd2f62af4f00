//! Certificates as values: what stands in one, and whether it is of use.
//!
//! The listener presents them, the API and the command line judge what they are given by the same rules. Nothing is read
//! from a disk or a socket here.

mod challenges;
mod ocsp;
mod pair;

pub use challenges::{ALPN, Answer, Challenges};
pub use ocsp::StapleError;
pub use pair::{Facts, Pair, PairError, provider};
