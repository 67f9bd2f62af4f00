//! Servers are who they say they are.

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tempfile::NamedTempFile;

use super::*;

/// A TLS server's side, and the file with who vouches for it.
pub(super) struct Acceptor {
    pub(super) acceptor: TlsAcceptor,
    pub(super) ca: NamedTempFile,
}

/// For these names, by a new authority.
pub(super) fn acceptor(names: &[&str], alpn: &[&[u8]]) -> Acceptor {
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let ca_certificate = params.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::new(params, ca_key);

    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(names)
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from(certificate.der().to_vec())],
            PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    let mut ca = NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut ca, ca_certificate.pem().as_bytes()).unwrap();
    Acceptor {
        acceptor: TlsAcceptor::from(Arc::new(config)),
        ca,
    }
}

fn trusting(url: &str, ca: &NamedTempFile) -> distribution::Origin {
    let mut config = config(&[url]);
    config.tls.ca = Some(ca.path().to_owned());
    config
}

#[tokio::test]
async fn a_certificate_counts_only_from_whom_is_trusted_and_for_the_right_name() {
    let app = acceptor(&["app.test"], &[]);
    let stranger = acceptor(&["app.test"], &[]);
    let hyper = Hyper::start_with(Some(app.acceptor.clone()), echo).await;
    let failure = async |config: &distribution::Origin| {
        let error = origin(config).get("/").await.expect_err("it is refused");
        assert!(matches!(error, OriginError::Unreachable(_)), "{error}");
        words(&error)
    };
    let mut config = trusting(&hyper.url, &app.ca);
    assert!(failure(&config).await.contains("not valid for name"));
    config.tls.server_name = Some("other.test".to_owned());
    assert!(failure(&config).await.contains("not valid for name"));
    config.tls.server_name = Some("app.test".to_owned());
    assert!(
        origin(&config)
            .text("/")
            .await
            .unwrap()
            .starts_with("HTTP/1.1 GET /\n")
    );
    config.tls.ca = Some(stranger.ca.path().to_owned());
    assert!(failure(&config).await.contains("invalid peer certificate"));
    config.tls.ca = None;
    assert!(failure(&config).await.contains("UnknownIssuer"));
}

/// RFC 9110 §4.3.4: the name that is verified is the server's, whatever host a viewer asks for.
#[tokio::test]
async fn the_viewers_host_does_not_choose_the_certificate() {
    let app = acceptor(&["127.0.0.1"], &[]);
    let hyper = Hyper::start_with(Some(app.acceptor.clone()), echo).await;
    let mut config = trusting(&hyper.url, &app.ca);
    config.forward_host = true;
    let got = origin(&config).text("/").await.unwrap();
    assert!(got.contains("\nhost: www.test\n"), "{got}");
}

#[tokio::test]
async fn a_file_without_certificates_is_refused() {
    let empty = NamedTempFile::new().unwrap();
    let error = Origin::new("main", &trusting("https://a.test", &empty), &origins()).unwrap_err();
    assert_eq!(error.to_string(), "tls.ca: it has no certificate");
}

/// RFC 7301.
#[tokio::test]
async fn the_protocol_is_agreed_on() {
    use distribution::OriginProtocol::{Auto, Http1, Http2};
    let both: &[&[u8]] = &[b"h2", b"http/1.1"];
    for (offered, wanted, spoken) in [
        (both, Auto, Some("HTTP/2.0")),
        (both, Http1, Some("HTTP/1.1")),
        (both, Http2, Some("HTTP/2.0")),
        (&both[1..], Auto, Some("HTTP/1.1")),
        (&both[1..], Http2, None),
        (&[], Auto, Some("HTTP/1.1")),
        (&[], Http2, None),
    ] {
        let app = acceptor(&["127.0.0.1"], offered);
        let hyper = Hyper::start_with(Some(app.acceptor.clone()), echo).await;
        let mut config = trusting(&hyper.url, &app.ca);
        config.protocol = wanted;
        let origin = origin(&config);
        for _ in 0..3 {
            let got = origin.text("/").await.ok();
            let version = got.as_deref().map(|got| &got[..8]);
            assert_eq!(version, spoken, "{wanted:?}");
        }
        if spoken.is_some() {
            assert_eq!(hyper.connections(), 1, "{wanted:?}");
        }
    }
}

/// RFC 9112 §9.8: without `close_notify`, somebody else may have ended it.
#[tokio::test]
async fn a_body_that_ends_with_its_connection_needs_a_close_notify() {
    let app = acceptor(&["127.0.0.1"], &[]);
    for clean in [true, false] {
        let acceptor = app.acceptor.clone();
        let script = Script::with(move |stream, _| {
            let acceptor = acceptor.clone();
            Box::pin(async move {
                let mut stream = acceptor.accept(stream).await?;
                let mut head = [0; 4096];
                assert!(stream.read(&mut head).await? > 0);
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nwhole").await?;
                stream.flush().await?;
                if clean {
                    stream.shutdown().await
                } else {
                    stream.get_mut().0.shutdown().await
                }
            })
        })
        .await;
        let config = trusting(&script.url.replace("http:", "https:"), &app.ca);
        let body = origin(&config).text("/").await;
        assert_eq!(body.ok().as_deref(), clean.then_some("whole"));
    }
}

#[tokio::test]
async fn clear_text_on_a_tls_port_and_the_reverse_are_told_apart() {
    let app = acceptor(&["127.0.0.1"], &[]);
    let secure = Hyper::start_with(Some(app.acceptor.clone()), echo).await;
    let clear = Hyper::start(echo).await;
    let config = trusting(&clear.url.replace("http:", "https:"), &app.ca);
    let error = origin(&config).get("/").await.unwrap_err();
    assert_eq!(error.outcome().code(), "origin_unreachable");
    let config = self::config(&[&secure.url.replace("https:", "http:")]);
    let error = origin(&config).get("/").await.unwrap_err();
    assert_eq!(error.outcome().code(), "origin_bad_response");
}
