//! spawn-proxy: reads go to one node, writes reach every node in one order, nothing accepted is lost.

use std::process::ExitCode;

fn main() -> ExitCode {
    daemon::main(&spawn_proxy::settings::PROGRAM, spawn_proxy::app::run)
}
