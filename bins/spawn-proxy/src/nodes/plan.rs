//! What the log has to do so that it keeps queues for just the nodes that are active: pure.

use std::collections::HashSet;

use common::node::{Node, NodeId};

use super::Change;

/// One thing for the log to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Hand a queue to a new identity.
    Rename(NodeId, NodeId),
    /// End a queue.
    Unsubscribe(NodeId),
    /// Begin a queue.
    Subscribe(NodeId),
}

/// The steps from the queues that the log keeps to those that it should keep.
pub fn steps(subscribed: &[NodeId], change: &Change) -> Vec<Step> {
    let active: HashSet<&NodeId> =
        change.nodes.iter().filter(|node| node.active).map(|node| &node.id).collect();
    let mut kept: HashSet<&NodeId> = subscribed.iter().collect();
    let mut steps = Vec::new();
    for (old, new) in &change.renamed {
        if !kept.contains(old) || !active.contains(new) {
            continue;
        }
        // The node that had this address before is replaced.
        if kept.remove(new) {
            steps.push(Step::Unsubscribe(new.clone()));
        }
        kept.remove(old);
        kept.insert(new);
        steps.push(Step::Rename(old.clone(), new.clone()));
    }
    let mut leaving: Vec<&NodeId> = kept.iter().copied().filter(|id| !active.contains(id)).collect();
    leaving.sort();
    steps.extend(leaving.into_iter().cloned().map(Step::Unsubscribe));
    let joining = change.nodes.iter().filter(|node| node.active && !kept.contains(&node.id));
    steps.extend(joining.map(|node| Step::Subscribe(node.id.clone())));
    steps
}

/// The nodes whose queues end.
pub fn leaving(steps: &[Step]) -> impl Iterator<Item = &NodeId> {
    steps.iter().filter_map(|step| match step {
        Step::Unsubscribe(id) => Some(id),
        Step::Rename(..) | Step::Subscribe(_) => None,
    })
}

/// The queues that are handed over.
pub fn renames(steps: &[Step]) -> Vec<(NodeId, NodeId)> {
    let pair = |step: &Step| match step {
        Step::Rename(old, new) => Some((old.clone(), new.clone())),
        Step::Unsubscribe(_) | Step::Subscribe(_) => None,
    };
    steps.iter().filter_map(pair).collect()
}

/// The nodes after a change failed half-way: as `before`, but for those whose queues have ended.
/// They are as was wanted of them, for they may have missed updates since.
pub fn after_failure(before: &[Node], wanted: &[Node], ended: &[&NodeId]) -> Vec<Node> {
    let left = |node: &Node| {
        if !ended.contains(&&node.id) {
            return Some(node.clone());
        }
        wanted.iter().find(|other| other.id == node.id && !other.active).cloned()
    };
    before.iter().filter_map(left).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::node::Priority;

    fn id(port: u16) -> NodeId {
        NodeId::new("h", port).unwrap()
    }

    fn change(nodes: &[(u16, bool)], renamed: &[(u16, u16)]) -> Change {
        let node = |&(port, active): &(u16, bool)| Node {
            id: id(port),
            priority: Priority(0),
            active,
            maintenance: false,
        };
        Change {
            nodes: nodes.iter().map(node).collect(),
            renamed: renamed.iter().map(|&(old, new)| (id(old), id(new))).collect(),
            discard: false,
            undrained: Vec::new(),
        }
    }

    #[test]
    fn queues_follow_activity() {
        let steps =
            steps(&[id(1), id(2), id(3)], &change(&[(1, true), (2, false), (4, true), (5, false)], &[]));
        assert_eq!(steps, [Step::Unsubscribe(id(2)), Step::Unsubscribe(id(3)), Step::Subscribe(id(4))]);
    }

    #[test]
    fn a_rename_keeps_the_queue_and_replaces_who_was_there() {
        let steps = steps(&[id(1), id(2)], &change(&[(2, true)], &[(1, 2)]));
        assert_eq!(steps, [Step::Unsubscribe(id(2)), Step::Rename(id(1), id(2))]);
        assert_eq!(leaving(&steps).collect::<Vec<_>>(), [&id(2)]);
    }

    #[test]
    fn renaming_an_inactive_node_or_renaming_while_deactivating_moves_no_queue() {
        assert_eq!(steps(&[], &change(&[(2, true)], &[(1, 2)])), [Step::Subscribe(id(2))]);
        assert_eq!(steps(&[id(1)], &change(&[(2, false)], &[(1, 2)])), [Step::Unsubscribe(id(1))]);
    }

    #[test]
    fn a_node_whose_queue_has_ended_is_not_taken_back() {
        let before = change(&[(1, true), (2, true), (3, true)], &[]).nodes;
        let wanted = change(&[(1, false)], &[]).nodes;
        let left = after_failure(&before, &wanted, &[&id(1), &id(2)]);
        assert_eq!(left, change(&[(1, false), (3, true)], &[]).nodes);
        // The address that a rename would have taken: who had it is gone, the renamed one is where it was.
        let wanted = change(&[(2, true)], &[(1, 2)]).nodes;
        assert_eq!(after_failure(&before[..2], &wanted, &[&id(2)]), before[..1]);
    }
}
