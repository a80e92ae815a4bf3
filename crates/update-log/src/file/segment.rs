//! What is kept in memory of a segment: where its updates are and what became of them. Pure.

use super::record::{Append, Slot};
use crate::{DeliveryState, Progress};

/// Where an update is in its segment's file, and who still needs it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    /// Where its record begins.
    pub(crate) offset: u32,
    /// The length of its record.
    pub(crate) len: u32,
    /// When it was received, against the segment's first.
    received: i32,
    /// How many nodes have not settled it.
    pub(crate) needed: u16,
    /// Whether it is a DELETE.
    pub(crate) delete: bool,
}

/// What one node made of one update: 20 bytes, and none before it is first touched.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cell {
    digest: [u32; 2],
    /// Without the segment's bumps while pending.
    attempts: u32,
    status: u16,
    first_status: u16,
    failures: u16,
    pub(crate) state: DeliveryState,
}

/// The updates of one file.
#[derive(Debug)]
pub(crate) struct Segment {
    /// The file's number.
    pub(crate) number: u64,
    /// The sequence of its first update, whether it has come or not.
    pub(crate) first: u64,
    /// Its updates, in order.
    pub(crate) entries: Vec<Entry>,
    /// Updates that a node still needs.
    pub(crate) open: u32,
    /// The log's time of the last append.
    pub(crate) last_at_ms: u64,
    /// Bytes of bodies that have their own files.
    pub(crate) spooled: u64,
    /// The length of the file.
    pub(crate) len: u64,
    cells: Vec<(Slot, Vec<Cell>)>,
    base_ms: u64,
    bumps: u32,
}

impl Segment {
    /// A segment without updates; the next one is `first`.
    pub(crate) fn new(number: u64, first: u64) -> Self {
        Self {
            number,
            first,
            entries: Vec::new(),
            open: 0,
            last_at_ms: 0,
            spooled: 0,
            len: 0,
            cells: Vec::new(),
            base_ms: 0,
            bumps: 0,
        }
    }

    /// The sequence behind its last update.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// Adds an update that `needed` nodes are to get.
    pub(crate) fn append(&mut self, append: &Append, offset: u32, needed: u16, at_ms: u64) {
        if self.entries.is_empty() {
            self.base_ms = append.received_ms;
        }
        let away = i128::from(append.received_ms) - i128::from(self.base_ms);
        let received = away.clamp(i32::MIN.into(), i32::MAX.into()) as i32;
        let (len, delete) = (append.len, append.delete);
        self.entries.push(Entry { offset, len, received, needed, delete });
        self.open += u32::from(needed > 0);
        self.last_at_ms = at_ms;
        self.spooled += append.spooled.as_ref().map_or(0, |spooled| spooled.1);
    }

    /// When an update of this segment was received.
    pub(crate) fn received_ms(&self, sequence: u64) -> Option<u64> {
        let entry = self.entries.get(sequence.checked_sub(self.first)? as usize)?;
        Some(self.base_ms.saturating_add_signed(entry.received.into()))
    }

    /// What a node made of an update of this segment.
    pub(crate) fn progress(&self, slot: Slot, sequence: u64) -> Progress {
        let cells = self.cells(slot);
        let cell = cells.get((sequence - self.first) as usize).copied().unwrap_or_default();
        let bumps = if cell.state == DeliveryState::Pending { self.bumps } else { 0 };
        Progress {
            state: cell.state,
            attempts: cell.attempts.saturating_add(bumps),
            failures: cell.failures.into(),
            first_status: cell.first_status,
            status: cell.status,
            digest: u64::from(cell.digest[0]) | u64::from(cell.digest[1]) << 32,
        }
    }

    /// Replaces what a node made of an update of this segment.
    pub(crate) fn set(&mut self, slot: Slot, sequence: u64, progress: Progress) {
        let bumps = if progress.state == DeliveryState::Pending { self.bumps } else { 0 };
        let cell = Cell {
            digest: [progress.digest as u32, (progress.digest >> 32) as u32],
            attempts: progress.attempts.saturating_sub(bumps),
            status: progress.status,
            first_status: progress.first_status,
            failures: progress.failures.try_into().unwrap_or(u16::MAX),
            state: progress.state,
        };
        let index = (sequence - self.first) as usize;
        let place = self.cells.iter().position(|(known, _)| *known == slot).unwrap_or_else(|| {
            self.cells.push((slot, Vec::new()));
            self.cells.len() - 1
        });
        let cells = &mut self.cells[place].1;
        if cells.len() <= index {
            cells.resize(index + 1, Cell::default());
        }
        cells[index] = cell;
    }

    /// What a node made of the updates, as far as it touched any.
    pub(crate) fn cells(&self, slot: Slot) -> &[Cell] {
        self.cells.iter().find(|(known, _)| *known == slot).map_or(&[], |(_, cells)| cells)
    }

    /// How often that was done.
    pub(crate) fn bumps(&self) -> u32 {
        self.bumps
    }

    /// Counts one more attempt for everything pending: one may have been under way.
    pub(crate) fn bump(&mut self) {
        self.bumps += 1;
    }
}
