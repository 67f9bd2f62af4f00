//! A closed-loop HTTP/1.1 load generator: N keep-alive connections, one request in flight on each.
//!
//! Every response is checked, status and body, and every latency is kept, so percentiles are exact and a server that
//! answers wrongly cannot look fast. One thread and plain epoll, because on a small machine the load shares the cores
//! with the server it measures. The loop is closed: a server that stalls is asked less. That is why the harness reads CPU
//! time per request, and why requests still unanswered at the end are counted.
//!
//!     load ADDRESS [--connections N] [--seconds S | --requests N] [--path PATH] [--host HOST]
//!          [--method METHOD] [--header 'NAME: VALUE']… [--send TEXT] [--body TEXT] [--any] [--targets N] [--order random|sequence] [--pause MICROSECONDS] [--settle]
//!
//! `{n}` in PATH or HOST stands for the number of a target below `--targets`. `--any` takes whatever status and body come.
//! With `--settle` every connection is opened and has been answered once, one after the other, before the clock starts.
//! Prints one JSON object.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use lexopt::{Arg, Parser, ValueExt};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use serde_json::json;

/// A connection that failed is tried again this long after, so that a dead server is not hammered.
const RECONNECT_AFTER: Duration = Duration::from_millis(10);
/// A request unanswered for this long when the run ends is an error, not just bad timing.
const STALLED_AFTER: Duration = Duration::from_secs(1);
/// Past this many errors the run says nothing: it ends.
const MAX_ERRORS: u64 = 1_000;
/// While settling, a connection is given this long to answer.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    match Plan::parse(Parser::from_env()).and_then(|plan| Load::new(plan)?.run()) {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What was asked for on the command line.
struct Plan {
    address: SocketAddr,
    connections: usize,
    seconds: f64,
    requests: Option<u64>,
    path: String,
    host: String,
    method: String,
    headers: Vec<String>,
    /// The body of each request.
    send: String,
    body: Option<String>,
    any: bool,
    targets: u64,
    order: Order,
    pause: Duration,
    settle: bool,
}

#[derive(Clone, Copy)]
enum Order {
    Random,
    Sequence,
}

impl Plan {
    fn parse(mut args: Parser) -> anyhow::Result<Self> {
        let mut plan = Self {
            address: ([127, 0, 0, 1], 0).into(),
            connections: 1,
            seconds: 5.0,
            requests: None,
            path: "/".into(),
            host: String::new(),
            method: "GET".into(),
            headers: Vec::new(),
            send: String::new(),
            body: None,
            any: false,
            targets: 1,
            order: Order::Sequence,
            pause: Duration::ZERO,
            settle: false,
        };
        while let Some(arg) = args.next()? {
            match arg {
                Arg::Value(address) => plan.address = address.parse()?,
                Arg::Long("connections") => plan.connections = args.value()?.parse()?,
                Arg::Long("seconds") => plan.seconds = args.value()?.parse()?,
                Arg::Long("requests") => plan.requests = Some(args.value()?.parse()?),
                Arg::Long("path") => plan.path = args.value()?.string()?,
                Arg::Long("host") => plan.host = args.value()?.string()?,
                Arg::Long("method") => plan.method = args.value()?.string()?,
                Arg::Long("header") => plan.headers.push(args.value()?.string()?),
                Arg::Long("send") => plan.send = args.value()?.string()?,
                Arg::Long("body") => plan.body = Some(args.value()?.string()?),
                Arg::Long("any") => plan.any = true,
                Arg::Long("settle") => plan.settle = true,
                Arg::Long("targets") => plan.targets = args.value()?.parse()?,
                Arg::Long("order") => {
                    plan.order = match args.value()?.string()?.as_str() {
                        "random" => Order::Random,
                        "sequence" => Order::Sequence,
                        other => bail!("--order {other} is neither random nor sequence"),
                    }
                }
                Arg::Long("pause") => {
                    plan.pause = Duration::from_micros(args.value()?.parse()?);
                }
                other => return Err(other.unexpected().into()),
            }
        }
        ensure!(plan.address.port() != 0, "an ADDRESS to load is missing");
        ensure!(plan.connections > 0, "--connections must be at least 1");
        ensure!(plan.targets > 0, "--targets must be at least 1");
        ensure!(
            plan.pause.is_zero() || plan.connections == 1,
            "--pause needs --connections 1"
        );
        if plan.host.is_empty() {
            plan.host = plan.address.to_string();
        }
        Ok(plan)
    }

    /// The requests, one a target, ready to be written.
    fn requests(&self) -> Vec<Vec<u8>> {
        (0..self.targets)
            .map(|n| {
                let n = n.to_string();
                let path = self.path.replace("{n}", &n);
                let host = self.host.replace("{n}", &n);
                let mut request = format!(
                    "{} {path} HTTP/1.1\r\nhost: {host}\r\naccept: */*\r\n",
                    self.method
                );
                for header in &self.headers {
                    request += &format!("{header}\r\n");
                }
                if !self.send.is_empty() {
                    request += &format!("content-length: {}\r\n", self.send.len());
                }
                request += &format!("\r\n{}", self.send);
                request.into_bytes()
            })
            .collect()
    }
}

/// A run of the plan.
struct Load {
    requests: Vec<Vec<u8>>,
    plan: Plan,
    poll: Poll,
    connections: Vec<Connection>,
    disconnected: usize,
    next_target: u64,
    random: u64,
    latencies: Vec<u32>,
    statuses: BTreeMap<u16, u64>,
    errors: BTreeMap<&'static str, u64>,
    first_error: Option<String>,
}

struct Connection {
    stream: Option<TcpStream>,
    /// When to connect, while there is no stream.
    connect_at: Instant,
    received: Vec<u8>,
    target: usize,
    /// Bytes of the request still to be written.
    unsent: usize,
    started: Instant,
}

impl Load {
    fn new(plan: Plan) -> anyhow::Result<Self> {
        let now = Instant::now();
        let connections = (0..plan.connections)
            .map(|_| Connection {
                stream: None,
                connect_at: now,
                received: Vec::with_capacity(16 * 1024),
                target: 0,
                unsent: 0,
                started: now,
            })
            .collect();
        Ok(Self {
            requests: plan.requests(),
            poll: Poll::new().context("make a poll")?,
            disconnected: plan.connections,
            plan,
            connections,
            next_target: 0,
            random: 0x9e37_79b9_7f4a_7c15,
            latencies: Vec::with_capacity(1 << 20),
            statuses: BTreeMap::new(),
            errors: BTreeMap::new(),
            first_error: None,
        })
    }

    fn run(mut self) -> anyhow::Result<serde_json::Value> {
        if self.plan.settle {
            for index in 0..self.connections.len() {
                self.settle(index).context("settle a connection")?;
            }
        }
        let start = Instant::now();
        let end = start + Duration::from_secs_f64(self.plan.seconds);
        let mut events = Events::with_capacity(1024);
        while !self.is_done(end) {
            let mut wait = end.saturating_duration_since(Instant::now());
            if self.disconnected > 0 {
                self.connect_the_disconnected()?;
                wait = wait.min(RECONNECT_AFTER);
            }
            match self.poll.poll(&mut events, Some(wait)) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("poll"),
            }
            for event in &events {
                let index = event.token().0;
                if let Err(Failure { kind, detail }) = self.advance(index) {
                    self.fail(index, kind, detail);
                }
            }
        }
        Ok(self.report(start.elapsed()))
    }

    fn is_done(&self, end: Instant) -> bool {
        let answered: u64 = self.statuses.values().sum();
        Instant::now() >= end
            || self.errors.values().sum::<u64>() > MAX_ERRORS
            || self.plan.requests.is_some_and(|wanted| answered >= wanted)
    }

    /// Opens a connection and has it answer once.
    ///
    /// Connecting all at once would overflow the accept queue of many a server (`wasmtime serve` asks for 100), and a
    /// dropped SYN is sent again after a second: that second would be read as a stall under load, which it is not.
    fn settle(&mut self, index: usize) -> anyhow::Result<()> {
        let mut stream = std::net::TcpStream::connect(self.plan.address)?;
        stream.set_read_timeout(Some(SETTLE_TIMEOUT))?;
        self.begin_request(index);
        stream.write_all(&self.requests[self.connections[index].target])?;
        let mut received = Vec::new();
        let mut chunk = [0; 4096];
        let response = loop {
            let read = stream.read(&mut chunk)?;
            ensure!(read > 0, "closed before the response");
            received.extend_from_slice(&chunk[..read]);
            if let Some(response) = Response::parse(&received)? {
                break response;
            }
        };
        self.check(&response)?;
        if !response.closes {
            stream.set_nonblocking(true)?;
            self.adopt(index, TcpStream::from_std(stream))?;
        }
        Ok(())
    }

    fn connect_the_disconnected(&mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        for index in 0..self.connections.len() {
            let connection = &self.connections[index];
            if connection.stream.is_none() && connection.connect_at <= now {
                let stream = TcpStream::connect(self.plan.address).context("connect")?;
                self.adopt(index, stream)?;
            }
        }
        Ok(())
    }

    /// Takes a stream that is, or soon will be, connected. The first event says that it is writable; its first request
    /// goes out then.
    fn adopt(&mut self, index: usize, mut stream: TcpStream) -> anyhow::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll
            .registry()
            .register(&mut stream, Token(index), interest)?;
        self.connections[index].stream = Some(stream);
        self.disconnected -= 1;
        self.begin_request(index);
        Ok(())
    }

    /// Chooses the next target; its bytes are sent by [`Load::send`].
    fn begin_request(&mut self, index: usize) {
        let target = match self.plan.order {
            Order::Sequence => self.next_target % self.plan.targets,
            Order::Random => {
                // xorshift64: the same sequence in every run.
                self.random ^= self.random << 13;
                self.random ^= self.random >> 7;
                self.random ^= self.random << 17;
                self.random % self.plan.targets
            }
        };
        self.next_target += 1;
        let connection = &mut self.connections[index];
        connection.target = target as usize;
        connection.unsent = self.requests[connection.target].len();
        connection.received.clear();
        connection.started = Instant::now();
    }

    /// Does what the socket lets be done: sends the rest of a request, reads, takes responses.
    fn advance(&mut self, index: usize) -> Result<(), Failure> {
        self.send(index)?;
        let mut chunk = [0; 16 * 1024];
        loop {
            let connection = &mut self.connections[index];
            let Some(stream) = &mut connection.stream else {
                return Ok(());
            };
            let read = match stream.read(&mut chunk) {
                Ok(0) => return Err(Failure::new("closed", "closed before the response")),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::NotConnected => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(Failure::new("io", error)),
            };
            connection.received.extend_from_slice(&chunk[..read]);
            if let Some(response) = Response::parse(&connection.received)? {
                let latency = connection.started.elapsed();
                self.take(latency, &response)?;
                if response.closes {
                    self.disconnect(index, Instant::now());
                    return Ok(());
                }
                if !self.plan.pause.is_zero() {
                    thread::sleep(self.plan.pause);
                }
                self.begin_request(index);
                self.send(index)?;
            }
            // A short read has emptied the socket; the next bytes raise the next event.
            if read < chunk.len() {
                return Ok(());
            }
        }
    }

    fn send(&mut self, index: usize) -> Result<(), Failure> {
        let connection = &mut self.connections[index];
        let Some(stream) = &mut connection.stream else {
            return Ok(());
        };
        let request = &self.requests[connection.target];
        while connection.unsent > 0 {
            if connection.unsent == request.len() {
                connection.started = Instant::now();
            }
            match stream.write(&request[request.len() - connection.unsent..]) {
                Ok(sent) => connection.unsent -= sent,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::NotConnected => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Failure::new("io", error)),
            }
        }
        Ok(())
    }

    /// Counts a response, after holding it against what was expected.
    fn take(&mut self, latency: Duration, response: &Response) -> Result<(), Failure> {
        *self.statuses.entry(response.status).or_default() += 1;
        self.check(response)?;
        let nanoseconds = u32::try_from(latency.as_nanos()).unwrap_or(u32::MAX);
        self.latencies.push(nanoseconds);
        Ok(())
    }

    fn check(&self, response: &Response) -> Result<(), Failure> {
        let text = || String::from_utf8_lossy(&response.body).into_owned();
        if self.plan.any {
            return Ok(());
        }
        if !(200..300).contains(&response.status) {
            let detail = format!("{} {}", response.status, text());
            return Err(Failure::new("status", detail));
        }
        if let Some(expected) = &self.plan.body
            && response.body != expected.as_bytes()
        {
            return Err(Failure::new("body", format!("{:?}", text())));
        }
        Ok(())
    }

    fn fail(&mut self, index: usize, kind: &'static str, detail: String) {
        *self.errors.entry(kind).or_default() += 1;
        self.first_error.get_or_insert(detail);
        self.disconnect(index, Instant::now() + RECONNECT_AFTER);
    }

    fn disconnect(&mut self, index: usize, connect_at: Instant) {
        let connection = &mut self.connections[index];
        if connection.stream.take().is_some() {
            self.disconnected += 1;
        }
        connection.connect_at = connect_at;
    }

    fn report(mut self, elapsed: Duration) -> serde_json::Value {
        let stalled = self
            .connections
            .iter()
            .filter(|c| c.stream.is_some() && c.started.elapsed() > STALLED_AFTER)
            .count();
        if stalled > 0 && !self.plan.any {
            *self.errors.entry("stalled").or_default() += stalled as u64;
            self.first_error
                .get_or_insert_with(|| "requests unanswered at the end".into());
        }
        self.latencies.sort_unstable();
        json!({
            "requests": self.latencies.len(),
            "seconds": elapsed.as_secs_f64(),
            "p50_us": percentile(&self.latencies, 0.50),
            "p90_us": percentile(&self.latencies, 0.90),
            "p99_us": percentile(&self.latencies, 0.99),
            "p999_us": percentile(&self.latencies, 0.999),
            "max_us": percentile(&self.latencies, 1.0),
            "statuses": self.statuses.iter().map(|(k, v)| (k.to_string(), *v)).collect::<BTreeMap<_, _>>(),
            "errors": self.errors,
            "first_error": self.first_error,
        })
    }
}

/// Microseconds below which that share of the sorted `latencies` lies; nothing when there are none.
fn percentile(latencies: &[u32], share: f64) -> Option<f64> {
    let rank = (latencies.len() as f64 * share).ceil() as usize;
    let nanoseconds = latencies.get(rank.saturating_sub(1))?;
    Some(f64::from(*nanoseconds) / 1_000.0)
}

/// Why a connection was given up: a kind to count, and what was seen.
#[derive(Debug)]
struct Failure {
    kind: &'static str,
    detail: String,
}

impl Failure {
    fn new(kind: &'static str, detail: impl ToString) -> Self {
        Self {
            kind,
            detail: detail.to_string(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.detail)
    }
}

impl std::error::Error for Failure {}

struct Response {
    status: u16,
    body: Vec<u8>,
    closes: bool,
}

impl Response {
    /// The response in `received`, or nothing while part of it is still to come.
    fn parse(received: &[u8]) -> Result<Option<Self>, Failure> {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Response::new(&mut headers);
        let head_length = match head.parse(received) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(error) => return Err(Failure::new("malformed", error)),
        };
        let header = |name: &str| {
            head.headers
                .iter()
                .find(|header| header.name.eq_ignore_ascii_case(name))
                .and_then(|header| std::str::from_utf8(header.value).ok())
        };
        let rest = &received[head_length..];
        let body = if let Some(length) = header("content-length") {
            let length: usize = length
                .trim()
                .parse()
                .map_err(|error| Failure::new("malformed", error))?;
            rest.get(..length).map(<[u8]>::to_vec)
        } else if header("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
            dechunk(rest)?
        } else {
            return Err(Failure::new(
                "malformed",
                "neither content-length nor chunked",
            ));
        };
        Ok(body.map(|body| Self {
            status: head.code.unwrap_or(0),
            body,
            closes: header("connection").is_some_and(|v| v.eq_ignore_ascii_case("close")),
        }))
    }
}

/// The whole chunked body, or nothing while part of it is still to come.
fn dechunk(mut rest: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
    let mut body = Vec::new();
    loop {
        let (line, size) = match httparse::parse_chunk_size(rest) {
            Ok(httparse::Status::Complete((line, size))) => (line, size as usize),
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(Failure::new("malformed", "a bad chunk size")),
        };
        let Some(chunk) = rest.get(line..line + size) else {
            return Ok(None);
        };
        let Some(ending) = rest.get(line + size..line + size + 2) else {
            return Ok(None);
        };
        if ending != b"\r\n" {
            return Err(Failure::new("malformed", "a chunk without its end"));
        }
        if size == 0 {
            return Ok(Some(body));
        }
        body.extend_from_slice(chunk);
        rest = &rest[line + size + 2..];
    }
}

#[cfg(test)]
mod tests {
    use super::{Response, percentile};

    /// Status, body and whether the connection closes; a word when it is not a response.
    fn parsed(received: &str) -> String {
        match Response::parse(received.as_bytes()) {
            Ok(Some(r)) => format!(
                "{} {:?} {}",
                r.status,
                String::from_utf8_lossy(&r.body),
                r.closes
            ),
            Ok(None) => "partial".into(),
            Err(failure) => failure.kind.into(),
        }
    }

    #[test]
    fn a_response_is_taken_when_it_is_whole_and_never_before() {
        let cases = [
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi",
                "200 \"hi\" false",
            ),
            (
                "HTTP/1.1 502 Bad\r\nConnection: Close\r\nContent-Length: 0\r\n\r\n",
                "502 \"\" true",
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nh\r\n1\r\ni\r\n0\r\n\r\n",
                "200 \"hi\" false",
            ),
        ];
        for (response, expected) in cases {
            for length in 0..response.len() {
                assert_eq!(
                    parsed(&response[..length]),
                    "partial",
                    "{:?}",
                    &response[..length]
                );
            }
            assert_eq!(parsed(response), expected);
        }
    }

    #[test]
    fn what_is_not_http_is_malformed() {
        for response in [
            "hello\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\nno length",
            "HTTP/1.1 200 OK\r\ncontent-length: two\r\n\r\nhi",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nx\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nhi\r\n",
        ] {
            assert_eq!(parsed(response), "malformed", "{response:?}");
        }
    }

    #[test]
    fn a_percentile_is_a_latency_that_was_seen() {
        let latencies: Vec<u32> = (1..=100).map(|n| n * 1_000).collect();
        assert_eq!(percentile(&latencies, 0.5), Some(50.0));
        assert_eq!(percentile(&latencies, 0.99), Some(99.0));
        assert_eq!(percentile(&latencies, 1.0), Some(100.0));
        assert_eq!(percentile(&latencies[..1], 0.5), Some(1.0));
        assert_eq!(percentile(&[], 0.5), None);
    }
}
