//! A world of runners, a store and a network under a true time that none of them knows.

mod act;
mod faults;
mod host;
mod report;
mod store;
mod world;

pub(crate) use report::{Report, Violation};
pub(super) use world::run;

use std::time::Duration;

use gone::lease::Timing;

pub(super) const MS: u64 = 1_000_000;

/// What a run is made of. The last four break a rule each, to show that the checks see it.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(crate) seed: u64,
    pub(crate) runners: usize,
    pub(crate) faults: u64,
    pub(crate) timing: Timing,
    /// How far the clocks' rates are from the true one at most, in parts of a million.
    pub(crate) skew_ppm: i64,
    /// Deadlines count from the arrival of the answer.
    pub(crate) count_from_reply: bool,
    /// A store without a record, or of another run, is trusted.
    pub(crate) trust_store: bool,
    /// Guards do nothing while their runner is stopped.
    pub(crate) guard_asleep: bool,
    /// Keep the trace of what happened.
    pub(crate) trace: bool,
}

impl Plan {
    pub(super) fn of(seed: u64, faults: u64) -> Self {
        let expiry = [1000, 2000, 3000, 10_000, 30_000][(seed % 5) as usize];
        Self {
            seed,
            runners: 2 + (seed / 5 % 4) as usize,
            faults,
            timing: Timing::of(Duration::from_millis(expiry)),
            skew_ppm: 4975,
            count_from_reply: false,
            trust_store: false,
            guard_asleep: false,
            trace: false,
        }
    }
}
