//! Being a daemon: everything that five daemons share around what each of them is for.
//!
//! | module | concern |
//! | --- | --- |
//! | [`settings`] | one table per daemon for flags, environment, file, help and docs |
//! | [`cli`] | the command line, common subcommands, exit codes; [`main`] |
//! | [`lifecycle`] | from ready to drained: signals, reloads, the orderly end |
//! | [`log`], [`signals`], [`drain`], [`readiness`] | the parts of that |
//! | [`forward`] | signals that are for a child |
//! | [`admin`], [`metrics`] | the routes and numbers that every daemon shows |
//! | [`http`], [`tls`] | listeners |
//! | [`systemd`] | notifications and the unit file |
//! | [`state_dir`] | the directory that a daemon keeps its state in |
pub mod admin;
pub mod cli;
pub mod drain;
pub mod error;
pub mod forward;
pub mod http;
pub mod lifecycle;
pub mod log;
pub mod metrics;
pub mod readiness;
pub mod settings;
pub mod signals;
pub mod state_dir;
pub mod systemd;
pub mod tls;

/// Daemons of several threads hand memory from one to another all the time; the system's allocator
/// pays for that with locks and with pages given back and taken again (docs/adr/0018).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub use cli::{Start, main};
pub use error::Failure;
