//! Waking the owner thread out of its poll, at most once per sleep.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use rustix::event::{EventfdFlags, eventfd};

/// An eventfd with a flag before it, so that only a sleeper costs a system call.
#[derive(Debug)]
pub(crate) struct Waker {
    fd: OwnedFd,
    asleep: AtomicBool,
}

impl Waker {
    pub(crate) fn new() -> io::Result<Self> {
        let fd = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self { fd, asleep: AtomicBool::new(false) })
    }

    /// To be called after the work was made visible.
    pub(crate) fn wake(&self) {
        if self.asleep.swap(false, SeqCst) {
            // Fails only when the counter is full, and then the descriptor is readable anyway.
            let _ = rustix::io::write(&self.fd, &1_u64.to_ne_bytes());
        }
    }

    /// The sleeper looks for work once more between this and its poll.
    pub(crate) fn will_sleep(&self) {
        self.asleep.store(true, SeqCst);
    }

    /// Awake again: forgets the wake-up.
    pub(crate) fn awake(&self, was_readable: bool) {
        self.asleep.store(false, SeqCst);
        if was_readable {
            let _ = rustix::io::read(&self.fd, &mut [0_u8; 8]);
        }
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}
