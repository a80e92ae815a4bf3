//! A task that contends for one lease, with real clocks.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use gone::{Keeper, Options};
//!
//! let lock = gone::lock::dial("redis://127.0.0.1:6379")?;
//! let handle = Keeper::new(lock, "nightly-report", Options::default())?.start()?;
//! handle
//!     .run_while_held(|turn| async move {
//!         // Give `turn.token` to whatever is written to; end soon after `turn.stopping()`.
//!         turn.stopping().await;
//!     })
//!     .await;
//! # Ok(())
//! # }
//! ```

mod task;
mod work;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::clock::{self, Timer};
use crate::error::LockError;
use crate::lease::rules::{Contender, Reply, Request, View};
use crate::lease::{Input, Lease, State, Terms, Timing, Unsafe};
use crate::lock::{Id, Lock};

pub use work::Turn;

/// What the child should be: the latest replaces what was not taken yet, so nothing queues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Assignment {
    /// Counts the starts.
    turn: u64,
    token: u64,
    armed: Option<(Duration, Duration)>,
}

/// How to contend.
#[derive(Clone, Debug)]
pub struct Options {
    /// The times.
    pub timing: Timing,
    /// Where the holder takes messages, for whoever looks it up; empty when it takes none.
    pub address: String,
    /// Take the lease at once where the store has no record of the id: for demos and tests.
    pub fresh: bool,
    /// Contend with nodes of the original program too. `address` has to be the one they know.
    pub compat: bool,
}

impl Default for Options {
    fn default() -> Self {
        let timing = Timing::of(Duration::from_secs(30));
        Self { timing, address: String::new(), fresh: false, compat: false }
    }
}

/// Why contending could not begin.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// The id cannot be used.
    #[error("{0}")]
    Id(String),
    /// The times cannot be safe.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Unsafe(Vec<Unsafe>),
    /// The original's nodes are found by an address only.
    #[error("compat needs the address that the original's nodes would send to")]
    NoAddress,
    /// The process has no descriptor left for a timer.
    #[error("making a timer: {0}")]
    Timer(std::io::Error),
}

/// What the machine wants done to the child, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// SIGTERM at the first time of CLOCK_BOOTTIME, SIGKILL of all at the second, unless armed anew. A time
    /// that has passed means at once.
    Arm {
        /// SIGTERM.
        stop_at: Duration,
        /// SIGKILL.
        kill_at: Duration,
    },
    /// Start the child; the guard was armed just before.
    Start {
        /// The fencing token.
        token: u64,
    },
}

/// A contender that has not begun.
#[derive(Debug)]
pub struct Keeper {
    lock: Arc<dyn Lock>,
    id: Id,
    options: Options,
    owner: String,
}

impl Keeper {
    /// Checks the id and the times.
    ///
    /// # Errors
    /// [`KeeperError`], with every problem of the times at once.
    pub fn new(lock: Arc<dyn Lock>, id: &str, options: Options) -> Result<Self, KeeperError> {
        let id = Id::new(id).map_err(KeeperError::Id)?;
        let mut problems = options.timing.problems();
        problems.extend(lock.problems(&options.timing));
        if !problems.is_empty() {
            return Err(KeeperError::Unsafe(problems));
        }
        if options.compat && options.address.is_empty() {
            return Err(KeeperError::NoAddress);
        }
        // 128 random bits: no other process has this name, this one's successor on the same address neither.
        let owner = format!("{:032x}", rand::random::<u128>());
        Ok(Self { lock, id, options, owner })
    }

    /// Begins to contend, on a task of the current tokio runtime.
    ///
    /// # Errors
    /// [`KeeperError::Timer`].
    pub fn start(self) -> Result<Handle, KeeperError> {
        let timer = Timer::new().map_err(KeeperError::Timer)?;
        let Self { lock, id, options, owner } = self;
        let from = Contender {
            owner: owner.clone(),
            address: options.address,
            expiry_ms: u64::try_from(options.timing.expiry.as_millis()).unwrap_or(u64::MAX),
            compat: options.compat,
        };
        let terms =
            Terms { timing: options.timing, owner, fresh: options.fresh, look_every: lock.look_every() };
        let now = clock::now();
        let lease = Lease::new(terms, now);
        let (state, states) = watch::channel(lease.state(now));
        let (inputs, received) = mpsc::unbounded_channel();
        let (assign, assigned) = watch::channel(Assignment::default());
        let task = task::Task::new(lock.clone(), id.clone(), from, lease, options.timing.patience(), state);
        tokio::spawn(task.run(timer, received, assign));
        Ok(Handle { lock, id, states, inputs, assigned, taken: Assignment::default() })
    }
}

/// A contender under way. Dropped, it stops contending and releases the lease: the child has to be dead by then.
#[derive(Debug)]
pub struct Handle {
    lock: Arc<dyn Lock>,
    id: Id,
    states: watch::Receiver<State>,
    /// Without a bound: a turn has two or three inputs, and none may be lost.
    inputs: mpsc::UnboundedSender<Input>,
    assigned: watch::Receiver<Assignment>,
    /// What was given out as orders so far.
    taken: Assignment,
}

impl Handle {
    /// The lease as it changes. [`State::Held`] comes anew with each renewal, with a later deadline.
    pub fn watch(&self) -> watch::Receiver<State> {
        self.states.clone()
    }

    /// The token and the deadline, if the lease is held at this very moment: asked before each acknowledgement.
    pub fn held(&self) -> Option<(u64, Duration)> {
        match *self.states.borrow() {
            State::Held { token, stop_at, deadline } if clock::now() < stop_at => Some((token, deadline)),
            _ => None,
        }
    }

    /// The next order for the child; none when contending has ended. After a start, tell
    /// [`Handle::child_dead`] when all of it is dead.
    ///
    /// Armings that were not taken in time are replaced by later ones. A future that is dropped loses nothing.
    pub async fn order(&mut self) -> Option<Order> {
        loop {
            let now = *self.assigned.borrow_and_update();
            if let Some((stop_at, kill_at)) = now.armed.filter(|_| now.armed != self.taken.armed) {
                self.taken.armed = now.armed;
                return Some(Order::Arm { stop_at, kill_at });
            }
            if now.turn != self.taken.turn {
                self.taken.turn = now.turn;
                return Some(Order::Start { token: now.token });
            }
            self.assigned.changed().await.ok()?;
        }
    }

    /// The child is not well, or has ended: the lease is freed as soon as it is dead, and contended for again
    /// after `pause`.
    pub fn give_up(&self, pause: Duration) {
        let _ = self.inputs.send(Input::GiveUp { pause });
    }

    /// Contends no more: the child is told to end, then the lease is released.
    pub fn stop(&self) {
        let _ = self.inputs.send(Input::Stop);
    }

    /// Says [`Handle::stop`] from elsewhere.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.inputs.clone())
    }

    /// The child, and everything that it started, is dead.
    pub fn child_dead(&self) {
        let _ = self.inputs.send(Input::ChildDead);
    }

    /// The descriptor for the guard, where the kernel keeps the lease; see [`Lock::descriptor`].
    pub fn descriptor(&self) -> Option<std::os::fd::OwnedFd> {
        self.lock.descriptor(&self.id)
    }
}

/// Ends contending, while the handle is at work.
#[derive(Clone, Debug)]
pub struct Stopper(mpsc::UnboundedSender<Input>);

impl Stopper {
    /// As [`Handle::stop`].
    pub fn stop(&self) {
        let _ = self.0.send(Input::Stop);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop();
        // Nobody is left who could say so later.
        self.child_dead();
    }
}

/// Looks at an id's lease once, without contending.
///
/// # Errors
/// [`LockError`] when the store does not answer within `patience`.
pub async fn look(lock: &dyn Lock, id: &Id, compat: bool, patience: Duration) -> Result<View, LockError> {
    let from = Contender { owner: String::new(), address: String::new(), expiry_ms: 0, compat };
    let mut session = lock.open(id, &from, patience, Arc::new(|_| {})).await?;
    match session.ask(&Request::Read).await? {
        Reply::Shown(view) => Ok(view),
        other => Err(LockError::Answer { lock: lock.address(), what: format!("{other:?}") }),
    }
}
