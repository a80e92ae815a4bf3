//! Queues of updates: their sequence numbers, how far a node has come, and what its queue is doing.

use std::collections::BTreeSet;
use std::fmt;

/// The place of an update in the log: 1 is the first, and the log leaves none out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Sequence(pub u64);

impl Sequence {
    /// The first that a log gives.
    pub const FIRST: Self = Self(1);

    /// The one after this.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How far one node has come through the log.
///
/// Everything before [`low`](Self::low) is settled (delivered, given up or rejected). Updates that
/// do not conflict settle out of order: those are remembered above `low` until the gap closes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    low: Sequence,
    above: BTreeSet<Sequence>,
}

impl Cursor {
    /// A cursor for a node to which nothing before `low` matters.
    pub fn new(low: Sequence) -> Self {
        Self { low, above: BTreeSet::new() }
    }

    /// The first sequence that is not settled.
    pub fn low(&self) -> Sequence {
        self.low
    }

    /// The settled sequences above [`low`](Self::low), ascending; `low` itself is never among them.
    pub fn above(&self) -> impl Iterator<Item = Sequence> + '_ {
        self.above.iter().copied()
    }

    /// Marks `sequence` as settled. False when it was already.
    pub fn settle(&mut self, sequence: Sequence) -> bool {
        if sequence < self.low {
            return false;
        }
        if sequence > self.low {
            return self.above.insert(sequence);
        }
        self.low = self.low.next();
        while self.above.remove(&self.low) {
            self.low = self.low.next();
        }
        true
    }

    /// Whether `sequence` is settled.
    pub fn is_settled(&self, sequence: Sequence) -> bool {
        sequence < self.low || self.above.contains(&sequence)
    }

    /// How many sequences before `end` are not settled.
    pub fn pending(&self, end: Sequence) -> u64 {
        let settled_above = self.above.range(..end).count() as u64;
        end.0.saturating_sub(self.low.0).saturating_sub(settled_above)
    }
}

/// What a node's queue of updates is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueState {
    /// Updates go out as they come.
    Flowing,
    /// The node is unreachable or unwell: updates wait until it is back.
    Waiting,
    /// An operator set the node to rest: updates wait for the end of it.
    Maintenance,
    /// The queue held the log up and no longer accumulates: the node must be brought level anew.
    Parked,
}

impl QueueState {
    /// The name used in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Flowing => "flowing",
            Self::Waiting => "waiting",
            Self::Maintenance => "maintenance",
            Self::Parked => "parked",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    proptest! {
        /// The cursor against the plain set that it stands for.
        #[test]
        fn a_cursor_is_the_set_of_what_was_settled(start in 1u64..5, settled in proptest::collection::vec(0u64..40, 0..80)) {
            let mut cursor = Cursor::new(Sequence(start));
            let mut model: HashSet<u64> = (0..start).collect();
            for sequence in settled {
                prop_assert_eq!(cursor.settle(Sequence(sequence)), model.insert(sequence));
                let low = (0..).find(|s| !model.contains(s)).unwrap();
                prop_assert_eq!(cursor.low(), Sequence(low));
                for s in 0..42 {
                    prop_assert_eq!(cursor.is_settled(Sequence(s)), model.contains(&s));
                    let open = (0..s).filter(|s| !model.contains(s)).count() as u64;
                    prop_assert_eq!(cursor.pending(Sequence(s)), open);
                }
                prop_assert!(cursor.above().all(|s| s > cursor.low()));
            }
        }
    }
}
