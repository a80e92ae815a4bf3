//! Managers over real sockets.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

mod faults;
mod harness;
mod keys;
mod membership;
mod messages;
mod processes;
