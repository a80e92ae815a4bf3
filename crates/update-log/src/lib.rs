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
mod lease;
mod redis;
mod tracker;
mod update;

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};

use common::node::NodeId;
use common::queue::{Cursor, Sequence};
use tokio::sync::watch;

pub use error::{AppendError, LogError, RewindError, UnsubscribeError};
pub use file::{FileLog, FileLogOptions, OpenError};
pub use lease::Lease;
pub use redis::{Durability, RedisLog, RedisLogOptions, RedisOpenError, ShareError, Shared};
pub use redis_link::UrlError as RedisUrlError;
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
    /// known of its delivery there; a dead letter that is tried again shows as [`DeliveryState::Dead`]. Empty when there are
    /// none yet: wait for [`tail`](Self::tail).
    fn read(
        &self,
        node: &NodeId,
        from: Sequence,
        max: usize,
    ) -> LogFuture<'_, Result<Vec<Pending>, LogError>>;

    /// The sequence that the next append will get; changes whenever readers can see more.
    fn tail(&self) -> watch::Receiver<Sequence>;

    /// Takes deliveries to `node` over, under the token of this process's lease: from now on only this process's
    /// [`failed`](Self::failed), [`settle`](Self::settle) and [`reject`](Self::reject) count for the node, until another one
    /// claims it with a newer token. Where the one before did not [`release`](Self::release) it, whatever is pending counts one more
    /// attempt. Whoever delivers claims first, and reads afterwards. Nothing to do where only one process can have the log.
    ///
    /// # Errors
    /// [`LogError::Stale`] when there is no lease, or a newer one.
    fn claim(&self, _node: &NodeId) -> LogFuture<'_, Result<(), LogError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Ends what [`claim`](Self::claim) began; nothing is under way, and all of it has been recorded when this resolves.
    fn release(&self, _node: &NodeId) -> LogFuture<'_, Result<(), LogError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Changes when deliveries to a node may have ceased to be this process's although it did not release it: look at
    /// [`is_claimed`](Self::is_claimed).
    fn claims(&self) -> watch::Receiver<u64> {
        static NEVER: LazyLock<watch::Sender<u64>> = LazyLock::new(|| watch::Sender::new(0));
        NEVER.subscribe()
    }

    /// Whether this process may record deliveries to `node`, as far as it knows.
    fn is_claimed(&self, _node: &NodeId) -> bool {
        true
    }

    /// Records a failed attempt. Durable when it resolves: an attempt number is never used twice.
    fn failed(
        &self,
        node: &NodeId,
        sequence: Sequence,
        failure: Failure,
    ) -> LogFuture<'_, Result<(), LogError>>;

    /// Asks to make an attempt. False when the update needs no more there (rejected or discarded
    /// meanwhile, or the node is not claimed any more). While it is granted, [`reject`](Self::reject) refuses.
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

    /// Settles everything pending for `node` as discarded; returns how many that were. A parked node accumulates again.
    fn discard(&self, node: &NodeId) -> LogFuture<'_, Result<u64, LogError>>;

    /// Makes everything that the log holds from `from` on pending for `node` again, whatever it did with it before and
    /// whether it was subscribed then; `None` is from the first that the log holds. Dead letters among that are pending, too.
    /// A parked node accumulates again. Durable when it resolves; returns how many updates wait now. Nothing may be under way
    /// to the node.
    ///
    /// # Errors
    /// [`RewindError::Gone`] with the first update that the log holds, when `from` is before it.
    fn rewind(&self, _node: &NodeId, _from: Option<Sequence>) -> LogFuture<'_, Result<u64, RewindError>> {
        Box::pin(std::future::ready(Err(LogError::Unsupported("send again what it holds").into())))
    }

    /// Discards what waits for `node` and keeps nothing more for it until [`rewind`](Self::rewind) or
    /// [`discard`](Self::discard). Durable when it resolves; returns how many updates were discarded.
    fn park(&self, _node: &NodeId) -> LogFuture<'_, Result<u64, LogError>> {
        Box::pin(std::future::ready(Err(LogError::Unsupported("park a node"))))
    }

    /// Whether nothing is kept for a subscribed node since [`park`](Self::park).
    fn is_parked(&self, _node: &NodeId) -> bool {
        false
    }

    /// The subscribed nodes, parked ones too.
    fn nodes(&self) -> Vec<NodeId>;

    /// The queue of one node; `None` when it is not subscribed.
    fn queue(&self, node: &NodeId) -> Option<Queue>;

    /// What each node has done with one update; `None` when the log does not (or no longer) hold it.
    fn status(&self, sequence: Sequence) -> LogFuture<'_, Result<Option<Status>, LogError>>;

    /// The newest updates that match, newest first.
    fn list(&self, filter: Filter) -> LogFuture<'_, Result<Vec<Status>, LogError>>;

    /// The updates that were given up, by node and sequence, but for those that are tried again.
    fn dead_letters(&self, node: Option<&NodeId>) -> LogFuture<'_, Result<Vec<DeadLetter>, LogError>>;

    /// One update that was given up on `node`, body included; `None` when there is no such dead letter.
    fn dead_letter(
        &self,
        node: &NodeId,
        sequence: Sequence,
    ) -> LogFuture<'_, Result<Option<Arc<Update>>, LogError>>;

    /// Makes a dead letter pending again, in its old place: [`read`](Self::read) gives it before whatever came after it, and
    /// its attempts count on. It is a dead letter again when it is given up again, or its queue is discarded. Durable when it
    /// resolves; false when there is no such dead letter. Nothing may be under way to the node.
    ///
    /// # Errors
    /// [`LogError::Node`] when the node is not subscribed.
    fn retry_dead_letter(
        &self,
        _node: &NodeId,
        _sequence: Sequence,
    ) -> LogFuture<'_, Result<bool, LogError>> {
        Box::pin(std::future::ready(Err(LogError::Unsupported("retry dead letters"))))
    }

    /// Records that `by`, which conflicts with these dead letters of `node` and came after them, is being delivered there
    /// now. Durable when it resolves.
    fn overtake_dead_letters(
        &self,
        _node: &NodeId,
        _letters: &[Sequence],
        _by: Sequence,
    ) -> LogFuture<'_, Result<(), LogError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Removes a dead letter for good; false when there is none. A spooled body goes with it.
    fn drop_dead_letter(&self, node: &NodeId, sequence: Sequence) -> LogFuture<'_, Result<bool, LogError>>;

    /// The newest updates that nodes answered differently, by sequence; they outlive their updates.
    fn divergences(&self) -> LogFuture<'_, Result<Vec<Divergence>, LogError>> {
        Box::pin(std::future::ready(Err(LogError::Unsupported(
            "tell which updates nodes answered differently",
        ))))
    }

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
    /// The first conflicting update after it that the node took.
    pub overtaken: Option<Sequence>,
}

/// An update that nodes answered differently at the first attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Divergence {
    /// The update.
    pub sequence: Sequence,
    /// Its method.
    pub method: http::Method,
    /// Its target.
    pub target: String,
    /// What each node answered, so far as it has.
    pub answers: Vec<(NodeId, u16)>,
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
    /// Sequences that were acknowledged and lost by the server that keeps the log.
    pub lost: u64,
    /// First answers since start that differed from another node's.
    pub divergences: u64,
}
