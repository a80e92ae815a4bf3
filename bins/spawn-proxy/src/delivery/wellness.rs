//! Was it the update or the node? A failure counts against an update only when the node was well.

use std::time::Duration;

/// How a node has answered everything so far, reads and updates alike.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Answers that were neither 5xx nor 429.
    pub fine: u64,
    /// 5xx, 429, and requests that got no answer.
    pub failed: u64,
}

/// Failures of one update that wait for the verdict on the node.
#[derive(Debug, Clone, Copy)]
pub struct Suspicion {
    /// When the first of the attempts began.
    pub since: Duration,
    tally: Tally,
    failures: u32,
}

impl Suspicion {
    /// An attempt begins, the node having answered `tally` so far.
    pub fn begin(now: Duration, tally: Tally) -> Self {
        Self { since: now, tally, failures: 0 }
    }

    /// The attempt failed.
    pub fn failed(&mut self) {
        self.failures += 1;
    }

    /// How many attempts have failed.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// What can be said once the node has passed a health check.
    pub fn verdict(&self, now: Tally) -> Verdict {
        let fine = now.fine - self.tally.fine;
        let others = (now.failed - self.tally.failed).saturating_sub(self.failures.into());
        match (fine, others) {
            (0, 0) => Verdict::Unknown,
            (0, _) => Verdict::NodeWasUnwell,
            _ => Verdict::NodeWasWell,
        }
    }
}

/// Whether failures count against the update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The node answered something else meanwhile.
    NodeWasWell,
    /// The node failed everything else meanwhile, too.
    NodeWasUnwell,
    /// There was nothing else to answer: only the health check speaks for the node.
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_others_speak_for_or_against_the_node() {
        let before = Tally { fine: 5, failed: 2 };
        let mut suspicion = Suspicion::begin(Duration::ZERO, before);
        suspicion.failed();
        suspicion.failed();
        let at = |fine, failed| suspicion.verdict(Tally { fine, failed });
        assert_eq!(at(5, 4), Verdict::Unknown);
        assert_eq!(at(5, 5), Verdict::NodeWasUnwell);
        assert_eq!(at(6, 9), Verdict::NodeWasWell);
        assert_eq!(suspicion.failures(), 2);
    }
}
