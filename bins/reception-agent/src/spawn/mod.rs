//! `[[spawn]]`: the nodes of a spawn-proxy follow the instances of a service.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`settings`] | the table; its rows as [`SpawnSpec`] |
//! | [`plan`] | what to change; pure |
//! | [`api`] | the proxy's API |
//! | [`clock`] | the time that plans are made in |
//! | [`memory`] | which nodes are ours, over a restart |
//! | [`run`] | the task that keeps one service at one proxy |
//! | [`board`] | what is counted |

pub mod api;
pub mod board;
pub mod clock;
pub mod memory;
pub mod plan;
pub mod run;
pub mod settings;

use std::path::PathBuf;

use http_fetch::Tls;

use crate::held;

pub use board::Counters;
pub use memory::check_format;
pub use run::run;
pub use settings::{COLUMNS, check, specs};

/// One `[[spawn]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpawnSpec {
    /// The service whose instances are nodes.
    pub service: String,
    /// The proxy's API: `http://H:P` or `https://H:P`, without a slash at its end.
    pub api: String,
    /// The file with the API's token.
    pub token_file: Option<PathBuf>,
    /// How `https` is made.
    pub tls: Option<Tls>,
    /// What becomes of nodes whose instance has left.
    pub on_leave: plan::OnLeave,
    /// When a worse list counts.
    pub held: held::Rule,
}
