//! Bounds and TLS, against servers that are written out here byte by byte.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_fetch::{Answer, Fetch, FetchError, Limits, Tls};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use testkit::eventually;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

const LIMIT: Duration = Duration::from_secs(10);

/// Answers every connection's first request with these pieces, a pause after each.
async fn serve(pieces: &'static [&'static str], tls: Option<TlsAcceptor>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let tls = tls.clone();
            tokio::spawn(async move {
                match tls {
                    None => answer(stream, pieces).await,
                    // Whoever is refused here is what the tests look for.
                    Some(tls) => match tls.accept(stream).await {
                        Ok(stream) => answer(stream, pieces).await,
                        Err(_) => None,
                    },
                }
            });
        }
    });
    addr
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, pieces: &[&str]) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    for piece in pieces {
        stream.write_all(piece.as_bytes()).await.ok()?;
        stream.flush().await.ok()?;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Open, as a server that has more to say.
    tokio::time::sleep(LIMIT * 10).await;
    Some(())
}

fn fetch(body: usize) -> Fetch {
    Fetch::new(None, Limits { body, ..Limits::default() }).unwrap()
}

fn request(scheme: &str, addr: SocketAddr) -> http::Request<bytes::Bytes> {
    http::Request::get(format!("{scheme}://{addr}/path")).body(bytes::Bytes::new()).unwrap()
}

#[tokio::test]
async fn time_and_size_are_bounded() {
    let whole = serve(
        &["HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nX-A: b\r\nContent-Length: 10\r\n\r\n01234", "56789"],
        None,
    )
    .await;
    let answer: Answer = fetch(10).send(request("http", whole), LIMIT).await.unwrap();
    assert_eq!((answer.body.as_ref(), answer.header("x-a")), (&b"0123456789"[..], Some("b")));
    assert_eq!(answer.date(), Some(std::time::UNIX_EPOCH + Duration::from_secs(784_111_777)));
    let error = fetch(9).send(request("http", whole), LIMIT).await.unwrap_err();
    assert_eq!(error, FetchError::TooLarge { limit: 9 });

    let short = Duration::from_millis(300);
    for hung in [&[][..], &["HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234"]] {
        let addr = serve(hung.to_vec().leak(), None).await;
        let error = fetch(100).send(request("http", addr), short).await.unwrap_err();
        assert_eq!(error, FetchError::Silent { within: short });
    }
    let nobody = SocketAddr::from(([127, 0, 0, 1], testkit::free_port()));
    let error = fetch(100).send(request("http", nobody), LIMIT).await.unwrap_err();
    assert!(matches!(&error, FetchError::Connect { what } if what.contains("refused")), "{error:?}");
    let garbage = serve(&["SSH-2.0-OpenSSH\r\n"], None).await;
    let error = fetch(100).send(request("http", garbage), LIMIT).await.unwrap_err();
    assert!(matches!(error, FetchError::Broken { .. }), "{error:?}");
}

#[tokio::test]
async fn lines_come_one_by_one_whatever_the_pieces() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let pieces = vec![head, "5\r\none\nt\r\n", "6\r\nwo\n\n\nt\r\n", "4\r\nhree\r\n", "0\r\n\r\n"].leak();
    let mut lines = fetch(100).lines(request("http", serve(pieces, None).await), LIMIT).await.unwrap();
    for expected in ["one", "two", "three"] {
        let line = tokio::time::timeout(LIMIT, lines.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(line, expected);
    }
    assert_eq!(lines.next().await.unwrap(), None);
    let mut lines = fetch(4).lines(request("http", serve(pieces, None).await), LIMIT).await.unwrap();
    assert_eq!(lines.next().await.unwrap().unwrap(), "one");
    assert_eq!(lines.next().await.unwrap().unwrap(), "two");
    assert_eq!(lines.next().await, Err(FetchError::TooLarge { limit: 4 }));
    let refused = serve(&["HTTP/1.1 404 Not Found\r\nContent-Length: 7\r\n\r\nnothing"], None).await;
    let error = fetch(100).lines(request("http", refused), LIMIT).await.unwrap_err();
    assert_eq!(error.to_string(), "404 Not Found: nothing");
}

/// An authority, and a certificate with its key, as PEM, that it gave for this name.
fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn issued(by: &CertifiedIssuer<'static, KeyPair>, name: &str) -> (Vec<u8>, Vec<u8>) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, by).unwrap();
    (certificate.pem().into_bytes(), key.serialize_pem().into_bytes())
}

#[tokio::test]
async fn tls_trusts_whom_it_is_told_and_shows_who_it_is() {
    let (ours, theirs) = (authority(), authority());
    let (certificate, key) = issued(&ours, "127.0.0.1");
    let mut roots = RootCertStore::empty();
    roots.add(ours.der().clone()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(&certificate).unwrap()],
            PrivateKeyDer::from_pem_slice(&key).unwrap(),
        )
        .unwrap();
    let tls = Some(TlsAcceptor::from(Arc::new(config)));
    let addr = serve(&["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"], tls).await;
    let ask = async |tls: Option<Tls>| {
        Fetch::new(tls.as_ref(), Limits::default()).unwrap().send(request("https", addr), LIMIT).await
    };
    let pem = |authority: &CertifiedIssuer<'static, KeyPair>| Some(authority.pem().into_bytes());
    let client = Some(issued(&ours, "client"));
    let good = Tls { ca: pem(&ours), client: client.clone() };
    assert!(!format!("{good:?}").contains("45"), "no key in what is printed");
    eventually("an answer over TLS", LIMIT, async || ask(Some(good.clone())).await.ok()).await;
    for bad in [
        None,
        Some(Tls { ca: pem(&theirs), client: client.clone() }),
        Some(Tls { ca: pem(&ours), client: None }),
        Some(Tls { ca: pem(&ours), client: Some(issued(&theirs, "client")) }),
    ] {
        let error = ask(bad.clone()).await.unwrap_err();
        assert!(matches!(error, FetchError::Connect { .. } | FetchError::Broken { .. }), "{bad:?}: {error}");
    }
    let wrong = Tls { ca: Some(b"no certificate".to_vec()), client: None };
    assert!(matches!(Fetch::new(Some(&wrong), Limits::default()), Err(FetchError::Tls { .. })));
}
