//! What the running log keeps in memory, and what happens there at once.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Weak};

use common::node::NodeId;
use common::queue::Sequence;

use super::answers::{Entry, keepable};
use super::disk::DiskFile;
use super::diverged::Diverged;
use super::inbox::Kept;
use super::keys::Keys;
use super::record::{Record, Slot};
use super::retry::Retried;
use super::state::{Ending, State};
use crate::{
    Answer, DeadLetter, DeliveryState, Failure, Progress, Report, Settled, SpooledBody, Tracker, Update,
};

/// An update given up on a node, whose copy is still to be made.
pub(crate) struct Dying {
    pub(crate) update: Arc<Update>,
    pub(crate) attempts: u32,
    pub(crate) status: u16,
    pub(crate) error: String,
}

/// All of it, behind one lock.
pub(crate) struct Core {
    pub(crate) state: State,
    pub(crate) keys: Keys,
    pub(crate) cache: Cache,
    /// Recorded in memory and not yet written.
    pub(crate) marks: Vec<Record>,
    pub(crate) dying: BTreeMap<(Slot, u64), Dying>,
    /// Retries under way.
    pub(crate) attempting: HashSet<(Slot, u64)>,
    pub(crate) trackers: HashMap<u64, Weak<Tracker>>,
    /// Keys and answers to be written down, one for an update.
    pub(crate) unwritten: BTreeMap<u64, Entry>,
    pub(crate) files: HashMap<u64, Arc<dyn DiskFile>>,
    pub(crate) bodies: BTreeMap<u64, SpooledBody>,
    pub(crate) dead: BTreeMap<(Slot, u64), DeadLetter>,
    /// Those of them that are tried again.
    pub(crate) retried: BTreeMap<(Slot, u64), Retried>,
    /// Dead letters whose files are to be removed.
    pub(crate) gone: Vec<(Slot, u64)>,
    pub(crate) diverged: Diverged,
    pub(crate) commits: u64,
    pub(crate) appends: u64,
    pub(crate) refused: u64,
    sweep_at: usize,
}

/// A rejection that has been decided and is not yet durable.
pub(crate) struct Rejection {
    sequence: u64,
    tracker: Option<Arc<Tracker>>,
    nodes: Vec<(Slot, u32)>,
}

impl Core {
    /// What recovery found.
    pub(crate) fn new(state: State, keys: Keys, cache_bytes: u64) -> Self {
        let cache = Cache { first: state.next(), updates: VecDeque::new(), bytes: 0, max: cache_bytes };
        Self {
            state,
            keys,
            cache,
            marks: Vec::new(),
            dying: BTreeMap::new(),
            attempting: HashSet::new(),
            trackers: HashMap::new(),
            unwritten: BTreeMap::new(),
            files: HashMap::new(),
            bodies: BTreeMap::new(),
            dead: BTreeMap::new(),
            retried: BTreeMap::new(),
            gone: Vec::new(),
            diverged: Diverged::default(),
            commits: 0,
            appends: 0,
            refused: 0,
            sweep_at: 1024,
        }
    }

    /// See [`UpdateLog::settle`](crate::UpdateLog::settle).
    pub(crate) fn settle(&mut self, node: &NodeId, update: &Arc<Update>, settled: Settled) {
        let sequence = update.sequence.0;
        let own = self.state.slot(node);
        let delivered = matches!(settled, Settled::Delivered { .. });
        let letter =
            if delivered { self.took_letter(node, sequence) } else { self.retried_slot(node, sequence) };
        let slot = letter.or(own);
        let before = slot.and_then(|slot| Some((slot, self.state.progress(slot, sequence)?)));
        let tracker = self.find_tracker(sequence).or_else(|| update.tracker.clone());
        let mut report = settled_report(node.clone(), 0);
        match settled {
            Settled::Delivered { attempt, answer, digest, level } => {
                (report.attempt, report.level, report.digest) = (attempt, level, digest);
                report.answer = Some(answer.clone());
                if let Some((slot, before)) = before {
                    self.answered(sequence, &answer, level);
                    let ending = Ending {
                        state: DeliveryState::Delivered,
                        attempts: attempt,
                        status: answer.status.as_u16(),
                        digest,
                    };
                    self.state.settle(slot, sequence, ending);
                    self.mark(slot, sequence, before, String::new());
                    self.compare(slot, update, digest);
                }
            }
            Settled::Dead { attempts, status, error } => {
                report.attempt = attempts;
                let pending = before.filter(|(_, progress)| progress.state == DeliveryState::Pending);
                if let Some(slot) = letter.or(pending.map(|(slot, _)| slot)) {
                    let dying = Dying { update: update.clone(), attempts, status, error: clip(error) };
                    self.dying.entry((slot, sequence)).or_insert(dying);
                }
            }
        }
        if let Some(slot) = own {
            self.attempting.remove(&(slot, sequence));
        }
        if let Some(tracker) = tracker {
            tracker.report(report);
        }
        self.complete();
    }

    /// An update's copy among the dead letters is durable: its node is done with it.
    pub(crate) fn buried(&mut self, slot: Slot, sequence: u64, letter: DeadLetter) {
        let Some(dying) = self.dying.remove(&(slot, sequence)) else { return };
        if let Some(before) = self.state.progress(slot, sequence) {
            let Dying { attempts, status, error, .. } = dying;
            let ending = Ending { state: DeliveryState::Dead, attempts, status, digest: before.digest };
            self.state.settle(slot, sequence, ending);
            self.mark(slot, sequence, before, error);
        }
        self.retried.remove(&(slot, sequence));
        self.dead.insert((slot, sequence), letter);
        self.complete();
    }

    /// Records what changed in memory for the writer to write.
    fn mark(&mut self, slot: Slot, sequence: u64, before: Progress, error: String) {
        let Some(now) = self.state.progress(slot, sequence).filter(|now| *now != before) else { return };
        let Progress { state, attempts, status, digest, .. } = now;
        self.state.note(slot, sequence, &error);
        self.marks.push(Record::Settled { slot, sequence, state, attempts, status, digest, error });
    }

    /// See [`UpdateLog::begin_attempt`](crate::UpdateLog::begin_attempt).
    pub(crate) fn begin_attempt(&mut self, node: &NodeId, sequence: u64) -> bool {
        let Some(slot) = self.state.slot(node) else { return false };
        let pending = self.state.progress(slot, sequence).is_some_and(|p| p.state == DeliveryState::Pending);
        let retried = self.retried_slot(node, sequence);
        if !pending && retried.is_none() || self.dying.contains_key(&(retried.unwrap_or(slot), sequence)) {
            return false;
        }
        self.attempting.insert((slot, sequence));
        true
    }

    /// See [`UpdateLog::end_attempt`](crate::UpdateLog::end_attempt).
    pub(crate) fn end_attempt(&mut self, node: &NodeId, sequence: u64) {
        if let Some(slot) = self.state.slot(node) {
            self.attempting.remove(&(slot, sequence));
        }
    }

    /// See [`UpdateLog::reject`](crate::UpdateLog::reject).
    pub(crate) fn reject(&mut self, sequence: u64, status: u16) -> Option<Rejection> {
        let nodes: Vec<_> = self.state.nodes_of(sequence).collect();
        let delivered = nodes.iter().any(|(_, progress)| progress.state == DeliveryState::Delivered);
        let pending = |progress: &Progress| progress.state == DeliveryState::Pending;
        let attempting = nodes.iter().any(|(slot, _)| self.attempting.contains(&(*slot, sequence)));
        let dying = nodes.iter().any(|(slot, _)| self.dying.contains_key(&(*slot, sequence)));
        if delivered || attempting || dying || !nodes.iter().any(|(_, progress)| pending(progress)) {
            return None;
        }
        let tracker = self.find_tracker(sequence);
        let nodes = self.state.reject(sequence, status);
        self.marks.push(Record::Rejected { sequence, status });
        Some(Rejection { sequence, tracker, nodes })
    }

    /// A rejection is durable: the answer to it may be heard.
    pub(crate) fn rejected(&mut self, rejection: Rejection, answer: &Arc<Answer>) {
        let Rejection { sequence, tracker, nodes } = rejection;
        self.answered(sequence, answer, true);
        if let Some(tracker) = tracker {
            for (slot, attempt) in nodes {
                let Some(node) = self.state.node(slot).map(|node| node.name.clone()) else { continue };
                let answer = Some(answer.clone());
                tracker.report(Report { rejected: true, answer, ..settled_report(node, attempt) });
            }
        }
        self.complete();
    }

    /// A failed attempt is durable.
    pub(crate) fn failed(&mut self, slot: Slot, sequence: u64, failure: Failure) {
        self.state.fail(slot, sequence, &failure);
        self.attempting.remove(&(slot, sequence));
        let Some(node) = self.state.node(slot).map(|node| node.name.clone()) else { return };
        if let Some(tracker) = self.find_tracker(sequence) {
            let report = settled_report(node, failure.attempt);
            tracker.report(Report { settled: false, answer: failure.answer, ..report });
        }
    }

    /// Tells those who wait that a node gets nothing of what it had pending.
    pub(crate) fn report_discarded(&self, slot: Slot) {
        let Some(node) = self.state.node(slot).map(|node| node.name.clone()) else { return };
        for (sequence, tracker) in &self.trackers {
            let progress = self.state.progress(slot, *sequence).filter(|p| p.state == DeliveryState::Pending);
            let (Some(progress), Some(tracker)) = (progress, tracker.upgrade()) else { continue };
            tracker.report(settled_report(node.clone(), progress.attempts));
        }
    }

    /// Keeps an answer for repeated requests, if it is the first or better than the one kept.
    fn answered(&mut self, sequence: u64, answer: &Arc<Answer>, last: bool) {
        let Some((scope, key)) = self.keys.of(sequence) else { return };
        let (known, known_last) = match self.unwritten.get(&sequence) {
            Some(entry) => (entry.answer.is_some(), entry.last),
            None => (key.answered, key.last),
        };
        if known_last || known && !last {
            return;
        }
        let answer = keepable(answer).then(|| answer.clone());
        let entry = Entry { scope, body: key.body, sequence, at_ms: key.at_ms, last, answer };
        self.unwritten.insert(sequence, entry);
    }

    /// Does what is due for updates that became settled everywhere.
    pub(crate) fn complete(&mut self) {
        for sequence in self.state.take_completed() {
            self.trackers.remove(&sequence);
            self.keys.completed(sequence);
            self.write_down(sequence);
        }
    }

    /// Has a key written down apart from its update, unless it is already.
    pub(crate) fn write_down(&mut self, sequence: u64) {
        let Some((scope, key)) = self.keys.of(sequence) else { return };
        if key.place.is_none() {
            let entry =
                Entry { scope, body: key.body, sequence, at_ms: key.at_ms, last: false, answer: None };
            self.unwritten.entry(sequence).or_insert(entry);
        }
    }

    /// After recovery: forgets old keys, and has the keys of settled updates written down.
    pub(crate) fn settle_keys(&mut self, now_ms: u64) {
        self.keys.expire(now_ms, |sequence| self.state.is_open(sequence));
        for sequence in self.keys.unplaced() {
            if !self.state.is_open(sequence) {
                self.write_down(sequence);
            }
        }
    }

    /// What a repeated request gets: the answer, or something to wait for it with.
    pub(crate) fn known(&mut self, sequence: u64) -> (Option<Kept>, Option<Arc<Tracker>>) {
        let open = self.state.is_open(sequence);
        let (answer, last) = match self.unwritten.get(&sequence) {
            Some(entry) => (entry.answer.clone().map(Kept::Here), entry.last),
            None => self.keys.of(sequence).map_or((None, false), |(_, key)| {
                (key.place.filter(|_| key.answered).map(Kept::At), key.last)
            }),
        };
        if last || !open {
            return (answer, None);
        }
        (None, Some(self.tracker(sequence)))
    }

    fn tracker(&mut self, sequence: u64) -> Arc<Tracker> {
        if let Some(tracker) = self.find_tracker(sequence) {
            return tracker;
        }
        let nodes: Vec<_> = self.state.nodes_of(sequence).collect();
        let name = |slot| self.state.node(slot).map(|node| node.name.clone());
        let tracker = Arc::new(Tracker::new(nodes.iter().filter_map(|(slot, _)| name(*slot)).collect()));
        for (slot, progress) in nodes {
            let Some(node) = name(slot).filter(|_| progress.state != DeliveryState::Pending) else {
                continue;
            };
            tracker.report(Report { digest: progress.digest, ..settled_report(node, progress.attempts) });
        }
        self.follow(sequence, &tracker);
        tracker
    }

    /// Remembers who follows an update, as long as anybody does.
    pub(crate) fn follow(&mut self, sequence: u64, tracker: &Arc<Tracker>) {
        self.trackers.insert(sequence, Arc::downgrade(tracker));
        if self.trackers.len() > self.sweep_at {
            self.trackers.retain(|_, tracker| tracker.strong_count() > 0);
            self.sweep_at = (self.trackers.len() * 2).max(1024);
        }
    }

    /// Whoever follows an update.
    pub(crate) fn find_tracker(&self, sequence: u64) -> Option<Arc<Tracker>> {
        self.trackers.get(&sequence)?.upgrade()
    }
}

/// That a node is done with an update, without an answer.
fn settled_report(node: NodeId, attempt: u32) -> Report {
    Report { node, attempt, settled: true, level: false, rejected: false, digest: 0, answer: None }
}

/// The newest updates, in memory.
pub(crate) struct Cache {
    first: u64,
    updates: VecDeque<(Arc<Update>, u64)>,
    bytes: u64,
    max: u64,
}

impl Cache {
    /// Adds the next update.
    pub(crate) fn push(&mut self, update: Arc<Update>, len: u64) {
        // An update in memory is larger than its record: headers in a table, the tracker, the reports.
        let size = len + 2560;
        self.updates.push_back((update, size));
        self.bytes += size;
        while self.bytes > self.max {
            let Some((_, size)) = self.updates.pop_front() else { return };
            self.bytes -= size;
            self.first += 1;
        }
    }

    /// An update, if it is there.
    pub(crate) fn get(&self, sequence: u64) -> Option<&Arc<Update>> {
        let update = self.updates.get(sequence.checked_sub(self.first)? as usize).map(|(update, _)| update);
        debug_assert!(update.is_none_or(|update| update.sequence == Sequence(sequence)));
        update
    }
}

/// Shortens an error text to what is kept of it.
pub(crate) fn clip(mut error: String) -> String {
    const MAX: usize = 512;
    if error.len() > MAX {
        let end = (0..=MAX).rev().find(|at| error.is_char_boundary(*at)).unwrap_or(0);
        error.truncate(end);
    }
    error
}
