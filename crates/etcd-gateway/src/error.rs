//! Why a request to etcd did not succeed.

/// Why a request to etcd did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EtcdError {
    /// No endpoint gave an answer. Whether the request had its effect is not known.
    #[error("etcd: {doing}: {what}")]
    NoAnswer {
        /// What was being done.
        doing: &'static str,
        /// Each endpoint that was tried, with what was seen.
        what: String,
    },
    /// The server refuses: the request is wrong, or not allowed.
    #[error("etcd: {doing}: {what}")]
    Refused {
        /// What was being done.
        doing: &'static str,
        /// etcd's words.
        what: String,
        /// The number of the kind, as gRPC has them: 5 is "not found".
        code: u32,
    },
    /// An answer that etcd does not give.
    #[error("etcd: {doing}: an answer that is not understood: {what}")]
    Answer {
        /// What was being done.
        doing: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// The watch cannot go on: its beginning is compacted, or the server ended it.
    #[error("etcd: the watch ended: {0}")]
    WatchEnded(String),
    /// The client cannot be made from this configuration.
    #[error("etcd: {0}")]
    Config(String),
}
