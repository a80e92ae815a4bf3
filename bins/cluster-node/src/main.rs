//! cluster-node: membership, quorum, and messages between named nodes.

use std::process::ExitCode;

fn main() -> ExitCode {
    daemon::main(&cluster_node::settings::PROGRAM, cluster_node::app::run)
}
