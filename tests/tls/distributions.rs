//! Certificates that distributions bring.

use std::{fs, path::Path};

use rcgen::date_time_ymd;
use serde_json::json;
use tokio::process::Command;

use super::{Authority, Issued, connect, get, origin, presented};
use crate::process::{App, Node, Reply, done, failed, run, wharf};

const SITE: &str = "site.example";

/// An app with a distribution that has a certificate of its own.
async fn app(hosts: &str, certificate: &Issued) -> App {
    let app = App::new(&format!(
        r#"
        name = "cdn"
        [distributions.site]
        hosts = {hosts}
        certificate = {{ chain = "site.pem", key = "site.key" }}
        [distributions.site.origins.main]
        servers = ["http://{}"]
        private = true
        [distributions.site.default]
        origin = "main"
        cache = {{ negative = {{ 404 = "10 s" }} }}
        "#,
        origin().await
    ));
    write(app.path(), certificate);
    app
}

fn write(folder: &Path, certificate: &Issued) {
    fs::write(folder.join("site.pem"), &certificate.chain).unwrap();
    fs::write(folder.join("site.key"), &certificate.key).unwrap();
}

fn with_tls(wharf: &mut Command) {
    wharf.args(["--https", "127.0.0.1:0"]);
}

#[tokio::test]
async fn a_distribution_brings_its_certificate_and_a_deployment_changes_it_under_open_connections()
{
    let authority = Authority::new();
    let client = authority.client();
    let data = tempfile::tempdir().unwrap();
    let node = Node::serve_with(data.path(), with_tls).await;
    let https = node.https.unwrap();
    node.says("no TLS handshake succeeds").await;
    let refused = connect(&client, https, SITE).await.unwrap_err();
    assert!(refused.contains("UnrecognisedName"), "{refused}");

    let first = authority.issue(&[SITE, "*.cdn.example", "elsewhere.example"]);
    let app = app(r#"["site.example", "*.cdn.example"]"#, &first).await;
    node.deploy(app.path()).await;
    let mut open = connect(&client, https, SITE).await.unwrap();
    assert_eq!(presented(&open), first.der);
    let answer = get(&mut open, SITE).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    connect(&client, https, "a.cdn.example").await.unwrap();
    // A name of the certificate that is no host of the distribution is another's.
    for name in ["elsewhere.example", "cdn.example", "a.b.cdn.example"] {
        let refused = connect(&client, https, name).await.unwrap_err();
        assert!(refused.contains("UnrecognisedName"), "{name}: {refused}");
    }

    let second = authority.issue(&[SITE, "*.cdn.example"]);
    write(app.path(), &second);
    node.deploy(app.path()).await;
    let fresh = connect(&client, https, SITE).await.unwrap();
    assert_eq!(presented(&fresh), second.der);
    let answer = get(&mut open, SITE).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");

    let listed = done(node.wharf(["distributions", "--output", "json"]).await);
    assert!(listed.contains("BEGIN CERTIFICATE"), "{listed}");
    assert!(listed.contains(r#""negative":{"404":10}"#), "{listed}");
    assert!(!listed.contains("PRIVATE KEY"), "{listed}");
    node.stop().await;
    // The second line of a key's PEM is of the key itself.
    let secret = second.key.lines().nth(1).unwrap().as_bytes();
    for file in ["wharf.db", "wharf.db-wal"] {
        let bytes = fs::read(data.path().join(file)).unwrap_or_default();
        let found = bytes.windows(secret.len()).any(|window| window == secret);
        assert!(!found, "the private key stands in {file}");
    }

    let node = Node::serve_with(data.path(), with_tls).await;
    let https = node.https.unwrap();
    let kept = connect(&client, https, SITE).await.unwrap();
    assert_eq!(presented(&kept), second.der);
    done(node.wharf(["distributions", "--remove", "site"]).await);
    let refused = connect(&client, https, SITE).await.unwrap_err();
    assert!(refused.contains("UnrecognisedName"), "{refused}");
    node.stop().await;
}

#[tokio::test]
async fn a_distribution_goes_before_the_folder_which_has_all_other_names() {
    let authority = Authority::new();
    let client = authority.client();
    let folder = tempfile::tempdir().unwrap();
    let default = authority.issue(&[SITE, "other.example"]);
    fs::write(folder.path().join("a.crt"), &default.chain).unwrap();
    fs::write(folder.path().join("a.key"), &default.key).unwrap();
    let data = tempfile::tempdir().unwrap();
    let node = Node::serve_with(data.path(), |wharf| {
        with_tls(wharf);
        wharf.arg("--certificates").arg(folder.path());
    })
    .await;
    let https = node.https.unwrap();
    let own = authority.issue(&[SITE]);
    let app = app(r#"["site.example"]"#, &own).await;
    node.deploy(app.path()).await;
    let site = connect(&client, https, SITE).await.unwrap();
    assert_eq!(presented(&site), own.der);
    let other = connect(&client, https, "other.example").await.unwrap();
    assert_eq!(presented(&other), default.der);
    done(node.wharf(["distributions", "--remove", "site"]).await);
    let site = connect(&client, https, SITE).await.unwrap();
    assert_eq!(presented(&site), default.der);
    node.stop().await;
}

#[tokio::test]
async fn a_certificate_that_is_of_no_use_is_refused_before_anything_is_deployed() {
    let authority = Authority::new();
    let good = authority.issue(&[SITE]);
    let expired = authority.issue_with(&[SITE], |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2020, 4, 1);
    });
    let future = authority.issue_with(&[SITE], |params| {
        params.not_before = date_time_ymd(3020, 1, 1);
        params.not_after = date_time_ymd(3020, 4, 1);
    });
    let other = authority.issue(&["other.example"]);
    let data = tempfile::tempdir().unwrap();
    let node = Node::serve_with(data.path(), with_tls).await;
    let app = app(r#"["site.example"]"#, &good).await;
    for (chain, key, blamed, reason) in [
        (
            &*good.chain,
            &*other.key,
            "key",
            "is not that of the first certificate",
        ),
        (
            &expired.chain,
            &expired.key,
            "chain",
            "expired at 2020-04-01T00:00:00Z",
        ),
        (
            &future.chain,
            &future.key,
            "chain",
            "not valid before 3020-01-01T00:00:00Z",
        ),
        (
            &other.chain,
            &other.key,
            "chain",
            "not for the host `site.example`: its names are other.example",
        ),
        ("", &good.key, "chain", "holds no certificate"),
        (&good.chain, "", "key", "holds no private key"),
    ] {
        fs::write(app.path().join("site.pem"), chain).unwrap();
        fs::write(app.path().join("site.key"), key).unwrap();
        for verb in ["validate", "deploy"] {
            let said = failed(node.wharf([verb.as_ref(), app.path().as_os_str()]).await);
            let key = format!("distributions.site.certificate.{blamed}: ");
            assert!(
                said.contains(&key) && said.contains(reason),
                "{verb}: {said}"
            );
            assert!(said.contains("site."), "{verb}: {said}");
        }
        // Whoever does not come by the command line is told the same.
        let put = put(&node, json!({"chain": chain}), Some(key)).await;
        let key = match blamed {
            "key" => "private_key: ",
            _ => "certificate.chain: ",
        };
        let said = put.text();
        assert_eq!(put.status, 400, "{said}");
        assert!(said.contains(key) && said.contains(reason), "{said}");
    }
    let alone = put(&node, json!({"chain": good.chain}), None).await;
    assert!(alone.text().contains("private_key: "), "{}", alone.text());
    let unasked = put(&node, json!(null), Some(&good.key)).await;
    assert!(
        unasked.text().contains("no certificate"),
        "{}",
        unasked.text()
    );
    fs::remove_file(app.path().join("site.key")).unwrap();
    let said = failed(run(wharf().arg("validate").arg(app.path())).await);
    assert!(
        said.contains("certificate.key: read ") && said.contains("site.key"),
        "{said}"
    );
    write(app.path(), &good);
    done(run(wharf().arg("validate").arg(app.path())).await);
    node.stop().await;

    let data = tempfile::tempdir().unwrap();
    let node = Node::serve(data.path()).await;
    let said = failed(
        node.wharf(["deploy".as_ref(), app.path().as_os_str()])
            .await,
    );
    assert!(
        said.contains("`site`: certificate: ") && said.contains("--https"),
        "{said}"
    );
    node.stop().await;
}

/// What the API says to a distribution with this certificate and key.
async fn put(node: &Node, certificate: serde_json::Value, key: Option<&str>) -> Reply {
    let mut document = json!({
        "name": "site",
        "hosts": [SITE],
        "certificate": certificate,
        "origins": {"main": {"servers": [{"url": "https://origin.example"}]}},
        "default": {"target": {"origin": "main"}},
    });
    if let Some(key) = key {
        document["private_key"] = json!(key);
    }
    let url = format!("http://{}/wharf/v1/distributions/site", node.api);
    let request = reqwest::Client::new()
        .put(url)
        .bearer_auth(node.token())
        .json(&document);
    Reply::of(request).await
}
