//! What `wharf up` runs beside the node: an origin, a database, whatever the manifest names.

use std::{collections::BTreeMap, process::Stdio, time::Duration};

use anyhow::{Context as _, bail};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::Command,
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{group::Group, output::Output};
use crate::model::{FunctionName, Process};

/// How long a process may take to end when it was asked to.
const PATIENCE: Duration = Duration::from_secs(5);

/// The processes that run. They end with this, without mercy; [`stop`](Self::stop) asks first.
#[derive(Default)]
pub(crate) struct Processes {
    running: BTreeMap<FunctionName, (Process, CancellationToken)>,
    watching: JoinSet<anyhow::Result<()>>,
}

impl Processes {
    /// Starts what is wanted and does not run, and ends what runs and is not wanted. What is wanted otherwise is started anew.
    pub(crate) fn follow(
        &mut self,
        wanted: &BTreeMap<FunctionName, Process>,
        output: &Output,
    ) -> anyhow::Result<()> {
        self.running.retain(|name, (process, stop)| {
            let keep = wanted.get(name) == Some(process);
            if !keep {
                stop.cancel();
            }
            keep
        });
        for (name, process) in wanted {
            if self.running.contains_key(name) {
                continue;
            }
            output.status("Starting", format_args!("{name} ({})", process.command));
            let stop = CancellationToken::new();
            let mut shell = Command::new("sh");
            shell
                .args(["-c", &process.command])
                .current_dir(&process.folder)
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
            let group = Group::spawn(&mut shell).with_context(|| {
                let folder = process.folder.display();
                format!("start the process `{name}` in {folder}")
            })?;
            self.watching
                .spawn(watch(name.clone(), group, stop.clone(), output.clone()));
            self.running.insert(name.clone(), (process.clone(), stop));
        }
        Ok(())
    }

    /// Ready when a process has ended by itself, which none should, with what to say of it.
    pub(crate) async fn ended(&mut self) -> anyhow::Error {
        loop {
            match self.watching.join_next().await {
                Some(Ok(Err(error))) => return error,
                // It was told to end.
                Some(Ok(Ok(()))) => {}
                Some(Err(error)) => return error.into(),
                None => std::future::pending().await,
            }
        }
    }

    /// Asks all to end, and waits until they have.
    pub(crate) async fn stop(mut self) {
        for (_, stop) in self.running.values() {
            stop.cancel();
        }
        while self.watching.join_next().await.is_some() {}
    }
}

/// Shows what a process writes, until it ends or is told to.
async fn watch(
    name: FunctionName,
    mut group: Group,
    stop: CancellationToken,
    output: Output,
) -> anyhow::Result<()> {
    let child = group.child();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let show = async {
        tokio::join!(show(&name, stdout, &output), show(&name, stderr, &output));
    };
    tokio::select! {
        status = group.wait() => bail!("the process `{name}` ended: {}", status?),
        () = async { show.await; std::future::pending().await } => {}
        () = stop.cancelled() => {
            group.terminate();
            // What does not listen is killed when it is dropped.
            let _ = timeout(PATIENCE, group.wait()).await;
        }
    }
    Ok(())
}

async fn show(name: &FunctionName, stream: Option<impl AsyncRead + Unpin>, output: &Output) {
    let Some(stream) = stream else {
        return;
    };
    let mut lines = BufReader::new(stream).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        output.said(name.as_str(), &String::from_utf8_lossy(&line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::Format;

    fn wanted(folder: &std::path::Path, command: &str) -> BTreeMap<FunctionName, Process> {
        let process = Process {
            command: command.to_owned(),
            folder: folder.to_owned(),
        };
        BTreeMap::from([("server".parse().unwrap(), process)])
    }

    /// The id of a process that writes it into a file.
    async fn id(file: &std::path::Path) -> String {
        until(|| std::fs::read_to_string(file).is_ok_and(|id| id.ends_with('\n'))).await;
        std::fs::read_to_string(file).unwrap().trim().to_owned()
    }

    async fn until(is_so: impl Fn() -> bool) {
        let waited = timeout(Duration::from_secs(30), async {
            while !is_so() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        waited.await.expect("it becomes so");
    }

    fn runs(id: &str) -> bool {
        std::path::Path::new("/proc").join(id).exists()
    }

    #[tokio::test]
    async fn a_process_runs_until_it_is_not_wanted_any_more() {
        let folder = tempfile::tempdir().unwrap();
        let output = Output::new(Format::Text, true);
        let mut processes = Processes::default();
        let serve = |name: &str| format!("echo $$ > {name}; exec sleep 100");
        let first = wanted(folder.path(), &serve("first"));
        processes.follow(&first, &output).unwrap();
        let first_id = id(&folder.path().join("first")).await;
        // The same again changes nothing.
        processes.follow(&first, &output).unwrap();
        assert!(runs(&first_id));
        let second = wanted(folder.path(), &serve("second"));
        processes.follow(&second, &output).unwrap();
        let second_id = id(&folder.path().join("second")).await;
        until(|| !runs(&first_id)).await;
        assert!(runs(&second_id));
        processes.stop().await;
        assert!(!runs(&second_id));
    }

    #[tokio::test]
    async fn a_process_that_ends_by_itself_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut processes = Processes::default();
        let output = Output::new(Format::Text, true);
        processes
            .follow(&wanted(folder.path(), "exit 3"), &output)
            .unwrap();
        let error = processes.ended().await.to_string();
        assert_eq!(error, "the process `server` ended: exit status: 3");
        let nowhere = wanted(&folder.path().join("none"), "true");
        let error = Processes::default().follow(&nowhere, &output).unwrap_err();
        assert!(error.to_string().contains("/none"), "{error}");
    }
}
