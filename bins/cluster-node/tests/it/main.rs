//! cluster-node as processes: who joins, what arrives, who may call, and what faults do.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
mod apps;
mod commands;
mod events;
mod faults;
mod harness;
mod messages;
mod reference;
mod reload;
