//! What the scripts keep of updates and nodes, as numbers of fixed width. Pure.

use crate::{DeliveryState, Progress};

/// Updates in one string of entries or cells.
pub(super) const CHUNK: u64 = 1024;
/// The length of an entry: what an update is.
pub(super) const ENTRY: usize = 23;
/// The length of a cell: what a node has done with an update.
pub(super) const CELL: usize = 21;

/// What an update is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its size; 0 for a sequence that was lost with the end of a log.
    pub(super) size: u64,
    /// When it was received, in milliseconds since the Unix epoch.
    pub(super) received_ms: u64,
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The entry at an index.
pub(super) fn entry(bytes: &[u8], index: usize) -> Option<Entry> {
    let bytes = bytes.get(index * ENTRY..(index + 1) * ENTRY)?;
    Some(Entry { size: number(&bytes[..8]), received_ms: number(&bytes[11..17]) })
}

/// The cell at an index: what is not there was never touched. `bumps` are attempts that others may have made.
pub(super) fn cell(bytes: &[u8], index: usize, bumps: u32) -> Progress {
    let Some(bytes) = bytes.get(index * CELL..(index + 1) * CELL) else {
        return Progress { attempts: bumps, ..Progress::default() };
    };
    let state = match bytes[0] {
        1 => DeliveryState::Delivered,
        2 => DeliveryState::Dead,
        3 => DeliveryState::Discarded,
        4 => DeliveryState::Rejected,
        _ => DeliveryState::Pending,
    };
    let attempts = number(&bytes[1..5]) as u32;
    let mut digest = [0; 8];
    digest.copy_from_slice(&bytes[13..21]);
    Progress {
        state,
        attempts: if state == DeliveryState::Pending { attempts + bumps } else { attempts },
        failures: number(&bytes[5..9]) as u32,
        first_status: number(&bytes[9..11]) as u16,
        status: number(&bytes[11..13]) as u16,
        digest: u64::from_be_bytes(digest),
    }
}

/// How many of these marks are above a sequence.
pub(super) fn bumps(marks: &[u64], sequence: u64) -> u32 {
    marks.iter().filter(|mark| **mark > sequence).count() as u32
}

/// Reads a list of marks.
pub(super) fn marks(text: &str) -> Vec<u64> {
    text.split(',').filter_map(|mark| mark.parse().ok()).collect()
}
