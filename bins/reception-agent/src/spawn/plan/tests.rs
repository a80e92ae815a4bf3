use std::collections::BTreeSet;

use testkit::Rng;

use super::*;

const MAINTENANCE: OnLeave = OnLeave::Maintenance;
const RESTING: Listed = Listed { active: true, maintenance: true };

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn id(port: u16) -> NodeId {
    NodeId::new("h", port).unwrap()
}

fn wanted(ports: &[u16]) -> Wanted {
    ports.iter().map(|port| (id(*port), None)).collect()
}

fn owned(nodes: &[(u16, Standing)]) -> BTreeMap<NodeId, Owned> {
    nodes.iter().map(|(port, standing)| (id(*port), Owned::new(*standing, None))).collect()
}

fn listed(nodes: &[(u16, Listed)]) -> BTreeMap<NodeId, Listed> {
    nodes.iter().map(|(port, listed)| (id(*port), *listed)).collect()
}

fn left(seconds: u64) -> Standing {
    Standing::Left { since: at(seconds) }
}

#[test]
fn nodes_come_before_others_go() {
    let own = owned(&[(9, Standing::Here), (8, left(0))]);
    let plan = plan(&wanted(&[1, 8]), &own, &listed(&[(9, UP), (8, RESTING)]), MAINTENANCE, at(5));
    assert_eq!(plan.actions, [(id(1), Action::Add), (id(8), Action::Activate), (id(9), Action::Rest)]);
    assert_eq!(plan.next, None);
}

#[test]
fn what_is_somebody_elses_is_not_touched() {
    let theirs = listed(&[(1, UP), (2, RESTING), (3, UP)]);
    let plan = plan(&wanted(&[1, 2]), &BTreeMap::new(), &theirs, OnLeave::Delete { after: at(0) }, at(5));
    assert_eq!((plan.actions, plan.foreign), (vec![], vec![id(1), id(2)]));
}

#[test]
fn what_an_operator_set_on_our_node_stays_while_its_instance_is_here() {
    let own = owned(&[(1, Standing::Here), (2, left(0))]);
    let set = listed(&[(1, RESTING), (2, UP)]);
    let delete = OnLeave::Delete { after: at(0) };
    assert_eq!(plan(&wanted(&[1]), &own, &set, delete, at(5)).actions, []);
    let inactive = listed(&[(1, Listed { active: false, maintenance: false })]);
    assert_eq!(plan(&wanted(&[1]), &owned(&[(1, Standing::Here)]), &inactive, delete, at(5)).actions, []);
}

#[test]
fn what_a_proxy_has_lost_is_added_again_or_forgotten() {
    let own = owned(&[(1, Standing::Here), (2, left(0)), (3, left(0)), (4, Standing::Changing)]);
    let plan = plan(&wanted(&[1, 2]), &own, &BTreeMap::new(), MAINTENANCE, at(5));
    let want = [(id(1), Action::Add), (id(2), Action::Add), (id(3), Action::Forget), (id(4), Action::Forget)];
    assert_eq!(plan.actions, want);
}

#[test]
fn a_change_that_may_be_under_way_is_not_forgotten_yet() {
    let own = BTreeMap::from([(id(1), Owned::changing(None, at(10)))]);
    let ask = |now| plan(&Wanted::new(), &own, &BTreeMap::new(), MAINTENANCE, now);
    assert_eq!(ask(at(69)), Plan { next: Some(at(70)), ..Plan::default() });
    assert_eq!(ask(at(70)).actions, [(id(1), Action::Forget)]);
    let landed = plan(&Wanted::new(), &own, &listed(&[(1, UP)]), MAINTENANCE, at(20));
    assert_eq!(landed.actions, [(id(1), Action::Rest)]);
}

#[test]
fn after_a_crash_in_between_what_is_listed_is_ours() {
    let own = owned(&[1, 2, 3, 4].map(|port| (port, Standing::Changing)));
    let there = listed(&[(1, UP), (3, UP), (4, RESTING)]);
    let plan = plan(&wanted(&[1, 2, 4]), &own, &there, MAINTENANCE, at(5));
    let want = [(1, Action::Adopt), (2, Action::Add), (4, Action::Activate), (3, Action::Rest)];
    assert_eq!(plan.actions, want.map(|(port, action)| (id(port), action)));
}

#[test]
fn a_node_is_removed_in_its_time_and_after_a_refusal_later() {
    let mut own = owned(&[(1, left(10))]);
    let there = listed(&[(1, RESTING)]);
    let delete = OnLeave::Delete { after: at(60) };
    let ask = |own: &BTreeMap<NodeId, Owned>, now| plan(&Wanted::new(), own, &there, delete, now);
    assert_eq!(ask(&own, at(69)), Plan { next: Some(at(70)), ..Plan::default() });
    assert_eq!(ask(&own, at(70)).actions, [(id(1), Action::Remove)]);
    let waits: Vec<_> =
        (0..8).map(|_| own.get_mut(&id(1)).map(|own| own.refused(at(70)).as_secs()).unwrap()).collect();
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    assert_eq!(ask(&own, at(100)), Plan { next: Some(at(130)), ..Plan::default() });
    assert_eq!(ask(&own, at(130)).actions, [(id(1), Action::Remove)]);
    assert_eq!(plan(&Wanted::new(), &own, &there, MAINTENANCE, at(999)).actions, []);
}

#[test]
fn a_priority_that_changes_is_given_and_one_that_goes_stays() {
    let own = BTreeMap::from([(id(1), Owned::new(Standing::Here, Some(1)))]);
    let ask =
        |priority| plan(&[(id(1), priority)].into(), &own, &listed(&[(1, UP)]), MAINTENANCE, at(0)).actions;
    assert_eq!(ask(Some(2)), [(id(1), Action::Prioritize)]);
    assert_eq!((ask(Some(1)), ask(None)), (vec![], vec![]));
}

/// A proxy with nodes of ours and of others, and an agent that crashes between any two steps.
#[test]
fn a_proxy_always_comes_in_step_and_others_nodes_stay() {
    let seed = testkit::seed();
    for round in 0..500 {
        let mut rng = Rng::new(seed.wrapping_add(round));
        let delete = rng.percent(50);
        let on_leave = if delete { OnLeave::Delete { after: at(rng.within(0..10)) } } else { MAINTENANCE };
        let theirs: BTreeSet<u16> = (0..3).map(|_| rng.within(1..9) as u16).collect();
        let mut proxy: BTreeMap<NodeId, Listed> = theirs.iter().map(|port| (id(*port), UP)).collect();
        let (mut memory, mut disk) = (BTreeMap::new(), BTreeMap::new());
        let (mut here, mut now) = (Wanted::new(), at(0));
        for step in 0..40 {
            now += at(rng.within(0..5));
            if step < 30 {
                here = (1..9).filter(|_| rng.percent(50)).map(|port| (id(port), None)).collect();
            }
            let actions = plan(&here, &memory, &proxy, on_leave, now).actions;
            for (node, _) in actions.iter().filter(|(_, action)| action.is_announced()) {
                memory.insert(node.clone(), Owned::new(Standing::Changing, None));
            }
            disk.clone_from(&memory);
            for (node, action) in actions {
                apply(&mut proxy, &mut memory, &node, action, now, rng.percent(30) && step < 30);
                if step < 30 && rng.percent(20) {
                    // It crashes: what was not on disk is forgotten.
                    memory.clone_from(&disk);
                    break;
                }
            }
            disk.clone_from(&memory);
            for port in &theirs {
                assert_eq!(proxy.get(&id(*port)), Some(&UP), "seed {seed}, round {round}: not ours");
            }
        }
        for port in (1..9).filter(|port| !theirs.contains(port)) {
            let listed = proxy.get(&id(port));
            match here.contains_key(&id(port)) {
                true => assert_eq!(listed, Some(&UP), "seed {seed}, round {round}: {port} is here"),
                false => assert!(
                    listed.is_none_or(|listed| listed.maintenance && (!delete || now < at(1000))),
                    "seed {seed}, round {round}: {port} has left"
                ),
            }
        }
        now += at(100);
        let rest = plan(&here, &memory, &proxy, on_leave, now).actions;
        assert!(rest.iter().all(|(_, action)| delete && *action == Action::Remove), "{rest:?}");
    }
}

fn apply(
    proxy: &mut BTreeMap<NodeId, Listed>,
    memory: &mut BTreeMap<NodeId, Owned>,
    node: &NodeId,
    action: Action,
    now: Duration,
    waiting: bool,
) {
    let mut stands = |standing| {
        memory.insert(node.clone(), Owned::new(standing, None));
    };
    match action {
        Action::Add | Action::Activate => {
            proxy.insert(node.clone(), UP);
            stands(Standing::Here);
        }
        Action::Adopt => stands(Standing::Here),
        Action::Prioritize => {}
        Action::Rest => {
            proxy.insert(node.clone(), RESTING);
            stands(Standing::Left { since: now });
        }
        Action::Remove if waiting => drop(memory.get_mut(node).map(|own| own.refused(now))),
        Action::Remove => {
            proxy.remove(node);
            memory.remove(node);
        }
        Action::Forget => drop(memory.remove(node)),
    }
}
