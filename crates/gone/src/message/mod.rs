//! Messages to whoever holds a lease: in order for each sender, acknowledged once the child took them.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`sender`], [`holder`] | the decisions of both ends, pure |
//! | [`frame`], [`bson`] | the bytes between them: ours, and the original's |
//! | [`stdin`], [`acks`] | the bytes to and from the child |
//! | [`Outbox`], [`Inbox`] | both ends with real connections |
//! | [`compat`] | sending to a node of the original program |
//!
//! `docs/design/messages.md` says what is promised and what is not.

pub mod acks;
pub mod bson;
pub mod compat;
mod courier;
mod error;
pub mod frame;
pub mod holder;
mod in_lock;
mod inbox;
mod outbox;
mod read;
pub mod sender;
pub mod stdin;

pub use error::{LinkUpError, SendError};
pub use holder::{Delivery, HolderLimits, NotGiven, Origin};
pub use in_lock::{InLock, whereabouts};
pub use inbox::{Held, Inbox, InboxCounts, InboxOptions, Turn};
pub use outbox::{Lookup, LookupFuture, Outbox, OutboxOptions, Receipt};
pub use sender::{Delivered, Patience, Whereabouts};

/// Whether links are encrypted. There is no default: plain text has to be said.
#[derive(Clone, Debug)]
pub enum Encryption {
    /// CURVE with this pair, which all nodes share; nobody else comes in.
    Key(zmq_link::KeyPair),
    /// Neither encrypted nor authenticated.
    PlainText,
}
