//! Prints what a reload costs: `cargo run --release -p keyrouter --example reload_cost`.
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::fmt::Write as _;
use std::time::Instant;

use common::ring::Algorithm;
use jiff::Timestamp;
use keyrouter::services::{Keeper, Options, Outcome};

/// A file of `services` services of `nodes` nodes each; the first service has `extra` nodes more.
fn file(services: usize, nodes: usize, extra: usize) -> String {
    let mut text = String::new();
    for service in 0..services {
        let extra = if service == 0 { extra } else { 0 };
        let names: Vec<_> = (0..nodes + extra).map(|node| format!("'node-{service}-{node}:8080'")).collect();
        // Writing to a text cannot fail.
        let _ = writeln!(text, "[[Services]]\nName = 'service-{service}'\nNodes = [{}]", names.join(", "));
    }
    text
}

fn main() -> std::io::Result<()> {
    let path = std::env::temp_dir().join(format!("reload-cost-{}.toml", std::process::id()));
    let options = Options { algorithm: Algorithm::Ring, hold_empty: false, max_size: 64 << 20 };
    for (services, nodes) in [(1, 1000), (100, 1000)] {
        let mut keeper = Keeper::new(&path);
        for (what, extra) in [("first load", 0), ("one service changed", 1), ("nothing changed", 1)] {
            std::fs::write(&path, file(services, nodes, extra))?;
            let start = Instant::now();
            let outcome = keeper.reload(&options, Timestamp::now());
            let time = start.elapsed();
            let applied = matches!(outcome, Outcome::Applied(_));
            println!("{services} x {nodes} nodes, {what}: {time:.1?}, applied: {applied}");
        }
    }
    std::fs::remove_file(&path)
}
