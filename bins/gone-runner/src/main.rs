//! gone-runner: this command runs on exactly one host, and messages find it.

use std::process::ExitCode;

fn main() -> ExitCode {
    // A guard is this same program, started again: it has to be one before anything else happens.
    supervise::enter();
    daemon::main(&gone_runner::settings::PROGRAM, gone_runner::app::run)
}
