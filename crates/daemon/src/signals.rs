//! Signals become messages: SIGHUP asks for a reload, SIGTERM and SIGINT for the end.
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals as Caught;
use tokio::sync::mpsc;

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
    requests: mpsc::UnboundedReceiver<Request>,
    handle: signal_hook::iterator::Handle,
}

impl Signals {
    /// Catches the signals from here on, on a thread of its own, so that a second SIGTERM ends the
    /// process even when every runtime is stuck.
    pub fn install() -> io::Result<Self> {
        let mut caught = Caught::new([SIGHUP, SIGINT, SIGTERM])?;
        let handle = caught.handle();
        let (sender, requests) = mpsc::unbounded_channel();
        let draining = Arc::new(AtomicBool::new(false));
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            for signal in caught.forever() {
                if signal == SIGHUP {
                    reload(&sender, &draining);
                } else if draining.swap(true, Ordering::AcqRel) {
                    tracing::warn!("second signal: ending at once");
                    crate::log::flush();
                    std::process::exit(exit::FAILED.into());
                } else {
                    // Nobody listens any more when the daemon is past its end.
                    let _ = sender.send(Request::Drain);
                }
            }
        })?;
        Ok(Self { requests, handle })
    }

    /// The next request. Never resolves when there can be none.
    pub async fn next(&mut self) -> Request {
        match self.requests.recv().await {
            Some(request) => request,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.handle.close();
    }
}

fn reload(sender: &mpsc::UnboundedSender<Request>, draining: &AtomicBool) {
    if draining.load(Ordering::Acquire) {
        tracing::info!("SIGHUP ignored: the daemon is draining");
    } else {
        let _ = sender.send(Request::Reload);
    }
}

/// A closed pipe is an error of one write, not the end of the daemon. Rust's runtime starts with
/// this; a parent or a library may have changed it.
pub(crate) fn ignore_sigpipe() {
    // Registering any action takes the place of the default, which would end the process.
    let nothing = Arc::new(AtomicBool::new(false));
    drop(signal_hook::flag::register(signal_hook::consts::SIGPIPE, nothing));
}
