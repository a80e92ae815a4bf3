//! The connecting end: a DEALER.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;

use crate::counters::Snapshot;
use crate::error::SendError;
use crate::event::Event;
use crate::handle::{Handle, Inbound, Refused};
use crate::message::{Incoming, Multipart, PeerId};
use crate::owner::CloseReport;

/// A socket that is connected to one server, or on its way there. Closed on drop, without waiting, unless senders
/// are left.
#[derive(Debug)]
pub struct Dealer {
    sender: DealerSender,
    inbound: Inbound,
    endpoint: String,
}

/// The sending end of a [`Dealer`]. Cheap to clone; keeps the socket open.
#[derive(Debug, Clone)]
pub struct DealerSender(Arc<Handle>);

/// The one peer of a DEALER.
const SERVER: fn() -> PeerId = PeerId::default;

impl Dealer {
    pub(crate) fn new(handle: Handle, endpoint: String) -> Self {
        let inbound = handle.inbound();
        Self { sender: DealerSender(Arc::new(handle)), inbound, endpoint }
    }

    /// The server's address, as it was given.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// A handle for sending.
    pub fn sender(&self) -> DealerSender {
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

impl DealerSender {
    /// Queues a message, waiting for room, in the order of the calls. Without a connection the queue fills.
    ///
    /// # Errors
    ///
    /// At once for a message that exceeds the limits, and when the socket is closed. A future that is dropped while
    /// it waits has sent nothing.
    pub async fn send(&self, message: Multipart) -> Result<(), SendError> {
        self.0.send(&SERVER(), message).await
    }

    /// Queues several messages, for less than the sum of single ones.
    ///
    /// # Errors
    ///
    /// As [`DealerSender::send`]; when one message exceeds the limits, none is sent. A future that is dropped while
    /// it waits may have queued the first ones.
    pub async fn send_all(&self, messages: impl IntoIterator<Item = Multipart>) -> Result<(), SendError> {
        self.0.send_all(&SERVER(), messages).await
    }

    /// Queues a message if there is room now.
    ///
    /// # Errors
    ///
    /// Gives the message back, with [`SendError::Full`] when there is no room.
    pub fn try_send(&self, message: Multipart) -> Result<(), Refused> {
        self.0.try_send(&SERVER(), message)
    }

    /// Queues a message and waits until libzmq took it for a standing connection. It is no acknowledgement: a
    /// connection that ends takes along what it had not delivered.
    ///
    /// # Errors
    ///
    /// As [`DealerSender::send`].
    pub async fn deliver(&self, message: Multipart) -> Result<(), SendError> {
        self.0.deliver(&SERVER(), message).await
    }

    /// See [`Dealer::events`].
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.0.events()
    }

    /// See [`Dealer::counters`].
    pub fn counters(&self) -> Snapshot {
        self.0.counters()
    }
}
