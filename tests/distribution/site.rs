//! A node with one distribution, for `site.example`.

use std::{fs, net::SocketAddr, path::PathBuf};

use tempfile::TempDir;
use tokio::process::Command;

use super::curl::Curl;
use crate::process::{App, Node};

/// The host of the distribution.
pub(crate) const HOST: &str = "site.example";

/// A node, its distribution, and its certificate.
pub(crate) struct Site {
    pub(crate) node: Node,
    /// Its state, which outlives it.
    data: TempDir,
    certificates: TempDir,
}

/// How a site is set up.
#[derive(Default)]
pub(crate) struct Setup<'a> {
    /// Lines for the origin, as in the manifest.
    pub(crate) origin: &'a str,
    /// Lines for the default behaviour.
    pub(crate) behaviour: &'a str,
    /// Further tables.
    pub(crate) more: &'a str,
    /// Arguments of the node.
    pub(crate) node: &'a [&'a str],
}

impl Site {
    /// A site whose origin is the server at this URL.
    pub(crate) async fn of(server: &str) -> Self {
        Self::with(server, Setup::default()).await
    }

    pub(crate) async fn with(server: &str, setup: Setup<'_>) -> Self {
        let (data, certificates) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let certified = rcgen::generate_simple_self_signed([HOST.to_owned()]).unwrap();
        let write = |name: &str, text: String| fs::write(certificates.path().join(name), text);
        write("default.key", certified.signing_key.serialize_pem()).unwrap();
        write("default.crt", certified.cert.pem()).unwrap();
        let node = Node::serve_with(data.path(), |command| {
            tls(command, certificates.path().to_owned());
            command.args(setup.node);
        })
        .await;
        let Setup {
            origin,
            behaviour,
            more,
            node: _,
        } = setup;
        let app = App::new(&format!(
            r#"
            name = "cdn"
            [distributions.site]
            hosts = ["{HOST}"]
            [distributions.site.origins.main]
            servers = ["{server}"]
            private = true
            {origin}
            [distributions.site.default]
            origin = "main"
            {behaviour}
            {more}
            "#
        ));
        node.deploy(app.path()).await;
        Self {
            node,
            data,
            certificates,
        }
    }

    /// The same node again, after it ended in some way.
    pub(crate) async fn again(self, end: impl AsyncFnOnce(Node), arguments: &[&str]) -> Self {
        let Self {
            node,
            data,
            certificates,
        } = self;
        end(node).await;
        let node = Node::serve_with(data.path(), |command| {
            tls(command, certificates.path().to_owned());
            command.args(arguments);
        })
        .await;
        Self {
            node,
            data,
            certificates,
        }
    }

    /// Where it answers with TLS.
    pub(crate) fn https(&self) -> SocketAddr {
        self.node.https.unwrap()
    }

    /// The folder of what it stored.
    pub(crate) fn cache(&self) -> PathBuf {
        self.data.path().join("cache")
    }

    /// A client that speaks HTTP/1.1 in clear text.
    pub(crate) fn curl(&self) -> Curl {
        Curl::new(&format!("http://{HOST}"), self.node.http)
    }

    /// A client that speaks TLS, and the protocol that it is told to.
    pub(crate) fn curl_with_tls(&self) -> Curl {
        let authority = self.certificates.path().join("default.crt");
        Curl::new(&format!("https://{HOST}"), self.https()).trusts(&authority)
    }

    /// What the cache has counted for the distribution.
    pub(crate) async fn counted(&self, what: &str) -> u64 {
        self.summary().await["distributions"]["site"][what]
            .as_u64()
            .unwrap()
    }
    async fn summary(&self) -> serde_json::Value {
        let cache = self.node.wharf(["cache", "--output", "json"]).await;
        serde_json::from_str(&crate::process::done(cache)).unwrap()
    }

    /// Purges what `arguments` name. How many responses went.
    pub(crate) async fn purge(&self, arguments: &[&str]) -> u64 {
        let command = ["purge", "site"].iter().chain(arguments);
        let purged = crate::process::done(self.node.wharf(command).await);
        purged.trim().parse().unwrap()
    }

    /// The bytes of memory that the node has now.
    pub(crate) fn memory(&self) -> u64 {
        let path = format!("/proc/{}/statm", self.node.id());
        let statm = fs::read_to_string(path).unwrap();
        let resident: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
        resident * 4096
    }
}

fn tls(command: &mut Command, certificates: PathBuf) {
    command
        .args(["--https", "127.0.0.1:0", "--certificates"])
        .arg(certificates);
}
