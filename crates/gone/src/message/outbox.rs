//! The sender's end of the link: takes messages for any number of ids.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use zmq_link::Link;

use crate::message::Encryption;
use crate::message::courier::Courier;
use crate::message::error::{LinkUpError, SendError};
use crate::message::frame::{MAX_ID, SenderId};
use crate::message::sender::{Delivered, Patience, Whereabouts};

/// How a holder is looked up.
pub type LookupFuture<'a> = Pin<Box<dyn Future<Output = Result<Option<Whereabouts>, String>> + Send + 'a>>;

/// Says who holds a lease: the lock, mostly.
pub trait Lookup: Send + Sync + 'static {
    /// The holder's address and token, `None` when nobody holds it, or why that is not known. It has to return
    /// within a few seconds.
    fn look_up<'a>(&'a self, id: &'a str) -> LookupFuture<'a>;
}

impl<F, Looking> Lookup for F
where
    F: Fn(String) -> Looking + Send + Sync + 'static,
    Looking: Future<Output = Result<Option<Whereabouts>, String>> + Send + 'static,
{
    fn look_up<'a>(&'a self, id: &'a str) -> LookupFuture<'a> {
        Box::pin(self(id.to_owned()))
    }
}

/// How to send.
#[derive(Clone, Debug)]
pub struct OutboxOptions {
    /// The key that all nodes share, or plain text by decision.
    pub encryption: Encryption,
    /// Unsettled messages for each id; further sends wait.
    pub window: usize,
    /// Their bytes.
    pub window_bytes: usize,
    /// The largest message, in bytes.
    pub max_message: usize,
}

impl OutboxOptions {
    /// With the defaults: 4096 messages or 8 MiB unsettled, messages of 1 MiB.
    pub fn new(encryption: Encryption) -> Self {
        Self { encryption, window: 4096, window_bytes: 8 << 20, max_message: 1 << 20 }
    }
}

/// A message on its way to the courier of its id.
pub(crate) struct Order {
    pub(crate) data: Bytes,
    pub(crate) patience: Patience,
    pub(crate) ticket: Ticket,
}

/// Who waits for a message's end, and the room it takes until then.
pub(crate) struct Ticket {
    told: oneshot::Sender<Result<Delivered, SendError>>,
    _room: OwnedSemaphorePermit,
}

impl Ticket {
    pub(crate) fn settle(self, outcome: Result<Delivered, SendError>) {
        // Nobody waits any more: fine.
        let _ = self.told.send(outcome);
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket")
    }
}

#[derive(Clone)]
struct Lane {
    room: Arc<Semaphore>,
    /// Without a bound of its own: each order in it has its room.
    orders: mpsc::UnboundedSender<Order>,
}

/// Sends messages to whoever holds the lease of their id, in order for each id. Dropped, it gives up what is
/// unsettled.
pub struct Outbox {
    me: SenderId,
    link: Arc<Link>,
    options: OutboxOptions,
    lookup: Arc<dyn Lookup>,
    lanes: Mutex<HashMap<Arc<str>, Lane>>,
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("me", &self.me).finish_non_exhaustive()
    }
}

/// A message that was taken into the window. Dropping it changes nothing about the message.
#[derive(Debug)]
pub struct Receipt(oneshot::Receiver<Result<Delivered, SendError>>);

impl Receipt {
    /// Waits until the message is acknowledged or given up. Safe to cancel; to be called until it has returned
    /// once.
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn settled(&mut self) -> Result<Delivered, SendError> {
        (&mut self.0).await.unwrap_or(Err(SendError::Closed))
    }
}

impl Outbox {
    /// Connects to nobody yet.
    ///
    /// # Errors
    /// [`LinkUpError`] when the settings let nothing through, or the system gives no thread.
    pub fn new(options: OutboxOptions, lookup: impl Lookup) -> Result<Self, LinkUpError> {
        let OutboxOptions { window, window_bytes, max_message, .. } = options;
        if window == 0 || max_message > window_bytes || window_bytes > 1 << 30 {
            return Err(LinkUpError::Limits(
                "the window has to hold one message at least, and 1 GiB at most",
            ));
        }
        let link = Arc::new(Link::start("outbox")?);
        let me = SenderId(rand::random());
        Ok(Self { me, link, options, lookup: Arc::new(lookup), lanes: Mutex::default() })
    }

    /// Who this sender is, to the child.
    pub fn identity(&self) -> SenderId {
        self.me
    }

    /// Sends a message and waits until it is acknowledged.
    ///
    /// # Errors
    /// [`SendError`]; it says whether the message may have been taken.
    pub async fn send_data(
        &self,
        id: &str,
        data: impl Into<Bytes>,
        patience: Patience,
    ) -> Result<Delivered, SendError> {
        self.enqueue(id, data, patience).await?.settled().await
    }

    /// Takes a message into the window, waiting for room, in the order of the calls; messages are on their way
    /// side by side. A future that is dropped while it waits has sent nothing.
    ///
    /// # Errors
    /// [`SendError`] for what cannot be sent at all.
    pub async fn enqueue(
        &self,
        id: &str,
        data: impl Into<Bytes>,
        patience: Patience,
    ) -> Result<Receipt, SendError> {
        let (data, max): (Bytes, _) = (data.into(), self.options.max_message);
        if data.len() > max {
            return Err(SendError::TooLarge { bytes: data.len(), max });
        }
        let lane = self.lane(id)?;
        // One pool for both bounds: a small message takes the share of bytes that bounds their number.
        let share = self.options.window_bytes.div_ceil(self.options.window);
        let cost = u32::try_from(data.len().max(share)).unwrap_or(u32::MAX);
        let waiting = lane.room.acquire_many_owned(cost);
        // With time that counts absence alone, those before it are given up by theirs, and make room.
        let room = match patience.timeout.filter(|_| !patience.only_absence) {
            Some(within) => tokio::time::timeout(within, waiting).await.map_err(|_| SendError::TimedOut {
                id: id.to_owned(),
                within,
                trouble: "the messages before it are not acknowledged".into(),
                maybe_taken: false,
            })?,
            None => waiting.await,
        };
        let (told, outcome) = oneshot::channel();
        let ticket = Ticket { told, _room: room.map_err(|_| SendError::Closed)? };
        lane.orders.send(Order { data, patience, ticket }).map_err(|_| SendError::Closed)?;
        Ok(Receipt(outcome))
    }

    /// The way to an id's courier, which is started for the first message.
    fn lane(&self, id: &str) -> Result<Lane, SendError> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = lanes.get(id) {
            return Ok(lane.clone());
        }
        if id.is_empty() || id.len() > MAX_ID || id.chars().any(char::is_control) {
            return Err(SendError::Id(id.chars().take(40).collect()));
        }
        let id: Arc<str> = id.into();
        let (orders, received) = mpsc::unbounded_channel();
        let courier = Courier::new(
            Arc::clone(&id),
            self.me,
            Arc::clone(&self.link),
            self.options.clone(),
            Arc::clone(&self.lookup),
        );
        tokio::spawn(courier.run(received));
        let lane = Lane { room: Arc::new(Semaphore::new(self.options.window_bytes)), orders };
        lanes.insert(id, lane.clone());
        Ok(lane)
    }
}
