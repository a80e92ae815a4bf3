//! Why the log could not do what was asked.

use std::sync::Arc;

use common::node::NodeId;
use common::queue::Sequence;

/// Why an append did not happen. The client may send it again: no node got it, but for [`AppendError::InDoubt`].
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The undelivered updates fill their space.
    #[error("the update log is full: {pending_bytes} of {limit} bytes wait for a node")]
    Full {
        /// Bytes that wait.
        pending_bytes: u64,
        /// Their bound.
        limit: u64,
    },
    /// More client keys than may be remembered.
    #[error("{limit} idempotency keys are being remembered, as many as may be")]
    TooManyKeys {
        /// The bound.
        limit: u64,
    },
    /// The connection broke before the answer came and did not come back in time: the update may be in the log, once, or
    /// not. Who repeats it with the same key gets one update in either case.
    #[error("it is not known whether the update was taken: {what}")]
    InDoubt {
        /// What happened.
        what: String,
    },
    /// No node is subscribed, so nobody would ever get it.
    #[error("no node is active")]
    NoNodes,
    /// The engine could not make it durable.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// Why the log could not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    /// The disk refused. The log keeps what was durable before and tries again with the next append.
    #[error("{doing} {path}: {source}")]
    Disk {
        /// What was being done.
        doing: &'static str,
        /// On which file.
        path: String,
        /// What the system said.
        source: Arc<std::io::Error>,
    },
    /// A record that was durable does not read back.
    #[error("{path} is damaged at byte {offset}: {what}")]
    Damaged {
        /// The file.
        path: String,
        /// Where in it.
        offset: u64,
        /// What does not fit.
        what: String,
    },
    /// The node is not subscribed, or the new name of a rename already is.
    #[error("the log keeps no queue for {0}, or already keeps one for its new name")]
    Node(NodeId),
    /// This engine has no way to do it.
    #[error("this kind of update log cannot {0}")]
    Unsupported(&'static str),
    /// The log was closed.
    #[error("the update log is closed")]
    Closed,
    /// The server that keeps the log cannot be reached or does not take writes. Nothing was changed; it can be tried again.
    #[error("{log} is away: {what}")]
    Away {
        /// The log's address, without secrets.
        log: String,
        /// What was found.
        what: String,
    },
    /// The connection broke before the answer came: it may have been done. It can be tried again, with the same outcome.
    #[error("{log} did not answer: {what}")]
    Unanswered {
        /// The log's address, without secrets.
        log: String,
        /// What was found.
        what: String,
    },
    /// Another process delivers to the node now, under a newer token; or this one never claimed it.
    #[error("deliveries to {0} are not this process's: another one has claimed the node since")]
    Stale(NodeId),
    /// The server answered something that the log does not understand.
    #[error("{log}: an answer that is not understood: {what}")]
    Answer {
        /// The log's address, without secrets.
        log: String,
        /// The answer, shortened.
        what: String,
    },
}

/// Why a node could not be sent again what the log holds.
#[derive(Debug, thiserror::Error)]
pub enum RewindError {
    /// The log does not hold that any more.
    #[error("the log holds updates from {0} on")]
    Gone(Sequence),
    /// The engine failed.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// Why a node could not be unsubscribed.
#[derive(Debug, thiserror::Error)]
pub enum UnsubscribeError {
    /// Updates wait for it and nobody said to discard them.
    #[error("{0} updates wait for the node")]
    Pending(u64),
    /// The engine failed.
    #[error(transparent)]
    Log(#[from] LogError),
}
