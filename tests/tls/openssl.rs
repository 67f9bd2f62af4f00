//! What OpenSSL's client sees: stapling, resumption, ALPN, and alerts for names that nobody has.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::process::Command;

use super::{Authority, Issued};
use crate::{
    process::{Node, PATIENCE, eventually},
    support::debian,
};

/// The only name there is a certificate for.
const NAME: &str = "a.example";

/// A folder with a certificate, and a node that serves it.
struct Served {
    node: Node,
    authority: Authority,
    folder: tempfile::TempDir,
    _data: tempfile::TempDir,
}

impl Served {
    async fn start() -> Self {
        let authority = Authority::new();
        let folder = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| fs::write(folder.path().join(file), text).unwrap();
        write("ca.cert", &authority.certificate.pem());
        write("ca.private", &authority.key);
        let issued = authority.issue(&[NAME]);
        write("a.crt", &issued.chain);
        write("a.key", &issued.key);
        let data = tempfile::tempdir().unwrap();
        let node = Node::serve_with(data.path(), |wharf| {
            wharf
                .args(["--https", "127.0.0.1:0", "--certificates"])
                .arg(folder.path());
        })
        .await;
        Self {
            node,
            authority,
            folder,
            _data: data,
        }
    }

    fn https(&self) -> SocketAddr {
        self.node.https.unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What `openssl s_client` says of a handshake.
    async fn s_client(&self, arguments: &[&str]) -> String {
        let address = self.https().to_string();
        let mut command = Command::from(debian::command("openssl", "openssl"));
        command
            .args(["s_client", "-connect", &address, "-CAfile"])
            .arg(self.file("ca.cert"))
            .args(arguments);
        said(command).await
    }

    /// An OCSP response of the authority for a certificate that is in this state: `V` is valid, `R` revoked.
    async fn respond(&self, certificate: &Path, state: &str, days: &str, into: &str) {
        let mut serial = Command::from(debian::command("openssl", "openssl"));
        serial
            .args(["x509", "-noout", "-serial", "-in"])
            .arg(certificate);
        let serial = said(serial).await;
        let serial = serial.trim().trim_start_matches("serial=");
        let revoked = if state == "R" { "260101000000Z" } else { "" };
        let index = format!("{state}\t491231235959Z\t{revoked}\t{serial}\tunknown\t/CN=x\n");
        fs::write(self.file("index"), index).unwrap();
        let (ca, key) = (self.file("ca.cert"), self.file("ca.private"));
        let mut command = Command::from(debian::command("openssl", "openssl"));
        command
            .args(["ocsp", "-ndays", days, "-index"])
            .arg(self.file("index"))
            .arg("-rsigner")
            .arg(&ca)
            .arg("-rkey")
            .arg(key)
            .arg("-CA")
            .arg(&ca)
            .arg("-issuer")
            .arg(&ca)
            .arg("-cert")
            .arg(certificate)
            .arg("-respout")
            // Written apart and moved, as who cares for it does.
            .arg(self.file("new"));
        let said = said(command).await;
        let moved = fs::rename(self.file("new"), self.file(into));
        assert!(moved.is_ok(), "{said}");
    }
}

/// Both outputs of a program that reads nothing.
async fn said(mut command: Command) -> String {
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(PATIENCE, output).await;
    let output = output.expect("it ends").expect("OpenSSL is installed");
    [output.stdout, output.stderr]
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .concat()
}

#[tokio::test]
async fn a_good_response_is_stapled_and_no_other() {
    let served = Served::start().await;
    let status = async || {
        let said = served.s_client(&["-servername", NAME, "-status"]).await;
        assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
        said.contains("OCSP Response Status: successful")
    };
    assert!(!status().await);
    let own = served.file("a.crt");
    served.respond(&own, "V", "7", "a.ocsp").await;
    eventually("the response is stapled", async || status().await).await;

    let Issued { chain, .. } = served.authority.issue(&[NAME]);
    fs::write(served.file("other"), chain).unwrap();
    let refused = "is not stapled";
    for (number, reason) in [
        "it is no OCSP response in DER",
        "it is of another certificate",
        "it does not say that the certificate is good",
    ]
    .into_iter()
    .enumerate()
    {
        match number {
            0 => fs::write(served.file("a.ocsp"), "garbage").unwrap(),
            1 => {
                let other = served.file("other");
                served.respond(&other, "V", "7", "a.ocsp").await;
            }
            _ => served.respond(&own, "R", "7", "a.ocsp").await,
        }
        served.node.says(reason).await;
        assert!(!status().await, "{reason}");
    }
    assert_eq!(served.node.said().matches(refused).count(), 3);

    // With the certificate a new response comes, as a new pair does.
    let issued = served.authority.issue(&[NAME]);
    fs::write(served.file("a.crt"), &issued.chain).unwrap();
    fs::write(served.file("a.key"), &issued.key).unwrap();
    served.respond(&own, "V", "7", "a.ocsp").await;
    eventually("the new response is stapled", async || status().await).await;
    served.node.stop().await;
}

#[tokio::test]
async fn sessions_are_resumed_over_both_versions() {
    let served = Served::start().await;
    // Five connections after the first, each with its session.
    let said = served
        .s_client(&["-servername", NAME, "-tls1_2", "-reconnect"])
        .await;
    assert_eq!(said.matches("New, TLSv1.2").count(), 1, "{said}");
    assert_eq!(said.matches("Reused, TLSv1.2").count(), 5, "{said}");

    // Over TLS 1.3 the ticket comes after the handshake, so the client has to read.
    let session = served.file("session");
    let session = session.to_str().unwrap();
    let request = "GET / HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n";
    let asked = served.file("request");
    fs::write(&asked, request).unwrap();
    for (flag, expected) in [
        ("-sess_out", "New, TLSv1.3"),
        ("-sess_in", "Reused, TLSv1.3"),
    ] {
        let mut command = Command::from(debian::command("openssl", "openssl"));
        command
            .args(["s_client", "-connect", &served.https().to_string()])
            .args(["-servername", NAME, "-tls1_3", "-ign_eof", flag, session])
            .stdin(fs::File::open(&asked).unwrap())
            .kill_on_drop(true);
        let output = tokio::time::timeout(PATIENCE, command.output()).await;
        let output = output.expect("it ends").unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains(expected), "{flag}: {said}");
        assert!(said.contains("HTTP/1.1 404"), "{flag}: {said}");
    }
    served.node.stop().await;
}

#[tokio::test]
async fn the_protocol_is_the_first_of_ours_that_both_know() {
    let served = Served::start().await;
    for (offered, chosen) in [
        ("h2,http/1.1", "ALPN protocol: h2"),
        ("http/1.1,h2", "ALPN protocol: h2"),
        ("http/1.1", "ALPN protocol: http/1.1"),
        ("h3", "alert no application protocol"),
        // Nobody validates a host now.
        ("acme-tls/1", "alert no application protocol"),
    ] {
        let arguments = ["-servername", NAME, "-alpn", offered];
        let said = served.s_client(&arguments).await;
        assert!(said.contains(chosen), "{offered}: {said}");
    }
    let said = served.s_client(&["-servername", NAME]).await;
    assert!(said.contains("No ALPN negotiated"), "{said}");
    served.node.stop().await;
}

#[tokio::test]
async fn without_a_certificate_a_handshake_ends_with_the_alert_that_says_so() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::serve_with(data.path(), |wharf| {
        wharf.args(["--https", "127.0.0.1:0"]);
    })
    .await;
    let address = node.https.unwrap().to_string();
    for (name, alert) in [
        (&["-servername", NAME][..], "unrecognized name"),
        (&["-noservername"], "missing extension"),
    ] {
        for version in ["-tls1_2", "-tls1_3"] {
            let mut command = Command::from(debian::command("openssl", "openssl"));
            command
                .args(["s_client", "-connect", &address, version])
                .args(name);
            let said = said(command).await;
            assert!(said.contains(alert), "{version}: {said}");
        }
    }
    node.stop().await;
}
