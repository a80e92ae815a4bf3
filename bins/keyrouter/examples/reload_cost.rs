//! Prints what a reload costs: `cargo run --release -p keyrouter --example reload_cost`.
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

use common::ring::Algorithm;
use daemon::settings::Problems;
use jiff::Timestamp;
use keyrouter::services::{Catalog, Keeper, Options, Outcome, Spec, changes::Changes, file};

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

/// What the parts of a reload cost that changes one service.
fn parts(path: &Path, options: &Options, before: &Catalog) {
    let begun = Instant::now();
    let told = |what: &str, begun: Instant| println!("    {what}: {:.1?}", begun.elapsed());
    let Ok(read) = file::read(path, options.max_size) else { return };
    told("read and hash", begun);
    let begun = Instant::now();
    let spec = Spec::parse("f", &read.bytes, options.algorithm, &mut Problems::default());
    told("parse", begun);
    let begun = Instant::now();
    let Some(spec) = spec else { return };
    let Ok(after) = Catalog::build(&spec, options.algorithm, Some(before), 9, Timestamp::now()) else {
        return;
    };
    told("build", begun);
    let begun = Instant::now();
    let changes = Changes::between(Some(before), &after);
    told(&format!("compare ({changes})"), begun);
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
            let bytes = std::fs::metadata(&path)?.len();
            println!("{services} x {nodes} nodes, {what}: {time:.1?}, {bytes} bytes, applied: {applied}");
        }
        std::fs::write(&path, file(services, nodes, 2))?;
        if let Some(catalog) = keeper.published().load_full() {
            parts(&path, &options, &catalog);
        }
    }
    std::fs::remove_file(&path)
}
