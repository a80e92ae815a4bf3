//! The library for programs that do the work themselves: one node of many, which runs a handler for each id
//! that it holds and takes the messages for it.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let lock = gone::lock::dial("redis://127.0.0.1:6379")?;
//! let gone = gone::Gone::new("tcp://127.0.0.1:0", lock).await?;
//! let running = gone.run_one("nightly-report", |mut runner| async move {
//!     // On one node at a time. Give `runner.token` to whatever is written to.
//!     while let Some(message) = runner.data.recv().await {
//!         println!("{} bytes", message.len());
//!     }
//! })?;
//! gone.send_data("nightly-report", "now").await?;
//! running.stop().await;
//! # Ok(())
//! # }
//! ```

use std::collections::{HashSet, VecDeque};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::task::JoinHandle;

use crate::keeper::{self, Keeper, KeeperError, Options, Stopper};
use crate::lease::Timing;
use crate::lock::Lock;
use crate::message::stdin::Form;
use crate::message::{
    Delivered, Delivery, Encryption, HolderLimits, InLock, Inbox, InboxOptions, LinkUpError, Outbox,
    OutboxOptions, Patience, SendError, Turn,
};

/// A handler that ends sooner keeps its lease for as long, so that nodes do not pass it round and round.
const SHORTEST_TURN: Duration = Duration::from_secs(1);
/// How long a send waits for its acknowledgement.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// How a node takes part.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The times of its leases.
    pub timing: Timing,
    /// The key that all nodes share, or plain text by decision.
    pub encryption: Encryption,
    /// `tcp://HOST:PORT` under which the others reach this node; `None` for the address that was bound.
    pub advertise: Option<String>,
    /// The bounds of its messages, for each id.
    pub limits: HolderLimits,
    /// Take a lease at once where the store has no record of the id: for demos and tests.
    pub fresh: bool,
}

impl Settings {
    /// An expiry of 30 s and the default bounds.
    pub fn new(encryption: Encryption) -> Self {
        let timing = Timing::of(Duration::from_secs(30));
        Self { timing, encryption, advertise: None, limits: HolderLimits::default(), fresh: false }
    }
}

/// Why an id is not run here.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// This node runs it already.
    #[error("{0} runs on this node already: stop that first")]
    Twice(String),
    /// The id or the times cannot be used.
    #[error(transparent)]
    Keeper(#[from] KeeperError),
}

/// One node of many. Dropped, it takes no more messages; what it runs goes on until its [`Running`] ends.
#[derive(Debug)]
pub struct Gone {
    lock: Arc<dyn Lock>,
    inbox: Arc<Inbox>,
    outbox: Outbox,
    settings: Settings,
    ids: Arc<Mutex<HashSet<String>>>,
}

impl Gone {
    /// A node that takes messages at `listen` (`tcp://IP:PORT`, port 0 for a free one), neither encrypted nor
    /// authenticated, with an expiry of 30 s. [`Gone::with`] has the rest.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub async fn new(listen: &str, lock: Arc<dyn Lock>) -> Result<Self, LinkUpError> {
        Self::with(listen, lock, Settings::new(Encryption::PlainText)).await
    }

    /// A node with these settings.
    ///
    /// # Errors
    /// When the address cannot be had, or the settings contradict each other.
    pub async fn with(listen: &str, lock: Arc<dyn Lock>, settings: Settings) -> Result<Self, LinkUpError> {
        let inbox = Inbox::listen(InboxOptions {
            listen: listen.to_owned(),
            encryption: settings.encryption.clone(),
            limits: settings.limits,
            compat: false,
        });
        let inbox = Arc::new(inbox.await?);
        let mut options = OutboxOptions::new(settings.encryption.clone());
        options.max_message = settings.limits.max_message;
        options.window_bytes = options.window_bytes.max(options.max_message);
        let outbox = Outbox::new(options, InLock { lock: Arc::clone(&lock), compat: false })?;
        Ok(Self { lock, inbox, outbox, settings, ids: Arc::default() })
    }

    /// The address under which the other nodes reach this one.
    pub fn address(&self) -> &str {
        self.settings.advertise.as_deref().unwrap_or(self.inbox.endpoint())
    }

    /// Contends for `id`, and runs `handler` on this node whenever it holds it. When the handler ends, the lease
    /// is freed and contended for again.
    ///
    /// The handler is told to end by [`Runner::exit`], and dropped where it stands at the deadline. A future can
    /// only be dropped where it awaits: where work may block or spawn other work, check [`Runner::extend`]
    /// before each effect, give the token along, or use gone-runner, which kills a process.
    ///
    /// # Errors
    /// [`RunError`].
    pub fn run_one<F, W>(&self, id: &str, mut handler: F) -> Result<Running, RunError>
    where
        F: FnMut(Runner) -> W + Send + 'static,
        W: Future<Output = ()> + Send + 'static,
    {
        if !lock(&self.ids).insert(id.to_owned()) {
            return Err(RunError::Twice(id.to_owned()));
        }
        let entry = Entry { ids: Arc::clone(&self.ids), id: id.to_owned() };
        let options = Options {
            timing: self.settings.timing,
            address: self.address().to_owned(),
            fresh: self.settings.fresh,
            compat: false,
        };
        let handle = Keeper::new(Arc::clone(&self.lock), id, options)?.start()?;
        let stopper = handle.stopper();
        let inbox = Arc::clone(&self.inbox);
        let task = tokio::spawn(async move {
            let id: Arc<str> = entry.id.as_str().into();
            let work = |turn: keeper::Turn| {
                let begun = Instant::now();
                let runner = Runner::new(&inbox, Arc::clone(&id), turn.clone());
                let handled = handler(runner);
                async move {
                    handled.await;
                    let rest = SHORTEST_TURN.saturating_sub(begun.elapsed());
                    tokio::select! {
                        () = tokio::time::sleep(rest) => {}
                        () = turn.stopping() => {}
                    }
                }
            };
            handle.run_while_held(work).await;
            drop(entry);
        });
        Ok(Running { stopper, task: Some(task) })
    }

    /// Sends a message to whoever holds `id`, and waits up to 10 s until its handler has taken it. Messages of
    /// this node to one id arrive in the order of the calls.
    ///
    /// # Errors
    /// [`SendError`]; it says whether the message may have been taken.
    pub async fn send_data(&self, id: &str, data: impl Into<Bytes>) -> Result<Delivered, SendError> {
        self.send_with(id, data, Patience { timeout: Some(SEND_TIMEOUT), only_absence: false, wait: false })
            .await
    }

    /// Sends a message with another patience: riding through a change of holders, for one.
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn send_with(
        &self,
        id: &str,
        data: impl Into<Bytes>,
        patience: Patience,
    ) -> Result<Delivered, SendError> {
        self.outbox.send_data(id, data, patience).await
    }
}

fn lock(ids: &Mutex<HashSet<String>>) -> MutexGuard<'_, HashSet<String>> {
    ids.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An id that runs on this node, until dropped.
#[derive(Debug)]
struct Entry {
    ids: Arc<Mutex<HashSet<String>>>,
    id: String,
}

impl Drop for Entry {
    fn drop(&mut self) {
        lock(&self.ids).remove(&self.id);
    }
}

/// An id that this node contends for. Dropped, the handler is dropped where it stands, and the lease released.
#[derive(Debug)]
pub struct Running {
    stopper: Stopper,
    task: Option<JoinHandle<()>>,
}

impl Running {
    /// Whether contending has ended, which it does only when told to.
    pub fn is_over(&self) -> bool {
        self.task.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Tells the handler to end, waits for it up to its deadline, and releases the lease: another node takes
    /// over at once.
    pub async fn stop(mut self) {
        self.stopper.stop();
        if let Some(task) = self.task.take() {
            // It ends by itself or with the runtime.
            let _ = task.await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// One time of holding an id.
#[derive(Debug)]
pub struct Runner {
    /// The id.
    pub id: Arc<str>,
    /// The fencing token: only grows, from holder to holder.
    pub token: u64,
    /// The messages for this id.
    pub data: Data,
    /// Says when to end.
    pub exit: Exit,
}

/// The lease is not held any more, or will not be in a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the lease is lost: end now, another node may begin")]
pub struct Lost;

impl Runner {
    fn new(inbox: &Inbox, id: Arc<str>, turn: keeper::Turn) -> Self {
        let asked = turn.clone();
        let messages = inbox.begin(&id, turn.token, Form::Frames, Arc::new(move || asked.is_held()));
        let token = turn.token;
        Self { id, token, data: Data { messages, fetched: VecDeque::new(), given: 0 }, exit: Exit(turn) }
    }

    /// Whether the lease is held at this very moment. It is renewed in the background: this is for the last look
    /// before an effect that must not happen twice.
    ///
    /// # Errors
    /// [`Lost`].
    pub fn extend(&self) -> Result<(), Lost> {
        if self.exit.0.is_held() { Ok(()) } else { Err(Lost) }
    }
}

/// Says when a handler has to end.
#[derive(Clone, Debug)]
pub struct Exit(keeper::Turn);

impl Exit {
    /// Resolves when the handler has to end: the lease was given up or is running out.
    pub async fn wait(&self) {
        self.0.stopping().await;
    }
}

/// The messages for an id while this node holds it, in order for each sender.
#[derive(Debug)]
pub struct Data {
    messages: Turn,
    fetched: VecDeque<Delivery>,
    /// The number of the last message that was given out.
    given: u64,
}

impl Data {
    /// The next message; `None` when this node holds the id no more. Asking for it acknowledges those before: their
    /// senders are told that they were taken. Safe to cancel.
    pub async fn recv(&mut self) -> Option<Bytes> {
        self.recv_delivery().await.map(|delivery| delivery.data)
    }

    /// Like [`Data::recv`], with who sent it.
    pub async fn recv_delivery(&mut self) -> Option<Delivery> {
        self.acknowledge();
        if self.fetched.is_empty() {
            let mut fetched = Vec::new();
            if !self.messages.recv(&mut fetched).await {
                return None;
            }
            self.fetched.extend(fetched);
        }
        let delivery = self.fetched.pop_front()?;
        self.given = delivery.n;
        Some(delivery)
    }

    /// Acknowledges all messages that were given out so far, if the lease is still held.
    pub fn acknowledge(&self) {
        if self.given > 0 {
            // Only what was given out is ever acknowledged.
            let _ = self.messages.acknowledge(self.given);
        }
    }
}
