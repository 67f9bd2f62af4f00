//! The ceiling of a proxy: what it costs to hand a request on and its answer back with the libraries that Wharf is made of.
//!
//! hyper as a server and hyper as a client on tokio with mimalloc, and nothing else: each client's connection has one of its own to
//! the origin, both in one task; there is no pool, no routing, no time limit, no log line, and no field is looked at or changed.
//!
//!     proxy ADDRESS ORIGIN

use std::net::SocketAddrV4;
use std::sync::Arc;

use anyhow::Context;
use hyper::body::Incoming;
use hyper::client::conn::http1 as client;
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Mutex;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `TcpListener::bind` asks for 128, which 256 clients that connect at once overflow.
const BACKLOG: u32 = 1024;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let mut address = || -> anyhow::Result<SocketAddrV4> {
        let text = args.next().context("usage: proxy ADDRESS ORIGIN")?;
        text.parse()
            .with_context(|| format!("parse the address {text}"))
    };
    let (address, origin) = (address()?, address()?);

    let socket = TcpSocket::new_v4().context("make a socket")?;
    socket.bind(address.into()).context("bind")?;
    let listener = socket.listen(BACKLOG).context("listen")?;
    loop {
        let (stream, _) = listener.accept().await.context("accept")?;
        tokio::spawn(async move {
            // A client or an origin that goes away ends both connections; there is nobody to tell.
            let _ = serve(stream, origin).await;
        });
    }
}

async fn serve(viewer: TcpStream, origin: SocketAddrV4) -> anyhow::Result<()> {
    let origin = TcpStream::connect(origin).await?;
    // Without it a message may wait for the acknowledgement of the one before.
    viewer.set_nodelay(true)?;
    origin.set_nodelay(true)?;
    let (sender, exchange) = client::handshake::<_, Incoming>(TokioIo::new(origin)).await?;
    let sender = Arc::new(Mutex::new(sender));
    let service = service_fn(move |request| pass(Arc::clone(&sender), request));
    tokio::select! {
        served = server::Builder::new().serve_connection(TokioIo::new(viewer), service) => Ok(served?),
        exchanged = exchange => Ok(exchanged?),
    }
}

async fn pass(
    sender: Arc<Mutex<client::SendRequest<Incoming>>>,
    request: Request<Incoming>,
) -> hyper::Result<Response<Incoming>> {
    let mut sender = sender.lock().await;
    sender.ready().await?;
    sender.send_request(request).await
}
