//! What is to be done when something happens to the candidate, the command, or the agent: pure.
//!
//! 1. The command runs only under a term whose deadline the guard knows; under one term it is started once.
//! 2. Whoever's term is over has the command killed, and starts nothing before it is dead.
//! 3. A term is given up, and the line is left, only when the command is dead.
//! 4. A token smaller than one that had its command ends the candidate: nothing may run under it here, and nobody else leads while it stands.

use std::time::Duration;

use reception::Candidate;
use supervise::{Backoff, Boottime, Why};

use super::terms::Terms;

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// The candidate is something else, or its term was renewed.
    Candidate(Candidate),
    /// The command runs.
    Started,
    /// It does not, and nothing is left of it.
    NotStarted,
    /// It was not started, as the term was over, or nearly.
    TooLate,
    /// The command and all its descendants are dead.
    Ended {
        /// Why.
        why: Why,
    },
    /// The agent is to end.
    Quit,
}

/// What to do, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start the command under a guard.
    Spawn {
        /// Of the term.
        token: u64,
        /// The guard's deadline.
        kill_at: Boottime,
    },
    /// Move the guard's deadline.
    Rearm {
        /// To this instant.
        kill_at: Boottime,
    },
    /// SIGTERM, and SIGKILL after the grace.
    Stop,
    /// SIGKILL.
    Kill,
    /// Give up the term, and stand again after a pause.
    Resign {
        /// How long.
        pause: Duration,
    },
    /// Leave the line for good, and end: with the failure, where there is one.
    Leave(Result<(), Fell>),
}

/// The store gave a smaller token than before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the store gives smaller tokens than before ({now} after {before}): it lost its data, or another one answers at its address. \
     Started anew, this candidate takes them; whatever compares tokens has to forget the old ones first"
)]
pub struct Fell {
    /// The largest so far.
    pub before: u64,
    /// The one after it.
    pub now: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No command, and none coming.
    Empty,
    /// It is being started for this term; `end` when its term is over already.
    Starting { token: u64, end: bool },
    /// It runs under this term.
    Running { token: u64, since: Boottime },
    /// It was told to end.
    Ending { token: u64 },
    /// All is left.
    Left,
}

/// The decisions of `elect`.
#[derive(Clone, Debug)]
pub struct Leading {
    terms: Terms,
    phase: Phase,
    backoff: Backoff,
    candidate: Candidate,
    /// The newest term that had its command.
    spent: u64,
    /// The newest term that was given up.
    given_up: u64,
    quitting: bool,
    fell: Result<(), Fell>,
    actions: Vec<Action>,
}

impl Leading {
    /// Of a candidate that is nothing yet.
    pub fn new(terms: Terms) -> Self {
        Self {
            terms,
            phase: Phase::Empty,
            backoff: Backoff::new(),
            candidate: Candidate::Away(None),
            spent: 0,
            given_up: 0,
            quitting: false,
            fell: Ok(()),
            actions: Vec::new(),
        }
    }

    /// Takes one event at `now`; `chance` from 0 to 1 is for the length of pauses.
    pub fn handle(&mut self, now: Boottime, chance: f64, event: Event) -> Vec<Action> {
        match event {
            Event::Candidate(candidate) => {
                if let Candidate::Leading { token, .. } = candidate {
                    self.compare(token);
                }
                self.candidate = candidate;
                self.turned(now);
            }
            Event::Started => self.started(now),
            Event::NotStarted => self.gone(now, chance, Some(Duration::ZERO)),
            Event::TooLate => self.gone(now, chance, None),
            Event::Ended { why } => {
                let lived = match self.phase {
                    Phase::Running { since, .. } if matches!(why, Why::Exited | Why::GuardLost) => {
                        Some(now.since(since))
                    }
                    _ => None,
                };
                self.gone(now, chance, lived);
            }
            Event::Quit => self.quit(),
        }
        std::mem::take(&mut self.actions)
    }

    /// The term that the command may run under, with its deadline.
    fn term(&self, now: Boottime) -> Option<(u64, Boottime)> {
        self.terms.leads(&self.candidate, now)
    }

    /// What is there of a command is killed as that of any term that is over.
    fn compare(&mut self, token: u64) {
        if self.quitting || token >= self.spent {
            return;
        }
        self.fell = Err(Fell { before: self.spent, now: token });
        self.quitting = true;
        if self.phase == Phase::Empty {
            self.leave();
        }
    }

    fn turned(&mut self, now: Boottime) {
        let term = self.term(now);
        let still = |token: u64| term.filter(|(led, _)| *led == token).map(|(_, kill_at)| kill_at);
        match self.phase {
            Phase::Empty => self.begin(now),
            Phase::Starting { token, end } => {
                self.phase = Phase::Starting { token, end: end || still(token).is_none() };
            }
            Phase::Running { token, .. } => match still(token) {
                Some(kill_at) => self.actions.push(Action::Rearm { kill_at }),
                None => {
                    self.phase = Phase::Ending { token };
                    self.actions.push(Action::Kill);
                }
            },
            Phase::Ending { token } => match still(token) {
                // Only bounds the grace that is running.
                Some(kill_at) => self.actions.push(Action::Rearm { kill_at }),
                None => self.actions.push(Action::Kill),
            },
            Phase::Left => {}
        }
    }

    fn begin(&mut self, now: Boottime) {
        if self.quitting {
            return;
        }
        match self.term(now) {
            Some((token, kill_at)) if token > self.spent => {
                self.spent = token;
                self.phase = Phase::Starting { token, end: false };
                self.actions.push(Action::Spawn { token, kill_at });
            }
            // The guard ended the command, and a renewal came within the margin after it: a term without its command is nobody's use.
            Some((token, _)) if token == self.spent => self.resign(Duration::ZERO),
            _ => {}
        }
    }

    /// Once a term.
    fn resign(&mut self, pause: Duration) {
        if self.given_up < self.spent {
            self.given_up = self.spent;
            self.actions.push(Action::Resign { pause });
        }
    }

    fn started(&mut self, now: Boottime) {
        let Phase::Starting { token, end } = self.phase else { return };
        let term = self.term(now).filter(|(led, _)| *led == token && !end);
        match term {
            None => {
                self.phase = Phase::Ending { token };
                self.actions.push(Action::Kill);
            }
            Some(_) if self.quitting => {
                self.phase = Phase::Ending { token };
                self.actions.push(Action::Stop);
            }
            Some((_, kill_at)) => {
                self.phase = Phase::Running { token, since: now };
                self.actions.push(Action::Rearm { kill_at });
            }
        }
    }

    /// Nothing runs any more. `lived` is there where that was the command's own doing.
    fn gone(&mut self, now: Boottime, chance: f64, lived: Option<Duration>) {
        self.phase = Phase::Empty;
        if self.quitting {
            return self.leave();
        }
        match lived {
            Some(lived) => {
                let pause = self.backoff.after(lived, chance);
                self.resign(pause);
            }
            None => self.begin(now),
        }
    }

    fn quit(&mut self) {
        if self.quitting {
            return;
        }
        self.quitting = true;
        match self.phase {
            Phase::Empty => self.leave(),
            Phase::Running { token, .. } => {
                self.phase = Phase::Ending { token };
                self.actions.push(Action::Stop);
            }
            Phase::Starting { .. } | Phase::Ending { .. } | Phase::Left => {}
        }
    }

    fn leave(&mut self) {
        self.phase = Phase::Left;
        self.actions.push(Action::Leave(self.fell));
    }
}

#[cfg(test)]
mod tests;
