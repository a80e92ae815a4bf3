//! Why a request has no answer.

use std::time::Duration;

use http::StatusCode;

/// Why a request has no answer. The address is left to whoever asked: it may hold secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// Certificates or a key that cannot be used.
    #[error("TLS: {what}")]
    Tls {
        /// What is wrong with them.
        what: String,
    },
    /// No connection.
    #[error("cannot connect: {what}")]
    Connect {
        /// What the system said.
        what: String,
    },
    /// No answer in time.
    #[error("no answer within {within:?}")]
    Silent {
        /// How long it was waited for.
        within: Duration,
    },
    /// The connection ended before the answer did, or it is no HTTP.
    #[error("the connection broke: {what}")]
    Broken {
        /// What was seen.
        what: String,
    },
    /// More than is taken in.
    #[error("the answer is longer than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// A stream that was refused.
    #[error("{status}: {what}")]
    Status {
        /// The status.
        status: StatusCode,
        /// The beginning of the body.
        what: String,
    },
}

/// The error with what caused it: hyper's own sentence alone says little.
pub(crate) fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
