//! What is asked of the log's state. Pure.

use std::collections::VecDeque;

use common::node::NodeId;

use super::record::Slot;
use super::segment::Segment;
use super::state::{Node, State};
use crate::{DeliveryState, Progress, Queue};

impl State {
    /// The sequence that the next append gets.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// The slot that the next subscription gets.
    pub(crate) fn next_slot(&self) -> Slot {
        self.next_slot
    }

    /// Segments before this one are needed no more.
    pub(crate) fn trimmed(&self) -> u64 {
        self.trim
    }

    /// The first sequence that the log holds.
    pub(crate) fn first(&self) -> u64 {
        self.segments.front().map_or(self.next, |segment| segment.first)
    }

    /// The slot of a subscribed node.
    pub(crate) fn slot(&self, name: &NodeId) -> Option<Slot> {
        self.names.get(name).copied()
    }

    /// A node that is or was subscribed.
    pub(crate) fn node(&self, slot: Slot) -> Option<&Node> {
        self.nodes.get(&slot)
    }

    /// The subscribed nodes.
    pub(crate) fn live(&self) -> impl Iterator<Item = (Slot, &Node)> {
        self.nodes.iter().filter(|(_, node)| node.until.is_none()).map(|(slot, node)| (*slot, node))
    }

    /// The names of the subscribed nodes, parked ones too.
    pub(crate) fn subscribed(&self) -> Vec<NodeId> {
        let known = self.nodes.values().filter(|node| node.until.is_none() || node.parked);
        known.map(|node| node.name.clone()).collect()
    }

    /// The segments, oldest first.
    pub(crate) fn segments(&self) -> &VecDeque<Segment> {
        &self.segments
    }

    /// The segment that takes the next update.
    pub(crate) fn last_segment(&mut self) -> Option<&mut Segment> {
        self.segments.back_mut()
    }

    /// The segment of an update that the log holds.
    pub(crate) fn segment(&self, sequence: u64) -> Option<&Segment> {
        self.segment_index(sequence).map(|index| &self.segments[index])
    }

    pub(super) fn segment_index(&self, sequence: u64) -> Option<usize> {
        let index = self.segments.partition_point(|segment| segment.first <= sequence).checked_sub(1)?;
        (sequence < self.segments[index].end()).then_some(index)
    }

    /// Bytes that a node still needs, each counted once.
    pub(crate) fn pending_bytes(&self) -> u64 {
        self.pending_bytes
    }

    /// Whether a node still needs an update.
    pub(crate) fn is_open(&self, sequence: u64) -> bool {
        let Some(segment) = self.segment(sequence) else { return false };
        segment.entries[(sequence - segment.first) as usize].needed > 0
    }

    /// What a node made of an update; `None` when it was not for that node or is not held.
    pub(crate) fn progress(&self, slot: Slot, sequence: u64) -> Option<Progress> {
        let node = self.nodes.get(&slot)?;
        if sequence < node.since || node.until.is_some_and(|until| sequence >= until) {
            return None;
        }
        Some(self.segment(sequence)?.progress(slot, sequence))
    }

    /// Every node that an update was for.
    pub(crate) fn nodes_of(&self, sequence: u64) -> impl Iterator<Item = (Slot, Progress)> {
        self.nodes.keys().filter_map(move |slot| Some((*slot, self.progress(*slot, sequence)?)))
    }

    /// The last error of an update on a node.
    pub(crate) fn error(&self, slot: Slot, sequence: u64) -> Option<&str> {
        self.errors.get(&(sequence, slot)).map(String::as_str)
    }

    /// Up to `max` sequences from `from` on that a node has not settled.
    pub(crate) fn pending(&self, slot: Slot, from: u64, max: usize) -> Vec<u64> {
        let Some(node) = self.nodes.get(&slot).filter(|node| node.until.is_none()) else { return Vec::new() };
        let from = from.max(node.cursor.low().0);
        let begin = self.segments.partition_point(|segment| segment.end() <= from);
        let mut found = Vec::new();
        for segment in self.segments.iter().skip(begin) {
            let cells = segment.cells(slot);
            for sequence in segment.first.max(from)..segment.end() {
                let cell = cells.get((sequence - segment.first) as usize);
                if cell.is_some_and(|cell| cell.state != DeliveryState::Pending) {
                    continue;
                }
                if found.len() == max {
                    return found;
                }
                found.push(sequence);
            }
        }
        found
    }

    /// The queue of a subscribed node.
    pub(crate) fn queue(&self, slot: Slot) -> Option<Queue> {
        let node = self.nodes.get(&slot)?;
        let low = node.cursor.low().0;
        let oldest_ms = self.segment(low).and_then(|segment| segment.received_ms(low));
        let Node { cursor, pending, deletes, bytes, .. } = node;
        Some(Queue { cursor: cursor.clone(), pending: *pending, deletes: *deletes, bytes: *bytes, oldest_ms })
    }

    /// The updates that became settled everywhere since the last call.
    pub(crate) fn take_completed(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.completed)
    }

    /// The segments before this number can go: nobody needs them, and they are old or many.
    pub(crate) fn trimmable(&self, now_ms: u64, retain_ms: u64, retain_bytes: u64) -> u64 {
        let done =
            || self.segments.iter().take(self.segments.len().saturating_sub(1)).take_while(|s| s.open == 0);
        let mut kept: u64 = done().map(|segment| segment.len + segment.spooled).sum();
        let mut before = self.trim;
        for segment in done() {
            let old = segment.last_at_ms.saturating_add(retain_ms) < now_ms;
            if !old && kept <= retain_bytes {
                break;
            }
            kept -= segment.len + segment.spooled;
            before = segment.number + 1;
        }
        before
    }

    pub(super) fn size(&self, sequence: u64) -> u64 {
        let Some(segment) = self.segment(sequence) else { return 0 };
        let spooled = self.spooled.get(&sequence).copied().unwrap_or_default();
        u64::from(segment.entries[(sequence - segment.first) as usize].len) + spooled
    }
}
