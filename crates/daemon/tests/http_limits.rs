//! Listeners against clients that do not read, stay silent, or speak HTTP/2 and then nothing.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use daemon::drain::Drain;
use daemon::http::{Limits, Server, bind};
use daemon::tls::{ClientAuth, Tls, TlsFiles};
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Connection, SendRequest};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use testkit::http::{Answer, ask};
use testkit::{Pki, TempDir, eventually};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::client::TlsStream;

const PATIENCE: Duration = Duration::from_secs(30);
const SEND: Duration = Duration::from_millis(300);
const LARGE: usize = 50 << 20;
/// The preface of a client with empty settings.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// An answer whose parts come after a time each.
struct Parts {
    parts: Vec<Bytes>,
    pause: Duration,
    sleep: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Parts {
    fn new(parts: &[&'static [u8]], pause: Duration) -> Self {
        Self::of(parts.iter().rev().map(|part| Bytes::from_static(part)).collect(), pause)
    }

    const fn of(parts: Vec<Bytes>, pause: Duration) -> Self {
        Self { parts, pause, sleep: None }
    }
}

impl Body for Parts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let pause = self.pause;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
        if !pause.is_zero() && sleep.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        self.sleep = None;
        Poll::Ready(self.parts.pop().map(|part| Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.parts.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        let bytes = self.parts.iter().map(Bytes::len).sum::<usize>();
        // As a stream does, which cannot know.
        if self.pause.is_zero() { SizeHint::with_exact(bytes as u64) } else { SizeHint::default() }
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Parts>, Infallible> {
    let body = match request.uri().path() {
        "/large" => Parts::of(vec![vec![b'x'; LARGE].into()], Duration::ZERO),
        "/tunnel" => {
            let upgraded = hyper::upgrade::on(request);
            tokio::task::spawn_local(async move {
                let mut io = TokioIo::new(upgraded.await.unwrap());
                drop(io.write_all(&vec![b'x'; LARGE]).await);
            });
            let head = Response::builder().status(101).header("connection", "upgrade").header("upgrade", "x");
            return Ok(head.body(Parts::new(&[], Duration::ZERO)).unwrap());
        }
        "/quiet" => Parts::new(&[b"one", b"two"], SEND * 3),
        "/later" => {
            tokio::time::sleep(SEND * 4).await;
            Parts::new(&[b"later"], Duration::ZERO)
        }
        _ => Parts::new(&[b"hello"], Duration::ZERO),
    };
    Ok(Response::new(body))
}

struct Running {
    addr: SocketAddr,
    drain: Drain,
    pki: Pki,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Running {
    /// Plain or within TLS; other limits than those that are changed are longer than the test.
    fn new(secure: bool, change: impl FnOnce(&mut Limits)) -> Self {
        let mut limits = Limits::new(64);
        (limits.header_timeout, limits.idle_timeout) = (PATIENCE * 2, PATIENCE * 2);
        limits.send_timeout = PATIENCE * 2;
        change(&mut limits);
        let dir = TempDir::new();
        let pki = Pki::new(&dir);
        let (certificate, key) = (pki.certificate.clone(), pki.key.clone());
        let files = TlsFiles { certificate, key, client_auth: ClientAuth::None };
        let tls = secure.then(|| Tls::new(files.load().unwrap()));
        let listener = bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
        let (addr, drain) = (listener.addr(), Drain::new());
        let server = Server::new(listener, limits, drain.clone()).with_tls(tls);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let serving = server.serve_local(|_| service_fn(answer));
            tokio::task::LocalSet::new().block_on(&runtime, serving).unwrap();
        });
        Self { addr, drain, pki, thread: Some(thread) }
    }

    async fn tls(&self, protocol: &str) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.addr).await.unwrap();
        self.pki.connect(stream, Some(protocol), false).await.unwrap()
    }

    /// A client of HTTP/2 with this window, and what drives it.
    async fn http2(&self, window: u32) -> (Client, Driver) {
        let stream = TokioIo::new(self.tls("h2").await);
        let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(window).handshake(stream).await.unwrap()
    }

    async fn ask2(&self, method: &str, target: &str) -> Answer {
        self.pki.ask_http2(self.addr, ask(method, target)).await.unwrap()
    }

    async fn has_connections(&self, count: usize) {
        eventually("the number of connections", PATIENCE, async || {
            (self.drain.in_flight() == count).then_some(())
        })
        .await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.drain.begin();
        self.drain.expire();
        let ended = self.thread.take().unwrap().join();
        assert!(std::thread::panicking() || ended.is_ok());
    }
}

type Client = SendRequest<Empty<Bytes>>;
type Driver = Connection<TokioIo<TlsStream<TcpStream>>, Empty<Bytes>, TokioExecutor>;

fn get(target: &str) -> Request<Empty<Bytes>> {
    Request::get(format!("https://localhost{target}")).body(Empty::new()).unwrap()
}

/// The frame of GET https://localhost/large as this stream.
fn headers(stream: u8) -> Vec<u8> {
    let mut frame = b"\0\0\x15\x01\x05\0\0\0\0\x82\x87\x04\x06/large\x41\x09localhost".to_vec();
    frame[8] = stream;
    frame
}

trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

/// A connection for HTTP/1, whose kernel takes no more than this in advance.
async fn http1(server: &Running, secure: bool) -> Box<dyn Stream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(256 * 1024).unwrap();
    let stream = socket.connect(server.addr).await.unwrap();
    if !secure {
        return Box::new(stream);
    }
    Box::new(server.pki.connect(stream, Some("http/1.1"), false).await.unwrap())
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) {
    stream.write_all(bytes).await.unwrap();
    stream.flush().await.unwrap();
}

#[tokio::test]
async fn who_never_reads_is_cut_off() {
    for secure in [false, true] {
        let server = Running::new(secure, |limits| limits.send_timeout = SEND);
        let mut client = http1(&server, secure).await;
        let start = Instant::now();
        send(&mut client, b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n").await;
        server.has_connections(1).await;
        server.has_connections(0).await;
        assert!(start.elapsed() >= SEND);
        let mut got = Vec::new();
        // A reset or the end without a farewell are both a cut.
        drop(client.read_to_end(&mut got).await);
        assert!(got.len() < LARGE, "{}", got.len());
    }
}

#[tokio::test]
async fn who_reads_slowly_but_steadily_is_served() {
    for secure in [false, true] {
        let server = Running::new(secure, |limits| limits.send_timeout = SEND);
        let mut client = http1(&server, secure).await;
        send(&mut client, b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        let (start, mut total, mut buffer) = (Instant::now(), 0, vec![0; 64 * 1024]);
        while start.elapsed() < SEND * 6 {
            total += client.read(&mut buffer).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(total < LARGE, "that was not slow");
        let mut rest = Vec::new();
        drop(client.read_to_end(&mut rest).await);
        total += rest.len();
        assert!(total > LARGE, "{total}");
    }
}

#[tokio::test]
async fn an_answer_with_nothing_to_send_may_be_silent() {
    let server = Running::new(true, |limits| limits.send_timeout = SEND);
    assert_eq!(server.ask2("GET", "/quiet").await.text(), "onetwo");
    let (answer, _) = server.pki.ask(server.addr, ask("GET", "/quiet"), false).await.unwrap();
    assert_eq!(answer.text(), "onetwo");
}

#[tokio::test]
async fn an_upgraded_connection_may_rest() {
    let server = Running::new(false, |limits| limits.send_timeout = SEND);
    let mut client = http1(&server, false).await;
    send(&mut client, b"GET /tunnel HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n").await;
    tokio::time::sleep(SEND * 4).await;
    let mut got = Vec::new();
    client.read_to_end(&mut got).await.unwrap();
    assert!(got.len() > LARGE, "{}", got.len());
}

#[tokio::test]
async fn an_http2_client_that_gives_no_room_is_cut_off() {
    let server = Running::new(true, |limits| limits.send_timeout = SEND);
    let (mut client, driver) = server.http2(64 * 1024).await;
    let driver = tokio::spawn(driver);
    let start = Instant::now();
    // It reads its socket and answers pings, but nobody takes the body.
    let answer = client.send_request(get("/large")).await.unwrap();
    server.has_connections(0).await;
    assert!(start.elapsed() >= SEND);
    assert!(answer.into_body().collect().await.is_err());
    drop(driver.await.unwrap());
}

#[tokio::test]
async fn an_http2_client_that_never_reads_its_socket_is_cut_off() {
    let server = Running::new(true, |limits| limits.send_timeout = SEND);
    let mut client = server.tls("h2").await;
    // Windows of 2 GiB for the stream and the connection.
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x06\x04\0\0\0\0\0\0\x04\x7f\xff\xff\xff".to_vec();
    bytes.extend_from_slice(b"\0\0\x04\x08\0\0\0\0\0\x7f\0\0\0");
    bytes.extend(headers(1));
    let start = Instant::now();
    send(&mut client, &bytes).await;
    server.has_connections(0).await;
    assert!(start.elapsed() >= SEND, "that was not understood");
}

#[tokio::test]
async fn an_http2_client_that_takes_back_what_it_asks_for_is_sent_away() {
    let server = Running::new(true, |_| {});
    let mut client = server.tls("h2").await;
    let mut bytes = PREFACE.to_vec();
    for stream in (1..100).step_by(2) {
        bytes.extend(headers(stream));
        bytes.extend_from_slice(&[0, 0, 4, 3, 0, 0, 0, 0, stream, 0, 0, 0, 8]);
    }
    send(&mut client, &bytes).await;
    let mut got = Vec::new();
    drop(client.read_to_end(&mut got).await);
    assert!(got.windows(4).any(|bytes| bytes == [0, 0, 0, 11]), "no ENHANCE_YOUR_CALM in {got:?}");
    server.has_connections(0).await;
}

#[tokio::test]
async fn an_http2_client_that_reads_slowly_is_served_whole() {
    let server = Running::new(true, |limits| limits.send_timeout = SEND);
    let (mut client, driver) = server.http2(64 * 1024).await;
    let driver = tokio::spawn(driver);
    let mut body = client.send_request(get("/large")).await.unwrap().into_body();
    let (start, mut total) = (Instant::now(), 0);
    while let Some(frame) = body.frame().await {
        let data = frame.unwrap().into_data().unwrap();
        assert!(data.len() <= 16 * 1024, "one piece at a time");
        total += data.len();
        if start.elapsed() < SEND * 5 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    assert_eq!(total, LARGE);
    driver.abort();
}

#[tokio::test]
async fn an_idle_http2_connection_is_closed_in_order_but_not_below_a_request() {
    let server = Running::new(true, |limits| limits.idle_timeout = SEND);
    let (mut client, driver) = server.http2(64 * 1024).await;
    let driver = tokio::spawn(driver);
    let answer = client.send_request(get("/later")).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "later");
    let start = Instant::now();
    driver.await.unwrap().unwrap();
    assert!(start.elapsed() >= SEND / 2, "{:?}", start.elapsed());
    server.has_connections(0).await;
    // One that never says a word after its preface is closed as well, though it acknowledges nothing.
    let mut silent = server.tls("h2").await;
    send(&mut silent, PREFACE).await;
    server.has_connections(1).await;
    server.has_connections(0).await;
}

#[tokio::test]
async fn the_preface_of_http2_has_the_time_of_a_head() {
    let server = Running::new(true, |limits| limits.header_timeout = SEND);
    let mut silent = server.tls("h2").await;
    let start = Instant::now();
    send(&mut silent, &PREFACE[..PREFACE.len() - 10]).await;
    server.has_connections(0).await;
    assert!(start.elapsed() >= SEND);
    let (mut client, driver) = server.http2(64 * 1024).await;
    let driver = tokio::spawn(driver);
    // A connection that is made in advance has the idle time.
    tokio::time::sleep(SEND * 3).await;
    assert_eq!(client.send_request(get("/")).await.unwrap().status(), 200);
    driver.abort();
}

#[tokio::test]
async fn the_drain_ends_idle_http2_connections_and_finishes_requests() {
    let server = Running::new(true, |_| {});
    let (mut idle, idle_driver) = server.http2(64 * 1024).await;
    let idle_driver = tokio::spawn(idle_driver);
    assert_eq!(idle.send_request(get("/")).await.unwrap().status(), 200);
    let (mut busy, busy_driver) = server.http2(64 * 1024).await;
    let busy_driver = tokio::spawn(busy_driver);
    assert_eq!(busy.send_request(get("/")).await.unwrap().status(), 200);
    let answer = tokio::spawn(busy.send_request(get("/later")));
    let mut silent = server.tls("h2").await;
    send(&mut silent, PREFACE).await;
    server.has_connections(3).await;
    server.drain.begin();
    idle_driver.await.unwrap().unwrap();
    assert_eq!(answer.await.unwrap().unwrap().status(), 200);
    busy_driver.await.unwrap().unwrap();
    server.has_connections(0).await;
}

#[tokio::test]
async fn head_has_the_length_and_no_body_with_http2_too() {
    let server = Running::new(true, |_| {});
    let answer = server.ask2("HEAD", "/").await;
    assert_eq!(
        (answer.status, answer.header("content-length"), answer.text()),
        (200, Some("5"), String::new())
    );
    // Nobody knows how long a stream will be.
    let answer = server.ask2("HEAD", "/quiet").await;
    assert_eq!((answer.status, answer.header("content-length"), answer.text()), (200, None, String::new()));
    let answer = server.ask2("GET", "/").await;
    assert_eq!((answer.header("content-length"), answer.text().as_str()), (Some("5"), "hello"));
}

#[tokio::test]
async fn http2_clients_are_told_the_limits() {
    let server = Running::new(true, |_| {});
    let mut client = server.tls("h2").await;
    send(&mut client, PREFACE).await;
    let mut head = [0; 9];
    client.read_exact(&mut head).await.unwrap();
    assert_eq!(head[3], 4, "settings come first");
    let mut settings = vec![0; usize::from(head[2])];
    client.read_exact(&mut settings).await.unwrap();
    let of = |id: u8| {
        let found = settings.chunks(6).find(|setting| setting[1] == id).unwrap();
        u32::from_be_bytes(found[2..].try_into().unwrap())
    };
    assert_eq!((of(3), of(6)), (100, 64 * 1024), "streams, bytes of a head");
}
