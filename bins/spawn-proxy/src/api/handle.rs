//! Calls, done.

use std::future::Future;
use std::sync::Arc;
use std::time::SystemTime;

use common::node::{Node, NodeId};
use common::queue::{QueueState, Sequence};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use update_log::{Filter, RewindError};

use super::call::{Call, Select};
use super::collector::unix_ms;
use super::counters::{self, Counters};
use super::envelope::{Content, Reply, listed};
use super::fault::Fault;
use super::plan::{self, Plan};
use super::views::{DivergenceView, NodeView, QueueView, UpdateView};
use super::{Api, events, help, info, letters, patch};
use crate::nodes::store::Record;
use crate::nodes::table::{Entry, Table};
use crate::shared::Shared;

/// Does what is asked for.
///
/// # Errors
/// When it was not done; then nothing has changed.
pub(super) async fn handle(api: &Api, call: Call, body: &[u8], discard: bool) -> Result<Reply, Fault> {
    let shared = &api.shared;
    let ok = |content| Reply::new(StatusCode::OK, content);
    Ok(match call {
        Call::Options(route) => {
            let mut reply = ok(Content::Empty);
            reply.headers.extend(HeaderValue::from_str(&route.allow()).map(|allow| (header::ALLOW, allow)));
            reply
        }
        Call::Info => ok(Content::Bare(info::info(&api.config.host_name))),
        Call::List(section) => ok(Content::Text(help::text(section))),
        Call::MetricsTable => ok(Content::Text(counters::table(&counted(shared)))),
        Call::MetricsJson => ok(Content::Bare(counters::json(&counted(shared)))),
        Call::Nodes(select) => nodes(shared, &select)?,
        Call::PutNode(id) => {
            let patch = patch::one(body)?;
            change(shared, move |nodes| plan::put(nodes, &id, &patch, discard)).await?
        }
        Call::PutNodes => {
            let items = patch::many(body)?;
            change(shared, move |nodes| Ok(plan::put_all(nodes, &items, discard))).await?
        }
        Call::DeleteNodes(select) => {
            change(shared, move |nodes| plan::delete(nodes, &select, discard)).await?
        }
        Call::Queues => Reply::list(queues(shared)),
        Call::DiscardQueue(id) => discard_queue(shared, id).await?,
        Call::Updates(filter) => updates(shared, filter).await?,
        Call::Update(sequence) => update(shared, sequence).await?,
        Call::DeadLetters(node) => letters::list(shared, node.as_ref()).await?,
        Call::RetryLetter { node, sequence, reorder } => {
            letters::retry(shared, node, sequence, reorder).await?
        }
        Call::RetryLetters { node, reorder } => letters::retry_all(shared, node, reorder).await?,
        Call::DropLetter(node, sequence) => letters::remove(shared, node, sequence).await?,
        Call::Divergences => {
            let found = shared.log.divergences().await.map_err(|error| Fault::log(&error))?;
            Reply::list(found.into_iter().map(DivergenceView::from).collect())
        }
        Call::Events => events::begin(api)?,
        Call::Sync(node, from) => sync(shared, node, from).await?,
        Call::Drain(node) => drain(shared, node).await?,
        Call::DropLetters(node) => letters::remove_all(shared, node).await?,
    })
}

/// The rows of the table as they are listed: in configured order, or by priority when reads are chosen so.
fn in_order<'a>(shared: &Shared, table: &'a Table) -> Vec<&'a Entry> {
    if shared.config.load().mode.by_priority {
        table.by_priority().iter().map(|&place| &table.entries()[place]).collect()
    } else {
        table.entries().iter().collect()
    }
}

fn nodes(shared: &Shared, select: &Select) -> Result<Reply, Fault> {
    let table = shared.nodes.table();
    let chosen = in_order(shared, &table).into_iter().filter(|entry| select.takes(&entry.node.id));
    let records: Vec<NodeView> = chosen.map(NodeView::from).collect();
    if records.is_empty() && *select != Select::All {
        return Err(Fault::no_record());
    }
    Ok(Reply::list(records))
}

/// Makes a change to its end, whether or not the client still waits for it: half of one must not be left.
pub(super) async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, Fault> {
    tokio::spawn(work).await.map_err(|error| {
        Fault::new(StatusCode::INTERNAL_SERVER_ERROR, "The change was not made", error.to_string())
    })
}

async fn change(
    shared: &Arc<Shared>,
    plan: impl FnOnce(&[Node]) -> Result<Plan, Fault> + Send + 'static,
) -> Result<Reply, Fault> {
    let shared = shared.clone();
    let work = async move {
        let mut said = Plan::default();
        let made = shared.nodes.change(|nodes| {
            let mut plan = plan(nodes)?;
            let change = std::mem::take(&mut plan.change);
            said = plan;
            Ok(change)
        });
        let changed = made.await.map_err(Fault::from)?;
        Ok::<_, Fault>((said, changed.discarded))
    };
    let (said, discarded) = to_the_end(work).await??;
    Ok(changed(&said, discarded))
}

fn changed(said: &Plan, discarded: u64) -> Reply {
    let data = if said.status == StatusCode::OK {
        dropped(discarded)
    } else {
        let records: Vec<Record> = said.echo.iter().map(Record::from).collect();
        let mut data = listed(&records);
        if let (true, Value::Object(map)) = (said.ends_queue, &mut data) {
            // Keys are in alphabetical order.
            map.shift_insert(0, "discarded".to_owned(), discarded.into());
        }
        data
    };
    Reply::new(said.status, Content::Wrapped(data))
}

pub(super) fn dropped(discarded: u64) -> Value {
    json!({ "discarded": discarded, "success": true })
}

fn counted(shared: &Shared) -> Vec<(NodeId, Counters)> {
    let table = shared.nodes.table();
    let count = |entry: &Entry| {
        let queue = shared.log.queue(&entry.node.id);
        (entry.node.id.clone(), Counters::new(&entry.live, queue.as_ref()))
    };
    in_order(shared, &table).into_iter().map(count).collect()
}

pub(super) fn queues(shared: &Shared) -> Vec<QueueView> {
    let (table, now_ms) = (shared.nodes.table(), unix_ms(SystemTime::now()));
    let view = |entry: &Entry| {
        let queue = shared.log.queue(&entry.node.id)?;
        let state = state(entry, queue.pending, shared.log.is_parked(&entry.node.id));
        Some(QueueView::new(&entry.node.id, &queue, state, entry.live.queue_error(), now_ms))
    };
    in_order(shared, &table).into_iter().filter_map(view).collect()
}

fn state(entry: &Entry, pending: u64, parked: bool) -> QueueState {
    if parked {
        QueueState::Parked
    } else if entry.node.maintenance {
        QueueState::Maintenance
    } else if !entry.live.is_healthy() || (entry.live.is_waiting() && pending > 0) {
        QueueState::Waiting
    } else {
        QueueState::Flowing
    }
}

async fn discard_queue(shared: &Arc<Shared>, id: NodeId) -> Result<Reply, Fault> {
    let shared = shared.clone();
    let work = async move { shared.nodes.discard(&id).await };
    let discarded = to_the_end(work).await?.map_err(|error| Fault::log(&error))?;
    Ok(Reply::new(StatusCode::OK, Content::Wrapped(dropped(discarded))))
}

/// Has a node get again what the log holds, while nothing is under way there: what comes meanwhile goes behind that.
async fn sync(shared: &Arc<Shared>, id: NodeId, from: Option<Sequence>) -> Result<Reply, Fault> {
    if shared.nodes.table().get(&id).is_none() {
        return Err(Fault::no_record());
    }
    let next = *shared.log.tail().borrow();
    if from.is_some_and(|from| from > next) {
        let info = format!("The next update is {next}: nothing can be sent from further on");
        return Err(Fault::unrecognized("from", info));
    }
    let (own, log, node) = (shared.clone(), shared.log.clone(), id.clone());
    let work = async move {
        let target = node.clone();
        own.nodes.at_rest(&node, async move { log.rewind(&target, from).await }).await
    };
    let pending =
        to_the_end(work).await?.ok_or_else(|| Fault::inactive(&id))?.map_err(|error| match error {
            RewindError::Gone(first) => Fault::Trimmed(first),
            RewindError::Log(error) => Fault::log(&error),
        })?;
    tracing::warn!(node = %id, pending, from = from.map(|from| from.0), "the node is sent again what the log holds");
    Ok(queue_of(shared, &id))
}

/// 202 with the queue of one node.
fn queue_of(shared: &Shared, id: &NodeId) -> Reply {
    let own = queues(shared).into_iter().filter(|queue| queue.node() == id.as_str()).collect::<Vec<_>>();
    Reply::new(StatusCode::ACCEPTED, Content::Wrapped(listed(&own)))
}

async fn drain(shared: &Arc<Shared>, id: NodeId) -> Result<Reply, Fault> {
    let (own, node) = (shared.clone(), id.clone());
    match to_the_end(async move { own.nodes.drain(&node).await }).await?.map_err(Fault::from)? {
        Some(true) => Ok(queue_of(shared, &id)),
        Some(false) => Err(Fault::inactive(&id)),
        None => Err(Fault::no_record()),
    }
}

async fn updates(shared: &Shared, filter: Filter) -> Result<Reply, Fault> {
    let found = shared.log.list(filter).await.map_err(|error| Fault::log(&error))?;
    Ok(Reply::list(found.into_iter().map(UpdateView::from).collect()))
}

async fn update(shared: &Shared, sequence: Sequence) -> Result<Reply, Fault> {
    let found = shared.log.status(sequence).await.map_err(|error| Fault::log(&error))?;
    let status = found
        .ok_or_else(|| Fault::no_such(format!("The log does not hold update {sequence}, or no longer")))?;
    Ok(Reply::list(vec![UpdateView::from(status)]))
}
