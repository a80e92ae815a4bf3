//! What a call makes of the nodes: worked out whole and checked before anything is touched. Pure.

use common::node::{Node, NodeId, Priority};
use http::StatusCode;

use super::call::Select;
use super::fault::Fault;
use super::patch::Patch;
use crate::nodes::Change;

/// A change, and what is said when it was made.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// The change.
    pub(super) change: Change,
    /// The records that the call was about, as they are afterwards.
    pub(super) echo: Vec<Node>,
    /// What the answer's status is.
    pub(super) status: StatusCode,
    /// Whether a queue may end by it.
    pub(super) ends_queue: bool,
}

/// Adds or changes one node. Another host or port renames a known one; of a new one they mean nothing.
///
/// # Errors
/// When the new name is none.
pub(super) fn put(nodes: &[Node], id: &NodeId, patch: &Patch, discard: bool) -> Result<Plan, Fault> {
    let mut after = nodes.to_vec();
    let Some(place) = after.iter().position(|node| node.id == *id) else {
        let node = patched(&blank(id), patch);
        after.push(node.clone());
        let change = Change { nodes: after, discard, ..Change::default() };
        return Ok(Plan { change, echo: vec![node], status: StatusCode::CREATED, ends_queue: false });
    };
    let before = after[place].clone();
    let node = Node { id: renamed(id, patch)?, ..patched(&before, patch) };
    after[place] = node.clone();
    let mut plan =
        Plan { status: StatusCode::ACCEPTED, ends_queue: before.active && !node.active, ..Plan::default() };
    if node.id != *id {
        // Whoever had the new name is replaced.
        plan.ends_queue |= nodes.iter().any(|other| other.id == node.id && other.active);
        let mut at = 0..;
        after.retain(|other| at.next() == Some(place) || other.id != node.id);
        plan.change.renamed = vec![(id.clone(), node.id.clone())];
    }
    if patch.maintenance == Some(false) {
        plan.change.undrained = vec![node.id.clone()];
    }
    plan.change = Change { nodes: after, discard, ..plan.change };
    plan.echo = vec![node];
    Ok(plan)
}

/// Adds or changes several nodes, each by itself.
pub(super) fn put_all(nodes: &[Node], items: &[(NodeId, Patch)], discard: bool) -> Plan {
    let mut after = nodes.to_vec();
    for (id, patch) in items {
        match after.iter_mut().find(|node| node.id == *id) {
            Some(node) => *node = patched(node, patch),
            None => after.push(patched(&blank(id), patch)),
        }
    }
    let told = items.iter().filter(|(_, patch)| patch.maintenance == Some(false));
    let undrained = told.map(|(id, _)| id.clone()).collect();
    let ends = |before: &Node| before.active && after.iter().any(|node| node.id == before.id && !node.active);
    let ends_queue = nodes.iter().any(ends);
    let mut echo: Vec<Node> = Vec::new();
    for (id, _) in items {
        if !echo.iter().any(|node| node.id == *id) {
            echo.extend(after.iter().find(|node| node.id == *id).cloned());
        }
    }
    Plan {
        change: Change { nodes: after, discard, undrained, ..Change::default() },
        echo,
        status: StatusCode::ACCEPTED,
        ends_queue,
    }
}

/// Removes nodes.
///
/// # Errors
/// When none is meant, unless all are.
pub(super) fn delete(nodes: &[Node], select: &Select, discard: bool) -> Result<Plan, Fault> {
    let (gone, after): (Vec<Node>, Vec<Node>) =
        nodes.iter().cloned().partition(|node| select.takes(&node.id));
    if gone.is_empty() && *select != Select::All {
        return Err(Fault::no_record());
    }
    let change = Change { nodes: after, discard, ..Change::default() };
    Ok(Plan { change, echo: Vec::new(), status: StatusCode::OK, ends_queue: true })
}

fn blank(id: &NodeId) -> Node {
    Node { id: id.clone(), priority: Priority(0), active: false, maintenance: false }
}

fn patched(node: &Node, patch: &Patch) -> Node {
    Node {
        id: node.id.clone(),
        priority: patch.priority.map_or(node.priority, Priority),
        active: patch.active.unwrap_or(node.active),
        maintenance: patch.maintenance.unwrap_or(node.maintenance),
    }
}

fn renamed(id: &NodeId, patch: &Patch) -> Result<NodeId, Fault> {
    let host = patch.host.as_deref().unwrap_or_else(|| id.host());
    let port = patch.port.unwrap_or_else(|| id.port());
    if host.is_empty() {
        return Err(Fault::empty("host"));
    }
    if port == 0 {
        return Err(Fault::zero("port"));
    }
    NodeId::new(host, port).map_err(Fault::node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(port: u16) -> NodeId {
        NodeId::new("h", port).unwrap()
    }

    fn node(port: u16, priority: i64, active: bool, maintenance: bool) -> Node {
        Node { id: id(port), priority: Priority(priority), active, maintenance }
    }

    fn named(host: Option<&str>, port: Option<u16>) -> Patch {
        Patch { host: host.map(Into::into), port, ..Patch::default() }
    }

    #[test]
    fn a_new_node_is_what_was_said_and_otherwise_nothing() {
        let patch = Patch { priority: Some(5), ..named(Some("other"), Some(9)) };
        let plan = put(&[node(1, 0, true, false)], &id(2), &patch, false).unwrap();
        assert_eq!(plan.status, StatusCode::CREATED);
        assert_eq!(plan.echo, [node(2, 5, false, false)]);
        assert_eq!(plan.change.nodes, [node(1, 0, true, false), node(2, 5, false, false)]);
        assert!(plan.change.renamed.is_empty() && !plan.ends_queue);
    }

    #[test]
    fn a_known_node_keeps_what_was_not_said() {
        let nodes = [node(1, 7, true, false)];
        let plan = put(&nodes, &id(1), &Patch { maintenance: Some(true), ..Patch::default() }, true).unwrap();
        assert_eq!(
            (plan.status, plan.echo.as_slice()),
            (StatusCode::ACCEPTED, &[node(1, 7, true, true)][..])
        );
        assert!(!plan.ends_queue && plan.change.discard);
        assert_eq!(put(&nodes, &id(1), &Patch::default(), false).unwrap().change.nodes, nodes);
        assert!(
            put(&nodes, &id(1), &Patch { active: Some(false), ..Patch::default() }, false)
                .unwrap()
                .ends_queue
        );
    }

    #[test]
    fn a_rename_stays_in_its_place_and_replaces_who_was_there() {
        let nodes = [node(1, 1, true, false), node(2, 2, true, false), node(3, 3, true, true)];
        let plan = put(&nodes, &id(3), &named(None, Some(1)), false).unwrap();
        assert_eq!(plan.change.nodes, [node(2, 2, true, false), node(1, 3, true, true)]);
        assert_eq!(plan.change.renamed, [(id(3), id(1))]);
        assert!(plan.ends_queue);
        let plan = put(&nodes, &id(1), &named(Some("h"), Some(4)), false).unwrap();
        assert_eq!(plan.change.nodes[0], node(4, 1, true, false));
        assert!(!plan.ends_queue && plan.change.nodes.len() == 3);
        assert!(put(&nodes, &id(1), &named(Some("h"), Some(1)), false).unwrap().change.renamed.is_empty());
    }

    #[test]
    fn a_bad_new_name_is_refused() {
        let message = |patch: &Patch| {
            let fault = put(&[node(1, 0, true, false)], &id(1), patch, false).unwrap_err();
            (fault.status().as_u16(), fault.data()["message"].as_str().unwrap().to_owned())
        };
        assert_eq!(message(&named(Some(""), None)), (400, "The parameter 'host' could not be empty".into()));
        assert_eq!(
            message(&named(None, Some(0))),
            (400, "The parameter 'port' could not be zero value".into())
        );
        assert_eq!(
            message(&named(Some("bad host"), None)),
            (400, "Could not recognize bad host parameter".into())
        );
    }

    #[test]
    fn removing_takes_just_what_is_meant() {
        let nodes = [node(1, 0, true, false), node(2, 0, true, false)];
        let left = |select: Select| delete(&nodes, &select, false).map(|plan| plan.change.nodes.len());
        assert_eq!(left(Select::All).unwrap(), 0);
        assert_eq!(left(Select::Host("h".into())).unwrap(), 0);
        assert_eq!(left(Select::One(id(1))).unwrap(), 1);
        assert_eq!(left(Select::Host("x".into())).unwrap_err().status(), StatusCode::NOT_FOUND);
        assert_eq!(left(Select::One(id(3))).unwrap_err().status(), StatusCode::NOT_FOUND);
        assert!(delete(&[], &Select::All, false).is_ok());
    }

    fn any_patch() -> impl Strategy<Value = (NodeId, Patch)> {
        let flags = (any::<Option<bool>>(), any::<Option<bool>>());
        (1u16..6, proptest::option::of(-3i64..4), flags).prop_map(
            |(port, priority, (active, maintenance))| {
                (id(port), Patch { host: Some("h".into()), port: Some(port), priority, active, maintenance })
            },
        )
    }

    proptest! {
        /// Several at once are the same as one after the other: no record takes anything from another.
        #[test]
        fn an_array_is_its_items_one_by_one(
            known in proptest::collection::vec((-3i64..4, any::<bool>(), any::<bool>()), 0..4),
            items in proptest::collection::vec(any_patch(), 0..6),
        ) {
            let row = |(port, &(priority, active, maintenance))| node(port, priority, active, maintenance);
            let nodes: Vec<Node> = (1..).zip(&known).map(row).collect();
            let mut singly = nodes.clone();
            for (id, patch) in &items {
                singly = put(&singly, id, patch, false).unwrap().change.nodes;
            }
            let plan = put_all(&nodes, &items, false);
            prop_assert_eq!(&plan.change.nodes, &singly);
            for echo in &plan.echo {
                prop_assert!(singly.contains(echo));
            }
        }
    }
}
