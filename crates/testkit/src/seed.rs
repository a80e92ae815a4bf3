//! Randomness that can be played again.

use std::ops::Range;

use rand::{RngExt, SeedableRng, rngs::StdRng};

/// The seed of this run: the environment's `SEED`, else a fresh one. Printed either way, so that a failure
/// can be replayed with `SEED=N`.
#[expect(clippy::print_stderr, reason = "the seed has to be in the output of a failed test")]
pub fn seed() -> u64 {
    let given = std::env::var("SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| rand::rng().random_range(0..1_000_000_000));
    eprintln!("SEED={seed}");
    seed
}

/// A seeded source of choices.
#[derive(Debug)]
pub struct Rng(StdRng);

impl Rng {
    /// The source that this seed always gives.
    pub fn new(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    /// The source of [`seed()`].
    pub fn from_env() -> Self {
        Self::new(seed())
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0.random()
    }

    /// A number of the range.
    pub fn within(&mut self, range: Range<u64>) -> u64 {
        self.0.random_range(range)
    }

    /// True in `percent` of 100 cases.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.within(0..100) < percent
    }

    /// One of them. Panics on an empty slice.
    pub fn pick<'a, T>(&mut self, among: &'a [T]) -> &'a T {
        &among[self.0.random_range(0..among.len())]
    }

    /// That many bytes.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.0.fill(&mut bytes[..]);
        bytes
    }

    /// An independent source, for a task of its own.
    pub fn fork(&mut self) -> Self {
        Self::new(self.number())
    }
}
