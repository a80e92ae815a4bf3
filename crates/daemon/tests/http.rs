//! Listeners against clients that are slow, broken, too many, or there when the end comes.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use daemon::drain::Drain;
use daemon::http::{Limits, Server, bind, bind_per_core};
use daemon::tls::{ClientAuth, Tls, TlsFiles};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};

const PATIENCE: Duration = Duration::from_secs(30);

struct Running {
    addr: SocketAddr,
    drain: Drain,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Running {
    fn new(limits: Limits, tls: Option<Tls>) -> Self {
        let listener = bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
        let (addr, drain) = (listener.addr(), Drain::new());
        let server = Server::new(listener, limits, drain.clone()).with_tls(tls);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let serving = server.serve_local(|peer| {
                let certificate = peer.tls.as_ref().is_some_and(|tls| tls.certificate.is_some());
                service_fn(move |request: Request<Incoming>| async move {
                    if request.uri().path() == "/never" {
                        std::future::pending::<()>().await;
                    }
                    let certificate = if certificate { "shown" } else { "none" };
                    let answer = Response::builder().header("certificate", certificate);
                    answer.body(Full::new(Bytes::from_static(b"hello")))
                })
            });
            tokio::task::LocalSet::new().block_on(&runtime, serving).unwrap();
        });
        Self { addr, drain, thread: Some(thread) }
    }

    fn plain() -> Self {
        Self::new(Limits::new(64), None)
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn ended(&mut self) {
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.drain.begin();
        self.drain.expire();
    }
}

fn ask(stream: &mut (impl Read + Write)) -> String {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0; 1024];
    while !answer.ends_with(b"hello") {
        let length = stream.read(&mut buffer).unwrap();
        assert!(length > 0, "closed after {}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&buffer[..length]);
    }
    String::from_utf8(answer).unwrap()
}

/// Everything until the server closes.
fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset is a close as well.
    drop(stream.read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn a_begun_head_has_its_time() {
    let mut limits = Limits::new(64);
    limits.header_timeout = Duration::from_millis(100);
    // Longer than the test waits: it cannot be this limit that ends the connection.
    limits.idle_timeout = PATIENCE * 2;
    let server = Running::new(limits, None);
    let mut slow = server.connect();
    let start = Instant::now();
    slow.write_all(b"GET / HTTP/1.1\r\nHo").unwrap();
    assert_eq!(slow.read(&mut [0; 1]).unwrap(), 0);
    assert!(start.elapsed() >= Duration::from_millis(100));
    // So it is for the second head of a connection.
    let mut second = server.connect();
    ask(&mut second);
    second.write_all(b"G").unwrap();
    assert_eq!(second.read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn an_idle_connection_may_stay_silent_for_longer_than_a_head() {
    let mut limits = Limits::new(64);
    limits.header_timeout = Duration::from_millis(10);
    limits.idle_timeout = Duration::from_millis(400);
    let server = Running::new(limits, None);
    let mut idle = server.connect();
    ask(&mut idle);
    let start = Instant::now();
    assert_eq!(rest(&mut idle), "");
    assert!(start.elapsed() >= Duration::from_millis(300), "{:?}", start.elapsed());
}

#[test]
fn nonsense_concerns_its_own_connection_alone() {
    let server = Running::plain();
    let mut good = server.connect();
    ask(&mut good);
    for nonsense in [
        &b"\0\0\0\0\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    ] {
        let mut bad = server.connect();
        bad.write_all(nonsense).unwrap();
        let answer = rest(&mut bad);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    drop(server.connect());
    ask(&mut good);
}

#[test]
fn a_head_that_is_too_large_is_431() {
    let server = Running::plain();
    let mut stream = server.connect();
    let head = format!("GET / HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n", "a".repeat(70 * 1024));
    drop(stream.write_all(head.as_bytes()));
    let mut start = [0; 12];
    stream.read_exact(&mut start).unwrap();
    assert_eq!(&start, b"HTTP/1.1 431");
}

#[test]
fn connections_beyond_the_limit_wait_for_a_place() {
    let server = Running::new(Limits::new(1), None);
    let mut first = server.connect();
    ask(&mut first);
    let mut second = server.connect();
    second.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    second.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert!(second.read(&mut [0; 1]).is_err(), "served beyond the limit");
    drop(first);
    second.set_read_timeout(Some(PATIENCE)).unwrap();
    ask(&mut second);
}

#[test]
fn listeners_that_share_a_limit_do_not_starve_each_other() {
    let (limits, drain) = (Limits::new(1), Drain::new());
    let listeners = bind_per_core(&"127.0.0.1:0".parse().unwrap(), 3).unwrap();
    let addr = listeners[0].addr();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    for listener in listeners {
        runtime.spawn(Server::new(listener, limits.clone(), drain.clone()).serve(|_| {
            service_fn(|_: Request<Incoming>| {
                std::future::ready(Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(
                    b"hello",
                )))))
            })
        }));
    }
    // The kernel spreads these over the three.
    for _ in 0..30 {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        ask(&mut stream);
    }
    drain.begin();
    assert!(runtime.block_on(drain.wait_idle(PATIENCE)));
}

#[test]
fn the_drain_closes_idle_connections_and_ends_without_requests() {
    let mut server = Running::plain();
    let mut idle = server.connect();
    ask(&mut idle);
    let mut silent = server.connect();
    // Accepted behind the silent one, so that one is accepted too.
    ask(&mut server.connect());
    server.drain.begin();
    server.ended();
    assert_eq!((rest(&mut idle), rest(&mut silent)), (String::new(), String::new()));
    assert_eq!(server.drain.in_flight(), 0);
    assert!(TcpStream::connect(server.addr).is_err());
}

#[test]
fn expiry_drops_what_never_ends() {
    let mut server = Running::plain();
    let mut stream = server.connect();
    stream.write_all(b"GET /never HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    ask(&mut server.connect());
    server.drain.begin();
    assert!(server.drain.in_flight() > 0);
    server.drain.expire();
    server.ended();
    assert_eq!(rest(&mut stream), "");
}

#[test]
fn the_form_for_any_thread_serves_as_well() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let listener = bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
    let (addr, drain) = (listener.addr(), Drain::new());
    let server = Server::new(listener, Limits::new(8), drain.clone());
    let serving = runtime.spawn(server.serve(|peer| {
        let peer = peer.addr;
        service_fn(move |_: Request<Incoming>| {
            assert!(peer.ip().is_loopback());
            std::future::ready(Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"hello")))))
        })
    }));
    ask(&mut TcpStream::connect(addr).unwrap());
    drain.begin();
    runtime.block_on(serving).unwrap().unwrap();
}

type Client = rustls::StreamOwned<rustls::ClientConnection, TcpStream>;
type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

struct Certificates {
    folder: tempfile::TempDir,
}

impl Certificates {
    fn new() -> Self {
        let certificates = Self { folder: tempfile::tempdir().unwrap() };
        certificates.renew();
        certificates
    }

    fn renew(&self) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(self.folder.path().join("cert"), made.cert.pem()).unwrap();
        std::fs::write(self.folder.path().join("key"), made.signing_key.serialize_pem()).unwrap();
    }

    fn files(&self) -> TlsFiles {
        let path = |name| self.folder.path().join(name);
        TlsFiles { certificate: path("cert"), key: path("key"), client_auth: ClientAuth::None }
    }

    fn connect(&self, server: &Running, alpn: &[u8]) -> Client {
        self.connect_as(server, alpn, None)
    }

    fn connect_as(&self, server: &Running, alpn: &[u8], identity: Option<Identity>) -> Client {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.folder.path().join("cert")).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match identity {
            None => config.with_no_client_auth(),
            Some((chain, key)) => config.with_client_auth_cert(chain, key).unwrap(),
        };
        config.alpn_protocols = vec![alpn.to_vec()];
        let name = ServerName::try_from("localhost").unwrap();
        let session = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        rustls::StreamOwned::new(session, server.connect())
    }
}

#[test]
fn certificates_are_swapped_without_cutting_connections() {
    let certificates = Certificates::new();
    let tls = Tls::new(certificates.files().load().unwrap());
    let server = Running::new(Limits::new(64), Some(tls.clone()));
    let mut old = certificates.connect(&server, b"http/1.1");
    ask(&mut old);
    certificates.renew();
    let mut refused = certificates.connect(&server, b"http/1.1");
    assert!(
        refused.write_all(b"x").and_then(|()| refused.flush()).is_err(),
        "the old certificate is trusted"
    );
    tls.replace(certificates.files().load().unwrap());
    ask(&mut certificates.connect(&server, b"http/1.1"));
    ask(&mut old);
}

/// A CA and a certificate that it signed, as rustls wants them.
fn client_identity(folder: &std::path::Path) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let ca = params.self_signed(&ca_key).unwrap();
    std::fs::write(folder.join("ca"), ca.pem()).unwrap();
    let issuer = rcgen::Issuer::new(params, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let client =
        rcgen::CertificateParams::new(vec!["client".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    (vec![client.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
}

#[test]
fn client_certificates_are_asked_for_or_required() {
    let certificates = Certificates::new();
    let identity = client_identity(certificates.folder.path());
    let ca = certificates.folder.path().join("ca");
    let server_with = |client_auth| {
        let files = TlsFiles { client_auth, ..certificates.files() };
        Running::new(Limits::new(64), Some(Tls::new(files.load().unwrap())))
    };
    let asked = server_with(ClientAuth::Asked(ca.clone()));
    assert!(ask(&mut certificates.connect(&asked, b"http/1.1")).contains("certificate: none"));
    assert!(
        ask(&mut certificates.connect_as(&asked, b"http/1.1", Some(identity))).contains("certificate: shown")
    );
    let required = server_with(ClientAuth::Required(ca));
    let mut refused = certificates.connect(&required, b"http/1.1");
    drop(refused.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
    assert!(refused.read(&mut [0; 1]).is_err(), "served without a certificate");
}

#[test]
fn http2_is_spoken_where_the_handshake_chose_it() {
    let certificates = Certificates::new();
    let server = Running::new(Limits::new(64), Some(Tls::new(certificates.files().load().unwrap())));
    let mut stream = certificates.connect(&server, b"h2");
    // The preface with empty settings; the server's first frame is its own settings (type 4).
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    let mut frame = [0; 9];
    stream.read_exact(&mut frame).unwrap();
    assert_eq!(frame[3], 4);
    assert_eq!(stream.conn.alpn_protocol(), Some(&b"h2"[..]));
}

#[test]
fn what_is_wrong_with_files_is_said_by_name() {
    let certificates = Certificates::new();
    let error = |files: TlsFiles| files.load().unwrap_err().to_string();
    let mut files = certificates.files();
    files.key = certificates.folder.path().join("cert");
    assert!(error(files.clone()).ends_with("cert: holds no PEM private key without a passphrase"));
    let other = Certificates::new();
    files.key = other.files().key;
    assert!(error(files.clone()).contains("is not the key of the certificate in "), "{}", error(files));
    files = certificates.files();
    files.certificate = "/nonexistent/cert".into();
    assert_eq!(error(files), "/nonexistent/cert: cannot be read: No such file or directory");
}
