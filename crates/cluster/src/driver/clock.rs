//! Time in which this process ran.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::core::Time;

/// The driver may be so late without it counting as a stop.
const LATE: Duration = Duration::from_millis(5);

/// A clock that stands while the process does: under SIGSTOP, in a debugger, on a machine that gives it no processor.
#[derive(Debug)]
pub(crate) struct Clock {
    start: Instant,
    /// Nanoseconds that do not count.
    lost: AtomicU64,
    /// It does not go beyond, until the driver has looked.
    limit: AtomicU64,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), lost: AtomicU64::new(0), limit: AtomicU64::new(nanos(LATE)) }
    }

    fn lived(&self) -> u64 {
        nanos(self.start.elapsed()).saturating_sub(self.lost.load(SeqCst))
    }

    /// The time.
    pub(crate) fn now(&self) -> Time {
        Duration::from_nanos(self.lived().min(self.limit.load(SeqCst)))
    }

    /// The driver looks: what went beyond its plan is time in which nothing ran.
    pub(crate) fn look(&self) -> Time {
        let (lived, limit) = (self.lived(), self.limit.load(SeqCst));
        self.lost.fetch_add(lived.saturating_sub(limit), SeqCst);
        Duration::from_nanos(lived.min(limit))
    }

    /// The driver will look again by then.
    pub(crate) fn plan(&self, next: Time) {
        self.limit.store(nanos(next.saturating_add(LATE)), SeqCst);
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stands_when_the_driver_does_not_look() {
        let clock = Clock::new();
        clock.plan(Duration::ZERO);
        std::thread::sleep(LATE * 40);
        assert_eq!(clock.now(), LATE);
        assert_eq!(clock.look(), LATE);
        clock.plan(LATE + Duration::from_secs(60));
        assert!(clock.now() < LATE * 30, "the stop does not count afterwards");
    }
}
