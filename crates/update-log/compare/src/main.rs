//! One table: this engine against embedded databases, on the load that a proxy makes.
//!
//! Each database gets the group commit of the log in front of it: one thread drains what waits into
//! one durable transaction. It keeps updates by sequence and one cursor per node, written with the
//! next batch, which is less than the log keeps: no state per update and node, no keys, no answers.

mod ours;
mod peers;

use std::path::Path;
use std::time::{Duration, Instant};

const ROUNDS: usize = 5;
const BODY: usize = 1024;
const APPENDERS: usize = 64;
const NODES: usize = 3;

/// What is measured of an engine in one round; a rate per second each.
#[derive(Clone, Copy, Default)]
struct Rates {
    alone: f64,
    together: f64,
    catch_up: f64,
    /// Bytes on disk for each byte of body, before the nodes have read.
    space: f64,
}

fn rate(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn disk_bytes(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(data) if data.is_dir() => disk_bytes(&entry.path()),
        Ok(data) => data.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

type Measure = fn(&Path) -> Rates;

fn main() {
    let base = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, Into::into);
    let engines: [(&str, Measure); 4] = [
        ("file log", ours::measure),
        ("fjall", peers::measure::<peers::Fjall>),
        ("redb", peers::measure::<peers::Redb>),
        ("SQLite WAL FULL", peers::measure::<peers::Sqlite>),
    ];
    let mut all = vec![Vec::new(); engines.len()];
    // The first round warms up and does not count.
    for round in 0..=ROUNDS {
        for (index, (name, measure)) in engines.iter().enumerate() {
            let dir = tempfile::tempdir_in(&base).expect("a directory to work in");
            let rates = measure(dir.path());
            eprintln!(
                "round {round} {name}: {:.0} {:.0} {:.0} {:.2}",
                rates.alone, rates.together, rates.catch_up, rates.space
            );
            if round > 0 {
                all[index].push(rates);
            }
        }
    }
    let column = |index: usize, of: fn(&Rates) -> f64| median(all[index].iter().map(of).collect());
    let ours = [|r: &Rates| r.alone, |r: &Rates| r.together, |r: &Rates| r.catch_up].map(|of| column(0, of));
    println!("| engine | 1 appender | {APPENDERS} appenders, {NODES} nodes follow | catch-up of 100,000 | bytes per byte |");
    println!("| --- | --- | --- | --- | --- |");
    for (index, (name, _)) in engines.iter().enumerate() {
        let alone = column(index, |r| r.alone) / ours[0];
        let together = column(index, |r| r.together) / ours[1];
        let catch_up = column(index, |r| r.catch_up) / ours[2];
        println!("| {name} | {alone:.2} | {together:.2} | {catch_up:.2} | {:.2} |", column(index, |r| r.space));
    }
    println!("\n1.00 = {:.0}/s, {:.0}/s, {:.0}/s", ours[0], ours[1], ours[2]);
}
