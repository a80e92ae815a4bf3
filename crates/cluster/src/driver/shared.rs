//! What the driver and the application's handles share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::core::{Core, Time};
use crate::driver::clock::Clock;
use crate::driver::keys::Keys;
use crate::stream::Hub;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) name: Arc<str>,
    core: Mutex<Core>,
    keys: Mutex<Keys>,
    pub(crate) clock: Clock,
    pub(crate) hub: Hub,
    waker: Arc<Waker>,
    /// Those who wait for room.
    pub(crate) room: Notify,
    pub(crate) denied: AtomicU64,
    /// The last step of the end is done.
    pub(crate) ended: AtomicBool,
    pub(crate) end: Notify,
}

/// Wakes the driver, once per turn.
#[derive(Debug, Default)]
pub(crate) struct Waker {
    raised: AtomicBool,
    notify: Notify,
}

impl Waker {
    fn wake(&self) {
        if !self.raised.swap(true, SeqCst) {
            self.notify.notify_one();
        }
    }

    pub(crate) async fn called(&self) {
        self.notify.notified().await;
    }

    /// Before the work is looked at.
    pub(crate) fn lower(&self) {
        self.raised.store(false, SeqCst);
    }
}

impl Shared {
    pub(crate) fn new(name: Arc<str>, core: Core, keys: Keys) -> Self {
        let waker = Arc::new(Waker::default());
        let refill = Arc::clone(&waker);
        Self {
            name,
            core: Mutex::new(core),
            keys: Mutex::new(keys),
            clock: Clock::new(),
            hub: Hub::new(Arc::new(move || refill.wake())),
            waker,
            room: Notify::new(),
            denied: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            end: Notify::new(),
        }
    }

    pub(crate) fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn keys(&self) -> MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the core, and has the driver do what follows.
    pub(crate) fn with<R>(&self, change: impl FnOnce(&mut Core, Time) -> R) -> R {
        let result = {
            let mut core = self.core();
            change(&mut core, self.clock.now())
        };
        self.waker.wake();
        result
    }

    pub(crate) fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }
}
