//! A seeded simulation of runners, network and store: no two children at one true time, tokens that only
//! grow, and a holder again after the last fault.
//!
//! `SEED=N` plays one seed with its trace; `MUSTER_SIM_FAULTS=1000000` makes so many faults over seeds.
#![expect(clippy::print_stderr, reason = "a failed simulation shows its trace")]

mod sim;

use std::time::Duration;

use gone::lease::Timing;
use sim::{Plan, Report, Violation, run};

/// How many faults a plain run makes.
const FAULTS: u64 = 20_000;
const FAULTS_A_SEED: u64 = 50;

fn check(plan: &Plan, report: &Report) {
    if report.violations.is_empty() {
        return;
    }
    let traced = run(Plan { trace: true, ..plan.clone() });
    let start = traced.trace.len().saturating_sub(60);
    for line in &traced.trace[start..] {
        eprintln!("{line}");
    }
    panic!("SEED={}: {:?} with {plan:?}", plan.seed, report.violations);
}

#[test]
fn one_holder_at_a_time_through_every_fault() {
    let given = std::env::var("SEED").ok().map(|seed| seed.parse().unwrap());
    let wanted = std::env::var("MUSTER_SIM_FAULTS").map_or(FAULTS, |count| count.parse().unwrap());
    let first = given.unwrap_or_else(|| if wanted > FAULTS { 0 } else { testkit::seed() });
    let seeds = if given.is_some() { 1 } else { wanted.div_ceil(FAULTS_A_SEED) };
    let (mut faults, mut starts, mut fenced, mut events, mut gap) = (0, 0, 0, 0, 0);
    for seed in first..first + seeds {
        let plan = Plan::of(seed, FAULTS_A_SEED);
        let report = run(plan.clone());
        check(&plan, &report);
        faults += report.faults;
        starts += report.starts;
        fenced += report.fenced;
        events += report.events;
        gap = gap.max(report.gap * 1000 / plan.timing.expiry.as_nanos() as u64);
    }
    eprintln!(
        "seeds {first}..{}: {faults} faults, {starts} leases, {fenced} children that woke too late with their host, {events} events; the longest time without a \
         holder after the last fault was {gap}/1000 of the expiry",
        first + seeds
    );
    assert!(starts > faults / 10, "too few leases for a test of them: {starts}");
}

#[test]
fn a_seed_gives_the_same_trace() {
    for seed in 0..20 {
        let plan = Plan { trace: true, ..Plan::of(seed, 30) };
        let (first, second) = (run(plan.clone()), run(plan.clone()));
        assert_eq!(first, second, "seed {seed}");
        assert!(first.trace.len() > 100, "seed {seed} has a trace");
        assert_ne!(first.hash, run(Plan { trace: true, ..Plan::of(seed + 1000, 30) }).hash);
    }
}

/// Runs seeds with a broken rule until the fault shows, and panics when it never does.
fn shows(what: &str, broken: impl Fn(Plan) -> Plan, wanted: impl Fn(&Violation) -> bool) {
    for seed in 0..4000 {
        let report = run(broken(Plan::of(seed, FAULTS_A_SEED)));
        if report.violations.iter().any(&wanted) {
            eprintln!("{what}: seed {seed}: {:?}", report.violations);
            return;
        }
    }
    panic!("{what}: no seed shows it");
}

fn overlap(violation: &Violation) -> bool {
    matches!(violation, Violation::Overlap { .. })
}

#[test]
fn a_lease_counted_from_the_reply_overlaps() {
    // Where a request may take longer than the margin: not with the shortest expiries.
    let timing = Timing::of(Duration::from_secs(10));
    shows("counted from the reply", |plan| Plan { count_from_reply: true, timing, ..plan }, overlap);
}

#[test]
fn a_store_that_is_trusted_after_a_loss_overlaps() {
    shows("no suspicion", |plan| Plan { trust_store: true, ..plan }, overlap);
}

#[test]
fn a_lease_without_a_margin_overlaps_when_clocks_differ() {
    let broken = |plan: Plan| {
        let mut timing = plan.timing;
        timing.margin = Duration::ZERO;
        Plan { timing, ..plan }
    };
    shows("no margin", broken, overlap);
}

#[test]
fn a_guard_that_sleeps_with_its_runner_overlaps() {
    shows("no guard", |plan| Plan { guard_asleep: true, ..plan }, overlap);
}
