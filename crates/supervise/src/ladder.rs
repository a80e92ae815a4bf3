//! When the child gets SIGTERM and when SIGKILL: pure, with the time as an argument.

use crate::boottime::Boottime;
use std::time::Duration;

/// Why the guard ends the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The child ended by itself.
    Exited,
    /// The runner said so.
    Stopped,
    /// Nobody moved the deadline in time.
    Deadline,
    /// The runner is gone.
    RunnerGone,
}

/// What has to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// SIGTERM to the child's group.
    Terminate(Cause),
    /// SIGKILL to the child and all its descendants, until none is left.
    Kill(Cause),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    /// SIGTERM is out; SIGKILL follows at `until`, or at the deadline when that is earlier.
    Stopping {
        until: Boottime,
        cause: Cause,
    },
    Killing,
}

/// The stop ladder of one child. It only goes down: nothing takes a SIGTERM back.
#[derive(Debug)]
pub(crate) struct Ladder {
    kill_at: Boottime,
    grace: Duration,
    phase: Phase,
}

impl Ladder {
    /// SIGTERM at `kill_at - grace`, SIGKILL at `kill_at`.
    pub(crate) fn new(kill_at: Boottime, grace: Duration) -> Self {
        Self { kill_at, grace, phase: Phase::Running }
    }

    /// Moves the deadline. While the child is stopping, it still bounds the grace, but does not lengthen it.
    pub(crate) fn rearm(&mut self, kill_at: Boottime) {
        self.kill_at = kill_at;
    }

    /// The deadline in force.
    pub(crate) fn kill_at(&self) -> Boottime {
        self.kill_at
    }

    /// The runner wants the child stopped: SIGTERM now, SIGKILL after the grace.
    pub(crate) fn stop(&mut self, now: Boottime) -> Option<Act> {
        if self.phase != Phase::Running {
            return None;
        }
        Some(self.terminate(now + self.grace, Cause::Stopped))
    }

    /// SIGKILL at once.
    pub(crate) fn kill(&mut self, cause: Cause) -> Option<Act> {
        match std::mem::replace(&mut self.phase, Phase::Killing) {
            Phase::Killing => None,
            Phase::Running => Some(Act::Kill(cause)),
            // What began the stop stays the reason, unless nobody is left who would care.
            Phase::Stopping { cause: first, .. } => {
                Some(Act::Kill(if cause == Cause::RunnerGone { cause } else { first }))
            }
        }
    }

    /// What the time has made due.
    pub(crate) fn tick(&mut self, now: Boottime) -> Option<Act> {
        let kill_at = self.kill_at;
        match self.phase {
            Phase::Running if now >= kill_at => self.kill(Cause::Deadline),
            Phase::Running if now >= kill_at.earlier(self.grace) => {
                Some(self.terminate(kill_at, Cause::Deadline))
            }
            Phase::Stopping { until, cause } if now >= until.min(kill_at) => self.kill(cause),
            _ => None,
        }
    }

    /// When [`Self::tick`] has something to say next, if ever.
    pub(crate) fn wakes_at(&self) -> Option<Boottime> {
        let at = match self.phase {
            Phase::Running => self.kill_at.earlier(self.grace),
            Phase::Stopping { until, .. } => until.min(self.kill_at),
            Phase::Killing => Boottime::NEVER,
        };
        (at != Boottime::NEVER).then_some(at)
    }

    fn terminate(&mut self, until: Boottime, cause: Cause) -> Act {
        self.phase = Phase::Stopping { until, cause };
        Act::Terminate(cause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Boottime {
        Boottime::from_nanos(seconds * 1_000_000_000)
    }

    fn ladder(kill_at: u64, grace: u64) -> Ladder {
        Ladder::new(at(kill_at), Duration::from_secs(grace))
    }

    #[test]
    fn the_deadline_terminates_and_then_kills() {
        let mut ladder = ladder(100, 5);
        assert_eq!(ladder.wakes_at(), Some(at(95)));
        assert_eq!(ladder.tick(at(94)), None);
        assert_eq!(ladder.tick(at(95)), Some(Act::Terminate(Cause::Deadline)));
        assert_eq!(ladder.wakes_at(), Some(at(100)));
        assert_eq!(ladder.tick(at(99)), None);
        assert_eq!(ladder.tick(at(100)), Some(Act::Kill(Cause::Deadline)));
        assert_eq!((ladder.tick(at(101)), ladder.wakes_at()), (None, None));
    }

    #[test]
    fn a_host_that_slept_over_the_deadline_kills_without_grace() {
        assert_eq!(ladder(100, 5).tick(at(7000)), Some(Act::Kill(Cause::Deadline)));
    }

    #[test]
    fn moving_the_deadline_keeps_the_child_and_takes_no_sigterm_back() {
        let mut ladder = ladder(100, 5);
        ladder.rearm(at(200));
        assert_eq!((ladder.tick(at(150)), ladder.wakes_at()), (None, Some(at(195))));
        assert!(ladder.tick(at(195)).is_some());
        ladder.rearm(at(300));
        assert_eq!(ladder.tick(at(200)), Some(Act::Kill(Cause::Deadline)));
    }

    #[test]
    fn a_stop_has_its_grace_but_never_beyond_the_deadline() {
        let mut long = ladder(100, 5);
        assert_eq!(long.stop(at(50)), Some(Act::Terminate(Cause::Stopped)));
        assert_eq!((long.stop(at(51)), long.tick(at(54))), (None, None));
        assert_eq!(long.tick(at(55)), Some(Act::Kill(Cause::Stopped)));
        let mut short = ladder(100, 50);
        short.stop(at(50));
        short.rearm(at(60));
        assert_eq!((short.wakes_at(), short.tick(at(60))), (Some(at(60)), Some(Act::Kill(Cause::Stopped))));
    }

    #[test]
    fn a_kill_needs_no_grace_and_comes_once() {
        let mut ladder = ladder(100, 5);
        ladder.stop(at(1));
        assert_eq!(ladder.kill(Cause::Deadline), Some(Act::Kill(Cause::Stopped)));
        assert_eq!(
            (ladder.kill(Cause::Stopped), ladder.stop(at(2)), ladder.tick(at(500))),
            (None, None, None)
        );
        let mut orphan = super::tests::ladder(100, 5);
        orphan.stop(at(1));
        assert_eq!(orphan.kill(Cause::RunnerGone), Some(Act::Kill(Cause::RunnerGone)));
    }

    #[test]
    fn without_a_deadline_only_words_end_it() {
        let mut ladder = Ladder::new(Boottime::NEVER, Duration::from_secs(5));
        assert_eq!((ladder.wakes_at(), ladder.tick(at(1_000_000))), (None, None));
        assert_eq!(ladder.stop(at(50)), Some(Act::Terminate(Cause::Stopped)));
        assert_eq!(ladder.wakes_at(), Some(at(55)));
    }
}
