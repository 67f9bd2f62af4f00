//! S3 and a registry, at addresses of this machine: moto from PyPI, and Debian's `docker-registry`.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::LazyLock,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

use crate::support::{aws, debian, eventually, ports::free_address};

/// The node's key for S3.
pub(crate) const KEY: &str = "AKIDEXAMPLE";
pub(crate) const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
pub(crate) const REGION: &str = "eu-central-1";

/// The user of a registry that wants one, and its password, as it is given and as the registry keeps it.
pub(crate) const USER: &str = "node";
pub(crate) const PASSWORD: &str = "s3cret";
const HTPASSWD: &str = "node:$2b$04$qskbgvTDy4brOUJwgFitleo/5TzpOnzcExkJ7sNOEv09NGhRKtaYi\n";

/// A Python that has them.
static PYTHON: LazyLock<PathBuf> = LazyLock::new(|| aws::python_with("servers.txt"));

/// S3 with objects in it.
pub(crate) struct S3Server {
    pub(crate) endpoint: String,
    /// The version of each object.
    pub(crate) versions: Vec<String>,
    _files: TempDir,
    _process: tokio::process::Child,
}

impl S3Server {
    /// Starts it with these objects: bucket, key and bytes.
    pub(crate) async fn start(objects: &[(&str, &str, &[u8])]) -> Self {
        let files = tempfile::tempdir().unwrap();
        let mut named = Vec::new();
        for (index, (bucket, key, bytes)) in objects.iter().enumerate() {
            let path = files.path().join(index.to_string());
            fs::write(&path, bytes).unwrap();
            named.push(json!([bucket, key, path]));
        }
        let settings = json!({"key": KEY, "secret": SECRET, "region": REGION, "objects": named});
        let mut process = tokio::process::Command::new(&*PYTHON)
            .arg(aws::scripts().join("s3.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let stdin = process.stdin.as_mut().unwrap();
        stdin
            .write_all(format!("{settings}\n").as_bytes())
            .await
            .unwrap();
        let mut line = String::new();
        let stdout = process.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).await.unwrap();
        let said: Value = serde_json::from_str(&line).expect("S3 starts");
        Self {
            endpoint: format!("http://127.0.0.1:{}", said["port"]),
            versions: serde_json::from_value(said["versions"].clone()).unwrap(),
            _files: files,
            _process: process,
        }
    }
}

/// A registry.
pub(crate) struct Registry {
    /// As in `127.0.0.1:5000`.
    pub(crate) host: String,
    /// What it keeps, to be changed behind its back.
    pub(crate) data: TempDir,
    process: Child,
}

impl Registry {
    /// Starts one that lets everybody in, or only [`USER`].
    pub(crate) async fn start(only_the_user: bool) -> Self {
        let data = tempfile::tempdir().unwrap();
        let address = free_address();
        let mut config = json!({
            "version": 0.1,
            "log": {"accesslog": {"disabled": true}, "level": "error"},
            "storage": {"filesystem": {"rootdirectory": data.path().join("data")}},
            "http": {"addr": address.to_string()},
        });
        if only_the_user {
            let path = data.path().join("htpasswd");
            fs::write(&path, HTPASSWD).unwrap();
            config["auth"] = json!({"htpasswd": {"realm": "test", "path": path}});
        }
        // YAML takes JSON.
        let path = data.path().join("config.yml");
        let mut file = fs::File::create(&path).unwrap();
        file.write_all(config.to_string().as_bytes()).unwrap();
        let process = debian::command("docker-registry", "docker-registry")
            .arg("serve")
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the registry starts");
        let registry = Self {
            host: address.to_string(),
            data,
            process,
        };
        eventually(async || {
            let connected = tokio::net::TcpStream::connect(address).await;
            connected.ok().map(drop)
        })
        .await;
        registry
    }

    /// Pushes files with ORAS, from a folder. Gives the manifest's digest.
    pub(crate) async fn push_with_oras(&self, name: &str, folder: &Path, files: &[&str]) -> String {
        let output = tokio::process::Command::new(&*PYTHON)
            .arg(aws::scripts().join("push.py"))
            .arg(format!("{}/{name}", self.host))
            .args(files)
            .current_dir(folder)
            .output()
            .await
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It was started here, and its files go with it.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
