//! What operators do with updates that were given up.

use std::collections::BTreeSet;
use std::sync::Arc;

use common::node::NodeId;
use common::queue::Sequence;
use http::StatusCode;
use serde_json::{Value, json};
use update_log::{DeadLetter, UpdateLog};

use super::envelope::{Content, Reply, listed};
use super::fault::Fault;
use super::handle::{dropped, to_the_end};
use super::views::DeadLetterView;
use crate::shared::Shared;

/// All, or those of one node.
pub(super) async fn list(shared: &Shared, node: Option<&NodeId>) -> Result<Reply, Fault> {
    Ok(Reply::list(letters(shared, node).await?.into_iter().map(DeadLetterView::from).collect()))
}

async fn letters(shared: &Shared, node: Option<&NodeId>) -> Result<Vec<DeadLetter>, Fault> {
    shared.log.dead_letters(node).await.map_err(|error| Fault::log(&error))
}

/// What became of a wish to try again.
struct Retried {
    back: Vec<DeadLetter>,
    refused: Vec<(DeadLetter, Fault)>,
}

/// Puts dead letters of a node back into its queue while nothing is under way there, so that none is overtaken meanwhile.
async fn put_back(
    log: Arc<dyn UpdateLog>,
    node: NodeId,
    only: Option<Sequence>,
    reorder: bool,
) -> Result<Retried, Fault> {
    let mut done = Retried { back: Vec::new(), refused: Vec::new() };
    let found = log.dead_letters(Some(&node)).await.map_err(|error| Fault::log(&error))?;
    for letter in found.into_iter().filter(|letter| only.is_none_or(|only| letter.sequence == only)) {
        match letter.overtaken.filter(|_| !reorder) {
            Some(by) => {
                let fault = Fault::overtaken(letter.sequence, by);
                done.refused.push((letter, fault));
            }
            None => match log.retry_dead_letter(&node, letter.sequence).await {
                Ok(true) => done.back.push(letter),
                Ok(false) => {}
                Err(error) => {
                    let fault = Fault::log(&error);
                    done.refused.push((letter, fault));
                }
            },
        }
    }
    Ok(done)
}

async fn retry_on(
    shared: &Arc<Shared>,
    node: &NodeId,
    only: Option<Sequence>,
    reorder: bool,
) -> Result<Retried, Fault> {
    let work = put_back(shared.log.clone(), node.clone(), only, reorder);
    let (shared, id) = (shared.clone(), node.clone());
    let done = to_the_end(async move { shared.nodes.at_rest(&id, work).await }).await?;
    done.ok_or_else(|| Fault::inactive(node))?
}

/// Puts one back.
///
/// # Errors
/// 404, or 409 when a later update overtook it or the node is not active.
pub(super) async fn retry(
    shared: &Arc<Shared>,
    node: NodeId,
    sequence: Sequence,
    reorder: bool,
) -> Result<Reply, Fault> {
    let known = letters(shared, Some(&node)).await?.iter().any(|letter| letter.sequence == sequence);
    let missing = || Fault::no_such(format!("Update {sequence} was not given up on {node}, or no longer"));
    if !known {
        return Err(missing());
    }
    let Retried { back, refused } = retry_on(shared, &node, Some(sequence), reorder).await?;
    if let Some((_, fault)) = refused.into_iter().next() {
        return Err(fault);
    }
    if back.is_empty() {
        return Err(missing());
    }
    let views: Vec<DeadLetterView> = back.into_iter().map(DeadLetterView::from).collect();
    Ok(Reply::new(StatusCode::ACCEPTED, Content::Wrapped(listed(&views))))
}

/// Puts all back, node by node, each in the log's order.
pub(super) async fn retry_all(
    shared: &Arc<Shared>,
    node: Option<NodeId>,
    reorder: bool,
) -> Result<Reply, Fault> {
    let found = letters(shared, node.as_ref()).await?;
    let nodes: BTreeSet<NodeId> = found.iter().map(|letter| letter.node.clone()).collect();
    let (mut back, mut refused) = (Vec::new(), Vec::new());
    for node in nodes {
        match retry_on(shared, &node, None, reorder).await {
            Ok(done) => {
                back.extend(done.back.into_iter().map(DeadLetterView::from));
                refused.extend(done.refused.iter().map(|(letter, fault)| refusal(letter, fault)));
            }
            Err(fault) => {
                let own = found.iter().filter(|letter| letter.node == node);
                refused.extend(own.map(|letter| refusal(letter, &fault)));
            }
        }
    }
    let mut data = listed(&back);
    if let Value::Object(map) = &mut data {
        // Keys are in alphabetical order.
        map.shift_insert(0, "refused".to_owned(), refused.into());
    }
    Ok(Reply::new(StatusCode::ACCEPTED, Content::Wrapped(data)))
}

fn refusal(letter: &DeadLetter, fault: &Fault) -> Value {
    let data = fault.data();
    json!({
        "node": letter.node.as_str(),
        "sequence": letter.sequence.0,
        "error": data["error"],
        "info": data["info"],
        "message": data["message"],
    })
}

/// Removes one.
///
/// # Errors
/// 404.
pub(super) async fn remove(shared: &Arc<Shared>, node: NodeId, sequence: Sequence) -> Result<Reply, Fault> {
    let gone = drop_one(shared, &node, sequence).await?;
    if !gone {
        return Err(Fault::no_such(format!("Update {sequence} was not given up on {node}, or no longer")));
    }
    Ok(Reply::new(StatusCode::OK, Content::Wrapped(dropped(1))))
}

async fn drop_one(shared: &Arc<Shared>, node: &NodeId, sequence: Sequence) -> Result<bool, Fault> {
    let (own, id) = (shared.clone(), node.clone());
    let work = async move { own.log.drop_dead_letter(&id, sequence).await };
    let gone = to_the_end(work).await?.map_err(|error| Fault::log(&error))?;
    if let Some(entry) = shared.nodes.table().get(node) {
        entry.live.has_got(sequence.0);
    }
    Ok(gone)
}

/// Removes all, or those of one node.
pub(super) async fn remove_all(shared: &Arc<Shared>, node: Option<NodeId>) -> Result<Reply, Fault> {
    let mut count = 0;
    for letter in letters(shared, node.as_ref()).await? {
        count += u64::from(drop_one(shared, &letter.node, letter.sequence).await?);
    }
    Ok(Reply::new(StatusCode::OK, Content::Wrapped(dropped(count))))
}
