//! gone-runner as processes: who runs when, what messages become of, and what faults do.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod calls;
mod children;
mod compat;
mod faults;
mod harness;
mod health;
mod leases;
mod messages;
mod role;
mod streams;
