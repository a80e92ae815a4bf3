//! reception-agent: who is alive, for programs in any language.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`settings`], [`config`] | the table of settings; its values as types, with every problem told |
//! | [`app`] | the subcommands |
//! | [`ask`], [`watch`], [`form`] | `list`, `services`, `leader` and `watch`; what is printed |
//! | [`register`], [`elect`], [`child`], [`ending`] | the ones that hold something, and may run a command |
//! | [`serve`] | the agent of a host |
//! | [`trouble`] | how often a failure that lasts is told |
//! | [`view`] | services as the watchers see them |
//! | [`held`] | which list of a service counts: the last good one, while a worse one is not certain |
//! | [`pace`] | when something that failed is tried again |
//! | [`crew`] | tasks that follow the configuration |
//! | [`render`] | `[[render]]`: files out of services, and telling who reads them |
//! | [`spawn`] | `[[spawn]]`: the nodes of a spawn-proxy |

#![forbid(unsafe_code)]

pub mod app;
pub mod ask;
pub mod child;
pub mod config;
pub mod crew;
pub mod elect;
pub mod ending;
pub mod form;
pub mod held;
pub mod pace;
pub mod register;
pub mod render;
pub mod serve;
pub mod settings;
pub mod spawn;
pub mod trouble;
pub mod view;
pub mod watch;
