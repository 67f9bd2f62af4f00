//! An authority that gives certificates: Pebble, Let's Encrypt's own test server, and its name server, from Debian.

use std::{
    fs,
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::json;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{Authority, connect};
use crate::{
    process::{Node, eventually},
    support::debian,
    support::ports::free_address,
};

/// Where an authority will be, so that a node can be told before it is there.
pub(crate) struct Place {
    directory: SocketAddr,
    management: SocketAddr,
    names: SocketAddr,
    /// Who vouches for the directory itself.
    authority: Authority,
    files: TempDir,
}

/// A running authority. It knows nothing of what an earlier one at its place did.
pub(crate) struct Pebble {
    processes: [Child; 2],
}

/// How an authority is set up.
pub(crate) struct Settings {
    /// Where it looks for answers in clear text, and over TLS.
    pub(crate) http: u16,
    pub(crate) tls: u16,
    /// How long certificates last: seconds.
    pub(crate) validity: u32,
    /// How many good nonces of a hundred it refuses.
    pub(crate) refused_nonces: u32,
}

impl Settings {
    /// An authority that finds the answers of a node.
    pub(crate) fn of(node: &Node) -> Self {
        Self {
            http: node.http.port(),
            tls: node.https.unwrap().port(),
            validity: 90 * 24 * 60 * 60,
            refused_nonces: 0,
        }
    }
}

impl Place {
    pub(crate) fn new() -> Self {
        let authority = Authority::new();
        let files = tempfile::tempdir().unwrap();
        let own = authority.issue(&["localhost", "127.0.0.1"]);
        let write = |name: &str, text: &str| fs::write(files.path().join(name), text).unwrap();
        write("own.pem", &own.chain);
        write("own.key", &own.key);
        write("ca.pem", &authority.certificate.pem());
        Self {
            directory: free_address(),
            management: free_address(),
            names: free_address(),
            authority,
            files,
        }
    }

    /// The settings of a node that gets its certificates here.
    pub(crate) fn settings(&self, wharf: &mut tokio::process::Command) {
        let directory = format!("https://localhost:{}/dir", self.directory.port());
        wharf
            .args(["--https", "127.0.0.1:0", "--acme-agree"])
            .args(["--acme-contact", "ops@example.com"])
            .args(["--acme-directory", &directory, "--acme-ca"])
            .arg(self.files.path().join("ca.pem"));
    }

    pub(crate) async fn start(&self, settings: &Settings) -> Pebble {
        let config = json!({"pebble": {
            "listenAddress": self.directory.to_string(),
            "managementListenAddress": self.management.to_string(),
            "certificate": self.files.path().join("own.pem"),
            "privateKey": self.files.path().join("own.key"),
            "httpPort": settings.http,
            "tlsPort": settings.tls,
            "certificateValidityPeriod": settings.validity,
        }});
        let path = self.files.path().join("pebble.json");
        fs::write(&path, config.to_string()).unwrap();
        let names = self.names.to_string();
        let start = |command: &mut Command| {
            let command = command.stdin(Stdio::null()).stdout(Stdio::null());
            command.stderr(Stdio::null()).spawn().unwrap()
        };
        // Every name has the address of this machine.
        let resolving = start(
            debian::command("pebble-challtestsrv", "pebble")
                .args(["-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""])
                .args(["-dns01", &names, "-management", ""])
                .args(["-http01", "", "-https01", "", "-tlsalpn01", ""]),
        );
        let giving = start(
            debian::command("pebble", "pebble")
                .args(["-strict", "-dnsserver", &names, "-config"])
                .arg(path)
                .env("PEBBLE_VA_NOSLEEP", "1")
                .env(
                    "PEBBLE_WFE_NONCEREJECT",
                    settings.refused_nonces.to_string(),
                ),
        );
        let pebble = Pebble {
            processes: [resolving, giving],
        };
        for address in [self.directory, self.management, self.names] {
            eventually("the authority is there", async || {
                TcpStream::connect(address).await.is_ok()
            })
            .await;
        }
        pebble
    }

    /// The root of the certificates that it gives: another one each time it starts.
    pub(crate) async fn root(&self) -> CertificateDer<'static> {
        let client = self.authority.client();
        let mut stream = connect(&client, self.management, "localhost")
            .await
            .unwrap();
        let request = b"GET /roots/0 HTTP/1.0\r\nhost: localhost\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).await.unwrap();
        CertificateDer::from_pem_slice(&reply).unwrap()
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        for process in &mut self.processes {
            // They were started here, and keep nothing.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
