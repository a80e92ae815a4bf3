//! The plan's time.

use std::time::Duration;

use tokio::time::Instant;

/// What the clock shows at the start: more than since 1970, so that every instant before the start that a wall clock could tell has a place on it.
const BEGIN: Duration = Duration::from_secs(1 << 33);

/// A clock that never goes back, and on which there is a time before this run: nodes that left then have been gone since then.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// One that starts now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// What it shows.
    pub fn now(&self) -> Duration {
        BEGIN + self.0.elapsed()
    }

    /// When it shows this; its start for what was before.
    pub fn instant(&self, at: Duration) -> Instant {
        self.0 + at.saturating_sub(BEGIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_shows_is_an_instant() {
        let clock = Clock::start();
        let later = clock.now() + Duration::from_secs(60);
        assert!(clock.instant(later) >= clock.0 + Duration::from_secs(60));
        assert_eq!(clock.instant(Duration::ZERO), clock.0);
    }
}
