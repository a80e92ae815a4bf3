//! What is done under a claim: attempts and what came of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::node::NodeId;

use super::mirror::Mirror;
use super::op::{Op, Then, number};
use super::{RedisLog, core, flag, read};
use crate::file::answers::{self, keepable};
use crate::{Answer, DeliveryState, Failure, LogError, Progress, Report, Update};

/// Error texts are kept up to this, in bytes.
const MAX_ERROR: usize = 512;
/// Between tries to announce an attempt while the log is away.
const ANNOUNCE_AGAIN: Duration = Duration::from_millis(100);

/// A node that is claimed here, as far as is known.
pub(super) struct Held {
    pub(super) node: NodeId,
    slot: String,
    pub(super) token: u64,
}

impl Held {
    /// The arguments of an operation under it.
    pub(super) fn args(&self, more: impl IntoIterator<Item = Vec<u8>>) -> Vec<Vec<u8>> {
        [self.slot.clone().into_bytes(), number(self.token)].into_iter().chain(more).collect()
    }
}

/// Whether an update may be rejected as far as this node goes: that takes a refusal of the first attempt by every node. So only
/// attempts that follow one are announced to the others, which costs a round trip.
pub(super) fn refused_once(progress: &Progress) -> bool {
    (500..600).contains(&progress.first_status)
}

impl RedisLog {
    /// Has a node changed under a claim.
    pub(super) async fn under(
        &self,
        held: Held,
        kind: &'static str,
        args: Vec<Vec<u8>>,
    ) -> Result<Vec<String>, LogError> {
        let done = self.done(&held.node, kind, held.args(args)).await;
        if matches!(done, Err(LogError::Stale(_) | LogError::Node(_))) {
            self.inner.lose_claim(&held.node, held.token);
        }
        done
    }

    /// The claim of a node; `None` when there is none, or when an attempt is under way that began under another one:
    /// whoever has the node now does not know of it, and makes it again.
    pub(super) fn held(&self, node: &NodeId, sequence: u64) -> Option<Held> {
        let core = self.inner.core();
        let mirror = core.mirrors.get(node)?;
        let begun = core.attempting.get(&(node.clone(), sequence));
        let held = Held { node: node.clone(), slot: mirror.slot.clone(), token: mirror.token };
        begun.is_none_or(|token| *token == mirror.token).then_some(held)
    }

    /// Settles an update of a claimed node in memory, and has it recorded.
    fn settle_here(
        &self,
        held: Held,
        sequence: u64,
        progress: Progress,
        kind: &'static str,
        args: Vec<Vec<u8>>,
        urgent: bool,
    ) {
        if let Some(mirror) = self.inner.core().mirrors.get_mut(&held.node) {
            mirror.settle(sequence, progress);
        }
        let args = held.args([number(sequence)].into_iter().chain(args));
        let then = Then::Mark { node: held.node, token: held.token, sequence };
        self.inner.mark(Op { kind, args, then }, urgent);
    }

    pub(super) fn settle_delivered(
        &self,
        node: &NodeId,
        update: &Arc<Update>,
        settled: (u32, Arc<Answer>, u64, bool),
    ) -> Report {
        let (attempt, answer, digest, level) = settled;
        let (sequence, status) = (update.sequence.0, answer.status.as_u16());
        if let Some(held) = self.held(node, sequence) {
            // Somebody elsewhere may wait for it, or repeat it.
            let wanted = update.key.is_some() || !self.inner.core().cache.is_own(sequence);
            let kept = (wanted && keepable(&answer)).then(|| encoded_answer(&answer, update));
            let state = DeliveryState::Delivered;
            let progress = Progress { state, attempts: attempt, status, digest, ..Progress::default() };
            let args = vec![
                number(attempt.into()),
                number(status.into()),
                digest.to_be_bytes().to_vec(),
                flag(level),
                kept.unwrap_or_default(),
            ];
            self.settle_here(held, sequence, progress, "settle", args, wanted);
        }
        Report { level, digest, answer: Some(answer), ..core::report(node, attempt, true) }
    }

    pub(super) fn settle_dead(
        &self,
        node: &NodeId,
        sequence: u64,
        (attempts, status, error): (u32, u16, String),
    ) -> Report {
        if let Some(held) = self.held(node, sequence) {
            let state = DeliveryState::Dead;
            let progress = Progress { state, attempts, status, ..Progress::default() };
            let args = vec![number(attempts.into()), number(status.into()), clip(&error)];
            self.settle_here(held, sequence, progress, "dead", args, true);
        }
        core::report(node, attempts, true)
    }

    pub(super) async fn record_failure(
        &self,
        node: &NodeId,
        sequence: u64,
        failure: Failure,
    ) -> Result<(), LogError> {
        let Some(held) = self.held(node, sequence) else { return Err(LogError::Stale(node.clone())) };
        let Failure { attempt, failures, status, error, answer } = failure;
        let mut args = [sequence, attempt.into(), failures.into(), status.into()].map(number).to_vec();
        args.push(clip(&error));
        self.under(held, "fail", args).await?;
        let mut core = self.inner.core();
        core.attempting.remove(&(node.clone(), sequence));
        if let Some(mirror) = core.mirrors.get_mut(node) {
            mirror.fail(sequence, attempt, failures, status);
        }
        if let Some(tracker) = core.tracker(sequence) {
            tracker.report(Report { answer, ..core::report(node, attempt, false) });
        }
        Ok(())
    }

    pub(super) async fn begin(&self, node: &NodeId, sequence: u64) -> bool {
        let Some(token) = self.inner.lease.token(node) else { return false };
        let retried = {
            let mut core = self.inner.core();
            let Some(mirror) = core.mirrors.get(node).filter(|mirror| mirror.token == token) else {
                return false;
            };
            let Some(progress) = mirror.progress(sequence) else { return false };
            core.attempting.insert((node.clone(), sequence), token);
            refused_once(&progress)
        };
        let granted = !retried || self.announce(node, sequence, true).await;
        if !granted {
            self.inner.core().attempting.remove(&(node.clone(), sequence));
        }
        granted
    }

    async fn announce(&self, node: &NodeId, sequence: u64, begins: bool) -> bool {
        loop {
            let Some(held) = self.held(node, sequence) else { return false };
            match self.under(held, "try", vec![number(sequence), flag(begins)]).await {
                Ok(fields) => return fields[0] == "ok",
                Err(LogError::Away { .. } | LogError::Unanswered { .. })
                    if self.inner.lease.token(node).is_some() =>
                {
                    tokio::time::sleep(ANNOUNCE_AGAIN).await;
                }
                Err(_) => return false,
            }
        }
    }

    /// Has what was settled recorded at once; says whether there is any.
    pub(super) fn hurry(&self) -> bool {
        let mut core = self.inner.core();
        let waits = !core.marks.is_empty();
        let past = Instant::now().checked_sub(self.inner.options.mark_delay);
        core.marks_since = past.filter(|_| waits).or(core.marks_since);
        drop(core);
        if waits {
            self.inner.wake.notify_one();
        }
        waits
    }

    pub(super) async fn claim_node(&self, node: &NodeId) -> Result<(), LogError> {
        let stale = || LogError::Stale(node.clone());
        let token = self.inner.lease.token(node).ok_or_else(stale)?;
        let fields = self.done(node, "claim", vec![node.as_str().into(), number(token)]).await?;
        let named = node.clone();
        let loaded = self.reading(move |inner| async move { read::load(&inner, &named).await }).await?;
        let loaded = loaded.ok_or_else(|| LogError::Node(node.clone()))?;
        if fields.get(1) != Some(&loaded.slot) || loaded.token != token {
            return Err(stale());
        }
        self.inner.core().mirrors.insert(node.clone(), Mirror::new(&loaded, token));
        Ok(())
    }

    pub(super) async fn reject_everywhere(&self, sequence: u64, answer: Arc<Answer>) -> bool {
        // Only who delivers to a node may say so: under the token of any node that it has tried here.
        let holder = {
            let core = self.inner.core();
            let mut held = core.mirrors.iter().filter(|(_, mirror)| mirror.progress(sequence).is_some());
            held.next().map(|(node, _)| node.clone())
        };
        let Some(holder) = holder else { return false };
        let Some(held) = self.held(&holder, sequence) else { return false };
        let key = self.inner.core().cache.get(sequence).cloned();
        let kept = key.filter(|_| keepable(&answer)).map(|update| encoded_answer(&answer, &update));
        let args = vec![number(sequence), number(answer.status.as_u16().into()), kept.unwrap_or_default()];
        let Ok(fields) = self.under(held, "reject", args).await else { return false };
        if fields[0] != "ok" {
            return false;
        }
        let mut core = self.inner.core();
        let tracker = core.tracker(sequence);
        let status = answer.status.as_u16();
        for (node, mirror) in &mut core.mirrors {
            if let Some(progress) = mirror.progress(sequence) {
                mirror.close(sequence);
                if let Some(tracker) = &tracker {
                    let answer = Some(answer.clone());
                    let told = core::report(node, progress.attempts, true);
                    core::report_once(tracker, Report { rejected: true, answer, ..told });
                }
            }
        }
        drop(core);
        tracing::debug!(sequence, status, "every node refused an update");
        if tracker.is_some() {
            let inner = self.inner.clone();
            self.inner.handle.spawn(async move { read::follow_up(&inner, sequence).await });
        }
        true
    }
}

fn encoded_answer(answer: &Arc<Answer>, update: &Update) -> Vec<u8> {
    let (scope, body) = update.key.map_or(([0; 16], [0; 16]), |key| (key.scope, key.body));
    let entry = answers::Entry {
        scope,
        body,
        sequence: update.sequence.0,
        at_ms: update.received_ms,
        last: false,
        answer: Some(answer.clone()),
    };
    let mut out = Vec::new();
    answers::encode(&mut out, &entry);
    out
}

fn clip(error: &str) -> Vec<u8> {
    let end = (0..=error.len().min(MAX_ERROR)).rev().find(|at| error.is_char_boundary(*at)).unwrap_or(0);
    error.as_bytes()[..end].to_vec()
}
