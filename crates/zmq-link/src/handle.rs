//! What every handle of a socket does.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, oneshot};

use crate::counters::{Snapshot, many, one};
use crate::error::{LinkError, SendError};
use crate::event::Event;
use crate::key::KeyPair;
use crate::message::{Incoming, Multipart, PeerId};
use crate::outbox::Outgoing;
use crate::owner::{CloseReport, Command, Desk, Opened};
use crate::shared::Shared;

/// A message that was refused at once, given back.
#[derive(Debug)]
pub struct Refused {
    /// Why.
    pub error: SendError,
    /// The message.
    pub message: Multipart,
}

/// A socket of a link; closed when the last handle goes.
#[derive(Debug)]
pub(crate) struct Handle {
    desk: Arc<Desk>,
    id: u64,
    shared: Arc<Shared>,
}

impl Handle {
    pub(crate) fn new(desk: Arc<Desk>, opened: &Opened) -> Self {
        Self { desk, id: opened.id, shared: Arc::clone(&opened.shared) }
    }

    pub(crate) async fn send(&self, to: &PeerId, message: Multipart) -> Result<(), SendError> {
        self.shared.outbox.check(&message)?;
        self.put(Outgoing::new(to, message)).await
    }

    async fn put(&self, item: Outgoing) -> Result<(), SendError> {
        let Err(refused) = self.shared.outbox.offer_one(item) else { return Ok(()) };
        let (error, item) = *refused;
        if error != SendError::Full {
            return Err(error);
        }
        let to = item.to.clone();
        self.shared.outbox.put(&to, VecDeque::from([item])).await
    }

    pub(crate) async fn send_all(
        &self,
        to: &PeerId,
        messages: impl IntoIterator<Item = Multipart>,
    ) -> Result<(), SendError> {
        let mut items = VecDeque::new();
        for message in messages {
            self.shared.outbox.check(&message)?;
            items.push_back(Outgoing::new(to, message));
        }
        self.shared.outbox.put(to, items).await
    }

    pub(crate) async fn deliver(&self, to: &PeerId, message: Multipart) -> Result<(), SendError> {
        self.shared.outbox.check(&message)?;
        let (told, outcome) = oneshot::channel();
        self.put(Outgoing { told: Some(told), ..Outgoing::new(to, message) }).await?;
        outcome.await.unwrap_or(Err(SendError::Closed))
    }

    pub(crate) fn try_send(&self, to: &PeerId, message: Multipart) -> Result<(), Refused> {
        if let Err(error) = self.shared.outbox.check(&message) {
            return Err(Refused { error, message });
        }
        self.shared.outbox.offer_one(Outgoing::new(to, message)).map_err(|refused| {
            let (error, item) = *refused;
            if error == SendError::Full {
                one(&self.shared.counters().refused_full);
            }
            Refused { error, message: item.message }
        })
    }

    pub(crate) fn events(&self) -> broadcast::Receiver<Event> {
        self.shared.events.subscribe()
    }

    pub(crate) fn counters(&self) -> Snapshot {
        self.shared.counters().snapshot()
    }

    pub(crate) async fn rebind(&self, key: KeyPair) -> Result<(), LinkError> {
        let (reply, answer) = oneshot::channel();
        self.desk.post(Command::Rebind(self.id, key, reply));
        answer.await.unwrap_or(Err(LinkError::Closed))
    }

    /// `None` when it is closed already.
    pub(crate) async fn close(&self, linger: Duration) -> Option<CloseReport> {
        let (reply, answer) = oneshot::channel();
        self.desk.post(Command::Close(self.id, linger, Some(reply)));
        answer.await.ok()
    }

    pub(crate) fn inbound(&self) -> Inbound {
        Inbound { shared: Arc::clone(&self.shared), taken: VecDeque::new() }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.desk.post(Command::Close(self.id, Duration::ZERO, None));
    }
}

/// The reading end of a socket.
#[derive(Debug)]
pub(crate) struct Inbound {
    shared: Arc<Shared>,
    taken: VecDeque<Incoming>,
}

impl Inbound {
    pub(crate) async fn recv(&mut self) -> Option<Incoming> {
        if self.taken.is_empty() {
            self.shared.inbox.wait(&mut self.taken).await;
        }
        self.taken.pop_front()
    }

    pub(crate) async fn recv_many(&mut self, into: &mut Vec<Incoming>) -> usize {
        if self.taken.is_empty() {
            self.shared.inbox.wait(&mut self.taken).await;
        }
        let count = self.taken.len();
        into.extend(self.taken.drain(..));
        count
    }

    pub(crate) fn try_recv(&mut self) -> Option<Incoming> {
        if self.taken.is_empty() {
            self.shared.inbox.try_take(&mut self.taken);
        }
        self.taken.pop_front()
    }
}

impl Drop for Inbound {
    fn drop(&mut self) {
        many(&self.shared.counters().unread_at_close, self.taken.len());
    }
}
