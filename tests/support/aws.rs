//! AWS's own clients: boto3, the AWS CLI, and botocore as what signs.
//!
//! They are installed from PyPI into the target folder by the first test that wants them; that needs Python 3 with
//! `venv`. They have nothing but the node's endpoint and its credentials.
//!
//! ```ignore
//! let answers = aws::call(&node, json!([
//!     {"operation": "invoke", "parameters": {"FunctionName": "probe"}},
//!     {"service": "sts", "operation": "get_caller_identity"},
//! ])).await;
//! ```

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::LazyLock,
    time::Duration,
};

use serde_json::Value;
use tokio::{io::AsyncWriteExt as _, process::Command, time::timeout};
use wharf::control::CREDENTIALS_FILE;

use super::{Node, Reply};

/// How long a client may take. Far more than it does: Python starts in a second or two.
const PATIENCE: Duration = Duration::from_secs(120);

/// A Python that has the clients.
static PYTHON: LazyLock<PathBuf> = LazyLock::new(|| python_with("requirements.txt"));

/// A Python that has what a file of requirements names, installed by the first who wants it.
pub(crate) fn python_with(requirements: &str) -> PathBuf {
    let requirements = scripts().join(requirements);
    let wanted = fs::read_to_string(&requirements).unwrap();
    let digest = wharf::model::Digest::of(wanted.as_bytes()).to_string();
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let installed = target.join(format!("aws-clients-{}", &digest[..16]));
    let python = installed.join("bin/python");
    if python.exists() {
        return python;
    }
    // Made apart, and moved when it is whole: another process may be at it too.
    let making = tempfile::tempdir_in(target).unwrap();
    let folder = making.path().join("venv");
    let run = |program: &Path, arguments: &[&str]| {
        let output = std::process::Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .output();
        let output = output.unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}");
    };
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    run(Path::new("python3"), &["-m", "venv", &text(&folder)]);
    let install = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--requirement",
    ];
    run(
        &folder.join("bin/python"),
        &[&install[..], &[&text(&requirements)]].concat(),
    );
    let moved = fs::rename(&folder, &installed);
    assert!(python.exists(), "{moved:?}");
    python
}

/// The folder of the scripts and of what they require.
pub(crate) fn scripts() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/aws"))
}

/// Python with the clients, whose settings are the endpoint and the node's credentials.
pub(crate) fn python(node: &Node) -> Command {
    let mut command = Command::new(&*PYTHON);
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().to_ascii_uppercase();
        if name.starts_with("AWS_") || name.ends_with("_PROXY") || name.starts_with("PYTHON") {
            command.env_remove(name);
        }
    }
    command
        .env("AWS_ENDPOINT_URL", format!("http://{}", node.api))
        .env(
            "AWS_SHARED_CREDENTIALS_FILE",
            node.data().join(CREDENTIALS_FILE),
        )
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("NO_PROXY", "*")
        .current_dir(node.data())
        .kill_on_drop(true)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// What a program that is given `input` ends with.
pub(crate) async fn run(command: &mut Command, input: &str) -> Output {
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let output = async {
        stdin.write_all(input.as_bytes()).await.unwrap();
        drop(stdin);
        child.wait_with_output().await.unwrap()
    };
    timeout(PATIENCE, output).await.expect("it ends")
}

/// Has boto3 make calls, one after the other, as `tests/aws/call.py` says: the answer to each.
pub(crate) async fn call(node: &Node, calls: Value) -> Vec<Value> {
    script(node, "call.py", calls).await
}

/// What the AWS CLI prints, called with these arguments.
///
/// # Panics
///
/// It fails, or what it prints is not JSON.
pub(crate) async fn cli(node: &Node, arguments: &[&str]) -> Value {
    let mut aws = python(node);
    let output = run(aws.args(["-m", "awscli"]).args(arguments), "").await;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    match output.stdout.is_empty() {
        true => Value::Null,
        false => serde_json::from_slice(&output.stdout).unwrap(),
    }
}

/// A script's answers to what it is given.
pub(crate) async fn script(node: &Node, name: &str, input: Value) -> Vec<Value> {
    let output = run(python(node).arg(scripts().join(name)), &input.to_string()).await;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{stderr}");
    let stdout = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<Value> = stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(answers.len(), input.as_array().unwrap().len());
    answers
}

/// A request that botocore signed.
#[derive(Debug, Clone)]
pub(crate) struct Signed {
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Signed {
    pub(crate) async fn send(&self, node: &Node) -> Reply {
        let mut request = node.web.request(self.method.parse().unwrap(), &self.url);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        Reply::of(request.body(self.body.clone())).await
    }

    pub(crate) fn header(mut self, name: &str, change: impl FnOnce(&str) -> String) -> Self {
        let mut headers = self.headers.iter_mut();
        let (_, value) = headers
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .unwrap();
        *value = change(value);
        self
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers
            .retain(|(found, _)| !found.eq_ignore_ascii_case(name));
        self
    }

    pub(crate) fn body(mut self, body: &str) -> Self {
        body.clone_into(&mut self.body);
        self
    }

    pub(crate) fn url(mut self, from: &str, to: &str) -> Self {
        assert!(self.url.contains(from), "{}", self.url);
        self.url = self.url.replacen(from, to, 1);
        self
    }
}

/// Has botocore sign requests with another's access key.
pub(crate) async fn sign_as(
    node: &Node,
    key_id: &str,
    secret: &str,
    mut wanted: Value,
) -> Vec<Signed> {
    for wanted in wanted.as_array_mut().unwrap() {
        wanted["key_id"] = key_id.into();
        wanted["secret"] = secret.into();
    }
    sign(node, wanted).await
}

/// Has botocore sign requests.
pub(crate) async fn sign(node: &Node, wanted: Value) -> Vec<Signed> {
    let signed = script(node, "sign.py", wanted).await;
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    signed
        .into_iter()
        .map(|signed| Signed {
            method: text(&signed["method"]),
            url: text(&signed["url"]),
            headers: signed["headers"]
                .as_object()
                .unwrap()
                .iter()
                .map(|(name, value)| (name.clone(), text(value)))
                .collect(),
            body: text(&signed["body"]),
        })
        .collect()
}

/// Has a file of promises keep one, against a node.
///
/// # Panics
///
/// It is not kept: the message is the script's.
pub(crate) async fn promise(node: &Node, file: &str, name: &str) {
    let mut command = python(node);
    command
        .env("GUESTS", super::guests::folder_of_built())
        .env("DATA", node.data())
        .arg(scripts().join(file))
        .arg(name);
    let output = run(&mut command, "").await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
}

/// Tests, each of which is a promise of a file in `tests/aws`, kept against a node of its own.
macro_rules! promises {
    ($file:literal: $($name:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let node = $crate::support::Node::start().await;
                $crate::support::aws::promise(&node, $file, stringify!($name)).await;
            }
        )*
    };
}

pub(crate) use promises;
