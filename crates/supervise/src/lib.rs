//! A child process under a guard: it runs only until a deadline that somebody keeps moving, and nothing of it
//! is left when it is over.
//!
//! Between the runner (the daemon) and the child stands a **guard**: this same program, started again, with
//! one thread and nothing to do but watch. It kills the child and every descendant when the runner dies,
//! when the runner hangs past the deadline, when it is told to, and when the child ends by itself.
//! `docs/design/supervise.md` has the invariants and what is not covered.
//!
//! ```no_run
//! use std::time::Duration;
//! use supervise::{Boottime, Spec};
//!
//! fn main() {
//!     supervise::enter(); // before anything else, and above all before any thread
//!     // ... the runtime, and in it:
//! }
//!
//! async fn job() -> Result<(), supervise::Error> {
//!     let spec = Spec::new("sleep").arg("3600").grace(Duration::from_secs(2));
//!     let child = spec.spawn(Boottime::now() + Duration::from_secs(10)).await?;
//!     child.rearm(Boottime::now() + Duration::from_secs(10))?; // as often as the right to run is renewed
//!     child.stop()?;
//!     let exit = child.wait().await;
//!     println!("{:?}, because {:?}; {} strays", exit.status, exit.why, exit.strays);
//!     Ok(())
//! }
//! ```

#![deny(unsafe_code)]

#[cfg(not(target_os = "linux"))]
compile_error!("supervise stands on Linux: pidfd, subreaper, parent-death signal, CLOCK_BOOTTIME");

mod backoff;
mod boottime;
mod channel;
mod child;
mod driver;
mod error;
mod guard;
mod ladder;
mod lost;
mod plan;
mod procfs;
mod report;
mod spec;
#[expect(unsafe_code, reason = "system calls that nobody wraps; all of them are in this file")]
mod sys;

use std::sync::atomic::{AtomicBool, Ordering};

pub use backoff::Backoff;
pub use boottime::Boottime;
pub use child::{Child, Exit, Status, Why};
pub use error::Error;
pub use spec::{Io, Spec};

/// The name under which a guard shows in `ps`, and half of how it knows itself.
const GUARD_NAME: &str = "supervise-guard";
/// The other half: set for guards only, never for children.
const GUARD_VARIABLE: &str = "SUPERVISE_GUARD";

/// Whether this process called [`enter`]: one that did not must never start itself as a guard.
static ENTERED: AtomicBool = AtomicBool::new(false);

/// Has to be the first thing in `main` of every program that starts children here, before any thread.
///
/// When this process was started as a guard, it becomes the guard and this never returns. Else it returns at
/// once.
pub fn enter() {
    let named = std::env::args_os().next().is_some_and(|name| name == GUARD_NAME);
    if named && std::env::var_os(GUARD_VARIABLE).is_some() {
        guard::run();
    }
    ENTERED.store(true, Ordering::Relaxed);
}
