//! What came of a batch, put into memory and told to those who wait.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use common::node::NodeId;
use common::queue::Sequence;

use super::op::{Append, Batch, Then};
use super::read;
use super::shared::Inner;
use crate::{AppendError, Appended, LogError, NewUpdate, Tracker, Update};

type Fields<'a> = &'a [String];

/// Takes the results of a batch. `doubt` says why its appends are not as safe as they should be.
pub(super) fn apply(
    inner: &Arc<Inner>,
    batch: Batch,
    next: u64,
    nodes: &[String],
    results: &[Vec<String>],
    doubt: Option<&str>,
) {
    let nodes: Arc<[NodeId]> = nodes.iter().filter_map(|name| name.parse().ok()).collect();
    let mut replies = Vec::new();
    let mut lost = Vec::new();
    let number = |fields: Fields<'_>, index: usize| fields.get(index).and_then(|text| text.parse().ok());
    inner.core().usage.commits += 1;
    // By id: what was executed may be what was sent before some of it was given up.
    let results: HashMap<u64, &[String]> =
        results.iter().filter_map(|result| Some((result.first()?.parse().ok()?, &result[1..]))).collect();
    for (id, op) in batch.ops {
        let fields = results.get(&id).copied().unwrap_or_default();
        let code = fields.first().map_or("", String::as_str);
        match op.then {
            Then::Append(append) => {
                if let Some(reply) = appended(inner, *append, code, number(fields, 1), fields, &nodes) {
                    replies.push(reply);
                }
            }
            Then::Tell(tell) => drop(tell.send(Ok(fields.to_vec()))),
            Then::Mark { node, token, sequence } => match code {
                "stale" | "gone" => lost.push((node, token)),
                code => {
                    if code == "rejected-before" {
                        tracing::error!(log = %inner.options.address(), %node, sequence,
                            "this node took an update that was rejected meanwhile: nodes differ");
                    }
                    if let Some(mirror) =
                        inner.core().mirrors.get_mut(&node).filter(|mirror| mirror.token == token)
                    {
                        mirror.recorded(sequence);
                    }
                }
            },
        }
    }
    lost.iter().for_each(|(node, token)| inner.lose_claim(node, *token));
    inner.advance(next);
    for (reply, mut outcome) in replies {
        if let (Some(what), Ok(Appended::New { sequence, .. })) = (doubt, &outcome) {
            let what = format!("update {sequence}: {what}");
            outcome = Err(AppendError::InDoubt { what });
        }
        let _ = reply.send(outcome);
    }
}

type Reply = tokio::sync::oneshot::Sender<Result<Appended, AppendError>>;

/// Puts a new update into memory. The answer is given when readers may see it.
fn appended(
    inner: &Arc<Inner>,
    append: Append,
    code: &str,
    number: Option<u64>,
    fields: Fields<'_>,
    nodes: &Arc<[NodeId]>,
) -> Option<(Reply, Result<Appended, AppendError>)> {
    let Append { update, size, reply } = append;
    if code == "new" {
        let (sequence, tracker) = remember(inner, update, size, number?, nodes);
        return reply.map(|reply| (reply, Ok(Appended::New { sequence, tracker })));
    }
    let reply = reply?;
    let outcome = match (code, number) {
        ("known", Some(sequence)) => {
            let (open, last) =
                (fields.get(2).is_some_and(|f| f == "1"), fields.get(3).is_some_and(|f| f == "1"));
            let inner = inner.clone();
            inner.handle.clone().spawn(async move {
                let known = read::known(&inner, sequence, update.key, open, last).await;
                drop(reply.send(known.map_err(AppendError::Log)));
            });
            return None;
        }
        ("reused", Some(sequence)) => Ok(Appended::KeyReused { sequence: Sequence(sequence) }),
        (code, number) => {
            inner.core().usage.refused += 1;
            Err(match code {
                "no-nodes" => AppendError::NoNodes,
                "full" => {
                    let limit = inner.options.max_pending_bytes;
                    AppendError::Full { pending_bytes: number.unwrap_or(limit), limit }
                }
                "keys" => AppendError::TooManyKeys { limit: inner.options.max_keys },
                // Given up before it was sent anew, or a body that waited longer than Redis kept it.
                "" | "no-body" => {
                    let what = "the update came too late and was not taken".to_owned();
                    AppendError::Log(LogError::Away { log: inner.options.address(), what })
                }
                other => AppendError::Log(inner.strange(other)),
            })
        }
    };
    Some((reply, outcome))
}

fn remember(
    inner: &Inner,
    update: NewUpdate,
    size: u64,
    sequence: u64,
    nodes: &Arc<[NodeId]>,
) -> (Sequence, Arc<Tracker>) {
    let NewUpdate { id, key, received_ms, method, target, headers, body } = update;
    let tracker = Arc::new(Tracker::new(nodes.clone()));
    let update = Update {
        sequence: Sequence(sequence),
        id,
        key,
        received_ms,
        method,
        target,
        headers,
        body,
        appended: Some(Instant::now()),
        tracker: Some(tracker.clone()),
    };
    let mut core = inner.core();
    core.usage.appends += 1;
    core.follow(sequence, &tracker);
    core.cache.put(Arc::new(update), true, size);
    (Sequence(sequence), tracker)
}
