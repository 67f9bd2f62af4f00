//! The ceiling: what a hello (or a fib) costs when a good native server answers it.
//!
//! hyper's HTTP/1.1 on tokio's multi-threaded runtime with mimalloc, as Wharf itself is made, and nothing else: no
//! routing, no limits, no log line. Every other server's CPU time is read as a multiple of this one's.
//!
//!     native ADDRESS [hello|fib]

use std::convert::Infallible;
use std::hint::black_box;
use std::net::SocketAddrV4;

use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpSocket;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `TcpListener::bind` asks for 128, which 256 clients that connect at once overflow.
const BACKLOG: u32 = 1024;

/// Gives the body of a response.
type Work = fn() -> Bytes;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let address: SocketAddrV4 = args
        .next()
        .context("usage: native ADDRESS [hello|fib]")?
        .parse()
        .context("parse the address")?;
    let work: Work = match args.next().as_deref() {
        None | Some("hello") => || Bytes::from_static(b"Hello, world!\n"),
        Some("fib") => || Bytes::from(format!("{}\n", fib(black_box(27)))),
        Some(other) => bail!("{other} is neither hello nor fib"),
    };

    let socket = TcpSocket::new_v4().context("make a socket")?;
    socket.bind(address.into()).context("bind")?;
    let listener = socket.listen(BACKLOG).context("listen")?;
    loop {
        let (stream, _) = listener.accept().await.context("accept")?;
        tokio::spawn(async move {
            // Without it a response may wait for the acknowledgement of the one before.
            let _ = stream.set_nodelay(true);
            let service = service_fn(move |request| respond(request, work));
            // A client that goes away mid-request ends its connection with an error; there is nobody to tell.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn respond(_: Request<Incoming>, work: Work) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::new(work()));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(response)
}

/// The same source as `guests/fib`: its cost is in the calls.
fn fib(n: u32) -> u32 {
    if n < 2 { n } else { fib(n - 1) + fib(n - 2) }
}
