//! What can go wrong, in words for whoever runs it.

use std::time::Duration;

/// Why something asked of a store was not done. None of them tells whether the request had its effect, unless
/// it says so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The store's answer is none that it gives by its own rules.
    #[error("{backend}: an answer that is not understood: {what}")]
    BadResponse {
        /// The store's address, without secrets.
        backend: String,
        /// The answer, shortened.
        what: String,
    },
    /// Exhibitor lives, but knows no ZooKeeper server.
    #[error("{backend}: it is alive but returned no servers")]
    NoServers {
        /// The address of Exhibitor.
        backend: String,
    },
    /// The candidate was withdrawn.
    #[error("the election of {name} was cancelled")]
    Cancelled {
        /// What was being elected for.
        name: String,
    },
    /// No address by which others could reach the health server.
    #[error(
        "the host {host:?} cannot be advertised: give the address by which Consul's agent reaches this host"
    )]
    IllegalHost {
        /// As it was given.
        host: String,
    },
    /// Consul's agent never asked the health server.
    #[error("{backend}: no health check was seen for {within:?}: does its agent reach {url}?")]
    NoHealthCheck {
        /// The store's address.
        backend: String,
        /// For how long.
        within: Duration,
        /// What it should ask for.
        url: String,
    },
    /// No connection, or it broke, or the session behind it ended.
    #[error("{backend}: {what}")]
    Disconnected {
        /// The store's address.
        backend: String,
        /// What was being done and what came of it.
        what: String,
    },
    /// No answer in time.
    #[error("{backend}: no answer within {within:?}")]
    Silent {
        /// The store's address.
        backend: String,
        /// How long it was waited for.
        within: Duration,
    },
    /// The store, or a check before it, says no, and will say so again.
    #[error("{backend}: refused: {what}")]
    Refused {
        /// The store's address.
        backend: String,
        /// Its reason, or ours, and what to do.
        what: String,
    },
    /// The text is no backend.
    #[error("backend {url}: {what}")]
    Url {
        /// The text without its password.
        url: String,
        /// What is wrong with it, and what to write.
        what: String,
    },
    /// A name, id, address or attribute that cannot be used.
    #[error("{0}")]
    Illegal(String),
}

impl Error {
    /// Whether asking again without a change elsewhere is of no use.
    pub fn is_permanent(&self) -> bool {
        matches!(
            self,
            Self::Refused { .. }
                | Self::Url { .. }
                | Self::Illegal(_)
                | Self::IllegalHost { .. }
                | Self::Cancelled { .. }
        )
    }
}
