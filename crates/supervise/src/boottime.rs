//! The clock of all deadlines.

use std::ops::Add;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// An instant of CLOCK_BOOTTIME: never set, never stepped, and it goes on while the host is suspended. The
/// same in all processes of one host, and meaningless on another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Boottime(u64);

impl Boottime {
    /// Later than any other: the deadline of a child that has none.
    pub const NEVER: Self = Self(u64::MAX);

    /// The present.
    pub fn now() -> Self {
        let now = clock_gettime(ClockId::Boottime);
        // The clock starts at 0 with the kernel, so neither part is negative.
        Self(now.tv_sec.unsigned_abs().saturating_mul(1_000_000_000) + now.tv_nsec.unsigned_abs())
    }

    /// The instant so many nanoseconds after the host's start.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the host's start.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// So much earlier, at most back to the host's start. [`Self::NEVER`] stays what it is.
    pub fn earlier(self, by: Duration) -> Self {
        if self == Self::NEVER { self } else { Self(self.0.saturating_sub(nanos(by))) }
    }

    /// How long after `earlier` this is; zero when it is not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Boottime {
    type Output = Self;

    /// Never past [`Self::NEVER`].
    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(nanos(by)))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_forward_and_never_over_its_ends() {
        let now = Boottime::now();
        assert!(Boottime::now() >= now && now.as_nanos() > 0);
        assert_eq!((now + Duration::from_secs(2)).since(now), Duration::from_secs(2));
        assert_eq!(now.since(now + Duration::from_secs(2)), Duration::ZERO);
        assert_eq!(now + Duration::MAX, Boottime::NEVER);
        assert_eq!(Boottime::NEVER.earlier(Duration::from_secs(5)), Boottime::NEVER);
        assert_eq!(Boottime::from_nanos(5).earlier(Duration::from_secs(5)), Boottime::from_nanos(0));
    }
}
