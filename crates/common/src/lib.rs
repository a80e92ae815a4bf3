//! The vocabulary that every daemon speaks: nodes, rings and queues.
//!
//! Pure: no I/O, no clock, no async. Time and randomness come in as arguments.

#![forbid(unsafe_code)]

pub mod node;
pub mod queue;
pub mod ring;
