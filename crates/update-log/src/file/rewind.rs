//! A node gets again what the log holds, or nothing for now.

use common::node::NodeId;
use common::queue::{Cursor, Sequence};

use super::record::{Record, Slot};
use super::retry;
use super::state::State;
use super::writer::Writer;
use crate::{DeliveryState, LogError, Progress, RewindError};

impl State {
    /// Makes everything that is held from `from` on pending for a node. What an earlier segment knew of it does not matter:
    /// a record like this one is replayed only together with all that is held by then.
    pub(crate) fn rewind(&mut self, slot: Slot, from: u64) {
        let (first, next) = (self.first(), self.next());
        let Some(node) = self.nodes.get(&slot) else { return };
        let (since, until, low) = (node.since, node.until, node.cursor.low().0);
        // A parked node that begins later than where it was parked does without what is between.
        let gap = until.is_some_and(|until| from > until);
        let counted = |at: u64| at >= since && until.is_none();
        let begin = from.max(first);
        let low = if gap { begin } else { low.min(begin).max(first) };
        let mut cursor = Cursor::new(Sequence(low));
        for at in low..next {
            let before =
                self.segment(at).map_or_else(Progress::default, |segment| segment.progress(slot, at));
            let pending = before.state == DeliveryState::Pending && counted(at);
            if at < begin {
                if !pending {
                    cursor.settle(Sequence(at));
                }
            } else if !pending {
                self.reopen(slot, at, before);
            }
        }
        let Some(node) = self.nodes.get_mut(&slot) else { return };
        node.since = if gap { from } else { since.min(from) };
        (node.until, node.parked, node.cursor) = (None, false, cursor);
        let (known, _) = node.rewound;
        node.rewound = (if known == 0 { from } else { known.min(from) }, next);
    }

    fn reopen(&mut self, slot: Slot, sequence: u64, before: Progress) {
        let size = self.size(sequence);
        let Some(index) = self.segment_index(sequence) else { return };
        let segment = &mut self.segments[index];
        let entry = &mut segment.entries[(sequence - segment.first) as usize];
        if entry.needed == 0 {
            segment.open += 1;
            self.pending_bytes += size;
        }
        entry.needed += 1;
        if let Some(node) = self.nodes.get_mut(&slot) {
            node.pending += 1;
            node.bytes += size;
            node.deletes += u64::from(entry.delete);
        }
        // Attempts count on; whatever was answered is asked anew.
        let attempts = segment_attempts(before, self.segments[index].bumps());
        let again = Progress { state: DeliveryState::Pending, attempts, failures: 0, digest: 0, ..before };
        self.set(slot, sequence, again);
    }

    /// Whether an update was made pending again for a node since the segments that are held begin.
    pub(crate) fn is_rewound(&self, slot: Slot, sequence: u64) -> bool {
        self.nodes
            .get(&slot)
            .is_some_and(|node| node.rewound.0 > 0 && (node.rewound.0..node.rewound.1).contains(&sequence))
    }

    /// Discards what a node has not settled and keeps nothing more for it.
    pub(crate) fn park(&mut self, slot: Slot) {
        self.discard(slot, self.next());
        let next = self.next();
        if let Some(node) = self.nodes.get_mut(&slot).filter(|node| node.until.is_none()) {
            (node.until, node.parked) = (Some(next), true);
        }
    }

    /// A parked node gets what comes from now on.
    pub(crate) fn unpark(&mut self, slot: Slot) {
        let next = self.next();
        if let Some(node) = self.nodes.get_mut(&slot).filter(|node| node.parked) {
            (node.since, node.until, node.parked) = (next, None, false);
            node.cursor = Cursor::new(Sequence(next));
        }
    }
}

/// What is pending carries the segment's bumps in its count; what was settled does not, and must not lose any.
fn segment_attempts(before: Progress, bumps: u32) -> u32 {
    before.attempts.max(bumps)
}

impl Writer {
    pub(super) fn rewind(&mut self, node: NodeId, from: Option<u64>) -> Result<u64, RewindError> {
        // What is on its way to the dead letters gets there first.
        self.bury()?;
        retry::give_back(&self.shared, &node)?;
        let (slot, first) = {
            let core = self.shared.core();
            (core.state.slot(&node).ok_or(LogError::Node(node))?, core.state.first())
        };
        let from = from.unwrap_or(first);
        if from < first {
            return Err(RewindError::Gone(Sequence(first)));
        }
        let record = Record::Rewind { slot, from };
        self.record(&record)?;
        self.apply(record);
        let mut core = self.shared.core();
        let covered: Vec<(Slot, u64)> =
            core.dead.range((slot, from)..=(slot, u64::MAX)).map(|(key, _)| *key).collect();
        for key in covered {
            core.dead.remove(&key);
            core.gone.push(key);
        }
        let pending = core.state.node(slot).map_or(0, |node| node.pending);
        drop(core);
        self.remove_gone();
        Ok(pending)
    }

    pub(super) fn park(&mut self, node: &NodeId) -> Result<u64, LogError> {
        let slot = self.shared.core().state.slot(node).ok_or_else(|| LogError::Node(node.clone()))?;
        if self.shared.core().state.node(slot).is_some_and(|node| node.parked) {
            return Ok(0);
        }
        retry::give_back(&self.shared, node)?;
        let record = Record::Park { slot };
        self.record(&record)?;
        Ok(self.drop_pending(slot, record))
    }
}
