//! Where a lookup leaves its answer, and the room that it works in.

use std::cmp::Ordering;

/// The answer of one lookup: nodes, the owner first, as indices into the set that the ring was built of.
///
/// Keep one per thread and pass it to every lookup: after the first few, none allocates. It holds no
/// reference to a ring, so that it outlives any of them and serves all.
#[derive(Debug, Default, Clone)]
pub struct Answer {
    /// The nodes found.
    pub(super) nodes: Vec<u32>,
    /// The best so far, best first.
    pub(super) list: Shortlist,
    /// By rank, how near a node is known to be. Infinite for all between lookups.
    pub(super) nearest: Vec<f64>,
}

impl Answer {
    /// An empty answer, which has allocated nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The nodes of the last lookup, the owner first, all distinct.
    #[must_use]
    pub fn nodes(&self) -> &[u32] {
        &self.nodes
    }

    /// The owner, unless there was no node or none was asked for.
    #[must_use]
    pub fn owner(&self) -> Option<u32> {
        self.nodes.first().copied()
    }

    /// Makes the shortlist the answer.
    pub(super) fn settle(&mut self) {
        self.nodes.extend(self.list.entries.iter().map(|entry| entry.rank));
    }
}

impl AsRef<[u32]> for Answer {
    fn as_ref(&self) -> &[u32] {
        &self.nodes
    }
}

/// A node in the running. The least score wins, then the least `tie`, then the first name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) score: f64,
    pub(super) tie: u64,
    pub(super) rank: u32,
}

impl Entry {
    pub(super) fn order(&self, other: &Self) -> Ordering {
        self.score
            .total_cmp(&other.score)
            .then_with(|| self.tie.cmp(&other.tie))
            .then_with(|| self.rank.cmp(&other.rank))
    }

    pub(super) fn beats(&self, other: &Self) -> bool {
        // Scores are never NaN nor -0, so that this is `order` with less work.
        self.score < other.score
            || (self.score == other.score && (self.tie, self.rank) < (other.tie, other.rank))
    }
}

/// The best few entries, best first.
#[derive(Debug, Default, Clone)]
pub(super) struct Shortlist {
    pub(super) entries: Vec<Entry>,
    limit: usize,
}

impl Shortlist {
    /// Empties the list; it will hold `limit` entries, at least 1.
    pub(super) fn begin(&mut self, limit: usize) {
        self.entries.clear();
        self.limit = limit.max(1);
    }

    /// The score that the next entry must not exceed.
    pub(super) fn bound(&self) -> f64 {
        if self.entries.len() < self.limit { f64::INFINITY } else { self.entries[self.limit - 1].score }
    }

    /// Takes `entry` in if it belongs to the best.
    pub(super) fn offer(&mut self, entry: Entry) {
        if self.entries.len() == self.limit {
            if !entry.beats(&self.entries[self.limit - 1]) {
                return;
            }
            self.entries.pop();
        }
        let place = self.entries.iter().rposition(|other| other.beats(&entry)).map_or(0, |index| index + 1);
        self.entries.insert(place, entry);
    }

    /// Takes `entry` in if it belongs to the best, in place of a worse one of the same node.
    pub(super) fn offer_distinct(&mut self, entry: Entry) {
        if let Some(index) = self.entries.iter().position(|other| other.rank == entry.rank) {
            if !entry.beats(&self.entries[index]) {
                return;
            }
            self.entries.remove(index);
        }
        self.offer(entry);
    }
}
