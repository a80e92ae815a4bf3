//! Pauses that grow up to a bound.

use std::time::Duration;

/// Doubling pauses with jitter. The chance comes in as an argument, so that runs can be played again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    /// From `first` on, never longer than `longest`.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, failures: 0 }
    }

    /// After a child that ended: 1 s to 20 s.
    pub const fn for_children() -> Self {
        Self::new(Duration::from_secs(1), Duration::from_secs(20))
    }

    /// The next pause: between half of the step and all of it, by `chance` from 0 to 1.
    pub fn next(&mut self, chance: f64) -> Duration {
        // The exponent is bounded first: a counter that overflows would make the pause nothing.
        let step = self.first.saturating_mul(1 << self.failures.min(16)).min(self.longest);
        self.failures = self.failures.saturating_add(1);
        step.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0).max(self.first.min(self.longest))
    }

    /// It went well: the next pause is a short one.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_to_its_bound_and_stays_there_for_ever() {
        let mut backoff = Backoff::for_children();
        let steps: Vec<u64> = (0..6).map(|_| backoff.next(1.0).as_secs()).collect();
        assert_eq!(steps, [1, 2, 4, 8, 16, 20]);
        for _ in 0..10_000 {
            let pause = backoff.next(0.0);
            assert_eq!(pause, Duration::from_secs(10), "jitter takes half off, never more");
        }
        backoff.reset();
        assert_eq!(backoff.next(0.0), Duration::from_secs(1));
    }
}
