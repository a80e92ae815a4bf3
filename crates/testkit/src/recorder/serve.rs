//! The HTTP server of a recording node.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, request::Parts};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::act::{Act, Rule};
use super::record::{Entry, Record, pairs};

/// What the server's connections and its owner share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) name: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) record: Record,
    pub(super) rules: Vec<Rule>,
    pub(super) keep_headers: bool,
    pub(super) connections: u64,
}

impl Shared {
    pub(super) fn new(name: &str, record: Record) -> Arc<Self> {
        let state = State { record, ..State::default() };
        Arc::new(Self { name: name.to_owned(), state: Mutex::new(state) })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Accepts and serves until dropped.
pub(super) async fn serve(listener: std::net::TcpListener, shared: Arc<Shared>) {
    let listener = TcpListener::from_std(listener).expect("a non-blocking listener fits the runtime");
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors: the next one may fit.
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        shared.lock().connections += 1;
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, Arc::clone(&shared)));
            let mut server = http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(None).max_headers(400);
            // How a connection ends is the client's business: it is part of what is tested.
            let _ = server.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
        });
    }
}

/// Counts a request on its path as running until it is dropped, however that comes about.
struct Going {
    shared: Arc<Shared>,
    path: String,
}

impl Drop for Going {
    fn drop(&mut self) {
        self.shared.lock().record.end(&self.path);
    }
}

async fn answer(mut request: Request<Incoming>, shared: Arc<Shared>) -> io::Result<Response<NodeBody>> {
    let update = is_update(request.method());
    let path = request.uri().path().to_owned();
    let (act, overlapped) = {
        let mut state = shared.lock();
        let (method, uri, headers) = (request.method(), request.uri(), request.headers());
        let act = state.rules.iter_mut().find_map(|rule| rule.apply(method, uri, headers));
        (act, update && state.record.begin(&path))
    };
    let _going = update.then(|| Going { shared: Arc::clone(&shared), path });
    if let Some(Act::CloseBefore) = act {
        return Err(closed());
    }
    if let Some(Act::Echo) = act {
        tokio::spawn(echo(hyper::upgrade::on(&mut request)));
        return Ok(switched());
    }
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    if let Some(Act::Delay(pause)) = act {
        tokio::time::sleep(pause).await;
    }
    let reply = reply(&shared.name, &head, act.as_ref(), &shared);
    note(&shared, &head, &body, overlapped, reply.as_ref().ok().map(Response::status))?;
    match act {
        Some(Act::Late(pause)) => tokio::time::sleep(pause).await,
        Some(Act::Hang) => std::future::pending().await,
        _ => {}
    }
    reply
}

fn is_update(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH | Method::DELETE)
}

/// Writes the request down: decided and recorded before anyone is answered.
fn note(
    shared: &Shared,
    head: &Parts,
    body: &Bytes,
    overlapped: bool,
    status: Option<StatusCode>,
) -> io::Result<()> {
    let mut state = shared.lock();
    let update = is_update(&head.method);
    if !update {
        state.record.reads += 1;
        if !state.keep_headers {
            return Ok(());
        }
    }
    let mut entry = Entry::new(head, body, overlapped);
    entry.status = status.map(|status| status.as_u16());
    entry.applied = status.is_none_or(|status| status.is_success() || status.is_redirection());
    if state.keep_headers {
        entry.headers = pairs(&head.headers);
    }
    if update {
        return state.record.push(entry);
    }
    state.record.read_entries.push(entry);
    Ok(())
}

/// The answer that this act gives; an error closes the connection.
fn reply(name: &str, head: &Parts, act: Option<&Act>, shared: &Shared) -> io::Result<Response<NodeBody>> {
    let response = Response::builder().header("recorder-node", name);
    let made = match act {
        Some(Act::Status(status)) => {
            response.status(*status).body(NodeBody::of(format!("status {status}\n")))
        }
        Some(Act::RetryAfter(status, seconds)) => response
            .status(*status)
            .header("retry-after", *seconds)
            .body(NodeBody::of(format!("status {status}\n"))),
        Some(Act::Answer(status, headers, body)) => {
            let with =
                headers.iter().fold(response.status(*status), |made, (key, value)| made.header(key, value));
            with.body(NodeBody::Whole(Some(body.clone())))
        }
        Some(Act::CloseAfter) => return Err(closed()),
        Some(Act::Truncate) => response.header("content-length", 100).body(truncated()),
        Some(Act::Stream(chunks, pause)) => response.body(streamed(chunks.clone(), *pause)),
        _ if is_update(&head.method) => response.body(NodeBody::of("ok\n")),
        _ => {
            let applied = shared.lock().record.applied;
            response.body(NodeBody::of(format!("{name} {} {applied}\n", head.uri.path())))
        }
    };
    made.map_err(io::Error::other)
}

fn closed() -> io::Error {
    io::Error::from(io::ErrorKind::ConnectionAborted)
}

fn switched() -> Response<NodeBody> {
    let mut response = Response::new(NodeBody::Whole(None));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert("connection", http::HeaderValue::from_static("upgrade"));
    response.headers_mut().insert("upgrade", http::HeaderValue::from_static("echo"));
    response
}

async fn echo(upgrade: hyper::upgrade::OnUpgrade) {
    if let Ok(upgraded) = upgrade.await {
        let (mut reader, mut writer) = tokio::io::split(TokioIo::new(upgraded));
        let _ = tokio::io::copy(&mut reader, &mut writer).await;
        let _ = tokio::io::AsyncWriteExt::shutdown(&mut writer).await;
    }
}

fn truncated() -> NodeBody {
    let (sender, body) = mpsc::channel(2);
    let _ = sender.try_send(Ok(Frame::data(Bytes::from_static(b"0123456789"))));
    let _ = sender.try_send(Err(closed()));
    NodeBody::Flow(body)
}

fn streamed(chunks: Vec<Bytes>, pause: std::time::Duration) -> NodeBody {
    let (sender, body) = mpsc::channel(1);
    tokio::spawn(async move {
        for chunk in chunks {
            tokio::time::sleep(pause).await;
            if sender.send(Ok(Frame::data(chunk))).await.is_err() {
                break;
            }
        }
    });
    NodeBody::Flow(body)
}

/// The body of an answer: known at once, or as it comes.
pub(super) enum NodeBody {
    Whole(Option<Bytes>),
    Flow(mpsc::Receiver<io::Result<Frame<Bytes>>>),
}

impl NodeBody {
    fn of(bytes: impl Into<Bytes>) -> Self {
        Self::Whole(Some(bytes.into()))
    }
}

impl Body for NodeBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Flow(frames) => frames.poll_recv(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(
                bytes.as_ref().map_or(0, |bytes| bytes.len().try_into().unwrap_or(u64::MAX)),
            ),
            Self::Flow(_) => SizeHint::default(),
        }
    }
}
