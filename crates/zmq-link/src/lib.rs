//! Links between processes over ZeroMQ: the only crate that touches it.
//!
//! A [`Link`] is a set of sockets with a thread of their own; nobody else touches them. [`Router`] and [`Dealer`] are
//! handles for async code, behind bounded queues: `send` waits for room, a full inbound queue slows the senders, and
//! nothing is dropped without being counted and told. `docs/design/links.md` has the whole picture.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use zmq_link::{Authenticator, KeyPair, Link, Multipart, RouterOptions, Security};
//!
//! let key = KeyPair::generate()?;
//! let allowed = Authenticator::new([(key.public(), "n1")])?;
//! let link = Link::start("example")?;
//! let security = Security::Curve { key, allowed };
//! let mut router = link.router(RouterOptions::new("link", "tcp://127.0.0.1:*", security)).await?;
//! while let Some(incoming) = router.recv().await {
//!     router.sender().send(&incoming.from.id, Multipart::single(&b"taken"[..])).await?;
//! }
//! # Ok(())
//! # }
//! ```

#![deny(unsafe_code)]

mod auth;
mod counters;
mod dealer;
mod error;
mod event;
mod ffi;
mod framing;
mod handle;
mod inbox;
mod key;
pub mod key_file;
mod link;
mod message;
mod options;
mod outbox;
mod owner;
mod repeats;
mod request;
mod router;
mod shared;
mod story;
mod wake;
mod z85;
mod zap;

pub use auth::Authenticator;
pub use counters::Snapshot;
pub use dealer::{Dealer, DealerSender};
pub use error::{KeyError, KeyFileError, LinkError, RequestError, SendError};
pub use event::{Discard, Event, EventKind, HandshakeFailure};
pub use framing::{Framed, Framing, FramingError};
pub use handle::Refused;
pub use key::{KeyId, KeyPair, PublicKey, require_curve};
pub use link::Link;
pub use message::{Incoming, Multipart, Peer, PeerId};
pub use options::{DealerOptions, Limits, RouterOptions, Security, ServerSecurity, SocketOptions};
pub use owner::CloseReport;
pub use request::{Request, Requester, Responder};
pub use router::{Router, RouterSender};
