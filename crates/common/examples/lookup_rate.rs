//! Lookups per second on one core, one JSON line per ring: `scripts/bench` makes a table of them.
//!
//! `cargo run --release -p common --example lookup_rate [MILLISECONDS]`, 500 for each ring unless told otherwise.

#![expect(clippy::print_stdout, reason = "the lines are this program's data")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use common::ring::{Algorithm, Answer, Rings, Router};

const SIZES: [usize; 4] = [3, 100, 1000, 10_000];
/// As many nodes as a lookup asks for.
const MAX: usize = 3;
/// Between two looks at the clock.
const STRIDE: u64 = 256;

fn main() {
    let millis = std::env::args().nth(1).map(|text| text.parse().expect("MILLISECONDS is a number"));
    let limit = Duration::from_millis(millis.unwrap_or(500));
    for algorithm in Algorithm::ALL {
        for count in SIZES {
            let nodes: Vec<_> =
                (0..count).map(|i| (format!("10.0.{}.{}:8080", i / 250, i % 250), 1.0)).collect();
            let start = Instant::now();
            let rings = Rings::build(algorithm, &nodes).expect("names are distinct and weights are 1");
            let build_ms = start.elapsed().as_secs_f64() * 1e3;
            let rate = rate(&rings, limit);
            println!(
                r#"{{"algorithm":"{algorithm}","nodes":{count},"build_ms":{build_ms:.3},"lookups_per_second":{rate:.0}}}"#
            );
        }
    }
}

fn rate(rings: &Rings, limit: Duration) -> f64 {
    let mut answer = Answer::new();
    // A few first: the first lookups fill the caches.
    (0..STRIDE).for_each(|number| look_up(rings, number, &mut answer));
    let (start, before) = (Instant::now(), on_processor());
    let mut done = 0;
    while start.elapsed() < limit {
        (done..done + STRIDE).for_each(|number| look_up(rings, number, &mut answer));
        done += STRIDE;
    }
    // Others' work on the machine does not count, where the system tells it apart.
    let took = match (before, on_processor()) {
        (Some(before), Some(after)) => after.saturating_sub(before),
        _ => start.elapsed(),
    };
    done as f64 / took.as_secs_f64()
}

fn look_up(rings: &Rings, number: u64, answer: &mut Answer) {
    let key = u128::from(number.wrapping_mul(0x9E37_79B9_7F4A_7C15)).to_le_bytes();
    rings.route(black_box(&key), MAX, answer);
    black_box(answer.nodes());
}

/// How long this thread was on a processor.
fn on_processor() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}
