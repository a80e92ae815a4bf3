//! reception-agent: who is alive, tell me when that changes, elect one leader.

use std::process::ExitCode;

fn main() -> ExitCode {
    // A guard is this same program, started again: it has to be one before anything else happens.
    supervise::enter();
    daemon::main(&reception_agent::settings::PROGRAM, reception_agent::app::run)
}
