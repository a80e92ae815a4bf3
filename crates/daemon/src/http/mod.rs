//! HTTP listeners: bind, accept within a limit, serve HTTP/1 (and HTTP/2 through TLS), drain.
//!
//! Two forms of the same server: [`Server::serve`] for services that any thread may run, and
//! [`Server::serve_local`] for a data path with one current-thread runtime per core.
mod bind;
mod buffer;
mod clock;
mod connection;
mod guard;
mod intake;
mod server;
mod settings;
mod socket;
mod streams;
mod token;
mod watch;

pub use bind::{BindError, Listener, bind, bind_per_core};
pub use buffer::{Buffer, Reserved};
pub use connection::{Peer, TlsPeer};
pub use guard::{Guard, Refusal};
pub use intake::{BodyFault, BodyLimits, Intake, Parts, read_body};
pub use server::{Limits, Server};
pub use settings::LISTENER_SETTINGS;
pub use token::Token;
