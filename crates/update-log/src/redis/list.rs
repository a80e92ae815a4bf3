//! What is asked for people: states of updates, dead letters.

use std::sync::Arc;

use common::node::NodeId;
use common::queue::Sequence;

use super::cells::{self, CHUNK};
use super::read;
use super::rows::{Rows, cells_of};
use super::shared::Inner;
use crate::{DeadLetter, Filter, LogError, Status, Update};

/// The state of one update; `None` when the log does not hold it.
pub(super) async fn status(inner: &Inner, sequence: Sequence) -> Result<Option<Status>, LogError> {
    let rows = cells_of(inner, sequence.0, sequence.0).await?;
    Ok(statuses(inner, &rows, &[sequence.0]).await?.pop())
}

async fn statuses(inner: &Inner, rows: &Rows, sequences: &[u64]) -> Result<Vec<Status>, LogError> {
    let held = |sequence: &u64| {
        let index = sequence.checked_sub(rows.first)? as usize;
        cells::entry(&rows.entries, index).filter(|entry| entry.size > 0)
    };
    let sequences: Vec<u64> = sequences.iter().copied().filter(|sequence| held(sequence).is_some()).collect();
    let updates = read::fetch(inner, &sequences).await?;
    let status = |sequence: &u64| {
        let (update, entry) = (updates.get(sequence)?, held(sequence)?);
        let error = |slot: &str| rows.errors.get(&format!("{sequence}:{slot}")).cloned();
        let mut nodes: Vec<_> = rows
            .rows(*sequence)
            .map(|(row, progress)| (row.node.clone(), progress, error(&row.slot)))
            .collect();
        nodes.sort_by(|a, b| a.0.cmp(&b.0));
        Some(Status {
            sequence: update.sequence,
            id: update.id.to_string(),
            method: update.method.clone(),
            target: update.target.to_string(),
            bytes: update.body.len(),
            received_ms: entry.received_ms,
            nodes,
        })
    };
    Ok(sequences.iter().filter_map(status).collect())
}

/// The newest updates that match, newest first.
pub(super) async fn list(inner: &Inner, filter: &Filter) -> Result<Vec<Status>, LogError> {
    let matches = |rows: &Rows, sequence: u64| {
        rows.rows(sequence).any(|(row, progress)| {
            filter.node.as_ref().is_none_or(|node| row.node == *node)
                && filter.state.is_none_or(|state| progress.state == state)
        }) || filter.node.is_none() && filter.state.is_none()
    };
    let mut found = Vec::new();
    let mut end = inner.tail.borrow().0;
    while found.len() < filter.limit && end > 1 {
        let first = (end - 1) / CHUNK * CHUNK;
        let rows = cells_of(inner, first, end - 1).await?;
        if rows.entries.is_empty() {
            break;
        }
        let fitting: Vec<u64> = (rows.first..end)
            .rev()
            .filter(|sequence| matches(&rows, *sequence))
            .take(filter.limit - found.len())
            .collect();
        found.extend(statuses(inner, &rows, &fitting).await?);
        end = first;
    }
    Ok(found)
}

type LetterRow = (String, String, u32, u16, String, u64, Vec<u8>);

/// The dead letters of a node, or of all, by node and sequence.
pub(super) async fn letters(
    inner: &Inner,
    node: Option<&NodeId>,
) -> Result<Vec<(String, DeadLetter)>, LogError> {
    let rows = rows(inner, node).await?;
    let mut found = Vec::new();
    for (field, name, attempts, status, error, since_ms, record) in rows {
        let Some((sequence, node)) = place(&field, &name) else { continue };
        let whole = read::whole(record, sequence).map_err(|error| inner.strange(error.0))?;
        let letter = DeadLetter {
            node,
            sequence: Sequence(sequence),
            id: whole.id.to_string(),
            method: whole.method,
            target: whole.target.to_string(),
            attempts,
            status,
            error,
            since_ms,
            // Only for a retry, which this engine does not know yet.
            overtaken: None,
        };
        found.push((field, letter));
    }
    found.sort_by(|(_, a), (_, b)| (&a.node, a.sequence).cmp(&(&b.node, b.sequence)));
    Ok(found)
}

/// The update of one dead letter.
pub(super) async fn letter(
    inner: &Inner,
    node: &NodeId,
    sequence: Sequence,
) -> Result<Option<Arc<Update>>, LogError> {
    for (field, name, .., record) in rows(inner, Some(node)).await? {
        if place(&field, &name).is_some_and(|(place, _)| place == sequence.0) {
            return Ok(Some(Arc::new(read::decode(inner, sequence.0, record, None).await?)));
        }
    }
    Ok(None)
}

fn place(field: &str, name: &str) -> Option<(u64, NodeId)> {
    Some((field.split_once(':')?.1.parse().ok()?, name.parse().ok()?))
}

async fn rows(inner: &Inner, node: Option<&NodeId>) -> Result<Vec<LetterRow>, LogError> {
    let mut call = inner.scripts.letters.prepare_invoke();
    call.key(inner.options.key("meta")).arg(node.map_or("", |node| node.as_str()));
    inner.ask(&call).await
}
