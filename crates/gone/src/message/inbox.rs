//! The holder's end of the link: listens, and hands out each turn's messages.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use zmq_link::{
    Authenticator, Incoming, Limits, Link, Multipart, PeerId, Router, RouterOptions, RouterSender, Security,
    Snapshot,
};

use crate::message::Encryption;
use crate::message::error::LinkUpError;
use crate::message::frame::{Body, Frame, Refusal};
use crate::message::holder::{Answer, Delivery, Holder, HolderLimits, NotGiven};
use crate::message::read::{Read, Route, Unread};
use crate::message::stdin::Form;

/// How long a listener that closes leaves its connections open.
const FAREWELL: Duration = Duration::from_millis(100);

/// How to listen.
#[derive(Clone, Debug)]
pub struct InboxOptions {
    /// `tcp://IP:PORT`; port 0 or `*` takes a free one.
    pub listen: String,
    /// The key that all nodes share, or plain text by decision.
    pub encryption: Encryption,
    /// The bounds for each id.
    pub limits: HolderLimits,
    /// Take messages of original nodes too. Their requests are not encrypted, so that this needs plain text.
    pub compat: bool,
}

/// Whether the lease is held at the moment of the call. It must not block.
pub type Held = Arc<dyn Fn() -> bool + Send + Sync>;

/// A listener that takes messages for any number of ids. Dropped, it ends all turns and takes no more; answers that
/// are on their way may then be lost, which [`Inbox::close`] avoids.
#[derive(Debug)]
pub struct Inbox {
    desk: Arc<Desk>,
    endpoint: String,
    intake: JoinHandle<()>,
    sender: RouterSender,
    /// Taken by [`Inbox::close`].
    link: Option<Link>,
}

struct Slot {
    core: Holder<Route>,
    /// Given to the child, not fetched by the turn; bounded by what may be in flight.
    queue: VecDeque<Delivery>,
    arrived: Arc<Notify>,
    /// Which turn this is; 0 when there is none.
    turn: u64,
    held: Option<Held>,
}

impl Slot {
    fn end(&mut self) {
        self.core.end();
        self.queue.clear();
        (self.turn, self.held) = (0, None);
        self.arrived.notify_one();
    }
}

/// What the intake and the turns share.
struct Desk {
    slots: Mutex<HashMap<Arc<str>, Slot>>,
    /// Something that was full may have room.
    room: Notify,
    sender: RouterSender,
    limits: HolderLimits,
    compat: bool,
    turns: AtomicU64,
    malformed: AtomicU64,
    unanswered: AtomicU64,
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Desk")
    }
}

/// What an inbox counts, beside its socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InboxCounts {
    /// What came in and was no frame.
    pub malformed: u64,
    /// Answers that were left out because their peer does not read; a later one makes up for it.
    pub unanswered: u64,
}

impl Inbox {
    /// Listens. Everything is refused until a turn begins.
    ///
    /// # Errors
    /// [`LinkUpError`] when the address cannot be had or the settings contradict each other.
    pub async fn listen(options: InboxOptions) -> Result<Self, LinkUpError> {
        options.limits.check()?;
        let security = match options.encryption {
            Encryption::Key(_) if options.compat => {
                return Err(LinkUpError::Limits(
                    "original nodes cannot encrypt: leave out the key file or --compat",
                ));
            }
            Encryption::Key(key) => {
                let allowed = Authenticator::new([(key.public(), "gone")])?;
                Security::Curve { key, allowed }
            }
            Encryption::PlainText => Security::PlainText,
        };
        let link = Link::start("inbox")?;
        let mut settings = RouterOptions::new("inbox", options.listen, security);
        // Room to refuse a message that is too large in words, rather than by ending the connection.
        settings.socket.max_message = options.limits.max_message * 2 + (1 << 20);
        let bytes = settings.socket.max_message + (1 << 20);
        settings.socket.inbound = Limits { messages: 1000, bytes };
        settings.socket.outbound = Limits { messages: 10_000, bytes };
        settings.socket.high_water_mark = 100;
        let router = link.router(settings).await?;
        let desk = Arc::new(Desk {
            slots: Mutex::default(),
            room: Notify::new(),
            sender: router.sender(),
            limits: options.limits,
            compat: options.compat,
            turns: AtomicU64::new(0),
            malformed: AtomicU64::new(0),
            unanswered: AtomicU64::new(0),
        });
        let (endpoint, sender) = (router.endpoint().to_owned(), router.sender());
        let intake = tokio::spawn(take_in(router, Arc::clone(&desk)));
        Ok(Self { desk, endpoint, intake, sender, link: Some(link) })
    }

    /// The address that was bound, with the real port.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// This node holds the lease of `id` under this token, and its child can take messages. An earlier turn of
    /// the id ends. `held` is asked before each acknowledgement.
    pub fn begin(&self, id: &str, token: u64, form: Form, held: Held) -> Turn {
        let id: Arc<str> = id.into();
        let turn = self.desk.turns.fetch_add(1, Relaxed) + 1;
        let arrived = Arc::new(Notify::new());
        let mut slots = self.desk.lock();
        let slot = slots.entry(Arc::clone(&id)).or_insert_with(|| Slot {
            core: Holder::new(Arc::clone(&id), self.desk.limits),
            queue: VecDeque::new(),
            arrived: Arc::clone(&arrived),
            turn: 0,
            held: None,
        });
        slot.core.begin(token, form);
        slot.queue.clear();
        slot.arrived.notify_one();
        (slot.turn, slot.held, slot.arrived) = (turn, Some(held), Arc::clone(&arrived));
        self.desk.send(&mut slot.core);
        drop(slots);
        self.desk.room.notify_one();
        Turn { desk: Arc::clone(&self.desk), id, turn, arrived }
    }

    /// Ends all turns, sends what is to be answered within `linger`, and closes. For a tenth of a second everything
    /// is still refused in words.
    pub async fn close(mut self, linger: Duration) {
        self.desk.end_all();
        // A connection that ends takes along what its other end has not read.
        tokio::time::sleep(FAREWELL.min(linger)).await;
        if let Some(link) = self.link.take() {
            link.close(linger).await;
        }
    }

    /// What was counted.
    pub fn counts(&self) -> InboxCounts {
        let Desk { malformed, unanswered, .. } = &*self.desk;
        InboxCounts { malformed: malformed.load(Relaxed), unanswered: unanswered.load(Relaxed) }
    }

    /// What the socket counted.
    pub fn link_counters(&self) -> Snapshot {
        self.sender.counters()
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.desk.end_all();
        self.intake.abort();
    }
}

/// One child's messages. Dropped, this node is not the holder any more.
#[derive(Debug)]
pub struct Turn {
    desk: Arc<Desk>,
    id: Arc<str>,
    turn: u64,
    arrived: Arc<Notify>,
}

impl Turn {
    /// Appends the messages that are there, waiting for the first; `false` when the turn is over. Safe to cancel.
    pub async fn recv(&mut self, into: &mut Vec<Delivery>) -> bool {
        loop {
            {
                let mut slots = self.desk.lock();
                let Some(slot) = slots.get_mut(&self.id).filter(|slot| slot.turn == self.turn) else {
                    return false;
                };
                if !slot.queue.is_empty() {
                    into.extend(slot.queue.drain(..));
                    return true;
                }
            }
            self.arrived.notified().await;
        }
    }

    /// The child has taken its messages up to `n`: their senders are told, if the lease is held at this moment
    /// and the child was not told to stop. What was told when this returns cannot be taken back.
    ///
    /// # Errors
    /// [`NotGiven`] when the child was not given so many.
    pub fn acknowledge(&self, n: u64) -> Result<(), NotGiven> {
        self.with(|slot| {
            let held = slot.held.as_ref().is_some_and(|held| held());
            if !held {
                slot.queue.clear();
            }
            slot.core.acknowledge(n, held)
        })
        .unwrap_or(Ok(()))
    }

    /// To be called before SIGTERM is sent: nothing is acknowledged after it, senders are told to look again.
    pub fn stop(&self) {
        self.refuse_all(Refusal::Stopping);
    }

    /// This child takes no more: senders are told why, and nothing is acknowledged any more.
    pub fn refuse_all(&self, why: Refusal) {
        self.with(|slot| {
            slot.core.refuse_all(why);
            slot.queue.clear();
        });
    }

    /// Messages that the child was given and has not acknowledged, and their bytes.
    pub fn in_flight(&self) -> (usize, usize) {
        self.with(|slot| slot.core.in_flight()).unwrap_or_default()
    }

    fn with<O>(&self, work: impl FnOnce(&mut Slot) -> O) -> Option<O> {
        let mut slots = self.desk.lock();
        let slot = slots.get_mut(&self.id).filter(|slot| slot.turn == self.turn)?;
        let outcome = work(slot);
        self.desk.send(&mut slot.core);
        drop(slots);
        self.desk.room.notify_one();
        Some(outcome)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.with(Slot::end);
    }
}

async fn take_in(mut router: Router, desk: Arc<Desk>) {
    let mut taken = Vec::new();
    while router.recv_many(&mut taken).await > 0 {
        let mut waiting: VecDeque<Incoming> = taken.drain(..).collect();
        while !desk.take(&mut waiting) {
            // The socket is not read meanwhile, which slows the senders down.
            desk.room.notified().await;
        }
    }
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end_all(&self) {
        for slot in self.lock().values_mut().filter(|slot| slot.turn > 0) {
            slot.end();
            self.send(&mut slot.core);
        }
        self.room.notify_one();
    }

    /// Takes from the front until a message is for a child that has no room; `true` when all were taken.
    fn take(&self, waiting: &mut VecDeque<Incoming>) -> bool {
        let mut slots = self.lock();
        let mut touched: Vec<Arc<str>> = Vec::new();
        let mut all = true;
        while let Some(Incoming { from, message }) = waiting.front() {
            let read = self.read(&from.id, message);
            if let Some(read) = read {
                let id = read.id();
                if slots.get(id).is_some_and(|slot| slot.core.is_full()) {
                    all = false;
                    break;
                }
                if touched.last() != Some(id) {
                    touched.push(Arc::clone(id));
                }
                self.give(&mut slots, read);
            }
            waiting.pop_front();
        }
        touched.sort_unstable();
        touched.dedup();
        for id in &touched {
            let Some(slot) = slots.get_mut(id) else { continue };
            self.send(&mut slot.core);
            if !slot.queue.is_empty() {
                slot.arrived.notify_one();
            }
        }
        all
    }

    fn give(&self, slots: &mut HashMap<Arc<str>, Slot>, read: Read) {
        let slot = slots.get_mut(read.id()).filter(|slot| slot.turn > 0);
        match (slot, read) {
            (Some(Slot { core, queue, .. }), Read::Frame(route, frame)) => {
                core.take(route, frame, |delivery| queue.push_back(delivery));
            }
            (Some(Slot { core, queue, .. }), Read::Original(route, _, data)) => {
                core.take_original(route, data, |delivery| queue.push_back(delivery));
            }
            (None, Read::Frame(Route::Sender(to), frame)) => {
                let body = Body::Refused { why: Refusal::NotHolder, sequence: 0 };
                self.answer(&to, Frame { about: frame.about, body }.encode());
            }
            // An original node waits for its reply in vain, and looks the holder up again.
            (None, _) => {}
        }
    }

    /// A frame of ours, or a request of an original node where these are welcome.
    fn read(&self, from: &PeerId, message: &Multipart) -> Option<Read> {
        let read = Read::of(from, message, self.compat);
        if let Err(Unread::Version(_)) = read {
            self.answer(from, Frame::other_version().encode());
        }
        read.inspect_err(|error| self.note_malformed(from, error)).ok()
    }

    fn note_malformed(&self, from: &PeerId, error: &Unread) {
        self.malformed.fetch_add(1, Relaxed);
        tracing::debug!(peer = %from, %error, "what came in was passed over");
    }

    fn send(&self, core: &mut Holder<Route>) {
        for (route, answer) in core.answers() {
            match (route, answer) {
                (Route::Sender(to), Answer::Frame(frame)) => self.answer(&to, frame.encode()),
                (Route::Original(to, envelope), _) => {
                    let reply = envelope.into_iter().chain([Bytes::new(), Bytes::new()]).collect();
                    self.answer(&to, reply);
                }
                (Route::Sender(_), Answer::Empty) => {}
            }
        }
    }

    fn answer(&self, to: &PeerId, message: Multipart) {
        if self.sender.try_send(to, message).is_err() {
            // Acknowledgements are cumulative, and a silent holder is asked: a later answer says the same.
            self.unanswered.fetch_add(1, Relaxed);
        }
    }
}
