//! An ordered, durable log of updates with one cursor per node.
//!
//! An update is stored once, however many nodes it is for. What has been appended is durable; what
//! a node has done with it is recorded lazily, and is never recorded before it is true, so that a
//! crash can only lead to a delivery being repeated, with the same key and a higher attempt.
//!
//! Engines stand behind [`UpdateLog`]; whoever delivers does not know which one feeds it.

#![forbid(unsafe_code)]

mod error;
mod file;
mod tracker;
mod update;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use common::node::NodeId;
use common::queue::{Cursor, Sequence};
use tokio::sync::watch;

pub use error::{AppendError, LogError, UnsubscribeError};
pub use file::{FileLog, FileLogOptions, OpenError};
pub use tracker::{Answer, AnswerBody, Report, Tracker};
pub use update::{ClientKey, Digest, NewUpdate, SpooledBody, Update, UpdateBody};

/// A future that an engine returns.
pub type LogFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The log, whichever engine keeps it.
///
/// Every method is safe to call from any thread and from any runtime. A future that is dropped
/// before it resolves may or may not have had its effect; it never has half of it.
pub trait UpdateLog: Send + Sync + 'static {
    /// Appends an update for every subscribed node. When this resolves with
    /// [`Appended::New`], the update is durable and only then do readers see it.
    ///
    /// # Errors
    /// [`AppendError`]; the update is then not in the log and no node will ever get it.
    fn append(&self, update: NewUpdate) -> LogFuture<'_, Result<Appended, AppendError>>;

    /// Begins a body that is too large to be held in memory.
    fn spool(&self) -> LogFuture<'_, Result<Box<dyn Spool>, AppendError>>;

    /// Up to `max` updates from `from` on that `node` has not settled, in order, each with what is
    /// known of its delivery there. Empty when there are none yet: wait for [`tail`](Self::tail).
    fn read(
        &self,
        node: &NodeId,
        from: Sequence,
        max: usize,
    ) -> LogFuture<'_, Result<Vec<Pending>, LogError>>;

    /// The sequence that the next append will get; changes whenever readers can see more.
    fn tail(&self) -> watch::Receiver<Sequence>;

    /// Records a failed attempt. Durable when it resolves: an attempt number is never used twice.
    fn failed(
        &self,
        node: &NodeId,
        sequence: Sequence,
        failure: Failure,
    ) -> LogFuture<'_, Result<(), LogError>>;

    /// Asks to make an attempt. False when the update needs no more there (rejected or discarded
    /// meanwhile). While it is granted, [`reject`](Self::reject) refuses.
    fn begin_attempt(&self, node: &NodeId, sequence: Sequence) -> LogFuture<'_, bool>;

    /// Ends an attempt that was granted but never left, because no connection could be made. After
    /// one that did leave, [`failed`](Self::failed) and [`settle`](Self::settle) end it.
    fn end_attempt(&self, node: &NodeId, sequence: Sequence);

    /// Records that `node` is done with an update and tells whoever follows its [`Tracker`].
    fn settle(&self, node: &NodeId, update: &Arc<Update>, settled: Settled);

    /// Settles an update as rejected on every node that has not settled it. False, and nothing
    /// changes, when a node has already delivered it or an attempt is under way.
    fn reject(&self, sequence: Sequence, answer: Arc<Answer>) -> LogFuture<'_, bool>;

    /// Begins to keep updates for `node`, from the next append on. Durable when it resolves.
    /// Does nothing for a node that is subscribed already.
    fn subscribe(&self, node: &NodeId) -> LogFuture<'_, Result<(), LogError>>;

    /// Ends keeping updates for `node`. Durable when it resolves; returns how many updates were
    /// discarded.
    ///
    /// # Errors
    /// [`UnsubscribeError::Pending`] when there are any and `discard` is false: nothing changed.
    fn unsubscribe(&self, node: &NodeId, discard: bool) -> LogFuture<'_, Result<u64, UnsubscribeError>>;

    /// Hands `old`'s cursor and pending updates to `new`, which must not be subscribed. Durable when it resolves.
    fn rename(&self, old: &NodeId, new: &NodeId) -> LogFuture<'_, Result<(), LogError>>;

    /// Settles everything pending for `node` as discarded; returns how many that were.
    fn discard(&self, node: &NodeId) -> LogFuture<'_, Result<u64, LogError>>;

    /// The subscribed nodes.
    fn nodes(&self) -> Vec<NodeId>;

    /// The queue of one node; `None` when it is not subscribed.
    fn queue(&self, node: &NodeId) -> Option<Queue>;

    /// What each node has done with one update; `None` when the log does not (or no longer) hold it.
    fn status(&self, sequence: Sequence) -> LogFuture<'_, Result<Option<Status>, LogError>>;

    /// The newest updates that match, newest first.
    fn list(&self, filter: Filter) -> LogFuture<'_, Result<Vec<Status>, LogError>>;

    /// The updates that were given up, by node and sequence.
    fn dead_letters(&self, node: Option<&NodeId>) -> LogFuture<'_, Result<Vec<DeadLetter>, LogError>>;

    /// One update that was given up on `node`, body included; `None` when there is no such dead letter.
    fn dead_letter(
        &self,
        node: &NodeId,
        sequence: Sequence,
    ) -> LogFuture<'_, Result<Option<Arc<Update>>, LogError>>;

    /// Removes a dead letter for good; false when there is none. A spooled body goes with it.
    fn drop_dead_letter(&self, node: &NodeId, sequence: Sequence) -> LogFuture<'_, Result<bool, LogError>>;

    /// Space and counts for metrics.
    fn usage(&self) -> Usage;

    /// Writes out everything and marks the log as closed in order. Appends fail afterwards.
    fn close(&self) -> LogFuture<'_, Result<(), LogError>>;
}

/// A body on its way to disk. Dropped without [`finish`](Self::finish), it leaves nothing behind.
pub trait Spool: Send {
    /// Adds to the body.
    fn write(&mut self, chunk: bytes::Bytes) -> LogFuture<'_, Result<(), AppendError>>;

    /// Makes the body durable and hands it over.
    fn finish(self: Box<Self>) -> LogFuture<'static, Result<SpooledBody, AppendError>>;
}

/// What [`UpdateLog::append`] found or did.
pub enum Appended {
    /// The update is new and durable.
    New {
        /// Its place in the log.
        sequence: Sequence,
        /// Follows what the nodes answer.
        tracker: Arc<Tracker>,
    },
    /// The client has sent this key before, with the same body.
    Known {
        /// The place of the update that came first.
        sequence: Sequence,
        /// The first answer, if it was kept.
        answer: Option<Arc<Answer>>,
        /// Follows the update if its first answer is still to come.
        tracker: Option<Arc<Tracker>>,
    },
    /// The client has sent this key before, with another body.
    KeyReused {
        /// The place of the update that came first.
        sequence: Sequence,
    },
}

/// An update that a node still has to get.
#[derive(Clone)]
pub struct Pending {
    /// The update.
    pub update: Arc<Update>,
    /// What has been tried so far.
    pub progress: Progress,
}

/// What is known of one update on one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Where it stands.
    pub state: DeliveryState,
    /// Attempts that were sent, or may have been sent before a crash.
    pub attempts: u32,
    /// Of these, the failures that count towards the limit.
    pub failures: u32,
    /// Status of the first attempt's answer; 0 when there was none.
    pub first_status: u16,
    /// Status of the last answer; 0 when there was none.
    pub status: u16,
    /// What the first attempt's answer was, for comparing nodes; 0 when unknown.
    pub digest: u64,
}

/// Where one update stands on one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeliveryState {
    /// Not yet answered in a way that settles it.
    #[default]
    Pending,
    /// Answered.
    Delivered,
    /// Given up after too many failures; kept as a dead letter.
    Dead,
    /// Dropped because an operator said so.
    Discarded,
    /// Refused by every node.
    Rejected,
}

impl DeliveryState {
    /// The name used in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
            Self::Discarded => "discarded",
            Self::Rejected => "rejected",
        }
    }
}

/// A failed attempt.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The number of this attempt, from 1.
    pub attempt: u32,
    /// How many failures now count towards the limit.
    pub failures: u32,
    /// The status answered; 0 when there was no answer.
    pub status: u16,
    /// What went wrong, for people.
    pub error: String,
    /// The answer, when there was one, for a client that waits.
    pub answer: Option<Arc<Answer>>,
}

/// How an update ended on one node.
#[derive(Clone)]
pub enum Settled {
    /// The node answered with something that is neither 5xx nor 429.
    Delivered {
        /// The attempt that was answered.
        attempt: u32,
        /// The answer.
        answer: Arc<Answer>,
        /// Compares answers between nodes; 0 when not to be compared.
        digest: u64,
        /// Whether the node was level with the log, so that its answer may be the client's.
        level: bool,
    },
    /// Too many failures: kept as a dead letter, and the queue goes on.
    Dead {
        /// Attempts that were sent.
        attempts: u32,
        /// The last status; 0 when there was none.
        status: u16,
        /// What went wrong last, for people.
        error: String,
    },
}

/// The queue of one node.
#[derive(Debug, Clone)]
pub struct Queue {
    /// How far the node has come.
    pub cursor: Cursor,
    /// Updates not settled.
    pub pending: u64,
    /// How many of them are DELETEs.
    pub deletes: u64,
    /// Their size in the log, in bytes.
    pub bytes: u64,
    /// When the oldest of them was received, in milliseconds since the Unix epoch; `None` when there is none.
    pub oldest_ms: Option<u64>,
}

/// What each node has done with one update.
#[derive(Debug, Clone)]
pub struct Status {
    /// Its place in the log.
    pub sequence: Sequence,
    /// Its Idempotency-Key.
    pub id: String,
    /// Its method.
    pub method: http::Method,
    /// Its target as received, query included.
    pub target: String,
    /// The length of its body.
    pub bytes: u64,
    /// When it was received, in milliseconds since the Unix epoch.
    pub received_ms: u64,
    /// Every node that was subscribed then, with the last error for people.
    pub nodes: Vec<(NodeId, Progress, Option<String>)>,
}

/// Which updates to list.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only those for this node.
    pub node: Option<NodeId>,
    /// Only those in this state (on `node` where given, else on any).
    pub state: Option<DeliveryState>,
    /// At most so many.
    pub limit: usize,
}

/// An update that was given up on one node.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// The node that never took it.
    pub node: NodeId,
    /// The update.
    pub sequence: Sequence,
    /// Its Idempotency-Key.
    pub id: String,
    /// Its method.
    pub method: http::Method,
    /// Its target.
    pub target: String,
    /// Attempts that were sent.
    pub attempts: u32,
    /// The last status; 0 when there was none.
    pub status: u16,
    /// What went wrong last.
    pub error: String,
    /// When it was given up, in milliseconds since the Unix epoch.
    pub since_ms: u64,
}

/// Space and counts of the whole log.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// Bytes that at least one node still needs, each counted once.
    pub pending_bytes: u64,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// Files that hold updates.
    pub segments: u64,
    /// Commits made durable (one for many appends).
    pub commits: u64,
    /// Updates appended since start.
    pub appends: u64,
    /// Client keys remembered.
    pub keys: u64,
    /// Dead letters kept.
    pub dead_letters: u64,
    /// Appends refused because the log was full, or disk or fsync failed.
    pub refused: u64,
}
