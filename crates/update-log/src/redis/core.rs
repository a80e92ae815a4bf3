//! What a log in Redis keeps in memory: the newest updates, the nodes as they were last seen, and who waits for what.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Instant;

use common::node::NodeId;
use common::queue::{Cursor, Sequence};

use super::mirror::Mirror;
use super::op::Op;
use crate::{Answer, Queue, Report, Tracker, Update, Usage};

/// A node's queue as it was last seen.
#[derive(Debug, Clone, Default)]
pub(super) struct Row {
    pub(super) slot: String,
    pub(super) low: u64,
    pub(super) pending: u64,
    pub(super) deletes: u64,
    pub(super) bytes: u64,
    pub(super) oldest_ms: Option<u64>,
}

/// All of it, behind one lock.
pub(super) struct Core {
    pub(super) nodes: BTreeMap<NodeId, Row>,
    pub(super) mirrors: HashMap<NodeId, Mirror>,
    pub(super) trackers: HashMap<u64, Weak<Tracker>>,
    pub(super) cache: Cache,
    /// Attempts under way, with the token under which they began.
    pub(super) attempting: HashMap<(NodeId, u64), u64>,
    /// To be recorded.
    pub(super) marks: VecDeque<Op>,
    pub(super) marks_since: Option<Instant>,
    pub(super) usage: Usage,
    /// Sequences that were lost with the end of a log.
    pub(super) lost: u64,
    /// When the tail was seen where.
    arrivals: VecDeque<(u64, Instant)>,
    sweep_at: usize,
}

impl Core {
    pub(super) fn new(cache_bytes: u64) -> Self {
        Self {
            nodes: BTreeMap::new(),
            mirrors: HashMap::new(),
            trackers: HashMap::new(),
            cache: Cache { updates: BTreeMap::new(), bytes: 0, max: cache_bytes },
            attempting: HashMap::new(),
            marks: VecDeque::new(),
            marks_since: None,
            usage: Usage::default(),
            lost: 0,
            arrivals: VecDeque::new(),
            sweep_at: 1024,
        }
    }

    /// A node that is claimed under the lease that has this token now.
    pub(super) fn claimed(&self, node: &NodeId, token: Option<u64>) -> Option<&Mirror> {
        self.mirrors.get(node).filter(|mirror| Some(mirror.token) == token)
    }

    /// The queue of a node. The cursor of a node that is claimed here is exact.
    pub(super) fn queue(&self, node: &NodeId, token: Option<u64>) -> Option<Queue> {
        let row = self.nodes.get(node)?;
        let cursor = self.claimed(node, token).filter(|mirror| mirror.slot == row.slot);
        let cursor = cursor.map_or_else(|| Cursor::new(Sequence(row.low)), |mirror| mirror.cursor().clone());
        let Row { pending, deletes, bytes, oldest_ms, .. } = *row;
        Some(Queue { cursor, pending, deletes, bytes, oldest_ms })
    }

    /// The tail is known to be at `next` from now on.
    pub(super) fn arrived(&mut self, next: u64) {
        const KEPT: usize = 4096;
        if self.arrivals.back().is_none_or(|(last, _)| *last < next) {
            self.arrivals.push_back((next, Instant::now()));
        }
        if self.arrivals.len() > KEPT {
            self.arrivals.pop_front();
        }
    }

    /// When an update was first heard of; `None` when that is long ago, or before this process began.
    pub(super) fn arrival(&self, sequence: u64) -> Option<Instant> {
        let (first, _) = self.arrivals.front()?;
        if sequence < *first {
            return None;
        }
        let index = self.arrivals.partition_point(|(next, _)| *next <= sequence);
        self.arrivals.get(index).map(|(_, at)| *at)
    }

    /// Remembers who follows an update, as long as anybody does.
    pub(super) fn follow(&mut self, sequence: u64, tracker: &Arc<Tracker>) {
        self.trackers.insert(sequence, Arc::downgrade(tracker));
        if self.trackers.len() > self.sweep_at {
            self.trackers.retain(|_, tracker| tracker.strong_count() > 0);
            self.sweep_at = (self.trackers.len() * 2).max(1024);
        }
    }

    /// Whoever follows an update.
    pub(super) fn tracker(&self, sequence: u64) -> Option<Arc<Tracker>> {
        self.trackers.get(&sequence)?.upgrade()
    }

    /// Forgets what is said to be from `sequence` on: it was lost, and may be given again.
    pub(super) fn forget_from(&mut self, sequence: u64) {
        self.cache.forget_from(sequence);
        self.attempting.retain(|(_, seq), _| *seq < sequence);
        self.trackers.retain(|seq, _| *seq < sequence);
    }
}

/// A report without an answer.
pub(super) fn report(node: &NodeId, attempt: u32, settled: bool) -> Report {
    let node = node.clone();
    Report { node, attempt, settled, level: false, rejected: false, digest: 0, answer: None }
}

/// Reports what somebody else did, unless it is known already.
pub(super) fn report_once(tracker: &Tracker, report: Report) {
    let known = tracker.look(|reports| {
        let same = |known: &&Report| known.node == report.node;
        let mut same = reports.iter().filter(same);
        same.any(|known| known.settled || (!report.settled && known.attempt >= report.attempt))
    });
    if !known {
        tracker.report(report);
    }
}

/// An answer of which only the status is known: as one whose body somebody else has taken.
pub(super) fn bare(status: u16) -> Option<Arc<Answer>> {
    let status = http::StatusCode::from_u16(status).ok()?;
    let body = crate::AnswerBody::Streamed(std::sync::Mutex::new(None));
    Some(Arc::new(Answer { status, headers: http::HeaderMap::new(), body }))
}

/// The newest updates, in memory.
pub(super) struct Cache {
    /// Each with whether this process appended it, and its size.
    updates: BTreeMap<u64, (Arc<Update>, bool, u64)>,
    bytes: u64,
    max: u64,
}

impl Cache {
    /// Keeps an update; the oldest ones go.
    pub(super) fn put(&mut self, update: Arc<Update>, own: bool, len: u64) {
        // An update in memory is larger than its record: headers in a table, the tracker, the reports.
        let size = len + 2560;
        let sequence = update.sequence.0;
        if let Some((.., old)) = self.updates.insert(sequence, (update, own, size)) {
            self.bytes -= old;
        }
        self.bytes += size;
        while self.bytes > self.max {
            let Some((_, (.., size))) = self.updates.pop_first() else { return };
            self.bytes -= size;
        }
    }

    /// An update, if it is there.
    pub(super) fn get(&self, sequence: u64) -> Option<&Arc<Update>> {
        self.updates.get(&sequence).map(|(update, ..)| update)
    }

    /// Whether an update is known to have been appended here.
    pub(super) fn is_own(&self, sequence: u64) -> bool {
        self.updates.get(&sequence).is_some_and(|(_, own, _)| *own)
    }

    fn forget_from(&mut self, sequence: u64) {
        for (_, (.., size)) in self.updates.split_off(&sequence) {
            self.bytes -= size;
        }
    }
}
