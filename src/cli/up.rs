//! `wharf up`: build, serve and watch an app.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use notify::{EventKind, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    app,
    build::{self, BuiltFunction},
    deploy::deploy,
    output::Output,
    processes::Processes,
    serve::{self, NodeArgs},
    source::{self, Source},
};
use crate::{
    control::client::Client,
    model::{Code, Manifest},
    node::Node,
    telemetry::subscriber,
};

/// How long files must be quiet before an app is built again: editors write in several steps.
const QUIET: Duration = Duration::from_millis(200);

/// How many builds in a row may change the same files of the source before it is the builds that do.
const MOST_BUILDS: u32 = 4;

/// Build an app, serve it, and build it again when its source changes
///
/// The app is deployed to a node of its own in this process. A change of the source is built and swapped in without a
/// failed request; a build that fails is shown, and the old version serves on. The `processes` of the manifest, such as an
/// origin, run beside it. Ctrl-C ends it when requests in flight are answered.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wharf up                       the app in this folder
  wharf up examples/hello        another folder
  wharf up --http 127.0.0.1:0    at any free port
  wharf up --no-watch            without building again")]
pub(crate) struct UpArgs {
    /// The folder of the app, or its manifest
    #[arg(default_value = ".")]
    path: PathBuf,

    /// Do not watch the source
    #[arg(long)]
    no_watch: bool,

    #[command(flatten)]
    node: NodeArgs,
}

pub(crate) async fn run(args: UpArgs, output: &Output) -> anyhow::Result<()> {
    let manifest = app::load(&args.path).await?;
    let mut node_args = args.node;
    if node_args.data.is_none() {
        // Beside the app, so that two apps do not share a node's data.
        let manifest = app::manifest_path(&args.path);
        let folder = manifest.parent().unwrap_or(Path::new("."));
        node_args.data = Some(folder.join(serve::DATA));
    }
    let (config, log, log_format) = node_args.resolve()?;
    subscriber::init(log_format, &log)?;
    serve::raise_file_limit();
    let shutdown = serve::shutdown()?;
    let before = Source::read(&folders(&args.path, &manifest));
    let Some(built) = shutdown
        .run_until_cancelled(build::build(&manifest, output))
        .await
    else {
        return Ok(());
    };
    let built = built?;

    let data = config.data.clone();
    let node = Box::pin(Node::bind(config)).await?;
    let client = Client::new(&node.api_addr().to_string(), Client::token(&data)?)?;
    serve::announce(&node, output);
    let http = node.http_addr();
    let mut processes = Processes::default();
    processes.follow(&manifest.processes, output)?;
    let mut app = App {
        path: args.path,
        client,
        output,
        http: http.to_string(),
        processes,
    };
    let mut serving = tokio::spawn(node.run(shutdown.clone()));
    let working = async {
        app.deploy(&manifest, &built).await?;
        if !args.no_watch {
            app.watch(&manifest, before, &shutdown).await?;
        }
        tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            ended = app.processes.ended() => Err(ended),
        }
    };
    let worked = tokio::select! {
        worked = working => worked,
        _ = &mut serving => {
            app.processes.stop().await;
            return Ok(());
        }
    };
    // Whether it is the end or an error: what is in flight is answered.
    shutdown.cancel();
    serving.await.context("the node ended unexpectedly")?;
    // Last: what is in flight may need them.
    app.processes.stop().await;
    worked
}

struct App<'a> {
    path: PathBuf,
    client: Client,
    output: &'a Output,
    http: String,
    processes: Processes,
}

impl App<'_> {
    async fn deploy(&self, manifest: &Manifest, built: &[BuiltFunction]) -> anyhow::Result<()> {
        let served = deploy(&self.client, manifest, built, self.output).await?;
        let mut told = false;
        for route in &manifest.routes {
            let host = route.pattern.host.as_ref().map(ToString::to_string);
            let host = host.unwrap_or_else(|| self.http.clone());
            self.output
                .status("Route", format_args!("http://{host}{}", route.pattern.path));
            told = true;
        }
        for distribution in manifest.distributions.values() {
            for host in &distribution.hosts {
                self.output
                    .status("Site", format_args!("{} http://{host}", distribution.name));
            }
            told = true;
        }
        for function in served {
            self.output.status(
                "Function",
                format_args!("{} {}", function.name, function.place()),
            );
            told = true;
        }
        if told {
            self.output.status("Ready", "Ctrl-C to stop");
        }
        Ok(())
    }

    /// Builds and deploys again whenever the source is not what it was `before` the last build, until the end.
    async fn watch(
        &mut self,
        manifest: &Manifest,
        mut before: Source,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<()> {
        let (sender, mut changes) = mpsc::channel(1);
        let mut watcher =
            notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
                // A change that is not taken yet stands for all that follow.
                if event.is_ok_and(|event| is_change(&event)) {
                    let _ = sender.try_send(());
                }
            })
            .context("watch the source")?;
        let mut folders = folders(&self.path, manifest);
        let mut watched = BTreeSet::new();
        watch_folders(&mut watcher, &folders, &mut watched)?;
        // The first build made them.
        before.adopt(&Source::read(&folders));
        let (mut last, mut builds) = (BTreeSet::new(), 0);
        loop {
            let now = Source::read(&folders);
            let changed = before.changes(&now);
            before = now;
            builds = if changed == last { builds + 1 } else { 1 };
            let itself = !changed.is_empty() && builds >= MOST_BUILDS;
            if itself && let Some(file) = changed.first() {
                self.output.status(
                    "Waiting",
                    format_args!("the build changes its own source: {}", file.display()),
                );
            }
            if changed.is_empty() || itself {
                let changed = tokio::select! {
                    changed = shutdown.run_until_cancelled(changes.recv()) => changed,
                    ended = self.processes.ended() => return Err(ended),
                };
                let Some(Some(())) = changed else {
                    return Ok(());
                };
                while let Ok(Some(())) = tokio::time::timeout(QUIET, changes.recv()).await {}
                // From here on it is somebody else's change.
                (last, builds) = (BTreeSet::new(), 0);
                continue;
            }
            last = changed;
            let again = async {
                let manifest = app::load(&self.path).await?;
                let built = build::build(&manifest, self.output).await?;
                self.deploy(&manifest, &built).await?;
                anyhow::Ok(manifest)
            };
            match shutdown.run_until_cancelled(again).await {
                None => return Ok(()),
                Some(Ok(manifest)) => {
                    folders = self::folders(&self.path, &manifest);
                    self.processes.follow(&manifest.processes, self.output)?;
                }
                Some(Err(error)) => {
                    self.output.error(&error);
                    self.output.status(
                        "Waiting",
                        "the version before serves on; save to build again",
                    );
                }
            }
            watch_folders(&mut watcher, &folders, &mut watched)?;
        }
    }
}

/// Watches folders and those below, without the ones that builds write to.
fn watch_folders(
    watcher: &mut notify::RecommendedWatcher,
    folders: &BTreeSet<PathBuf>,
    watched: &mut BTreeSet<PathBuf>,
) -> anyhow::Result<()> {
    let mut now = BTreeSet::new();
    for folder in folders {
        for folder in source::with_folders_below(folder) {
            if !watched.contains(&folder) {
                watcher
                    .watch(&folder, RecursiveMode::NonRecursive)
                    .with_context(|| format!("watch {}", folder.display()))?;
            }
            now.insert(folder);
        }
    }
    // One that is gone and comes back is another.
    *watched = now;
    Ok(())
}

/// The folders whose changes matter: the manifest's and the functions'.
fn folders(path: &Path, manifest: &Manifest) -> BTreeSet<PathBuf> {
    let own = app::manifest_path(path);
    let own = own
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let sources = manifest
        .functions
        .values()
        .filter_map(|function| match &function.code {
            Code::Component(component) => component.parent().map(Path::to_owned),
            Code::Source { folder, .. } => Some(folder.clone()),
        });
    std::iter::once(own.to_owned())
        .chain(sources)
        .filter_map(|folder| folder.canonicalize().ok())
        .collect()
}

fn is_change(event: &notify::Event) -> bool {
    let touches = matches!(
        event.kind,
        EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_)
    );
    touches && event.paths.iter().any(|path| source::is_source(path))
}
