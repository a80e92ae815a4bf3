//! Why a request to Consul did not succeed.

use http_fetch::FetchError;

/// Why a request to Consul did not succeed. Each says what was being done and on which server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConsulError {
    /// No answer. Whether the request had its effect is not known.
    #[error("Consul at {server}: {doing}: {source}")]
    NoAnswer {
        /// The server.
        server: String,
        /// What was being done.
        doing: &'static str,
        /// What was seen.
        source: FetchError,
    },
    /// 403: the token is missing, unknown, or not allowed to.
    #[error("Consul at {server}: {doing}: not allowed ({what}); check the ACL token")]
    Denied {
        /// The server.
        server: String,
        /// What was being done.
        doing: &'static str,
        /// Consul's words.
        what: String,
    },
    /// Any other status that is no success: the server has no leader (500), or the request is wrong (400).
    #[error("Consul at {server}: {doing}: {status}: {what}")]
    Refused {
        /// The server.
        server: String,
        /// What was being done.
        doing: &'static str,
        /// The status.
        status: u16,
        /// Consul's words.
        what: String,
    },
    /// An answer that Consul does not give.
    #[error("Consul at {server}: {doing}: an answer that is not understood: {what}")]
    Answer {
        /// The server.
        server: String,
        /// What was being done.
        doing: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// The client cannot be made from this configuration.
    #[error("{0}")]
    Config(String),
    /// A name that Consul's routes cannot carry.
    #[error("{0:?} cannot be a part of a path: empty, \".\" and \"..\" are taken out on the way")]
    Name(String),
}
