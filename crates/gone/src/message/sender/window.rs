//! The messages that are neither acknowledged nor given up.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use crate::message::error::SendError;
use crate::message::frame::MAX_MESSAGES;
use crate::message::sender::Patience;

/// Messages are packed together up to this many bytes.
const PACK: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct Entry<T> {
    pub(super) sequence: u64,
    data: Bytes,
    pub(super) ticket: T,
    /// What was given, for the error.
    pub(super) timeout: Option<Duration>,
    pub(super) deadline: Duration,
    only_absence: bool,
    pub(super) wait: bool,
    /// An attempt may have reached the child.
    pub(super) sent: bool,
}

/// In the order of their sequences, with holes where some were given up.
#[derive(Debug)]
pub(super) struct Window<T> {
    entries: VecDeque<Entry<T>>,
    /// No entry is due before.
    pub(super) earliest: Duration,
}

/// Messages that go into one frame.
pub(super) struct Packed {
    pub(super) previous: u64,
    pub(super) first: u64,
    pub(super) messages: Vec<Bytes>,
}

impl<T> Window<T> {
    pub(super) fn new() -> Self {
        Self { entries: VecDeque::new(), earliest: Duration::MAX }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn push(&mut self, now: Duration, sequence: u64, data: Bytes, ticket: T, patience: Patience) {
        let Patience { timeout, only_absence, wait } = patience;
        let deadline = timeout.map_or(Duration::MAX, |timeout| now.saturating_add(timeout));
        self.earliest = self.earliest.min(deadline);
        self.entries.push_back(Entry {
            sequence,
            data,
            ticket,
            timeout,
            deadline,
            only_absence,
            wait,
            sent: false,
        });
    }

    /// The first one, if it is not above `acked`.
    pub(super) fn pop_acknowledged(&mut self, acked: u64) -> Option<Entry<T>> {
        self.entries.pop_front_if(|entry| entry.sequence <= acked)
    }

    pub(super) fn remove(&mut self, sequence: u64) -> Option<Entry<T>> {
        let at = self.entries.binary_search_by_key(&sequence, |entry| entry.sequence).ok()?;
        self.entries.remove(at)
    }

    /// Whether one of those up to `probed` is above what was taken.
    pub(super) fn misses(&self, taken: u64, probed: u64) -> bool {
        let sent = self.entries.iter().take_while(|entry| entry.sequence <= probed);
        sent.into_iter().any(|entry| entry.sequence > taken)
    }

    /// Somebody could take messages at `seen`: until then no time has passed for those that count absence alone.
    pub(super) fn count_from(&mut self, seen: Duration) {
        for entry in self.entries.iter_mut().filter(|entry| entry.only_absence) {
            let timeout = entry.timeout.unwrap_or(Duration::MAX);
            entry.deadline = entry.deadline.max(seen.saturating_add(timeout));
        }
    }

    /// Takes those out for which there is a reason to.
    pub(super) fn give_up(&mut self, why: impl Fn(&Entry<T>) -> Option<SendError>) -> Vec<(T, SendError)> {
        let mut given_up = Vec::new();
        for _ in 0..self.entries.len() {
            let Some(entry) = self.entries.pop_front() else { break };
            match why(&entry) {
                Some(error) => given_up.push((entry.ticket, error)),
                None => self.entries.push_back(entry),
            }
        }
        self.earliest = self.entries.iter().map(|entry| entry.deadline).min().unwrap_or(Duration::MAX);
        given_up
    }

    /// The next messages from `cursor` on that follow on each other; moves the cursor behind them.
    pub(super) fn pack(&mut self, cursor: &mut u64) -> Option<Packed> {
        let from = self.entries.partition_point(|entry| entry.sequence < *cursor);
        let first = self.entries.get(from)?.sequence;
        let previous = if from == 0 { 0 } else { self.entries[from - 1].sequence };
        let (mut messages, mut bytes) = (Vec::new(), 0);
        for (sequence, entry) in (first..).zip(self.entries.range_mut(from..)) {
            bytes += entry.data.len();
            let full = messages.len() == MAX_MESSAGES || (bytes > PACK && !messages.is_empty());
            if full || entry.sequence != sequence {
                break;
            }
            entry.sent = true;
            messages.push(entry.data.clone());
            *cursor = sequence + 1;
        }
        Some(Packed { previous, first, messages })
    }
}
