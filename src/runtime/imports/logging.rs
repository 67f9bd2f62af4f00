//! `wasi:logging/logging`: levelled messages for the function's log.

use wasmtime::component::{HasData, Linker};

use crate::runtime::bindings::wasi::logging::logging;
pub(crate) use logging::Level;

/// Where the messages go. It bounds what it keeps: a guest may log as much as it likes.
pub(crate) trait LogSink: Send {
    /// Takes one message; `context` groups messages and may be empty.
    fn log(&mut self, level: Level, context: &str, message: &str);
}

/// What `wasi:logging` needs of a store's state.
pub(crate) struct LoggingView<'a> {
    /// Where the messages go.
    pub(crate) sink: &'a mut dyn LogSink,
}

/// Adds the interface to a linker.
pub(crate) fn add_to_linker<T: 'static>(
    linker: &mut Linker<T>,
    get: fn(&mut T) -> LoggingView<'_>,
) -> wasmtime::Result<()> {
    logging::add_to_linker::<T, HasLogging>(linker, get)
}

struct HasLogging;

impl HasData for HasLogging {
    type Data<'a> = LoggingView<'a>;
}

impl logging::Host for LoggingView<'_> {
    fn log(&mut self, level: Level, context: String, message: String) -> wasmtime::Result<()> {
        self.sink.log(level, &context, &message);
        Ok(())
    }
}
