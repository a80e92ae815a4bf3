//! Senders and holders in a world that loses, delays, repeats and reorders, in which holders die, pause and
//! come back. Nothing of it takes real time; a seed plays it again.

#[path = "message_sim/faults.rs"]
mod faults;
#[path = "message_sim/party.rs"]
mod party;
#[path = "message_sim/world.rs"]
mod world;

use world::{Broken, Report, run};

const RUNS: u64 = 150;

#[test]
fn order_and_acknowledgements_hold_through_faults() {
    let seed = testkit::seed();
    let mut sum = Report::default();
    for run_seed in seed..seed + RUNS {
        let report =
            run(run_seed, Broken::Nothing).unwrap_or_else(|broken| panic!("SEED={run_seed}: {broken}"));
        sum.add(&report);
    }
    eprintln!("{sum:?}");
    assert!(sum.faults > 10 * RUNS && sum.acknowledged > 100 * RUNS, "{sum:?}");
    assert!(
        sum.again > RUNS && sum.given_up > 0 && sum.full > RUNS,
        "all that matters has happened: {sum:?}"
    );
}

/// Without any one of its rules the world notices; so the test above can fail.
#[test]
fn each_rule_is_needed() {
    for broken in [Broken::HeldCheck, Broken::TurnCheck, Broken::GapCheck, Broken::Duplicates] {
        let noticed = (0..300).find_map(|seed| run(seed, broken).err());
        let noticed = noticed.unwrap_or_else(|| panic!("nobody noticed: {broken:?}"));
        eprintln!("{broken:?}: {noticed}");
    }
}
