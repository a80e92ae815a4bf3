//! Who has answered an update so far, for the client that waits for it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use common::node::NodeId;
use http::{HeaderMap, StatusCode};
use tokio::sync::{Notify, mpsc};

/// A node's answer to an update.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The end-to-end headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: AnswerBody,
}

/// The body of an [`Answer`].
#[derive(Debug)]
pub enum AnswerBody {
    /// All of it.
    Whole(Bytes),
    /// Too large to hold: whoever takes the receiver first gets it as it comes.
    Streamed(Mutex<Option<mpsc::Receiver<std::io::Result<Bytes>>>>),
}

/// What one node made of the update, once.
#[derive(Debug, Clone)]
pub struct Report {
    /// The node.
    pub node: NodeId,
    /// The attempt that was answered or failed, from 1.
    pub attempt: u32,
    /// Whether this settles the update there.
    pub settled: bool,
    /// Whether the node was level with the log, so that its answer may be the client's.
    pub level: bool,
    /// Whether every node refused the update, so that this answer is the client's although it is an error.
    pub rejected: bool,
    /// Compares first answers between nodes; 0 when not to be compared.
    pub digest: u64,
    /// The answer, if one came.
    pub answer: Option<Arc<Answer>>,
}

/// Collects the reports of one update while somebody may be waiting for them.
///
/// It lives as long as its update is in memory, the answers in it only until those who waited have
/// what they waited for: an answer holds on to the buffer that it was read into.
#[derive(Debug)]
pub struct Tracker {
    /// The nodes that were subscribed at the append.
    pub nodes: Arc<[NodeId]>,
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    reports: Vec<Report>,
    waiting: usize,
    waited: bool,
}

impl Inner {
    fn wants_answers(&self) -> bool {
        self.waiting > 0 || !self.waited
    }
}

impl Tracker {
    /// A tracker for an update that `nodes` are to get.
    pub fn new(nodes: Arc<[NodeId]>) -> Self {
        Self { nodes, inner: Mutex::default(), changed: Notify::new() }
    }

    /// Adds a report and wakes whoever waits.
    pub fn report(&self, report: Report) {
        let mut inner = self.lock();
        let answer = report.answer.clone().filter(|_| inner.wants_answers());
        inner.reports.push(Report { answer, ..report });
        drop(inner);
        self.changed.notify_waiters();
    }

    /// Calls `decide` with all reports so far, now and after each new one, until it gives a value.
    pub async fn wait_for<T>(&self, mut decide: impl FnMut(&[Report]) -> Option<T>) -> T {
        let _waiting = Waiting::begin(self);
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(value) = decide(&self.lock().reports) {
                return value;
            }
            changed.await;
        }
    }

    /// Looks at the reports so far.
    pub fn look<T>(&self, at: impl FnOnce(&[Report]) -> T) -> T {
        at(&self.lock().reports)
    }

    /// The reports so far.
    pub fn reports(&self) -> Vec<Report> {
        self.lock().reports.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody waits.
struct Waiting<'a>(&'a Tracker);

impl<'a> Waiting<'a> {
    fn begin(tracker: &'a Tracker) -> Self {
        let mut inner = tracker.lock();
        inner.waiting += 1;
        inner.waited = true;
        Self(tracker)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut inner = self.0.lock();
        inner.waiting -= 1;
        if inner.waiting == 0 {
            inner.reports.iter_mut().for_each(|report| report.answer = None);
        }
    }
}
