//! What is observed of a node, shared by everything that sends to it. Never stored.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use common::node::NodeId;
use http::HeaderValue;
use tokio::sync::{Notify, watch};

use crate::delivery::wellness::Tally;

/// Answers and failures by kind, as the original counted them: set = POST, PUT, PATCH and alike.
#[derive(Debug, Default)]
pub struct ByKind {
    /// Reads.
    pub get: AtomicU64,
    /// Updates other than DELETE.
    pub set: AtomicU64,
    /// DELETE.
    pub delete: AtomicU64,
}

/// The kind of a request in counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A read.
    Get,
    /// An update other than DELETE.
    Set,
    /// DELETE.
    Delete,
}

impl Kind {
    /// The kind of an update.
    pub fn of_update(method: &http::Method) -> Self {
        if method == http::Method::DELETE { Self::Delete } else { Self::Set }
    }
}

impl ByKind {
    fn of(&self, kind: Kind) -> &AtomicU64 {
        match kind {
            Kind::Get => &self.get,
            Kind::Set => &self.set,
            Kind::Delete => &self.delete,
        }
    }
}

/// Nobody has looked yet where the node stands.
const UNKNOWN: u64 = u64::MAX;

/// What is observed of one node.
#[derive(Debug)]
pub struct Live {
    /// Which node.
    pub id: NodeId,
    /// Its identity as a header value, for `Spawn-Node` and `Host`.
    pub header: HeaderValue,
    /// Answers other than 5xx and 429.
    pub success: ByKind,
    /// 5xx, 429, and requests without an answer.
    pub failure: ByKind,
    /// The addresses of its name when last resolved; `None` while unknown or when it is an address itself.
    pub addresses: ArcSwapOption<Vec<IpAddr>>,
    epoch: Instant,
    healthy: AtomicBool,
    check_now: Notify,
    checks: watch::Sender<CheckResult>,
    fine: AtomicU64,
    failures: AtomicU64,
    /// When the oldest undelivered update was first seen, in ms after `epoch`, plus 1; 0 when level.
    oldest_undelivered: AtomicU64,
    /// The first sequence that the node has not applied.
    applied_before: AtomicU64,
    waiting: AtomicBool,
    parked: AtomicBool,
    generation: AtomicU64,
    queue_error: Mutex<Option<String>>,
    /// Updates that were given up here.
    lacks: Mutex<BTreeSet<u64>>,
    /// How many.
    lacking: AtomicU64,
}

/// The last health check: how many there were, and how it went.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckResult {
    /// Checks done so far.
    pub number: u64,
    /// What was wrong; `None` when it passed.
    pub error: Option<String>,
}

impl Live {
    /// A node of which nothing is known yet: taken for healthy until something says otherwise.
    /// `epoch` is a time before all others that this node will be told.
    pub fn new(id: NodeId, epoch: Instant) -> Self {
        let header = HeaderValue::from_str(id.as_str()).unwrap_or_else(|_| HeaderValue::from_static("-"));
        Self {
            id,
            header,
            success: ByKind::default(),
            failure: ByKind::default(),
            addresses: ArcSwapOption::empty(),
            epoch,
            healthy: AtomicBool::new(true),
            check_now: Notify::new(),
            checks: watch::Sender::default(),
            fine: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            oldest_undelivered: AtomicU64::new(UNKNOWN),
            applied_before: AtomicU64::new(0),
            waiting: AtomicBool::new(false),
            parked: AtomicBool::new(false),
            generation: AtomicU64::new(0),
            queue_error: Mutex::default(),
            lacks: Mutex::default(),
            lacking: AtomicU64::new(0),
        }
    }

    /// Whether the node may be sent requests.
    pub fn is_healthy(&self) -> bool {
        self.healthy.load(Relaxed)
    }

    /// Live traffic could not reach the node, or waited too long: it is out until a check passes,
    /// and one is made at once.
    pub fn unreachable(&self) {
        if self.healthy.swap(false, Relaxed) {
            tracing::warn!(node = %self.id, "node does not answer: no more traffic until a health check passes");
            self.check_now.notify_one();
        }
    }

    /// Waits until somebody wants a check at once.
    pub async fn check_wanted(&self) {
        self.check_now.notified().await;
    }

    /// Takes the result of a check; returns whether the node's health changed.
    pub fn checked(&self, error: Option<String>) -> bool {
        let healthy = error.is_none();
        let changed = self.healthy.swap(healthy, Relaxed) != healthy;
        self.checks.send_modify(|last| *last = CheckResult { number: last.number + 1, error });
        changed
    }

    /// Follows the checks.
    pub fn checks(&self) -> watch::Receiver<CheckResult> {
        self.checks.subscribe()
    }

    /// Counts an answer; 5xx and 429 as failures.
    pub fn answered(&self, kind: Kind, status: http::StatusCode) {
        if status.is_server_error() || status == http::StatusCode::TOO_MANY_REQUESTS {
            self.failed(kind);
        } else {
            self.fine.fetch_add(1, Relaxed);
            self.success.of(kind).fetch_add(1, Relaxed);
        }
    }

    /// Counts a request that got no answer.
    pub fn failed(&self, kind: Kind) {
        self.failures.fetch_add(1, Relaxed);
        self.failure.of(kind).fetch_add(1, Relaxed);
    }

    /// How the node has answered everything so far.
    pub fn tally(&self) -> Tally {
        Tally { fine: self.fine.load(Relaxed), failed: self.failures.load(Relaxed) }
    }

    /// Publishes since when the node is behind the log, and the first sequence it has not applied.
    pub fn set_position(&self, oldest_undelivered: Option<Instant>, applied_before: u64) {
        let mark =
            oldest_undelivered.map_or(0, |seen| millis(seen.saturating_duration_since(self.epoch)) + 1);
        self.oldest_undelivered.store(mark, Relaxed);
        self.applied_before.store(applied_before, Relaxed);
    }

    /// The queue was changed by an operator: what was read of it no longer holds.
    pub fn refresh(&self) {
        self.generation.fetch_add(1, Relaxed);
    }

    /// Counts the calls of [`refresh`](Self::refresh).
    pub fn generation(&self) -> u64 {
        self.generation.load(Relaxed)
    }

    /// Whether it is known where the node stands.
    pub fn is_placed(&self) -> bool {
        self.oldest_undelivered.load(Relaxed) != UNKNOWN
    }

    /// Publishes whether the queue waits for the node to be well.
    pub fn set_waiting(&self, waiting: bool) {
        self.waiting.store(waiting, Relaxed);
    }

    /// Whether the queue waits for the node to be well.
    pub fn is_waiting(&self) -> bool {
        self.waiting.load(Relaxed)
    }

    /// Publishes whether nothing is kept for the node for now.
    pub fn set_parked(&self, parked: bool) {
        self.parked.store(parked, Relaxed);
    }

    /// Whether nothing is kept for the node for now: it must be brought level before it can be read.
    pub fn is_parked(&self) -> bool {
        self.parked.load(Relaxed)
    }

    /// Publishes what went wrong last with the queue; `None` when updates flow again.
    pub fn set_queue_error(&self, error: Option<String>) {
        let mut last = self.queue_error.lock().unwrap_or_else(PoisonError::into_inner);
        if error.is_some() || last.is_some() {
            *last = error;
        }
    }

    /// What went wrong last with the queue.
    pub fn queue_error(&self) -> Option<String> {
        self.queue_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Publishes which updates were given up here.
    pub fn set_lacks(&self, sequences: impl Iterator<Item = u64>) {
        self.change_lacks(|lacks| *lacks = sequences.collect());
    }

    /// An update was given up here.
    pub fn lack(&self, sequence: u64) {
        self.change_lacks(|lacks| {
            lacks.insert(sequence);
        });
    }

    /// An update that was given up here came after all, or is not to come.
    pub fn has_got(&self, sequence: u64) {
        self.change_lacks(|lacks| {
            lacks.remove(&sequence);
        });
    }

    fn change_lacks(&self, change: impl FnOnce(&mut BTreeSet<u64>)) {
        let mut lacks = self.lacks.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut lacks);
        self.lacking.store(lacks.len() as u64, Relaxed);
    }

    /// Whether an update was given up here.
    pub fn lacks(&self, sequence: u64) -> bool {
        self.lacking.load(Relaxed) > 0
            && self.lacks.lock().unwrap_or_else(PoisonError::into_inner).contains(&sequence)
    }

    /// How old the oldest undelivered update is; zero when the node is level with the log.
    pub fn lag(&self) -> Duration {
        match self.oldest_undelivered.load(Relaxed) {
            0 => Duration::ZERO,
            UNKNOWN => Duration::MAX,
            mark => Duration::from_millis(millis(self.epoch.elapsed()).saturating_sub(mark - 1)),
        }
    }

    /// The first sequence that the node has not applied.
    pub fn applied_before(&self) -> u64 {
        self.applied_before.load(Relaxed)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A node's observed state, shared.
pub type SharedLive = Arc<Live>;
