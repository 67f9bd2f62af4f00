//! Clients that send bytes which no library would.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::process::PATIENCE;

/// How long a node that says nothing is waited for that might say more.
const QUIET: Duration = Duration::from_millis(300);

/// What comes back for these bytes, until the node closes or says no more.
pub(crate) async fn send(address: SocketAddr, bytes: impl AsRef<[u8]>) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The node may close before it has read everything.
    let _ = stream.write_all(bytes.as_ref()).await;
    let mut said = Vec::new();
    // The first answer may take long on a busy machine; what follows it comes with it or not at all.
    let mut patience = PATIENCE;
    while let Ok(Ok(1..)) = timeout(patience, stream.read_buf(&mut said)).await {
        patience = QUIET;
    }
    String::from_utf8_lossy(&said).into_owned()
}

/// The status of an answer.
pub(crate) fn status(answer: &str) -> u16 {
    let status = answer
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3));
    status.and_then(|status| status.parse().ok()).unwrap_or(0)
}

/// What begins every HTTP/2 connection: the preface and empty settings.
pub(crate) fn preface() -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    bytes
}

/// An HTTP/2 frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Header fields as literals (RFC 7541 section 6.2.2), whatever is in them.
pub(crate) fn literals<'a>(fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(
                u8::try_from(text.len())
                    .ok()
                    .filter(|length| *length < 127)
                    .unwrap(),
            );
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// What became of an HTTP/2 stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Became {
    /// An answer with the status 200.
    Served,
    /// An answer with another status.
    Refused,
    /// A reset, or the end of the connection.
    Ended,
}

/// What becomes of the stream 1 of a connection that sends these frames.
pub(crate) async fn send_frames(address: SocketAddr, frames: &[Vec<u8>]) -> Became {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let bytes = [preface(), frames.concat()].concat();
    let _ = stream.write_all(&bytes).await;
    let answer = async {
        loop {
            let mut head = [0; 9];
            if stream.read_exact(&mut head).await.is_err() {
                return Became::Ended;
            }
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            if stream.read_exact(&mut payload).await.is_err() {
                return Became::Ended;
            }
            let of = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            match (head[3], of) {
                // Index 8 of the static table (RFC 7541 appendix A): `:status: 200`. A change of the table's size may stand before it.
                (1, 1) => {
                    let first = payload.iter().find(|byte| **byte & 0xe0 != 0x20);
                    return match first {
                        Some(0x88) => Became::Served,
                        _ => Became::Refused,
                    };
                }
                (3, 1) | (7, _) => return Became::Ended,
                _ => {}
            }
        }
    };
    timeout(PATIENCE, answer)
        .await
        .expect("something becomes of it")
}
