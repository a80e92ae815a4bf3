//! Work inside this process that runs only while the lease is held: for programs without a child to guard.

use std::future::Future;
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::{self, Timer};
use crate::lease::State;

use super::{Handle, Order};

/// One time of holding the lease.
#[derive(Clone, Debug)]
pub struct Turn {
    /// The fencing token.
    pub token: u64,
    stopping: watch::Receiver<bool>,
    states: watch::Receiver<State>,
}

impl Turn {
    /// Resolves when the work has to end: the lease was given up or is running out.
    pub async fn stopping(&self) {
        // An error is the end as well: whoever would have said so is gone.
        let _ = self.stopping.clone().wait_for(|stopping| *stopping).await;
    }

    /// Whether this turn's lease is held at this very moment.
    pub fn is_held(&self) -> bool {
        matches!(*self.states.borrow(), State::Held { token, stop_at, .. }
            if token == self.token && clock::now() < stop_at)
    }
}

impl Handle {
    /// Runs `work` whenever the lease is held, until contending ends. The future is told to end by
    /// [`Turn::stopping`], and dropped where it stands at the deadline. When it ends by itself, the lease is
    /// freed and contended for again.
    ///
    /// A future can only be dropped where it awaits: work that blocks its thread, or that it has handed to
    /// other tasks, goes on. Where that matters, run it as a child process under a guard.
    pub async fn run_while_held<F, W>(mut self, mut work: F)
    where
        F: FnMut(Turn) -> W,
        W: Future<Output = ()>,
    {
        let Ok(timer) = Timer::new() else { return };
        let mut armed = (Duration::MAX, Duration::MAX);
        while let Some(order) = self.order().await {
            match order {
                Order::Arm { stop_at, kill_at } => armed = (stop_at, kill_at),
                Order::Start { token } => {
                    let (stop, stopping) = watch::channel(false);
                    let turn = Turn { token, stopping, states: self.watch() };
                    if self.turn(work(turn), &timer, &stop, armed).await {
                        self.give_up(Duration::ZERO);
                    }
                    self.child_dead();
                }
            }
        }
    }

    /// Drives the work of one turn; true when it ended by itself before it was told to.
    async fn turn(
        &mut self,
        work: impl Future<Output = ()>,
        timer: &Timer,
        stop: &watch::Sender<bool>,
        mut armed: (Duration, Duration),
    ) -> bool {
        tokio::pin!(work);
        let mut open = true;
        loop {
            let (stop_at, kill_at) = armed;
            let now = clock::now();
            if now >= kill_at {
                return false;
            }
            if now >= stop_at {
                stop.send_replace(true);
            }
            let next = if now >= stop_at { kill_at } else { stop_at };
            tokio::select! {
                biased;
                order = self.order(), if open => match order {
                    Some(Order::Arm { stop_at, kill_at }) => armed = (stop_at, kill_at),
                    Some(Order::Start { .. }) => {}
                    // The task is gone: what was armed last still holds.
                    None => open = false,
                },
                () = timer.until(next) => {}
                () = &mut work => return !*stop.borrow(),
            }
        }
    }
}
