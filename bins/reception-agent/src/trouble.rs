//! How often a failure that lasts is told: at once, then at growing intervals. Pure, but for the log.

use std::time::Duration;

/// Until a failure is told for the second time; it doubles.
const FIRST: Duration = Duration::from_secs(10);
/// The longest time for which a failure that lasts is not told.
const LONGEST: Duration = Duration::from_secs(300);

/// What is to be said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Say {
    /// It fails; for how long.
    Fails {
        /// Since when.
        lasting: Duration,
        /// Why.
        why: String,
    },
    /// It works again; how long it did not.
    Works {
        /// How long.
        lasted: Duration,
    },
}

/// A failure that comes, lasts and goes. Time is any clock that never goes back.
#[derive(Clone, Debug, Default)]
pub struct Trouble(Option<Lasting>);

#[derive(Clone, Debug)]
struct Lasting {
    since: Duration,
    next: Duration,
    interval: Duration,
    why: String,
}

impl Trouble {
    /// How it stands now, and what is to be said of it. To be called at each change, and when [`Trouble::due`] is.
    pub fn see(&mut self, now: Duration, why: Option<String>) -> Option<Say> {
        match (&mut self.0, why) {
            (None, None) => None,
            (None, Some(why)) => {
                self.0 = Some(Lasting { since: now, next: now + FIRST, interval: FIRST, why: why.clone() });
                Some(Say::Fails { lasting: Duration::ZERO, why })
            }
            (Some(lasting), Some(why)) => {
                lasting.why = why;
                self.tick(now)
            }
            (Some(lasting), None) => {
                let lasted = now.saturating_sub(lasting.since);
                self.0 = None;
                Some(Say::Works { lasted })
            }
        }
    }

    /// When it is to be told again; none while all is well.
    pub fn due(&self) -> Option<Duration> {
        self.0.as_ref().map(|lasting| lasting.next)
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Duration) -> Option<Say> {
        let lasting = self.0.as_mut().filter(|lasting| lasting.next <= now)?;
        lasting.interval = (lasting.interval * 2).min(LONGEST);
        lasting.next = now + lasting.interval;
        Some(Say::Fails { lasting: now.saturating_sub(lasting.since), why: lasting.why.clone() })
    }
}

/// Writes it to the log; `what` is what fails, as in `registering web`.
pub fn log(say: Option<Say>, what: &str) {
    match say {
        None => {}
        Some(Say::Fails { lasting, why }) if lasting.is_zero() => {
            tracing::warn!("{what} does not work, trying on: {why}");
        }
        Some(Say::Fails { lasting, why }) => {
            tracing::warn!("{what} has not worked for {} s, trying on: {why}", lasting.as_secs());
        }
        Some(Say::Works { lasted }) => {
            tracing::info!("{what} works again after {:.1} s", lasted.as_secs_f64());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_failure_that_lasts_is_told_less_and_less_often() {
        let mut trouble = Trouble::default();
        assert_eq!(trouble.see(at(0), None), None);
        let mut told = Vec::new();
        for second in 0..2000 {
            if trouble.see(at(second), Some("away".into())).is_some() {
                told.push(second);
            }
        }
        assert_eq!(told, [0, 10, 30, 70, 150, 310, 610, 910, 1210, 1510, 1810]);
        assert_eq!(trouble.see(at(2000), None), Some(Say::Works { lasted: at(2000) }));
        assert_eq!((trouble.due(), trouble.see(at(2001), None)), (None, None));
        assert_eq!(
            trouble.see(at(2002), Some("b".into())),
            Some(Say::Fails { lasting: at(0), why: "b".into() })
        );
    }

    #[test]
    fn the_newest_reason_is_told() {
        let mut trouble = Trouble::default();
        trouble.see(at(0), Some("a".into()));
        assert_eq!(trouble.see(at(1), Some("b".into())), None);
        assert_eq!(trouble.due(), Some(at(10)));
        assert_eq!(trouble.tick(at(10)), Some(Say::Fails { lasting: at(10), why: "b".into() }));
    }
}
