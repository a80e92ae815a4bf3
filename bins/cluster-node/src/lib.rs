//! cluster-node: membership, quorum, and authenticated messages between named nodes.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`settings`], [`config`] | the table of settings; its values as types, with every problem told |
//! | [`app`] | the subcommands; [`keygen`] and [`doctor`] are the small ones |
//! | [`run`] | the daemon: the cluster's events taken in and handed on, reloads, metrics, the end |
//! | [`tunables`] | the cluster's settings by their flags' names: from values, over the API, out of a reload |
//! | [`event`], [`ring`] | events as others see them; the ones that are kept for replay |
//! | [`api`] | the HTTP API: who may call, what is answered, events as they come |
//! | [`apps`] | applications that connect by ZeroMQ |

#![forbid(unsafe_code)]

pub mod api;
pub mod app;
pub mod apps;
pub mod config;
pub mod doctor;
pub mod event;
pub mod keygen;
pub mod ring;
pub mod run;
pub mod settings;
pub mod tunables;
