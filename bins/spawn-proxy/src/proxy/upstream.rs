//! Connections to nodes: one pool per thread, nothing shared, nothing locked.
//!
//! A connection is driven by whoever uses it: no task of its own, so an exchange costs no wake-ups
//! between tasks. An idle connection is not watched; that it was closed shows at the next use.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use common::node::NodeId;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::body::OutBody;
use crate::nodes::live::Live;

/// Idle connections to one node beyond this are closed.
const MAX_IDLE: usize = 256;
/// An idle connection older than this is not used again: many servers close at 60 s or 75 s.
const IDLE_FOR: Duration = Duration::from_secs(50);
/// Between two looks for a file that has become free.
const NEXT_FILE: Duration = Duration::from_millis(20);

/// Why an exchange gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// No connection could be made: nothing was sent.
    #[error("cannot connect to {node}: {source}")]
    Connect {
        /// The node.
        node: NodeId,
        /// What the system said.
        source: io::Error,
    },
    /// The connection broke before the answer's head was complete.
    #[error("{node} broke the connection: {reason}")]
    Broken {
        /// The node.
        node: NodeId,
        /// What was seen.
        reason: String,
        /// Whether the connection had served before, so that an idle close is likely.
        reused: bool,
    },
    /// The request's own body failed: the client went away or its body broke.
    #[error("the request's body ended early: {0}")]
    Body(String),
    /// No answer in time.
    #[error("{node} gave no answer within {after:?}")]
    TimedOut {
        /// The node.
        node: NodeId,
        /// The bound.
        after: Duration,
        /// Whether it was the connection that was not made in time.
        connecting: bool,
    },
}

type Driver = Pin<Box<http1::Connection<TokioIo<TcpStream>, OutBody>>>;

/// A connection to a node, with the future that moves its bytes.
pub struct Upstream {
    sender: http1::SendRequest<OutBody>,
    driver: Driver,
    over: bool,
    peer: IpAddr,
    reused: bool,
    idle_since: Instant,
}

impl Upstream {
    async fn connect(live: &Live) -> io::Result<Self> {
        let stream = connect_to(&live.id).await?;
        let peer = stream.peer_addr()?.ip();
        let (sender, connection) =
            http1::Builder::new().handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        Ok(Self {
            sender,
            driver: Box::pin(connection),
            over: false,
            peer,
            reused: false,
            idle_since: Instant::now(),
        })
    }

    /// Moves bytes; ready when the connection is over.
    fn drive(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        if self.over {
            return Poll::Ready(Ok(()));
        }
        let moved = self.driver.as_mut().poll(cx);
        self.over = moved.is_ready();
        moved
    }

    /// Sends a request and waits for the head of the answer.
    async fn send(&mut self, request: Request<OutBody>) -> Result<Response<Incoming>, hyper::Error> {
        let answer = self.sender.send_request(request);
        let mut answer = std::pin::pin!(answer);
        std::future::poll_fn(|cx| {
            let over = self.drive(cx);
            match (answer.as_mut().poll(cx), over) {
                (Poll::Ready(result), _) => Poll::Ready(result),
                // The dispatcher answers every request before it ends, so this cannot be the last word.
                (Poll::Pending, Poll::Ready(Err(error))) => Poll::Ready(Err(error)),
                (Poll::Pending, _) => Poll::Pending,
            }
        })
        .await
    }

    /// Whether another request can be sent on it.
    fn is_usable(&mut self) -> bool {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        self.drive(&mut cx).is_pending() && self.sender.is_ready()
    }
}

/// Connects to a node by resolving its name now, trying each address in turn.
///
/// # Errors
/// What the system said of the last address.
pub async fn connect_to(node: &NodeId) -> io::Result<TcpStream> {
    let stream = match node.host().parse::<IpAddr>() {
        Ok(ip) => TcpStream::connect(SocketAddr::new(ip, node.port())).await?,
        Err(_) => TcpStream::connect((node.host(), node.port())).await?,
    };
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Whether this process may open no more files, which is not the node's doing.
pub fn is_out_of_files(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::MFILE, Errno::NFILE].iter().any(|code| error.raw_os_error() == Some(code.raw_os_error()))
}

/// The idle connections of one thread.
#[derive(Clone, Default)]
pub struct Pool {
    idle: Rc<RefCell<HashMap<NodeId, Vec<Upstream>>>>,
}

impl Pool {
    /// An idle connection to the node that still works.
    fn take(&self, live: &Live) -> Option<Upstream> {
        let mut idle = self.idle.borrow_mut();
        let waiting = idle.get_mut(&live.id)?;
        let addresses = live.addresses.load();
        while let Some(mut upstream) = waiting.pop() {
            let current = addresses.as_ref().is_none_or(|now| now.contains(&upstream.peer));
            if current && upstream.idle_since.elapsed() < IDLE_FOR && upstream.is_usable() {
                upstream.reused = true;
                return Some(upstream);
            }
        }
        None
    }

    /// An idle connection or a new one. Where no file is left for one, the idle ones make room.
    async fn connection(&self, live: &Live) -> Result<Upstream, ExchangeError> {
        loop {
            if let Some(upstream) = self.take(live) {
                return Ok(upstream);
            }
            match Upstream::connect(live).await {
                Ok(upstream) => return Ok(upstream),
                Err(source) if is_out_of_files(&source) => {
                    self.idle.borrow_mut().clear();
                    tokio::time::sleep(NEXT_FILE).await;
                }
                Err(source) => return Err(ExchangeError::Connect { node: live.id.clone(), source }),
            }
        }
    }

    fn give_back(&self, node: &NodeId, mut upstream: Upstream) {
        // Whether it still works is found out where it is taken: looking here as well would cost each
        // exchange another round through the connection.
        if upstream.over {
            return;
        }
        upstream.idle_since = Instant::now();
        let mut idle = self.idle.borrow_mut();
        match idle.get_mut(node) {
            Some(waiting) if waiting.len() < MAX_IDLE => waiting.push(upstream),
            Some(_) => {}
            None => drop(idle.insert(node.clone(), vec![upstream])),
        }
    }

    /// Closes what has been idle for too long and what broke meanwhile.
    pub fn sweep(&self) {
        self.idle.borrow_mut().retain(|_, waiting| {
            waiting.retain_mut(|upstream| upstream.idle_since.elapsed() < IDLE_FOR && upstream.is_usable());
            !waiting.is_empty()
        });
    }

    /// Sends `request` to a node and waits for the head of its answer, no longer than `timeout`.
    ///
    /// # Errors
    /// [`ExchangeError`], which tells whether anything was sent.
    pub async fn exchange(
        &self,
        live: &Live,
        request: Request<OutBody>,
        timeout: Duration,
    ) -> Result<Response<NodeBody>, ExchangeError> {
        let connecting = std::cell::Cell::new(true);
        let attempt =
            async {
                let mut upstream = self.connection(live).await?;
                connecting.set(false);
                match upstream.send(request).await {
                    Ok(answer) => Ok(answer
                        .map(|incoming| NodeBody::new(incoming, upstream, self.clone(), live.id.clone()))),
                    Err(error) => Err(broken(&live.id, &error, upstream.reused)),
                }
            };
        tokio::time::timeout(timeout, attempt).await.unwrap_or_else(|_| {
            Err(ExchangeError::TimedOut {
                node: live.id.clone(),
                after: timeout,
                connecting: connecting.get(),
            })
        })
    }
}

fn broken(node: &NodeId, error: &hyper::Error, reused: bool) -> ExchangeError {
    use std::error::Error;
    if error.is_user() {
        return ExchangeError::Body(error.source().map_or_else(|| error.to_string(), ToString::to_string));
    }
    let reason = error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"));
    ExchangeError::Broken { node: node.clone(), reason, reused }
}

/// The body of a node's answer; gives its connection back when it has been read to the end.
pub struct NodeBody {
    incoming: Incoming,
    upstream: Option<Upstream>,
    pool: Pool,
    node: NodeId,
}

impl NodeBody {
    fn new(incoming: Incoming, upstream: Upstream, pool: Pool, node: NodeId) -> Self {
        let mut body = Self { incoming, upstream: Some(upstream), pool, node };
        if body.incoming.is_end_stream() {
            body.release();
        }
        body
    }

    fn release(&mut self) {
        if let Some(upstream) = self.upstream.take() {
            self.pool.give_back(&self.node, upstream);
        }
    }
}

impl Body for NodeBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(upstream) = &mut self.upstream
            && let Poll::Ready(Err(error)) = upstream.drive(cx)
        {
            self.upstream = None;
            return Poll::Ready(Some(Err(error)));
        }
        let frame = Pin::new(&mut self.incoming).poll_frame(cx);
        match &frame {
            Poll::Ready(None) => self.release(),
            Poll::Ready(Some(Ok(_))) if self.incoming.is_end_stream() => self.release(),
            Poll::Ready(Some(Err(_))) => self.upstream = None,
            Poll::Ready(Some(Ok(_))) | Poll::Pending => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
