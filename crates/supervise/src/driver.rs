//! The task behind a handle: hears the guard's reports, sees its end, and stands in for it when it is lost.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::io::Errno;
use tokio::sync::watch;

use crate::boottime::Boottime;
use crate::child::{Exit, Line, Status, Why};
use crate::ladder::Cause;
use crate::report::{Report, Step};
use crate::{channel, lost};

/// How long after the deadline a guard may stay silent before it is taken for hung.
const LATE: Duration = Duration::from_millis(250);
/// The longest sleep between two looks at the deadline, which may have been moved to an earlier instant.
const LOOK: Duration = Duration::from_millis(500);

/// How far a child is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Starting,
    /// Its process id.
    Running(i32),
    /// It was sent SIGTERM or SIGKILL.
    Stopping(i32),
    Failed(Step, i32),
    /// The guard ended before the child began.
    Lost,
    Ended(Exit),
}

/// What a child needs on the runner's side, but for its handle.
pub(crate) struct Driver {
    pub(crate) line: Arc<Line>,
    pub(crate) guard: std::process::Child,
    pub(crate) mark: String,
    pub(crate) state: watch::Sender<State>,
    /// The last deadline of which the guard has said that it is in force; at first that of its plan.
    pub(crate) confirmed: Boottime,
    /// The child's process id, 0 until it is known.
    pub(crate) pid: i32,
    /// Whether the guard has begun to kill.
    pub(crate) killing: bool,
    /// The guard's last word.
    pub(crate) end: Option<State>,
}

/// Until the guard is reaped and nothing is left of the child.
pub(crate) async fn drive(mut driver: Driver) {
    let line = driver.line.clone();
    let mut open = true;
    loop {
        let patience = driver.patience();
        tokio::select! {
            biased;
            ready = line.socket.readable(), if open => {
                if let Ok(mut ready) = ready {
                    ready.clear_ready();
                }
                open = driver.hear();
            }
            _ = line.guard.readable() => break,
            () = tokio::time::sleep(patience) => driver.check_on_guard(),
        }
    }
    driver.hear();
    // The descriptor says that it has ended, so this does not wait. Fails only where somebody else reaps.
    let _ = driver.guard.wait();
    let end = match driver.end {
        Some(end) => end,
        None => driver.stand_in().await,
    };
    // First all of this task's descriptors, then the word that it is over.
    let Driver { state, line: other, .. } = driver;
    drop((line, other));
    state.send_replace(end);
}

impl Driver {
    /// Takes in all reports. False when none can come any more.
    fn hear(&mut self) -> bool {
        loop {
            match channel::receive(self.line.socket.get_ref().as_fd(), false) {
                Ok((message, _)) if message.is_empty() => return false,
                Ok((message, _)) => {
                    if let Some(report) = Report::decode(&message) {
                        self.take(report);
                    }
                }
                Err(Errno::AGAIN) => return true,
                Err(_) => return false,
            }
        }
    }

    fn take(&mut self, report: Report) {
        match report {
            Report::Started(pid) => {
                self.pid = pid;
                // It may have been told to stop before it had begun.
                if *self.state.borrow() == State::Starting {
                    self.state.send_replace(State::Running(pid));
                }
            }
            Report::Failed(step, number) => self.end = Some(State::Failed(step, number)),
            Report::Stopping(_) | Report::Killing(_) => {
                self.killing |= matches!(report, Report::Killing(_));
                self.state.send_replace(State::Stopping(self.pid));
            }
            Report::Stuck(count, pid) => {
                tracing::error!(
                    child = self.pid,
                    count,
                    pid,
                    "descendants do not die: they hang in the kernel or may not be killed; going on"
                );
            }
            Report::Armed(at) => self.confirmed = at,
            Report::Ended { status, cause, strays } => {
                let why = match cause {
                    Cause::Exited => Why::Exited,
                    Cause::Stopped | Cause::RunnerGone => Why::Stopped,
                    Cause::Deadline => Why::DeadlineReached,
                };
                self.end = Some(State::Ended(Exit { status, why, strays }));
            }
        }
    }

    /// A later deadline counts once the guard has confirmed it, an earlier one at once.
    fn late_at(&self) -> Boottime {
        let asked = Boottime::from_nanos(self.line.asked.load(Ordering::Relaxed));
        asked.min(self.confirmed) + LATE
    }

    /// Whether the guard has begun to kill, or is through: then it takes the time that it takes.
    fn spoke(&self) -> bool {
        self.killing || self.end.is_some()
    }

    /// How long to wait until the guard has to be looked after.
    fn patience(&self) -> Duration {
        if self.spoke() {
            return LOOK;
        }
        self.late_at().since(Boottime::now()).clamp(Duration::from_millis(10), LOOK)
    }

    /// A guard past the deadline that has not said a word is frozen or hung: then it has to go, and the child
    /// with it.
    fn check_on_guard(&mut self) {
        // What it said may lie there unread, as after a freeze of this process.
        self.hear();
        if !self.spoke() && Boottime::now() >= self.late_at() {
            tracing::error!(
                child = self.pid,
                "the guard did not answer until its deadline: killing it and the child"
            );
            self.line.kill_guard();
        }
    }

    /// The guard was killed: the child died with it by its parent-death signal, its descendants did not.
    async fn stand_in(&mut self) -> State {
        let strays = lost::kill_marked(self.pid, &self.mark).await;
        if self.pid == 0 && strays == 0 {
            return State::Lost;
        }
        tracing::error!(child = self.pid, strays, "the guard was killed; the child is dead too");
        State::Ended(Exit { status: Status::Unknown, why: Why::GuardLost, strays })
    }
}
