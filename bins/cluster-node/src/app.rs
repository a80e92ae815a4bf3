//! The subcommands.

use daemon::{Failure, Start};

use crate::config::Config;
use crate::{doctor, keygen, run};

/// Does what the call says.
///
/// # Errors
/// What kept it from being done, in one sentence, with its exit code.
pub fn run(start: Start<Config>) -> anyhow::Result<()> {
    if start.subcommand.is_some() {
        start.log.quiet(start.loaded.values());
    }
    let mut out = std::io::stdout().lock();
    match (&start.config, start.subcommand) {
        (Config::Keygen { public_of }, _) => keygen::run(public_of.as_deref(), &mut out),
        (Config::Node(config), Some("doctor")) => {
            doctor::run(config, start.arguments.get("peer").unwrap_or_default(), &mut out)
        }
        (Config::Node(config), None) => {
            drop(out);
            let config = config.clone();
            run::run(start, &config)
        }
        (Config::Node(_), Some(other)) => Err(Failure::usage(format!("{other} is unknown")).into()),
    }
}
