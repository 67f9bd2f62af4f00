//! What was deployed outlives the process, however that ended.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use crate::process::{App, Node, PATIENCE, done, eventually, guest};

/// The compiled code in a data folder: each file, and when it was written.
fn artifacts(data: &Path) -> BTreeMap<std::path::PathBuf, SystemTime> {
    let mut found = BTreeMap::new();
    for folder in fs::read_dir(data.join("artifacts")).unwrap().flatten() {
        let Ok(files) = fs::read_dir(folder.path()) else {
            continue;
        };
        for file in files.flatten() {
            found.insert(file.path(), file.metadata().unwrap().modified().unwrap());
        }
    }
    found
}

const MANIFEST: &str = "name = 'a'\n\
    [functions.web]\ncomponent = '{hostile}'\nkey_value = ['default']\n\
    [functions.event]\ncomponent = '{event_probe}'\n\
    [[routes]]\npath = '/{*rest}'\nfunction = 'web'";

#[tokio::test]
async fn what_is_deployed_is_served_again_without_compiling() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::serve(data.path()).await;
    let app = App::new(MANIFEST);
    node.deploy(app.path()).await;
    node.stop().await;
    let before = artifacts(data.path());
    assert_eq!(before.len(), 4, "{before:?}");

    // Without a compiler: the component itself cannot be read any more.
    let blobs = data.path().join("blobs");
    let hidden = data.path().join("hidden");
    fs::rename(&blobs, &hidden).unwrap();
    let node = Node::serve(data.path()).await;
    assert_eq!(node.get("/").await.text(), "hello\n");
    assert_eq!(node.invoke("event", "1").await.unwrap(), "1\n");
    assert_eq!(artifacts(data.path()), before);
    node.stop().await;
}

#[tokio::test]
async fn a_component_that_is_deployed_already_is_not_compiled_again() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::serve(data.path()).await;
    let app = App::new(MANIFEST);
    node.deploy(app.path()).await;
    let before = artifacts(data.path());
    let wasm = guest("hostile");
    let wasm = wasm.to_str().unwrap();
    done(
        node.wharf(["deploy", "--wasm", wasm, "--name", "again"])
            .await,
    );
    node.deploy(app.path()).await;
    assert_eq!(artifacts(data.path()), before);
    node.stop().await;
}

#[tokio::test]
async fn compiled_code_that_another_version_left_or_that_is_gone_is_made_again() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::serve(data.path()).await;
    node.deploy(App::new(MANIFEST).path()).await;
    node.stop().await;
    for file in artifacts(data.path()).keys() {
        fs::remove_file(file).unwrap();
    }
    // The node serves at once; what has to be compiled answers when it is.
    let node = Node::serve(data.path()).await;
    eventually("http is compiled", async || {
        node.get("/").await.text() == "hello\n"
    })
    .await;
    let event = async || {
        node.invoke("event", "1")
            .await
            .is_ok_and(|answer| answer == "1\n")
    };
    eventually("event is compiled", event).await;
    node.stop().await;
}

#[tokio::test]
async fn compiled_code_that_was_changed_is_not_run_and_deploying_again_mends_it() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::serve(data.path()).await;
    let app = App::new(MANIFEST);
    node.deploy(app.path()).await;
    node.stop().await;
    for file in artifacts(data.path()).keys() {
        let mut bytes = fs::read(file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(file, bytes).unwrap();
    }
    let node = Node::serve(data.path()).await;
    let refused = node.get("/").await;
    assert_eq!(refused.header("x-wharf-error"), "internal");
    assert!(node.said().contains("is damaged"), "{}", node.said());
    node.deploy(app.path()).await;
    assert_eq!(node.get("/").await.text(), "hello\n");
    assert_eq!(node.invoke("event", "1").await.unwrap(), "1\n");
    node.stop().await;
}

#[tokio::test]
async fn a_function_whose_secret_is_missing_is_not_served_and_comes_back_with_it() {
    let data = tempfile::tempdir().unwrap();
    let with_secret = || {
        Node::serve_with(data.path(), |wharf| {
            wharf.env("THE_TOKEN", "secret");
        })
    };
    let node = with_secret().await;
    let app = App::new(
        "name = 'a'\n[functions.web]\ncomponent = '{hostile}'\n\
         secrets = { TOKEN = { env = 'THE_TOKEN' } }\n\
         [functions.other]\ncomponent = '{event_probe}'",
    );
    node.deploy(app.path()).await;
    node.stop().await;

    let node = Node::serve(data.path()).await;
    assert_eq!(node.get_at("web.localhost", "/").await.status, 404);
    assert_eq!(node.invoke("other", "1").await.unwrap(), "1\n");
    assert!(node.said().contains("THE_TOKEN"), "{}", node.said());
    node.stop().await;

    let node = with_secret().await;
    assert_eq!(node.get_at("web.localhost", "/").await.text(), "hello\n");
    node.stop().await;
}

#[tokio::test]
async fn a_function_that_is_not_served_can_still_be_removed_and_redeployed() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::serve_with(data.path(), |wharf| {
        wharf.env("THE_TOKEN", "secret");
    })
    .await;
    let secret = "component = '{hostile}'\nsecrets = { TOKEN = { env = 'THE_TOKEN' } }\n";
    let app = App::new(&format!(
        "name = 'a'\n[functions.one]\n{secret}[functions.two]\n{secret}"
    ));
    node.deploy(app.path()).await;
    node.stop().await;

    let node = Node::serve(data.path()).await;
    done(node.wharf(["functions", "--remove", "one"]).await);
    // The app without its second function, which then is gone for good.
    app.manifest("name = 'a'\n[functions.three]\ncomponent = '{hostile}'");
    node.deploy(app.path()).await;
    node.stop().await;
    let node = Node::serve_with(data.path(), |wharf| {
        wharf.env("THE_TOKEN", "secret");
    })
    .await;
    let listed = done(node.wharf(["functions"]).await);
    assert_eq!(listed.lines().count(), 1, "{listed}");
    assert!(listed.starts_with("three"), "{listed}");
    node.stop().await;
}

#[tokio::test]
async fn whatever_moment_a_node_is_killed_each_deployment_is_whole_or_absent() {
    let data = tempfile::tempdir().unwrap();
    // Two functions and a route of one app that tell which deployment they are of.
    let manifest = |round: u32| {
        format!(
            "name = 'a'\n\
             [functions.web]\ncomponent = '{{hostile}}'\nconfig = {{ round = '{round}' }}\n\
             [functions.pair]\ncomponent = '{{hostile}}'\nconfig = {{ round = '{round}' }}\n\
             [[routes]]\npath = '/round'\nresponse = {{ body = '{round}' }}",
        )
    };
    let app = App::new(&manifest(0));
    let node = Node::serve(data.path()).await;
    node.deploy(app.path()).await;
    node.stop().await;
    let mut served = 0;
    let mut attempts = 0;
    let mut pause = Duration::from_millis(7);
    // However fast the machine is: until one was.
    while attempts < 12 || served == 0 {
        attempts += 1;
        pause += pause / 4;
        let node = Node::serve(data.path()).await;
        let round = node.get("/round").await.text();
        for host in ["web.localhost", "pair.localhost"] {
            let config = node.get_at(host, "/config").await.text();
            assert!(
                config.contains(&format!("\"{round}\"")),
                "round {round}, {host}: {config}"
            );
        }
        let round: u32 = round.parse().unwrap();
        assert!(round >= served, "{round} after {served}");
        served = round;

        // Requests and deployments go on while it is killed, each time a little later.
        app.manifest(&manifest(served + 1));
        let mut deploying = node.command();
        let mut deploying = deploying.arg("deploy").arg(app.path()).spawn().unwrap();
        let url = format!("http://{}/", node.http);
        let load = tokio::spawn(async move {
            let client = reqwest::Client::builder().no_proxy().build().unwrap();
            let host = "web.localhost";
            while let Ok(response) = client.get(&url).header("host", host).send().await {
                assert!(response.status().is_success(), "{}", response.status());
            }
        });
        tokio::time::sleep(pause).await;
        node.kill().await;
        let acknowledged = deploying.wait().await.unwrap().success();
        if acknowledged {
            // What was confirmed is there for good.
            served += 1;
        }
        load.await.unwrap();
        assert!(pause < PATIENCE, "no deployment was fast enough");
    }
}
