//! The nodes on disk: what the API changed outlives a restart, and the file is merged into it.

use std::collections::HashMap;

use common::node::{Node, NodeId, Priority};
use serde::{Deserialize, Serialize};

/// The name of the file in the data directory.
pub const FILE: &str = "nodes.json";

/// A node as the API and the original's configuration write it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Host name or address; IPv6 without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Rank.
    pub priority: i64,
    /// Takes part.
    pub active: bool,
    /// Rests.
    pub maintenance: bool,
}

impl From<&Node> for Record {
    fn from(node: &Node) -> Self {
        Self {
            host: node.id.host().to_owned(),
            port: node.id.port(),
            priority: node.priority.0,
            active: node.active,
            maintenance: node.maintenance,
        }
    }
}

impl Record {
    fn node(&self) -> Result<Node, String> {
        Ok(Node {
            id: NodeId::new(&self.host, self.port).map_err(|error| error.to_string())?,
            priority: Priority(self.priority),
            active: self.active,
            maintenance: self.maintenance,
        })
    }
}

/// The nodes as they were last, and the configured ones as last loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stored {
    /// What flags and file said when they were last loaded.
    pub configured: Vec<Node>,
    /// What was in force.
    pub nodes: Vec<Node>,
    /// Old and new identity of nodes whose queue the log may still have to hand over.
    pub renamed: Vec<(NodeId, NodeId)>,
    /// Nodes that are being drained, each with the last update that it is still to get.
    pub draining: Vec<(NodeId, u64)>,
}

#[derive(Serialize, Deserialize)]
struct Document {
    configured: Vec<Record>,
    nodes: Vec<Record>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    renamed: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    draining: Vec<(String, u64)>,
}

impl Stored {
    /// As the file's content.
    pub fn to_json(&self) -> Vec<u8> {
        let records = |nodes: &[Node]| nodes.iter().map(Record::from).collect();
        let renamed = self.renamed.iter().map(|(old, new)| (old.to_string(), new.to_string())).collect();
        let draining = self.draining.iter().map(|(id, last)| (id.to_string(), *last)).collect();
        let (configured, nodes) = (records(&self.configured), records(&self.nodes));
        let document = Document { configured, nodes, renamed, draining };
        serde_json::to_vec_pretty(&document).unwrap_or_default()
    }

    /// From the file's content.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn from_json(content: &[u8]) -> Result<Self, String> {
        let document: Document = serde_json::from_slice(content).map_err(|error| error.to_string())?;
        let nodes = |records: &[Record]| records.iter().map(Record::node).collect::<Result<_, _>>();
        let id = |text: &String| text.parse::<NodeId>().map_err(|error| error.to_string());
        let renamed = document.renamed.iter().map(|(old, new)| Ok((id(old)?, id(new)?)));
        let draining = document.draining.iter().map(|(text, last)| Ok((id(text)?, *last)));
        Ok(Self {
            configured: nodes(&document.configured)?,
            nodes: nodes(&document.nodes)?,
            renamed: renamed.collect::<Result<_, String>>()?,
            draining: draining.collect::<Result<_, String>>()?,
        })
    }

    /// What holds after `configured` is loaded: what the API changed wins, but where the
    /// configuration itself has changed since it was last loaded, that change applies.
    pub fn merge(&self, configured: &[Node]) -> Vec<Node> {
        let before: HashMap<&NodeId, &Node> = self.configured.iter().map(|node| (&node.id, node)).collect();
        let after: HashMap<&NodeId, &Node> = configured.iter().map(|node| (&node.id, node)).collect();
        let kept =
            self.nodes.iter().filter_map(|current| match (before.get(&current.id), after.get(&current.id)) {
                (Some(_), None) => None,
                (None, None) => Some(current.clone()),
                (None, Some(new)) => Some((*new).clone()),
                (Some(old), Some(new)) => Some(apply_difference(old, new, current)),
            });
        let mut nodes: Vec<Node> = kept.collect();
        let known = |id: &NodeId| before.contains_key(id) || self.nodes.iter().any(|node| node.id == *id);
        nodes.extend(configured.iter().filter(|node| !known(&node.id)).cloned());
        nodes
    }
}

fn apply_difference(old: &Node, new: &Node, current: &Node) -> Node {
    Node {
        id: current.id.clone(),
        priority: if old.priority == new.priority { current.priority } else { new.priority },
        active: if old.active == new.active { current.active } else { new.active },
        maintenance: if old.maintenance == new.maintenance { current.maintenance } else { new.maintenance },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(port: u16, priority: i64) -> Node {
        Node {
            id: NodeId::new("h", port).unwrap(),
            priority: Priority(priority),
            active: true,
            maintenance: false,
        }
    }

    #[test]
    fn an_unchanged_configuration_leaves_what_the_api_made() {
        let nodes = vec![node(2, 7), node(3, 0)];
        let stored = Stored { configured: vec![node(1, 0), node(2, 0)], nodes, ..Stored::default() };
        assert_eq!(stored.merge(&[node(1, 0), node(2, 0)]), stored.nodes);
    }

    #[test]
    fn only_what_differs_from_the_configuration_as_last_loaded_is_applied() {
        let rested = Node { maintenance: true, ..node(2, 0) };
        let nodes = vec![rested, node(3, 0), node(4, 0)];
        let stored =
            Stored { configured: vec![node(1, 0), node(2, 0), node(4, 0)], nodes, ..Stored::default() };
        let merged = stored.merge(&[node(1, 0), node(2, 5), node(5, 0)]);
        // 1 stays deleted, 2 changes in what the file changed, 3 stays, 4 left the file, 5 is new in it.
        assert_eq!(merged, vec![Node { maintenance: true, ..node(2, 5) }, node(3, 0), node(5, 0)]);
    }

    #[test]
    fn what_is_stored_reads_back() {
        let v6 = Node { id: "[::1]:80".parse().unwrap(), ..node(1, -2) };
        let renamed = vec![(node(7, 0).id, v6.id.clone())];
        let draining = vec![(node(1, 0).id, 7)];
        let stored = Stored { configured: vec![node(1, 0)], nodes: vec![v6], renamed, draining };
        assert_eq!(Stored::from_json(&stored.to_json()).unwrap(), stored);
        assert!(Stored::from_json(b"{").is_err());
        let without = br#"{"configured":[],"nodes":[]}"#;
        assert_eq!(Stored::from_json(without).unwrap(), Stored::default());
    }
}
