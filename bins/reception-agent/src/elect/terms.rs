//! The times of leading: how long before the end of a term all has to be over. Pure.

use std::time::Duration;

use reception::Candidate;
use supervise::Boottime;

/// The margin: one part of the ttl in so many, for the rate of clocks, and what ending processes takes.
const MARGIN_SHARE: u32 = 100;
const MARGIN_BASE: Duration = Duration::from_millis(50);

/// The times of leading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How long the store keeps a leader without a renewal.
    pub ttl: Duration,
    /// Between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// Between SIGKILL and the end of the term.
    pub margin: Duration,
}

impl Terms {
    /// For this ttl and grace.
    pub fn of(ttl: Duration, grace: Duration) -> Self {
        Self { ttl, grace, margin: ttl / MARGIN_SHARE + MARGIN_BASE }
    }

    /// Whether they leave enough of a term: a renewal has to come and, when it failed, to be tried again before SIGTERM.
    ///
    /// # Errors
    /// The sentence that says why not.
    pub fn check(&self) -> Result<(), String> {
        let most = (self.ttl / 2).saturating_sub(self.margin);
        if self.grace <= most {
            return Ok(());
        }
        Err(format!(
            "grace {:?} and the margin {:?} take more than half of the ttl {:?}: a renewal that failed could not be tried again in time; {most:?} is the longest grace for this ttl",
            self.grace, self.margin, self.ttl
        ))
    }

    /// When all that is done under the term has to be dead.
    pub fn kill_at(&self, until: Boottime) -> Boottime {
        until.earlier(self.margin)
    }

    /// The token and the deadline of a candidate that leads at this instant, as far as others may rely on it.
    pub fn leads(&self, candidate: &Candidate, now: Boottime) -> Option<(u64, Boottime)> {
        match candidate {
            Candidate::Leading { token, until } => {
                let kill_at = self.kill_at(*until);
                (now < kill_at).then_some((*token, kill_at))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_leads_within_the_margin() {
        let terms = Terms::of(Duration::from_secs(10), Duration::from_secs(2));
        assert_eq!(terms.margin, Duration::from_millis(150));
        let until = Boottime::from_nanos(10_000_000_000);
        let led = Candidate::Leading { token: 7, until };
        let end = until.earlier(Duration::from_millis(150));
        assert_eq!(terms.leads(&led, end.earlier(Duration::from_nanos(1))), Some((7, end)));
        assert_eq!(terms.leads(&led, end), None);
        assert_eq!(terms.leads(&Candidate::Waiting, end), None);
        let kept = Candidate::Leading { token: 7, until: Boottime::NEVER };
        assert_eq!(terms.leads(&kept, until), Some((7, Boottime::NEVER)));
    }

    #[test]
    fn a_grace_that_leaves_no_second_try_is_refused() {
        let ttl = Duration::from_secs(10);
        assert!(Terms::of(ttl, Duration::from_millis(4850)).check().is_ok());
        let problem = Terms::of(ttl, Duration::from_millis(4851)).check().unwrap_err();
        assert!(problem.contains("4.85s is the longest"), "{problem}");
    }
}
