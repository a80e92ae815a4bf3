//! What the log's records add up to. Pure: recovery and the running log apply the same changes.

use std::collections::{BTreeMap, HashMap, VecDeque};

use common::node::NodeId;
use common::queue::{Cursor, Sequence};

use super::codec::{Corrupt, Decoded};
use super::record::{Append, Record, Slot, Snapshot};
use super::segment::Segment;
use crate::{DeliveryState, Failure, Progress};

/// How many error texts are kept, the newest updates' first.
const MAX_ERRORS: usize = 4096;

/// A node that is or was subscribed.
#[derive(Debug)]
pub(crate) struct Node {
    /// Its name now, or when it ended.
    pub(crate) name: NodeId,
    /// The first sequence that it gets.
    pub(crate) since: u64,
    /// The first sequence that it does not get any more.
    pub(crate) until: Option<u64>,
    /// It gets nothing for now, but is still subscribed.
    pub(crate) parked: bool,
    /// What was made pending again last: from and before where.
    pub(crate) rewound: (u64, u64),
    /// How far it has come.
    pub(crate) cursor: Cursor,
    /// Updates that it has not settled.
    pub(crate) pending: u64,
    /// How many of them are DELETEs.
    pub(crate) deletes: u64,
    /// Their size.
    pub(crate) bytes: u64,
}

/// How an update ended on a node, as it is recorded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ending {
    /// Anything but pending.
    pub(crate) state: DeliveryState,
    /// Attempts that were sent.
    pub(crate) attempts: u32,
    /// The last status.
    pub(crate) status: u16,
    /// What the answer was.
    pub(crate) digest: u64,
}

/// The whole of it.
#[derive(Debug)]
pub(crate) struct State {
    pub(super) next: u64,
    pub(super) next_slot: Slot,
    pub(super) trim: u64,
    pub(super) nodes: BTreeMap<Slot, Node>,
    pub(super) names: HashMap<NodeId, Slot>,
    pub(super) segments: VecDeque<Segment>,
    pub(super) pending_bytes: u64,
    pub(super) spooled: BTreeMap<u64, u64>,
    pub(super) errors: BTreeMap<(u64, Slot), String>,
    pub(super) completed: Vec<u64>,
}

impl State {
    /// What a segment's snapshot says, when there is nothing before it.
    pub(crate) fn new(snapshot: &Snapshot) -> Decoded<Self> {
        let mut state = Self {
            next: snapshot.next,
            next_slot: snapshot.next_slot,
            trim: snapshot.trim,
            nodes: BTreeMap::new(),
            names: HashMap::new(),
            segments: VecDeque::new(),
            pending_bytes: 0,
            spooled: BTreeMap::new(),
            errors: BTreeMap::new(),
            completed: Vec::new(),
        };
        for (slot, name, since) in &snapshot.nodes {
            state.insert(*slot, name, *since)?;
        }
        for (slot, until) in &snapshot.parked {
            let node = state.nodes.get_mut(slot).ok_or(Corrupt("a node is parked that is not there"))?;
            (node.until, node.parked) = (Some(*until), true);
        }
        Ok(state)
    }

    /// The state of a log that was never written to.
    pub(crate) fn empty() -> Self {
        let nothing = Snapshot {
            next: Sequence::FIRST.0,
            next_slot: 0,
            trim: 0,
            previous: None,
            nodes: Vec::new(),
            parked: Vec::new(),
        };
        Self::new(&nothing).unwrap_or_else(|_| unreachable!("a snapshot without nodes has no bad name"))
    }

    /// The snapshot for a segment that begins now.
    pub(crate) fn snapshot(&self, previous: Option<(u64, u64)>) -> Snapshot {
        let known = || self.nodes.iter().filter(|(_, node)| node.until.is_none() || node.parked);
        let parked =
            known().filter(|(_, node)| node.parked).filter_map(|(slot, node)| Some((*slot, node.until?)));
        Snapshot {
            parked: parked.collect(),
            next: self.next,
            next_slot: self.next_slot,
            trim: self.trim,
            previous,
            nodes: known().map(|(slot, node)| (*slot, node.name.to_string(), node.since)).collect(),
        }
    }

    /// Begins a segment.
    pub(crate) fn begin_segment(&mut self, number: u64) {
        self.segments.push_back(Segment::new(number, self.next));
    }

    /// Applies any record but an append or a snapshot.
    pub(crate) fn apply(&mut self, record: Record) -> Decoded<()> {
        match record {
            Record::Append(_) | Record::Snapshot(_) => {
                return Err(Corrupt("a record stands where none of its kind belongs"));
            }
            Record::Failed { slot, sequence, attempts, failures, status, error } => {
                let failure = Failure { attempt: attempts, failures, status, error, answer: None };
                self.fail(slot, sequence, &failure);
            }
            Record::Settled { slot, sequence, state, attempts, status, digest, error } => {
                self.settle(slot, sequence, Ending { state, attempts, status, digest });
                self.note(slot, sequence, &error);
            }
            Record::Rejected { sequence, status } => {
                self.reject(sequence, status);
            }
            Record::Subscribe { slot, name } => {
                self.insert(slot, &name, self.next)?;
                self.next_slot = self.next_slot.max(slot + 1);
            }
            Record::Unsubscribe { slot } => {
                self.unsubscribe(slot);
            }
            Record::Rename { slot, name } => self.rename(slot, &name)?,
            Record::Discard { slot, until } => {
                self.discard(slot, until);
                self.unpark(slot);
            }
            Record::Rewind { slot, from } => self.rewind(slot, from),
            Record::Park { slot } => self.park(slot),
            Record::Trim { segment } => self.trim = self.trim.max(segment),
            Record::Reopened => {
                let before = self.segments.len().saturating_sub(1);
                self.segments.iter_mut().take(before).for_each(Segment::bump);
            }
            Record::Closed => {}
        }
        Ok(())
    }

    /// Adds the next update to the last segment.
    pub(crate) fn append(&mut self, append: &Append, offset: u32, at_ms: u64) -> Decoded<()> {
        let live =
            self.nodes.values().filter(|node| node.until.is_none()).count().try_into().unwrap_or(u16::MAX);
        let segment =
            self.segments.back_mut().ok_or(Corrupt("an update stands before a segment's beginning"))?;
        if append.sequence != self.next {
            return Err(Corrupt("an update's sequence does not follow the one before"));
        }
        segment.append(append, offset, live, at_ms);
        let size = size(append);
        if let Some((_, len, _)) = &append.spooled {
            self.spooled.insert(append.sequence, *len);
        }
        for node in self.nodes.values_mut().filter(|node| node.until.is_none()) {
            node.pending += 1;
            node.bytes += size;
            node.deletes += u64::from(append.delete);
        }
        if live > 0 {
            self.pending_bytes += size;
        }
        self.next += 1;
        Ok(())
    }

    /// Records a failed attempt. False when the update is not pending there.
    pub(crate) fn fail(&mut self, slot: Slot, sequence: u64, failure: &Failure) -> bool {
        let Some(mut progress) = self.progress(slot, sequence).filter(pending) else { return false };
        progress.attempts = progress.attempts.max(failure.attempt);
        progress.failures = failure.failures;
        progress.status = failure.status;
        if failure.attempt == 1 {
            progress.first_status = failure.status;
        }
        self.set(slot, sequence, progress);
        self.note(slot, sequence, &failure.error);
        true
    }

    /// Records how an update ended on a node. False when it was settled before.
    pub(crate) fn settle(&mut self, slot: Slot, sequence: u64, ending: Ending) -> bool {
        let Some(mut progress) = self.progress(slot, sequence) else { return false };
        let was_pending = pending(&progress);
        // Discarded while it was being sent: that the node got it is the better news.
        // Or given up, and taken when it was tried again.
        let late = matches!(progress.state, DeliveryState::Discarded | DeliveryState::Dead)
            && ending.state == DeliveryState::Delivered;
        if !was_pending && !late {
            return false;
        }
        progress.state = ending.state;
        progress.attempts = progress.attempts.max(ending.attempts);
        progress.status = ending.status;
        progress.digest = ending.digest;
        if ending.attempts == 1 {
            progress.first_status = ending.status;
        }
        self.set(slot, sequence, progress);
        if ending.state == DeliveryState::Delivered {
            self.errors.remove(&(sequence, slot));
        }
        if was_pending {
            self.settled(slot, sequence);
        }
        was_pending
    }

    /// Settles as rejected wherever it is pending; says where that was.
    pub(crate) fn reject(&mut self, sequence: u64, status: u16) -> Vec<(Slot, u32)> {
        let nodes: Vec<_> = self.nodes_of(sequence).filter(|(_, progress)| pending(progress)).collect();
        for (slot, progress) in &nodes {
            let (attempts, digest) = (progress.attempts, progress.digest);
            let ending = Ending { state: DeliveryState::Rejected, attempts, status, digest };
            self.settle(*slot, sequence, ending);
        }
        nodes.into_iter().map(|(slot, progress)| (slot, progress.attempts)).collect()
    }

    /// Discards what a node has not settled before `until`; says how many that were.
    pub(crate) fn discard(&mut self, slot: Slot, until: u64) -> u64 {
        let open = self.pending(slot, 0, usize::MAX);
        let mut count = 0;
        for sequence in open.into_iter().take_while(|sequence| *sequence < until) {
            let Some(progress) = self.progress(slot, sequence) else { continue };
            let Progress { attempts, status, digest, .. } = progress;
            self.settle(slot, sequence, Ending { state: DeliveryState::Discarded, attempts, status, digest });
            count += 1;
        }
        count
    }

    /// Ends a subscription; says how many updates were discarded.
    pub(crate) fn unsubscribe(&mut self, slot: Slot) -> u64 {
        let count = self.discard(slot, self.next);
        if let Some(node) = self.nodes.get_mut(&slot).filter(|node| node.until.is_none() || node.parked) {
            node.until = node.until.or(Some(self.next));
            node.parked = false;
            self.names.remove(&node.name);
        }
        count
    }

    /// Gives a node another name.
    pub(crate) fn rename(&mut self, slot: Slot, name: &str) -> Decoded<()> {
        let name: NodeId = name.parse().map_err(|_| Corrupt("a node's name is not one"))?;
        if let Some(node) = self.nodes.get_mut(&slot) {
            self.names.remove(&node.name);
            self.names.insert(name.clone(), slot);
            node.name = name;
        }
        // One attempt may be under way to the old name; its outcome will not be heard of.
        for sequence in self.pending(slot, 0, usize::MAX) {
            let mut progress = self.progress(slot, sequence).unwrap_or_default();
            progress.attempts += 1;
            self.set(slot, sequence, progress);
        }
        Ok(())
    }

    /// Forgets the segments before the trimmed one, and nodes that ended before what is left.
    pub(crate) fn forget(&mut self) -> Vec<Segment> {
        let mut forgotten = Vec::new();
        while self.segments.front().is_some_and(|segment| segment.number < self.trim) {
            forgotten.extend(self.segments.pop_front());
        }
        let first = self.first();
        self.nodes.retain(|_, node| node.parked || node.until.is_none_or(|until| until > first));
        self.spooled = self.spooled.split_off(&first);
        self.errors = self.errors.split_off(&(first, 0));
        forgotten
    }

    fn insert(&mut self, slot: Slot, name: &str, since: u64) -> Decoded<()> {
        let name: NodeId = name.parse().map_err(|_| Corrupt("a node's name is not one"))?;
        self.names.insert(name.clone(), slot);
        let cursor = Cursor::new(Sequence(self.next));
        let node = Node {
            name,
            since,
            until: None,
            parked: false,
            rewound: (0, 0),
            cursor,
            pending: 0,
            deletes: 0,
            bytes: 0,
        };
        self.nodes.insert(slot, node);
        Ok(())
    }

    pub(super) fn set(&mut self, slot: Slot, sequence: u64, progress: Progress) {
        if let Some(index) = self.segment_index(sequence) {
            self.segments[index].set(slot, sequence, progress);
        }
    }

    fn settled(&mut self, slot: Slot, sequence: u64) {
        let size = self.size(sequence);
        let Some(index) = self.segment_index(sequence) else { return };
        let segment = &mut self.segments[index];
        let entry = &mut segment.entries[(sequence - segment.first) as usize];
        if let Some(node) = self.nodes.get_mut(&slot) {
            node.cursor.settle(Sequence(sequence));
            node.pending -= 1;
            node.bytes -= size;
            node.deletes -= u64::from(entry.delete);
        }
        entry.needed -= 1;
        if entry.needed == 0 {
            segment.open -= 1;
            self.pending_bytes -= size;
            self.completed.push(sequence);
        }
    }

    /// Keeps the last error of an update on a node, for people.
    pub(crate) fn note(&mut self, slot: Slot, sequence: u64, error: &str) {
        if error.is_empty() || self.progress(slot, sequence).is_none() {
            return;
        }
        self.errors.insert((sequence, slot), error.to_owned());
        if self.errors.len() > MAX_ERRORS {
            self.errors.pop_first();
        }
    }
}

/// What an update counts for.
pub(crate) fn size(append: &Append) -> u64 {
    u64::from(append.len) + append.spooled.as_ref().map_or(0, |spooled| spooled.1)
}

fn pending(progress: &Progress) -> bool {
    progress.state == DeliveryState::Pending
}
