//! Requests and answers in the form of REQ and REP, for peers that use those sockets.
//!
//! On the wire a request is an envelope, an empty frame, and the body. A ROUTER speaks to REQ sockets and a DEALER to
//! REP sockets that way, without their lockstep: a lost answer blocks nobody, and one slow request no other.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::dealer::Dealer;
use crate::error::{RequestError, SendError};
use crate::message::{Multipart, Peer};
use crate::router::{Router, RouterSender};

/// The most frames that an envelope may have.
const ENVELOPE: usize = 8;

/// Takes requests, as a REP socket does.
#[derive(Debug)]
pub struct Responder {
    router: Router,
}

/// A request, to be answered once.
#[derive(Debug)]
pub struct Request {
    /// Who asks.
    pub from: Arc<Peer>,
    /// The frames behind the envelope.
    pub body: Vec<Bytes>,
    envelope: Vec<Bytes>,
    sender: RouterSender,
}

impl Responder {
    /// Takes requests from this socket.
    pub fn new(router: Router) -> Self {
        Self { router }
    }

    /// The socket.
    pub fn router(&self) -> &Router {
        &self.router
    }

    /// The socket, for closing.
    pub fn into_router(self) -> Router {
        self.router
    }

    /// The next request; `None` when the socket was closed. A message without an envelope is none and is passed
    /// over, as REP does. Safe to cancel.
    pub async fn recv(&mut self) -> Option<Request> {
        loop {
            let incoming = self.router.recv().await?;
            if let Some((envelope, body)) = open_envelope(incoming.message) {
                let sender = self.router.sender();
                return Some(Request { from: incoming.from, body, envelope, sender });
            }
            tracing::debug!(peer = %incoming.from.id, "a message that is no request was passed over");
        }
    }
}

impl Request {
    /// Answers it; the outcome is that of [`RouterSender::deliver`].
    ///
    /// # Errors
    ///
    /// When who asked has gone, or the answer is too large.
    pub async fn answer(self, body: impl IntoIterator<Item = impl Into<Bytes>>) -> Result<(), SendError> {
        let mut message: Multipart = self.envelope.into_iter().collect();
        message.push(Bytes::new());
        body.into_iter().for_each(|frame| message.push(frame));
        self.sender.deliver(&self.from.id, message).await
    }
}

/// Everything up to the first empty frame, and what follows it.
fn open_envelope(message: Multipart) -> Option<(Vec<Bytes>, Vec<Bytes>)> {
    let empty = message.iter().take(ENVELOPE + 1).position(|frame| frame.is_empty())?;
    let mut envelope: Vec<Bytes> = message.into_frames().collect();
    let body = envelope.split_off(empty + 1);
    envelope.pop();
    Some((envelope, body))
}

/// Asks, as a REQ socket does, but knows each answer by its request.
#[derive(Debug)]
pub struct Requester {
    dealer: Dealer,
    last: u32,
}

impl Requester {
    /// Asks over this socket.
    pub fn new(dealer: Dealer) -> Self {
        Self { dealer, last: 0 }
    }

    /// The socket.
    pub fn dealer(&self) -> &Dealer {
        &self.dealer
    }

    /// The socket, for closing.
    pub fn into_dealer(self) -> Dealer {
        self.dealer
    }

    /// Sends a request and waits for its answer; an answer to an earlier one is passed over.
    ///
    /// # Errors
    ///
    /// [`RequestError::TimedOut`] after `limit`, the wait for a connection included.
    pub async fn ask(
        &mut self,
        body: impl IntoIterator<Item = impl Into<Bytes>>,
        limit: Duration,
    ) -> Result<Vec<Bytes>, RequestError> {
        self.last = self.last.wrapping_add(1);
        let number = self.last.to_be_bytes();
        let mut message = Multipart::single(number.to_vec());
        message.push(Bytes::new());
        body.into_iter().for_each(|frame| message.push(frame));
        let answer = async {
            self.dealer.sender().send(message).await?;
            while let Some(incoming) = self.dealer.recv().await {
                if let Some((envelope, body)) = open_envelope(incoming.message)
                    && envelope.len() == 1
                    && envelope[0][..] == number
                {
                    return Ok(body);
                }
            }
            Err(SendError::Closed.into())
        };
        tokio::time::timeout(limit, answer).await.unwrap_or(Err(RequestError::TimedOut))
    }
}
