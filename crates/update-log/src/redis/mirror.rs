//! What a claimed node has done, held in memory by the one process that delivers to it. Pure.

use std::collections::BTreeMap;

use common::queue::{Cursor, Sequence};

use super::cells::{self, CELL, CHUNK};
use crate::{DeliveryState, Progress};

/// One claimed node.
#[derive(Debug, Clone)]
pub(super) struct Mirror {
    /// The number of its subscription.
    pub(super) slot: String,
    /// The token of the claim.
    pub(super) token: u64,
    cursor: Cursor,
    touched: BTreeMap<u64, Progress>,
    bumps: Vec<u64>,
    /// Settled here, and not yet known to be recorded.
    unrecorded: BTreeMap<u64, Progress>,
}

/// What the script tells of a node.
pub(super) struct Loaded {
    pub(super) slot: String,
    pub(super) low: u64,
    pub(super) next: u64,
    pub(super) bumps: Vec<u64>,
    pub(super) token: u64,
    /// Strings of cells, each with the sequence of its first.
    pub(super) chunks: Vec<(u64, Vec<u8>)>,
}

impl Mirror {
    /// A node as it was read.
    pub(super) fn new(loaded: &Loaded, token: u64) -> Self {
        let mut mirror = Self {
            slot: loaded.slot.clone(),
            token,
            cursor: Cursor::new(Sequence(loaded.low)),
            touched: BTreeMap::new(),
            bumps: loaded.bumps.clone(),
            unrecorded: BTreeMap::new(),
        };
        for (first, cells) in &loaded.chunks {
            let count = (cells.len() / CELL).min(CHUNK as usize);
            for index in 0..count {
                let sequence = first + index as u64;
                if sequence < loaded.low || sequence >= loaded.next {
                    continue;
                }
                let progress = cells::cell(cells, index, cells::bumps(&loaded.bumps, sequence));
                mirror.set(sequence, progress);
            }
        }
        mirror
    }

    /// The same node read anew: what was settled here and is not recorded yet stays settled.
    pub(super) fn reload(&mut self, loaded: &Loaded) {
        let unrecorded = std::mem::take(&mut self.unrecorded);
        let mut fresh = Self::new(loaded, self.token);
        if loaded.slot == self.slot {
            for (sequence, progress) in &unrecorded {
                fresh.set(*sequence, *progress);
            }
            fresh.unrecorded = unrecorded;
        }
        *self = fresh;
    }

    fn set(&mut self, sequence: u64, progress: Progress) {
        if sequence < self.cursor.low().0 {
            return;
        }
        if progress.state == DeliveryState::Pending {
            self.touched.insert(sequence, progress);
        } else {
            self.touched.remove(&sequence);
            self.cursor.settle(Sequence(sequence));
        }
    }

    /// What is known of an open update; `None` for a settled one.
    pub(super) fn progress(&self, sequence: u64) -> Option<Progress> {
        if self.cursor.is_settled(Sequence(sequence)) {
            return None;
        }
        let untouched = || Progress { attempts: cells::bumps(&self.bumps, sequence), ..Progress::default() };
        Some(self.touched.get(&sequence).copied().unwrap_or_else(untouched))
    }

    /// An update was settled here; false when it was already.
    pub(super) fn settle(&mut self, sequence: u64, progress: Progress) -> bool {
        let open = !self.cursor.is_settled(Sequence(sequence));
        self.set(sequence, progress);
        self.unrecorded.insert(sequence, progress);
        open
    }

    /// That is recorded now.
    pub(super) fn recorded(&mut self, sequence: u64) {
        self.unrecorded.remove(&sequence);
    }

    /// An attempt failed.
    pub(super) fn fail(&mut self, sequence: u64, attempt: u32, failures: u32, status: u16) {
        let Some(mut progress) = self.progress(sequence) else { return };
        progress.attempts = progress.attempts.max(attempt);
        (progress.failures, progress.status) = (failures, status);
        if attempt == 1 {
            progress.first_status = status;
        }
        self.touched.insert(sequence, progress);
    }

    /// Somebody else settled an update.
    pub(super) fn close(&mut self, sequence: u64) {
        self.touched.remove(&sequence);
        self.cursor.settle(Sequence(sequence));
    }

    /// Up to `max` open sequences from `from` on and before `tail`.
    pub(super) fn pending(&self, from: u64, tail: u64, max: usize) -> Vec<(u64, Progress)> {
        let from = from.max(self.cursor.low().0);
        (from..tail).filter_map(|sequence| Some((sequence, self.progress(sequence)?))).take(max).collect()
    }

    /// How far it has come.
    pub(super) fn cursor(&self) -> &Cursor {
        &self.cursor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(low: u64, next: u64, bumps: &[u64], chunks: Vec<(u64, Vec<u8>)>) -> Loaded {
        Loaded { slot: "0".into(), low, next, bumps: bumps.to_vec(), token: 1, chunks }
    }

    fn delivered() -> Progress {
        Progress { state: DeliveryState::Delivered, ..Progress::default() }
    }

    #[test]
    fn a_node_is_read_with_what_it_settled_out_of_order_and_what_others_may_have_tried() {
        let mut cells = vec![0; 5 * CELL];
        cells[4 * CELL] = 1;
        cells[3 * CELL] = 16;
        cells[3 * CELL + 4] = 2;
        let mirror = Mirror::new(&loaded(2, 6, &[4, 5], vec![(0, cells)]), 1);
        let pending: Vec<_> =
            mirror.pending(1, 7, 10).into_iter().map(|(sequence, p)| (sequence, p.attempts)).collect();
        // 3 was tried twice, and twice by others; 4 is settled; 5 and 6 came later.
        assert_eq!(pending, [(2, 2), (3, 4), (5, 0), (6, 0)]);
        assert_eq!(mirror.pending(3, 7, 1).len(), 1);
    }

    #[test]
    fn what_is_settled_here_stays_settled_when_the_node_is_read_anew() {
        let mut mirror = Mirror::new(&loaded(1, 4, &[], Vec::new()), 1);
        assert!(mirror.settle(1, delivered()) && mirror.settle(3, delivered()));
        assert!(!mirror.settle(3, delivered()));
        mirror.recorded(1);
        mirror.reload(&loaded(1, 4, &[], Vec::new()));
        let open = |mirror: &Mirror| mirror.pending(0, 4, 9).iter().map(|p| p.0).collect::<Vec<_>>();
        assert_eq!(open(&mirror), [1, 2]);
        // Another subscription of that name has nothing to do with it.
        mirror.reload(&Loaded { slot: "7".into(), ..loaded(1, 4, &[], Vec::new()) });
        assert_eq!(open(&mirror), [1, 2, 3]);
    }
}
