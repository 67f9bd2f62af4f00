//! nginx as a server: what is understood of HTTP here is understood of it in the field.

use std::{fs, process::Stdio};

use tokio::process::{Child, Command};

use super::*;

/// An nginx that serves files, and ends as the test does.
struct Nginx {
    url: String,
    _process: Child,
    _folder: tempfile::TempDir,
}

impl Nginx {
    /// None on a machine without nginx.
    async fn start() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let port = {
            let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
            free.local_addr().unwrap().port()
        };
        let root = folder.path().display();
        let config = format!(
            "daemon off; master_process off; pid {root}/pid; error_log stderr crit;
             events {{ worker_connections 256; }}
             http {{
               access_log off; keepalive_requests 50;
               client_body_temp_path {root}/body; proxy_temp_path {root}/proxy;
               fastcgi_temp_path {root}/fastcgi; uwsgi_temp_path {root}/uwsgi; scgi_temp_path {root}/scgi;
               server {{
                 listen 127.0.0.1:{port}; root {root}/files;
                 location /host {{ return 200 \"$host $http_via $http_x_forwarded_for\"; }}
                 location /moved {{ return 302 /small; }}
                 location /closed {{ return 444; }}
               }}
             }}"
        );
        let files = folder.path().join("files");
        fs::create_dir(&files).unwrap();
        // A file that a worker which is not root can read.
        fs::write(files.join("small"), vec![b's'; 1024]).unwrap();
        fs::write(files.join("large"), vec![b'l'; 5 << 20]).unwrap();
        let path = folder.path().join("nginx.conf");
        fs::write(&path, config).unwrap();
        let process = Command::new("nginx")
            .arg("-c")
            .arg(&path)
            .arg("-p")
            .arg(folder.path())
            .args(["-g", ""])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .ok()?;
        let address = format!("127.0.0.1:{port}");
        let reached = async {
            while TcpStream::connect(&address).await.is_err() {
                tokio::time::sleep(BRIEF / 10).await;
            }
        };
        tokio::time::timeout(LONG, reached).await.unwrap();
        Some(Self {
            url: format!("http://{address}"),
            _process: process,
            _folder: folder,
        })
    }
}

#[tokio::test]
async fn nginx_is_an_origin() {
    let Some(nginx) = Nginx::start().await else {
        return;
    };
    let mut config = config(&[&nginx.url]);
    config.host = Some("app.test".to_owned());
    let origin = origin(&config);
    // More than nginx answers on one connection.
    for _ in 0..220 {
        let answer = origin.get("/small").await.unwrap();
        assert_eq!(answer.headers()["content-length"], "1024");
        assert_eq!(text(answer).await.unwrap().len(), 1024);
    }
    assert_eq!(origin.text("/large").await.unwrap().len(), 5 << 20);
    let range = Request::get("/large").header("range", "bytes=10-19");
    let range = range.body(Empty::<Bytes>::new()).unwrap();
    let answer = origin.send(range, &viewer()).await.unwrap();
    assert_eq!(answer.status(), 206);
    assert_eq!(
        answer.headers()["content-range"],
        format!("bytes 10-19/{}", 5 << 20)
    );
    assert_eq!(text(answer).await.unwrap(), "l".repeat(10));
    let etag = origin.get("/small").await.unwrap().headers()["etag"].clone();
    let again = Request::get("/small").header("if-none-match", etag);
    let again = again.body(Empty::<Bytes>::new()).unwrap();
    assert_eq!(origin.send(again, &viewer()).await.unwrap().status(), 304);
    assert_eq!(
        origin.text("/host").await.unwrap(),
        "app.test 1.1 node-7 192.0.2.7"
    );
    assert_eq!(origin.get("/moved").await.unwrap().status(), 302);
    assert_eq!(origin.get("/none").await.unwrap().status(), 404);
    assert_eq!(origin.server(0).failures, 0);
    assert!(origin.server(0).dials < 10);
    let error = origin.get("/closed").await.unwrap_err();
    assert_eq!(error.outcome().code(), "origin_bad_response");
}
