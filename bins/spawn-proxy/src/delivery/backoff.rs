//! Exponential back-off with jitter.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::SmallRng;

/// Doubles from `first` up to `longest`; each wait is a random one from half of that to all of it.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// The first wait.
    pub first: Duration,
    /// Never longer than this.
    pub longest: Duration,
}

impl Backoff {
    /// The wait after `failures` earlier ones in a row.
    pub fn wait(&self, failures: u32, rng: &mut SmallRng) -> Duration {
        let full = self.first.saturating_mul(1 << failures.min(20)).min(self.longest);
        full.mul_f64(rng.random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn waits_grow_from_the_first_to_the_longest_and_never_beyond() {
        let backoff = Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(5) };
        let mut rng = SmallRng::seed_from_u64(1);
        for failures in [0, 1, 5, 6, 63, u32::MAX] {
            let full = Duration::from_millis(100).saturating_mul(1 << failures.min(20)).min(backoff.longest);
            for _ in 0..100 {
                let wait = backoff.wait(failures, &mut rng);
                assert!(wait >= full / 2 && wait <= full, "{failures} failures: {wait:?}");
            }
        }
    }
}
