//! Dead letters that are tried again. Each stays in its own file until it is delivered, wherever its segment is by then.

use std::sync::Arc;

use common::node::NodeId;
use common::queue::Sequence;

use super::core::Core;
use super::dead::{self, Kept};
use super::record::Slot;
use super::shared::{Shared, blocking, disk_error};
use crate::{DeadLetter, DeliveryState, Failure, LogError, Progress, Queue};

/// A dead letter that is pending again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Retried {
    pub(crate) progress: Progress,
    pub(crate) bytes: u64,
    pub(crate) delete: bool,
    pub(crate) received_ms: u64,
}

impl Retried {
    /// One that was sent `attempts` times; `failures` of the attempts since it is tried again count.
    pub(crate) fn new(kept: &Kept, attempts: u32, failures: u32) -> Self {
        let progress = Progress { attempts, failures, status: kept.letter.status, ..Progress::default() };
        let delete = kept.update.method == http::Method::DELETE;
        Self { progress, bytes: kept.bytes, delete, received_ms: kept.update.received_ms }
    }
}

impl Core {
    /// What a dead letter's node is called now, or was when it ended.
    pub(crate) fn letter_node<'a>(&'a self, slot: Slot, letter: &'a DeadLetter) -> &'a NodeId {
        self.state.node(slot).map_or(&letter.node, |node| &node.name)
    }

    /// Where a dead letter of a node is kept, tried again or not.
    pub(crate) fn letter_slot(&self, node: &NodeId, sequence: u64) -> Option<Slot> {
        let mut letters = self.dead.iter().filter(|((_, dead), _)| *dead == sequence);
        letters
            .find(|((slot, _), letter)| self.letter_node(*slot, letter) == node)
            .map(|((slot, _), _)| *slot)
    }

    /// Where a dead letter is kept that is tried again.
    pub(crate) fn retried_slot(&self, node: &NodeId, sequence: u64) -> Option<Slot> {
        let mut tried = self.retried.keys().filter(|(_, retried)| *retried == sequence);
        let own = |key: &&(Slot, u64)| {
            self.dead.get(*key).is_some_and(|dead| self.letter_node(key.0, dead) == node)
        };
        tried.find(own).map(|(slot, _)| *slot)
    }

    /// The dead letters of a node that are tried again, in order.
    pub(crate) fn retried_of(&self, node: &NodeId) -> Vec<(u64, Slot, Retried)> {
        let own = |(slot, sequence): &(Slot, u64)| {
            self.dead.get(&(*slot, *sequence)).is_some_and(|letter| self.letter_node(*slot, letter) == node)
        };
        let found = self.retried.iter().filter(|(key, _)| own(key));
        let mut found: Vec<_> =
            found.map(|((slot, sequence), retried)| (*sequence, *slot, *retried)).collect();
        found.sort_unstable_by_key(|(sequence, ..)| *sequence);
        found
    }

    /// What waits for a node, dead letters that are tried again included.
    pub(crate) fn queue(&self, node: &NodeId) -> Option<Queue> {
        let mut queue = self.state.queue(self.state.slot(node)?)?;
        if !self.retried.is_empty() {
            for (_, _, retried) in self.retried_of(node) {
                queue.pending += 1;
                queue.bytes += retried.bytes;
                queue.deletes += u64::from(retried.delete);
                queue.oldest_ms =
                    Some(queue.oldest_ms.map_or(retried.received_ms, |ms| ms.min(retried.received_ms)));
            }
        }
        Some(queue)
    }

    /// What one node made of an update, as it stands now.
    pub(crate) fn progress(&self, slot: Slot, sequence: u64) -> Option<Progress> {
        match self.retried.get(&(slot, sequence)) {
            Some(retried) => Some(retried.progress),
            None => self.state.progress(slot, sequence),
        }
    }

    /// The node took a dead letter after all. Its file goes when the writer comes to it.
    pub(crate) fn took_letter(&mut self, node: &NodeId, sequence: u64) -> Option<Slot> {
        let own = self.state.slot(node).filter(|slot| self.dead.contains_key(&(*slot, sequence)));
        let slot = own.or_else(|| self.retried_slot(node, sequence))?;
        self.retried.remove(&(slot, sequence));
        self.dead.remove(&(slot, sequence));
        self.gone.push((slot, sequence));
        Some(slot)
    }
}

/// Writes a dead letter anew with what `change` makes of it, then tells memory. False when there is none.
fn rewrite(
    shared: &Shared,
    (slot, sequence): (Slot, u64),
    change: impl FnOnce(&mut Kept),
    told: impl FnOnce(&mut Core, &Kept),
) -> Result<bool, LogError> {
    let _alone = shared.letters();
    if !shared.core().dead.contains_key(&(slot, sequence)) {
        return Ok(false);
    }
    let mut kept = dead::read(&*shared.disk, slot, sequence).map_err(dead::log_error)?;
    change(&mut kept);
    dead::write(&*shared.disk, slot, &kept.letter, &kept.update, kept.stand.retrying)
        .map_err(|error| disk_error(&*shared.disk, "write", &dead::name(slot, sequence), error))?;
    told(&mut shared.core(), &kept);
    Ok(true)
}

/// See [`UpdateLog::retry_dead_letter`](crate::UpdateLog::retry_dead_letter).
pub(crate) async fn retry(shared: Arc<Shared>, node: NodeId, sequence: u64) -> Result<bool, LogError> {
    let slot = {
        let core = shared.core();
        if core.state.slot(&node).is_none() {
            return Err(LogError::Node(node));
        }
        let Some(slot) = core.letter_slot(&node, sequence) else { return Ok(false) };
        if core.retried.contains_key(&(slot, sequence)) {
            return Ok(true);
        }
        slot
    };
    blocking(move || {
        rewrite(
            &shared,
            (slot, sequence),
            |kept| kept.stand.retrying = Some((kept.letter.attempts, 0)),
            |core, kept| {
                core.retried.insert((slot, sequence), Retried::new(kept, kept.letter.attempts, 0));
            },
        )
    })
    .await
}

/// See [`UpdateLog::overtake_dead_letters`](crate::UpdateLog::overtake_dead_letters).
pub(crate) async fn overtake(
    shared: Arc<Shared>,
    node: NodeId,
    letters: Vec<u64>,
    by: Sequence,
) -> Result<(), LogError> {
    blocking(move || {
        for sequence in letters {
            let slot = {
                let core = shared.core();
                let fresh = |slot: &Slot| {
                    core.dead.get(&(*slot, sequence)).is_some_and(|dead| dead.overtaken.is_none())
                };
                core.letter_slot(&node, sequence).filter(fresh)
            };
            let Some(slot) = slot else { continue };
            rewrite(
                &shared,
                (slot, sequence),
                |kept| kept.letter.overtaken = Some(by),
                |core, _| {
                    if let Some(letter) = core.dead.get_mut(&(slot, sequence)) {
                        letter.overtaken = Some(by);
                    }
                },
            )?;
        }
        Ok(())
    })
    .await
}

/// Records a failed attempt of a dead letter that is tried again. Durable when it resolves.
pub(crate) async fn failed(
    shared: Arc<Shared>,
    node: NodeId,
    (slot, sequence): (Slot, u64),
    failure: Failure,
) -> Result<(), LogError> {
    let Failure { attempt, failures, status, error, .. } = failure;
    let error = super::core::clip(error);
    blocking(move || {
        let done = rewrite(
            &shared,
            (slot, sequence),
            |kept| {
                kept.stand.retrying = kept.stand.retrying.map(|_| (attempt, failures));
                (kept.letter.attempts, kept.letter.status, kept.letter.error) = (attempt, status, error);
            },
            |core, kept| {
                if let Some(retried) = core.retried.get_mut(&(slot, sequence)) {
                    let progress = Progress { attempts: attempt, failures, status, ..retried.progress };
                    retried.progress = Progress { state: DeliveryState::Pending, ..progress };
                }
                core.dead.insert((slot, sequence), kept.letter.clone());
            },
        );
        shared.core().end_attempt(&node, sequence);
        done.map(drop)
    })
    .await
}

/// Ends trying: dead letters of a node that goes, or whose queue is discarded, are dead letters again. Says how many.
pub(crate) fn give_back(shared: &Shared, node: &NodeId) -> Result<u64, LogError> {
    let retried = shared.core().retried_of(node);
    for (sequence, slot, _) in &retried {
        let key = (*slot, *sequence);
        rewrite(
            shared,
            key,
            |kept| kept.stand.retrying = None,
            |core, _| {
                core.retried.remove(&key);
            },
        )?;
    }
    Ok(retried.len() as u64)
}
