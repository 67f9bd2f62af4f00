//! curl, and what it got.

use std::{fmt, net::SocketAddr, path::Path, process::Stdio};

use super::site::HOST;
use crate::{process::PATIENCE, support::debian};

/// A client of a site.
#[derive(Clone)]
pub(crate) struct Curl {
    /// As in `https://site.example:8443`.
    base: String,
    arguments: Vec<String>,
}

/// What came of a request.
pub(crate) struct Got {
    /// Of curl: 0 is a whole answer.
    pub(crate) exit: i32,
    pub(crate) status: u16,
    /// The lines of the last head.
    head: Vec<String>,
    pub(crate) body: Vec<u8>,
    /// As in `1.1` or `2`.
    pub(crate) version: String,
}

impl Curl {
    /// A client that finds the host of a URL at this address.
    pub(crate) fn new(base: &str, address: SocketAddr) -> Self {
        let resolve = format!("{HOST}:{}:{}", address.port(), address.ip());
        let limit = PATIENCE.as_secs().to_string();
        let arguments = [
            "--silent",
            "--noproxy",
            "*",
            "--max-time",
            &limit,
            "--resolve",
            &resolve,
        ];
        Self {
            base: format!("{base}:{}", address.port()),
            arguments: arguments.map(str::to_owned).into(),
        }
    }

    /// One that trusts this authority.
    pub(crate) fn trusts(self, authority: &Path) -> Self {
        self.with(&["--cacert", authority.to_str().unwrap()])
    }

    /// One with further arguments.
    pub(crate) fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments
            .extend(arguments.iter().map(|text| (*text).to_owned()));
        self
    }

    /// A GET.
    pub(crate) async fn get(&self, path: &str) -> Got {
        self.ask(path, &[]).await
    }

    /// Asks until the answer is a stored one: who got its last byte may be back before it is stored, and shares what comes.
    pub(crate) async fn stored(&self, path: &str, arguments: &[&str]) -> Got {
        let asking = async {
            loop {
                let got = self.ask(path, arguments).await;
                if !got.cache().ends_with("; collapsed") {
                    return got;
                }
            }
        };
        let asked = tokio::time::timeout(PATIENCE, asking).await;
        asked.expect("it is stored in time")
    }

    /// A request with further arguments.
    pub(crate) async fn ask(&self, path: &str, arguments: &[&str]) -> Got {
        let folder = tempfile::tempdir().unwrap();
        let head = folder.path().join("head");
        let mut command = tokio::process::Command::from(debian::command("curl", "curl"));
        let written = command
            .args(&self.arguments)
            .args(arguments)
            .args(["--write-out", "%{stderr}%{http_version} %{http_code}"])
            .arg("--dump-header")
            .arg(&head)
            .arg(format!("{}{path}", self.base))
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = written.await.unwrap();
        let head = std::fs::read_to_string(&head).unwrap_or_default();
        // After interim answers comes the final one.
        let last = head
            .trim_end()
            .rsplit("\r\n\r\n")
            .next()
            .unwrap_or_default();
        let said = String::from_utf8(output.stderr).unwrap();
        let (version, status) = said.rsplit('\n').next().unwrap().split_once(' ').unwrap();
        Got {
            exit: output.status.code().unwrap(),
            status: status.parse().unwrap(),
            head: last.lines().skip(1).map(str::to_owned).collect(),
            body: output.stdout,
            version: version.to_owned(),
        }
    }
}

impl fmt::Debug for Got {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let begin = &self.body[..self.body.len().min(200)];
        write!(
            formatter,
            "{} of HTTP/{}, curl's exit {}: {:?} {} bytes: {}",
            self.status,
            self.version,
            self.exit,
            self.head,
            self.body.len(),
            begin.escape_ascii()
        )
    }
}

impl Got {
    /// A field, all of its lines as one list; empty if it is not there.
    pub(crate) fn field(&self, name: &str) -> String {
        let lines = self.head.iter().filter_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        });
        lines.collect::<Vec<_>>().join(", ")
    }

    /// What the node's cache says it did, without its name.
    pub(crate) fn cache(&self) -> String {
        let status = self.field("cache-status");
        let ours = status.rsplit(", ").next().unwrap();
        ours.strip_prefix("wharf; ").unwrap_or(ours).to_owned()
    }

    pub(crate) fn is_hit(&self) -> bool {
        self.cache().starts_with("hit")
    }

    pub(crate) fn text(&self) -> &str {
        str::from_utf8(&self.body).unwrap()
    }
}
