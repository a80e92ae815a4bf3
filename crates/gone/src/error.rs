//! Why a lock could not be reached or was refused.

use std::time::Duration;

/// Why a request to the store, or a dial, failed. None of them tells whether the request had its effect.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// No session, or it broke.
    #[error("{lock}: {what}")]
    Unreachable {
        /// The lock's address, without secrets.
        lock: String,
        /// What was being done and what came of it.
        what: String,
    },
    /// No answer in time.
    #[error("{lock}: no answer within {within:?}")]
    Silent {
        /// The lock's address, without secrets.
        lock: String,
        /// How long it was waited for.
        within: Duration,
    },
    /// The answer is none that a store with these rules gives.
    #[error("{lock}: an answer that is not understood: {what}")]
    Answer {
        /// The lock's address, without secrets.
        lock: String,
        /// The answer, shortened.
        what: String,
    },
    /// A file could not be used.
    #[error("{doing} {path}: {source}")]
    File {
        /// What was being done.
        doing: &'static str,
        /// On which file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Why the text is no lock.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// No `kind:` at its start.
    #[error(
        "{0:?} is no lock: write redis://HOST:PORT, rediss://HOST:PORT, consul://HOST:PORT, etcd://HOST:PORT or file:DIR"
    )]
    NoKind(String),
    /// A kind that this build does not know.
    #[error(
        "there is no lock of the kind {0:?}; there are redis://, rediss://, consul://, etcd:// and file:"
    )]
    UnknownKind(String),
    /// Something in it cannot be.
    #[error("lock {0}")]
    Wrong(#[from] http_fetch::url::UrlError),
}
