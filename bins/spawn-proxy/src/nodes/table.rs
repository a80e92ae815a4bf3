//! The nodes as the data path sees them: an immutable table, swapped as a whole.

use std::sync::Arc;

use common::node::{Node, NodeId};

use super::live::Live;

/// One row of the table.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What the operator wants.
    pub node: Node,
    /// What is observed.
    pub live: Arc<Live>,
    /// It gets no more reads and will be set to maintenance.
    pub draining: bool,
}

impl Entry {
    /// Whether the node may be sent reads as far as operators and health checks are concerned.
    pub fn serves_reads(&self) -> bool {
        self.node.active
            && !self.node.maintenance
            && !self.draining
            && !self.live.is_parked()
            && self.live.is_healthy()
    }
}

/// All nodes, in configured order and by priority.
#[derive(Debug, Clone, Default)]
pub struct Table {
    entries: Vec<Entry>,
    by_priority: Vec<usize>,
}

impl Table {
    /// A table of these nodes, in this order.
    pub fn new(entries: Vec<Entry>) -> Self {
        let mut by_priority: Vec<usize> = (0..entries.len()).collect();
        // Stable: among equals the configured order holds.
        by_priority.sort_by_key(|&index| entries[index].node.priority);
        Self { entries, by_priority }
    }

    /// In configured order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Indexes of the entries, best priority first.
    pub fn by_priority(&self) -> &[usize] {
        &self.by_priority
    }

    /// The row of a node.
    pub fn get(&self, id: &NodeId) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.node.id == *id)
    }

    /// The nodes alone, in configured order.
    pub fn nodes(&self) -> Vec<Node> {
        self.entries.iter().map(|entry| entry.node.clone()).collect()
    }
}
