//! The health server that Consul's agent asks, as the original's library ran it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use supervise::Boottime;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

const PATH: &str = "/health";
/// What the original answers.
const ALIVE: &str = r#"{"alive": true}"#;
/// Connections at a time; agents make one each.
const CONNECTIONS: usize = 64;
/// For a request's head, and between two requests on a connection.
const IDLE: Duration = Duration::from_secs(30);
/// After a failed accept: too many open files, most of the time.
const PAUSE: Duration = Duration::from_millis(100);

/// It answers as long as this lives.
#[derive(Debug)]
pub(super) struct HealthServer {
    url: String,
    probed: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl HealthServer {
    /// Listens; others reach it by this host.
    pub(super) async fn start(listen: SocketAddr, host: &str) -> std::io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let port = listener.local_addr()?.port();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let host = if bare.contains(':') { format!("[{bare}]") } else { bare.to_owned() };
        let url = format!("http://{host}:{port}{PATH}");
        let probed = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(accept(listener, probed.clone()));
        Ok(Self { url, probed, task })
    }

    /// What the agent has to ask.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// When it last did.
    pub(super) fn probed(&self) -> Boottime {
        Boottime::from_nanos(self.probed.load(Ordering::Relaxed))
    }
}

impl Drop for HealthServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, probed: Arc<AtomicU64>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    // Dropped with this task, and the connections with it.
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = room.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, from)) => {
                let probed = probed.clone();
                connections.spawn(async move {
                    serve(stream, from, probed).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the health server cannot accept");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, from: SocketAddr, probed: Arc<AtomicU64>) {
    let answer = service_fn(|request| {
        let answer = answer(&request, from, &probed);
        async { Ok::<_, Infallible>(answer) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .serve_connection(TokioIo::new(stream), answer);
    // How it ended is the agent's business.
    let _ = connection.await;
}

fn answer(request: &Request<Incoming>, from: SocketAddr, probed: &AtomicU64) -> Response<Full<Bytes>> {
    let (status, body) = match (request.method(), request.uri().path()) {
        (&(Method::GET | Method::HEAD), PATH) => {
            tracing::debug!(%from, "health asked for");
            probed.store(Boottime::now().as_nanos(), Ordering::Relaxed);
            (StatusCode::OK, ALIVE)
        }
        (_, PATH) => (StatusCode::METHOD_NOT_ALLOWED, ""),
        _ => (StatusCode::NOT_FOUND, ""),
    };
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    response
}
