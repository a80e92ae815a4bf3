//! keyrouter: which nodes own this key.

use std::process::ExitCode;

fn main() -> ExitCode {
    daemon::main(&keyrouter::settings::PROGRAM, keyrouter::app::run)
}
