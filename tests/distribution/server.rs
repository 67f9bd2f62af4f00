//! Servers behind a node: nginx, and one that does what a test says, byte by byte.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    process::Child,
    time::sleep,
};

use crate::{
    process::eventually,
    support::{debian, ports::free_address},
};

/// nginx, with files in it and the settings that sites have.
pub(crate) struct Nginx {
    folder: TempDir,
    ports: [u16; 4],
    process: Option<Child>,
}

/// A request as nginx logged it.
#[derive(Debug)]
pub(crate) struct Logged {
    /// The connection that it came on.
    pub(crate) connection: String,
    /// Its first line.
    pub(crate) request: String,
    pub(crate) status: String,
    /// `If-None-Match`, or `-`.
    pub(crate) if_none_match: String,
}

impl Nginx {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let files = folder.path().join("files");
        fs::create_dir(&files).unwrap();
        let ports = [(); 4].map(|()| free_address().port());
        let certified = rcgen::generate_simple_self_signed(["origin.example".to_owned()]).unwrap();
        let write = |name: &str, text: &[u8]| fs::write(folder.path().join(name), text).unwrap();
        write("key.pem", certified.signing_key.serialize_pem().as_bytes());
        write("certificate.pem", certified.cert.pem().as_bytes());
        let [http1, http2, tls1, tls2] = ports;
        let root = folder.path().display();
        let config = include_str!("nginx.conf")
            .replace("{root}", &root.to_string())
            .replace("{http1}", &http1.to_string())
            .replace("{http2}", &http2.to_string())
            .replace("{tls1}", &tls1.to_string())
            .replace("{tls2}", &tls2.to_string());
        write("nginx.conf", config.as_bytes());
        let mut nginx = Self {
            folder,
            ports,
            process: None,
        };
        nginx.resume().await;
        nginx
    }

    /// Starts it again, at the same addresses.
    pub(crate) async fn resume(&mut self) {
        let mut command = tokio::process::Command::from(debian::command("nginx", "nginx"));
        command
            .arg("-c")
            .arg(self.folder.path().join("nginx.conf"))
            .arg("-p")
            .arg(self.folder.path())
            .args(["-e", "stderr"])
            .stdin(Stdio::null())
            .kill_on_drop(true);
        self.process = Some(command.spawn().unwrap());
        let address = (Ipv4Addr::LOCALHOST, self.ports[0]);
        eventually("nginx listens", async || {
            TcpStream::connect(address).await.is_ok()
        })
        .await;
    }

    /// Ends it: nobody listens there any more.
    pub(crate) async fn stop(&mut self) {
        self.process.take().unwrap().kill().await.unwrap();
    }

    /// Writes a file that it serves.
    pub(crate) fn file(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Where a file that it serves is.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("files").join(name)
    }

    /// HTTP/1.1 in clear text.
    pub(crate) fn http1(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[0])
    }

    /// HTTP/2 in clear text, with prior knowledge.
    pub(crate) fn http2(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[1])
    }

    /// HTTP/1.1 with TLS.
    pub(crate) fn tls1(&self) -> String {
        format!("https://127.0.0.1:{}", self.ports[2])
    }

    /// HTTP/2 with TLS.
    pub(crate) fn tls2(&self) -> String {
        format!("https://127.0.0.1:{}", self.ports[3])
    }

    /// Its certificate, for `origin.example`.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.folder.path().join("certificate.pem")
    }

    /// The requests that it answered, once there are so many of them. It logs one when it has sent the last byte.
    pub(crate) async fn logged(&self, count: usize) -> Vec<Logged> {
        let path = self.folder.path().join("access.log");
        let read = || {
            let log = fs::read_to_string(&path).unwrap_or_default();
            let lines = log.lines().map(Logged::read);
            lines.collect::<Vec<_>>()
        };
        eventually("nginx has logged the requests", async || {
            read().len() >= count
        })
        .await;
        let logged = read();
        assert_eq!(logged.len(), count, "{logged:#?}");
        logged
    }
}

impl Logged {
    fn read(line: &str) -> Self {
        let mut words = line.split('\t').map(str::to_owned);
        let mut word = || words.next().unwrap();
        Self {
            connection: word(),
            request: word(),
            status: word(),
            if_none_match: word(),
        }
    }
}

/// What a server does next.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Send(Bytes),
    /// The same again and again, for as long as it is taken.
    Endless(Bytes),
    /// A byte at a time, with a pause after each.
    Drip(Bytes, Duration),
    Wait(Duration),
    /// Ends the connection as it should be ended.
    Close,
    /// Ends it with RST.
    Reset,
    /// Says no more, and reads no more.
    Hang,
}

impl Step {
    pub(crate) fn send(bytes: impl Into<Bytes>) -> Self {
        Self::Send(bytes.into())
    }
}

/// An answer that is as it should be.
pub(crate) fn answer(fields: &str, body: &str) -> Vec<Step> {
    let length = body.len();
    vec![Step::send(format!(
        "HTTP/1.1 200 OK\r\n{fields}content-length: {length}\r\n\r\n{body}"
    ))]
}

/// A request that came to a server: one that can be read in one way only.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    pub(crate) method: String,
    pub(crate) target: String,
    /// Names in lower case.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Heard {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(field, _)| field == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// A server that does what a test says, and keeps what it was sent.
pub(crate) struct Server {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<Heard>>>,
    malformed: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// One that answers a request with some steps. The number is that of the requests for the same target, this one included.
    pub(crate) async fn start(
        script: impl Fn(&Heard, usize) -> Vec<Step> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            heard: Arc::default(),
            malformed: Arc::default(),
        };
        let script = Arc::new(script);
        let (heard, malformed) = (Arc::clone(&server.heard), Arc::clone(&server.malformed));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (script, heard) = (Arc::clone(&script), Arc::clone(&heard));
                let malformed = Arc::clone(&malformed);
                tokio::spawn(async move {
                    if let Err(reason) = converse(stream, &*script, &heard).await {
                        malformed.lock().unwrap().push(reason);
                    }
                });
            }
        });
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests that came. Panics if something came that is no request, or may be taken for two.
    pub(crate) fn heard(&self) -> Vec<Heard> {
        let malformed = self.malformed.lock().unwrap();
        assert!(malformed.is_empty(), "{malformed:#?}");
        self.heard.lock().unwrap().clone()
    }

    /// How often it was asked for a target.
    pub(crate) fn asked(&self, target: &str) -> usize {
        let heard = self.heard();
        heard.iter().filter(|heard| heard.target == target).count()
    }
}

/// Reads requests and answers them. The error says what was no request.
async fn converse(
    mut stream: TcpStream,
    script: &(impl Fn(&Heard, usize) -> Vec<Step> + Sync),
    log: &Mutex<Vec<Heard>>,
) -> Result<(), String> {
    let mut buffer = BytesMut::new();
    while let Some(heard) = hear(&mut stream, &mut buffer).await? {
        let number = {
            let mut log = log.lock().unwrap();
            let target = heard.target.clone();
            log.push(heard.clone());
            log.iter().filter(|heard| heard.target == target).count()
        };
        for step in script(&heard, number) {
            // The node may have gone away.
            let done = match step {
                Step::Send(bytes) => stream.write_all(&bytes).await,
                Step::Endless(bytes) => loop {
                    if let Err(error) = stream.write_all(&bytes).await {
                        break Err(error);
                    }
                },
                Step::Drip(bytes, pause) => drip(&mut stream, &bytes, pause).await,
                Step::Wait(time) => {
                    sleep(time).await;
                    Ok(())
                }
                Step::Close => return Ok(()),
                Step::Reset => {
                    stream.set_zero_linger().unwrap();
                    return Ok(());
                }
                Step::Hang => {
                    std::future::pending::<()>().await;
                    Ok(())
                }
            };
            if done.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

async fn drip(stream: &mut TcpStream, bytes: &[u8], pause: Duration) -> std::io::Result<()> {
    for byte in bytes {
        stream.write_all(&[*byte]).await?;
        sleep(pause).await;
    }
    Ok(())
}

/// The next request, by the strictest reading of RFC 9112; none where the connection ends before it is whole, which nobody can
/// take for a request.
async fn hear(stream: &mut TcpStream, buffer: &mut BytesMut) -> Result<Option<Heard>, String> {
    let wrong = |what: &str, bytes: &[u8]| Err(format!("{what}: {}", bytes.escape_ascii()));
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        match stream.read_buf(buffer).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => return Ok(None),
        }
    };
    let head = buffer.split_to(end + 4).freeze();
    let Ok(text) = str::from_utf8(&head[..end]) else {
        return wrong("not ASCII", &head);
    };
    let mut lines = text.split("\r\n");
    if text.replace("\r\n", "").contains(['\r', '\n', '\0']) {
        return wrong("a line with a control character", &head);
    }
    let words: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    let [method, target, "HTTP/1.1"] = words[..] else {
        return wrong("no request line", &head);
    };
    let mut fields = Vec::new();
    for line in lines {
        let is_token = |name: &str| {
            let mut bytes = name.bytes();
            !name.is_empty()
                && bytes.all(|b| b.is_ascii_alphanumeric() || b"-_.!#$%&'*+^`|~".contains(&b))
        };
        match line.split_once(':') {
            Some((name, value)) if is_token(name) => {
                fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
            }
            _ => return wrong("no field", &head),
        }
    }
    let all = |name: &str| {
        let values = fields.iter().filter(|(field, _)| field == name);
        values.map(|(_, value)| value.as_str()).collect::<Vec<_>>()
    };
    if all("host").len() != 1 {
        return wrong("not one Host", &head);
    }
    let body = match (&all("content-length")[..], &all("transfer-encoding")[..]) {
        ([], []) => Vec::new(),
        ([length], []) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
            match take(stream, buffer, length.parse().unwrap()).await {
                Some(body) => body,
                None => return Ok(None),
            }
        }
        ([], ["chunked"]) => match chunked(stream, buffer).await {
            Ok(Some(body)) => body,
            Ok(None) => return Ok(None),
            Err(line) => return wrong("no chunk", &line),
        },
        _ => return wrong("no single framing", &head),
    };
    if !buffer.is_empty() {
        return wrong("more than one request", buffer);
    }
    Ok(Some(Heard {
        method: method.to_owned(),
        target: target.to_owned(),
        fields,
        body,
    }))
}

/// So many bytes; none if the node went away before.
async fn take(stream: &mut TcpStream, buffer: &mut BytesMut, length: usize) -> Option<Vec<u8>> {
    while buffer.len() < length {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    Some(buffer.split_to(length).to_vec())
}

/// A body in chunks; none if the node went away before its end. The error is a line that is none of such a body.
async fn chunked(
    stream: &mut TcpStream,
    buffer: &mut BytesMut,
) -> Result<Option<Vec<u8>>, Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let Some(line) = line(stream, buffer).await else {
            return Ok(None);
        };
        let size = str::from_utf8(&line).ok();
        let size = size.and_then(|size| usize::from_str_radix(size, 16).ok());
        let Some(size) = size else {
            return Err(line);
        };
        if size == 0 {
            // Trailers, which the tests do not send, would stand here.
            return match self::line(stream, buffer).await {
                Some(line) if line.is_empty() => Ok(Some(body)),
                Some(line) => Err(line),
                None => Ok(None),
            };
        }
        let Some(chunk) = take(stream, buffer, size + 2).await else {
            return Ok(None);
        };
        body.extend_from_slice(&chunk[..size]);
    }
}

async fn line(stream: &mut TcpStream, buffer: &mut BytesMut) -> Option<Vec<u8>> {
    loop {
        if let Some(at) = buffer.windows(2).position(|two| two == b"\r\n") {
            let line = buffer.split_to(at + 2);
            return Some(line[..at].to_vec());
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}
