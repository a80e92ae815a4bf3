//! Certificates for tests of TLS, and requests that use them.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::TempDir;
use crate::http::{Answer, Ask};

/// An authority, a server's certificate for `localhost` and 127.0.0.1 with its key, and a client's.
pub struct Pki {
    /// The authority's certificate, PEM.
    pub authority: PathBuf,
    /// The server's certificate, PEM.
    pub certificate: PathBuf,
    /// The server's key, PEM.
    pub key: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
    client: (CertificateDer<'static>, PrivateKeyDer<'static>),
}

impl Pki {
    /// Makes all of them, with the files in `dir`.
    pub fn new(dir: &TempDir) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names are good names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let root = params.self_signed(&key).expect("an authority signs itself");
        let issuer = Issuer::new(params, key);
        let (client, client_key) = signed(&issuer, &["client"]);
        let client_key = PrivateKeyDer::try_from(client_key.serialize_der()).expect("a key in DER");
        let pki = Self {
            authority: dir.write("authority.pem", root.pem()),
            certificate: dir.join("certificate.pem"),
            key: dir.join("key.pem"),
            issuer,
            root: root.der().clone(),
            client: (client.der().clone(), client_key),
        };
        pki.renew();
        pki
    }

    /// Writes another certificate and key for the server.
    pub fn renew(&self) {
        let (certificate, key) = signed(&self.issuer, &["localhost", "127.0.0.1"]);
        std::fs::write(&self.certificate, certificate.pem()).expect("the certificate is written");
        std::fs::write(&self.key, key.serialize_pem()).expect("the key is written");
    }

    /// Sends a request through TLS, with the client's certificate or without one; gives the answer and the
    /// certificate that the server showed.
    ///
    /// # Errors
    /// What the handshake or the exchange failed of.
    pub async fn ask(
        &self,
        addr: SocketAddr,
        ask: Ask,
        with_certificate: bool,
    ) -> io::Result<(Answer, CertificateDer<'static>)> {
        let stream = TcpStream::connect(addr).await?;
        let stream = self.connect(stream, None, with_certificate).await?;
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first).cloned();
        let shown = shown.ok_or_else(|| io::Error::other("the server showed no certificate"))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let connection = tokio::spawn(connection);
        let response = sender.send_request(ask.into_request(false)).await.map_err(io::Error::other)?;
        let answer = read_whole(response).await;
        connection.abort();
        Ok((answer?, shown))
    }

    /// Sends a request by HTTP/2 through TLS, on a connection of its own.
    ///
    /// # Errors
    /// What the handshake or the exchange failed of.
    pub async fn ask_http2(&self, addr: SocketAddr, ask: Ask) -> io::Result<Answer> {
        let stream = self.connect(TcpStream::connect(addr).await?, Some("h2"), false).await?;
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .map_err(io::Error::other)?;
        let connection = tokio::spawn(connection);
        let response = sender.send_request(ask.into_request(true)).await.map_err(io::Error::other)?;
        let answer = read_whole(response).await;
        connection.abort();
        answer
    }

    /// TLS on a connection, with a protocol that is to be chosen by ALPN, and with the client's certificate
    /// or without one.
    ///
    /// # Errors
    /// What the handshake failed of.
    pub async fn connect(
        &self,
        stream: TcpStream,
        protocol: Option<&str>,
        with_certificate: bool,
    ) -> io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).map_err(io::Error::other)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots);
        let mut config = if with_certificate {
            let (certificate, key) = (self.client.0.clone(), self.client.1.clone_key());
            config.with_client_auth_cert(vec![certificate], key).map_err(io::Error::other)?
        } else {
            config.with_no_client_auth()
        };
        config.alpn_protocols = protocol.iter().map(|name| name.as_bytes().to_vec()).collect();
        let name = ServerName::try_from("localhost").expect("a good name");
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }
}

async fn read_whole(response: http::Response<Incoming>) -> io::Result<Answer> {
    let (head, body) = response.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes().to_vec();
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    Ok(Answer { status: head.status.as_u16(), headers, body })
}

fn signed(issuer: &Issuer<'_, KeyPair>, names: &[&str]) -> (rcgen::Certificate, KeyPair) {
    let key = KeyPair::generate().expect("a key");
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let params = CertificateParams::new(names).expect("good names");
    (params.signed_by(&key, issuer).expect("an authority signs"), key)
}

impl Ask {
    /// With HTTP/2 the URI says who is asked, which `Host` says else.
    fn into_request(self, http2: bool) -> http::Request<Full<Bytes>> {
        let origin = if http2 { "https://localhost" } else { "" };
        let uri = format!("{origin}{}", self.target);
        let mut request = http::Request::builder().method(self.method.as_str()).uri(uri);
        if !http2 && !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            request = request.header("Host", "localhost");
        }
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        request.body(Full::new(self.body.into())).expect("a good request")
    }
}
