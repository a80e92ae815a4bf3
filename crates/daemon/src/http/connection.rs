//! One connection: TLS handshake, protocol, requests, the orderly end.
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::rt::bounds::Http2ServerConnExec;
use hyper::server::conn::{http1, http2};
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use rustls::pki_types::CertificateDer;
use tokio::net::TcpStream;

use super::clock::{Clock, HeadTimer, PrefaceTimer, Watched};
use super::server::Limits;
use super::socket::Socket;
use super::streams::{Answer, Answering, Streams};
use crate::drain::Drain;
use crate::tls::Tls;

/// How often a silent HTTP/2 peer is asked whether it still lives, and how long it may take.
const PING: Duration = Duration::from_secs(20);
/// hyper's own limit, up to which it parses header fields without allocating.
const PARSED_IN_PLACE: usize = 100;
/// HTTP/2 requests of one connection at a time: as few as RFC 9113 recommends, since each holds memory.
const STREAMS: u32 = 100;
/// Bytes of each HTTP/2 answer that wait to be written: two frames, so that one is made while the
/// other is on its way. All of a connection: 3.2 MB, for no longer than the time to send.
const SEND_BUFFER: usize = 32 * 1024;
/// HTTP/2 requests that a client has taken back before we came to them ("rapid reset"); one more
/// ends the connection. Clients that mean well take back few.
const TAKEN_BACK: usize = 20;
/// HTTP/2 requests that we reset because of what the client did, over the life of a connection; one
/// more ends it. Each costs us work and the client nothing.
const MISTAKES: usize = 128;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its address.
    pub addr: SocketAddr,
    /// What the handshake said, where there was one.
    pub tls: Option<TlsPeer>,
}

/// What a TLS handshake said of the peer.
#[derive(Debug, Clone)]
pub struct TlsPeer {
    /// The certificate, verified against the client CA.
    pub certificate: Option<CertificateDer<'static>>,
    /// The name that the peer asked for.
    pub server_name: Option<String>,
}

/// What every connection of a server shares.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) limits: Limits,
    pub(super) drain: Drain,
    pub(super) tls: Option<Tls>,
}

/// Serves one connection to its end. Whatever goes wrong concerns this connection alone.
pub(super) async fn serve<S, B, E>(
    stream: TcpStream,
    addr: SocketAddr,
    shared: Shared,
    clock: Arc<Clock>,
    make: impl FnOnce(&Peer) -> S,
    executor: E,
) where
    S: Service<Request<Incoming>, Response = Response<B>> + 'static,
    S::Error: Into<BoxError>,
    B: Body + 'static,
    B::Error: Into<BoxError>,
    E: Http2ServerConnExec<Answering<S::Future>, Answer<B>>,
{
    let stream = Socket::new(stream, clock.clone());
    let Some(tls) = &shared.tls else {
        let service = make(&Peer { addr, tls: None });
        let io = Watched::new(TokioIo::new(stream), clock.clone());
        return serve_http1(io, service, &shared, clock).await;
    };
    // On the heap, so that connections without TLS are not as large as those with it.
    Box::pin(serve_tls(stream, addr, tls.current(), &shared, clock, make, executor)).await;
}

async fn serve_tls<S, B, E>(
    stream: Socket,
    addr: SocketAddr,
    config: Arc<rustls::ServerConfig>,
    shared: &Shared,
    clock: Arc<Clock>,
    make: impl FnOnce(&Peer) -> S,
    executor: E,
) where
    S: Service<Request<Incoming>, Response = Response<B>> + 'static,
    S::Error: Into<BoxError>,
    B: Body + 'static,
    B::Error: Into<BoxError>,
    E: Http2ServerConnExec<Answering<S::Future>, Answer<B>>,
{
    let acceptor = tokio_rustls::TlsAcceptor::from(config);
    let handshake = tokio::time::timeout(shared.limits.header_timeout, acceptor.accept(stream));
    let stream = match handshake.await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(peer = %addr, "TLS handshake failed: {error}");
            return;
        }
        Err(_) => return,
    };
    let (_, session) = stream.get_ref();
    let certificate = session.peer_certificates().and_then(|chain| chain.first()).cloned();
    let server_name = session.server_name().map(str::to_owned);
    let http2 = session.alpn_protocol() == Some(b"h2");
    let service = make(&Peer { addr, tls: Some(TlsPeer { certificate, server_name }) });
    if http2 {
        serve_http2(TokioIo::new(stream), service, shared, clock, executor).await;
    } else {
        let io = Watched::new(TokioIo::new(stream), clock.clone());
        serve_http1(io, service, shared, clock).await;
    }
}

async fn serve_http1<I, S, B>(io: I, service: S, shared: &Shared, clock: Arc<Clock>)
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>> + 'static,
    S::Error: Into<BoxError>,
    B: Body + 'static,
    B::Error: Into<BoxError>,
{
    let limits = &shared.limits;
    let mut builder = http1::Builder::new();
    if limits.max_headers != PARSED_IN_PLACE {
        builder.max_headers(limits.max_headers);
    }
    let connection = builder
        .timer(HeadTimer::new(clock))
        .header_read_timeout(limits.header_timeout)
        .max_header_size(limits.max_head_bytes)
        .serve_connection(io, service)
        .with_upgrades();
    drive(connection, shared.drain.draining(), |connection| connection.graceful_shutdown()).await;
}

async fn serve_http2<I, S, B, E>(io: I, service: S, shared: &Shared, clock: Arc<Clock>, executor: E)
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
    S: Service<Request<Incoming>, Response = Response<B>> + 'static,
    S::Error: Into<BoxError>,
    B: Body + 'static,
    B::Error: Into<BoxError>,
    E: Http2ServerConnExec<Answering<S::Future>, Answer<B>>,
{
    clock.begin_http2();
    let connection = http2::Builder::new(executor)
        .timer(PrefaceTimer::new(clock.clone()))
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .max_concurrent_streams(STREAMS)
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(TAKEN_BACK)
        .max_local_error_reset_streams(MISTAKES)
        .max_header_list_size(u32::try_from(shared.limits.max_head_bytes).unwrap_or(u32::MAX))
        .serve_connection(io, Streams::new(service, clock.clone()));
    let told = async {
        tokio::select! {
            () = shared.drain.draining() => {}
            () = clock.asked_to_leave() => {}
        }
    };
    drive(connection, told, |connection| connection.graceful_shutdown()).await;
}

/// Polls a connection to its end, and shuts it down when it is `asked` to leave. For HTTP/1, whom only
/// the drain asks, that costs one atomic load per wake-up.
async fn drive<C, T, X>(connection: C, asked: impl Future<Output = ()>, shut_down: impl Fn(Pin<&mut C>))
where
    C: Future<Output = Result<T, X>>,
    X: std::fmt::Display,
{
    let mut connection = pin!(connection);
    let mut asked = pin!(asked);
    let mut told = false;
    let ended = poll_fn(|context| {
        if !told && asked.as_mut().poll(context).is_ready() {
            told = true;
            shut_down(connection.as_mut());
        }
        match connection.as_mut().poll(context) {
            Poll::Ready(ended) => Poll::Ready(ended),
            Poll::Pending => Poll::Pending,
        }
    });
    if let Err(error) = ended.await {
        // Peers that vanish or talk nonsense are daily business.
        tracing::debug!("connection ended: {error}");
    }
}
