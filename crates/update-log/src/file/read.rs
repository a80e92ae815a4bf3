//! Reads updates back: from memory when they are recent, else in large pieces from the disk.

use std::sync::Arc;

use bytes::Bytes;
use common::node::NodeId;
use common::queue::Sequence;

use super::core::Core;
use super::dead;
use super::disk::{self, DiskFile};
use super::files::LOG;
use super::record::{self, Slot};
use super::shared::{Shared, blocking, disk_error};
use crate::{
    DeliveryState, Filter, LogError, Pending, Progress, SpooledBody, Status, Tracker, Update, UpdateBody,
};

/// A batch of updates takes no more memory than this, but for a single larger one.
const BATCH_BYTES: u64 = 4 << 20;
/// Updates further apart than this are read one by one.
const GAP: u64 = 64 << 10;

/// Where an update is on disk, and what is known of it apart from that.
struct Place {
    sequence: u64,
    segment: u64,
    file: Arc<dyn DiskFile>,
    offset: u64,
    len: u64,
    body: Option<SpooledBody>,
    tracker: Option<Arc<Tracker>>,
}

enum Item {
    /// In a dead letter's file.
    Letter(Slot, u64),
    Here(Arc<Update>),
    There(Place),
}

/// See [`UpdateLog::read`](crate::UpdateLog::read).
pub(crate) async fn pending(
    shared: Arc<Shared>,
    node: &NodeId,
    from: Sequence,
    max: usize,
) -> Result<Vec<Pending>, LogError> {
    let plan = plan(&shared.core(), node, from, max)?;
    let (items, progress): (Vec<_>, Vec<_>) = plan.into_iter().unzip();
    let updates = fetch(shared, items).await?;
    Ok(updates.into_iter().zip(progress).map(|(update, progress)| Pending { update, progress }).collect())
}

fn plan(core: &Core, node: &NodeId, from: Sequence, max: usize) -> Result<Vec<(Item, Progress)>, LogError> {
    let slot = core.state.slot(node).ok_or_else(|| LogError::Node(node.clone()))?;
    let mut plan = Vec::new();
    let mut bytes = 0;
    // Those on their way to the dead letters are left out, and must not make a full list look like the end.
    let pending = core.state.pending(slot, from.0, max.saturating_add(core.dying.len()));
    let mut pending: Vec<(u64, Slot)> = pending.into_iter().map(|sequence| (sequence, slot)).collect();
    if !core.retried.is_empty() {
        let retried = core.retried_of(node).into_iter().filter(|(sequence, ..)| *sequence >= from.0);
        pending.extend(retried.map(|(sequence, slot, _)| (sequence, slot)));
        pending.sort_unstable();
    }
    for (sequence, slot) in pending {
        if plan.len() == max {
            break;
        }
        if core.dying.contains_key(&(slot, sequence)) {
            continue;
        }
        let found = match core.retried.get(&(slot, sequence)) {
            Some(retried) => Some((Item::Letter(slot, sequence), retried.bytes)),
            None => locate(core, sequence),
        };
        let Some((item, len)) = found else { continue };
        bytes += len;
        if bytes > BATCH_BYTES && !plan.is_empty() {
            break;
        }
        let progress = core.progress(slot, sequence).unwrap_or_default();
        let letter = matches!(item, Item::Letter(..));
        let state = if letter { DeliveryState::Dead } else { progress.state };
        plan.push((item, Progress { state, ..progress }));
    }
    Ok(plan)
}

fn locate(core: &Core, sequence: u64) -> Option<(Item, u64)> {
    let segment = core.state.segment(sequence)?;
    let entry = segment.entries.get((sequence - segment.first) as usize)?;
    let len = u64::from(entry.len);
    if let Some(update) = core.cache.get(sequence) {
        return Some((Item::Here(update.clone()), len));
    }
    let place = Place {
        sequence,
        segment: segment.number,
        file: core.files.get(&segment.number)?.clone(),
        offset: entry.offset.into(),
        len,
        body: core.bodies.get(&sequence).cloned(),
        tracker: core.find_tracker(sequence),
    };
    Some((Item::There(place), len))
}

async fn fetch(shared: Arc<Shared>, items: Vec<Item>) -> Result<Vec<Arc<Update>>, LogError> {
    let mut updates = Vec::with_capacity(items.len());
    if items.iter().all(|item| matches!(item, Item::Here(_))) {
        updates.extend(items.into_iter().filter_map(|item| match item {
            Item::Here(update) => Some(update),
            Item::There(_) | Item::Letter(..) => None,
        }));
        return Ok(updates);
    }
    blocking(move || {
        let mut items = items.into_iter().peekable();
        while let Some(item) = items.next() {
            let first = match item {
                Item::Here(update) => {
                    updates.push(update);
                    continue;
                }
                Item::Letter(slot, sequence) => {
                    updates.push(dead::read(&*shared.disk, slot, sequence).map_err(dead::log_error)?.update);
                    continue;
                }
                Item::There(place) => place,
            };
            let mut run = vec![first];
            while let Some(Item::There(next)) =
                items.next_if(|item| matches!(item, Item::There(next) if near(&run, next)))
            {
                run.push(next);
            }
            read_run(&shared, run, &mut updates)?;
        }
        Ok(updates)
    })
    .await
}

fn near(run: &[Place], next: &Place) -> bool {
    let Some(last) = run.last().filter(|last| last.segment == next.segment) else { return false };
    next.offset.checked_sub(last.offset + last.len).is_some_and(|gap| gap < GAP)
}

fn read_run(shared: &Shared, run: Vec<Place>, updates: &mut Vec<Arc<Update>>) -> Result<(), LogError> {
    let Some((first, last)) = run.first().zip(run.last()) else { return Ok(()) };
    let (begin, end, name) = (first.offset, last.offset + last.len, LOG.name(first.segment));
    let bytes = disk::read(&*first.file, begin, (end - begin) as usize);
    let bytes = Bytes::from(bytes.map_err(|error| disk_error(&*shared.disk, "read", &name, error))?);
    for place in run {
        let at = (place.offset - begin) as usize;
        let damaged = |what: &str| LogError::Damaged {
            path: shared.disk.path(&name).display().to_string(),
            offset: place.offset,
            what: what.to_owned(),
        };
        let range = at..at + place.len as usize;
        let record = (bytes.len() >= range.end).then(|| bytes.slice(range));
        let record = record.ok_or_else(|| damaged("the file ends too early"))?;
        // Its own memory, so that one update in a slow node's hands does not hold on to the whole run.
        let record = Bytes::copy_from_slice(&record);
        let whole =
            record::decode_whole(&record, Sequence(place.sequence)).map_err(|error| damaged(error.0))?;
        let key = whole.key();
        let body = match place.body {
            Some(spooled) => UpdateBody::Spooled(spooled),
            None => UpdateBody::Memory(whole.body),
        };
        updates.push(Arc::new(Update {
            sequence: Sequence(place.sequence),
            id: whole.id,
            key,
            received_ms: whole.head.received_ms,
            method: whole.method,
            target: whole.target,
            headers: whole.headers,
            body,
            appended: None,
            tracker: place.tracker,
        }));
    }
    Ok(())
}

/// See [`UpdateLog::list`](crate::UpdateLog::list).
pub(crate) async fn list(shared: Arc<Shared>, filter: Filter) -> Result<Vec<Status>, LogError> {
    let mut matching = Vec::new();
    let mut end = u64::MAX;
    while matching.len() < filter.limit {
        let core = shared.core();
        let segments = core.state.segments();
        let Some(segment) = segments.iter().rev().find(|segment| segment.first < end) else { break };
        let newest = segment.end().min(end);
        end = segment.first;
        let fits = |sequence: &u64| matches(&core, *sequence, &filter);
        matching.extend((segment.first..newest).rev().filter(fits).take(filter.limit - matching.len()));
    }
    statuses(shared, matching).await
}

fn matches(core: &Core, sequence: u64, filter: &Filter) -> bool {
    if filter.node.is_none() && filter.state.is_none() {
        return true;
    }
    core.state.nodes_of(sequence).any(|(slot, progress)| {
        let named = |node: &NodeId| core.state.node(slot).is_some_and(|found| found.name == *node);
        filter.node.as_ref().is_none_or(named) && {
            let now = core.progress(slot, sequence).unwrap_or(progress);
            filter.state.is_none_or(|state| state == now.state)
        }
    })
}

/// What each node has done with each of these updates; those that the log does not hold are left out.
pub(crate) async fn statuses(shared: Arc<Shared>, sequences: Vec<u64>) -> Result<Vec<Status>, LogError> {
    let (items, nodes): (Vec<_>, Vec<_>) = {
        let core = shared.core();
        let found = sequences.into_iter().filter_map(|sequence| {
            let (item, _) = locate(&core, sequence)?;
            Some((item, nodes(&core, sequence)))
        });
        found.unzip()
    };
    let updates = fetch(shared, items).await?;
    let status = |(update, nodes): (Arc<Update>, _)| Status {
        sequence: update.sequence,
        id: update.id.to_string(),
        method: update.method.clone(),
        target: update.target.to_string(),
        bytes: update.body.len(),
        received_ms: update.received_ms,
        nodes,
    };
    Ok(updates.into_iter().zip(nodes).map(status).collect())
}

fn nodes(core: &Core, sequence: u64) -> Vec<(NodeId, Progress, Option<String>)> {
    let known = core.state.nodes_of(sequence).filter_map(|(slot, stored)| {
        let mut progress = core.progress(slot, sequence).unwrap_or(stored);
        let name = core.state.node(slot)?.name.clone();
        let mut error = core.state.error(slot, sequence).map(str::to_owned);
        if let Some(dying) = core.dying.get(&(slot, sequence)) {
            progress.state = DeliveryState::Dead;
            (progress.attempts, progress.status) = (dying.attempts, dying.status);
            error = Some(dying.error.clone());
        }
        Some((name, progress, error))
    });
    known.collect()
}
