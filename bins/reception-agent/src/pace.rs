//! When something that failed is tried again: after 1 s, then twice as long each time, up to a bound. Pure.

use std::time::Duration;

/// The first wait.
pub const FIRST: Duration = Duration::from_secs(1);

/// The waits after failures in a row.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    longest: Duration,
    next: Duration,
}

impl Pace {
    /// Waits of 1 s to `longest`.
    pub const fn up_to(longest: Duration) -> Self {
        Self { longest, next: FIRST }
    }

    /// The wait after one more failure.
    pub fn failed(&mut self) -> Duration {
        let wait = self.next.min(self.longest);
        self.next = (wait * 2).min(self.longest);
        wait
    }

    /// It worked: the row begins anew.
    pub const fn worked(&mut self) {
        self.next = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_bound_and_begin_anew() {
        let mut pace = Pace::up_to(Duration::from_secs(5));
        let waits: Vec<_> = (0..5).map(|_| pace.failed().as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 5, 5]);
        pace.worked();
        assert_eq!(pace.failed().as_secs(), 1);
    }
}
