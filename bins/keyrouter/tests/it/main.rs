//! keyrouter as a process: what it answers, what reloads do, and what bad input does to it.

#![expect(clippy::unwrap_used, reason = "a test that meets what it did not expect has failed")]

mod access;
mod arguments;
mod bad_input;
mod batch;
mod commands;
mod consul_template;
mod golden;
mod harness;
mod load;
mod reload;
mod watch;
