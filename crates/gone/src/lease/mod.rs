//! The lease: pure decisions, driven by real clocks in [`crate::keeper`] and by a simulation in tests.
//!
//! [`Lease`] is one runner's half; [`rules`] is the store's half, which every driver has to follow.

mod arithmetic;
mod backoff;
mod machine;
mod messages;
pub mod rules;
mod step;

pub use arithmetic::{Failover, Timing, Unsafe};
pub use backoff::Backoff;
pub use machine::{Lease, Terms};
pub use messages::{Command, End, Input, RequestId, State};
