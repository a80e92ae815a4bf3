//! gone-runner: runs a command on exactly one host, and delivers messages to it wherever it runs.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`settings`], [`config`] | the table of settings; its values as types, with every problem told |
//! | [`app`] | the subcommands |
//! | [`run`] | `run`: the lease, the child under its guard, health, messages, API |
//! | [`send`] | `send` |
//! | [`status`], [`keygen`] | the small ones |

pub mod app;
pub mod config;
pub mod keygen;
pub mod run;
pub mod send;
pub mod settings;
pub mod status;
