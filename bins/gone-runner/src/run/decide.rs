//! What is to be done when something happens to the lease, the child, its health, or the runner: pure.

use std::time::Duration;

use supervise::{Backoff, Status, Why};

/// What becomes of the lease when the child ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExit {
    /// Freed, and contended for again after a pause.
    Release,
    /// Kept; the child is started again after a pause.
    Restart,
    /// Freed, and the runner ends with the child's code.
    Exit,
}

/// What a reload changes of the decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// When the child ends by itself.
    pub on_exit: OnExit,
    /// So many failed checks in a row free the lease.
    pub failures: u32,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The lease's times: SIGTERM and SIGKILL unless armed anew.
    Armed {
        /// SIGTERM.
        stop_at: Duration,
        /// SIGKILL.
        kill_at: Duration,
    },
    /// The lease is held; the child is to start.
    Start {
        /// The fencing token.
        token: u64,
    },
    /// The command runs.
    Started,
    /// It does not, and nothing is left of it. The code is what a shell would end with.
    NotStarted {
        /// 127 for a command that is not there, 126 for one that cannot be executed, 1 for want of a guard.
        code: u8,
    },
    /// It was too late to start it.
    TooLate,
    /// The child and all its descendants are dead.
    Ended {
        /// How the child itself ended.
        status: Status,
        /// Why.
        why: Why,
    },
    /// A check was made.
    Checked {
        /// Whether the child is well.
        well: bool,
    },
    /// The pause before a restart is over.
    RestartDue,
    /// The runner is to end.
    Quit,
    /// The lock was given all the time that it gets to learn of the end.
    WaitedEnough,
    /// Contending has ended.
    LeaseOver,
}

/// What to do, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start the command under a guard.
    Spawn {
        /// The fencing token.
        token: u64,
        /// The guard's deadline.
        kill_at: Duration,
    },
    /// Move the guard's deadline.
    Rearm {
        /// To this instant.
        kill_at: Duration,
    },
    /// Give the child messages from now on, and look after its health.
    Open {
        /// The fencing token.
        token: u64,
    },
    /// Acknowledge nothing any more.
    Close,
    /// SIGTERM, and SIGKILL after the grace.
    Stop,
    /// SIGKILL.
    Kill,
    /// Tell the lease that nothing runs.
    ChildDead,
    /// Free the lease when the child is dead, and stay away for a while.
    GiveUp {
        /// How long.
        pause: Duration,
    },
    /// Free the lease when the child is dead, and contend no more.
    Leave,
    /// Start the child again after so long, if the lease is still held.
    RestartAfter {
        /// How long.
        pause: Duration,
    },
    /// The lease was lost while the child ran well.
    CountLoss,
    /// The child was freed of the lease for its health.
    CountUnwell,
    /// End the runner.
    Finish {
        /// With the code of the child, where that is what it ends with.
        code: Option<u8>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No child, and none coming.
    Empty,
    /// The guard has been told to start it.
    Starting { stop: bool },
    /// It runs and may take messages.
    Running { since: Duration, failures: u32 },
    /// It was told to end.
    Ending,
    /// It ended, and is to be started again.
    Pausing,
}

/// The runner's decisions. Time is CLOCK_BOOTTIME of the host.
#[derive(Clone, Debug)]
pub struct Runner {
    rules: Rules,
    phase: Phase,
    backoff: Backoff,
    stop_at: Duration,
    kill_at: Duration,
    token: u64,
    /// The lease of this turn was given up, or all was left.
    leaving: bool,
    quitting: bool,
    code: Option<u8>,
    actions: Vec<Action>,
}

impl Runner {
    /// One that holds nothing.
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            phase: Phase::Empty,
            backoff: Backoff::new(),
            stop_at: Duration::ZERO,
            kill_at: Duration::ZERO,
            token: 0,
            leaving: false,
            quitting: false,
            code: None,
            actions: Vec::new(),
        }
    }

    /// Other rules from now on.
    pub fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// Takes one event at `now`; `chance` from 0 to 1 is for the length of pauses.
    pub fn handle(&mut self, now: Duration, chance: f64, event: Event) -> Vec<Action> {
        match event {
            Event::Armed { stop_at, kill_at } => {
                (self.stop_at, self.kill_at) = (stop_at, kill_at);
                self.armed(now);
            }
            Event::Start { token } => {
                (self.token, self.leaving) = (token, false);
                self.spawn(now, chance);
            }
            Event::Started => self.started(now),
            Event::NotStarted { code } => self.not_started(code, chance),
            Event::TooLate => self.too_late(chance),
            Event::Ended { status, why } => self.ended(now, chance, status, why),
            Event::Checked { well } => self.checked(now, chance, well),
            Event::RestartDue if self.phase == Phase::Pausing => self.spawn(now, chance),
            Event::RestartDue => {}
            Event::Quit if self.quitting => {}
            Event::Quit => self.leave(),
            Event::WaitedEnough if matches!(self.phase, Phase::Empty | Phase::Pausing) => self.finish(),
            Event::WaitedEnough => {}
            Event::LeaseOver => self.finish(),
        }
        std::mem::take(&mut self.actions)
    }

    fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    fn armed(&mut self, now: Duration) {
        let due = now >= self.stop_at;
        let kill_at = self.kill_at;
        match &mut self.phase {
            Phase::Empty if due => self.act(Action::ChildDead),
            Phase::Pausing if due => self.gone(),
            Phase::Empty | Phase::Pausing => {}
            // The guard has times of its own already, which are no later.
            Phase::Starting { stop } => *stop |= due,
            Phase::Running { .. } if due => {
                if !self.leaving {
                    self.act(Action::CountLoss);
                }
                self.end_child(now);
            }
            Phase::Running { .. } => self.act(Action::Rearm { kill_at }),
            Phase::Ending => {
                self.act(Action::Rearm { kill_at });
                if now >= kill_at {
                    self.act(Action::Kill);
                }
            }
        }
    }

    fn spawn(&mut self, now: Duration, chance: f64) {
        if now >= self.stop_at || self.quitting {
            return self.too_late(chance);
        }
        self.phase = Phase::Starting { stop: false };
        self.act(Action::Spawn { token: self.token, kill_at: self.kill_at });
    }

    fn started(&mut self, now: Duration) {
        let Phase::Starting { stop } = self.phase else { return };
        if stop || now >= self.stop_at {
            return self.end_child(now);
        }
        self.phase = Phase::Running { since: now, failures: 0 };
        self.act(Action::Rearm { kill_at: self.kill_at });
        self.act(Action::Open { token: self.token });
    }

    /// The order matters: no acknowledgement after SIGTERM; and the stop before the deadline, which may be so
    /// near that the guard would take it for the one that was missed.
    fn end_child(&mut self, now: Duration) {
        self.phase = Phase::Ending;
        self.act(Action::Close);
        self.act(Action::Stop);
        self.act(Action::Rearm { kill_at: self.kill_at });
        if now >= self.kill_at {
            self.act(Action::Kill);
        }
    }

    /// The lease may have been renewed since the deadline that was missed: it has to be let go of, or it would be
    /// held without a child.
    fn too_late(&mut self, chance: f64) {
        if !self.leaving && !self.quitting {
            self.give_up(Duration::ZERO, chance);
        }
        self.gone();
    }

    /// No child is there, and the lease is (or will be) told to be over.
    fn gone(&mut self) {
        self.phase = Phase::Empty;
        self.act(Action::ChildDead);
    }

    /// A command that this host cannot start leaves the lease to a host that can, whatever is to be done when
    /// it ends.
    fn not_started(&mut self, code: u8, chance: f64) {
        if !self.leaving && !self.quitting {
            match self.rules.on_exit {
                OnExit::Exit => self.leave_with(code),
                OnExit::Release | OnExit::Restart => self.give_up(Duration::ZERO, chance),
            }
        }
        self.gone();
    }

    fn ended(&mut self, now: Duration, chance: f64, status: Status, why: Why) {
        let lived = match self.phase {
            Phase::Running { since, .. } => now.saturating_sub(since),
            _ => Duration::ZERO,
        };
        let by_itself = matches!(self.phase, Phase::Running { .. } | Phase::Starting { stop: false })
            && !self.leaving
            && !self.quitting
            && matches!(why, Why::Exited | Why::GuardLost);
        self.act(Action::Close);
        if !by_itself {
            // The guard may have been faster than the lease's own clock: it has to be let go of all the same.
            if !self.leaving && !self.quitting && now < self.stop_at {
                self.act(Action::GiveUp { pause: Duration::ZERO });
            }
            return self.gone();
        }
        match self.rules.on_exit {
            OnExit::Restart if why == Why::Exited && now < self.stop_at => {
                self.phase = Phase::Pausing;
                let pause = self.backoff.after(lived, chance);
                self.act(Action::RestartAfter { pause });
            }
            OnExit::Exit => {
                self.leave_with(exit_code(status));
                self.gone();
            }
            OnExit::Release | OnExit::Restart => {
                self.give_up(lived, chance);
                self.gone();
            }
        }
    }

    fn checked(&mut self, now: Duration, chance: f64, well: bool) {
        let Phase::Running { since, failures } = self.phase else { return };
        let failures = if well { 0 } else { failures + 1 };
        self.phase = Phase::Running { since, failures };
        if failures >= self.rules.failures && !self.leaving {
            self.act(Action::CountUnwell);
            self.give_up(now.saturating_sub(since), chance);
        }
    }

    fn give_up(&mut self, lived: Duration, chance: f64) {
        self.leaving = true;
        let pause = self.backoff.after(lived, chance);
        self.act(Action::GiveUp { pause });
    }

    fn leave(&mut self) {
        (self.leaving, self.quitting) = (true, true);
        self.act(Action::Leave);
    }

    fn leave_with(&mut self, code: u8) {
        self.code = Some(code);
        self.leave();
    }

    fn finish(&mut self) {
        self.act(Action::Finish { code: self.code });
    }
}

/// As a shell tells it: the code, 128 and the signal, or 1 where it is not known.
fn exit_code(status: Status) -> u8 {
    match status {
        Status::Code(code) => u8::try_from(code & 0xff).unwrap_or(1),
        Status::Signal(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        Status::Unknown => 1,
    }
}

#[cfg(test)]
mod tests;
