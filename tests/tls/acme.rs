//! Automatic certificates, from an authority that looks whether the hosts are the node's.

use std::{fs, net::SocketAddr, path::Path};

use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    client, connect, get, origin,
    pebble::{Place, Settings},
    presented,
};
use crate::process::{App, Node, done, eventually, failed, run, serving, wharf};

/// A port of this machine at which nobody answers.
const NOBODY: u16 = 1;

async fn app(hosts: &str) -> App {
    App::new(&format!(
        r#"
        name = "cdn"
        [distributions.site]
        hosts = {hosts}
        certificate = "automatic"
        [distributions.site.origins.main]
        servers = ["http://{}"]
        private = true
        [distributions.site.default]
        origin = "main"
        "#,
        origin().await
    ))
}

const GIVEN: &str = "a certificate was given";

/// A handshake with a node that is about to have a certificate for a name.
async fn connect_at_last(
    client: &TlsConnector,
    node: SocketAddr,
    name: &'static str,
) -> TlsStream<TcpStream> {
    let mut connected = None;
    eventually("there is a certificate", async || {
        connected = connect(client, node, name).await.ok();
        connected.is_some()
    })
    .await;
    connected.unwrap()
}

#[tokio::test]
async fn a_distribution_gets_a_certificate_that_outlives_the_node_and_the_authority() {
    let place = Place::new();
    let data = tempfile::tempdir().unwrap();
    let node = Node::serve_with(data.path(), |wharf| place.settings(wharf)).await;
    let pebble = place.start(&Settings::of(&node)).await;
    let client = client([place.root().await]);
    let app = app(r#"["a.example", "b.example", "127.0.0.1"]"#).await;
    node.deploy(app.path()).await;
    node.says(GIVEN).await;
    node.says("an account was made").await;
    let https = node.https.unwrap();
    let mut certificates = Vec::new();
    for name in ["a.example", "b.example"] {
        let mut stream = connect_at_last(&client, https, name).await;
        certificates.push(presented(&stream));
        let answer = get(&mut stream, name).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
    assert_eq!(certificates[0], certificates[1]);
    let listed = done(node.wharf(["distributions"]).await);
    assert!(listed.contains("a.example"), "{listed}");
    // The answer to the authority is no longer given.
    let reply = node
        .get_at("a.example", "/.well-known/acme-challenge/x")
        .await;
    assert_eq!(reply.text(), "from the origin\n");

    // A host more: another certificate, from the same account.
    app.edit(
        "wharf.toml",
        r#""b.example""#,
        r#""b.example", "c.example""#,
    );
    node.deploy(app.path()).await;
    connect_at_last(&client, https, "c.example").await;
    let stream = connect(&client, https, "a.example").await.unwrap();
    let given = presented(&stream);
    assert_ne!(given, certificates[0]);
    assert_eq!(node.said().matches("an account was made").count(), 1);
    node.stop().await;
    drop(pebble);
    assert!(
        !holds(data.path(), b"PRIVATE KEY"),
        "a key is in clear text"
    );

    let node = Node::serve_with(data.path(), |wharf| place.settings(wharf)).await;
    let https = node.https.unwrap();
    let stream = connect(&client, https, "a.example").await.unwrap();
    assert_eq!(presented(&stream), given);
    assert!(!node.said().contains(GIVEN));
    node.stop().await;

    // Who does not agree any more has it for as long as it is good, and is told.
    let node = Node::serve_with(data.path(), |wharf| {
        wharf.args(["--https", "127.0.0.1:0"]);
    })
    .await;
    node.says("automatic certificates are not renewed, for want of --acme-agree")
        .await;
    let https = node.https.unwrap();
    let stream = connect(&client, https, "a.example").await.unwrap();
    assert_eq!(presented(&stream), given);
    done(node.wharf(["distributions", "--remove", "site"]).await);
    let refused = connect(&client, https, "a.example").await.unwrap_err();
    assert!(refused.contains("UnrecognisedName"), "{refused}");
    node.stop().await;
}

/// Whether these bytes stand in the database.
fn holds(data: &Path, wanted: &[u8]) -> bool {
    ["wharf.db", "wharf.db-wal"].iter().any(|file| {
        let bytes = fs::read(data.join(file)).unwrap_or_default();
        bytes.windows(wanted.len()).any(|window| window == wanted)
    })
}

#[tokio::test]
async fn where_clear_text_is_not_reached_the_handshake_is_the_proof() {
    let place = Place::new();
    let data = tempfile::tempdir().unwrap();
    let node = Node::serve_with(data.path(), |wharf| place.settings(wharf)).await;
    let _pebble = place
        .start(&Settings {
            http: NOBODY,
            ..Settings::of(&node)
        })
        .await;
    let client = client([place.root().await]);
    let app = app(r#"["a.example", "b.example"]"#).await;
    node.deploy(app.path()).await;
    node.says(GIVEN).await;
    connect_at_last(&client, node.https.unwrap(), "b.example").await;
    node.stop().await;
}

#[tokio::test]
async fn a_certificate_is_renewed_under_open_connections_although_nonces_are_refused() {
    let place = Place::new();
    let data = tempfile::tempdir().unwrap();
    let node = Node::serve_with(data.path(), |wharf| place.settings(wharf)).await;
    let _pebble = place
        .start(&Settings {
            validity: 30,
            refused_nonces: 10,
            ..Settings::of(&node)
        })
        .await;
    let client = client([place.root().await]);
    let app = app(r#"["a.example"]"#).await;
    node.deploy(app.path()).await;
    node.says(GIVEN).await;
    let https = node.https.unwrap();
    let mut open = connect_at_last(&client, https, "a.example").await;
    // From now on it may be idle for longer than the certificate lasts.
    get(&mut open, "a.example").await;
    let first = presented(&open);
    eventually("there is another", async || {
        let fresh = connect(&client, https, "a.example").await;
        fresh.is_ok_and(|fresh| presented(&fresh) != first)
    })
    .await;
    let answer = get(&mut open, "a.example").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    node.stop().await;
}

#[tokio::test]
async fn without_a_certificate_the_node_says_why_serves_on_and_tries_again_when_deployed() {
    let place = Place::new();
    let data = tempfile::tempdir().unwrap();
    let node = Node::serve_with(data.path(), |wharf| place.settings(wharf)).await;
    let https = node.https.unwrap();
    let app = app(r#"["a.example"]"#).await;
    let refused = "no certificate was given";
    let failures = async |number: usize, reason: &str| {
        eventually(reason, async || {
            let said = node.said();
            said.matches(refused).count() == number && said.contains(reason)
        })
        .await;
        let reply = node.get_at("a.example", "/").await;
        assert_eq!(reply.text(), "from the origin\n");
    };
    // Nobody is there.
    node.deploy(app.path()).await;
    failures(1, "make an account").await;

    // An authority that finds no answer.
    let blind = Settings {
        http: NOBODY,
        tls: NOBODY,
        ..Settings::of(&node)
    };
    let pebble = place.start(&blind).await;
    node.deploy(app.path()).await;
    failures(2, "http-01 failed: `a.example`: ").await;
    let said = node.said();
    assert!(said.contains("tls-alpn-01 failed: `a.example`: "), "{said}");
    drop(pebble);

    // One that does not know the account, so that another has to be made.
    let _pebble = place.start(&Settings::of(&node)).await;
    let client = client([place.root().await]);
    node.deploy(app.path()).await;
    failures(3, "(accountDoesNotExist)").await;
    assert!(connect(&client, https, "a.example").await.is_err());
    node.deploy(app.path()).await;
    connect_at_last(&client, https, "a.example").await;
    node.stop().await;
}

#[tokio::test]
async fn automatic_certificates_want_an_agreement_tls_and_hosts_that_an_authority_can_look_at() {
    let data = tempfile::tempdir().unwrap();
    for (arguments, reason) in [
        (&["--acme-agree"][..], "--https"),
        (&["--acme-contact", "ops@example.com"], "--acme-agree"),
        (
            &[
                "--https",
                "127.0.0.1:0",
                "--acme-directory",
                "https://a.example/",
            ],
            "--acme-agree",
        ),
        (
            &[
                "--https",
                "127.0.0.1:0",
                "--acme-agree",
                "--acme-ca",
                "/no/such/file",
            ],
            "/no/such/file",
        ),
    ] {
        let said = failed(run(serving(data.path()).args(arguments)).await);
        assert!(said.contains(reason), "{said}");
    }
    for (flag, value) in [
        ("--acme-directory", "http://a.example/"),
        ("--acme-contact", "ops"),
    ] {
        let output = run(serving(data.path()).args([flag, value])).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(flag) && said.contains(value), "{said}");
    }

    let node = Node::serve_with(data.path(), |wharf| {
        wharf.args(["--https", "127.0.0.1:0"]);
    })
    .await;
    let site = app(r#"["a.example"]"#).await;
    let said = failed(
        node.wharf(["deploy".as_ref(), site.path().as_os_str()])
            .await,
    );
    assert!(
        said.contains("`site`: certificate: ") && said.contains("--acme-agree"),
        "{said}"
    );
    node.stop().await;
    for (hosts, reason) in [
        (
            r#"["a.example", "*.a.example"]"#,
            "`*.a.example` gets no automatic certificate",
        ),
        (r#"["127.0.0.1"]"#, "no certificate is for an address"),
    ] {
        let site = app(hosts).await;
        let said = failed(run(wharf().arg("validate").arg(site.path())).await);
        assert!(said.contains(reason), "{said}");
    }
}
