//! spawn-proxy as a process, before scripted nodes: what it promises, and what faults do to it.

mod bad_input;
mod crash;
mod harness;
mod lifecycle;
mod order;
mod reads;
mod updates;
