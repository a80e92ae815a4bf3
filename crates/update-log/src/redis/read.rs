//! What is read from Redis: nodes, updates, answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use common::node::NodeId;
use common::queue::Sequence;
use redis::aio::MultiplexedConnection;

use super::body;
use super::cells;
use super::core::{Row, bare, report, report_once};
use super::mirror::{Loaded, Mirror};
use super::rows::{Rows, cells_of};
use super::shared::{Inner, Shared};
use crate::file::answers;
use crate::file::codec::{Decoded, Input};
use crate::file::encode;
use crate::file::record::{self, Whole};
use crate::{
    Answer, Appended, ClientKey, DeliveryState, LogError, Pending, Report, Tracker, Update, UpdateBody,
};

/// Updates read at once.
const RUN: usize = 128;

/// Reads what everybody sees of the nodes.
pub(super) async fn view(inner: &Arc<Inner>, connection: &mut MultiplexedConnection) -> Result<(), String> {
    let mut call = inner.scripts.view.prepare_invoke();
    call.key(inner.options.key("meta"));
    let answer = call.invoke_async::<(Vec<u64>, Vec<Vec<String>>)>(connection).await;
    let (numbers, rows) = answer.map_err(|error| format!("looking at the nodes: {error}"))?;
    let [next, first, pending_bytes, total_bytes, keys, dead, shared, lost] = numbers[..] else {
        return Err("the log is not there any more".into());
    };
    let mut nodes = BTreeMap::new();
    for row in rows {
        let [slot, name, low, pending, deletes, bytes, oldest] = &row[..] else { continue };
        let Ok(name) = name.parse() else { continue };
        let number = |text: &String| text.parse().unwrap_or_default();
        let row = Row {
            slot: slot.clone(),
            low: number(low),
            pending: number(pending),
            deletes: number(deletes),
            bytes: number(bytes),
            oldest_ms: oldest.parse().ok(),
        };
        nodes.insert(name, row);
    }
    let mut core = inner.core();
    core.nodes = nodes;
    core.usage.pending_bytes = pending_bytes;
    core.usage.disk_bytes = total_bytes;
    core.usage.segments = next.saturating_sub(first).div_ceil(cells::CHUNK);
    (core.usage.keys, core.usage.dead_letters) = (keys, dead);
    core.usage.lost = core.usage.lost.max(lost);
    drop(core);
    inner.advance(next);
    if inner.text.borrow().version != shared {
        let inner = inner.clone();
        inner.handle.clone().spawn(async move { text(&inner).await });
    }
    Ok(())
}

/// Reads what processes share beside the log.
pub(super) async fn text(inner: &Inner) {
    // Both at once: no version goes with another's text.
    let mut both = redis::pipe();
    both.atomic().hget(inner.options.key("meta"), "shared").get(inner.options.key("shared"));
    let Ok(mut connection) = inner.bulk().await else { return };
    match both.query_async::<(Option<u64>, Option<Vec<u8>>)>(&mut connection).await {
        Ok((version, text)) => {
            let read = Shared { version: version.unwrap_or(0), text: text.unwrap_or_default().into() };
            inner.text.send_if_modified(|now| {
                let newer = now.version < read.version;
                if newer {
                    *now = read;
                }
                newer
            });
        }
        // Looked at again with the next view, for the version is still another.
        Err(_) => inner.drop_bulk().await,
    }
}

type LoadReply = (Vec<String>, Vec<(u64, Vec<u8>)>);

fn loaded((head, chunks): LoadReply) -> Option<Loaded> {
    let [slot, low, next, bumps, token] = &head[..] else { return None };
    Some(Loaded {
        slot: slot.clone(),
        low: low.parse().ok()?,
        next: next.parse().ok()?,
        bumps: cells::marks(bumps),
        token: token.parse().ok()?,
        chunks,
    })
}

/// Reads what a node has done; `None` when it is not subscribed.
pub(super) async fn load(inner: &Inner, node: &NodeId) -> Result<Option<Loaded>, LogError> {
    let mut call = inner.scripts.load.prepare_invoke();
    call.key(inner.options.key("meta")).arg(node.as_str());
    Ok(loaded(inner.ask(&call).await?))
}

fn take_load(inner: &Inner, node: &NodeId, loaded: Option<Loaded>) {
    let mut core = inner.core();
    let Some(mirror) = core.mirrors.get_mut(node) else { return };
    match loaded {
        Some(loaded) if loaded.slot == mirror.slot && loaded.token == mirror.token => mirror.reload(&loaded),
        _ => {
            let token = mirror.token;
            drop(core);
            inner.lose_claim(node, token);
        }
    }
}

/// Reads a claimed node anew, after others changed what it has to get.
pub(super) async fn reload(inner: &Inner, node: &NodeId) {
    if !inner.core().mirrors.contains_key(node) {
        return;
    }
    // Where it cannot be read, the connection is made anew, and so is this.
    if let Ok(loaded) = load(inner, node).await {
        take_load(inner, node, loaded);
    }
}

/// Reads all claimed nodes anew.
pub(super) async fn reload_claims(
    inner: &Inner,
    connection: &mut MultiplexedConnection,
) -> Result<(), String> {
    let nodes: Vec<NodeId> = inner.core().mirrors.keys().cloned().collect();
    for node in nodes {
        let mut call = inner.scripts.load.prepare_invoke();
        call.key(inner.options.key("meta")).arg(node.as_str());
        let reply: LoadReply = call.invoke_async(connection).await.map_err(|error| error.to_string())?;
        take_load(inner, &node, loaded(reply));
    }
    Ok(())
}

/// Reports what happened to followed updates while there was no connection.
pub(super) async fn catch_up(inner: &Inner) {
    let followed: Vec<u64> = inner.core().trackers.keys().copied().collect();
    for sequence in followed {
        follow_up(inner, sequence).await;
    }
    text(inner).await;
}

/// Reports what nodes have done with one followed update, as far as it was not reported.
pub(super) async fn follow_up(inner: &Inner, sequence: u64) {
    let Some(tracker) = inner.core().tracker(sequence) else { return };
    if let Ok(rows) = cells_of(inner, sequence, sequence).await {
        report_rows(inner, sequence, &tracker, &rows).await;
    }
}

async fn report_rows(inner: &Inner, sequence: u64, tracker: &Tracker, rows: &Rows) {
    let answer = answer_with_rank(inner, sequence).await;
    for (node, progress) in rows.of(sequence) {
        let settled = progress.state != DeliveryState::Pending;
        if !settled && progress.attempts == 0 {
            continue;
        }
        let answers = matches!(progress.state, DeliveryState::Delivered | DeliveryState::Rejected);
        let told = Report {
            digest: progress.digest,
            rejected: progress.state == DeliveryState::Rejected,
            level: answers && answer.as_ref().is_some_and(|(_, last)| *last),
            answer: match &answer {
                Some((answer, _)) if answers => Some(answer.clone()),
                _ => bare(progress.status),
            },
            ..report(&node, progress.attempts, settled)
        };
        report_once(tracker, told);
    }
}

/// What a repeated request gets.
pub(super) async fn known(
    inner: &Arc<Inner>,
    sequence: u64,
    key: Option<ClientKey>,
    open: bool,
    last: bool,
) -> Result<Appended, LogError> {
    let place = Sequence(sequence);
    if last || !open {
        let answer = match key {
            Some(key) => stored(inner, &scope_key(inner, &key.scope)).await?.map(|(answer, _)| answer),
            None => None,
        };
        return Ok(Appended::Known { sequence: place, answer, tracker: None });
    }
    if let Some(tracker) = inner.core().tracker(sequence) {
        return Ok(Appended::Known { sequence: place, answer: None, tracker: Some(tracker) });
    }
    let rows = cells_of(inner, sequence, sequence).await?;
    let tracker = Arc::new(Tracker::new(rows.of(sequence).into_iter().map(|(node, _)| node).collect()));
    // Followed first and looked at once more, so that nothing falls between.
    inner.core().follow(sequence, &tracker);
    let rows = cells_of(inner, sequence, sequence).await?;
    report_rows(inner, sequence, &tracker, &rows).await;
    Ok(Appended::Known { sequence: place, answer: None, tracker: Some(tracker) })
}

fn scope_key(inner: &Inner, scope: &[u8]) -> Vec<u8> {
    let mut key = inner.options.key("k:").into_bytes();
    key.extend_from_slice(scope);
    key
}

/// The answer kept for an update.
pub(super) async fn answer(inner: &Inner, sequence: u64) -> Option<Arc<Answer>> {
    answer_with_rank(inner, sequence).await.map(|(answer, _)| answer)
}

async fn answer_with_rank(inner: &Inner, sequence: u64) -> Option<(Arc<Answer>, bool)> {
    let cached = inner.core().cache.get(sequence).cloned();
    let key = match cached {
        Some(update) => update.key,
        None => fetch(inner, &[sequence]).await.ok()?.remove(&sequence)?.key,
    };
    if let Some(key) = key
        && let Ok(Some(found)) = stored(inner, &scope_key(inner, &key.scope)).await
    {
        return Some(found);
    }
    stored(inner, inner.options.key(&format!("w:{sequence}")).as_bytes()).await.ok()?
}

async fn stored(inner: &Inner, key: &[u8]) -> Result<Option<(Arc<Answer>, bool)>, LogError> {
    let command = redis::cmd("HMGET").arg(key).arg("answer").arg("last").clone();
    let (answer, last): (Option<Vec<u8>>, Option<String>) = inner.query(&command).await?;
    let Some(bytes) = answer else { return Ok(None) };
    let entry = answers::decode(&mut Input(&bytes)).map_err(|error| inner.strange(error.0))?;
    Ok(entry.answer.map(|answer| (answer, last.as_deref() == Some("1"))))
}

/// Up to `max` updates from `from` on that a node has not settled.
pub(super) async fn pending(
    inner: &Inner,
    node: &NodeId,
    from: Sequence,
    max: usize,
) -> Result<Vec<Pending>, LogError> {
    let tail = inner.tail.borrow().0;
    let token = inner.lease.token(node);
    let claimed = inner.core().claimed(node, token).map(|mirror| mirror.pending(from.0, tail, max));
    let open = match claimed {
        Some(open) => open,
        None => {
            let Some(loaded) = load(inner, node).await? else { return Err(LogError::Node(node.clone())) };
            Mirror::new(&loaded, 0).pending(from.0, tail, max)
        }
    };
    let sequences: Vec<u64> = open.iter().map(|(sequence, _)| *sequence).take(4 * RUN).collect();
    let updates = fetch(inner, &sequences).await?;
    let mut found = Vec::new();
    for (sequence, progress) in open.into_iter().take(sequences.len()) {
        let Some(update) = updates.get(&sequence) else {
            let path = inner.options.address();
            let what = format!("update {sequence} is not there");
            return Err(LogError::Damaged { path, offset: sequence, what });
        };
        found.push(Pending { update: update.clone(), progress });
    }
    Ok(found)
}

/// These updates, from memory or from Redis; those that the log does not hold are left out.
pub(super) async fn fetch(inner: &Inner, sequences: &[u64]) -> Result<BTreeMap<u64, Arc<Update>>, LogError> {
    let mut found = BTreeMap::new();
    let mut missing = Vec::new();
    {
        let core = inner.core();
        for sequence in sequences {
            match core.cache.get(*sequence) {
                Some(update) => drop(found.insert(*sequence, update.clone())),
                None => missing.push(*sequence),
            }
        }
    }
    missing.sort_unstable();
    while let Some(first) = missing.first().copied() {
        // What lies between is read along when it is little.
        let end = missing.partition_point(|sequence| *sequence < first + RUN as u64);
        let last = missing[end - 1];
        read_run(inner, first, last, &missing[..end], &mut found).await?;
        missing.drain(..end);
    }
    Ok(found)
}

type StreamEntry = (String, Vec<Vec<u8>>);

async fn read_run(
    inner: &Inner,
    first: u64,
    last: u64,
    wanted: &[u64],
    found: &mut BTreeMap<u64, Arc<Update>>,
) -> Result<(), LogError> {
    let command = redis::cmd("XRANGE")
        .arg(inner.options.key("updates"))
        .arg(format!("{first}-0"))
        .arg(format!("{last}-0"))
        .clone();
    let entries: Vec<StreamEntry> = inner.query(&command).await?;
    let nodes: Arc<[NodeId]> = inner.core().nodes.keys().cloned().collect();
    for (id, fields) in entries {
        let sequence = id.split('-').next().and_then(|text| text.parse().ok()).unwrap_or(0);
        if wanted.binary_search(&sequence).is_err() {
            continue;
        }
        let mut fields = fields.chunks_exact(2);
        let field = |name: &[u8]| fields.clone().find(|pair| pair[0] == name).map(|pair| pair[1].clone());
        let bytes = field(b"r").unwrap_or_default();
        let own = field(b"o").is_some_and(|origin| origin == inner.instance.as_bytes());
        let _ = fields.next();
        let len = bytes.len() as u64;
        let update = decode(inner, sequence, bytes, Some(&nodes)).await?;
        let mut core = inner.core();
        // Whoever was first keeps its tracker.
        if let Some(known) = core.cache.get(sequence).cloned() {
            found.insert(sequence, known);
            continue;
        }
        if let Some(tracker) = &update.tracker {
            core.follow(sequence, tracker);
        }
        let update = Arc::new(update);
        core.cache.put(update.clone(), own, len);
        found.insert(sequence, update);
    }
    Ok(())
}

/// Reads a record. It was written before it had a sequence, which is the id that it is kept under.
pub(super) fn whole(mut record: Vec<u8>, sequence: u64) -> Decoded<Whole> {
    if record.len() > record::RECORD_HEADER + 8 {
        encode::number_append(&mut record, sequence);
    }
    record::decode_whole(&Bytes::from(record), Sequence(sequence))
}

/// Makes an update of its record; its body is brought here where it is not in it.
pub(super) async fn decode(
    inner: &Inner,
    sequence: u64,
    record: Vec<u8>,
    nodes: Option<&Arc<[NodeId]>>,
) -> Result<Update, LogError> {
    let whole = whole(record, sequence).map_err(|error| LogError::Damaged {
        path: inner.options.address(),
        offset: sequence,
        what: error.0.to_owned(),
    })?;
    let key = whole.key();
    let body = match whole.head.spooled {
        Some((name, len, crc)) => UpdateBody::Spooled(body::fetch(inner, &name, len, crc).await?),
        // Its own: the record holds more than it.
        None => UpdateBody::Memory(Bytes::copy_from_slice(&whole.body)),
    };
    let core = inner.core();
    let tracker =
        nodes.map(|nodes| core.tracker(sequence).unwrap_or_else(|| Arc::new(Tracker::new(nodes.clone()))));
    Ok(Update {
        sequence: Sequence(sequence),
        id: whole.id,
        key,
        received_ms: whole.head.received_ms,
        method: whole.method,
        target: whole.target,
        headers: whole.headers,
        body,
        appended: core.arrival(sequence),
        tracker,
    })
}
