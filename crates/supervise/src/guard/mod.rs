//! The guard: one thread, no runtime, one poll. Everything it does takes a bounded time.

mod launch;
mod sweep;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process, kill_process_group, waitid,
};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use crate::boottime::Boottime;
use crate::ladder::{Act, Cause, Ladder};
use crate::plan::{LARGEST, Plan};
use crate::report::{Order, Report, Status, Step};
use crate::{GUARD_NAME, channel, sys};

/// The pause after a round of killing that left somebody: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
/// So many orders at most between two looks at the clock: a runner that floods its guard gains no time.
const ORDERS: usize = 256;
/// Between two reports about descendants that do not die.
const STUCK_EVERY: Duration = Duration::from_secs(1);

/// Is the guard until the child and all its descendants are gone.
pub(crate) fn run() -> ! {
    // The runner learns of a guard that could not begin from its end; there is nobody else to tell.
    let code = if guard().is_ok() { 0 } else { 1 };
    sys::exit_now(code)
}

/// What waits for the guard: the runner's socket, the plan, the child's descriptors, those to be kept.
struct Given {
    control: OwnedFd,
    plan: Plan,
    descriptors: Vec<OwnedFd>,
    /// Only held: they close when the guard has ended, which is after everybody else.
    kept: Vec<OwnedFd>,
}

fn guard() -> io::Result<()> {
    sys::close_from(3)?;
    sys::block_signals(true)?;
    sys::default_sigchld();
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let name = std::ffi::CString::new(GUARD_NAME)?;
    rustix::thread::set_name(&name)?;
    let sigchld = sys::sigchld_descriptor()?;
    let timer = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
    let Given { control, plan, descriptors, kept } = given()?;
    if Boottime::now() >= plan.kill_at.earlier(plan.grace) {
        channel::send(control.as_fd(), &Report::Failed(Step::Deadline, 0).encode(), &[])?;
        return Ok(());
    }
    let ladder = Ladder::new(plan.kill_at, plan.grace);
    let launched = match launch::launch(&plan, descriptors) {
        Ok(launched) => launched,
        Err(error) => {
            let number = error.raw_os_error().unwrap_or_default();
            channel::send(control.as_fd(), &Report::Failed(Step::Setup, number).encode(), &[])?;
            return Ok(());
        }
    };
    let guard = Guard {
        control: Some(control),
        sigchld,
        timer,
        starting: Some(launched.outcome),
        child: launched.pid,
        ladder,
        unconfirmed: false,
        failed: false,
        status: None,
        stopping: None,
        ending: None,
    };
    if guard.watch() == Some(Cause::Deadline) {
        free_locks(&plan, &kept);
    }
    Ok(())
}

/// Reads what the runner has put into the socket before it started this process.
fn given() -> io::Result<Given> {
    let control = rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3)?;
    let (message, mut descriptors) = channel::receive(control.as_fd(), true)?;
    // The kernel drops what goes over this process's limit, and a lock must not be lost without a word.
    if message != [u8::try_from(descriptors.len()).unwrap_or_default()] || descriptors.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::from(descriptors.remove(0));
    io::Read::read_to_end(&mut io::Read::take(file, LARGEST as u64), &mut bytes)?;
    let plan = Plan::decode(&bytes).ok_or(io::ErrorKind::InvalidData)?;
    if plan.targets.len() > descriptors.len() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let kept = descriptors.split_off(plan.targets.len());
    Ok(Given { control, plan, descriptors, kept })
}

/// The runner did not move the deadline, so it may be stopped or hang, and would keep its copies open.
fn free_locks(plan: &Plan, kept: &[OwnedFd]) {
    let count = usize::try_from(plan.unlocked).unwrap_or(usize::MAX).min(kept.len());
    for lock in &kept[kept.len() - count..] {
        // One that is no lock, or free already, is as good.
        let _ = rustix::fs::flock(lock, rustix::fs::FlockOperation::NonBlockingUnlock);
    }
}

struct Guard {
    /// `None` once the runner is gone.
    control: Option<OwnedFd>,
    sigchld: OwnedFd,
    timer: OwnedFd,
    /// Tells how exec went; `None` once it has told.
    starting: Option<OwnedFd>,
    /// Not to be signalled once `status` is known: the id may then be another's.
    child: Pid,
    ladder: Ladder,
    /// A deadline was taken that the runner has not been told of yet.
    unconfirmed: bool,
    failed: bool,
    status: Option<Status>,
    /// Why SIGTERM was sent, if it was.
    stopping: Option<Cause>,
    ending: Option<Ending>,
}

/// Everybody is being killed.
struct Ending {
    cause: Cause,
    since: Boottime,
    pause: Duration,
    strays: u32,
    told_stuck: Boottime,
}

impl Guard {
    /// Until nobody is left; gives why, unless the child was never there.
    fn watch(mut self) -> Option<Cause> {
        self.arm();
        loop {
            self.wait();
            self.hear();
            self.confirm();
            self.hear_start();
            if let Some(act) = self.ladder.tick(Boottime::now()) {
                self.act(act);
            }
            if self.ending.is_none() && !self.reap() {
                // The child ended by itself, or of the SIGTERM. What it leaves behind has nobody to answer to.
                let cause = self.stopping.unwrap_or(Cause::Exited);
                let _ = self.ladder.kill(cause);
                self.end(cause);
            }
            if self.ending.is_some() && self.finish() {
                let cause = self.ending.as_ref().map(|ending| ending.cause);
                self.tell_end();
                return cause;
            }
            self.arm();
        }
    }

    fn wait(&self) {
        let mut watched =
            vec![PollFd::new(&self.sigchld, PollFlags::IN), PollFd::new(&self.timer, PollFlags::IN)];
        // A runner that was slow to read is told as soon as there is room.
        let wanted = if self.unconfirmed { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        watched.extend(self.control.as_ref().map(|fd| PollFd::new(fd, wanted)));
        watched.extend(self.starting.as_ref().map(|fd| PollFd::new(fd, PollFlags::IN)));
        let pause = self.ending.as_ref().map(|ending| timespec(ending.pause));
        // An error can only be an interruption or want of memory: the round that follows does no harm.
        let _ = poll(&mut watched, pause.as_ref());
        let mut unread = [0; 512];
        let _ = rustix::io::read(&self.sigchld, &mut unread);
        let _ = rustix::io::read(&self.timer, &mut unread);
    }

    /// What the runner has sent, and whether it is still there.
    fn hear(&mut self) {
        for _ in 0..ORDERS {
            let Some(control) = &self.control else { return };
            match channel::receive(control.as_fd(), false) {
                Ok((message, _)) if !message.is_empty() => {
                    if let Some(order) = Order::decode(&message) {
                        self.obey(order);
                    }
                }
                Err(Errno::AGAIN | Errno::NOMEM | Errno::NOBUFS) => return,
                _ => {
                    self.control = None;
                    if let Some(act) = self.ladder.kill(Cause::RunnerGone) {
                        self.act(act);
                    }
                }
            }
        }
    }

    fn obey(&mut self, order: Order) {
        let act = match order {
            Order::Rearm(at) => {
                self.ladder.rearm(at);
                self.unconfirmed = true;
                None
            }
            Order::Stop => self.ladder.stop(Boottime::now()),
            Order::Kill => self.ladder.kill(Cause::Stopped),
            Order::Signal(number) => {
                if let (None, Some(signal)) = (self.status, Signal::from_named_raw(number)) {
                    let _ = kill_process(self.child, signal);
                }
                None
            }
        };
        if let Some(act) = act {
            self.act(act);
        }
    }

    /// Tells the runner which deadline is in force: one that hears nothing takes this process for frozen.
    fn confirm(&mut self) {
        self.unconfirmed = self.unconfirmed && !self.tell(Report::Armed(self.ladder.kill_at()));
    }

    /// Whether exec went well, once that is known.
    fn hear_start(&mut self) {
        let Some(outcome) = &self.starting else { return };
        let mut bytes = [0; 64];
        let report = match rustix::io::read(outcome, &mut bytes) {
            Ok(0) => Report::Started(self.child.as_raw_nonzero().get()),
            Ok(length) => Report::decode(&bytes[..length]).unwrap_or(Report::Failed(Step::Setup, 0)),
            Err(_) => return,
        };
        self.starting = None;
        self.failed = matches!(report, Report::Failed(..));
        self.tell(report);
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Terminate(cause) => {
                self.stopping = Some(cause);
                self.tell(Report::Stopping(cause));
                if self.status.is_none() {
                    // Not both: a second SIGTERM has a meaning of its own to many programs. Between fork and
                    // setsid there is no group yet.
                    if kill_process_group(self.child, Signal::TERM).is_err() {
                        let _ = kill_process(self.child, Signal::TERM);
                    }
                    // One that is stopped would see the SIGTERM only when it is continued.
                    let _ = kill_process_group(self.child, Signal::CONT);
                }
            }
            Act::Kill(cause) => {
                self.strike_child();
                self.tell(Report::Killing(cause));
                self.end(cause);
            }
        }
    }

    fn end(&mut self, cause: Cause) {
        let now = Boottime::now();
        let ending = Ending { cause, since: now, pause: FIRST_PAUSE, strays: 0, told_stuck: now };
        self.ending.get_or_insert(ending);
    }

    /// SIGKILL to the child and its group, while that id is certainly its own.
    fn strike_child(&self) {
        if self.status.is_none() {
            // Both: between fork and setsid there is no such group yet.
            let _ = kill_process(self.child, Signal::KILL);
            let _ = kill_process_group(self.child, Signal::KILL);
        }
    }

    /// One round of killing. True when there is no descendant left, alive or dead.
    fn finish(&mut self) -> bool {
        self.strike_child();
        if self.reap_all() {
            return true;
        }
        let left = sweep::strike();
        if self.reap_all() {
            return true;
        }
        let now = Boottime::now();
        let Some(ending) = &mut self.ending else { return false };
        ending.pause = (ending.pause * 2).min(LONGEST_PAUSE);
        let long = now.since(ending.since) >= STUCK_EVERY && now.since(ending.told_stuck) >= STUCK_EVERY;
        if long {
            ending.told_stuck = now;
            // None in sight is possible too: `/proc` can hide other users' processes.
            let first = left.first().copied().unwrap_or_default();
            self.tell(Report::Stuck(u32::try_from(left.len()).unwrap_or(u32::MAX), first));
        }
        false
    }

    /// Takes the dead in while the child lives. False when the child is among them.
    fn reap(&mut self) -> bool {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        if let Ok(Some(_)) = waitid(WaitId::Pid(self.child), look) {
            // As long as it is not taken in, its group's id is its own.
            let _ = kill_process_group(self.child, Signal::KILL);
        }
        self.reap_all();
        self.status.is_none()
    }

    /// Takes all dead children in. True when there are none left, alive or dead: as every orphan below comes to
    /// its subreaper, that means no descendant either.
    fn reap_all(&mut self) -> bool {
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => self.reaped(pid, status),
                Ok(None) => return false,
                Err(Errno::INTR) => {}
                Err(_) => return true,
            }
        }
    }

    fn reaped(&mut self, pid: Pid, status: rustix::process::WaitStatus) {
        if pid == self.child {
            let code = status.exit_status().map(Status::Code);
            self.status = code.or(status.terminating_signal().map(Status::Signal));
        } else if let Some(ending) = &mut self.ending {
            ending.strays += u32::from(status.terminating_signal() == Some(Signal::KILL.as_raw()));
        }
    }

    fn tell_end(mut self) {
        // It may have failed to start between the last look and its death.
        self.hear_start();
        if let (false, Some(ending)) = (self.failed, &self.ending) {
            let status = self.status.unwrap_or(Status::Unknown);
            self.tell(Report::Ended { status, cause: ending.cause, strays: ending.strays });
        }
    }

    /// A runner that does not read loses reports, never the guard's time. False when it may be told later.
    fn tell(&self, report: Report) -> bool {
        let Some(control) = &self.control else { return true };
        let sent = channel::send(control.as_fd(), &report.encode(), &[]);
        !matches!(sent, Err(Errno::AGAIN | Errno::NOMEM | Errno::NOBUFS))
    }

    fn arm(&self) {
        // All zero disarms; a deadline before the host's start cannot be, so 1 ns stands for it.
        let at = self.ladder.wakes_at().map_or(0, |at| at.as_nanos().max(1));
        let it_value = timespec(Duration::from_nanos(at.min(i64::MAX.unsigned_abs())));
        let value = Itimerspec { it_interval: timespec(Duration::ZERO), it_value };
        // The timer is valid and the value normal: it cannot be refused.
        let _ = timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &value);
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}
