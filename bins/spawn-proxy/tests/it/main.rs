//! spawn-proxy as a process, before scripted nodes: what it promises, and what faults do to it.

#![expect(clippy::unwrap_used, reason = "a test that meets what it did not expect has failed")]

mod ack;
mod api;
mod bad_input;
mod dead_letters;
mod faults;
mod harness;
mod lifecycle;
mod min_sequence;
mod node_changes;
mod operate;
mod order;
mod reads;
mod updates;
