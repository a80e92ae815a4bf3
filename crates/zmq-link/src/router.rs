//! The listening end: a ROUTER.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;

use crate::counters::Snapshot;
use crate::error::{LinkError, SendError};
use crate::event::Event;
use crate::handle::{Handle, Inbound, Refused};
use crate::key::KeyPair;
use crate::message::{Incoming, Multipart, PeerId};
use crate::owner::CloseReport;

/// A listening socket that knows its peers apart. Closed on drop, without waiting, unless senders are left.
#[derive(Debug)]
pub struct Router {
    sender: RouterSender,
    inbound: Inbound,
    endpoint: String,
}

/// The sending end of a [`Router`]. Cheap to clone; keeps the socket open.
#[derive(Debug, Clone)]
pub struct RouterSender(Arc<Handle>);

impl Router {
    pub(crate) fn new(handle: Handle, endpoint: String) -> Self {
        let inbound = handle.inbound();
        Self { sender: RouterSender(Arc::new(handle)), inbound, endpoint }
    }

    /// The address that was bound, with the real port.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// A handle for sending.
    pub fn sender(&self) -> RouterSender {
        self.sender.clone()
    }

    /// The next message; `None` when the socket was closed and all was read. Safe to cancel.
    pub async fn recv(&mut self) -> Option<Incoming> {
        self.inbound.recv().await
    }

    /// Waits for messages and appends what is there; 0 when no more will come. Safe to cancel.
    pub async fn recv_many(&mut self, into: &mut Vec<Incoming>) -> usize {
        self.inbound.recv_many(into).await
    }

    /// The next message if it is there already.
    pub fn try_recv(&mut self) -> Option<Incoming> {
        self.inbound.try_recv()
    }

    /// Listens with another key pair. The listener closes and opens again on the same address; connections of
    /// the old key end, and their clients have to know the new public key to come back.
    ///
    /// # Errors
    ///
    /// When the address cannot be had again within 2 s; then nobody listens, and a further call tries again.
    pub async fn rebind(&self, key: KeyPair) -> Result<(), LinkError> {
        self.sender.0.rebind(key).await
    }

    /// Takes no more messages, sends what is queued within `linger`, and closes.
    /// `None` when the link was closed before.
    pub async fn close(self, linger: Duration) -> Option<CloseReport> {
        self.sender.0.close(linger).await
    }

    /// What happens to the socket from now on. A reader that falls 1024 events behind is told how many it missed.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.sender.events()
    }

    /// What was counted so far.
    pub fn counters(&self) -> Snapshot {
        self.sender.counters()
    }
}

impl RouterSender {
    /// Queues a message, waiting for room in this peer's queue, in the order of the calls. When it turns out that
    /// the peer is not connected, that is counted and told as an event; [`RouterSender::deliver`] tells the caller.
    ///
    /// # Errors
    ///
    /// At once for a message that exceeds the limits, and when the socket is closed. A future that is dropped while
    /// it waits has sent nothing.
    pub async fn send(&self, to: &PeerId, message: Multipart) -> Result<(), SendError> {
        self.0.send(to, message).await
    }

    /// Queues several messages to one peer, for less than the sum of single ones.
    ///
    /// # Errors
    ///
    /// As [`RouterSender::send`]; when one message exceeds the limits, none is sent. A future that is dropped while
    /// it waits may have queued the first ones.
    pub async fn send_all(
        &self,
        to: &PeerId,
        messages: impl IntoIterator<Item = Multipart>,
    ) -> Result<(), SendError> {
        self.0.send_all(to, messages).await
    }

    /// Queues a message if there is room now.
    ///
    /// # Errors
    ///
    /// Gives the message back, with [`SendError::Full`] when there is no room.
    pub fn try_send(&self, to: &PeerId, message: Multipart) -> Result<(), Refused> {
        self.0.try_send(to, message)
    }

    /// Queues a message and waits until libzmq took it for a connected peer, or until that is known to fail. It is
    /// no acknowledgement: a connection that ends takes along what it had not delivered.
    ///
    /// # Errors
    ///
    /// As [`RouterSender::send`], and [`SendError::Unreachable`].
    pub async fn deliver(&self, to: &PeerId, message: Multipart) -> Result<(), SendError> {
        self.0.deliver(to, message).await
    }

    /// See [`Router::events`].
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.0.events()
    }

    /// See [`Router::counters`].
    pub fn counters(&self) -> Snapshot {
        self.0.counters()
    }
}
