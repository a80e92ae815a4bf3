//! Reads go to one healthy node, writes reach every node in one order, and a node that was away
//! catches up.

pub mod api;
pub mod app;
pub mod config;
pub mod delivery;
pub mod metrics;
pub mod nodes;
mod parse;
pub mod proxy;
pub mod route;
pub mod settings;
pub mod shared;
mod storage;
pub mod watchers;
