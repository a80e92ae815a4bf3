//! keyrouter: which nodes own this key, over HTTP.
//!
//! | module | concern |
//! | --- | --- |
//! | [`settings`], [`config`] | flags, variables and keys; the same, typed |
//! | [`services`] | the file of services: parsed, built into rings, watched, held |
//! | [`arguments`] | what a request asks: `key`, `min`, `max`, or a batch |
//! | [`answer`] | the JSON of answers and errors |
//! | [`loading`] | the file of services while the daemon runs |
//! | [`server`] | routes, and requests from the listener to the answer |
//! | [`diff`], [`lookup`] | the subcommands |
//! | [`app`] | from a configuration to a running daemon |

pub mod answer;
pub mod app;
pub mod arguments;
pub mod config;
pub mod diff;
pub mod loading;
pub mod lookup;
pub mod metrics;
pub mod server;
pub mod services;
pub mod settings;
