//! spawn-proxy as a process, before scripted nodes: what it promises, and what faults do to it.

#![expect(clippy::unwrap_used, reason = "a test that meets what it did not expect has failed")]

mod api;
mod bad_input;
mod faults;
mod harness;
mod lifecycle;
mod node_changes;
mod order;
mod reads;
mod updates;
