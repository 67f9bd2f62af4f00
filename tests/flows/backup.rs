//! `wharf backup` and `wharf restore`: a node that goes on, and another one that knows what it knew.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use crate::process::{App, Node, done, eventually, failed, json_lines, run, serving, wharf};

const MANIFEST: &str = "name = 'shop'\n\
    [functions.web]\ncomponent = '{hostile}'\nenvironment = { PASSWORD = 'open-sesame' }\n\
    [functions.event]\ncomponent = '{event_probe}'\nkey_value = ['default']\n\
    [functions.slow]\ncomponent = '{event_probe}'\nkey_value = ['default']\nconcurrency = 1\n\
    [[routes]]\npath = '/'\nfunction = 'web'";

fn count(key: &str, by: u32) -> String {
    format!(r#"{{"do": "count", "key": "{key}", "by": {by}}}"#)
}

async fn counted(node: &Node, key: &str) -> u64 {
    let answer = node.invoke("event", &count(key, 0)).await.unwrap();
    answer.trim().parse().unwrap()
}

async fn restore(archive: &Path, data: &Path, more: &[&str]) -> std::process::Output {
    let mut command = wharf();
    command.arg("restore").arg(archive).arg("--data").arg(data);
    run(command.args(more)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_backed_up_while_it_works_and_another_goes_on_from_there() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let node = Node::serve(&place("first")).await;
    node.deploy(App::new(MANIFEST).path()).await;
    for number in 0..4 {
        let key = format!("event-{number}");
        let event = format!(r#"{{"do": "count", "key": "{key}", "ms": 1000}}"#);
        done(
            node.wharf(["invoke", "slow", "--async", "--payload", &event])
                .await,
        );
    }
    node.invoke("event", &count("n", 5)).await.unwrap();

    let archive = place("backup.tar");
    let path = archive.to_str().unwrap();
    let counting = async {
        for _ in 0..5 {
            node.invoke("event", &count("n", 1)).await.unwrap();
        }
    };
    let (output, ()) = tokio::join!(node.wharf(["backup", path, "--output", "json"]), counting);
    let told = &json_lines(&done(output))[0];
    assert_eq!(
        (&told["functions"], &told["with_key"]),
        (&3.into(), &false.into())
    );
    let metadata = fs::metadata(&archive).unwrap();
    assert_eq!(told["bytes"], metadata.len());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    let bytes = fs::read(&archive).unwrap();
    assert!(!bytes.windows(11).any(|part| part == b"open-sesame"));

    let again = failed(node.wharf(["backup", path]).await);
    assert!(again.contains("is there already"), "{again}");
    done(node.wharf(["backup", path, "--force"]).await);
    fs::write(&archive, bytes).unwrap();
    assert_eq!(node.get("/").await.text(), "hello\n");
    node.kill().await;

    let second = place("second");
    let key = place("first").join("node-key");
    let arguments = ["--key", key.to_str().unwrap(), "--output", "json"];
    let output = restore(&archive, &second, &arguments);
    let told = &json_lines(&done(output.await))[0];
    assert_eq!(
        (&told["functions"], &told["has_key"]),
        (&3.into(), &true.into())
    );
    let node = Node::serve(&second).await;
    eventually("code is compiled again", async || {
        node.get("/").await.text() == "hello\n"
    })
    .await;
    let environment = node.get_at("web.localhost", "/environment").await;
    assert!(
        environment.text().contains("open-sesame"),
        "{environment:?}"
    );
    eventually("code is compiled again", async || {
        node.invoke("event", "1").await.is_ok()
    })
    .await;
    let n = counted(&node, "n").await;
    assert!((5..=10).contains(&n), "{n}");
    for number in 0..4 {
        let key = format!("event-{number}");
        eventually("every event is run", async || {
            counted(&node, &key).await > 0
        })
        .await;
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_key_a_restored_node_says_what_it_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let node = Node::serve(&place("first")).await;
    node.deploy(App::new(MANIFEST).path()).await;
    let archive = place("backup.tar");
    let path = archive.to_str().unwrap();
    done(node.wharf(["backup", path]).await);
    let whole = place("whole.tar");
    let secrets = ["--with-key", "--with-credentials"];
    done(
        node.wharf(
            ["backup", whole.to_str().unwrap()]
                .into_iter()
                .chain(secrets),
        )
        .await,
    );
    let token = node.token();
    node.stop().await;

    let second = place("second");
    let output = restore(&archive, &second, &[]).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    done(output);
    assert!(
        said.contains("does not start before its key is at"),
        "{said}"
    );
    let refused = failed(run(&mut serving(&second)).await);
    assert!(
        refused.contains("node-key") && refused.contains("environment variables"),
        "{refused}"
    );
    fs::copy(place("first").join("node-key"), second.join("node-key")).unwrap();
    Node::serve(&second).await.stop().await;

    let third = place("third");
    done(restore(&archive, &third, &["--forget-secrets"]).await);
    let node = Node::serve(&third).await;
    eventually("code is compiled again", async || {
        node.get("/").await.text() == "hello\n"
    })
    .await;
    let environment = node.get_at("web.localhost", "/environment").await;
    assert!(!environment.text().contains("PASSWORD"), "{environment:?}");
    node.stop().await;

    let fourth = place("fourth");
    done(restore(&whole, &fourth, &[]).await);
    let node = Node::serve(&fourth).await;
    assert_eq!(node.token(), token);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_no_good_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let node = Node::serve(&place("first")).await;
    node.deploy(App::new(MANIFEST).path()).await;
    let archive = place("backup.tar");
    done(node.wharf(["backup", archive.to_str().unwrap()]).await);
    let running = failed(restore(&archive, &place("first"), &[]).await);
    assert!(running.contains("is not empty"), "{running}");
    node.stop().await;

    let bytes = fs::read(&archive).unwrap();
    let data = place("second");
    let refused = async |bytes: &[u8], why: &str| {
        let bad = place("bad.tar");
        fs::write(&bad, bytes).unwrap();
        let refused = failed(restore(&bad, &data, &[]).await);
        assert!(refused.contains(why), "{refused}");
        assert!(!data.exists());
    };
    refused(&bytes[..bytes.len() / 2], "it is cut off").await;
    let mut changed = bytes.clone();
    let middle = bytes.len() / 2;
    changed[middle] ^= 1;
    refused(&changed, "is not what was written").await;
    refused(b"not a backup", "it is not a backup of Wharf's").await;
    done(restore(&archive, &data, &[]).await);
}
