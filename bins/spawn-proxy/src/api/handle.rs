//! Calls, done.

use std::future::Future;
use std::sync::Arc;
use std::time::SystemTime;

use common::node::{Node, NodeId};
use common::queue::{QueueState, Sequence};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use update_log::Filter;

use super::call::{Call, Select};
use super::collector::unix_ms;
use super::counters::{self, Counters};
use super::envelope::{Content, Reply, listed};
use super::fault::Fault;
use super::plan::{self, Plan};
use super::views::{DeadLetterView, QueueView, UpdateView};
use super::{Api, help, info, patch};
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
        Call::DeadLetters(node) => {
            let letters = shared.log.dead_letters(node.as_ref()).await.map_err(|error| Fault::log(&error))?;
            Reply::list(letters.into_iter().map(DeadLetterView::from).collect())
        }
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
    let chosen =
        in_order(shared, &table).into_iter().map(|entry| &entry.node).filter(|node| select.takes(&node.id));
    let records: Vec<Record> = chosen.map(Record::from).collect();
    if records.is_empty() && *select != Select::All {
        return Err(Fault::no_record());
    }
    Ok(Reply::list(records))
}

/// Makes a change to its end, whether or not the client still waits for it: half of one must not be left.
async fn to_the_end<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Result<T, Fault> {
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

fn dropped(discarded: u64) -> Value {
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

fn queues(shared: &Shared) -> Vec<QueueView> {
    let (table, now_ms) = (shared.nodes.table(), unix_ms(SystemTime::now()));
    let view = |entry: &Entry| {
        let queue = shared.log.queue(&entry.node.id)?;
        let state = state(entry, queue.pending);
        Some(QueueView::new(&entry.node.id, &queue, state, entry.live.queue_error(), now_ms))
    };
    in_order(shared, &table).into_iter().filter_map(view).collect()
}

fn state(entry: &Entry, pending: u64) -> QueueState {
    if entry.node.maintenance {
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
