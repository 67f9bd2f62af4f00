//! CloudWatch Logs: the functions' logs, and other groups, as AWS's own clients read them.

pub mod pattern;
