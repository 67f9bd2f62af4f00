//! What the AWS services of the API have in common.

pub(in crate::control) mod event_stream;
