//! HTTP listeners: bind, accept within a limit, serve HTTP/1 (and HTTP/2 through TLS), drain.
//!
//! Two forms of the same server: [`Server::serve`] for services that any thread may run, and
//! [`Server::serve_local`] for a data path with one current-thread runtime per core.
mod bind;
mod clock;
mod connection;
mod server;

pub use bind::{BindError, Listener, bind, bind_per_core};
pub use connection::{Peer, TlsPeer};
pub use server::{Limits, Server};
