//! The guests, built from source once a test run.
//!
//! What they do and what should come of it stands in `tests/guests/README.md`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use bytes::Bytes;

/// `wasi:http` 0.2: misbehaves as the path says.
pub(crate) const HOSTILE: Guest = Guest::Crate("hostile.wasm");
/// The same component, used for its plain `hello`.
pub(crate) const HELLO: Guest = HOSTILE;
/// `wharf:function`: does as the event says.
pub(crate) const EVENT_PROBE: Guest = Guest::Crate("event_probe.wasm");
/// `wasi:cli` 0.2: does as the event on standard input says.
pub(crate) const COMMAND_PROBE: Guest = Guest::Crate("command-probe.wasm");
/// `wharf:edge`, all four hooks.
pub(crate) const HOOK_PROBE: Guest = Guest::Crate("hook_probe.wasm");
/// `wasi:http` 0.3.
pub(crate) const P3_HELLO: Guest = Guest::Crate("p3_hello.wasm");
/// `wasi:http` 0.3, exported and imported: sends answers on in capitals, or does as the path says.
pub(crate) const MIDDLEWARE: Guest = Guest::Crate("p3_middleware.wasm");
/// A component for a layer: exports what the next one imports.
pub(crate) const GREETER: Guest = Guest::Crate("greeter.wasm");
/// `wharf:function`: imports what a layer exports, and looks at files.
pub(crate) const GREET_PROBE: Guest = Guest::Crate("greet_probe.wasm");
/// 64 memories, each of them growing.
pub(crate) const MANY_MEMORIES: Guest = Guest::Text("many-memories.wat");
/// A table that grows.
pub(crate) const TABLE_BOMB: Guest = Guest::Text("table-bomb.wat");
/// Wants 1 GiB to begin with.
pub(crate) const INITIAL_MEMORY: Guest = Guest::Text("initial-memory.wat");
/// Loops while it is instantiated.
pub(crate) const START_LOOP: Guest = Guest::Text("start-loop.wat");

/// A component of `tests/guests`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Guest {
    /// Built by cargo: the file's name.
    Crate(&'static str),
    /// Written as text, in the folder `wat`.
    Text(&'static str),
}

impl Guest {
    /// The component. The first that asks for one built by cargo waits for all of them; other processes wait for cargo's
    /// own lock.
    pub(crate) fn bytes(self) -> Bytes {
        match self {
            Self::Crate(file) => read(&BUILT.join(file)),
            Self::Text(file) => {
                let path = folder().join("wat").join(file);
                let text = read(&path);
                let wasm = wat::Parser::new().parse_bytes(Some(&path), &text);
                Bytes::from(wasm.unwrap().into_owned())
            }
        }
    }
}

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/guests"))
}

fn read(path: &Path) -> Bytes {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    bytes.into()
}

/// The folder of what cargo built.
static BUILT: LazyLock<PathBuf> = LazyLock::new(|| {
    let target = folder().join("target");
    let output = Command::new(env!("CARGO"))
        .args(["build", "--release", "--locked"])
        .args(["--target", "wasm32-wasip2", "--target-dir"])
        .arg(&target)
        .current_dir(folder())
        // What is set for the host's build is not meant for guests.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "the guests were not built: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    target.join("wasm32-wasip2/release")
});

/// The folder of the guests that cargo builds.
pub(crate) fn folder_of_built() -> &'static Path {
    &BUILT
}
