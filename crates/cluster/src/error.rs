//! Everything that can go wrong.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use zmq_link::{KeyError, LinkError};

/// Why a node could not be started or does not listen.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// ZeroMQ or the system refused.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// No key could be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The secrets cannot be used.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// A node cannot be configured.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// Settings that contradict each other.
    #[error("{}", .0.join("; "))]
    Settings(Vec<String>),
    /// Neither a secret nor a key was given.
    #[error("node {0} has neither a secret nor a key: give it one, so that others know it")]
    NoIdentity(Arc<str>),
    /// It listens already.
    #[error("this node listens on {0} already")]
    Listening(String),
    /// The system gave no thread.
    #[error("the thread of the cluster could not be started: {0}")]
    Thread(io::Error),
    /// The node was shut down.
    #[error("this node was shut down")]
    Closed,
}

/// Why a node cannot be configured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// No name for a node.
    #[error(
        "{0:?} is no name for a node: 1 to 128 characters, none of them white space, control, '/' or '*'"
    )]
    Name(String),
    /// Its own name.
    #[error("{0} is this node's own name")]
    Own(Arc<str>),
    /// No address.
    #[error("{address:?} is no address of node {name}: it has to be tcp://HOST:PORT or ipc://PATH")]
    Address {
        /// The node.
        name: Arc<str>,
        /// What was given.
        address: String,
    },
    /// With a key per node, each peer's is needed.
    #[error("node {0} has no public key, and this node has no secret to derive it from: give its key")]
    NoKey(Arc<str>),
    /// The key of another node.
    #[error("the public key given for node {name} is that of node {other}: each node has a key of its own")]
    KeyTwice {
        /// The node.
        name: Arc<str>,
        /// Whose key it is.
        other: Arc<str>,
    },
    /// Not configured.
    #[error("no node {0} is configured")]
    Unknown(Arc<str>),
    /// No key could be made for it.
    #[error("no key could be made for node {name}: {reason}")]
    Derivation {
        /// The node.
        name: Arc<str>,
        /// Why.
        reason: String,
    },
}

/// Why secrets cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The system refused the reading.
    #[error("the secret file {} cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others may read it.
    #[error("the secret file {0} can be read or changed by others (mode {mode:04o}): run  chmod 600 {0}", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Too big to be one.
    #[error("the secret file {} is larger than 64 KiB", path.display())]
    TooBig {
        /// The file.
        path: PathBuf,
    },
    /// A secret that can be guessed.
    #[error("the secret on line {line} has {bytes} bytes; 16 at least are needed, 32 random ones are good")]
    Short {
        /// Counted from 1.
        line: usize,
        /// Its length.
        bytes: usize,
    },
    /// The same one twice.
    #[error("the secret on line {line} is the same as that on line {first}")]
    Twice {
        /// Counted from 1.
        line: usize,
        /// Where it was first.
        first: usize,
    },
    /// No secret at all.
    #[error("there is no secret: a line each, the first is used and all are accepted")]
    Empty,
    /// More than are of use.
    #[error("there are more than {0} secrets, and each is a key that opens the door: remove the old ones")]
    TooMany(usize),
    /// The derivation refused.
    #[error("no key can be derived from the secret on line {line}: {reason}")]
    Derivation {
        /// Counted from 1.
        line: usize,
        /// Why.
        reason: String,
    },
}

/// Why a message was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// A peer that acknowledges has no room; try again in a moment.
    #[error(
        "the window of {0} is full: it acknowledges, but slower than messages come; try again in a moment"
    )]
    Full(Arc<str>),
    /// The node is away for longer than messages are kept.
    #[error("node {0} has been away for longer than messages are kept for it")]
    Gone(Arc<str>),
    /// Not configured.
    #[error("no node {0} is configured")]
    Unknown(Arc<str>),
    /// Larger than a message may be.
    #[error("the message has {bytes} bytes, and {limit} are allowed")]
    TooLarge {
        /// Its bytes.
        bytes: usize,
        /// The most.
        limit: usize,
    },
    /// The text that says what it is.
    #[error("a content type has at most 255 bytes")]
    ContentType,
    /// The node was shut down.
    #[error("this node was shut down")]
    Closed,
}
