//! The routes.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::store::Store;

/// How long a connection may stay idle, or take to send a head.
const IDLE: Duration = Duration::from_secs(75);

type Answer = Response<Full<Bytes>>;

/// What every connection shares.
#[derive(Debug)]
pub(crate) struct Service {
    name: String,
    max_body: usize,
    requests: AtomicU64,
    store: Mutex<Store>,
}

/// Listens, and logs where.
#[expect(clippy::print_stderr, reason = "the one line that this program logs")]
pub(crate) async fn listen(address: &str) -> anyhow::Result<TcpListener> {
    let full = if address.starts_with(':') { format!("0.0.0.0{address}") } else { address.to_owned() };
    let listener = TcpListener::bind(&full).await.with_context(|| format!("cannot listen on {full}"))?;
    let addr = listener.local_addr()?;
    eprintln!("{}", json!({"level": "INFO", "message": "listening", "role": "http", "addr": addr}));
    Ok(listener)
}

/// Accepts and serves for ever.
pub(crate) async fn serve(listener: TcpListener, service: Arc<Service>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors: a connection that ends makes room.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let service = Arc::clone(&service);
        tokio::spawn(async move {
            let answer = service_fn(move |request| {
                let service = Arc::clone(&service);
                async move { Ok::<_, Infallible>(service.answer(request).await) }
            });
            let mut server = http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(IDLE);
            // A client that goes away in the middle is none of our concern.
            let _ = server.serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

impl Service {
    /// An empty store of this name.
    pub(crate) fn new(name: String, max_body: usize) -> Arc<Self> {
        Arc::new(Self { name, max_body, requests: AtomicU64::new(0), store: Mutex::default() })
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let read = matches!(*request.method(), Method::GET | Method::HEAD);
        let path = request.uri().path();
        match path {
            "/" | "/info" | "/dump" if !read => not_allowed("GET, HEAD"),
            "/" => text(StatusCode::OK, "a key-value store: PUT, GET and DELETE /kv/KEY; GET /info, /dump"),
            "/info" => self.info(),
            "/dump" => as_json(&self.store().dump()),
            _ => match path.strip_prefix("/kv/").filter(|key| !key.is_empty()) {
                Some(key) => match percent_decode_str(key).decode_utf8() {
                    Ok(key) => {
                        let key = key.into_owned();
                        self.value(key, request).await
                    }
                    Err(_) => text(StatusCode::BAD_REQUEST, "a key is UTF-8"),
                },
                None => text(StatusCode::NOT_FOUND, "no such route"),
            },
        }
    }

    fn info(&self) -> Answer {
        as_json(&json!({
            "name": self.name,
            "keys": self.store().len(),
            "requests": self.requests.load(Ordering::Relaxed),
            "pid": std::process::id(),
        }))
    }

    async fn value(&self, key: String, request: Request<Incoming>) -> Answer {
        match *request.method() {
            Method::GET | Method::HEAD => match self.store().get(&key) {
                Some(value) => Response::new(Full::new(value)),
                None => text(StatusCode::NOT_FOUND, "no such key"),
            },
            Method::PUT => self.put(key, request.into_body()).await,
            Method::DELETE if self.store().delete(&key) => text(StatusCode::OK, "deleted"),
            Method::DELETE => text(StatusCode::NOT_FOUND, "no such key"),
            _ => not_allowed("GET, HEAD, PUT, DELETE"),
        }
    }

    async fn put(&self, key: String, body: Incoming) -> Answer {
        let too_long =
            || text(StatusCode::PAYLOAD_TOO_LARGE, format!("a value has at most {} bytes", self.max_body));
        if body.size_hint().lower() > self.max_body as u64 {
            return too_long();
        }
        match Limited::new(body, self.max_body).collect().await {
            Ok(body) => match self.store().put(key, body.to_bytes()) {
                true => text(StatusCode::CREATED, "created"),
                false => text(StatusCode::OK, "replaced"),
            },
            Err(error) if error.is::<LengthLimitError>() => too_long(),
            Err(_) => text(StatusCode::BAD_REQUEST, "the body broke off"),
        }
    }
}

fn text(status: StatusCode, line: impl Into<String>) -> Answer {
    let mut answer = Response::new(Full::from(line.into() + "\n"));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    answer
}

fn as_json(value: &Value) -> Answer {
    let mut answer = Response::new(Full::from(format!("{value}\n")));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

fn not_allowed(methods: &'static str) -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, format!("allowed here: {methods}"));
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    answer
}
