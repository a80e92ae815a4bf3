//! Which node serves a read: pure but for the turn of the round robin.

use std::time::Duration;

use common::ring::RoundRobin;
use smallvec::SmallVec;

use crate::nodes::table::{Entry, Table};

/// How reads choose among nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueryMode {
    /// Take turns.
    pub round_robin: bool,
    /// Prefer the best priority.
    pub by_priority: bool,
}

/// A node chosen for a read.
pub struct Choice<'a> {
    /// The node.
    pub entry: &'a Entry,
    /// How far behind it is, when no node is level.
    pub lag: Option<Duration>,
}

/// The nodes to try, best first; no allocation for eight or fewer.
pub type Choices<'a> = SmallVec<[Choice<'a>; 8]>;

/// The nodes to try for one read, best first: the usable ones that `fits`; when all healthy ones are behind
/// by more than `max_lag`, the least behind.
///
/// Round robin rotates; by priority orders; both rotate among the best priority that has a usable
/// node and then fail over to the next; neither takes the configured order.
pub fn candidates<'a>(
    table: &'a Table,
    mode: QueryMode,
    ring: &RoundRobin,
    max_lag: Duration,
    fits: impl Fn(&Entry) -> bool,
) -> Choices<'a> {
    let entries = table.entries();
    let in_order = |place: usize| &entries[if mode.by_priority { table.by_priority()[place] } else { place }];
    let mut level: SmallVec<[&Entry; 8]> = SmallVec::new();
    let mut behind: Vec<(Duration, &Entry)> = Vec::new();
    for entry in (0..entries.len()).map(in_order).filter(|entry| entry.serves_reads() && fits(entry)) {
        match entry.live.lag() {
            lag if lag > max_lag => behind.push((lag, entry)),
            _ => level.push(entry),
        }
    }
    if level.is_empty() {
        behind.sort_by_key(|(lag, _)| *lag);
        return behind.into_iter().map(|(lag, entry)| Choice { entry, lag: Some(lag) }).collect();
    }
    if mode.round_robin {
        rotate(&mut level, mode, ring);
    }
    level.into_iter().map(|entry| Choice { entry, lag: None }).collect()
}

fn rotate(level: &mut [&Entry], mode: QueryMode, ring: &RoundRobin) {
    let equals = if mode.by_priority {
        let best = level[0].node.priority;
        level.iter().take_while(|entry| entry.node.priority == best).count()
    } else {
        level.len()
    };
    let first = ring.turn(equals).next().unwrap_or_default();
    level[..equals].rotate_left(first);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nodes::live::Live;
    use common::node::{Node, NodeId, Priority};
    use proptest::prelude::*;
    use std::sync::Arc;
    use std::time::Instant;

    const MAX_LAG: Duration = Duration::from_secs(1);

    #[derive(Debug, Clone)]
    struct Spec {
        priority: i64,
        active: bool,
        maintenance: bool,
        healthy: bool,
        behind_s: u64,
    }

    fn table(specs: &[Spec]) -> Table {
        let epoch = Instant::now().checked_sub(Duration::from_secs(60)).unwrap();
        let row = |(index, spec): (usize, &Spec)| {
            let id = NodeId::new("n", 1 + u16::try_from(index).unwrap()).unwrap();
            let live = Arc::new(Live::new(id.clone(), epoch));
            if !spec.healthy {
                live.unreachable();
            }
            let seen = (spec.behind_s > 0).then(|| Instant::now() - Duration::from_secs(spec.behind_s));
            live.set_position(seen, 0);
            let node = Node {
                id,
                priority: Priority(spec.priority),
                active: spec.active,
                maintenance: spec.maintenance,
            };
            Entry { node, live, draining: false }
        };
        Table::new(specs.iter().enumerate().map(row).collect())
    }

    fn ports(table: &Table, mode: QueryMode, ring: &RoundRobin) -> Vec<u16> {
        candidates(table, mode, ring, MAX_LAG, |_| true)
            .iter()
            .map(|choice| choice.entry.node.id.port())
            .collect()
    }

    fn fine(priority: i64) -> Spec {
        Spec { priority, active: true, maintenance: false, healthy: true, behind_s: 0 }
    }

    #[test]
    fn each_mode_orders_as_it_says() {
        let nodes = table(&[fine(0), fine(2), fine(1), fine(1)]);
        let ring = RoundRobin::default();
        let mode = |round_robin, by_priority| QueryMode { round_robin, by_priority };
        assert_eq!(ports(&nodes, mode(false, false), &ring), [1, 2, 3, 4]);
        assert_eq!(ports(&nodes, mode(false, true), &ring), [3, 4, 2, 1]);
        let ring = RoundRobin::default();
        let firsts: Vec<u16> = (0..6).map(|_| ports(&nodes, mode(true, false), &ring)[0]).collect();
        assert_eq!(firsts, [1, 2, 3, 4, 1, 2]);
        let ring = RoundRobin::default();
        assert_eq!(ports(&nodes, mode(true, true), &ring), [3, 4, 2, 1]);
        assert_eq!(ports(&nodes, mode(true, true), &ring), [4, 3, 2, 1]);
    }

    #[test]
    fn when_all_are_behind_the_least_behind_serves_and_says_so() {
        let nodes = table(&[Spec { behind_s: 9, ..fine(1) }, Spec { behind_s: 5, ..fine(0) }]);
        let chosen = candidates(
            &nodes,
            QueryMode { round_robin: true, by_priority: true },
            &RoundRobin::default(),
            MAX_LAG,
            |_| true,
        );
        assert_eq!(chosen[0].entry.node.id.port(), 2);
        assert!(chosen[0].lag.unwrap() >= Duration::from_secs(5));
    }

    fn any_spec() -> impl Strategy<Value = Spec> {
        (-2i64..3, any::<bool>(), any::<bool>(), any::<bool>(), prop_oneof![Just(0u64), 2u64..9]).prop_map(
            |(priority, active, maintenance, healthy, behind_s)| Spec {
                priority,
                active,
                maintenance,
                healthy,
                behind_s,
            },
        )
    }

    proptest! {
        #[test]
        fn only_usable_nodes_each_once_and_the_best_priority_first(
            specs in proptest::collection::vec(any_spec(), 0..6), round_robin: bool, by_priority: bool, turns in 0usize..7,
        ) {
            let nodes = table(&specs);
            let ring = RoundRobin::default();
            (0..turns).for_each(|_| drop(ring.turn(3)));
            let chosen = candidates(&nodes, QueryMode { round_robin, by_priority }, &ring, MAX_LAG, |_| true);
            let usable = |spec: &&Spec| spec.active && !spec.maintenance && spec.healthy;
            let healthy = specs.iter().filter(usable).count();
            let level = specs.iter().filter(usable).filter(|spec| spec.behind_s == 0).count();
            prop_assert_eq!(chosen.len(), if level > 0 { level } else { healthy });
            prop_assert!(chosen.iter().all(|choice| choice.entry.serves_reads() && choice.lag.is_some() == (level == 0)));
            let distinct: std::collections::HashSet<_> = chosen.iter().map(|choice| &choice.entry.node.id).collect();
            prop_assert_eq!(distinct.len(), chosen.len());
            if by_priority && level > 0 {
                prop_assert!(chosen.windows(2).all(|pair| pair[0].entry.node.priority <= pair[1].entry.node.priority));
            }
        }
    }
}
