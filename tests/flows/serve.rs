//! How a node is set up, and why it does not start.

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc};

use futures::future::join_all;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::Command,
};
use tokio_rustls::TlsConnector;

use crate::process::{App, Node, done, failed, json_lines, run, serving, wharf};

/// Why `wharf serve` does not start.
async fn refused(command: &mut Command) -> String {
    let said = failed(run(command).await);
    assert!(!said.contains("Serving"), "{said}");
    said
}

/// Why `wharf serve` does not start with a flag whose value is none.
async fn misunderstood(command: &mut Command) -> String {
    let output = run(command).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    said
}

#[tokio::test]
async fn a_node_that_cannot_start_says_why() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::serve(data.path()).await;
    let second = refused(&mut serving(data.path())).await;
    assert!(second.contains("is in use by another node"), "{second}");
    assert!(second.contains(data.path().to_str().unwrap()), "{second}");

    let other = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().to_string();
    for (http, api) in [(taken.as_str(), "127.0.0.1:0"), ("127.0.0.1:0", &taken)] {
        let mut command = wharf();
        command.args(["serve", "--http", http, "--api", api]);
        let said = refused(command.arg("--data").arg(other.path())).await;
        assert!(said.contains(&taken), "{said}");
    }

    let mut public = wharf();
    public.args(["serve", "--http", "127.0.0.1:0", "--api", "0.0.0.0:0"]);
    let said = refused(public.arg("--data").arg(other.path())).await;
    assert!(said.contains("--api-public"), "{said}");

    for (arguments, reason) in [
        (&["--certificates", "/tmp"][..], "--https"),
        (&["--http3"], "--https"),
        (&["--log", "[[["], "log"),
        (&["--s3-credentials", "/tmp/x"], "--s3-endpoint"),
        (&["--access-log-format", "common"], "--access-log"),
        (
            &["--access-log", "/no/such/access.log"],
            "/no/such/access.log",
        ),
    ] {
        let said = refused(serving(other.path()).args(arguments)).await;
        assert!(said.contains(reason), "{said}");
    }
    for (flag, value) in [
        ("--grace", "5 parsecs"),
        ("--slots", "1"),
        ("--component-cache", "much"),
        ("--log-format", "xml"),
        ("--access-log-format", "clf"),
        ("--region", "US East"),
        ("--account", "12"),
        ("--s3-endpoint", "s3.example.com"),
        ("--registry", "http://reg.internal:5000/v2"),
    ] {
        let said = misunderstood(serving(other.path()).args([flag, value])).await;
        assert!(said.contains(flag) && said.contains(value), "{said}");
    }
    let file = other.path().join("a-file");
    fs::write(&file, "").unwrap();
    let said = refused(&mut serving(&file)).await;
    assert!(said.contains("a-file"), "{said}");
    node.stop().await;
}

#[tokio::test]
async fn an_api_that_is_meant_to_be_public_is() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::serve_with(data.path(), |wharf| {
        wharf
            .args(["--grace", "1 s"])
            .env("WHARF_API_PUBLIC", "true");
    })
    .await;
    node.stop().await;
}

#[tokio::test]
async fn a_node_says_what_aws_clients_need() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::serve(data.path()).await;
    let file = data.path().join("credentials");
    let (api, path) = (node.api, file.display());
    node.says(&format!(
        "AWS AWS_ENDPOINT_URL=http://{api} AWS_SHARED_CREDENTIALS_FILE={path}\n"
    ))
    .await;
    node.stop().await;
    // Keys that others may read are keys of others.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let said = refused(&mut serving(data.path())).await;
    assert!(said.contains("others may read it"), "{said}");
    assert!(said.contains(file.to_str().unwrap()), "{said}");
}

#[tokio::test]
async fn a_configuration_file_is_read_and_its_problems_name_file_and_key() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("node.toml");
    let start = |text: &str| {
        fs::write(&file, text).unwrap();
        let mut command = serving(&folder.path().join("data"));
        command.arg("--config").arg(&file);
        command
    };
    for (text, key) in [
        ("htp = '127.0.0.1:0'", "htp"),
        ("http = 'here'", "http"),
        ("concurrency = 'many'", "concurrency"),
        ("component_cache = '1 XB'", "component_cache"),
        ("grace = 'long'", "grace"),
        ("log_format = 'xml'", "log_format"),
        ("access_log_format = 'clf'", "access_log_format"),
        ("slots = 1", "slots"),
        ("region = ''", "region"),
        ("account = 'mine'", "account"),
        ("http = ", "http"),
        ("[vpc.subnets]\nsubnet-a = ['10.0.0.0/33']", "subnet-a"),
        ("[vpc.security_groups]\nsg-a = [{ port = 80 }]", "sg-a"),
        ("[vpc.groups]", "groups"),
    ] {
        let said = refused(&mut start(text)).await;
        assert!(said.contains(key), "{text}: {said}");
        assert!(said.contains("node.toml"), "{text}: {said}");
    }
    let none = refused(serving(folder.path()).args(["--config", "no/such/node.toml"])).await;
    assert!(none.contains("no/such/node.toml"), "{none}");

    // A flag goes before a variable, that before the file.
    fs::write(&file, "domain = 'from.file'\ngrace = '2 s'").unwrap();
    let data = folder.path().join("data");
    let node = Node::serve_with(&data, |wharf| {
        wharf.arg("--config").arg(&file);
    })
    .await;
    let app = App::new("name = 'a'\n[functions.a]\ncomponent = '{hostile}'");
    let told = done(
        node.wharf(["deploy".as_ref(), app.path().as_os_str()])
            .await,
    );
    let address = format!("http://a.from.file:{}/", node.http.port());
    assert!(told.contains(&address), "{told}");
    assert_eq!(node.get_at("a.from.file", "/").await.text(), "hello\n");
    node.stop().await;
    let node = Node::serve_with(&data, |wharf| {
        wharf
            .arg("--config")
            .arg(&file)
            .env("WHARF_DOMAIN", "from.variable");
    })
    .await;
    assert_eq!(node.get_at("a.from.variable", "/").await.text(), "hello\n");
    assert_eq!(node.get_at("a.from.file", "/").await.status, 404);
    node.stop().await;
    let node = Node::serve_with(&data, |wharf| {
        wharf
            .args(["--domain", "from.flag"])
            .env("WHARF_DOMAIN", "from.variable");
    })
    .await;
    assert_eq!(node.get_at("a.from.flag", "/").await.text(), "hello\n");
    node.stop().await;
}

#[tokio::test]
async fn functions_answer_over_tls_with_http_1_and_http_2() {
    let folder = tempfile::tempdir().unwrap();
    let names = vec!["hello.example".to_owned(), "localhost".to_owned()];
    let certified = rcgen::generate_simple_self_signed(names).unwrap();
    let certificates = folder.path().join("certificates");
    fs::create_dir(&certificates).unwrap();
    let key = certified.signing_key.serialize_pem();
    fs::write(certificates.join("hello.key"), key).unwrap();
    fs::write(certificates.join("hello.crt"), certified.cert.pem()).unwrap();

    let node = Node::serve_with(&folder.path().join("data"), |wharf| {
        wharf
            .args(["--https", "127.0.0.1:0", "--certificates"])
            .arg(&certificates)
            .arg("--access-log")
            .arg(folder.path().join("access.log"));
    })
    .await;
    let app = App::new(
        "name = 'a'\n[functions.a]\ncomponent = '{hostile}'\n\
         [[routes]]\nhost = 'hello.example'\npath = '/{*rest}'\nfunction = 'a'",
    );
    node.deploy(app.path()).await;

    let mut roots = rustls::RootCertStore::empty();
    roots.add(certified.cert.der().clone()).unwrap();
    let connect = async |alpn: &str| {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        let stream = TcpStream::connect(node.https.unwrap()).await.unwrap();
        let name = "hello.example".try_into().unwrap();
        let stream = TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(alpn.as_bytes()));
        stream
    };

    let mut stream = connect("http/1.1").await;
    let request = b"GET /echo HTTP/1.1\r\nhost: hello.example\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.unwrap();
    assert!(reply.starts_with("HTTP/1.1 200 OK\r\n"), "{reply}");

    let stream = TokioIo::new(connect("h2").await);
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream);
    let (sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    let replies = (0..20).map(|_| {
        let mut sender = sender.clone();
        async move {
            let request = http::Request::get("https://hello.example/");
            let request = request.body(Empty::<bytes::Bytes>::new()).unwrap();
            let response = sender.send_request(request).await.unwrap();
            assert_eq!(response.status(), 200);
            response.into_body().collect().await.unwrap().to_bytes()
        }
    });
    for reply in join_all(replies).await {
        assert_eq!(reply, "hello\n");
    }
    node.stop().await;
    let log = fs::read_to_string(folder.path().join("access.log")).unwrap();
    let log = json_lines(&log);
    let count = |protocol: &str| {
        log.iter()
            .filter(|line| line["protocol"] == protocol)
            .count()
    };
    assert_eq!((count("HTTP/1.1"), count("HTTP/2.0")), (1, 20));
    for line in &log {
        assert_eq!(line["tls"], "TLSv1.3", "{line}");
        assert_eq!(line["host"], "hello.example", "{line}");
        assert!(line["target"].as_str().unwrap().starts_with('/'), "{line}");
        assert_eq!(
            (&line["function"], &line["outcome"]),
            (&"a".into(), &"ok".into())
        );
    }

    fs::write(certificates.join("hello.key"), "no key").unwrap();
    let data = folder.path().join("data");
    let said = refused(
        serving(&data)
            .args(["--https", "127.0.0.1:0", "--certificates"])
            .arg(&certificates),
    )
    .await;
    assert!(said.contains("hello."), "{said}");
    let none = Path::new("/no/such/folder");
    let mut command = serving(&data);
    command
        .args(["--https", "127.0.0.1:0", "--certificates"])
        .arg(none);
    let said = refused(&mut command).await;
    assert!(said.contains("/no/such/folder"), "{said}");
}
