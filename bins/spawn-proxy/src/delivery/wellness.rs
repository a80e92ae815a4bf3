//! Was it the update or the node? A failure counts against an update only when the node was well.

use std::time::Duration;

/// How a node has answered everything so far, reads and updates alike.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Answers that were not 5xx.
    pub fine: u64,
    /// Answers that were 5xx.
    pub server_errors: u64,
}

/// Failures of one update that wait for the verdict on the node.
#[derive(Debug, Clone, Copy)]
pub struct Suspicion {
    /// When the first of the attempts began.
    pub since: Duration,
    tally: Tally,
    failures: u32,
    own_errors: u64,
}

impl Suspicion {
    /// An attempt begins, the node having answered `tally` so far.
    pub fn begin(now: Duration, tally: Tally) -> Self {
        Self { since: now, tally, failures: 0, own_errors: 0 }
    }

    /// The attempt failed; `server_error` when by a 5xx.
    pub fn failed(&mut self, server_error: bool) {
        self.failures += 1;
        self.own_errors += u64::from(server_error);
    }

    /// How many attempts have failed.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// What can be said once the node has passed a health check.
    pub fn verdict(&self, now: Tally) -> Verdict {
        let fine = now.fine - self.tally.fine;
        let others = (now.server_errors - self.tally.server_errors).saturating_sub(self.own_errors);
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
    /// The node answered something else meanwhile, and not with 5xx.
    NodeWasWell,
    /// The node answered everything else meanwhile with 5xx, too.
    NodeWasUnwell,
    /// There was nothing else to answer: only the health check speaks for the node.
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_others_speak_for_or_against_the_node() {
        let before = Tally { fine: 5, server_errors: 2 };
        let mut suspicion = Suspicion::begin(Duration::ZERO, before);
        suspicion.failed(true);
        suspicion.failed(true);
        let at = |fine, server_errors| suspicion.verdict(Tally { fine, server_errors });
        assert_eq!(at(5, 4), Verdict::Unknown);
        assert_eq!(at(5, 5), Verdict::NodeWasUnwell);
        assert_eq!(at(6, 9), Verdict::NodeWasWell);
        assert_eq!(suspicion.failures(), 2);
    }
}
