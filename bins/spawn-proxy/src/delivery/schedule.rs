//! Which update goes to a node next, and when: pure, for one node.
//!
//! Rules (docs/design/delivery.md):
//! - an update waits until every earlier one that conflicts with it is finished here;
//! - the earliest that is due goes first, and no more than `concurrency` are under way;
//! - a failed one comes back after its back-off, and what conflicts with it waits on;
//! - after many failures in a row the node is probed with one update at a time.
//!
//! Time is whatever the caller says it is: durations since a start that it chose.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use common::queue::Sequence;
use rand::rngs::SmallRng;

use super::backoff::Backoff;
use super::path::{ConflictIndex, ConflictPath};
use super::wellness::{Suspicion, Tally, Verdict};

/// So many failures in a row, of whatever updates, make the node be probed instead of served.
const PROBE_AFTER: u32 = 8;

/// What bounds deliveries to one node.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// Updates under way at once.
    pub concurrency: usize,
    /// Counted failures after which an update is given up.
    pub max_attempts: u32,
    /// How long to wait between attempts.
    pub backoff: Backoff,
}

/// What became of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// An answer that is neither 5xx nor 429.
    Answered,
    /// 5xx or 429, or no answer: try again, not before `retry_after` where the node named a time.
    Failed {
        /// The node's own wish.
        retry_after: Option<Duration>,
    },
    /// The request never left: nothing was attempted.
    Unsent,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Send this update; its attempt has this number.
    Send(Sequence, u32),
    /// Nothing to do before this time, or before something happens.
    Wait(Option<Duration>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Waits for so many earlier updates.
    Blocked(usize),
    /// May be sent from this time on.
    Due(Duration),
    /// Under way.
    Sent,
}

#[derive(Debug)]
struct Entry {
    path: ConflictPath,
    state: State,
    blocks: Vec<Sequence>,
    /// Attempts sent so far, which number the next.
    attempts: u32,
    /// Failures that count.
    failures: u32,
    /// Attempts that failed since the last that was answered or unsent, for the back-off.
    in_a_row: u32,
    /// Failures that will count if the node turns out to be well.
    suspicion: Option<Suspicion>,
    /// The node asked not to be tried before this time.
    not_before: Duration,
}

impl Entry {
    /// Failures count or are forgotten, by how the node answered everything else meanwhile. Where
    /// there was nothing else they wait for it; but an update that failed too often all by itself
    /// is judged by the health check alone, or it would block the queue for ever.
    fn judge(&mut self, tally: Tally, max_attempts: u32) {
        let Some(suspicion) = self.suspicion else { return };
        let alone_too_often = self.failures + suspicion.failures() >= max_attempts;
        match suspicion.verdict(tally) {
            Verdict::Unknown if !alone_too_often => return,
            Verdict::Unknown | Verdict::NodeWasWell => self.failures += suspicion.failures(),
            Verdict::NodeWasUnwell => {}
        }
        self.suspicion = None;
    }
}

/// The updates of one node that are not finished, as far as they were read from the log.
#[derive(Debug)]
pub struct Schedule {
    policy: Policy,
    entries: BTreeMap<Sequence, Entry>,
    index: ConflictIndex,
    due: BTreeSet<(Duration, Sequence)>,
    under_way: usize,
    failures_in_a_row: u32,
    probe_at: Duration,
}

impl Schedule {
    /// An empty schedule.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            entries: BTreeMap::new(),
            index: ConflictIndex::default(),
            due: BTreeSet::new(),
            under_way: 0,
            failures_in_a_row: 0,
            probe_at: Duration::ZERO,
        }
    }

    /// Enters an update, newer than all before it.
    pub fn enter(
        &mut self,
        sequence: Sequence,
        path: ConflictPath,
        attempts: u32,
        failures: u32,
        now: Duration,
    ) {
        let mut blockers = 0;
        let entries = &mut self.entries;
        self.index.enter(&path, sequence, |earlier| {
            if let Some(entry) = entries.get_mut(&earlier) {
                entry.blocks.push(sequence);
                blockers += 1;
            }
        });
        let state = if blockers > 0 {
            State::Blocked(blockers)
        } else {
            self.due.insert((now, sequence));
            State::Due(now)
        };
        self.entries.insert(
            sequence,
            Entry {
                path,
                state,
                blocks: Vec::new(),
                attempts,
                failures,
                in_a_row: 0,
                suspicion: None,
                not_before: Duration::ZERO,
            },
        );
    }

    /// Updates entered and not finished.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether everything entered is finished.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Updates under way.
    pub fn under_way(&self) -> usize {
        self.under_way
    }

    /// The first unfinished sequence.
    pub fn first(&self) -> Option<Sequence> {
        self.entries.first_key_value().map(|(sequence, _)| *sequence)
    }

    /// The path of an update, as far as order is concerned.
    pub fn path(&self, sequence: Sequence) -> Option<&ConflictPath> {
        self.entries.get(&sequence).map(|entry| &entry.path)
    }

    /// The unfinished sequences, ascending.
    pub fn unfinished(&self) -> impl Iterator<Item = Sequence> + '_ {
        self.entries.keys().copied()
    }

    /// Takes out everything that is not under way; returns what is.
    pub fn forget_waiting(&mut self) -> HashSet<Sequence> {
        self.entries.retain(|_, entry| entry.state == State::Sent);
        self.entries.values_mut().for_each(|entry| entry.blocks.clear());
        self.due.clear();
        self.entries.keys().copied().collect()
    }

    /// Changes the bounds, from the next decision on.
    pub fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
    }

    /// Whether the node is failing so much that it is only probed.
    pub fn is_probing(&self) -> bool {
        self.failures_in_a_row >= PROBE_AFTER
    }

    /// What to do now. After [`Next::Send`], [`done`](Self::done) must follow.
    pub fn next(&mut self, now: Duration, tally: Tally) -> Next {
        let limit = if self.is_probing() { 1 } else { self.policy.concurrency };
        if self.under_way >= limit {
            return Next::Wait(None);
        }
        let Some(&(due, sequence)) = self.due.first() else { return Next::Wait(None) };
        let due = if self.is_probing() { due.max(self.probe_at) } else { due };
        if due > now {
            return Next::Wait(Some(due));
        }
        self.due.pop_first();
        let Some(entry) = self.entries.get_mut(&sequence) else { return Next::Wait(None) };
        entry.state = State::Sent;
        entry.attempts += 1;
        entry.suspicion.get_or_insert_with(|| Suspicion::begin(now, tally));
        self.under_way += 1;
        Next::Send(sequence, entry.attempts)
    }

    /// Takes the outcome of an attempt. A failed one goes again later.
    pub fn done(&mut self, sequence: Sequence, outcome: Outcome, now: Duration, rng: &mut SmallRng) {
        self.under_way = self.under_way.saturating_sub(1);
        match outcome {
            Outcome::Answered => {
                self.failures_in_a_row = 0;
                self.finish(sequence, now);
            }
            Outcome::Unsent => {
                let Some(entry) = self.entries.get_mut(&sequence) else { return };
                entry.attempts -= 1;
                self.again(sequence, now);
            }
            Outcome::Failed { retry_after } => {
                self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
                // "At once" is no wish that can be granted again and again.
                let patient = retry_after.filter(|wait| *wait >= self.policy.backoff.first);
                let wish = patient.map(|wait| now + wait).unwrap_or_default();
                self.probe_at = wish.max(
                    now + self
                        .policy
                        .backoff
                        .wait(self.failures_in_a_row - PROBE_AFTER.min(self.failures_in_a_row), rng),
                );
                let Some(entry) = self.entries.get_mut(&sequence) else { return };
                entry.in_a_row = entry.in_a_row.saturating_add(1);
                entry.not_before = wish;
                if let Some(suspicion) = &mut entry.suspicion {
                    suspicion.failed();
                }
                let wait = self.policy.backoff.wait(entry.in_a_row - 1, rng);
                let due = if wish > Duration::ZERO { wish } else { now + wait };
                self.again(sequence, due);
            }
        }
    }

    /// The node passed a health check: failures since then are judged, and whatever waits out a
    /// back-off goes at once. Returns what has failed too often and must be given up.
    pub fn node_passed_check(&mut self, now: Duration, tally: Tally) -> Vec<Sequence> {
        self.probe_at = Duration::ZERO;
        let mut hopeless = Vec::new();
        let mut sooner = Vec::new();
        for (&sequence, entry) in &mut self.entries {
            let State::Due(due) = entry.state else { continue };
            entry.judge(tally, self.policy.max_attempts);
            if entry.failures >= self.policy.max_attempts {
                hopeless.push(sequence);
            } else if due > now && entry.not_before <= now {
                sooner.push((due, sequence));
            }
        }
        for (due, sequence) in sooner {
            self.due.remove(&(due, sequence));
            self.again(sequence, now);
        }
        hopeless
    }

    /// The node failed a health check: what failed meanwhile does not count.
    pub fn node_failed_check(&mut self, now: Duration, tally: Tally) {
        for entry in self.entries.values_mut() {
            entry.suspicion = (entry.state == State::Sent).then(|| Suspicion::begin(now, tally));
        }
    }

    /// How many failures of this update count.
    pub fn failures(&self, sequence: Sequence) -> u32 {
        self.entries.get(&sequence).map_or(0, |entry| entry.failures)
    }

    /// Attempts of this update that were sent.
    pub fn attempts(&self, sequence: Sequence) -> u32 {
        self.entries.get(&sequence).map_or(0, |entry| entry.attempts)
    }

    /// Takes an update out, finished in whatever way, and lets what waited for it go on.
    pub fn finish(&mut self, sequence: Sequence, now: Duration) {
        let Some(entry) = self.entries.remove(&sequence) else { return };
        if let State::Due(due) = entry.state {
            self.due.remove(&(due, sequence));
        }
        self.index.leave(&entry.path, sequence);
        for blocked in entry.blocks {
            let Some(waiting) = self.entries.get_mut(&blocked) else { continue };
            match waiting.state {
                State::Blocked(1) => self.again(blocked, now),
                State::Blocked(n) => waiting.state = State::Blocked(n - 1),
                State::Due(_) | State::Sent => {}
            }
        }
    }

    fn again(&mut self, sequence: Sequence, due: Duration) {
        if let Some(entry) = self.entries.get_mut(&sequence) {
            entry.state = State::Due(due);
            self.due.insert((due, sequence));
        }
    }
}
