//! TLS as viewers see it: certificates of distributions and of a folder, with the real program and real clients.

mod acme;
mod distributions;
mod openssl;
mod pebble;

use std::{net::SocketAddr, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{client::Resumption, pki_types::CertificateDer};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// An authority whose certificates the clients of a test trust.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
    /// Its private key: PEM.
    key: String,
}

/// A certificate and its key, both PEM.
struct Issued {
    chain: String,
    key: String,
    der: CertificateDer<'static>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "an authority");
        let certificate = params.self_signed(&key).unwrap();
        Self {
            certificate,
            key: key.serialize_pem(),
            issuer: Issuer::new(params, key),
        }
    }

    fn issue(&self, names: &[&str]) -> Issued {
        self.issue_with(names, |_| {})
    }

    fn issue_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let key = KeyPair::generate().unwrap();
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Issued {
            chain: certificate.pem(),
            key: key.serialize_pem(),
            der: certificate.der().clone(),
        }
    }

    /// A client that trusts this authority.
    fn client(&self) -> TlsConnector {
        client([self.certificate.der().clone()])
    }
}

/// A client that trusts these.
fn client(roots: impl IntoIterator<Item = CertificateDer<'static>>) -> TlsConnector {
    let mut trusted = rustls::RootCertStore::empty();
    for root in roots {
        trusted.add(root).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(trusted)
        .with_no_client_auth();
    // Who resumes a session is shown no certificate.
    config.resumption = Resumption::disabled();
    TlsConnector::from(Arc::new(config))
}

/// A handshake with a node, for a name.
async fn connect(
    client: &TlsConnector,
    node: SocketAddr,
    name: &'static str,
) -> Result<TlsStream<TcpStream>, String> {
    let stream = TcpStream::connect(node).await.unwrap();
    let connected = client.connect(name.try_into().unwrap(), stream).await;
    connected.map_err(|error| format!("{error:?}"))
}

/// The certificate that a node presents.
fn presented(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    let chain = stream.get_ref().1.peer_certificates().unwrap();
    chain[0].clone().into_owned()
}

/// A request on a connection that stays open, and the status and body of its answer.
async fn get(stream: &mut TlsStream<TcpStream>, host: &str) -> String {
    let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut reply = Vec::new();
    while !reply.ends_with(b"from the origin\n") {
        let read = stream.read_buf(&mut reply).await.unwrap();
        assert_ne!(read, 0, "{}", String::from_utf8_lossy(&reply));
    }
    String::from_utf8(reply).unwrap()
}

/// An origin that answers every request alike.
async fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut read = Vec::new();
                while stream.read_buf(&mut read).await.is_ok_and(|read| read > 0) {
                    if read.ends_with(b"\r\n\r\n") {
                        read.clear();
                        let answer =
                            b"HTTP/1.1 200 OK\r\ncontent-length: 16\r\n\r\nfrom the origin\n";
                        stream.write_all(answer).await.unwrap();
                    }
                }
            });
        }
    });
    address
}
