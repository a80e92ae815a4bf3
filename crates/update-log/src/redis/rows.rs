//! What all nodes have done with a range of updates.

use std::collections::BTreeMap;

use common::node::NodeId;

use super::cells;
use super::shared::Inner;
use crate::LogError;

/// What nodes have done with a range of updates.
pub(super) struct Rows {
    pub(super) first: u64,
    pub(super) entries: Vec<u8>,
    pub(super) nodes: Vec<NodeRow>,
    pub(super) errors: BTreeMap<String, String>,
}

/// One node's part of it.
pub(super) struct NodeRow {
    pub(super) slot: String,
    pub(super) node: NodeId,
    since: u64,
    until: u64,
    bumps: Vec<u64>,
    cells: Vec<u8>,
}

impl Rows {
    /// What each node that an update was for has done with it.
    pub(super) fn of(&self, sequence: u64) -> Vec<(NodeId, crate::Progress)> {
        self.rows(sequence).map(|(row, progress)| (row.node.clone(), progress)).collect()
    }

    /// The same, with the rows.
    pub(super) fn rows(&self, sequence: u64) -> impl Iterator<Item = (&NodeRow, crate::Progress)> {
        let index = sequence.checked_sub(self.first).map_or(usize::MAX >> 8, |index| index as usize);
        let for_it = move |row: &&NodeRow| row.since <= sequence && sequence < row.until;
        self.nodes
            .iter()
            .filter(for_it)
            .map(move |row| (row, cells::cell(&row.cells, index, cells::bumps(&row.bumps, sequence))))
    }
}

type StatusReply = (u64, Vec<u8>, Vec<(String, String, u64, u64, String, Vec<u8>)>, Vec<String>);

/// What nodes have done with the updates from `first` to `last`, which are in one chunk.
pub(super) async fn cells_of(inner: &Inner, first: u64, last: u64) -> Result<Rows, LogError> {
    let mut call = inner.scripts.status.prepare_invoke();
    call.key(inner.options.key("meta")).arg(first).arg(last);
    let (first, entries, rows, errors): StatusReply = inner.ask(&call).await?;
    let nodes = rows.into_iter().filter_map(|(slot, name, since, until, bumps, cells)| {
        let node = name.parse().ok()?;
        Some(NodeRow { slot, node, since, until, bumps: cells::marks(&bumps), cells })
    });
    let nodes = nodes.collect();
    let errors = errors.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect();
    Ok(Rows { first, entries, nodes, errors })
}
