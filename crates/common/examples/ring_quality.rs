//! Measures the rings and prints the tables of `docs/design/rings.md`; exits with 1 when a promised bound
//! is broken.
//!
//! `cargo run --release -p common --example ring_quality [SETS] [KEYS_PER_NODE]`, 100 and 1,000 unless told
//! otherwise, with 0 the costs alone; `SEED=N` in the environment chooses other sets. Takes some minutes.

#![expect(clippy::print_stdout, reason = "the tables are this program's data")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use common::ring::{Algorithm, Answer, Rings, Router};

#[path = "../tests/support/mod.rs"]
mod support;
use support::quality::{self, *};
use support::random::{Random, seed};

const SIZES: [usize; 10] = [3, 4, 5, 10, 11, 30, 65, 100, 300, 1000];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).map_while(|argument| argument.parse().ok());
    let sets = arguments.next().unwrap_or(100);
    let keys = arguments.next().unwrap_or(1000);
    let mut random = Random::new(seed("ring_quality"));
    let mut broken = Vec::new();
    for algorithm in Algorithm::ALL.into_iter().filter(|_| sets > 0) {
        let sizes = if algorithm == Algorithm::Ring { &SIZES[..] } else { &[3, 10, 65, 100] };
        tables(algorithm, sizes, sets, keys, &mut random, &mut broken);
    }
    if sets > 0 {
        weights(sets.min(40), &mut random, &mut broken);
    }
    costs(&mut random);
    for broken in &broken {
        println!("BROKEN: {broken}");
    }
    if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn tables(
    algorithm: Algorithm,
    sizes: &[usize],
    sets: usize,
    keys: usize,
    random: &mut Random,
    broken: &mut Vec<String>,
) {
    println!(
        "\n{algorithm}: means over {sets} random sets of each size, {keys} keys a node; the worst set in brackets\n"
    );
    println!(
        "| nodes | moved on add / ideal | on remove / ideal | between others | load max / mean | min / mean \
         | dead node: heir max / mean | heirs | after rebuild: max / mean | heirs |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for &n in sizes {
        let Spread { mean, least, most } = quality::sets(algorithm, n, sets, keys, random);
        println!(
            "| {n} | {:.3} ({:.2}) | {:.3} ({:.2}) | {:.4} | {:.3} ({:.3}) | {:.3} ({:.3}) | {:.2} ({:.2}) | {:.0} ({:.0}) | {:.2} ({:.2}) | {:.0} ({:.0}) |",
            mean[ADDED],
            most[ADDED],
            mean[REMOVED],
            most[REMOVED],
            mean[STRAY],
            mean[PEAK],
            most[PEAK],
            mean[TROUGH],
            least[TROUGH],
            mean[HEIR_PEAK],
            most[HEIR_PEAK],
            mean[HEIRS],
            least[HEIRS],
            mean[REBUILT_PEAK],
            most[REBUILT_PEAK],
            mean[REBUILT_HEIRS],
            least[REBUILT_HEIRS],
        );
        let mut bound = |holds: bool, what: &str| {
            if !holds {
                broken.push(format!("{algorithm}, {n} nodes: {what}"));
            }
        };
        if algorithm == Algorithm::Ring {
            bound(mean[ADDED] <= 1.10, "movement on add");
            bound(mean[REMOVED] <= 1.10, "movement on remove");
            bound(most[PEAK] <= 1.25, "load");
            if n <= 10 {
                bound(most[HEIR_PEAK].max(most[REBUILT_PEAK]) <= 2.0, "spread of a dead node's keys");
            }
            let heirs = (n as f64 - 1.0).min(64.0);
            bound(least[HEIRS].min(least[REBUILT_HEIRS]) >= heirs, "heirs of a dead node");
        }
        if algorithm == Algorithm::Rendezvous {
            bound(most[STRAY] == 0.0, "keys moved that were not the node's own");
        }
    }
}

fn weights(sets: usize, random: &mut Random, broken: &mut Vec<String>) {
    println!(
        "\nload / share by weight, least and greatest of all nodes of {sets} random sets; nodes held back\n"
    );
    println!("| algorithm | weights | nodes | keys a node | least | greatest | held back |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    let mixed: &[f64] = &[1.0, 2.0, 3.0, 4.0, 5.0];
    let far: &[f64] = &[0.1, 1.0, 10.0, 100.0];
    for (algorithm, choices, n, keys, limit) in [
        (Algorithm::Ring, mixed, 3, 20_000, 0.25),
        (Algorithm::Ring, mixed, 10, 20_000, 0.25),
        (Algorithm::Ring, mixed, 100, 10_000, 0.25),
        (Algorithm::Ring, mixed, 1000, 4_000, 0.25),
        // The lightest have a few keys only, and as much noise: reported, with no bound.
        (Algorithm::Ring, far, 100, 100_000, f64::INFINITY),
        (Algorithm::Rendezvous, mixed, 3, 100_000, 0.05),
        (Algorithm::Rendezvous, mixed, 10, 100_000, 0.05),
        (Algorithm::Rendezvous, mixed, 30, 100_000, 0.05),
    ] {
        let sets = if n >= 1000 {
            sets.min(5)
        } else if keys >= 100_000 {
            sets.min(10)
        } else {
            sets
        };
        let (mut low, mut high, mut held) = (f64::INFINITY, 0f64, 0);
        for _ in 0..sets {
            let (least, greatest, held_back) = quality::weighted(algorithm, n, choices, keys, random);
            (low, high, held) = (low.min(least), high.max(greatest), held + held_back);
        }
        println!("| {algorithm} | {choices:?} | {n} | {keys} | {low:.3} | {high:.3} | {held} |");
        if low < 1.0 - limit || high > 1.0 + limit {
            broken.push(format!("{algorithm}, {n} nodes: weights"));
        }
    }
}

fn costs(random: &mut Random) {
    println!("\ncost on one core; lookups of 16-byte keys\n");
    println!("| algorithm | nodes | build | memory | lookups/s, first | first 3 | all: time of one |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for algorithm in Algorithm::ALL {
        for n in [3, 100, 1000, 10_000] {
            cost(algorithm, "", &random.nodes(n));
        }
    }
    let mut nodes = random.nodes(1000);
    nodes
        .iter_mut()
        .zip([0.5, 1.0, 2.0, 7.0, 1000.0].iter().cycle())
        .for_each(|(node, &weight)| node.1 = weight);
    cost(Algorithm::Ring, ", weights 0.5 to 1000", &nodes);
    cost(Algorithm::Rendezvous, ", weights 0.5 to 1000", &nodes);
}

fn cost(algorithm: Algorithm, what: &str, nodes: &[(String, f64)]) {
    // Many at once: the system may count in ticks of milliseconds.
    let builds = 1 + 100_000 / nodes.len() as u32;
    let build = time(|| (0..builds).for_each(|_| drop(quality::build(algorithm, nodes)))) / builds;
    let rings = quality::build(algorithm, nodes);
    let rate = |max: usize| {
        let linear = max > 3 || algorithm == Algorithm::Rendezvous;
        let count = if linear { 1 + 10_000_000 / (nodes.len() + 30) } else { 2_000_000 };
        count as f64 / time(|| look_up(&rings, max, count)).as_secs_f64()
    };
    println!(
        "| {algorithm}{what} | {} | {:.2} ms | {:.0} KB | {:.2} M | {:.2} M | {:.1} us |",
        nodes.len(),
        build.as_secs_f64() * 1e3,
        rings.memory() as f64 / 1e3,
        rate(1) / 1e6,
        rate(3) / 1e6,
        1e6 / rate(usize::MAX),
    );
}

fn look_up(rings: &Rings, max: usize, count: usize) {
    let mut answer = Answer::new();
    for key in 0..count as u64 {
        let key = u128::from(key.wrapping_mul(0x9E37_79B9_7F4A_7C15)).to_le_bytes();
        rings.route(std::hint::black_box(&key), max, &mut answer);
        std::hint::black_box(answer.nodes());
    }
}

/// How long this thread was on a processor for `run`, so that others' work on the machine does not count;
/// the time by the clock where the system does not tell.
fn time(run: impl FnOnce()) -> Duration {
    let on_cpu = || -> Option<u64> {
        std::fs::read_to_string("/proc/thread-self/schedstat").ok()?.split(' ').next()?.parse().ok()
    };
    let (start, before) = (Instant::now(), on_cpu());
    run();
    match (before, on_cpu()) {
        (Some(before), Some(after)) => Duration::from_nanos(after - before),
        _ => start.elapsed(),
    }
}
