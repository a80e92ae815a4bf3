//! What whoever holds a record, or stands for election, does next: pure. Time, chance and answers come in as arguments.
//!
//! The rules, which a seeded simulation attacks (`tests/course.rs`):
//!
//! 1. **A term ends before another can begin.** It lasts until the instant of the last renewal that succeeded, counted from its sending. Nothing
//!    but a renewal moves that instant.
//! 2. **An ended term does not come back.** Who led and could not renew in time leaves the line, surely, before it enters anew: its next token is a
//!    larger one.
//! 3. **A record that may be gone is asked for, not written blindly.** Only the server's word that it is lost leads to a new one.
//! 4. **Nobody waits longer than [`LONGEST_PAUSE`] between two tries.** All failures are tried again for ever.
//! 5. **Who loses its record again and again enters more and more seldom**, up to [`LONGEST_LOSS_PAUSE`]: two processes with one id, which take it
//!    from each other, do not keep the store busy. One that was renewed once is entered anew at once.

use std::time::Duration;

use supervise::Boottime;

use crate::backend::{Renewal, Standing, Tenure, Turn};
use crate::error::Error;

/// The first pause after a failure; it doubles.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
/// The longest pause after a failure.
pub const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause before a record is entered anew when several were lost before their first renewal; it doubles too.
pub const LONGEST_LOSS_PAUSE: Duration = Duration::from_secs(10);
/// How often a record is tried to be taken away when its holder ends; then it ends by itself after its time.
const LAST_TRIES: u32 = 4;

/// What to ask the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// [`crate::backend::Presence::enter`].
    Enter,
    /// [`crate::backend::Presence::renew`].
    Renew,
    /// [`crate::backend::Candidacy::standing`].
    Standing,
    /// [`crate::backend::Presence::leave`].
    Leave,
}

/// What came of it.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Of [`Ask::Enter`].
    Entered(Result<Tenure, Error>),
    /// Of [`Ask::Renew`].
    Renewed(Result<Renewal, Error>),
    /// Of [`Ask::Standing`].
    Stood(Result<Standing, Error>),
    /// Of [`Ask::Leave`].
    Left(Result<(), Error>),
    /// Of the wait for a turn or an alarm, which nobody asked for.
    Turned(Result<Turn, Error>),
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask the store.
    Ask(Ask),
    /// Wait until then; where [`Course::is_entered`] for an alarm too, and where `turns` for the candidate's turn.
    Wait {
        /// [`Course::tick`] is due.
        until: Boottime,
        /// Whether a change of the standing matters.
        turns: bool,
    },
    /// All is done.
    Done,
}

/// What others may know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Not in the store, as far as is known; why, when that is not because it only begins.
    Away(Option<Error>),
    /// In the store; a candidate waits for its turn.
    Present {
        /// As in [`crate::Instance::created`].
        created: u64,
    },
    /// It leads.
    Leading {
        /// Of this term.
        token: u64,
        /// The end of the term, unless it is renewed.
        until: Boottime,
    },
    /// It left for good.
    Left,
}

#[derive(Clone, Debug)]
enum Phase {
    Away { enter_at: Boottime, why: Option<Error> },
    Present(Stay),
    Leaving { at: Boottime, tries: u32, why: Option<Error>, then: Then },
    Left,
}

#[derive(Clone, Debug)]
struct Stay {
    tenure: Tenure,
    renew_at: Boottime,
    /// Before which no turn is waited for, after a failure.
    turns_at: Boottime,
    /// Whether the standing has to be asked for.
    unsure: bool,
    /// Whether the server confirmed it since the entry.
    renewed: bool,
    leads: Option<u64>,
    /// What the last failure was, while none succeeded since.
    trouble: Option<Error>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Enter(Boottime),
    End,
}

/// One record's or candidate's way.
#[derive(Clone, Debug)]
pub struct Course {
    candidate: bool,
    renew_every: Duration,
    failures: u32,
    /// Records that were lost before they were renewed, one after the other.
    losses: u32,
    phase: Phase,
}

impl Course {
    /// Of a record, or of a candidate, from now on.
    pub fn new(candidate: bool, renew_every: Duration, now: Boottime) -> Self {
        Self {
            candidate,
            renew_every,
            failures: 0,
            losses: 0,
            phase: Phase::Away { enter_at: now, why: None },
        }
    }

    /// How long after one renewal the next is due, from the next answer on.
    pub fn renew_every(&mut self, renew_every: Duration) {
        self.renew_every = renew_every;
    }

    /// What to do now. [`Course::tick`] comes before it.
    pub fn step(&self, now: Boottime) -> Step {
        match &self.phase {
            Phase::Away { enter_at, .. } if *enter_at <= now => Step::Ask(Ask::Enter),
            Phase::Away { enter_at, .. } => Step::Wait { until: *enter_at, turns: false },
            Phase::Leaving { at, .. } if *at <= now => Step::Ask(Ask::Leave),
            Phase::Leaving { at, .. } => Step::Wait { until: *at, turns: false },
            Phase::Left => Step::Done,
            Phase::Present(stay) if stay.renew_at <= now => Step::Ask(Ask::Renew),
            Phase::Present(stay) => {
                let waits = self.candidate && stay.leads.is_none();
                let may_turn = waits && stay.turns_at <= now && now < stay.tenure.until;
                if may_turn && stay.unsure {
                    return Step::Ask(Ask::Standing);
                }
                let mut until = stay.renew_at;
                if now < stay.tenure.until {
                    until = until.min(stay.tenure.until);
                }
                if waits && now < stay.turns_at {
                    until = until.min(stay.turns_at);
                }
                Step::Wait { until, turns: may_turn }
            }
        }
    }

    /// Time has passed: a term that was not renewed is over.
    pub fn tick(&mut self, now: Boottime) {
        if let Phase::Present(stay) = &self.phase
            && stay.leads.is_some()
            && stay.tenure.until <= now
        {
            let why = stay.trouble.clone();
            self.leave(now, why, Then::Enter(now));
        }
    }

    /// Takes an answer; `random` is a number from 0 to 1.
    pub fn answer(&mut self, now: Boottime, random: f64, answer: Answer) {
        match answer {
            Answer::Entered(result) => self.entered(now, random, result),
            Answer::Renewed(result) => self.renewed(now, random, result),
            Answer::Stood(result) => self.stood(now, random, result),
            Answer::Left(result) => self.left(now, random, result),
            Answer::Turned(result) => self.turned(now, random, result),
        }
        self.tick(now);
    }

    /// Leaves for good.
    pub fn withdraw(&mut self, now: Boottime) {
        match &mut self.phase {
            Phase::Left => {}
            Phase::Leaving { then, .. } => *then = Then::End,
            // An entry that failed may have had its effect.
            Phase::Away { why, .. } => {
                let why = why.take();
                self.leave(now, why, Then::End);
            }
            Phase::Present(_) => self.leave(now, None, Then::End),
        }
    }

    /// Gives up the place, and enters the line anew after `pause`.
    pub fn resign(&mut self, now: Boottime, pause: Duration) {
        if let Phase::Present(_) = self.phase {
            self.leave(now, None, Then::Enter(now + pause));
        }
    }

    /// What others may know, at this instant.
    pub fn state(&self, now: Boottime) -> State {
        match &self.phase {
            Phase::Away { why, .. } | Phase::Leaving { why, .. } => State::Away(why.clone()),
            Phase::Left => State::Left,
            Phase::Present(stay) if stay.tenure.until <= now => State::Away(stay.trouble.clone()),
            Phase::Present(Stay { leads: Some(token), tenure, .. }) => {
                State::Leading { token: *token, until: tenure.until }
            }
            Phase::Present(stay) => State::Present { created: stay.tenure.created },
        }
    }

    /// Whether there is a record that can be lost, and so an alarm to wait for.
    pub fn is_entered(&self) -> bool {
        matches!(self.phase, Phase::Present(_))
    }

    fn leave(&mut self, now: Boottime, why: Option<Error>, then: Then) {
        self.phase = Phase::Leaving { at: now, tries: 0, why, then };
    }

    fn pause(&mut self, random: f64) -> Duration {
        self.failures = self.failures.saturating_add(1);
        nth_pause(self.failures, LONGEST_PAUSE, random)
    }

    fn entered(&mut self, now: Boottime, random: f64, result: Result<Tenure, Error>) {
        let Phase::Away { .. } = self.phase else { return };
        self.phase = match result {
            Ok(tenure) => {
                self.failures = 0;
                Phase::Present(Stay {
                    tenure,
                    renew_at: now + self.renew_every,
                    turns_at: now,
                    unsure: true,
                    renewed: false,
                    leads: None,
                    trouble: None,
                })
            }
            Err(error) => Phase::Away { enter_at: now + self.pause(random), why: Some(error) },
        };
    }

    fn renewed(&mut self, now: Boottime, random: f64, result: Result<Renewal, Error>) {
        let pause = if result.is_err() { self.pause(random) } else { Duration::ZERO };
        let Phase::Present(stay) = &mut self.phase else { return };
        match result {
            // An answer that comes after the end of the term does not raise it.
            Ok(Renewal::Kept(until)) if stay.leads.is_none() || now < stay.tenure.until => {
                (self.failures, self.losses) = (0, 0);
                stay.renewed = true;
                stay.tenure.until = stay.tenure.until.max(until);
                stay.renew_at = now + self.renew_every;
                // Once a renewal, in case a change was not told.
                stay.unsure = true;
                stay.trouble = None;
            }
            Ok(Renewal::Kept(_)) => {}
            Ok(Renewal::Lost(what)) => {
                self.failures = 0;
                let pause = if stay.renewed {
                    Duration::ZERO
                } else {
                    self.losses = self.losses.saturating_add(1);
                    nth_pause(self.losses, LONGEST_LOSS_PAUSE, random)
                };
                let why = Some(Error::Disconnected { backend: "the record".to_owned(), what });
                self.phase = Phase::Away { enter_at: now + pause, why };
            }
            Err(error) => {
                stay.renew_at = now + pause;
                stay.trouble = Some(error);
            }
        }
    }

    fn stood(&mut self, now: Boottime, random: f64, result: Result<Standing, Error>) {
        let pause = if result.is_err() { self.pause(random) } else { Duration::ZERO };
        let Phase::Present(stay) = &mut self.phase else { return };
        match result {
            Ok(standing) => {
                stay.unsure = false;
                if let Standing::Leads(token) = standing
                    && now < stay.tenure.until
                {
                    stay.leads = Some(token);
                }
            }
            Err(error) => stay.troubled(now, pause, error),
        }
    }

    fn turned(&mut self, now: Boottime, random: f64, result: Result<Turn, Error>) {
        let pause = if result.is_err() { self.pause(random) } else { Duration::ZERO };
        let Phase::Present(stay) = &mut self.phase else { return };
        match result {
            Ok(Turn::Moved) => stay.unsure = true,
            Ok(Turn::Alarm) => stay.renew_at = now,
            Err(error) => stay.troubled(now, pause, error),
        }
    }

    fn left(&mut self, now: Boottime, random: f64, result: Result<(), Error>) {
        let pause = if result.is_err() { self.pause(random) } else { Duration::ZERO };
        let Phase::Leaving { at, tries, why, then } = &mut self.phase else { return };
        *tries += 1;
        let next = match (result, *then) {
            (Ok(()), Then::Enter(enter_at)) => Phase::Away { enter_at, why: why.take() },
            (Ok(()), Then::End) => Phase::Left,
            // Its record ends by itself.
            (Err(_), Then::End) if *tries >= LAST_TRIES => Phase::Left,
            (Err(_), _) => {
                *at = now + pause;
                return;
            }
        };
        self.failures = 0;
        self.phase = next;
    }
}

/// After so many failures, one and more: twice as long each time, with jitter.
fn nth_pause(failures: u32, longest: Duration, random: f64) -> Duration {
    let step = SHORTEST_PAUSE * 2_u32.pow(failures.saturating_sub(1).min(10));
    step.min(longest).mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
}

impl Stay {
    /// A read failed: whether the record stands is what matters now.
    fn troubled(&mut self, now: Boottime, pause: Duration, error: Error) {
        self.turns_at = now + pause;
        self.renew_at = self.renew_at.min(now + pause);
        self.unsure = true;
        self.trouble = Some(error);
    }
}
