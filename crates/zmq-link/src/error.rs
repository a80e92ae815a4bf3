//! Everything that can go wrong on a link.

use std::io;
use std::path::PathBuf;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The library cannot encrypt.
    #[error(
        "libzmq {version} on this machine was built without CURVE, so links could not be encrypted: install the \
         distribution's libzmq5 (to build: libzmq3-dev) and start again"
    )]
    NoCurve {
        /// The library's version.
        version: String,
    },
    /// Not a key's text.
    #[error("the {what} is not 40 characters of Z85")]
    NotZ85 {
        /// Which of the keys.
        what: &'static str,
    },
    /// The halves do not belong together.
    #[error("the public key does not belong to the secret key")]
    NotAPair,
    /// A line that is none of a key file's.
    #[error("line {line} is not `version = N`, `public = \"...\"` or `secret = \"...\"`")]
    Line {
        /// Counted from 1.
        line: usize,
    },
    /// A line is not there.
    #[error("it has no line `{what} = ...`")]
    Missing {
        /// Its key.
        what: &'static str,
    },
    /// A file of another time.
    #[error("it is of version {found}, and this program reads version {known}")]
    Version {
        /// The file's version.
        found: u32,
        /// The newest known one.
        known: u32,
    },
    /// A name that cannot travel with a connection.
    #[error("{0:?} is no name for a key: 1 to 200 characters, none of them a control character")]
    Name(String),
    /// libzmq refused.
    #[error("libzmq could not make the key: {0}")]
    Libzmq(io::Error),
}

/// Why a key file was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The system refused the reading.
    #[error("the key file {} cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system refused the writing.
    #[error("the key file {} cannot be written: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others may read or change it.
    #[error("the key file {0} can be read or changed by others (mode {mode:04o}): run  chmod 600 {0}", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It holds no key pair.
    #[error("the key file {} holds no key pair: {reason}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: KeyError,
    },
}

/// Why a link or a socket of it could not be had.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No CURVE, or no key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The system gave no thread or descriptor.
    #[error("the thread of the link {link} could not be started: {source}")]
    Start {
        /// The link's name.
        link: String,
        /// What the system said.
        source: io::Error,
    },
    /// The address cannot be had.
    #[error("{socket} cannot {doing} {endpoint}: {source}")]
    Endpoint {
        /// The socket's name.
        socket: String,
        /// `listen on` or `connect to`.
        doing: &'static str,
        /// The address.
        endpoint: String,
        /// What libzmq said.
        source: io::Error,
    },
    /// libzmq refused a setting.
    #[error("{socket}: libzmq refused the setting {option}: {source}")]
    Option {
        /// The socket's name.
        socket: String,
        /// The setting.
        option: &'static str,
        /// What libzmq said.
        source: io::Error,
    },
    /// The options contradict each other.
    #[error("{socket}: {problem}")]
    Options {
        /// The socket's name.
        socket: String,
        /// What contradicts what.
        problem: &'static str,
    },
    /// The link was closed.
    #[error("the link is closed")]
    Closed,
}

/// Why a message was not taken, or not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// No room in the queue; only without waiting.
    #[error("the queue to this peer is full")]
    Full,
    /// No connection to this peer. What was in its queue is undelivered.
    #[error("no peer of this name is connected")]
    Unreachable,
    /// More bytes or frames than the socket's limits.
    #[error("the message is larger than the link allows")]
    TooLarge,
    /// A message has one frame or more.
    #[error("a message without a frame cannot be sent")]
    Empty,
    /// The socket was closed with the message unsent, or before.
    #[error("the link is closed")]
    Closed,
}

/// Why there is no answer to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// It could not be sent.
    #[error(transparent)]
    Send(#[from] SendError),
    /// Nothing came in time. The peer may have taken the request all the same.
    #[error("no answer in time")]
    TimedOut,
}
