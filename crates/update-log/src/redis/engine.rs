//! The trait, over what the other modules do.

use std::sync::Arc;
use std::time::Duration;

use common::node::NodeId;
use common::queue::Sequence;
use tokio::sync::watch;

use super::deliver::refused_once;
use super::op::{Op, Then, number};
use super::{RedisLog, body, flag, list, read};
use crate::{
    Answer, AppendError, Appended, DeadLetter, Failure, Filter, LogError, LogFuture, NewUpdate, Pending,
    Queue, Settled, Spool, Status, UnsubscribeError, Update, UpdateLog, Usage,
};

impl UpdateLog for RedisLog {
    fn append(&self, update: NewUpdate) -> LogFuture<'_, Result<Appended, AppendError>> {
        Box::pin(self.append_update(update))
    }

    fn spool(&self) -> LogFuture<'_, Result<Box<dyn Spool>, AppendError>> {
        Box::pin(body::RedisSpool::begin(self.inner.clone()))
    }

    fn read(
        &self,
        node: &NodeId,
        from: Sequence,
        max: usize,
    ) -> LogFuture<'_, Result<Vec<Pending>, LogError>> {
        let node = node.clone();
        Box::pin(self.reading(move |inner| async move { read::pending(&inner, &node, from, max).await }))
    }

    fn tail(&self) -> watch::Receiver<Sequence> {
        self.inner.tail.subscribe()
    }

    fn claim(&self, node: &NodeId) -> LogFuture<'_, Result<(), LogError>> {
        let node = node.clone();
        Box::pin(async move { self.claim_node(&node).await })
    }

    fn release(&self, node: &NodeId) -> LogFuture<'_, Result<(), LogError>> {
        let node = node.clone();
        Box::pin(async move {
            // Behind all that was settled: batches are in order, and what is settled now waits no longer.
            while self.hurry() {
                if self.inner.away.borrow().is_some() {
                    return Err(self.inner.away_error());
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            // The claim goes first: nothing is to be settled under it any more.
            let Some(held) = self.held(&node, 0) else { return Ok(()) };
            self.inner.core().mirrors.remove(&node);
            self.under(held, "release", Vec::new()).await?;
            Ok(())
        })
    }

    fn claims(&self) -> watch::Receiver<u64> {
        self.inner.claims.subscribe()
    }

    fn is_claimed(&self, node: &NodeId) -> bool {
        let token = self.inner.lease.token(node);
        self.inner.core().claimed(node, token).is_some()
    }

    fn failed(
        &self,
        node: &NodeId,
        sequence: Sequence,
        failure: Failure,
    ) -> LogFuture<'_, Result<(), LogError>> {
        let node = node.clone();
        Box::pin(async move { self.record_failure(&node, sequence.0, failure).await })
    }

    fn begin_attempt(&self, node: &NodeId, sequence: Sequence) -> LogFuture<'_, bool> {
        let node = node.clone();
        Box::pin(async move { self.begin(&node, sequence.0).await })
    }

    fn end_attempt(&self, node: &NodeId, sequence: Sequence) {
        let retried = {
            let core = self.inner.core();
            let progress = core.mirrors.get(node).and_then(|mirror| mirror.progress(sequence.0));
            progress.is_some_and(|progress| refused_once(&progress))
        };
        if retried && let Some(held) = self.held(node, sequence.0) {
            let args = held.args([number(sequence.0), flag(false)]);
            let then = Then::Mark { node: held.node, token: held.token, sequence: 0 };
            self.inner.mark(Op { kind: "try", args, then }, false);
        }
        self.inner.core().attempting.remove(&(node.clone(), sequence.0));
    }

    fn settle(&self, node: &NodeId, update: &Arc<Update>, settled: Settled) {
        let sequence = update.sequence.0;
        let told = match settled {
            Settled::Delivered { attempt, answer, digest, level } => {
                self.settle_delivered(node, update, (attempt, answer, digest, level))
            }
            Settled::Dead { attempts, status, error } => {
                self.settle_dead(node, sequence, (attempts, status, error))
            }
        };
        let mut core = self.inner.core();
        core.attempting.remove(&(node.clone(), sequence));
        let tracker = core.tracker(sequence).or_else(|| update.tracker.clone());
        drop(core);
        if let Some(tracker) = tracker {
            tracker.report(told);
        }
    }

    fn reject(&self, sequence: Sequence, answer: Arc<Answer>) -> LogFuture<'_, bool> {
        Box::pin(self.reject_everywhere(sequence.0, answer))
    }

    fn subscribe(&self, node: &NodeId) -> LogFuture<'_, Result<(), LogError>> {
        let node = node.clone();
        Box::pin(async move {
            self.done(&node, "subscribe", vec![node.as_str().into()]).await?;
            self.inner.core().nodes.entry(node).or_default();
            Ok(())
        })
    }

    fn unsubscribe(&self, node: &NodeId, discard: bool) -> LogFuture<'_, Result<u64, UnsubscribeError>> {
        let node = node.clone();
        Box::pin(async move {
            let args = vec![node.as_str().into(), flag(discard)];
            let fields = self.done(&node, "unsubscribe", args).await?;
            let count = fields.get(1).and_then(|text| text.parse().ok()).unwrap_or(0);
            if fields[0] == "pending" {
                return Err(UnsubscribeError::Pending(count));
            }
            let mut core = self.inner.core();
            core.nodes.remove(&node);
            core.mirrors.remove(&node);
            Ok(count)
        })
    }

    fn rename(&self, old: &NodeId, new: &NodeId) -> LogFuture<'_, Result<(), LogError>> {
        let (old, new) = (old.clone(), new.clone());
        Box::pin(async move {
            self.done(&old, "rename", vec![old.as_str().into(), new.as_str().into()]).await?;
            let mut core = self.inner.core();
            core.mirrors.remove(&old);
            if let Some(row) = core.nodes.remove(&old) {
                core.nodes.insert(new, row);
            }
            Ok(())
        })
    }

    fn discard(&self, node: &NodeId) -> LogFuture<'_, Result<u64, LogError>> {
        let node = node.clone();
        Box::pin(async move {
            let (mut discarded, mut before) = (0, 0u64);
            loop {
                let fields = self.done(&node, "discard", vec![node.as_str().into(), number(before)]).await?;
                let number = |index: usize| fields.get(index).and_then(|text| text.parse::<u64>().ok());
                discarded += number(1).unwrap_or(0);
                before = number(2).unwrap_or(0);
                if before == 0 {
                    break;
                }
            }
            let named = node.clone();
            self.reading(move |inner| async move {
                read::reload(&inner, &named).await;
                Ok(())
            })
            .await?;
            Ok(discarded)
        })
    }

    fn nodes(&self) -> Vec<NodeId> {
        self.inner.core().nodes.keys().cloned().collect()
    }

    fn queue(&self, node: &NodeId) -> Option<Queue> {
        let token = self.inner.lease.token(node);
        self.inner.core().queue(node, token)
    }

    fn status(&self, sequence: Sequence) -> LogFuture<'_, Result<Option<Status>, LogError>> {
        Box::pin(self.reading(move |inner| async move { list::status(&inner, sequence).await }))
    }

    fn list(&self, filter: Filter) -> LogFuture<'_, Result<Vec<Status>, LogError>> {
        Box::pin(self.reading(move |inner| async move { list::list(&inner, &filter).await }))
    }

    fn dead_letters(&self, node: Option<&NodeId>) -> LogFuture<'_, Result<Vec<DeadLetter>, LogError>> {
        let node = node.cloned();
        Box::pin(self.reading(move |inner| async move {
            let letters = list::letters(&inner, node.as_ref()).await?;
            Ok(letters.into_iter().map(|(_, letter)| letter).collect())
        }))
    }

    fn dead_letter(
        &self,
        node: &NodeId,
        sequence: Sequence,
    ) -> LogFuture<'_, Result<Option<Arc<Update>>, LogError>> {
        let node = node.clone();
        Box::pin(self.reading(move |inner| async move { list::letter(&inner, &node, sequence).await }))
    }

    fn drop_dead_letter(&self, node: &NodeId, sequence: Sequence) -> LogFuture<'_, Result<bool, LogError>> {
        let node = node.clone();
        Box::pin(async move {
            let named = node.clone();
            let letters = self.reading(move |inner| async move { list::letters(&inner, Some(&named)).await });
            let found = letters.await?.into_iter().find(|(_, letter)| letter.sequence == sequence);
            let Some((field, _)) = found else { return Ok(false) };
            Ok(self.done(&node, "bury", vec![field.into_bytes()]).await?[0] == "ok")
        })
    }

    fn usage(&self) -> Usage {
        self.inner.core().usage
    }

    fn close(&self) -> LogFuture<'_, Result<(), LogError>> {
        Box::pin(async move {
            let claimed: Vec<NodeId> = self.inner.core().mirrors.keys().cloned().collect();
            let mut outcome = Ok(());
            for node in claimed {
                match self.release(&node).await {
                    Ok(()) | Err(LogError::Stale(_) | LogError::Node(_)) => {}
                    Err(error) => outcome = Err(error),
                }
            }
            self.inner.stop.send_replace(true);
            outcome
        })
    }
}
