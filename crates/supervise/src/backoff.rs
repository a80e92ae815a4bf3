//! How long to wait before a child that ended is started again.

use std::time::Duration;

/// The shortest wait.
const SHORTEST: Duration = Duration::from_secs(1);
/// The longest wait; a child that lived as long is taken for well and starts the row anew.
const LONGEST: Duration = Duration::from_secs(20);
/// Where doubling ends: the last step still has room for chance below [`LONGEST`].
const LAST_STEP: u32 = 4;

/// Waits of 1 s to 20 s that double with each short life, each drawn at random between one step and the next,
/// so that children which failed together do not come back together.
#[derive(Clone, Debug, Default)]
pub struct Backoff {
    short_lives: u32,
}

impl Backoff {
    /// At the start of the row.
    pub const fn new() -> Self {
        Self { short_lives: 0 }
    }

    /// The wait after a child that lived for `lived`; `random` is a number from 0 to 1.
    pub fn after(&mut self, lived: Duration, random: f64) -> Duration {
        if lived >= LONGEST {
            self.short_lives = 0;
        }
        let step = SHORTEST * 2_u32.pow(self.short_lives.min(LAST_STEP));
        let next = (step * 2).min(LONGEST);
        self.short_lives = self.short_lives.saturating_add(1);
        step + (next - step).mul_f64(random.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(backoff: &mut Backoff, lived: u64, random: f64) -> f64 {
        backoff.after(Duration::from_secs(lived), random).as_secs_f64()
    }

    #[test]
    fn waits_double_up_to_twenty_seconds() {
        let mut backoff = Backoff::new();
        let low: Vec<_> = (0..7).map(|_| seconds(&mut backoff, 0, 0.0)).collect();
        assert_eq!(low, [1.0, 2.0, 4.0, 8.0, 16.0, 16.0, 16.0]);
        let mut backoff = Backoff::new();
        let high: Vec<_> = (0..7).map(|_| seconds(&mut backoff, 0, 1.0)).collect();
        assert_eq!(high, [2.0, 4.0, 8.0, 16.0, 20.0, 20.0, 20.0]);
    }

    #[test]
    fn a_long_life_starts_the_row_anew() {
        let mut backoff = Backoff::new();
        for _ in 0..5 {
            backoff.after(Duration::ZERO, 0.5);
        }
        assert_eq!(seconds(&mut backoff, 19, 0.0), 16.0);
        assert_eq!(seconds(&mut backoff, 20, 0.0), 1.0);
        assert_eq!(seconds(&mut backoff, 1, 0.0), 2.0);
    }

    #[test]
    fn odd_numbers_for_chance_do_no_harm() {
        assert_eq!(seconds(&mut Backoff::new(), 0, 7.0), 2.0);
        assert_eq!(seconds(&mut Backoff::new(), 0, -1.0), 1.0);
    }
}
