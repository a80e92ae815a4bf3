//! reception-agent as processes: what it prints, what it answers, who leads when, and what faults do.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod api;
mod bounds;
mod commands;
mod composed;
mod consul;
mod elections;
mod faults;
mod feeds;
mod harness;
mod held;
mod outages;
mod reference;
mod role;
