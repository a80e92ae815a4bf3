//! Signals become requests: SIGHUP asks for a reload, SIGTERM and SIGINT for the end.
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals as Caught;
use tokio::sync::Notify;

use crate::error::exit;

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Read the configuration again.
    Reload,
    /// Finish what is in flight and end.
    Drain,
}

/// The requests that signals make.
#[derive(Debug)]
pub struct Signals {
    wanted: Arc<Wanted>,
    handle: signal_hook::iterator::Handle,
}

impl Signals {
    /// Catches the signals from here on, on a thread of its own, so that a second SIGTERM ends the
    /// process even when every runtime is stuck.
    pub fn install() -> io::Result<Self> {
        let mut caught = Caught::new([SIGHUP, SIGINT, SIGTERM])?;
        let handle = caught.handle();
        let wanted = Arc::new(Wanted::default());
        let noted = wanted.clone();
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            for signal in caught.forever() {
                if signal == SIGHUP {
                    noted.reload();
                } else if noted.drain() {
                    tracing::warn!("second signal: ending at once");
                    crate::log::flush();
                    std::process::exit(exit::FAILED.into());
                }
            }
        })?;
        Ok(Self { wanted, handle })
    }

    /// The next request: the end first, which is given once; several reloads that were asked for since
    /// the last one are one.
    pub async fn next(&mut self) -> Request {
        loop {
            if let Some(request) = self.wanted.take() {
                return request;
            }
            self.wanted.changed.notified().await;
        }
    }
}

/// What has been asked for and not been given out.
#[derive(Debug, Default)]
struct Wanted {
    reload: AtomicBool,
    drain: AtomicBool,
    /// The end was asked for, whether that was given out or not.
    draining: AtomicBool,
    changed: Notify,
}

impl Wanted {
    fn reload(&self) {
        if self.draining.load(Ordering::Acquire) {
            tracing::info!("SIGHUP ignored: the daemon is draining");
        } else {
            self.reload.store(true, Ordering::Release);
            self.changed.notify_one();
        }
    }

    /// Whether it was asked for before.
    fn drain(&self) -> bool {
        let before = self.draining.swap(true, Ordering::AcqRel);
        if !before {
            self.drain.store(true, Ordering::Release);
            self.changed.notify_one();
        }
        before
    }

    fn take(&self) -> Option<Request> {
        if self.drain.swap(false, Ordering::AcqRel) {
            return Some(Request::Drain);
        }
        self.reload.swap(false, Ordering::AcqRel).then_some(Request::Reload)
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.handle.close();
    }
}

/// A closed pipe is an error of one write, not the end of the daemon. Rust's runtime starts with
/// this; a parent or a library may have changed it.
pub(crate) fn ignore_sigpipe() {
    // Registering any action takes the place of the default, which would end the process.
    let nothing = Arc::new(AtomicBool::new(false));
    drop(signal_hook::flag::register(signal_hook::consts::SIGPIPE, nothing));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_reloads_are_one_and_the_end_comes_first() {
        let wanted = Wanted::default();
        (0..200).for_each(|_| wanted.reload());
        assert_eq!((wanted.take(), wanted.take()), (Some(Request::Reload), None));
        wanted.reload();
        assert!(!wanted.drain());
        assert_eq!(wanted.take(), Some(Request::Drain));
        assert!(wanted.drain(), "the second signal");
    }
}
