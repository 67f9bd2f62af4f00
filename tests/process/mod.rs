//! The program `wharf` in a process of its own, for tests that go through the door a user goes through.
//!
//! A node listens on free ports, and its addresses are read from what it says. It ends with the value that stands for it,
//! by its process id. Nothing here waits for ever.

use std::{
    ffi::OsStr,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ExitStatus, Output, Stdio},
    sync::OnceLock,
    time::Duration,
};

use reqwest::{RequestBuilder, StatusCode};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, Command},
    sync::watch,
    time::timeout,
};

use crate::support;

/// How long anything may take that is not a build. Far more than it does on a machine with nothing else to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How long building a guest may take, its dependencies included.
const BUILD: Duration = Duration::from_secs(600);

/// Has a folder, that many below the repository's, and those in it find what stood beside them.
fn stand_alone(folder: &Path, depth: usize) {
    let root = format!("{}/", repository().display());
    for file in ["Cargo.toml", "package.json"] {
        let path = folder.join(file);
        if let Ok(text) = fs::read_to_string(&path) {
            fs::write(path, text.replace(&"../".repeat(depth), &root)).unwrap();
        }
    }
    let manifest = folder.join("Cargo.toml");
    if let Ok(text) = fs::read_to_string(&manifest) {
        // Outside the examples' workspace it has their profile no more, and is not optimised at length.
        fs::write(manifest, text + "\n[workspace]\n").unwrap();
        let lock = repository().join("examples/Cargo.lock");
        fs::copy(lock, folder.join("Cargo.lock")).unwrap();
    }
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            stand_alone(&entry.path(), depth + 1);
        }
    }
}

/// `wharf`, without the settings of whoever runs the tests.
pub(crate) fn wharf() -> Command {
    let mut command = Command::new(support::program());
    for (name, _) in std::env::vars() {
        if name.starts_with("WHARF_") && name != "WHARF_TOOLCHAINS" {
            command.env_remove(name);
        }
    }
    command.kill_on_drop(true).stdin(Stdio::null());
    command
}

/// Runs a program to its end.
pub(crate) async fn run(command: &mut Command) -> Output {
    run_within(BUILD, command, b"").await
}

/// Runs a program to its end, with something on its standard input.
async fn run_within(limit: Duration, command: &mut Command, input: &[u8]) -> Output {
    let child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let output = async {
        // Who does not read what it is given has its reasons.
        let _ = stdin.write_all(input).await;
        drop(stdin);
        child.wait_with_output().await
    };
    timeout(limit, output).await.expect("it ends").unwrap()
}

/// What a program wrote to standard output, having ended well.
pub(crate) fn done(output: Output) -> String {
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{stderr}\n{stdout}");
    stdout
}

/// Why a program failed: what it wrote to standard error.
pub(crate) fn failed(output: Output) -> String {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    stderr
}

/// What a program wrote to standard output as JSON, one document a line.
pub(crate) fn json_lines(text: &str) -> Vec<serde_json::Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A running node.
pub(crate) struct Node {
    child: Child,
    said: watch::Receiver<String>,
    /// Where functions answer.
    pub(crate) http: SocketAddr,
    /// Where they answer with TLS.
    pub(crate) https: Option<SocketAddr>,
    /// Where the API answers.
    pub(crate) api: SocketAddr,
    data: PathBuf,
    client: reqwest::Client,
}

impl Node {
    /// `wharf serve` with the state in `data`.
    pub(crate) async fn serve(data: &Path) -> Self {
        Self::serve_with(data, |_| {}).await
    }

    /// `wharf serve` with further settings.
    pub(crate) async fn serve_with(data: &Path, configure: impl FnOnce(&mut Command)) -> Self {
        let mut command = serving(data);
        configure(&mut command);
        Self::start(command, data).await
    }

    /// `wharf serve` with the state on a disk of that size, which only this node sees; its mount point is `data`. None where
    /// nobody may mount one.
    pub(crate) async fn serve_on_disk(data: &Path, size: &str) -> Option<Self> {
        let unshare = |script: &str| {
            let mut command = Command::new("unshare");
            command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]);
            command.arg("sh").arg(data).arg(size);
            command
        };
        let mount = r#"mount -t tmpfs -o size="$2" tmpfs "$1""#;
        if !unshare(mount)
            .status()
            .await
            .is_ok_and(|status| status.success())
        {
            return None;
        }
        let mut command = unshare(&format!(r#"{mount} && shift 2 && exec "$@""#));
        let serve = serving(data);
        command.arg(serve.as_std().get_program());
        command.args(serve.as_std().get_args());
        for (name, value) in serve.as_std().get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.kill_on_drop(true).stdin(Stdio::null());
        let mut node = Self::start(command, data).await;
        // As the node sees it: here, nothing is mounted.
        let id = node.child.id().unwrap();
        let below = data.strip_prefix("/").unwrap();
        node.data = Path::new("/proc")
            .join(id.to_string())
            .join("root")
            .join(below);
        Some(node)
    }

    /// Its data folder.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// `wharf up` for the app in `folder`, its state beside it.
    pub(crate) async fn up(folder: &Path) -> Self {
        let mut command = wharf();
        command
            .args(["up", "--http", "127.0.0.1:0", "--api", "127.0.0.1:0"])
            .arg(folder)
            .env("CARGO_TARGET_DIR", target());
        let node = Self::start(command, &folder.join(".wharf")).await;
        // Compiling takes its time too, where the component holds a language's engine.
        node.says_within(BUILD, "Ready").await;
        node
    }

    async fn start(mut command: Command, data: &Path) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (sender, said) = watch::channel(String::new());
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                sender.send_modify(|said| {
                    said.push_str(&line);
                    said.push('\n');
                });
            }
        });
        let mut node = Self {
            child,
            said,
            http: SocketAddr::from(([0; 4], 0)),
            https: None,
            api: SocketAddr::from(([0; 4], 0)),
            data: data.to_owned(),
            client: client(),
        };
        // `up` builds before it serves. The API's address is told last.
        node.says_within(BUILD, "API http://").await;
        let said = node.said();
        let address = |scheme: &str| {
            let (_, rest) = said.split_once(scheme)?;
            rest.lines().next()?.parse().ok()
        };
        node.http = address("Serving http://").unwrap();
        node.https = address("Serving https://");
        node.api = address("API http://").unwrap();
        node
    }

    /// What it has said on standard error until now.
    pub(crate) fn said(&self) -> String {
        self.said.borrow().clone()
    }

    /// Waits until it has said `text`.
    pub(crate) async fn says(&self, text: &str) {
        self.says_within(PATIENCE, text).await;
    }

    async fn says_within(&self, limit: Duration, text: &str) {
        let mut said = self.said.clone();
        let waited = timeout(limit, said.wait_for(|said| said.contains(text))).await;
        if !matches!(waited, Ok(Ok(_))) {
            panic!("the node did not say `{text}` but:\n{}", self.said());
        }
    }

    /// A GET of a path.
    pub(crate) async fn get(&self, path: &str) -> Reply {
        Reply::of(self.request("GET", path)).await
    }

    /// A GET of a path at a host.
    pub(crate) async fn get_at(&self, host: &str, path: &str) -> Reply {
        Reply::of(self.request("GET", path).header("host", host)).await
    }

    /// A request that is not sent yet.
    pub(crate) fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let url = format!("http://{}{path}", self.http);
        self.client.request(method.parse().unwrap(), url)
    }

    /// Bytes of memory that it has at this moment.
    pub(crate) fn resident(&self) -> u64 {
        let id = self.child.id().expect("it runs");
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kilobytes = line.unwrap().split_whitespace().nth(1).unwrap();
        kilobytes.parse::<u64>().unwrap() << 10
    }

    /// The secret that opens its API.
    pub(crate) fn token(&self) -> String {
        let token = fs::read_to_string(self.data.join("api-token")).unwrap();
        token.trim().to_owned()
    }

    /// Runs a verb that talks to this node.
    pub(crate) async fn wharf<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Output {
        self.wharf_given(arguments, b"").await
    }

    /// Runs a verb that talks to this node, with something on its standard input.
    pub(crate) async fn wharf_given<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
        input: &[u8],
    ) -> Output {
        run_within(BUILD, self.command().args(arguments), input).await
    }

    /// `wharf`, set to talk to this node.
    pub(crate) fn command(&self) -> Command {
        let mut command = wharf();
        command
            .env("WHARF_API", format!("http://{}", self.api))
            .env("WHARF_DATA", &self.data)
            .env("CARGO_TARGET_DIR", target());
        command
    }

    /// Deploys an app.
    pub(crate) async fn deploy(&self, folder: &Path) -> String {
        done(self.wharf([OsStr::new("deploy"), folder.as_os_str()]).await)
    }

    /// Invokes a function with an event: its answer, and what it said on standard error where that is an error.
    pub(crate) async fn invoke(&self, function: &str, event: &str) -> Result<String, String> {
        let output = self.wharf(["invoke", function, "--payload", event]).await;
        let stdout = text(&output.stdout);
        match output.status.code() {
            Some(0) => Ok(stdout),
            Some(1) => Err(stdout + &text(&output.stderr)),
            _ => panic!("{}", text(&output.stderr)),
        }
    }

    /// Sends a signal: `INT` is what Ctrl-C sends.
    pub(crate) fn signal(&self, signal: &str) {
        let id = self.id().to_string();
        let sent = std::process::Command::new("kill")
            .args(["-s", signal, &id])
            .status();
        assert!(sent.unwrap().success());
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Waits for the end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        timeout(PATIENCE, self.child.wait())
            .await
            .expect("the node ends")
            .unwrap()
    }

    /// Ends it in peace.
    pub(crate) async fn stop(mut self) {
        self.signal("INT");
        let status = self.ended().await;
        assert!(status.success(), "{status}\n{}", self.said());
    }

    /// Ends it at once, as a power cut does.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

/// `wharf serve` with the state in `data`, on free ports.
pub(crate) fn serving(data: &Path) -> Command {
    let mut command = wharf();
    command
        .args(["serve", "--http", "127.0.0.1:0", "--api", "127.0.0.1:0"])
        .arg("--data")
        .arg(data);
    command
}

fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .timeout(PATIENCE)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .unwrap()
}

/// An answer that was read to its end.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// Sends a request and reads the answer.
    pub(crate) async fn of(request: RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        Self {
            status: response.status(),
            headers: response.headers().clone(),
            body: response.bytes().await.unwrap().into(),
        }
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        text(&self.body)
    }

    /// The body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The value of a header field, empty if there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

/// A folder with an app in it.
pub(crate) struct App(TempDir);

impl App {
    /// An app of components that are there. In the manifest `{hostile}` and the like stand for the guests' paths.
    pub(crate) fn new(manifest: &str) -> Self {
        let app = Self(tempfile::tempdir().unwrap());
        app.manifest(manifest);
        app
    }

    /// A copy of an example, alone.
    pub(crate) fn example(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy(&repository().join("examples").join(name), folder.path()).unwrap();
        let app = Self(folder);
        stand_alone(app.path(), 2);
        app
    }

    /// Replaces the manifest.
    pub(crate) fn manifest(&self, manifest: &str) {
        let mut manifest = manifest.to_owned();
        for name in [
            "hostile",
            "event_probe",
            "command-probe",
            "p3_hello",
            "p3_middleware",
            "hook_probe",
        ] {
            let pattern = format!("{{{name}}}");
            if manifest.contains(&pattern) {
                let path = guest(name).display().to_string();
                manifest = manifest.replace(&pattern, &path);
            }
        }
        fs::write(self.path().join("wharf.toml"), manifest).unwrap();
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Changes a file of the app.
    pub(crate) fn edit(&self, file: &str, from: &str, to: &str) {
        let path = self.path().join(file);
        let before = fs::read_to_string(&path).unwrap();
        assert!(before.contains(from), "{before}");
        fs::write(&path, before.replace(from, to)).unwrap();
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        let made = ["target", ".wharf", "gen", "node_modules"];
        if made.iter().any(|made| name == *made) {
            continue;
        }
        let target = to.join(&name);
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// The component of a guest in `tests/guests`, which are built at the first call.
pub(crate) fn guest(name: &str) -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    let folder = repository().join("tests/guests");
    let build = || {
        let built = std::process::Command::new("cargo")
            .args(["build", "--release", "--target", "wasm32-wasip2"])
            .current_dir(&folder)
            .env_remove("CARGO_TARGET_DIR")
            .output()
            .unwrap();
        assert!(built.status.success(), "{}", text(&built.stderr));
    };
    BUILT.get_or_init(build);
    let file = format!("target/wasm32-wasip2/release/{name}.wasm");
    folder.join(file)
}

/// The folder of the repository.
pub(crate) fn repository() -> PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}

/// Where examples are built, apart from the host, so that they share their dependencies.
pub(crate) fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("apps")
}

/// Waits until something holds.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, wait)
        .await
        .unwrap_or_else(|_| panic!("not in time: {what}"));
}
