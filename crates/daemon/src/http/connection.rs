//! One connection: TLS handshake, protocol, requests, the orderly end.
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http_body::Body;
use hyper::body::Incoming;
use hyper::rt::bounds::Http2ServerConnExec;
use hyper::server::conn::{http1, http2};
use hyper::service::HttpService;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::CertificateDer;
use tokio::net::TcpStream;

use super::clock::{HeadClock, HeadTimer, Watched};
use super::server::Limits;
use crate::drain::Drain;
use crate::tls::Tls;

/// How often a silent HTTP/2 peer is asked whether it still lives, and how long it may take.
const PING: Duration = Duration::from_secs(20);
/// hyper's own limit, up to which it parses header fields without allocating.
const PARSED_IN_PLACE: usize = 100;
/// HTTP/2 requests of one connection at a time.
const STREAMS: u32 = 256;

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
    clock: Arc<HeadClock>,
    make: impl FnOnce(&Peer) -> S,
    executor: E,
) where
    S: HttpService<Incoming, ResBody = B> + 'static,
    S::Error: Into<BoxError>,
    B: Body + 'static,
    B::Error: Into<BoxError>,
    E: Http2ServerConnExec<S::Future, B>,
{
    let Some(tls) = &shared.tls else {
        let service = make(&Peer { addr, tls: None });
        let io = Watched::new(TokioIo::new(stream), clock.clone());
        return serve_http1(io, service, &shared, clock).await;
    };
    // On the heap, so that connections without TLS are not as large as those with it.
    Box::pin(serve_tls(stream, addr, tls.current(), &shared, clock, make, executor)).await;
}

async fn serve_tls<S, B, E>(
    stream: TcpStream,
    addr: SocketAddr,
    config: Arc<rustls::ServerConfig>,
    shared: &Shared,
    clock: Arc<HeadClock>,
    make: impl FnOnce(&Peer) -> S,
    executor: E,
) where
    S: HttpService<Incoming, ResBody = B> + 'static,
    S::Error: Into<BoxError>,
    B: Body + 'static,
    B::Error: Into<BoxError>,
    E: Http2ServerConnExec<S::Future, B>,
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
        serve_http2(TokioIo::new(stream), service, shared, executor).await;
    } else {
        let io = Watched::new(TokioIo::new(stream), clock.clone());
        serve_http1(io, service, shared, clock).await;
    }
}

async fn serve_http1<I, S, B>(io: I, service: S, shared: &Shared, clock: Arc<HeadClock>)
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    S: HttpService<Incoming, ResBody = B> + 'static,
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
    drive(connection, &shared.drain, |connection| connection.graceful_shutdown()).await;
}

async fn serve_http2<I, S, B, E>(io: I, service: S, shared: &Shared, executor: E)
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
    S: HttpService<Incoming, ResBody = B> + 'static,
    S::Error: Into<BoxError>,
    B: Body + 'static,
    B::Error: Into<BoxError>,
    E: Http2ServerConnExec<S::Future, B>,
{
    let connection = http2::Builder::new(executor)
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(shared.limits.max_head_bytes).unwrap_or(u32::MAX))
        .serve_connection(io, service);
    drive(connection, &shared.drain, |connection| connection.graceful_shutdown()).await;
}

/// Polls a connection to its end, and tells it once when the drain begins. While nothing drains,
/// this costs one atomic load per wake-up.
async fn drive<C, T, X>(connection: C, drain: &Drain, shut_down: impl Fn(Pin<&mut C>))
where
    C: Future<Output = Result<T, X>>,
    X: std::fmt::Display,
{
    let mut connection = pin!(connection);
    let mut draining = pin!(drain.draining());
    let mut told = false;
    let ended = poll_fn(|context| {
        if !told && draining.as_mut().poll(context).is_ready() {
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
