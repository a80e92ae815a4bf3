//! Why the log could not do what was asked.

use std::sync::Arc;

use common::node::NodeId;

/// Why an append did not happen. The client may send it again: no node got it.
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
    /// The log was closed.
    #[error("the update log is closed")]
    Closed,
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
