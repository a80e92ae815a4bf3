//! The engine that keeps the log in files of its own.

pub(crate) mod answers;
mod batch;
pub(crate) mod codec;
mod core;
mod dead;
pub(crate) mod disk;
mod diverged;
pub(crate) mod encode;
pub(crate) mod files;
mod frame;
mod inbox;
mod journal;
mod keys;
mod members;
mod open;
mod query;
mod read;
pub(crate) mod record;
mod recover;
mod retry;
mod rewind;
mod segment;
pub(crate) mod shared;
mod spool;
mod state;
mod tend;
mod writer;

#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use common::node::NodeId;
use common::queue::Sequence;
use daemon::state_dir::StateDir;
use tokio::sync::{oneshot, watch};

pub use open::{FileLogOptions, OpenError};
pub(crate) use spool::Guard;

use self::encode::Parts;
use self::inbox::{Command, Kept, Outcome, Reply};
use self::shared::{Shared, blocking, disk_error};
use crate::{
    Answer, AppendError, Appended, DeadLetter, Divergence, Failure, Filter, LogError, LogFuture, NewUpdate,
    Pending, Queue, RewindError, Settled, Spool, Status, UnsubscribeError, Update, UpdateLog, Usage,
};

/// A log in files of its own.
pub struct FileLog {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// Locked as long as the log is open.
    _dir: Option<StateDir>,
}

impl fmt::Debug for FileLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileLog").field("dir", &self.shared.disk.path("")).finish_non_exhaustive()
    }
}

impl Drop for FileLog {
    fn drop(&mut self) {
        self.shared.inbox.stop();
        let writer = self.writer.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            // A panic of the writer has been reported where it happened.
            let _ = writer.join();
        }
    }
}

impl FileLog {
    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, LogError> {
        let (reply, answer) = oneshot::channel();
        if !self.shared.inbox.push(command(reply)).await {
            return Err(LogError::Closed);
        }
        answer.await.map_err(|_| LogError::Closed)
    }

    async fn append_update(&self, update: NewUpdate) -> Result<Appended, AppendError> {
        let encoded = encode::encode_append(&Parts::from(&update)).ok_or_else(|| {
            let error = io::Error::new(io::ErrorKind::FileTooLarge, "the update is too large for a record");
            AppendError::Log(disk_error(&*self.shared.disk, "write", "log", error))
        })?;
        let outcome = self.ask(|reply| Command::Append { update, encoded, reply }).await??;
        Ok(match outcome {
            Outcome::New { sequence, tracker } => Appended::New { sequence, tracker },
            Outcome::KeyReused { sequence } => Appended::KeyReused { sequence },
            Outcome::Known { sequence, answer, tracker } => {
                let answer = match answer {
                    Some(kept) => self.kept_answer(kept, sequence).await,
                    None => None,
                };
                Appended::Known { sequence, answer, tracker }
            }
        })
    }

    async fn kept_answer(&self, kept: Kept, sequence: Sequence) -> Option<Arc<Answer>> {
        match kept {
            Kept::Here(answer) => Some(answer),
            Kept::At(place) => {
                let shared = self.shared.clone();
                let entry = blocking(move || tend::read_answer(&shared, place)).await?;
                entry.answer.filter(|_| entry.sequence == sequence.0)
            }
        }
    }
}

impl UpdateLog for FileLog {
    fn append(&self, update: NewUpdate) -> LogFuture<'_, Result<Appended, AppendError>> {
        Box::pin(self.append_update(update))
    }

    fn spool(&self) -> LogFuture<'_, Result<Box<dyn Spool>, AppendError>> {
        Box::pin(spool::SpoolFile::begin(self.shared.clone()))
    }

    fn read(
        &self,
        node: &NodeId,
        from: Sequence,
        max: usize,
    ) -> LogFuture<'_, Result<Vec<Pending>, LogError>> {
        let node = node.clone();
        Box::pin(async move { read::pending(self.shared.clone(), &node, from, max).await })
    }

    fn tail(&self) -> watch::Receiver<Sequence> {
        self.shared.tail.subscribe()
    }

    fn failed(
        &self,
        node: &NodeId,
        sequence: Sequence,
        failure: Failure,
    ) -> LogFuture<'_, Result<(), LogError>> {
        let node = node.clone();
        let retried = self.shared.core().retried_slot(&node, sequence.0);
        Box::pin(async move {
            match retried {
                Some(slot) => retry::failed(self.shared.clone(), node, (slot, sequence.0), failure).await,
                None => self.ask(|reply| Command::Failed { node, sequence, failure, reply }).await?,
            }
        })
    }

    fn begin_attempt(&self, node: &NodeId, sequence: Sequence) -> LogFuture<'_, bool> {
        let granted = self.shared.core().begin_attempt(node, sequence.0);
        Box::pin(std::future::ready(granted))
    }

    fn end_attempt(&self, node: &NodeId, sequence: Sequence) {
        self.shared.core().end_attempt(node, sequence.0);
    }

    fn settle(&self, node: &NodeId, update: &Arc<Update>, settled: Settled) {
        let dead = matches!(settled, Settled::Dead { .. });
        let mut core = self.shared.core();
        // The writer has been told of the first mark and looks again in time for those behind it.
        let told = !core.marks.is_empty();
        core.settle(node, update, settled);
        let gone = !core.gone.is_empty();
        drop(core);
        if dead || gone || !told {
            self.shared.inbox.wake();
        }
    }

    fn reject(&self, sequence: Sequence, answer: Arc<Answer>) -> LogFuture<'_, bool> {
        Box::pin(async move {
            let Some(rejection) = self.shared.core().reject(sequence.0, answer.status.as_u16()) else {
                return false;
            };
            // Nobody hears of it before it is durable: a crash would make it pending again. Where the
            // disk refuses it is written as soon as it can be, and whoever waits is told 202.
            if let Ok(Ok(())) = self.ask(|reply| Command::Flush { reply }).await {
                self.shared.core().rejected(rejection, &answer);
            }
            true
        })
    }

    fn subscribe(&self, node: &NodeId) -> LogFuture<'_, Result<(), LogError>> {
        let node = node.clone();
        Box::pin(async move { self.ask(|reply| Command::Subscribe { node, reply }).await? })
    }

    fn unsubscribe(&self, node: &NodeId, discard: bool) -> LogFuture<'_, Result<u64, UnsubscribeError>> {
        let node = node.clone();
        Box::pin(async move { self.ask(|reply| Command::Unsubscribe { node, discard, reply }).await? })
    }

    fn rename(&self, old: &NodeId, new: &NodeId) -> LogFuture<'_, Result<(), LogError>> {
        let (old, new) = (old.clone(), new.clone());
        Box::pin(async move { self.ask(|reply| Command::Rename { old, new, reply }).await? })
    }

    fn discard(&self, node: &NodeId) -> LogFuture<'_, Result<u64, LogError>> {
        let node = node.clone();
        Box::pin(async move { self.ask(|reply| Command::Discard { node, reply }).await? })
    }

    fn rewind(&self, node: &NodeId, from: Option<Sequence>) -> LogFuture<'_, Result<u64, RewindError>> {
        let node = node.clone();
        Box::pin(async move { self.ask(|reply| Command::Rewind { node, from, reply }).await? })
    }

    fn park(&self, node: &NodeId) -> LogFuture<'_, Result<u64, LogError>> {
        let node = node.clone();
        Box::pin(async move { self.ask(|reply| Command::Park { node, reply }).await? })
    }

    fn is_parked(&self, node: &NodeId) -> bool {
        let core = self.shared.core();
        core.state.slot(node).and_then(|slot| core.state.node(slot)).is_some_and(|node| node.parked)
    }

    fn nodes(&self) -> Vec<NodeId> {
        self.shared.core().state.subscribed()
    }

    fn queue(&self, node: &NodeId) -> Option<Queue> {
        self.shared.core().queue(node)
    }

    fn status(&self, sequence: Sequence) -> LogFuture<'_, Result<Option<Status>, LogError>> {
        Box::pin(async move { Ok(read::statuses(self.shared.clone(), vec![sequence.0]).await?.pop()) })
    }

    fn list(&self, filter: Filter) -> LogFuture<'_, Result<Vec<Status>, LogError>> {
        Box::pin(read::list(self.shared.clone(), filter))
    }

    fn dead_letters(&self, node: Option<&NodeId>) -> LogFuture<'_, Result<Vec<DeadLetter>, LogError>> {
        let core = self.shared.core();
        let named = |((slot, _), letter): (&(record::Slot, u64), &DeadLetter)| DeadLetter {
            node: core.letter_node(*slot, letter).clone(),
            ..letter.clone()
        };
        let idle = core.dead.iter().filter(|(key, _)| !core.retried.contains_key(*key));
        let mut letters: Vec<_> = idle.map(named).collect();
        letters.retain(|letter| node.is_none_or(|node| letter.node == *node));
        letters.sort_by(|a, b| (&a.node, a.sequence).cmp(&(&b.node, b.sequence)));
        Box::pin(std::future::ready(Ok(letters)))
    }

    fn dead_letter(
        &self,
        node: &NodeId,
        sequence: Sequence,
    ) -> LogFuture<'_, Result<Option<Arc<Update>>, LogError>> {
        let slot = self.shared.core().letter_slot(node, sequence.0);
        Box::pin(async move {
            let Some(slot) = slot else { return Ok(None) };
            let disk = self.shared.disk.clone();
            let read = blocking(move || dead::read(&*disk, slot, sequence.0)).await;
            read.map(|kept| Some(kept.update)).map_err(dead::log_error)
        })
    }

    fn retry_dead_letter(&self, node: &NodeId, sequence: Sequence) -> LogFuture<'_, Result<bool, LogError>> {
        Box::pin(retry::retry(self.shared.clone(), node.clone(), sequence.0))
    }

    fn overtake_dead_letters(
        &self,
        node: &NodeId,
        letters: &[Sequence],
        by: Sequence,
    ) -> LogFuture<'_, Result<(), LogError>> {
        let letters = letters.iter().map(|letter| letter.0).collect();
        Box::pin(retry::overtake(self.shared.clone(), node.clone(), letters, by))
    }

    fn drop_dead_letter(&self, node: &NodeId, sequence: Sequence) -> LogFuture<'_, Result<bool, LogError>> {
        let slot = self.shared.core().letter_slot(node, sequence.0);
        Box::pin(async move {
            let Some(slot) = slot else { return Ok(false) };
            let shared = self.shared.clone();
            blocking(move || {
                let _alone = shared.letters();
                let name = dead::name(slot, sequence.0);
                dead::remove(&*shared.disk, slot, sequence.0)
                    .map_err(|error| disk_error(&*shared.disk, "remove", &name, error))?;
                let mut core = shared.core();
                core.retried.remove(&(slot, sequence.0));
                Ok(core.dead.remove(&(slot, sequence.0)).is_some())
            })
            .await
        })
    }

    fn divergences(&self) -> LogFuture<'_, Result<Vec<Divergence>, LogError>> {
        let found = self.shared.core().diverged.list();
        Box::pin(std::future::ready(Ok(found)))
    }

    fn usage(&self) -> Usage {
        let core = self.shared.core();
        let segments = core.state.segments();
        let log: u64 = segments.iter().map(|segment| segment.len + segment.spooled).sum();
        Usage {
            pending_bytes: core.state.pending_bytes(),
            disk_bytes: log + core.keys.bytes(),
            segments: segments.len() as u64,
            commits: core.commits,
            appends: core.appends,
            keys: core.keys.len(),
            dead_letters: (core.dead.len() - core.retried.len()) as u64,
            refused: core.refused,
            lost: 0,
            divergences: core.diverged.count,
        }
    }

    fn close(&self) -> LogFuture<'_, Result<(), LogError>> {
        Box::pin(async move { self.ask(|reply| Command::Close { reply }).await? })
    }
}
