//! One runner's half of the lease.

use std::time::Duration;

use super::arithmetic::Timing;
use super::backoff::Backoff;
use super::messages::{Command, End, Input, RequestId, State};
use super::rules::{Reply, Seen, Standing, View};

/// The first pause before a dial; later ones double up to [`Timing::longest_redial`].
const FIRST_REDIAL: Duration = Duration::from_millis(10);

/// What a runner contends with.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The times, without [problems](Timing::problems).
    pub timing: Timing,
    /// The name in the record, used by this process only.
    pub owner: String,
    /// Take the lease at once where the store has no record and this runner has seen none: for demos and tests.
    pub fresh: bool,
    /// For a store that does not say when a lease ends: how often to look.
    pub look_every: Option<Duration>,
}

/// A lease that the store gave.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    pub(super) token: u64,
    /// By the store's clock; goes back to the store with the next renewal.
    pub(super) end_us: u64,
    /// When the request was sent that last made it longer. The deadline counts from here.
    pub(super) sent: Duration,
    pub(super) renew_at: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    Contend { pause: Duration },
    End,
}

#[derive(Clone, Debug)]
pub(super) enum Phase {
    Waiting,
    Away {
        until: Duration,
    },
    /// To end, but a request for the lease is under way.
    Leaving,
    Held(Grant),
    Stopping {
        grant: Grant,
        /// The grace ends here, if the deadline does not come first.
        kill_at: Duration,
        /// Somebody else may have it: neither renewed nor released.
        lost: bool,
        then: Then,
    },
    Releasing {
        grant: Grant,
        then: Then,
    },
    Ended(End),
}

#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) id: RequestId,
    pub(super) sent: Duration,
}

#[derive(Clone, Debug)]
pub(super) enum Link {
    Down { dial_at: Duration },
    Dialing { since: Duration },
    Up { asked: Option<Asked> },
}

/// A state of the record that was seen, and since when nothing else was.
#[derive(Clone, Debug)]
pub(super) struct Observed {
    pub(super) seen: Seen,
    since: Duration,
    expiry: Duration,
}

/// The state machine of one runner for one id.
///
/// Time is CLOCK_BOOTTIME of the runner's host; it must not go back between calls. Whoever drives it
/// performs every command in order, calls again with [`Input::Tick`] at [`Lease::wake_at`], and passes
/// on what happens.
#[derive(Clone, Debug)]
pub struct Lease {
    pub(super) terms: Terms,
    pub(super) phase: Phase,
    pub(super) link: Link,
    pub(super) redial: Backoff,
    pub(super) last_id: RequestId,
    /// The greatest token seen, so that a store that forgot gives none below.
    pub(super) floor: u64,
    pub(super) look_at: Duration,
    pub(super) observed: Option<Observed>,
    /// The record names this process as owner, from a request whose answer was lost: this state is ours to take.
    pub(super) orphan: Option<Seen>,
    /// The record changed since the request under way was sent.
    pub(super) change_seen: bool,
    pub(super) last: Option<(Standing, String)>,
    pub(super) out: Vec<Command>,
}

impl Lease {
    /// A runner that begins to contend at `now`.
    pub fn new(terms: Terms, now: Duration) -> Self {
        let redial = Backoff::new(FIRST_REDIAL, terms.timing.longest_redial());
        Self {
            terms,
            phase: Phase::Waiting,
            link: Link::Down { dial_at: now },
            redial,
            last_id: 0,
            floor: 0,
            look_at: now,
            observed: None,
            orphan: None,
            change_seen: false,
            last: None,
            out: Vec::new(),
        }
    }

    /// Takes one input at `now`, with `chance` from 0 to 1 for jitter, and gives what is to be done.
    pub fn handle(&mut self, now: Duration, input: Input, chance: f64) -> Vec<Command> {
        // What has run out by now has run out, whatever the input says.
        self.run_out(now);
        match input {
            Input::Tick => {}
            Input::Connected => {
                if let Link::Dialing { .. } = self.link {
                    self.link = Link::Up { asked: None };
                }
            }
            Input::Disconnected => self.link_down(now, chance),
            Input::Answered { id, reply } => self.answered(now, id, reply),
            Input::Changed => {
                self.look_at = self.look_at.min(now);
                self.change_seen = true;
            }
            Input::GiveUp { pause } => self.give_up(now, Then::Contend { pause }),
            Input::Stop => self.give_up(now, Then::End),
            Input::ChildDead => self.child_dead(now),
        }
        self.step(now, chance);
        std::mem::take(&mut self.out)
    }

    /// What others may know at `now`. A lease that has run out is not shown as held, even before the next tick.
    pub fn state(&self, now: Duration) -> State {
        let timing = &self.terms.timing;
        match &self.phase {
            Phase::Waiting | Phase::Leaving => {
                let (standing, holder) = match (&self.link, &self.last) {
                    (Link::Up { .. }, Some((standing, holder))) => (Some(*standing), holder.clone()),
                    _ => (None, String::new()),
                };
                State::Waiting { standing, holder }
            }
            Phase::Away { until } => State::Away { until: *until },
            Phase::Held(grant) => {
                let (token, deadline) = (grant.token, grant.sent + timing.kill_after());
                let stop_at = grant.sent + timing.stop_after();
                if now < stop_at {
                    State::Held { token, stop_at, deadline }
                } else {
                    State::Stopping { token, deadline }
                }
            }
            Phase::Stopping { grant, kill_at, .. } => {
                State::Stopping { token: grant.token, deadline: *kill_at }
            }
            Phase::Releasing { .. } => State::Releasing,
            Phase::Ended(end) => State::Ended(end.clone()),
        }
    }

    /// The greatest token that was seen.
    pub fn floor(&self) -> u64 {
        self.floor
    }

    fn answered(&mut self, now: Duration, id: RequestId, reply: Reply) {
        let Link::Up { asked } = &mut self.link else { return };
        // An answer to a request that was given up counts for nothing.
        let Some(asked) = asked.take_if(|asked| asked.id == id) else { return };
        self.redial.reset();
        match reply {
            Reply::Acquired { token, end_us } => {
                let renew_at = asked.sent + self.terms.timing.extend_every;
                self.acquired(now, Grant { token, end_us, sent: asked.sent, renew_at });
            }
            Reply::Busy(view) => self.busy(now, asked.sent, view),
            Reply::OtherExpiry { recorded_ms } => {
                let recorded = Duration::from_millis(recorded_ms);
                self.end(End::OtherExpiry { recorded });
            }
            Reply::Renewed { end_us } => self.renewed(now, asked.sent, end_us),
            Reply::Lost(view) => self.refused(now, &view),
            Reply::Released => self.released(now),
            Reply::Shown(_) => {}
        }
    }

    fn acquired(&mut self, now: Duration, grant: Grant) {
        (self.observed, self.orphan) = (None, None);
        self.floor = self.floor.max(grant.token);
        let then = match self.phase {
            Phase::Waiting => Then::Contend { pause: Duration::ZERO },
            Phase::Leaving => Then::End,
            _ => return,
        };
        let timing = self.terms.timing;
        let (stop_at, kill_at) = (grant.sent + timing.stop_after(), grant.sent + timing.kill_after());
        if then == Then::End || now >= stop_at {
            self.phase = Phase::Releasing { grant, then };
            return;
        }
        self.out.push(Command::Arm { stop_at, kill_at });
        self.out.push(Command::Start { token: grant.token });
        self.phase = Phase::Held(grant);
    }

    fn busy(&mut self, now: Duration, sent: Duration, view: View) {
        self.floor = self.floor.max(view.token);
        self.last = Some((view.standing, view.address.clone()));
        let orphan = view.standing == Standing::Held && view.owner == self.terms.owner;
        if let Phase::Leaving = self.phase {
            if !orphan {
                return self.end(End::Stopped);
            }
            let grant = Grant { token: view.token, end_us: 0, sent, renew_at: Duration::MAX };
            self.phase = Phase::Releasing { grant, then: Then::End };
            return;
        }
        let next_look = self.next_look(now, sent, &view);
        self.orphan = orphan.then(|| view.seen.clone());
        if self.observed.as_ref().is_none_or(|observed| observed.seen != view.seen) {
            let expiry = view.expiry.max(self.terms.timing.expiry);
            self.observed = Some(Observed { seen: view.seen, since: now, expiry });
        }
        let due = self.takeable_at().filter(|at| *at > now);
        self.look_at =
            if self.change_seen || orphan { now } else { due.map_or(next_look, |at| at.min(next_look)) };
    }

    /// When to ask again: shortly before the end that the store told, to learn it more exactly, and then at it.
    fn next_look(&self, now: Duration, sent: Duration, view: &View) -> Duration {
        if let Some(every) = self.terms.look_every {
            return now + every;
        }
        let timing = &self.terms.timing;
        let remaining = view.remaining.min(view.expiry.max(timing.expiry));
        let early = remaining / 50;
        let early = if early > Duration::from_millis(10) { early } else { Duration::ZERO };
        let at = sent + remaining - early;
        at.clamp(now + Duration::from_millis(1), now + timing.longest_look())
    }

    /// The state that may be taken from, because it stood for a whole expiry on this clock, or is our own.
    pub(super) fn takeable(&self, now: Duration) -> Option<Seen> {
        if let Some(orphan) = &self.orphan {
            return Some(orphan.clone());
        }
        let observed = self.observed.as_ref().filter(|_| self.terms.look_every.is_none())?;
        (now >= observed.since + observed.expiry).then(|| observed.seen.clone())
    }

    /// When the state that is seen will have stood for a whole expiry.
    fn takeable_at(&self) -> Option<Duration> {
        let observed = self.observed.as_ref().filter(|_| self.terms.look_every.is_none())?;
        Some(observed.since + observed.expiry)
    }

    fn renewed(&mut self, now: Duration, sent: Duration, end: u64) {
        let timing = self.terms.timing;
        let deadline = sent + timing.kill_after();
        match &mut self.phase {
            Phase::Held(grant) => {
                let stop_at = sent + timing.stop_after();
                (grant.sent, grant.end_us, grant.renew_at) = (sent, end, sent + timing.extend_every);
                self.out.push(Command::Arm { stop_at, kill_at: deadline });
            }
            Phase::Stopping { grant, kill_at, .. } => {
                (grant.sent, grant.end_us, grant.renew_at) = (sent, end, sent + timing.extend_every);
                let kill_at = (*kill_at).min(deadline);
                self.out.push(Command::Arm { stop_at: now, kill_at });
            }
            Phase::Releasing { grant, .. } => grant.sent = sent,
            _ => {}
        }
    }

    /// The store says that the lease is not ours.
    fn refused(&mut self, now: Duration, view: &View) {
        self.floor = self.floor.max(view.token);
        match &self.phase {
            Phase::Held(grant) => {
                let grant = grant.clone();
                let then = Then::Contend { pause: Duration::ZERO };
                self.phase = Phase::Stopping { grant, kill_at: now, lost: true, then };
                self.out.push(Command::Arm { stop_at: now, kill_at: now });
            }
            Phase::Stopping { .. } => {
                if let Phase::Stopping { kill_at, lost, .. } = &mut self.phase {
                    (*kill_at, *lost) = ((*kill_at).min(now), true);
                }
                self.out.push(Command::Arm { stop_at: now, kill_at: now });
            }
            Phase::Releasing { .. } => self.released(now),
            _ => {}
        }
    }

    fn give_up(&mut self, now: Duration, then: Then) {
        match &mut self.phase {
            Phase::Held(grant) => {
                let timing = &self.terms.timing;
                let wished = now + timing.grace;
                let kill_at = wished.min(grant.sent + timing.kill_after());
                let grant = grant.clone();
                self.phase = Phase::Stopping { grant, kill_at: wished, lost: false, then };
                self.out.push(Command::Arm { stop_at: now, kill_at });
            }
            Phase::Stopping { then: planned, .. } | Phase::Releasing { then: planned, .. }
                if *planned != Then::End =>
            {
                *planned = then;
            }
            Phase::Waiting if then == Then::End => {
                if matches!(&self.link, Link::Up { asked: Some(_) }) {
                    self.phase = Phase::Leaving;
                } else {
                    self.end(End::Stopped);
                }
            }
            Phase::Away { .. } if then == Then::End => self.end(End::Stopped),
            _ => {}
        }
    }

    fn child_dead(&mut self, now: Duration) {
        if let Phase::Stopping { grant, lost, then, .. } = &self.phase {
            let (grant, lost, then) = (grant.clone(), *lost, *then);
            self.phase = Phase::Releasing { grant, then };
            if lost {
                self.released(now);
            }
        }
    }

    /// The lease is nobody's, or somebody else's.
    pub(super) fn released(&mut self, now: Duration) {
        let Phase::Releasing { then, .. } = &self.phase else { return };
        match *then {
            Then::End => self.end(End::Stopped),
            Then::Contend { pause } if pause.is_zero() => {
                (self.phase, self.look_at) = (Phase::Waiting, now);
            }
            Then::Contend { pause } => self.phase = Phase::Away { until: now + pause },
        }
    }

    pub(super) fn end(&mut self, end: End) {
        self.phase = Phase::Ended(end);
        if !matches!(self.link, Link::Down { .. }) {
            self.link = Link::Down { dial_at: Duration::MAX };
            self.out.push(Command::Hangup);
        }
    }
}
