//! Whether a holder is there that could take messages, as far as their sender can know.

use std::time::Duration;

#[derive(Debug, Default)]
pub(super) struct Sight {
    /// The connection stands: the holder's end has let us in.
    pub(super) up: bool,
    /// The lock has said that nobody holds the lease.
    pub(super) vacant: bool,
    /// The holder has refused all messages, and acknowledged nothing since.
    pub(super) refusing: bool,
    seen: Duration,
}

impl Sight {
    /// When a holder was last in sight: one that does not take messages then has a child without room. To be asked
    /// before what is known changes, too.
    pub(super) fn last(&mut self, now: Duration) -> Duration {
        if self.up && !self.vacant && !self.refusing {
            self.seen = now;
        }
        self.seen
    }
}
