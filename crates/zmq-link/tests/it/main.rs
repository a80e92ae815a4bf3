//! Links over real sockets on free ports.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

mod curve;
mod ends;
mod flow;
mod harness;
mod keys;
mod limits;
mod peers;
mod python;
mod reconnect;
