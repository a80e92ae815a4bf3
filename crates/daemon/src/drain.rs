//! The orderly end: one token that says "begin no more", and a count of what is still in flight.
//!
//! Clones are cheap, and work from any thread and any runtime: nothing here belongs to one.
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// How far the end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Everything runs.
    Running = 0,
    /// Nothing new begins; what is in flight finishes.
    Draining = 1,
    /// The deadline has passed; what is still in flight is dropped.
    Expired = 2,
}

#[derive(Debug, Default)]
struct Inner {
    phase: AtomicU8,
    guards: AtomicUsize,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    wakers: HashMap<u64, Waker>,
}

impl Inner {
    fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Running,
            1 => Phase::Draining,
            _ => Phase::Expired,
        }
    }

    fn advance(&self, to: Phase) {
        self.phase.fetch_max(to as u8, Ordering::AcqRel);
        self.wake();
    }

    fn wake(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let wakers: Vec<Waker> = waiting.wakers.drain().map(|(_, waker)| waker).collect();
        drop(waiting);
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// The token of the end. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Drain {
    inner: Arc<Inner>,
}

impl Drain {
    /// A token of something that runs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins the end: wakes everybody who waits for it.
    pub fn begin(&self) {
        self.inner.advance(Phase::Draining);
    }

    /// Says that the wait is over and what is left is to be dropped.
    pub fn expire(&self) {
        self.inner.advance(Phase::Expired);
    }

    /// How far the end has come.
    pub fn phase(&self) -> Phase {
        self.inner.phase()
    }

    /// Whether nothing new is to begin.
    pub fn is_draining(&self) -> bool {
        self.phase() >= Phase::Draining
    }

    /// Resolves when the end begins, at once when it has.
    pub fn draining(&self) -> Reached {
        self.reached(Phase::Draining)
    }

    /// Resolves when what is in flight is to be dropped.
    pub fn expired(&self) -> Reached {
        self.reached(Phase::Expired)
    }

    fn reached(&self, wanted: Phase) -> Reached {
        Reached { inner: self.inner.clone(), wanted: Wanted::Phase(wanted), registered: None }
    }

    /// Counts something as in flight until the guard is dropped.
    #[must_use = "the work counts as done when the guard is dropped"]
    pub fn guard(&self) -> Guard {
        self.inner.guards.fetch_add(1, Ordering::AcqRel);
        Guard { inner: self.inner.clone() }
    }

    /// How much is in flight.
    pub fn in_flight(&self) -> usize {
        self.inner.guards.load(Ordering::Acquire)
    }

    /// Waits until nothing is in flight, no longer than `timeout`. Says whether it came to that.
    /// Before the end has begun there can always be more, so that counts as not idle.
    ///
    /// Has to run within a tokio runtime with time enabled.
    pub async fn wait_idle(&self, timeout: Duration) -> bool {
        let idle = Reached { inner: self.inner.clone(), wanted: Wanted::Idle, registered: None };
        tokio::time::timeout(timeout, idle).await.is_ok()
    }
}

/// Something in flight; done when dropped.
#[derive(Debug)]
pub struct Guard {
    inner: Arc<Inner>,
}

impl Clone for Guard {
    fn clone(&self) -> Self {
        self.inner.guards.fetch_add(1, Ordering::AcqRel);
        Self { inner: self.inner.clone() }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Only an end that has begun has somebody waiting for the last one.
        if self.inner.guards.fetch_sub(1, Ordering::AcqRel) == 1 && self.inner.phase() > Phase::Running {
            self.inner.wake();
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Wanted {
    Phase(Phase),
    Idle,
}

/// Resolves when the end has come as far as was asked for.
///
/// A poll that finds nothing new costs one atomic load: connections poll it each time they wake.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Reached {
    inner: Arc<Inner>,
    wanted: Wanted,
    registered: Option<(u64, Waker)>,
}

impl Reached {
    fn is_reached(&self) -> bool {
        match self.wanted {
            Wanted::Phase(phase) => self.inner.phase() >= phase,
            Wanted::Idle => {
                self.inner.phase() > Phase::Running && self.inner.guards.load(Ordering::Acquire) == 0
            }
        }
    }

    fn register(&mut self, waker: &Waker) {
        let mut waiting = self.inner.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let id = match &self.registered {
            Some((id, _)) => *id,
            None => {
                waiting.next += 1;
                waiting.next
            }
        };
        waiting.wakers.insert(id, waker.clone());
        drop(waiting);
        self.registered = Some((id, waker.clone()));
    }
}

impl Future for Reached {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.is_reached() {
            return Poll::Ready(());
        }
        // While the phase stands still our waker stays where it is.
        let registered = self.registered.as_ref();
        let fresh = registered.is_some_and(|(_, waker)| waker.will_wake(context.waker()));
        if fresh && self.inner.phase() == Phase::Running {
            return Poll::Pending;
        }
        self.register(context.waker());
        // What changed between the first look and the registration woke nobody here.
        if self.is_reached() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Reached {
    fn drop(&mut self) {
        if let Some((id, _)) = self.registered.take() {
            let mut waiting = self.inner.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.wakers.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn reaches_waiters_in_several_runtimes() {
        let drain = Drain::new();
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let drain = drain.clone();
                let guard = drain.guard();
                std::thread::spawn(move || {
                    runtime().block_on(drain.draining());
                    drop(guard);
                })
            })
            .collect();
        assert_eq!(drain.in_flight(), 4);
        drain.begin();
        assert!(runtime().block_on(drain.wait_idle(Duration::from_secs(30))));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(drain.is_draining());
    }

    #[test]
    fn waits_no_longer_than_the_deadline() {
        let drain = Drain::new();
        let guard = drain.guard();
        drain.begin();
        assert!(!runtime().block_on(drain.wait_idle(Duration::from_millis(5))));
        drop(guard);
        assert!(runtime().block_on(drain.wait_idle(Duration::from_secs(30))));
    }

    #[test]
    fn expiry_follows_the_beginning() {
        let drain = Drain::new();
        runtime().block_on(async {
            let expired = tokio::spawn(drain.expired());
            drain.begin();
            drain.draining().await;
            assert!(!expired.is_finished());
            drain.expire();
            expired.await.unwrap();
        });
        drain.begin();
        assert_eq!(drain.phase(), Phase::Expired);
    }

    #[test]
    fn a_dropped_waiter_leaves_nothing_behind() {
        let drain = Drain::new();
        runtime().block_on(async {
            let waited = tokio::time::timeout(Duration::from_millis(1), drain.draining()).await;
            assert!(waited.is_err());
        });
        assert!(drain.inner.waiting.lock().unwrap().wakers.is_empty());
    }
}
