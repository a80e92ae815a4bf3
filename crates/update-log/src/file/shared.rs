//! What the log's callers and its writer share.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use common::queue::Sequence;
use tokio::sync::watch;

use super::core::Core;
use super::disk::Disk;
use super::inbox::Inbox;
use crate::{AppendError, LogError};

/// Everything of a log but its writer.
pub(crate) struct Shared {
    core: Mutex<Core>,
    /// Held while a dead letter's file is written or removed.
    letters: Mutex<()>,
    pub(crate) inbox: Inbox,
    pub(crate) tail: watch::Sender<Sequence>,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) max_pending_bytes: u64,
    pub(crate) max_keys: u64,
}

impl Shared {
    /// Puts it together.
    pub(crate) fn new(core: Core, disk: Arc<dyn Disk>, max_pending_bytes: u64, max_keys: u64) -> Self {
        let tail = watch::Sender::new(Sequence(core.state.next()));
        let (core, letters, inbox) = (Mutex::new(core), Mutex::new(()), Inbox::new(1024));
        Self { core, letters, inbox, tail, disk, max_pending_bytes, max_keys }
    }

    /// The state in memory. Held briefly, and never across I/O.
    pub(crate) fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The right to change the files of dead letters.
    pub(crate) fn letters(&self) -> MutexGuard<'_, ()> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The refusal of an append that would take the room that cleaning up needs.
    pub(crate) fn short_of_room(&self) -> AppendError {
        let error = std::io::Error::new(
            std::io::ErrorKind::StorageFull,
            "hardly any room is left on the file system",
        );
        AppendError::Log(disk_error(&*self.disk, "write", "log", error))
    }

    /// Refuses what would not find room.
    pub(crate) fn room_for(&self, bytes: u64) -> Result<(), AppendError> {
        if self.disk.is_short() {
            self.core().refused += 1;
            // The writer may have something to clean up.
            self.inbox.wake();
            return Err(self.short_of_room());
        }
        let mut core = self.core();
        let pending_bytes = core.state.pending_bytes();
        if pending_bytes.saturating_add(bytes) > self.max_pending_bytes {
            core.refused += 1;
            return Err(AppendError::Full { pending_bytes, limit: self.max_pending_bytes });
        }
        Ok(())
    }
}

/// Runs what may block where it does no harm: on a thread for it when there is a runtime.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::runtime::Handle::try_current() {
        Err(_) => work(),
        Ok(runtime) => match runtime.spawn_blocking(work).await {
            Ok(done) => done,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is going down: nobody will ask for the result.
                Err(_) => std::future::pending().await,
            },
        },
    }
}

/// What the system said about a file.
pub(crate) fn disk_error(disk: &dyn Disk, doing: &'static str, name: &str, error: io::Error) -> LogError {
    LogError::Disk { doing, path: disk.path(name).display().to_string(), source: Arc::new(error) }
}
