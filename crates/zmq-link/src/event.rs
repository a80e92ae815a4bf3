//! What happens to a socket's connections, told to whoever asks.

use std::sync::Arc;
use std::time::Duration;

use crate::error::SendError;
use crate::key::KeyId;
use crate::message::PeerId;

/// Something that happened to a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The socket's name.
    pub socket: Arc<str>,
    /// The other end's address, as far as it is known.
    pub peer: Option<String>,
    /// What happened.
    pub kind: EventKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// A connection stands: the handshake is done.
    Connected,
    /// A connection that stood has ended, or gave no sign of life for too long.
    Disconnected,
    /// A connection was made and the handshake failed.
    HandshakeFailed(HandshakeFailure),
    /// A DEALER tries again after this time.
    Retried {
        /// The wait.
        after: Duration,
    },
    /// A connection could not be accepted: too many open files, mostly.
    AcceptFailed {
        /// What the system said.
        error: String,
    },
    /// An address could not be listened on.
    BindFailed {
        /// What the system said.
        error: String,
    },
    /// Messages that were taken into the queue will not be delivered.
    Undelivered {
        /// To whom; empty on a DEALER.
        to: PeerId,
        /// How many messages.
        messages: usize,
        /// Why.
        reason: SendError,
    },
    /// A message that came in was discarded.
    Discarded {
        /// From whom; empty on a DEALER.
        from: PeerId,
        /// Why.
        reason: Discard,
    },
}

/// Why a message that came in was discarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discard {
    /// More frames or bytes than the socket's limits.
    TooLarge,
    /// The sender's key is no longer allowed.
    NotAllowed,
}

/// Why a handshake failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HandshakeFailure {
    /// A key was refused: the other's by us, or ours by the other.
    Auth {
        /// The key that was refused, where it is known.
        key: Option<KeyId>,
    },
    /// The other end used the wrong server key, sent what could not be deciphered.
    WrongServerKey,
    /// One end encrypts and the other does not.
    MechanismMismatch,
    /// Anything else against the protocol; the number is libzmq's.
    Protocol(u32),
    /// The connection ended, or nothing came in time.
    NoDetail {
        /// What the system said.
        error: String,
    },
}
