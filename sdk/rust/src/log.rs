//! The [`log`] crate's macros, written to the function's log (`wasi:logging`).
//!
//! ```no_run
//! use wharf_sdk::log::{self, LevelFilter, info};
//!
//! log::start(LevelFilter::Info);
//! info!("resized to {} pixels", 320);
//! ```
//!
//! Standard output and standard error go to the same log, without a level.

pub use log::{Level, LevelFilter, debug, error, info, log_enabled, trace, warn};

use crate::bindings::imports::wasi::logging::logging;

/// From now on messages up to this level go to the function's log.
///
/// Calling it again changes the level, so it may stand at the start of a function whose instance serves many requests.
/// If the program has installed another logger, that one stays.
pub fn start(level: LevelFilter) {
    // An error says that a logger is there already: ours from an earlier request, or the program's own.
    let _ = log::set_logger(&NodeLog);
    log::set_max_level(level);
}

struct NodeLog;

impl log::Log for NodeLog {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &log::Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let level = match record.level() {
            Level::Error => logging::Level::Error,
            Level::Warn => logging::Level::Warn,
            Level::Info => logging::Level::Info,
            Level::Debug => logging::Level::Debug,
            Level::Trace => logging::Level::Trace,
        };
        logging::log(level, record.target(), &record.args().to_string());
    }

    fn flush(&self) {}
}
