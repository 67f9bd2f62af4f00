//! Components come from registries.

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use wharf::{
    control::code::{CodeError, Image, Registries, RegistrySettings},
    model::Digest,
};

use super::servers::{PASSWORD, Registry, USER};
use crate::support::{Node, guests};

const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
const WASM: &str = "application/wasm";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn registries(credentials: Option<PathBuf>) -> Registries {
    let named = Vec::new();
    Registries::new(RegistrySettings { named, credentials }).unwrap()
}

async fn pull(image: &str) -> Result<Image, String> {
    let pulled = registries(None).pull(image).await;
    pulled.map_err(|error| {
        let text = error.to_string();
        assert_eq!(
            CodeError::from(error).code(),
            "InvalidParameterValueException"
        );
        text
    })
}

impl Registry {
    async fn put(&self, path: &str, kind: &str, body: Bytes) -> reqwest::Response {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = match path.starts_with("http") {
            true => path.to_owned(),
            false => format!("http://{}{path}", self.host),
        };
        let method = match kind {
            "" => Method::POST,
            _ => Method::PUT,
        };
        let request = client.request(method, url).header("content-type", kind);
        let request = request.basic_auth(USER, Some(PASSWORD)).body(body);
        let response = request.send().await.unwrap();
        assert!(
            response.status().is_success(),
            "{:?}",
            response.text().await
        );
        response
    }

    async fn push_blob(&self, repository: &str, bytes: &[u8]) -> Value {
        let started = self
            .put(
                &format!("/v2/{repository}/blobs/uploads/"),
                "",
                Bytes::new(),
            )
            .await;
        let location = started.headers()["location"].to_str().unwrap();
        let digest = Digest::of(bytes);
        let target = format!("{location}&digest=sha256:{digest}");
        self.put(
            &target,
            "application/octet-stream",
            Bytes::copy_from_slice(bytes),
        )
        .await;
        json!({"digest": format!("sha256:{digest}"), "size": bytes.len()})
    }

    /// Pushes what `wkg oci push` does, with these layers: a media type and bytes. Gives the manifest's digest.
    pub(crate) async fn push(
        &self,
        repository: &str,
        tag: &str,
        layers: &[(&str, &[u8])],
    ) -> Digest {
        let mut described = Vec::new();
        for (kind, bytes) in layers {
            let mut layer = self.push_blob(repository, bytes).await;
            layer["mediaType"] = json!(kind);
            described.push(layer);
        }
        let config =
            json!({"architecture": "wasm", "os": "wasip2", "layerDigests": []}).to_string();
        let mut config = self.push_blob(repository, config.as_bytes()).await;
        config["mediaType"] = json!("application/vnd.wasm.config.v0+json");
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": described,
        });
        self.push_manifest(repository, tag, MANIFEST, &manifest)
            .await
    }

    async fn push_manifest(
        &self,
        repository: &str,
        tag: &str,
        kind: &str,
        manifest: &Value,
    ) -> Digest {
        let bytes = manifest.to_string();
        let path = format!("/v2/{repository}/manifests/{tag}");
        self.put(&path, kind, bytes.clone().into()).await;
        Digest::of(bytes.as_bytes())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_is_pulled_by_tag_and_by_digest() {
    let registry = Registry::start(false).await;
    let hello = guests::HELLO.bytes();
    let first = registry.push("team/hello", "1", &[(WASM, &hello)]).await;
    let image = format!("{}/team/hello", registry.host);
    let pulled = pull(&format!("{image}:1")).await.unwrap();
    assert_eq!(pulled.component, hello);
    assert_eq!(pulled.digest, first);
    assert_eq!(pulled.resolved, format!("{image}@sha256:{first}"));

    // The tag moves on; a digest stays.
    let old = "application/vnd.wasm.content.layer.v1+wasm";
    let second = registry.push("team/hello", "1", &[(old, COMPONENT)]).await;
    let moved = pull(&format!("{image}:1")).await.unwrap();
    assert_eq!((moved.digest, moved.component), (second, COMPONENT.into()));
    for name in [pulled.resolved.clone(), format!("{image}:1@sha256:{first}")] {
        let pinned = pull(&name).await.unwrap();
        assert_eq!((pinned.digest, pinned.component), (first, hello.clone()));
        assert_eq!(pinned.resolved, pulled.resolved);
    }
    // It is what runs.
    let node = Node::start().await;
    let function = node
        .try_function("pulled", pulled.component, Default::default())
        .await
        .unwrap();
    assert_eq!(function.get("/").await.text(), "hello\n");

    for (name, problem) in [
        (
            format!("{image}:2"),
            "does not exist. Provide a valid source image.",
        ),
        (format!("{}/no/where", registry.host), "does not exist."),
        (
            format!("{image}@sha256:{}", Digest::of(b"")),
            "does not exist.",
        ),
        (
            format!("{image}:"),
            "is not valid. Provide a valid source image",
        ),
        ("team/hello:1".to_owned(), "is not valid. Provide"),
    ] {
        let error = pull(&name).await.unwrap_err();
        assert!(
            error.starts_with(&format!("Source image {name}")),
            "{error}"
        );
        assert!(error.contains(problem), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_oras_pushes_is_pulled() {
    let registry = Registry::start(false).await;
    let folder = tempfile::tempdir().unwrap();
    for name in ["main.wasm", "main.bin", "README.md"] {
        std::fs::write(folder.path().join(name), COMPONENT).unwrap();
    }
    for (name, files) in [
        ("typed:1", &["main.bin:application/wasm"][..]),
        ("named:1", &["main.wasm"]),
        ("more:1", &["README.md", "main.wasm"]),
    ] {
        let pushed = registry.push_with_oras(name, folder.path(), files).await;
        let pulled = pull(&format!("{}/{name}", registry.host)).await.unwrap();
        assert_eq!(pulled.component, COMPONENT, "{name}");
        assert_eq!(format!("sha256:{}", pulled.digest), pushed);
    }
    registry
        .push_with_oras("none:1", folder.path(), &["README.md"])
        .await;
    let error = pull(&format!("{}/none:1", registry.host))
        .await
        .unwrap_err();
    assert!(error.contains("holds no WebAssembly"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_leads_to_the_component() {
    let registry = Registry::start(false).await;
    let manifest = registry.push("many", "one", &[(WASM, COMPONENT)]).await;
    let size = {
        let url = format!("http://{}/v2/many/manifests/one", registry.host);
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let manifest = client.get(url).header("accept", MANIFEST).send().await;
        manifest.unwrap().bytes().await.unwrap().len()
    };
    let kind = "application/vnd.oci.image.index.v1+json";
    let index = json!({"schemaVersion": 2, "mediaType": kind, "manifests": [{
        "mediaType": MANIFEST, "digest": format!("sha256:{manifest}"), "size": size,
        "platform": {"architecture": "wasm", "os": "wasip2"},
    }]});
    let index = registry.push_manifest("many", "all", kind, &index).await;
    let pulled = pull(&format!("{}/many:all", registry.host)).await.unwrap();
    assert_eq!((pulled.component, pulled.digest), (COMPONENT.into(), index));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_wants_a_user_is_shown_one() {
    let registry = Registry::start(true).await;
    registry.push("private", "1", &[(WASM, COMPONENT)]).await;
    let image = format!("{}/private:1", registry.host);
    let error = pull(&image).await.unwrap_err();
    assert!(
        error.starts_with(&format!(
            "The node does not have permission to access the image {image}"
        )),
        "{error}"
    );
    assert!(error.contains("--registry-credentials"), "{error}");

    let file = registry.data.path().join("config.json");
    let write = |password: &str| {
        let login = json!({"auths": {&registry.host: {"username": USER, "password": password}}});
        std::fs::write(&file, login.to_string()).unwrap();
    };
    write(PASSWORD);
    let private = registries(Some(file.clone()));
    assert_eq!(private.pull(&image).await.unwrap().component, COMPONENT);
    write("another");
    let error = private.pull(&image).await.unwrap_err().to_string();
    assert!(
        error.contains("refuses it") && !error.contains("another"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_what_its_digest_says_is_refused() {
    let registry = Registry::start(false).await;
    let component = [COMPONENT, &[1; 100]].concat();
    let pushed = registry.push("a", "1", &[(WASM, &component)]).await;
    // Changed where the registry keeps it, and as long as it was.
    let other = [COMPONENT, &[2; 100]].concat();
    let change = |digest: &Digest, bytes: &[u8]| {
        let name = digest.to_string();
        let path = format!(
            "data/docker/registry/v2/blobs/sha256/{}/{name}/data",
            &name[..2]
        );
        std::fs::write(registry.data.path().join(path), bytes).unwrap();
    };
    change(&Digest::of(&component), &other);
    let error = pull(&format!("{}/a:1", registry.host)).await.unwrap_err();
    assert!(error.contains("is not what its digest says"), "{error}");
    change(&Digest::of(&component), &component);
    pull(&format!("{}/a:1", registry.host)).await.unwrap();

    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "layers": []}).to_string();
    change(&pushed, manifest.as_bytes());
    let error = pull(&format!("{}/a@sha256:{pushed}", registry.host)).await;
    error.unwrap_err();
}

/// A registry whose answers are made up: the head of a request gives the response, all of it.
async fn made_up(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = stream.read_u8().await else {
                        return;
                    };
                    head.push(byte);
                }
                let text = answer(&String::from_utf8_lossy(&head));
                let _ = stream.write_all(text.as_bytes()).await;
                if text.contains("chunked") {
                    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
                    while stream.write_all(chunk.as_bytes()).await.is_ok() {}
                }
            });
        }
    });
    host
}

fn response(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n{body}"
    )
}

/// A manifest with a component of these bytes, and the path of its blob.
fn manifest(bytes: &[u8], size: usize) -> (String, String) {
    let digest = Digest::of(bytes);
    let layer = json!({"mediaType": WASM, "digest": format!("sha256:{digest}"), "size": size});
    let manifest = json!({"schemaVersion": 2, "layers": [layer]});
    (manifest.to_string(), format!("/v2/a/blobs/sha256:{digest}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_fetched_from_where_the_registry_says() {
    let text = "component";
    let (manifest, blob) = manifest(text.as_bytes(), text.len());
    let host = made_up(move |head| {
        let host = head.lines().find_map(|line| line.strip_prefix("host: "));
        let host = host.unwrap_or_default();
        if head.starts_with("GET /token?service=made+up&scope=repository%3Aa%3Apull ") {
            assert!(!head.contains("authorization"), "nobody is shown a user without need: {head}");
            return response("200 OK", "", "{\"token\": \"t0ken\"}");
        }
        if !head.contains("authorization: Bearer t0ken\r\n") {
            let challenge = format!(
                "www-authenticate: Bearer realm=\"http://{host}/token\",service=\"made up\",scope=\"repository:a:pull\"\r\n"
            );
            return response("401 Unauthorized", &challenge, "");
        }
        match head {
            _ if head.starts_with("GET /v2/a/manifests/latest ") => response("200 OK", "", &manifest),
            _ if head.starts_with(&format!("GET {blob} ")) => response("200 OK", "", text),
            _ => response("404 Not Found", "", ""),
        }
    })
    .await;
    let pulled = pull(&format!("{host}/a")).await.unwrap();
    assert_eq!(pulled.component, text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_can_neither_flood_the_node_nor_lead_it_astray() {
    // A manifest without end.
    let endless =
        made_up(|_| "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_owned()).await;
    let started = std::time::Instant::now();
    let error = pull(&format!("{endless}/a")).await.unwrap_err();
    assert!(error.contains("sends more than 4194304 bytes"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(20));

    // A blob larger than it says, and one that says too much.
    for (size, problem) in [
        (3, "sends more than 3 bytes"),
        (300_000_000, "is larger than 262144000 bytes"),
    ] {
        let (manifest, _) = manifest(b"component", size);
        let host = made_up(move |head| match head.contains("/manifests/") {
            true => response("200 OK", "", &manifest),
            false => response("200 OK", "", "component"),
        });
        let error = pull(&format!("{}/a", host.await)).await.unwrap_err();
        assert!(error.contains(problem), "{error}");
    }

    // Elsewhere than it may, by redirect or by realm. This machine's own addresses are its registries' and no one else's.
    for target in [
        "http://example.com/a",
        "https://10.0.0.1/a",
        "https://169.254.169.254/latest/meta-data",
        "https://[fd00:ec2::254]/a",
        "ftp://example.com/a",
        "https://user:pass@example.com/a",
    ] {
        let redirect = format!("location: {target}\r\n");
        let realm = format!("www-authenticate: Bearer realm=\"{target}\"\r\n");
        for answer in [
            response("307 Temporary Redirect", &redirect, ""),
            response("401 Unauthorized", &realm, ""),
        ] {
            let host = made_up(move |_| answer.clone()).await;
            let error = pull(&format!("{host}/a")).await.unwrap_err();
            let refused = ["did not allow", "is not HTTP", "has no user"];
            assert!(
                refused.iter().any(|refused| error.contains(refused)),
                "{target}: {error}"
            );
        }
    }
    let host = made_up(|_| response("302 Found", "location: /v2/a/manifests/latest\r\n", "")).await;
    let error = pull(&format!("{host}/a")).await.unwrap_err();
    assert!(error.contains("redirects too often"), "{error}");

    // A registry by an address that is not public, and one that is called in clear text.
    for image in ["10.0.0.1/a", "192.168.1.1:5000/a", "[fe80::1]:5000/a"] {
        let error = pull(image).await.unwrap_err();
        assert!(error.contains("is not public"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_not_carried_elsewhere() {
    let text = "component";
    let (manifest, blob) = manifest(text.as_bytes(), text.len());
    // Where registries keep blobs is often somebody else's.
    let elsewhere = made_up(move |head| {
        assert!(!head.contains("authorization"), "{head}");
        response("200 OK", "", text)
    })
    .await;
    let host = made_up(move |head| {
        if !head.contains("authorization: Basic") {
            return response(
                "401 Unauthorized",
                "www-authenticate: Basic realm=\"a\"\r\n",
                "",
            );
        }
        match head.starts_with(&format!("GET {blob} ")) {
            true => {
                let location = format!("location: http://{elsewhere}/blob\r\n");
                response("307 Temporary Redirect", &location, "")
            }
            false => response("200 OK", "", &manifest),
        }
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    let login = json!({"auths": {&host: {"username": USER, "password": PASSWORD}}});
    std::fs::write(&file, login.to_string()).unwrap();
    let pulled = registries(Some(file))
        .pull(&format!("{host}/a"))
        .await
        .unwrap();
    assert_eq!(pulled.component, text);
}
