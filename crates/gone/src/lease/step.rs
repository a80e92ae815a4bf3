//! What follows from the time alone: what has run out, what is due, and when to look again.

use std::time::Duration;

use super::machine::{Asked, Lease, Link, Phase, Then};
use super::messages::{Command, End};
use super::rules::Request;

impl Lease {
    /// When [`Lease::handle`] has to be called again; none when the lease has ended.
    pub fn wake_at(&self) -> Option<Duration> {
        let patience = self.terms.timing.patience();
        let link = match &self.link {
            Link::Down { dial_at } => *dial_at,
            Link::Dialing { since } => *since + patience,
            Link::Up { asked: Some(asked) } => asked.sent + patience,
            Link::Up { asked: None } => self.due_at(),
        };
        match &self.phase {
            Phase::Ended(_) => None,
            Phase::Away { until } => Some(link.min(*until)),
            Phase::Held(grant) => Some(link.min(grant.sent + self.terms.timing.stop_after())),
            Phase::Releasing { grant, .. } => Some(link.min(grant.sent + self.terms.timing.expiry)),
            _ => Some(link),
        }
    }

    /// Ends what has run out by `now`.
    pub(super) fn run_out(&mut self, now: Duration) {
        let timing = self.terms.timing;
        match &self.phase {
            Phase::Held(grant) if now >= grant.sent + timing.stop_after() => {
                let (stop_at, kill_at) = (grant.sent + timing.stop_after(), grant.sent + timing.kill_after());
                let (grant, then) = (grant.clone(), Then::Contend { pause: Duration::ZERO });
                self.phase = Phase::Stopping { grant, kill_at, lost: false, then };
                // The guard knows these times; one that was lost with its message hears them again.
                self.out.push(Command::Arm { stop_at, kill_at });
            }
            Phase::Releasing { grant, .. } if now >= grant.sent + timing.expiry => self.released(now),
            Phase::Away { until } if now >= *until => {
                (self.phase, self.look_at) = (Phase::Waiting, now);
            }
            _ => {}
        }
    }

    /// Does what is due at `now`.
    pub(super) fn step(&mut self, now: Duration, chance: f64) {
        // What was under way was answered, by whatever.
        if matches!((&self.phase, &self.link), (Phase::Leaving, Link::Up { asked: None })) {
            self.end(End::Stopped);
        }
        if let Phase::Ended(_) = self.phase {
            return;
        }
        let patience = self.terms.timing.patience();
        let silent = match &self.link {
            Link::Dialing { since } => now >= *since + patience,
            Link::Up { asked: Some(asked) } => now >= asked.sent + patience,
            _ => false,
        };
        if silent {
            self.out.push(Command::Hangup);
            self.link_down(now, chance);
        }
        match &self.link {
            Link::Down { dial_at } if now >= *dial_at => {
                self.link = Link::Dialing { since: now };
                self.out.push(Command::Dial);
            }
            Link::Up { asked: None } if now >= self.due_at() => self.ask(now),
            _ => {}
        }
    }

    /// The session is gone, and with it the answer to what was asked: ask again as soon as there is another.
    pub(super) fn link_down(&mut self, now: Duration, chance: f64) {
        if let Link::Down { .. } = self.link {
            return;
        }
        self.link = Link::Down { dial_at: now + self.redial.next(chance) };
        match &self.phase {
            Phase::Leaving => self.end(End::Stopped),
            // Whatever was announced meanwhile was missed. A renewal that is due stays due.
            _ => self.look_at = self.look_at.min(now),
        }
    }

    /// When the next request is due, on a session that is idle.
    fn due_at(&self) -> Duration {
        match &self.phase {
            Phase::Waiting => self.look_at,
            Phase::Held(grant) => grant.renew_at,
            Phase::Stopping { grant, lost: false, .. } => grant.renew_at,
            Phase::Releasing { .. } => Duration::ZERO,
            _ => Duration::MAX,
        }
    }

    fn ask(&mut self, now: Duration) {
        let request = match &self.phase {
            Phase::Waiting => Request::Acquire {
                observed: self.takeable(now),
                floor: self.floor,
                // Whoever has seen a lease knows that a store without a record has lost it.
                fresh: self.terms.fresh && self.floor == 0,
            },
            Phase::Held(grant) | Phase::Stopping { grant, .. } => {
                Request::Renew { token: grant.token, end_us: grant.end_us }
            }
            Phase::Releasing { grant, .. } => Request::Release { token: grant.token },
            Phase::Away { .. } | Phase::Leaving | Phase::Ended(_) => return,
        };
        self.last_id += 1;
        self.change_seen = false;
        self.link = Link::Up { asked: Some(Asked { id: self.last_id, sent: now }) };
        self.out.push(Command::Send { id: self.last_id, request });
    }
}
