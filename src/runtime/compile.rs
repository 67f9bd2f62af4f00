//! Compiling, away from the request path and away from the node's own process.
//!
//! A component is a stranger's input to a large compiler. So it is compiled by a child process, this same program, that
//! holds itself to a processor time and a memory size; a crash or a loop there is an error message here. What comes back is
//! an *artifact*: compiled code, named by the component's digest in a folder named by what the engines are compatible with.
//!
//! Loading compiled code is unsafe unless we wrote it. Every artifact therefore has a file beside it with a keyed BLAKE3
//! hash, made with a key that only this node's user may read, and the name of the engine that it is for; it is checked
//! against the hash before it is mapped.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use tokio::sync::Semaphore;
use wasmtime::{Engine, component::Component};

use super::{
    child::{self, ChildError, Program},
    engine::{self, Concurrency, PerEngine},
};
use crate::model::Digest;

/// How the names of files begin that a compiler is writing.
const UNFINISHED: &str = ".compiling-";

/// Why there is no artifact.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The bytes are not a component that can be compiled.
    #[error("{0}")]
    Invalid(String),
    /// Compiling took more than it may.
    #[error("compiling was stopped: {0}")]
    Limit(&'static str),
    /// The compiler crashed.
    #[error("the compiler ended unexpectedly ({0})")]
    Crashed(String),
    /// The artifact on disk is not what this node wrote.
    #[error("the compiled artifact {path} is damaged")]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// Reading or writing failed.
    #[error("{doing} {path}")]
    Io {
        /// What was being done, as in `write`.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

fn io_error<'a>(
    doing: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> CompileError + 'a {
    move |source| CompileError::Io {
        doing,
        path: path.to_owned(),
        source,
    }
}

/// The artifacts of a node, and the compiler that makes them.
#[derive(Debug)]
pub(super) struct Artifacts {
    folder: PathBuf,
    key: [u8; 32],
    compiler: Program,
    /// One compilation at a time: it has threads of its own, and requests want the other cores.
    turn: Semaphore,
}

impl Artifacts {
    /// Opens the artifacts in `folder` that `engines` can map, with `compiler` as the program that compiles (`compiler __compile …`).
    pub(super) fn open(
        folder: &Path,
        engines: &PerEngine<Engine>,
        compiler: Program,
    ) -> Result<Self, CompileError> {
        fs::create_dir_all(folder).map_err(io_error("create", folder))?;
        let key = open_key(&folder.join("key"))?;
        let folder = folder.join(engine::compatibility(engines));
        fs::create_dir_all(&folder).map_err(io_error("create", &folder))?;
        remove_leftovers(&folder);
        Ok(Self {
            folder,
            key,
            compiler,
            turn: Semaphore::new(1),
        })
    }

    fn path(&self, code: &Digest) -> PathBuf {
        self.folder.join(format!("{code}.cwasm"))
    }

    fn hash_path(&self, code: &Digest) -> PathBuf {
        self.folder.join(format!("{code}.hash"))
    }

    /// Whether there is an artifact, without looking inside.
    pub(super) fn contains(&self, code: &Digest) -> bool {
        self.path(code).exists() && self.hash_path(code).exists()
    }

    /// Maps the artifact of `code`. Takes well below a millisecond for a small component: the caller is a request.
    pub(super) fn load(
        &self,
        engines: &PerEngine<Engine>,
        code: &Digest,
    ) -> Result<(Component, Concurrency), CompileError> {
        let path = self.path(code);
        let damaged = || CompileError::Damaged { path: path.clone() };
        let mut file = File::open(&path).map_err(io_error("open", &path))?;
        let expected = fs::read(self.hash_path(code)).map_err(io_error("read", &path))?;
        let (expected, engine) = expected.split_first_chunk::<32>().ok_or_else(damaged)?;
        let concurrency = Concurrency::named(engine).ok_or_else(damaged)?;
        let found = hash(&self.key, &mut file).map_err(io_error("read", &path))?;
        // blake3's comparison takes the same time wherever the difference is.
        if found != blake3::Hash::from_bytes(*expected) {
            return Err(damaged());
        }
        #[expect(
            unsafe_code,
            reason = "mapping compiled code trusts it, and nothing else can run it"
        )]
        // SAFETY: `deserialize_file` needs bytes that an engine compiled and that nobody changes while they are mapped. The
        // keyed hash above says that this node wrote them (the key is readable by its user alone), artifacts are replaced by
        // renaming and never written in place, and the folder belongs to the node. Code for the other engine is refused.
        let component = unsafe { Component::deserialize_file(engines.get(concurrency), &path) };
        match component {
            Ok(component) => Ok((component, concurrency)),
            // It is what was compiled: what is wrong now is that the engine's pools are too small for it.
            Err(error) => Err(CompileError::Invalid(describe(&error))),
        }
    }

    /// Deletes the artifact of `code`, so that it is made anew. Mapped, it lives on until it is let go.
    pub(super) fn discard(&self, code: &Digest) {
        for path in [self.path(code), self.hash_path(code)] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(path = %path.display(), %error, "cannot remove an artifact");
                }
                _ => {}
            }
        }
    }

    /// Compiles the component in the file `wasm`, whose digest is `code`. Waits for its turn.
    pub(super) async fn compile(&self, wasm: &Path, code: &Digest) -> Result<(), CompileError> {
        let _turn = self
            .turn
            .acquire()
            .await
            .expect("the semaphore is never closed");
        if self.contains(code) {
            return Ok(());
        }
        let output = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .tempfile_in(&self.folder)
            .map_err(io_error("write to", &self.folder))?;
        let concurrency = self.run_child(wasm, output.path()).await?;
        let path = self.path(code);
        let mut compiled = File::open(output.path()).map_err(io_error("read", &path))?;
        let hash = hash(&self.key, &mut compiled).map_err(io_error("read", &path))?;
        compiled.sync_all().map_err(io_error("write", &path))?;
        let hash_path = self.hash_path(code);
        let beside = [hash.as_bytes(), concurrency.name().as_bytes()].concat();
        write_synced(&hash_path, &beside).map_err(io_error("write", &hash_path))?;
        output
            .persist(&path)
            .map_err(|error| io_error("write", &path)(error.error))?;
        Ok(())
    }

    /// Gives the engine that the artifact in `output` is for.
    async fn run_child(&self, wasm: &Path, output: &Path) -> Result<Concurrency, CompileError> {
        let engine = match self.compiler.run("__compile", [wasm, output]).await {
            Ok(engine) => engine,
            Err(ChildError::Said(said)) => return Err(CompileError::Invalid(said)),
            Err(ChildError::Limit(limit)) => return Err(CompileError::Limit(limit)),
            Err(ChildError::Crashed(how)) => return Err(CompileError::Crashed(how)),
            Err(ChildError::System(doing, source)) => {
                return Err(io_error(doing, &self.compiler.path)(source));
            }
        };
        Concurrency::named(&engine)
            .ok_or_else(|| CompileError::Crashed("it named no engine".to_owned()))
    }

    /// Deletes the artifacts of code that is not deployed any more. Mapped ones live on until they are let go.
    pub(super) fn retain(&self, keep: impl Fn(&Digest) -> bool) {
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            let digest = path
                .file_stem()
                .and_then(|stem| stem.to_str())
                .and_then(|stem| stem.parse::<Digest>().ok());
            if digest.is_some_and(|digest| !keep(&digest))
                && let Err(error) = fs::remove_file(&path)
            {
                tracing::warn!(path = %path.display(), %error, "cannot remove an artifact");
            }
        }
    }
}

/// Removes what a node left that was killed while it compiled.
fn remove_leftovers(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let unfinished = entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.starts_with(UNFINISHED));
        if unfinished && let Err(error) = fs::remove_file(entry.path()) {
            tracing::warn!(path = %entry.path().display(), %error, "cannot remove an unfinished artifact");
        }
    }
}

fn hash(key: &[u8; 32], file: &mut File) -> io::Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new_keyed(key);
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize()),
            read => hasher.update(&buffer[..read]),
        };
    }
}

/// Reads the node's artifact key, or makes one that only this user can read.
fn open_key(path: &Path) -> Result<[u8; 32], CompileError> {
    match fs::read(path) {
        Ok(key) => key.try_into().map_err(|_| CompileError::Damaged {
            path: path.to_owned(),
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut key = [0; 32];
            getrandom::fill(&mut key)
                .map_err(io::Error::from)
                .map_err(io_error("make a key for", path))?;
            write_synced(path, &key).map_err(io_error("write", path))?;
            Ok(key)
        }
        Err(error) => Err(io_error("read", path)(error)),
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

/// The child's side: compiles the component in `input` into `output`, held to `cpu` seconds and `memory` bytes. Gives the name
/// of the engine that it is for, which the node reads from standard output.
///
/// # Errors
///
/// The message is for the user who deployed: it names what is wrong with the component.
pub fn compile_child(
    cpu: u64,
    memory: u64,
    input: &Path,
    output: &Path,
) -> anyhow::Result<&'static str> {
    child::hold_to(cpu, memory)?;
    let bytes = fs::read(input).context("read the component")?;
    check_preamble(&bytes)?;
    let plain = |error: wasmtime::Error| anyhow::anyhow!("{}", describe(&error));
    let (component, concurrency) = engine::compile(&bytes).map_err(plain)?;
    let compiled = component.serialize().map_err(plain)?;
    fs::write(output, compiled).context("write the artifact")?;
    Ok(concurrency.name())
}

/// Whether it is a component at all, in words for who sent something else.
fn check_preamble(bytes: &[u8]) -> anyhow::Result<()> {
    const MODULE: &[u8] = b"\0asm\x01\0\0\0";
    anyhow::ensure!(!bytes.is_empty(), "the component is empty");
    anyhow::ensure!(
        bytes.starts_with(b"\0asm"),
        "it is not a WebAssembly component"
    );
    anyhow::ensure!(
        !bytes.starts_with(MODULE),
        "it is a WebAssembly module and not a component; build it for a target that makes components, such as \
         wasm32-wasip2, or wrap it with `wasm-tools component new`"
    );
    Ok(())
}

/// The causes of an error on one line, outermost first.
pub(super) fn describe(error: &wasmtime::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(cause.trim());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{CompileLimits, EngineSettings};

    #[test]
    fn an_artifact_that_somebody_changed_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let settings = EngineSettings {
            slots: 2,
            keep_resident: 0,
        };
        let engines = PerEngine::new(|concurrency| engine::pooling(settings, concurrency)).unwrap();
        let artifacts = Artifacts::open(
            folder.path(),
            &engines,
            Program {
                path: PathBuf::from("unused"),
                limits: CompileLimits::default(),
            },
        )
        .unwrap();
        // A component with nothing in it: the preamble alone.
        let wasm = b"\0asm\x0d\0\x01\0";
        let code = Digest::of(wasm);
        let (component, concurrency) = engine::compile(wasm).unwrap();
        let compiled = component.serialize().unwrap();
        fs::write(artifacts.path(&code), &compiled).unwrap();
        let good = blake3::keyed_hash(&artifacts.key, &compiled);
        let beside = [good.as_bytes(), concurrency.name().as_bytes()].concat();
        fs::write(artifacts.hash_path(&code), beside).unwrap();
        let (_, loaded) = artifacts.load(&engines, &code).unwrap();
        assert_eq!(loaded, concurrency);

        for change in [0, compiled.len() / 2, compiled.len() - 1] {
            let mut changed = compiled.clone();
            changed[change] ^= 1;
            fs::write(artifacts.path(&code), &changed).unwrap();
            assert!(matches!(
                artifacts.load(&engines, &code),
                Err(CompileError::Damaged { .. })
            ));
        }
        fs::write(artifacts.path(&code), &compiled[..compiled.len() / 2]).unwrap();
        assert!(matches!(
            artifacts.load(&engines, &code),
            Err(CompileError::Damaged { .. })
        ));
    }

    #[test]
    fn the_key_is_made_once_and_only_its_owner_reads_it() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let key = open_key(&path).unwrap();
        assert_eq!(open_key(&path).unwrap(), key);
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
}
