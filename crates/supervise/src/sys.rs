//! The system calls that neither std nor rustix has in a safe form. The only unsafe code of the crate.
//!
//! All but [`watched`] are called by the guard alone, which has one thread.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::process::Pid;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Closes every descriptor from `first` on. Must come before this process owns one of them.
pub(crate) fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: called as the guard's first act, when nothing in this process holds a descriptor above stderr.
    let done = unsafe { libc::close_range(first, u32::MAX, 0) };
    check(done).map(drop)
}

/// SIGCHLD back to its default: ignored, as it can be inherited, it would make the kernel drop exit statuses.
pub(crate) fn default_sigchld() {
    // SAFETY: sets a disposition without a handler; SIGCHLD is a valid signal, so it cannot fail.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

/// Blocks all signals that can be blocked, or none.
pub(crate) fn block_signals(all: bool) -> io::Result<()> {
    let mut set = empty_set();
    if all {
        // SAFETY: fills a set of our own.
        unsafe { libc::sigfillset(&raw mut set) };
    }
    // SAFETY: reads the set; the old mask is not asked for.
    check(unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut()) }).map(drop)
}

/// A descriptor that becomes readable at SIGCHLD, which has to be blocked. Never blocks, closed by exec.
pub(crate) fn sigchld_descriptor() -> io::Result<OwnedFd> {
    let mut set = empty_set();
    // SAFETY: adds a valid signal to a set of our own, and hands that set to the kernel to read.
    let fd = check(unsafe {
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    })?;
    // SAFETY: fresh from the kernel, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A copy of this process. `None` in the copy.
pub(crate) fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: the guard has one thread, so the copy holds no lock that another thread has taken.
    let pid = check(unsafe { libc::fork() })?;
    Ok(Pid::from_raw(pid))
}

/// Puts a copy of `fd` at `number`, whatever was there, to be kept over exec.
pub(crate) fn place(fd: BorrowedFd<'_>, number: RawFd) -> io::Result<()> {
    // SAFETY: only the forked copy on its way to exec calls this; what stood at `number` is not used again.
    check(unsafe { libc::dup2(fd.as_raw_fd(), number) }).map(drop)
}

/// Ends this process at once: no destructor runs, the kernel closes what is open.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: always sound; it does not return.
    unsafe { libc::_exit(code) }
}

/// The descriptor as one whose readability the runtime watches. Called by the runner.
pub(crate) fn watched(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` names the same open descriptor as long as it lives, and is never swapped for another.
    let watched = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
    watched.map_err(|error| error.into_parts().1)
}

fn empty_set() -> libc::sigset_t {
    // SAFETY: a set is plain bits, for which zeros are a value; then made empty in the system's own way.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        set
    }
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
