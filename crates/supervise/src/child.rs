//! The handle of a running child.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;
use tokio::sync::watch;

use crate::boottime::Boottime;
use crate::driver::{self, Driver, State};
use crate::error::{Error, failed};
use crate::report::Order;
pub use crate::report::Status;
use crate::spec::{Prepared, Spec, fresh_mark};
use crate::{ENTERED, GUARD_NAME, GUARD_VARIABLE, channel, sys};

/// Why a child's run is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It ended by itself, or somebody else killed it.
    Exited,
    /// [`Child::stop`] or [`Child::kill`].
    Stopped,
    /// The deadline was not moved in time.
    DeadlineReached,
    /// Its guard was killed, or hung and was killed by this process; then the child was.
    GuardLost,
}

/// The end of a child and all its descendants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// How the child itself ended.
    pub status: Status,
    /// Why.
    pub why: Why,
    /// How many descendants were left when it ended, and were killed.
    pub strays: u32,
}

/// What handle and driver share.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) socket: AsyncFd<OwnedFd>,
    pub(crate) guard: AsyncFd<OwnedFd>,
    /// The deadline as last asked for, in nanoseconds.
    pub(crate) asked: AtomicU64,
}

impl Line {
    fn send(&self, order: Order) -> Result<(), Error> {
        match channel::send(self.socket.get_ref().as_fd(), &order.encode(), &[]) {
            Ok(()) => Ok(()),
            Err(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM) => Err(Error::Deaf),
            Err(_) => Err(Error::Gone),
        }
    }

    /// SIGKILL to the guard: the last resort. The child follows by its parent-death signal.
    pub(crate) fn kill_guard(&self) {
        // Fails only when it has ended.
        let _ = pidfd_send_signal(self.guard.get_ref(), Signal::KILL);
    }
}

/// A child under its guard. Dropped, it is killed at once with all its descendants.
#[derive(Debug)]
pub struct Child {
    line: Arc<Line>,
    state: watch::Receiver<State>,
    guard: Pid,
    pid: i32,
    inputs: Vec<(i32, pipe::Sender)>,
    outputs: Vec<(i32, pipe::Receiver)>,
}

impl Child {
    /// The child's process id, which is also that of its group and session. May be another's after its end.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The guard's process id.
    pub fn guard_pid(&self) -> i32 {
        self.guard.as_raw_nonzero().get()
    }

    /// The pipe to its stdin, when [`crate::Io::Pipe`] was asked for; once.
    pub fn stdin(&mut self) -> Option<pipe::Sender> {
        self.input(0)
    }

    /// The pipe from its stdout, when [`crate::Io::Pipe`] was asked for; once.
    pub fn stdout(&mut self) -> Option<pipe::Receiver> {
        self.output(1)
    }

    /// The pipe from its stderr, when [`crate::Io::Pipe`] was asked for; once.
    pub fn stderr(&mut self) -> Option<pipe::Receiver> {
        self.output(2)
    }

    /// The pipe that the child reads at this descriptor; once.
    pub fn input(&mut self, number: i32) -> Option<pipe::Sender> {
        let at = self.inputs.iter().position(|(of, _)| *of == number)?;
        Some(self.inputs.swap_remove(at).1)
    }

    /// The pipe that the child writes at this descriptor; once.
    pub fn output(&mut self, number: i32) -> Option<pipe::Receiver> {
        let at = self.outputs.iter().position(|(of, _)| *of == number)?;
        Some(self.outputs.swap_remove(at).1)
    }

    /// Moves the deadline, to a later or an earlier instant. Never waits; cheap enough for any rate of renewal.
    /// A child that was sent SIGTERM already is stopped all the same. The guard confirms each deadline to the
    /// driver; one that is still silent after the last deadline that it confirmed is killed, and the child with
    /// it ([`Why::GuardLost`]).
    ///
    /// # Errors
    ///
    /// [`Error::Gone`] when the guard has ended; [`Error::Deaf`] when it does not read, as when it is frozen.
    pub fn rearm(&self, kill_at: Boottime) -> Result<(), Error> {
        // First: the guard's answer may be heard before this goes on.
        self.line.asked.store(kill_at.as_nanos(), Ordering::Relaxed);
        self.line.send(Order::Rearm(kill_at))
    }

    /// Sends a signal to the child itself, not to its group.
    ///
    /// # Errors
    ///
    /// [`Error::Signal`] for a number that is none (real-time signals are not forwarded), else as
    /// [`Self::rearm`].
    pub fn signal(&self, number: i32) -> Result<(), Error> {
        Signal::from_named_raw(number).ok_or(Error::Signal(number))?;
        self.line.send(Order::Signal(number))
    }

    /// Begins to stop it: SIGTERM (and SIGCONT) to its group now, SIGKILL to all after the grace, at the
    /// deadline at the latest. [`Self::wait`] tells when that is done.
    ///
    /// # Errors
    ///
    /// As [`Self::rearm`].
    pub fn stop(&self) -> Result<(), Error> {
        self.line.send(Order::Stop)
    }

    /// Begins to kill it and all its descendants, without grace.
    ///
    /// # Errors
    ///
    /// [`Error::Gone`] when it is over. A guard that does not read is killed, and the child with it.
    pub fn kill(&self) -> Result<(), Error> {
        match self.line.send(Order::Kill) {
            Err(Error::Deaf) => {
                self.line.kill_guard();
                Ok(())
            }
            sent => sent,
        }
    }

    /// Whether it has been sent a signal to end, or has ended.
    pub fn is_stopping(&self) -> bool {
        !matches!(*self.state.borrow(), State::Starting | State::Running(_))
    }

    /// Waits until [`Self::is_stopping`]. Can be dropped and asked again.
    pub async fn stopping(&self) {
        let mut state = self.state.clone();
        // An error means that the driver is gone, and with it the child.
        let _ = state.wait_for(|state| !matches!(state, State::Starting | State::Running(_))).await;
    }

    /// Waits until the child and all its descendants are dead and the guard has ended, so that what it kept is
    /// closed. Can be dropped and asked again.
    ///
    /// Has no bound of its own: a process that the kernel does not let die, or that this user may not kill,
    /// holds it up, which is logged.
    pub async fn wait(&self) -> Exit {
        let mut state = self.state.clone();
        let ended = state.wait_for(|state| matches!(state, State::Ended(_))).await;
        match ended.as_deref() {
            Ok(State::Ended(exit)) => *exit,
            // The runtime is ending, and took the driver with it, whose end is the runner's to the guard.
            _ => Exit { status: Status::Unknown, why: Why::Stopped, strays: 0 },
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Gone is as good.
        let _ = self.kill();
    }
}

/// See [`Spec::spawn`].
pub(crate) async fn spawn(spec: &Spec, kill_at: Boottime) -> Result<Child, Error> {
    let program = || spec.program().display().to_string();
    if !ENTERED.load(Ordering::Relaxed) {
        return Err(Error::NotEntered);
    }
    if let Some(what) = spec.problem() {
        return Err(Error::Spec { program: program(), what });
    }
    let mark = fresh_mark();
    let mut child =
        start(spec, kill_at, mark).map_err(|source| Error::NoGuard { program: program(), source })?;
    let mut state = child.state.clone();
    let started = state.wait_for(|state| !matches!(state, State::Starting)).await;
    match started.as_deref() {
        Ok(State::Running(pid) | State::Stopping(pid)) => child.pid = *pid,
        // Over before this task looked.
        Ok(State::Ended(_)) => {}
        Ok(State::Failed(step, number)) => {
            return Err(failed(*step, *number, spec.program(), spec.working_directory()));
        }
        _ => return Err(Error::GuardLost { program: program() }),
    }
    Ok(child)
}

fn start(spec: &Spec, kill_at: Boottime, mark: String) -> io::Result<Child> {
    let Prepared { plan, given, inputs, outputs } = spec.prepare(kill_at, &mark)?;
    let (ours, theirs) = channel::pair()?;
    let mut descriptors = vec![plan.as_fd()];
    descriptors.extend(given.iter().map(AsFd::as_fd));
    descriptors.extend(spec.kept());
    // Before the guard is there: it never has to wait for it.
    let count = u8::try_from(descriptors.len()).map_err(io::Error::other)?;
    channel::send(ours.as_fd(), &[count], &descriptors)?;
    let inputs = inputs.into_iter().map(|(number, fd)| Ok((number, pipe::Sender::from_owned_fd(fd)?)));
    let inputs = inputs.collect::<io::Result<_>>()?;
    let outputs = outputs.into_iter().map(|(number, fd)| Ok((number, pipe::Receiver::from_owned_fd(fd)?)));
    let outputs = outputs.collect::<io::Result<_>>()?;
    let socket = sys::watched(ours)?;

    let mut command = Command::new("/proc/self/exe");
    command.arg0(GUARD_NAME).env(GUARD_VARIABLE, "1").process_group(0);
    command.stdin(Stdio::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null());
    let mut guard = command.spawn()?;
    let pid = Pid::from_child(&guard);
    let held = pidfd_open(pid, PidfdFlags::empty()).map_err(io::Error::from).and_then(sys::watched);
    let held = held.inspect_err(|_| {
        // It has hardly begun, and what it may have started dies with it. Killed, it cannot keep us waiting.
        let _ = guard.kill();
        let _ = guard.wait();
    })?;
    let line = Arc::new(Line { socket, guard: held, asked: AtomicU64::new(kill_at.as_nanos()) });
    let (tell, state) = watch::channel(State::Starting);
    let driver = Driver {
        line: line.clone(),
        guard,
        mark,
        state: tell,
        confirmed: kill_at,
        pid: 0,
        killing: false,
        end: None,
    };
    tokio::spawn(driver::drive(driver));
    Ok(Child { line, state, guard: pid, pid: 0, inputs, outputs })
}
