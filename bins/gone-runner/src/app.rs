//! The subcommands.

use std::io::Write;

use daemon::{Failure, Start};

use crate::config::Config;
use crate::{keygen, run, send, status};

/// Does what the subcommand says.
///
/// # Errors
/// What kept it from being done, in one sentence, with its exit code.
pub fn run(start: Start<Config>) -> anyhow::Result<()> {
    if start.subcommand != Some("run") {
        start.log.quiet(start.loaded.values());
    }
    match start.subcommand {
        Some("run") => run::run(start),
        Some("send") => send::run(&start),
        Some("status") => look(&start, &mut std::io::stdout().lock()),
        Some("keygen") => keygen::run(&mut std::io::stdout().lock()),
        _ => Err(Failure::usage("one of run, send, status and keygen is needed").into()),
    }
}

fn look(start: &Start<Config>, to: &mut impl Write) -> anyhow::Result<()> {
    let Config { id, lock, compat, timeout, .. } = &start.config;
    let Some(id) = id else { return Err(Failure::usage("--id is needed").into()) };
    status::run(lock.as_ref(), id, *compat, *timeout, start.loaded.values().switch("json"), to)
}
