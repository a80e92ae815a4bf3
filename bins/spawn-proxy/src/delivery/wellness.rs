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

    /// The verdict once the node has passed a health check: all failures count unless the node
    /// answered every other request meanwhile with 5xx. Without any other request, the check decides.
    pub fn counted(&self, now: Tally) -> u32 {
        let fine = now.fine - self.tally.fine;
        let others = (now.server_errors - self.tally.server_errors).saturating_sub(self.own_errors);
        if fine > 0 || others == 0 { self.failures } else { 0 }
    }
}
