//! Futures in boxes, made where they lie.

use std::pin::Pin;

/// The future that `make` gives, in a box.
///
/// `Box::pin` is given a future that is made already, on the stack, and copies all of it: of one that has not begun that is its
/// arguments, and some kilobytes of room for what comes later. Here the box is there before the future is.
pub(crate) fn pin<F: Future>(make: impl FnOnce() -> F) -> Pin<Box<F>> {
    let room = Box::new_uninit();
    Box::into_pin(Box::write(room, make()))
}
