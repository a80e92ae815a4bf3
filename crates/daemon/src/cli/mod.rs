//! The command line: flags from the table of settings, subcommands that every daemon has, exit
//! codes, and the entry that a daemon's `main` calls.
mod command;
mod common;
mod entry;
mod healthcheck;
mod service;

pub use command::{command, parse};
pub use common::COMMON;
#[cfg(test)]
pub(crate) use common::LEVELS;
pub use entry::{Arguments, Start, main, main_with};

/// What one call asks for.
#[derive(Debug)]
pub struct Call {
    /// The daemon's own subcommand, or `None` for the bare program.
    pub subcommand: Option<&'static str>,
    /// The flags as texts.
    pub flags: crate::settings::Flags,
    /// What stands beside the flags of a subcommand.
    pub arguments: Arguments,
    /// What to do with them.
    pub(crate) action: Action,
}

/// What to do with a configuration.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Run,
    Check,
    Print,
    Healthcheck,
    Completions(clap_complete::Shell),
    ManPage,
    Reference,
    Service(service::Request),
}
