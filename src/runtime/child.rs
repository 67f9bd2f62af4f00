//! This program as a child that holds itself to a processor time and a memory size.
//!
//! What strangers deploy is read by large libraries in such a child: a crash or a loop there is an error message here.

use std::{ffi::OsStr, io, path::PathBuf, process::Stdio, time::Duration};

use anyhow::Context as _;
use rustix::process::{Resource, Rlimit, setrlimit};
use tokio::{io::AsyncReadExt, process::Command};

/// What compiling one component may use, or linking it with others.
#[derive(Debug, Clone, Copy)]
pub struct CompileLimits {
    /// Processor time of the child, all its threads together.
    pub cpu: Duration,
    /// Address space of the child in bytes. A JavaScript engine takes about 400 MB.
    pub memory: u64,
    /// Wall-clock time.
    pub time: Duration,
}

impl Default for CompileLimits {
    fn default() -> Self {
        Self {
            cpu: Duration::from_secs(120),
            memory: 4 << 30,
            time: Duration::from_secs(300),
        }
    }
}

/// The program that children are made of, and what each may use.
#[derive(Debug, Clone)]
pub(super) struct Program {
    pub(super) path: PathBuf,
    pub(super) limits: CompileLimits,
}

/// Why a child did not do its work.
#[derive(Debug)]
pub(super) enum ChildError {
    /// It said what is wrong with what it was given.
    Said(String),
    /// It took more than it may.
    Limit(&'static str),
    /// It ended in another way.
    Crashed(String),
    /// It could not be started or waited for: what was tried, and why it failed.
    System(&'static str, io::Error),
}

impl Program {
    /// Runs `verb` in a child, which is told the limits first and then `arguments`. Gives what it wrote to standard output,
    /// 64 bytes at most.
    pub(super) async fn run<I, S>(&self, verb: &str, arguments: I) -> Result<Vec<u8>, ChildError>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let mut child = Command::new(&self.path)
            .arg(verb)
            .arg(self.limits.cpu.as_secs().max(1).to_string())
            .arg(self.limits.memory.to_string())
            .args(arguments)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| ChildError::System("start", error))?;
        let (mut answer, mut said) = (Vec::new(), Vec::new());
        let mut stdout = child.stdout.take().expect("stdout is piped").take(64);
        let mut stderr = child.stderr.take().expect("stderr is piped").take(16 << 10);
        let finished = tokio::time::timeout(self.limits.time, async {
            let (_, _, status) = tokio::join!(
                stdout.read_to_end(&mut answer),
                stderr.read_to_end(&mut said),
                child.wait()
            );
            status
        });
        let status = match finished.await {
            Ok(status) => status.map_err(|error| ChildError::System("wait for", error))?,
            Err(_) => return Err(ChildError::Limit("it took too long")),
        };
        let said = String::from_utf8_lossy(&said).trim().to_owned();
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        match (status.code(), signal) {
            (Some(0), _) => Ok(answer),
            (Some(1), _) => Err(ChildError::Said(said)),
            (_, Some(signal)) if signal == rustix::process::Signal::XCPU.as_raw() => {
                Err(ChildError::Limit("it used too much processor time"))
            }
            // The allocator aborts when the address space is used up.
            (_, Some(signal)) if signal == rustix::process::Signal::ABORT.as_raw() => {
                Err(ChildError::Limit("it used too much memory"))
            }
            _ => Err(ChildError::Crashed(format!("{status}: {said}"))),
        }
    }
}

/// The child's side: holds this process to `cpu` seconds and `memory` bytes.
pub(super) fn hold_to(cpu: u64, memory: u64) -> anyhow::Result<()> {
    let limit = |resource, value| {
        setrlimit(
            resource,
            Rlimit {
                current: Some(value),
                maximum: Some(value),
            },
        )
    };
    limit(Resource::Core, 0).context("limit core dumps")?;
    limit(Resource::Cpu, cpu).context("limit processor time")?;
    limit(Resource::As, memory).context("limit memory")
}
