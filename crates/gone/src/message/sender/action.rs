//! What goes into a sender and comes out of it.

use std::time::Duration;

use crate::message::error::SendError;
use crate::message::frame::{Frame, SenderId};

/// Where the lock says that the holder is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whereabouts {
    /// `tcp://HOST:PORT`.
    pub address: String,
    /// Its fencing token; 0 where it is not known.
    pub token: u64,
}

/// How long a message may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Given up after this; never, without.
    pub timeout: Option<Duration>,
    /// Time counts only while nobody is known who could take the message: nobody holds the lease, or the holder
    /// refuses or cannot be reached. So a slow child slows its senders, and does not make them fail.
    pub only_absence: bool,
    /// Ride through times without a holder. Otherwise the message fails as soon as it is known that nobody
    /// takes it.
    pub wait: bool,
}

/// A message was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Who sent it.
    pub sender: SenderId,
    /// Its number.
    pub sequence: u64,
    /// The token of the holder that told.
    pub token: u64,
}

/// What the caller has to do.
#[derive(Debug)]
pub enum Action<T> {
    /// Ask the lock who holds the lease, and tell [`Sender::looked_up`].
    LookUp,
    /// Drop the connection that there is, and connect to this address.
    Connect(String),
    /// Send this over the connection.
    Send(Frame),
    /// A message is through, or given up.
    Settle(T, Result<Delivered, SendError>),
}
