//! Why a message was not delivered, and why a listener could not be had.

use std::time::Duration;

use crate::message::frame::Refusal;

/// Why a message was given up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Nobody holds the lease.
    #[error("nobody holds {id} now: start a runner for it, or send with --wait{}", doubt(*.maybe_taken))]
    NoHolder {
        /// The runner's id.
        id: String,
        /// An earlier attempt may have reached the child.
        maybe_taken: bool,
    },
    /// The holder refuses all messages, and no other holder is known.
    #[error("the holder of {id} at {address} takes no messages: {why}{}", doubt(*.maybe_taken))]
    Refused {
        /// The runner's id.
        id: String,
        /// Its holder's address.
        address: String,
        /// What it said.
        why: String,
        /// An earlier attempt may have reached the child.
        maybe_taken: bool,
    },
    /// The holder refuses this message.
    #[error("{id} does not take this message: {}", content(*.why))]
    Content {
        /// The runner's id.
        id: String,
        /// Why.
        why: Refusal,
    },
    /// The message is larger than the sender's own bound.
    #[error("the message has {bytes} bytes, more than the {max} that are allowed")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// No acknowledgement in time.
    #[error("{id} did not acknowledge within {within:?}: {trouble}{}", doubt(*.maybe_taken))]
    TimedOut {
        /// The runner's id.
        id: String,
        /// The time that was given.
        within: Duration,
        /// What stood in the way last.
        trouble: String,
        /// An attempt may have reached the child.
        maybe_taken: bool,
    },
    /// The id cannot be one.
    #[error("the id {0:?} cannot be used: it needs 1 to 200 bytes and no control characters")]
    Id(String),
    /// The outbox was closed or its runtime ended.
    #[error("the outbox was closed before the message was acknowledged")]
    Closed,
}

impl SendError {
    /// Whether the child may have got the message all the same.
    pub fn maybe_taken(&self) -> bool {
        match self {
            Self::NoHolder { maybe_taken, .. }
            | Self::Refused { maybe_taken, .. }
            | Self::TimedOut { maybe_taken, .. } => *maybe_taken,
            Self::Content { .. } | Self::TooLarge { .. } | Self::Id(_) => false,
            Self::Closed => true,
        }
    }
}

fn doubt(maybe_taken: bool) -> &'static str {
    if maybe_taken { " (the message may have been taken all the same)" } else { "" }
}

fn content(why: Refusal) -> &'static str {
    match why {
        Refusal::Newline => "it has a newline, and the child reads lines; --stdin frames or json takes it",
        Refusal::TooLarge => "it is larger than the holder allows",
        _ => "it was refused",
    }
}

impl Refusal {
    /// In words.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::NotHolder => "it does not hold the lease",
            Self::Stopping => "its child is being stopped or started",
            Self::Gap => "an earlier message is missing",
            Self::Turn => "a later turn has begun",
            Self::Newline => "a message with a newline",
            Self::TooLarge => "a message that is too large",
            Self::Version => "it speaks another version of the protocol",
            Self::StdinClosed => "the child has closed its stdin",
            Self::AcksClosed => "the child has closed its descriptor 3, by which it would acknowledge",
        }
    }
}

/// Why messages cannot be received or sent at all.
#[derive(Debug, thiserror::Error)]
pub enum LinkUpError {
    /// The settings contradict each other.
    #[error("messages: {0}")]
    Limits(&'static str),
    /// The link could not be had.
    #[error(transparent)]
    Link(#[from] zmq_link::LinkError),
    /// The key cannot be used.
    #[error(transparent)]
    Key(#[from] zmq_link::KeyError),
}
