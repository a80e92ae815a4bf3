//! From the guard to the child: fork, what has to be set in between, exec.
//!
//! Not `std::process::Command::spawn`: that waits until exec is done, and exec may wait for a file system that
//! hangs, while the guard has to keep its deadline.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, getpid, getppid, setsid};

use crate::plan::Plan;
use crate::report::{Step, failure};
use crate::sys;

/// What the copy exits with when it did not come to exec. The runner is told the reason by the pipe.
const FAILED: i32 = 127;

pub(super) struct Launched {
    pub(super) pid: Pid,
    /// Closes at exec; carries a report when the start failed. Never blocks.
    pub(super) outcome: OwnedFd,
}

/// Starts the child. Does not wait for exec.
pub(super) fn launch(plan: &Plan, descriptors: Vec<OwnedFd>) -> io::Result<Launched> {
    let (outcome, tell) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    // Out of the way of the numbers that the child wants.
    let above = plan.targets.iter().max().map_or(3, |highest| highest + 1).max(3);
    let tell = rustix::io::fcntl_dupfd_cloexec(&tell, above)?;
    let guard = getpid();
    match sys::fork()? {
        Some(pid) => Ok(Launched { pid, outcome }),
        None => {
            let (step, error) = become_child(plan, &descriptors, above, guard);
            let report = failure(step, error.raw_os_error().unwrap_or(libc::EINVAL));
            let _ = rustix::io::write(&tell, &report);
            sys::exit_now(FAILED)
        }
    }
}

/// Only returns when it failed. Runs in the copy.
fn become_child(plan: &Plan, descriptors: &[OwnedFd], above: i32, guard: Pid) -> (Step, io::Error) {
    if let Err(error) = prepare(plan, descriptors, above, guard) {
        return (Step::Setup, error);
    }
    if let Some(directory) = &plan.directory
        && let Err(error) = rustix::process::chdir(directory)
    {
        return (Step::Directory, error.into());
    }
    let mut command = Command::new(&plan.program);
    command.args(&plan.args).env_clear().envs(plan.env.iter().map(|(key, value)| (key, value)));
    (Step::Exec, command.exec())
}

fn prepare(plan: &Plan, descriptors: &[OwnedFd], above: i32, guard: Pid) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // A guard that died before that call sends no signal any more.
    if getppid() != Some(guard) {
        sys::exit_now(FAILED);
    }
    // A session, and with it a group: signals to the runner's terminal or group do not reach the child.
    setsid()?;
    // First all out of the way of the numbers that are wanted, then each to its own.
    let move_up = |fd| rustix::io::fcntl_dupfd_cloexec(fd, above);
    let moved: Vec<OwnedFd> = descriptors.iter().map(move_up).collect::<Result<_, _>>()?;
    for (fd, number) in moved.iter().zip(&plan.targets) {
        sys::place(fd.as_fd(), *number)?;
    }
    // A daemon may have switched huge pages off for itself; the child decides for itself. A kernel that does not
    // know of it has nothing to switch.
    let _ = rustix::thread::disable_transparent_huge_pages(false);
    sys::block_signals(false)
}
